//! O18, for PROTOCOL §2.5 "Never executed twice unasked": attempts only rise, nothing of an old attempt
//! enters a stream, no message of a worker enters twice, and no run is executed by two workers, unless its
//! agent is retryable: then each attempt is executed by one. Which begins first is the network's to say: an
//! old attempt's `ack` may be on its way for longer than its lease lasts.

use super::truth::{RunTruth, Stored};
use std::collections::BTreeMap;

/// Who has executed which attempt of each run.
#[derive(Debug, Default)]
pub struct Fencing {
    executed: BTreeMap<String, BTreeMap<u64, String>>,
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
        let attempts = self.executed.entry(run.to_owned()).or_default();
        let is_same = |of: u64, by: &str| of == attempt && by == worker;
        let another = attempts
            .iter()
            .find(|(of, by)| !is_same(**of, by) && (!is_retryable || **of == attempt))
            .map(|(of, by)| format!("{run} is executed by {worker} ({attempt}) after {by} ({of})"));
        attempts.entry(attempt).or_insert_with(|| worker.to_owned());
        another.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_of_a_retryable_agent_may_begin_in_any_order_but_each_with_one_worker() {
        let mut fencing = Fencing::default();
        assert_eq!(fencing.executes("run", "one", 4, true), Ok(()));
        assert_eq!(fencing.executes("run", "two", 3, true), Ok(()));
        assert_eq!(fencing.executes("run", "one", 4, true), Ok(()));
        assert!(fencing.executes("run", "two", 4, true).is_err());
    }

    #[test]
    fn any_other_run_is_executed_once() {
        let mut fencing = Fencing::default();
        assert_eq!(fencing.executes("run", "one", 1, false), Ok(()));
        assert_eq!(fencing.executes("run", "one", 1, false), Ok(()));
        assert!(fencing.executes("run", "one", 2, false).is_err());
        assert!(fencing.executes("run", "two", 1, false).is_err());
    }
}
