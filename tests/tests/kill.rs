//! The main proof: the daemon is killed with SIGKILL again and again, in the middle of everything, and no
//! device misses, repeats or reorders anything.
//!
//! A kill comes when the devices have seen a given number of the worker's messages, never after a time. The
//! worker may send only so many new messages between two kills, so that there is something in flight at each
//! of them.

use runcast_tests::{Daemon, Door, Ended, PATIENCE, User, Worker};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

const USERS: u64 = 5;
const DEVICES: u64 = 2;
const RUNS_PER_USER: u64 = 4;
const RUNS: u64 = USERS * RUNS_PER_USER;
/// Messages of the worker for one run; the last one is `complete`.
const MESSAGES: u64 = 23;
const KILLS: u64 = 50;
/// New messages of the worker between two kills.
const STEP: u64 = 9;

/// What the worker says as message `n` of a run.
fn script(n: u64) -> (&'static str, Value) {
    let call = format!("call_{}", n.div_ceil(4));
    match (n, n % 4) {
        (21.., _) => ("agent_output", json!({ "delta": format!("word {n} ") })),
        (_, 1) => ("agent_thinking", json!({ "delta": format!("thought {n} ") })),
        (_, 2) => ("tool_executing", json!({ "call": call, "tool": "search", "args": { "n": n } })),
        (_, 3) => ("tool_progress", json!({ "call": call, "percent": 50 })),
        (_, _) => ("tool_completed", json!({ "call": call, "status": "ok", "result": n })),
    }
}

/// One run as the worker remembers it over its connections.
#[derive(Debug, Default)]
struct Job {
    attempt: u64,
    /// Whether the daemon has acknowledged `started`.
    is_started: bool,
    /// How far the daemon has acknowledged.
    acknowledged: u64,
    /// How far it was sent on this connection.
    sent: u64,
    /// How far it was ever sent.
    reached: u64,
}

#[derive(Debug)]
struct Crew {
    door: Door,
    jobs: BTreeMap<String, Job>,
    /// New messages sent in all.
    spent: u64,
    /// New messages that may be sent in all.
    budget: Arc<AtomicU64>,
    ended: BTreeSet<String>,
    dice: u64,
}

impl Crew {
    fn work(mut self) {
        while self.ended.len() < RUNS as usize {
            self.door.wait();
            let Err(Ended(code)) = self.session() else { continue };
            assert_eq!(code, None, "the worker was refused or closed");
        }
    }

    /// One connection, to its end or to the end of all runs.
    fn session(&mut self) -> Result<(), Ended> {
        let named: Vec<Value> = self.jobs.iter().map(|(run, job)| job.named(run)).collect();
        let mut worker = Worker::connect(&self.door, RUNS as usize, &json!(named))?;
        self.resume(&mut worker);
        loop {
            self.send(&mut worker);
            if self.ended.len() == RUNS as usize {
                return Ok(());
            }
            let message = worker.hear()?;
            let run = message["run"].as_str().expect("a message about a run").to_owned();
            match message["type"].as_str() {
                Some("run") => {
                    let attempt = message["attempt"].as_u64().expect("an attempt");
                    assert!(!self.ended.contains(&run), "offered again: {message}");
                    let job = Job { attempt, ..Job::default() };
                    assert!(self.jobs.insert(run, job).is_none(), "offered twice: {message}");
                    worker.say(&json!({ "type": "started", "run": message["run"], "attempt": attempt }));
                }
                Some("ack") => self.acknowledged(&run, message["n"].as_u64().expect("a number")),
                _ => panic!("expected an offer or an ack, found {message}"),
            }
        }
    }

    /// Takes up the runs as the daemon says it knows them.
    fn resume(&mut self, worker: &mut Worker) {
        let welcome = worker.welcome["runs"].as_array().expect("runs").clone();
        assert_eq!(welcome.len(), self.jobs.len(), "one answer for each run: {welcome:?}");
        for known in welcome {
            let run = known["run"].as_str().expect("a run").to_owned();
            match known["state"].as_str() {
                Some("continue") => {
                    let n = known["n"].as_u64().expect("a number");
                    self.acknowledged(&run, n);
                    self.jobs.get_mut(&run).expect("named").sent = n;
                }
                Some("ended") => self.acknowledged(&run, MESSAGES),
                Some("gone") => {
                    let job = self.jobs.remove(&run).expect("named");
                    assert!(!job.is_started, "an acknowledged start was lost: {known}");
                }
                _ => panic!("expected a state, found {known}"),
            }
        }
    }

    fn acknowledged(&mut self, run: &str, n: u64) {
        let job = self.jobs.get_mut(run).expect("an ack for a run of this worker");
        assert!(n >= job.acknowledged, "{run}: {} was acknowledged and is lost: {n}", job.acknowledged);
        assert!(n <= job.reached, "{run}: {n} was never sent");
        job.is_started = true;
        job.acknowledged = n;
        if n == MESSAGES {
            self.jobs.remove(run);
            self.ended.insert(run.to_owned());
        }
    }

    /// Sends again what was not acknowledged, and then what is new, run by run as the dice fall.
    fn send(&mut self, worker: &mut Worker) {
        for (run, job) in self.jobs.iter_mut().filter(|(_, job)| job.is_started) {
            while job.sent < job.reached {
                job.next(run, worker);
            }
        }
        while self.spent < self.budget.load(Ordering::SeqCst) {
            let mut open: Vec<_> =
                self.jobs.iter_mut().filter(|(_, job)| job.is_started && job.sent < MESSAGES).collect();
            if open.is_empty() {
                return;
            }
            self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (self.dice >> 33) as usize % open.len();
            let (run, job) = &mut open[at];
            job.next(run, worker);
            self.spent += 1;
        }
    }
}

impl Job {
    fn named(&self, run: &str) -> Value {
        json!({ "run": run, "attempt": self.attempt, "n": self.acknowledged })
    }

    fn next(&mut self, run: &str, worker: &mut Worker) {
        self.sent += 1;
        self.reached = self.reached.max(self.sent);
        let of = json!({ "run": run, "attempt": self.attempt });
        if self.sent < MESSAGES {
            let (event, data) = script(self.sent);
            worker.event(&of, self.sent, event, &data);
        } else {
            let (attempt, n) = (self.attempt, self.sent);
            worker
                .say(&json!({ "type": "complete", "run": run, "attempt": attempt, "n": n, "status": "ok" }));
        }
    }
}

fn is_the_workers(event: &Value) -> bool {
    event["event"] != "run_queued" && event["event"] != "agent_started"
}

/// One device, over all its connections, until it has seen the end of all its user's runs. The first device
/// asks for the runs, each again and again until it is accepted.
fn watch(mut user: User, asks: bool, ack_every: u64, seen: &Sender<()>) -> User {
    let mut open: BTreeSet<String> = BTreeSet::new();
    if asks {
        open.extend((0..RUNS_PER_USER).map(|key| format!("key_{key}")));
    }
    let mut ends = 0;
    while ends < RUNS_PER_USER || !open.is_empty() {
        user.door().wait();
        let mut session = || -> Result<(), Ended> {
            user.connect()?;
            for key in &open {
                user.run(key, &format!("thread_of_{key}"), &json!({ "ask": key }));
            }
            while ends < RUNS_PER_USER || !open.is_empty() {
                let before = user.position();
                let message = user.hear()?;
                assert_ne!(message["type"], "error", "{message}");
                if message["type"] == "accepted" {
                    open.remove(message["key"].as_str().expect("the key"));
                }
                if user.position() > before {
                    ends += u64::from(message["event"] == "agent_completed");
                    if is_the_workers(&message) {
                        // The test has failed when nobody counts any more.
                        let _ = seen.send(());
                    }
                    if user.position().is_multiple_of(ack_every) {
                        user.ack();
                    }
                }
            }
            Ok(())
        };
        if let Err(Ended(code)) = session() {
            assert_eq!(code, None, "a device was refused or closed");
        }
    }
    user
}

#[test]
fn fifty_kills_lose_repeat_and_reorder_nothing() {
    let mut daemon = Daemon::start(&["runs.timeout=10m", "runs.timeout_max=1h", "runs.lease=60s"]);
    let budget = Arc::new(AtomicU64::new(STEP));
    let (seen, count) = channel();
    let crew = Crew {
        door: daemon.door(),
        jobs: BTreeMap::new(),
        spent: 0,
        budget: budget.clone(),
        ended: BTreeSet::new(),
        dice: 1,
    };
    let crew = thread::spawn(move || crew.work());
    let mut devices = Vec::new();
    for (name, device) in (0..USERS).flat_map(|user| (0..DEVICES).map(move |device| (user, device))) {
        let user = User::new(&format!("user_{name}"), &format!("device_{device}"), daemon.door());
        let seen = seen.clone();
        devices.push(thread::spawn(move || watch(user, device == 0, 1 + 3 * device, &seen)));
    }
    drop(seen);
    let mut total = 0;
    for round in 0..KILLS {
        let wanted = STEP * DEVICES * round + 1 + round * 7 % (STEP * DEVICES - 1);
        while total < wanted {
            count.recv_timeout(PATIENCE).expect("the devices go on seeing events");
            total += 1;
        }
        daemon.kill();
        total += count.try_iter().count() as u64;
        let more = if round + 1 == KILLS { u64::MAX } else { STEP * (round + 2) };
        budget.store(more, Ordering::SeqCst);
        daemon.restart();
    }
    let devices: Vec<User> = devices.into_iter().map(|it| it.join().expect("a device is content")).collect();
    crew.join().expect("the worker is content");
    for pair in devices.chunks(DEVICES as usize) {
        assert_eq!(pair[0].events(), pair[1].events(), "two devices of a user saw the same");
        judge(pair[0].events());
    }
}

/// What a user must have seen: each run once, whole, in the order of its script.
fn judge(events: &[Value]) {
    let mut runs: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for event in events {
        runs.entry(event["run"].as_str().expect("a run")).or_default().push(event);
    }
    let keys: BTreeSet<&str> = runs.values().filter_map(|run| run[0]["data"]["key"].as_str()).collect();
    assert_eq!((keys.len(), runs.len()), (RUNS_PER_USER as usize, RUNS_PER_USER as usize));
    for run in runs.values() {
        let names: Vec<&str> = run.iter().filter_map(|event| event["event"].as_str()).collect();
        let mut wanted = vec!["run_queued", "agent_started"];
        wanted.extend((1..MESSAGES).map(|n| script(n).0));
        wanted.push("agent_completed");
        assert_eq!(names, wanted);
        for (n, event) in (1..MESSAGES).zip(&run[2..]) {
            assert_eq!(event["data"], script(n).1);
        }
        let end = &run[run.len() - 1]["data"];
        assert_eq!((&end["status"], &end["tools"]), (&json!("ok"), &json!(5)), "{end}");
    }
}

#[test]
fn a_restart_with_a_full_queue_keeps_its_order() {
    let mut daemon = Daemon::start(&["runs.active=1", "runs.active_per_user=1", "runs.queued_per_user=10"]);
    let mut user = User::connected("alice", "laptop", &daemon.door());
    let ask = |user: &mut User, number: usize| {
        user.run(&format!("key_{number}"), &format!("thread_{number}"), &json!(number));
    };
    let runs: Vec<Value> = (0..10)
        .map(|number| {
            ask(&mut user, number);
            user.socket().hear_type("accepted").expect("an answer")["run"].clone()
        })
        .collect();
    for _ in 0..2 {
        ask(&mut user, 10);
        let refused = user.socket().hear_type("error").expect("an answer");
        assert_eq!(refused["code"], "user_queue_full", "{refused}");
        daemon.kill();
        daemon.restart();
        let welcome = user.connect_from(&json!("oldest")).expect("a welcome");
        let listed: Vec<Value> =
            welcome["runs"].as_array().expect("runs").iter().map(|run| run["run"].clone()).collect();
        assert_eq!(listed, runs);
    }
    let mut worker = Worker::connect(&daemon.door(), 1, &json!([])).expect("a welcome");
    for run in &runs {
        let offer = worker.take();
        assert_eq!(offer["run"], *run);
        worker.complete(&offer, 1, &json!(null));
    }
}
