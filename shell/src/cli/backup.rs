//! `runcast backup` and `runcast restore`: what is stored at one moment in a file, and a store made of it.

use super::show::token;
use super::table::finish;
use super::{BackupOptions, Exit, RestoreOptions, refuse, say};
use crate::ask::ask_patiently;
use crate::config::{Origin, Problem, Settings};
use crate::disk::make_directory;
use crate::store::{self, BackupError, OpenError};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Has the daemon write a backup, and waits for it.
pub fn backup(options: &BackupOptions) -> Exit {
    let connection = &options.connection;
    let path = format!("/v1/backups/{}", options.name);
    let within = Duration::from_micros(options.within.0);
    let answer = ask_patiently(&connection.place(), &token(connection), "POST", &path, within);
    finish(answer.map(|answer| if connection.json { answer.to_string() } else { told(&answer) }))
}

fn told(answer: &Value) -> String {
    let (name, bytes) = (answer["backup"].as_str().unwrap_or_default(), &answer["bytes"]);
    format!("backups/{name} in the daemon's data directory: {bytes} bytes")
}

/// Makes a store of a backup, with a new epoch for each stream.
pub fn restore(options: &RestoreOptions) -> Exit {
    let settings = match options.config.load() {
        Ok(settings) => settings,
        Err(problems) => return refuse(&problems),
    };
    match make(options, &settings) {
        Ok(streams) => say(&format!(
            "{} is made of {}: {streams} streams with new epochs. Workers of before are to be started anew.",
            settings.store_file().display(),
            options.backup.display(),
        )),
        Err(problem) => refuse(&problem.into()),
    }
}

fn make(options: &RestoreOptions, settings: &Settings) -> Result<u64, Problem> {
    make_directory(&settings.data).map_err(|error| {
        let fix = "make it, or give another with --data";
        at(&settings.data, format!("cannot be made: {error}"), fix)
    })?;
    store::restore(&options.backup, &settings.store_file(), rand::random).map_err(|error| problem(&error))
}

fn at(file: &Path, reason: impl Into<String>, fix: &str) -> Problem {
    Problem::new(Origin::File(file.into(), None), reason, fix)
}

/// What the store says of its own file is said here of a backup, for which there is something else to do.
fn problem(error: &BackupError) -> Problem {
    match error {
        BackupError::There(file) => {
            at(file, "is there already", "move it away, or give a data directory without a store")
        }
        BackupError::NotABackup(file, found) => match found {
            OpenError::NotAStore => at(file, "is no backup", "give a file that `runcast backup` has written"),
            OpenError::Damaged(what) => {
                at(file, format!("the backup is damaged ({what})"), "give another, and check its disk")
            }
            OpenError::Unreadable { bytes, why, .. } => {
                let reason = format!("bytes {} to {} cannot be read ({why})", bytes.start, bytes.end);
                at(file, reason, "give another, and check its disk")
            }
            OpenError::Newer { found, known } => {
                let reason =
                    format!("the backup is of version {found}, this Runcast knows versions up to {known}");
                at(file, reason, "restore it with a newer Runcast")
            }
            OpenError::Older { found, oldest } => {
                let reason =
                    format!("the backup is of version {found}, this Runcast reads versions from {oldest} on");
                at(file, reason, "restore it with the Runcast that wrote it")
            }
            OpenError::Full => at(file, "cannot be copied, the disk is full", "free some space"),
            OpenError::Io(what) => at(file, format!("cannot be copied ({what})"), "check the disk"),
        },
        BackupError::Io(file, what) => {
            let fix = "check the path, its permissions, and the disk";
            at(file, format!("cannot be read or written: {what}"), fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use std::fs;

    fn refused(backup: &Path, data: &Path) -> String {
        let words = [Path::new("runcast"), "restore".as_ref(), backup, "--data".as_ref(), data];
        let cli = Cli::try_parse_from(words.map(Path::as_os_str)).unwrap();
        let Command::Restore(options) = cli.command else { panic!("not restore") };
        let settings = options.config.load().unwrap();
        make(&options, &settings).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_no_store_can_be_made_of_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = (dir.path().join("b"), dir.path().join("data"));
        let named = |rest: &str| format!("{}: {rest}", file.display());
        let missing = "cannot be read or written: No such file or directory (os error 2); \
                       check the path, its permissions, and the disk";
        assert_eq!(refused(&file, &data), named(missing));
        fs::write(&file, [7; 10_000]).unwrap();
        let foreign = "is no backup; give a file that `runcast backup` has written";
        assert_eq!(refused(&file, &data), named(foreign));
        fs::write(data.join("store.redb"), "").unwrap();
        let there = "is there already; move it away, or give a data directory without a store";
        assert_eq!(refused(&file, &data), format!("{}: {there}", data.join("store.redb").display()));
    }
}
