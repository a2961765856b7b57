//! A run that a worker has declined (PROTOCOL §6): it is not offered to this worker again for as long as it
//! said, and then it is.

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
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
