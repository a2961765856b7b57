//! O23, for PROTOCOL §2.8 "never holds up another": whatever other devices do not read, forge or flood, a
//! connection that has room is sent what is durable. In the core at once, at every look; on the wire, where
//! no fault is in the way, within half a second.

use crate::schedule::{MS, Micros};
use runcast_core::{Core, CursorView};

/// What a healthy disk, the loop's turns and a full batch of others' output may take.
const AT_MOST: Micros = 500 * MS;

/// Judges what the core owes.
///
/// # Errors
/// Which connection is owed what.
pub fn owed(core: &Core) -> Result<(), String> {
    let owed = |cursor: &CursorView| cursor.is_open && !cursor.is_reading && cursor.sent < cursor.head;
    match core.inspect().cursors().find(|(_, _, cursor)| owed(cursor)) {
        Some((conn, lane, cursor)) => {
            Err(format!("{conn:?} has room and is not sent what is durable in {lane:?}: {cursor:?}"))
        }
        None => Ok(()),
    }
}

/// How far a healthy connection was when it was first seen to be owed something.
#[derive(Debug, Default)]
pub struct Progress {
    position: u64,
    since: Option<Micros>,
}

impl Progress {
    /// Looks at a connection: its position, and whether something durable lies past it that its window has
    /// room for.
    ///
    /// # Errors
    /// It has been owed the same for too long.
    pub fn look(
        &mut self,
        now: Micros,
        position: u64,
        is_owed: bool,
        calm_since: Micros,
    ) -> Result<(), String> {
        if !is_owed || position != self.position || self.since.is_none() {
            (self.position, self.since) = (position, is_owed.then_some(now));
            return Ok(());
        }
        let waited = now.saturating_sub(self.since.unwrap_or(now).max(calm_since));
        if waited <= AT_MOST {
            return Ok(());
        }
        Err(format!("seq {} is durable and not sent for {} ms, with room for it", position + 1, waited / MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_stands_still_with_room_is_seen() {
        let mut progress = Progress::default();
        assert!(progress.look(0, 4, true, 0).is_ok());
        assert!(progress.look(400 * MS, 4, true, 0).is_ok());
        assert!(progress.look(600 * MS, 4, true, 200 * MS).is_ok(), "there was a fault");
        assert!(progress.look(600 * MS, 4, true, 0).is_err());
        assert!(progress.look(700 * MS, 5, true, 0).is_ok(), "it moves");
        assert!(progress.look(9_000 * MS, 5, false, 0).is_ok());
    }
}
