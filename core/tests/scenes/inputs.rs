//! What a user sends with a run and to one (PROTOCOL §5): the key of an `input` stands for it, and metadata
//! for nothing of the daemon's.

use crate::daemon::Daemon;
use serde_json::{Value, json};

#[test]
fn an_input_that_is_sent_again_reaches_its_agent_once() {
    let mut daemon = Daemon::new(|_| {});
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let user = daemon.user("alice");
    daemon.ask(user);
    let run = daemon.start(worker);
    daemon.heard(user);
    let mut say = |data: Value| {
        daemon.says(user, &json!({"type": "input", "run": run, "key": "k", "data": data}));
        let is_answer = |said: &Value| matches!(said["type"].as_str(), Some("ok" | "error"));
        daemon.heard(user).into_iter().find(is_answer).expect("it is answered")
    };
    assert_eq!(say(json!("left"))["type"], "ok");
    assert_eq!(say(json!("left"))["type"], "ok");
    assert_eq!(say(json!("right"))["code"], "key_reused");
    let inputs = daemon.heard(worker).into_iter().filter(|said| said["type"] == "input");
    assert_eq!(inputs.map(|said| said["data"].clone()).collect::<Vec<_>>(), [json!("left")]);
}

#[test]
fn metadata_cannot_pass_for_what_the_daemon_says() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    daemon.heard(user);
    for name in ["user", "run", "thread", "agent", "runcast"] {
        daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1, "meta": {name: "x"}}));
        assert_eq!(daemon.heard(user)[0]["code"], "bad_message", "{name}");
    }
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1, "meta": {"ticket": 7}}));
    assert_eq!(daemon.heard(user)[0]["type"], "accepted");
}
