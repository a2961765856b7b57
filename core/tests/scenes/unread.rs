//! Offers to a worker that the daemon does not hear (PROTOCOL §6 "Taking a run"): what holds the daemon up,
//! its own disk, costs no run its attempts.

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
use runcast_core::input::Input;
use runcast_core::time::Span;
use serde_json::{Value, json};

/// A worker of two slots, and a user.
fn peers(daemon: &mut Daemon) -> (ConnId, ConnId) {
    let agents = json!([{"agent": "echo", "slots": 2, "timeout_ms": 3_600_000}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    (worker, daemon.user("alice"))
}

/// A worker says more than the disk has stored, and is not read.
fn overrun(daemon: &mut Daemon, worker: ConnId, run: &Value) {
    for n in 1..=256 {
        let (event, data) = ("agent_output", json!({"delta": "x"}));
        let event = json!({"type": "event", "run": run, "attempt": 1, "n": n, "event": event, "data": data});
        daemon.says(worker, &event);
    }
    assert!(!daemon.is_read(worker));
}

fn offers(daemon: &mut Daemon, worker: ConnId) -> Vec<Value> {
    let heard = daemon.heard(worker).into_iter().filter(|said| said["type"] == "run");
    heard.map(|offer| offer["run"].clone()).collect()
}

fn withdrawn(daemon: &mut Daemon, worker: ConnId) -> usize {
    daemon.heard(worker).iter().filter(|said| said["type"] == "withdraw").count()
}

#[test]
fn a_worker_that_is_not_read_is_offered_nothing_until_it_is() {
    let mut daemon = Daemon::new(|_| {});
    let (worker, user) = peers(&mut daemon);
    daemon.ask(user);
    let run = daemon.start(worker);
    daemon.heard(user);
    daemon.is_slow = true;
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1}));
    overrun(&mut daemon, worker, &run);
    daemon.heard(worker);
    // The run is durable, and hardly any of what the worker has said.
    daemon.commit_one();
    assert_eq!(offers(&mut daemon, worker), [Value::Null; 0]);
    daemon.commit();
    assert!(daemon.is_read(worker));
    assert_eq!(offers(&mut daemon, worker).len(), 1);
}

#[test]
fn an_offer_stands_while_its_worker_is_not_read() {
    let mut daemon = Daemon::new(|_| {});
    let (worker, user) = peers(&mut daemon);
    daemon.ask(user);
    let run = daemon.start(worker);
    daemon.ask(user);
    daemon.is_slow = true;
    overrun(&mut daemon, worker, &run);
    daemon.pass(Span::secs(30));
    assert_eq!(withdrawn(&mut daemon, worker), 0);
    daemon.commit();
    daemon.pass(Span::secs(5));
    assert_eq!(withdrawn(&mut daemon, worker), 1, "it is read, and does not answer");
}

#[test]
fn while_the_store_is_full_no_run_is_offered_and_no_offer_is_withdrawn() {
    let mut daemon = Daemon::new(|_| {});
    let (worker, user) = peers(&mut daemon);
    daemon.ask(user);
    daemon.heard(worker);
    daemon.is_slow = true;
    for _ in 0..2 {
        daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1}));
    }
    daemon.commit_one();
    let second = offers(&mut daemon, worker).remove(0);
    daemon.fail();
    // It would be declined, and offered, and declined for as long as the disk is full.
    daemon
        .says(worker, &json!({"type": "decline", "run": second, "attempt": 1, "reason": "x", "retry_ms": 0}));
    let appends = daemon.core.inspect().sizes().appends;
    for _ in 0..30 {
        daemon.pass(Span::secs(1));
        daemon.fail();
        daemon.says(worker, &json!({"type": "beat"}));
        daemon.says(user, &json!({"type": "ping"}));
    }
    assert!(daemon.heard(worker).iter().all(|said| said["type"] != "run" && said["type"] != "withdraw"));
    assert_eq!(daemon.core.inspect().sizes().appends, appends);
    let heard = daemon.heard(user);
    let told = heard.iter().rfind(|said| said["run"] == second && said["notice"] == "queue");
    let why = "You are next. The store is full; runs start again when it is not.";
    assert_eq!(told.expect("it is told why it waits")["message"], why);
    daemon.pass(Span::secs(1));
    daemon.commit();
    assert_eq!(offers(&mut daemon, worker), [second]);
}

/// A worker that comes and goes while the disk is slow has one window, not one with each connection.
#[test]
fn what_a_worker_has_left_behind_counts_on_its_next_connection() {
    let mut daemon = Daemon::new(|_| {});
    let serves = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": serves}));
    let user = daemon.user("alice");
    daemon.ask(user);
    let run = daemon.start(worker);
    daemon.is_slow = true;
    overrun(&mut daemon, worker, &run);
    daemon.feed(Input::Closed { conn: worker });
    let named = json!([{"run": run, "attempt": 1, "n": 256}]);
    let back = json!({"type": "hello", "worker": "w", "agents": serves, "runs": named});
    let worker = daemon.worker(&back);
    let (event, data) = ("agent_output", json!({"delta": "x"}));
    let next = json!({"type": "event", "run": run, "attempt": 1, "n": 257, "event": event, "data": data});
    daemon.says(worker, &next);
    assert!(!daemon.is_read(worker), "nothing is durable yet");
    daemon.commit();
    assert!(daemon.is_read(worker));
    assert_eq!(daemon.heard(worker).last().expect("it is acknowledged")["n"], 257);
}
