//! What is true: the events that the store has acknowledged, and what follows from them.
//!
//! Fed only by the records that reached stable storage (and, after a crash, by what is found there), never by
//! what the daemon says. All other oracles compare with this.

use super::alerts::Alerts;
use super::joined::Delta;
use crate::said::{EventData, Said};
use runcast_core::record::{Record, StreamKey};
use std::collections::{BTreeMap, BTreeSet};

/// Begins every secret that a user's payloads carry.
pub const SECRET: &str = "zq7-";

/// The secret of a user: 16 characters that nothing else contains.
pub fn secret(user: usize) -> String {
    let noise = (user as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    format!("{SECRET}{user:04}{noise:08x}")
}

/// The users whose secrets a text carries.
pub fn secrets(text: &str) -> impl Iterator<Item = usize> + '_ {
    text.match_indices(SECRET).filter_map(|(at, _)| text.get(at + 4..at + 8)?.parse().ok())
}

/// The mark by which a worker's message is known again in the log: its `n`.
pub fn mark(n: u64) -> String {
    format!("#n={n};")
}

fn marked(text: &str) -> Option<u64> {
    let from = text.find("#n=")? + 3;
    let length = text[from..].find(';')?;
    text[from..from + length].parse().ok()
}

/// The mark of a publication: who says it, and how many they have said before.
pub fn published(data: &str) -> Option<&str> {
    let from = data.find("#pub=")? + 5;
    let length = data[from..].find(';')?;
    Some(&data[from..from + length])
}

/// One user's log.
#[derive(Debug)]
pub struct StreamTruth {
    /// What was said under seq 1, 2, 3 …, as [`Said::content`].
    pub contents: Vec<u64>,
    /// The oldest seq that must still be there.
    pub floor: u64,
    /// Those that are critical, ascending.
    critical: Vec<u64>,
    /// Those that are deltas.
    deltas: Vec<Option<Delta>>,
}

impl StreamTruth {
    /// The newest durable seq.
    pub fn head(&self) -> u64 {
        self.contents.len() as u64
    }

    /// The deltas among the events after `prev` and up to `seq`; none if these are not durable.
    pub fn deltas(&self, prev: u64, seq: u64) -> Option<&[Option<Delta>]> {
        self.deltas.get(usize::try_from(prev).ok()?..usize::try_from(seq).ok()?)
    }

    /// How many critical events there are after `from` and up to `to`.
    pub fn critical_between(&self, from: u64, to: u64) -> u64 {
        let upto = |seq| self.critical.partition_point(|other| *other <= seq) as u64;
        upto(to) - upto(from)
    }
}

/// One run, as its durable events tell.
#[derive(Debug, Default)]
pub struct RunTruth {
    /// Whose: known from the secret in its input.
    pub user: Option<usize>,
    /// Its conversation.
    pub thread: String,
    /// What executes it.
    pub agent: String,
    /// The log that it writes to …
    pub stream: Option<StreamKey>,
    /// … and the seq of its first event there.
    pub first_seq: u64,
    /// The attempt that a worker took last …
    pub started: Option<u64>,
    /// … and how many were taken.
    pub starts: u64,
    /// The calls of that attempt: whether each is still open.
    pub calls: BTreeMap<String, bool>,
    /// The questions of that attempt: whether each is still open.
    pub questions: BTreeMap<String, bool>,
    /// What its user has said to it, in all attempts: to which question, if to one, and in which words.
    pub inputs: Vec<(Option<String>, serde_json::Value)>,
    /// How it ended …
    pub ended: Option<String>,
    /// … and when, as that event says.
    pub ended_ts: Option<u64>,
    /// Worker's messages of the attempt that are durable or refused: all up to here …
    pub through: u64,
    /// … and these.
    pub beyond: BTreeSet<u64>,
    /// How many events it has.
    pub events: u64,
    /// The seq of its newest.
    pub last_seq: u64,
    /// Its user was erased.
    pub is_erased: bool,
}

impl RunTruth {
    /// Its user and its thread.
    fn place(&self) -> (usize, String) {
        (self.user.unwrap_or(usize::MAX), self.thread.clone())
    }

    /// Whether it waits for an answer.
    fn is_waiting(&self) -> bool {
        self.ended.is_none() && self.questions.values().any(|is_open| *is_open)
    }

    /// A worker's message is dealt with.
    pub(crate) fn deal_with(&mut self, n: u64) {
        self.beyond.insert(n);
        while self.beyond.remove(&(self.through + 1)) {
            self.through += 1;
        }
    }
}

/// An event that has just become durable, as the other oracles want it.
#[derive(Debug)]
pub struct Stored<'a> {
    /// The event.
    pub said: &'a Said<'a>,
    /// Which event.
    pub kind: &'a str,
    /// Its data, as far as anyone looks.
    pub data: EventData<'a>,
    /// The worker's number of it.
    pub n: Option<u64>,
    /// Of an `agent_started`: the oldest run of its thread that has not ended.
    pub first_of_thread: Option<String>,
}

/// All that is known to be durable.
#[derive(Debug, Default)]
pub struct Truth {
    streams: BTreeMap<StreamKey, StreamTruth>,
    /// Those of a disk that is lost: events of theirs may still be on their way to clients.
    lost: BTreeMap<StreamKey, StreamTruth>,
    epochs: BTreeMap<(usize, String), StreamKey>,
    /// The runs.
    pub runs: BTreeMap<String, RunTruth>,
    /// How many of them have not ended, by user.
    alive: BTreeMap<usize, u64>,
    /// Those, by user and thread, oldest first.
    threads: BTreeMap<(usize, String), Vec<String>>,
    /// How many of those wait for their user.
    waiting: BTreeMap<usize, u64>,
    /// Under which seq each publication stands, by topic and mark.
    pub published: BTreeMap<(String, String), u64>,
    /// What the topic `alerts` says.
    pub alerts: Alerts,
}

impl Truth {
    /// The log of a user in this incarnation, if anything of it is durable.
    pub fn stream(&mut self, user: usize, epoch: &str) -> Option<&StreamTruth> {
        let at = (user, epoch.to_owned());
        if !self.epochs.contains_key(&at) {
            let holds = |key: &&StreamKey| key.0.contains(epoch);
            let key = self.streams.keys().chain(self.lost.keys()).find(holds)?.clone();
            self.epochs.insert(at.clone(), key);
        }
        let key = &self.epochs[&at];
        self.streams.get(key).or_else(|| self.lost.get(key))
    }

    /// The disk is lost, and all that was durable with it.
    pub fn forget(&mut self) {
        self.lost.append(&mut self.streams);
        self.runs.clear();
        self.alive.clear();
        self.threads.clear();
        self.published.clear();
        self.alerts = Alerts::default();
    }

    /// A user's own logs.
    pub fn streams_of(&self, name: &str) -> impl Iterator<Item = (&StreamKey, &StreamTruth)> {
        self.streams.iter().filter(move |(key, _)| is_of(key, name))
    }

    /// Whether anything of a user's is durable.
    pub fn has_stream(&self, name: &str) -> bool {
        self.streams_of(name).next().is_some()
    }

    /// A user is erased. What was said may still be on its way to clients and workers.
    pub fn erase(&mut self, name: &str) {
        let of_user = self.streams.extract_if(.., |key, _| is_of(key, name));
        self.lost.extend(of_user);
        for run in self.runs.values_mut() {
            run.is_erased |= run.stream.as_ref().is_some_and(|key| is_of(key, name));
        }
    }

    /// All logs.
    pub fn streams(&self) -> impl Iterator<Item = (&StreamKey, &StreamTruth)> {
        self.streams.iter()
    }

    /// Whether a user has a run that has not ended and does not wait for its user.
    pub fn is_alive(&self, user: usize) -> bool {
        let waiting = self.waiting.get(&user).copied().unwrap_or(0);
        self.alive.get(&user).is_some_and(|count| *count > waiting)
    }

    /// The runs that have not ended and write to this log.
    pub fn alive_on<'a>(&'a self, key: &'a StreamKey) -> impl Iterator<Item = (&'a String, &'a RunTruth)> {
        self.runs.iter().filter(move |(_, run)| run.ended.is_none() && run.stream.as_ref() == Some(key))
    }

    /// Whether a run that has not ended has a tool open.
    pub fn has_open_tool(&self) -> bool {
        let is_open = |run: &RunTruth| run.ended.is_none() && run.calls.values().any(|open| *open);
        self.runs.values().any(is_open)
    }

    /// How many runs have not ended.
    pub fn alive(&self) -> u64 {
        self.alive.values().sum()
    }

    fn first_of_thread(&self, run: &str) -> Option<String> {
        self.threads.get(&self.runs.get(run)?.place())?.first().cloned()
    }

    /// Takes in one durable record. `judge` sees each event with its run before the run is changed by it.
    ///
    /// # Errors
    /// A seq was used again or left out (O4), or an event cannot be read.
    pub fn store(
        &mut self,
        record: &Record,
        judge: &mut dyn FnMut(&Stored<'_>, &RunTruth) -> Result<(), String>,
    ) -> Result<(), String> {
        match record {
            Record::Event { stream, seq, bytes } => {
                let text = std::str::from_utf8(bytes).map_err(|_| "an event is not UTF-8".to_owned())?;
                let said =
                    Said::read(text).map_err(|error| format!("an event is not readable: {error}: {text}"))?;
                let log = self.streams.entry(stream.clone()).or_default();
                let next = log.head() + 1;
                if *seq != next || said.seq != Some(*seq) {
                    return Err(format!("after seq {} of {stream:?} comes {seq}: {text}", next - 1));
                }
                log.contents.push(said.content());
                log.deltas.push(Delta::of(&said));
                if is_critical(said.event.as_deref().unwrap_or_default()) {
                    log.critical.push(next);
                }
                match &said.topic {
                    Some(topic) => self.publish(stream, topic, &said),
                    None => self.advance(stream, &said, judge),
                }
            }
            Record::Trim { stream, floor } => {
                if let Some(log) = self.streams.get_mut(stream) {
                    log.floor = log.floor.max(*floor);
                }
                Ok(())
            }
            Record::Put { .. } | Record::Delete { .. } => Ok(()),
        }
    }

    /// An event of a topic: each publication once.
    fn publish(&mut self, stream: &StreamKey, topic: &str, said: &Said<'_>) -> Result<(), String> {
        if !stream.0.starts_with("t:") || !stream.0.ends_with(&format!(":{topic}")) {
            return Err(format!("an event of {topic} lies in {stream:?}: {said:?}"));
        }
        if topic == "alerts" {
            self.alerts.stored(said)?;
        }
        let Some(mark) = said.data.and_then(|data| published(data.get())) else { return Ok(()) };
        let seq = said.seq.unwrap_or(0);
        match self.published.insert((topic.to_owned(), mark.to_owned()), seq) {
            None => Ok(()),
            Some(before) => Err(format!("{mark} is published as {before}, and again: {said:?}")),
        }
    }

    fn advance(
        &mut self,
        stream: &StreamKey,
        said: &Said<'_>,
        judge: &mut dyn FnMut(&Stored<'_>, &RunTruth) -> Result<(), String>,
    ) -> Result<(), String> {
        let id = Said::must(said.run.as_deref(), "run")?;
        let kind = Said::must(said.event.as_deref(), "event")?;
        let text = said.data.map_or("{}", |data| data.get());
        let data: EventData<'_> = serde_json::from_str(text).unwrap_or_default();
        let first_of_thread = if kind == "agent_started" { self.first_of_thread(id) } else { None };
        let stored = Stored { said, kind, data, n: marked(text), first_of_thread };
        if !self.runs.contains_key(id) {
            self.runs.insert(id.to_owned(), RunTruth::default());
        }
        let run = self.runs.get_mut(id).expect("it was just put there");
        judge(&stored, run)?;
        run.events += 1;
        run.last_seq = said.seq.unwrap_or(0);
        let was_waiting = run.is_waiting();
        if kind == "input_received" && stored.data.expired != Some(true) {
            run.inputs.push(spoken(text));
        }
        match kind {
            "run_queued" => {
                run.user = secrets(text).next();
                run.thread = said.thread.as_deref().unwrap_or_default().to_owned();
                run.agent = stored.data.agent.as_deref().unwrap_or_default().to_owned();
                self.threads.entry(run.place()).or_default().push(id.to_owned());
                run.stream = Some(stream.clone());
                run.first_seq = said.seq.unwrap_or(0);
                *self.alive.entry(run.user.unwrap_or(usize::MAX)).or_default() += 1;
            }
            "agent_started" => {
                run.started = said.attempt;
                run.starts += 1;
                run.calls.clear();
                run.questions.clear();
                run.through = 0;
                run.beyond.clear();
            }
            "tool_executing" => drop(run.calls.insert(call(&stored.data), true)),
            "tool_completed" => drop(run.calls.insert(call(&stored.data), false)),
            "input_required" => drop(run.questions.insert(request(&stored.data), true)),
            "input_received" if stored.data.request.is_some() => {
                run.questions.insert(request(&stored.data), false);
            }
            "agent_completed" => {
                if let Some(thread) = self.threads.get_mut(&run.place()) {
                    thread.retain(|other| other != id);
                }
                run.ended = Some(stored.data.status.as_deref().unwrap_or_default().to_owned());
                run.ended_ts = said.ts;
                let alive = self.alive.entry(run.user.unwrap_or(usize::MAX)).or_default();
                *alive = alive.saturating_sub(1);
            }
            _ => {}
        }
        match stored.n {
            Some(n) => run.deal_with(n),
            // Without a mark it must be the next.
            None if matches!(kind, "agent_thinking" | "agent_output") => run.deal_with(run.through + 1),
            None => {}
        }
        let waiting = self.waiting.entry(run.user.unwrap_or(usize::MAX)).or_default();
        *waiting = *waiting + u64::from(run.is_waiting()) - u64::from(was_waiting);
        Ok(())
    }
}

impl Default for StreamTruth {
    fn default() -> Self {
        Self { contents: Vec::new(), floor: 1, critical: Vec::new(), deltas: Vec::new() }
    }
}

/// Whether this is a log of this user: `u:{epoch}:{user}`.
fn is_of(key: &StreamKey, name: &str) -> bool {
    let mut parts = key.0.splitn(3, ':');
    parts.next() == Some("u") && parts.nth(1) == Some(name)
}

/// Whether an event counts for delivery (PROTOCOL §1): a delta may be joined with others, and progress is
/// only told.
pub fn is_critical(kind: &str) -> bool {
    !matches!(kind, "agent_thinking" | "agent_output") && !kind.ends_with("_progress")
}

/// The call that a tool's event names.
pub fn call(data: &EventData<'_>) -> String {
    data.call.as_deref().unwrap_or_default().to_owned()
}

/// The question, if there is one, and the words of an `input_received`.
fn spoken(data: &str) -> (Option<String>, serde_json::Value) {
    let mut data: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
    (data["request"].as_str().map(str::to_owned), data["data"].take())
}

fn request(data: &EventData<'_>) -> String {
    data.request.as_deref().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_names_its_user_wherever_it_stands() {
        let text = format!("…{}…{}", secret(3), secret(41));
        assert_eq!(secrets(&text).collect::<Vec<_>>(), [3, 41]);
        assert_eq!(marked(&mark(17)), Some(17));
    }
}
