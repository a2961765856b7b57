//! The command line: what may be asked of the binary, and what it answers with when it ends (DESIGN §6).

use crate::config::units;
use clap::{Args, Parser, Subcommand};
use runcast_core::ids::{Agent, Device, Epoch, Key, Thread};
use runcast_core::time::Span;
use std::process::{ExitCode, Termination};

/// How a command ended. The numbers are those of `sysexits.h` where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// It was tried and failed.
    Failed = 1,
    /// The command itself was wrong. (clap ends with this number by itself.)
    Usage = 2,
    /// No daemon answered at the URL.
    Unreachable = 69,
    /// The daemon answered, and refused: the token, its scope, or the request.
    Refused = 77,
    /// The configuration, the keys or the data directory do not allow a start.
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.into()
    }
}

/// Runs AI agents for people who are watching.
#[derive(Debug, Parser)]
#[command(name = "runcast", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an agent on a thread and print its events until it ends.
    Run(RunOptions),
    /// Print the events of a user as they come.
    Tail(TailOptions),
}

/// Where a client command goes, and as whom.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// The daemon's address.
    #[arg(long, env = "RUNCAST_URL", default_value = "http://127.0.0.1:8787")]
    pub url: String,
    /// The token to show, as `runcast token` prints it.
    #[arg(long, env = "RUNCAST_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Print one JSON object a line, as it stands on the wire.
    #[arg(long)]
    pub json: bool,
}

/// `runcast run`.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// The agent that is to run.
    #[arg(long, value_parser = name(Agent::parse, Agent::RULE))]
    pub agent: Agent,
    /// The thread it runs on; the daemon names one when absent.
    #[arg(long, value_parser = name(Thread::parse, Thread::RULE))]
    pub thread: Option<Thread>,
    /// Makes a repeated command the same run.
    #[arg(long, value_parser = name(Key::parse, Key::RULE))]
    pub key: Option<Key>,
    /// Time for one attempt, like 30s.
    #[arg(long, value_parser = units::duration)]
    pub timeout: Option<Span>,
    /// What the agent is asked.
    pub input: String,
    /// Where to.
    #[command(flatten)]
    pub connection: Connection,
}

/// `runcast tail`.
#[derive(Clone, Debug, Args)]
pub struct TailOptions {
    /// Only this thread's events.
    #[arg(long, value_parser = name(Thread::parse, Thread::RULE))]
    pub thread: Option<Thread>,
    /// Where to begin: device, oldest, head, live, or EPOCH:SEQ to go on after that event.
    #[arg(long, value_parser = Start::parse)]
    pub from: Option<Start>,
    /// Acknowledge as this device; without it nothing is acknowledged.
    #[arg(long, value_parser = name(Device::parse, Device::RULE))]
    pub device: Option<Device>,
    /// Where to.
    #[command(flatten)]
    pub connection: Connection,
}

/// Where a tail begins (PROTOCOL §3, `from`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// After what the device has acknowledged.
    Device,
    /// With the oldest event that is kept.
    Oldest,
    /// With what comes next.
    Head,
    /// With the oldest run that has not ended.
    Live,
    /// After this event.
    After {
        /// The stream's incarnation.
        epoch: Epoch,
        /// The event's place in it.
        seq: u64,
    },
}

impl Start {
    /// Reads the value of `--from`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "device" => Ok(Self::Device),
            "oldest" => Ok(Self::Oldest),
            "head" => Ok(Self::Head),
            "live" => Ok(Self::Live),
            position => position
                .rsplit_once(':')
                .and_then(|(epoch, seq)| Some((Epoch::parse(epoch)?, seq.parse().ok()?)))
                .map(|(epoch, seq)| Self::After { epoch, seq })
                .ok_or_else(|| "expected device, oldest, head, live or EPOCH:SEQ".to_owned()),
        }
    }
}

/// A value parser for one of the core's names.
fn name<T: 'static>(
    parse: fn(&str) -> Option<T>,
    rule: &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| parse(text).ok_or_else(|| format!("expected {rule}"))
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        // `run` and `tail` are wired where they are written.
        Command::Run(_) | Command::Tail(_) => Exit::Failed.into(),
    }
}
