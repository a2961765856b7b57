//! Every device is cut off, misses some events, and all come back at once: how long until each has
//! everything, and how long the loop keeps anybody else waiting meanwhile (DESIGN §7).
//!
//! Somebody who was not cut sends the daemon, or what speaks its protocol, a ping every few milliseconds and
//! waits for its pong: the longest of these waits is more than the longest turn of the loop.

use super::order::{Crowd, Flow, From, Order};
use super::probe::Probe;
use super::report::Report;
use super::stage::{Measured, Stage, Who};
use super::{BenchError, Plan, system};

/// Devices that are cut, when nobody says otherwise.
const CROWDS: [usize; 2] = [5_000, 10_000];
/// Events of each that it gets before it is cut, and that it misses.
const BEFORE: usize = 2;
const MISSED: usize = 10;

pub(super) fn measure(plan: &Plan, report: &mut Report) -> Result<(), BenchError> {
    let crowds = plan.connections.map_or_else(|| CROWDS.to_vec(), |connections| vec![connections]);
    for users in &crowds {
        system::open_files(users + 64)?;
    }
    let mut all = Who::OWN;
    for _ in 0..plan.rounds {
        for users in &crowds {
            for who in all {
                one(plan, report, who, *users)?;
            }
        }
        all.rotate_left(1);
    }
    for users in &crowds {
        let [runcast, relay, protocol] = Who::OWN.map(|who| arm(who, *users));
        report.compare("caught up s", &runcast, &relay, "at most 2");
        report.compare("caught up s", &runcast, &protocol, "");
        report.compare("processor ms/device", &runcast, &relay, "");
        report.compare("processor ms/device", &runcast, &protocol, "");
    }
    Ok(())
}

fn arm(who: Who, users: usize) -> String {
    format!("{} {users}", who.name())
}

fn one(plan: &Plan, report: &mut Report, who: Who, users: usize) -> Result<(), BenchError> {
    let mut stage = Stage::new(plan, who)?;
    stage.set(Crowd { users, devices: 1, marked: 0 })?;
    stage.load.ask(&Order::Publish(Flow::of(plan, (users * BEFORE) as u64)))?;
    // Acknowledgements leave late.
    stage.load.ask(&Order::Rest { ms: 1_000 })?;
    stage.load.ask(&Order::Cut { workers: false })?;
    let missed = Flow { is_watched: false, ..Flow::of(plan, (users * MISSED) as u64) };
    stage.load.ask(&Order::Publish(missed))?;
    stage.load.ask(&Order::Rest { ms: 1_000 })?;
    let probe = stage.door().map(Probe::start).transpose()?;
    let measured = stage.measure(&Order::Back { from: From::Position })?;
    let load = measured.load_share();
    let Measured { tally, cpu, resident, told, .. } = measured;
    let mut figures = vec![
        ("caught up s", tally.elapsed as f64 / 1e6),
        ("processor ms/device", cpu as f64 / 1e3 / users as f64),
        ("events missed", tally.delivered as f64),
        ("resident KiB/device", resident as f64 / 1024.0 / users as f64),
        load,
    ];
    figures.extend(told);
    if let Some(probe) = probe {
        figures.extend(probe.stop()?);
    }
    report.add(&arm(who, users), figures);
    Ok(())
}
