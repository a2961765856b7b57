//! Who may do what: all paths, all messages, all roles and all faults of tokens are walked, and each must be
//! answered as the table says that `shell/docs/security.md` shows.

use runcast_tests::{
    Answer, Ask, Daemon, Door, Ended, SECRET, Socket, User, claims, repository, sign, token,
};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io::Read;

/// Who asks, by column. The resources in the paths are alice's.
const ROLES: [(&str, &str, &str); 6] = [
    ("no token", "", ""),
    ("`user`, the owner", "alice", "user"),
    ("`user`, another", "bob", "user"),
    ("`worker`", "workers", "worker"),
    ("`publish`", "press", "publish"),
    ("`operate`", "op", "operate"),
];

/// So many attempts fail here.
const ATTEMPTS: &str = "limits.unauthenticated_per_address_per_minute=100000";

/// A request, its body, and what each role is answered: the status, and the code of a refusal.
type Row = (&'static str, &'static str, [&'static str; 6]);

const M: &str = "401 token_missing";
const S: &str = "403 token_scope";
const R: &str = "404 run_not_found";
const RUN: &str = r#"{"agent":"research","input":1}"#;
const RUN_FOR: &str = r#"{"user":"alice","agent":"research","input":1}"#;
const INPUT: &str = r#"{"data":1}"#;
const EVENT: &str = r#"{"event":"flash","data":1}"#;

const ROWS: &[Row] = &[
    ("GET /livez", "", ["200"; 6]),
    ("GET /readyz", "", ["200"; 6]),
    ("GET /metrics", "", ["200"; 6]),
    ("GET /", "", ["200"; 6]),
    ("GET /console", "", ["200"; 6]),
    ("GET /ws", "", ["426 subprotocol_required"; 6]),
    ("GET /ws upgrade", "", ["101", "101", "101", S, S, S]),
    ("GET /worker upgrade", "", ["101", S, S, "101", S, S]),
    ("POST /v1/runs", RUN, [M, "201", "201", S, "400 bad_message", S]),
    ("POST /v1/runs for alice", RUN_FOR, [M, "201", S, S, "201", S]),
    ("POST /v1/threads/t1/runs", RUN, [M, "201", "201", S, "400 bad_message", S]),
    ("GET /v1/runs/{run}", "", [M, "200", R, S, "200", "200"]),
    ("POST /v1/runs/{run}/input", INPUT, [M, "409 input_not_awaited", R, S, "409 input_not_awaited", S]),
    ("POST /v1/runs/{run}/cancel", "", [M, "200", R, S, "200", "200"]),
    ("GET /v1/runs", "", [M, "200", "200", S, S, S]),
    ("GET /v1/threads", "", [M, "200", "200", S, S, S]),
    ("GET /v1/events", "", [M, "200", "200", S, S, S]),
    ("GET /v1/stream", "", [M, "200", "200", S, S, S]),
    (
        "POST /v1/ack",
        r#"{"device":"laptop","epoch":"{epoch}","seq":0}"#,
        [M, "204", "404 not_found", S, S, S],
    ),
    ("POST /v1/topics/news/events", EVENT, [M, S, S, S, "201", S]),
    ("POST /v1/topics/agents/events", EVENT, [M, S, S, S, "403 topic_forbidden", S]),
    ("GET /v1/status", "", [M, S, S, S, S, "200"]),
    ("GET /v1/workers", "", [M, S, S, S, S, "200"]),
    ("GET /v1/undelivered", "", [M, S, S, S, S, "200"]),
    ("GET /v1/users/alice", "", [M, S, S, S, S, "200"]),
    ("POST /v1/users/carol/disconnect", "", [M, S, S, S, S, "200"]),
    ("POST /v1/users/carol/revoke", "", [M, S, S, S, S, "200"]),
    ("POST /v1/backups/walk", "", [M, S, S, S, S, "201"]),
    ("DELETE /v1/users/carol", "", [M, S, S, S, S, "204"]),
    ("PUT /v1/runs", "", ["405 method_not_allowed"; 6]),
    ("GET /v1/secrets", "", ["404 not_found"; 6]),
    // The last: nothing new is begun after it.
    ("POST /v1/drain", "", [M, S, S, S, S, "202"]),
];

/// What makes a head one that asks for a WebSocket.
fn upgrading(ask: Ask, protocols: &str) -> Ask {
    ask.header("upgrade", "websocket")
        .header("connection", "Upgrade")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", protocols)
}

/// What a request is answered with; of one that goes on, the status alone.
fn answered(door: &Door, ask: &Ask) -> String {
    let mut stream = ask.open(door);
    let (mut head, mut byte) = (String::new(), [0]);
    while !head.ends_with("\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a whole head");
        head.push(char::from(byte[0]));
    }
    let status = head.split(' ').nth(1).expect("a status").to_owned();
    if matches!(status.as_str(), "101" | "204") || head.contains("text/event-stream") {
        return status;
    }
    let mut body = String::new();
    stream.read_to_string(&mut body).expect("a body, and then the end");
    let json: Value = serde_json::from_str(&body).unwrap_or_default();
    json["code"].as_str().map_or(status.clone(), |code| format!("{status} {code}"))
}

#[test]
fn every_path_answers_every_role_as_the_table_says() {
    let daemon = Daemon::start(&["topics.news.events=100", "runs.queued_per_user=1000", ATTEMPTS]);
    let door = daemon.door();
    let alice = User::connected("alice", "laptop", &door);
    let epoch = alice.epoch().expect("it was welcome");
    let new_run = || {
        let ask = Ask::new("POST", "/v1/runs").token(&token("alice", "user")).body(RUN);
        ask.send(&door).json["run"].as_str().expect("a run").to_owned()
    };
    let mut wrong = String::new();
    for (what, body, expected) in ROWS {
        for ((role, sub, scope), expected) in ROLES.iter().zip(expected) {
            let mut words = what.split(' ');
            let (method, path) = (words.next().expect("a method"), words.next().expect("a path"));
            let path = if path.contains("{run}") { path.replace("{run}", &new_run()) } else { path.into() };
            let mut ask = Ask::new(method, &path).header("accept", "text/event-stream");
            if !sub.is_empty() {
                ask = ask.token(&token(sub, scope));
            }
            if words.next() == Some("upgrade") {
                ask = upgrading(ask, "runcast.v1");
            }
            if !body.is_empty() {
                ask = ask.body(&body.replace("{epoch}", epoch));
            }
            let found = answered(&door, &ask);
            if found != **expected {
                writeln!(wrong, "{what}, {role}: expected {expected}, found {found}").expect("a string");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_documentation_shows_this_table() {
    let mut table = String::from("| request |");
    ROLES.iter().for_each(|(role, ..)| write!(table, " {role} |").expect("a string"));
    table += "\n|---|---|---|---|---|---|---|\n";
    for (what, _, answers) in ROWS {
        let answers: Vec<String> = answers.iter().map(|answer| answer.replacen(' ', " `", 1)).collect();
        let answers = answers.iter().map(|it| if it.contains('`') { format!("{it}`") } else { it.clone() });
        writeln!(table, "| `{what}` | {} |", answers.collect::<Vec<_>>().join(" | ")).expect("a string");
    }
    let docs = fs::read_to_string(repository().join("shell/docs/security.md")).expect("it is there");
    assert!(docs.contains(&table), "shell/docs/security.md must have this table:\n\n{table}");
}

/// What is wrong with a token, its claims changed from good ones (null: left out), and its code.
fn faults() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("no sub", json!({ "sub": null }), "token_malformed"),
        ("no exp", json!({ "exp": null }), "token_malformed"),
        ("exp as text", json!({ "exp": "tomorrow" }), "token_malformed"),
        ("expired", json!({ "exp": 1_000_000_000 }), "token_expired"),
        ("not yet valid", json!({ "nbf": 4_000_000_000_u64 }), "token_not_yet_valid"),
        ("another issuer", json!({ "iss": "else" }), "token_issuer"),
        ("no issuer", json!({ "iss": null }), "token_issuer"),
        ("another audience", json!({ "aud": ["else"] }), "token_audience"),
        ("no audience", json!({ "aud": null }), "token_audience"),
        ("sub that is no user", json!({ "sub": "a\u{7}b" }), "token_subject"),
        ("empty sub", json!({ "sub": "" }), "token_subject"),
        ("made before the revocation", json!({ "sub": "carol", "iat": 1_000_000_000 }), "token_revoked"),
        ("no iat after a revocation", json!({ "sub": "carol" }), "token_revoked"),
        ("no scope that serves", json!({ "scope": "operate publish" }), "token_scope"),
        ("empty scope", json!({ "scope": "" }), "token_scope"),
    ]
}

/// Tokens with these faults, and those that no claims make.
fn faulty(scope: &str) -> Vec<(String, String, &'static str)> {
    let good = || {
        let mut good = claims("alice", scope);
        (good["iss"], good["aud"]) = (json!("id"), json!("runcast"));
        good
    };
    let fault = |(what, changes, code): (&str, Value, &'static str)| {
        let mut claims = good();
        for (name, value) in changes.as_object().expect("claims") {
            if value.is_null() {
                claims.as_object_mut().expect("claims").remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        (what.to_owned(), sign(&claims, SECRET), code)
    };
    let mut tokens: Vec<_> = faults().into_iter().map(fault).collect();
    let signed = sign(&good(), SECRET);
    let parts: Vec<&str> = signed.split('.').collect();
    let header = |alg: &str| {
        // The middle part of any token is JSON in base64url.
        let encoded = sign(&json!({ "alg": alg, "typ": "JWT" }), SECRET);
        encoded.split('.').nth(1).expect("three parts").to_owned()
    };
    let mut add = |what: &str, token: String, code| tokens.push((what.to_owned(), token, code));
    add("not three parts", "abc".into(), "token_malformed");
    add("not base64url", "a.b.c".into(), "token_malformed");
    add("another's secret", sign(&good(), b"another secret of thirty-two bytes"), "token_signature");
    add("no signature", format!("{}.{}.", parts[0], parts[1]), "token_signature");
    add("`alg` none", format!("{}.{}.", header("none"), parts[1]), "token_algorithm");
    add("another `alg`", format!("{}.{}.{}", header("HS512"), parts[1], parts[2]), "token_algorithm");
    add(
        "an `alg` for key pairs",
        format!("{}.{}.{}", header("RS256"), parts[1], parts[2]),
        "token_algorithm",
    );
    tokens
}

fn status_of(code: &str) -> u16 {
    if code == "token_scope" { 403 } else { 401 }
}

/// What is said before the connection ends, and how it ends.
fn last_words(mut socket: Socket) -> (Value, Ended) {
    let said = socket.hear().expect("an error before the end");
    (said, socket.end())
}

#[test]
fn every_fault_of_a_token_has_its_code_in_every_form() {
    let daemon = Daemon::start(&["auth.issuer=id", "auth.audience=runcast", ATTEMPTS]);
    let (door, address) = (daemon.door(), daemon.door().address());
    let mut operator = claims("op", "operate");
    (operator["iss"], operator["aud"]) = (json!("id"), json!("runcast"));
    let revoke = Ask::new("POST", "/v1/users/carol/revoke").token(&sign(&operator, SECRET));
    assert_eq!(revoke.send(&door).status, 200);
    for (path, scope) in [("/ws", "user"), ("/worker", "worker")] {
        for (what, token, code) in faulty(scope) {
            let refused = format!("{} {code}", status_of(code));
            let ask = Ask::new("GET", if path == "/ws" { "/v1/runs" } else { path });
            let ask = if path == "/ws" { ask } else { upgrading(ask, "runcast.v1") };
            assert_eq!(answered(&door, &ask.token(&token)), refused, "{what}, in a request's header");
            let ask = upgrading(Ask::new("GET", path).token(&token), "runcast.v1");
            assert_eq!(answered(&door, &ask), refused, "{what}, in the header of {path}");

            let protocols = format!("runcast.v1, jwt.{token}");
            let socket = Socket::with(address, path, &protocols, None).expect("it is upgraded");
            let (said, ended) = last_words(socket);
            assert_eq!((&said["code"], ended), (&json!(code), Ended(Some(4501))), "{what}, as subprotocol");

            let mut socket = Socket::with(address, path, "runcast.v1", None).expect("it is upgraded");
            socket.say(&json!({ "type": "hello", "token": token, "agents": [{ "agent": "a", "slots": 1 }] }));
            let (said, ended) = last_words(socket);
            assert_eq!((&said["code"], ended), (&json!(code), Ended(Some(4501))), "{what}, in hello");
            assert!(!said.to_string().contains(&token), "no token is repeated: {said}");
        }
        let mut socket = Socket::with(address, path, "runcast.v1", None).expect("it is upgraded");
        socket.say(&json!({ "type": "hello", "agents": [{ "agent": "a", "slots": 1 }] }));
        let (said, ended) = last_words(socket);
        assert_eq!((&said["code"], ended), (&json!("token_missing"), Ended(Some(4501))));
    }
    let query = Ask::new("GET", "/v1/runs?token=x").token("x").send(&door);
    assert_eq!((query.status, &query.json["code"]), (400, &json!("bad_message")));
    let basic = Ask::new("GET", "/v1/runs").header("authorization", "Basic eA==").send(&door);
    assert_eq!((basic.status, &basic.json["code"]), (401, &json!("token_malformed")));
}

#[test]
fn two_tokens_must_name_one_user() {
    let daemon = Daemon::start(&[]);
    let address = daemon.door().address();
    let [alice, bob] = ["alice", "bob"].map(|user| token(user, "user"));
    for (header, subprotocol, hello) in
        [(Some(&alice), Some(&bob), None), (Some(&alice), None, Some(&bob)), (None, Some(&alice), Some(&bob))]
    {
        let protocols = subprotocol.map(|token| format!("runcast.v1, jwt.{token}"));
        let protocols = protocols.as_deref().unwrap_or("runcast.v1");
        let header = header.map(String::as_str);
        let mut socket = Socket::with(address, "/ws", protocols, header).expect("it is upgraded");
        socket.say(&json!({ "type": "hello", "token": hello }));
        let (said, ended) = last_words(socket);
        assert_eq!((&said["code"], ended), (&json!("token_subject"), Ended(Some(4501))));
    }
}

/// A message on a socket that was welcome, and what comes of it: a type, an error's code, or a close code. It
/// is followed by another that is always refused, so that silence is heard too; what waits for the store may
/// come after that.
fn outcome(socket: &mut Socket, message: &Value, is_answered: bool) -> String {
    socket.say(message);
    socket.say(&json!({ "type": "nonsense" }));
    let (mut found, mut is_over) = (Vec::new(), false);
    while !is_over || is_answered && found.is_empty() {
        match socket.hear() {
            Ok(said) if said["message"].to_string().contains("nonsense") => is_over = true,
            Ok(said) if matches!(said["type"].as_str(), Some("event" | "notice" | "heartbeat")) => {}
            Ok(said) => found.push(said["code"].as_str().or(said["type"].as_str()).unwrap_or("?").to_owned()),
            Err(Ended(code)) => {
                found.push(code.map_or("torn".to_owned(), |code| code.to_string()));
                break;
            }
        }
    }
    found.join(" ")
}

fn welcome(door: &Door, path: &str, token: &str, hello: &Value) -> Socket {
    let mut socket = Socket::connect(door.address(), path, token).expect("it is upgraded");
    socket.say(hello);
    assert_eq!(socket.hear().expect("a welcome")["type"], "welcome");
    socket
}

fn run_of(door: &Door, user: &str) -> String {
    let answer: Answer = Ask::new("POST", "/v1/runs").token(&token(user, "user")).body(RUN).send(door);
    answer.json["run"].as_str().expect("a run").to_owned()
}

#[test]
fn every_message_of_a_user_is_answered_as_its_token_allows() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let (own, others) = (run_of(&door, "alice"), run_of(&door, "bob"));
    let [ours, theirs] = ["alice", "bob"].map(|user| token(user, "user"));
    let run = |parent: &str| json!({ "type": "run", "agent": "research", "input": 1, "parent": parent });
    let cases = [
        (run(&own), "accepted"),
        (run(&others), "run_not_found"),
        (json!({ "type": "input", "run": own, "data": 1 }), "input_not_awaited"),
        (json!({ "type": "input", "run": others, "data": 1 }), "run_not_found"),
        (json!({ "type": "cancel", "run": others }), "run_not_found"),
        (json!({ "type": "cancel", "run": own }), "ok"),
        (json!({ "type": "subscribe", "topics": ["system"] }), "subscribed"),
        (json!({ "type": "subscribe", "topics": ["system", "agents"] }), "topic_forbidden"),
        (json!({ "type": "subscribe", "topics": ["alerts"] }), "topic_forbidden"),
        (json!({ "type": "subscribe", "topics": ["undeclared"] }), "topic_forbidden"),
        (json!({ "type": "refresh", "token": ours }), "ok"),
        (json!({ "type": "refresh", "token": theirs }), "token_subject"),
        (json!({ "type": "refresh", "token": token("alice", "operate") }), "token_scope"),
        (json!({ "type": "refresh", "token": "abc" }), "token_malformed"),
        (json!({ "type": "ack", "seq": 0 }), ""),
        (json!({ "type": "ack", "seq": 1_000_000 }), "ack_ahead"),
        (json!({ "type": "ping" }), "pong"),
        (json!({ "type": "started", "run": own, "attempt": 1 }), "unknown_type"),
        (
            json!({ "type": "event", "run": own, "attempt": 1, "n": 1, "event": "custom", "data": {} }),
            "unknown_type",
        ),
        (json!({ "type": "complete", "run": own, "attempt": 1, "n": 1, "status": "ok" }), "unknown_type"),
        (json!({ "type": "decline", "run": own, "attempt": 1 }), "unknown_type"),
        (json!({ "type": "got", "run": own, "attempt": 1, "i": 1 }), "unknown_type"),
        (json!({ "type": "beat" }), "unknown_type"),
        (json!({ "type": "drain" }), "unknown_type"),
        (json!({ "type": "welcome" }), "unknown_type"),
        (json!({ "type": "hello" }), "bad_message 4504"),
    ];
    let hello = json!({ "type": "hello", "device": "d" });
    let mut socket = welcome(&door, "/ws", &ours, &hello);
    for (message, expected) in cases {
        assert_eq!(outcome(&mut socket, &message, !expected.is_empty()), expected, "{message}");
    }
    let mut operator = welcome(&door, "/ws", &token("alice", "user operate"), &hello);
    let topics = json!({ "type": "subscribe", "topics": ["agents", "alerts", "system"] });
    assert_eq!(outcome(&mut operator, &topics, true), "subscribed");
    let of_other = json!({ "type": "cancel", "run": others });
    assert_eq!(
        outcome(&mut operator, &of_other, true),
        "run_not_found",
        "operators steer over HTTP, by user"
    );
    let limited = sign(&json!({ "sub": "alice", "exp": u32::MAX, "agents": ["write"] }), SECRET);
    let mut limited = welcome(&door, "/ws", &limited, &hello);
    let run = json!({ "type": "run", "agent": "research", "input": 1 });
    assert_eq!(outcome(&mut limited, &run, true), "agent_forbidden");
}

#[test]
fn every_message_of_a_worker_is_answered_as_its_runs_allow() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let hello =
        |agent: &str| json!({ "type": "hello", "worker": "w", "agents": [{ "agent": agent, "slots": 1 }] });
    let mut theirs = welcome(&door, "/worker", &token("theirs", "worker"), &hello("research"));
    let run = run_of(&door, "alice");
    assert_eq!(theirs.hear_type("run").expect("an offer")["run"], run);
    theirs.say(&json!({ "type": "started", "run": run, "attempt": 1 }));
    theirs.hear_type("ack").expect("it is started");
    let event = |of: &str, n: u64| {
        json!({ "type": "event", "run": of, "attempt": 1, "n": n, "event": "custom",
                "data": { "name": "x", "value": 1 } })
    };
    let cases = [
        (json!({ "type": "started", "run": run, "attempt": 1 }), "fenced"),
        (json!({ "type": "decline", "run": run, "attempt": 1 }), "fenced"),
        (event(&run, 1), "fenced"),
        (event("run_thread_1_00000000", 1), "fenced"),
        (json!({ "type": "complete", "run": run, "attempt": 1, "n": 1, "status": "ok" }), "fenced"),
        (json!({ "type": "got", "run": run, "attempt": 1, "i": 1 }), ""),
        (json!({ "type": "beat" }), ""),
        (json!({ "type": "run", "agent": "research", "input": 1 }), "unknown_type"),
        (json!({ "type": "cancel", "run": run }), "unknown_type"),
        (json!({ "type": "input", "run": run, "data": 1 }), "unknown_type"),
        (json!({ "type": "subscribe", "topics": ["system"] }), "unknown_type"),
        (json!({ "type": "refresh", "token": "x" }), "unknown_type"),
        (json!({ "type": "ping" }), "unknown_type"),
        (json!({ "type": "drain" }), ""),
        (hello("research"), "bad_message 4504"),
    ];
    let mut ours = welcome(&door, "/worker", &token("ours", "worker"), &hello("research"));
    for (message, expected) in cases {
        assert_eq!(outcome(&mut ours, &message, !expected.is_empty()), expected, "{message}");
    }
    assert_eq!(outcome(&mut theirs, &event(&run, 1), true), "ack", "nobody has disturbed its run");
    let limited =
        sign(&json!({ "sub": "l", "exp": u32::MAX, "scope": "worker", "agents": ["write"] }), SECRET);
    let mut socket = Socket::connect(door.address(), "/worker", &limited).expect("it is upgraded");
    socket.say(&hello("research"));
    let (said, ended) = last_words(socket);
    assert_eq!((&said["code"], ended), (&json!("agent_forbidden"), Ended(Some(4504))));
}
