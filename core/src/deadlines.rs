//! The table of timers: what the core wants to be woken for, and why.
//!
//! A timer is set for one point in time; setting it again moves it. It may fire late, never early, and is
//! gone once it has fired.
//!
//! Most timers are moved or taken back long before they fire: with each message that leaves, each
//! acknowledgement, each sign of life of a worker. So a timer that is moved to later keeps its place among
//! the others, and is put where it belongs when its place comes up.
//!
//! There are few timers but those of connections, of which each has some as long as it lives: they have a
//! table of their own, in which a name is a number.

#[cfg(test)]
mod properties;
mod table;

use crate::ids::{ConnId, Lane, RunId};
use crate::lookup::Secret;
use crate::time::Mono;
use crate::worker::WorkerKey;
use core::hash::{Hash, Hasher};
use table::{Place, Table};

/// The kind of a timer stands above this bit of its rank, the connection below.
const KIND_BITS: u32 = 56;

/// Why the core wants to be woken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
        kind << KIND_BITS | of
    }

    /// Whether [`Self::of_rank`] makes it of its rank.
    const fn is_told_by_rank(&self) -> bool {
        match self {
            Self::Head(_)
            | Self::Answer(_)
            | Self::Hello(_)
            | Self::Heartbeat(_)
            | Self::Silence(_)
            | Self::Stuck(_)
            | Self::Expiry(_)
            | Self::Acks(_, Lane::Own)
            | Self::Backlog(_, Lane::Own) => true,
            Self::Acks(_, Lane::Topic(_))
            | Self::Backlog(_, Lane::Topic(_))
            | Self::Start(_)
            | Self::Timeout(_)
            | Self::TimeoutSoon(_)
            | Self::Questions(_)
            | Self::Grace(_)
            | Self::Working(_)
            | Self::Queued(_)
            | Self::Lease(_)
            | Self::Queue
            | Self::Dispatch
            | Self::Positions
            | Self::Drain
            | Self::Purge
            | Self::Undelivered
            | Self::Alerts
            | Self::StoreRetry => false,
        }
    }

    /// The timer of a connection that has this rank.
    fn of_rank(rank: u64) -> Self {
        let conn = ConnId(rank & ((1 << KIND_BITS) - 1));
        match rank >> KIND_BITS {
            0 => Self::Head(conn),
            1 => Self::Answer(conn),
            2 => Self::Hello(conn),
            3 => Self::Heartbeat(conn),
            4 => Self::Silence(conn),
            5 => Self::Stuck(conn),
            6 => Self::Acks(conn, Lane::Own),
            7 => Self::Expiry(conn),
            8 => Self::Backlog(conn, Lane::Own),
            _ => unreachable!("ranks of connections are below those of others"),
        }
    }
}

/// A timer as it is looked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ranked {
    rank: u64,
    timer: Timer,
}

impl Hash for Ranked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.timer.hash(state);
    }
}

/// The name of a timer in its table.
enum Name {
    /// One that its rank tells: a connection's, but for those of the topics that it reads.
    Conn(u64),
    /// Any other.
    Other(Ranked),
}

impl From<Timer> for Name {
    fn from(timer: Timer) -> Self {
        let rank = timer.rank();
        if timer.is_told_by_rank() { Self::Conn(rank) } else { Self::Other(Ranked { rank, timer }) }
    }
}

/// All timers.
#[derive(Debug)]
pub(crate) struct Deadlines {
    conns: Table<u64>,
    others: Table<Ranked>,
}

impl Deadlines {
    /// None. Names of those that are not a connection's are hashed with this secret.
    pub(crate) const fn new(secret: Secret) -> Self {
        Self { conns: Table::new(Secret::none()), others: Table::new(secret) }
    }

    /// Sets a timer, or moves it.
    pub(crate) fn set(&mut self, timer: Timer, at: Mono) {
        self.set_if(timer, at, |_| true);
    }

    fn set_if(&mut self, timer: Timer, at: Mono, moves: impl FnOnce(Mono) -> bool) {
        match timer.into() {
            Name::Conn(name) => self.conns.set(name, at, moves),
            Name::Other(name) => self.others.set(name, at, moves),
        }
    }

    /// Sets a timer unless it is set for an earlier time already.
    pub(crate) fn set_earlier(&mut self, timer: Timer, at: Mono) {
        self.set_if(timer, at, |old| old > at);
    }

    /// Sets a timer unless it is set already.
    pub(crate) fn set_if_unset(&mut self, timer: Timer, at: Mono) {
        self.set_if(timer, at, |_| false);
    }

    /// Takes a timer back. One that is not set is no error.
    pub(crate) fn clear(&mut self, timer: Timer) {
        match timer.into() {
            Name::Conn(name) => self.conns.clear(name),
            Name::Other(name) => self.others.clear(name),
        }
    }

    /// The same for one that will soon be set again: it keeps its place until that comes up. What it is of
    /// must take it back for good when it ends.
    pub(crate) fn rest(&mut self, timer: Timer) {
        match timer.into() {
            Name::Conn(name) => self.conns.rest(&name),
            Name::Other(name) => self.others.rest(&name),
        }
    }

    /// Makes the first place that of the next timer to fire.
    pub(crate) fn tidy(&mut self) {
        self.conns.tidy();
        self.others.tidy();
    }

    /// The first of each table, if that is the next timer to fire.
    fn next(&self) -> (Option<&Place<u64>>, Option<&Place<Ranked>>) {
        match (self.conns.first(), self.others.first()) {
            // Of two with the same rank the one of the connection's own stream comes first.
            (Some(conn), Some(other)) if *conn <= (other.0, other.1.rank) => (Some(conn), None),
            (conn, None) => (conn, None),
            (_, other) => (None, other),
        }
    }

    /// The next timer to fire, once all is [tidy](Self::tidy).
    pub(crate) fn first(&self) -> Option<(Mono, Timer)> {
        match self.next() {
            (Some((at, rank)), _) => Some((*at, Timer::of_rank(*rank))),
            (None, other) => other.map(|(at, ranked)| (*at, ranked.timer.clone())),
        }
    }

    /// Takes out a timer that is due.
    pub(crate) fn due(&mut self, now: Mono) -> Option<Timer> {
        self.tidy();
        match self.next() {
            (Some((at, _)), _) if *at <= now => self.conns.pop().map(Timer::of_rank),
            (None, Some((at, _))) if *at <= now => self.others.pop().map(|name| name.timer),
            _ => None,
        }
    }

    /// How many timers are set.
    pub(crate) fn len(&self) -> usize {
        self.conns.len() + self.others.len() - self.resting()
    }

    /// How many keep a place without being set.
    pub(crate) const fn resting(&self) -> usize {
        self.conns.resting() + self.others.resting()
    }
}
