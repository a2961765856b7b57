//! Topics over real sockets (PROTOCOL §3–§7): who may read and write them, positions of their own, and a
//! token that is replaced in time.

use runcast_tests::{Answer, Ask, Daemon, Door, Ended, SECRET, Socket, Worker, claims, sign, token};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// A connection of a device that reads topics, and its `welcome`.
fn reader(door: &Door, token: &str, device: &str, topics: &Value) -> (Socket, Value) {
    let mut socket = Socket::connect(door.address(), "/ws", token).expect("a connection");
    socket.say(&json!({ "type": "hello", "device": device, "topics": topics }));
    let welcome = socket.hear().expect("a welcome");
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    (socket, welcome)
}

fn alice() -> String {
    token("alice", "user")
}

fn operator() -> String {
    token("olga", "user operate")
}

fn publish(door: &Door, topic: &str, key: Option<&str>, data: &Value) -> Answer {
    let body = json!({ "event": "flash", "data": data });
    let ask = Ask::new("POST", &format!("/v1/topics/{topic}/events")).token(&token("press", "publish"));
    let ask = key.into_iter().fold(ask, |ask, key| ask.header("idempotency-key", key));
    ask.json(&body).send(door)
}

/// Publishes what must be accepted as this seq.
fn published(door: &Door, topic: &str, seq: u64) {
    let answer = publish(door, topic, None, &json!({ "n": seq }));
    assert_eq!((answer.status, &answer.json["seq"]), (201, &json!(seq)), "{answer:?}");
}

/// The next event of a topic: its seq and data.
fn event(socket: &mut Socket, topic: &str) -> (u64, Value) {
    let event = socket.hear_type("event").expect("the connection lasts");
    assert_eq!(event["topic"], topic, "{event}");
    (event["seq"].as_u64().expect("a seq"), event["data"].clone())
}

/// The entries of a `welcome` or `subscribed`: each topic with its status, or the code of its error, and
/// where it begins.
fn places(message: &Value) -> Vec<(&str, &str, u64)> {
    let mut places = Vec::new();
    for entry in message["topics"].as_array().expect("a list of topics") {
        let status = entry["error"]["code"].as_str().or(entry["resume"]["status"].as_str());
        let name = entry["topic"].as_str().expect("a topic");
        places.push((
            name,
            status.expect("a status or a code"),
            entry["resume"]["from"].as_u64().unwrap_or(0),
        ));
    }
    places
}

#[test]
fn a_topic_is_read_by_whoever_may_from_where_each_is() {
    let mut daemon = Daemon::start(&["topics.news.read=user"]);
    let door = daemon.door();
    published(&door, "news", 1);
    let topics = json!(["system", { "topic": "news", "from": "oldest" }, "alerts", "none"]);
    let (mut socket, welcome) = reader(&door, &alice(), "laptop", &topics);
    let forbidden = "topic_forbidden";
    assert_eq!(
        places(&welcome),
        [("system", "fresh", 0), ("news", "fresh", 0), ("alerts", forbidden, 0), ("none", forbidden, 0)]
    );
    assert_eq!(event(&mut socket, "news"), (1, json!({ "n": 1 })));
    published(&door, "news", 2);
    published(&door, "system", 1);
    assert_eq!(event(&mut socket, "news"), (2, json!({ "n": 2 })));
    assert_eq!(event(&mut socket, "system"), (1, json!({ "n": 1 })));
    socket.say(&json!({ "type": "ack", "topic": "news", "seq": 2 }));
    socket.say(&json!({ "type": "ack", "topic": "news", "seq": 3, "id": "a" }));
    let error = socket.hear_type("error").expect("an error");
    assert_eq!((&error["code"], &error["id"]), (&json!("ack_ahead"), &json!("a")), "{error}");
    // A topic that is not read (any more) is not acknowledged, and that is no mistake.
    socket.say(&json!({ "type": "ack", "topic": "alerts", "seq": 7 }));
    socket.say(&json!({ "type": "ping", "n": 1 }));
    let next = socket.hear().expect("an answer");
    assert_eq!((&next["type"], &next["n"]), (&json!("pong"), &json!(1)), "{next}");
    // A second device begins at the head, whatever others do.
    let topics = json!([{ "topic": "news", "from": "device" }]);
    let (_, welcome) = reader(&door, &alice(), "phone", &topics);
    assert_eq!(places(&welcome), [("news", "fresh", 2)]);
    daemon.kill();
    daemon.restart();
    published(&door, "news", 3);
    let (mut socket, welcome) = reader(&door, &alice(), "phone", &topics);
    assert_eq!(places(&welcome), [("news", "resumed", 2)]);
    assert_eq!(event(&mut socket, "news"), (3, json!({ "n": 3 })));
}

#[test]
fn topics_are_changed_while_connected_and_kept_ones_go_on() {
    let daemon = Daemon::start(&["topics.news.read=user", "topics.sports.read=user"]);
    let door = daemon.door();
    let (mut socket, _) = reader(&door, &alice(), "laptop", &json!(["news"]));
    published(&door, "news", 1);
    published(&door, "sports", 1);
    assert_eq!(event(&mut socket, "news"), (1, json!({ "n": 1 })));
    let both = json!([{ "topic": "sports", "from": "oldest" }, { "topic": "news", "from": "oldest" }]);
    socket.say(&json!({ "type": "subscribe", "id": "1", "topics": both }));
    let subscribed = socket.hear_type("subscribed").expect("an answer");
    assert_eq!(subscribed["id"], "1");
    assert_eq!(places(&subscribed), [("sports", "fresh", 0), ("news", "resumed", 1)]);
    assert_eq!(event(&mut socket, "sports"), (1, json!({ "n": 1 })));
    socket.say(&json!({ "type": "ack", "topic": "sports", "seq": 1 }));
    for topics in [json!(["sports", "agents"]), json!(["sports", "sports"]), json!([]), Value::Null] {
        socket.say(&json!({ "type": "subscribe", "id": "2", "topics": topics }));
        if topics == json!([]) {
            assert_eq!(places(&socket.hear_type("subscribed").expect("an answer")), []);
            published(&door, "news", 2);
        } else {
            let error = socket.hear_type("error").expect("an error");
            assert_eq!((&error["of"], &error["id"]), (&json!("subscribe"), &json!("2")), "{error}");
        }
    }
    let device = json!([{ "topic": "news", "from": "oldest" }, { "topic": "sports", "from": "device" }]);
    socket.say(&json!({ "type": "subscribe", "topics": device }));
    let subscribed = socket.hear_type("subscribed").expect("an answer");
    assert_eq!(places(&subscribed), [("news", "fresh", 0), ("sports", "resumed", 1)]);
    assert_eq!(event(&mut socket, "news").0, 1);
    assert_eq!(event(&mut socket, "news").0, 2);
}

#[test]
fn a_publication_is_made_once_whoever_asks_again() {
    let mut daemon = Daemon::start(&["topics.news.read=user"]);
    let door = daemon.door();
    let once = |data: &Value| publish(&door, "news", Some("k-1"), data);
    let first = once(&json!({ "a": 1 }));
    assert_eq!((first.status, &first.json), (201, &json!({ "seq": 1, "duplicate": false })));
    let again = once(&json!({ "a": 1 }));
    assert_eq!((again.status, &again.json), (200, &json!({ "seq": 1, "duplicate": true })));
    assert_eq!(once(&json!({ "a": 2 })).json["code"], "key_reused");
    daemon.kill();
    daemon.restart();
    let again = once(&json!({ "a": 1 }));
    assert_eq!((again.status, &again.json["seq"]), (200, &json!(1)));
    // The key counts within its topic.
    assert_eq!(publish(&door, "system", Some("k-1"), &json!({ "a": 2 })).status, 201);
    let (mut socket, _) = reader(&door, &alice(), "d", &json!([{ "topic": "news", "from": "oldest" }]));
    published(&door, "news", 2);
    assert_eq!(event(&mut socket, "news"), (1, json!({ "a": 1 })));
    assert_eq!(event(&mut socket, "news"), (2, json!({ "n": 2 })));
}

#[test]
fn only_publishers_write_and_only_to_topics_that_there_are() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    for topic in ["agents", "news", "none"] {
        let answer = publish(&door, topic, None, &json!(1));
        assert_eq!((answer.status, &answer.json["code"]), (403, &json!("topic_forbidden")), "{topic}");
    }
    let path = "/v1/topics/system/events";
    let good = json!({ "event": "flash", "data": null });
    let by = |scope: &str, body: &Value| {
        Ask::new("POST", path).token(&token("press", scope)).json(body).send(&door)
    };
    assert_eq!(by("user operate", &good).json["code"], "token_scope");
    for bad in [json!({ "event": "flash" }), json!({ "data": 1 }), json!({ "event": "two words", "data": 1 })]
    {
        assert_eq!(by("publish", &bad).json["code"], "bad_message", "{bad}");
    }
    let deep = "[".repeat(65) + &"]".repeat(65);
    let body = format!("{{\"event\":\"flash\",\"data\":{deep}}}");
    let ask = Ask::new("POST", path).token(&token("press", "publish")).body(&body);
    assert_eq!(ask.send(&door).json["code"], "bad_message");
    assert_eq!(by("publish", &good).status, 201);
}

#[test]
fn a_topic_keeps_its_newest_and_says_what_is_gone() {
    let daemon = Daemon::start(&["topics.news.events=16"]);
    let door = daemon.door();
    let (_, welcome) = reader(&door, &alice(), "laptop", &json!(["news"]));
    let epoch = welcome["topics"][0]["epoch"].clone();
    (1..=150).for_each(|seq| published(&door, "news", seq));
    let from = json!({ "epoch": epoch, "seq": 3 });
    let (mut socket, welcome) =
        reader(&door, &alice(), "laptop", &json!([{ "topic": "news", "from": from }]));
    let entry = &welcome["topics"][0];
    let floor = entry["floor"].as_u64().expect("a floor");
    assert!((65..=135).contains(&floor), "{entry}");
    assert_eq!(entry["resume"], json!({ "status": "reset", "reason": "trimmed", "from": floor - 1 }));
    assert_eq!(event(&mut socket, "news").0, floor);
}

#[test]
fn a_topic_is_acknowledged_over_http_as_well() {
    let daemon = Daemon::start(&["topics.news.read=user"]);
    let door = daemon.door();
    let (socket, welcome) = reader(&door, &alice(), "laptop", &json!(["news"]));
    drop(socket);
    published(&door, "news", 1);
    let ack = |topic: &str, device: &str, seq: u64| {
        let body =
            json!({ "topic": topic, "device": device, "epoch": welcome["topics"][0]["epoch"], "seq": seq });
        Ask::new("POST", "/v1/ack").token(&alice()).json(&body).send(&door)
    };
    assert_eq!(ack("news", "laptop", 1).status, 204);
    assert_eq!(ack("news", "laptop", 2).json["code"], "ack_ahead");
    assert_eq!(ack("news", "other", 1).json["code"], "not_found");
    assert_eq!(ack("alerts", "laptop", 1).json["code"], "topic_forbidden");
    assert_eq!(ack("system", "laptop", 0).json["code"], "not_found");
    let topics = json!([{ "topic": "news", "from": "device" }]);
    assert_eq!(places(&reader(&door, &alice(), "laptop", &topics).1), [("news", "resumed", 1)]);
}

#[test]
fn the_topic_agents_tells_of_workers_through_a_crash() {
    let mut daemon = Daemon::start(&[]);
    let door = daemon.door();
    let topics = json!([{ "topic": "agents", "from": "oldest" }]);
    let (mut socket, _) = reader(&door, &operator(), "desk", &topics);
    let mut next = || {
        let event = socket.hear_type("event").expect("the connection lasts");
        (event["event"].clone(), event["data"].clone())
    };
    let worker = Worker::connect(&door, 2, &json!([])).expect("a welcome");
    let who = |agents: &Value| json!({ "worker": "w-1", "sub": "workers", "agents": agents });
    assert_eq!(next(), (json!("worker_joined"), who(&json!(["research"]))));
    assert_eq!(next(), (json!("agent_available"), json!({ "agent": "research", "slots": 2 })));
    drop(worker);
    assert_eq!(next(), (json!("worker_left"), who(&json!([]))));
    assert_eq!(next(), (json!("agent_unavailable"), json!({ "agent": "research", "slots": 0 })));
    let _worker = Worker::connect(&door, 1, &json!([])).expect("a welcome");
    assert_eq!(next().0, "worker_joined");
    assert_eq!(next().0, "agent_available");
    daemon.kill();
    daemon.restart();
    let (mut socket, welcome) = reader(&door, &operator(), "desk", &topics);
    assert_eq!(places(&welcome), [("agents", "fresh", 0)]);
    let mut heard = Vec::new();
    while heard.len() < 8 {
        heard.push(socket.hear_type("event").expect("the connection lasts")["event"].clone());
    }
    assert_eq!(heard[6..], ["worker_left", "agent_unavailable"], "{heard:?}");
}

/// A token that expires so many seconds from now.
fn short(user: &str, scope: &str, seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
    let mut claims = claims(user, scope);
    claims["exp"] = json!(now + seconds);
    sign(&claims, SECRET)
}

#[test]
fn a_token_is_replaced_in_time_and_takes_topics_with_it() {
    let daemon = Daemon::start(&["auth.leeway=0s"]);
    let door = daemon.door();
    let old = short("olga", "user operate", 30);
    let (mut socket, _) = reader(&door, &old, "desk", &json!(["system", "alerts"]));
    let notice = socket.hear_type("notice").expect("a notice");
    assert_eq!(notice["notice"], "expiring", "{notice}");
    let left = notice["expires_ms"].as_u64().expect("a duration");
    assert!(left <= 30_000, "{notice}");
    for (token, code) in [
        (token("mallory", "user"), "token_subject"),
        (token("olga", "worker"), "token_scope"),
        (sign(&claims("olga", "user"), b"another secret, of nobody here at all"), "token_signature"),
    ] {
        socket.say(&json!({ "type": "refresh", "id": "1", "token": token }));
        let error = socket.hear_type("error").expect("an error");
        assert_eq!((&error["of"], &error["code"]), (&json!("refresh"), &json!(code)), "{error}");
    }
    socket.say(&json!({ "type": "refresh", "id": "2", "token": short("olga", "user", 3_600) }));
    socket.say(&json!({ "type": "ping", "n": 1 }));
    let ok = socket.hear_type("ok").expect("an answer");
    assert_eq!((&ok["id"], &ok["ended"]), (&json!("2"), &json!(["alerts"])), "{ok}");
    assert!(ok["expires_ms"].as_u64().is_some_and(|ms| (3_500_000..=3_600_000).contains(&ms)), "{ok}");
    assert_eq!(socket.hear_type("pong").expect("an answer")["n"], 1);
    published(&door, "alerts", 1);
    published(&door, "system", 1);
    assert_eq!(event(&mut socket, "system").0, 1);
}

#[test]
fn a_token_that_is_not_replaced_ends_its_connection() {
    let daemon = Daemon::start(&["auth.leeway=0s"]);
    let (mut socket, _) = reader(&daemon.door(), &short("alice", "user", 2), "laptop", &json!([]));
    assert_eq!(socket.end(), Ended(Some(4506)));
}
