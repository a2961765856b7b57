//! The proof that the oracles see: every planted bug (`runcast_core::planted`) must be reported, each by a
//! world of the same swarm that reports nothing without it.

use crate::plan::Plan;
use crate::play::Which;
use crate::swarm::{Failure, play};
use crate::trace::Show;
use runcast_core::planted::{Bug, Planted};
use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
use std::collections::BTreeMap;
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
    /// What worlds before it reported that do so without the bug, too: these show nothing of it.
    pub without: Vec<Failure>,
}

/// A daemon with a bug.
#[cfg(debug_assertions)]
fn plant(bug: Bug) -> Planted {
    Planted::bug(bug)
}

/// This build has no bugs.
#[cfg(not(debug_assertions))]
fn plant(_: Bug) -> Planted {
    Planted::default()
}

/// What a seed means where the daemon has a bug, if this is one.
pub fn plan(world: Which, seed: u64, bug: Option<Bug>) -> Plan {
    Plan { planted: bug.map(plant).unwrap_or_default(), ..Plan::draw_for(world, seed) }
}

/// The bug that is planted.
fn bug_of(planted: Planted) -> Option<Bug> {
    Bug::ALL.iter().copied().find(|bug| planted.is(*bug))
}

/// What `cargo sim run` must be told for it.
pub fn flag(planted: Planted) -> String {
    bug_of(planted).map(|bug| format!(" --bug {}", bug.as_str())).unwrap_or_default()
}

/// Writes a bug's name, or nothing.
///
/// # Errors
/// Of the serializer.
pub fn serialize<S: Serializer>(planted: &Planted, serializer: S) -> Result<S::Ok, S::Error> {
    bug_of(*planted).map(Bug::as_str).serialize(serializer)
}

/// Reads it.
///
/// # Errors
/// There is no such bug.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Planted, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    name.map_or(Ok(Planted::default()), |name| named(&name).map(plant).map_err(D::Error::custom))
}

/// Looks for one bug in the worlds of the seeds from 0 on, at most so many. A world that reports something
/// without it as well has not seen it.
pub fn hunt(world: Which, bug: Bug, seeds_max: u64) -> Hunt {
    hunt_in(bug, seeds_max, |seed, bug| play(&plan(world, seed, bug), Show::Hash).err())
}

/// The same, by what `report` says of a seed's world with a bug or without.
fn hunt_in(
    bug: Bug,
    seeds_max: u64,
    mut report: impl FnMut(u64, Option<Bug>) -> Option<Box<Failure>>,
) -> Hunt {
    let mut without = Vec::new();
    let caught = (0..seeds_max).find_map(|seed| {
        let failure = report(seed, Some(bug))?;
        match report(seed, None) {
            None => Some(failure),
            Some(also) => {
                without.push(*also);
                None
            }
        }
    });
    let seeds = caught.as_ref().map_or(seeds_max, |failure| failure.seed + 1);
    Hunt { bug, seeds, caught, without }
}

/// Looks for these bugs on `jobs` threads. `progress` is told of each that is done, in whatever order; they
/// are returned in the order in which they were asked for.
///
/// # Panics
/// If a thread does: the panic of a world is a report, not one of these.
pub fn hunt_all(
    world: Which,
    bugs: &[Bug],
    seeds_max: u64,
    jobs: usize,
    progress: &(dyn Fn(&Hunt) + Sync),
) -> Vec<Hunt> {
    let next = Mutex::new(bugs.iter().enumerate());
    let done: Mutex<Vec<(usize, Hunt)>> = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some((index, bug)) = next.lock().expect("no thread panics with it").next() else { return };
            let hunt = hunt(world, *bug, seeds_max);
            progress(&hunt);
            done.lock().expect("no thread panics with it").push((index, hunt));
        }
    };
    thread::scope(|scope| (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
    let mut done = done.into_inner().expect("no thread panics with it");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, hunt)| hunt).collect()
}

/// The hunts as a table: each bug, what it is, the oracle that saw it, and how many seeds that took; then the
/// worlds that need no bug to report something, once each.
pub fn table(hunts: &[Hunt]) -> String {
    let mut text = format!("{:<24} {:<6} {:>5}  what it is\n", "bug", "oracle", "seeds");
    for Hunt { bug, seeds, caught, .. } in hunts {
        let oracle = caught.as_ref().map_or("NONE", |failure| failure.violation.oracle);
        text += &format!("{:<24} {oracle:<6} {seeds:>5}  {}\n", bug.as_str(), bug.what());
    }
    let without = hunts.iter().flat_map(|hunt| &hunt.without);
    let without: BTreeMap<u64, &Failure> = without.map(|failure| (failure.seed, failure)).collect();
    for Failure { violation, reproduce, .. } in without.values() {
        text += &format!("without any bug: {violation}\nreproduce: {reproduce}\n");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracles::Violation;

    fn failure(seed: u64, oracle: &'static str) -> Box<Failure> {
        let violation = Violation { at: 0, oracle, user: None, what: "it is wrong".to_owned() };
        let reproduce = format!("cargo sim run --seed {seed}");
        Box::new(Failure { seed, violation, lines: Vec::new(), reproduce })
    }

    #[test]
    fn a_world_that_needs_no_bug_to_fail_has_not_seen_it() {
        let hunt = hunt_in(Bug::AckBeforeAppend, 9, |seed, bug| match (seed, bug) {
            (2, _) => Some(failure(2, "O1")),
            (4, Some(_)) => Some(failure(4, "O16")),
            _ => None,
        });
        assert_eq!(hunt.seeds, 5);
        assert_eq!(hunt.caught.as_ref().unwrap().violation.oracle, "O16");
        assert_eq!(hunt.without.iter().map(|failure| failure.seed).collect::<Vec<_>>(), [2]);
        let table = table(&[hunt.clone(), hunt]);
        assert_eq!(table.matches("without any bug: O1").count(), 1, "{table}");
        assert!(table.ends_with("reproduce: cargo sim run --seed 2\n"), "{table}");
    }
}
