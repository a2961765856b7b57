//! More runs than may be executed: never more than the limit at the workers, where it is counted, and nobody
//! left out: every device of every user is told where each of its runs stands, and gets every event.
//!
//! Nothing ends before the queue was seen: the workers keep what they have until as many runs as allowed are
//! executed and every device has been told of every other run that it waits, and where. How soon that was
//! is printed.

use runcast_tests::{Daemon, Door, PATIENCE, User, Worker};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: usize = 10;
const WORKERS: usize = 3;
const DEVICES: usize = 2;
/// Messages of a worker for one run; the last one is `complete`.
const MESSAGES: u64 = 9;
/// How often a worker sees whether its runs may go on, while it hears nothing.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the worker says as message `n` of a run.
fn script(n: u64) -> (&'static str, Value) {
    let call = format!("call_{}", n / 4);
    match n % 4 {
        1 => ("agent_thinking", json!({ "delta": format!("thought {n} ") })),
        2 => ("tool_executing", json!({ "call": call, "tool": "search", "args": { "n": n } })),
        3 => ("tool_completed", json!({ "call": call, "status": "ok", "result": n })),
        _ => ("agent_output", json!({ "delta": format!("word {n} ") })),
    }
}

/// What happens at all the workers together.
#[derive(Debug, Default)]
struct Floor {
    /// Runs whose start is acknowledged and that have not been completed.
    executing: AtomicUsize,
    /// The most there ever were.
    most: AtomicUsize,
    /// Runs that were completed.
    completed: AtomicUsize,
    /// Whether runs may end.
    is_open: AtomicBool,
}

impl Floor {
    fn begin(&self) {
        let now = self.executing.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
    }

    fn end(&self) {
        self.executing.fetch_sub(1, Ordering::SeqCst);
        self.completed.fetch_add(1, Ordering::SeqCst);
    }
}

/// One worker: it goes on with a run at each acknowledgement, to its middle only while the floor is closed.
/// It ends when all `runs` are over.
fn work(door: &Door, name: &str, floor: &Floor, runs: usize) {
    let mut worker = Worker::named(door, name, LIMIT, &json!([])).expect("a welcome");
    let mut held: Vec<(Value, u64)> = Vec::new();
    while floor.completed.load(Ordering::SeqCst) < runs {
        let message = worker.hear_within(LOOK_EVERY).expect("the connection lasts").unwrap_or_default();
        let of = json!({ "run": message["run"], "attempt": message["attempt"] });
        match message["type"].as_str() {
            Some("run") => {
                worker.say(&json!({ "type": "started", "run": of["run"], "attempt": of["attempt"] }));
            }
            Some("ack") => {
                let n = message["n"].as_u64().expect("a number");
                if n == 0 {
                    floor.begin();
                }
                held.push((of, n));
            }
            None | Some("heartbeat") => {}
            _ => panic!("expected an offer or an ack, found {message}"),
        }
        let is_open = floor.is_open.load(Ordering::SeqCst);
        let (go, stay) = held.into_iter().partition(|(_, n)| is_open || *n < MESSAGES / 2);
        held = stay;
        go.into_iter().for_each(|(of, n): (Value, u64)| go_on(&mut worker, floor, &of, n + 1));
    }
}

/// Says the next thing of a run, if it has not ended.
fn go_on(worker: &mut Worker, floor: &Floor, of: &Value, n: u64) {
    if n < MESSAGES {
        let (event, data) = script(n);
        worker.event(of, n, event, &data);
    } else if n == MESSAGES {
        floor.end();
        let (run, attempt) = (&of["run"], &of["attempt"]);
        worker.say(&json!({ "type": "complete", "run": run, "attempt": attempt, "n": n, "status": "ok" }));
    }
}

/// When each key was asked for.
type Asked = Arc<Mutex<BTreeMap<String, Instant>>>;

/// One device, until it has seen the end of all runs of its user.
#[derive(Debug)]
struct Device {
    user: User,
    /// How many runs its user has.
    runs: usize,
    /// Whether it is the one that asks for them.
    asks: bool,
    asked: Asked,
    /// Keys and runs, as far as they are known.
    key_of: BTreeMap<String, String>,
    /// Runs that it has heard anything of.
    signs: BTreeSet<String>,
    /// Runs that it knows to have begun, or was told the place of.
    placed: BTreeSet<String>,
    /// The longest time from asking to the first sign.
    slowest_sign: Duration,
    /// The longest time from asking to being told the place, or that it has begun.
    slowest_place: Duration,
}

impl Device {
    /// Asks for all runs, each on a thread of its own.
    fn ask(&mut self) {
        if !self.asks {
            return;
        }
        for number in 0..self.runs {
            let key = format!("key_{number}");
            self.asked.lock().expect("no thread has failed").insert(key.clone(), Instant::now());
            self.user.run(&key, &format!("thread_{number}"), &json!(number));
        }
    }

    /// Asks, if it should, and reads on until all runs have ended; tells `placed` of each run whose place is
    /// known.
    fn watch(mut self, placed: &Sender<()>) -> Self {
        self.ask();
        let mut ends = 0;
        while ends < self.runs {
            let message = self.user.hear().expect("the connection lasts");
            assert_ne!(message["type"], "error", "{message}");
            ends += usize::from(message["event"] == "agent_completed");
            if self.user.position().is_multiple_of(16) {
                self.user.ack();
            }
            self.note(&message, placed);
        }
        self
    }

    fn note(&mut self, message: &Value, placed: &Sender<()>) {
        let Some(run) = message["run"].as_str() else { return };
        if let Some(key) = message["key"].as_str().or_else(|| message["data"]["key"].as_str()) {
            self.key_of.insert(run.to_owned(), key.to_owned());
        }
        let since = || self.asked.lock().expect("no thread has failed")[&self.key_of[run]].elapsed();
        if !self.signs.contains(run) {
            self.slowest_sign = self.slowest_sign.max(since());
            self.signs.insert(run.to_owned());
        }
        let is_placed = message["notice"] == "queue" && message["position"].as_u64() > Some(0);
        if (is_placed || message["event"] == "agent_started") && !self.placed.contains(run) {
            self.slowest_place = self.slowest_place.max(since());
            self.placed.insert(run.to_owned());
            // The test has failed when nobody counts any more.
            let _ = placed.send(());
        }
    }
}

/// The devices of one of the users, connected; the first asks for the user's part of the runs.
fn pair(user: usize, users: usize, runs: usize, door: &Door) -> Vec<Device> {
    let (name, own, asked) = (format!("user_{user}"), (runs - user).div_ceil(users), Asked::default());
    let device = |number| Device {
        user: User::connected(&name, &format!("device_{number}"), door),
        runs: own,
        asks: number == 0,
        asked: asked.clone(),
        key_of: BTreeMap::new(),
        signs: BTreeSet::new(),
        placed: BTreeSet::new(),
        slowest_sign: Duration::ZERO,
        slowest_place: Duration::ZERO,
    };
    (0..DEVICES).map(device).collect()
}

/// So many users, who ask for so many runs at once, with two devices each.
fn crowd(users: usize, runs: usize) {
    let daemon = Daemon::start(&["runs.timeout=10m", "runs.lease=60s"]);
    let floor = Arc::new(Floor::default());
    let crew: Vec<_> = (0..WORKERS)
        .map(|number| {
            let (door, floor) = (daemon.door(), floor.clone());
            thread::spawn(move || work(&door, &format!("w-{number}"), &floor, runs))
        })
        .collect();
    let (placed, count) = channel();
    let devices: Vec<Device> = (0..users).flat_map(|user| pair(user, users, runs, &daemon.door())).collect();
    let devices: Vec<_> = devices
        .into_iter()
        .map(|device| {
            let placed = placed.clone();
            thread::spawn(move || device.watch(&placed))
        })
        .collect();
    drop(placed);
    for _ in 0..runs * DEVICES {
        count.recv_timeout(PATIENCE).expect("every device is told the place of every run");
    }
    floor.is_open.store(true, Ordering::SeqCst);
    let devices: Vec<Device> =
        devices.into_iter().map(|device| device.join().expect("a device is content")).collect();
    crew.into_iter().for_each(|worker| worker.join().expect("a worker is content"));
    assert_eq!(floor.most.load(Ordering::SeqCst), LIMIT, "the limit was reached, and kept");
    for pair in devices.chunks(DEVICES) {
        assert_eq!(pair[0].user.events(), pair[1].user.events(), "two devices of a user saw the same");
        judge(pair[0].user.events(), pair[0].runs);
    }
    report(users, runs, &devices);
}

/// What a user must have seen: each run once, whole, in the order of its script.
fn judge(events: &[Value], count: usize) {
    let mut runs: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for event in events {
        runs.entry(event["run"].as_str().expect("a run")).or_default().push(event);
    }
    assert_eq!(runs.len(), count);
    for run in runs.values() {
        let names: Vec<&str> = run.iter().filter_map(|event| event["event"].as_str()).collect();
        let mut wanted = vec!["run_queued", "agent_started"];
        wanted.extend((1..MESSAGES).map(|n| script(n).0));
        wanted.push("agent_completed");
        assert_eq!(names, wanted);
        assert!((1..MESSAGES).zip(&run[2..]).all(|(n, event)| event["data"] == script(n).1), "{run:?}");
    }
}

/// Says how long people waited for a sign: a measurement, on a machine of unknown speed, and no judgement.
fn report(users: usize, runs: usize, devices: &[Device]) {
    let sign = devices.iter().map(|device| device.slowest_sign).max().unwrap_or_default();
    let place = devices.iter().map(|device| device.slowest_place).max().unwrap_or_default();
    let line = format!(
        "{runs} runs of {users} users at once: the first sign within {} ms, the place in the queue within {} ms",
        sign.as_millis(),
        place.as_millis()
    );
    // Past the capture of the test's output: whoever runs the tests sees it.
    writeln!(std::io::stderr(), "{line}").expect("a line can be written");
}

#[test]
fn fifty_runs_of_eight_users_are_executed_ten_at_once_and_seen_whole() {
    crowd(8, 50);
}

#[test]
fn five_users_ask_for_ten_times_the_limit() {
    crowd(5, 100);
}

#[test]
fn a_hundred_users_ask_for_ten_times_the_limit() {
    crowd(100, 100);
}
