//! The daemon is killed with many events stored and as many runs as users open, and started again: how long
//! until it is ready (DESIGN §7). Afterwards every event is asked for, so that none is missing.

use super::order::{Crowd, Flow, From, Order};
use super::report::{MIB, Report};
use super::stage::{Stage, Who};
use super::{BenchError, Plan, system};

/// Events that are stored, when nobody says otherwise.
const STORED: [usize; 2] = [100_000, 1_000_000];
/// Events of each user.
const EVENTS: usize = 1_000;

pub(super) fn measure(plan: &Plan, report: &mut Report) -> Result<(), BenchError> {
    for stored in plan.events.map_or_else(|| STORED.to_vec(), |events| vec![events]) {
        let users = stored.div_ceil(EVENTS);
        system::open_files(users + 64)?;
        let mut stage = Stage::new(plan, Who::Runcast)?;
        stage.set(Crowd { users, devices: 1, marked: 0 })?;
        stage.load.ask(&Order::Cut { workers: false })?;
        let flow = Flow { is_watched: false, ..Flow::of(plan, stored as u64) };
        stage.load.ask(&Order::Publish(flow))?;
        for _ in 0..plan.rounds {
            let took = stage.restart()?;
            let figures = vec![
                ("ready s (goal: at most 1)", took.as_secs_f64()),
                ("resident MiB", stage.usage()?.resident as f64 / MIB),
            ];
            report.add(&format!("{stored} events"), figures);
        }
        stage.load.ask(&Order::Back { from: From::Oldest })?;
    }
    Ok(())
}
