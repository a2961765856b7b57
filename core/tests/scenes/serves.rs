//! What a worker may say that it serves (PROTOCOL §6 `hello`).

use crate::daemon::Daemon;
use runcast_core::wire::error::CloseCode;
use serde_json::{Value, json};

/// The answer to a `hello` with these agents.
fn answer(agents: &Value) -> Value {
    let mut daemon = Daemon::new(|_| {});
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let answer = daemon.heard(worker).remove(0);
    let closed = (answer["type"] == "error").then_some(CloseCode::Violation);
    assert_eq!(daemon.closed(worker), closed, "{answer}");
    answer
}

#[test]
fn a_worker_cannot_leave_its_runs_no_time() {
    let agents = |timeout_ms: u64| json!([{"agent": "echo", "slots": 1, "timeout_ms": timeout_ms}]);
    assert_eq!(answer(&agents(1))["type"], "welcome");
    let refused = answer(&agents(0));
    assert_eq!(refused["code"], "bad_message", "{refused}");
    assert_eq!(refused["message"], "field `timeout_ms`: expected 1 millisecond or more, found 0");
}

#[test]
fn a_worker_names_each_agent_once() {
    let one = |slots: u64| json!({"agent": "echo", "slots": slots});
    assert_eq!(answer(&json!([one(2)]))["type"], "welcome");
    let refused = answer(&json!([one(2), one(1)]));
    assert_eq!(refused["code"], "bad_message", "{refused}");
    assert_eq!(refused["message"], "field `agents`: expected each agent once, found echo");
}
