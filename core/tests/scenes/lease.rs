//! A worker's session (PROTOCOL §6 lease, §7 topic `agents`): when it is over, what becomes of its runs, and
//! who is told.

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
use runcast_core::input::Input;
use runcast_core::time::Span;
use serde_json::{Value, json};

fn hello(runs: &Value) -> Value {
    json!({"type": "hello", "worker": "w", "agents": [{"agent": "echo", "slots": 1}], "runs": runs})
}

fn told(daemon: &mut Daemon, watcher: ConnId) -> Vec<Value> {
    let heard = daemon.heard(watcher).into_iter().filter(|said| said["topic"] == "agents");
    heard.map(|said| said["event"].clone()).collect()
}

#[test]
fn a_worker_that_is_silent_for_its_lease_is_closed_and_operators_are_told() {
    let mut daemon = Daemon::new(|config| config.server.heartbeat = Span::secs(60));
    let watch = json!({"type": "hello", "ack": false, "topics": ["agents"]});
    let watcher = daemon.connect("/ws", "root", "user operate", &watch);
    let (worker, user) = (daemon.worker(&hello(&json!([]))), daemon.user("alice"));
    assert_eq!(told(&mut daemon, watcher), ["worker_joined", "agent_available"]);
    daemon.ask(user);
    daemon.start(worker);
    daemon.pass(Span::millis(14_900));
    assert_eq!(daemon.closed(worker), None);
    daemon.pass(Span::millis(200));
    assert_eq!(daemon.closed(worker).map(|code| code as u16), Some(4404));
    let ended = daemon.heard(user).into_iter().find(|said| said["event"] == "agent_completed");
    assert_eq!(ended.expect("its run is lost")["data"]["status"], "worker_lost");
    let told = told(&mut daemon, watcher);
    assert!(told.contains(&json!("worker_left")) && told.contains(&json!("agent_unavailable")), "{told:?}");
}

#[test]
fn a_run_whose_started_was_not_durable_goes_back_when_its_worker_returns() {
    let mut daemon = Daemon::new(|_| {});
    let (worker, user) = (daemon.worker(&hello(&json!([]))), daemon.user("alice"));
    daemon.ask(user);
    daemon.is_slow = true;
    let run = daemon.start(worker);
    daemon.feed(Input::Closed { conn: worker });
    let worker = daemon.worker(&hello(&json!([{"run": run, "attempt": 1, "n": 0}])));
    daemon.commit();
    let heard = daemon.heard(worker);
    assert_eq!(heard[0]["runs"][0]["state"], "gone", "{heard:?}");
    daemon.pass(Span::secs(1));
    daemon.commit();
    let offered = heard.into_iter().chain(daemon.heard(worker)).find(|said| said["type"] == "run");
    let offered = offered.expect("it is offered anew");
    assert_eq!((&offered["run"], offered["attempt"].as_u64() > Some(1)), (&run, true));
}

/// What they have said meanwhile lies unread in their sockets.
#[test]
fn a_daemon_that_stood_still_takes_nobody_for_dead() {
    let mut daemon = Daemon::new(|_| {});
    let (worker, user) = (daemon.worker(&hello(&json!([]))), daemon.user("alice"));
    daemon.ask(user);
    daemon.start(worker);
    daemon.stand_still(Span::secs(60));
    assert_eq!((daemon.closed(worker), daemon.closed(user)), (None, None));
    daemon.says(worker, &json!({"type": "beat"}));
    daemon.pass(Span::secs(14));
    assert_eq!(daemon.closed(worker), None);
    daemon.pass(Span::secs(30));
    assert_eq!(daemon.closed(worker).map(|code| code as u16), Some(4404));
    assert_eq!(daemon.closed(user).map(|code| code as u16), Some(4404));
}

#[test]
fn an_offer_that_was_answered_while_the_daemon_stood_still_is_taken() {
    let mut daemon = Daemon::new(|_| {});
    let (worker, user) = (daemon.worker(&hello(&json!([]))), daemon.user("alice"));
    daemon.ask(user);
    daemon.stand_still(Span::secs(6));
    let run = daemon.start(worker);
    assert_eq!(daemon.heard(worker).last().expect("it is answered")["type"], "ack", "{run}");
}

#[test]
fn operators_are_told_of_a_worker_that_is_silent_and_comes_back() {
    let mut daemon = Daemon::new(|_| {});
    let watch = json!({"type": "hello", "ack": false, "topics": ["agents"]});
    let watcher = daemon.connect("/ws", "root", "user operate", &watch);
    let (worker, user) = (daemon.worker(&hello(&json!([]))), daemon.user("alice"));
    daemon.ask(user);
    let run = daemon.start(worker);
    told(&mut daemon, watcher);
    daemon.feed(Input::Closed { conn: worker });
    assert_eq!(told(&mut daemon, watcher), ["worker_silent", "agent_unavailable"]);
    daemon.worker(&hello(&json!([{"run": run, "attempt": 1, "n": 0}])));
    assert_eq!(told(&mut daemon, watcher), ["worker_joined", "agent_available"]);
}

fn event(run: &Value, n: u64) -> Value {
    json!({"type": "event", "run": run, "attempt": 1, "n": n, "event": "custom", "data": {"name": "x"}})
}

/// What it was told on the connection before it may not have heard.
#[test]
fn a_number_that_is_missing_is_told_on_each_connection() {
    let mut daemon = Daemon::new(|_| {});
    let (worker, user) = (daemon.worker(&hello(&json!([]))), daemon.user("alice"));
    daemon.ask(user);
    let run = daemon.start(worker);
    daemon.says(worker, &event(&run, 1));
    daemon.says(worker, &event(&run, 3));
    daemon.feed(Input::Closed { conn: worker });
    let worker = daemon.worker(&hello(&json!([{"run": run, "attempt": 1, "n": 1}])));
    daemon.heard(worker);
    for (n, told) in [(3, vec![json!(2)]), (4, vec![])] {
        daemon.says(worker, &event(&run, n));
        let gaps = daemon.heard(worker).into_iter().filter(|said| said["code"] == "gap");
        assert_eq!(gaps.map(|said| said["expected"].clone()).collect::<Vec<_>>(), told, "after {n}");
    }
}

#[test]
fn commands_are_said_when_they_are_durable_and_again_until_they_are_confirmed() {
    let mut daemon = Daemon::new(|_| {});
    let (worker, user) = (daemon.worker(&hello(&json!([]))), daemon.user("alice"));
    daemon.ask(user);
    let run = daemon.start(worker);
    daemon.feed(Input::Closed { conn: worker });
    daemon.is_slow = true;
    let back = hello(&json!([{"run": run, "attempt": 1, "n": 0}]));
    let worker = daemon.worker(&back);
    for data in 1..=3 {
        daemon.says(user, &json!({"type": "input", "run": run, "data": data}));
    }
    let inputs = |daemon: &mut Daemon, worker: ConnId| {
        let inputs = daemon.heard(worker).into_iter().filter(|said| said["type"] == "input");
        inputs.map(|said| said["i"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    daemon.commit_one();
    assert_eq!(inputs(&mut daemon, worker), [0; 0], "they are not durable");
    daemon.commit();
    assert_eq!(inputs(&mut daemon, worker), [1, 2, 3]);
    daemon.is_slow = false;
    daemon.says(worker, &json!({"type": "got", "run": run, "attempt": 1, "i": 2}));
    let worker = daemon.worker(&back);
    assert_eq!(inputs(&mut daemon, worker), [3], "the first two are confirmed by one word");
}

/// It does not execute the one that it has, and nobody else would.
#[test]
fn a_run_of_which_its_worker_names_another_attempt_alone_is_lost_at_once() {
    for (attempts, is_lost) in [(&[1][..], false), (&[7], true), (&[7, 1], false)] {
        let mut daemon = Daemon::new(|_| {});
        let (worker, user) = (daemon.worker(&hello(&json!([]))), daemon.user("alice"));
        daemon.ask(user);
        let run = daemon.start(worker);
        let named: Vec<Value> =
            attempts.iter().map(|attempt| json!({"run": run, "attempt": attempt})).collect();
        let worker = daemon.worker(&hello(&json!(named)));
        let states = daemon.heard(worker).remove(0)["runs"].clone();
        for (named, attempt) in states.as_array().expect("each is answered").iter().zip(attempts) {
            assert_eq!(named["state"], if *attempt == 1 { "continue" } else { "gone" });
        }
        let ended = daemon.heard(user).into_iter().find(|said| said["event"] == "agent_completed");
        let status = ended.map(|ended| ended["data"]["status"].clone());
        assert_eq!(status, is_lost.then(|| json!("worker_lost")), "{attempts:?}");
    }
}
