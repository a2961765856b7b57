//! The client commands against a daemon: what they print, and with what they end (DESIGN §6).

use runcast_tests::{Ask, Daemon, Door, Ended, User, Worker, eventually, runcast, token};
use serde_json::{Value, json};

fn command(door: &Door, token: &str, words: &[&str]) -> (i32, String, String) {
    let url = format!("http://{}", door.address());
    runcast(&[words, &["--url", &url, "--token", token]].concat())
}

fn json_lines(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn runs_are_listed_and_cancelled() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let alice = token("alice", "user");
    let mut user = User::connected("alice", "laptop", &door);
    user.run("k", "t1", &json!(1));
    let run = user.until("run_queued")["run"].as_str().expect("an id").to_owned();
    let (code, printed, errors) = command(&door, &alice, &["runs"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(printed.starts_with("RUN") && printed.contains(&run) && printed.contains("queued"), "{printed}");
    let (code, printed, _) = command(&door, &alice, &["cancel", &run]);
    assert_eq!((code, printed), (0, format!("{run} ended\n")));
    user.until("agent_completed");
    let (code, printed, _) = command(&door, &alice, &["runs", "--json", "--state", "ended"]);
    let runs = json_lines(&printed);
    assert_eq!((code, &runs[0]["run"], &runs[0]["status"]), (0, &json!(run), &json!("cancelled")));
    assert_eq!(command(&door, &alice, &["runs", "--json", "--state", "running"]), (0, "".into(), "".into()));
    let (code, _, errors) = command(&door, &token("bob", "user"), &["cancel", &run]);
    assert!(code == 77 && errors.contains("run_not_found"), "{code} {errors}");
    assert_eq!(command(&door, &alice, &["runs", "--state", "asleep"]).0, 2);
    assert_eq!(command(&door, "", &["runs"]).0, 77);
    let (code, _, errors) = runcast(&["runs", "--url", "http://127.0.0.1:1", "--token", "x"]);
    assert!(code == 69 && errors.contains("cannot reach"), "{code} {errors}");
}

#[test]
fn workers_are_listed_for_an_operator_alone() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let _worker = Worker::connect(&door, 3, &json!([])).expect("a welcome");
    let operator = token("olga", "operate");
    let (code, printed, _) = command(&door, &operator, &["workers"]);
    assert_eq!(code, 0);
    assert!(
        printed.contains("w-1") && printed.contains("research×3") && printed.contains("closed"),
        "{printed}"
    );
    let (_, printed, _) = command(&door, &operator, &["workers", "--json"]);
    let lines = json_lines(&printed);
    assert_eq!((&lines[0]["worker"], &lines[1]["agent"]), (&json!("w-1"), &json!("research")));
    let (code, _, errors) = command(&door, &token("alice", "user"), &["workers"]);
    assert!(code == 77 && errors.contains("token_scope") && errors.contains("--scope"), "{code} {errors}");
    let same = Ask::new("GET", "/v1/workers").token(&operator).send(&door).json;
    // How long nothing was heard of it is another time's.
    let of = |worker: &Value| {
        let mut worker = worker.clone();
        worker["idle_ms"] = json!(null);
        worker
    };
    assert_eq!(of(&same["workers"][0]), of(&lines[0]));
}

#[test]
fn a_user_is_shown_to_an_operator_with_connections_runs_and_devices() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let operator = token("olga", "operate");
    let mut user = User::connected("al ice/1", "laptop", &door);
    let mut worker = Worker::connect(&door, 1, &json!([])).expect("a welcome");
    user.run("k", "t1", &json!("a secret of hers"));
    let run = worker.take();
    user.until("agent_started");
    user.ack();
    let of = |door: &Door| Ask::new("GET", "/v1/users/al%20ice%2F1").token(&operator).send(door).json;
    let known = eventually("that the acknowledgement has come", || match of(&door) {
        known if known["devices"][0]["lag"] == 0 => Ok(known),
        known => Err(known),
    });
    let connection = &known["connections"][0];
    assert_eq!((&connection["device"], &connection["kind"]), (&json!("laptop"), &json!("websocket")));
    assert_eq!((&connection["lag"], &connection["window"]), (&json!(0), &json!(256)), "{known}");
    assert_eq!((&known["runs"][0]["run"], &known["runs"][0]["state"]), (&run["run"], &json!("running")));
    assert!(!known.to_string().contains("secret"), "{known}");

    let (code, printed, errors) = command(&door, &operator, &["users", "al ice/1"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(printed.contains("websocket  laptop") && printed.contains("running"), "{printed}");
    let (code, printed, _) = command(&door, &operator, &["users", "--json", "al ice/1"]);
    assert_eq!((code, &json_lines(&printed)[0]["epoch"]), (0, &known["epoch"]));
    let (code, _, errors) = command(&door, &operator, &["users", "nobody"]);
    assert!(code == 77 && errors.contains("not_found"), "{code} {errors}");
    let (code, _, errors) = command(&door, &token("al ice/1", "user"), &["users", "al ice/1"]);
    assert!(code == 77 && errors.contains("token_scope"), "{code} {errors}");
}

#[test]
fn what_nobody_got_is_listed_and_the_daemon_is_drained_from_the_command_line() {
    let mut daemon = Daemon::start(&["delivery.undelivered_after=100ms"]);
    let door = daemon.door();
    let operator = token("olga", "operate");
    assert_eq!(command(&door, &operator, &["undelivered", "--json"]), (0, "".into(), "".into()));
    let mut user = User::connected("alice", "laptop", &door);
    user.run("k", "t1", &json!(1));
    let run = user.until("run_queued")["run"].as_str().expect("an id").to_owned();
    assert_eq!(command(&door, &token("alice", "user"), &["cancel", &run]).0, 0);
    let listed = || match command(&door, &operator, &["undelivered", "--json"]) {
        (_, printed, errors) if printed.is_empty() => Err(errors),
        (_, printed, _) => Ok(printed),
    };
    let printed = eventually("that the run is listed", listed);
    assert_eq!(json_lines(&printed)[0]["run"], json!(run));
    let (code, printed, _) = command(&door, &operator, &["undelivered"]);
    assert!(code == 0 && printed.contains(&run) && printed.contains(" ago "), "{printed}");

    let (code, _, errors) = command(&door, &token("alice", "user"), &["drain"]);
    assert!(code == 77 && errors.contains("token_scope"), "{code} {errors}");
    let (code, printed, _) = command(&door, &operator, &["drain"]);
    assert!(code == 0 && printed.starts_with("draining: 0 active runs"), "{printed}");
    assert_eq!(daemon.exit_code(), 0);
}

#[test]
fn a_user_is_sent_away_from_the_command_line() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let operator = token("olga", "operate");
    let mut user = User::connected("al ice", "laptop", &door);
    let (code, printed, _) = command(&door, &operator, &["disconnect", "al ice", "--reconnect"]);
    assert_eq!((code, printed.as_str()), (0, "al ice: 1 connections closed\n"));
    assert_eq!(user.socket().end(), Ended(Some(4400)));
    user.connect().expect("it may come back");
    assert_eq!(command(&door, &operator, &["disconnect", "al ice"]).0, 0);
    assert_eq!(user.socket().end(), Ended(Some(4507)));
    user.connect().expect("its token is still good");
    let (code, printed, _) = command(&door, &operator, &["revoke", "al ice"]);
    assert_eq!((code, printed.as_str()), (0, "al ice: tokens revoked, 1 connections closed\n"));
    assert_eq!(user.socket().end(), Ended(Some(4507)));
    assert!(user.connect().is_err(), "its token has no iat, and is refused");
    let (code, _, errors) = command(&door, &token("al ice", "user"), &["revoke", "bob"]);
    assert!(code == 77 && errors.contains("token_revoked"), "{code} {errors}");
}
