//! The command line: what may be asked of the binary, and what it answers with when it ends (DESIGN §6).

pub mod backup;
mod bench;
pub mod check;
pub mod doctor;
pub mod explain;
pub mod operate;
pub mod paper;
pub mod run;
pub mod runs;
pub mod selftest;
mod show;
mod table;
pub mod tail;
pub mod token;
pub mod undelivered;
pub mod users;
pub mod workers;

pub use bench::{BenchOptions, BenchScenario};

use crate::config::{Override, Problem, Problems, Settings, Sources, units};
use crate::daemon;
use crate::place::Place;
use crate::tls::Trust;
use clap::{Args, Parser, Subcommand, ValueEnum};
use runcast_core::ids::{Agent, BackupName, Device, Epoch, Key, RunId, Thread, User};
use runcast_core::time::Span;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
    /// Serve with the built-in agents, and open the chat page.
    Demo(DemoOptions),
    /// Serve until SIGTERM or SIGINT, which drain it; a second one hurries.
    Serve(ServeOptions),
    /// Check all that a start would check: the configuration, the keys, the data directory.
    Check(CheckOptions),
    /// Print a token, signed with a secret of the configuration or with that of `serve --dev`.
    Token(TokenOptions),
    /// Run an agent on a thread and print its events until it ends.
    Run(RunOptions),
    /// Print the events of a user as they come.
    Tail(TailOptions),
    /// List a user's runs, newest first.
    Runs(RunsOptions),
    /// End a run.
    Cancel(CancelOptions),
    /// List workers and agents (a token with the scope `operate`).
    Workers(WorkersOptions),
    /// Show users: their connections, runs and devices (a token with the scope `operate`).
    Users(UsersOptions),
    /// List ended runs that none of their user's devices has acknowledged (scope `operate`).
    Undelivered(UndeliveredOptions),
    /// Have the daemon go down: it begins nothing new, lets running runs end, and exits (scope `operate`).
    Drain(DrainOptions),
    /// Close a user's connections (scope `operate`).
    Disconnect(DisconnectOptions),
    /// Refuse all tokens of a user that were made up to now, and close the connections (scope `operate`).
    Revoke(RevokeOptions),
    /// Write what is stored at this moment to a file, while the daemon goes on (scope `operate`).
    Backup(BackupOptions),
    /// Make the store of a data directory, which has none, of a backup.
    Restore(RestoreOptions),
    /// Look at all that a daemon needs, and at the way to it: store, disk, clock, limits, keys, address.
    Doctor(DoctorOptions),
    /// Send a run through the live daemon and show how long each step took.
    Selftest(SelftestOptions),
    /// Explain a code: of an error, a close, an exit, or an HTTP status.
    Explain(ExplainOptions),
    /// Print what a shell needs to complete commands.
    Completions(CompletionsOptions),
    /// Print the manual page, or write one for each command.
    Man(ManOptions),
    /// Measure what the daemon costs on this machine.
    Bench(BenchOptions),
    /// The devices and workers of `bench`: it starts this itself.
    #[command(hide = true)]
    BenchLoad,
    /// The yardstick of `bench`: it starts this itself.
    #[command(hide = true)]
    BenchRelay,
    /// The yardstick of `bench` that speaks the protocol: it starts this itself.
    #[command(hide = true)]
    BenchBare {
        /// Where its file lies.
        directory: std::path::PathBuf,
    },
    /// Who wishes the daemon of `bench hostile` ill: it starts this itself.
    #[command(hide = true)]
    BenchSiege {
        /// Where it is.
        at: std::net::SocketAddr,
        /// Connections begun each second.
        per_second: u64,
        /// Connections that are held.
        held: usize,
    },
}

/// Where the configuration comes from, and what of it the command line overrides.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigOptions {
    /// The configuration file (TOML); without one everything is default.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen, instead of server.listen.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// The data directory, instead of store.dir.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// For development: loopback only, a signing secret of its own in the data directory, built-in agents.
    #[arg(long)]
    pub dev: bool,
    /// Set any key of the configuration, like runs.active=20.
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = assignment)]
    pub set: Vec<Override>,
}

impl ConfigOptions {
    /// Reads the file, the environment and these options.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(&self) -> Result<Settings, Problems> {
        let mut overrides = self.set.clone();
        let mut flag = |flag, key: &str, value: Option<String>| {
            overrides.extend(value.map(|value| Override { flag, key: key.to_owned(), value }));
        };
        flag("--listen", "server.listen", self.listen.map(|listen| listen.to_string()));
        flag("--data", "store.dir", self.data.as_ref().map(|data| data.to_string_lossy().into_owned()));
        let environment = std::env::vars_os();
        let named = environment.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let mut environment: Vec<_> = named.collect();
        environment.sort();
        Settings::load(&Sources { file: self.config.clone(), environment, overrides, dev: self.dev })
    }
}

/// `runcast serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeOptions {
    /// What to serve with.
    #[command(flatten)]
    pub config: ConfigOptions,
}

/// `runcast demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoOptions {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Do not open the browser.
    #[arg(long)]
    pub no_open: bool,
}

impl DemoOptions {
    /// The same as options of `serve --dev`.
    pub fn config(&self) -> ConfigOptions {
        ConfigOptions { listen: self.listen, data: self.data.clone(), dev: true, ..ConfigOptions::default() }
    }
}

/// `runcast check`.
#[derive(Clone, Debug, Args)]
pub struct CheckOptions {
    /// What to check.
    #[command(flatten)]
    pub config: ConfigOptions,
    /// Print the effective configuration, with the origin of each value.
    #[arg(long)]
    pub print: bool,
}

/// `runcast token`.
#[derive(Clone, Debug, Args)]
pub struct TokenOptions {
    /// Whose token it is.
    #[arg(long, value_parser = name(User::parse, User::RULE))]
    pub user: User,
    /// What it is good for; `user` when absent. May be repeated.
    #[arg(long)]
    pub scope: Vec<Scope>,
    /// How long it is good.
    #[arg(long, default_value = "1h", value_parser = some_time)]
    pub ttl: Span,
    /// The agents it is good for, separated by commas; all when absent.
    #[arg(long, value_delimiter = ',', value_parser = name(Agent::parse, Agent::RULE))]
    pub agents: Option<Vec<Agent>>,
    /// Sign with the first HS256 secret of this configuration.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sign with the secret that `serve --dev` made in this data directory.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// What a token may be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// To run agents and watch.
    User,
    /// To execute runs.
    Worker,
    /// To publish, and to run agents for users.
    Publish,
    /// To see and steer everything.
    Operate,
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
    /// For an address with https://: trust the certificates in this PEM file, and those that they have
    /// signed, not the well-known authorities.
    #[arg(long, env = "RUNCAST_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Print one JSON object a line, as it stands on the wire.
    #[arg(long)]
    pub json: bool,
}

impl Connection {
    /// The daemon.
    pub(crate) fn place(&self) -> Place {
        place(&self.url, self.ca.as_deref())
    }
}

/// The daemon at a URL, with the authorities of a file or the well-known ones.
fn place(url: &str, ca: Option<&Path>) -> Place {
    let trust = ca.map_or(Trust::WellKnown, |file| Trust::File(file.to_owned()));
    Place { url: url.to_owned(), trust }
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

/// `runcast runs`.
#[derive(Clone, Debug, Args)]
pub struct RunsOptions {
    /// Only runs in this state: queued, dispatched, running, waiting, cancelling or ended.
    #[arg(long)]
    pub state: Option<RunState>,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Where to.
    #[command(flatten)]
    pub connection: Connection,
}

/// A run's state (PROTOCOL §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunState {
    /// It waits for a worker.
    Queued,
    /// It was offered to a worker.
    Dispatched,
    /// A worker executes it.
    Running,
    /// It waits for its user.
    Waiting,
    /// Its worker was told to stop.
    Cancelling,
    /// It is over.
    Ended,
}

impl std::fmt::Display for RunState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |word| word.get_name()))
    }
}

/// `runcast cancel`.
#[derive(Clone, Debug, Args)]
pub struct CancelOptions {
    /// The run's id.
    #[arg(value_parser = name(RunId::parse, RunId::RULE))]
    pub run: RunId,
    /// Where to.
    #[command(flatten)]
    pub connection: Connection,
}

/// `runcast workers`.
#[derive(Clone, Debug, Args)]
pub struct WorkersOptions {
    /// Where to.
    #[command(flatten)]
    pub connection: Connection,
}

/// `runcast users`.
#[derive(Clone, Debug, Args)]
pub struct UsersOptions {
    /// The users.
    #[arg(required = true, value_name = "USER", value_parser = name(User::parse, User::RULE))]
    pub users: Vec<User>,
    /// Where to.
    #[command(flatten)]
    pub connection: Connection,
}

/// `runcast undelivered`.
#[derive(Clone, Debug, Args)]
pub struct UndeliveredOptions {
    /// At most so many, the newest.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Where to.
    #[command(flatten)]
    pub connection: Connection,
}

/// `runcast drain`.
#[derive(Clone, Debug, Args)]
pub struct DrainOptions {
    /// Where to.
    #[command(flatten)]
    pub connection: Connection,
}

/// `runcast disconnect`.
#[derive(Clone, Debug, Args)]
pub struct DisconnectOptions {
    /// The user.
    #[arg(value_parser = name(User::parse, User::RULE))]
    pub user: User,
    /// Let the clients come back at once, instead of telling them to stay away.
    #[arg(long)]
    pub reconnect: bool,
    /// Where to.
    #[command(flatten)]
    pub connection: Connection,
}

/// `runcast revoke`.
#[derive(Clone, Debug, Args)]
pub struct RevokeOptions {
    /// The user, as the tokens' `sub` names it.
    #[arg(value_parser = name(User::parse, User::RULE))]
    pub user: User,
    /// Where to.
    #[command(flatten)]
    pub connection: Connection,
}

/// `runcast backup`.
#[derive(Clone, Debug, Args)]
pub struct BackupOptions {
    /// The name of its file in `backups` in the daemon's data directory; nothing is written over.
    #[arg(value_name = "NAME", value_parser = name(BackupName::parse, BackupName::RULE))]
    pub name: BackupName,
    /// How long to wait for it.
    #[arg(long, default_value = "1h", value_parser = units::duration)]
    pub within: Span,
    /// Where to.
    #[command(flatten)]
    pub connection: Connection,
}

/// `runcast restore`.
#[derive(Clone, Debug, Args)]
pub struct RestoreOptions {
    /// The backup. It stays as it is.
    #[arg(value_name = "FILE")]
    pub backup: PathBuf,
    /// For which daemon.
    #[command(flatten)]
    pub config: ConfigOptions,
}

/// `runcast doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorOptions {
    /// What the daemon is, or would be, started with.
    #[command(flatten)]
    pub config: ConfigOptions,
    /// The daemon's address, if it is not the one where it listens.
    #[arg(long, env = "RUNCAST_URL")]
    pub url: Option<String>,
    /// For an address with https://: trust the certificates in this PEM file, and those that they have
    /// signed. Without it: with --url (RUNCAST_URL) the well-known authorities, else the certificate that is
    /// configured.
    #[arg(long, env = "RUNCAST_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// A token with the scope `operate`, to compare the clocks.
    #[arg(long, env = "RUNCAST_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// `runcast selftest`.
#[derive(Clone, Debug, Args)]
pub struct SelftestOptions {
    /// Where to. Its token needs the scopes `user` and `worker`.
    #[command(flatten)]
    pub connection: Connection,
    /// Without a token: sign one with the first HS256 secret of this configuration.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Without a token: sign one with the secret that `serve --dev` made in this data directory.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// It fails when it takes longer.
    #[arg(long, default_value = "10s", value_parser = units::duration)]
    pub within: Span,
}

/// `runcast completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsOptions {
    /// For which shell.
    pub shell: clap_complete::Shell,
}

/// `runcast man`.
#[derive(Clone, Debug, Args)]
pub struct ManOptions {
    /// Write runcast.1, runcast-serve.1 and so on here.
    pub directory: Option<PathBuf>,
}

/// `runcast explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainOptions {
    /// The code, like queue_full, 4403 or 78; without one all are listed.
    pub code: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
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

/// Reads a duration that is not nothing: a token that is good for no time is good for nothing.
fn some_time(text: &str) -> Result<Span, String> {
    let span = units::duration(text)?;
    let none = || format!("expected a duration like 30s, and more than none, found {text:?}");
    if span == Span::ZERO { Err(none()) } else { Ok(span) }
}

/// Reads the value of `--set`.
fn assignment(text: &str) -> Result<Override, String> {
    let (key, value) = text.split_once('=').ok_or("expected section.key=value, found no =")?;
    Ok(Override { flag: "--set", key: key.to_owned(), value: value.to_owned() })
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Demo(options) => with(options.config().load(), |it| daemon::serve(it, !options.no_open)),
        Command::Serve(options) => with(options.config.load(), |it| daemon::serve(it, false)),
        Command::Check(options) => check::check(&options),
        Command::Token(options) => token::token(&options),
        Command::Run(options) => run::run(&options),
        Command::Tail(options) => tail::tail(&options),
        Command::Runs(options) => runs::runs(&options),
        Command::Cancel(options) => runs::cancel(&options),
        Command::Workers(options) => workers::workers(&options),
        Command::Users(options) => users::users(&options),
        Command::Undelivered(options) => undelivered::undelivered(&options),
        Command::Drain(options) => operate::drain(&options),
        Command::Disconnect(options) => operate::disconnect(&options),
        Command::Revoke(options) => operate::revoke(&options),
        Command::Backup(options) => backup::backup(&options),
        Command::Restore(options) => backup::restore(&options),
        Command::Doctor(options) => doctor::doctor(&options),
        Command::Selftest(options) => selftest::selftest(&options),
        Command::Explain(options) => explain::explain(&options),
        Command::Completions(options) => paper::completions(&options),
        Command::Man(options) => paper::man(&options),
        Command::Bench(options) => crate::bench::bench(&options),
        Command::BenchLoad => crate::bench::load(),
        Command::BenchRelay => crate::bench::relay(),
        Command::BenchBare { directory } => crate::bench::bare(&directory),
        Command::BenchSiege { at, per_second, held } => crate::bench::siege(at, per_second, held),
    };
    exit.into()
}

/// Goes on with the settings, or says what is wrong with them.
fn with(settings: Result<Settings, Problems>, go: impl FnOnce(&Settings) -> Exit) -> Exit {
    match settings {
        Ok(settings) => go(&settings),
        Err(problems) => refuse(&problems),
    }
}

/// Prints what was asked for. A reader that has gone away wants no more: that is no failure.
pub(crate) fn say(text: &str) -> Exit {
    let _ = writeln!(std::io::stdout(), "{text}");
    Exit::Done
}

/// Says what should be seen to.
pub(crate) fn warn(problem: &Problem) {
    let _ = writeln!(std::io::stderr(), "warning: {problem}");
}

/// Says why the daemon cannot start, a line for each reason.
pub(crate) fn refuse(problems: &Problems) -> Exit {
    let _ = writeln!(std::io::stderr(), "{problems}");
    Exit::Configuration
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_tail_begins_where_it_is_told() {
        for (text, start) in [("device", Start::Device), ("oldest", Start::Oldest), ("head", Start::Head)] {
            assert_eq!(Start::parse(text), Ok(start));
        }
        let epoch = Epoch::parse("e-5:f1c").unwrap();
        assert_eq!(Start::parse("e-5:f1c:41"), Ok(Start::After { epoch, seq: 41 }));
        for text in ["", "41", "e-5f1c:", "e-5f1c:-1", ":4", "newest"] {
            assert!(Start::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn options_of_the_configuration_override_each_other_from_left_to_right() {
        let cli =
            Cli::try_parse_from(["runcast", "check", "--set", "runs.active=5", "--set", "runs.active=7"]);
        let Command::Check(options) = cli.unwrap().command else { panic!("not check") };
        assert_eq!(options.config.load().unwrap().core.runs.active, 7);
        assert!(Cli::try_parse_from(["runcast", "check", "--set", "runs.active"]).is_err());
    }
}
