//! Limits before authentication and after: each is told with when to try again, and hits nobody else.

use runcast_tests::{Answer, Ask, Daemon, Door, Ended, PATIENCE, Socket, User, Worker, eventually, token};
use serde_json::{Value, json};
use std::io::Read;
use std::net::TcpStream;
use tungstenite::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

fn get(door: &Door, token: &str) -> Answer {
    Ask::new("GET", "/v1/runs").token(token).send(door)
}

fn is_rate_limited(answer: &Answer) -> bool {
    let retry_ms = answer.json["retry_ms"].as_u64();
    answer.status == 429
        && answer.json["code"] == "rate_limited"
        && retry_ms > Some(0)
        && answer.head.to_ascii_lowercase().contains("retry-after: ")
}

#[test]
fn an_address_that_fails_to_say_who_it_is_is_not_heard_for_a_while() {
    let daemon = Daemon::start(&["limits.unauthenticated_per_address_per_minute=6"]);
    let (door, alice) = (daemon.door(), token("alice", "user"));
    let mut before = User::connected("alice", "laptop", &door);
    // What is wrong with these is not who asks.
    let run = Ask::new("POST", "/v1/runs").token(&alice).json(&json!({ "agent": "echo", "input": 1 }));
    for _ in 0..7 {
        assert_eq!(Ask::new("GET", "/favicon.ico").send(&door).status, 404);
        assert_eq!(Ask::new("GET", "/ws").token(&alice).send(&door).status, 426);
        assert_eq!(run.clone().header("transfer-encoding", "chunked").send(&door).status, 411);
    }
    // Each in another way: by headers, by a request without a token, by subprotocol, by hello, by garbage.
    assert_eq!(get(&door, "a.b.c").status, 401);
    assert_eq!(Ask::new("GET", "/v1/runs").send(&door).status, 401);
    assert_eq!(Ask::new("GET", "/v1/runs").header("authorization", "Basic YTpi").send(&door).status, 401);
    let with = |protocols| Socket::with(door.address(), "/ws", protocols, None).expect("it is upgraded");
    assert_eq!(with("runcast.v1, jwt.a.b.c").end(), Ended(Some(4501)));
    let mut early = with("runcast.v1");
    early.say(&json!({ "type": "ping" }));
    assert_eq!(early.end(), Ended(Some(4504)));
    assert_eq!(get(&door, &alice).status, 200, "what succeeds uses nothing up");
    let (status, _) = runcast_tests::raw_request(door.address(), "nonsense\r\n\r\n");
    assert_eq!(status, 400);
    for _ in 0..3 {
        let answer = get(&door, &alice);
        assert!(is_rate_limited(&answer), "{answer:?}");
        let refused = Socket::with(door.address(), "/ws", "runcast.v1", Some(&alice));
        assert_eq!(refused.err(), Some(Ended(Some(429))));
    }
    assert_eq!(Ask::new("GET", "/livez").send(&door).status, 200);
    before.say(&json!({ "type": "ping" }));
    assert_eq!(before.hear().expect("who is there is not touched")["type"], "pong");
}

#[test]
fn requests_count_by_who_makes_them_on_whatever_connection() {
    let daemon =
        Daemon::start(&["limits.requests_per_second=1", "limits.requests_burst=3", "topics.news.events=100"]);
    let (door, alice) = (daemon.door(), token("alice", "user"));
    for _ in 0..3 {
        assert_eq!(get(&door, &alice).status, 200);
    }
    // A second may have gone by.
    let last = eventually("a refusal", || match get(&door, &alice) {
        fine if fine.status == 200 => Err(fine),
        refused => Ok(refused),
    });
    assert!(is_rate_limited(&last), "{last:?}");
    assert_eq!(get(&door, &token("bob", "user")).status, 200);
    let publish = || {
        let ask = Ask::new("POST", "/v1/topics/news/events").token(&token("press", "publish"));
        ask.json(&json!({ "event": "flash", "data": 1 })).send(&door)
    };
    let statuses: Vec<u16> = (0..20).map(|_| publish().status).collect();
    assert_eq!(statuses[..3], [201; 3]);
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[test]
fn far_too_many_connections_are_refused_before_they_say_anything() {
    let daemon = Daemon::start(&["server.connections_per_address=4"]);
    let door = daemon.door();
    let silent: Vec<TcpStream> =
        (0..30).map(|_| TcpStream::connect(door.address()).expect("the system accepts")).collect();
    let mut refused = 0;
    for mut socket in silent.iter().skip(8) {
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer to nothing, and then the end");
        assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("rate_limited"), "{answer}");
        refused += 1;
    }
    assert_eq!(refused, 22);
    drop(silent);
    // They are gone as soon as the daemon has seen that.
    while Ask::new("GET", "/v1/runs").token(&token("alice", "user")).send(&door).status != 200 {}
}

/// A text in frames of at most 16 KiB.
fn in_fragments(socket: &mut Socket, text: &str) {
    let last = (text.len() - 1) / 0x4000;
    for (at, fragment) in text.as_bytes().chunks(0x4000).enumerate() {
        let kind = if at == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(fragment.to_vec(), OpCode::Data(kind), at == last);
        socket.send(Message::Frame(frame));
    }
}

/// `hello` of a worker that claims to have so many runs, and brings this token, if any.
fn hello_with(runs: usize, token: Option<&str>) -> Value {
    let runs: Vec<Value> =
        (0..runs).map(|at| json!({ "run": format!("run_t_{at:08x}"), "attempt": 1 })).collect();
    let mut hello =
        json!({ "type": "hello", "worker": "w-1", "agents": [{ "agent": "research" }], "runs": runs });
    token.into_iter().for_each(|token| hello["token"] = json!(token));
    hello
}

#[test]
fn a_stranger_is_given_no_room_for_more_than_a_short_hello() {
    let daemon = Daemon::start(&["server.message=1MiB"]);
    let (address, workers) = (daemon.door().address(), token("workers", "worker"));
    for (path, text) in [
        ("/worker", " ".repeat(65_537)),
        ("/ws", " ".repeat(65_537)),
        ("/worker", hello_with(10_000, Some(&workers)).to_string()),
    ] {
        let mut stranger = Socket::with(address, path, "runcast.v1", None).expect("it is upgraded");
        in_fragments(&mut stranger, &text);
        let error = stranger.hear().expect("it is told why");
        assert_eq!((&error["code"], &error["temporary"]), (&json!("too_large"), &json!(false)), "{error}");
        assert!(error["message"].as_str().is_some_and(|it| it.contains("65536")), "{error}");
        assert!(error["hint"].as_str().is_some_and(|it| it.contains("token")), "{error}");
        assert_eq!(stranger.end(), Ended(Some(4505)), "{path}");
    }
    // A short one passes, also in pieces.
    let mut short = Socket::with(address, "/worker", "runcast.v1", None).expect("it is upgraded");
    in_fragments(&mut short, &hello_with(1_000, Some(&workers)).to_string());
    assert_eq!(
        Worker::greeted(short).expect("a welcome").welcome["runs"].as_array().map(Vec::len),
        Some(1_000)
    );
}

#[test]
fn whoever_is_known_is_given_the_room_that_the_protocol_promises() {
    let daemon = Daemon::start(&[]);
    let (door, workers) = (daemon.door(), token("workers", "worker"));
    let (in_header, in_subprotocol, in_hello) = (
        Socket::connect(door.address(), "/worker", &workers),
        Socket::with(door.address(), "/worker", &format!("runcast.v1, jwt.{workers}"), None),
        Socket::with(door.address(), "/worker", "runcast.v1", None),
    );
    let mut alice = User::connected("alice", "laptop", &door);
    let large = "x".repeat(1_000_000);
    for (at, (socket, runs, token)) in
        [(in_header, 10_000, None), (in_subprotocol, 10_000, None), (in_hello, 1_000, Some(&*workers))]
            .into_iter()
            .enumerate()
    {
        let mut socket = socket.expect("it is upgraded");
        in_fragments(&mut socket, &hello_with(runs, token).to_string());
        let mut worker = Worker::greeted(socket).expect("a welcome");
        assert_eq!(worker.welcome["runs"].as_array().map(Vec::len), Some(runs));
        alice.run(&format!("key_{at}"), "thread_1", &json!("go"));
        let run = worker.take();
        worker.complete(&run, 1, &json!(large));
        assert!(alice.until("agent_completed")["data"]["output"] == large);
        alice.ack();
    }
}

#[test]
fn while_nobody_can_be_taken_in_that_is_told_once_however_many_come() {
    let daemon = Daemon::start(&["server.connections=256"]);
    let (door, log) = (daemon.door(), daemon.log());
    let stalls = || log.lines().iter().filter(|line| line.contains("cannot accept for now")).count();
    let mut alice = User::connected("alice", "laptop", &door);
    let [mut bob, mut carol] = ["bob", "carol"].map(|name| User::connected(name, "laptop", &door));
    let answered = |user: &mut User| {
        user.say(&json!({ "type": "ping" }));
        assert_eq!(user.hear().expect("who is there is not touched")["type"], "pong");
    };
    daemon.let_open(3);
    let mut waiting = Vec::new();
    for _ in 0..40 {
        waiting.push(TcpStream::connect(door.address()).expect("the system takes it"));
        answered(&mut alice);
    }
    log.nth(1, "cannot accept for now; is the limit of open files too low?");
    // Somebody goes: what that makes room for is tried, and is too little.
    for user in [&mut bob, &mut carol] {
        user.socket().hang_up();
        assert_eq!(user.socket().end(), Ended(None));
        answered(&mut alice);
    }
    daemon.let_open(512);
    assert_eq!(Ask::new("GET", "/v1/runs").token(&token("alice", "user")).send(&door).status, 200);
    let dave = User::connected("dave", "laptop", &door);
    eventually("dave's line", || {
        let is_there = log.lines().iter().any(|line| line.contains("\"dave\""));
        if is_there { Ok(()) } else { Err(()) }
    });
    drop(dave);
    assert_eq!(stalls(), 1);
}

/// As many as come at once when a site's network is back. The daemon stands still, so that it takes nobody
/// in.
#[test]
fn whoever_comes_with_hundreds_of_others_waits_in_line_instead_of_coming_again() {
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("the system tells it");
    let crowd = allowed.trim().parse::<usize>().expect("a number").min(400);
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    daemon.signal("STOP");
    let dial = |_| TcpStream::connect_timeout(&door.address(), PATIENCE);
    let waiting: Result<Vec<TcpStream>, _> = (0..crowd).map(dial).collect();
    daemon.signal("CONT");
    assert_eq!(waiting.expect("all find room").len(), crowd);
    assert_eq!(Ask::new("GET", "/readyz").send(&door).status, 200);
}
