//! A `complete` that is refused ends its run all the same (PROTOCOL §6).

use crate::daemon::Daemon;
use runcast_core::time::Span;
use serde_json::{Value, json};

fn hello(runs: &Value) -> Value {
    json!({"type": "hello", "worker": "w", "agents": [{"agent": "echo", "slots": 1}], "runs": runs})
}

#[test]
fn a_worker_whose_complete_was_refused_is_told_that_its_run_has_ended() {
    let mut daemon = Daemon::new(|_| {});
    let (worker, user) = (daemon.worker(&hello(&json!([]))), daemon.user("alice"));
    daemon.ask(user);
    let run = daemon.start(worker);
    daemon.heard(worker);
    daemon.says(worker, &json!({"type": "complete", "run": run, "attempt": 1, "n": 1, "status": "fine"}));

    let answers = daemon.heard(worker);
    assert_eq!((&answers[0]["type"], &answers[0]["code"]), (&json!("error"), &json!("bad_event")));
    assert_eq!((&answers[1]["type"], &answers[1]["n"]), (&json!("ack"), &json!(1)));
    let end = daemon.heard(user).into_iter().find(|said| said["event"] == "agent_completed");
    let data = end.expect("the run has ended")["data"].clone();
    assert_eq!((&data["status"], &data["error"]["code"]), (&json!("error"), &json!("bad_complete")));

    let again = daemon.worker(&hello(&json!([{"run": run, "attempt": 1, "n": 1}])));
    let welcome = daemon.heard(again).into_iter().find(|said| said["type"] == "welcome");
    assert_eq!(welcome.expect("it is known")["runs"][0]["state"], "ended");
}

#[test]
fn an_end_says_how_many_tools_all_attempts_have_called() {
    let mut daemon = Daemon::new(|_| {});
    let agents = json!([{"agent": "echo", "slots": 1, "retryable": true}]);
    let hello = json!({"type": "hello", "worker": "w", "agents": agents});
    let user = daemon.user("alice");
    daemon.ask(user);
    for is_last in [false, true] {
        let worker = daemon.worker(&hello);
        daemon.pass(Span::secs(1));
        let heard = daemon.heard(worker);
        let offer = heard.iter().find(|said| said["type"] == "run").expect("it is offered");
        let (run, attempt) = (&offer["run"], &offer["attempt"]);
        daemon.says(worker, &json!({"type": "started", "run": run, "attempt": attempt}));
        for (n, event) in ["tool_executing", "tool_completed"].into_iter().enumerate() {
            let data = json!({"call": "c", "tool": "search", "args": {}, "status": "ok"});
            daemon.says(
                worker,
                &json!({"type": "event", "run": run, "attempt": attempt, "n": n + 1,
                                        "event": event, "data": data}),
            );
        }
        let complete = json!({"type": "complete", "run": run, "attempt": attempt, "n": 3, "status": "ok"});
        if is_last {
            daemon.says(worker, &complete);
        } else {
            daemon.worker(&hello);
        }
    }
    let ended = daemon.heard(user).into_iter().find(|said| said["event"] == "agent_completed");
    let data = &ended.expect("it has ended")["data"];
    assert_eq!((&data["tools"], &data["attempts"]), (&json!(2), &json!(2)));
}
