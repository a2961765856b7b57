//! What an agent has to speak with.

use super::desk::{Attempt, Desk, Ending, Pace};
use super::{AgentError, Ask, Output};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest delta in one event, in bytes; longer ones are cut into several.
const DELTA_MAX: usize = 16 << 10;
/// How much of what was said is remembered for a run that is cancelled, in bytes.
const SAID_MAX: usize = 256 << 10;

/// One run's voice. Everything said becomes an event of the run, in order.
///
/// Each method fails with [`AgentError::Cancelled`] or [`AgentError::Gone`] when the run is not to be
/// executed any longer: pass it on with `?`. While the daemon is slower than the agent, they wait.
#[derive(Debug)]
pub struct Out {
    desk: Arc<Desk>,
    at: Attempt,
    calls: u64,
    steps: u64,
    questions: u64,
    said: String,
}

impl Out {
    pub(super) fn new(desk: Arc<Desk>, ask: &Ask) -> Self {
        let at = Attempt { run: ask.run.clone(), number: ask.attempt };
        Self { desk, at, calls: 0, steps: 0, questions: 0, said: String::new() }
    }

    /// A piece of what the agent thinks.
    ///
    /// # Errors
    /// As all of [`Out`].
    pub fn thinking(&mut self, delta: &str) -> Result<(), AgentError> {
        for piece in pieces(delta) {
            self.emit("agent_thinking", &json!({ "delta": piece }))?;
        }
        Ok(())
    }

    /// A piece of the answer.
    ///
    /// # Errors
    /// As all of [`Out`].
    pub fn output(&mut self, delta: &str) -> Result<(), AgentError> {
        for piece in pieces(delta) {
            self.emit("agent_output", &json!({ "delta": piece }))?;
            if self.said.len() + piece.len() <= SAID_MAX {
                self.said.push_str(piece);
            }
        }
        Ok(())
    }

    /// All pieces of the answer until now (the first 256 KiB).
    pub fn said(&self) -> &str {
        &self.said
    }

    /// How much of the whole run is done, 0 to 100.
    ///
    /// # Errors
    /// As all of [`Out`].
    pub fn progress(&mut self, percent: u8) -> Result<(), AgentError> {
        self.emit("run_progress", &json!({ "percent": percent.min(100) }))
    }

    /// Asks the user, and waits for what the first of their devices says; `None` when nobody did in time.
    /// `schema`, a JSON Schema, says which answers there are: a choice is shown as buttons.
    ///
    /// # Errors
    /// As all of [`Out`], and [`AgentError::TooLarge`].
    pub fn ask(&mut self, prompt: &str, schema: Option<Value>) -> Result<Option<Value>, AgentError> {
        self.questions += 1;
        let request = format!("question_{}", self.questions);
        let mut data = json!({ "request": request, "prompt": prompt });
        if let Some(schema) = schema {
            data["schema"] = schema;
        }
        self.emit("input_required", &data)?;
        self.desk.hear(&self.at, &request)
    }

    /// Any event that PROTOCOL §4 lets a worker write.
    ///
    /// # Errors
    /// As all of [`Out`], and [`AgentError::TooLarge`].
    pub fn emit(&mut self, event: &str, data: &Value) -> Result<(), AgentError> {
        self.desk.post(&self.at, event, data, Pace::Waits)
    }

    /// Fails when the run is not to be executed any longer.
    ///
    /// # Errors
    /// As all of [`Out`].
    pub fn check(&self) -> Result<(), AgentError> {
        self.desk.check(&self.at)
    }

    /// Waits, and ends early with an error when the run is not to be executed any longer.
    ///
    /// # Errors
    /// As all of [`Out`].
    pub fn pause(&self, time: Duration) -> Result<(), AgentError> {
        self.desk.pause(&self.at, time)
    }

    /// Uses a tool: `tool_executing` with `args`, then `work`, then `tool_completed` with what it returned
    /// and how long it took. The completion is sent whatever happens. A result that is too long for an event
    /// is left out of it (and still returned).
    ///
    /// # Errors
    /// As all of [`Out`]. That the tool itself failed is the inner result, for the agent to judge.
    pub fn tool<T: Serialize>(
        &mut self,
        name: &str,
        args: Value,
        work: impl FnOnce(&mut Call<'_>) -> Result<T, String>,
    ) -> Result<Result<T, String>, AgentError> {
        self.calls += 1;
        let id = format!("call_{}", self.calls);
        self.emit("tool_executing", &json!({ "call": id, "tool": name, "args": args }))?;
        let start = Instant::now();
        let result = work(&mut Call { out: self, id: &id });
        let mut data = Map::new();
        data.insert("call".into(), id.into());
        data.insert("duration_ms".into(), millis(start.elapsed()).into());
        match &result {
            Ok(value) => {
                data.insert("status".into(), "ok".into());
                data.insert("result".into(), serde_json::to_value(value).unwrap_or_default());
            }
            Err(message) => {
                let status = if self.check().is_err() { "interrupted" } else { "error" };
                data.insert("status".into(), status.into());
                data.insert("error".into(), json!({ "code": "tool_failed", "message": message }));
            }
        }
        self.tool_completed(data)?;
        Ok(result)
    }

    fn tool_completed(&mut self, data: Map<String, Value>) -> Result<(), AgentError> {
        let mut data = Value::Object(data);
        let sent = self.desk.post(&self.at, "tool_completed", &data, Pace::Closes);
        let Err(AgentError::TooLarge { bytes, .. }) = sent else { return sent };
        data["result"] = json!({ "left_out_bytes": bytes });
        self.desk.post(&self.at, "tool_completed", &data, Pace::Closes)
    }

    /// Does `work` between `step_started` and `step_completed`; of a step that fails, the second says
    /// `error`.
    ///
    /// # Errors
    /// As all of [`Out`], and what `work` returns.
    pub fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Self) -> Result<T, AgentError>,
    ) -> Result<T, AgentError> {
        self.steps += 1;
        let step = format!("step_{}", self.steps);
        self.emit("step_started", &json!({ "step": step, "name": name, "index": self.steps }))?;
        let result = work(self);
        let status = if result.is_ok() { "ok" } else { "error" };
        let data = json!({ "step": step, "name": name, "status": status });
        self.desk.post(&self.at, "step_completed", &data, Pace::Closes)?;
        result
    }

    /// Ends the run as what the agent returned; `None` stands for a panic.
    pub(super) fn finish(self, result: Option<Result<Output, AgentError>>) {
        let ending = match result {
            Some(Ok(Output { output, usage })) => {
                Ending { status: "ok", output: Some(output), usage, ..Ending::default() }
            }
            Some(Err(AgentError::Cancelled { .. })) => Ending {
                status: "cancelled",
                output: Some(json!({ "text": self.said })),
                ..Ending::default()
            },
            Some(Err(AgentError::Gone)) => return,
            Some(Err(AgentError::Failed { code, message })) => failed(&code, &message),
            Some(Err(error @ AgentError::TooLarge { .. })) => failed("too_large", &error.to_string()),
            None => failed("agent_panicked", "the agent has a fault; its log says which"),
        };
        let mut sent = self.desk.complete(&self.at, &ending);
        if let Err(error @ AgentError::TooLarge { .. }) = &sent {
            sent = self.desk.complete(&self.at, &failed("output_too_large", &error.to_string()));
        }
        if let Err(error) = sent {
            tracing::debug!(run = %self.at.run, %error, "the end of a run is not sent");
        }
    }
}

/// A tool at work.
#[derive(Debug)]
pub struct Call<'a> {
    out: &'a mut Out,
    id: &'a str,
}

impl Call<'_> {
    /// How far it is: `percent` from 0 to 100, and words.
    ///
    /// # Errors
    /// That the run is not to be executed any longer, as the tool's own error.
    pub fn progress(&mut self, percent: Option<u8>, text: &str) -> Result<(), String> {
        let mut data = json!({ "call": self.id, "text": text });
        if let Some(percent) = percent {
            data["percent"] = percent.min(100).into();
        }
        self.out.emit("tool_progress", &data).map_err(|error| error.to_string())
    }

    /// Fails when the run is not to be executed any longer: for the inside of long loops.
    ///
    /// # Errors
    /// That it is so, as the tool's own error.
    pub fn check(&self) -> Result<(), String> {
        self.out.check().map_err(|error| error.to_string())
    }
}

fn failed(code: &str, message: &str) -> Ending {
    Ending { status: "error", error: Some(json!({ "code": code, "message": message })), ..Ending::default() }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A delta in pieces that fit an event, cut between characters.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let (piece, rest) = text.split_at(text.floor_char_boundary(DELTA_MAX));
        text = rest;
        Some(piece)
    })
}
