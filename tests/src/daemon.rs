//! The daemon under test: started, killed, and started again on the same port and data.

use crate::{Log, PATIENCE, SECRET, disk, eventually, output, raw_request};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use tempfile::TempDir;

/// A running daemon. It is killed when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// Ends with the process.
    told: Receiver<SocketAddr>,
    log: Log,
    directory: TempDir,
    settings: Vec<String>,
    cage: Cage,
    door: Door,
}

/// What the system gives the daemon less of than others get.
#[derive(Clone, Debug)]
enum Cage {
    /// Nothing.
    Open,
    /// Address space, in KiB.
    AddressSpace(u64),
    /// A disk in memory, with these options of mount.
    Disk(String),
}

/// Where the daemon listens, and whether it does: clients wait here while it is down.
#[derive(Clone, Debug)]
pub struct Door {
    address: SocketAddr,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Door {
    /// The daemon's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when the daemon is up: at once, or after its restart.
    pub fn wait(&self) {
        let (open, changed) = &*self.open;
        let open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let (_open, waited) =
            changed.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "the daemon was not started again");
    }

    fn set(&self, is_open: bool) {
        let (open, changed) = &*self.open;
        *open.lock().unwrap_or_else(PoisonError::into_inner) = is_open;
        changed.notify_all();
    }
}

impl Daemon {
    /// Starts a daemon on a free port, with `settings` like `runs.active=1` besides the defaults.
    pub fn start(settings: &[&str]) -> Self {
        Self::begin(settings, Cage::Open)
    }

    /// The same, in a process that the system gives no more than so much address space, in KiB.
    pub fn limited(settings: &[&str], address_space_kib: u64) -> Self {
        Self::begin(settings, Cage::AddressSpace(address_space_kib))
    }

    /// The same, with a disk in memory in place of its data directory, which is gone when it ends. `options`
    /// are mount's, like `size=24m`. None where nothing may be mounted.
    pub fn on_disk(settings: &[&str], options: &str) -> Option<Self> {
        let probe = TempDir::new().expect("a directory to mount at");
        disk::mounting(probe.path(), options)?;
        Some(Self::begin(settings, Cage::Disk(options.to_owned())))
    }

    fn begin(settings: &[&str], cage: Cage) -> Self {
        let directory = TempDir::new().expect("a directory for the test");
        fs::write(directory.path().join("secret"), SECRET).expect("the secret is written");
        let secret = directory.path().join("secret");
        let config = format!(
            "[auth]\nkeys = [{{ alg = \"HS256\", secret_file = {secret:?} }}]\n[agents.research]\n\
                     [log]\nlevel = \"info\"\nformat = \"json\"\n"
        );
        fs::write(directory.path().join("runcast.toml"), config).expect("the configuration is written");
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let log = Log::default();
        let (child, address, told) = launch(directory.path(), &settings, any, &log, &cage);
        let door = Door { address, open: Arc::new((Mutex::new(true), Condvar::new())) };
        Self { child, told, log, directory, settings, cage, door }
    }

    /// Where it listens.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("runcast.toml")
    }

    /// What it has logged, with all its restarts.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// A directory for the test's files, in which its configuration lies too.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Changes the configuration file, in which `from` stands once. The daemon is not told.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let path = self.directory.path().join("runcast.toml");
        let text = fs::read_to_string(&path).expect("the configuration is there");
        assert_eq!(text.matches(from).count(), 1, "{from:?} stands once in {text}");
        fs::write(path, text.replace(from, to)).expect("the configuration is written");
    }

    /// Kills it with SIGKILL, wherever it is.
    pub fn kill(&mut self) {
        self.door.set(false);
        self.child.kill().expect("the daemon is killed");
        let status = self.child.wait().expect("the daemon has ended");
        assert_eq!(status.code(), None, "the daemon had ended by itself: {status}");
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}")).arg(self.child.id().to_string());
        assert!(kill.status().expect("kill is there").success(), "the daemon had ended before SIG{name}");
    }

    /// Has the system let it open no more than so many files. Those that are open stay so.
    pub fn let_open(&self, files: u32) {
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &self.id().to_string(), &format!("--nofile={files}:")]);
        assert!(prlimit.status().expect("prlimit is there").success());
    }

    /// Waits until it has ended by itself, and returns its exit code.
    pub fn exit_code(&mut self) -> i32 {
        self.door.set(false);
        let ended = self.told.recv_timeout(PATIENCE);
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected), "the daemon does not end");
        let status = self.child.wait().expect("the daemon has ended");
        status.code().expect("no signal ends it")
    }

    /// Starts it again, after [`kill`](Self::kill) or [`exit_code`](Self::exit_code), on the same port and
    /// data.
    pub fn restart(&mut self) {
        let (child, address, told) =
            launch(self.directory.path(), &self.settings, self.door.address, &self.log, &self.cage);
        assert_eq!(address, self.door.address);
        (self.child, self.told) = (child, told);
        self.door.set(true);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have been killed before; there is nothing to do about another failure here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the binary and returns when it serves, with its address.
fn launch(
    directory: &Path,
    settings: &[String],
    listen: SocketAddr,
    log: &Log,
    cage: &Cage,
) -> (Child, SocketAddr, Receiver<SocketAddr>) {
    let mut command = match cage {
        Cage::Open => Command::new(binary()),
        Cage::AddressSpace(kib) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(format!("ulimit -v {kib} && exec \"$0\" \"$@\"")).arg(binary());
            shell
        }
        Cage::Disk(options) => {
            let mut mounting = disk::mounting(&directory.join("data"), options).expect("it could be mounted");
            mounting.arg(binary());
            mounting
        }
    };
    command.arg("serve").arg("--config").arg(directory.join("runcast.toml"));
    command.arg("--data").arg(directory.join("data")).arg("--listen").arg(listen.to_string());
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    let mut child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().expect("the daemon starts");
    let told = follow(child.stderr.take().expect("its log is piped"), log.clone());
    let address = told.recv_timeout(PATIENCE).expect("the daemon serves; what it said instead is above");
    if !settings.iter().any(|setting| setting.starts_with("server.tls_cert=")) {
        become_ready(address);
    }
    (child, address, told)
}

/// Waits until it is ready: on a machine that stands still now and then its loop may lag at first.
fn become_ready(address: SocketAddr) {
    eventually("a daemon that is ready", || {
        let (status, body) = raw_request(address, "GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert!(status == 200 || body.contains("loop lag"), "not ready: {body}");
        if status == 200 { Ok(()) } else { Err(body) }
    });
}

/// Reads the log to its end, shows it to whoever reads the test's output, and tells the address when it
/// comes.
fn follow(stderr: ChildStderr, log: Log) -> Receiver<SocketAddr> {
    let (tell, told) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let fields = serde_json::from_str(&line).map(|line: Value| line["fields"].clone());
            match fields {
                Ok(fields) if fields["message"] == "serving" => {
                    let address = fields["address"].as_str().and_then(|address| address.parse().ok());
                    // Nobody listens any more when the test has failed.
                    let _ = tell.send(address.expect("the log names the address"));
                }
                Ok(_) | Err(_) => show(&line),
            }
            log.add(line);
        }
    });
    told
}

#[allow(clippy::print_stderr, reason = "a failing test shows what the daemon said")]
fn show(line: &str) {
    eprintln!("daemon: {line}");
}

/// Runs a command of the binary to its end, away from any configuration: its exit code, output and errors.
pub fn runcast(words: &[&str]) -> (i32, String, String) {
    let directory = TempDir::new().expect("a directory for the command");
    let mut command = Command::new(binary());
    command.args(words).current_dir(directory.path()).env_remove("RUNCAST_TOKEN").env_remove("RUNCAST_URL");
    let output = output(&mut command).expect("the command starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("no signal ends it"), text(output.stdout), text(output.stderr))
}

/// The binary, built once in a test run, in the profile of the test itself.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("the test knows where it is");
        let profile = test.ancestors().nth(2).expect("a test lies in target/<profile>/deps");
        let target = profile.parent().expect("a profile lies in target");
        let name = profile.file_name().and_then(|name| name.to_str()).expect("a profile has a name");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "runcast", "--bin", "runcast", "--profile"]);
        build.arg(if name == "debug" { "dev" } else { name }).arg("--target-dir").arg(target);
        let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
        assert!(status.success(), "the daemon could not be built");
        profile.join("runcast")
    })
}
