//! `cargo sim`: runs simulated worlds. Exits 0 when every promise was kept, 1 when one was broken.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the command's own output")]

use clap::{Parser, Subcommand};
use runcast_core::planted::Bug;
use runcast_sim::bugs;
use runcast_sim::plan::Plan;
use runcast_sim::swarm::{self, Failure};
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
    },
    /// Plant each bug in turn, and see whether an oracle reports it.
    Bugs {
        /// In the worlds of so many seeds, from 0 on.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// Only these.
        #[arg(long, value_parser = bugs::named)]
        bug: Vec<Bug>,
        /// On so many threads.
        #[arg(long, default_value_t = jobs())]
        jobs: usize,
    },
    /// Run many seeds.
    Swarm {
        /// N for 0..N, or A..B.
        #[arg(long, value_parser = seeds)]
        seeds: Range<u64>,
        /// On so many threads.
        #[arg(long, default_value_t = jobs())]
        jobs: usize,
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
        What::Run { seed, trace: false, bug: None } => swarm::run_and_explain(seed),
        What::Run { seed, trace, bug } => {
            let plan = bug.map_or_else(|| Plan::draw(seed), |bug| bugs::plan(seed, bug));
            let show = if trace { Show::Each(Box::new(|line| println!("{line}"))) } else { Show::Keep };
            swarm::run_plan(plan, show)
        }
        What::Bugs { seeds, bug, jobs } => return hunt(seeds, &bug, jobs),
        What::Meta { seed } => swarm::meta(seed),
        What::Swarm { seeds, jobs } => many(seeds, jobs, began),
    };
    tell(result, began)
}

fn many(seeds: Range<u64>, jobs: usize, began: Instant) -> Result<Summary, Box<Failure>> {
    let (done, told) = (AtomicU64::new(0), AtomicU64::new(0));
    let all = seeds.end.saturating_sub(seeds.start);
    swarm::swarm(seeds, jobs, &|_, _| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        let due = began.elapsed().as_secs() / PROGRESS_EVERY.as_secs();
        if told.fetch_max(due, Ordering::Relaxed) < due {
            eprintln!("{done} of {all} seeds");
        }
    })
}

fn hunt(seeds: u64, only: &[Bug], jobs: usize) -> ExitCode {
    if !cfg!(debug_assertions) {
        println!(
            "no bug can be planted in this build: use `cargo sim bugs`, whose profile checks everything"
        );
        return ExitCode::FAILURE;
    }
    // Most bugs end in an assertion somewhere: the table says so.
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = if only.is_empty() { Bug::ALL } else { only };
    let hunts = bugs::hunt_all(bugs, seeds, jobs, &|hunt| {
        let caught = hunt.caught.as_ref().map_or("not seen".to_owned(), |failure| {
            format!(
                "cargo sim run --seed {} --bug {}: {}",
                failure.seed,
                hunt.bug.as_str(),
                failure.violation
            )
        });
        eprintln!("{}: {caught}", hunt.bug.as_str());
    });
    print!("{}", bugs::table(&hunts));
    let missed = hunts.iter().filter(|hunt| hunt.caught.is_none()).count();
    println!("{} of {} seen", hunts.len() - missed, hunts.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
