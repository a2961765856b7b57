//! O8, for PROTOCOL §2.8 and the limits of the configuration: at no dispatch are more runs with workers than the
//! daemon, the user, the thread and the worker may have.
//!
//! A run counts from the moment it is offered. It stops to count as soon as the daemon may know that it is over, so
//! that what is judged here is never more than what the daemon must count.

use super::truth::Truth;
use std::collections::BTreeMap;

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
}

/// All of them.
#[derive(Debug)]
pub struct Limits {
    active: usize,
    active_per_user: usize,
    slots: BTreeMap<(String, String), usize>,
    offers: BTreeMap<String, Offer>,
}

impl Limits {
    /// With these limits of the configuration.
    pub fn new(active: usize, active_per_user: usize) -> Self {
        Self { active, active_per_user, slots: BTreeMap::new(), offers: BTreeMap::new() }
    }

    /// A worker says how many runs of an agent it takes.
    pub fn serves(&mut self, worker: &str, agent: &str, slots: usize) {
        self.slots.insert((worker.to_owned(), agent.to_owned()), slots);
    }

    /// A run is offered.
    ///
    /// # Errors
    /// Which limit is exceeded.
    pub fn offered(&mut self, run: &str, offer: Offer) -> Result<(), String> {
        let slots = self.slots.get(&(offer.worker.clone(), offer.agent.clone())).copied().unwrap_or(0);
        self.offers.insert(run.to_owned(), offer.clone());
        let count = |with: &dyn Fn(&Offer) -> bool| self.offers.values().filter(|other| with(other)).count();
        let of_user = |other: &Offer| other.user == offer.user;
        let checks = [
            ("the daemon", count(&|_| true), self.active),
            ("the user", count(&of_user), self.active_per_user),
            ("the thread", count(&|other| of_user(other) && other.thread == offer.thread), 1),
            (
                "the worker",
                count(&|other| (&other.worker, &other.agent) == (&offer.worker, &offer.agent)),
                slots,
            ),
        ];
        match checks.into_iter().find(|(_, found, limit)| found > limit) {
            Some((whose, found, limit)) => {
                Err(format!("{run} is the run {found} of {limit} of {whose}: {offer:?}"))
            }
            None => Ok(()),
        }
    }

    /// A worker may execute the run.
    pub fn started(&mut self, run: &str) {
        if let Some(offer) = self.offers.get_mut(run) {
            offer.started = true;
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
