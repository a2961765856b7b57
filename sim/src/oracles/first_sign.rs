//! O12, for PROTOCOL §2.6 "within 500 ms of asking": on a path without faults a request for a run is
//! answered, and its run first told of (by an event or a notice), within 500 ms each.

use crate::schedule::{MS, Micros};
use std::collections::BTreeMap;

/// The promise. What travel, the turns of the loop and a healthy disk add comes on top.
const AT_MOST: Micros = 500 * MS;
/// Commits and reads of a healthy disk before the answer, for each request that was asked for before on the
/// same connection: they are answered in order.
const EACH: Micros = 15 * MS;

/// What one connection waits for.
#[derive(Debug, Default)]
pub struct Waits {
    /// Requests that are not answered: by id, when at the latest.
    asked: BTreeMap<String, Micros>,
    /// Runs that were accepted and not told of: by id, when at the latest.
    accepted: BTreeMap<String, Micros>,
}

impl Waits {
    /// The client asks for a run; the words travel for so long at most.
    pub fn asks(&mut self, now: Micros, id: &str, travel: Micros) {
        let before = self.asked.len() as Micros;
        self.asked.insert(id.to_owned(), now + travel + AT_MOST + before * EACH);
    }

    /// A request is answered; with a run that is new and will be told of, if it is accepted.
    pub fn answered(&mut self, now: Micros, id: &str, run: Option<&str>) {
        self.asked.remove(id);
        if let Some(run) = run {
            self.accepted.insert(run.to_owned(), now + AT_MOST + EACH);
        }
    }

    /// A run is told of.
    pub fn told(&mut self, run: &str) {
        self.accepted.remove(run);
    }

    /// The network has taken no more: what was to be said then is said later, or not at all, and what was
    /// asked is answered behind the output that waits.
    pub fn crowded(&mut self, now: Micros) {
        let all = self.accepted.values_mut().chain(self.asked.values_mut());
        all.for_each(|at| *at = (*at).max(now + AT_MOST));
    }

    /// Runs that need no sign any more are forgotten.
    pub fn forget(&mut self, is_over: impl Fn(&str) -> bool) {
        self.accepted.retain(|run, _| !is_over(run));
    }

    /// Looks whether anything is overdue. `calm_since` is when it could be expected first: since the last
    /// fault.
    ///
    /// # Errors
    /// What is.
    pub fn look(&self, now: Micros, calm_since: Micros) -> Result<(), String> {
        let overdue = |at: &Micros| now > (*at).max(calm_since + AT_MOST);
        if let Some((id, at)) = self.asked.iter().find(|(_, at)| overdue(at)) {
            return Err(format!(
                "request {id} is not answered {} ms after it should have been",
                (now - at) / MS
            ));
        }
        match self.accepted.iter().find(|(_, at)| overdue(at)) {
            Some((run, at)) => {
                Err(format!("nothing is said of {run} {} ms after it should have been", (now - at) / MS))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_and_a_first_sign_are_missed_when_they_do_not_come() {
        let mut waits = Waits::default();
        waits.asks(0, "1", 10 * MS);
        assert!(waits.look(510 * MS, 0).is_ok());
        assert!(waits.look(511 * MS, 0).is_err());
        assert!(waits.look(511 * MS, 200 * MS).is_ok(), "there was a fault");
        waits.answered(100 * MS, "1", Some("run_a_1"));
        assert!(waits.look(600 * MS, 0).is_ok());
        assert!(waits.look(700 * MS, 0).is_err());
        waits.told("run_a_1");
        assert!(waits.look(700 * MS, 0).is_ok());
    }
}
