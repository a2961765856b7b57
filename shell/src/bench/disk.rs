//! The store alone, and its yardstick: bytes appended to a file, each batch with an `fdatasync`.

use super::report::{Figures, Report};
use super::{BenchError, Plan, stop};
use crate::disk::FileDisk;
use crate::store::{Folded, Repair, Store};
use bytes::Bytes;
use hdrhistogram::Histogram;
use runcast_core::ids::AppendId;
use runcast_core::record::{Record, StreamKey};
use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Events of one commit, where the store is alone.
const COMMIT_EVENTS: usize = 1_000;
/// Streams that they go to.
const STREAMS: usize = 100;
/// Events that are stored, when nobody says otherwise.
const EVENTS: usize = 200_000;
/// Batches a second that are synced as the yardstick of latency.
const SYNCS_A_SECOND: usize = 200;

/// Appends as many bytes a second as so many events have, in batches, and syncs together all that are due:
/// how long each takes from when it was due. A disk that stands still cannot hide it by not being asked.
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
        stop::check()?;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let first = next;
        while next <= Instant::now() {
            file.write_all(&batch)?;
            next += every;
        }
        file.sync_data()?;
        let mut due = first;
        while due < next {
            micros.saturating_record(micros_since(due));
            due += every;
        }
    }
    Ok(times(&micros).to_vec())
}

/// Stores events by the thousand, folding as the daemon does, and appends the same bytes to a file.
pub(super) fn measure(plan: &Plan, report: &mut Report) -> Result<(), BenchError> {
    type Arm = fn(&Plan, usize) -> Result<Figures, BenchError>;
    let commits = plan.events.unwrap_or(EVENTS).div_ceil(COMMIT_EVENTS);
    let mut arms: [(&str, Arm); 2] = [("store", stored), ("bare fdatasync", appended)];
    for _ in 0..plan.rounds {
        for (arm, measure) in arms {
            report.add(arm, measure(plan, commits)?);
        }
        arms.rotate_left(1);
    }
    report.compare("events/s", "store", "bare fdatasync", "at least 0.5");
    Ok(())
}

fn stored(plan: &Plan, commits: usize) -> Result<Figures, BenchError> {
    let directory = tempfile::Builder::new().prefix("runcast-bench-").tempdir_in(&plan.directory)?;
    let disk = FileDisk::open(&directory.path().join("store")).map_err(failed)?;
    let (mut store, _) = Store::open(disk, Repair::Quick).map_err(failed)?;
    let mut folding: Option<JoinHandle<Folded>> = None;
    let bytes = Bytes::from(vec![b'.'; plan.bytes]);
    let streams: Vec<StreamKey> = (0..STREAMS).map(|it| StreamKey(format!("stream {it}").into())).collect();
    let (mut micros, begun) = (histogram(), Instant::now());
    for commit in 0..commits {
        stop::check()?;
        let event = |number: usize| Record::Event {
            stream: streams[number % STREAMS].clone(),
            seq: (number / STREAMS) as u64 + 1,
            bytes: bytes.clone(),
        };
        let first = commit * COMMIT_EVENTS;
        let records: Arc<[Record]> = (first..first + COMMIT_EVENTS).map(event).collect();
        let at = Instant::now();
        let appends = [(AppendId(commit as u64 + 1), records)];
        if let Some(fold) = folding.take_if(|fold| fold.is_finished() || !store.has_room(&appends)) {
            end(&mut store, fold)?;
        }
        store.commit(&appends).map_err(failed)?;
        micros.saturating_record(micros_since(at));
        if store.is_fold_due()
            && let Some(fold) = store.begin_fold().map_err(failed)?
        {
            folding = Some(thread::spawn(|| fold.run()));
        }
    }
    folding.map_or(Ok(()), |fold| end(&mut store, fold))?;
    Ok(rates(commits, begun, &micros))
}

fn end(store: &mut Store, fold: JoinHandle<Folded>) -> Result<(), BenchError> {
    store.end_fold(fold.join().expect("a fold that fails says so")).map_err(failed)
}

fn failed(error: impl Display) -> BenchError {
    BenchError::Store(error.to_string())
}

fn appended(plan: &Plan, commits: usize) -> Result<Figures, BenchError> {
    let mut file = tempfile::tempfile_in(&plan.directory)?;
    let batch = vec![b'.'; plan.bytes * COMMIT_EVENTS];
    let (mut micros, begun) = (histogram(), Instant::now());
    for _ in 0..commits {
        stop::check()?;
        let at = Instant::now();
        file.write_all(&batch)?;
        file.sync_data()?;
        micros.saturating_record(micros_since(at));
    }
    Ok(rates(commits, begun, &micros))
}

fn rates(commits: usize, begun: Instant, micros: &Histogram<u64>) -> Figures {
    let events = (commits * COMMIT_EVENTS) as f64;
    let mut figures = vec![("events/s", events / begun.elapsed().as_secs_f64())];
    figures.extend(times(micros));
    figures
}

fn micros_since(at: Instant) -> u64 {
    u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX)
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
