//! `cargo sim`: runs simulated worlds. Exits 0 when every promise was kept, 1 when one was broken.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the command's own output")]

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use runcast_core::planted::Bug;
use runcast_sim::bugs;
use runcast_sim::network;
use runcast_sim::plan::Plan;
use runcast_sim::play::Which;
use runcast_sim::shrink::{Kept, Shrink};
use runcast_sim::swarm::{self, Failure};
use runcast_sim::trace::Show;
use runcast_sim::world::Summary;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Time between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// The hostile world in which Runcast proves its promises.
#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Run the world of one seed.
    Run {
        /// Which.
        #[arg(long)]
        seed: u64,
        /// In which world.
        #[arg(long, value_enum, default_value_t)]
        world: Which,
        /// Print every line of its trace.
        #[arg(long)]
        trace: bool,
        /// Plant this bug in its daemon.
        #[arg(long, value_parser = bugs::named)]
        bug: Option<Bug>,
    },
    /// Run the same seed twice and compare all that happened.
    Meta {
        /// Which.
        #[arg(long)]
        seed: u64,
        /// In which world.
        #[arg(long, value_enum, default_value_t)]
        world: Which,
    },
    /// Leave out of a failing seed's world all that has no part in its failure, and write what is left to a
    /// file.
    Shrink {
        /// Which.
        #[arg(long)]
        seed: u64,
        /// In which world.
        #[arg(long, value_enum, default_value_t)]
        world: Which,
        /// With this bug in its daemon.
        #[arg(long, value_parser = bugs::named)]
        bug: Option<Bug>,
        /// Worlds that are tried, at most.
        #[arg(long, default_value_t = 400)]
        tries: usize,
        /// Where to; `seed-N.json` if it is not said.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Run the world that a file keeps.
    Replay {
        /// Which.
        file: PathBuf,
        /// Print every line of its trace.
        #[arg(long)]
        trace: bool,
    },
    /// Plant each bug in turn, and see whether an oracle reports it.
    Bugs {
        /// In the worlds of so many seeds, from 0 on.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// In which world.
        #[arg(long, value_enum, default_value_t)]
        world: Which,
        /// Only these.
        #[arg(long, value_parser = bugs::named)]
        bug: Vec<Bug>,
        /// Of all of them one in so many: 3/8 are the third, the eleventh and so on, from 0 on.
        #[arg(long, value_parser = part, default_value = "0/1", conflicts_with = "bug")]
        part: Part,
        /// On so many threads.
        #[arg(long, default_value_t = jobs())]
        jobs: usize,
    },
    /// Let the network fail, and count the critical events that arrive (A12).
    Network {
        /// Of a hundred pieces of traffic so many are lost, and of the time so much is cut off: one or
        /// several.
        #[arg(long, value_delimiter = ',', default_values_t = [10, 14, 50])]
        loss: Vec<u64>,
        /// N for 0..N, or A..B.
        #[arg(long, value_parser = seeds, default_value = "20")]
        seeds: Range<u64>,
    },
    /// Run many seeds.
    Swarm {
        /// N for 0..N, or A..B. May be repeated.
        #[arg(long, value_parser = seeds, required = true)]
        seeds: Vec<Range<u64>>,
        /// On so many threads.
        #[arg(long, default_value_t = jobs())]
        jobs: usize,
        /// In which world.
        #[arg(long, value_enum, default_value_t)]
        world: Which,
        /// Fail, too, if a state that matters never came about. For a thousand seeds or more.
        #[arg(long)]
        strict: bool,
    },
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("expected N or A..B, found {text:?}"));
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => Ok(0..number(text)?),
    }
}

/// One in so many, the one with this number.
#[derive(Clone, Copy, Debug)]
struct Part {
    number: usize,
    of: usize,
}

impl Part {
    fn of(self, bugs: &[Bug]) -> Vec<Bug> {
        bugs.iter().copied().skip(self.number).step_by(self.of).collect()
    }
}

fn part(text: &str) -> Result<Part, String> {
    let numbers =
        text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
    let part = numbers.map(|(number, of)| Part { number, of }).filter(|part| part.number < part.of);
    part.ok_or_else(|| format!("expected a part as 3/8, found {text:?}"))
}

fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn main() -> ExitCode {
    let began = Instant::now();
    swarm::note_panics();
    let result = match Command::parse().what {
        What::Run { seed, world, trace, bug } => run(&bugs::plan(world, seed, bug), trace),
        What::Meta { seed, world } => swarm::meta(world, seed),
        What::Bugs { world, seeds, bug, part, jobs } => {
            let bugs = if bug.is_empty() { part.of(Bug::ALL) } else { bug };
            return hunt(world, seeds, &bugs, jobs);
        }
        What::Swarm { seeds, jobs, world, strict } => {
            let seeds: Vec<u64> = seeds.into_iter().flatten().collect();
            let result = many(world, &seeds, jobs, began);
            let missing = result.as_ref().map_or(Vec::new(), |total| total.tally.missing());
            let told = tell(result, began);
            missing.iter().for_each(|what| println!("never: {what}"));
            return if strict && !missing.is_empty() { ExitCode::FAILURE } else { told };
        }
        What::Shrink { seed, world, bug, tries, out } => {
            return done(shrink(bugs::plan(world, seed, bug), tries, out));
        }
        What::Network { loss, seeds } => return network(&loss, &seeds),
        What::Replay { file, trace } => match replay(&file, trace) {
            Ok(result) => result,
            Err(error) => return done(Err(error)),
        },
    };
    tell(result, began)
}

fn run(plan: &Plan, trace: bool) -> Result<Summary, Box<Failure>> {
    match trace {
        true => swarm::play(plan, Show::Each(Box::new(|line| println!("{line}")))),
        false => swarm::play_and_explain(plan),
    }
}

fn done(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn shrink(plan: Plan, tries: usize, out: Option<PathBuf>) -> anyhow::Result<()> {
    let seed = plan.seed;
    let shrink = Shrink::new(plan, tries).map_err(anyhow::Error::msg)?;
    let kept = shrink.finish(&mut |step| eprintln!("{step}"));
    let file = out.unwrap_or_else(|| PathBuf::from(format!("seed-{seed}.json")));
    std::fs::write(&file, serde_json::to_string_pretty(&kept)? + "\n")
        .with_context(|| format!("{} cannot be written", file.display()))?;
    let Plan { faults, users, workers, .. } = &kept.plan;
    println!("{}", kept.why);
    println!("{} faults, {} users, {} workers are left", faults.len(), users.len(), workers.len());
    println!("reproduce: cargo sim replay {} --trace", file.display());
    Ok(())
}

fn replay(file: &Path, trace: bool) -> anyhow::Result<Result<Summary, Box<Failure>>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let kept: Kept = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what `cargo sim shrink` writes", file.display()))?;
    println!("kept for {}", kept.why);
    Ok(run(&kept.plan, trace).map_err(|mut failure| {
        failure.reproduce = format!("cargo sim replay {}", file.display());
        failure
    }))
}

fn many(world: Which, seeds: &[u64], jobs: usize, began: Instant) -> Result<Summary, Box<Failure>> {
    let (done, told) = (AtomicU64::new(0), AtomicU64::new(0));
    let all = seeds.len();
    let (total, curve) = swarm::swarm(world, seeds, jobs, &|_, _| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        let due = began.elapsed().as_secs() / PROGRESS_EVERY.as_secs();
        if told.fetch_max(due, Ordering::Relaxed) < due {
            eprintln!("{done} of {all} seeds");
        }
    })?;
    let hours = began.elapsed().as_secs_f64() / 3_600.0;
    print!("{}", total.tally.table());
    println!("{}", curve.line());
    println!(
        "{all} seeds on {jobs} threads: {:.0} seeds a minute, {:.0} simulated hours an hour",
        all as f64 / hours / 60.0,
        total.time as f64 / 3.6e9 / hours
    );
    Ok(total)
}

fn network(rates: &[u64], seeds: &Range<u64>) -> ExitCode {
    for percent in rates {
        match network::figures(*percent, seeds.clone()) {
            Ok(figures) => println!("{figures}"),
            Err(failure) => {
                println!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn hunt(world: Which, seeds: u64, bugs: &[Bug], jobs: usize) -> ExitCode {
    if !cfg!(debug_assertions) {
        println!(
            "no bug can be planted in this build: use `cargo sim bugs`, whose profile checks everything"
        );
        return ExitCode::FAILURE;
    }
    let hunts = bugs::hunt_all(world, bugs, seeds, jobs, &|hunt| {
        let caught = hunt
            .caught
            .as_ref()
            .map_or("not seen".to_owned(), |failure| format!("{}: {}", failure.reproduce, failure.violation));
        eprintln!("{}: {caught}", hunt.bug.as_str());
    });
    print!("{}", bugs::table(&hunts));
    let missed = hunts.iter().filter(|hunt| hunt.caught.is_none()).count();
    println!("{} of {} seen", hunts.len() - missed, hunts.len());
    let is_sound = hunts.iter().all(|hunt| hunt.without.is_empty());
    if missed == 0 && is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(result: Result<Summary, Box<Failure>>, began: Instant) -> ExitCode {
    match result {
        Ok(summary) => {
            let micros = began.elapsed().as_micros().max(1) as f64;
            let (speed, ten) = (summary.time as f64 / micros, summary.client_time as f64 / micros / 10.0);
            println!("{summary}; {speed:.0} simulated seconds per second, {ten:.0} of ten clients");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}
