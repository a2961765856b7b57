//! `started` (PROTOCOL §6): one that is repeated is acknowledged again, and keeps nothing in memory.

use crate::daemon::Daemon;
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
