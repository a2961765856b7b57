//! The rules of the repository that no compiler keeps: sizes, words that must not stay, and what the core
//! rests on.

use runcast_tests::{cargo, repository};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;
const LINE_CHARS: usize = 110;

/// All Rust files below a directory of the repository, with their paths from its root.
fn sources(below: &str) -> Vec<(String, String)> {
    let root = repository();
    let mut directories = vec![root.join(below)];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.iter().map(|path| (name(root, path), fs::read_to_string(path).expect("UTF-8"))).collect()
}

fn name(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned()
}

fn everything() -> Vec<(String, String)> {
    ["core", "shell", "sim", "tests", "fuzz"].into_iter().flat_map(sources).collect()
}

fn none(offenders: &[String], rule: &str) {
    assert!(offenders.is_empty(), "{rule}:\n{}", offenders.join("\n"));
}

#[test]
fn no_file_of_the_core_is_too_long() {
    let long = sources("core").into_iter().filter(|(_, text)| text.lines().count() > FILE_LINES);
    let long: Vec<String> = long.map(|(name, _)| name).collect();
    none(&long, "a file of the core has at most 500 lines");
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut long = Vec::new();
    for (name, text) in everything() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
            // rustfmt closes a function with a brace at the column where it began.
            let indent = line.len() - line.trim_start().len();
            let end = format!("{}}}", " ".repeat(indent));
            let is_over = line.ends_with('}') || line.ends_with(';');
            let length = lines[at..].iter().position(|line| *line == end).map_or(1, |length| length + 1);
            if !is_over && length > FUNCTION_LINES {
                long.push(format!("{name}:{} has {length} lines", at + 1));
            }
        }
    }
    none(&long, "a function has at most 70 lines");
}

fn begins_function(line: &str) -> bool {
    let mut words = line.trim_start().split(' ');
    words.by_ref().find(|word| !matches!(*word, "pub" | "pub(crate)" | "pub(super)" | "const")) == Some("fn")
}

#[test]
fn no_comment_is_wider_than_the_code() {
    let mut wide = Vec::new();
    for (name, text) in everything() {
        let lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.trim_start().starts_with("//") && line.chars().count() > LINE_CHARS);
        wide.extend(lines.map(|(at, _)| format!("{name}:{}", at + 1)));
    }
    none(&wide, "a comment has lines of at most 110 characters, as rustfmt keeps them for code");
}

#[test]
fn nothing_is_left_to_do_and_no_test_is_ignored() {
    // Put together here, so that this file is none of the offenders.
    let words =
        [["to", "do!("], ["db", "g!("], ["unimple", "mented!("], ["#[ig", "nore"]].map(|it| it.concat());
    let mut found = Vec::new();
    for (name, text) in everything() {
        found.extend(words.iter().filter(|word| text.contains(*word)).map(|word| format!("{name}: {word}")));
    }
    none(&found, "no placeholder, no leftover, no ignored test");
}

#[test]
fn only_the_simulator_plants_bugs() {
    let mut found = Vec::new();
    for (name, text) in ["core", "shell", "tests"].into_iter().flat_map(sources) {
        // Put together here, so that this file is none of the offenders.
        let plants = text.contains(&["Planted::", "bug("].concat());
        found.extend(plants.then_some(name));
    }
    none(&found, "a bug is planted by the simulator alone (core/src/planted.rs)");
}

#[test]
fn the_core_does_without_std() {
    let mut found = Vec::new();
    for (name, text) in sources("core/src") {
        let lines = text.lines().enumerate().filter(|(_, line)| line.contains("std::"));
        found.extend(lines.map(|(at, line)| format!("{name}:{}: {}", at + 1, line.trim())));
    }
    none(&found, "the core is a state machine: no clock, no threads, no files");
}

#[test]
fn nobody_in_the_core_sees_the_order_of_a_hash_table() {
    let mut found = Vec::new();
    for (name, text) in sources("core/src").into_iter().filter(|(name, _)| name != "core/src/lookup.rs") {
        let words = ["hashbrown", "ahash", "HashTable", "HashMap", "HashSet"];
        found.extend(words.iter().filter(|word| text.contains(*word)).map(|word| format!("{name}: {word}")));
    }
    none(&found, "one file has them (core/src/lookup.rs), and gives nobody a way to walk them");
}

/// A file without the tests at its end: what those do is their own affair.
fn code_of(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// Where which words may not stand in code: what would bring a real clock, real sockets or a second way in.
const FOREIGN: [(&[&str], &[&str]); 5] = [
    (
        &["shell/src/pump.rs", "shell/src/conn.rs", "shell/src/conn/", "shell/src/store/"],
        &["mio::", "std::net::Tcp", "net::{Tcp", "Instant", "SystemTime", "std::thread"],
    ),
    (&["sim/src/"], &["mio_loop", "mio::", "std::net::Tcp", "SystemTime::now", "thread::sleep"]),
    // Only the simulator's command line tells how long something took.
    (
        &["sim/src/actors/", "sim/src/oracles/", "sim/src/world", "sim/src/hosts/", "sim/src/model"],
        &["Instant::now"],
    ),
    (&["tests/"], &["runcast_core::Core", "runcast_sim::", "runcast::pump", "runcast::store"]),
    (&["fuzz/"], &["mio::", "mio_loop", "runcast::pump", "runcast::daemon", "runcast::cli"]),
];

#[test]
fn nothing_imports_what_it_should_do_without() {
    let mut found = Vec::new();
    for (name, text) in everything() {
        let foreign = FOREIGN.iter().filter(|(places, _)| places.iter().any(|place| name.starts_with(place)));
        for word in foreign.flat_map(|(_, words)| words.iter()) {
            let is_rules = name == "tests/tests/repo_rules.rs";
            found.extend((code_of(&text).contains(word) && !is_rules).then(|| format!("{name}: {word}")));
        }
    }
    none(&found, "the house has an order (which part may know of what)");
}

/// Two places would soon disagree on what an event is, or on what is durable.
#[test]
fn events_and_appends_are_made_in_one_place() {
    for (word, place) in
        [("Record::Event {", "core/src/stream.rs"), ("Effect::Append {", "core/src/durable.rs")]
    {
        let made = sources("core/src").into_iter().filter(|(name, text)| {
            code_of(text).contains(word) && !name.ends_with("tests.rs") && !name.ends_with("properties.rs")
        });
        assert_eq!(made.map(|(name, _)| name).collect::<Vec<_>>(), [place], "{word}");
    }
}

#[test]
fn every_code_of_the_core_stands_in_the_protocol() {
    let protocol = fs::read_to_string(repository().join("core/PROTOCOL.md")).expect("the protocol is kept");
    let written: BTreeSet<&str> = protocol.split('`').collect();
    let codes = runcast_core::wire::error::Code::ALL.iter().map(|code| code.as_str());
    let missing: Vec<String> = codes.filter(|code| !written.contains(code)).map(str::to_owned).collect();
    none(&missing, "a code is one of PROTOCOL.md");
}

#[test]
fn the_core_depends_on_little() {
    let tree = cargo(&["tree", "--package", "runcast-core", "--edges", "normal", "--prefix", "depth"]);
    let root = repository().to_string_lossy().into_owned();
    insta::assert_snapshot!(tree.replace(&root, "[repository]"));
}
