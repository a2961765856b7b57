//! O16, for PROTOCOL §5 "`ok` when it is durable": when a user is told that an input was taken it stands in
//! the log, with its words; and that a run is being cancelled, or has ended, is stored when that is told.
//!
//! What was asked is heard at the core's face, over WebSockets and over HTTP; what is durable by then, the
//! truth says.

use super::restart::Rows;
use super::truth::{RunTruth, Truth};
use crate::said::Said;
use runcast_core::effect::{Content, Effect};
use runcast_core::ids::ConnId;
use runcast_core::input::{Input, Message};
use runcast_core::record::{RowKey, Table};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// An input or a cancel, as it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Asked {
    #[serde(rename = "type", default)]
    kind: String,
    id: Option<String>,
    #[serde(default)]
    run: String,
    request: Option<String>,
    #[serde(default)]
    data: Value,
}

/// What an answer promises to be durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Promised {
    /// Of this run, an answer to this question (or none), in these words.
    Input(String, Option<String>, Value),
    /// That this run is being cancelled, or, as the second says, has ended.
    Cancel(String, bool),
}

impl Promised {
    /// Judges the promise.
    ///
    /// # Errors
    /// What is not durable.
    pub fn judge(&self, truth: &Truth, rows: &Rows) -> Result<(), String> {
        let (Self::Input(id, ..) | Self::Cancel(id, _)) = self;
        let Some(run) = truth.runs.get(id) else { return Err(format!("{self:?}, and there is no such run")) };
        let is_kept = run.is_erased
            || match self {
                Self::Input(_, request, data) => {
                    run.inputs.iter().any(|(of, words)| of == request && words == data)
                }
                Self::Cancel(_, is_over) => run.ended.is_some() || (!is_over && stops(rows, run, id)),
            };
        if is_kept { Ok(()) } else { Err(format!("{self:?} is promised, and not durable: {run:?}")) }
    }
}

/// Whether it is stored that a run is to stop.
fn stops(rows: &Rows, run: &RunTruth, id: &str) -> bool {
    let owner = run.stream.as_ref().and_then(|key| key.0.splitn(3, ':').nth(2)).unwrap_or_default();
    let key = RowKey { table: Table::RunState, owner: owner.into(), name: id.into() };
    let row = rows.get(&key).and_then(|row| serde_json::from_slice(row).ok());
    row.is_some_and(|row: Value| !row["cancel"].is_null())
}

/// What was asked in one process of the daemon, and is not answered.
#[derive(Debug, Default)]
pub struct Answers {
    asked: BTreeMap<(ConnId, Option<String>), Asked>,
    promised: Vec<Promised>,
}

impl Answers {
    /// An input is about to be handled.
    pub fn look(&mut self, input: &Input<'_>) {
        match input {
            Input::Message { conn, message: Message::Text(text) } => self.hear(*conn, text),
            Input::Request { conn, head } if head.method == "POST" => {
                if let Some(asked) = read_path(head.path) {
                    self.asked.insert((*conn, None), asked);
                }
            }
            Input::Body { conn, body } => {
                let said: Asked = serde_json::from_slice(body).unwrap_or_default();
                if let Some(asked) = self.asked.get_mut(&(*conn, None)) {
                    (asked.request, asked.data) = (said.request, said.data);
                }
            }
            Input::Closed { conn } => self.asked.retain(|(other, _), _| other != conn),
            Input::Opened { .. }
            | Input::Request { .. }
            | Input::BadHead { .. }
            | Input::Message { .. }
            | Input::Verified { .. }
            | Input::Flushed { .. }
            | Input::Appended { .. }
            | Input::AppendFailed { .. }
            | Input::Loaded { .. }
            | Input::Timer
            | Input::Called { .. }
            | Input::Memory { .. }
            | Input::BackedUp { .. }
            | Input::Drain => {}
        }
    }

    /// A user says something.
    fn hear(&mut self, conn: ConnId, text: &str) {
        let is_one =
            ["{\"type\":\"input\"", "{\"type\":\"cancel\""].iter().any(|kind| text.starts_with(kind));
        if is_one && let Ok(asked) = serde_json::from_str::<Asked>(text) {
            self.asked.insert((conn, asked.id.clone()), asked);
        }
    }

    /// Something leaves the core.
    pub fn see(&mut self, effect: &Effect) {
        match effect {
            Effect::Send { conn, text } if text.starts_with(b"{\"type\":\"ok\"") => {
                let said = std::str::from_utf8(text).ok().and_then(|text| Said::read(text).ok());
                let Some(said) = said else { return };
                let id = said.id.as_deref().map(str::to_owned);
                self.answered(*conn, id, said.state.as_deref());
            }
            Effect::Respond { conn, response } if response.status == 200 => {
                let Content::Json(answer) = &response.content else { return };
                let answer: Value = serde_json::from_str(answer).unwrap_or_default();
                self.answered(*conn, None, answer["state"].as_str());
            }
            Effect::Send { .. }
            | Effect::Respond { .. }
            | Effect::Upgrade { .. }
            | Effect::Allow { .. }
            | Effect::Share { .. }
            | Effect::Body { .. }
            | Effect::Stream { .. }
            | Effect::Ping { .. }
            | Effect::Close { .. }
            | Effect::Read { .. }
            | Effect::Verify { .. }
            | Effect::Append { .. }
            | Effect::Load { .. }
            | Effect::Webhook { .. }
            | Effect::Note(_)
            | Effect::Audit(_)
            | Effect::Backup { .. }
            | Effect::Exit => {}
        }
    }

    fn answered(&mut self, conn: ConnId, id: Option<String>, state: Option<&str>) {
        let Some(asked) = self.asked.remove(&(conn, id)) else { return };
        self.promised.push(match asked.kind.as_str() {
            "input" => Promised::Input(asked.run, asked.request, asked.data),
            _ => Promised::Cancel(asked.run, state == Some("ended")),
        });
    }

    /// What was promised since the last time.
    pub fn take(&mut self) -> Vec<Promised> {
        std::mem::take(&mut self.promised)
    }
}

/// What a request for this path asks of a run.
fn read_path(path: &str) -> Option<Asked> {
    let (run, kind) = path.strip_prefix("/v1/runs/")?.split_once('/')?;
    let kind = ["input", "cancel"].into_iter().find(|other| *other == kind)?;
    Some(Asked { kind: kind.to_owned(), run: run.to_owned(), ..Asked::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::record::{Record, StreamKey};

    const RUN: &str = "run_t_00000001";

    /// The words of a run, durable one after the other, and the row that says how far it is.
    fn durable(events: &[(&str, &str)], state: &str) -> (Truth, Rows) {
        let (mut truth, mut rows) = (Truth::default(), Rows::default());
        let stream = StreamKey("u:e-1:ann".into());
        for (index, (event, data)) in events.iter().enumerate() {
            let seq = index as u64 + 1;
            let text = format!(
                "{{\"type\":\"event\",\"seq\":{seq},\"ts\":1,\"thread\":\"t\",\"run\":\"{RUN}\",\"attempt\":1,\
                 \"event\":\"{event}\",\"data\":{data}}}"
            );
            let record = Record::Event { stream: stream.clone(), seq, bytes: text.into() };
            truth.store(&record, &mut |_, _| Ok(())).unwrap();
        }
        let key = RowKey { table: Table::RunState, owner: "ann".into(), name: RUN.into() };
        rows.apply(&Record::Put { key, value: state.to_owned().into() });
        (truth, rows)
    }

    /// What an `ok` with these words promises, after this was asked.
    fn promised(ask: &str, answer: &'static str) -> Vec<Promised> {
        let (mut answers, conn) = (Answers::default(), ConnId(1));
        answers.look(&Input::Message { conn, message: Message::Text(ask) });
        answers.see(&Effect::Send { conn, text: answer.into() });
        answers.take()
    }

    #[test]
    fn an_input_that_is_taken_stands_in_the_log_with_its_words() {
        let ask = format!(
            "{{\"type\":\"input\",\"run\":\"{RUN}\",\"request\":\"q\",\"data\":{{\"a\":1}},\"id\":\"7\"}}"
        );
        assert!(promised(&ask, "{\"type\":\"ok\",\"of\":\"input\",\"id\":\"8\"}").is_empty());
        let promised = promised(&ask, "{\"type\":\"ok\",\"of\":\"input\",\"id\":\"7\"}");
        let judge = |data: &str| {
            let (truth, rows) = durable(&[("run_queued", "{}"), ("input_received", data)], "{}");
            promised[0].judge(&truth, &rows)
        };
        assert!(judge("{\"request\":\"q\",\"data\":{ \"a\": 1 },\"device\":\"d\"}").is_ok());
        assert!(judge("{\"request\":\"q\",\"data\":{\"a\":2}}").is_err(), "other words");
        assert!(judge("{\"data\":{\"a\":1}}").is_err(), "another question");
        assert!(judge("{\"request\":\"q\",\"expired\":true}").is_err(), "none");
    }

    #[test]
    fn that_a_run_is_to_stop_is_stored_when_it_is_told() {
        let ask = format!("{{\"type\":\"cancel\",\"run\":\"{RUN}\"}}");
        let stopping = &promised(&ask, "{\"type\":\"ok\",\"of\":\"cancel\",\"state\":\"cancelling\"}")[0];
        let over = &promised(&ask, "{\"type\":\"ok\",\"of\":\"cancel\",\"state\":\"ended\"}")[0];
        let queued = ("run_queued", "{}");
        let (truth, rows) = durable(&[queued], "{\"attempt\":1}");
        assert!(stopping.judge(&truth, &rows).is_err() && over.judge(&truth, &rows).is_err());
        let (truth, rows) = durable(&[queued], "{\"attempt\":1,\"cancel\":\"User\"}");
        assert!(stopping.judge(&truth, &rows).is_ok() && over.judge(&truth, &rows).is_err());
        let (truth, rows) = durable(&[queued, ("agent_completed", "{\"status\":\"ok\"}")], "{}");
        assert!(stopping.judge(&truth, &rows).is_ok() && over.judge(&truth, &rows).is_ok());
        let none = Promised::Cancel("run_t_00000002".to_owned(), true);
        assert!(none.judge(&truth, &rows).is_err());
    }

    #[test]
    fn requests_over_http_promise_the_same() {
        let (mut answers, conn) = (Answers::default(), ConnId(1));
        let head = |path| runcast_core::input::Head { method: "POST", path, ..Default::default() };
        let answer = |text: &str| {
            let content = Content::Json(text.to_owned());
            Effect::Respond { conn, response: runcast_core::effect::Response::new(200, content) }
        };
        answers.look(&Input::Request { conn, head: head("/v1/runs/run_t_00000001/input") });
        answers.look(&Input::Body { conn, body: b"{\"data\":[1]}" });
        answers.see(&answer("{}"));
        answers.look(&Input::Request { conn, head: head("/v1/runs/run_t_00000001/cancel") });
        answers.see(&answer("{\"state\":\"ended\"}"));
        answers.look(&Input::Request { conn, head: head("/v1/runs") });
        answers.see(&answer("{}"));
        let (input, cancel) = (
            Promised::Input(RUN.to_owned(), None, serde_json::json!([1])),
            Promised::Cancel(RUN.to_owned(), true),
        );
        assert_eq!(answers.take(), [input, cancel]);
    }
}
