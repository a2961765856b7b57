//! How the cost of an event grows: with users, with devices of a user, with events that a run already has,
//! with events that are stored, and with connections that do nothing. All else stays the same, and the same
//! number is published a second, so that a cost that is the same for all sizes is a line with the exponent 0.

use super::order::{Crowd, Flow, Order};
use super::report::{Curve, Figures, Report, flow};
use super::stage::{Stage, Who};
use super::{BenchError, Plan, system};

/// Events published a second.
const RATE: u64 = 2_000;
/// The most users, and events stored, when nobody says otherwise; connections that do nothing are some more.
const USERS: usize = 3_000;
const CONNECTIONS: usize = 10_000;
const STORED: usize = 300_000;
/// Users where something else grows.
const OTHERS: usize = 100;
/// The most events that a run has before it is measured: the daemon lets it have 5,000.
const RUN_EVENTS: usize = 4_000;
/// Users where it is events of a run that grow.
const RUNS: usize = 20;
/// Events published before it is measured, where they do not grow.
const WARM_UP: usize = 2_000;
/// The figures whose growth is told.
const FIGURES: [&str; 2] = ["processor µs/event", "p50 ms"];

/// Where something is measured.
#[derive(Clone, Copy, Debug)]
struct Point {
    /// How much there is of what grows.
    at: usize,
    users: usize,
    devices: usize,
    /// Users that events are published for.
    active: usize,
    /// Events published before.
    before: usize,
}

pub(super) fn measure(plan: &Plan, report: &mut Report) -> Result<(), BenchError> {
    let curves = curves(plan);
    let all = curves.iter().flat_map(|(_, points)| points);
    system::open_files(all.map(|point| point.users * point.devices).max().unwrap_or(0) + 64)?;
    for _ in 0..plan.rounds {
        for (with, points) in &curves {
            for point in points {
                report.add(&arm(with, point), one(plan, *point)?);
            }
        }
    }
    for figure in FIGURES {
        for (with, points) in &curves {
            let points = points.iter().map(|point| (point.at as f64, arm(with, point))).collect();
            report.grows(Curve { figure: figure.to_owned(), with: (*with).to_owned(), points });
        }
    }
    Ok(())
}

fn arm(with: &str, point: &Point) -> String {
    format!("{with}: {}", point.at)
}

/// What grows, and where it is measured.
fn curves(plan: &Plan) -> Vec<(&'static str, Vec<Point>)> {
    // A run may have only so many events: fewer users than these would get more.
    let published = WARM_UP + (rate(plan) * plan.seconds) as usize;
    let least = published.div_ceil(RUN_EVENTS);
    let (others, runs) = (plan.connections(OTHERS).min(OTHERS).max(least), RUNS.max(least));
    let point = |at| Point { at, users: others, devices: 1, active: others, before: WARM_UP };
    let users = steps(plan.connections(USERS), least);
    let connections = steps(plan.connections(CONNECTIONS), others);
    let run_events = RUN_EVENTS.min(plan.events.unwrap_or(RUN_EVENTS)).saturating_sub(published / runs);
    vec![
        ("users", users.map(|at| Point { users: at, active: at, ..point(at) }).collect()),
        ("devices per user", [1, 2, 4, 8, 16].map(|at| Point { devices: at, ..point(at) }).into()),
        (
            "events per run",
            steps(run_events, 1)
                .map(|at| Point { users: runs, active: runs, before: at * runs, ..point(at) })
                .collect(),
        ),
        (
            "stored events",
            steps(plan.events.unwrap_or(STORED), 1)
                .map(|at| {
                    let users = plan.connections(1_000).max(least + at.div_ceil(RUN_EVENTS));
                    Point { users, active: users, before: at, ..point(at) }
                })
                .collect(),
        ),
        ("connections", connections.map(|at| Point { users: at, ..point(at) }).collect()),
    ]
}

/// Up to `most`, each about three times the one before, none below `least`.
fn steps(most: usize, least: usize) -> impl Iterator<Item = usize> {
    let mut steps =
        [most / 100, most * 3 / 100, most / 10, most * 3 / 10, most].map(|at| at.max(least)).to_vec();
    steps.dedup();
    steps.into_iter()
}

fn rate(plan: &Plan) -> u64 {
    plan.rate.unwrap_or(RATE)
}

/// One point, with a daemon of its own.
fn one(plan: &Plan, point: Point) -> Result<Figures, BenchError> {
    let Point { users, devices, active, before, .. } = point;
    let mut stage = Stage::new(plan, Who::Runcast)?;
    stage.set_some(Crowd { users, devices, marked: 0 }, active)?;
    stage.load.ask(&Order::Publish(Flow::of(plan, before as u64)))?;
    // The store folds what was published before.
    stage.load.ask(&Order::Rest { ms: plan.seconds * 1_000 / 3 })?;
    let mut figures = flow(stage.measure(&Order::Publish(Flow::paced(plan, rate(plan))))?);
    figures.retain(|(name, _)| KEPT.contains(name));
    Ok(figures)
}

/// What is told of each point.
const KEPT: [&str; 7] = [
    "delivered/s",
    "processor µs/event",
    "p50 ms",
    "p99 ms",
    "wire bytes/event",
    "resident MiB",
    "records/commit",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_and_are_not_twice_the_same() {
        assert_eq!(steps(3_000, 1).collect::<Vec<_>>(), [30, 90, 300, 900, 3_000]);
        assert_eq!(steps(12, 2).collect::<Vec<_>>(), [2, 3, 12]);
    }
}
