//! What a worker says and hears (PROTOCOL §6).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// From the worker.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Say<'a> {
    Hello { worker: &'a str, call: Call<'a>, agents: Vec<Serves<'a>>, runs: Vec<Position<'a>> },
    Started { run: &'a str, attempt: u64 },
    Decline { run: &'a str, attempt: u64, reason: &'a str, retry_ms: u64 },
    Got { run: &'a str, attempt: u64, i: u64 },
    Event { run: &'a str, attempt: u64, n: u64, event: &'a str, data: &'a Value },
    Complete(Complete<'a>),
    Beat,
}

/// The end of a run.
#[derive(Debug, Serialize)]
pub(super) struct Complete<'a> {
    pub(super) run: &'a str,
    pub(super) attempt: u64,
    pub(super) n: u64,
    pub(super) status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<&'a Value>,
}

/// Which of its calls a connection is: one that was given up must not replace a later one.
#[derive(Debug, Serialize)]
pub(super) struct Call<'a> {
    pub(super) by: &'a str,
    pub(super) n: u64,
}

/// One agent, as `hello` declares it.
#[derive(Debug, Serialize)]
pub(super) struct Serves<'a> {
    pub(super) agent: &'a str,
    pub(super) slots: usize,
    pub(super) retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout_ms: Option<u64>,
}

/// How far a run is.
#[derive(Debug, Serialize)]
pub(super) struct Position<'a> {
    pub(super) run: &'a str,
    pub(super) attempt: u64,
    pub(super) n: u64,
}

impl Say<'_> {
    /// As it goes over the line.
    pub(super) fn encode(&self) -> String {
        serde_json::to_string(self)
            .expect("a message of strings, numbers and JSON values can be written as JSON")
    }
}

/// From the daemon. What has no name here is for others, or newer than this worker.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Told {
    Welcome(Welcome),
    Run(Offer),
    Withdraw(Of),
    Ack {
        run: String,
        attempt: u64,
        n: u64,
    },
    Cancel {
        run: String,
        attempt: u64,
        i: u64,
        reason: String,
    },
    Input {
        run: String,
        attempt: u64,
        i: u64,
        /// Absent when it answers no question.
        request: Option<String>,
        #[serde(default)]
        data: Value,
        #[serde(default)]
        expired: bool,
    },
    Error(Refused),
    Heartbeat,
    Drain,
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
pub(super) struct Welcome {
    pub(super) lease_ms: u64,
    pub(super) publish_window: usize,
    pub(super) message_bytes: usize,
    #[serde(default = "heartbeat_default")]
    pub(super) heartbeat_ms: u64,
    #[serde(default)]
    pub(super) runs: Vec<Resume>,
}

/// Of a welcome that does not say.
fn heartbeat_default() -> u64 {
    10_000
}

/// What the daemon knows of a run that `hello` named.
#[derive(Debug, Deserialize)]
pub(super) struct Resume {
    pub(super) run: String,
    pub(super) attempt: u64,
    #[serde(default)]
    pub(super) n: u64,
    pub(super) state: Known,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Known {
    /// Send what comes after `n`.
    Continue,
    /// Its end is durable.
    Ended,
    /// Not this worker's any more.
    Gone,
}

#[derive(Debug, Deserialize)]
pub(super) struct Offer {
    pub(super) run: String,
    pub(super) attempt: u64,
    pub(super) thread: String,
    pub(super) user: String,
    pub(super) agent: String,
    #[serde(default)]
    pub(super) input: Value,
    pub(super) timeout_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Of {
    pub(super) run: String,
    pub(super) attempt: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Refused {
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
    pub(super) run: Option<String>,
    pub(super) attempt: Option<u64>,
    pub(super) expected: Option<u64>,
    pub(super) retry_ms: Option<u64>,
}
