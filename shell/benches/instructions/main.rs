//! Instructions of the hot paths, counted by callgrind: unlike times they do not depend on what else the
//! machine does, so that a change of a few percent is one of the code.
//!
//! `cargo bench --profile sim --bench instructions` counts and compares with `instructions.json` beside this
//! folder; more than the tolerance beyond it fails. `-- --accept` writes what was counted. Where valgrind is
//! not installed, it says so and is content. Each path runs in a process of its own (`play NAME`), in which
//! only what happens within [`counted_step`] is counted. The core, the pump and the connections are the
//! product's; the sockets are memory and the store is a list, so that the system and the disk have no part in
//! it. Processors and C libraries differ in how they copy memory, by a percent or two.

mod paths;
mod world;

use paths::{PATHS, Path, Steps};
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::process::{Command, ExitCode, Stdio};

/// Steps before those that are counted, until buffers have the size that they keep.
const WARM_UP: u32 = 300;
/// Steps that are counted.
const STEPS: u32 = 500;
/// How much more than what is written down may be counted, in percent.
const TOLERANCE: f64 = 3.0;
/// What was counted when somebody looked at it last.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.json");

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [play, name] = &args[..]
        && play == "play"
    {
        return match PATHS.iter().find(|path| path.name == name) {
            Some(path) => play_path(path),
            None => fail(&format!("there is no path {name:?}")),
        };
    }
    let is_installed = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_installed {
        say("skipped: valgrind is not installed, so no instructions are counted");
        return ExitCode::SUCCESS;
    }
    match count_all() {
        Ok(counted) if args.iter().any(|arg| arg == "--accept") => accept(&counted),
        Ok(counted) => compare(&counted),
        Err(why) => fail(&why),
    }
}

/// Runs one path under callgrind's eyes.
fn play_path(path: &Path) -> ExitCode {
    let mut steps = (path.begin)();
    for _ in 0..WARM_UP {
        steps.prepare();
        steps.step();
    }
    for _ in 0..STEPS {
        steps.prepare();
        counted_step(steps.as_mut());
    }
    ExitCode::SUCCESS
}

/// Callgrind counts from here to its end, known by its name.
#[inline(never)]
fn counted_step(steps: &mut dyn Steps) {
    steps.step();
}

/// Instructions of one step of each path.
fn count_all() -> Result<Vec<(&'static Path, u64)>, String> {
    PATHS.iter().map(|path| Ok((path, count(path.name)? / u64::from(STEPS)))).collect()
}

fn count(name: &str) -> Result<u64, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (file, own) =
        (directory.path().join("counted"), std::env::current_exe().map_err(|it| it.to_string())?);
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*counted_step*"]);
    command.arg(format!("--callgrind-out-file={}", file.display())).arg(own).args(["play", name]);
    let output = command.output().map_err(|error| format!("valgrind: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let text = std::fs::read_to_string(&file).map_err(|error| format!("callgrind wrote nothing: {error}"))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    match total {
        Some(total) if total > 0 => Ok(total),
        _ => Err(format!("{name}: nothing was counted; is the binary stripped of its symbols?")),
    }
}

fn accept(counted: &[(&Path, u64)]) -> ExitCode {
    let lines: Map<String, Value> =
        counted.iter().map(|(path, count)| (path.name.to_owned(), json!(count))).collect();
    let text = serde_json::to_string_pretty(&lines).map(|text| text + "\n");
    match text.map_err(io::Error::from).and_then(|text| std::fs::write(FILE, text)) {
        Ok(()) => compare(counted),
        Err(error) => fail(&format!("{FILE}: {error}")),
    }
}

/// Prints what was counted beside what is written down; fails where it is too much.
fn compare(counted: &[(&Path, u64)]) -> ExitCode {
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    let written: Map<String, Value> = serde_json::from_str(&written).unwrap_or_default();
    let mut worse = Vec::new();
    say("instructions   before  change  path");
    for (path, count) in counted {
        let Some(before) = written.get(path.name).and_then(Value::as_u64) else {
            worse.push(path.name);
            say(&format!("{count:>12}        –       –  {}", path.what));
            continue;
        };
        let change = (*count as f64 / before.max(1) as f64 - 1.0) * 100.0;
        say(&format!("{count:>12} {before:>8} {change:>+6.1}%  {}", path.what));
        if change > TOLERANCE {
            worse.push(path.name);
        } else if change < -TOLERANCE {
            say(
                "              fewer: keep it so with `cargo bench --profile sim --bench instructions -- --accept`",
            );
        }
    }
    if worse.is_empty() {
        return ExitCode::SUCCESS;
    }
    fail(&format!(
        "more than {TOLERANCE} % beyond {FILE}, or not in it: {}. Find out why, or accept it with \
         `cargo bench --profile sim --bench instructions -- --accept`",
        worse.join(", ")
    ))
}

fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn fail(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "instructions: {why}");
    ExitCode::FAILURE
}
