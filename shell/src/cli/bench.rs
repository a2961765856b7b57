//! `runcast bench`: its options. What it does is [`crate::bench`].

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// `runcast bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchOptions {
    /// What to measure; everything when absent.
    #[arg(value_name = "SCENARIO")]
    pub scenarios: Vec<BenchScenario>,
    /// How often each arm is measured, in turns.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// For how long one arm is measured.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Devices, in `curves` the most of them, in `hostile` the connections that the siege holds; each
    /// scenario has a number of its own when absent.
    #[arg(long)]
    pub connections: Option<usize>,
    /// Events published a second where they are paced; in `hostile` the connections that the siege begins.
    #[arg(long)]
    pub rate: Option<u64>,
    /// Events: of each device in `replay`, in all in `restart` and `store`, the most in `curves`.
    #[arg(long)]
    pub events: Option<usize>,
    /// How many devices are stalled, in `stalled`; one, and 1 % of them, when absent. May be repeated.
    #[arg(long)]
    pub stalled: Vec<usize>,
    /// The length of an event as a device gets it, in bytes, more or less.
    #[arg(long, default_value_t = 300)]
    pub bytes: usize,
    /// Where the daemon's data lie meanwhile; the system's directory for such things when absent.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Measure beside it what people would use instead, in `live`, `paced` and `idle`: the programs in this
    /// folder, whose script `install` installs them.
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true,
        default_missing_value = "shell/benches/peers")]
    pub peers: Option<PathBuf>,
    /// Measure nothing: take what an earlier run has printed with --json.
    #[arg(long, value_name = "FILE", conflicts_with = "scenarios")]
    pub from: Option<PathBuf>,
    /// Draw a picture of each scenario into this directory, as SCENARIO.svg.
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

impl BenchOptions {
    /// What is to be measured, in this order.
    pub(crate) fn scenarios(&self) -> Vec<BenchScenario> {
        if self.scenarios.is_empty() {
            BenchScenario::value_variants().to_vec()
        } else {
            self.scenarios.clone()
        }
    }
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchScenario {
    /// Events as fast as they go, each to one connection.
    Live,
    /// Some thousands of events a second, each to three devices.
    Paced,
    /// Everything that is stored, to devices that have nothing of it.
    Replay,
    /// What a connection keeps that does nothing.
    Idle,
    /// All devices come back at once.
    Storm,
    /// What others feel of devices that take nothing.
    Stalled,
    /// What the honest feel of thousands of bad connections from one address.
    Hostile,
    /// From a SIGKILL until it is ready again.
    Restart,
    /// The store alone.
    Store,
    /// How the cost of an event grows.
    Curves,
}

impl std::fmt::Display for BenchScenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |word| word.get_name()))
    }
}
