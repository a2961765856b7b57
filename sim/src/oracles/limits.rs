//! O8, for PROTOCOL §2.8 and the limits of the configuration: at no dispatch are more runs with workers than
//! the daemon, the user, the thread and the worker may have.
//!
//! At the core's face the moment of a dispatch is known, and the count is exact ([`at_dispatch`]). On the
//! wire it is judged once more what does not depend on when an offer was written: a thread has one run with a
//! worker, and a worker no more of an agent than its slots, whether or not they wait for their user. There a
//! run counts from the moment its offer is written, and stops to count as soon as the daemon may know that it
//! is over. That an offer was withdrawn cannot be seen in time (the words may wait behind others), so where a
//! limit seems to be exceeded, the core is asked which of the runs it has sent back to the queue.

use super::truth::Truth;
use runcast_core::RunView;
use runcast_core::config::Runs;
use runcast_core::input::{Input, Message};
use serde_json::Value;
use std::collections::BTreeMap;

/// How many runs of each agent each worker takes, as it has told the daemon. It says the same in each of its
/// calls.
#[derive(Debug, Default)]
pub struct Slots(BTreeMap<(String, String), usize>);

impl Slots {
    /// The daemon hears something.
    pub fn look(&mut self, input: &Input<'_>) {
        let Input::Message { message: Message::Text(text), .. } = input else { return };
        if !text.starts_with("{\"type\":\"hello\",\"worker\"") {
            return;
        }
        let hello: Value = serde_json::from_str(text).unwrap_or_default();
        let worker = hello["worker"].as_str().unwrap_or_default();
        for serves in hello["agents"].as_array().into_iter().flatten() {
            let agent = serves["agent"].as_str().unwrap_or_default();
            self.add(worker, agent, serves["slots"].as_u64().unwrap_or(0) as usize);
        }
    }

    fn add(&mut self, worker: &str, agent: &str, slots: usize) {
        self.0.insert((worker.to_owned(), agent.to_owned()), slots);
    }

    fn of(&self, worker: &str, agent: &str) -> usize {
        self.0.get(&(worker.to_owned(), agent.to_owned())).copied().unwrap_or(0)
    }
}

/// Judges a step in which some of `runs` were `offered`, by what the core says of them then. Runs that wait
/// for their user count only on their thread and with their worker; one that goes on may exceed the limits,
/// but then none is offered.
///
/// # Errors
/// Which limit is exceeded.
pub fn at_dispatch(
    runs: &[RunView<'_>],
    offered: &[String],
    limits: &Runs,
    slots: &Slots,
) -> Result<(), String> {
    let with_workers = || runs.iter().filter(|run| run.worker.is_some());
    let is_active = |run: &&RunView<'_>| run.state != "waiting";
    for offer in with_workers().filter(|run| offered.iter().any(|id| id == run.run.as_str())) {
        let own = || with_workers().filter(|run| run.user == offer.user);
        let beside = |run: &&RunView<'_>| run.worker == offer.worker && run.agent == offer.agent;
        let has = slots.of(offer.worker.unwrap_or_default(), offer.agent.as_str());
        let checks = [
            ("the daemon", with_workers().filter(is_active).count(), limits.active),
            ("the user", own().filter(is_active).count(), limits.active_per_user),
            ("the thread", own().filter(|run| run.thread == offer.thread).count(), 1),
            ("the worker", with_workers().filter(beside).count(), has),
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
}

/// All of them.
#[derive(Debug, Default)]
pub struct Limits {
    slots: Slots,
    offers: BTreeMap<String, Offer>,
    /// A run with which a limit seems to be exceeded.
    suspect: Option<String>,
}

impl Limits {
    /// A worker says how many runs of an agent it takes.
    pub fn serves(&mut self, worker: &str, agent: &str, slots: usize) {
        self.slots.add(worker, agent, slots);
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
    /// them, and to which.
    ///
    /// # Errors
    /// Which limit is exceeded.
    pub fn settle(&mut self, active: &BTreeMap<String, String>) -> Result<(), String> {
        let Some(run) = self.suspect.take() else { return Ok(()) };
        // What was lost may be another worker's, whom nothing has reached that says so.
        self.offers.retain(|other, offer| active.get(other) == Some(&offer.worker));
        self.exceeded(&run).map_or(Ok(()), Err)
    }

    /// The limit that is exceeded with this run.
    fn exceeded(&self, run: &str) -> Option<String> {
        let offer = self.offers.get(run)?;
        let count = |with: &dyn Fn(&Offer) -> bool| self.offers.values().filter(|other| with(other)).count();
        let on_thread = |other: &Offer| (&other.user, &other.thread) == (&offer.user, &offer.thread);
        let beside = |other: &Offer| (&other.worker, &other.agent) == (&offer.worker, &offer.agent);
        let checks = [
            ("the thread", count(&on_thread), 1),
            ("the worker", count(&beside), self.slots.of(&offer.worker, &offer.agent)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::ids::{Agent, RunId, Thread, User};

    /// A run with a worker: its number, user, thread, worker and state.
    type With = (u32, &'static str, &'static str, &'static str, &'static str);

    /// How the offer of the last of these is judged, where the daemon may have three runs, a user two, and
    /// each worker two of an agent.
    fn judge(runs: &[With]) -> Result<(), String> {
        let limits = Runs { active: 3, active_per_user: 2, ..Runs::default() };
        let mut slots = Slots::default();
        for worker in ["v", "w"] {
            let text = format!(
                "{{\"type\":\"hello\",\"worker\":\"{worker}\",\"agents\":[{{\"agent\":\"write\",\"slots\":2}}]}}"
            );
            let conn = runcast_core::ids::ConnId(1);
            slots.look(&Input::Message { conn, message: Message::Text(&text) });
        }
        let agent = Agent::parse("write").unwrap();
        let owned: Vec<_> = runs
            .iter()
            .map(|(n, user, thread, worker, state)| {
                let run = RunId::parse(&format!("run_t_{n:08x}")).unwrap();
                (run, User::parse(user).unwrap(), Thread::parse(thread).unwrap(), *worker, *state)
            })
            .collect();
        let views = owned.iter().map(|(run, user, thread, worker, state)| RunView {
            run,
            user,
            state,
            attempt: 1,
            ordinal: 1,
            thread,
            agent: &agent,
            is_rested: false,
            is_ready: false,
            worker: Some(*worker).filter(|worker| !worker.is_empty()),
        });
        let views: Vec<RunView<'_>> = views.collect();
        let offered: Vec<String> = owned.last().map(|run| run.0.to_string()).into_iter().collect();
        at_dispatch(&views, &offered, &limits, &slots)
    }

    #[test]
    fn a_dispatch_past_any_limit_is_seen() {
        let (a, b) = ((1, "ann", "t1", "w", "running"), (2, "bob", "t1", "w", "running"));
        assert!(judge(&[a, b]).is_ok());
        let whose = |runs: &[With]| judge(runs).unwrap_err().rsplit_once("of ").unwrap().1.to_owned();
        assert_eq!(whose(&[a, b, (3, "cid", "t1", "w", "dispatched")]), "the worker");
        let c = (3, "cid", "t1", "v", "running");
        assert!(judge(&[a, b, c]).is_ok());
        assert_eq!(whose(&[a, b, c, (4, "dan", "t1", "v", "dispatched")]), "the daemon");
        assert_eq!(
            whose(&[a, (2, "ann", "t2", "v", "running"), (3, "ann", "t3", "v", "dispatched")]),
            "the user"
        );
        assert_eq!(whose(&[a, (2, "ann", "t1", "v", "dispatched")]), "the thread");
    }

    #[test]
    fn what_waits_for_its_user_counts_on_its_thread_and_with_its_worker_alone() {
        let (a, b) = ((1, "ann", "t1", "w", "waiting"), (2, "ann", "t2", "v", "waiting"));
        assert!(
            judge(&[a, b, (3, "ann", "t3", "w", "running"), (4, "ann", "t4", "v", "dispatched")]).is_ok()
        );
        assert!(judge(&[a, (2, "ann", "t1", "v", "dispatched")]).is_err(), "the thread");
        let c = (2, "bob", "t1", "w", "waiting");
        assert!(judge(&[a, c, (3, "cid", "t1", "w", "dispatched")]).is_err(), "the worker");
        assert!(judge(&[a, c, (3, "cid", "t1", "", "running"), (4, "dan", "t1", "v", "dispatched")]).is_ok());
    }

    fn offer(user: &str, worker: &str) -> Offer {
        let words = |text: &str| text.to_owned();
        let (thread, agent) = (words("t"), words("write"));
        Offer { user: words(user), thread, worker: words(worker), agent, started: false }
    }

    #[test]
    fn on_the_wire_a_run_counts_until_the_daemon_says_that_it_has_gone_back() {
        let mut limits = Limits::default();
        limits.serves("w", "write", 1);
        limits.offered("r1", offer("ann", "w"));
        assert!(!limits.is_suspicious());
        limits.offered("r2", offer("bob", "w"));
        assert!(limits.is_suspicious());
        let at = |run: &str| (run.to_owned(), "w".to_owned());
        let mut both = limits.settle(&[at("r1"), at("r2")].into());
        assert!(both.is_err(), "both are there");
        limits.offered("r2", offer("bob", "w"));
        both = limits.settle(&[at("r2")].into());
        assert!(both.is_ok(), "the first went back");
    }
}
