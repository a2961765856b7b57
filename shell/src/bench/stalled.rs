//! Some devices take nothing and acknowledge nothing, with a full window and full buffers: what do the
//! others feel? (DESIGN §7, "1 % of the devices stalled".)
//!
//! Arms are with none, with one, with 1 % stalled, and once more with none: that last one says how much two
//! runs differ in which nothing differs. In all of them the same devices are marked, flooded at the
//! beginning, and left out of what is timed; only whether they are stalled differs.

use super::order::{Crowd, Flow, Order};
use super::report::{Figures, Report, flow};
use super::stage::{Stage, Who};
use super::{BenchError, Plan, system};

/// Devices of each user.
const DEVICES: usize = 3;
/// The flood that fills a stalled device's window and buffers: events for each, and their bytes.
const FLOOD_EVENTS: usize = 300;
const FLOOD_BYTES: usize = 4096;
/// Events published a second, when nobody says otherwise.
const RATE: u64 = 1_000;

pub(super) fn measure(plan: &Plan, report: &mut Report) -> Result<(), BenchError> {
    let users = plan.connections(1_000).div_ceil(DEVICES);
    system::open_files(users * DEVICES + 64)?;
    let stalled = stalled(plan, users);
    let most = stalled.last().copied().unwrap_or(0);
    let mut arms = vec![("none".to_owned(), 0)];
    arms.extend(stalled.iter().map(|it| (format!("{it} stalled"), *it)));
    arms.push(("none again".to_owned(), 0));
    for round in 0..plan.rounds {
        for index in 0..arms.len() {
            let (arm, devices) = &arms[(round + index) % arms.len()];
            let crowd = Crowd { users, devices: DEVICES, marked: most };
            report.add(arm, one(plan, crowd, *devices)?);
        }
    }
    for (arm, _) in &arms[1..] {
        let goal = if arm == "none again" { "" } else { "at most 1.10" };
        report.compare("p99 ms", arm, "none", goal);
    }
    Ok(())
}

/// How many devices are stalled, arm by arm, fewest first: one of a user at most.
fn stalled(plan: &Plan, users: usize) -> Vec<usize> {
    let mut stalled = plan.stalled.clone();
    if stalled.is_empty() {
        stalled = vec![1, (users * DEVICES).div_ceil(100)];
    }
    stalled.iter_mut().for_each(|it| *it = (*it).min(users));
    stalled.sort_unstable();
    stalled.dedup();
    stalled
}

/// One arm, with a daemon of its own.
fn one(plan: &Plan, crowd: Crowd, stalled: usize) -> Result<Figures, BenchError> {
    let mut stage = Stage::new(plan, Who::Runcast)?;
    let marked = crowd.marked;
    stage.set(crowd)?;
    stage.load.ask(&Order::Stall { devices: stalled })?;
    if marked > 0 {
        let flood = Flow::of(plan, (marked * FLOOD_EVENTS) as u64);
        stage.load.ask(&Order::Publish(Flow { bytes: FLOOD_BYTES, to_marked: true, ..flood }))?;
        // The store folds what was flooded.
        stage.load.ask(&Order::Rest { ms: 1_000 })?;
    }
    let rate = plan.rate.unwrap_or(RATE);
    Ok(flow(stage.measure(&Order::Publish(Flow::paced(plan, rate)))?))
}
