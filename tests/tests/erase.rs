//! An operator erases a user: connections end, runs end, nothing is left, and who comes back is new.

use runcast_tests::{Ask, Daemon, Ended, User, Worker, token};
use serde_json::json;

fn erase(daemon: &Daemon, user: &str) -> u16 {
    let ask = Ask::new("DELETE", &format!("/v1/users/{user}")).token(&token("op", "operate"));
    ask.send(&daemon.door()).status
}

#[test]
fn nothing_of_a_user_is_left_and_the_next_stream_is_another() {
    let mut daemon = Daemon::start(&["runs.timeout=10m"]);
    let mut alice = User::connected("alice", "laptop", &daemon.door());
    let mut bob = User::connected("bob", "laptop", &daemon.door());
    let mut worker = Worker::connect(&daemon.door(), 2, &json!([])).expect("a welcome");
    alice.run("key_1", "thread_1", &json!(1));
    let ended = worker.take();
    worker.complete(&ended, 1, &json!("done"));
    alice.until("agent_completed");
    alice.run("key_2", "thread_1", &json!(2));
    let running = worker.take();
    bob.run("key_1", "thread_1", &json!(3));
    bob.until("run_queued");

    let as_user = Ask::new("DELETE", "/v1/users/alice").token(&token("alice", "user")).send(&daemon.door());
    assert_eq!(as_user.status, 403);
    assert_eq!(erase(&daemon, "alice"), 204);
    assert_eq!(alice.socket().end(), Ended(Some(4507)));
    worker.event(&running, 1, "agent_output", &json!({ "delta": "late" }));
    let fenced = worker.hear_type("error");
    assert_eq!(fenced["code"], "fenced", "{fenced}");

    let get = |daemon: &Daemon, path: &str| {
        Ask::new("GET", path).token(&token("alice", "user")).send(&daemon.door())
    };
    let path = format!("/v1/runs/{}", ended["run"].as_str().expect("an id"));
    assert_eq!(get(&daemon, &path).status, 404);
    assert_eq!(get(&daemon, "/v1/runs").json, json!({ "runs": [] }));
    daemon.kill();
    daemon.restart();
    assert_eq!(get(&daemon, "/v1/runs").json, json!({ "runs": [] }));
    let page = get(&daemon, "/v1/events").json;
    assert_eq!((&page["head"], &page["events"]), (&json!(0), &json!([])), "{page}");
    assert_ne!(page["epoch"], alice.epoch().expect("it was welcome"));
    let mut again = User::connected("alice", "laptop", &daemon.door());
    again.run("key_1", "thread_1", &json!("another"));
    assert_eq!(again.until("run_queued")["seq"], 1);
    assert_eq!(bob.connect().expect("a welcome")["runs"][0]["thread"], "thread_1");
    assert_eq!(erase(&daemon, "nobody"), 204);
}
