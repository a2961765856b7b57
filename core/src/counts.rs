//! What has happened since the start, counted: integers alone, for metrics (REQUIREMENTS A17).
//!
//! Nothing in the core reads them. A count is made where the thing happens, which may be before it is
//! durable: a crash starts all of them anew.

use crate::Core;
use crate::ids::{ConnId, Lane};
use crate::stream::Resume;
use crate::time::Span;
use crate::wire::error::{CloseCode, Code};

/// How often each of some words came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words<const N: usize> {
    words: [&'static str; N],
    counts: [u64; N],
}

impl<const N: usize> Words<N> {
    const fn new(words: [&'static str; N]) -> Self {
        Self { words, counts: [0; N] }
    }

    pub(crate) fn add(&mut self, word: &str) {
        let at = self.words.iter().position(|other| *other == word);
        self.counts[at.expect("what is counted is one of the words")] += 1;
    }

    /// Each word and how often.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<N> {
        self.words.into_iter().zip(self.counts)
    }
}

/// The upper bounds of a [`Durations`], in microseconds, each part of its bucket.
pub const BOUNDS: [u64; 17] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    3_600_000_000,
];

/// A histogram of durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Durations {
    /// How many fell under each of [`BOUNDS`] and over the one before; the last over all.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// All of them together, in microseconds.
    pub sum: u64,
}

impl Durations {
    pub(crate) fn add(&mut self, span: Span) {
        let at = BOUNDS.partition_point(|bound| *bound < span.0);
        self.buckets[at] += 1;
        self.sum = self.sum.saturating_add(span.0);
    }
}

/// All counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Sockets that were accepted.
    pub opened: u64,
    /// Connections that the daemon has closed, in the order of [`CloseCode::ALL`].
    pub closed: [u64; CloseCode::ALL.len()],
    /// What was refused, in the order of [`Code::ALL`].
    pub refused: [u64; Code::ALL.len()],
    /// Runs that were accepted, repeated requests not counted.
    pub accepted: u64,
    /// Attempts that began.
    pub started: u64,
    /// Runs that have ended, by status.
    pub ended: Words<5>,
    /// Attempts that were lost and followed by another.
    pub retried: u64,
    /// From a run's acceptance to its first start.
    pub queued: Durations,
    /// Time executed of runs that have ended and had begun.
    pub ran: Durations,
    /// Events that were written into users' streams.
    pub written: u64,
    /// Events that were sent, once for each connection; of those that were joined, what stands for them.
    pub sent: u64,
    /// Deltas that were sent joined with others, once for each connection.
    pub joined: u64,
    /// Events that were sent again, since they were not acknowledged in time.
    pub resent: u64,
    /// Times that the events of a connection were sent again.
    pub retries: u64,
    /// Events that were acknowledged, once for each connection.
    pub acked: u64,
    /// From an event's arrival to its acknowledgement, of those that were in memory then.
    pub acknowledged: Durations,
    /// How connections began in their streams, topics too.
    pub resumed: Words<3>,
    /// Why they began anew.
    pub resets: Words<3>,
    /// Ends of runs that were listed as not delivered.
    pub undelivered: u64,
    /// Calls of the webhook that were taken, and that failed.
    pub called: [u64; 2],
    /// Times that the store had no room.
    pub store_full: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            opened: 0,
            closed: [0; CloseCode::ALL.len()],
            refused: [0; Code::ALL.len()],
            accepted: 0,
            started: 0,
            ended: Words::new(["ok", "error", "cancelled", "timed_out", "worker_lost"]),
            retried: 0,
            queued: Durations::default(),
            ran: Durations::default(),
            written: 0,
            sent: 0,
            joined: 0,
            resent: 0,
            retries: 0,
            acked: 0,
            acknowledged: Durations::default(),
            resumed: Words::new(["resumed", "fresh", "reset"]),
            resets: Words::new(["epoch", "trimmed", "ahead"]),
            undelivered: 0,
            called: [0; 2],
            store_full: 0,
        }
    }
}

impl Counts {
    pub(crate) fn refuse(&mut self, code: Code) {
        self.refused[code as usize] += 1;
    }

    pub(crate) fn close(&mut self, code: CloseCode) {
        let at = CloseCode::ALL.iter().position(|other| *other == code);
        self.closed[at.expect("all codes are listed")] += 1;
    }

    pub(crate) fn resume(&mut self, resume: &Resume) {
        self.resumed.add(resume.status);
        if let Some(reason) = resume.reason {
            self.resets.add(reason);
        }
    }

    /// An attempt begins; with the time that its run was queued, if it is the first.
    pub(crate) fn start(&mut self, queued: Option<Span>) {
        self.started += 1;
        if let Some(queued) = queued {
            self.queued.add(queued);
        }
    }

    pub(crate) const fn send(&mut self, is_again: bool) {
        if is_again {
            self.resent += 1;
        } else {
            self.sent += 1;
        }
    }
}

impl Core {
    /// A connection has acknowledged what lies after `before` in one of its streams, up to `upto`.
    pub(crate) fn count_acked(&mut self, id: ConnId, lane: &Lane, before: u64, upto: u64) {
        let Self { conns, users, topics, counts, now, .. } = self;
        counts.acked += upto - before;
        let Some(user) = conns.get(&id).and_then(|conn| conn.user()) else { return };
        let stream = match lane {
            Lane::Own => users.get(user).map(|context| &context.stream),
            Lane::Topic(topic) => topics.get(topic).map(|topic| &topic.stream),
        };
        for made in stream.into_iter().flat_map(|stream| stream.made(before, upto)) {
            counts.acknowledged.add(now.mono.since(made));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_pass() {
        let mut durations = Durations::default();
        for micros in [0, 1_000, 1_001, 3_600_000_000, 3_600_000_001] {
            durations.add(Span(micros));
        }
        assert_eq!((durations.buckets[0], durations.buckets[1]), (2, 1));
        assert_eq!((durations.buckets[16], durations.buckets[17]), (1, 1));
        assert_eq!(durations.sum, 7_200_002_002);
    }

    #[test]
    fn each_code_is_counted_at_its_own_place() {
        let mut counts = Counts::default();
        for (at, code) in Code::ALL.iter().enumerate() {
            counts.refuse(*code);
            assert_eq!(counts.refused[at], 1);
        }
        for (at, code) in CloseCode::ALL.iter().enumerate() {
            counts.close(*code);
            assert_eq!(counts.closed[at], 1);
        }
    }
}
