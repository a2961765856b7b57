//! What operators see of the queue (PROTOCOL §7 `GET /v1/status`).

use crate::daemon::Daemon;
use runcast_core::input::Input;
use serde_json::json;

#[test]
fn queued_runs_are_listed_in_the_order_in_which_they_will_start() {
    let mut daemon = Daemon::new(|_| {});
    let (alice, bob) = (daemon.user("alice"), daemon.user("bob"));
    let of_alice = [daemon.ask(alice), daemon.ask(alice), daemon.ask(alice)];
    let of_bob = daemon.ask(bob);
    let (status, answer) = daemon.operator("GET", "/v1/status?limit=10");
    assert_eq!(status, 200);
    let queued = &answer["lists"]["queued"];
    assert_eq!(queued["count"], 4, "{answer}");
    let items = queued["items"].as_array().expect("a list").iter();
    let listed: Vec<_> = items.map(|run| (run["run"].clone(), run["position"].clone())).collect();
    let expected = [&of_alice[0], &of_bob, &of_alice[1], &of_alice[2]];
    let expected: Vec<_> = expected.iter().zip(1..).map(|(run, place)| (json!(run), json!(place))).collect();
    assert_eq!(listed, expected, "users take turns");
}

#[test]
fn a_worker_is_idle_until_it_has_a_run_and_silent_when_it_is_gone() {
    let mut daemon = Daemon::new(|_| {});
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let state = |daemon: &mut Daemon| daemon.operator("GET", "/v1/workers").1["workers"][0]["state"].clone();
    assert_eq!(state(&mut daemon), "idle");
    let user = daemon.user("alice");
    daemon.ask(user);
    daemon.start(worker);
    assert_eq!(state(&mut daemon), "busy");
    daemon.feed(Input::Closed { conn: worker });
    assert_eq!(state(&mut daemon), "silent");
}
