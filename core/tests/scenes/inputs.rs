//! What a user sends with a run and to one (PROTOCOL §5): the key of an `input` stands for it, and metadata
//! for nothing of the daemon's.

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
use runcast_core::input::{Input, Message};
use runcast_core::time::Span;
use serde_json::{Value, json};

#[test]
fn an_input_that_is_sent_again_reaches_its_agent_once() {
    let mut daemon = Daemon::new(|_| {});
    let (worker, user, run) = daemon.running();
    daemon.heard(user);
    let mut say = |data: Value| {
        daemon.says(user, &json!({"type": "input", "run": run, "key": "k", "data": data}));
        let is_answer = |said: &Value| matches!(said["type"].as_str(), Some("ok" | "error"));
        daemon.heard(user).into_iter().find(is_answer).expect("it is answered")
    };
    assert_eq!(say(json!("left"))["type"], "ok");
    assert_eq!(say(json!("left"))["type"], "ok");
    assert_eq!(say(json!("right"))["code"], "key_reused");
    let inputs = daemon.heard(worker).into_iter().filter(|said| said["type"] == "input");
    assert_eq!(inputs.map(|said| said["data"].clone()).collect::<Vec<_>>(), [json!("left")]);
}

#[test]
fn the_last_event_that_a_run_may_have_can_be_a_question_that_is_answered() {
    let mut daemon = Daemon::new(|config| config.store.events_per_run = 8);
    let (worker, user, run) = daemon.running();
    let mut event = |n: u64, event: &str, data: &Value| {
        let event = json!({"type": "event", "run": run, "attempt": 1, "n": n, "event": event, "data": data});
        daemon.says(worker, &event);
    };
    // Two are the daemon's.
    (1..=5).for_each(|n| event(n, "custom", &json!({"name": "x", "value": n})));
    event(6, "input_required", &json!({"request": "q", "prompt": "Which?"}));
    event(7, "custom", &json!({"name": "x", "value": 7}));
    let refused =
        daemon.heard(worker).into_iter().find(|said| said["type"] == "error").expect("it was the last");
    assert_eq!((&refused["n"], &refused["code"]), (&json!(7), &json!("bad_event")));

    let mut say = |input: &Value| {
        daemon.heard(user);
        let mut message = json!({"type": "input", "run": run});
        message.as_object_mut().expect("fields").extend(input.as_object().expect("fields").clone());
        daemon.says(user, &message);
        let is_answer = |said: &Value| matches!(said["type"].as_str(), Some("ok" | "error"));
        daemon.heard(user).into_iter().find(is_answer).expect("it is answered")
    };
    let refused = say(&json!({"data": "faster"}));
    assert_eq!(refused["code"], "input_not_awaited", "it will never be taken: {refused}");
    assert_eq!(say(&json!({"request": "q", "data": "left"}))["type"], "ok");
    let taken = daemon.heard(worker).into_iter().find(|said| said["type"] == "input").expect("it is told");
    assert_eq!((&taken["request"], &taken["data"]), (&json!("q"), &json!("left")));
}

#[test]
fn a_worker_that_confirms_nothing_is_told_no_more_and_more() {
    let mut daemon = Daemon::new(|_| {});
    let (worker, _, run) = daemon.running();
    let mut told = 0;
    // Each question expires at once, and that is a command.
    for n in 1..=100 {
        let data = json!({"request": format!("q{n}"), "prompt": "Which?", "expires_ms": 0});
        let question = json!({"type": "event", "run": run, "attempt": 1, "n": n, "event": "input_required",
            "data": data});
        daemon.says(worker, &question);
        daemon.pass(Span::millis(1));
        daemon.core.assert_invariants();
        let heard = daemon.heard(worker);
        told += heard.iter().filter(|said| said["type"] == "input").count();
        let refused = heard.iter().find(|said| said["type"] == "error");
        assert_eq!(refused.is_some(), n > 32, "{n}: {heard:?}");
        assert!(refused.is_none_or(|refused| refused["code"] == "bad_event"), "{refused:?}");
    }
    assert_eq!(told, 32);
    daemon.says(worker, &json!({"type": "got", "run": run, "attempt": 1, "i": 1}));
    let data = json!({"request": "again", "prompt": "Which?"});
    let question =
        json!({"type": "event", "run": run, "attempt": 1, "n": 101, "event": "input_required", "data": data});
    daemon.says(worker, &question);
    assert!(daemon.heard(worker).iter().all(|said| said["type"] == "ack"), "there is room for one more");
}

#[test]
fn metadata_cannot_pass_for_what_the_daemon_says() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    daemon.heard(user);
    for name in ["user", "run", "thread", "agent", "runcast"] {
        daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1, "meta": {name: "x"}}));
        assert_eq!(daemon.heard(user)[0]["code"], "bad_message", "{name}");
    }
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1, "meta": {"ticket": 7}}));
    assert_eq!(daemon.heard(user)[0]["type"], "accepted");
}

/// How a run with this input is answered. It is sent as it stands.
fn answer(daemon: &mut Daemon, user: ConnId, input: &str) -> Value {
    daemon.heard(user);
    let text = format!(r#"{{"type":"run","agent":"echo","priority":"normal","input":{input}}}"#);
    daemon.feed(Input::Message { conn: user, message: Message::Text(&text) });
    let answer = daemon.heard(user).remove(0);
    answer.get("code").unwrap_or(&answer["type"]).clone()
}

#[test]
fn a_payload_may_have_brackets_and_escapes_in_its_words_and_64_levels() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let words = format!(r#""a quote \" and a smile \ud83d\ude00 {}""#, "[".repeat(100));
    for fine in [words, nested(64), format!("[{}[]]", "[],".repeat(100))] {
        assert_eq!(answer(&mut daemon, user, &fine), "accepted", "{fine}");
    }
    for bad in [nested(65), r#""\ud83d alone""#.to_owned(), r#""\ude00""#.to_owned()] {
        assert_eq!(answer(&mut daemon, user, &bad), "bad_message", "{bad}");
    }
}

#[test]
fn an_offer_has_what_its_run_was_asked_for_with() {
    for meta in [None, Some(json!({"from": "mail"}))] {
        let mut daemon = Daemon::new(|_| {});
        let user = daemon.user("alice");
        let mut ask = json!({"type": "run", "thread": "t", "agent": "echo", "input": {"q": 1.50}});
        meta.iter().for_each(|meta| ask["meta"] = meta.clone());
        daemon.says(user, &ask);
        let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": [{"agent": "echo"}]}));
        let offer = daemon.heard(worker).into_iter().find(|said| said["type"] == "run");
        let offer = offer.expect("it is offered");
        let mut expected = json!({
            "type": "run", "run": offer["run"], "attempt": 1, "thread": "t", "user": "alice", "agent": "echo",
            "input": {"q": 1.50}, "timeout_ms": 30_000
        });
        meta.into_iter().for_each(|meta| expected["meta"] = meta);
        assert_eq!(offer, expected);
    }
}

#[test]
fn nobody_has_longer_than_a_week_to_answer() {
    const DAY: u64 = 24 * 3_600_000;
    let mut daemon = Daemon::new(|config| {
        config.runs.lease = Span::secs(3_000_000);
        config.server.heartbeat = Span::secs(3_000_000);
        config.store.keep = Span::secs(3_000_000);
    });
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let user = daemon.connect("/ws", "alice", "user", &json!({"type": "hello", "ack": false}));
    daemon.ask(user);
    let run = daemon.start(worker);
    let times = [json!({"expires_ms": 30 * DAY}), json!({}), json!({"expires_ms": 2 * DAY})];
    for (n, mut data) in times.into_iter().enumerate() {
        (data["request"], data["prompt"]) = (json!(format!("r-{n}")), json!("?"));
        let (n, event) = (n + 1, "input_required");
        let event = json!({"type": "event", "run": run, "attempt": 1, "n": n, "event": event, "data": data});
        daemon.says(worker, &event);
    }
    let closed = |daemon: &mut Daemon| {
        let heard = daemon.heard(user).into_iter().filter(|said| said["event"] == "input_received");
        heard.map(|said| said["data"]["request"].clone()).collect::<Vec<_>>()
    };
    for (days, expected) in [(1, json!(["r-1"])), (1, json!(["r-2"])), (4, json!([])), (1, json!(["r-0"]))] {
        daemon.pass(Span::millis(days * DAY));
        assert_eq!(json!(closed(&mut daemon)), expected);
    }
}

/// Whoever interrupts asks for the places of what is interrupted.
#[test]
fn a_run_that_takes_the_places_of_others_needs_none_besides() {
    for (of_user, of_all) in [(2, 100), (100, 2)] {
        let mut daemon = Daemon::new(|config| {
            (config.runs.queued_per_user, config.runs.queued) = (of_user, of_all);
        });
        let user = daemon.user("alice");
        let mut ask = |thread: &str, on_busy: &str| {
            daemon.heard(user);
            let ask =
                json!({"type": "run", "thread": thread, "agent": "echo", "input": 1, "on_busy": on_busy});
            daemon.says(user, &ask);
            let answer = daemon.heard(user).into_iter().find(|said| said["type"] != "event");
            let answer = answer.expect("it is answered");
            answer.get("code").unwrap_or(&answer["type"]).clone()
        };
        let is_full = if of_user < of_all { "user_queue_full" } else { "queue_full" };
        assert_eq!([ask("t", "enqueue"), ask("t", "enqueue")], ["accepted", "accepted"]);
        assert_eq!([ask("t", "enqueue"), ask("other", "interrupt")], [is_full, is_full]);
        assert_eq!(ask("t", "interrupt"), "accepted");
        assert_eq!([ask("t", "enqueue"), ask("t", "enqueue")], ["accepted", is_full]);
    }
}

/// An attempt that follows one that was lost asks anew. What its user has said is not said twice.
#[test]
fn the_key_of_an_input_counts_for_all_attempts_and_an_answer_for_its_own() {
    let mut daemon = Daemon::new(|_| {});
    let agents = json!([{"agent": "echo", "slots": 1, "retryable": true}]);
    let hello = json!({"type": "hello", "worker": "w", "agents": agents});
    let (worker, user) = (daemon.worker(&hello), daemon.user("alice"));
    daemon.ask(user);
    let run = daemon.start(worker);
    let question = |attempt: &Value| {
        json!({"type": "event", "run": run, "attempt": attempt, "n": 1, "event": "input_required",
               "data": {"request": "r", "prompt": "?"}})
    };
    let answer = |daemon: &mut Daemon, key: &str| {
        daemon.heard(user);
        let input = json!({"type": "input", "run": run, "request": "r", "key": key, "data": 1});
        daemon.says(user, &input);
        let is_answer = |said: &Value| matches!(said["type"].as_str(), Some("ok" | "error"));
        let answer = daemon.heard(user).into_iter().find(is_answer).expect("it is answered");
        answer.get("code").unwrap_or(&answer["type"]).clone()
    };
    daemon.says(worker, &question(&json!(1)));
    assert_eq!(answer(&mut daemon, "a"), "ok");
    assert_eq!(answer(&mut daemon, "b"), "input_already_given");
    daemon.worker(&hello);
    daemon.pass(Span::secs(1));
    let worker = daemon.worker(&hello);
    daemon.pass(Span::secs(1));
    let heard = daemon.heard(worker);
    let attempt = heard.iter().find(|said| said["type"] == "run").expect("it is offered")["attempt"].clone();
    daemon.says(worker, &json!({"type": "started", "run": run, "attempt": attempt}));
    daemon.says(worker, &question(&attempt));
    daemon.heard(worker);
    assert_eq!(answer(&mut daemon, "a"), "ok", "it was said to the attempt before");
    assert!(daemon.heard(worker).iter().all(|said| said["type"] != "input"));
    assert_eq!(answer(&mut daemon, "c"), "ok");
    assert_eq!(daemon.heard(worker).iter().filter(|said| said["type"] == "input").count(), 1);
}

#[test]
fn a_run_that_another_takes_the_place_of_says_so_at_its_end() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    let mut ask = json!({"type": "run", "thread": "t", "agent": "echo", "input": 1});
    daemon.says(user, &ask);
    ask["on_busy"] = json!("interrupt");
    daemon.says(user, &ask);
    let heard = daemon.heard(user);
    let ended = heard.iter().find(|said| said["event"] == "agent_completed").expect("the first has ended");
    assert_eq!(
        (&ended["data"]["status"], &ended["data"]["reason"]),
        (&json!("cancelled"), &json!("interrupt"))
    );
    assert_eq!(heard.iter().filter(|said| said["type"] == "accepted").count(), 2);
}

/// The answer to the first may have been lost with its connection.
#[test]
fn an_input_that_is_sent_again_after_the_end_of_its_run_was_taken() {
    let mut daemon = Daemon::new(|_| {});
    let (worker, user, run) = daemon.running();
    let say = |daemon: &mut Daemon, user: ConnId, key: &str, data: &str| {
        daemon.heard(user);
        daemon.says(user, &json!({"type": "input", "run": run, "key": key, "data": data}));
        let is_answer = |said: &Value| matches!(said["type"].as_str(), Some("ok" | "error"));
        let answer = daemon.heard(user).into_iter().find(is_answer).expect("it is answered");
        answer.get("code").unwrap_or(&answer["type"]).clone()
    };
    assert_eq!(say(&mut daemon, user, "k", "left"), "ok");
    daemon.says(worker, &json!({"type": "complete", "run": run, "attempt": 1, "n": 1, "status": "ok"}));
    for is_restarted in [false, true] {
        if is_restarted {
            daemon.restart();
        }
        let user = daemon.user("alice");
        let answers = [("k", "left"), ("k", "right"), ("l", "left")];
        let answers = answers.map(|(key, data)| say(&mut daemon, user, key, data));
        assert_eq!(answers, ["ok", "key_reused", "input_not_awaited"], "{is_restarted}");
        let bob = daemon.user("bob");
        assert_eq!(say(&mut daemon, bob, "k", "left"), "run_not_found");
    }
}
