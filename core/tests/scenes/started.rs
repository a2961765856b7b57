//! `started` (PROTOCOL §6): one that is repeated is acknowledged again, and keeps nothing in memory.

use crate::daemon::Daemon;
use runcast_core::input::Input;
use runcast_core::time::Span;
use serde_json::json;

#[test]
fn repeated_starts_leave_nothing_behind_while_the_store_stands_still() {
    let mut daemon = Daemon::new(|_| {});
    let worker = daemon.worker(&json!({"type": "hello", "agents": [{"agent": "echo", "slots": 1}]}));
    let user = daemon.user("alice");
    daemon.ask(user);
    let run = daemon.start(worker);
    daemon.heard(worker);
    daemon.is_slow = true;
    // Something that waits, as all that is revealed after it would.
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1}));
    let before = daemon.core.inspect().sizes().reveals;
    for _ in 0..100 {
        daemon.says(worker, &json!({"type": "started", "run": run, "attempt": 1}));
    }
    let acks = daemon.heard(worker).iter().filter(|said| said["type"] == "ack" && said["n"] == 0).count();
    assert_eq!((acks, daemon.core.inspect().sizes().reveals), (100, before));
}

/// What a worker is told with the offer holds for the attempt, whatever becomes of the daemon meanwhile.
#[test]
fn the_time_that_its_worker_gives_an_attempt_outlives_a_restart() {
    let mut daemon = Daemon::new(|config| config.runs.timeout = Span::secs(2));
    let serves = json!([{"agent": "echo", "slots": 1, "timeout_ms": 8_000}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": serves}));
    let user = daemon.user("alice");
    daemon.ask(user);
    let run = daemon.start(worker);
    daemon.pass(Span::secs(1));
    daemon.restart();
    let named = json!([{"run": run, "attempt": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": serves, "runs": named}));
    daemon.pass(Span::secs(5));
    assert!(daemon.heard(worker).iter().all(|said| said["type"] != "cancel"), "it has two seconds left");
    daemon.pass(Span::secs(3));
    assert!(daemon.heard(worker).iter().any(|said| said["reason"] == "timeout"), "its time is up");
}

/// Each time the connection ends before the start is durable and acknowledged: nothing was executed.
#[test]
fn a_worker_that_dies_of_each_start_is_not_offered_the_run_for_ever() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    let hello = json!({"type": "hello", "worker": "w", "agents": [{"agent": "echo", "slots": 1}]});
    daemon.ask(user);
    let mut worker = daemon.worker(&hello);
    for times in 1..=3 {
        daemon.is_slow = true;
        daemon.start(worker);
        daemon.feed(Input::Closed { conn: worker });
        daemon.commit();
        daemon.is_slow = false;
        worker = daemon.worker(&hello);
        daemon.pass(Span::secs(1));
        let ended = daemon.heard(user).into_iter().find(|said| said["event"] == "agent_completed");
        let code = ended.map(|said| said["data"]["error"]["code"].clone());
        assert_eq!(code, (times == 3).then(|| json!("not_taken")), "after {times}");
    }
}

#[test]
fn what_was_said_to_an_attempt_that_was_not_executed_is_not_said_to_the_next() {
    let mut daemon = Daemon::new(|_| {});
    let (user, serves) = (daemon.user("alice"), json!([{"agent": "echo", "slots": 1}]));
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": serves}));
    daemon.ask(user);
    daemon.is_slow = true;
    let run = daemon.start(worker);
    daemon.feed(Input::Closed { conn: worker });
    daemon.commit();
    daemon.is_slow = false;
    daemon.says(user, &json!({"type": "input", "run": run, "data": "for the first"}));
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": serves}));
    daemon.pass(Span::secs(1));
    daemon.start(worker);
    daemon.says(user, &json!({"type": "input", "run": run, "data": "for the second"}));
    let inputs = daemon.heard(worker).into_iter().filter(|said| said["type"] == "input");
    let inputs: Vec<_> = inputs.map(|said| (said["i"].clone(), said["data"].clone())).collect();
    assert_eq!(inputs, [(json!(1), json!("for the second"))]);
}

#[test]
fn a_run_that_is_cancelled_while_its_start_is_stored_is_not_silent() {
    let mut daemon = Daemon::new(|config| config.runs.cancel_grace = Span::secs(14));
    let user = daemon.user("alice");
    let worker = daemon.worker(&json!({"type": "hello", "agents": [{"agent": "echo", "slots": 1}]}));
    daemon.ask(user);
    daemon.is_slow = true;
    let run = daemon.start(worker);
    daemon.says(user, &json!({"type": "cancel", "run": run}));
    daemon.commit();
    daemon.is_slow = false;
    daemon.heard(user);
    daemon.pass(Span::secs(6));
    let working = daemon.heard(user).iter().filter(|said| said["notice"] == "working").count();
    assert_eq!(working, 1);
}

/// How far an attempt was says nothing of the next.
#[test]
fn a_run_that_is_offered_anew_is_no_step_further() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    let serves = json!([{"agent": "echo", "slots": 1, "retryable": true}]);
    let hello = json!({"type": "hello", "worker": "w", "agents": serves});
    let worker = daemon.worker(&hello);
    daemon.ask(user);
    let run = daemon.start(worker);
    let progress = [("step_started", json!({"step": "read"})), ("run_progress", json!({"percent": 80}))];
    for (n, (event, data)) in progress.into_iter().enumerate() {
        let event =
            json!({"type": "event", "run": run, "attempt": 1, "n": n + 1, "event": event, "data": data});
        daemon.says(worker, &event);
    }
    let path = format!("/v1/runs/{}", run.as_str().expect("an id"));
    let state = |daemon: &mut Daemon| {
        let (_, state) = daemon.request("GET", &path, "alice", "user");
        ["step", "percent"].map(|field| state[field].clone())
    };
    assert_eq!(state(&mut daemon), [json!("read"), json!(80)]);
    daemon.feed(Input::Closed { conn: worker });
    let worker = daemon.worker(&hello);
    daemon.pass(Span::secs(1));
    daemon.start(worker);
    assert_eq!(state(&mut daemon), [json!(null), json!(null)]);
}

#[test]
fn offers_that_were_not_taken_before_a_start_of_the_daemon_count_after_it() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    let hello = json!({"type": "hello", "worker": "w", "agents": [{"agent": "echo", "slots": 1}]});
    let run = daemon.ask(user);
    for _ in 0..2 {
        let worker = daemon.worker(&hello);
        daemon.feed(Input::Closed { conn: worker });
    }
    daemon.restart();
    let (user, worker) = (daemon.user("alice"), daemon.worker(&hello));
    daemon.feed(Input::Closed { conn: worker });
    let ended = daemon.heard(user).into_iter().find(|said| said["event"] == "agent_completed");
    let ended = ended.expect("it was offered three times");
    assert_eq!((&ended["run"], &ended["data"]["error"]["code"]), (&json!(run), &json!("not_taken")));
}

/// The acknowledgement may have been lost with the connection, and the cancel have come since.
#[test]
fn a_start_that_is_repeated_is_acknowledged_though_its_run_is_to_stop() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    let worker = daemon.worker(&json!({"type": "hello", "agents": [{"agent": "echo", "slots": 1}]}));
    daemon.ask(user);
    let run = daemon.start(worker);
    daemon.says(user, &json!({"type": "cancel", "run": run}));
    daemon.heard(worker);
    daemon.says(worker, &json!({"type": "started", "run": run, "attempt": 1}));
    assert_eq!(daemon.heard(worker), [json!({"type": "ack", "run": run, "attempt": 1, "n": 0})]);
}

/// The clock that measures is another one after a restart.
#[test]
fn the_time_that_a_run_was_queued_goes_on_over_a_start_of_the_daemon() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    daemon.ask(user);
    daemon.pass(Span::secs(10));
    daemon.restart();
    let user = daemon.user("alice");
    assert_eq!(daemon.heard(user)[0]["runs"][0]["queued_ms"], 10_000);
    daemon.pass(Span::millis(5_100));
    let told = daemon.heard(user).into_iter().rfind(|said| said["notice"] == "queue");
    assert_eq!(told.expect("it is told where it stands")["waited_ms"], 15_100);
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    daemon.start(worker);
    let started = daemon.heard(user).into_iter().find(|said| said["event"] == "agent_started");
    assert_eq!(started.expect("it starts")["data"]["queued_ms"], 15_100);
}
