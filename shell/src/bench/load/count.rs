//! What the load generator counts.

use super::super::order::{Latency, Tally};
use hdrhistogram::Histogram;
use std::fmt;
use std::time::Instant;

/// The longest latency that is told apart, in microseconds.
const LONGEST: u64 = 600_000_000;

/// All that is counted across connections.
pub(super) struct Count {
    begun: Instant,
    /// Since when this order runs.
    order: Instant,
    /// Devices that are welcome.
    pub(super) welcome: u64,
    /// Workers that are welcome.
    pub(super) workers: u64,
    /// Runs that a worker may execute.
    pub(super) live: u64,
    /// Runs whose end devices have seen.
    pub(super) ends: u64,
    /// Events that devices have not got and will get.
    pub(super) missing: u64,
    pub(super) published: u64,
    pub(super) delivered: u64,
    pub(super) wire_bytes: u64,
    /// None where nothing is due at any time.
    pub(super) held: Option<u64>,
    pub(super) redelivered: u64,
    latency: Histogram<u64>,
}

impl Count {
    pub(super) fn new() -> Self {
        let latency =
            Histogram::new_with_max(LONGEST, 3).expect("three digits up to ten minutes can be kept");
        let now = Instant::now();
        Self {
            begun: now,
            order: now,
            welcome: 0,
            workers: 0,
            live: 0,
            ends: 0,
            missing: 0,
            published: 0,
            delivered: 0,
            wire_bytes: 0,
            held: None,
            redelivered: 0,
            latency,
        }
    }

    /// Microseconds since the load generator began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A device has got so many events.
    pub(super) fn got(&mut self, events: u64) {
        self.delivered += events;
        self.missing = self.missing.saturating_sub(events);
    }

    /// An event has come that was sent then.
    pub(super) fn time(&mut self, sent: u64) {
        self.latency.saturating_record(self.now().saturating_sub(sent));
    }

    /// A new order begins: what is told with it begins anew.
    pub(super) fn begin(&mut self) {
        (self.published, self.delivered, self.wire_bytes) = (0, 0, 0);
        (self.held, self.redelivered) = (None, 0);
        self.latency.reset();
        self.order = Instant::now();
    }

    /// What came of the order.
    pub(super) fn tally(&self) -> Tally {
        let at = |quantile: f64| self.latency.value_at_quantile(quantile);
        let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
        let latency = (!self.latency.is_empty()).then(|| Latency { p50, p99, p999, max: self.latency.max() });
        Tally {
            elapsed: u64::try_from(self.order.elapsed().as_micros()).unwrap_or(u64::MAX),
            published: self.published,
            delivered: self.delivered,
            wire_bytes: self.wire_bytes,
            held: self.held,
            redelivered: self.redelivered,
            latency,
        }
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Count").field("missing", &self.missing).finish_non_exhaustive()
    }
}
