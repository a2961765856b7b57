//! Keys come and go while the daemon serves: those of a JWKS file by themselves, all others on SIGHUP.

use runcast_tests::{Answer, Ask, Daemon, Pair, User, claims, token};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const READ: &str = "the keys were read again";

/// Puts a JWKS with these keys in the place of another, as a whole.
fn publish(path: &Path, pairs: &[&Pair]) {
    let keys: Vec<Value> = pairs.iter().map(|pair| pair.jwk()).collect();
    let next = path.with_extension("next");
    fs::write(&next, json!({ "keys": keys }).to_string()).expect("the file is written");
    fs::rename(next, path).expect("the file is put in its place");
}

fn asked_with(daemon: &Daemon, token: &str) -> Answer {
    Ask::new("GET", "/v1/runs").token(token).send(&daemon.door())
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.json["code"].as_str().unwrap_or("none"))
}

#[test]
fn a_jwks_file_is_watched_and_a_broken_one_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("jwks.json");
    let (old, new) = (Pair::new("2026-10"), Pair::new("2026-11"));
    publish(&path, &[&old]);
    let daemon = Daemon::start(&[&format!("auth.jwks_file={}", path.display())]);
    let [by_old, by_new] = [&old, &new].map(|pair| pair.sign(&claims("alice", "user")));
    assert_eq!(code(&asked_with(&daemon, &by_old)), (200, "none"));
    assert_eq!(code(&asked_with(&daemon, &by_new)), (401, "token_algorithm"));
    let mut socket = User::new("alice", "laptop", daemon.door());
    socket.connect_with(&by_old).expect("a welcome");

    publish(&path, &[&old, &new]);
    assert_eq!(daemon.log().nth(1, READ)["keys"], 3);
    assert_eq!(code(&asked_with(&daemon, &by_old)), (200, "none"));
    assert_eq!(code(&asked_with(&daemon, &by_new)), (200, "none"));

    fs::write(&path, "{ \"keys\": [").expect("the file is broken");
    let problem = daemon.log().nth(1, "the keys of before stay")["problem"].to_string();
    assert!(problem.contains("expected a JWKS"), "{problem}");
    assert_eq!(code(&asked_with(&daemon, &by_new)), (200, "none"));

    publish(&path, &[&new]);
    assert_eq!(daemon.log().nth(2, READ)["keys"], 2);
    assert_eq!(code(&asked_with(&daemon, &by_old)), (401, "token_algorithm"));
    assert_eq!(code(&asked_with(&daemon, &by_new)), (200, "none"));
    socket.say(&json!({ "type": "ping" }));
    assert_eq!(socket.hear().expect("it stays for its token's time")["type"], "pong");
}

#[test]
fn what_could_not_be_read_for_a_while_is_read_when_that_is_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("jwks.json");
    let (old, new) = (Pair::new("2026-10"), Pair::new("2026-11"));
    publish(&path, &[&old]);
    let daemon = Daemon::start(&[&format!("auth.jwks_file={}", path.display()), "server.connections=256"]);
    daemon.let_open(3);
    publish(&path, &[&new]);
    let problem = daemon.log().nth(1, "the keys of before stay")["problem"].to_string();
    assert!(problem.contains("Too many open files"), "{problem}");
    daemon.let_open(512);
    assert_eq!(daemon.log().nth(1, READ)["keys"], 2);
    assert_eq!(code(&asked_with(&daemon, &new.sign(&claims("alice", "user")))), (200, "none"));
}

#[test]
fn on_hangup_the_configuration_is_read_again_and_what_needs_a_restart_is_told() {
    let daemon = Daemon::start(&[]);
    let pair = Pair::new("main");
    let by_pair = pair.sign(&claims("alice", "user"));
    assert_eq!(code(&asked_with(&daemon, &by_pair)), (401, "token_algorithm"));
    let pem = daemon.directory().join("main.pem");
    fs::write(&pem, pair.public_pem()).expect("the key is written");
    let key = format!("keys = [{{ kid = \"main\", alg = \"ES256\", public_key_file = {pem:?} }}, ");
    daemon.reconfigure("keys = [", &key);
    daemon.reconfigure("level = \"info\"", "level = \"debug\"");
    daemon.reconfigure("[agents.research]", "[agents.research]\ntimeout = \"5s\"\n[runs]\nactive = 7");
    daemon.signal("HUP");
    assert_eq!(daemon.log().nth(1, READ)["keys"], 2);
    assert_eq!(daemon.log().nth(1, "this has changed, and needs a restart")["key"], "runs.active");
    assert_eq!(daemon.log().nth(2, "this has changed, and needs a restart")["key"], "agents");
    assert_eq!(code(&asked_with(&daemon, &by_pair)), (200, "none"));

    daemon.reconfigure("active = 7", "active = \"seven\"");
    daemon.signal("HUP");
    let problem = daemon.log().nth(1, "the configuration is not taken over")["problem"].to_string();
    assert!(problem.contains("runs.active"), "{problem}");
    assert_eq!(code(&asked_with(&daemon, &token("alice", "user"))), (200, "none"));
}
