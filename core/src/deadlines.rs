//! The table of timers: what the core wants to be woken for, and why.
//!
//! A timer is set for one point in time; setting it again moves it. It may fire late, never early, and is
//! gone once it has fired.

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

/// All timers, by time and by name.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    by_time: BTreeSet<(Mono, Timer)>,
    by_timer: BTreeMap<Timer, Mono>,
}

impl Deadlines {
    /// Sets a timer, or moves it.
    pub(crate) fn set(&mut self, timer: Timer, at: Mono) {
        if let Some(old) = self.by_timer.insert(timer.clone(), at) {
            if old == at {
                return;
            }
            assert!(self.by_time.remove(&(old, timer.clone())), "both tables hold the same timers");
        }
        self.by_time.insert((at, timer));
    }

    /// Sets a timer unless it is set for an earlier time already.
    pub(crate) fn set_earlier(&mut self, timer: Timer, at: Mono) {
        if self.by_timer.get(&timer).is_none_or(|old| *old > at) {
            self.set(timer, at);
        }
    }

    /// Sets a timer unless it is set already.
    pub(crate) fn set_if_unset(&mut self, timer: Timer, at: Mono) {
        if !self.by_timer.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    /// Takes a timer back. One that is not set is no error.
    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.by_timer.remove(&timer) {
            assert!(self.by_time.remove(&(at, timer)), "both tables hold the same timers");
        }
    }

    /// Takes back the timers of all streams of a connection.
    pub(crate) fn clear_lanes(&mut self, id: ConnId) {
        let next = ConnId(id.0 + 1);
        for timer in [Timer::Acks, Timer::Backlog] {
            let range = timer(id, Lane::Own)..timer(next, Lane::Own);
            while let Some((found, _)) = self.by_timer.range(range.clone()).next() {
                let found = found.clone();
                self.clear(found);
            }
        }
    }

    /// The next timer to fire.
    pub(crate) fn first(&self) -> Option<&(Mono, Timer)> {
        self.by_time.first()
    }

    /// Takes out a timer that is due.
    pub(crate) fn due(&mut self, now: Mono) -> Option<Timer> {
        if self.by_time.first()?.0 > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.by_timer.remove(&timer);
        Some(timer)
    }

    /// How many timers are set.
    pub(crate) fn len(&self) -> usize {
        self.by_timer.len()
    }
}
