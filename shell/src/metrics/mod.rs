//! `GET /metrics`: what the core, the store, the loop and the process count, as OpenMetrics text.
//!
//! Names and labels keep to Prometheus' conventions: base units, `_total` for what only rises, and no label
//! that grows with users, agents or addresses. What the core knows is read at each scrape; what the shell
//! measures itself is kept in the meters here, which other threads share.

mod core;
mod lines;
mod process;

pub(crate) use process::{free_bytes, resident_bytes};

use self::core::CoreFacts;
use process::ProcessFacts;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use runcast_core::View;
use runcast_core::time::Span;
use std::path::PathBuf;
use std::sync::Arc;

/// The `Content-Type` of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds of durations of what the daemon itself does, in seconds.
const FAST: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Bounds of numbers of things done at once.
const SIZES: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1_000.0, 10_000.0];

/// What the storage thread measures.
#[derive(Clone, Debug)]
pub struct StoreMeter {
    commit: Histogram,
    records: Histogram,
    fold: Histogram,
    journal: Gauge,
}

impl Default for StoreMeter {
    fn default() -> Self {
        Self {
            commit: Histogram::new(FAST),
            records: Histogram::new(SIZES),
            fold: Histogram::new(FAST),
            journal: Gauge::default(),
        }
    }
}

impl StoreMeter {
    /// So many records were made durable in one commit, in this time.
    pub fn committed(&self, records: usize, seconds: f64) {
        self.commit.observe(seconds);
        self.records.observe(records as f64);
    }

    /// Some of the journal was folded.
    pub fn folded(&self, seconds: f64) {
        self.fold.observe(seconds);
    }

    /// How often something was folded.
    #[cfg(test)]
    pub(crate) fn folds(&self) -> usize {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register("fold", "", self.fold.clone());
        encode(&mut text, &registry).expect("a string takes all that is written");
        let count = text.lines().find_map(|line| line.strip_prefix("fold_count "));
        count.and_then(|count| count.parse().ok()).expect("a histogram counts")
    }

    /// So many rows of the journal are not folded.
    pub fn journal(&self, rows: usize) {
        self.journal.set(i64::try_from(rows).unwrap_or(i64::MAX));
    }
}

/// What the loop measures of itself.
#[derive(Clone, Debug)]
pub struct LoopMeter {
    turn: Histogram,
    lag: Histogram,
}

impl Default for LoopMeter {
    fn default() -> Self {
        Self { turn: Histogram::new(FAST), lag: Histogram::new(FAST) }
    }
}

impl LoopMeter {
    /// A turn took so long.
    pub fn turned(&self, took: Span) {
        self.turn.observe(seconds(took));
    }

    /// A timer was due so long ago when its turn came.
    pub fn late(&self, by: Span) {
        self.lag.observe(seconds(by));
    }
}

/// Until when the certificate is good that the port shows. Without one nothing is told.
#[derive(Clone, Debug, Default)]
pub struct CertificateMeter(Gauge);

impl CertificateMeter {
    /// It is good up to this second, in Unix time.
    pub fn expires(&self, seconds: u64) {
        self.0.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }
}

/// Everything that is told at `/metrics`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    core: Arc<CoreFacts>,
}

impl Metrics {
    /// All metrics of a daemon that measures by these meters and keeps its store in this file.
    pub fn new(store: &StoreMeter, turns: &LoopMeter, file: PathBuf) -> Self {
        let mut registry = Registry::default();
        let build = Family::<[(&'static str, &'static str); 1], Gauge>::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("runcast_build", "The version that runs, always 1", build);
        let mut timed = |name: &str, help: &str, of: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, of.clone());
        };
        timed("runcast_store_commit", "Time of a commit until it is on stable storage", &store.commit);
        timed("runcast_store_fold", "Time of folding a part of the journal", &store.fold);
        timed("runcast_loop_turn", "Time of a turn of the loop", &turns.turn);
        timed("runcast_loop_lag", "How late timers are when their turn comes", &turns.lag);
        registry.register("runcast_store_commit_records", "Records in one commit", store.records.clone());
        registry.register(
            "runcast_store_journal_rows",
            "Commits that are not folded into tables yet",
            store.journal.clone(),
        );
        registry.register_collector(Box::new(ProcessFacts::new(file)));
        let core = Arc::new(CoreFacts::default());
        registry.register_collector(Box::new(core.clone()));
        Self { registry, core }
    }

    /// The same with the certificate's.
    #[must_use]
    pub fn with_certificate(mut self, meter: &CertificateMeter) -> Self {
        let name = "runcast_certificate_expires_timestamp";
        let help = "Until when the certificate is good that the port shows, in Unix time";
        self.registry.register_with_unit(name, help, Unit::Seconds, meter.0.clone());
        self
    }

    /// All of them, with what the core knows now.
    pub fn text(&self, view: &View<'_>) -> String {
        self.core.look(view);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes all that is written");
        text
    }
}

/// A duration as metrics tell it.
#[allow(clippy::cast_precision_loss, reason = "microseconds of a century fit into 53 bits")]
fn seconds(span: Span) -> f64 {
    span.0 as f64 / 1e6
}

#[cfg(test)]
mod tests;
