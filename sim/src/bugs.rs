//! The proof that the oracles see: every planted bug (`runcast_core::planted`) must be reported, each by a world of the
//! same swarm that reports nothing without it.

use crate::plan::Plan;
use crate::swarm::{Failure, run_plan};
use crate::trace::Show;
use runcast_core::planted::{Bug, Planted};
use std::sync::Mutex;
use std::thread;

/// What came of looking for a bug.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// What was planted.
    pub bug: Bug,
    /// Worlds that were looked at, from seed 0 on.
    pub seeds: u64,
    /// What the last of them reported; `None` if the bug was seen in none.
    pub caught: Option<Box<Failure>>,
}

/// The world of a seed whose daemon has a bug.
#[cfg(debug_assertions)]
pub fn plan(seed: u64, bug: Bug) -> Plan {
    Plan { planted: Planted::bug(bug), ..Plan::draw(seed) }
}

/// The world of a seed: this build has no bugs.
#[cfg(not(debug_assertions))]
pub fn plan(seed: u64, _: Bug) -> Plan {
    Plan { planted: Planted::default(), ..Plan::draw(seed) }
}

/// Looks for one bug in the worlds of the seeds from 0 on, at most so many.
pub fn hunt(bug: Bug, seeds_max: u64) -> Hunt {
    let caught = (0..seeds_max).find_map(|seed| run_plan(plan(seed, bug), Show::Hash).err());
    let seeds = caught.as_ref().map_or(seeds_max, |failure| failure.seed + 1);
    Hunt { bug, seeds, caught }
}

/// Looks for these bugs on `jobs` threads. `progress` is told of each that is done, in whatever order; they are returned in
/// the order in which they were asked for.
///
/// # Panics
/// If a thread does: the panic of a world is a report, not one of these.
pub fn hunt_all(bugs: &[Bug], seeds_max: u64, jobs: usize, progress: &(dyn Fn(&Hunt) + Sync)) -> Vec<Hunt> {
    let next = Mutex::new(bugs.iter().enumerate());
    let done: Mutex<Vec<(usize, Hunt)>> = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some((index, bug)) = next.lock().expect("no thread panics with it").next() else { return };
            let hunt = hunt(*bug, seeds_max);
            progress(&hunt);
            done.lock().expect("no thread panics with it").push((index, hunt));
        }
    };
    thread::scope(|scope| (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
    let mut done = done.into_inner().expect("no thread panics with it");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, hunt)| hunt).collect()
}

/// The hunts as a table: each bug, what it is, the oracle that saw it, and how many seeds that took.
pub fn table(hunts: &[Hunt]) -> String {
    let mut text = format!("{:<24} {:<6} {:>5}  what it is\n", "bug", "oracle", "seeds");
    for Hunt { bug, seeds, caught } in hunts {
        let oracle = caught.as_ref().map_or("NONE", |failure| failure.violation.oracle);
        text += &format!("{:<24} {oracle:<6} {seeds:>5}  {}\n", bug.as_str(), bug.what());
    }
    text
}

/// The bug of this name.
///
/// # Errors
/// All names, if it is none of them.
pub fn named(name: &str) -> Result<Bug, String> {
    let found = Bug::ALL.iter().copied().find(|bug| bug.as_str() == name);
    let all = || Bug::ALL.iter().map(|bug| bug.as_str()).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| format!("expected one of {}", all()))
}
