//! Somebody wishes the daemon ill, from another address: what do the honest feel of it?
//!
//! The limits of connections, attempts and messages are those that a daemon has by default. So the siege,
//! which comes from one address, holds its thousands of connections on its own side, while the daemon has
//! refused most of them (429, and closed): what is measured is what that costs the honest. Arms are without
//! and with the siege, and once more without: that one says how much two runs differ in which nothing
//! differs. Each connection of the honest is checked for order and gaps, as everywhere.

use super::child::Besiegers;
use super::order::{Crowd, Flow, Order};
use super::report::{Figures, Report, flow};
use super::siege::Siege;
use super::stage::Stage;
use super::{BenchError, Plan, system};

/// Honest users and the devices of each: with their workers as many connections as one address may have.
const CROWD: Crowd = Crowd { users: 80, devices: 3, marked: 0 };
/// Events published a second.
const RATE: u64 = 1_000;
/// Connections that the siege holds, when nobody says otherwise, and begins each second.
const HELD: usize = 10_000;
const PER_SECOND: u64 = 1_000;
/// The siege stands for so long before anything is timed, or for as long as is timed if that is less.
const BEFORE_MS: u64 = 5_000;

pub(super) fn measure(plan: &Plan, report: &mut Report) -> Result<(), BenchError> {
    let held = plan.connections(HELD);
    system::open_files(held + 512)?;
    let siege = Siege { per_second: plan.rate.unwrap_or(PER_SECOND), held };
    let arms = [("honest", None), ("besieged", Some(siege)), ("honest again", None)];
    for round in 0..plan.rounds {
        for index in 0..arms.len() {
            let (arm, siege) = arms[(round + index) % arms.len()];
            report.add(arm, one(plan, siege)?);
        }
    }
    report.compare("p99 ms", "besieged", "honest", "at most 1.25");
    report.compare("p99 ms", "honest again", "honest", "");
    Ok(())
}

/// One arm, with a daemon of its own.
fn one(plan: &Plan, siege: Option<Siege>) -> Result<Figures, BenchError> {
    let mut stage = Stage::guarded(plan)?;
    stage.set(CROWD)?;
    let door = stage.door().map(|(at, _)| at);
    let siege = siege.zip(door).map(|(siege, at)| Besiegers::start(at, siege)).transpose()?;
    stage.load.ask(&Order::Rest { ms: BEFORE_MS.min(plan.seconds * 1_000) })?;
    let mut figures = flow(stage.measure(&Order::Publish(Flow::paced(plan, RATE)))?);
    if let Some(siege) = siege {
        let done = siege.lift()?;
        let parts = [
            ("connections tried", done.tried),
            ("made", done.made),
            ("failed", done.failed),
            ("held by the siege", done.held),
            ("of them ended", done.ended),
        ];
        figures.extend(parts.map(|(name, count)| (name, count as f64)));
    }
    Ok(figures)
}
