//! What operators see and do beyond single users (PROTOCOL §7): the lists of `GET /v1/status`, the state of
//! others' runs and ending them, and the page that shows it.

use runcast_tests::{Ask, Daemon, Door, User, Worker, eventually, token};
use serde_json::{Value, json};
use std::thread;

fn ask(door: &Door, method: &str, path: &str, token: &str, status: u16) -> Value {
    let answer = Ask::new(method, path).token(token).send(door);
    assert_eq!(answer.status, status, "{path}: {answer:?}");
    answer.json
}

fn lists(door: &Door, query: &str) -> Value {
    let status = ask(door, "GET", &format!("/v1/status?{query}"), &token("olga", "operate"), 200);
    status["lists"].clone()
}

fn accepted(door: &Door, user: &str, thread: &str) -> String {
    let body = json!({ "agent": "research", "input": 1, "thread": thread });
    let answer = Ask::new("POST", "/v1/runs").token(&token(user, "user")).json(&body).send(door);
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json["run"].as_str().expect("a run's id").to_owned()
}

/// One field of all entries of a list.
fn all<'l>(list: &'l Value, field: &str) -> Vec<&'l str> {
    let items = list["items"].as_array().expect("a list");
    items.iter().map(|item| item[field].as_str().unwrap_or_default()).collect()
}

#[test]
fn the_queue_is_listed_in_the_order_in_which_runs_start() {
    let daemon = Daemon::start(&["runs.active=1", "runs.active_per_user=1"]);
    let door = daemon.door();
    let mut worker = Worker::connect(&door, 4, &json!([])).expect("a welcome");
    let running = accepted(&door, "alice", "t0");
    let offer = worker.take();
    let of_alice: Vec<String> = (1..4).map(|n| accepted(&door, "alice", &format!("t{n}"))).collect();
    let of_bob: Vec<String> = (0..2).map(|n| accepted(&door, "bob", &format!("t{n}"))).collect();

    let all_of = lists(&door, "limit=200");
    let queued = &all_of["queued"];
    let in_turns = [&of_alice[0], &of_bob[0], &of_alice[1], &of_bob[1], &of_alice[2]];
    assert_eq!(all(queued, "run"), in_turns);
    let items = queued["items"].as_array().expect("a list");
    let positions: Vec<u64> = items.iter().filter_map(|item| item["position"].as_u64()).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5]);
    assert_eq!(
        all(queued, "reason"),
        ["user_limit", "concurrency", "user_limit", "concurrency", "user_limit"]
    );
    assert_eq!(all(queued, "user"), ["alice", "bob", "alice", "bob", "alice"]);
    let run = &all_of["runs"]["items"][0];
    assert_eq!(
        (&run["run"], &run["worker"], &run["user"], &run["state"]),
        (&json!(running), &json!("w-1"), &json!("alice"), &json!("running"))
    );

    let first = lists(&door, "limit=2");
    assert_eq!((&first["queued"]["count"], all(&first["queued"], "run").len()), (&json!(5), 2));
    let found = lists(&door, "find=bob");
    assert_eq!(all(&found["queued"], "run"), of_bob);
    assert_eq!(found["queued"]["items"][0]["position"], json!(2), "its place among all");
    assert_eq!((&found["runs"]["count"], &found["workers"]["count"]), (&json!(0), &json!(0)));
    assert_eq!(all(&lists(&door, "find=research")["workers"], "worker"), ["w-1"]);

    worker.complete(&offer, 1, &json!("Done."));
    worker.take();
    let ended = &lists(&door, "limit=1")["ended"]["items"][0];
    assert_eq!(
        (&ended["run"], &ended["status"], &ended["user"]),
        (&json!(running), &json!("ok"), &json!("alice"))
    );
    let status = ask(&door, "GET", "/v1/status", &token("olga", "operate"), 200);
    assert_eq!((&status["lists"], &status["totals"]["ended"]["ok"]), (&Value::Null, &json!(1)));
    for query in ["limit=0", "limit=201", "find="] {
        ask(&door, "GET", &format!("/v1/status?{query}"), &token("olga", "operate"), 400);
    }
}

#[test]
fn connections_that_are_most_behind_come_first() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let mut ahead = User::connected("alice", "laptop", &door);
    let _behind = User::connected("bob", "desk", &door);
    for user in ["alice", "bob"] {
        accepted(&door, user, "t");
    }
    ahead.until("run_queued");
    ahead.ack();
    let connections = eventually("that alice has everything", || {
        let connections = lists(&door, "limit=10")["connections"].clone();
        let is_so =
            all(&connections, "user") == ["bob", "alice"] && connections["items"][1]["lag"] == json!(0);
        if is_so { Ok(connections) } else { Err(connections) }
    });
    let bob = &connections["items"][0];
    assert_eq!((&bob["device"], &bob["lag"], &bob["window"]), (&json!("desk"), &json!(1), &json!(256)));
}

/// What is known of a user's connections.
fn connections_of(door: &Door, user: &str) -> Vec<Value> {
    let known = ask(door, "GET", &format!("/v1/users/{user}"), &token("olga", "operate"), 200);
    known["connections"].as_array().expect("a list").clone()
}

#[test]
fn a_connection_that_answers_pings_has_a_round_trip_and_one_that_does_not_has_none() {
    // It is asked for again and again for some seconds.
    let daemon = Daemon::start(&["server.heartbeat=1s", "limits.requests_per_second=1000000"]);
    let door = daemon.door();
    let mut alice = User::connected("alice", "laptop", &door);
    // Pings are answered by whoever reads.
    let reader = thread::spawn(move || while alice.hear().is_ok() {});
    let _bob = User::connected("bob", "desk", &door);
    let mut measured = None;
    eventually("a round trip of alice, and that bob is silent for too long", || {
        let bobs = connections_of(&door, "bob");
        assert!(bobs.iter().all(|connection| connection.get("round_trip_ms").is_none()), "{bobs:?}");
        let alices = connections_of(&door, "alice");
        measured = measured.or(alices[0]["round_trip_ms"].as_u64());
        if measured.is_some() && bobs.is_empty() { Ok(()) } else { Err(alices) }
    });
    let listed = lists(&door, "limit=10")["connections"]["items"].clone();
    assert!(listed[0]["user"] == "alice" && listed[0]["round_trip_ms"].is_u64(), "{listed}");
    drop(daemon);
    reader.join().expect("alice has heard nothing wrong");
}

#[test]
fn an_operator_sees_and_ends_the_runs_of_others() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let operator = token("olga", "operate");
    let mut worker = Worker::connect(&door, 4, &json!([])).expect("a welcome");
    let mut alice = User::connected("alice", "laptop", &door);
    let run = accepted(&door, "alice", "t");
    let offer = worker.take();
    let path = format!("/v1/runs/{run}");
    let state = ask(&door, "GET", &path, &operator, 200);
    assert_eq!((&state["user"], &state["state"]), (&json!("alice"), &json!("running")));
    let own = ask(&door, "GET", &path, &token("alice", "user"), 200);
    assert_eq!(own["user"], Value::Null, "its owner knows");
    ask(&door, "GET", &path, &token("bob", "user"), 404);

    // What a run is told is between its user and its agent.
    let input = Ask::new("POST", &format!("{path}/input")).json(&json!({ "data": 1 }));
    assert_eq!(input.token(&operator).send(&door).status, 403);
    let input = Ask::new("POST", &format!("{path}/input")).json(&json!({ "data": 1 }));
    assert_eq!(input.token(&token("olga", "operate user")).send(&door).status, 404);

    let cancelled = ask(&door, "POST", &format!("{path}/cancel"), &operator, 200);
    assert_eq!(cancelled["state"], "cancelling");
    let told = worker.hear_type("cancel");
    assert_eq!((&told["run"], &told["reason"]), (&json!(run), &json!("operator")));
    worker.end(&offer, 1, "cancelled", &json!(null));
    let end = alice.until("agent_completed");
    assert_eq!((&end["data"]["status"], &end["data"]["reason"]), (&json!("cancelled"), &json!("operator")));
    let state = ask(&door, "GET", &path, &operator, 200);
    assert_eq!((&state["user"], &state["status"]), (&json!("alice"), &json!("cancelled")));
    ask(&door, "POST", &format!("{path}/cancel"), &operator, 200);
}

#[test]
fn a_run_that_has_not_begun_ends_for_an_operator_at_once() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    drop(Worker::connect(&door, 4, &json!([])).expect("a welcome"));
    let run = accepted(&door, "alice", "t");
    let operator = token("olga", "operate");
    assert_eq!(ask(&door, "POST", &format!("/v1/runs/{run}/cancel"), &operator, 200)["state"], "ended");
    assert_eq!(all(&lists(&door, "limit=1")["ended"], "run"), [run]);
    let user = ask(&door, "GET", "/v1/users/alice", &operator, 200);
    assert_eq!(user["head"], json!(2), "who was never connected is known by the runs: {user}");
}

#[test]
fn the_page_comes_to_anybody_and_may_run_nothing_but_itself() {
    let daemon = Daemon::start(&[]);
    let answer = Ask::new("GET", "/console").send(&daemon.door());
    assert_eq!(answer.status, 200);
    for header in ["Content-Type: text/html; charset=utf-8", "Content-Security-Policy: default-src 'none'; "]
    {
        assert!(answer.head.contains(header), "{}", answer.head);
    }
    assert!(!answer.head.contains("unsafe"), "{}", answer.head);
}
