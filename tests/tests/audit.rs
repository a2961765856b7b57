//! The audit trail: everything that an operator reads of users, and does, stands in it with who, what and
//! about whom; what a console asks for all the time does not.

use runcast_tests::{Ask, Daemon, Log, User, token};
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
fn who_is_refused_for_want_of_a_right_stands_in_the_trail() {
    let daemon = Daemon::start(&[]);
    let (door, log) = (daemon.door(), daemon.log());
    let alice = token("alice", "user");
    assert_eq!(Ask::new("GET", "/v1/users/bob").token(&alice).send(&door).status, 403);
    assert_eq!(Ask::new("POST", "/v1/drain").token(&alice).body("").send(&door).status, 403);
    assert_eq!(Ask::new("GET", "/v1/runs").send(&door).status, 401);
    assert_eq!(Ask::new("GET", "/v1/runs").token(&alice).send(&door).status, 200);
    for n in 1..=3 {
        // The line of the log, and that of the trail beside it.
        log.nth(2 * n, "refused");
    }
    let codes: Vec<String> = trail(log).into_iter().map(|[_, _, _, outcome]| outcome).collect();
    assert_eq!(codes, ["refused token_scope", "refused token_scope", "refused token_missing"]);
}
