//! Calls that arrive late: one that its client has given up takes nobody's place (PROTOCOL §3 `call`).

use runcast_tests::{Daemon, Socket, User, Worker, token};
use serde_json::{Value, json};

/// Says `hello` as call `n` of the process `by`.
fn hello(daemon: &Daemon, path: &str, mut hello: Value, by: &str, n: u64) -> Socket {
    let scope = if path == "/worker" { "worker" } else { "user" };
    let mut socket =
        Socket::connect(daemon.door().address(), path, &token("alice", scope)).expect("an upgrade");
    hello["type"] = json!("hello");
    hello["call"] = json!({ "by": by, "n": n });
    socket.say(&hello);
    socket
}

#[test]
fn a_late_call_takes_no_place_and_a_newer_one_does() {
    let daemon = Daemon::start(&[]);
    let of_device = json!({ "device": "phone" });
    let of_worker = json!({ "worker": "w-1", "agents": [{ "agent": "echo" }], "runs": [] });
    for (path, words) in [("/ws", of_device), ("/worker", of_worker)] {
        let mut second = hello(&daemon, path, words.clone(), "a", 2);
        second.hear_type("welcome").expect("a welcome");
        let mut first = hello(&daemon, path, words.clone(), "a", 1);
        assert_eq!(first.end().0, Some(4510), "{path}");
        second.say(&json!({ "type": if path == "/ws" { "ping" } else { "beat" } }));
        let mut third = hello(&daemon, path, words.clone(), "a", 3);
        third.hear_type("welcome").expect("a welcome");
        assert_eq!(second.end().0, Some(4510), "{path}");
        // Another process counts for itself.
        let mut other = hello(&daemon, path, words.clone(), "b", 1);
        other.hear_type("welcome").expect("a welcome");
        assert_eq!(third.end().0, Some(4510), "{path}");
    }
}

#[test]
fn a_late_call_of_a_worker_gives_up_no_run_of_which_it_does_not_know() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let mut user = User::connected("alice", "laptop", &door);
    let agents = json!([{ "agent": "research", "slots": 1 }]);
    let words = json!({ "worker": "w-1", "agents": agents, "runs": [] });
    let mut worker = Worker::greeted(hello(&daemon, "/worker", words.clone(), "a", 2)).expect("a welcome");
    user.run("k", "t", &json!(1));
    let run = worker.take();
    let mut late = hello(&daemon, "/worker", words, "a", 1);
    assert_eq!(late.end().0, Some(4510));
    worker.complete(&run, 1, &json!("done"));
    assert_eq!(user.until("agent_completed")["data"]["status"], "ok");
}
