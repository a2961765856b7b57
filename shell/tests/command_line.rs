//! The binary's commands that need no daemon: what they print, and the numbers they end with.

use std::path::Path;
use std::process::Command;

/// Runs the binary in a directory; gives its exit code, output and errors.
fn runcast(dir: &Path, words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runcast"));
    command.args(words).current_dir(dir).env_clear().env("RUNCAST_RUNS__ATTEMPTS", "4");
    let output = command.output().expect("cargo has built it");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("nothing here prints anything but UTF-8");
    (output.status.code().expect("no signal ends it"), text(output.stdout), text(output.stderr))
}

#[test]
fn a_good_configuration_is_printed_with_the_origin_of_each_value() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("runcast.toml"), "[runs]\nactive = 7\n").unwrap();
    let words = [
        "check",
        "--dev",
        "--print",
        "--config",
        "runcast.toml",
        "--set",
        "runs.queued=99",
        "--listen",
        "127.0.0.1:0",
    ];
    let (code, printed, errors) = runcast(dir.path(), &words);
    assert_eq!((code, errors.as_str()), (0, ""));
    for (value, origin) in [
        ("active = 7", "runcast.toml:2"),
        ("queued = 99", "--set"),
        ("attempts = 4", "RUNCAST_RUNS__ATTEMPTS"),
        ("active_per_user = 3", "default"),
    ] {
        let line = printed.lines().find(|line| line.starts_with(&format!("{value} "))).unwrap();
        assert!(line.contains(&format!("# {origin} · ")), "{line}");
    }
}

#[test]
fn a_bad_configuration_ends_with_78_and_a_line_for_each_reason() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("runcast.toml"), "[runs]\nactive = 7\ntimeout = 30\nqueud = 5\n").unwrap();
    let (code, printed, errors) = runcast(dir.path(), &["check", "--config", "runcast.toml"]);
    assert_eq!((code, printed.as_str()), (78, ""));
    let places: Vec<&str> = errors.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["runcast.toml:3", "runcast.toml:4"]);
}

#[test]
fn without_keys_nothing_would_start_and_nothing_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, errors) = runcast(dir.path(), &["check"]);
    assert_eq!(code, 78);
    assert!(errors.lines().any(|line| line.starts_with("configuration: auth: no keys")), "{errors}");
    assert_eq!(runcast(dir.path(), &["token", "--user", "alice"]).0, 78);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_wrong_command_ends_with_2() {
    let dir = tempfile::tempdir().unwrap();
    for words in
        [&["fly"][..], &["token"], &["check", "--set", "x"], &["token", "--user", "a", "--ttl", "60"]]
    {
        assert_eq!(runcast(dir.path(), words).0, 2, "{words:?}");
    }
}
