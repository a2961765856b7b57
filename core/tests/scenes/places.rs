//! Where a run stands, as it is told when it is accepted (PROTOCOL §5 `position`, `ahead`): the same as what
//! the notice `queue` and the order of starts say.

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
use runcast_core::time::Span;
use serde_json::{Value, json};

/// A worker with so many slots for an agent.
fn worker(daemon: &mut Daemon, agent: &str, slots: usize) -> ConnId {
    let agents = json!([{"agent": agent, "slots": slots}]);
    daemon.worker(&json!({"type": "hello", "worker": agent, "agents": agents}))
}

/// Asks for a run. Where it stands is told by `accepted` and by its first event, which must agree.
fn place(daemon: &mut Daemon, user: ConnId, more: &Value) -> (String, u64) {
    daemon.heard(user);
    let mut ask = json!({"type": "run", "agent": "echo", "input": 1});
    let more = more.as_object().expect("fields").clone();
    ask.as_object_mut().expect("fields").extend(more);
    daemon.says(user, &ask);
    daemon.commit();
    let heard = daemon.heard(user);
    told(&heard)
}

/// The run that is accepted here, and its place.
fn told(heard: &[Value]) -> (String, u64) {
    let accepted = heard.iter().find(|said| said["type"] == "accepted").expect("the run is accepted");
    let queued = heard.iter().find(|said| said["run"] == accepted["run"] && said["event"] == "run_queued");
    let position = accepted["position"].as_u64().expect("a number");
    assert_eq!(accepted["ahead"], position.saturating_sub(1));
    assert_eq!(queued.expect("it is told")["data"]["position"], position);
    (accepted["run"].as_str().expect("it has an id").to_owned(), position)
}

/// The position that the newest notice tells of a run.
fn noticed(heard: &[Value], run: &str) -> Option<u64> {
    let of_run = |said: &&Value| said["notice"] == "queue" && said["run"] == run;
    heard.iter().rfind(of_run).and_then(|said| said["position"].as_u64())
}

#[test]
fn a_run_is_told_the_place_that_its_priority_gives_it() {
    let mut daemon = Daemon::new(|_| {});
    worker(&mut daemon, "echo", 1);
    let user = daemon.user("alice");
    assert_eq!(place(&mut daemon, user, &json!({})).1, 0, "it starts at once");
    let places: Vec<_> = ["low", "normal", "high", "normal"]
        .map(|priority| place(&mut daemon, user, &json!({"priority": priority})))
        .into();
    let positions: Vec<_> = places.iter().map(|(_, position)| *position).collect();
    assert_eq!(positions, [1, 1, 1, 3]);
    daemon.pass(Span::secs(1));
    let heard = daemon.heard(user);
    let now: Vec<_> = places.iter().map(|(run, _)| noticed(&heard, run)).collect();
    assert_eq!(now, [Some(4), Some(2), Some(1), Some(3)]);
}
