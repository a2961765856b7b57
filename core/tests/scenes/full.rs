//! A full store (PROTOCOL §3): whoever would have to be stored first is told so, and nothing that waits for
//! the store grows with those who come and go. What is known goes on.

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
use runcast_core::input::Input;
use runcast_core::time::Span;
use serde_json::{Value, json};

/// A daemon whose store has taken what there is of alice's device `d`, and takes no more.
fn full() -> (Daemon, ConnId) {
    let mut daemon = Daemon::new(|_| {});
    let alice = daemon.user("alice");
    daemon.ask(alice);
    daemon.is_slow = true;
    daemon.says(alice, &json!({"type": "run", "agent": "echo", "input": 1}));
    daemon.fail();
    daemon.heard(alice);
    (daemon, alice)
}

fn hello(device: usize) -> Value {
    json!({"type": "hello", "device": format!("device-{device}")})
}

fn worker(retryable: bool) -> Value {
    json!({"type": "hello", "worker": "w", "agents": [{"agent": "echo", "slots": 1, "retryable": retryable}]})
}

fn code(daemon: &Daemon, conn: ConnId) -> Option<u16> {
    daemon.closed(conn).map(|code| code as u16)
}

#[test]
fn who_would_have_to_be_stored_is_told_of_a_full_store_and_leaves_nothing_behind() {
    let (mut daemon, _) = full();
    let before = daemon.core.inspect().sizes();
    for device in 0..100 {
        let own = daemon.connect("/ws", "alice", "user", &hello(device));
        assert_eq!(code(&daemon, own), Some(4402), "a new device");
        let own = daemon.connect("/ws", "alice", "user", &json!({"type": "hello"}));
        assert_eq!(code(&daemon, own), Some(4402), "a device that is not named");
        let new = daemon.connect("/ws", "bob", "user", &json!({"type": "hello", "ack": false}));
        assert_eq!(code(&daemon, new), Some(4402), "a new user");
        let worker = daemon.connect("/worker", "w", "worker", &worker(device % 2 == 0));
        assert_eq!(code(&daemon, worker), Some(4402), "a worker");
    }
    let after = daemon.core.inspect().sizes();
    assert_eq!(after.appends, before.appends);
    assert_eq!(after.reveals, before.reveals + 1, "one user more leaves memory when the store takes");
}

#[test]
fn who_waited_for_the_store_when_it_was_found_full_is_told_too() {
    let mut daemon = Daemon::new(|_| {});
    let alice = daemon.user("alice");
    daemon.is_slow = true;
    let (device, worker) = (daemon.connect("/ws", "alice", "user", &hello(1)), daemon.worker(&worker(false)));
    daemon.heard(alice);
    daemon.says(alice, &json!({"type": "subscribe", "topics": ["system"], "id": "s"}));
    daemon.says(alice, &json!({"type": "ping"}));
    daemon.fail();
    assert_eq!([device, worker, alice].map(|conn| code(&daemon, conn)), [Some(4402), Some(4402), None]);
    let heard = daemon.heard(alice);
    assert_eq!((&heard[0]["code"], &heard[0]["id"]), (&json!("storage_unavailable"), &json!("s")));
    assert_eq!(heard[1]["type"], "pong", "what it has sent since is handled");
    daemon.pass(Span::secs(1));
    daemon.commit();
    assert!(daemon.heard(alice).iter().all(|said| said["type"] != "subscribed"));
}

#[test]
fn a_device_that_is_known_comes_goes_and_acknowledges_while_the_store_is_full() {
    let mut daemon = Daemon::new(|_| {});
    let (alice, carol) = (daemon.user("alice"), daemon.user("carol"));
    daemon.ask(alice);
    daemon.is_slow = true;
    daemon.says(alice, &json!({"type": "run", "agent": "echo", "input": 1}));
    daemon.fail();
    [alice, carol].into_iter().for_each(|conn| daemon.feed(Input::Closed { conn }));
    let before = daemon.core.inspect().sizes();
    for round in 0..100 {
        let (alice, carol) = (daemon.user("alice"), daemon.user("carol"));
        let welcome = daemon.heard(alice).remove(0);
        assert_eq!(welcome["resume"]["from"], u64::from(round > 0));
        assert_eq!(daemon.heard(carol)[0]["type"], "welcome");
        daemon.says(alice, &json!({"type": "ack", "seq": 1}));
        [alice, carol].into_iter().for_each(|conn| daemon.feed(Input::Closed { conn }));
        daemon.pass(Span::secs(1));
        daemon.fail();
    }
    let after = daemon.core.inspect().sizes();
    assert_eq!((after.appends, after.reveals, after.users), (before.appends, before.reveals, before.users));
    for _ in 0..2 {
        daemon.pass(Span::secs(1));
        daemon.commit();
    }
    assert_eq!(daemon.core.inspect().sizes().users, 1, "alice has a run");
}

#[test]
fn what_is_asked_again_waits_for_no_full_store() {
    let mut daemon = Daemon::new(|_| {});
    let alice = daemon.user("alice");
    let run = json!({"type": "run", "agent": "echo", "input": 1, "key": "k"});
    daemon.says(alice, &run);
    daemon.is_slow = true;
    daemon.says(alice, &json!({"type": "run", "agent": "echo", "input": 1}));
    daemon.fail();
    daemon.heard(alice);
    let before = daemon.core.inspect().sizes().reveals;
    for _ in 0..20 {
        daemon.says(alice, &run);
        assert_eq!(daemon.heard(alice)[0]["code"], "storage_unavailable");
        assert_eq!(daemon.operator("GET", "/v1/undelivered").0, 503);
    }
    assert_eq!(daemon.core.inspect().sizes().reveals, before);
}

#[test]
fn a_worker_that_was_turned_away_has_a_lease_to_come_back_to_its_run() {
    let mut daemon = Daemon::new(|config| config.server.heartbeat = Span::secs(60));
    let (first, alice) = (daemon.worker(&worker(false)), daemon.user("alice"));
    daemon.ask(alice);
    let run = daemon.start(first);
    daemon.feed(Input::Closed { conn: first });
    daemon.pass(Span::secs(1));
    daemon.is_slow = true;
    daemon.says(alice, &json!({"type": "run", "agent": "echo", "input": 1}));
    daemon.fail();
    // Its lease is nearly over when the store takes again.
    daemon.pass(Span::millis(13_500));
    daemon.commit();
    daemon.pass(Span::secs(10));
    daemon.commit();
    daemon.heard(alice);
    let mut back = worker(false);
    back["runs"] = json!([{"run": run, "attempt": 1, "n": 0}]);
    let back = daemon.worker(&back);
    daemon.commit();
    assert_eq!(daemon.heard(back)[0]["runs"][0]["state"], "continue");
}
