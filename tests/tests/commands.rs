//! The client commands against a daemon: what they print, and with what they end (DESIGN §6).

use runcast_tests::{Ask, Daemon, Door, User, Worker, runcast, token};
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
    assert_eq!(same["workers"][0], lines[0]);
}
