//! O18, for PROTOCOL §2.5 "Never executed twice unasked": attempts only rise, nothing of an old attempt
//! enters a stream, no message of a worker enters twice, and no run is executed by two workers, unless its
//! agent is retryable: then an earlier attempt no longer counts.

use super::truth::{RunTruth, Stored};
use std::collections::BTreeMap;

/// Who has executed what.
#[derive(Debug, Default)]
pub struct Fencing {
    executed: BTreeMap<String, (String, u64)>,
}

/// Judges an event by the run before it.
///
/// # Errors
/// What is wrong.
pub fn judge(event: &Stored<'_>, run: &RunTruth) -> Result<(), String> {
    let attempt = event.said.attempt.unwrap_or(0);
    match (event.kind, run.started) {
        ("agent_started", Some(before)) if attempt <= before => {
            return Err(format!("agent_started of attempt {attempt} after attempt {before}"));
        }
        ("run_queued" | "agent_started" | "agent_completed", _) => return Ok(()),
        (kind, Some(before)) if attempt != before => {
            return Err(format!("{kind} of attempt {attempt} while attempt {before} runs"));
        }
        _ => {}
    }
    match event.n {
        Some(n) if n <= run.through || run.beyond.contains(&n) => {
            Err(format!("the worker's message {n} of attempt {attempt} is stored twice"))
        }
        _ => Ok(()),
    }
}

impl Fencing {
    /// A process (`worker` names it and its incarnation) begins to execute a run.
    ///
    /// # Errors
    /// Another has done so before.
    pub fn executes(
        &mut self,
        run: &str,
        worker: &str,
        attempt: u64,
        is_retryable: bool,
    ) -> Result<(), String> {
        let me = (worker.to_owned(), attempt);
        match self.executed.insert(run.to_owned(), me.clone()) {
            Some((_, before)) if is_retryable && before < attempt => Ok(()),
            Some(before) if before != me => Err(format!("{run} is executed by {me:?} after {before:?}")),
            _ => Ok(()),
        }
    }
}
