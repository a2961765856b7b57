//! O24, for PROTOCOL §5 `input` ("first valid answer wins"): a question of a run is closed at most once, by
//! an answer or by its time, and only while it is open.

use super::truth::{RunTruth, Stored};

/// Judges an event by the run before it.
///
/// # Errors
/// What is wrong.
pub fn judge(event: &Stored<'_>, run: &RunTruth) -> Result<(), String> {
    let Some(request) = event.data.request.as_deref() else { return Ok(()) };
    match (event.kind, run.questions.get(request)) {
        ("input_required", Some(_)) => Err(format!("the question {request} is asked twice in one attempt")),
        ("input_received", None) => Err(format!("an answer to {request}, which was never asked")),
        ("input_received", Some(false)) => Err(format!("a second answer to {request}")),
        _ => Ok(()),
    }
}
