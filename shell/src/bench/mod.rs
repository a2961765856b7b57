//! `runcast bench`: what the daemon costs, measured through its public protocol by anyone who has the binary.
//!
//! Several processes: the bench itself, which starts the others and reads what the system tells of them; a
//! daemon as `runcast serve` starts it, with a directory of its own, or in its place a yardstick or a peer;
//! a load generator, which is every device and every worker at once and checks on every connection that each
//! event continues its position and that none is missing; and, in one scenario, who wishes the daemon ill.
//! Arms that are compared are measured in turns, round by round, so that a change of the machine's mood
//! touches all of them; what is compared are ratios within a round.

mod bare;
mod child;
mod curves;
mod disk;
mod hostile;
mod idle;
mod lines;
mod live;
mod load;
mod order;
mod peers;
mod plot;
mod probe;
mod process;
mod relay;
mod replay;
mod report;
mod restart;
mod siege;
mod stage;
mod stalled;
mod stop;
mod storm;
mod sum;
mod system;
mod table;
mod told;

pub(crate) use bare::main as bare;
pub(crate) use load::main as load;
pub(crate) use relay::main as relay;
pub(crate) use siege::main as siege;

use crate::cli::{BenchOptions, BenchScenario, Exit};
use child::progress;
use report::Report;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a scenario was not measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("stopped by a signal; what it had started is ended, and what it had stored is removed")]
    Stopped,
    #[error("a child has no pipe to it")]
    Pipe,
    #[error("cannot read {0} ({1}): the bench reads processor time and memory from /proc, as Linux has it")]
    Proc(String, io::Error),
    #[error("{0} does not look like that of Linux")]
    Stat(String),
    #[error(
        "expected room for {wanted} open files, found a limit of {hard}; raise it (`ulimit -Hn`), or ask for \
         fewer --connections"
    )]
    Files { wanted: u64, hard: u64 },
    #[error("the daemon did not start:\n{0}")]
    Daemon(String),
    #[error("the load: {0}")]
    Load(String),
    #[error("a peer: {0}")]
    Peer(String),
    #[error("{0}: {1}")]
    File(String, String),
    #[error("the store: {0}")]
    Store(String),
}

/// What is to be measured, with everything decided.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    rounds: usize,
    /// How long one arm is measured.
    seconds: u64,
    connections: Option<usize>,
    rate: Option<u64>,
    events: Option<usize>,
    stalled: Vec<usize>,
    bytes: usize,
    directory: PathBuf,
    /// Where the programs of what is measured beside the daemon lie, if that is wanted.
    peers: Option<PathBuf>,
}

impl Plan {
    fn new(options: &BenchOptions) -> Self {
        Self {
            rounds: options.rounds.max(1),
            seconds: options.seconds.max(1),
            connections: options.connections,
            rate: options.rate,
            events: options.events,
            stalled: options.stalled.clone(),
            bytes: options.bytes,
            directory: options.dir.clone().unwrap_or_else(std::env::temp_dir),
            peers: options.peers.clone(),
        }
    }

    /// So many connections as asked for, or as the scenario has by itself.
    fn connections(&self, default: usize) -> usize {
        self.connections.unwrap_or(default).max(1)
    }
}

/// Measures what was asked for, or reads what was measured, and prints it.
pub(crate) fn bench(options: &BenchOptions) -> Exit {
    if let Some(file) = &options.from {
        return match again(options, file) {
            Ok(()) => Exit::Done,
            Err(error) => {
                let _ = writeln!(io::stderr(), "runcast: {error}");
                Exit::Failed
            }
        };
    }
    let plan = Plan::new(options);
    if system::is_in_memory(&plan.directory) {
        let path = plan.directory.display();
        progress(&format!("{path} lies in memory: syncs cost nothing there; give a disk with --dir\n"));
    }
    if let Err(error) = stop::hear() {
        let _ = writeln!(io::stderr(), "runcast: signals cannot be caught: {error}");
        return Exit::Failed;
    }
    let mut exit = Exit::Done;
    for scenario in options.scenarios() {
        let mut report = Report::new(scenario, options.json);
        let measured = match scenario {
            BenchScenario::Stalled => stalled::measure(&plan, &mut report),
            BenchScenario::Hostile => hostile::measure(&plan, &mut report),
            BenchScenario::Live => live::saturated(&plan, &mut report),
            BenchScenario::Paced => live::paced(&plan, &mut report),
            BenchScenario::Replay => replay::measure(&plan, &mut report),
            BenchScenario::Idle => idle::measure(&plan, &mut report),
            BenchScenario::Storm => storm::measure(&plan, &mut report),
            BenchScenario::Restart => restart::measure(&plan, &mut report),
            BenchScenario::Store => disk::measure(&plan, &mut report),
            BenchScenario::Curves => curves::measure(&plan, &mut report),
        };
        let told = measured.and_then(|()| {
            report.finish();
            picture(options, &report)
        });
        if let Err(error) = told {
            let _ = writeln!(io::stderr(), "\nruncast: {scenario}: {error}");
            exit = Exit::Failed;
        }
        if stop::is_wanted() {
            return Exit::Failed;
        }
    }
    exit
}

/// Prints and draws what an earlier run has measured.
fn again(options: &BenchOptions, file: &Path) -> Result<(), BenchError> {
    let named = |why: String| BenchError::File(file.display().to_string(), why);
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    for report in lines::read(&text, options.json).map_err(named)? {
        report.finish();
        picture(options, &report)?;
    }
    Ok(())
}

/// Draws it, if that is wanted.
fn picture(options: &BenchOptions, report: &Report) -> Result<(), BenchError> {
    let Some(directory) = &options.plots else { return Ok(()) };
    let named = |error: io::Error| BenchError::File(directory.display().to_string(), error.to_string());
    plot::write(report, directory).map_err(named)
}
