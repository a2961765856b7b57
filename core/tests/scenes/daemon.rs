//! The core among peers who do what they are told, with a store in maps that has done at once what it is
//! asked for. Time passes when a scene says so.

use runcast_core::Core;
use runcast_core::config::{AgentConfig, Config};
use runcast_core::effect::{Audit, Content, Effect};
use runcast_core::ids::{Agent, AppendId, ConnId, LoadId, RunId};
use runcast_core::input::{BodyLength, Claims, Head, Input, Message, UpgradeRequest};
use runcast_core::record::{Found, Image, Query, Record, RowKey, StreamKey, Table};
use runcast_core::time::{Mono, Now, Span, WallMs};
use runcast_core::wire::error::CloseCode;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

/// Where everybody comes from who is not said to come from elsewhere.
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// A daemon, and what it has said to whom.
pub(crate) struct Daemon {
    pub(crate) core: Core,
    config: Config,
    now: Now,
    rows: BTreeMap<RowKey, bytes::Bytes>,
    events: BTreeMap<StreamKey, BTreeMap<u64, bytes::Bytes>>,
    /// Whether the store finds what is asked for damaged.
    pub(crate) is_damaged: bool,
    /// Whether the store is slow: what it is given is there, and durable, when the scene says
    /// [`Self::commit`].
    pub(crate) is_slow: bool,
    waiting: VecDeque<(AppendId, Arc<[Record]>)>,
    /// Whether the store answers when the scene says [`Self::answer`].
    pub(crate) answers_late: bool,
    asked: VecDeque<(LoadId, Query)>,
    heard: BTreeMap<ConnId, Vec<Value>>,
    unread: BTreeSet<ConnId>,
    /// The bytes that wait for the networks that take nothing.
    stuck: BTreeMap<ConnId, usize>,
    closed: BTreeMap<ConnId, CloseCode>,
    answered: BTreeMap<ConnId, (u16, Value)>,
    /// The audit trail.
    pub(crate) trail: Vec<Audit>,
    /// The most that the core has wanted done after one input.
    pub(crate) most_effects: usize,
    /// The runs of which the webhook was called.
    pub(crate) calls: Vec<RunId>,
    /// What the next tokens say besides whose they are.
    pub(crate) claims: Claims,
    next: u64,
}

impl Daemon {
    pub(crate) fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        // Known without a worker, so that runs can wait for one.
        config.agents.insert(Agent::parse("echo").expect("it is a name"), AgentConfig::default());
        change(&mut config);
        let now = Now::default();
        let core = Core::open(config.clone(), [7; 32], Image::default(), now, &mut Vec::new());
        Self {
            core,
            config,
            now,
            rows: BTreeMap::new(),
            events: BTreeMap::new(),
            is_damaged: false,
            is_slow: false,
            waiting: VecDeque::new(),
            answers_late: false,
            asked: VecDeque::new(),
            heard: BTreeMap::new(),
            unread: BTreeSet::new(),
            stuck: BTreeMap::new(),
            closed: BTreeMap::new(),
            answered: BTreeMap::new(),
            trail: Vec::new(),
            most_effects: 0,
            calls: Vec::new(),
            claims: Claims { exp: u64::MAX / 1_000_000, ..Claims::default() },
            next: 0,
        }
    }

    /// Ends the process and begins another with what is stored. All connections are gone, and the clock that
    /// measures begins anew, as it may.
    pub(crate) fn restart(&mut self) {
        let alive: BTreeSet<_> =
            self.rows.keys().filter(|key| key.table.is_alive()).map(|key| key.owner.clone()).collect();
        let is_in_image = |key: &RowKey| {
            key.table.is_alive()
                || key.table.is_context() && !key.owner.is_empty() && alive.contains(&key.owner)
        };
        let rows = self.rows.iter().filter(|(key, _)| is_in_image(key));
        let image = Image { rows: rows.map(|(key, value)| (key.clone(), value.clone())).collect() };
        self.now.mono = Mono::default();
        let mut effects = Vec::new();
        self.core = Core::open(self.config.clone(), [8; 32], image, self.now, &mut effects);
        self.carry_out(effects);
    }

    /// Somebody opens a socket and says nothing.
    pub(crate) fn open_from(&mut self, peer: IpAddr) -> ConnId {
        self.next += 1;
        let conn = ConnId(self.next);
        self.feed(Input::Opened { conn, peer });
        conn
    }

    /// A WebSocket whose token is good, and which has said `hello`.
    pub(crate) fn connect(&mut self, path: &str, sub: &str, scope: &str, hello: &Value) -> ConnId {
        let conn = self.open_from(HOME);
        let (protocols, upgrade) = (Some("runcast.v1"), UpgradeRequest::Valid);
        let head = Head {
            method: "GET",
            path,
            authorization: Some("Bearer t"),
            protocols,
            upgrade,
            ..Head::default()
        };
        self.feed(Input::Request { conn, head });
        self.verified(conn, sub, scope);
        self.says(conn, hello);
        conn
    }

    /// The same for a user.
    pub(crate) fn user(&mut self, sub: &str) -> ConnId {
        self.connect("/ws", sub, "user", &json!({"type": "hello", "device": "d"}))
    }

    /// A worker that serves `echo`.
    pub(crate) fn worker(&mut self, hello: &Value) -> ConnId {
        self.connect("/worker", "w", "worker", hello)
    }

    /// The answer to a request: its status and body. `Null` where there is none.
    pub(crate) fn request(&mut self, method: &str, path: &str, sub: &str, scope: &str) -> (u16, Value) {
        let conn = self.open_from(HOME);
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let head = Head { method, path, query, authorization: Some("Bearer t"), ..Head::default() };
        self.feed(Input::Request { conn, head });
        self.verified(conn, sub, scope);
        self.answered.remove(&conn).expect("a request is answered")
    }

    /// The status of the answer to a request without a token.
    pub(crate) fn public(&mut self, path: &str) -> u16 {
        let conn = self.open_from(HOME);
        self.feed(Input::Request { conn, head: Head { method: "GET", path, ..Head::default() } });
        self.answered.remove(&conn).expect("a request is answered").0
    }

    /// Publishes an event under a key. The answer comes when that is durable.
    pub(crate) fn publish(&mut self, topic: &str, key: &str) -> ConnId {
        let (path, body) =
            (format!("/v1/topics/{topic}/events"), json!({"event": "flash", "data": 1}).to_string());
        let conn = self.post(&path, ("press", "publish"), Some(key), &body);
        self.feed(Input::Body { conn, body: body.as_bytes() });
        conn
    }

    /// A request of whoever has this `sub` and scope. Its body is still to come.
    pub(crate) fn post(&mut self, path: &str, who: (&str, &str), key: Option<&str>, body: &str) -> ConnId {
        let conn = self.open_from(HOME);
        let head = Head {
            method: "POST",
            path,
            body: BodyLength::Bytes(body.len() as u64),
            idempotency_key: key,
            authorization: Some("Bearer t"),
            ..Head::default()
        };
        self.feed(Input::Request { conn, head });
        self.verified(conn, who.0, who.1);
        conn
    }

    /// The beginning of a stream of server-sent events.
    pub(crate) fn stream(&mut self, query: &str, sub: &str) -> ConnId {
        let conn = self.open_from(HOME);
        let (path, query, authorization) = ("/v1/stream", Some(query), Some("Bearer t"));
        let head = Head { method: "GET", path, query, authorization, ..Head::default() };
        self.feed(Input::Request { conn, head });
        self.verified(conn, sub, "user");
        conn
    }

    /// The same for an operator.
    pub(crate) fn operator(&mut self, method: &str, path: &str) -> (u16, Value) {
        self.request(method, path, "root", "operate")
    }

    pub(crate) fn verified(&mut self, conn: ConnId, sub: &str, scope: &str) {
        let claims = Claims { sub: sub.to_owned(), scope: Some(scope.to_owned()), ..self.claims.clone() };
        self.feed(Input::Verified { conn, outcome: Ok(claims) });
    }

    pub(crate) fn says(&mut self, conn: ConnId, message: &Value) {
        self.feed(Input::Message { conn, message: Message::Text(&message.to_string()) });
    }

    /// Asks for a run of `echo`, each on a thread of its own, and returns its id.
    pub(crate) fn ask(&mut self, conn: ConnId) -> String {
        let before = self.heard(conn);
        self.says(conn, &json!({"type": "run", "agent": "echo", "input": 1}));
        let heard = self.heard(conn);
        let accepted = heard.iter().find(|said| said["type"] == "accepted").expect("the run is accepted");
        let run = accepted["run"].as_str().expect("it has an id").to_owned();
        self.heard.insert(conn, before.into_iter().chain(heard).collect());
        run
    }

    /// The run that a worker is offered next; it says `started`.
    pub(crate) fn start(&mut self, worker: ConnId) -> Value {
        let heard = self.heard(worker);
        let offer = heard.iter().rfind(|said| said["type"] == "run").expect("a run is offered");
        let (run, attempt) = (offer["run"].clone(), offer["attempt"].clone());
        self.says(worker, &json!({"type": "started", "run": run, "attempt": attempt}));
        run
    }

    /// A worker `w` with one slot, alice, and her run, which it has started.
    pub(crate) fn running(&mut self) -> (ConnId, ConnId, Value) {
        let agents = json!([{"agent": "echo", "slots": 1}]);
        let worker = self.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
        let user = self.user("alice");
        self.ask(user);
        (worker, user, self.start(worker))
    }

    /// What a connection was sent since the last time it was asked.
    pub(crate) fn heard(&mut self, conn: ConnId) -> Vec<Value> {
        self.heard.remove(&conn).unwrap_or_default()
    }

    /// The network takes nothing of what a connection is sent, until [`Self::flush`].
    pub(crate) fn stick(&mut self, conn: ConnId) {
        self.stuck.insert(conn, 0);
    }

    /// The network takes all that a connection was sent.
    pub(crate) fn flush(&mut self, conn: ConnId) {
        let bytes = self.stuck.remove(&conn).expect("it takes nothing");
        self.feed(Input::Flushed { conn, bytes });
    }

    /// Whether the daemon reads a connection.
    pub(crate) fn is_read(&self, conn: ConnId) -> bool {
        !self.unread.contains(&conn)
    }

    /// The first events of all streams are gone, as on a disk that has rotted; nothing was trimmed.
    pub(crate) fn lose_first_events(&mut self) {
        self.events.values_mut().for_each(|events| drop(events.pop_first()));
    }

    /// How a connection was closed, if it was.
    pub(crate) fn closed(&self, conn: ConnId) -> Option<CloseCode> {
        self.closed.get(&conn).copied()
    }

    /// How a request was answered, if it was.
    pub(crate) fn answered(&self, conn: ConnId) -> Option<&(u16, Value)> {
        self.answered.get(&conn)
    }

    /// What a slow store was given is durable.
    pub(crate) fn commit(&mut self) {
        while !self.waiting.is_empty() {
            self.commit_one();
        }
    }

    /// The first of what a slow store was given is durable, the rest waits.
    pub(crate) fn commit_one(&mut self) {
        let (upto, records) = self.waiting.pop_front().expect("something waits");
        records.iter().for_each(|record| self.store(record));
        self.feed(Input::Appended { upto });
    }

    /// The store is full: what a slow one was given is not durable.
    pub(crate) fn fail(&mut self) {
        let (from, _) = self.waiting.pop_front().expect("something waits");
        self.waiting.clear();
        self.feed(Input::AppendFailed { from });
    }

    /// The store answers what it was asked so far, and from now on at once.
    pub(crate) fn answer(&mut self) {
        self.answers_late = false;
        while let Some((load, query)) = self.asked.pop_front() {
            let found = self.find(query);
            self.feed(Input::Loaded { load, found });
        }
    }

    /// Time passes; timers fire when they are due.
    pub(crate) fn pass(&mut self, time: Span) {
        let until = self.now.mono + time;
        while let Some((due, _)) = self.core.deadline().filter(|(due, _)| *due <= until) {
            let step = due.since(self.now.mono);
            self.now = Now { mono: self.now.mono + step, wall: self.now.wall + step };
            self.feed(Input::Timer);
        }
        let rest = until.since(self.now.mono);
        self.now = Now { mono: until, wall: self.now.wall + rest };
    }

    /// The process stands still, and is woken by its timers.
    pub(crate) fn stand_still(&mut self, time: Span) {
        self.now = Now { mono: self.now.mono + time, wall: self.now.wall + time };
        self.feed(Input::Timer);
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_clock(&mut self, second: u64) {
        self.now.wall = WallMs(second * 1_000);
    }

    /// How many rows of a table are stored.
    pub(crate) fn stored(&self, table: Table) -> usize {
        self.rows.keys().filter(|key| key.table == table).count()
    }

    pub(crate) fn feed(&mut self, input: Input<'_>) {
        let mut effects = Vec::new();
        self.core.handle(self.now, input, &mut effects);
        self.most_effects = self.most_effects.max(effects.len());
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let (mut waiting, mut done) = (VecDeque::from(effects), 0);
        while let Some(effect) = waiting.pop_front() {
            done += 1;
            assert!(done < 5_000, "what an input causes comes to an end: {effect:?}");
            let mut caused = Vec::new();
            self.carry_out_one(effect, &mut caused);
            waiting.extend(caused);
        }
    }

    fn carry_out_one(&mut self, effect: Effect, caused: &mut Vec<Effect>) {
        let now = self.now;
        match effect {
            Effect::Append { id, records } => {
                if self.is_slow {
                    return self.waiting.push_back((id, records));
                }
                records.iter().for_each(|record| self.store(record));
                self.core.handle(now, Input::Appended { upto: id }, caused);
            }
            Effect::Load { load, query } if self.answers_late => self.asked.push_back((load, query)),
            Effect::Load { load, query } => {
                let found = if self.is_damaged { Found::Damaged } else { self.find(query) };
                self.core.handle(now, Input::Loaded { load, found }, caused);
            }
            Effect::Send { conn, text } => {
                // Server-sent events are text.
                let text_of =
                    || Value::String(String::from_utf8(text.to_vec()).expect("what is sent is UTF-8"));
                let said = serde_json::from_slice(&text).unwrap_or_else(|_| text_of());
                self.heard.entry(conn).or_default().push(said);
                match self.stuck.get_mut(&conn) {
                    Some(waiting) => *waiting += text.len(),
                    None => self.core.handle(now, Input::Flushed { conn, bytes: text.len() }, caused),
                }
            }
            Effect::Close { conn, code, .. } => {
                self.closed.insert(conn, code);
                self.core.handle(now, Input::Closed { conn }, caused);
            }
            Effect::Respond { conn, response } => {
                let body = match response.content {
                    Content::Json(text) | Content::Problem(text) => {
                        serde_json::from_str(&text).expect("what is answered is JSON")
                    }
                    Content::Nothing | Content::Text(_) | Content::Page(_) | Content::Metrics => Value::Null,
                };
                self.answered.insert(conn, (response.status, body));
                self.core.handle(now, Input::Closed { conn }, caused);
            }
            Effect::Read { conn, on: true } => drop(self.unread.remove(&conn)),
            Effect::Read { conn, on: false } => drop(self.unread.insert(conn)),
            Effect::Webhook { run, .. } => self.calls.push(run),
            Effect::Audit(line) => self.trail.push(line),
            Effect::Upgrade { .. }
            | Effect::Allow { .. }
            | Effect::Share { .. }
            | Effect::Body { .. }
            | Effect::Stream { .. }
            | Effect::Ping { .. }
            | Effect::Note(_)
            | Effect::Backup { .. }
            | Effect::Exit
            | Effect::Verify { .. } => {}
        }
    }

    fn store(&mut self, record: &Record) {
        match record {
            Record::Event { stream, seq, bytes } => {
                self.events.entry(stream.clone()).or_default().insert(*seq, bytes.clone());
            }
            Record::Put { key, value } => drop(self.rows.insert(key.clone(), value.clone())),
            Record::Delete { key } => drop(self.rows.remove(key)),
            Record::Trim { stream, floor } => {
                self.events.entry(stream.clone()).or_default().retain(|seq, _| seq >= floor);
            }
        }
    }

    fn find(&self, query: Query) -> Found {
        let rows = |is: &dyn Fn(&RowKey) -> bool| {
            let rows = self.rows.iter().filter(|(key, _)| is(key));
            rows.map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>()
        };
        match query {
            Query::Rows(keys) => Found::Rows(rows(&|key| keys.contains(key))),
            Query::Owner(owner) => Found::Rows(rows(&|key| key.table.is_context() && key.owner == owner)),
            Query::First { table, owner, skip, rows_max } => {
                let all = rows(&|key| key.table == table && key.owner == owner);
                Found::Rows(all.into_iter().skip(skip).take(rows_max).collect())
            }
            Query::Events { stream, after, events_max, .. } => {
                let events = self.events.get(&stream).into_iter().flat_map(|all| all.range(after + 1..));
                let page = events.take(events_max);
                Found::Events(page.map(|(seq, bytes)| (*seq, bytes.clone())).collect())
            }
        }
    }
}
