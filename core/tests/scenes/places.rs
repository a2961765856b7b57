//! Where a run stands, as it is told when it is accepted (PROTOCOL §5 `position`, `ahead`): the same as what
//! the notice `queue` and the order of starts say.

use crate::daemon::Daemon;
use runcast_core::config::AgentConfig;
use runcast_core::ids::{Agent, ConnId};
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

#[test]
fn a_run_that_starts_at_once_is_not_told_that_those_who_wait_for_others_are_ahead() {
    let mut daemon = Daemon::new(|config| {
        config.agents.insert(Agent::parse("rare").expect("it is a name"), AgentConfig::default());
    });
    let (alice, bob) = (daemon.user("alice"), daemon.user("bob"));
    let echo = worker(&mut daemon, "echo", 3);
    for n in 1..=2 {
        // Nobody serves that.
        assert_eq!(place(&mut daemon, bob, &json!({"agent": "rare"})).1, n);
    }
    place(&mut daemon, bob, &json!({"thread": "t"}));
    // An earlier run of its thread is at the worker.
    assert_ne!(place(&mut daemon, bob, &json!({"thread": "t"})).1, 0);
    daemon.heard(echo);
    let (run, position) = place(&mut daemon, alice, &json!({}));
    assert!(daemon.heard(echo).iter().any(|said| said["type"] == "run" && said["run"] == *run));
    assert_eq!(position, 0, "it was dispatched at once");
    let (run, position) = place(&mut daemon, bob, &json!({}));
    assert!(daemon.heard(echo).iter().any(|said| said["type"] == "run" && said["run"] == *run));
    assert_eq!(position, 0, "its own that cannot start let it pass too");
    assert_ne!(place(&mut daemon, alice, &json!({})).1, 0, "all slots are taken");
}

#[test]
fn a_slot_is_promised_to_one_run_while_the_disk_is_slow() {
    let mut daemon = Daemon::new(|config| config.runs.active_per_user = 1);
    worker(&mut daemon, "echo", 2);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| daemon.user(name));
    daemon.is_slow = true;
    for (user, key) in [(alice, "a"), (alice, "b"), (bob, "a"), (carol, "a"), (alice, "a")] {
        daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1, "key": key}));
    }
    daemon.commit();
    let of_alice = daemon.heard(alice);
    let again = of_alice.iter().find(|said| said["duplicate"] == true).expect("it is answered");
    let second = of_alice.iter().find(|said| said["key"] == "b").expect("it is accepted");
    assert_eq!(told(&of_alice).1, 0);
    assert_eq!(again["position"], 0, "the same answer as before");
    assert_ne!(second["position"], 0, "a user has one run at once");
    assert_eq!(told(&daemon.heard(bob)).1, 0, "that one of another does not start before");
    assert_ne!(told(&daemon.heard(carol)).1, 0, "both slots are promised");
}

/// The newest notice of where a run stands.
fn notice(daemon: &mut Daemon, user: ConnId, run: &str) -> Value {
    daemon.pass(Span::secs(6));
    let heard = daemon.heard(user);
    let of_run = |said: &&Value| said["notice"] == "queue" && said["run"] == run;
    heard.iter().rfind(of_run).expect("it is told every 5 s").clone()
}

/// The reason that it tells.
fn reason(daemon: &mut Daemon, user: ConnId, run: &str) -> Value {
    notice(daemon, user, run)["reason"].clone()
}

#[test]
fn a_run_waits_for_a_worker_only_where_there_is_none() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    let first = daemon.ask(user);
    assert_eq!(reason(&mut daemon, user, &first), "no_worker");
    let echo = worker(&mut daemon, "echo", 1);
    daemon.start(echo);
    let second = daemon.ask(user);
    assert_eq!(reason(&mut daemon, user, &second), "concurrency", "it is there, and busy");
    daemon.says(echo, &json!({"type": "drain"}));
    assert_eq!(reason(&mut daemon, user, &second), "no_worker", "it takes no more");
}

#[test]
fn a_run_is_told_that_an_earlier_one_of_its_thread_waits_itself() {
    let mut daemon = Daemon::new(|config| {
        config.agents.insert(Agent::parse("rare").expect("it is a name"), AgentConfig::default());
    });
    let user = daemon.user("alice");
    worker(&mut daemon, "echo", 1);
    let (first, _) = place(&mut daemon, user, &json!({"agent": "rare", "thread": "t"}));
    let (second, _) = place(&mut daemon, user, &json!({"thread": "t"}));
    assert_eq!(reason(&mut daemon, user, &first), "no_worker");
    assert_eq!(reason(&mut daemon, user, &second), "thread_order", "its own worker has nothing to do");
}

#[test]
fn whoever_is_next_is_not_told_that_others_are_before_it() {
    let rare = || Agent::parse("rare").expect("it is a name");
    let one_at_once = AgentConfig { active: Some(1), ..AgentConfig::default() };
    let mut daemon = Daemon::new(|config| assert!(config.agents.insert(rare(), one_at_once).is_none()));
    let user = daemon.user("alice");
    let at_rare = worker(&mut daemon, "rare", 2);
    place(&mut daemon, user, &json!({"agent": "rare"}));
    daemon.start(at_rare);
    let (second, _) = place(&mut daemon, user, &json!({"agent": "rare"}));
    let told = notice(&mut daemon, user, &second);
    let message = "You are next. As many runs of this agent as may are running.";
    assert_eq!((&told["reason"], &told["message"]), (&json!("concurrency"), &json!(message)));

    let bob = daemon.user("bob");
    let at_echo = worker(&mut daemon, "echo", 1);
    let run = daemon.ask(bob);
    let offer = daemon.heard(at_echo).pop().expect("it is offered");
    let declined = json!({"type": "decline", "run": run, "attempt": offer["attempt"], "reason": "busy",
        "retry_ms": 60_000});
    daemon.says(at_echo, &declined);
    let told = notice(&mut daemon, bob, &run)["message"].clone();
    let message = told.as_str().expect("it is told in words");
    assert!(message.ends_with("Its workers have not taken it, and are asked again."), "{message}");
}

/// What the configuration says of an agent counts beside the slots of its workers.
#[test]
fn no_more_runs_of_an_agent_are_started_than_it_may_have() {
    let mut daemon = Daemon::new(|config| {
        let agent = Agent::parse("echo").expect("it is a name");
        config.agents.insert(agent, AgentConfig { active: Some(2), ..AgentConfig::default() });
    });
    let echo = worker(&mut daemon, "echo", 8);
    let user = daemon.user("alice");
    let places: Vec<_> = (0..3).map(|_| place(&mut daemon, user, &json!({})).1).collect();
    assert_eq!(places, [0, 0, 1]);
    let offers = daemon.heard(echo).into_iter().filter(|said| said["type"] == "run");
    assert_eq!(offers.count(), 2);
}

#[test]
fn users_keep_their_turns_over_a_start_of_the_daemon() {
    let mut daemon = Daemon::new(|_| {});
    let [zoe, alice] = ["zoe", "alice"].map(|name| daemon.user(name));
    let runs = [daemon.ask(zoe), daemon.ask(alice)];
    daemon.restart();
    for run in runs {
        let echo = daemon.worker(&json!({"type": "hello", "agents": [{"agent": "echo", "slots": 1}]}));
        assert_eq!(daemon.start(echo), run);
    }
}

#[test]
fn of_a_user_no_more_runs_are_queued_than_may_be() {
    let mut daemon = Daemon::new(|config| config.runs.queued_per_user = 2);
    let user = daemon.user("alice");
    let runs = [daemon.ask(user), daemon.ask(user)];
    daemon.heard(user);
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1}));
    assert_eq!(daemon.heard(user)[0]["code"], "user_queue_full");
    daemon.says(user, &json!({"type": "cancel", "run": runs[0]}));
    daemon.ask(user);
}

#[test]
fn a_place_that_changes_often_is_told_once_a_second() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    let runs: Vec<_> = (0..9).map(|_| daemon.ask(user)).collect();
    let (own, before) = runs.split_last().expect("nine");
    daemon.pass(Span::secs(1));
    daemon.heard(user);
    for run in before {
        daemon.says(user, &json!({"type": "cancel", "run": run}));
        daemon.pass(Span::millis(200));
    }
    daemon.pass(Span::millis(600));
    let heard = daemon.heard(user);
    let told = heard.iter().filter(|said| said["notice"] == "queue" && said["run"] == *own);
    assert_eq!((told.count(), noticed(&heard, own)), (3, Some(1)), "{heard:?}");
}
