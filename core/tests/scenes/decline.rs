//! A run that a worker has declined (PROTOCOL §6): it is not offered to this worker again for as long as it
//! said, and then it is.

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
use runcast_core::input::Input;
use runcast_core::time::Span;
use serde_json::{Value, json};

fn offers(daemon: &mut Daemon, worker: ConnId) -> Vec<Value> {
    daemon.heard(worker).into_iter().filter(|said| said["type"] == "run").collect()
}

#[test]
fn a_run_comes_back_to_the_worker_that_declined_it_when_that_is_ready_and_not_before() {
    let mut daemon = Daemon::new(|_| {});
    let agents = json!([{"agent": "echo", "slots": 2}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let user = daemon.user("alice");
    daemon.ask(user);
    let offer = offers(&mut daemon, worker).pop().expect("it is offered");
    let (run, attempt) = (&offer["run"], &offer["attempt"]);
    let decline =
        json!({"type": "decline", "run": run, "attempt": attempt, "reason": "busy", "retry_ms": 4000});
    daemon.says(worker, &decline);
    daemon.says(worker, &json!({"type": "beat"}));
    assert_eq!(offers(&mut daemon, worker), [Value::Null; 0]);
    daemon.pass(Span::millis(3_900));
    assert_eq!(offers(&mut daemon, worker), [Value::Null; 0]);
    daemon.pass(Span::millis(200));
    let again = offers(&mut daemon, worker);
    assert_eq!(again.iter().map(|offer| &offer["run"]).collect::<Vec<_>>(), [run]);
}

#[test]
fn a_message_that_cannot_be_read_is_answered_with_its_type() {
    let mut daemon = Daemon::new(|_| {});
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    daemon.heard(worker);
    daemon.says(worker, &json!({"type": "decline"}));
    daemon.says(worker, &json!({"type": "refuse"}));
    let answers = daemon.heard(worker);
    assert_eq!((&answers[0]["code"], &answers[0]["of"]), (&json!("bad_message"), &json!("decline")));
    assert_eq!((&answers[1]["code"], &answers[1]["of"]), (&json!("unknown_type"), &Value::Null));
}

/// Whoever takes a run is no longer taken for one that does not answer.
#[test]
fn a_worker_that_has_taken_a_run_is_passed_over_for_a_second_the_next_time() {
    let mut daemon = Daemon::new(|config| {
        config.runs.lease = Span::secs(3600);
        config.server.heartbeat = Span::secs(3600);
    });
    let agents = json!([{"agent": "echo", "slots": 2}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let user = daemon.user("alice");
    for _ in 0..2 {
        daemon.ask(user);
        daemon.pass(Span::secs(5));
        assert_eq!(offers(&mut daemon, worker).len(), 1, "it does not answer");
        daemon.pass(Span::millis(999));
        assert_eq!(offers(&mut daemon, worker), [Value::Null; 0]);
        daemon.pass(Span::millis(1));
        let again = offers(&mut daemon, worker).pop().expect("it is offered again");
        let (run, attempt) = (&again["run"], &again["attempt"]);
        daemon.says(worker, &json!({"type": "started", "run": run, "attempt": attempt}));
    }
}

/// Each comes under a name that nobody has had, and will not be seen again.
#[test]
fn workers_that_decline_a_run_and_go_are_not_remembered_for_ever() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.connect("/ws", "alice", "user", &json!({"type": "hello", "ack": false}));
    daemon.ask(user);
    for _ in 0..100 {
        let worker = daemon.worker(&json!({"type": "hello", "agents": [{"agent": "echo"}]}));
        let offer = offers(&mut daemon, worker).pop().expect("it is offered");
        let (run, attempt) = (&offer["run"], &offer["attempt"]);
        daemon.says(worker, &json!({"type": "decline", "run": run, "attempt": attempt, "reason": "no"}));
        daemon.feed(Input::Closed { conn: worker });
        daemon.pass(Span::secs(2));
        daemon.says(user, &json!({"type": "ping"}));
    }
    let avoided = daemon.core.inspect().sizes().avoided;
    assert!(avoided <= 20, "{avoided} workers are passed over");
}

#[test]
fn a_run_that_was_declined_goes_to_another_worker_first() {
    let mut daemon = Daemon::new(|config| config.runs.active = 1);
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let [first, second] =
        ["v", "w"].map(|name| daemon.worker(&json!({"type": "hello", "worker": name, "agents": agents})));
    let [alice, bob] = ["alice", "bob"].map(|name| daemon.user(name));
    daemon.ask(alice);
    daemon.ask(bob);
    let offer = offers(&mut daemon, first).pop().expect("it is offered");
    let (run, attempt) = (&offer["run"], &offer["attempt"]);
    daemon.says(
        first,
        &json!({"type": "decline", "run": run, "attempt": attempt, "reason": "busy", "retry_ms": 1000}),
    );
    // Meanwhile it is the other user's turn, and the first worker is ready again.
    let other = daemon.start(first);
    daemon.pass(Span::secs(2));
    daemon.says(first, &json!({"type": "complete", "run": other, "attempt": 1, "n": 1, "status": "ok"}));
    let offered = offers(&mut daemon, second);
    assert_eq!(offered.iter().map(|offer| &offer["run"]).collect::<Vec<_>>(), [run]);
}

/// It is executed: whoever is told to stop it would leave it to run out of time.
#[test]
fn a_run_that_has_started_cannot_be_declined_and_goes_on() {
    let mut daemon = Daemon::new(|_| {});
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let user = daemon.user("alice");
    daemon.ask(user);
    daemon.is_slow = true;
    let run = daemon.start(worker);
    let decline = json!({"type": "decline", "run": run, "attempt": 1, "reason": "busy"});
    daemon.heard(worker);
    for is_durable in [false, true] {
        daemon.says(worker, &decline);
        let refused = daemon.heard(worker).into_iter().find(|said| said["type"] == "error");
        let refused = refused.expect("it is answered");
        assert_eq!(
            (&refused["of"], &refused["code"]),
            (&json!("decline"), &json!("bad_event")),
            "{is_durable}: {refused}"
        );
        daemon.commit();
    }
    daemon.says(worker, &json!({"type": "complete", "run": run, "attempt": 1, "n": 1, "status": "ok"}));
    daemon.commit();
    let ended = daemon.heard(user).into_iter().find(|said| said["event"] == "agent_completed");
    assert_eq!(ended.expect("it ends")["data"]["status"], "ok");
}
