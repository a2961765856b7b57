//! The table of timers: what the core wants to be woken for, and why.
//!
//! A timer is set for one point in time; setting it again moves it. It may fire late, never early, and is
//! gone once it has fired.
//!
//! Most timers are moved or taken back long before they fire: with each message that leaves, each
//! acknowledgement, each sign of life of a worker. So a timer that is moved to later keeps its place among
//! the others, and is put where it belongs when its place comes up.

#[cfg(test)]
mod properties;

use crate::ids::{ConnId, Lane, RunId};
use crate::time::Mono;
use crate::worker::WorkerKey;
use alloc::collections::{BTreeMap, BTreeSet};

/// Why the core wants to be woken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A connection has not sent its whole request head.
    Head(ConnId),
    /// An HTTP request has not been answered.
    Answer(ConnId),
    /// A connection has not said `hello`.
    Hello(ConnId),
    /// A connection has been sent nothing for a while.
    Heartbeat(ConnId),
    /// Nothing has been heard of a connection for long.
    Silence(ConnId),
    /// A connection takes none of the output that waits for it.
    Stuck(ConnId),
    /// The oldest unacknowledged event of a connection's stream is overdue.
    Acks(ConnId, Lane),
    /// A connection's token may have expired.
    Expiry(ConnId),
    /// A connection is behind in a stream and is told so.
    Backlog(ConnId, Lane),
    /// A worker has not answered an offer.
    Start(RunId),
    /// An attempt has used up its time.
    Timeout(RunId),
    /// An attempt has used up most of its time.
    TimeoutSoon(RunId),
    /// Questions of a run may have waited for too long.
    Questions(RunId),
    /// A worker has not ended a cancelled run.
    Grace(RunId),
    /// A running run may have had no event for a while.
    Working(RunId),
    /// A run may have been queued for too long.
    Queued(RunId),
    /// A worker may be dead.
    Lease(WorkerKey),
    /// Queued runs may have to be told where they stand.
    Queue,
    /// A worker that was passed over may be offered runs again.
    Dispatch,
    /// Devices' positions are to be stored.
    Positions,
    /// The next step of going down.
    Drain,
    /// What is too old is looked for.
    Purge,
    /// Something is to be done about runs that were not delivered.
    Undelivered,
    /// What was told for a moment may be over.
    Alerts,
    /// The store was full; it is tried again.
    StoreRetry,
}

impl Timer {
    /// A number by which most timers differ, ascending with the connection within a kind: two of them are
    /// compared as numbers, without looking at what they are of.
    fn rank(&self) -> u64 {
        let (kind, of) = match self {
            Self::Head(conn) => (0, conn.0),
            Self::Answer(conn) => (1, conn.0),
            Self::Hello(conn) => (2, conn.0),
            Self::Heartbeat(conn) => (3, conn.0),
            Self::Silence(conn) => (4, conn.0),
            Self::Stuck(conn) => (5, conn.0),
            Self::Acks(conn, _) => (6, conn.0),
            Self::Expiry(conn) => (7, conn.0),
            Self::Backlog(conn, _) => (8, conn.0),
            Self::Start(_)
            | Self::Timeout(_)
            | Self::TimeoutSoon(_)
            | Self::Questions(_)
            | Self::Grace(_)
            | Self::Working(_)
            | Self::Queued(_) => (9, 0),
            Self::Lease(_) => (10, 0),
            Self::Queue
            | Self::Dispatch
            | Self::Positions
            | Self::Drain
            | Self::Purge
            | Self::Undelivered
            | Self::Alerts
            | Self::StoreRetry => (11, 0),
        };
        kind << 56 | of
    }
}

/// A timer as it is looked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ranked {
    rank: u64,
    timer: Timer,
}

impl From<Timer> for Ranked {
    fn from(timer: Timer) -> Self {
        Self { rank: timer.rank(), timer }
    }
}

/// All timers, by name and by the places that they have in time.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    by_time: BTreeSet<(Mono, Ranked)>,
    by_timer: BTreeMap<Ranked, Slot>,
    /// How many of them are at rest.
    resting: usize,
    /// The first place may be one whose timer is not for then.
    is_stale: bool,
    /// The first place, or one after it, unless that is stale; none if nobody has looked yet.
    front: Option<Mono>,
}

/// When a timer fires, and where it is found.
#[derive(Debug)]
struct Slot {
    /// None while it is not set.
    at: Option<Mono>,
    /// Never after that.
    place: Mono,
}

impl Deadlines {
    /// Sets a timer, or moves it.
    pub(crate) fn set(&mut self, timer: Timer, at: Mono) {
        self.set_ranked(timer.into(), at);
    }

    fn set_ranked(&mut self, timer: Ranked, at: Mono) {
        let Some(slot) = self.by_timer.get_mut(&timer) else {
            self.by_timer.insert(timer.clone(), Slot { at: Some(at), place: at });
            self.by_time.insert((at, timer));
            return;
        };
        self.resting -= usize::from(slot.at.replace(at).is_none());
        if at >= slot.place {
            let place = slot.place;
            return self.touch(place);
        }
        let before = (core::mem::replace(&mut slot.place, at), timer);
        assert!(self.by_time.remove(&before), "each timer has its place");
        self.by_time.insert((at, before.1));
    }

    /// Sets a timer unless it is set for an earlier time already.
    pub(crate) fn set_earlier(&mut self, timer: Timer, at: Mono) {
        let timer = timer.into();
        if self.at(&timer).is_none_or(|old| old > at) {
            self.set_ranked(timer, at);
        }
    }

    /// Sets a timer unless it is set already.
    pub(crate) fn set_if_unset(&mut self, timer: Timer, at: Mono) {
        let timer = timer.into();
        if self.at(&timer).is_none() {
            self.set_ranked(timer, at);
        }
    }

    /// When a timer fires, if it is set.
    fn at(&self, timer: &Ranked) -> Option<Mono> {
        self.by_timer.get(timer)?.at
    }

    /// Takes a timer back. One that is not set is no error.
    pub(crate) fn clear(&mut self, timer: Timer) {
        self.clear_ranked(timer.into());
    }

    fn clear_ranked(&mut self, timer: Ranked) {
        if let Some(slot) = self.by_timer.remove(&timer) {
            self.resting -= usize::from(slot.at.is_none());
            assert!(self.by_time.remove(&(slot.place, timer)), "each timer has its place");
            self.touch(slot.place);
        }
    }

    /// The same for one that will soon be set again: it keeps its place until that comes up. What it is of
    /// must take it back for good when it ends.
    pub(crate) fn rest(&mut self, timer: Timer) {
        if let Some(slot) = self.by_timer.get_mut(&timer.into()) {
            self.resting += usize::from(slot.at.take().is_some());
            let place = slot.place;
            self.touch(place);
        }
    }

    /// Something has become of the timer in this place. Nearly always that is not the first.
    fn touch(&mut self, place: Mono) {
        self.is_stale |= self.front.is_none_or(|front| place <= front);
    }

    /// Takes back the timers of all streams of a connection.
    pub(crate) fn clear_lanes(&mut self, id: ConnId) {
        let next = ConnId(id.0 + 1);
        for timer in [Timer::Acks, Timer::Backlog] {
            let range = Ranked::from(timer(id, Lane::Own))..timer(next, Lane::Own).into();
            while let Some((found, _)) = self.by_timer.range(range.clone()).next() {
                let found = found.clone();
                self.clear_ranked(found);
            }
        }
    }

    /// Makes the first place that of the next timer to fire.
    pub(crate) fn tidy(&mut self) {
        if !core::mem::take(&mut self.is_stale) {
            return;
        }
        while let Some((place, timer)) = self.by_time.first() {
            self.front = Some(*place);
            let slot = self.by_timer.get_mut(timer).expect("each place is a timer's");
            if slot.at == Some(*place) {
                return;
            }
            let Some((_, timer)) = self.by_time.pop_first() else { return };
            match slot.at {
                Some(at) => {
                    slot.place = at;
                    self.by_time.insert((at, timer));
                }
                None => {
                    self.by_timer.remove(&timer);
                    self.resting -= 1;
                }
            }
        }
        self.front = None;
    }

    /// The next timer to fire, once all is [tidy](Self::tidy).
    pub(crate) fn first(&self) -> Option<(Mono, &Timer)> {
        debug_assert!(!self.is_stale, "tidied at the end of each input");
        self.by_time.first().map(|(at, ranked)| (*at, &ranked.timer))
    }

    /// Takes out a timer that is due.
    pub(crate) fn due(&mut self, now: Mono) -> Option<Timer> {
        self.tidy();
        if self.by_time.first()?.0 > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.by_timer.remove(&timer);
        self.is_stale = true;
        Some(timer.timer)
    }

    /// How many timers are set.
    pub(crate) fn len(&self) -> usize {
        self.by_timer.len() - self.resting
    }

    /// How many keep a place without being set.
    pub(crate) const fn resting(&self) -> usize {
        self.resting
    }
}
