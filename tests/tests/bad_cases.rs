//! Workers that hang, die, come back too late or say what they may not, and people who ask at the wrong
//! moment: how each ends for whoever watches (PROTOCOL §6).
//!
//! A case is played once as it is, and once more for each of its places marked [`Stage::killed_here`], where
//! the daemon is then killed with SIGKILL and started again. All of them must read the same: the snapshot has
//! what was said to and by the worker, and what both of the user's devices saw in the end.

mod common;

use runcast_tests::{Daemon, Ended, User, Worker};
use serde_json::{Value, json};
use std::{iter, thread};

/// A worker that is silent for so long is dead; also a machine under load must do one thing within it.
const SHORT_LEASE: &str = "runs.lease=2s";
/// No worker is taken for dead, and none is given up.
const LONG_LEASE: &str = "runs.lease=60s";

/// A daemon, a user with two devices, and a worker.
#[derive(Debug)]
struct Stage {
    daemon: Daemon,
    laptop: User,
    phone: User,
    worker: Option<Worker>,
    /// The worker's name, for when it comes again.
    name: &'static str,
    /// The run that the worker has, as it names it in `hello.runs`.
    run: Value,
    lines: Vec<String>,
    /// At which mark the daemon is killed.
    kill_at: Option<usize>,
    marks: usize,
}

impl Stage {
    fn new(settings: &[&str], kill_at: Option<usize>) -> Self {
        let daemon = Daemon::start(settings);
        let door = daemon.door();
        let device = |name| User::connected("alice", name, &door);
        let (laptop, phone) = (device("laptop"), device("phone"));
        let worker = Some(Worker::named(&door, "w-1", 1, &json!([])).expect("a welcome"));
        let (run, lines) = (json!(null), Vec::new());
        Self { daemon, laptop, phone, worker, name: "w-1", run, lines, kill_at, marks: 0 }
    }

    /// The daemon may be killed here. Devices and a worker that lives come back; true if that was.
    fn killed_here(&mut self) -> bool {
        self.marks += 1;
        if self.kill_at != Some(self.marks - 1) {
            return false;
        }
        self.daemon.kill();
        self.daemon.restart();
        self.laptop.connect().expect("a welcome");
        self.phone.connect().expect("a welcome");
        if self.worker.take().is_some() {
            let known = self.comes(self.name);
            let is_ended = self.laptop.events().last().is_some_and(|it| it["event"] == "agent_completed");
            let state = if is_ended { "ended" } else { "continue" };
            assert_eq!(known[0]["state"], state, "{known}");
            assert!(is_ended || known[0]["n"] == self.run["n"], "what was acknowledged is durable: {known}");
        }
        true
    }

    /// A worker comes, naming the run that it has; returns what the daemon says of that.
    fn comes(&mut self, name: &'static str) -> Value {
        let runs: Vec<&Value> = Some(&self.run).filter(|run| run.is_object()).into_iter().collect();
        let worker = Worker::named(&self.daemon.door(), name, 1, &json!(runs)).expect("a welcome");
        let known = worker.welcome["runs"].clone();
        (self.worker, self.name) = (Some(worker), name);
        known
    }

    fn worker(&mut self) -> &mut Worker {
        self.worker.as_mut().expect("the worker lives")
    }

    /// The laptop asks for a run, and the worker takes it.
    fn taken(&mut self) {
        self.laptop.run("key_1", "thread_1", &json!("go"));
        self.takes();
    }

    /// The worker takes the next run.
    fn takes(&mut self) {
        let offer = self.worker().take();
        self.run = json!({ "run": offer["run"], "attempt": offer["attempt"], "n": 0 });
    }

    /// The worker says something of its run.
    fn says(&mut self, kind: &str, fields: &Value) {
        let run = self.run.clone();
        self.says_of(&run, kind, fields);
    }

    /// A worker says something of a run.
    fn says_of(&mut self, of: &Value, kind: &str, fields: &Value) {
        let mut message = json!({ "type": kind, "run": of["run"], "attempt": of["attempt"] });
        let more = fields.as_object().expect("an object").clone();
        message.as_object_mut().expect("an object").extend(more);
        self.lines.push(format!("worker → {message}"));
        self.worker().say(&message);
    }

    /// The worker says an event or the end of its run, and that is durable.
    fn done(&mut self, n: u64, kind: &str, fields: &Value) {
        let mut fields = fields.clone();
        fields["n"] = json!(n);
        self.says(kind, &fields);
        while self.run["n"] != json!(n) {
            let ack = self.worker().hear_type("ack");
            assert_eq!(ack["run"], self.run["run"], "{ack}");
            self.run["n"] = ack["n"].clone();
        }
    }

    /// The worker opens its one tool, as its first message.
    fn opens_a_tool(&mut self) {
        let data = json!({ "call": "call_1", "tool": "search", "args": {} });
        self.done(1, "event", &json!({ "event": "tool_executing", "data": data }));
    }

    /// One of the devices says something, and is answered by a message of a type.
    fn asks(&mut self, device: &str, message: &Value, answer: &str) -> Value {
        let user = if device == "phone" { &mut self.phone } else { &mut self.laptop };
        user.say(message);
        let answer = user.socket().hear_type(answer).expect("an answer");
        self.lines.extend([format!("{device} → {message}"), format!("{device} ← {answer}")]);
        answer
    }

    /// The worker hears a message of a type.
    fn hears(&mut self, kind: &str) -> Value {
        let message = self.worker().hear_type(kind);
        self.lines.push(format!("worker ← {message}"));
        message
    }

    /// The worker hears that something is refused.
    fn refused(&mut self, code: &str) {
        let error = self.hears("error");
        assert_eq!(error["code"], code, "{error}");
    }

    /// What both devices saw, to the end of the run; then the whole transcript.
    fn transcript(&mut self) -> String {
        for device in [&mut self.laptop, &mut self.phone] {
            let is_over = |user: &User| user.events().iter().any(|it| it["event"] == "agent_completed");
            while !is_over(device) {
                device.hear().expect("the connection lasts");
            }
        }
        assert_eq!(self.laptop.events(), self.phone.events(), "both devices saw the same");
        let seen = self.laptop.events().iter().map(|event| format!("both ← {event}"));
        self.lines.iter().cloned().chain(seen).collect::<Vec<_>>().join("\n")
    }
}

/// Plays a case as it is, and with the daemon killed at each of its `marks`, all at the same time.
fn play(settings: &[&str], marks: usize, case: impl Fn(&mut Stage) + Sync) -> Vec<String> {
    let played = |kill_at| {
        let mut stage = Stage::new(settings, kill_at);
        case(&mut stage);
        assert_eq!(stage.marks, marks, "the marks of the case");
        stage.transcript()
    };
    thread::scope(|scope| {
        let kills = iter::once(None).chain((0..marks).map(Some));
        let plays: Vec<_> = kills.map(|kill_at| scope.spawn(move || played(kill_at))).collect();
        plays.into_iter().map(|play| play.join().expect("the case is played")).collect()
    })
}

macro_rules! compare {
    ($name:literal, $transcripts:expr) => {
        for transcript in $transcripts {
            common::settings().bind(|| insta::assert_snapshot!($name, transcript));
        }
    };
}

#[test]
fn a_worker_hangs_with_an_open_tool_until_the_time_is_up() {
    let settings = [LONG_LEASE, "runs.timeout=2s", "runs.cancel_grace=300ms"];
    let transcripts = play(&settings, 2, |stage| {
        stage.taken();
        stage.opens_a_tool();
        stage.killed_here();
        stage.hears("cancel");
        // After a restart it is said again: it was not confirmed.
        if stage.killed_here() {
            stage.worker().hear_type("cancel");
        }
        stage.laptop.until("agent_completed");
        stage.says("event", &json!({ "n": 2, "event": "agent_output", "data": { "delta": "late" } }));
        stage.refused("fenced");
    });
    compare!("hangs until the time is up", transcripts);
}

#[test]
fn a_worker_hangs_with_an_open_tool_and_without_a_sign_of_life() {
    let transcripts = play(&[SHORT_LEASE], 2, |stage| {
        stage.taken();
        stage.opens_a_tool();
        let mut hung = stage.worker.take().expect("it was there");
        let was_killed = stage.killed_here();
        let end = hung.end_of_connection();
        assert_eq!(end, Ended(if was_killed { None } else { Some(4404) }));
        stage.killed_here();
    });
    compare!("hangs without a sign of life", transcripts);
}

#[test]
fn a_worker_dies_between_the_start_and_the_end_of_a_tool_and_comes_back_after_its_lease() {
    let transcripts = play(&[SHORT_LEASE], 2, |stage| {
        stage.taken();
        stage.opens_a_tool();
        stage.worker = None;
        stage.killed_here();
        stage.laptop.until("agent_completed");
        stage.killed_here();
        let known = stage.comes("w-1");
        assert_eq!(known[0]["state"], "gone", "{known}");
        stage.says("event", &tool_ends(2));
        stage.refused("fenced");
        stage.says("complete", &json!({ "n": 3, "status": "ok" }));
        stage.refused("fenced");
    });
    compare!("dies in a tool and comes back after its lease", transcripts);
}

fn tool_ends(n: u64) -> Value {
    json!({ "n": n, "event": "tool_completed", "data": { "call": "call_1", "status": "ok", "result": 1 } })
}

#[test]
fn a_worker_dies_and_comes_back_when_another_has_its_run() {
    let transcripts = play(&[SHORT_LEASE, "agents.research.retryable=true"], 3, |stage| {
        stage.taken();
        stage.opens_a_tool();
        let old = stage.run.take();
        stage.worker = None;
        stage.killed_here();
        stage.laptop.until("run_retrying");
        stage.comes("w-2");
        stage.takes();
        // A call may be named as in the attempt before.
        stage.opens_a_tool();
        stage.killed_here();
        let present = (stage.worker.take(), stage.run.take());
        stage.run = old.clone();
        let known = stage.comes("w-1");
        assert_eq!(known[0]["state"], "gone", "{known}");
        stage.says("event", &tool_ends(2));
        stage.refused("fenced");
        stage.says("complete", &json!({ "n": 3, "status": "ok", "output": "old" }));
        stage.refused("fenced");
        (stage.worker, stage.run) = present;
        stage.name = "w-2";
        stage.killed_here();
        stage.done(2, "event", &tool_ends(2));
        stage.done(3, "complete", &json!({ "status": "ok", "output": "new" }));
    });
    compare!("dies and comes back when another has its run", transcripts);
}

#[test]
fn a_worker_completes_twice_and_says_more() {
    let transcripts = play(&[LONG_LEASE], 1, |stage| {
        stage.taken();
        stage.done(1, "complete", &json!({ "status": "ok", "output": "first" }));
        stage.laptop.until("agent_completed");
        stage.killed_here();
        stage.says("complete", &json!({ "n": 1, "status": "ok", "output": "first" }));
        stage.refused("fenced");
        stage.says("complete", &json!({ "n": 2, "status": "error", "output": "second" }));
        stage.refused("fenced");
        stage.says("event", &json!({ "n": 3, "event": "agent_output", "data": { "delta": "more" } }));
        stage.refused("fenced");
    });
    compare!("completes twice and says more", transcripts);
}

#[test]
fn a_worker_says_its_ends_and_more_in_one_breath() {
    let mut stage = Stage::new(&[LONG_LEASE], None);
    stage.taken();
    stage.says("complete", &json!({ "n": 1, "status": "ok", "output": "first" }));
    stage.says("complete", &json!({ "n": 2, "status": "error", "output": "second" }));
    stage.says("event", &json!({ "n": 3, "event": "agent_output", "data": { "delta": "more" } }));
    for of in ["complete", "event"] {
        let error = stage.hears("error");
        assert_eq!(error["of"], of, "{error}");
        // Which of them depends on whether the first end was durable when it came.
        assert!(error["code"] == "bad_event" || error["code"] == "fenced", "{error}");
    }
    stage.transcript();
    let end = stage.laptop.events().last().expect("events");
    assert_eq!((&end["event"], &end["data"]["output"]), (&json!("agent_completed"), &json!("first")));
}

#[test]
fn a_worker_ends_a_tool_that_it_did_not_begin() {
    let transcripts = play(&[LONG_LEASE], 3, |stage| {
        stage.taken();
        stage.done(1, "event", &tool_ends(1));
        stage.refused("bad_event");
        stage.killed_here();
        let data = json!({ "call": "call_1", "tool": "search", "args": {} });
        stage.done(2, "event", &json!({ "event": "tool_executing", "data": data }));
        stage.killed_here();
        stage.done(3, "event", &tool_ends(3));
        stage.done(4, "event", &tool_ends(4));
        stage.refused("bad_event");
        stage.killed_here();
        stage.done(5, "complete", &json!({ "status": "ok" }));
    });
    compare!("ends a tool that it did not begin", transcripts);
}

#[test]
fn a_cancel_crosses_the_end() {
    let transcripts = play(&[LONG_LEASE], 2, |stage| {
        stage.taken();
        stage.opens_a_tool();
        stage.done(2, "event", &tool_ends(2));
        let run = stage.run["run"].clone();
        let answer = stage.asks("phone", &json!({ "type": "cancel", "run": run }), "ok");
        assert_eq!(answer["state"], "cancelling", "{answer}");
        stage.killed_here();
        // The worker had said so before it hears of the cancel.
        stage.done(3, "complete", &json!({ "status": "ok", "output": "done" }));
        stage.laptop.until("agent_completed");
        stage.killed_here();
        let answer = stage.asks("phone", &json!({ "type": "cancel", "run": run }), "ok");
        assert_eq!(answer["state"], "ended", "{answer}");
    });
    compare!("a cancel crosses the end", transcripts);
}

#[test]
fn two_devices_answer_one_question() {
    let transcripts = play(&[LONG_LEASE], 3, |stage| {
        stage.taken();
        let data = json!({ "request": "which", "prompt": "Which?", "schema": { "enum": [1, 2] } });
        stage.done(1, "event", &json!({ "event": "input_required", "data": data }));
        stage.laptop.until("input_required");
        stage.phone.until("input_required");
        stage.killed_here();
        let answer = |run: &Value, data: u64| json!({ "type": "input", "run": run["run"], "request": "which", "data": data });
        stage.asks("laptop", &answer(&stage.run.clone(), 1), "ok");
        stage.killed_here();
        let told = stage.asks("phone", &answer(&stage.run.clone(), 2), "error");
        assert_eq!(told["code"], "input_already_given", "{told}");
        let input = stage.hears("input");
        // After a restart it is said again, until it is confirmed.
        if stage.killed_here() {
            assert_eq!(stage.worker().hear_type("input"), input);
        }
        stage.says("got", &json!({ "i": input["i"] }));
        stage.done(2, "complete", &json!({ "status": "ok", "output": input["data"] }));
    });
    compare!("two devices answer one question", transcripts);
}

/// The answer to a request of a device that has just asked.
fn answer(device: &mut User) -> Value {
    loop {
        let message = device.hear().expect("the connection lasts");
        if message["type"] == "ok" || message["type"] == "error" {
            return message;
        }
    }
}

#[test]
fn two_devices_answer_at_the_same_time() {
    let mut stage = Stage::new(&[LONG_LEASE], None);
    stage.taken();
    for number in 0..10 {
        let request = format!("question_{number}");
        let data = json!({ "request": request, "prompt": "Which?" });
        stage.done(number + 1, "event", &json!({ "event": "input_required", "data": data }));
        let run = stage.run["run"].clone();
        let input = |data| json!({ "type": "input", "run": run, "request": request, "data": data });
        stage.laptop.say(&input("laptop"));
        stage.phone.say(&input("phone"));
        let answers = [answer(&mut stage.laptop), answer(&mut stage.phone)];
        let winner = if answers[0]["type"] == "ok" { "laptop" } else { "phone" };
        let lost = answers.iter().find(|it| it["type"] == "error").expect("one of them is second");
        assert_eq!(lost["code"], "input_already_given", "{answers:?}");
        assert_eq!(stage.hears("input")["data"], winner, "{answers:?}");
        assert_eq!(stage.laptop.until("input_received")["data"]["device"], winner);
    }
    stage.done(11, "complete", &json!({ "status": "ok" }));
    stage.transcript();
}

#[test]
fn a_cancel_and_an_end_cross_on_their_way() {
    let mut stage = Stage::new(&[LONG_LEASE], None);
    for number in 0..10 {
        stage.laptop.run(&format!("key_{number}"), "thread_1", &json!(number));
        stage.takes();
        stage.phone.say(&json!({ "type": "cancel", "run": stage.run["run"] }));
        stage.done(1, "complete", &json!({ "status": "ok", "output": number }));
        let state = answer(&mut stage.phone)["state"].clone();
        assert!(state == "cancelling" || state == "ended", "{state}");
        let end = stage.laptop.until("agent_completed");
        assert_eq!((&end["data"]["status"], &end["data"]["output"]), (&json!("ok"), &json!(number)), "{end}");
    }
}

/// Forty runs of one user are asked for before one of another; there is one slot. In which order they go.
fn order_of_forty_and_one(kill_at: Option<usize>) -> Vec<String> {
    let settings = [LONG_LEASE, "runs.queued_per_user=40", "runs.active=1", "runs.active_per_user=1"];
    let mut daemon = Daemon::start(&settings);
    let mut alice = User::connected("alice", "laptop", &daemon.door());
    for number in 0..40 {
        alice.run(&format!("key_{number}"), &format!("thread_{number}"), &json!(number));
        alice.socket().hear_type("accepted").expect("an answer");
    }
    let mut bob = User::connected("bob", "laptop", &daemon.door());
    bob.run("key", "thread", &json!("one"));
    bob.socket().hear_type("accepted").expect("an answer");
    if kill_at == Some(0) {
        daemon.kill();
        daemon.restart();
    }
    let mut worker = Worker::connect(&daemon.door(), 5, &json!([])).expect("a welcome");
    let mut order = Vec::new();
    for _ in 0..41 {
        let offer = worker.take();
        order.push(format!("{} {}", offer["user"], offer["input"]));
        if kill_at == Some(order.len()) {
            daemon.kill();
            daemon.restart();
            let has = json!([{ "run": offer["run"], "attempt": offer["attempt"], "n": 0 }]);
            worker = Worker::connect(&daemon.door(), 5, &has).expect("a welcome");
        }
        worker.complete(&offer, 1, &json!(null));
    }
    order
}

#[test]
fn forty_runs_of_one_user_do_not_hold_up_one_of_another() {
    for kill_at in [None, Some(0), Some(1)] {
        let order = order_of_forty_and_one(kill_at);
        let bobs = order.iter().position(|run| run.starts_with("\"bob\"")).expect("it was executed");
        assert!(bobs <= 2, "a slot for each active user, and not more: {order:?}");
        let alices: Vec<String> = order.into_iter().filter(|run| run.starts_with("\"alice\"")).collect();
        let asked: Vec<String> = (0..40).map(|number| format!("\"alice\" {number}")).collect();
        assert_eq!(alices, asked, "a user's runs go in their order");
    }
}
