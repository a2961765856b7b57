//! Whose run it is (PROTOCOL §5 `run_not_found`, §7): it is there for its owner, and over HTTP for operators.

use crate::daemon::Daemon;
use serde_json::{Value, json};

#[test]
fn a_run_is_there_for_its_owner_and_for_operators_over_http_alone() {
    let mut daemon = Daemon::new(|_| {});
    let alice = daemon.user("alice");
    let run = daemon.ask(alice);
    let (see, cancel) = (format!("/v1/runs/{run}"), format!("/v1/runs/{run}/cancel"));
    for (method, path) in [("GET", &see), ("POST", &cancel)] {
        let (status, problem) = daemon.request(method, path, "bob", "user");
        assert_eq!((status, &problem["code"]), (404, &json!("run_not_found")), "{path}");
    }
    let hello = json!({"type": "hello", "ack": false});
    let operator = daemon.connect("/ws", "root", "user operate", &hello);
    daemon.heard(operator);
    daemon.says(operator, &json!({"type": "cancel", "run": run}));
    assert_eq!(daemon.heard(operator)[0]["code"], "run_not_found");

    let (status, state) = daemon.request("GET", &see, "alice", "user");
    assert_eq!((status, &state["state"], &state["user"]), (200, &json!("queued"), &Value::Null));
    let (status, state) = daemon.operator("GET", &see);
    assert_eq!((status, &state["user"]), (200, &json!("alice")));
    assert_eq!(daemon.operator("POST", &cancel).0, 200);
}

#[test]
fn a_run_of_another_is_no_parent_whether_it_has_ended_or_not() {
    let mut daemon = Daemon::new(|_| {});
    let [alice, bob] = ["alice", "bob"].map(|name| daemon.user(name));
    let runs = [daemon.ask(alice), daemon.ask(alice)];
    daemon.says(alice, &json!({"type": "cancel", "run": runs[0]}));
    for (user, expected) in [(alice, Value::Null), (bob, json!("run_not_found"))] {
        for parent in &runs {
            daemon.heard(user);
            daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1, "parent": parent}));
            assert_eq!(daemon.heard(user)[0]["code"], expected);
        }
    }
}
