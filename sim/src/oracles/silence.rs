//! O11, for PROTOCOL §2.6 "Never silent": while a user has a run that has not ended, a healthy connection
//! hears something at least every 5 s, whatever it has acknowledged: of what its window keeps back `backlog`
//! tells. Judged only where no fault is in the way.

use crate::schedule::{MS, Micros, SECOND};

/// The promise, and what the turns of the loop, commits and travel may add.
const AT_MOST: Micros = 5 * SECOND + 300 * MS;

/// Judges how long a connection has heard nothing, and since when it may expect to.
///
/// # Errors
/// For how long it was silent.
pub fn judge(now: Micros, heard: Micros, alive_since: Micros, calm_since: Micros) -> Result<(), String> {
    let silent = now.saturating_sub(heard.max(alive_since).max(calm_since));
    if silent <= AT_MOST {
        return Ok(());
    }
    Err(format!("nothing was sent for {} ms while the user has a run", silent / MS))
}
