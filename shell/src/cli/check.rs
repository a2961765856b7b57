//! `runcast check`: all that a start would check, and nothing is changed.

use super::{CheckOptions, Exit, refuse, say};
use crate::auth::{Keys, read_dev_secret};
use crate::config::{Origin, Problem, Problems, Settings};
use crate::disk::FileDisk;
use crate::store;
use crate::tls;
use crate::webhook;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Checks the configuration, the keys and the data directory.
pub fn check(options: &CheckOptions) -> Exit {
    let settings = match options.config.load() {
        Ok(settings) => settings,
        Err(problems) => return refuse(&problems),
    };
    if options.print {
        say(settings.print().trim_end());
    }
    match judge(&settings) {
        Err(problems) => refuse(&problems),
        Ok(()) if options.print => Exit::Done,
        Ok(()) => say(&format!("good: would serve on {} from {}", settings.listen, settings.data.display())),
    }
}

/// Everything that is wrong beyond the values themselves.
fn judge(settings: &Settings) -> Result<(), Problems> {
    let mut problems = Problems::default();
    problems.keep(Keys::from_config(&settings.auth, settings.dev));
    problems.keep(webhook::configured(settings));
    problems.keep(tls::load(settings));
    if settings.dev {
        problems.keep(read_dev_secret(&settings.data));
    }
    if problems.keep(data_directory(settings)).is_some() {
        problems.keep(store(settings));
    }
    problems.or(())
}

/// Whether the data directory can be written to or, when there is none, be made.
fn data_directory(settings: &Settings) -> Result<(), Problem> {
    let problem = |reason: String| {
        let origin = match settings.origin("store.dir") {
            Origin::Default => Origin::File(settings.data.clone(), None),
            set @ (Origin::File(..) | Origin::Environment(_) | Origin::Flag(_)) => set.clone(),
        };
        Problem::new(origin, format!("store.dir: {reason}"), "give a directory that can be written to")
    };
    let existing = existing(&settings.data);
    match fs::metadata(&existing) {
        Err(error) => Err(problem(format!("{} cannot be read: {error}", existing.display()))),
        Ok(found) if !found.is_dir() => Err(problem(format!("{} is no directory", existing.display()))),
        Ok(_) => probe(&existing)
            .map_err(|error| problem(format!("{} cannot be written to: {error}", existing.display()))),
    }
}

/// Whether the store, when there is one, is free and one that this version can open.
fn store(settings: &Settings) -> Result<(), Problem> {
    let path = settings.store_file();
    if !path.exists() {
        return Ok(());
    }
    let problem = |reason: String| {
        Problem::new(
            Origin::File(settings.data.clone(), None),
            reason,
            "mend it, or give another with --data",
        )
    };
    let disk = FileDisk::open(&path).map_err(|error| problem(error.to_string()))?;
    store::recognise(&disk).map_err(|error| problem(error.to_string()))
}

/// The directory itself, or the nearest above it that exists.
fn existing(data: &Path) -> PathBuf {
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

    fn judged(data: &Path) -> String {
        let data = data.to_str().unwrap().to_owned();
        let data = Override { flag: "--data", key: "store.dir".to_owned(), value: data };
        let sources = Sources { overrides: vec![data], dev: true, ..Sources::default() };
        judge(&Settings::load(&sources).unwrap())
            .map_or_else(|problems| problems.to_string(), |()| "good".into())
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
    fn a_store_that_a_start_could_not_open_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        let held = FileDisk::open(&path).unwrap();
        assert_eq!(judged(dir.path()).matches("is in use by another process").count(), 1);
        drop(held);
        fs::write(&path, "something else").unwrap();
        assert!(judged(dir.path()).contains("is not a Runcast store"));
        assert_eq!(fs::read(&path).unwrap(), b"something else");
    }

    #[test]
    fn a_broken_dev_secret_is_told_before_a_start_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dev-secret"), "short\n").unwrap();
        assert!(judged(dir.path()).contains("too short a secret: expected at least 32 bytes, found 5"));
    }
}
