//! The worker against a scripted daemon over a real WebSocket.

use super::{Agent, AgentError, Ask, Out, Output, Workers, spawn};
use crate::scripted::{Peer, Server};
use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

const RUN: &str = "run_t_00000001";

/// Runs what the test wrote.
struct Scripted<F>(F);

impl<F: Fn(&Ask, &mut Out) -> Result<Output, AgentError> + Send + Sync> Agent for Scripted<F> {
    fn name(&self) -> &str {
        "a"
    }
    fn slots(&self) -> usize {
        2
    }
    fn run(&self, ask: &Ask, out: &mut Out) -> Result<Output, AgentError> {
        (self.0)(ask, out)
    }
}

fn workers<F>(server: &Server, agent: F) -> Workers
where
    F: Fn(&Ask, &mut Out) -> Result<Output, AgentError> + Send + Sync + 'static,
{
    spawn(server.url(), || "secret".into(), vec![Box::new(Scripted(agent))], "w-1".into()).unwrap()
}

fn welcome(window: u64, runs: Value) -> Value {
    json!({"type": "welcome", "worker": "w-1", "lease_ms": 60_000, "publish_window": window,
        "message_bytes": 1_048_576, "runs": runs})
}

fn offer(attempt: u64) -> Value {
    json!({"type": "run", "run": RUN, "attempt": attempt, "thread": "t", "user": "alice", "agent": "a",
        "input": "hi", "meta": {"of": "x"}, "timeout_ms": 30_000})
}

fn ack(n: u64) -> Value {
    json!({"type": "ack", "run": RUN, "attempt": 1, "n": n})
}

/// Accepts a worker and takes it to where its run is started.
fn started(server: &Server, window: u64) -> Peer {
    let mut peer = server.accept();
    let hello = peer.hear();
    assert_eq!(hello["type"], "hello");
    assert_eq!(hello["runs"], json!([]));
    peer.say(&welcome(window, json!([])));
    peer.say(&offer(1));
    assert_eq!(peer.hear(), json!({"type": "started", "run": RUN, "attempt": 1}));
    peer
}

#[test]
fn a_worker_says_who_it_is_and_whom_it_serves() {
    let server = Server::new();
    let workers = workers(&server, |_, _| Ok(Output::default()));
    let mut peer = server.accept();
    assert_eq!(peer.path, "/worker");
    assert_eq!(peer.authorization.as_deref(), Some("Bearer secret"));
    let agents = json!([{"agent": "a", "slots": 2, "retryable": false}]);
    let mut hello = peer.hear();
    let call = hello.as_object_mut().unwrap().remove("call").unwrap();
    assert_eq!(call["n"], 1);
    assert_eq!(hello, json!({"type": "hello", "worker": "w-1", "agents": agents, "runs": []}));
    workers.stop();
    assert_eq!(peer.closed(), Some(1000));
}

#[test]
fn nothing_is_executed_before_the_start_is_acknowledged() {
    let server = Server::new();
    let (begun, seen) = sync_channel(1);
    let _workers = workers(&server, move |ask, _| {
        begun.send(ask.clone()).unwrap();
        Ok(Output::text("done"))
    });
    let mut peer = started(&server, 8);
    // The answer to a ping comes after whatever the worker did on account of the offer.
    peer.ping();
    assert!(seen.try_recv().is_err());
    peer.say(&ack(0));
    let ask = seen.recv().unwrap();
    assert_eq!((ask.user.as_str(), &ask.input, ask.timeout_ms), ("alice", &json!("hi"), Some(30_000)));
    let output = json!({"text": "done"});
    let complete =
        json!({"type": "complete", "run": RUN, "attempt": 1, "n": 1, "status": "ok", "output": output});
    assert_eq!(peer.hear(), complete);
}

#[test]
fn a_second_acknowledgement_of_the_start_executes_nothing() {
    let server = Server::new();
    let _workers = workers(&server, |_, out| {
        out.output("once")?;
        Ok(Output::default())
    });
    let mut peer = started(&server, 8);
    peer.say(&ack(0));
    peer.say(&ack(0));
    assert_eq!(peer.hear()["event"], "agent_output");
    assert_eq!(peer.hear()["type"], "complete");
    peer.ping();
}

#[test]
fn a_tool_is_paired_and_numbered() {
    let server = Server::new();
    let _workers = workers(&server, |_, out| {
        let sum = out.tool("add", json!({"of": [1, 2]}), |_| Ok(3))?;
        let failed = out.tool("add", json!({}), |_| Err::<i32, _>("nothing to add".into()))?;
        assert_eq!((sum, failed), (Ok(3), Err("nothing to add".into())));
        Ok(Output::default())
    });
    let mut peer = started(&server, 8);
    peer.say(&ack(0));
    let heard: Vec<Value> = (0..5).map(|_| peer.hear()).collect();
    assert_eq!(heard[0]["data"], json!({"call": "call_1", "tool": "add", "args": {"of": [1, 2]}}));
    assert_eq!((&heard[1]["data"]["status"], &heard[1]["data"]["result"]), (&json!("ok"), &json!(3)));
    assert!(heard[1]["data"]["duration_ms"].is_u64());
    assert_eq!(heard[3]["data"]["status"], "error");
    assert_eq!(heard[3]["data"]["error"]["message"], "nothing to add");
    assert_eq!(heard.iter().map(|m| m["n"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

#[test]
fn after_a_reconnect_it_sends_what_is_not_durable() {
    let server = Server::new();
    let (go, gate) = gate();
    let _workers = workers(&server, move |_, out| {
        out.output("1")?;
        out.output("2")?;
        gate.lock().unwrap().recv().unwrap();
        out.output("3")?;
        Ok(Output::default())
    });
    let mut peer = started(&server, 8);
    peer.say(&ack(0));
    assert_eq!((peer.hear()["n"].clone(), peer.hear()["n"].clone()), (json!(1), json!(2)));
    drop(peer);
    go.send(()).unwrap();
    let mut peer = server.accept();
    let hello = peer.hear();
    assert_eq!((&hello["runs"][0]["run"], &hello["runs"][0]["attempt"]), (&json!(RUN), &json!(1)));
    peer.say(&welcome(8, json!([{"run": RUN, "attempt": 1, "n": 1, "state": "continue"}])));
    let heard: Vec<Value> = (0..3).map(|_| peer.hear()).collect();
    assert_eq!(heard.iter().map(|m| m["n"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!((&heard[0]["data"]["delta"], &heard[2]["type"]), (&json!("2"), &json!("complete")));
    // Once the end is acknowledged, the run is not named any more.
    peer.say(&ack(4));
    peer.ping();
    drop(peer);
    assert_eq!(server.accept().hear()["runs"], json!([]));
}

#[test]
fn a_start_that_turns_out_durable_is_executed_after_the_reconnect() {
    let server = Server::new();
    let _workers = workers(&server, |_, _| Ok(Output::default()));
    drop(started(&server, 8));
    let mut peer = server.accept();
    assert_eq!(peer.hear()["runs"], json!([{"run": RUN, "attempt": 1, "n": 0}]));
    peer.say(&welcome(8, json!([{"run": RUN, "attempt": 1, "n": 0, "state": "continue"}])));
    assert_eq!(peer.hear()["type"], "complete");
}

#[test]
fn a_run_that_is_gone_stops_and_says_nothing_more() {
    for state in ["gone", "fenced"] {
        let server = Server::new();
        let (ended, end) = sync_channel(1);
        let _workers = workers(&server, move |_, out| {
            let result = (0..).try_for_each(|i| out.output(&i.to_string()));
            ended.send(result.clone()).unwrap();
            result.map(|()| Output::default())
        });
        let mut peer = started(&server, 2);
        peer.say(&ack(0));
        assert_eq!((peer.hear()["n"].clone(), peer.hear()["n"].clone()), (json!(1), json!(2)));
        if state == "gone" {
            drop(peer);
            peer = server.accept();
            assert_eq!(peer.hear()["runs"].as_array().unwrap().len(), 1);
            peer.say(&welcome(2, json!([{"run": RUN, "attempt": 1, "state": "gone"}])));
        } else {
            peer.say(&json!({"type": "error", "of": "event", "code": "fenced", "run": RUN, "attempt": 1}));
        }
        assert_eq!(end.recv().unwrap(), Err(AgentError::Gone));
        peer.ping();
    }
}

#[test]
fn the_window_holds_the_agent_back() {
    let server = Server::new();
    let (said, saying) = sync_channel(100);
    let _workers = workers(&server, move |_, out| {
        for i in 1..=6 {
            out.output(&i.to_string())?;
            said.send(i).unwrap();
        }
        Ok(Output::default())
    });
    let mut peer = started(&server, 2);
    peer.say(&ack(0));
    assert_eq!((peer.hear()["n"].clone(), peer.hear()["n"].clone()), (json!(1), json!(2)));
    assert_eq!((saying.recv(), saying.recv()), (Ok(1), Ok(2)));
    peer.ping();
    assert!(saying.try_recv().is_err(), "the third waits for an acknowledgement");
    for n in 1..=4 {
        peer.say(&ack(n));
        assert_eq!(peer.hear()["n"], n + 2);
    }
    peer.say(&ack(6));
    assert_eq!((peer.hear()["type"].clone()), json!("complete"));
}

#[test]
fn a_cancel_is_confirmed_and_ends_the_run_with_what_it_has() {
    let server = Server::new();
    let _workers = workers(&server, |_, out| {
        out.output("half a sent")?;
        out.tool("wait", json!({}), |call| {
            while call.check().is_ok() {
                std::thread::yield_now();
            }
            call.check()
        })?
        .ok();
        out.output("never said")?;
        Ok(Output::default())
    });
    let mut peer = started(&server, 8);
    peer.say(&ack(0));
    assert_eq!(
        (peer.hear()["event"].clone(), peer.hear()["event"].clone()),
        ("agent_output".into(), "tool_executing".into())
    );
    let cancel = json!({"type": "cancel", "run": RUN, "attempt": 1, "i": 1, "reason": "user"});
    peer.say(&cancel);
    assert_eq!(peer.hear(), json!({"type": "got", "run": RUN, "attempt": 1, "i": 1}));
    assert_eq!(peer.hear()["data"]["status"], "interrupted");
    let complete = peer.hear();
    assert_eq!(
        (&complete["status"], &complete["output"]["text"]),
        (&json!("cancelled"), &json!("half a sent"))
    );
    peer.say(&cancel);
    assert_eq!(peer.hear(), json!({"type": "got", "run": RUN, "attempt": 1, "i": 1}), "a repeated one, too");
}

#[test]
fn a_question_is_answered_by_what_comes_for_it() {
    let server = Server::new();
    let _workers = workers(&server, |_, out| {
        let first = out.ask("Which?", Some(json!({"enum": [1, 2]})))?;
        let second = out.ask("And then?", None)?;
        Ok(Output { output: json!([first, second]), usage: None })
    });
    let mut peer = started(&server, 8);
    peer.say(&ack(0));
    let asked = json!({"request": "question_1", "prompt": "Which?", "schema": {"enum": [1, 2]}});
    assert_eq!(peer.hear()["data"], asked);
    let input = |i: u64, fields: Value| {
        let mut input = json!({"type": "input", "run": RUN, "attempt": 1, "i": i, "data": null});
        input.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        input
    };
    let answers = [
        input(1, json!({"data": "nobody asked"})),
        input(2, json!({"request": "question_1", "data": 2})),
        input(2, json!({"request": "question_1", "data": "said again"})),
    ];
    for (answer, i) in answers.iter().zip([1, 2, 2]) {
        peer.say(answer);
        assert_eq!(peer.hear(), json!({"type": "got", "run": RUN, "attempt": 1, "i": i}));
        if answer["data"] == 2 {
            assert_eq!(peer.hear()["data"], json!({"request": "question_2", "prompt": "And then?"}));
        }
    }
    peer.say(&input(3, json!({"request": "question_2", "expired": true})));
    assert_eq!(peer.hear()["type"], "got");
    assert_eq!(peer.hear()["output"], json!([2, null]));
}

#[test]
fn who_waits_for_an_answer_hears_the_cancel() {
    let server = Server::new();
    let _workers = workers(&server, |_, out| {
        out.ask("Which?", None)?;
        Ok(Output::default())
    });
    let mut peer = started(&server, 8);
    peer.say(&ack(0));
    assert_eq!(peer.hear()["event"], "input_required");
    peer.say(&json!({"type": "cancel", "run": RUN, "attempt": 1, "i": 1, "reason": "user"}));
    assert_eq!(peer.hear()["type"], "got");
    assert_eq!(peer.hear()["status"], "cancelled");
}

#[test]
fn a_gap_is_filled_and_a_full_store_waited_for() {
    for code in ["gap", "storage_unavailable"] {
        let server = Server::new();
        let _workers = workers(&server, |_, out| {
            out.output("1")?;
            out.output("2")?;
            Ok(Output::default())
        });
        let mut peer = started(&server, 8);
        peer.say(&ack(0));
        for n in 1..=3 {
            assert_eq!(peer.hear()["n"], n);
        }
        peer.say(
            &json!({"type": "error", "of": "event", "code": code, "run": RUN, "attempt": 1, "expected": 2,
            "retry_ms": 1}),
        );
        assert_eq!((peer.hear()["n"].clone(), peer.hear()["n"].clone()), (json!(2), json!(3)), "{code}");
    }
}

#[test]
fn a_withdrawn_offer_is_forgotten_and_its_next_attempt_taken() {
    let server = Server::new();
    let _workers = workers(&server, |ask, _| Ok(Output::text(ask.attempt.to_string())));
    let mut peer = started(&server, 8);
    peer.say(&json!({"type": "withdraw", "run": RUN, "attempt": 1}));
    peer.say(&ack(0));
    peer.say(&offer(3));
    assert_eq!(peer.hear(), json!({"type": "started", "run": RUN, "attempt": 3}));
    peer.say(&json!({"type": "ack", "run": RUN, "attempt": 3, "n": 0}));
    assert_eq!(peer.hear()["output"]["text"], "3");
}

#[test]
fn what_it_cannot_execute_it_declines() {
    let server = Server::new();
    let (_go, gate) = gate();
    let _workers = workers(&server, move |_, _| {
        let _stopped = gate.lock().unwrap().recv();
        Ok(Output::default())
    });
    let mut peer = started(&server, 8);
    let mut other = offer(1);
    (other["run"], other["agent"]) = (json!("run_t_00000002"), json!("unknown"));
    peer.say(&other);
    assert_eq!(peer.hear()["type"], "decline");
    other["agent"] = json!("a");
    peer.say(&other);
    assert_eq!(peer.hear()["type"], "started");
    other["run"] = json!("run_t_00000003");
    peer.say(&other);
    assert_eq!(peer.hear()["type"], "decline", "two slots are in use");
}

#[test]
fn an_agent_that_panics_ends_its_run_with_an_error() {
    let server = Server::new();
    let _workers = workers(&server, |_, _| panic!("a fault of the agent, as this test wants it"));
    let mut peer = started(&server, 8);
    peer.say(&ack(0));
    let complete = peer.hear();
    assert_eq!(
        (&complete["status"], &complete["error"]["code"]),
        (&json!("error"), &json!("agent_panicked"))
    );
}

#[test]
fn a_quiet_worker_beats_three_times_a_lease() {
    let server = Server::new();
    let _workers = workers(&server, |_, _| Ok(Output::default()));
    let mut peer = server.accept();
    peer.hear();
    let mut terms = welcome(8, json!([]));
    terms["lease_ms"] = json!(3);
    peer.say(&terms);
    assert_eq!((peer.hear(), peer.hear()), (json!({"type": "beat"}), json!({"type": "beat"})));
}

#[test]
fn a_worker_whose_name_is_taken_stays_away() {
    let server = Server::new();
    let workers = workers(&server, |_, _| Ok(Output::default()));
    let mut peer = server.accept();
    peer.hear();
    peer.close(4510);
    assert!(workers.desk.wait_until_stopped());
}

/// Something for an agent to wait at.
fn gate() -> (SyncSender<()>, Arc<Mutex<Receiver<()>>>) {
    let (go, wait) = sync_channel(1);
    (go, Arc::new(Mutex::new(wait)))
}
