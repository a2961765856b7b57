//! O3, for PROTOCOL §5 ("the same `key` … returns the first run"): for as long as a key holds, it names the
//! run that it named first, over crashes too.

use super::truth::{Stored, secrets};
use std::collections::BTreeMap;

/// A run that a key has named.
#[derive(Debug)]
struct Named {
    run: String,
    /// When it was accepted, wall clock: from then on the key holds for `runs.key_keep_ms`.
    ts: u64,
    /// How often the daemon had crashed by then.
    crashes: u64,
}

/// What each key has named, by user and key, oldest first.
#[derive(Debug)]
pub struct Keys {
    keep_ms: u64,
    named: BTreeMap<(usize, String), Vec<Named>>,
}

impl Keys {
    /// Nothing was asked for; keys hold for so long.
    pub fn new(keep_ms: u64) -> Self {
        Self { keep_ms, named: BTreeMap::new() }
    }

    /// An event is durable; if a run begins with it, so is that run's key.
    ///
    /// # Errors
    /// The key still names another run.
    pub fn queued(&mut self, event: &Stored<'_>, crashes: u64) -> Result<(), String> {
        let Some(key) = event.data.key.as_deref().filter(|_| event.kind == "run_queued") else {
            return Ok(());
        };
        let run = event.said.run.as_deref().unwrap_or_default();
        let user = event.said.data.and_then(|data| secrets(data.get()).next()).unwrap_or(usize::MAX);
        self.names(user, key, run, event.said.ts.unwrap_or(0), crashes)
    }

    fn names(&mut self, user: usize, key: &str, run: &str, ts: u64, crashes: u64) -> Result<(), String> {
        let all = self.named.entry((user, key.to_owned())).or_default();
        if let Some(newest) = all.last()
            && ts.saturating_sub(newest.ts) < self.keep_ms
        {
            return Err(format!("key {key} is {run} after it was {}", newest.run));
        }
        all.push(Named { run: run.to_owned(), ts, crashes });
        Ok(())
    }

    /// A request is told its run. It may be one from before the key ran out, whose answer was on its way.
    /// Returns how often the daemon had crashed when the run was accepted.
    ///
    /// # Errors
    /// The key has never named that run.
    pub fn told(&self, user: usize, key: &str, run: &str) -> Result<u64, String> {
        let all = self.named.get(&(user, key.to_owned())).map_or(&[][..], Vec::as_slice);
        let found = all.iter().find(|named| named.run == run);
        found
            .map(|named| named.crashes)
            .ok_or_else(|| format!("key {key} is told as {run}, it names {all:?}"))
    }

    /// All of one user's are gone.
    pub fn erase(&mut self, user: usize) {
        self.named.retain(|(other, _), _| *other != user);
    }

    /// The disk is lost.
    pub fn forget(&mut self) {
        self.named.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_one_run_for_as_long_as_it_holds() {
        let mut keys = Keys::new(1_000);
        keys.names(0, "k", "run_a", 5_000, 0).unwrap();
        assert!(keys.names(0, "k", "run_b", 5_999, 0).is_err());
        keys.names(1, "k", "run_b", 5_999, 0).unwrap();
        keys.names(0, "k", "run_c", 6_000, 2).unwrap();
        assert_eq!((keys.told(0, "k", "run_a"), keys.told(0, "k", "run_c")), (Ok(0), Ok(2)));
        assert!(keys.told(0, "k", "run_b").is_err());
        keys.erase(0);
        assert!(keys.told(0, "k", "run_c").is_err());
    }
}
