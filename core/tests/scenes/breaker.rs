//! The circuit breaker of an agent (DESIGN §6 `breaker`), over a start of the daemon.

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
use runcast_core::time::Span;
use serde_json::json;

/// A worker of `echo` fails so many runs of a user, one after the other.
fn fail(daemon: &mut Daemon, worker: ConnId, user: ConnId, times: usize) {
    for _ in 0..times {
        daemon.ask(user);
        let run = daemon.start(worker);
        let complete = json!({"type": "complete", "run": run, "attempt": 1, "n": 1, "status": "error",
                              "error": {"code": "e", "message": "m"}});
        daemon.says(worker, &complete);
    }
}

/// Whether a run would be accepted.
fn is_open(daemon: &mut Daemon, user: ConnId) -> bool {
    daemon.heard(user);
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1}));
    daemon.heard(user).iter().any(|said| said["code"] == "agent_unavailable")
}

#[test]
fn failures_before_a_start_of_the_daemon_count_after_it() {
    let mut daemon = Daemon::new(|config| config.breaker.failures = 3);
    let hello = json!({"type": "hello", "worker": "w", "agents": [{"agent": "echo", "slots": 1}]});
    let (worker, user) = (daemon.worker(&hello), daemon.user("alice"));
    fail(&mut daemon, worker, user, 2);
    daemon.restart();
    let (worker, user) = (daemon.worker(&hello), daemon.user("alice"));
    fail(&mut daemon, worker, user, 1);
    assert!(is_open(&mut daemon, user), "three in a row have failed");
}

#[test]
fn a_run_that_waits_for_an_agent_that_rests_is_told_so() {
    let mut daemon = Daemon::new(|config| config.breaker.failures = 1);
    let hello = json!({"type": "hello", "worker": "w", "agents": [{"agent": "echo", "slots": 1}]});
    let (worker, user) = (daemon.worker(&hello), daemon.user("alice"));
    daemon.ask(user);
    let (run, waiting) = (daemon.start(worker), daemon.ask(user));
    let complete = json!({"type": "complete", "run": run, "attempt": 1, "n": 1, "status": "error",
                          "error": {"code": "e", "message": "m"}});
    daemon.says(worker, &complete);
    daemon.pass(Span::secs(6));
    let heard = daemon.heard(user);
    let told = heard.iter().rfind(|said| said["notice"] == "queue" && said["run"] == *waiting);
    assert_eq!(told.expect("it is told every 5 s")["reason"], "circuit_open");
}

#[test]
fn failures_count_that_come_in_a_row() {
    let mut daemon = Daemon::new(|config| config.breaker.failures = 2);
    let hello = json!({"type": "hello", "worker": "w", "agents": [{"agent": "echo", "slots": 1}]});
    let (worker, user) = (daemon.worker(&hello), daemon.user("alice"));
    for is_open_then in [false, true] {
        fail(&mut daemon, worker, user, 1);
        assert_eq!(is_open(&mut daemon, user), is_open_then);
        if !is_open_then {
            let run = daemon.start(worker);
            daemon
                .says(worker, &json!({"type": "complete", "run": run, "attempt": 1, "n": 1, "status": "ok"}));
            fail(&mut daemon, worker, user, 1);
        }
    }
}
