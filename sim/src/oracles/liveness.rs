//! O19, for PROTOCOL §2.4 and §2.6: once everything is healed the world moves on until every run has ended,
//! every device is complete (O5) and every request answered; it does not stand still for longer than the
//! longest wait there is.

use crate::schedule::{Micros, SECOND};

/// The longest time in which nothing need happen: the time-out of a run, its cancel, the lease and the
/// retries of a connection after it.
const PATIENCE: Micros = 150 * SECOND;
/// The longest time to rest.
const LONGEST: Micros = 4 * 3600 * SECOND;

/// How the way to rest goes.
#[derive(Debug)]
pub struct Patience {
    healed: Micros,
    measure: u64,
    moved: Micros,
}

impl Patience {
    /// From here on everything is healed.
    pub fn new(healed: Micros) -> Self {
        Self { healed, measure: u64::MAX, moved: healed }
    }

    /// Looks at how far the world is: `measure` is any number that changes with progress, `missing` what is
    /// not at rest.
    ///
    /// # Errors
    /// It has not moved for too long.
    pub fn look(&mut self, now: Micros, measure: u64, missing: &str) -> Result<(), (&'static str, String)> {
        if measure != self.measure {
            self.measure = measure;
            self.moved = now;
        }
        if now - self.moved > PATIENCE {
            let seconds = (now - self.moved) / SECOND;
            return Err(("O5", format!("healed, but nothing has moved for {seconds} s: {}", missing)));
        }
        if now - self.healed > LONGEST {
            return Err(("O19", format!("healed, but not at rest after hours: {}", missing)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_that_stands_still_or_never_rests_is_seen() {
        let mut patience = Patience::new(0);
        assert!(patience.look(SECOND, 1, "a device").is_ok());
        assert!(patience.look(PATIENCE, 2, "a device").is_ok());
        assert_eq!(patience.look(3 * PATIENCE, 2, "a device").unwrap_err().0, "O5");
        assert_eq!(patience.look(LONGEST + SECOND, 3, "a device").unwrap_err().0, "O19");
    }
}
