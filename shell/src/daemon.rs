//! `runcast serve` and `runcast demo`: everything put together, in the one order in which it works.
//!
//! Lock and open the store, recover, read the keys, and only then listen: there is no moment at which a
//! client could meet a daemon that is not ready.

use crate::agents;
use crate::auth::{DEV_KID, Keys, Secret, dev_secret, sign};
use crate::cli::{Exit, refuse, say};
use crate::config::{Format, Level, Origin, Problem, Problems, Settings};
use crate::disk::{DiskError, FileDisk, make_directory};
use crate::metrics::{CertificateMeter, LoopMeter, Metrics, StoreMeter};
use crate::mio_loop::MioLoop;
use crate::place::Place;
use crate::preflight;
use crate::pump::Pump;
use crate::reload::{Current, Live, Reloader};
use crate::stderr::{Finish, Lines};
use crate::store::{self, Store};
use crate::store_thread::StoreThread;
use crate::tls::{self, Trust};
use crate::webhook::Webhook;
use crate::worker::{self, Agent, Workers};
use runcast_core::config::Config;
use runcast_core::input::Claims;
use runcast_core::record::Image;
use runcast_core::{Core, ids};
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// How long the tokens last that `--dev` hands out.
const DEV_TOKEN_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// The user of those tokens.
const DEV_USER: &str = "dev";

/// How long a start waits for a store that is in use: whoever looks at it, or is a daemon that goes down, is
/// done by then,
const STORE_WITHIN: Duration = Duration::from_secs(5);
/// and between two attempts.
const STORE_AGAIN: Duration = Duration::from_millis(50);

/// Why there was no start, and what the process ends with.
struct Unstarted(Problems, Exit);

impl From<Problems> for Unstarted {
    fn from(problems: Problems) -> Self {
        Self(problems, Exit::Configuration)
    }
}

impl From<Problem> for Unstarted {
    fn from(problem: Problem) -> Self {
        Problems::from(problem).into()
    }
}

/// Serves until SIGTERM or SIGINT. `opens_browser` is what makes it a demo.
pub fn serve(settings: &Settings, opens_browser: bool) -> Exit {
    let (level, lines) = match log(settings) {
        Ok(log) => log,
        Err(error) => return refuse(&system(settings, &error).into()),
    };
    let ended = start(settings, opens_browser, level);
    // What is refused comes after all lines.
    drop(lines);
    match ended {
        Ok(exit) => exit,
        Err(Unstarted(problems, exit)) => {
            refuse(&problems);
            exit
        }
    }
}

fn start(
    settings: &Settings,
    opens_browser: bool,
    log: impl Fn(Level) + Send + 'static,
) -> Result<Exit, Unstarted> {
    preflight::raise_open_files();
    for problem in preflight::warnings(settings) {
        tracing::warn!("{problem}");
    }
    let keys = Keys::from_config(&settings.auth, settings.dev)?;
    let tls = tls::load(settings)?;
    let mio = MioLoop::new().map_err(|error| system(settings, &error))?;
    let webhook = Webhook::from_settings(settings, mio.waker())?;
    let (store, turns) = (StoreMeter::default(), LoopMeter::default());
    let (metrics, certificate) = metrics(settings, &store, &turns);
    let (storage, image) = open_store(settings, store, mio.waker())?;
    let secret = if settings.dev { Some(dev_secret(&settings.data)?) } else { None };
    let keys = Current::new(match &secret {
        Some(secret) => keys.with_dev(secret),
        None => keys,
    });
    let tls = tls.map(Current::new);
    let (log, dev_secret) = (Box::new(log), secret.clone());
    let live = Live { keys: keys.clone(), tls: tls.clone(), certificate, dev_secret, log };
    let reloader = Reloader::start(settings.clone(), live).map_err(|error| system(settings, &error))?;
    let mio = mio.reloading(reloader).encrypting(tls);
    let mut opening = Vec::new();
    let agents = if settings.dev { built_in(settings)? } else { Vec::new() };
    let config = knowing(settings, &agents);
    let core = Core::open(config, rand::random(), image, mio.now(), &mut opening);
    let pump = Pump::new(core, opening, storage, Box::new(move |token| keys.get().verify(token)));
    let pump = pump.metered(Box::new(move |view| metrics.text(view)));
    let (listener, address) = preflight::listen(settings)?;
    tracing::info!(%address, data = %settings.data.display(), "serving");
    let workers = secret.map(|secret| develop(settings, secret, agents, address, opens_browser));
    let workers = workers.transpose()?;
    let ended = mio.run(listener, pump, webhook, turns);
    if let Some(workers) = workers {
        workers.stop();
    }
    Ok(match ended {
        Ok(()) => Exit::Done,
        Err(error) => {
            tracing::error!(%error, "the daemon must end");
            Exit::Failed
        }
    })
}

/// All metrics; the certificate's if the port has one.
fn metrics(settings: &Settings, store: &StoreMeter, turns: &LoopMeter) -> (Metrics, CertificateMeter) {
    let (metrics, certificate) =
        (Metrics::new(store, turns, settings.store_file()), CertificateMeter::default());
    let Some(until) = tls::expires(settings) else { return (metrics, certificate) };
    certificate.expires(until);
    (metrics.with_certificate(&certificate), certificate)
}

fn open_store(
    settings: &Settings,
    meter: StoreMeter,
    wake: impl Fn() + Send + Sync + 'static,
) -> Result<(StoreThread, Image), Unstarted> {
    preflight::data_directory(settings)?;
    make_directory(&settings.data).map_err(|error| {
        let reason = format!("store.dir: {} cannot be made: {error}", settings.data.display());
        Problem::new(settings.origin("store.dir").clone(), reason, "give a directory that can be made")
    })?;
    let disk = hold(&settings.store_file()).map_err(|error| {
        // With the same configuration another start may find it free: a supervisor is to try again.
        let exit = if matches!(error, DiskError::Locked(_)) { Exit::Failed } else { Exit::Configuration };
        Unstarted(preflight::store_problem(settings, &error).into(), exit)
    })?;
    // Whoever has the store writes here alone.
    store::sweep(&settings.data);
    store::sweep(&settings.backups());
    let opened = Store::open(disk, settings.repair);
    let (store, image) = opened.map_err(|error| preflight::store_problem(settings, &error))?;
    let thread = StoreThread::start(store, settings.backups(), meter, wake);
    Ok((thread.map_err(|error| system(settings, &error))?, image))
}

/// The store's file, for this process alone.
fn hold(path: &Path) -> Result<FileDisk, DiskError> {
    let began = Instant::now();
    let mut disk = FileDisk::open(path);
    if matches!(disk, Err(DiskError::Locked(_))) {
        tracing::info!(path = %path.display(), "the store is in use: a start waits for it");
    }
    while matches!(disk, Err(DiskError::Locked(_))) && began.elapsed() < STORE_WITHIN {
        thread::sleep(STORE_AGAIN);
        disk = FileDisk::open(path);
    }
    disk
}

fn system(settings: &Settings, error: &io::Error) -> Problem {
    let origin = settings.origin("server.listen").clone();
    Problem::new(
        origin,
        format!("the system grants no poll, signals or threads: {error}"),
        "raise its limits",
    )
}

/// The agents of `--dev`.
fn built_in(settings: &Settings) -> Result<Vec<Box<dyn Agent>>, Problem> {
    agents::all(Path::new(".")).map_err(|error| {
        let origin = Origin::File(settings.data.clone(), None);
        Problem::new(origin, format!("the files agent: {error}"), "start it in a folder that can be read")
    })
}

/// The core's configuration, to which these agents are known before their worker has come: a run that is
/// asked for as soon as the port is open waits for it, and is not refused.
fn knowing(settings: &Settings, agents: &[Box<dyn Agent>]) -> Config {
    let mut config = settings.core.clone();
    for name in agents.iter().filter_map(|agent| ids::Agent::parse(agent.name())) {
        config.agents.entry(name).or_default();
    }
    config
}

/// What `--dev` adds: tokens at hand, and the built-in agents, as a worker like any other.
fn develop(
    settings: &Settings,
    secret: Secret,
    agents: Vec<Box<dyn Agent>>,
    address: SocketAddr,
    opens_browser: bool,
) -> Result<Workers, Problem> {
    let problem = |reason: String| {
        let origin = Origin::File(settings.data.clone(), None);
        Problem::new(origin, reason, "see that the data directory can be written to")
    };
    let token = dev_token(&secret, DEV_USER, "user");
    let path = settings.data.join("dev-token");
    keep_token(&path, &token).map_err(|error| problem(format!("dev-token cannot be written: {error}")))?;
    let scheme = if settings.tls.cert.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}/#token={token}");
    say(&format!("Runcast is serving on {address}. The chat page, as the user `{DEV_USER}`:\n\n  {url}\n"));
    let operator = dev_token(&secret, "operator", "operate user");
    say(&format!("The operators' console:\n\n  {scheme}://{address}/console#token={operator}\n"));
    say(&format!("A token for commands and clients is in {}.", path.display()));
    if opens_browser {
        open_browser(&url);
    }
    let token = move || dev_token(&secret, "built-in", "worker");
    let trust = settings.tls.cert.clone().map_or(Trust::WellKnown, Trust::Itself);
    let place = Place { url: format!("{scheme}://{address}"), trust };
    worker::spawn(place, token, agents, "built-in".into())
        .map_err(|error| problem(format!("the built-in worker cannot start: {error}")))
}

fn dev_token(secret: &Secret, user: &str, scope: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let claims = Claims {
        sub: user.into(),
        exp: (now + DEV_TOKEN_TTL).as_secs(),
        iat: Some(now.as_secs()),
        scope: Some(scope.into()),
        ..Claims::default()
    };
    sign(&claims, secret, Some(DEV_KID))
}

/// Readable by its owner only: whoever has it is that user.
fn keep_token(path: &Path, token: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{token}")
}

/// Opens the page if the system knows how. The URL is printed in any case.
fn open_browser(url: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let quiet = Command::new(opener).arg(url).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Err(error) = quiet {
        tracing::debug!(%error, "no browser was opened");
    }
}

/// One line to standard error for each thing that happens. Returns what changes how much that is, and what is
/// to be finished at the end.
fn log(settings: &Settings) -> io::Result<(impl Fn(Level) + Send + 'static + use<>, Finish)> {
    let (filter, handle) = reload::Layer::new(targets(settings.log.level));
    let out = Lines::start(io::stderr(), |count| {
        tracing::warn!(count, "lines of the log were dropped: whoever reads them is too slow");
    })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(out.clone());
    let is_text = match settings.log.format {
        Format::Text => true,
        Format::Json => false,
        Format::Auto => io::stderr().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    // A second daemon in one process (a test) keeps the first one's log.
    let _ = if is_text { registry.with(lines).try_init() } else { registry.with(lines.json()).try_init() };
    let set = move |level| {
        if let Err(error) = handle.reload(targets(level)) {
            tracing::error!(%error, "the level of the log stays");
        }
    };
    Ok((set, Finish(out)))
}

/// The WebSocket library is not heard: at its finest level it shows frames, and tokens in them.
fn targets(level: Level) -> Targets {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_target("runcast", level).with_target("audit", LevelFilter::INFO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_of_dev_are_known_before_their_worker_has_come() {
        let settings = Settings::default();
        let config = knowing(&settings, &built_in(&settings).expect("this folder can be read"));
        let names: Vec<&str> = config.agents.keys().map(ids::Agent::as_str).collect();
        assert_eq!(names, ["echo", "files"]);
        assert_eq!(knowing(&settings, &[]).agents, settings.core.agents);
    }
}
