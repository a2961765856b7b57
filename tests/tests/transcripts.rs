//! Conversations as they stand on the wire, for people to read. Ids, times and durations are put out of
//! sight.

mod common;

use runcast_tests::{Ask, Daemon, Socket, User, Worker, token};
use serde_json::{Value, json};

/// What a device hears until `ends` runs have ended, a message a line, with the times that differ from run to
/// run taken out. Notices and heartbeats depend on how fast the machine is: they are left out.
fn transcript(user: &mut User, ends: usize) -> String {
    let (mut lines, mut ended) = (Vec::new(), 0);
    while ended < ends {
        let message = user.hear().expect("the connection lasts");
        ended += usize::from(message["event"] == "agent_completed");
        lines.extend(line(&message));
    }
    lines.join("\n")
}

fn line(message: &Value) -> Option<String> {
    (message["type"] != "notice" && message["type"] != "heartbeat").then(|| format!("← {message}"))
}

/// Compares with the snapshot of that name, ids and times filtered.
fn compare(name: &str, transcript: &str) {
    common::settings().bind(|| insta::assert_snapshot!(name, transcript));
}

#[test]
fn a_first_run() {
    let daemon = Daemon::start(&[]);
    let mut user = User::connected("alice", "laptop", &daemon.door());
    let mut worker = Worker::connect(&daemon.door(), 1, &json!([])).expect("a welcome");
    user.run("key_1", "thread_1", &json!({ "q": "what?" }));
    let run = worker.take();
    worker.event(&run, 1, "agent_thinking", &json!({ "delta": "Let me" }));
    worker.event(&run, 2, "tool_executing", &json!({ "call": "call_1", "tool": "search", "args": {} }));
    worker.event(&run, 3, "tool_completed", &json!({ "call": "call_1", "status": "ok", "result": [1] }));
    worker.event(&run, 4, "agent_output", &json!({ "delta": "Done." }));
    worker.complete(&run, 5, &json!("Done."));
    compare("a first run", &transcript(&mut user, 1));
}

#[test]
fn a_run_waits_behind_another_of_its_thread() {
    let daemon = Daemon::start(&[]);
    let mut user = User::connected("alice", "laptop", &daemon.door());
    // Without a worker at first, so that both are queued before the first is offered.
    let mut lines = Vec::new();
    for key in ["key_1", "key_2"] {
        user.run(key, "thread_1", &json!(key));
        while user.events().last().is_none_or(|event| event["data"]["key"] != key) {
            lines.extend(line(&user.hear().expect("the connection lasts")));
        }
    }
    let mut worker = Worker::connect(&daemon.door(), 2, &json!([])).expect("a welcome");
    for _ in 0..2 {
        let run = worker.take();
        worker.complete(&run, 1, &run["input"]);
    }
    lines.push(transcript(&mut user, 2));
    compare("a run waits behind another of its thread", &lines.join("\n"));
}

#[test]
fn a_run_is_cancelled() {
    let daemon = Daemon::start(&[]);
    let mut user = User::connected("alice", "laptop", &daemon.door());
    let mut worker = Worker::connect(&daemon.door(), 1, &json!([])).expect("a welcome");
    user.run("key_1", "thread_1", &json!(1));
    let run = worker.take();
    worker.event(&run, 1, "tool_executing", &json!({ "call": "call_1", "tool": "search", "args": {} }));
    worker.hear_type("ack");
    user.say(&json!({ "type": "cancel", "run": run["run"], "id": "7" }));
    let cancel = worker.hear_type("cancel");
    worker.say(&json!({ "type": "got", "run": run["run"], "attempt": run["attempt"], "i": cancel["i"] }));
    worker.end(&run, 2, "cancelled", &json!("half"));
    compare("a run is cancelled", &transcript(&mut user, 1));
}

/// Says something on a connection, and writes down what comes up to a message of this type.
fn exchange(socket: &mut Socket, lines: &mut Vec<String>, say: &Value, until: &str) {
    lines.push(format!("→ {say}"));
    socket.say(say);
    hear(socket, lines, until);
}

fn hear(socket: &mut Socket, lines: &mut Vec<String>, until: &str) {
    loop {
        let message = socket.hear().expect("the connection lasts");
        lines.extend(line(&message));
        if message["type"] == until {
            return;
        }
    }
}

#[test]
fn topics_are_read_changed_and_resumed() {
    let daemon = Daemon::start(&["topics.news.read=user", "topics.ops.read=operate"]);
    let door = daemon.door();
    let mut lines = Vec::new();
    let publish = |lines: &mut Vec<String>, topic: &str, key: &str, data: &Value| {
        let (path, body) = (format!("/v1/topics/{topic}/events"), json!({ "event": "flash", "data": data }));
        let ask = Ask::new("POST", &path).token(&token("press", "publish")).header("idempotency-key", key);
        let answer = ask.json(&body).send(&door);
        lines.push(format!("→ POST {path} {key} {body}"));
        lines.push(format!("← {} {}", answer.status, answer.json));
    };
    let connect = || Socket::connect(door.address(), "/ws", &token("alice", "user")).expect("a connection");
    let mut socket = connect();
    let from = json!([{ "topic": "news", "from": "oldest" }, "ops"]);
    let hello = json!({ "type": "hello", "device": "laptop", "topics": from });
    exchange(&mut socket, &mut lines, &hello, "welcome");
    publish(&mut lines, "news", "k-1", &json!({ "n": 1 }));
    publish(&mut lines, "news", "k-1", &json!({ "n": 1 }));
    publish(&mut lines, "agents", "k-2", &json!("worker_joined"));
    hear(&mut socket, &mut lines, "event");
    let subscribe = |topics: Value| json!({ "type": "subscribe", "id": "1", "topics": topics });
    exchange(&mut socket, &mut lines, &subscribe(json!(["news", "ops"])), "error");
    exchange(&mut socket, &mut lines, &subscribe(json!(["system", "news"])), "subscribed");
    let ack = json!({ "type": "ack", "topic": "news", "seq": 2, "id": "2" });
    exchange(&mut socket, &mut lines, &ack, "error");
    let ack = json!({ "type": "ack", "topic": "news", "seq": 1 });
    lines.push(format!("→ {ack}"));
    socket.say(&ack);
    // Its answer shows that the acknowledgement was taken before the connection goes.
    exchange(&mut socket, &mut lines, &json!({ "type": "ping" }), "pong");
    drop(socket);
    publish(&mut lines, "news", "k-3", &json!({ "n": 2 }));
    let mut socket = connect();
    let from = json!([{ "topic": "news", "from": "device" }]);
    let hello = json!({ "type": "hello", "device": "laptop", "topics": from });
    exchange(&mut socket, &mut lines, &hello, "event");
    compare("topics are read changed and resumed", &lines.join("\n"));
}

#[test]
fn deltas_are_joined_for_a_device_that_is_behind() {
    let daemon = Daemon::start(&["delivery.ack_timeout=3s"]);
    let door = daemon.door();
    let mut user = User::connected("alice", "laptop", &door);
    let mut worker = Worker::connect(&door, 1, &json!([])).expect("a welcome");
    user.run("key_1", "thread_1", &json!(1));
    let run = worker.take();
    for (n, word) in (1..).zip(["Let ", "me ", "think.\n"]) {
        worker.event(&run, n, "agent_thinking", &json!({ "delta": word }));
    }
    for (n, word) in (4..).zip(["All ", "\"well\"."]) {
        worker.event(&run, n, "agent_output", &json!({ "delta": word, "message": "m-1" }));
    }
    worker.complete(&run, 6, &json!("All well."));
    user.until("agent_completed");
    let mut lines = Vec::new();
    let mut phone = Socket::connect(door.address(), "/ws", &token("alice", "user")).expect("a connection");
    let hello = json!({ "type": "hello", "device": "phone", "from": "oldest", "window": 2 });
    exchange(&mut phone, &mut lines, &hello, "event");
    hear(&mut phone, &mut lines, "event");
    let ack = json!({ "type": "ack", "seq": 2 });
    exchange(&mut phone, &mut lines, &ack, "event");
    // The window is full of two, each of which stands for some; both are sent again as they were.
    for _ in 0..3 {
        hear(&mut phone, &mut lines, "event");
    }
    let ack = json!({ "type": "ack", "seq": 7 });
    exchange(&mut phone, &mut lines, &ack, "event");
    compare("deltas are joined for a device that is behind", &lines.join("\n"));
}
