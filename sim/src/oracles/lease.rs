//! O19, for PROTOCOL §6 "Lease": a worker that has said nothing for a lease has no runs any more, whatever
//! their own time.

use crate::schedule::{MS, Micros, SECOND};
use runcast_core::View;
use std::collections::BTreeMap;

/// What travel, turns of the loop and commits may add.
const SLACK: Micros = 3 * SECOND;

/// When each worker last said something.
#[derive(Debug, Default)]
pub struct Leases {
    said: BTreeMap<String, Micros>,
}

impl Leases {
    /// A worker says something.
    pub fn said(&mut self, worker: &str, now: Micros) {
        self.said.insert(worker.to_owned(), now);
    }

    /// Judges a daemon that nothing has disturbed since `calm_since`.
    ///
    /// # Errors
    /// Which worker keeps which run.
    pub fn look(&self, now: Micros, view: View<'_>, lease: Micros, calm_since: Micros) -> Result<(), String> {
        for run in view.runs() {
            let Some(worker) = run.worker.filter(|_| run.state != "dispatched") else { continue };
            let said = self.said.get(worker).copied().unwrap_or(0).max(calm_since);
            if now > said + lease + SLACK {
                let silent = (now - said) / MS;
                return Err(format!("{} is kept for {worker}, silent for {silent} ms", run.run));
            }
        }
        Ok(())
    }
}
