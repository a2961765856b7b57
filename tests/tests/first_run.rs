//! A first run from end to end, and what is told to those who connect wrongly (PROTOCOL §3, §5).

use runcast_tests::{Daemon, Ended, SECRET, Socket, User, Worker, claims, dial, raw_request, sign, token};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::SocketAddr;
use tungstenite::Message;

/// Serves one run: a thought, a tool, an answer.
fn serve(worker: &mut Worker) -> Value {
    let run = worker.take();
    worker.event(&run, 1, "agent_thinking", &json!({ "delta": "Let me" }));
    worker.event(&run, 2, "tool_executing", &json!({ "call": "c", "tool": "search", "args": { "q": 1.50 } }));
    worker.event(&run, 3, "tool_completed", &json!({ "call": "c", "status": "ok", "result": [] }));
    worker.event(&run, 4, "agent_output", &json!({ "delta": "Done." }));
    worker.complete(&run, 5, &json!({ "text": "Done." }));
    run
}

fn names(user: &User) -> Vec<&str> {
    user.events().iter().filter_map(|event| event["event"].as_str()).collect()
}

#[test]
fn two_devices_see_a_run_and_another_user_sees_nothing_of_it() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let mut laptop = User::connected("alice", "laptop", &door);
    let mut phone = User::connected("alice", "phone", &door);
    let mut bob = User::connected("bob", "laptop", &door);
    let mut worker = Worker::connect(&door, 1, &json!([])).expect("a welcome");
    laptop.run("k", "thread_1", &json!({ "q": "what?" }));
    let accepted = laptop.hear().expect("an answer");
    assert_eq!(
        (&accepted["type"], &accepted["duplicate"]),
        (&json!("accepted"), &json!(false)),
        "{accepted}"
    );
    let run = serve(&mut worker);
    assert_eq!(
        (&run["run"], &run["user"], &run["input"]["q"]),
        (&accepted["run"], &json!("alice"), &json!("what?"))
    );
    laptop.until("agent_completed");
    phone.until("agent_completed");
    let expected = [
        "run_queued",
        "agent_started",
        "agent_thinking",
        "tool_executing",
        "tool_completed",
        "agent_output",
        "agent_completed",
    ];
    assert_eq!(names(&laptop), expected);
    assert_eq!(laptop.events(), phone.events());
    bob.say(&json!({ "type": "cancel", "run": accepted["run"], "id": "1" }));
    bob.say(&json!({ "type": "ping", "n": 7 }));
    let refused = bob.hear().expect("an answer");
    assert_eq!((&refused["code"], &refused["id"]), (&json!("run_not_found"), &json!("1")), "{refused}");
    let pong = bob.hear().expect("an answer");
    assert_eq!((&pong["type"], &pong["n"], bob.position()), (&json!("pong"), &json!(7), 0), "{pong}");
}

#[test]
fn a_device_resumes_by_position_and_by_its_name() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let mut user = User::connected("alice", "laptop", &door);
    let mut worker = Worker::connect(&door, 1, &json!([])).expect("a welcome");
    user.run("k", "thread_1", &json!(1));
    serve(&mut worker);
    user.until("tool_completed");
    user.say(&json!({ "type": "ack", "seq": 3 }));
    user.until("agent_completed");
    let end = user.position();
    let epoch = user.epoch().expect("known").to_owned();
    let resumed = |seq: u64| json!({ "status": "resumed", "from": seq });
    let welcome = user.connect_from(&json!("device")).expect("a welcome");
    assert_eq!(welcome["resume"], resumed(3), "{welcome}");
    let welcome = user.connect_from(&json!({ "epoch": epoch, "seq": 5 })).expect("a welcome");
    assert_eq!((&welcome["resume"], &welcome["head"]), (&resumed(5), &json!(end)), "{welcome}");
    let event = user.hear().expect("an event");
    assert_eq!(event["seq"], 6, "{event}");
    for (from, reason) in [
        (json!({ "epoch": epoch, "seq": end + 1 }), "ahead"),
        (json!({ "epoch": "e-other", "seq": 1 }), "epoch"),
    ] {
        let welcome = user.connect_from(&from).expect("a welcome");
        let reset = json!({ "status": "reset", "reason": reason, "from": 0 });
        assert_eq!(welcome["resume"], reset, "{welcome}");
    }
}

/// A text frame of a client, masked with zeros.
fn frame(message: &Value) -> Vec<u8> {
    let text = message.to_string();
    let length = u16::try_from(text.len()).expect("a short message").to_be_bytes();
    [&[0x81, 0x80 | 126], &length[..], &[0; 4], text.as_bytes()].concat()
}

#[test]
fn messages_in_the_segment_of_the_upgrade_are_answered_in_order_after_welcome() {
    let daemon = Daemon::start(&[]);
    let address = daemon.door().address();
    let mut stream = dial(address).expect("the daemon listens");
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: runcast.v1\r\n\r\n"
    );
    let mut segment = head.into_bytes();
    segment.extend(frame(&json!({ "type": "hello", "token": token("alice", "user") })));
    segment.extend(frame(&json!({ "type": "ping", "n": 1 })));
    segment.extend(frame(&json!({ "type": "run", "agent": "research", "input": 1, "id": "2" })));
    segment.extend(frame(&json!({ "type": "ping", "n": 3 })));
    stream.write_all(&segment).expect("the daemon reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the head of an answer");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    let mut socket = Socket::upgraded(stream, Vec::new());
    assert_eq!(socket.hear().expect("a message")["type"], "welcome");
    assert_eq!(socket.hear().expect("a message")["n"], 1);
    // The second waits for the disk; the third does not.
    assert_eq!(socket.hear_type("pong").expect("a message")["n"], 3);
    assert_eq!(socket.hear_type("accepted").expect("a message")["id"], "2");
}

#[test]
fn what_cannot_be_read_is_answered_and_the_connection_stays() {
    let daemon = Daemon::start(&[]);
    let mut user = User::connected("alice", "laptop", &daemon.door());
    for (said, code) in [
        ("{", "bad_json"),
        (r#"{"type":"dance"}"#, "unknown_type"),
        (r#"{"type":"run","agent":7,"input":1}"#, "bad_message"),
        (r#"{"type":"run","agent":"nobody","input":1}"#, "agent_unknown"),
        (r#"{"type":"ack","seq":1}"#, "ack_ahead"),
    ] {
        user.socket().send(Message::text(said));
        let error = user.hear().expect("an answer");
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{said}: {error}");
    }
}

#[test]
fn what_breaks_the_protocol_closes_the_connection() {
    let daemon = Daemon::start(&[]);
    let hello = json!({ "type": "hello" }).to_string();
    for (said, code) in [
        (Message::binary(vec![1]), 4504),
        (Message::text(" ".repeat(70_000)), 4505),
        (Message::text(hello), 4504),
    ] {
        let mut user = User::connected("alice", "laptop", &daemon.door());
        user.socket().send(said);
        assert_eq!(user.socket().end(), Ended(Some(code)));
    }
}

/// What a token is answered with when it comes in the header, in the subprotocol and in `hello`.
fn judge(address: SocketAddr, token: &str, status: u16, code: &str) {
    let refused = Socket::with(address, "/ws", "runcast.v1", Some(token)).map(drop);
    assert_eq!(refused, Err(Ended(Some(status))), "{code} in the header");
    for (protocols, hello) in [
        (format!("runcast.v1, jwt.{token}"), json!({ "type": "hello" })),
        ("runcast.v1".to_owned(), json!({ "type": "hello", "token": token })),
    ] {
        let mut socket = Socket::with(address, "/ws", &protocols, None).expect("an upgrade");
        socket.say(&hello);
        let error = socket.hear().expect("an error before the close");
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{protocols}: {error}");
        assert_eq!(socket.end(), Ended(Some(4501)), "{code}");
    }
}

#[test]
fn a_bad_token_is_refused_by_each_of_the_three_ways() {
    let daemon = Daemon::start(&[]);
    let address = daemon.door().address();
    let mut old = claims("alice", "user");
    old["exp"] = json!(1_000_000_000);
    judge(address, &sign(&old, SECRET), 401, "token_expired");
    let foreign = sign(&claims("alice", "user"), b"another secret, of nobody here at all");
    judge(address, &foreign, 401, "token_signature");
    judge(address, &token("alice", "worker"), 403, "token_scope");
    judge(address, "no.jwt.", 401, "token_malformed");
    let mut socket = Socket::with(address, "/ws", "runcast.v1", None).expect("an upgrade");
    socket.say(&json!({ "type": "hello" }));
    assert_eq!(socket.hear().expect("an error")["code"], "token_missing");
    assert_eq!(socket.end(), Ended(Some(4501)));
}

#[test]
fn what_is_no_upgrade_is_answered_by_http() {
    let daemon = Daemon::start(&[]);
    let address = daemon.door().address();
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/nowhere", 404), ("/ws?token=x", 400)] {
        let (found, body) = raw_request(address, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        assert_eq!(found, status, "{path}: {body}");
    }
    let other = Socket::with(address, "/ws", "other.v9", Some(&token("alice", "user"))).map(drop);
    assert_eq!(other, Err(Ended(Some(426))));
}
