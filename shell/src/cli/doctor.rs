//! `runcast doctor`: looks at everything that a daemon needs, from the configuration to the way to it, and
//! says of each how it is and what to do.

use super::{DoctorOptions, Exit, refuse, say};
use crate::ask::{ask, fetch};
use crate::auth::Keys;
use crate::config::{Problem, Problems, Settings, units};
use crate::line::Lost;
use crate::metrics::free_bytes;
use crate::place::Place;
use crate::preflight;
use crate::tls::{self, Trust};
use crate::webhook;
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Writes by which the disk is measured, and the bytes of each: about a commit.
const WRITES: usize = 32;
const WRITE_BYTES: usize = 4096;
/// A disk slower than this in the middle holds up every event.
const SYNC_SLOW: Duration = Duration::from_millis(20);
/// Clocks of two machines may differ by so much, the way there included.
const CLOCKS_APART: Duration = Duration::from_secs(2);

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Good,
    Warning,
    Bad,
}

/// One thing that was looked at.
#[derive(Debug)]
struct Look {
    what: &'static str,
    state: State,
    told: String,
}

impl Look {
    fn new(what: &'static str, state: State, told: impl Into<String>) -> Self {
        Self { what, state, told: told.into() }
    }

    fn bad(what: &'static str, problem: &Problem) -> Self {
        Self::new(what, State::Bad, problem.to_string())
    }
}

/// How something is, in a line; or what is wrong with it, a line for each reason.
fn looks_at(what: &'static str, outcome: Result<String, impl Into<Problems>>) -> Vec<Look> {
    match outcome {
        Ok(told) => vec![Look::new(what, State::Good, told)],
        Err(problems) => problems.into().0.iter().map(|problem| Look::bad(what, problem)).collect(),
    }
}

/// Whether a daemon answers.
enum Daemon {
    Ready,
    NotReady,
    /// Something answers whose certificate is another: it may be the daemon, or anything.
    Unknown,
    Silent,
}

/// Looks at all, and ends with 1 if anything is bad, 78 if the configuration cannot be read.
pub fn doctor(options: &DoctorOptions) -> Exit {
    let settings = match options.config.load() {
        Ok(settings) => settings,
        Err(problems) => return refuse(&problems),
    };
    let looks = look(options, &settings);
    for look in &looks {
        say(&if options.json { as_json(look) } else { line(look) });
    }
    let is_bad = looks.iter().any(|look| look.state == State::Bad);
    if is_bad { Exit::Failed } else { Exit::Done }
}

fn look(options: &DoctorOptions, settings: &Settings) -> Vec<Look> {
    let place = place(options, settings);
    let (daemon, reached) = reach(&place);
    let sound = "every value is in its range, and none contradicts another";
    let mut looks = vec![Look::new("configuration", State::Good, sound)];
    let keys = Keys::from_config(&settings.auth, settings.dev);
    looks.extend(looks_at("keys", keys.map(|_| "can be read".to_owned())));
    looks.extend(looks_at("certificate", tls::load(settings).map(|tls| certificate(tls.is_some()))));
    looks.extend(looks_at("webhook", webhook::configured(settings).map(|_| "can be called".to_owned())));
    let directory = preflight::data_directory(settings);
    let is_there = directory.is_ok();
    looks.extend(looks_at("directory", directory.map(|()| free(settings))));
    if is_there {
        looks.push(store(settings, &daemon));
        looks.push(disk(&preflight::existing(&settings.data)));
    }
    looks.push(address(settings, &daemon));
    looks.push(limits());
    looks.extend(preflight::warnings(settings).into_iter().map(warning));
    looks.push(reached);
    if let (Daemon::Ready, Some(token)) = (&daemon, &options.token) {
        looks.push(clocks(&place, token));
    }
    looks
}

fn certificate(is_there: bool) -> String {
    let told = if is_there { "good, and goes with its key" } else { "none: the port speaks no TLS" };
    told.to_owned()
}

fn warning(problem: Problem) -> Look {
    Look::new("warning", State::Warning, problem.to_string())
}

/// The daemon that is meant: at an address that was given, or beside this process.
fn place(options: &DoctorOptions, settings: &Settings) -> Place {
    match (&options.url, &settings.tls.cert) {
        (Some(url), _) => super::place(url, options.ca.as_deref()),
        (None, None) => near(settings.listen, "http").into(),
        (None, Some(certificate)) => {
            let itself = Trust::Itself(certificate.clone());
            let trust = options.ca.clone().map_or(itself, Trust::File);
            Place { url: near(settings.listen, "https"), trust }
        }
    }
}

/// Where a daemon listens, as seen from here.
fn near(listen: SocketAddr, scheme: &str) -> String {
    let ip = listen.ip();
    let host = match (ip.is_unspecified(), listen) {
        (true, SocketAddr::V4(_)) => "127.0.0.1".to_owned(),
        (true, SocketAddr::V6(_)) => "[::1]".to_owned(),
        (false, SocketAddr::V4(_)) => ip.to_string(),
        (false, SocketAddr::V6(_)) => format!("[{ip}]"),
    };
    format!("{scheme}://{host}:{}", listen.port())
}

fn free(settings: &Settings) -> String {
    let directory = preflight::existing(&settings.data);
    let free = free_bytes(&directory).map(|free| format!(", {} MiB free", free >> 20));
    format!("{} can be written to{}", directory.display(), free.unwrap_or_default())
}

/// A store in use is as it should be while the daemon runs.
fn store(settings: &Settings, daemon: &Daemon) -> Look {
    let began = Instant::now();
    match preflight::store(settings) {
        Ok(None) => Look::new("store", State::Good, "there is none yet: the first start makes it"),
        Ok(Some(size)) => {
            let took = began.elapsed().as_millis();
            Look::new("store", State::Good, format!("{} KiB, opened in {took} ms", size >> 10))
        }
        Err(problem) if problem.reason.contains("in use") => match daemon {
            Daemon::Ready | Daemon::NotReady => Look::new("store", State::Good, "in use by the daemon"),
            Daemon::Unknown => {
                Look::new("store", State::Warning, "in use, by a daemon that is not known here")
            }
            Daemon::Silent => Look::bad("store", &problem),
        },
        Err(problem) => Look::bad("store", &problem),
    }
}

/// How long a write takes until it is on stable storage.
fn disk(directory: &Path) -> Look {
    match measure(directory) {
        Ok(times) => {
            let (middle, worst) = (times[times.len() / 2], times[times.len() - 1]);
            let state = if middle > SYNC_SLOW { State::Warning } else { State::Good };
            let advice = if state == State::Warning {
                ": slow, every event waits for it; give store.dir a local SSD"
            } else {
                ""
            };
            let told = format!(
                "{WRITE_BYTES} bytes are safe in {middle:.1?} (worst {worst:.1?} of {WRITES}){advice}"
            );
            Look::new("disk", state, told)
        }
        Err(error) => Look::new("disk", State::Bad, format!("cannot be measured: {error}; check the disk")),
    }
}

/// The times of some synced writes, shortest first.
fn measure(directory: &Path) -> io::Result<Vec<Duration>> {
    let path = directory.join(format!(".runcast-doctor-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    // Gone with the process, whatever happens.
    fs::remove_file(&path)?;
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let began = Instant::now();
        file.write_all(&[0x5a; WRITE_BYTES])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

fn address(settings: &Settings, daemon: &Daemon) -> Look {
    let listen = settings.listen;
    match (preflight::listen(settings), daemon) {
        (Ok(_), _) => Look::new("address", State::Good, format!("{listen} is free")),
        (Err(_), Daemon::Ready | Daemon::NotReady) => {
            Look::new("address", State::Good, format!("{listen} is the daemon's"))
        }
        (Err(_), Daemon::Unknown) => {
            let told = format!("{listen} is taken, by a daemon that is not known here or by something else");
            Look::new("address", State::Warning, told)
        }
        (Err(problem), Daemon::Silent) => Look::bad("address", &problem),
    }
}

fn limits() -> Look {
    let told = match preflight::open_files_allowed() {
        Some(most) => format!("{most} open files at most"),
        None => "no limit of open files".to_owned(),
    };
    Look::new("limits", State::Good, told)
}

/// Whether a daemon answers at a URL, and how fast.
fn reach(place: &Place) -> (Daemon, Look) {
    let (url, began) = (&place.url, Instant::now());
    match fetch(place, "", "GET", "/readyz", None) {
        Ok(_) => {
            let told = format!("{url} answers in {:.1?} and is ready", began.elapsed());
            (Daemon::Ready, Look::new("daemon", State::Good, told))
        }
        Err(Lost::Refused { status: 503, message, .. }) => {
            let told = format!("{url} answers and is not ready {message}; `curl {url}/readyz` says why");
            (Daemon::NotReady, Look::new("daemon", State::Warning, told))
        }
        Err(lost @ (Lost::Refused { .. } | Lost::Broken(_))) => {
            let told = format!("{url}: {lost}; something else answers there, or a proxy is between");
            (Daemon::Silent, Look::new("daemon", State::Bad, told))
        }
        Err(lost @ Lost::Untrusted { .. }) => {
            let told = format!("{lost}; or something else answers there");
            (Daemon::Unknown, Look::new("daemon", State::Warning, told))
        }
        Err(lost @ (Lost::BadUrl { .. } | Lost::NoTrust(_))) => {
            (Daemon::Silent, Look::new("daemon", State::Bad, lost.to_string()))
        }
        Err(lost @ (Lost::Unreachable { .. } | Lost::Closed { .. })) => {
            let told = format!("{lost}; `runcast serve` starts one");
            (Daemon::Silent, Look::new("daemon", State::Warning, told))
        }
    }
}

/// Whether the daemon's clock shows the same.
fn clocks(place: &Place, token: &str) -> Look {
    let answer = match ask(place, token, "GET", "/v1/status") {
        Ok(answer) => answer,
        Err(lost) => {
            let told = format!("cannot be compared: {lost}; give a token with the scope `operate`");
            return Look::new("clocks", State::Warning, told);
        }
    };
    let here = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let there = Duration::from_millis(answer["ts"].as_u64().unwrap_or_default());
    let apart = here.abs_diff(there);
    if apart > CLOCKS_APART {
        let apart = units::show_duration(runcast_core::time::Span::secs(apart.as_secs()));
        return Look::new(
            "clocks",
            State::Bad,
            format!("the daemon's and this one are {apart} apart; set them (NTP)"),
        );
    }
    Look::new("clocks", State::Good, format!("the daemon's and this one are {} ms apart", apart.as_millis()))
}

fn line(look: &Look) -> String {
    let state = match look.state {
        State::Good => "ok",
        State::Warning => "warn",
        State::Bad => "BAD",
    };
    format!("{state:<4}  {:<13}  {}", look.what, super::show::plain(&look.told))
}

fn as_json(look: &Look) -> String {
    let state = match look.state {
        State::Good => "good",
        State::Warning => "warning",
        State::Bad => "bad",
    };
    Value::to_string(&json!({ "what": look.what, "state": state, "told": look.told }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_listens_everywhere_is_looked_for_here() {
        for (listen, url) in [
            ("0.0.0.0:8787", "http://127.0.0.1:8787"),
            ("[::]:8787", "http://[::1]:8787"),
            ("10.0.0.7:80", "http://10.0.0.7:80"),
            ("[fe80::1]:80", "http://[fe80::1]:80"),
        ] {
            assert_eq!(near(listen.parse().unwrap(), "http"), url);
        }
    }

    #[test]
    fn the_disk_is_measured_and_nothing_is_left_on_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(measure(dir.path()).unwrap().len(), WRITES);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
