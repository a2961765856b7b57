//! O9, for PROTOCOL §1 "its runs go one at a time, in order" and §5 `ahead`: nobody waits who could start.
//! When a step is over there is no run that is the first of its thread, whose daemon, user and agent are
//! below their limits, and for which a worker has room: whatever has made room for it (an end, a question, a
//! new worker, a delay or a breaker's pause that is over) has started it.
//!
//! And for REQUIREMENTS B14: of an agent whose breaker has opened nothing is started in its pause; then one
//! run at a time, until the topic `agents` says that it is closed. When a breaker opens is known from there
//! (while the store is full nothing is), and else taken from the core.

use crate::said::Said;
use crate::told;
use runcast_core::config::Config;
use runcast_core::effect::Effect;
use runcast_core::input::Input;
use runcast_core::record::Record;
use runcast_core::time::Mono;
use runcast_core::{Core, RunView};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// What the topic `agents` says of a breaker.
#[derive(Debug, Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    agent: &'a str,
}

/// Looks at who waits, in one process of the daemon.
#[derive(Debug, Default)]
pub struct Idle {
    is_full: bool,
    /// What is given to the store in this step may be older: the store is full, or was so before it.
    is_late: bool,
    /// Agents whose breakers have opened and not closed again, and until when nothing of them is started.
    rests: BTreeMap<String, Mono>,
    /// How many runs wait, how many are with workers, and how many of these there are.
    before: (usize, usize, usize),
}

impl Idle {
    /// An input is about to be handled.
    pub fn look(&mut self, input: &Input<'_>) {
        self.is_late = self.is_full;
        match input {
            Input::Appended { .. } => self.is_full = false,
            Input::AppendFailed { .. } => {
                // What opens and closes is told late.
                (self.is_full, self.is_late) = (true, true);
                self.rests.clear();
            }
            Input::Opened { .. }
            | Input::Request { .. }
            | Input::Body { .. }
            | Input::BadHead { .. }
            | Input::Message { .. }
            | Input::Verified { .. }
            | Input::Flushed { .. }
            | Input::Closed { .. }
            | Input::Loaded { .. }
            | Input::Timer
            | Input::Called { .. }
            | Input::Memory { .. }
            | Input::BackedUp { .. }
            | Input::Drain => {}
        }
    }

    /// Something leaves the core.
    pub fn hear(&mut self, now: Mono, effect: &Effect, config: &Config) {
        let Effect::Append { records, .. } = effect else { return };
        for record in records.iter() {
            let Record::Event { stream, bytes, .. } = record else { continue };
            let kind = told::event(bytes);
            if !stream.0.ends_with(":agents") || !kind.starts_with("breaker_") {
                continue;
            }
            let said = std::str::from_utf8(bytes).ok().and_then(|text| Said::read(text).ok());
            let data = said.and_then(|said| said.data);
            let Some(Told { agent }) = data.and_then(|data| serde_json::from_str(data.get()).ok()) else {
                continue;
            };
            if kind == "breaker_opened" && !self.is_late {
                self.rests.insert(agent.to_owned(), now + config.breaker.open);
            } else {
                self.rests.remove(agent);
            }
        }
    }

    /// Ends a step in which these runs were offered to workers, or in which time has gone by.
    ///
    /// # Errors
    /// Who was started too early, or not at all.
    pub fn settle(
        &mut self,
        now: Mono,
        core: &Core,
        offered: &[String],
        is_timer: bool,
    ) -> Result<(), String> {
        let view = core.inspect();
        let after = (view.queued(), view.active(), view.workers());
        let has_changed = std::mem::replace(&mut self.before, after) != after;
        if self.is_full {
            let told = |run| Err(format!("{run} is offered while the store is full"));
            return offered.first().map_or(Ok(()), told);
        }
        if view.is_draining() || !(has_changed || is_timer && after.0 > 0 || !offered.is_empty()) {
            return Ok(());
        }
        let runs: Vec<RunView<'_>> = view.runs().collect();
        self.rested(now, &runs, offered)?;
        match waits(&runs, view.config(), |run| self.may_start(now, &runs, run))
            .find(|run| view.room_for(run.agent) > 0)
        {
            Some(run) => Err(format!("{} of {} could start, and waits: {run:?}", run.run, run.user)),
            None => Ok(()),
        }
    }

    /// Whether nothing was started of an agent that rests, and of one that tries again one run alone.
    fn rested(&self, now: Mono, runs: &[RunView<'_>], offered: &[String]) -> Result<(), String> {
        for run in runs.iter().filter(|run| offered.iter().any(|id| id == run.run.as_str())) {
            let Some(until) = self.rests.get(run.agent.as_str()) else { continue };
            if now < *until {
                let ms = until.since(now).as_millis();
                return Err(format!(
                    "{} is offered {ms} ms before the pause of {} is over",
                    run.run, run.agent
                ));
            }
            let count = active_of(runs, run);
            if count > 1 {
                return Err(format!("{} is the run {count} of {}, which tries one", run.run, run.agent));
            }
        }
        Ok(())
    }

    /// Whether the breaker of a run's agent lets one more start: what is known of it, else what the core
    /// says.
    fn may_start(&self, now: Mono, runs: &[RunView<'_>], run: &RunView<'_>) -> bool {
        match self.rests.get(run.agent.as_str()) {
            Some(until) => *until <= now && active_of(runs, run) == 0,
            None => run.is_ready,
        }
    }
}

/// The runs that count of the agent of this one.
fn active_of(runs: &[RunView<'_>], run: &RunView<'_>) -> usize {
    runs.iter().filter(|other| other.agent == run.agent && is_active(other)).count()
}

fn is_active(run: &RunView<'_>) -> bool {
    run.worker.is_some() && run.state != "waiting"
}

/// The runs that could start if a worker had room for them.
fn waits<'a>(
    runs: &'a [RunView<'a>],
    config: &'a Config,
    may_start: impl Fn(&RunView<'_>) -> bool + 'a,
) -> impl Iterator<Item = &'a RunView<'a>> {
    let mut active: BTreeMap<&str, usize> = BTreeMap::new();
    let mut by_agent: BTreeMap<&str, usize> = BTreeMap::new();
    let mut busy = BTreeSet::new();
    let mut first: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for run in runs {
        let thread = (run.user.as_str(), run.thread.as_str());
        if is_active(run) {
            *active.entry(run.user.as_str()).or_default() += 1;
            *by_agent.entry(run.agent.as_str()).or_default() += 1;
        }
        if run.worker.is_some() {
            busy.insert(thread);
        }
        if run.state == "queued" {
            let oldest = first.entry(thread).or_insert(run.ordinal);
            *oldest = run.ordinal.min(*oldest);
        }
    }
    let is_full = active.values().sum::<usize>() >= config.runs.active;
    runs.iter().filter(move |run| {
        let thread = (run.user.as_str(), run.thread.as_str());
        let of_agent = by_agent.get(run.agent.as_str()).copied().unwrap_or(0);
        let agent_max = config.agents.get(run.agent).and_then(|agent| agent.active).unwrap_or(usize::MAX);
        run.is_rested
            && !is_full
            && active.get(thread.0).copied().unwrap_or(0) < config.runs.active_per_user
            && of_agent < agent_max
            && !busy.contains(&thread)
            && first.get(&thread) == Some(&run.ordinal)
            && may_start(run)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::config::Runs;
    use runcast_core::ids::{Agent, AppendId, RunId, Thread, User};
    use runcast_core::record::StreamKey;

    /// A run: its number, user, thread and worker, if it has one.
    type Of = (u32, &'static str, &'static str, Option<&'static str>);

    /// What is found among these runs, of one agent each.
    fn with<T>(runs: &[Of], found: impl FnOnce(&[RunView<'_>]) -> T) -> T {
        let agent = Agent::parse("write").unwrap();
        let owned: Vec<_> = runs
            .iter()
            .map(|(n, user, thread, worker)| {
                let run = RunId::parse(&format!("run_t_{n:08x}")).unwrap();
                (u64::from(*n), run, User::parse(user).unwrap(), Thread::parse(thread).unwrap(), *worker)
            })
            .collect();
        let views: Vec<RunView<'_>> = owned
            .iter()
            .map(|(ordinal, run, user, thread, worker)| RunView {
                run,
                user,
                state: if worker.is_some() { "running" } else { "queued" },
                attempt: 1,
                ordinal: *ordinal,
                thread,
                agent: &agent,
                is_rested: worker.is_none(),
                is_ready: worker.is_none(),
                worker: *worker,
            })
            .collect();
        found(&views)
    }

    /// Which of these wait for a worker alone, where the daemon may have three runs and a user two.
    fn waiting(runs: &[Of]) -> Vec<u64> {
        let runs_max = Runs { active: 3, active_per_user: 2, ..Runs::default() };
        let config = Config { runs: runs_max, ..Config::default() };
        with(runs, |runs| waits(runs, &config, |_| true).map(|run| run.ordinal).collect())
    }

    #[test]
    fn who_waits_for_nothing_but_a_worker_is_known() {
        let busy = Some("w");
        assert_eq!(waiting(&[(1, "ann", "t", None), (2, "ann", "t", None)]), [1], "the first of its thread");
        assert!(waiting(&[(1, "ann", "t", busy), (2, "ann", "t", None)]).is_empty(), "one at a time");
        assert_eq!(waiting(&[(1, "ann", "t", busy), (2, "ann", "s", None), (3, "bob", "t", None)]), [2, 3]);
        assert!(waiting(&[(1, "ann", "t", busy), (2, "ann", "s", busy), (3, "ann", "r", None)]).is_empty());
        let all = [(1, "a", "t", busy), (2, "b", "t", busy), (3, "c", "t", busy), (4, "d", "t", None)];
        assert!(waiting(&all).is_empty());
    }

    #[test]
    fn an_agent_rests_and_then_tries_one() {
        let (mut idle, config) = (Idle::default(), Config::default());
        let tell = |idle: &mut Idle, event: &str| {
            let text = format!(
                "{{\"type\":\"event\",\"topic\":\"agents\",\"seq\":1,\"ts\":1,\"event\":\"{event}\",\
                 \"data\":{{\"agent\":\"write\",\"open_ms\":30000}}}}"
            );
            let stream = StreamKey("t:e:agents".into());
            let record = Record::Event { stream, seq: 1, bytes: text.into() };
            let append = Effect::Append { id: AppendId(1), records: [record].into() };
            idle.hear(Mono(0), &append, &config);
        };
        let judge = |idle: &Idle, ms: u64, runs: &[Of]| {
            let offered = [String::from("run_t_00000001")];
            with(runs, |runs| idle.rested(Mono(ms * 1_000), runs, &offered).is_ok())
        };
        let (one, two) = ((1, "ann", "t", Some("w")), (2, "bob", "t", Some("w")));
        assert!(judge(&idle, 0, &[one]));
        tell(&mut idle, "breaker_opened");
        assert!(!judge(&idle, 29_999, &[one]));
        assert!(judge(&idle, 30_000, &[one]) && !judge(&idle, 30_000, &[one, two]));
        let may = |ms: u64, runs: &[Of]| {
            with(runs, |runs| idle.may_start(Mono(ms * 1_000), runs, runs.last().unwrap()))
        };
        let queued = (3, "cid", "t", None);
        assert!(!may(29_999, &[queued]) && may(30_000, &[queued]) && !may(30_000, &[one, queued]));
        tell(&mut idle, "breaker_closed");
        assert!(judge(&idle, 30_000, &[one, two]));
    }
}
