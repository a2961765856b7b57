//! What a start would find wrong, told alike by `serve`, `check` and `doctor`: the data directory, the store,
//! the disk, the clock, the address, the limits of the system.
//!
//! Each is a [`Problem`]: where, what was found, what to do. Those that stop a start are errors; the others
//! are warnings, with which the daemon serves all the same. Nothing is changed by looking.

use crate::auth::{Keys, read_dev_secret};
use crate::config::{Origin, Problem, Problems, Settings, units};
use crate::disk::{Disk, FileDisk, Untouched};
use crate::metrics::free_bytes;
use crate::mio_loop::LINGERERS;
use crate::store::Store;
use crate::tls;
use crate::webhook;
use listenfd::ListenFd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// With less free space than this the disk counts as full, in bytes: some commits and a fold.
const FREE_LEAST: u64 = 16 << 20;
/// No clock that is right shows less, or more, in Unix seconds: the beginnings of 2025 and of 2100.
const CLOCK_SHOWS: Range<u64> = 1_735_689_600..4_102_444_800;
/// A clock may be behind the last write of the store by so much.
const CLOCK_BEHIND_MOST: Duration = Duration::from_secs(60);
/// Files that are open besides sockets.
const FILES_BESIDE: usize = 64;

/// All that was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What stops a start.
    pub stops: Problems,
    /// What does not, and should be seen to.
    pub warnings: Vec<Problem>,
}

/// Looks at everything.
pub fn look(settings: &Settings) -> Findings {
    let mut stops = Problems::default();
    stops.keep(Keys::from_config(&settings.auth, settings.dev));
    stops.keep(webhook::configured(settings));
    stops.keep(tls::load(settings));
    if settings.dev {
        stops.keep(read_dev_secret(&settings.data));
    }
    if stops.keep(data_directory(settings)).is_some() {
        stops.keep(store(settings));
    }
    stops.keep(listen(settings));
    Findings { stops, warnings: warnings(settings) }
}

/// What does not stop a start, and should be seen to.
pub fn warnings(settings: &Settings) -> Vec<Problem> {
    let now = SystemTime::now();
    // Without a store it is no warning.
    let space = space(settings).filter(|_| settings.store_file().exists());
    let open_files = open_files(settings, open_files_allowed());
    [space, clock(settings, now), tls::expires_soon(settings), open_files].into_iter().flatten().collect()
}

/// Whether the data directory can be written to or, when there is none, be made; and has room for a store to
/// begin in.
///
/// # Errors
/// It cannot.
pub fn data_directory(settings: &Settings) -> Result<(), Problem> {
    let problem = |reason: String| {
        Problem::new(
            directory_origin(settings),
            format!("store.dir: {reason}"),
            "give a directory that can be written to",
        )
    };
    let existing = existing(&settings.data);
    match fs::metadata(&existing) {
        Err(error) => Err(problem(format!("{} cannot be read: {error}", existing.display()))),
        Ok(found) if !found.is_dir() => Err(problem(format!("{} is no directory", existing.display()))),
        Ok(_) => match probe(&existing) {
            // That is told as what it is.
            Err(error) if error.kind() == ErrorKind::StorageFull => Ok(()),
            Err(error) => Err(problem(format!("{} cannot be written to: {error}", existing.display()))),
            Ok(()) => Ok(()),
        },
    }?;
    match space(settings) {
        Some(problem) if !settings.store_file().exists() => Err(problem),
        Some(_) | None => Ok(()),
    }
}

/// Whether the store, when there is one, is free and can be opened. It is opened indeed, and not written to;
/// returns its size in bytes. A daemon that starts meanwhile waits for that.
///
/// # Errors
/// Another process has it, or it is damaged, newer, or something else.
pub fn store(settings: &Settings) -> Result<Option<u64>, Problem> {
    let path = settings.store_file();
    if !path.exists() {
        return Ok(None);
    }
    let disk = FileDisk::look(&path).map_err(|error| store_problem(settings, &error))?;
    let size = disk.size().map_err(|error| store_problem(settings, &error))?;
    if size > 0 {
        Store::open(Untouched::new(disk), settings.repair)
            .map_err(|error| store_problem(settings, &error))?;
    }
    Ok(Some(size))
}

/// What is wrong with the store, in the words of [`OpenError`](crate::store::OpenError) and
/// [`DiskError`](crate::disk::DiskError), which say after a colon what to do.
pub fn store_problem(settings: &Settings, error: &impl ToString) -> Problem {
    let text = error.to_string();
    let (reason, fix) = text.rsplit_once(": ").unwrap_or((&text, "mend it, or give another with --data"));
    Problem::new(Origin::File(settings.store_file(), None), reason, fix)
}

/// Listens where it is configured, or on the socket that a supervisor has handed over.
///
/// # Errors
/// Something else does, or the system does not allow it.
pub fn listen(settings: &Settings) -> Result<(TcpListener, SocketAddr), Problem> {
    let listener = bind(settings.listen).and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    listener.map_err(|error| {
        let reason = format!("cannot listen on {}: {error}", settings.listen);
        let is = |kind| error.kind() == kind;
        let fix = if is(ErrorKind::PermissionDenied) {
            "give a port from 1024 on, or the right to lower ones"
        } else if is(ErrorKind::AddrNotAvailable) {
            "give an address of this machine with --listen"
        } else {
            "end what listens there, or give another address with --listen"
        };
        Problem::new(settings.origin("server.listen").clone(), reason, fix)
    })
}

/// The socket that a supervisor has opened before (systemd's socket activation), or a new one.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match ListenFd::from_env().take_tcp_listener(0)? {
        Some(inherited) => Ok(inherited),
        None => {
            let listener = TcpListener::bind(address)?;
            let_many_wait(&listener)?;
            Ok(listener)
        }
    }
}

/// Lets as many who have come wait to be taken in as the system allows (`net.core.somaxconn`, mostly 4,096),
/// instead of 128: when all come back at once, whoever finds no room tries again after a second only.
///
/// # Errors
/// The system does not do it.
pub(crate) fn let_many_wait(listener: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::listen(listener, i32::MAX)?)
}

/// Whether the disk is full, or nearly.
fn space(settings: &Settings) -> Option<Problem> {
    let directory = existing(&settings.data);
    let free = free_bytes(&directory).filter(|free| *free < FREE_LEAST)?;
    let reason = format!(
        "the disk of {} is full: {} are free, expected {} at least",
        directory.display(),
        units::show_size(free),
        units::show_size(FREE_LEAST)
    );
    let fix = "free some space: until then runs are refused, and what is stored is delivered";
    Some(Problem::new(directory_origin(settings), reason, fix))
}

/// Whether the clock can be right: by it tokens are judged, and what is old is forgotten.
fn clock(settings: &Settings, now: SystemTime) -> Option<Problem> {
    let fix = "set the clock (NTP), else tokens are refused and events are kept too long or not long enough";
    let problem = |reason| Some(Problem::new(Origin::Default, reason, fix));
    let unix = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    if !CLOCK_SHOWS.contains(&unix) {
        let year = year(unix);
        return problem(format!(
            "the clock is wrong: expected a time from 2025 to 2099, found the year {year}"
        ));
    }
    let written = fs::metadata(settings.store_file()).and_then(|found| found.modified()).ok()?;
    let behind = written.duration_since(now).ok().filter(|behind| *behind > CLOCK_BEHIND_MOST)?;
    let behind = units::show_roughly(behind);
    problem(format!(
        "the clock is wrong: expected it past the store's last write, which is {behind} from now"
    ))
}

/// The year of a time in Unix seconds. Days are counted in eras of 400 years, which begin in March.
const fn year(unix: u64) -> u64 {
    let days = unix / (24 * 3600) + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    // January and February are the last of the year that began in March.
    era * 400 + year + if day_of_year >= 306 { 1 } else { 0 }
}

/// How many files and sockets a daemon may open once it has raised its own limit; none if there is no end.
pub fn open_files_allowed() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Raises the limit of open files as far as the system allows without asking.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// Whether the process may open as many sockets as there may be: with those who are told that they are too
/// many, and those to which all was said. `most` is how many it may open.
fn open_files(settings: &Settings, most: Option<u64>) -> Option<Problem> {
    let wanted = (settings.core.server.connections_most() + LINGERERS + FILES_BESIDE) as u64;
    // Nobody tries things out with so many.
    let most = most.filter(|most| *most < wanted && !settings.dev)?;
    let reason = format!("the limit of open files is {most}, and server.connections needs {wanted}");
    let fix = "raise it (`ulimit -Hn`, LimitNOFILE in the unit), or lower server.connections";
    Some(Problem::new(settings.origin("server.connections").clone(), reason, fix))
}

fn directory_origin(settings: &Settings) -> Origin {
    match settings.origin("store.dir") {
        Origin::Default => Origin::File(settings.data.clone(), None),
        set @ (Origin::File(..) | Origin::Environment(_) | Origin::Flag(_)) => set.clone(),
    }
}

/// The directory itself, or the nearest above it that exists.
pub fn existing(data: &Path) -> PathBuf {
    let exists = |path: &&Path| {
        let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        !matches!(fs::symlink_metadata(here), Err(error) if error.kind() == ErrorKind::NotFound)
    };
    match data.ancestors().find(exists) {
        Some(path) if !path.as_os_str().is_empty() => path.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Makes a file and removes it.
fn probe(directory: &Path) -> io::Result<()> {
    let path = directory.join(format!(".runcast-check-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Override, Sources};

    fn settings(data: &Path) -> Settings {
        let set = |flag, key: &str, value: &str| Override { flag, key: key.into(), value: value.into() };
        let data = set("--data", "store.dir", data.to_str().unwrap());
        let listen = set("--listen", "server.listen", "127.0.0.1:0");
        let sources = Sources { overrides: vec![data, listen], dev: true, ..Sources::default() };
        Settings::load(&sources).unwrap()
    }

    fn judged(data: &Path) -> String {
        let stops = look(&settings(data)).stops;
        stops.or(()).map_or_else(|problems| problems.to_string(), |()| "good".into())
    }

    #[test]
    fn a_data_directory_is_or_can_be_made_and_is_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(judged(dir.path()), "good");
        assert_eq!(judged(&dir.path().join("not/yet")), "good");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_its_place_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        let fix = "give a directory that can be written to";
        assert_eq!(judged(file.path()), format!("--data: store.dir: {path} is no directory; {fix}"));
    }

    #[test]
    fn a_store_that_a_start_could_not_open_is_told_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        let held = FileDisk::open(&path).unwrap();
        assert_eq!(judged(dir.path()).matches("is in use by another process; stop that daemon").count(), 1);
        drop(held);
        fs::write(&path, "something else").unwrap();
        assert!(
            judged(dir.path()).contains("is not a Runcast store; move it away"),
            "{}",
            judged(dir.path())
        );
        assert_eq!(fs::read(&path).unwrap(), b"something else");
    }

    #[test]
    fn a_damaged_store_is_told_and_a_good_one_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        drop(Store::open(FileDisk::open(&path).unwrap(), Default::default()).unwrap());
        let good = fs::read(&path).unwrap();
        assert_eq!(judged(dir.path()), "good");
        assert_eq!(fs::read(&path).unwrap(), good);
        let mut damaged = good.clone();
        damaged.truncate(good.len() / 2);
        damaged[8_192..].fill(0x5a);
        fs::write(&path, &damaged).unwrap();
        let told = judged(dir.path());
        assert!(told.contains("the store is damaged") && told.contains("restore it from a backup"), "{told}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }

    #[test]
    fn a_broken_dev_secret_is_told_before_a_start_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dev-secret"), "short\n").unwrap();
        assert!(judged(dir.path()).contains("too short a secret: expected at least 32 bytes, found 5"));
    }

    #[test]
    fn a_clock_before_the_last_write_or_far_from_today_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("store.redb"), "").unwrap();
        let (settings, now) = (settings(dir.path()), SystemTime::now());
        assert_eq!(clock(&settings, now), None);
        let told = clock(&settings, now - Duration::from_secs(7_300)).unwrap().to_string();
        assert!(
            told.contains("expected it past the store's last write, which is 2h from now; set"),
            "{told}"
        );
        let times = [
            (0, 1970),
            (1_700_000_000, 2023),
            (CLOCK_SHOWS.start - 1, 2024),
            (CLOCK_SHOWS.end, 2100),
            (u32::MAX.into(), 2106),
        ];
        for (secs, year) in times {
            let told =
                clock(&settings, SystemTime::UNIX_EPOCH + Duration::from_secs(secs)).unwrap().to_string();
            assert!(told.contains(&format!("found the year {year}; set the clock (NTP)")), "{told}");
        }
    }

    #[test]
    fn a_year_begins_and_ends_when_the_calendar_has_it() {
        let day = 24 * 3600;
        for (first, expected) in [(0, 1970), (951_782_400 - 59 * day, 2000), (4_102_444_800, 2100)] {
            assert_eq!(year(first), expected);
            assert_eq!(year(first + day * 364), expected);
            assert_eq!(year(first + day * 366), expected + 1);
        }
        assert_eq!((year(1_735_689_599), year(1_735_689_600)), (2024, 2025));
        assert_eq!((year(978_307_199), year(978_307_200)), (2000, 2001), "a leap year has 366 days");
        assert_eq!((year(4_133_980_799), year(4_133_980_800)), (2100, 2101), "and 2100 is none");
    }

    #[test]
    fn too_low_a_limit_of_open_files_is_told() {
        let settings = Settings::default();
        assert_eq!(open_files(&settings, None), None);
        assert_eq!(open_files(&settings, Some(1 << 20)), None);
        let told = open_files(&settings, Some(1_024)).unwrap().to_string();
        assert!(told.contains("is 1024, and server.connections needs 23652; raise it"), "{told}");
    }
}
