//! O8, for PROTOCOL §2.8 and the limits of the configuration: at no dispatch are more runs with workers than
//! the daemon, the user, the thread and the worker may have.
//!
//! A run counts from the moment its offer is written. It stops to count as soon as the daemon may know that
//! it is over. That an offer was withdrawn cannot be seen in time (the words may wait behind others), so
//! where a limit seems to be exceeded, the core is asked which of the runs it has sent back to the queue.
//! At the core's face the moment of a dispatch is known, and the count is exact ([`at_dispatch`]).

use super::truth::Truth;
use crate::schedule::{Micros, SECOND};
use runcast_core::config::Runs;
use runcast_core::{Core, RunView};
use std::collections::BTreeMap;

/// An offer may wait so long for the network before it is seen: whoever takes nothing for longer is closed.
const LATE: Micros = 30 * SECOND;

/// Judges a step in which these runs were offered, by what the core says then. Runs that wait for their user
/// count only on their thread; one that goes on may exceed the limits, but then none is offered.
///
/// # Errors
/// Which limit is exceeded.
pub fn at_dispatch(core: &Core, offered: &[String], limits: &Runs) -> Result<(), String> {
    let with_workers = || core.inspect().runs().filter(|run| run.worker.is_some());
    let is_active = |run: &RunView<'_>| run.state != "waiting";
    for offer in with_workers().filter(|run| offered.iter().any(|id| id == run.run.as_str())) {
        let own = || with_workers().filter(|run| run.user == offer.user);
        let checks = [
            ("the daemon", with_workers().filter(is_active).count(), limits.active),
            ("the user", own().filter(is_active).count(), limits.active_per_user),
            ("the thread", own().filter(|run| run.thread == offer.thread).count(), 1),
        ];
        if let Some((whose, count, limit)) = checks.into_iter().find(|(_, count, limit)| count > limit) {
            return Err(format!("{} is the run {count} of {limit} of {whose}", offer.run));
        }
    }
    Ok(())
}

/// A run that a worker has or is offered.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Whose.
    pub user: String,
    /// On which conversation.
    pub thread: String,
    /// With which worker.
    pub worker: String,
    /// Of which agent.
    pub agent: String,
    /// Whether its start was acknowledged.
    pub started: bool,
    /// Whether it waits for its user: then it counts only against its thread and its worker.
    pub waits: bool,
    /// When it last went on after that. Nobody can tell whether the others were dispatched before, so for as
    /// long as an offer may be on its way it counts as waiting.
    pub resumed_at: Option<Micros>,
}

/// All of them.
#[derive(Debug)]
pub struct Limits {
    active: usize,
    active_per_user: usize,
    slots: BTreeMap<(String, String), usize>,
    offers: BTreeMap<String, Offer>,
    /// A run with which a limit seems to be exceeded.
    suspect: Option<String>,
}

impl Limits {
    /// With these limits of the configuration.
    pub fn new(active: usize, active_per_user: usize) -> Self {
        Self { active, active_per_user, slots: BTreeMap::new(), offers: BTreeMap::new(), suspect: None }
    }

    /// A worker says how many runs of an agent it takes.
    pub fn serves(&mut self, worker: &str, agent: &str, slots: usize) {
        self.slots.insert((worker.to_owned(), agent.to_owned()), slots);
    }

    /// A run is offered.
    pub fn offered(&mut self, run: &str, offer: Offer) {
        self.offers.insert(run.to_owned(), offer);
        if self.exceeded(run).is_some() {
            self.suspect = Some(run.to_owned());
        }
    }

    /// Whether a limit seems to be exceeded.
    pub fn is_suspicious(&self) -> bool {
        self.suspect.is_some()
    }

    /// Judges what seemed to exceed a limit, now that is known which runs are with workers or offered to
    /// them.
    ///
    /// # Errors
    /// Which limit is exceeded.
    pub fn settle(&mut self, active: &BTreeMap<String, (String, bool)>, now: Micros) -> Result<(), String> {
        let Some(run) = self.suspect.take() else { return Ok(()) };
        // What was lost may be another worker's, whom nothing has reached that says so.
        let is_its = |run: &String, offer: &Offer| active.get(run).is_some_and(|(at, _)| *at == offer.worker);
        self.offers.retain(|other, offer| is_its(other, offer));
        for (other, offer) in &mut self.offers {
            offer.waits = active[other].1 || offer.resumed_at.is_some_and(|at| now < at + LATE);
        }
        self.exceeded(&run).map_or(Ok(()), Err)
    }

    /// The limit that is exceeded with this run.
    fn exceeded(&self, run: &str) -> Option<String> {
        let offer = self.offers.get(run)?;
        let slots = self.slots.get(&(offer.worker.clone(), offer.agent.clone())).copied().unwrap_or(0);
        let count = |with: &dyn Fn(&Offer) -> bool| self.offers.values().filter(|other| with(other)).count();
        let of_user = |other: &Offer| other.user == offer.user;
        let checks = [
            ("the daemon", count(&|other| !other.waits), self.active),
            ("the user", count(&|other| of_user(other) && !other.waits), self.active_per_user),
            ("the thread", count(&|other| of_user(other) && other.thread == offer.thread), 1),
            (
                "the worker",
                count(&|other| (&other.worker, &other.agent) == (&offer.worker, &offer.agent)),
                slots,
            ),
        ];
        let (whose, found, limit) = checks.into_iter().find(|(_, found, limit)| found > limit)?;
        let others = &self.offers;
        Some(format!("{run} is the run {found} of {limit} of {whose}: {offer:?}, beside {others:?}"))
    }

    /// A worker may execute the run.
    pub fn started(&mut self, run: &str) {
        if let Some(offer) = self.offers.get_mut(run) {
            offer.started = true;
        }
    }

    /// The user has answered, and the run goes on.
    pub fn resumed(&mut self, run: &str, now: Micros) {
        if let Some(offer) = self.offers.get_mut(run) {
            offer.resumed_at = Some(now);
        }
    }

    /// The run is over, or went back.
    pub fn over(&mut self, run: &str) {
        self.offers.remove(run);
    }

    /// A worker's connection is over: what it had not started goes back.
    pub fn hung_up(&mut self, worker: &str) {
        self.offers.retain(|_, offer| offer.worker != worker || offer.started);
    }

    /// The daemon was killed: what was not durably started goes back.
    pub fn killed(&mut self, truth: &Truth) {
        self.offers.retain(|run, _| {
            truth.runs.get(run).is_some_and(|run| run.started.is_some() && run.ended.is_none())
        });
        self.offers.values_mut().for_each(|offer| offer.started = true);
    }
}
