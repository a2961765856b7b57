//! O14 and O15, for PROTOCOL §4 (`run_retrying`, `input_required`) and §6 (`cancel_grace`, "Lease"): what a
//! run waits for by time alone is not over before its time: the delay before a new attempt, the time to
//! answer a question, the grace after a cancel, its worker's lease. Nor is it later: a question is closed,
//! and a run that was to stop is ended, in the step in which their time has come.
//!
//! All is seen at the core's face, where a record that is given to the store is as old as the step. While the
//! store is full records are given late: then nothing is begun, and nothing judged.

use crate::said::{EventData, Said};
use crate::told::{self, Told};
use crate::watch::Cause;
use runcast_core::Core;
use runcast_core::config::Runs;
use runcast_core::effect::Effect;
use runcast_core::ids::{AppendId, ConnId};
use runcast_core::input::{Input, Message};
use runcast_core::record::{Record, Table};
use runcast_core::time::{Mono, Span};
use std::collections::BTreeMap;

/// The delay before the first new attempt, and the longest: each is twice as long as the one before.
const DELAY_MS: (u64, u64) = (500, 30_000);
/// The time to answer a question that names none, and the longest.
const ANSWER_MS: (u64, u64) = (24 * 3_600_000, 7 * 24 * 3_600_000);

/// Judges the delay of a `run_retrying` after so many attempts that have started.
///
/// # Errors
/// It is another than PROTOCOL says.
pub fn delay(event: &EventData<'_>, starts: u64) -> Result<(), String> {
    let doublings = u32::try_from(starts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let expected = (DELAY_MS.0 << doublings).min(DELAY_MS.1);
    if event.delay_ms == Some(expected) {
        return Ok(());
    }
    Err(format!("after {starts} attempts the delay is {:?}, and not {expected} ms", event.delay_ms))
}

/// That a run is to stop.
#[derive(Debug)]
struct Stop {
    /// The append that says so.
    append: u64,
    /// Since when that is durable.
    since: Option<Mono>,
}

/// What runs wait for in one process of the daemon.
#[derive(Debug)]
pub struct Spans {
    began: Mono,
    is_full: bool,
    /// What is given to the store in this step may be older: the store is full, or was so before it.
    is_late: bool,
    /// Before which time a run is not offered.
    delays: BTreeMap<String, Mono>,
    /// Until when a run's question may be answered.
    questions: BTreeMap<(String, String), Mono>,
    stops: BTreeMap<String, Stop>,
    /// By which worker each run is executed.
    workers: BTreeMap<String, String>,
    /// Workers' connections that have said who they are, when, and whether they were welcome.
    calls: BTreeMap<ConnId, (String, Mono, bool)>,
    /// When each worker was last heard.
    heard: BTreeMap<String, Mono>,
}

impl Spans {
    /// Of a process that has just started: leases and graces begin anew.
    pub fn open(core: &Core, now: Mono) -> Self {
        let runs = || core.inspect().runs();
        let stopping = runs().filter(|run| run.state == "cancelling");
        let stop = || Stop { append: 0, since: Some(now) };
        let workers = runs().filter_map(|run| Some((run.run.to_string(), run.worker?.to_owned())));
        Self {
            began: now,
            is_full: false,
            is_late: false,
            delays: BTreeMap::new(),
            questions: BTreeMap::new(),
            stops: stopping.map(|run| (run.run.to_string(), stop())).collect(),
            workers: workers.collect(),
            calls: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }

    /// An input is about to be handled.
    pub fn look(&mut self, now: Mono, input: &Input<'_>) {
        self.is_late = self.is_full;
        match input {
            Input::Message { conn, message: Message::Text(text) } => self.hear(now, *conn, text),
            Input::Closed { conn } => drop(self.calls.remove(conn)),
            Input::Appended { upto: AppendId(upto) } => {
                self.is_full = false;
                let durable = self.stops.values_mut().filter(|stop| stop.append <= *upto);
                durable.for_each(|stop| stop.since = stop.since.or(Some(now)));
            }
            Input::AppendFailed { .. } => (self.is_full, self.is_late) = (true, true),
            Input::Opened { .. }
            | Input::Request { .. }
            | Input::Body { .. }
            | Input::BadHead { .. }
            | Input::Message { .. }
            | Input::Verified { .. }
            | Input::Flushed { .. }
            | Input::Loaded { .. }
            | Input::Timer
            | Input::Called { .. }
            | Input::Memory { .. }
            | Input::BackedUp { .. }
            | Input::Drain => {}
        }
    }

    /// A worker is heard once it was welcome: whatever it said before waits for that.
    fn hear(&mut self, now: Mono, conn: ConnId, text: &str) {
        match self.calls.get(&conn) {
            Some((worker, _, true)) => drop(self.heard.insert(worker.clone(), now)),
            Some(_) => {}
            None => {
                let worker = told::worker_of_hello(text);
                self.calls.extend(worker.map(|worker| (conn, (worker.to_owned(), now, false))));
            }
        }
    }

    /// Something is said.
    ///
    /// # Errors
    /// A run is offered before its time.
    pub fn said(&mut self, now: Mono, conn: ConnId, told: &Told<'_>) -> Result<(), String> {
        match told {
            Told::Welcome => {
                if let Some((worker, at, is_welcome)) = self.calls.get_mut(&conn) {
                    *is_welcome = true;
                    let heard = self.heard.entry(worker.clone()).or_insert(*at);
                    *heard = (*heard).max(*at);
                }
                Ok(())
            }
            Told::Offer(run, _) => match self.delays.remove(*run) {
                Some(at) if now < at => {
                    Err(format!("{run} is offered {} ms before its delay is over", at.since(now).as_millis()))
                }
                Some(_) | None => Ok(()),
            },
            Told::Event(..)
            | Told::Topics
            | Told::Refreshed
            | Told::Withdraw(_)
            | Told::Cancel(..)
            | Told::TimeoutSoon(_)
            | Told::Heartbeat
            | Told::Error
            | Told::Other => Ok(()),
        }
    }

    /// A connection is closed: what is still said on it is not heard.
    pub fn closed(&mut self, conn: ConnId) {
        self.calls.remove(&conn);
    }

    /// Records are given to the store.
    ///
    /// # Errors
    /// What was over before its time.
    pub fn gives(&mut self, now: Mono, cause: &Cause, effect: &Effect, runs: &Runs) -> Result<(), String> {
        let Effect::Append { id: AppendId(id), records } = effect else { return Ok(()) };
        for record in records.iter() {
            match record {
                Record::Put { key, value } if key.table == Table::RunState && stops(value) => {
                    let stop = Stop { append: *id, since: None };
                    self.stops.entry(key.name.to_string()).or_insert(stop);
                }
                Record::Event { bytes, .. } => self.event(now, cause, bytes, runs)?,
                Record::Put { .. } | Record::Delete { .. } | Record::Trim { .. } => {}
            }
        }
        Ok(())
    }

    fn event(&mut self, now: Mono, cause: &Cause, bytes: &[u8], runs: &Runs) -> Result<(), String> {
        const KINDS: [&str; 5] =
            ["agent_started", "run_retrying", "input_required", "input_received", "agent_completed"];
        let kind = told::event(bytes);
        if !KINDS.contains(&kind) {
            return Ok(());
        }
        let said = std::str::from_utf8(bytes).ok().and_then(|text| Said::read(text).ok()).unwrap_or_default();
        let run = said.run.as_deref().unwrap_or_default();
        let data = said.data.map_or("{}", |data| data.get());
        let data: EventData<'_> = serde_json::from_str(data).unwrap_or_default();
        let judgement = self.judge(now, cause, (kind, run), &data, runs);
        match kind {
            "agent_started" => {
                self.workers.insert(run.to_owned(), data.worker.as_deref().unwrap_or_default().to_owned());
            }
            "run_retrying" => {
                let delay = Span::millis(data.delay_ms.unwrap_or(0));
                self.forget(run);
                self.delays.extend((!self.is_late).then(|| (run.to_owned(), now + delay)));
            }
            "input_required" => {
                let time = Span::millis(data.expires_ms.unwrap_or(ANSWER_MS.0).min(ANSWER_MS.1));
                let at = (run.to_owned(), data.request.as_deref().unwrap_or_default().to_owned());
                self.questions.extend((!self.is_late).then(|| (at, now + time)));
            }
            "input_received" => {
                let at = (run.to_owned(), data.request.as_deref().unwrap_or_default().to_owned());
                self.questions.remove(&at);
            }
            _ => self.forget(run),
        }
        judgement
    }

    /// Judges an event that may be there because of time.
    fn judge(
        &self,
        now: Mono,
        cause: &Cause,
        (kind, run): (&str, &str),
        data: &EventData<'_>,
        runs: &Runs,
    ) -> Result<(), String> {
        if self.is_late || *cause != Cause::Timer {
            return Ok(());
        }
        let early = |until: Mono, what: &str| {
            let left = until.since(now).as_millis();
            if until <= now { Ok(()) } else { Err(format!("{left} ms before {what} of {run} is over")) }
        };
        let code = data.error.as_ref().and_then(|error| error.code.as_deref());
        let lease = self.workers.get(run).map_or(self.began, |worker| self.heard_of(worker)) + runs.lease;
        match kind {
            "input_received" => {
                let at = (run.to_owned(), data.request.as_deref().unwrap_or_default().to_owned());
                early(self.questions.get(&at).copied().unwrap_or(now), "the time for a question")
            }
            "run_retrying" => early(lease, "the lease of the worker"),
            "agent_completed" if code == Some("worker_lost") => early(lease, "the lease of the worker"),
            "agent_completed" => match self.stops.get(run) {
                Some(stop) => {
                    let grace = stop.since.unwrap_or(now) + runs.cancel_grace;
                    early(grace.min(lease), "the grace")
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn heard_of(&self, worker: &str) -> Mono {
        self.heard.get(worker).copied().unwrap_or(self.began)
    }

    fn forget(&mut self, run: &str) {
        self.stops.remove(run);
        self.delays.remove(run);
        self.workers.remove(run);
        self.questions.retain(|(other, _), _| other != run);
    }

    /// Looks for what should be over by the last step, which was then.
    ///
    /// # Errors
    /// What is not.
    pub fn overdue(&self, now: Mono, core: &Core, runs: &Runs) -> Result<(), String> {
        if self.is_full {
            return Ok(());
        }
        for run in core.inspect().runs() {
            let id = run.run.as_str();
            let stopped = self.stops.get(id).filter(|_| run.state == "cancelling");
            let asked = self.questions.iter().filter(|((of, _), _)| run.state == "waiting" && of == id);
            let since = stopped.and_then(|stop| stop.since).map(|since| since + runs.cancel_grace);
            let first = since.into_iter().chain(asked.map(|(_, until)| *until)).min();
            if let Some(until) = first.filter(|until| *until < now) {
                let ms = now.since(until).as_millis();
                return Err(format!("{id} is {} still, {ms} ms after its time for that", run.state));
            }
        }
        Ok(())
    }
}

/// Whether a row of a run says that it is to stop.
fn stops(row: &[u8]) -> bool {
    let mark = b"\"cancel\":\"";
    row.windows(mark.len()).any(|window| window == mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::ids::AppendId;
    use runcast_core::record::{RowKey, StreamKey};

    const CONN: ConnId = ConnId(1);
    const RUN: &str = "run_t_00000001";

    fn spans() -> Spans {
        let (config, image) = (Default::default(), Default::default());
        let core = Core::open(config, [0; 32], image, Default::default(), &mut Vec::new());
        Spans::open(&core, Mono(0))
    }

    fn record(event: &str, data: &str) -> Record {
        let text = format!(
            "{{\"type\":\"event\",\"seq\":1,\"ts\":1,\"thread\":\"t\",\"run\":\"{RUN}\",\"attempt\":1,\
             \"event\":\"{event}\",\"data\":{data}}}"
        );
        Record::Event { stream: StreamKey("u:e:ann".into()), seq: 1, bytes: text.into() }
    }

    /// How it is judged that this is recorded at that time because a timer has fired.
    fn give(spans: &mut Spans, ms: u64, record: Record) -> bool {
        let append = Effect::Append { id: AppendId(1), records: [record].into() };
        spans.gives(Mono(ms * 1_000), &Cause::Timer, &append, &Runs::default()).is_ok()
    }

    fn event(spans: &mut Spans, ms: u64, event: &str, data: &str) -> bool {
        give(spans, ms, record(event, data))
    }

    /// A worker that has said something at these times, and executes the run since the first of them.
    fn worked(heard: &[u64]) -> Spans {
        let mut spans = spans();
        let mut hear = |ms: u64, text: &str| {
            spans.look(Mono(ms * 1_000), &Input::Message { conn: CONN, message: Message::Text(text) });
            spans.said(Mono(ms * 1_000), CONN, &Told::Welcome).unwrap();
        };
        hear(0, "{\"type\":\"hello\",\"worker\":\"w-1\",\"agents\":[]}");
        heard.iter().for_each(|ms| hear(*ms, "{\"type\":\"beat\"}"));
        assert!(event(&mut spans, 0, "agent_started", "{\"worker\":\"w-1\"}"));
        spans
    }

    #[test]
    fn a_lease_and_a_delay_have_all_of_their_time() {
        let lost = "{\"status\":\"worker_lost\",\"error\":{\"code\":\"worker_lost\"}}";
        assert!(!event(&mut worked(&[2_000]), 16_999, "agent_completed", lost));
        assert!(event(&mut worked(&[2_000]), 17_000, "agent_completed", lost));
        assert!(!event(&mut worked(&[2_000]), 16_999, "run_retrying", "{\"delay_ms\":500}"));
        let offered = |ms: u64| {
            let mut spans = worked(&[]);
            assert!(event(&mut spans, 15_000, "run_retrying", "{\"delay_ms\":500}"));
            spans.said(Mono(ms * 1_000), CONN, &Told::Offer(RUN, 1)).is_ok()
        };
        assert!(!offered(15_499) && offered(15_500));
        let data = EventData { delay_ms: Some(1_000), ..EventData::default() };
        assert!(delay(&data, 1).is_err() && delay(&data, 2).is_ok());
        assert!(delay(&EventData { delay_ms: Some(30_000), ..data }, 9).is_ok());
    }

    #[test]
    fn a_question_and_a_grace_have_all_of_their_time() {
        let asked = |ms: u64| {
            let mut spans = worked(&[]);
            event(&mut spans, 1_000, "input_required", "{\"request\":\"q\",\"expires_ms\":3000}");
            event(&mut spans, ms, "input_received", "{\"request\":\"q\",\"expired\":true}")
        };
        assert!(!asked(3_999) && asked(4_000));
        let stopped = |heard: &[u64], ms: u64| {
            let mut spans = worked(heard);
            let key = RowKey { table: Table::RunState, owner: "ann".into(), name: RUN.into() };
            give(&mut spans, 1_000, Record::Put { key, value: "{\"cancel\":\"User\"}".into() });
            spans.look(Mono(2_000_000), &Input::Appended { upto: AppendId(1) });
            event(&mut spans, ms, "agent_completed", "{\"status\":\"cancelled\"}")
        };
        assert!(!stopped(&[], 6_999) && stopped(&[], 7_000));
    }

    #[test]
    fn while_the_store_is_full_nothing_is_judged() {
        let mut spans = worked(&[]);
        spans.look(Mono(0), &Input::AppendFailed { from: AppendId(1) });
        assert!(event(&mut spans, 1_000, "run_retrying", "{\"delay_ms\":500}"));
        assert!(spans.said(Mono(1_000_000), CONN, &Told::Offer(RUN, 1)).is_ok());
    }
}
