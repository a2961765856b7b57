//! The process and its disk, as metrics: the names are those that every Prometheus client uses.
//!
//! What the system does not tell (`/proc` is Linux') is left out.

use super::lines::Lines;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Clock ticks a second in `/proc`: the same on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// Looks at the process at each scrape.
#[derive(Debug)]
pub(super) struct ProcessFacts {
    store: PathBuf,
    started: f64,
}

impl ProcessFacts {
    /// Of this process, whose store is in this file.
    pub(super) fn new(store: PathBuf) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Self { store, started }
    }
}

impl Collector for ProcessFacts {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (bytes, seconds) = (Unit::Bytes, Unit::Seconds);
        let mut lines = Lines(encoder);
        lines.gauge(
            "process_start_time",
            "When the process began, in Unix time",
            Some(&seconds),
            self.started,
        )?;
        if let Some(resident) = resident_bytes() {
            lines.gauge("process_resident_memory", "Memory in use", Some(&bytes), resident)?;
        }
        if let Some(cpu) = cpu_seconds() {
            lines.counter("process_cpu_seconds", "Processor time, user and system", cpu)?;
        }
        if let Some(open) = open_files() {
            lines.gauge("process_open_fds", "Open files and sockets", None, open)?;
        }
        if let Some(most) = open_files_most() {
            lines.gauge("process_max_fds", "The most open files and sockets", None, most)?;
        }
        if let Ok(found) = fs::metadata(&self.store) {
            lines.gauge("runcast_store_size", "Size of the store's file", Some(&bytes), found.len())?;
        }
        if let Some(free) = free_bytes(self.store.parent().unwrap_or(&self.store)) {
            lines.gauge("runcast_store_free", "Free space on the store's disk", Some(&bytes), free)?;
        }
        Ok(())
    }
}

/// Memory that the process has in use, in bytes.
pub(crate) fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; after it the fields are counted from the third.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u32 = fields.get(11)?.parse::<u32>().ok()?.checked_add(fields.get(12)?.parse().ok()?)?;
    Some(f64::from(ticks) / TICKS)
}

/// How many files and sockets the process has open. Linux counts them from 6.2 on; older ones only list them,
/// which takes as long as there are many.
fn open_files() -> Option<u64> {
    let open = "/proc/self/fd";
    match fs::metadata(open).ok()?.len() {
        0 => fs::read_dir(open).ok().map(|listed| listed.count() as u64),
        counted => Some(counted),
    }
}

/// How many files and sockets the process may have open; none if there is no limit.
fn open_files_most() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Free space on the disk of a file or directory, in bytes, for whoever is not root.
pub(crate) fn free_bytes(path: &std::path::Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}
