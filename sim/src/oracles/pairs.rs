//! O7, for PROTOCOL §2.4: every `tool_executing` has exactly one `tool_completed`, before the end.

use super::truth::{RunTruth, Stored, call};

/// Judges an event by the run before it.
///
/// # Errors
/// What is wrong.
pub fn judge(event: &Stored<'_>, run: &RunTruth) -> Result<(), String> {
    let open = || run.calls.iter().find(|(_, open)| **open).map(|(call, _)| call);
    match event.kind {
        "tool_executing" => match run.calls.get(&call(&event.data)) {
            None => Ok(()),
            Some(_) => Err(format!("tool_executing repeats call {}", call(&event.data))),
        },
        "tool_completed" => match run.calls.get(&call(&event.data)) {
            Some(true) => Ok(()),
            Some(false) => Err(format!("a second tool_completed of call {}", call(&event.data))),
            None => Err(format!("tool_completed of call {} without tool_executing", call(&event.data))),
        },
        "agent_completed" | "agent_started" => match open() {
            None => Ok(()),
            Some(call) => Err(format!("{} while call {call} is open", event.kind)),
        },
        _ => Ok(()),
    }
}
