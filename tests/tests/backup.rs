//! A backup of a daemon that goes on, and a daemon on a store that was made of it.

use runcast_tests::{Ask, Daemon, Socket, User, Worker, runcast, token};
use serde_json::{Value, json};
use std::fs;

/// What a device is sent, from the oldest event on, up to what the store has.
fn all_events(socket: &mut Socket, head: u64) -> Vec<Value> {
    let mut events = Vec::new();
    while events.len() as u64 != head {
        events.push(socket.hear_type("event").expect("the connection lasts"));
    }
    events
}

#[test]
fn a_store_made_of_a_backup_has_what_was_stored_then_under_new_epochs() {
    let mut daemon = Daemon::start(&[]);
    let (door, config) = (daemon.door(), daemon.config().display().to_string());
    let mut user = User::connected("alice", "laptop", &door);
    let mut worker = Worker::connect(&door, 1, &json!([])).expect("a welcome");
    user.run("key_1", "thread_1", &json!(1));
    let run = worker.take();
    for n in 1..=200 {
        worker.event(&run, n, "agent_output", &json!({ "delta": format!("{n} ") }));
    }
    // In the middle of a run, whose worker goes on.
    while user.position() < 100 {
        user.hear().expect("the connection lasts");
    }
    let (url, operator) = (format!("http://{}", door.address()), token("op", "operate"));
    let back_up = || runcast(&["backup", "b-1", "--url", &url, "--token", &operator]);
    let (code, told, problem) = back_up();
    assert!(code == 0 && told.starts_with("backups/b-1 in "), "{code} {told} {problem}");
    let (code, _, problem) = back_up();
    assert!(code == 77 && problem.contains("backup_exists"), "{code} {problem}");
    let taken = Ask::new("POST", "/v1/backups/b-1").token(&operator).send(&door);
    assert_eq!((taken.status, &taken.json["code"]), (409, &json!("backup_exists")), "{taken:?}");
    assert!(taken.json["message"].as_str().is_some_and(|told| told.contains("`b-1`")), "{taken:?}");
    let (code, _, problem) = runcast(&["backup", "b-2", "--url", &url, "--token", &token("alice", "user")]);
    assert!(code == 77 && problem.contains("token_scope"), "{code} {problem}");
    worker.complete(&run, 201, &json!("done"));
    user.until("agent_completed");
    user.ack();

    daemon.kill();
    let (data, before) = (daemon.data(), daemon.directory().join("before"));
    let backup = data.join("backups/b-1").display().to_string();
    let data_name = data.display().to_string();
    let (code, _, problem) = runcast(&["restore", &backup, "--config", &config, "--data", &data_name]);
    assert!(code == 78 && problem.contains("is there already"), "{code} {problem}");
    fs::rename(&data, &before).expect("it is moved away");
    let backup = before.join("backups/b-1").display().to_string();
    let (code, told, problem) = runcast(&["restore", &backup, "--config", &config, "--data", &data_name]);
    assert!(code == 0 && told.contains("streams with new epochs"), "{code} {told} {problem}");
    daemon.restart();

    let mut socket = Socket::connect(door.address(), "/ws", &token("alice", "user")).expect("a connection");
    let from = json!({ "epoch": user.epoch(), "seq": user.position() });
    socket.say(&json!({ "type": "hello", "device": "laptop", "from": from }));
    let welcome = socket.hear().expect("a welcome");
    assert_eq!(welcome["resume"], json!({ "status": "reset", "reason": "epoch", "from": 0 }), "{welcome}");
    assert_ne!(welcome["epoch"].as_str(), user.epoch());
    assert_eq!(welcome["runs"][0]["run"], run["run"], "it had not ended then: {welcome}");
    let head = welcome["head"].as_u64().expect("a head");
    assert!((100..user.position()).contains(&head), "{welcome}");
    let events = all_events(&mut socket, head);
    assert_eq!(events, user.events()[..events.len()], "what was stored then, and nothing else");
}

#[test]
fn a_backup_that_cannot_be_written_is_the_stores_failure_and_may_be_tried_again() {
    let daemon = Daemon::start(&[]);
    let (door, operator) = (daemon.door(), token("op", "operate"));
    let ask = Ask::new("POST", "/v1/backups/b-1").token(&operator);
    fs::write(daemon.data().join("backups"), "in its place").expect("it is written");
    let failed = ask.send(&door);
    assert_eq!((failed.status, &failed.json["code"]), (503, &json!("storage_unavailable")), "{failed:?}");
    fs::remove_file(daemon.data().join("backups")).expect("it is removed");
    assert_eq!(ask.send(&door).status, 201);
}
