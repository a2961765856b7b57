//! Going down (PROTOCOL §5 `drain`), with more connections than are told at once.

use crate::daemon::Daemon;
use runcast_core::input::Input;
use runcast_core::time::Span;
use serde_json::json;

#[test]
fn each_of_many_connections_is_told_and_closed() {
    let mut daemon = Daemon::new(|config| config.server.connections_per_address = 10_000);
    let users: Vec<_> = (0..600).map(|user| daemon.user(&format!("user-{user}"))).collect();
    daemon.feed(Input::Drain);
    daemon.pass(Span::secs(60));
    for user in users {
        let mut told = daemon.heard(user);
        told.retain(|said| said["notice"] == "drain");
        assert_eq!(told.len(), 1, "{user:?}");
        let back = told[0]["reconnect_ms"].as_u64().expect("it is told when to come back");
        assert!((1_000..10_000).contains(&back), "{back}");
        assert_eq!(daemon.closed(user).map(|code| code as u16), Some(4400));
    }
}

/// A worker that took it now would have no time for it.
#[test]
fn offers_that_nobody_has_taken_are_withdrawn() {
    let mut daemon = Daemon::new(|_| {});
    let worker = daemon.worker(&json!({"type": "hello", "agents": [{"agent": "echo", "slots": 2}]}));
    let user = daemon.user("alice");
    daemon.ask(user);
    daemon.start(worker);
    let run = daemon.ask(user);
    daemon.heard(worker);
    daemon.feed(Input::Drain);
    let told: Vec<_> = daemon.heard(worker).into_iter().map(|said| said["type"].clone()).collect();
    assert!(told.contains(&json!("withdraw")) && told.contains(&json!("drain")), "{told:?}");
    daemon.says(worker, &json!({"type": "started", "run": run, "attempt": 1}));
    assert_eq!(daemon.heard(worker)[0]["code"], "fenced");
}
