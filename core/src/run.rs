//! A run's life: what was asked, how far it is, and how that is stored.
//!
//! queued → offered → starting → running (→ cancelling) → ended. It may go back from offered or starting to
//! queued; it ends from anywhere, once.

mod state;

use crate::commands::Commands;
use crate::config::Config;
use crate::ids::{Agent, Call, Key, RunId, Thread, User};
use crate::progress::Progress;
use crate::questions::Questions;
use crate::record::{Record, RowKey, Table};
use crate::stream::Extent;
use crate::time::{Mono, Now, Span, WallMs};
use crate::wire::event::Kind;
use crate::wire::json::Object;
use crate::wire::user::Priority;
use crate::worker::WorkerKey;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use state::{Numbers, State};

/// What was asked. Checked whole before it exists, and never changed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) user: User,
    pub(crate) thread: Thread,
    pub(crate) agent: Agent,
    pub(crate) input: Box<RawValue>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) key: Option<Key>,
    pub(crate) digest: String,
    pub(crate) parent: Option<RunId>,
    pub(crate) meta: Option<Box<RawValue>>,
    #[serde(default)]
    pub(crate) priority: Priority,
    /// Its place among its user's queued runs: lower goes first.
    #[serde(default)]
    pub(crate) rank: u64,
    /// When it was accepted, wall clock.
    pub(crate) accepted_ms: u64,
    /// Its place among all runs ever accepted.
    pub(crate) ordinal: u64,
}

/// Where a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waits for a worker. Not offered before it is durable.
    Queued {
        /// Whether it is.
        is_durable: bool,
    },
    /// Offered to a worker, which has not answered.
    Offered(WorkerKey),
    /// The worker has said `started`; that is not durable yet.
    Starting(WorkerKey),
    /// The worker executes it.
    Running(WorkerKey),
    /// The worker is told to stop.
    Cancelling(WorkerKey, Cause),
    /// Its end is written, and not durable yet.
    Ended,
    /// Its end is durable.
    Gone,
}

/// Why a run is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// Its user said so.
    User,
    /// Its time is up.
    Timeout,
    /// Its user asked for another run of the thread instead.
    Interrupt,
    /// An operator said so.
    Operator,
}

impl Cause {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Timeout => "timeout",
            Self::Interrupt => "interrupt",
            Self::Operator => "operator",
        }
    }
}

/// A run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) spec: Arc<Spec>,
    pub(crate) phase: Phase,
    pub(crate) ordinal: u64,
    /// The fencing number of the last dispatch.
    pub(crate) attempt: u64,
    /// Attempts that started.
    pub(crate) attempts: u64,
    /// Offers in a row that were not taken.
    pub(crate) not_taken: u32,
    /// What the worker that it was last offered to gives an attempt, if it says so.
    pub(crate) worker_timeout: Option<Span>,
    /// Workers that are passed over until then, while there are others.
    pub(crate) avoid: BTreeMap<WorkerKey, Mono>,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) events: u64,
    /// The last message of the attempt that was taken.
    pub(crate) n: u64,
    /// A number was left out; nothing is taken until it comes.
    pub(crate) is_gap_told: bool,
    /// Whether `started` was acknowledged on the worker's present connection, or before a restart.
    pub(crate) is_start_acked: bool,
    /// The worker whose `complete` ended it.
    pub(crate) completed_by: Option<WorkerKey>,
    pub(crate) commands: Commands,
    pub(crate) questions: Questions,
    /// It is not offered before.
    pub(crate) not_before: Mono,
    pub(crate) queued_since: Mono,
    /// Time queued before that, under the clock of an earlier process.
    pub(crate) queued_before: Span,
    pub(crate) queued: Span,
    /// Time executed in spans that are over.
    pub(crate) ran: Span,
    /// The part of it in earlier attempts.
    pub(crate) ran_before: Span,
    pub(crate) running_since: Option<Mono>,
    pub(crate) last_event: (Kind, Mono),
    pub(crate) tools: Tools,
    /// How far it says that it is.
    pub(crate) progress: Progress,
    /// Its user was told that it starts at once, and it is not durable yet.
    pub(crate) is_promised: bool,
    /// What its user was last told of its place in the queue, and when.
    pub(crate) told: Option<(u64, Mono)>,
}

/// The tool calls of an attempt.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tools {
    /// Calls that have not ended, with the time they began, wall clock.
    pub(crate) open: BTreeMap<Call, u64>,
    /// All calls of the attempt.
    pub(crate) used: BTreeSet<Call>,
    /// Calls of all attempts.
    pub(crate) count: u64,
}

/// The stored form of a run that has ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) user: User,
    pub(crate) thread: Thread,
    pub(crate) agent: Agent,
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) parent: Option<RunId>,
    pub(crate) attempt: u64,
    /// The worker whose `complete` ended it.
    pub(crate) completed_by: Option<WorkerKey>,
    #[serde(default)]
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    #[serde(default)]
    pub(crate) queued_ms: u64,
    #[serde(default)]
    pub(crate) running_ms: u64,
    pub(crate) ended_ms: u64,
    /// The newest keys of its inputs: who sends one again, and has not heard that it was taken, is told.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(crate) inputs: VecDeque<(Key, String)>,
}

impl Ended {
    /// As runs are listed.
    pub(crate) fn describe(&self, id: &RunId) -> Object {
        Object::new()
            .str("run", id.as_str())
            .str("thread", self.thread.as_str())
            .str("agent", self.agent.as_str())
            .str("state", "ended")
            .str("status", &self.status)
            .maybe_str("parent", self.parent.as_ref().map(RunId::as_str))
            .raw("attempt", self.attempt)
            .raw("first_seq", self.first_seq)
            .raw("last_seq", self.last_seq)
            .raw("queued_ms", self.queued_ms)
            .raw("running_ms", self.running_ms)
            .raw("ended_ts", self.ended_ms)
    }
}

/// The stored form of an idempotency key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    pub(crate) run: RunId,
    pub(crate) thread: Thread,
    pub(crate) digest: String,
    pub(crate) made_ms: u64,
}

/// The rows of a run that has not ended.
#[derive(Debug, Default)]
pub(crate) struct Rows<'a> {
    pub(crate) spec: &'a [u8],
    pub(crate) state: &'a [u8],
    pub(crate) tools: Option<&'a [u8]>,
    pub(crate) questions: Option<&'a [u8]>,
    pub(crate) commands: Vec<&'a [u8]>,
}

fn stored<'a, T: Deserialize<'a>>(row: &'a [u8]) -> T {
    serde_json::from_slice(row).expect("a stored row is what was stored")
}

impl Run {
    pub(crate) fn new(spec: Spec, now: Now) -> Self {
        Self {
            ordinal: spec.ordinal,
            spec: Arc::new(spec),
            phase: Phase::Queued { is_durable: false },
            attempt: 0,
            attempts: 0,
            not_taken: 0,
            worker_timeout: None,
            avoid: BTreeMap::new(),
            first_seq: 0,
            last_seq: 0,
            events: 0,
            n: 0,
            is_gap_told: false,
            is_start_acked: false,
            completed_by: None,
            commands: Commands::default(),
            questions: Questions::default(),
            not_before: Mono::default(),
            queued_since: now.mono,
            queued_before: Span::ZERO,
            queued: Span::ZERO,
            ran: Span::ZERO,
            ran_before: Span::ZERO,
            running_since: None,
            last_event: (Kind::RunQueued, now.mono),
            tools: Tools::default(),
            progress: Progress::default(),
            is_promised: false,
            told: None,
        }
    }

    /// A run as it is stored, and how far its row says that its user's stream reaches. A started one is with
    /// its worker, whose lease begins anew.
    pub(crate) fn from_rows(rows: &Rows<'_>, now: Now) -> (Self, Extent) {
        let spec: Spec = stored(rows.spec);
        let State { numbers, worker, timeout_ms, cancel, progress } = State::from_row(rows.state);
        let mut run = Self::new(spec, now);
        run.phase = match (worker, cancel) {
            (None, _) => Phase::Queued { is_durable: true },
            (Some(worker), None) => Phase::Running(worker),
            (Some(worker), Some(cause)) => Phase::Cancelling(worker, cause),
        };
        if run.is_queued() {
            run.queued_before = now.wall.since(WallMs(run.spec.accepted_ms));
        } else {
            run.questions = rows.questions.map(|row| Questions::from_row(row, now)).unwrap_or_default();
            run.running_since = (!run.is_waiting()).then_some(now.mono);
        }
        run.commands = Commands::from_rows(rows.commands.iter().copied(), numbers.commands);
        run.attempt = numbers.attempt;
        run.attempts = numbers.attempts;
        run.not_taken = u32::try_from(numbers.not_taken).unwrap_or(u32::MAX);
        run.worker_timeout = timeout_ms.map(Span::millis);
        run.first_seq = numbers.first_seq;
        run.last_seq = numbers.last_seq;
        run.events = numbers.events;
        run.n = numbers.n;
        if !run.is_queued() {
            run.ack_start();
        }
        run.queued = Span::millis(numbers.queued_ms);
        run.ran = Span(numbers.ran_us);
        run.ran_before = Span(numbers.ran_before_us);
        run.tools = rows.tools.map(stored).unwrap_or_default();
        run.progress = progress;
        (run, numbers.stream)
    }

    /// The row that stores how far it is, and its user's stream. `id` is its own.
    pub(crate) fn state_row(&self, id: &RunId, stream: Extent, now: Now) -> Record {
        let cancel = match self.phase {
            Phase::Cancelling(_, cause) => Some(cause),
            Phase::Queued { .. }
            | Phase::Offered(_)
            | Phase::Starting(_)
            | Phase::Running(_)
            | Phase::Ended
            | Phase::Gone => None,
        };
        let worker = if matches!(self.phase, Phase::Offered(_)) { None } else { self.worker().cloned() };
        let numbers = Numbers {
            attempt: self.attempt,
            attempts: self.attempts,
            not_taken: self.not_taken.into(),
            first_seq: self.first_seq,
            last_seq: self.last_seq,
            events: self.events,
            n: self.n,
            queued_ms: self.queued.as_millis(),
            ran_us: self.ran(now).0,
            ran_before_us: self.ran_before.0,
            commands: self.commands.last,
            stream,
        };
        let timeout_ms = worker.as_ref().and(self.worker_timeout).map(Span::as_millis);
        let state = State { numbers, worker, timeout_ms, cancel, progress: self.progress.clone() };
        Record::Put { key: self.key(Table::RunState, id), value: state.row() }
    }

    /// What is stored of it when it has ended.
    pub(crate) fn ended(&self, status: &str, now: Now) -> Ended {
        let spec = &self.spec;
        Ended {
            user: spec.user.clone(),
            thread: spec.thread.clone(),
            agent: spec.agent.clone(),
            status: status.into(),
            parent: spec.parent.clone(),
            attempt: self.attempt,
            completed_by: self.completed_by.clone(),
            first_seq: self.first_seq,
            last_seq: self.last_seq,
            queued_ms: self.queued(now).as_millis(),
            running_ms: self.ran(now).as_millis(),
            ended_ms: now.wall.0,
            inputs: VecDeque::new(),
        }
    }

    /// The row that stores what was asked.
    pub(crate) fn spec_row(&self, id: &RunId) -> Record {
        Record::Put { key: self.key(Table::RunSpec, id), value: crate::record::row(&*self.spec) }
    }

    /// The row that stores its tool calls.
    pub(crate) fn tools_row(&self, id: &RunId) -> Record {
        Record::Put { key: self.key(Table::RunTools, id), value: crate::record::row(&self.tools) }
    }

    /// One of its rows.
    pub(crate) fn key(&self, table: Table, id: &RunId) -> RowKey {
        RowKey { table, owner: self.spec.user.text(), name: id.text() }
    }

    /// The worker at which it is, or to which it is offered.
    pub(crate) const fn worker(&self) -> Option<&WorkerKey> {
        match &self.phase {
            Phase::Offered(worker)
            | Phase::Starting(worker)
            | Phase::Running(worker)
            | Phase::Cancelling(worker, _) => Some(worker),
            Phase::Queued { .. } | Phase::Ended | Phase::Gone => None,
        }
    }

    /// Whether this worker's `complete` ended it, in this attempt.
    pub(crate) fn completed_by(&self, key: &WorkerKey, attempt: u64) -> bool {
        self.completed_by.as_ref() == Some(key) && self.attempt == attempt
    }

    pub(crate) const fn is_queued(&self) -> bool {
        matches!(self.phase, Phase::Queued { .. })
    }

    /// Whether it waits for its user.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Running(_)) && !self.questions.open.is_empty()
    }

    pub(crate) const fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended | Phase::Gone)
    }

    /// Whether it is shown among the runs that have not ended: its first event is durable, its end is not.
    pub(crate) fn is_listed(&self, head: u64) -> bool {
        self.phase != Phase::Gone && self.first_seq <= head
    }

    /// Time executed so far, in all attempts.
    pub(crate) fn ran(&self, now: Now) -> Span {
        self.ran + self.running_since.map_or(Span::ZERO, |since| now.mono.since(since))
    }

    /// Time executed so far in this attempt.
    pub(crate) fn ran_in_attempt(&self, now: Now) -> Span {
        self.ran(now) - self.ran_before
    }

    /// Its worker is told that the start is durable, and may execute it: the offer was taken.
    pub(crate) fn ack_start(&mut self) {
        self.is_start_acked = true;
        self.not_taken = 0;
        self.avoid.clear();
    }

    /// The time of one attempt: as asked for, else as configured, else as its worker says. It is told with
    /// the offer and does not change with the worker's session.
    pub(crate) fn timeout(&self, config: &Config) -> Span {
        let configured = config.agents.get(&self.spec.agent).and_then(|agent| agent.timeout);
        let asked = self.spec.timeout_ms.map(Span::millis);
        let timeout = asked.or(configured).or(self.worker_timeout).unwrap_or(config.runs.timeout);
        timeout.min(config.runs.timeout_max)
    }

    /// Time queued before it was first taken.
    pub(crate) fn queued(&self, now: Now) -> Span {
        if self.attempts == 0 { self.waited(now) } else { self.queued }
    }

    /// Time queued since it came, or came back.
    pub(crate) fn waited(&self, now: Now) -> Span {
        self.queued_before + now.mono.since(self.queued_since)
    }

    /// Its state in one word of the protocol.
    pub(crate) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Running(_) if self.is_waiting() => "waiting",
            Phase::Queued { .. } => "queued",
            Phase::Offered(_) | Phase::Starting(_) => "dispatched",
            // An end that is not durable is not shown.
            Phase::Running(_) | Phase::Ended => "running",
            Phase::Cancelling(..) => "cancelling",
            Phase::Gone => "ended",
        }
    }

    /// As `welcome` lists it, in a stream that is durable up to `head`.
    pub(crate) fn describe(&self, id: &RunId, head: u64, now: Now) -> Object {
        let run = Object::new()
            .str("run", id.as_str())
            .str("thread", self.spec.thread.as_str())
            .str("agent", self.spec.agent.as_str())
            .str("state", self.state())
            .maybe_str("parent", self.spec.parent.as_ref().map(RunId::as_str))
            .raw("attempt", self.attempt)
            .raw("first_seq", self.first_seq)
            .raw("last_seq", self.last_seq.min(head))
            .raw("queued_ms", self.queued(now).as_millis())
            .raw("running_ms", self.ran(now).as_millis());
        self.progress.describe(run, head)
    }
}

/// The row of a run that has ended. Run ids are unique in the daemon: it has no owner in its key.
pub(crate) fn ended_key(id: &RunId) -> RowKey {
    RowKey { table: Table::Ended, owner: "".into(), name: id.text() }
}

/// The row of a user's run that has ended, among all of them: the one accepted last has the lowest name.
pub(crate) fn history_key(spec: &Spec, id: &RunId) -> RowKey {
    let (accepted, ordinal) = history_place(spec);
    let name = format!("{:016x}{:016x}/{id}", u64::MAX - accepted, u64::MAX - ordinal);
    RowKey { table: Table::History, owner: spec.user.text(), name: name.into() }
}

/// The place of a run among its user's: ascending in the order in which they were accepted.
pub(crate) const fn history_place(spec: &Spec) -> (u64, u64) {
    (spec.accepted_ms, spec.ordinal)
}

/// The run whose row this is among its user's ended ones, and its place.
pub(crate) fn history_run(key: &RowKey) -> Option<(RunId, (u64, u64))> {
    let (place, run) = key.name.split_once('/')?;
    let number = |digits: Option<&str>| u64::from_str_radix(digits?, 16).ok();
    let (accepted, ordinal) = (number(place.get(..16))?, number(place.get(16..))?);
    Some((RunId::parse(run)?, (u64::MAX - accepted, u64::MAX - ordinal)))
}

/// The row of an idempotency key.
pub(crate) fn key_key(user: &User, key: &Key) -> RowKey {
    RowKey { table: Table::Key, owner: user.text(), name: key.text() }
}

/// Bytes as the JSON that they are known to be.
pub(crate) fn raw_json(bytes: &Bytes) -> Box<RawValue> {
    serde_json::from_slice(bytes).expect("a payload was checked when it came in")
}
