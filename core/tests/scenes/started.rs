//! `started` (PROTOCOL §6): one that is repeated is acknowledged again, and keeps nothing in memory.

use crate::daemon::Daemon;
use runcast_core::time::Span;
use serde_json::json;

#[test]
fn repeated_starts_leave_nothing_behind_while_the_store_stands_still() {
    let mut daemon = Daemon::new(|_| {});
    let worker = daemon.worker(&json!({"type": "hello", "agents": [{"agent": "echo", "slots": 1}]}));
    let user = daemon.user("alice");
    daemon.ask(user);
    let run = daemon.start(worker);
    daemon.heard(worker);
    daemon.is_slow = true;
    // Something that waits, as all that is revealed after it would.
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1}));
    let before = daemon.core.inspect().sizes().reveals;
    for _ in 0..100 {
        daemon.says(worker, &json!({"type": "started", "run": run, "attempt": 1}));
    }
    let acks = daemon.heard(worker).iter().filter(|said| said["type"] == "ack" && said["n"] == 0).count();
    assert_eq!((acks, daemon.core.inspect().sizes().reveals), (100, before));
}

/// What a worker is told with the offer holds for the attempt, whatever becomes of the daemon meanwhile.
#[test]
fn the_time_that_its_worker_gives_an_attempt_outlives_a_restart() {
    let mut daemon = Daemon::new(|config| config.runs.timeout = Span::secs(2));
    let serves = json!([{"agent": "echo", "slots": 1, "timeout_ms": 8_000}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": serves}));
    let user = daemon.user("alice");
    daemon.ask(user);
    let run = daemon.start(worker);
    daemon.pass(Span::secs(1));
    daemon.restart();
    let named = json!([{"run": run, "attempt": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": serves, "runs": named}));
    daemon.pass(Span::secs(5));
    assert!(daemon.heard(worker).iter().all(|said| said["type"] != "cancel"), "it has two seconds left");
    daemon.pass(Span::secs(3));
    assert!(daemon.heard(worker).iter().any(|said| said["reason"] == "timeout"), "its time is up");
}
