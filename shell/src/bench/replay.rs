//! Devices that begin anew are sent everything that is stored, by a daemon that was just started and has
//! nothing of it in memory (DESIGN §7).

use super::order::{Crowd, Flow, From, Order};
use super::report::{Report, flow};
use super::stage::{Stage, Who};
use super::{BenchError, Plan, system};

/// Events of each device.
const EVENTS: usize = 500;

pub(super) fn measure(plan: &Plan, report: &mut Report) -> Result<(), BenchError> {
    let users = plan.connections(1_000);
    let events = plan.events.unwrap_or(EVENTS);
    system::open_files(users + 64)?;
    let mut all = Who::OWN;
    for _ in 0..plan.rounds {
        for who in all {
            let mut stage = Stage::new(plan, who)?;
            stage.set(Crowd { users, devices: 1, marked: 0 })?;
            stage.load.ask(&Order::Cut { workers: false })?;
            let stored = Flow { is_watched: false, ..Flow::of(plan, (users * events) as u64) };
            stage.load.ask(&Order::Publish(stored))?;
            stage.restart()?;
            stage.load.ask(&Order::Rest { ms: 1_000 })?;
            let mut measured = stage.measure(&Order::Back { from: From::Oldest })?;
            // How old the events are says nothing.
            measured.tally.latency = None;
            report.add(who.name(), flow(measured));
        }
        all.rotate_left(1);
    }
    report.compare("processor µs/event", "runcast", "bare relay", "at most 1.5");
    report.compare("processor µs/event", "runcast", "bare protocol", "");
    report.compare("processor µs/event", "bare protocol", "bare relay", "");
    Ok(())
}
