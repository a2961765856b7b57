//! O10, for PROTOCOL §2.7 "Isolated": the secret that every payload of a user carries is in nothing that is
//! sent to another, whatever it is: an event, an error, a notice, a `welcome`.

use super::truth::{Truth, secrets};
use crate::said::Said;

/// Judges a message to a user.
///
/// # Errors
/// Whose secret it carries.
pub fn judge(user: usize, text: &str) -> Result<(), String> {
    match secrets(text).find(|other| *other != user) {
        Some(other) => Err(format!("user {user} is sent a secret of user {other}: {text}")),
        None => Ok(()),
    }
}

/// Judges the runs that a message to a user names, unless it only repeats what its client said.
///
/// # Errors
/// Whose run it names.
pub fn judge_runs(truth: &Truth, user: usize, said: &Said<'_>) -> Result<(), String> {
    if matches!(said.kind.as_ref(), "error" | "ok") {
        return Ok(());
    }
    let entries = said.run_entries();
    let named = said.run.iter().chain(entries.iter().map(|entry| &entry.run));
    for run in named {
        if let Some(owner) = truth.runs.get(run.as_ref()).and_then(|run| run.user)
            && owner != user
        {
            return Err(format!("user {user} is told of {run}, a run of user {owner}: {said:?}"));
        }
    }
    Ok(())
}
