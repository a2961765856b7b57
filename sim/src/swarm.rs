//! Running seeds: one, the same twice, many.

use crate::bugs;
use crate::oracles::Violation;
use crate::plan::Plan;
use crate::play::{self, Play, Which};
use crate::schedule::Micros;
use crate::states::{Curve, States};
use crate::trace::Show;
use crate::world::Summary;
use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Lines of the trace in the report of a failure.
const LINES: usize = 60;

/// A world that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What it broke.
    pub violation: Violation,
    /// The newest lines that concern the user, if they were kept.
    pub lines: Vec<String>,
    /// The command that plays it again.
    pub reproduce: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {}: {}", self.seed, self.violation)?;
        write!(f, "reproduce: {}", self.reproduce)
    }
}

/// Runs the world of a seed.
///
/// # Errors
/// What it broke. A panic of the daemon counts as that.
pub fn run(world: Which, seed: u64, show: Show) -> Result<Summary, Box<Failure>> {
    play(&Plan::draw_for(world, seed), show)
}

/// Runs the world of a plan.
///
/// # Errors
/// What it broke. A panic of the daemon counts as that.
pub fn play(plan: &Plan, show: Show) -> Result<Summary, Box<Failure>> {
    finish(&mut *play::world(plan.clone(), show), plan)
}

fn finish(world: &mut dyn Play, plan: &Plan) -> Result<Summary, Box<Failure>> {
    judge(world, Micros::MAX).map_err(|violation| {
        let lines = world.trace().last(violation.user, LINES);
        let seed = plan.seed;
        let flags = [plan.world.flag(), &bugs::flag(plan.planted)].concat();
        let reproduce = format!("cargo sim run --seed {seed}{flags}");
        Box::new(Failure { seed, violation, lines, reproduce })
    })
}

/// Runs a world, at most for so long; a panic is a broken promise, too.
pub(crate) fn judge(world: &mut dyn Play, time: Micros) -> Result<Summary, Violation> {
    catch_unwind(AssertUnwindSafe(|| world.finish_within(time))).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().map(String::as_str);
        let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of unknown kind");
        let what = format!("{what}{}", PANICKED_AT.take());
        Err(Violation { at: world.summary().time, oracle: "panic", user: None, what })
    })
}

thread_local! {
    /// Where the last panic of this thread was, if that is noted.
    static PANICKED_AT: Cell<String> = const { Cell::new(String::new()) };
}

/// From now on a panic prints nothing, and a report says where it was: on a rotten disk redb panics often,
/// and the store is there to catch that.
pub fn note_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANICKED_AT.set(panic.location().map(|at| format!(" at {at}")).unwrap_or_default());
    }));
}

/// Runs a seed, and if it fails once more, so that its report has the lines that led there.
///
/// # Errors
/// As [`run`].
pub fn run_and_explain(world: Which, seed: u64) -> Result<Summary, Box<Failure>> {
    play_and_explain(&Plan::draw_for(world, seed))
}

/// The same with a plan.
///
/// # Errors
/// As [`play()`].
pub fn play_and_explain(plan: &Plan) -> Result<Summary, Box<Failure>> {
    play(plan, Show::Hash).map_err(|first| explain(first, plan))
}

/// The same failure once more, with the lines that led there.
fn explain(mut first: Box<Failure>, plan: &Plan) -> Box<Failure> {
    match play(plan, Show::Keep) {
        Err(again) => again,
        Ok(_) => {
            first.violation.what.push_str(" (and not when run again: O20 is broken as well)");
            first
        }
    }
}

/// O20: runs a seed twice, and compares everything that happened. The second time all that comes to the core
/// is written down, and has to have the same effects in a fresh one.
///
/// # Errors
/// What the seed broke, or that it did not happen the same way twice.
pub fn meta(world: Which, seed: u64) -> Result<Summary, Box<Failure>> {
    let first = run(world, seed, Show::Hash)?;
    let plan = Plan::draw_for(world, seed);
    let mut recorded = play::world(plan.clone(), Show::Keep);
    recorded.record();
    let second = finish(&mut *recorded, &plan)?;
    if first == second {
        return Ok(first);
    }
    let mut what = "the same seed has happened in two ways".to_owned();
    let _ = write!(what, ": {first:?}, then {second:?}");
    let violation = Violation { at: first.time, oracle: "O20", user: None, what };
    let reproduce = format!("cargo sim meta --seed {seed}{}", world.flag());
    Err(Box::new(Failure { seed, violation, lines: Vec::new(), reproduce }))
}

/// Runs a seed as [`run_and_explain`] does, and tells as well in which states its daemon was.
fn survey(world: Which, seed: u64) -> Result<(Summary, States), Box<Failure>> {
    let plan = Plan::draw_for(world, seed);
    let mut world = play::world(plan.clone(), Show::Hash);
    let summary = finish(&mut *world, &plan).map_err(|first| explain(first, &plan))?;
    Ok((summary, world.take_states()))
}

/// Runs many seeds on `jobs` threads. `progress` is told of each that is done, in whatever order. Returns the
/// sum of all, and how many states they have reached.
///
/// # Errors
/// The failure with the lowest seed of those that were found before all stopped.
pub fn swarm(
    world: Which,
    seeds: &[u64],
    jobs: usize,
    progress: &(dyn Fn(u64, &Summary) + Sync),
) -> Result<(Summary, Curve), Box<Failure>> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let total = Mutex::new((Summary::default(), Curve::new(seeds.len() as u64)));
    let failed: Mutex<Option<Box<Failure>>> = Mutex::new(None);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            match survey(world, seed) {
                Ok((summary, states)) => {
                    let mut total = total.lock().expect("no thread panics with it");
                    total.0.add(&summary);
                    total.1.add(states);
                    drop(total);
                    progress(seed, &summary);
                }
                Err(failure) => {
                    stop.store(true, Ordering::Relaxed);
                    let mut failed = failed.lock().expect("no thread panics with it");
                    if failed.as_ref().is_none_or(|other| failure.seed < other.seed) {
                        *failed = Some(failure);
                    }
                }
            }
        }
    };
    thread::scope(|scope| (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
    match failed.into_inner().expect("no thread panics with it") {
        Some(failure) => Err(failure),
        None => Ok(total.into_inner().expect("no thread panics with it")),
    }
}

impl Summary {
    /// Adds another world's.
    pub fn add(&mut self, other: &Self) {
        self.time += other.time;
        self.client_time += other.client_time;
        self.steps += other.steps;
        self.delivered += other.delivered;
        self.redelivered += other.redelivered;
        self.critical.0 += other.critical.0;
        self.critical.1 += other.critical.1;
        self.checked += other.checked;
        self.lost += other.lost;
        self.torn += other.torn;
        self.runs += other.runs;
        self.commits += other.commits;
        self.turns += other.turns;
        self.crashes += other.crashes;
        self.resets += other.resets;
        self.partitions += other.partitions;
        self.hash = self.hash.wrapping_add(other.hash);
        self.tally.add(&other.tally);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} s simulated, {} events delivered ({} again; {} of {} critical arrived), {} checked, {} runs, \
             {} commits, {} turns, {} crashes, {} sectors torn, {} resets, {} partitions, {} pieces lost, \
             trace {:016x}",
            self.time / 1_000_000,
            self.delivered,
            self.redelivered,
            self.critical.1,
            self.critical.0,
            self.checked,
            self.runs,
            self.commits,
            self.turns,
            self.crashes,
            self.torn,
            self.resets,
            self.partitions,
            self.lost,
            self.hash
        )
    }
}
