//! O31, for PROTOCOL §5 `position`, `ahead` and REQUIREMENTS A11, N3: a run stands where it is told to stand,
//! by `accepted`, by its first event and by the notice `queue`.
//!
//! Users take turns, so before a run with so many older ones of its user come as many of everybody, and one
//! more of those whose turn is earlier. Whose it is cannot be seen from outside, which leaves two bounds; of
//! what is told in one step no two runs stand at the same place. What keeps a run from starting at once can
//! be seen: a run that nothing keeps is told so, and none that something does.

use super::fair::Ranks;
use crate::told;
use runcast_core::config::Runs;
use runcast_core::effect::Effect;
use runcast_core::ids::AppendId;
use runcast_core::input::Input;
use runcast_core::record::Record;
use runcast_core::time::WallMs;
use runcast_core::{Core, RunView};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// A run's first event, as far as it tells of its place.
#[derive(Debug, Deserialize)]
struct Queued<'a> {
    #[serde(borrow)]
    run: &'a str,
    #[serde(borrow)]
    data: Place<'a>,
}

#[derive(Debug, Deserialize)]
struct Place<'a> {
    position: u64,
    #[serde(borrow)]
    priority: &'a str,
}

/// A run's last event, as far as it tells whose.
#[derive(Debug, Deserialize)]
struct Ended<'a> {
    #[serde(borrow)]
    run: &'a str,
}

/// `accepted`, or the notice `queue`.
#[derive(Debug, Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    run: &'a str,
    position: u64,
    ahead: u64,
    waiting: Option<usize>,
    #[serde(default)]
    duplicate: bool,
}

/// A run that is not known to be durable.
#[derive(Debug)]
struct Coming {
    append: AppendId,
    /// What its first event says.
    position: u64,
}

/// What runs are told of their places, in one process of the daemon.
#[derive(Debug, Default)]
pub struct Places {
    coming: BTreeMap<String, Coming>,
    /// Those that became durable in this step: now they are told.
    durable: BTreeMap<String, Coming>,
    /// How many runs waited, and how many were with workers, when the step before was over.
    before: (usize, usize),
}

impl Places {
    /// An input is about to be handled.
    pub fn look(&mut self, input: &Input<'_>) {
        self.durable.clear();
        if let Input::Appended { upto } = input {
            let (durable, coming) =
                std::mem::take(&mut self.coming).into_iter().partition(|(_, coming)| coming.append <= *upto);
            (self.durable, self.coming) = (durable, coming);
        }
    }

    /// Ends a step. `is_offered` is whether runs were offered in it. Where more has happened than was told,
    /// what was told may have been so before.
    ///
    /// # Errors
    /// Who is told a wrong place.
    pub fn settle(
        &mut self,
        core: &Core,
        wall: WallMs,
        effects: &[Effect],
        is_offered: bool,
        ranks: &mut Ranks,
    ) -> Result<(), String> {
        let view = core.inspect();
        let after = (view.queued(), view.active());
        let before = std::mem::replace(&mut self.before, after);
        let is_one_more = !is_offered && after == (before.0 + 1, before.1);
        let mut noticed: Vec<Told<'_>> = Vec::new();
        for effect in effects {
            if let Effect::Append { id, records } = effect {
                for (at, queued) in records.iter().enumerate() {
                    let Some(queued) = first_event(queued) else { continue };
                    let ended = records[at..].iter().filter_map(last_event).collect::<Result<_, _>>()?;
                    self.queued(core, wall, *id, (&queued?, &ended), is_one_more, ranks)?;
                }
            }
            let Effect::Send { text, .. } = effect else { continue };
            if text.starts_with(b"{\"type\":\"accepted\"") {
                self.accepted(&read(text)?)?;
            } else if text.starts_with(b"{\"type\":\"notice\",\"notice\":\"queue\"") {
                noticed.push(read(text)?);
            }
        }
        if noticed.is_empty() || is_offered || before != after {
            return Ok(());
        }
        let runs: Vec<RunView<'_>> = view.runs().collect();
        notices(&runs, &noticed, ranks)
    }

    /// A run is accepted, and after it in the same step others have ended.
    fn queued(
        &mut self,
        core: &Core,
        wall: WallMs,
        append: AppendId,
        (told, ended): (&Queued<'_>, &BTreeSet<&str>),
        is_alone: bool,
        ranks: &mut Ranks,
    ) -> Result<(), String> {
        let position = told.data.position;
        let is_known = self.coming.insert(told.run.to_owned(), Coming { append, position }).is_some();
        // A store that was full is given it again.
        if is_known {
            return Ok(());
        }
        let view = core.inspect();
        let runs: Vec<RunView<'_>> = view.runs().collect();
        ranks.accepted(wall, &runs, told.run, told.data.priority, ended);
        let Some(run) = runs.iter().find(|run| run.run.as_str() == told.run).filter(|_| is_alone) else {
            return Ok(());
        };
        let coming: Vec<(&RunView<'_>, u64)> = runs
            .iter()
            .filter(|other| other.run != run.run && other.state == "queued")
            .filter_map(|other| Some((other, self.coming.get(other.run.as_str())?.position)))
            .collect();
        let config = view.config();
        let agent_max = config.agents.get(run.agent).and_then(|agent| agent.active).unwrap_or(usize::MAX);
        let room = Room { runs: &runs, limits: &config.runs, agent_max, slots: view.room_for(run.agent) };
        let promised: Vec<&RunView<'_>> =
            coming.iter().filter(|(_, position)| *position == 0).map(|(other, _)| *other).collect();
        let coming: Vec<&RunView<'_>> = coming.into_iter().map(|(other, _)| other).collect();
        let of_agent = coming.iter().filter(|other| other.agent == run.agent).count();
        match position {
            0 if !room.is_for(run, &promised) => Err(format!("{run:?} is told that it starts at once")),
            0 => Ok(()),
            // Of an agent that is tried out again after a pause one run starts at a time.
            _ if room.is_for(run, &coming) && view.may_start(run.agent, of_agent) => {
                Err(format!("{run:?} starts at once, and is told that its position is {position}"))
            }
            _ => stands(&runs, run, position, ranks),
        }
    }

    /// Whoever has asked for a run is told that it is accepted, as its first event says.
    fn accepted(&self, told: &Told<'_>) -> Result<(), String> {
        if told.ahead != told.position.saturating_sub(1) {
            return Err(format!("{told:?}: a position is one more than those ahead"));
        }
        match self.durable.get(told.run).filter(|_| !told.duplicate) {
            Some(Coming { position, .. }) if *position != told.position => {
                Err(format!("{told:?}: its first event says {position}"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What is left for runs to start with.
struct Room<'a> {
    runs: &'a [RunView<'a>],
    limits: &'a Runs,
    agent_max: usize,
    slots: usize,
}

impl Room<'_> {
    /// Whether there is some for a run, and its thread is idle, if each of `others` takes its part.
    fn is_for(&self, run: &RunView<'_>, others: &[&RunView<'_>]) -> bool {
        let active = self.runs.iter().filter(|other| other.worker.is_some() && other.state != "waiting");
        let taken: Vec<&RunView<'_>> = active.chain(others.iter().copied()).collect();
        let of_user = taken.iter().filter(|other| other.user == run.user).count();
        let of_agent = taken.iter().filter(|other| other.agent == run.agent).count();
        let others = others.iter().filter(|other| other.agent == run.agent).count();
        let is_on_thread = |other: &RunView<'_>| {
            other.run != run.run && other.user == run.user && other.thread == run.thread
        };
        let is_alive = |other: &RunView<'_>| other.worker.is_some() || other.state == "queued";
        taken.len() < self.limits.active
            && of_user < self.limits.active_per_user
            && of_agent < self.agent_max
            && others < self.slots
            && !self.runs.iter().any(|other| is_on_thread(other) && is_alive(other))
    }
}

/// What notices of one step say.
fn notices(runs: &[RunView<'_>], told: &[Told<'_>], ranks: &Ranks) -> Result<(), String> {
    let waiting = runs.iter().filter(|run| run.state == "queued").count();
    let mut at: BTreeMap<u64, &str> = BTreeMap::new();
    for told in told {
        let Some(run) = runs.iter().find(|run| run.run.as_str() == told.run) else { continue };
        if told.waiting != Some(waiting) {
            return Err(format!("{told:?}: {waiting} are queued"));
        }
        if (told.position == 0) != (run.state != "queued") || told.ahead != told.position.saturating_sub(1) {
            return Err(format!("{told:?}: it is {}", run.state));
        }
        if told.position == 0 {
            continue;
        }
        stands(runs, run, told.position, ranks)?;
        let other = at.insert(told.position, told.run).filter(|other| *other != told.run);
        if let Some(other) = other {
            return Err(format!("{told:?}: {other} is told the same"));
        }
    }
    Ok(())
}

/// Judges the position of a queued run.
fn stands(runs: &[RunView<'_>], run: &RunView<'_>, position: u64, ranks: &Ranks) -> Result<(), String> {
    let (least, most) = bounds(runs, run, ranks);
    if (least..=most).contains(&position) {
        return Ok(());
    }
    Err(format!("{} is told position {position}, not one of {least} to {most}: {run:?}", run.run))
}

/// The first and the last position that a queued run may have.
fn bounds(runs: &[RunView<'_>], run: &RunView<'_>, ranks: &Ranks) -> (u64, u64) {
    let (mut least, mut most) = (0, 0);
    let mut others: BTreeMap<&str, u64> = BTreeMap::new();
    for other in runs.iter().filter(|other| other.state == "queued" && other.run != run.run) {
        if other.user != run.user {
            *others.entry(other.user.as_str()).or_default() += 1;
            continue;
        }
        let is_before = ranks.is_before(other, run);
        least += u64::from(is_before == Some(true));
        most += u64::from(is_before != Some(false));
    }
    let turns = |index: u64| others.values().map(|waiting| waiting.min(&index)).sum::<u64>();
    (least + turns(least) + 1, most + turns(most + 1) + 1)
}

/// The first event of a run that is given to the store.
fn first_event(record: &Record) -> Option<Result<Queued<'_>, String>> {
    let Record::Event { bytes, .. } = record else { return None };
    (told::event(bytes) == "run_queued").then(|| read(bytes))
}

/// Whose last event is given to the store: one connection may ask for a run and cancel another in one step.
fn last_event(record: &Record) -> Option<Result<&str, String>> {
    let Record::Event { bytes, .. } = record else { return None };
    (told::event(bytes) == "agent_completed").then(|| read::<Ended<'_>>(bytes).map(|ended| ended.run))
}

fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| format!("{error}: {}", String::from_utf8_lossy(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::ids::{Agent, RunId, Thread, User};

    /// Judges what queued runs are told. Of each is given its user and its priority; it is numbered by its
    /// place here.
    fn judge(runs: &[(&str, &str)], told: &[(usize, u64)]) -> Result<(), String> {
        let agent = Agent::parse("write").unwrap();
        let id = |n: usize| RunId::parse(&format!("run_t{n}_{n:08x}")).unwrap();
        let owned: Vec<_> = runs
            .iter()
            .enumerate()
            .map(|(n, (user, _))| {
                (id(n), User::parse(user).unwrap(), Thread::parse(&format!("t{n}")).unwrap())
            })
            .collect();
        let views: Vec<RunView<'_>> = owned
            .iter()
            .zip(0..)
            .map(|((run, user, thread), ordinal)| RunView {
                run,
                user,
                state: "queued",
                attempt: 0,
                ordinal,
                thread,
                agent: &agent,
                is_rested: true,
                is_ready: true,
                worker: None,
            })
            .collect();
        let mut ranks = Ranks::default();
        for (view, (_, priority)) in views.iter().zip(runs) {
            ranks.accepted(WallMs(1), &views, view.run.as_str(), priority, &BTreeSet::new());
        }
        let waiting = Some(views.len());
        let told: Vec<Told<'_>> = told
            .iter()
            .map(|(n, position)| {
                let (run, position) = (owned[*n].0.as_str(), *position);
                Told { run, position, ahead: position.saturating_sub(1), waiting, duplicate: false }
            })
            .collect();
        notices(&views, &told, &ranks)
    }

    #[test]
    fn a_user_s_own_runs_go_by_priority_and_age() {
        let runs = [("ann", "low"), ("ann", "normal"), ("ann", "high"), ("ann", "normal")];
        assert!(judge(&runs, &[(0, 4), (1, 2), (2, 1), (3, 3)]).is_ok());
        for wrong in [(0, 1), (1, 1), (2, 3), (3, 4), (3, 0)] {
            assert!(judge(&runs, &[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn users_take_turns_and_stand_at_places_of_their_own() {
        let runs = [("ann", "normal"), ("ann", "normal"), ("ann", "normal"), ("bob", "normal")];
        assert!(judge(&runs, &[(0, 1), (3, 2), (1, 3), (2, 4)]).is_ok());
        assert!(judge(&runs, &[(3, 1), (0, 2)]).is_ok(), "whose turn is first is not judged");
        assert!(judge(&runs, &[(3, 1), (0, 1)]).is_err(), "but one is");
        assert!(judge(&runs, &[(3, 4)]).is_err(), "it has waited for one of hers");
        assert!(judge(&runs, &[(2, 3)]).is_err(), "bob has had a turn by then");
    }
}
