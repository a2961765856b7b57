//! A12 of REQUIREMENTS: every critical event arrives at 10 %, 14 % and 50 % network failures, and across
//! partitions.
//!
//! The worlds are those of the swarm with a network that fails so often: of all traffic so many pieces in a
//! hundred are lost, and each zone is cut off for so many hundredths of the time. Daemon and disk are left
//! alone, since the swarm is there for them.

use crate::dice::Dice;
use crate::faults::Fault;
use crate::pipe::{Way, ZONES};
use crate::plan::Plan;
use crate::schedule::{Micros, SECOND};
use crate::swarm::{Failure, play_and_explain};
use crate::world::Summary;
use std::fmt;
use std::ops::Range;

/// How long a zone is cut off at a time.
const CUT: Micros = 2 * SECOND;

/// What came of the worlds with one rate of failure.
#[derive(Debug)]
pub struct Figures {
    /// Of a hundred pieces of traffic so many were lost, and of a hundred seconds so many cut off.
    pub percent: u64,
    /// How many worlds there were.
    pub seeds: u64,
    /// What happened in them.
    pub total: Summary,
}

/// The plan of a seed with a network that fails.
pub fn plan(seed: u64, percent: u64) -> Plan {
    let mut dice = Dice::new(seed, 12);
    let mut plan = Plan { loss: percent, broken: Vec::new(), ..Plan::draw(seed) };
    plan.faults.retain(|(_, fault)| {
        matches!(fault, Fault::Reset { .. } | Fault::Hole { .. } | Fault::Slowness { .. } | Fault::DropAll)
    });
    for zone in 0..ZONES {
        for slot in 0..plan.heal_at / CUT {
            if dice.chance(percent, 100) {
                let cut = Fault::Partition { zone, ways: Way::BOTH.to_vec(), time: CUT };
                plan.faults.push((slot * CUT, cut));
            }
        }
    }
    plan.faults.sort_by_key(|(at, _)| *at);
    plan
}

/// Runs the worlds of these seeds.
///
/// # Errors
/// The first that breaks a promise.
pub fn figures(percent: u64, seeds: Range<u64>) -> Result<Figures, Box<Failure>> {
    let mut total = Summary::default();
    let count = seeds.end.saturating_sub(seeds.start);
    for seed in seeds {
        let summary = play_and_explain(&plan(seed, percent)).map_err(|mut failure| {
            failure.reproduce = format!("cargo sim network --loss {percent} --seeds {seed}..{}", seed + 1);
            failure
        })?;
        total.add(&summary);
    }
    Ok(Figures { percent, seeds: count, total })
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { critical: (owed, got), redelivered, lost, partitions, resets, runs, time, .. } =
            self.total;
        write!(
            f,
            "{:>3} %  {} seeds, {} s: {lost} pieces lost, {partitions} times cut off, {resets} resets; {runs} runs; \
             critical events owed {owed}, arrived {got}, missing {}; sent again {redelivered}",
            self.percent,
            self.seeds,
            time / SECOND,
            owed - got.min(owed),
        )
    }
}
