//! The daemon goes down when it is told to: what runs may end, what is queued is kept, everybody hears when
//! to come back, and the process ends well.

use runcast_tests::{Ask, Daemon, Ended, Socket, User, Worker, dial, raw_request, token};
use serde_json::{Value, json};
use std::io::{Read, Write};

/// The next message of a type, whatever lies between; events are checked on the way.
fn hear(user: &mut User, kind: &str) -> Value {
    loop {
        let message = user.hear().expect("the connection lasts");
        if message["type"] == kind {
            return message;
        }
    }
}

/// The time after which a device is told to come back.
fn told_to_come_back(user: &mut User) -> u64 {
    loop {
        let notice = hear(user, "notice");
        if notice["notice"] == "drain" {
            return notice["reconnect_ms"].as_u64().expect("a time");
        }
    }
}

/// A daemon, a device, a worker with one run at it, and that run's offer.
fn busy(settings: &[&str]) -> (Daemon, User, Worker, Value) {
    let daemon = Daemon::start(settings);
    let mut user = User::connected("alice", "laptop", &daemon.door());
    let mut worker = Worker::connect(&daemon.door(), 1, &json!([])).expect("a welcome");
    user.run("key_1", "thread_1", &json!(1));
    let run = worker.take();
    user.until("agent_started");
    (daemon, user, worker, run)
}

#[test]
fn a_running_run_ends_and_a_queued_one_is_kept_for_the_next_start() {
    let (mut daemon, mut user, mut worker, run) = busy(&[]);
    user.run("key_2", "thread_2", &json!(2));
    let queued = user.until("run_queued");
    daemon.signal("TERM");
    let back = told_to_come_back(&mut user);
    assert!((1_000..61_000).contains(&back), "{back}");
    worker.hear_type("drain");

    let (status, body) = raw_request(daemon.door().address(), "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!((status, body.as_str()), (503, "not ready: draining\n"));
    let refused = Socket::connect(daemon.door().address(), "/ws", &token("alice", "user"));
    assert_eq!(refused.err(), Some(Ended(Some(503))));
    user.run("key_3", "thread_3", &json!(3));
    let error = hear(&mut user, "error");
    assert_eq!((&error["code"], &error["temporary"]), (&json!("draining"), &json!(true)), "{error}");
    assert!(error["retry_ms"].as_u64().is_some(), "{error}");
    user.run("key_1", "thread_1", &json!(1));
    let again = hear(&mut user, "accepted");
    assert_eq!((&again["run"], &again["duplicate"]), (&run["run"], &json!(true)), "{again}");

    worker.complete(&run, 1, &json!("done"));
    let end = user.until("agent_completed");
    assert_eq!((&end["run"], &end["data"]["status"]), (&run["run"], &json!("ok")), "{end}");
    user.ack();
    assert_eq!(user.socket().end(), Ended(Some(4400)));
    assert_eq!(daemon.exit_code(), 0);

    daemon.restart();
    let welcome = user.connect().expect("a welcome");
    assert_eq!(welcome["runs"][0]["run"], queued["run"], "{welcome}");
    let mut worker = Worker::connect(&daemon.door(), 1, &json!([])).expect("a welcome");
    let run = worker.take();
    assert_eq!(run["run"], queued["run"]);
    worker.complete(&run, 1, &json!("done"));
    user.until("agent_completed");
}

#[test]
fn a_run_that_does_not_end_in_time_goes_on_with_its_worker_after_the_next_start() {
    let (mut daemon, mut user, mut worker, run) = busy(&["server.drain=100ms", "runs.timeout=10m"]);
    daemon.signal("TERM");
    told_to_come_back(&mut user);
    worker.hear_type("drain");
    assert_eq!(user.socket().end(), Ended(Some(4400)));
    assert_eq!(daemon.exit_code(), 0);
    goes_on(&mut daemon, &mut user, &run);
}

#[test]
fn a_request_whose_body_does_not_come_is_told_to_come_again() {
    let daemon = Daemon::start(&[]);
    let mut socket = dial(daemon.door().address()).expect("the daemon listens");
    let token = token("alice", "user");
    let head = format!(
        "POST /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: k\r\n\
         Content-Length: 40\r\nExpect: 100-continue\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).expect("it is taken");
    let mut go_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    socket.read_exact(&mut go_on).expect("the head is good");
    daemon.signal("TERM");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: 5"), "{answer}");
    let told: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((&told["code"], &told["retry_ms"]), (&json!("draining"), &json!(5_000)), "{told}");
}

#[test]
fn a_second_signal_does_not_wait_for_runs() {
    let (mut daemon, mut user, mut worker, run) = busy(&["runs.timeout=10m"]);
    daemon.signal("TERM");
    told_to_come_back(&mut user);
    worker.hear_type("drain");
    daemon.signal("INT");
    assert_eq!(user.socket().end(), Ended(Some(4400)));
    assert_eq!(daemon.exit_code(), 0);
    goes_on(&mut daemon, &mut user, &run);
}

/// After a start the worker comes back to its run and ends it.
fn goes_on(daemon: &mut Daemon, user: &mut User, run: &Value) {
    daemon.restart();
    let named = json!([{ "run": run["run"], "attempt": run["attempt"], "n": 0 }]);
    let mut worker = Worker::connect(&daemon.door(), 1, &named).expect("a welcome");
    assert_eq!(worker.welcome["runs"][0]["state"], "continue", "{}", worker.welcome);
    user.connect().expect("a welcome");
    worker.complete(run, 1, &json!("done"));
    assert_eq!(user.until("agent_completed")["data"]["status"], "ok");
}

#[test]
fn an_operator_drains_a_daemon_in_which_nobody_is() {
    let mut daemon = Daemon::start(&[]);
    let ask = |scope| Ask::new("POST", "/v1/drain").token(&token("op", scope)).send(&daemon.door());
    assert_eq!(ask("user").status, 403);
    let answer = ask("operate");
    assert_eq!((answer.status, &answer.json["draining"]), (202, &json!(true)), "{answer:?}");
    assert_eq!(daemon.exit_code(), 0);
}
