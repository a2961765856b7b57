//! `GET /metrics` as Prometheus reads it: what happens is counted, who may read it, and what Prometheus' own
//! tool says of it, where that is installed.

use runcast_tests::{Ask, Daemon, Door, User, Worker, dial, eventually, promtool, repository, token};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;

fn metrics(door: &Door) -> String {
    let answer = Ask::new("GET", "/metrics").send(door);
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("application/openmetrics-text; version=1.0.0"), "{}", answer.head);
    answer.body
}

/// The value of a series as it stands in the text.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{text}"))
}

/// Reads the metrics until a series has this value.
fn until(door: &Door, series: &str, wanted: f64) -> String {
    eventually(&format!("{series} {wanted}"), || {
        let text = metrics(door);
        let found = value(&text, series);
        if found == wanted { Ok(text) } else { Err(found) }
    })
}

#[test]
fn the_way_of_a_run_is_counted_and_prometheus_is_content() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let mut user = User::connected("alice-of-the-test", "laptop", &door);
    let mut worker = Worker::connect(&door, 1, &json!([])).expect("a welcome");
    user.run("k", "t1", &json!(1));
    let run = worker.take();
    let text = until(&door, "runcast_runs_silent{state=\"running\"}", 1.0);
    assert_eq!(value(&text, "runcast_runs{state=\"running\"}"), 1.0);
    worker.event(&run, 1, "agent_output", &json!({ "delta": "x" }));
    worker.complete(&run, 2, &json!("done"));
    user.until("agent_completed");
    user.say(&json!({ "type": "fly" }));
    user.ack();
    let text = until(&door, "runcast_events_acknowledged_total", 4.0);
    for (series, wanted) in [
        ("runcast_runs_accepted_total", 1.0),
        ("runcast_runs_started_total", 1.0),
        ("runcast_runs_ended_total{status=\"ok\"}", 1.0),
        ("runcast_run_queued_seconds_count", 1.0),
        ("runcast_run_execution_seconds_count", 1.0),
        ("runcast_events_written_total", 4.0),
        ("runcast_events_sent_total", 4.0),
        ("runcast_event_acknowledgement_seconds_count", 4.0),
        ("runcast_streams_begun_total{status=\"fresh\"}", 1.0),
        ("runcast_connections{kind=\"user\"}", 1.0),
        ("runcast_connections{kind=\"worker\"}", 1.0),
        ("runcast_refusals_total{code=\"unknown_type\"}", 1.0),
        ("runcast_limit{of=\"runs_active\"}", 10.0),
        ("runcast_limit{of=\"memory_bytes\"}", f64::from(1 << 30)),
        ("runcast_undelivered", 0.0),
    ] {
        assert_eq!(value(&text, series), wanted, "{series}");
    }
    assert!(value(&text, "runcast_store_commit_seconds_count") >= 4.0);
    assert!(value(&text, "runcast_store_size_bytes") > 0.0);
    assert!(!text.contains("alice-of-the-test"), "no metric names a user");
    if let Some(said) = promtool(&["check", "metrics"], &classic(&text)) {
        assert_eq!(said, "", "promtool has nothing to say");
    }
    drop(user);
    until(&door, "runcast_connections{kind=\"user\"}", 0.0);
}

/// All that came while it stood still has one edge, and it reads less than it has room for before it is at
/// the end.
#[test]
fn whoever_says_a_last_word_and_goes_is_gone() {
    let daemon = Daemon::start(&["server.heartbeat=5m"]);
    let door = daemon.door();
    let mut user = User::connected("u", "d", &door);
    daemon.signal("STOP");
    user.say(&json!({ "type": "ack", "seq": 0 }));
    user.socket().hang_up();
    daemon.signal("CONT");
    until(&door, "runcast_connections{kind=\"user\"}", 0.0);
}

/// However little there is: the next start need not read it, and no memory is kept for it.
#[test]
fn when_it_is_quiet_the_journal_is_folded() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let mut user = User::connected("u", "d", &door);
    user.run("k", "t", &json!(1));
    user.until("run_queued");
    let text = until(&door, "runcast_store_journal_rows", 0.0);
    assert!(value(&text, "runcast_store_fold_seconds_count") >= 1.0);
}

#[test]
fn metrics_may_be_for_operators_alone() {
    let daemon = Daemon::start(&["metrics.public=false"]);
    let door = daemon.door();
    let ask = || Ask::new("GET", "/metrics");
    let (missing, scope) = (ask().send(&door), ask().token(&token("alice", "user")).send(&door));
    assert_eq!((missing.status, &missing.json["code"]), (401, &json!("token_missing")));
    assert_eq!((scope.status, &scope.json["code"]), (403, &json!("token_scope")));
    let answer = ask().token(&token("olga", "operate")).send(&door);
    assert!(answer.status == 200 && answer.body.ends_with("# EOF\n"), "{}", answer.body);
    assert_eq!(Ask::new("POST", "/metrics").token(&token("olga", "operate")).send(&door).status, 405);
}

#[test]
fn open_sockets_are_counted() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let before = value(&metrics(&door), "process_open_fds");
    assert!(before >= 10.0, "the store, the log, the poll, the port and more: {before}");
    let silent: Vec<TcpStream> = (0..40).map(|_| dial(door.address()).expect("it is accepted")).collect();
    until(&door, "process_open_fds", before + 40.0);
    drop(silent);
    until(&door, "process_open_fds", before);
}

/// The same text in the older format, the only one that `promtool check metrics` reads: there a counter's
/// name ends in `_total` where its type is told, too.
fn classic(text: &str) -> String {
    let counters: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .map(|name| format!(" {name} "))
        .collect();
    let translate = |line: &str| match counters.iter().find(|name| line.contains(*name)) {
        Some(name) if line.starts_with("# ") => {
            line.replacen(name.as_str(), &format!(" {}_total ", name.trim()), 1)
        }
        Some(_) | None => line.to_owned(),
    };
    let kept = text.lines().filter(|line| !line.starts_with("# UNIT") && *line != "# EOF");
    kept.map(|line| translate(line) + "\n").collect()
}

fn shipped(path: &str) -> String {
    fs::read_to_string(repository().join("shell/ops").join(path)).expect("it is shipped")
}

/// The names of this daemon's metrics in an expression.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("runcast_") || word.starts_with("process_"))
}

#[test]
fn alerts_and_the_dashboard_ask_only_for_metrics_that_there_are() {
    let daemon = Daemon::start(&[]);
    let text = metrics(&daemon.door());
    let mut told: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    // Where the port speaks TLS; tests/tests/tls.rs sees it there.
    told.insert("runcast_certificate_expires_timestamp_seconds");
    let dashboard: Value = serde_json::from_str(&shipped("grafana/runcast.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let shown: String =
        targets.filter_map(|target| Some(target["expr"].as_str()?.to_owned() + "\n")).collect();
    let alerts = shipped("prometheus/alerts.yml");
    let rules = alerts.lines().filter(|line| {
        let line = line.trim_start();
        !["#", "summary:", "do:"].iter().any(|words| line.starts_with(words))
    });
    let asked = rules.chain(shown.lines()).flat_map(names).collect::<BTreeSet<_>>();
    assert!(asked.len() > 30, "{asked:?}");
    let unknown: Vec<_> = asked.difference(&told).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_alert_is_explained_and_made_to_fire() {
    let (alerts, tests) = (shipped("prometheus/alerts.yml"), shipped("prometheus/alerts_test.yml"));
    let alerts: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    let silent: Vec<_> =
        alerts.iter().filter(|alert| !tests.contains(&format!("name: {alert} fires"))).collect();
    assert!(silent.is_empty(), "no test makes these fire: {silent:?}");
    let folder = repository().join("shell/ops/prometheus");
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    promtool(&["check", "rules", &file("alerts.yml")], "");
    if let Some(said) = promtool(&["test", "rules", &file("alerts_test.yml")], "") {
        assert!(said.contains("SUCCESS"), "{said}");
    }
}
