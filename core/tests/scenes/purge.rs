//! What is kept for a time, or up to a number, and then no longer (PROTOCOL §4 "Keeping", §5 `key`), while
//! the store is slow.

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
use runcast_core::record::Table;
use runcast_core::time::Span;
use serde_json::{Value, json};

fn viewer(daemon: &mut Daemon, user: &str) -> ConnId {
    daemon.connect("/ws", user, "user", &json!({"type": "hello", "ack": false}))
}

fn cancel(daemon: &mut Daemon, user: ConnId, run: &Value) {
    daemon.says(user, &json!({"type": "cancel", "run": run}));
}

/// The store is asked for keys that are too old when it has not got the new request yet.
#[test]
fn a_key_that_is_used_again_when_its_time_is_over_counts_again() {
    let mut daemon = Daemon::new(|config| {
        config.runs.key_keep = Span::secs(30);
        config.server.heartbeat = Span::secs(3600);
    });
    let user = viewer(&mut daemon, "alice");
    let ask = |daemon: &mut Daemon| {
        daemon.heard(user);
        daemon.says(user, &json!({"type": "run", "key": "k", "agent": "echo", "input": 1}));
        daemon.commit();
        let heard = daemon.heard(user).into_iter().rfind(|said| said["type"] == "accepted");
        heard.expect("it is accepted")
    };
    let first = ask(&mut daemon);
    cancel(&mut daemon, user, &first["run"]);
    daemon.pass(Span::millis(59_900));
    daemon.is_slow = true;
    daemon.says(user, &json!({"type": "run", "key": "k", "agent": "echo", "input": 1}));
    daemon.pass(Span::millis(200));
    daemon.is_slow = false;
    let second = ask(&mut daemon);
    assert_eq!(second["duplicate"], true);
    assert_ne!(second["run"], first["run"]);
    cancel(&mut daemon, user, &second["run"]);
    let third = ask(&mut daemon);
    assert_eq!((&third["run"], &third["duplicate"]), (&second["run"], &json!(true)));
    daemon.pass(Span::secs(120));
    assert_ne!(ask(&mut daemon)["run"], second["run"], "its time is over, too");
}

/// What is to be deleted is there until that is durable.
#[test]
fn ends_beyond_those_that_are_kept_are_asked_for_once_while_the_store_is_slow() {
    let mut daemon = Daemon::new(|config| {
        config.store.runs_per_user = 10;
        config.limits.burst = 10_000;
    });
    let [alice, bob] = ["alice", "bob"].map(|user| viewer(&mut daemon, user));
    // A user's ends are counted with each sixteenth run of all.
    for n in 1..320 {
        let user = if n % 16 == 0 { bob } else { alice };
        let run = json!(daemon.ask(user));
        cancel(&mut daemon, user, &run);
    }
    assert_eq!(daemon.stored(Table::Ended), 319 - 9);
    let run = json!(daemon.ask(alice));
    daemon.is_slow = true;
    cancel(&mut daemon, alice, &run);
    daemon.commit_one();
    assert!(daemon.core.inspect().sizes().appends < 10);
    daemon.commit();
    assert_eq!(daemon.stored(Table::Ended), 10 + 10);
}
