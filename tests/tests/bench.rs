//! `runcast bench`, each scenario very small: all that was published is delivered, in order and without a
//! gap, which the bench checks by itself, and every arm is measured in every round. What it cost is not
//! judged.

use runcast_tests::{binary, repository, runcast};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const ROUNDS: usize = 2;
/// What is measured beside the daemon where it is installed.
const PEERS: [&str; 5] = ["ws", "socket.io", "FastAPI", "Mosquitto", "NATS JetStream"];

/// Measures one scenario in some rounds, and returns the lines of its rounds and those that sum them up.
fn bench(scenario: &str, options: &[&str]) -> (Vec<Value>, Vec<Value>) {
    rounds_of(scenario, ROUNDS, options)
}

fn rounds_of(scenario: &str, rounds: usize, options: &[&str]) -> (Vec<Value>, Vec<Value>) {
    let rounds = rounds.to_string();
    let common = ["bench", scenario, "--json", "--rounds", &rounds, "--seconds", "1", "--connections", "12"];
    let (exit, out, err) = runcast(&[&common, options].concat());
    assert_eq!(exit, 0, "{err}");
    let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    lines.partition(|line| line["round"].is_u64())
}

/// The figure of each round of an arm.
fn figures(lines: &[Value], arm: &str, figure: &str) -> Vec<u64> {
    let rounds: Vec<&Value> = lines.iter().filter(|line| line["arm"] == arm).collect();
    assert_eq!(rounds.len(), ROUNDS, "{arm}: {lines:?}");
    rounds.iter().map(|line| line[figure].as_f64().expect(figure) as u64).collect()
}

/// Everything that was published was delivered to so many devices each.
fn all_delivered(lines: &[Value], arm: &str, devices: u64) {
    let published = figures(lines, arm, "published");
    assert!(published.iter().all(|it| *it > 0), "{arm}: {lines:?}");
    let wanted: Vec<u64> = published.iter().map(|published| published * devices).collect();
    assert_eq!(figures(lines, arm, "delivered"), wanted, "{arm}");
}

#[test]
fn live_events_reach_one_device_each() {
    let (rounds, _) = bench("live", &[]);
    all_delivered(&rounds, "runcast", 1);
    all_delivered(&rounds, "bare relay", 1);
    all_delivered(&rounds, "bare protocol", 1);
    figures(&rounds, "runcast", "load's processor %");
}

#[test]
fn paced_events_reach_three_devices_each() {
    let (rounds, sums) = bench("paced", &["--rate", "50"]);
    all_delivered(&rounds, "runcast", 3);
    all_delivered(&rounds, "bare relay", 3);
    all_delivered(&rounds, "bare protocol", 3);
    assert_eq!(figures(&rounds, "runcast", "published"), [50; ROUNDS], "all that is due");
    figures(&rounds, "runcast", "held");
    assert!(sums.iter().any(|line| line["under"] == "bare fdatasync" && line["median"].is_f64()), "{sums:?}");
}

/// What is said of an arm besides its figures.
fn notes<'a>(sums: &'a [Value], arm: &str) -> Vec<&'a str> {
    let said = sums.iter().filter(|line| line["arm"] == arm);
    said.filter_map(|line| line["note"].as_str()).collect()
}

#[test]
fn a_peer_delivers_everything_or_is_said_to_be_skipped() {
    let folder = repository().join("shell/benches/peers");
    let (rounds, sums) = bench("live", &[&format!("--peers={}", folder.display())]);
    for peer in PEERS {
        if notes(&sums, peer).iter().any(|note| note.starts_with("skipped: ")) {
            continue;
        }
        all_delivered(&rounds, peer, 1);
        assert!(!notes(&sums, peer).is_empty(), "what it promises is said: {sums:?}");
        let is_compared = |line: &Value| line["over"] == "runcast" && line["under"] == peer;
        assert!(sums.iter().any(is_compared), "{sums:?}");
    }
}

#[test]
fn without_their_programs_all_peers_are_skipped() {
    let nothing = tempfile::tempdir().expect("a directory");
    let (rounds, sums) = bench("live", &[&format!("--peers={}", nothing.path().display())]);
    all_delivered(&rounds, "runcast", 1);
    for peer in PEERS {
        assert!(notes(&sums, peer)[0].starts_with("skipped: "), "{sums:?}");
        assert!(rounds.iter().all(|line| line["arm"] != peer), "{rounds:?}");
    }
}

#[test]
fn everything_stored_is_replayed_after_a_restart() {
    let (rounds, _) = bench("replay", &["--events", "30"]);
    assert_eq!(figures(&rounds, "runcast", "delivered"), [12 * 30; ROUNDS]);
    assert_eq!(figures(&rounds, "bare relay", "delivered"), [12 * 30; ROUNDS]);
    assert_eq!(figures(&rounds, "bare protocol", "delivered"), [12 * 30; ROUNDS]);
}

#[test]
fn idle_connections_keep_some_memory() {
    let (rounds, sums) = bench("idle", &[]);
    figures(&rounds, "runcast", "resident KiB/connection");
    figures(&rounds, "bare protocol", "resident KiB/connection");
    assert!(sums.iter().any(|line| line["figure"] == "resident KiB/connection"), "{sums:?}");
}

#[test]
fn all_who_come_back_at_once_miss_nothing() {
    let (rounds, sums) = bench("storm", &[]);
    assert_eq!(figures(&rounds, "runcast 12", "events missed"), [12 * 10; ROUNDS]);
    assert_eq!(figures(&rounds, "bare relay 12", "events missed"), [12 * 10; ROUNDS]);
    assert_eq!(figures(&rounds, "bare protocol 12", "events missed"), [12 * 10; ROUNDS]);
    figures(&rounds, "bare protocol 12", "longest pong ms");
    assert!(sums.iter().any(|line| line["over"] == "runcast 12"), "{sums:?}");
}

#[test]
fn others_are_compared_with_and_without_a_stalled_device() {
    let (rounds, sums) = bench("stalled", &["--rate", "50", "--stalled", "1"]);
    for arm in ["none", "none again"] {
        all_delivered(&rounds, arm, 3);
    }
    let published: u64 = figures(&rounds, "1 stalled", "published").iter().sum();
    let delivered: u64 = figures(&rounds, "1 stalled", "delivered").iter().sum();
    assert!(delivered < 3 * published, "the stalled one gets nothing");
    assert!(
        sums.iter().any(|line| line["over"] == "1 stalled" && line["goal"] == "at most 1.10"),
        "{sums:?}"
    );
}

#[test]
fn the_honest_miss_nothing_while_the_daemon_is_besieged() {
    let (rounds, sums) = bench("hostile", &["--rate", "200"]);
    for arm in ["honest", "besieged", "honest again"] {
        all_delivered(&rounds, arm, 3);
    }
    assert!(figures(&rounds, "besieged", "made").iter().all(|made| *made > 0), "{rounds:?}");
    assert!(figures(&rounds, "besieged", "of them ended").iter().all(|ended| *ended > 0), "{rounds:?}");
    assert!(sums.iter().any(|line| line["over"] == "besieged" && line["goal"] == "at most 1.25"), "{sums:?}");
}

#[test]
fn a_killed_daemon_is_ready_again_with_everything() {
    let (rounds, _) = bench("restart", &["--events", "1000"]);
    figures(&rounds, "1000 events", "resident MiB");
}

#[test]
fn the_store_is_measured_beside_bare_appends() {
    let (_, sums) = bench("store", &["--events", "3000"]);
    assert!(sums.iter().any(|line| line["over"] == "store" && line["median"].is_f64()), "{sums:?}");
}

#[test]
fn the_growth_of_costs_is_told_by_exponents() {
    let (rounds, sums) = rounds_of("curves", 1, &["--rate", "50", "--events", "300"]);
    let exponent = |with: &str| {
        let is_it = |line: &&Value| line["with"] == with && line["figure"] == "processor µs/event";
        sums.iter().find(is_it).map(|line| line["exponent"].clone())
    };
    for with in ["users", "devices per user", "events per run", "stored events"] {
        assert!(exponent(with).is_some_and(|it| it.is_f64()), "{with}: {sums:?}");
    }
    // Of twelve connections all have something to do: there is one point.
    assert_eq!(exponent("connections"), Some(Value::Null), "{sums:?}");
    assert!(rounds.iter().any(|line| line["arm"] == "devices per user: 16"), "{rounds:?}");
}

#[test]
fn nothing_stays_of_a_bench_that_is_told_to_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = ["bench", "paced", "--rate", "50", "--seconds", "60", "--connections", "3", "--dir"];
    let mut command = Command::new(binary());
    command.args(options).arg(directory.path()).stderr(Stdio::piped());
    let mut bench = command.spawn().expect("the binary runs");
    let progress = BufReader::new(bench.stderr.take().expect("its pipe")).lines().map_while(Result::ok);
    let mut is_told = false;
    let mut said = Vec::new();
    for line in progress {
        if !is_told && line.contains("published: ") {
            let id = bench.id().to_string();
            let told = Command::new("kill").args(["-TERM", &id]).status();
            is_told = told.expect("`kill` is there").success();
        }
        said.push(line);
    }
    let exit = bench.wait().expect("it has ended").code();
    assert_eq!((is_told, exit), (true, Some(1)), "{said:?}");
    assert!(said.iter().any(|line| line.contains("stopped by a signal")), "{said:?}");
    assert_eq!(std::fs::read_dir(directory.path()).expect("it stays").count(), 0, "its directories stay");
}

#[test]
fn what_was_printed_before_is_drawn() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, plots) = (directory.path().join("figures.jsonl"), directory.path().join("plots"));
    let line = |arm: &str, cost: u64| {
        format!(r#"{{"scenario":"live","arm":"{arm}","round":1,"processor µs/event":{cost}}}"#)
    };
    std::fs::write(&file, format!("{}\n{}\n", line("runcast", 5), line("ws", 9))).expect("a file");
    let options = ["--from", &file.display().to_string(), "--plots", &plots.display().to_string()];
    let (exit, out, err) = runcast(&[&["bench"], &options[..]].concat());
    assert_eq!(exit, 0, "{err}");
    assert!(out.contains("processor µs/event  5.00     9.00"), "{out}");
    let picture = std::fs::read_to_string(plots.join("live.svg")).expect("a picture");
    assert!(picture.starts_with("<svg ") && picture.contains(">runcast</text>"), "{picture}");
}
