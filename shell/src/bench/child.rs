//! The processes that the bench starts of its own binary: the daemon or a yardstick, and the load generator.

use super::BenchError;
use super::order::{Answer, Order, Tally, Tongue};
use super::process::Process;
use super::siege::{Done, Siege};
use super::stop::{self, Lines};
use super::system::Usage;
use super::told::Told;
use crate::pump::METRICS_GOOD;
use rand::TryRng;
use rand::rngs::SysRng;
use std::collections::VecDeque;
use std::fs;
use std::io::{IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a start may take, recovery of a large store included.
const START_WITHIN: Duration = Duration::from_secs(120);
/// Lines of the daemon's log that are shown when it does not start.
const LOG_LINES: usize = 10;

/// What a daemon's configuration says besides the defaults.
const CONFIG: &str = r#"
[auth]
keys = [{ alg = "HS256", secret_file = "secret" }]
[runs]
active = 100000
queued = 100000
timeout = "1h"
lease = "10m"
start = "1m"
"#;
/// And where thousands come from one address.
const OPEN: &str = r#"
[server]
connections = 1000000
connections_per_address = 1000000
[limits]
messages_per_second = 1000
burst = 1000
"#;

/// A daemon's directory: its secret, its configuration, its data. Gone when this is dropped.
#[derive(Debug)]
pub(super) struct Home {
    directory: TempDir,
}

impl Home {
    /// A new one in `directory`, with limits that do not stand in the way of thousands from one address.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn open(directory: &Path) -> Result<Self, BenchError> {
        Self::new(directory, &[CONFIG, OPEN].concat())
    }

    /// A new one with the limits of connections, attempts and messages that a daemon has by default.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn guarded(directory: &Path) -> Result<Self, BenchError> {
        Self::new(directory, CONFIG)
    }

    fn new(directory: &Path, config: &str) -> Result<Self, BenchError> {
        let directory = tempfile::Builder::new().prefix("runcast-bench-").tempdir_in(directory)?;
        let mut random = [0; 32];
        SysRng.try_fill_bytes(&mut random).map_err(std::io::Error::other)?;
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(directory.path().join("secret"), secret)?;
        fs::write(directory.path().join("runcast.toml"), config)?;
        Ok(Self { directory })
    }

    /// Where its secret is.
    pub(super) fn secret(&self) -> PathBuf {
        self.directory.path().join("secret")
    }

    /// How a load generator speaks with the daemon that is at home here.
    pub(super) fn tongue(&self) -> Tongue {
        Tongue::Runcast { secret: self.secret() }
    }
}

/// A running daemon. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Process,
    address: SocketAddr,
}

impl Daemon {
    /// Starts a daemon at home; it is ready when this returns. Also how long that took.
    ///
    /// # Errors
    /// When it does not start, with the last lines of its log.
    pub(super) fn start(home: &Home) -> Result<(Self, Duration), BenchError> {
        let begun = Instant::now();
        let mut command = Command::new(std::env::current_exe()?);
        let directory = home.directory.path();
        command.arg("serve").arg("--config").arg(directory.join("runcast.toml"));
        command.arg("--data").arg(directory.join("data")).args(["--listen", "127.0.0.1:0"]);
        command.args(["--set", "log.format=json"]).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = Process::spawn(&mut command)?;
        let log = Lines::of(child.0.stderr.take().ok_or(BenchError::Pipe)?);
        let mut daemon = Self { child, address: SocketAddr::from(([0, 0, 0, 0], 0)) };
        daemon.address = address(&log)?;
        while !get(daemon.address, "/readyz")?.starts_with("HTTP/1.1 200 ") {
            stop::check()?;
            if begun.elapsed() > START_WITHIN {
                return Err(BenchError::Daemon("it serves, and does not become ready".into()));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok((daemon, begun.elapsed()))
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has used so far.
    pub(super) fn usage(&self) -> Result<Usage, BenchError> {
        self.child.usage()
    }

    /// What it tells of itself now: what it told before is good no longer.
    pub(super) fn told(&self) -> Result<Told, BenchError> {
        thread::sleep(Duration::from_millis(METRICS_GOOD.as_millis()));
        get(self.address, "/metrics").map(|text| Told::read(&text))
    }

    /// Kills it with SIGKILL, wherever it is.
    pub(super) fn kill(&mut self) {
        self.child.kill();
    }
}

/// What the daemon answers to a GET, head and all.
fn get(address: SocketAddr, path: &str) -> Result<String, BenchError> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(START_WITHIN))?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(head.as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The address that the log names.
fn address(log: &Lines) -> Result<SocketAddr, BenchError> {
    let mut last = VecDeque::new();
    let deadline = Instant::now() + START_WITHIN;
    loop {
        let Some(line) = log.next(Some(deadline))? else {
            return Err(BenchError::Daemon(Vec::from(last).join("\n")));
        };
        let fields = serde_json::from_str(&line).map(|line: serde_json::Value| line["fields"].clone());
        let fields = fields.unwrap_or_default();
        if fields["message"] == "serving"
            && let Some(address) = fields["address"].as_str().and_then(|address| address.parse().ok())
        {
            return Ok(address);
        }
        last.push_back(line);
        if last.len() > LOG_LINES {
            last.pop_front();
        }
    }
}

/// A running yardstick. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Yardstick {
    child: Process,
    address: SocketAddr,
}

impl Yardstick {
    /// Starts the bare relay.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn relay() -> Result<Self, BenchError> {
        Self::start(Command::new(std::env::current_exe()?).arg("bench-relay"))
    }

    /// Starts the bare protocol, whose file lies at home.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn protocol(home: &Home) -> Result<Self, BenchError> {
        Self::start(Command::new(std::env::current_exe()?).arg("bench-bare").arg(home.directory.path()))
    }

    fn start(command: &mut Command) -> Result<Self, BenchError> {
        let mut child = Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let told = Lines::of(child.0.stdout.take().ok_or(BenchError::Pipe)?);
        let mut yardstick = Self { child, address: SocketAddr::from(([0, 0, 0, 0], 0)) };
        let address = told.next(Some(Instant::now() + START_WITHIN))?.and_then(|line| line.parse().ok());
        yardstick.address = address.ok_or(BenchError::Load("the yardstick names no address".into()))?;
        Ok(yardstick)
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn usage(&self) -> Result<Usage, BenchError> {
        self.child.usage()
    }
}

/// Who besieges a daemon. They are killed when this is dropped.
#[derive(Debug)]
pub(super) struct Besiegers {
    child: Process,
}

impl Besiegers {
    /// Starts them against what is at this address.
    ///
    /// # Errors
    /// When they do not start.
    pub(super) fn start(at: SocketAddr, siege: Siege) -> Result<Self, BenchError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bench-siege").arg(at.to_string());
        command.args([siege.per_second.to_string(), siege.held.to_string()]);
        let child = Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        Ok(Self { child })
    }

    /// Ends it, and tells what they have done.
    ///
    /// # Errors
    /// When they have ended before.
    pub(super) fn lift(mut self) -> Result<Done, BenchError> {
        drop(self.child.0.stdin.take());
        let told = Lines::of(self.child.0.stdout.take().ok_or(BenchError::Pipe)?);
        let line = told.next(Some(Instant::now() + START_WITHIN))?.unwrap_or_default();
        serde_json::from_str(&line).map_err(|error| BenchError::Load(format!("the siege: {error}")))
    }
}

/// A thread that ends when standard input does: whoever has started this process wants no more of it.
pub(super) fn until_told() -> thread::JoinHandle<()> {
    thread::spawn(|| drop(std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())))
}

/// The load generator. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Load {
    child: Process,
    orders: ChildStdin,
    answers: Lines,
}

impl Load {
    /// Starts one for what serves at this address and speaks so.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn start(at: SocketAddr, tongue: Tongue) -> Result<Self, BenchError> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child =
            Process::spawn(command.arg("bench-load").stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let orders = child.0.stdin.take().ok_or(BenchError::Pipe)?;
        let answers = Lines::of(child.0.stdout.take().ok_or(BenchError::Pipe)?);
        let mut load = Self { child, orders, answers };
        load.ask(&Order::Aim { at, tongue })?;
        Ok(load)
    }

    /// What it has used so far.
    pub(super) fn usage(&self) -> Result<Usage, BenchError> {
        self.child.usage()
    }

    /// Has it do something, shows how far it is, and returns when it is done.
    ///
    /// # Errors
    /// [`BenchError::Load`] with what went wrong, or [`BenchError::Stopped`].
    pub(super) fn ask(&mut self, order: &Order) -> Result<Tally, BenchError> {
        let line = serde_json::to_string(order).map_err(std::io::Error::other)?;
        // One that has ended has said why.
        let _ = writeln!(self.orders, "{line}");
        loop {
            let Some(line) = self.answers.next(None)? else {
                return Err(BenchError::Load("the load generator has ended".into()));
            };
            match serde_json::from_str(&line).map_err(std::io::Error::other)? {
                Answer::Doing { what, done, of } => {
                    let of = of.map_or_else(String::new, |of| format!(" of {of}"));
                    progress(&format!("    {what}: {done}{of}"));
                }
                Answer::Done(tally) => return Ok(tally),
                Answer::Failed { why } => return Err(BenchError::Load(why)),
            }
        }
    }
}

/// Says on standard error how far it is: on a terminal in one line, that the next one replaces.
pub(super) fn progress(text: &str) {
    let mut err = std::io::stderr();
    let _ =
        if err.is_terminal() { write!(err, "\r\x1b[K{text}") } else { writeln!(err, "{}", text.trim_end()) };
}
