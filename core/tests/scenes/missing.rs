//! Events that a store has lost, and does not miss: nobody is resumed behind them in silence (PROTOCOL §3),
//! and nothing asks for them again and again.

use crate::daemon::Daemon;
use runcast_core::wire::error::CloseCode;
use serde_json::json;

#[test]
fn whoever_resumes_before_them_is_told_that_the_stream_is_damaged() {
    let mut daemon = Daemon::new(|_| {});
    let worker = daemon.worker(&json!({"type": "hello", "agents": [{"agent": "echo", "slots": 1}]}));
    let user = daemon.user("alice");
    daemon.ask(user);
    daemon.start(worker);
    daemon.restart();
    daemon.lose_first_events();
    let hello = json!({"type": "hello", "device": "new", "from": "oldest"});
    let resumed = daemon.connect("/ws", "alice", "user", &hello);
    assert_eq!(daemon.closed(resumed), Some(CloseCode::ServerError));
    let told = daemon.heard(resumed);
    assert!(told.iter().all(|said| said["type"] != "event"), "{told:?}");
    let (status, body) = daemon.request("GET", "/v1/events", "alice", "user");
    assert_ne!(status, 200, "{body}");
}
