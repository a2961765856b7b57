//! Before a run's time is up its user is told (PROTOCOL §5 `timeout_soon`, REQUIREMENTS A8).

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
use runcast_core::time::Span;
use serde_json::{Value, json};

fn warnings(heard: Vec<Value>) -> Vec<Value> {
    heard.into_iter().filter(|said| said["notice"] == "timeout_soon").collect()
}

/// The run's first attempt asks its user something.
fn question(daemon: &mut Daemon, worker: ConnId, run: &Value) {
    let data = json!({"request": "r", "prompt": "?"});
    daemon.says(
        worker,
        &json!({"type": "event", "run": run, "attempt": 1, "n": 1, "event": "input_required", "data": data}),
    );
}

#[test]
fn all_devices_are_warned_once_before_a_run_s_time_is_up() {
    let mut daemon = Daemon::new(|_| {});
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let other = daemon.user("bob");
    let devices = ["phone", "laptop"]
        .map(|device| daemon.connect("/ws", "alice", "user", &json!({"type": "hello", "device": device})));
    daemon.says(devices[0], &json!({"type": "run", "agent": "echo", "input": 1, "timeout_ms": 10_000}));
    let run = daemon.start(worker);
    daemon.pass(Span::millis(7_999));
    let too_early = devices.map(|device| warnings(daemon.heard(device)));
    assert!(too_early.concat().is_empty(), "{too_early:?}");
    daemon.pass(Span::millis(1));
    let warning = json!({"type": "notice", "notice": "timeout_soon", "run": run, "running_ms": 8_000,
                         "timeout_ms": 10_000});
    for device in devices {
        assert_eq!(warnings(daemon.heard(device)), std::slice::from_ref(&warning));
    }
    daemon.heard(worker);
    daemon.pass(Span::secs(2));
    let is_up = |said: &Value| said["type"] == "cancel" && said["reason"] == "timeout";
    assert!(daemon.heard(worker).iter().any(is_up), "it had been a warning");
    assert!(devices.map(|device| warnings(daemon.heard(device))).concat().is_empty(), "once");
    assert!(warnings(daemon.heard(other)).is_empty());
}

#[test]
fn what_waits_for_its_user_is_warned_by_the_time_that_it_has_run() {
    let mut daemon = Daemon::new(|config| config.runs.warn_at_percent = 50);
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let user = daemon.user("alice");
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1, "timeout_ms": 10_000}));
    let run = daemon.start(worker);
    daemon.pass(Span::secs(4));
    question(&mut daemon, worker, &run);
    daemon.pass(Span::secs(9));
    assert!(warnings(daemon.heard(user)).is_empty(), "its clock stands still");
    daemon.says(user, &json!({"type": "input", "run": run, "request": "r", "data": 1}));
    daemon.pass(Span::secs(1));
    let told = warnings(daemon.heard(user));
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["running_ms"], 5_000);
}

/// What came in time is not lost, and does not make it an end in time.
#[test]
fn an_end_that_comes_after_the_time_is_a_time_out_with_its_output() {
    let mut daemon = Daemon::new(|_| {});
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let user = daemon.user("alice");
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1, "timeout_ms": 10_000}));
    let run = daemon.start(worker);
    daemon.pass(Span::secs(10));
    daemon.says(
        worker,
        &json!({"type": "complete", "run": run, "attempt": 1, "n": 1, "status": "ok", "output": "all of it"}),
    );
    let ended = daemon.heard(user).into_iter().find(|said| said["event"] == "agent_completed");
    let data = &ended.expect("it has ended")["data"];
    assert_eq!((&data["status"], &data["output"]), (&json!("timed_out"), &json!("all of it")));
    assert_eq!(data["error"]["code"], "timed_out");
}

#[test]
fn each_attempt_has_its_time_and_is_warned_by_it() {
    let mut daemon = Daemon::new(|config| config.runs.warn_at_percent = 50);
    let agents = json!([{"agent": "echo", "slots": 1, "retryable": true}]);
    let hello = json!({"type": "hello", "worker": "w", "agents": agents});
    let (worker, user) = (daemon.worker(&hello), daemon.user("alice"));
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1, "timeout_ms": 10_000}));
    daemon.start(worker);
    daemon.pass(Span::secs(4));
    daemon.worker(&hello);
    let waits = daemon.heard(user).into_iter().any(|said| said["event"] == "run_retrying");
    assert!(waits, "its worker does not know of it any more");
    daemon.pass(Span::millis(400));
    let heard = daemon.heard(user);
    let queued = heard.iter().find(|said| said["notice"] == "queue").expect("it is told that it waits");
    assert!(queued["waited_ms"].as_u64() < Some(500), "{queued}");
    daemon.pass(Span::millis(100));
    let worker = daemon.worker(&hello);
    daemon.pass(Span::secs(1));
    daemon.start(worker);
    daemon.pass(Span::secs(5));
    let told = warnings(daemon.heard(user));
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["running_ms"], 5_000);
}

#[test]
fn the_clock_of_what_waits_for_its_user_stands_still_over_a_start_of_the_daemon() {
    let mut daemon = Daemon::new(|_| {});
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let mut hello = json!({"type": "hello", "worker": "w", "agents": agents});
    let (worker, user) = (daemon.worker(&hello), daemon.user("alice"));
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1, "timeout_ms": 10_000}));
    let run = daemon.start(worker);
    daemon.pass(Span::secs(4));
    question(&mut daemon, worker, &run);
    daemon.restart();
    hello["runs"] = json!([{"run": run, "attempt": 1, "n": 1}]);
    let (worker, user) = (daemon.worker(&hello), daemon.user("alice"));
    daemon.pass(Span::secs(9));
    let path = format!("/v1/runs/{}", run.as_str().expect("an id"));
    let (_, state) = daemon.request("GET", &path, "alice", "user");
    assert_eq!((&state["state"], &state["running_ms"]), (&json!("waiting"), &json!(4_000)));
    daemon.says(user, &json!({"type": "input", "run": run, "request": "r", "data": 1}));
    daemon.pass(Span::secs(1));
    daemon.says(worker, &json!({"type": "complete", "run": run, "attempt": 1, "n": 2, "status": "ok"}));
    let ended = daemon.heard(user).into_iter().find(|said| said["event"] == "agent_completed");
    let data = &ended.expect("it has ended")["data"];
    assert_eq!((&data["status"], &data["running_ms"]), (&json!("ok"), &json!(5_000)));
}

/// What was said was lost with the connection before, or there was no room for it.
#[test]
fn whoever_comes_when_most_of_the_time_is_used_up_is_warned_too() {
    let mut daemon = Daemon::new(|_| {});
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let user = daemon.user("alice");
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1, "timeout_ms": 10_000}));
    let run = daemon.start(worker);
    let come = |daemon: &mut Daemon| {
        let user = daemon.user("alice");
        let warned = warnings(daemon.heard(user));
        warned
            .into_iter()
            .map(|warned| (warned["run"].clone(), warned["running_ms"].clone()))
            .collect::<Vec<_>>()
    };
    daemon.pass(Span::millis(7_999));
    assert_eq!(come(&mut daemon), []);
    daemon.pass(Span::millis(1_001));
    assert_eq!(come(&mut daemon), [(run.clone(), json!(9_000))]);
    question(&mut daemon, worker, &run);
    assert_eq!(come(&mut daemon), [], "its clock stands still");
}

#[test]
fn whoever_takes_nothing_when_most_of_the_time_is_used_up_is_warned_when_there_is_room() {
    let mut daemon = Daemon::new(|config| config.server.output = 1_000);
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let user = daemon.user("alice");
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1, "timeout_ms": 10_000}));
    let run = daemon.start(worker);
    daemon.pass(Span::secs(7));
    daemon.stick(user);
    daemon.says(
        worker,
        &json!({"type": "event", "run": run, "attempt": 1, "n": 1, "event": "custom",
                "data": {"name": "x", "value": "x".repeat(1_000)}}),
    );
    daemon.pass(Span::secs(2));
    assert!(warnings(daemon.heard(user)).is_empty());
    daemon.flush(user);
    let told = warnings(daemon.heard(user));
    assert_eq!(told.iter().map(|told| &told["running_ms"]).collect::<Vec<_>>(), [&json!(9_000)]);
}
