//! What is kept for a time and then no longer (PROTOCOL §5 `key`), while the store is slow.

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
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
