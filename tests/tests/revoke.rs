//! Operators send users away: their connections end, and revoked tokens open nothing, after a restart too.

use runcast_tests::{
    Answer, Ask, Daemon, Door, Ended, SECRET, Socket, User, Worker, claims, eventually, sign, token,
};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

/// A token that says when it was made: so many seconds from now.
fn made(user: &str, scope: &str, after: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut claims = claims(user, scope);
    claims["iat"] = json!(now.saturating_add_signed(after));
    sign(&claims, SECRET)
}

fn operate(door: &Door, path: &str, body: Option<&Value>) -> Answer {
    let ask = Ask::new("POST", path).token(&token("op", "operate"));
    body.map_or(ask.clone(), |body| ask.json(body)).send(door)
}

fn hello(door: &Door, token: &str) -> Result<(Socket, Value), Ended> {
    let mut socket = Socket::connect(door.address(), "/ws", token)?;
    socket.say(&json!({ "type": "hello", "device": "d" }));
    let heard = socket.hear()?;
    Ok((socket, heard))
}

/// Reads until something has come.
fn read_until(stream: &mut TcpStream, what: &str) {
    let (mut text, mut byte) = (String::new(), [0]);
    eventually(what, || {
        stream.read_exact(&mut byte).expect("it comes before the end");
        text.push(char::from(byte[0]));
        if text.contains(what) { Ok(()) } else { Err(byte) }
    });
}

fn read_to_end(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text, and then the end");
    text
}

#[test]
fn who_is_disconnected_may_come_back_and_who_is_to_reconnect_is_told_so() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let mut alice = User::connected("alice", "laptop", &door);
    let mut bob = User::connected("bob", "laptop", &door);
    let mut worker = Worker::connect(&door, 1, &json!([])).expect("a welcome");
    let answer = operate(&door, "/v1/users/alice/disconnect", None);
    assert_eq!((answer.status, &answer.json), (200, &json!({ "user": "alice", "closed": 1 })));
    assert_eq!(alice.socket().end(), Ended(Some(4507)));
    alice.connect().expect("it is let in again");
    let answer = operate(&door, "/v1/users/alice/disconnect", Some(&json!({ "reconnect": true })));
    assert_eq!(answer.json["closed"], 1, "{answer:?}");
    assert_eq!(alice.socket().end(), Ended(Some(4400)));
    let answer = operate(&door, "/v1/users/workers/disconnect", Some(&json!({ "reconnect": true })));
    assert_eq!(answer.json["closed"], 1, "{answer:?}");
    assert_eq!(worker.end_of_connection(), Ended(Some(4400)));
    assert_eq!(operate(&door, "/v1/users/nobody/disconnect", None).json["closed"], 0);
    bob.say(&json!({ "type": "ping", "n": 1 }));
    assert_eq!(bob.hear().expect("untouched")["type"], "pong");
    let wrong = operate(&door, "/v1/users/alice/disconnect", Some(&json!({ "reconnect": 1 })));
    assert_eq!((wrong.status, &wrong.json["code"]), (400, &json!("bad_message")));
    for path in ["/v1/users/alice/disconnect", "/v1/users/alice/revoke"] {
        let as_user = Ask::new("POST", path).token(&token("alice", "user publish worker")).send(&door);
        assert_eq!((as_user.status, &as_user.json["code"]), (403, &json!("token_scope")));
    }
}

#[test]
fn a_revoked_token_opens_nothing_and_keeps_nothing_open() {
    let mut daemon = Daemon::start(&["runs.timeout=10m"]);
    let door = daemon.door();
    let (old, without) = (made("alice", "user", -60), token("alice", "user"));
    let (mut laptop, _) = hello(&door, &old).expect("a welcome");
    let stream = Ask::new("GET", "/v1/stream").token(&without).header("accept", "text/event-stream");
    let mut stream = stream.open(&door);
    read_until(&mut stream, "event: welcome");
    let (mut bob, _) = hello(&door, &made("bob", "user", -60)).expect("a welcome");
    // A request whose token was good, and whose body is yet to come.
    let body = json!({ "agent": "research", "input": 1 }).to_string();
    let late = Ask::new("POST", "/v1/runs").token(&old).header("content-length", &body.len().to_string());
    let mut late = late.header("expect", "100-continue").open(&door);
    read_until(&mut late, "100 Continue");

    let answer = operate(&door, "/v1/users/alice/revoke", None);
    assert_eq!((answer.status, &answer.json["closed"]), (200, &json!(2)), "{answer:?}");
    let upto = answer.json["upto_ts"].as_u64().expect("an instant");
    assert_eq!(laptop.end(), Ended(Some(4507)));
    assert!(read_to_end(stream).contains("event: close\ndata: {\"code\":4507"));
    late.write_all(body.as_bytes()).expect("the daemon reads");
    let answer = read_to_end(late);
    assert!(answer.contains("401") && answer.contains("token_revoked"), "{answer}");

    for restarts in 0..2 {
        for token in [&old, &without] {
            let get = Ask::new("GET", "/v1/runs").token(token).send(&door);
            assert_eq!((get.status, &get.json["code"]), (401, &json!("token_revoked")), "{restarts}");
            assert_eq!(hello(&door, token).err(), Some(Ended(Some(401))));
        }
        if restarts == 0 {
            daemon.kill();
            daemon.restart();
        }
    }
    // Made in the next second.
    let fresh = sign(&json!({ "sub": "alice", "exp": u32::MAX, "iat": upto / 1_000 + 1 }), SECRET);
    let (mut phone, welcome) = hello(&door, &fresh).expect("a welcome");
    assert_eq!(welcome["resume"]["status"], "resumed", "a revocation takes nothing away: {welcome}");
    phone.say(&json!({ "type": "refresh", "id": "r", "token": old }));
    assert_eq!(phone.hear_type("error").expect("an answer")["code"], "token_revoked");
    assert_eq!(bob.end(), Ended(None), "nobody has closed it before the daemon was killed");
    let (_, welcome) = hello(&door, &made("bob", "user", -60)).expect("a welcome");
    assert_eq!(welcome["type"], "welcome");
}
