//! Events as they are published: `live`, as many as go through, each to one connection; and `paced`, some
//! thousands a second, each to three devices of its user (DESIGN §7).

use super::order::{Crowd, Flow, Order};
use super::report::{Figures, Report, flow};
use super::stage::{Stage, Who};
use super::{BenchError, Plan, disk, system};

/// Events published a second where they are paced.
const RATE: u64 = 5_000;
/// Devices of a user there.
const DEVICES: usize = 3;
/// Before it is measured, so much is published at most: a daemon's journal of 32 MiB has gone round by then,
/// and from then on is written over. Until then its blocks are new to the file, which a new daemon meets
/// once.
const WARM_UP: u64 = 50_000;
/// The same for each user, whose run has an end.
const WARM_UP_OF_USER: u64 = 120;

pub(super) fn saturated(plan: &Plan, report: &mut Report) -> Result<(), BenchError> {
    let users = plan.connections(1_000);
    rounds(plan, report, users, 1, &Flow::saturated(plan))?;
    report.compare("processor µs/event", "runcast", "bare relay", "at most 2");
    report.compare("processor µs/event", "runcast", "bare protocol", "");
    report.compare("processor µs/event", "bare protocol", "bare relay", "");
    Ok(())
}

pub(super) fn paced(plan: &Plan, report: &mut Report) -> Result<(), BenchError> {
    let users = plan.connections(1_000).div_ceil(DEVICES);
    let rate = plan.rate.unwrap_or(RATE);
    rounds(plan, report, users, DEVICES, &Flow::paced(plan, rate))?;
    report.compare("processor µs/event", "runcast", "bare relay", "at most 2.5");
    report.compare("processor µs/event", "runcast", "bare protocol", "");
    report.compare("processor µs/event", "bare protocol", "bare relay", "");
    report.compare("p99 ms", "runcast", "bare fdatasync", "at most 1.5, and 2 ms");
    report.compare("p99 ms", "bare protocol", "bare fdatasync", "");
    Ok(())
}

/// One arm, with a server of its own.
fn one(plan: &Plan, who: Who, crowd: Crowd, what: &Flow) -> Result<Figures, BenchError> {
    let warm_up = WARM_UP.min(crowd.users as u64 * WARM_UP_OF_USER);
    let mut stage = Stage::new(plan, who)?;
    stage.set(crowd)?;
    stage.load.ask(&Order::Publish(Flow::of(plan, warm_up)))?;
    Ok(flow(stage.measure(&Order::Publish(what.clone()))?))
}

fn rounds(
    plan: &Plan,
    report: &mut Report,
    users: usize,
    devices: usize,
    what: &Flow,
) -> Result<(), BenchError> {
    system::open_files(users * devices + 64)?;
    let mut all = Who::all(plan, report);
    for _ in 0..plan.rounds {
        Who::round(&mut all, report, |who| one(plan, who, Crowd { users, devices, marked: 0 }, what))?;
        if let Some(rate) = what.rate {
            report.add("bare fdatasync", disk::syncs(plan, rate as usize)?);
        }
    }
    if plan.peers.is_some() {
        for figure in ["processor µs/event", "p99 ms", "resident MiB"] {
            report.compare_all(figure);
        }
    }
    Ok(())
}
