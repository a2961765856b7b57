//! Fair order (PROTOCOL §5), seen from outside: threads in order, a user's runs by priority, users in turn,
//! limits held, whatever is asked when and whichever run ends first.

use proptest::prelude::*;
use runcast_core::Core;
use runcast_core::config::Config;
use runcast_core::effect::Effect;
use runcast_core::ids::ConnId;
use runcast_core::input::{Claims, Head, Input, Message, UpgradeRequest};
use runcast_core::record::{Found, Image};
use runcast_core::time::Now;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};

const USERS: u64 = 4;
const THREADS: usize = 3;
/// The first goes first.
const PRIORITIES: [&str; 3] = ["high", "normal", "low"];
const WORKER: ConnId = ConnId(100);

#[derive(Clone, Debug)]
enum Step {
    /// A user asks for a run on one of its threads, of one of [`PRIORITIES`].
    Ask(u64, usize, usize),
    /// One of the runs at the worker ends.
    End(usize),
}

/// A run that was asked for and has not ended.
#[derive(Clone, Debug)]
struct Run {
    user: String,
    thread: String,
    /// Which of [`PRIORITIES`]; where runs of its thread that have not ended come later, as they do.
    priority: usize,
    is_active: bool,
}

/// The core, with a store that is done at once.
struct World {
    core: Core,
    active: usize,
    per_user: usize,
    /// By the order in which they were accepted.
    runs: Vec<(String, Run)>,
    /// Of the run that is asked for.
    priority: usize,
    /// For users that could run: how often each other one was served meanwhile.
    passed: BTreeMap<String, BTreeMap<String, u32>>,
}

impl World {
    fn new(active: usize, per_user: usize, slots: usize) -> Self {
        let mut config = Config::default();
        (config.runs.active, config.runs.active_per_user) = (active, per_user);
        config.runs.queued_per_user = 1_000;
        config.limits.burst = 100_000;
        let core = Core::open(config, [7; 32], Image::default(), Now::default(), &mut Vec::new());
        let mut world =
            Self { core, active, per_user, runs: Vec::new(), priority: 0, passed: BTreeMap::new() };
        world.connect(WORKER, "/worker", "worker", "w");
        let agents = format!(r#"[{{"agent":"echo","slots":{slots}}}]"#);
        world.says(WORKER, &format!(r#"{{"type":"hello","worker":"w","agents":{agents}}}"#));
        for user in 0..USERS {
            world.connect(ConnId(user), "/ws", "user", &format!("user-{user}"));
            world.says(ConnId(user), r#"{"type":"hello","ack":false}"#);
        }
        world
    }

    fn connect(&mut self, conn: ConnId, path: &str, scope: &str, sub: &str) {
        self.feed(Input::Opened { conn, peer: [127, 0, 0, 1].into() });
        let (method, authorization) = ("GET", Some("Bearer t"));
        let (protocols, upgrade) = (Some("runcast.v1"), UpgradeRequest::Valid);
        let head = Head { method, path, authorization, protocols, upgrade, ..Head::default() };
        self.feed(Input::Request { conn, head });
        let (sub, scope) = (sub.to_owned(), Some(scope.to_owned()));
        let claims = Claims { sub, scope, exp: u64::MAX / 1_000_000, ..Claims::default() };
        self.feed(Input::Verified { conn, outcome: Ok(claims) });
    }

    fn says(&mut self, conn: ConnId, text: &str) {
        self.feed(Input::Message { conn, message: Message::Text(text) });
    }

    fn feed(&mut self, input: Input<'_>) {
        let mut effects = Vec::new();
        self.core.handle(Now::default(), input, &mut effects);
        let mut waiting = VecDeque::from(effects);
        while let Some(effect) = waiting.pop_front() {
            let mut caused = Vec::new();
            match effect {
                Effect::Append { id, .. } => {
                    self.core.handle(Now::default(), Input::Appended { upto: id }, &mut caused);
                }
                Effect::Load { load, .. } => {
                    let found = Found::Rows(Vec::new());
                    self.core.handle(Now::default(), Input::Loaded { load, found }, &mut caused);
                }
                Effect::Send { conn, text } => {
                    self.sent(conn, &serde_json::from_slice(&text).expect("JSON"));
                    self.core.handle(Now::default(), Input::Flushed { conn, bytes: text.len() }, &mut caused);
                }
                Effect::Upgrade { .. }
                | Effect::Allow { .. }
                | Effect::Share { .. }
                | Effect::Body { .. }
                | Effect::Stream { .. }
                | Effect::Ping { .. }
                | Effect::Read { .. }
                | Effect::Webhook { .. }
                | Effect::Note(_)
                | Effect::Audit(_)
                | Effect::Backup { .. }
                | Effect::Verify { .. } => {}
                Effect::Respond { .. } | Effect::Close { .. } | Effect::Exit => panic!("{effect:?}"),
            }
            waiting.extend(caused);
        }
    }

    fn sent(&mut self, conn: ConnId, message: &Value) {
        let word = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        match word("type").as_str() {
            "accepted" => {
                let (user, thread) = (format!("user-{}", conn.0), word("thread"));
                let of_thread = self.runs.iter().filter(|(_, run)| run.user == user && run.thread == thread);
                let priority = of_thread.map(|(_, run)| run.priority).fold(self.priority, usize::max);
                let run = Run { user, thread, priority, is_active: false };
                self.runs.push((word("run"), run));
                self.watch();
            }
            "run" => self.offered(&word("run")),
            _ => {}
        }
    }

    fn active(&self, is: impl Fn(&Run) -> bool) -> usize {
        self.runs.iter().filter(|(_, run)| run.is_active && is(run)).count()
    }

    /// The run of a user that is to start next, if its limits let it.
    fn next_of(&self, user: &str) -> Option<&str> {
        if self.active(|run| run.user == user) >= self.per_user {
            return None;
        }
        let mut own: Vec<_> = self.runs.iter().filter(|(_, run)| run.user == user).collect();
        own.sort_by_key(|(_, run)| run.priority);
        let is_first = |at: usize| !own[..at].iter().any(|(_, before)| before.thread == own[at].1.thread);
        let next = own.iter().enumerate().find(|(at, (_, run))| !run.is_active && is_first(*at));
        next.map(|(_, (id, _))| id.as_str())
    }

    fn offered(&mut self, id: &str) {
        let (_, run) = self.runs.iter().find(|(known, _)| known == id).expect("it was accepted");
        let user = run.user.clone();
        assert!(self.active(|_| true) < self.active, "the limit of all holds");
        assert_eq!(
            self.next_of(&user),
            Some(id),
            "a user's runs start in order, as far as its limits let them"
        );
        for (other, passed) in &mut self.passed {
            if *other != user {
                let times = passed.entry(user.clone()).or_default();
                *times += 1;
                assert!(*times <= 1, "{user} was served {times} times while {other} waited");
            }
        }
        self.passed.remove(&user);
        let at = self.runs.iter().position(|(known, _)| known == id).expect("it was just found");
        self.runs[at].1.is_active = true;
        self.watch();
    }

    /// Who could run is watched from the moment when that began.
    fn watch(&mut self) {
        for user in (0..USERS).map(|user| format!("user-{user}")) {
            if self.next_of(&user).is_none() {
                self.passed.remove(&user);
            } else {
                self.passed.entry(user).or_default();
            }
        }
    }

    fn end(&mut self, pick: usize) {
        let active: Vec<String> =
            self.runs.iter().filter(|(_, run)| run.is_active).map(|(id, _)| id.clone()).collect();
        let Some(id) = active.get(pick % active.len().max(1)).cloned() else { return };
        let of = format!(r#""run":"{id}","attempt":1"#);
        self.says(WORKER, &format!(r#"{{"type":"started",{of}}}"#));
        self.runs.retain(|(known, _)| *known != id);
        self.watch();
        self.says(WORKER, &format!(r#"{{"type":"complete",{of},"n":1,"status":"ok"}}"#));
    }

    /// No slot is idle that somebody could use.
    fn is_busy(&self, slots: usize) -> bool {
        let active = self.active(|_| true);
        let could = (0..USERS).any(|user| self.next_of(&format!("user-{user}")).is_some());
        active >= self.active.min(slots) || !could
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (of_user, on, first) = (0..USERS, 0..THREADS, 0..PRIORITIES.len());
    let ask = (of_user, on.clone(), first.clone()).prop_map(|(user, on, first)| Step::Ask(user, on, first));
    // The first user asks for most.
    let much = (on, first).prop_map(|(on, first)| Step::Ask(0, on, first));
    prop::collection::vec(prop_oneof![3 => ask, 2 => much, 4 => (0..20usize).prop_map(Step::End)], 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn threads_go_in_order_and_users_in_turn(
        active in 1..6usize, per_user in 1..4usize, slots in 1..8usize, steps in steps(),
    ) {
        let mut world = World::new(active, per_user, slots);
        for step in steps {
            match step {
                Step::Ask(user, on, first) => {
                    world.priority = first;
                    let first = PRIORITIES[first];
                    let of = format!(r#""agent":"echo","thread":"t{on}","priority":"{first}""#);
                    let ask = format!(r#"{{"type":"run",{of},"input":1}}"#);
                    world.says(ConnId(user), &ask);
                }
                Step::End(pick) => world.end(pick),
            }
            prop_assert!(world.is_busy(slots), "a run could start and does not");
        }
        while world.active(|_| true) > 0 {
            world.end(0);
        }
        prop_assert!(world.runs.is_empty(), "every run has had its turn");
    }
}
