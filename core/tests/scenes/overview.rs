//! What operators see of the queue (PROTOCOL §7 `GET /v1/status`).

use crate::daemon::Daemon;
use runcast_core::input::Input;
use runcast_core::time::Span;
use serde_json::{Value, json};

#[test]
fn queued_runs_are_listed_in_the_order_in_which_they_will_start() {
    let mut daemon = Daemon::new(|_| {});
    let (alice, bob) = (daemon.user("alice"), daemon.user("bob"));
    let of_alice = [daemon.ask(alice), daemon.ask(alice), daemon.ask(alice)];
    let of_bob = daemon.ask(bob);
    let (status, answer) = daemon.operator("GET", "/v1/status?limit=10");
    assert_eq!(status, 200);
    let queued = &answer["lists"]["queued"];
    assert_eq!(queued["count"], 4, "{answer}");
    assert_eq!(queued["items"][0]["eta_ms"], Value::Null, "nobody knows how long runs take");
    assert_eq!(answer["delivery"]["connections"]["user"], 2);
    let items = queued["items"].as_array().expect("a list").iter();
    let listed: Vec<_> = items.map(|run| (run["run"].clone(), run["position"].clone())).collect();
    let expected = [&of_alice[0], &of_bob, &of_alice[1], &of_alice[2]];
    let expected: Vec<_> = expected.iter().zip(1..).map(|(run, place)| (json!(run), json!(place))).collect();
    assert_eq!(listed, expected, "users take turns");
}

#[test]
fn a_worker_is_idle_until_it_has_a_run_and_silent_when_it_is_gone() {
    let mut daemon = Daemon::new(|_| {});
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let state = |daemon: &mut Daemon| daemon.operator("GET", "/v1/workers").1["workers"][0]["state"].clone();
    assert_eq!(state(&mut daemon), "idle");
    let user = daemon.user("alice");
    daemon.ask(user);
    daemon.start(worker);
    assert_eq!(state(&mut daemon), "busy");
    daemon.feed(Input::Closed { conn: worker });
    assert_eq!(state(&mut daemon), "silent");
}

#[test]
fn how_long_a_run_will_wait_is_told_when_it_is_known_how_long_runs_take() {
    let mut daemon = Daemon::new(|_| {});
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let user = daemon.user("alice");
    let eta = |daemon: &mut Daemon| {
        daemon.heard(user);
        daemon.ask(user);
        let heard = daemon.heard(user);
        heard.into_iter().find(|said| said["type"] == "accepted").expect("it is accepted")["eta_ms"].clone()
    };
    eta(&mut daemon);
    let run = daemon.start(worker);
    assert_eq!(eta(&mut daemon), Value::Null);
    daemon.pass(Span::secs(4));
    daemon.says(worker, &json!({"type": "complete", "run": run, "attempt": 1, "n": 1, "status": "ok"}));
    daemon.start(worker);
    assert!(eta(&mut daemon).as_u64() >= Some(4_000));
}

#[test]
fn of_a_device_that_is_away_operators_see_how_far_it_is_behind() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    for _ in 0..3 {
        daemon.ask(user);
    }
    daemon.says(user, &json!({"type": "ack", "seq": 2}));
    daemon.feed(Input::Closed { conn: user });
    let (_, seen) = daemon.operator("GET", "/v1/users/alice");
    let device = &seen["devices"][0];
    assert_eq!((&seen["head"], &device["acked"], &device["lag"]), (&json!(3), &json!(2), &json!(1)));
}

#[test]
fn an_end_is_listed_when_it_is_durable_and_not_before() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    let run = daemon.ask(user);
    daemon.is_slow = true;
    daemon.says(user, &json!({"type": "cancel", "run": run}));
    let ended = |daemon: &mut Daemon| {
        daemon.operator("GET", "/v1/status?limit=10").1["lists"]["ended"]["count"].clone()
    };
    assert_eq!(ended(&mut daemon), 0);
    daemon.commit();
    assert_eq!(ended(&mut daemon), 1);
}

#[test]
fn a_run_is_listed_when_it_is_durable_and_not_before() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    daemon.is_slow = true;
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1}));
    let listed = |daemon: &mut Daemon| {
        let (_, list) = daemon.request("GET", "/v1/runs", "alice", "user");
        list["runs"].as_array().expect("a list").len()
    };
    assert_eq!(listed(&mut daemon), 0);
    daemon.commit();
    assert_eq!(listed(&mut daemon), 1);
}

/// Whoever balances by it sends new connections elsewhere.
#[test]
fn a_daemon_whose_disk_stands_still_is_not_ready() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    daemon.is_slow = true;
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1}));
    let ready = |daemon: &mut Daemon| daemon.public("/readyz");
    daemon.pass(Span::millis(4_999));
    assert_eq!(ready(&mut daemon), 200);
    daemon.pass(Span::millis(1));
    assert_eq!(ready(&mut daemon), 503);
    daemon.commit();
    assert_eq!(ready(&mut daemon), 200);
}
