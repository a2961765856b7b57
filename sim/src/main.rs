//! `cargo sim`: runs simulated worlds. Exits 0 when every promise was kept, 1 when one was broken.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the command's own output")]

use clap::{Parser, Subcommand};
use runcast_sim::swarm::{self, Failure, Which};
use runcast_sim::trace::Show;
use runcast_sim::world::Summary;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
    /// Run many seeds.
    Swarm {
        /// N for 0..N, or A..B.
        #[arg(long, value_parser = seeds)]
        seeds: Range<u64>,
        /// On so many threads.
        #[arg(long, default_value_t = jobs())]
        jobs: usize,
        /// In which world.
        #[arg(long, value_enum, default_value_t)]
        world: Which,
    },
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("expected N or A..B, found {text:?}"));
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => Ok(0..number(text)?),
    }
}

fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn main() -> ExitCode {
    let began = Instant::now();
    let result = match Command::parse().what {
        What::Run { seed, world, trace: false } => swarm::run_and_explain(world, seed),
        What::Run { seed, world, trace: true } => {
            swarm::run(world, seed, Show::Each(Box::new(|line| println!("{line}"))))
        }
        What::Meta { seed, world } => swarm::meta(world, seed),
        What::Swarm { seeds, jobs, world } => many(world, seeds, jobs, began),
    };
    tell(result, began)
}

fn many(world: Which, seeds: Range<u64>, jobs: usize, began: Instant) -> Result<Summary, Box<Failure>> {
    let (done, told) = (AtomicU64::new(0), AtomicU64::new(0));
    let all = seeds.end.saturating_sub(seeds.start);
    swarm::swarm(world, seeds, jobs, &|_, _| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        let due = began.elapsed().as_secs() / PROGRESS_EVERY.as_secs();
        if told.fetch_max(due, Ordering::Relaxed) < due {
            eprintln!("{done} of {all} seeds");
        }
    })
}

fn tell(result: Result<Summary, Box<Failure>>, began: Instant) -> ExitCode {
    match result {
        Ok(summary) => {
            let speed = summary.time as f64 / 1_000_000.0 / began.elapsed().as_secs_f64();
            println!("{summary}; {speed:.0} simulated seconds per second");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}
