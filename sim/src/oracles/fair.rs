//! O9, for PROTOCOL §1 "its runs go one at a time, in order" and REQUIREMENTS A7 (fair order): a thread's
//! runs start in the order in which they were accepted, each after the end of the one before; and a user who
//! could run is not passed over twice by the same other user, so that it waits at most one slot for each.
//! Of a user's own runs none starts while one that goes before it, by priority and age, could start at the
//! same agent.

use super::truth::Stored;
use runcast_core::ids::RunId;
use runcast_core::time::WallMs;
use runcast_core::{Core, RunView};
use std::collections::{BTreeMap, BTreeSet};

/// Judges an `agent_started` that has become durable: the run must be the oldest of its thread that has not
/// ended.
///
/// # Errors
/// Another run of the thread comes before it.
pub fn judge(event: &Stored<'_>) -> Result<(), String> {
    let id = event.said.run.as_deref().unwrap_or_default();
    match &event.first_of_thread {
        Some(first) if first != id => Err(format!("{id} starts before {first} of the same thread has ended")),
        Some(_) | None => Ok(()),
    }
}

/// The order of each user's own runs, of which each counts as come so much later than one of high priority.
/// Those that were there when the process began are not known.
#[derive(Debug, Default)]
pub struct Ranks {
    latest_ms: u64,
    of: BTreeMap<String, u64>,
}

impl Ranks {
    /// One of `runs` was accepted in this step, and after it in the same step `ended` have ended.
    pub fn accepted(
        &mut self,
        wall: WallMs,
        runs: &[RunView<'_>],
        id: &str,
        priority: &str,
        ended: &BTreeSet<&str>,
    ) {
        let is_alive = |run: &&RunView<'_>| {
            run.worker.is_some() || run.state == "queued" || ended.contains(run.run.as_str())
        };
        let alive: BTreeSet<&str> = runs.iter().filter(is_alive).map(|run| run.run.as_str()).collect();
        self.of.retain(|known, _| alive.contains(known.as_str()));
        let Some(run) = runs.iter().find(|run| run.run.as_str() == id) else { return };
        let later_ms = match priority {
            "high" => 0,
            "normal" => 60_000,
            _ => 300_000,
        };
        // The wall clock may go back, and a thread's runs go in the order in which they came.
        self.latest_ms = self.latest_ms.max(wall.0);
        let is_before = |other: &&RunView<'_>| {
            other.run != run.run && other.user == run.user && other.thread == run.thread
        };
        let before = runs.iter().filter(is_alive).filter(is_before);
        let before: Option<Vec<u64>> = before.map(|other| self.of.get(other.run.as_str()).copied()).collect();
        if let Some(before) = before {
            let rank = before.into_iter().fold(self.latest_ms + later_ms, u64::max);
            self.of.insert(id.to_owned(), rank);
        }
    }

    /// Whether one of two runs of a user goes before the other, if that is known.
    pub fn is_before(&self, one: &RunView<'_>, other: &RunView<'_>) -> Option<bool> {
        let rank = |run: &RunView<'_>| Some((*self.of.get(run.run.as_str())?, run.ordinal));
        Some(rank(one)? < rank(other)?)
    }
}

/// A user who waits, and who has passed it.
#[derive(Debug)]
struct Waiting {
    /// The run by which is known that it never stopped waiting.
    run: RunId,
    attempt: u64,
    passed_by: BTreeSet<String>,
}

/// Who has passed whom.
#[derive(Debug, Default)]
pub struct Fair {
    dispatched: Vec<String>,
    waiting: BTreeMap<String, Waiting>,
}

/// A run as far as the order matters.
#[derive(Debug)]
struct Queued {
    run: RunId,
    attempt: u64,
    user: String,
    agent: String,
}

impl Fair {
    /// In this step a run is offered to a worker.
    pub fn dispatched(&mut self, run: &str) {
        self.dispatched.push(run.to_owned());
    }

    /// Those of this step.
    pub fn offered(&self) -> &[String] {
        &self.dispatched
    }

    /// Ends a step. `active_per_user` is the limit of the configuration.
    ///
    /// # Errors
    /// Who was passed over.
    pub fn settle(&mut self, core: &Core, active_per_user: usize, ranks: &Ranks) -> Result<(), String> {
        if self.dispatched.is_empty() {
            return Ok(());
        }
        let dispatched = std::mem::take(&mut self.dispatched);
        let runs: Vec<RunView<'_>> = core.inspect().runs().collect();
        let offers = runs.iter().filter(|run| dispatched.iter().any(|id| id == run.run.as_str()));
        let overtaken = offers.map(|run| overtakes_none(run, &runs, ranks)).find(Result::is_err);
        let offered: Vec<(String, String)> = core
            .inspect()
            .runs()
            .filter(|run| dispatched.iter().any(|id| id == run.run.as_str()))
            .map(|run| (run.user.as_str().to_owned(), run.agent.as_str().to_owned()))
            .collect();
        let ready = ready(core, active_per_user);
        let judgement = self.judge(&offered, &ready);
        for (user, _) in &offered {
            self.waiting.remove(user);
        }
        self.pass(&offered, ready);
        overtaken.unwrap_or(judgement)
    }

    /// Whether a user who has run since is offered another, while one whom it has passed already could run
    /// the same agent.
    fn judge(&self, offered: &[(String, String)], ready: &[Queued]) -> Result<(), String> {
        for Queued { run, attempt, user, agent } in ready {
            let has_turn = offered.iter().any(|(other, _)| other == user);
            let Some(waiting) = self.waiting.get(user).filter(|_| !has_turn) else { continue };
            let still =
                ready.iter().any(|other| other.run == waiting.run && other.attempt == waiting.attempt);
            let again =
                offered.iter().find(|(other, served)| served == agent && waiting.passed_by.contains(other));
            if let Some((other, _)) = again.filter(|_| still) {
                return Err(format!(
                    "{other} is given its second slot while {run} of {user} (attempt {attempt}) waits"
                ));
            }
        }
        Ok(())
    }

    fn pass(&mut self, offered: &[(String, String)], ready: Vec<Queued>) {
        let still: BTreeSet<(&RunId, u64)> =
            ready.iter().map(|queued| (&queued.run, queued.attempt)).collect();
        self.waiting.retain(|_, waiting| still.contains(&(&waiting.run, waiting.attempt)));
        for Queued { run, attempt, user, .. } in ready {
            if offered.iter().any(|(other, _)| *other == user) {
                continue;
            }
            let new = || Waiting { run, attempt, passed_by: BTreeSet::new() };
            let waiting = self.waiting.entry(user).or_insert_with(new);
            waiting.passed_by.extend(offered.iter().map(|(other, _)| other.clone()));
        }
    }
}

/// Whether no other run should have had the place of one that was offered in this step: what it was given was
/// free for any of its user and agent, whose limits let one start.
fn overtakes_none(offered: &RunView<'_>, runs: &[RunView<'_>], ranks: &Ranks) -> Result<(), String> {
    let own = || runs.iter().filter(|run| run.user == offered.user);
    let is_first = |run: &RunView<'_>| {
        let mut of_thread = own().filter(|other| other.thread == run.thread);
        !of_thread
            .any(|other| other.worker.is_some() || other.state == "queued" && other.ordinal < run.ordinal)
    };
    let could = own().filter(|run| run.agent == offered.agent && run.is_rested && is_first(run));
    let before = could.into_iter().find(|run| ranks.is_before(run, offered) == Some(true));
    before.map_or(Ok(()), |run| Err(format!("{} starts, and {run:?} goes before it", offered.run)))
}

/// The runs that could be offered to any worker of their agent with a free slot: durable, first of an idle
/// thread, of a user below its limit, refused by nobody.
fn ready(core: &Core, active_per_user: usize) -> Vec<Queued> {
    let mut active: BTreeMap<&str, usize> = BTreeMap::new();
    let mut busy: BTreeSet<(&str, &str)> = BTreeSet::new();
    for run in core.inspect().runs().filter(|run| run.attempt > 0 && !matches!(run.state, "queued" | "ended"))
    {
        *active.entry(run.user.as_str()).or_default() += usize::from(run.state != "waiting");
        busy.insert((run.user.as_str(), run.thread.as_str()));
    }
    // Of each thread the oldest is ready in the moment in which the one before it ends.
    let mut first: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for run in core.inspect().runs().filter(|run| run.state == "queued") {
        let oldest = first.entry((run.user.as_str(), run.thread.as_str())).or_insert(run.ordinal);
        *oldest = run.ordinal.min(*oldest);
    }
    let may_start = |run: &RunView<'_>| {
        let thread = (run.user.as_str(), run.thread.as_str());
        active.get(thread.0).copied().unwrap_or(0) < active_per_user
            && !busy.contains(&thread)
            && first.get(&thread) == Some(&run.ordinal)
    };
    let queued = core.inspect().runs().filter(|run| run.is_ready);
    queued
        .filter(may_start)
        .map(|run| Queued {
            run: run.run.clone(),
            attempt: run.attempt,
            user: run.user.as_str().to_owned(),
            agent: run.agent.as_str().to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::ids::{Agent, Thread, User};

    fn queued(user: &str, agent: &str) -> Queued {
        let run = RunId::parse(&format!("run_{user}_00000001")).unwrap();
        Queued { run, attempt: 0, user: user.into(), agent: agent.into() }
    }

    fn offer(user: &str) -> Vec<(String, String)> {
        vec![(user.to_owned(), "write".to_owned())]
    }

    #[test]
    fn nobody_is_passed_over_twice_by_the_same_user() {
        let mut fair = Fair::default();
        fair.pass(&offer("ann"), vec![queued("bob", "write")]);
        assert!(fair.judge(&offer("cid"), &[queued("bob", "write")]).is_ok(), "cid had its turn to come");
        assert!(fair.judge(&offer("ann"), &[queued("bob", "write")]).is_err());
        assert!(fair.judge(&offer("ann"), &[queued("bob", "check")]).is_ok(), "no worker was free for that");
    }

    /// Whether a run of `ann` may be offered: her runs, by their threads, priorities and workers, come in
    /// this order, and the last of them is the one.
    fn may_be_offered(runs: &[(&str, &str, Option<&str>)]) -> bool {
        let (agent, user) = (Agent::parse("write").unwrap(), User::parse("ann").unwrap());
        let owned: Vec<_> = (0_u32..)
            .zip(runs)
            .map(|(n, (thread, ..))| {
                (RunId::parse(&format!("run_t_{n:08x}")).unwrap(), Thread::parse(thread).unwrap())
            })
            .collect();
        let views: Vec<RunView<'_>> = owned
            .iter()
            .zip(runs)
            .zip(0..)
            .map(|(((run, thread), (_, _, worker)), ordinal)| RunView {
                run,
                user: &user,
                state: if worker.is_some() { "dispatched" } else { "queued" },
                attempt: 1,
                ordinal,
                thread,
                agent: &agent,
                is_rested: worker.is_none(),
                is_ready: worker.is_none(),
                worker: *worker,
            })
            .collect();
        let mut ranks = Ranks::default();
        for (n, (view, (_, priority, _))) in views.iter().zip(runs).enumerate() {
            ranks.accepted(WallMs(1), &views[..=n], view.run.as_str(), priority, &BTreeSet::new());
        }
        overtakes_none(views.last().unwrap(), &views, &ranks).is_ok()
    }

    #[test]
    fn a_user_s_runs_start_by_priority_and_age() {
        let w = Some("w");
        assert!(!may_be_offered(&[("a", "normal", None), ("b", "low", w)]));
        assert!(!may_be_offered(&[("a", "normal", None), ("b", "normal", w)]));
        assert!(may_be_offered(&[("a", "normal", None), ("b", "high", w)]));
        assert!(
            may_be_offered(&[("a", "low", w), ("a", "high", None), ("b", "normal", w)]),
            "it is not free"
        );
        let behind = [("a", "low", None), ("a", "high", None), ("b", "normal", w)];
        assert!(may_be_offered(&behind), "an urgent run waits for those of its thread");
    }

    #[test]
    fn a_run_goes_behind_one_of_its_thread_that_ends_right_after_it_has_come() {
        let (agent, user) = (Agent::parse("write").unwrap(), User::parse("ann").unwrap());
        let threads = ["a", "b", "a"].map(|name| Thread::parse(name).unwrap());
        let ids = [0, 1, 2].map(|n| RunId::parse(&format!("run_t_{n:08x}")).unwrap());
        let view = |n: usize, state| RunView {
            run: &ids[n],
            user: &user,
            state,
            attempt: 0,
            ordinal: n as u64,
            thread: &threads[n],
            agent: &agent,
            is_rested: true,
            is_ready: true,
            worker: None,
        };
        for (ended, is_before) in [(BTreeSet::from([ids[0].as_str()]), true), (BTreeSet::new(), false)] {
            let (mut ranks, queued) = (Ranks::default(), [view(0, "queued"), view(1, "queued")]);
            for run in &queued {
                ranks.accepted(WallMs(1), &queued, run.run.as_str(), "normal", &BTreeSet::new());
            }
            let runs = [view(0, "ended"), view(1, "queued"), view(2, "queued")];
            ranks.accepted(WallMs(1), &runs, ids[2].as_str(), "high", &ended);
            assert_eq!(ranks.is_before(&runs[1], &runs[2]), Some(is_before), "{ended:?}");
        }
    }

    #[test]
    fn who_has_stopped_waiting_meanwhile_begins_anew() {
        let mut fair = Fair::default();
        fair.pass(&offer("ann"), vec![queued("bob", "write")]);
        fair.pass(&offer("cid"), vec![]);
        assert!(fair.judge(&offer("ann"), &[queued("bob", "write")]).is_ok());
    }
}
