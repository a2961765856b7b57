//! `runcast backup` and `runcast restore`: what is stored at one moment in a file, and a store made of it.

use super::show::token;
use super::table::finish;
use super::{BackupOptions, Exit, RestoreOptions, refuse, say};
use crate::ask::ask_patiently;
use crate::config::{Origin, Problem, Settings};
use crate::disk::make_directory;
use crate::store;
use serde_json::Value;
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
    let problem = |reason: String| {
        let origin = Origin::File(settings.data.clone(), None);
        Problem::new(origin, reason, "stop its daemon; give a backup, and a data directory without a store")
    };
    make_directory(&settings.data).map_err(|error| problem(format!("cannot be made: {error}")))?;
    store::restore(&options.backup, &settings.store_file(), rand::random)
        .map_err(|error| problem(error.to_string()))
}
