//! The store alone, and its yardstick: bytes appended to a file, each batch with an `fdatasync`.

use super::report::Figures;
use super::{BenchError, Plan};
use hdrhistogram::Histogram;
use std::io::Write;
use std::time::{Duration, Instant};

/// Batches a second that are synced as the yardstick of latency.
const SYNCS_A_SECOND: usize = 200;

/// Appends as many bytes a second as so many events have, in batches, and syncs each: how long that takes.
///
/// # Errors
/// When the disk does not take them.
pub(super) fn syncs(plan: &Plan, events_a_second: usize) -> Result<Figures, BenchError> {
    let mut file = tempfile::tempfile_in(&plan.directory)?;
    let batch = vec![b'.'; (events_a_second * plan.bytes).div_ceil(SYNCS_A_SECOND)];
    let every = Duration::from_secs(1) / SYNCS_A_SECOND as u32;
    let begun = Instant::now();
    let mut micros = histogram();
    let mut next = begun;
    while begun.elapsed() < Duration::from_secs(plan.seconds) {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next += every;
        let at = Instant::now();
        file.write_all(&batch)?;
        file.sync_data()?;
        micros.saturating_record(u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(times(&micros).to_vec())
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(600_000_000, 3).expect("three digits up to ten minutes can be kept")
}

/// Percentiles, in milliseconds.
fn times(micros: &Histogram<u64>) -> [(&'static str, f64); 4] {
    let ms = |micros: u64| micros as f64 / 1e3;
    [
        ("p50 ms", ms(micros.value_at_quantile(0.5))),
        ("p99 ms", ms(micros.value_at_quantile(0.99))),
        ("p99.9 ms", ms(micros.value_at_quantile(0.999))),
        ("longest ms", ms(micros.max())),
    ]
}
