//! The daemon is killed with many events stored and as many runs as users open, and started again: how long
//! until it is ready (DESIGN §7). Before each kill a tenth as many are published anew, so that each start
//! finds what nobody has folded yet. Afterwards every event is asked for, so that none is missing.

use super::order::{Crowd, Flow, From, Order};
use super::report::{MIB, Report};
use super::stage::{Stage, Who};
use super::{BenchError, Plan, system};

/// Events that are stored, when nobody says otherwise.
const STORED: [usize; 2] = [100_000, 1_000_000];
/// Events of each user, and the most that are published for it anew: a run may have 5,000.
const EVENTS: usize = 1_000;
const ANEW_MOST: usize = 3_000;

pub(super) fn measure(plan: &Plan, report: &mut Report) -> Result<(), BenchError> {
    for stored in plan.events.map_or_else(|| STORED.to_vec(), |events| vec![events]) {
        let users = stored.div_ceil(EVENTS);
        system::open_files(users + 64)?;
        let mut stage = Stage::new(plan, Who::Runcast)?;
        stage.set(Crowd { users, devices: 1, marked: 0 })?;
        stage.load.ask(&Order::Cut { workers: false })?;
        let flow = |events: usize| Flow { is_watched: false, ..Flow::of(plan, events as u64) };
        stage.load.ask(&Order::Publish(flow(stored)))?;
        let anew = (stored / 10).min(users * ANEW_MOST / plan.rounds).max(1);
        for _ in 0..plan.rounds {
            stage.load.ask(&Order::Publish(flow(anew)))?;
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
