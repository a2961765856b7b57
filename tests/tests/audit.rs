//! The audit trail: everything that an operator reads of users, and does, stands in it with who, what and
//! about whom, and what a publisher does for others; what a console asks for all the time does not.

use runcast_tests::{
    Ask, Daemon, Door, Ended, Log, SECRET, Socket, User, claims, eventually, raw_request, sign, token,
};
use serde_json::{Value, json};

/// The lines of the trail so far, as (by, action, about, outcome and code).
fn trail(log: &Log) -> Vec<[String; 4]> {
    let lines = log.lines().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let trail = lines.filter(|line| line["target"] == "audit").map(|mut line| line["fields"].take());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let outcome = |line: &Value| format!("{} {}", text(&line["message"]), text(&line["code"]));
    trail
        .map(|line| [text(&line["by"]), text(&line["action"]), text(&line["about"]), outcome(&line)])
        .collect()
}

#[test]
fn what_operators_read_of_users_and_do_stands_in_the_trail() {
    let mut daemon = Daemon::start(&[]);
    let (door, log) = (daemon.door(), daemon.log().clone());
    let mut user = User::connected("alice", "laptop", &door);
    user.run("k", "t1", &json!(1));
    let run = user.until("run_queued")["run"].as_str().expect("an id").to_owned();
    let operator = token("olga", "operate");
    let asks = [
        ("GET", "/v1/users/alice".to_owned(), Some(("GET /v1/users/{user}", "alice"))),
        ("GET", format!("/v1/runs/{run}"), Some(("GET /v1/runs/{run}", run.as_str()))),
        ("GET", "/v1/undelivered".to_owned(), Some(("GET /v1/undelivered", ""))),
        ("GET", "/v1/status".to_owned(), None),
        ("GET", "/v1/status?limit=10".to_owned(), None),
        ("GET", "/v1/status?find=alice".to_owned(), Some(("GET /v1/status", "alice"))),
        ("GET", "/v1/status?limit=10&find=alice".to_owned(), None),
        ("GET", "/v1/status?find=bob".to_owned(), Some(("GET /v1/status", "bob"))),
        ("GET", "/v1/workers".to_owned(), None),
        ("POST", format!("/v1/runs/{run}/cancel"), Some(("POST /v1/runs/{run}/cancel", run.as_str()))),
        ("POST", "/v1/users/bob/disconnect".to_owned(), Some(("POST /v1/users/{user}/disconnect", "bob"))),
        ("POST", "/v1/users/bob/revoke".to_owned(), Some(("POST /v1/users/{user}/revoke", "bob"))),
        ("POST", "/v1/backups/b1".to_owned(), Some(("POST /v1/backups/{name}", "b1"))),
        ("DELETE", "/v1/users/bob".to_owned(), Some(("DELETE /v1/users/{user}", "bob"))),
        ("POST", "/v1/drain".to_owned(), Some(("POST /v1/drain", ""))),
    ];
    for (method, path, _) in &asks {
        let ask = Ask::new(method, path).token(&operator);
        let answer = if *method == "POST" { ask.body("").send(&door) } else { ask.send(&door) };
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
    }
    assert_eq!(daemon.exit_code(), 0, "it was told to drain");
    let expected: Vec<[String; 4]> = asks
        .iter()
        .filter_map(|(_, _, told)| *told)
        .map(|(action, about)| ["olga", action, about, "allowed "].map(str::to_owned))
        .collect();
    assert_eq!(trail(&log), expected);
}

#[test]
fn what_cannot_be_read_is_not_told_as_if_it_were_done() {
    let daemon = Daemon::start(&[]);
    let (door, log, olga) = (daemon.door(), daemon.log(), token("olga", "operate"));
    let long = format!("/v1/status?find={}", "x".repeat(300));
    for (method, path, status) in [
        ("GET", "/v1/status?find=", 400),
        ("GET", long.as_str(), 400),
        ("GET", "/v1/undelivered?limit=none", 400),
        ("GET", "/v1/runs/no%20run", 404),
        ("GET", "/v1/users/%0a", 400),
        ("GET", "/v1/status?find=alice", 200),
    ] {
        assert_eq!(Ask::new(method, path).token(&olga).send(&door).status, status, "{path}");
    }
    log.nth(1, "allowed");
    assert_eq!(trail(log), [["olga", "GET /v1/status", "alice", "allowed "].map(str::to_owned)]);
}

#[test]
fn what_publishers_do_for_others_stands_in_the_trail() {
    let daemon = Daemon::start(&[]);
    let (door, log, press) = (daemon.door(), daemon.log(), token("press", "publish user"));
    let ask = |method: &str, path: &str, body: Value| {
        let ask = Ask::new(method, path).token(&press);
        if method == "POST" { ask.json(&body).send(&door) } else { ask.send(&door) }
    };
    let run = |user: &str| {
        let body = json!({ "agent": "research", "input": 1, "user": user });
        ask("POST", "/v1/runs", body).json["run"].as_str().expect("a run").to_owned()
    };
    let (own, alices) = (run("press"), run("alice"));
    for run in [&own, &alices] {
        assert_eq!(ask("GET", &format!("/v1/runs/{run}"), Value::Null).status, 200);
        assert_eq!(ask("POST", &format!("/v1/runs/{run}/input"), json!({ "data": 1 })).status, 409);
        for _ in 0..2 {
            assert_eq!(ask("POST", &format!("/v1/runs/{run}/cancel"), json!({})).status, 200);
        }
        assert_eq!(ask("GET", &format!("/v1/runs/{run}"), Value::Null).status, 200);
    }
    assert_eq!(ask("GET", "/v1/runs/run_none_00000000", Value::Null).status, 404);
    log.nth(6, "allowed");
    let expected = [
        ["POST /v1/runs", "alice"],
        ["GET /v1/runs/{run}", &alices],
        ["POST /v1/runs/{run}/input", &alices],
        ["POST /v1/runs/{run}/cancel", &alices],
        ["POST /v1/runs/{run}/cancel", &alices],
        ["GET /v1/runs/{run}", &alices],
    ];
    let expected = expected.map(|[action, about]| ["press", action, about, "allowed "].map(str::to_owned));
    assert_eq!(trail(log), expected);
}

#[test]
fn who_is_refused_for_want_of_a_right_stands_in_the_trail() {
    let daemon = Daemon::start(&[]);
    let (door, log) = (daemon.door(), daemon.log());
    let (alice, olga) = (token("alice", "user"), token("olga", "operate"));
    assert_eq!(Ask::new("GET", "/v1/users/bob").token(&alice).send(&door).status, 403);
    assert_eq!(Ask::new("POST", "/v1/drain").token(&alice).body("").send(&door).status, 403);
    assert_eq!(Ask::new("GET", "/v1/runs").send(&door).status, 401);
    assert_eq!(Ask::new("GET", "/v1/runs").token(&alice).send(&door).status, 200);
    assert_eq!(Socket::with(door.address(), "/ws", "runcast.v1", Some(&olga)).err(), Some(Ended(Some(403))));
    let mut late = Socket::with(door.address(), "/worker", "runcast.v1", None).expect("an upgrade");
    let agents = json!([{ "agent": "research", "slots": 1 }]);
    late.say(&json!({ "type": "hello", "token": alice, "agents": agents }));
    assert_eq!(late.end(), Ended(Some(4501)));
    assert_eq!(Ask::new("POST", "/v1/users/alice/revoke").token(&olga).body("").send(&door).status, 200);
    assert_eq!(Ask::new("GET", "/v1/runs").token(&alice).send(&door).status, 401);
    let basic = "GET /worker HTTP/1.1\r\nhost: x\r\nauthorization: Basic eDp5\r\nupgrade: websocket\r\n\
                 connection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-protocol: runcast.v1\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(raw_request(door.address(), basic).0, 401);
    let told = refused(log, 7);
    let expected = [
        ["alice", "GET /v1/users/{user}", "bob", "token_scope"],
        ["alice", "POST /v1/drain", "", "token_scope"],
        ["", "GET /v1/runs", "", "token_missing"],
        ["olga", "GET /ws", "", "token_scope"],
        ["alice", "hello", "", "token_scope"],
        ["alice", "GET /v1/runs", "", "token_revoked"],
        ["", "GET /worker", "", "token_malformed"],
    ];
    assert_eq!(told, expected.map(|line| line.map(str::to_owned)));
}

#[test]
fn topics_and_agents_that_are_refused_on_a_socket_stand_in_the_trail_with_what_was_asked() {
    let daemon = Daemon::start(&["topics.news.read=operate"]);
    let (door, log) = (daemon.door(), daemon.log());
    let (mut mine, before) = (claims("alice", "user"), refusals(&door, "topic_forbidden"));
    mine["agents"] = json!(["other"]);
    let token = sign(&mine, SECRET);
    let mut socket = Socket::connect(door.address(), "/ws", &token).expect("an upgrade");
    socket.say(&json!({ "type": "hello", "device": "d", "topics": ["news", "system", "alerts"] }));
    assert_eq!(
        socket.hear_type("welcome").expect("a welcome")["topics"][0]["error"]["code"],
        "topic_forbidden"
    );
    socket.say(&json!({ "type": "subscribe", "topics": ["system", "agents"] }));
    socket.say(&json!({ "type": "run", "agent": "research", "input": 1 }));
    let mallory = sign(&claims("mallory", "user"), b"another secret of thirty-two bytes");
    socket.say(&json!({ "type": "refresh", "token": mallory }));
    let told = refused(log, 5);
    let expected = [
        ["alice", "hello", "news", "topic_forbidden"],
        ["alice", "hello", "alerts", "topic_forbidden"],
        ["alice", "subscribe", "agents", "topic_forbidden"],
        ["alice", "run", "", "agent_forbidden"],
        ["alice", "refresh", "", "token_signature"],
    ];
    assert_eq!(told, expected.map(|line| line.map(str::to_owned)));
    // What is told of them may be a second old.
    eventually("they are counted", || match refusals(&door, "topic_forbidden") {
        told if told == before + 3 => Ok(()),
        other => Err(other),
    });
}

/// How many were refused with a code, as the metrics say.
fn refusals(door: &Door, code: &str) -> u64 {
    let series = format!("runcast_refusals_total{{code=\"{code}\"}} ");
    let metrics = Ask::new("GET", "/metrics").send(door).body;
    let found = metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok());
    found.expect("each code is counted")
}

/// Waits until the trail has so many refusals: who, what, about what, and the code.
fn refused(log: &Log, count: usize) -> Vec<[String; 4]> {
    // The line of the log, and that of the trail beside it.
    log.nth(2 * count, "refused");
    let lines = trail(log).into_iter().filter_map(|[by, action, about, outcome]| {
        Some([by, action, about, outcome.strip_prefix("refused ")?.to_owned()])
    });
    lines.collect()
}
