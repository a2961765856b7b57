//! Connections that have talked and do nothing now: what memory each of them keeps, and what the daemon does
//! for all of them (DESIGN §7).

use super::order::{Crowd, Flow, Order};
use super::report::{Figures, MIB, Report};
use super::stage::{Measured, Stage, Who};
use super::{BenchError, Plan, system};

/// Events that each has got and acknowledged.
const EVENTS: usize = 2;
/// For so long they do nothing before memory is looked at: longer than a heartbeat (10 s), so that whoever
/// gives back what a burst has taken has had the time to.
const REST_MS: u64 = 15_000;

pub(super) fn measure(plan: &Plan, report: &mut Report) -> Result<(), BenchError> {
    let users = plan.connections(10_000);
    system::open_files(users + 64)?;
    let mut all = Who::all(plan, report);
    for _ in 0..plan.rounds {
        Who::round(&mut all, report, |who| one(plan, who, users))?;
    }
    report.compare("resident KiB/connection", "runcast", "bare protocol", "");
    if plan.peers.is_some() {
        report.compare_all("resident KiB/connection");
    }
    Ok(())
}

/// One arm, with a server of its own.
fn one(plan: &Plan, who: Who, users: usize) -> Result<Figures, BenchError> {
    let mut stage = Stage::new(plan, who)?;
    let empty = stage.usage()?;
    stage.set(Crowd { users, devices: 1, marked: 0 })?;
    stage.load.ask(&Order::Publish(Flow::of(plan, (users * EVENTS) as u64)))?;
    if matches!(who, Who::Runcast | Who::Protocol) {
        stage.load.ask(&Order::End)?;
    }
    stage.load.ask(&Order::Rest { ms: REST_MS })?;
    let rest = Order::Rest { ms: plan.seconds * 1_000 };
    let Measured { tally, cpu, resident, .. } = stage.measure(&rest)?;
    let seconds = tally.elapsed.max(1) as f64 / 1e6;
    let kept = resident.saturating_sub(empty.resident) as f64;
    Ok(vec![
        ("resident KiB/connection", kept / 1024.0 / users as f64),
        ("resident MiB", resident as f64 / MIB),
        ("processor ms/s", cpu as f64 / 1e3 / seconds),
    ])
}
