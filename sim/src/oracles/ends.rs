//! O6, for PROTOCOL §2.4 "Exactly one end": a run begins with `run_queued`, ends with one `agent_completed`,
//! and has nothing after it.

use super::truth::{RunTruth, Stored};

/// Judges an event by the run before it.
///
/// # Errors
/// What is wrong.
pub fn judge(event: &Stored<'_>, run: &RunTruth) -> Result<(), String> {
    if let Some(status) = &run.ended {
        return Err(format!("{} after agent_completed ({status})", event.kind));
    }
    match (event.kind, run.events) {
        ("run_queued", 0) => Ok(()),
        ("run_queued", _) => Err("a second run_queued".to_owned()),
        (kind, 0) => Err(format!("{kind} before run_queued")),
        ("agent_started" | "agent_completed", _) => Ok(()),
        (kind, _) if run.started.is_none() => Err(format!("{kind} before agent_started")),
        _ => Ok(()),
    }
}
