//! O21: what the core may do, once more, in maps and lists: for all promises of PROTOCOL §2 at once.
//!
//! Fed with the core's inputs and effects, it follows every run through its states and every connection
//! through its stream. It has no timers and makes no choices: when something happens is the core's business,
//! whether it may is judged here, and after each step the core must show the state that follows. From before
//! the core was opened it knows only what the image, and answers of the store, say.

macro_rules! must {
    ($holds:expr, $($what:tt)+) => { if !$holds { return Err(format!($($what)+)); } };
}

mod line;
mod run;
mod watching;

use crate::said::Said;
use bytes::Bytes;
use line::Line;
use run::{Run, State};
use runcast_core::Core;
use runcast_core::config::Config;
use runcast_core::effect::Effect;
use runcast_core::ids::{AppendId, ConnId, LoadId};
use runcast_core::input::{Input, Message};
use runcast_core::record::{Found, Image, Record, RowKey, StreamKey, Table};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
pub use watching::Watching;

/// All runs and streams are looked at after so many steps: comparing them costs more than a step does.
const LOOK_EVERY: usize = 16;

/// What is wrong, in words.
type Judgement = Result<(), String>;

/// The model of one core, from its opening to its end.
#[derive(Debug, Default)]
pub struct Model {
    active: usize,
    active_per_user: usize,
    conns: BTreeMap<ConnId, Line>,
    runs: BTreeMap<String, Run>,
    /// Runs that have ended and that the core no longer has: their last message may yet be acknowledged
    /// again.
    forgotten: BTreeSet<String>,
    /// By user, or by topic (see [`log_of`]).
    logs: BTreeMap<String, Log>,
    /// Given to the store and not known to be durable.
    given: VecDeque<(AppendId, Arc<[Record]>)>,
    /// Whose events were asked for.
    pages: BTreeMap<LoadId, StreamKey>,
    /// The core keeps records to itself, since the store was full: what they say is not known here.
    is_blind: bool,
    steps: usize,
}

/// A stream.
#[derive(Debug, Default)]
struct Log {
    epoch: String,
    floor: u64,
    last: u64,
    head: u64,
    /// The head before the present step.
    head_before: u64,
    /// The events that were written or read since the core was opened.
    events: BTreeMap<u64, Bytes>,
    /// Those that were trimmed in the present step, perhaps after they were sent.
    gone: BTreeMap<u64, Bytes>,
}

impl Log {
    fn new(epoch: &str, floor: u64, head: u64) -> Self {
        Self { epoch: epoch.to_owned(), floor, last: head, head, head_before: head, ..Self::default() }
    }
}

/// Where the row of a run has its attempt,
const ATTEMPT: usize = 0;
/// its first event,
const FIRST_SEQ: usize = 1;
/// its worker's last message,
const N: usize = 2;
/// and the last event of its user's stream.
const STREAM_LAST: usize = 3;

impl Model {
    /// The model of a core that is being opened on this image.
    pub fn open(config: &Config, image: &Image) -> Self {
        let (active, active_per_user) = (config.runs.active, config.runs.active_per_user);
        let mut model = Self { active, active_per_user, ..Self::default() };
        image.rows.iter().for_each(|(key, value)| model.recall(key, value));
        // A run's row may know of newer events than its user's stream does.
        for (key, value) in image.rows.iter().filter(|(key, _)| key.table == Table::RunState) {
            if let Some(log) = model.logs.get_mut(&*key.owner) {
                log.last = log.last.max(number(&json(value)["at"][STREAM_LAST]));
                (log.head, log.head_before) = (log.last, log.last);
            }
        }
        model
    }

    /// Takes in a row of the image. They come by table: what was asked, how far it is, its tools last.
    fn recall(&mut self, key: &RowKey, value: &[u8]) {
        let row = json(value);
        let run = self.runs.get_mut(&*key.name);
        match (key.table, run) {
            (Table::RunSpec, _) => {
                let run = Run { state: State::Queued, ..Run::new(&key.owner, word(&row["thread"]), 0) };
                self.runs.insert(key.name.to_string(), run);
            }
            (Table::RunState, Some(run)) => {
                (run.attempt, run.first_seq) = (number(&row["at"][ATTEMPT]), number(&row["at"][FIRST_SEQ]));
                if !row["worker"].is_null() {
                    run.durable = (run.attempt, number(&row["at"][N]));
                    run.state = if row["cancel"].is_null() { State::Running } else { State::Cancelling };
                }
            }
            (Table::RunTools, Some(run)) => {
                run.open =
                    row["open"].as_object().into_iter().flatten().map(|(call, _)| call.clone()).collect();
            }
            (Table::RunQuestions, Some(run)) => {
                let open = row["open"].as_object().into_iter().flatten();
                run.questions = open.map(|(request, _)| request.clone()).collect();
            }
            _ => self.learn_stream(key, value),
        }
    }

    /// A stream, when it is first heard of.
    fn learn_stream(&mut self, key: &RowKey, value: &[u8]) {
        let owner = match (key.table, key.name.strip_suffix("/stream")) {
            (Table::User, None) if &*key.name == "stream" => key.owner.to_string(),
            (Table::Topic, Some(topic)) => of_topic(topic),
            _ => return,
        };
        self.logs.entry(owner).or_insert_with(|| {
            let row = json(value);
            Log::new(word(&row["epoch"]), number(&row["floor"]), number(&row["last"]))
        });
    }

    fn run(&mut self, said: &Said<'_>) -> Result<&mut Run, String> {
        self.runs
            .get_mut(said.run.as_deref().unwrap_or_default())
            .ok_or_else(|| format!("no run {:?}", said.run))
    }

    /// An input is about to be handled.
    ///
    /// # Errors
    /// The store contradicts itself.
    pub fn hears(&mut self, input: &Input<'_>) -> Judgement {
        match input {
            Input::Opened { conn, .. } => drop(self.conns.insert(*conn, Line::default())),
            Input::Closed { conn } => drop(self.conns.remove(conn)),
            Input::Request { conn, head } => {
                self.conns.entry(*conn).and_modify(|line| line.is_worker = head.path == "/worker");
            }
            Input::Verified { conn, outcome: Ok(claims) } => {
                self.conns.entry(*conn).and_modify(|line| line.knows(claims));
            }
            Input::Message { conn, message: Message::Text(text) } => self.hears_text(*conn, text),
            Input::Body { conn, body } => self.hears_body(*conn, body),
            Input::Appended { upto } => {
                while let Some((_, records)) = self.given.pop_front_if(|(id, _)| *id <= *upto) {
                    records.iter().try_for_each(|record| self.is_stored(record))?;
                }
            }
            Input::Loaded { load, found: Found::Events(events) } => return self.is_read(*load, events),
            Input::Loaded { found: Found::Rows(rows), .. } => {
                rows.iter().for_each(|(key, value)| self.learn_stream(key, value));
            }
            Input::BadHead { .. }
            | Input::Verified { .. }
            | Input::Message { .. }
            | Input::Flushed { .. }
            | Input::AppendFailed { .. }
            | Input::Loaded { .. }
            | Input::Timer
            | Input::Called { .. }
            | Input::Memory { .. }
            | Input::BackedUp { .. }
            | Input::Drain => {}
        }
        Ok(())
    }

    fn hears_text(&mut self, conn: ConnId, text: &str) {
        let Some(line) = self.conns.get_mut(&conn) else { return };
        let Ok(fields) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(text) else { return };
        let raw = |name: &str| fields.get(name).map_or("null", |raw| raw.get());
        let text = |name: &str| serde_json::from_str::<String>(raw(name)).unwrap_or_default();
        let number = |name: &str| serde_json::from_str::<u64>(raw(name)).unwrap_or_default();
        match (line.is_worker, text("type").as_str(), self.runs.get_mut(&text("run"))) {
            (false, "ack", _) => {
                let lane = line.lanes.entry(text("topic")).or_default();
                lane.acked = lane.acked.max(number("seq"));
            }
            (true, "event", Some(run)) => {
                run.heard.push_back((number("attempt"), text("event"), raw("data").to_owned()));
            }
            _ => {}
        }
    }

    /// A request may acknowledge what one of its user's devices is sent elsewhere.
    fn hears_body(&mut self, conn: ConnId, body: &[u8]) {
        let (Some(by), body) = (self.conns.get(&conn).map(|line| line.user.clone()), json(body)) else {
            return;
        };
        for line in self.conns.values_mut().filter(|line| line.user == by) {
            if let Some(lane) = line.lanes.get_mut(word(&body["topic"])) {
                lane.acked = lane.acked.max(number(&body["seq"]));
            }
        }
    }

    fn is_read(&mut self, load: LoadId, events: &[(u64, Bytes)]) -> Judgement {
        let Some(log) = self.pages.remove(&load).and_then(|it| self.logs.get_mut(&log_of(&it))) else {
            return Ok(());
        };
        for (seq, bytes) in events.iter().filter(|(seq, _)| *seq >= log.floor) {
            let known = log.events.entry(*seq).or_insert_with(|| bytes.clone());
            must!(known == bytes, "seq {seq} was read as {bytes:?}, it was {known:?}");
        }
        Ok(())
    }

    /// A record is durable.
    fn is_stored(&mut self, record: &Record) -> Judgement {
        match record {
            Record::Event { stream, seq, bytes } => {
                self.log(&log_of(stream))?.head = *seq;
                let (said, step) = (read(bytes)?, self.steps);
                if said.topic.is_some() {
                    return Ok(());
                }
                let run = self.run(&said)?;
                match said.event.as_deref() {
                    Some("run_queued") => run.state = run.state.max(State::Queued),
                    Some("agent_started") => {
                        run.durable = (said.attempt.unwrap_or(0), 0);
                        if run.state == State::Starting && run.attempt == run.durable.0 {
                            (run.state, run.started_at) = (State::Running, step);
                        }
                    }
                    Some("agent_completed") => (run.state, run.heard) = (State::Ended, VecDeque::new()),
                    _ => {}
                }
            }
            Record::Put { key, value } if key.table == Table::RunState => {
                let row = json(value);
                let run = self.runs.get_mut(&*key.name).ok_or("no run has this row")?;
                if run.durable.0 == number(&row["at"][ATTEMPT]) {
                    run.durable.1 = run.durable.1.max(number(&row["at"][N]));
                }
            }
            Record::Put { .. } | Record::Delete { .. } | Record::Trim { .. } => {}
        }
        Ok(())
    }

    /// The input was handled: judges what came of it, and then compares the core's state with this.
    ///
    /// # Errors
    /// What the core may not do, or where it differs.
    pub fn judge(&mut self, effects: &[Effect], core: &Core) -> Judgement {
        for effect in effects {
            if let Effect::Append { id, records } = effect {
                self.is_given(*id, records)?;
            }
        }
        self.is_blind = core.inspect().appends_waiting() != self.given.len();
        for effect in effects {
            self.is_done(effect).map_err(|what| format!("{what}: {effect:?}"))?;
        }
        self.compare(core)
    }

    fn is_given(&mut self, id: AppendId, records: &Arc<[Record]>) -> Judgement {
        if let Some((_, before)) = self.given.iter().find(|(other, _)| *other == id) {
            must!(before == records, "{id:?} is given again as something else");
            return Ok(());
        }
        let last = self.given.back().map_or(id.0 - 1, |(last, _)| last.0);
        must!(last + 1 == id.0, "{id:?} is given after {last}");
        self.given.push_back((id, records.clone()));
        records.iter().try_for_each(|record| self.is_written(record))?;
        // Of the rows of a stream that one step writes the last is kept, where the first was: before events.
        for record in records.iter() {
            if let Record::Put { key, value } = record {
                self.learn_stream(key, value);
            }
        }
        Ok(())
    }

    /// A record is on its way to the store.
    fn is_written(&mut self, record: &Record) -> Judgement {
        match record {
            Record::Event { stream, seq, bytes } => {
                let (owner, said) = (log_of(stream), read(bytes)?);
                if *seq == 1 && !self.logs.contains_key(&owner) {
                    let epoch = stream.0.split(':').nth(1).unwrap_or_default();
                    self.logs.insert(owner.clone(), Log::new(epoch, 1, 0));
                }
                let log = self.log(&owner)?;
                must!(*seq == log.last + 1, "seq {seq} is written after {}", log.last);
                log.last = *seq;
                log.events.insert(*seq, bytes.clone());
                if said.topic.is_some() {
                    return Ok(());
                }
                return self.is_event(&owner, &said).map_err(|what| format!("{what}: {said:?}"));
            }
            Record::Put { key, value } if key.table == Table::RunState => {
                let row = json(value);
                let run = self.runs.get_mut(&*key.name).ok_or("no run has this row")?;
                run.changed_at = self.steps;
                // What a full store made wait may be older than the offer that followed.
                if number(&row["at"][ATTEMPT]) < run.attempt {
                    return Ok(());
                }
                match (run.state, row["cancel"].is_null(), row["worker"].is_null()) {
                    (State::Starting | State::Running | State::Cancelling, false, _) => {
                        run.questions.clear();
                        run.state = State::Cancelling;
                    }
                    (state, false, _) => must!(self.is_blind, "{} is cancelled, it is {state:?}", key.name),
                    (State::Offered | State::Starting | State::Running, true, true) => {
                        run.state = State::Queued
                    }
                    _ => {}
                }
            }
            Record::Trim { stream, floor } => {
                let log = self.log(&log_of(stream))?;
                let kept = log.events.split_off(floor);
                log.gone.append(&mut std::mem::replace(&mut log.events, kept));
                log.floor = *floor;
            }
            // A user is erased, and begins anew.
            Record::Delete { key } if key.table == Table::User && &*key.name == "stream" => {
                self.logs.remove(&*key.owner);
            }
            Record::Put { .. } | Record::Delete { .. } => {}
        }
        Ok(())
    }

    fn is_event(&mut self, user: &str, said: &Said<'_>) -> Judgement {
        let (kind, attempt) = (said.event.as_deref().unwrap_or_default(), said.attempt.unwrap_or(0));
        if kind == "run_queued" {
            let run = Run::new(user, said.thread.as_deref().unwrap_or_default(), said.seq.unwrap_or(0));
            let before = self.runs.insert(said.run.as_deref().unwrap_or_default().to_owned(), run);
            must!(before.is_none(), "the run was there before");
            return Ok(());
        }
        let (is_blind, step) = (self.is_blind, self.steps);
        let run = self.run(said)?;
        // Of the rows that one step writes only the last is kept, where the first was: it may be ahead of
        // events.
        let is_ahead = run.changed_at == step;
        run.changed_at = step;
        must!(run.user == user && run.state < State::Ending, "{}'s run is {:?}", run.user, run.state);
        match kind {
            "agent_started" if run.state == State::Offered && run.attempt == attempt => {
                run.state = State::Starting;
            }
            "agent_started" => must!(is_blind, "attempt {} is {:?}", run.attempt, run.state),
            "agent_completed" => {
                run.state = State::Ending;
                must!(run.open.is_empty(), "calls are open: {:?}", run.open);
            }
            _ => return run.takes(attempt, kind, said.data.map_or("", RawValue::get), is_blind || is_ahead),
        }
        Ok(())
    }

    fn log(&mut self, owner: &str) -> Result<&mut Log, String> {
        self.logs.get_mut(owner).ok_or_else(|| format!("no stream of {owner}"))
    }

    fn offers(&mut self, said: &Said<'_>) -> Judgement {
        let run = &*self.run(said)?;
        let attempt = said.attempt.unwrap_or(0);
        must!(attempt > run.attempt, "attempt {} was before", run.attempt);
        if !self.is_blind {
            let run = &self.runs[said.run.as_deref().unwrap_or_default()];
            must!(run.state == State::Queued, "the run is {:?}", run.state);
            let is_of_thread = |other: &&Run| other.user == run.user && other.thread == run.thread;
            let is_before = |other: &Run| other.first_seq < run.first_seq && other.state < State::Ending;
            let before = self.runs.values().filter(is_of_thread).find(|other| is_before(other));
            must!(before.is_none(), "its thread has an earlier run: {before:?}");
            let active: Vec<&Run> = self.runs.values().filter(|run| run.is_active()).collect();
            let own = active.iter().filter(|other| other.user == run.user).count();
            let is_free = active.len() < self.active && own < self.active_per_user;
            must!(is_free, "{} runs are active, {own} of its user", active.len());
        }
        let run = self.run(said)?;
        (run.state, run.attempt) = (State::Offered, attempt);
        Ok(())
    }

    /// Compares the core's state with what it must be.
    fn compare(&mut self, core: &Core) -> Judgement {
        let view = core.inspect();
        must!(
            view.connections() == self.conns.len(),
            "of {:?} the core has {}",
            self.conns,
            view.connections()
        );
        self.steps += 1;
        for log in self.logs.values_mut() {
            log.head_before = log.head;
            log.gone.clear();
        }
        if self.is_blind || !self.steps.is_multiple_of(LOOK_EVERY) {
            return Ok(());
        }
        let count = |is: fn(&Run) -> bool| self.runs.values().filter(|run| is(run)).count();
        let counted = (count(|run| run.state <= State::Queued), count(Run::is_active));
        let is = (view.queued(), view.active());
        must!(is == counted, "(queued, active) of {is:?} is {counted:?}");
        let mut seen = BTreeSet::new();
        for found in view.runs() {
            let run = self.runs.get(found.run.as_str()).ok_or_else(|| format!("{found:?} is unknown"))?;
            let is_right = (run.user.as_str(), run.word(), run.attempt)
                == (found.user.as_str(), found.state, found.attempt);
            must!(is_right, "{found:?} is {run:?}");
            seen.insert(found.run.as_str());
        }
        let is_over = |id: &String, run: &mut Run| run.state == State::Ended && !seen.contains(id.as_str());
        self.forgotten.extend(self.runs.extract_if(.., is_over).map(|(id, _)| id));
        must!(self.runs.len() == seen.len(), "of {:?} the core has {seen:?}", self.runs.keys());
        for (user, log) in &self.logs {
            let found = user.strip_prefix(TOPIC).map_or(view.stream(user), |topic| view.topic(topic));
            let Some((epoch, floor, head)) = found else { continue };
            let is_right = (epoch.as_str(), floor, head) == (&*log.epoch, log.floor, log.head);
            must!(is_right, "the stream of {user} is {epoch:?} from {floor} to {head}, it should be {log:?}");
        }
        Ok(())
    }
}

/// Begins the names of topics' logs: no user's name has it.
const TOPIC: &str = "\n";

fn of_topic(topic: &str) -> String {
    format!("{TOPIC}{topic}")
}

/// A stream's key is `u:{epoch}:{user}` or `t:{epoch}:{topic}`.
fn log_of(stream: &StreamKey) -> String {
    let owner = stream.0.splitn(3, ':').nth(2).unwrap_or_default();
    if stream.0.starts_with("t:") { of_topic(owner) } else { owner.to_owned() }
}

fn read(text: &[u8]) -> Result<Said<'_>, String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    Said::read(text).map_err(|error| error.to_string())
}

fn json(row: &[u8]) -> Value {
    serde_json::from_slice(row).unwrap_or_default()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}
