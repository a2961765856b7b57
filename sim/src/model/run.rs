//! A run in the model: its states, its tools, and what its worker said.

use super::Judgement;
use crate::said::EventData;
use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};

/// Asked and Ending are written and not durable, Queued and Ended are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    #[default]
    Asked,
    Queued,
    Offered,
    Starting,
    Running,
    Cancelling,
    Ending,
    Ended,
}

#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) user: String,
    pub(super) thread: String,
    pub(super) state: State,
    pub(super) attempt: u64,
    pub(super) first_seq: u64,
    /// The step in which it was last changed by what the core wrote.
    pub(super) changed_at: usize,
    /// The step in which its attempt's start became durable.
    pub(super) started_at: usize,
    /// Calls that have not ended.
    pub(super) open: BTreeSet<String>,
    /// Questions that nobody has answered.
    pub(super) questions: BTreeSet<String>,
    /// What its worker said and the log does not have: attempt, event, data.
    pub(super) heard: VecDeque<(u64, String, String)>,
    /// The attempt whose start is durable, and the message of it up to which all are.
    pub(super) durable: (u64, u64),
}

impl Run {
    pub(super) fn new(user: &str, thread: &str, first_seq: u64) -> Self {
        Self { user: user.to_owned(), thread: thread.to_owned(), first_seq, ..Self::default() }
    }

    /// Whether it counts against the limits.
    pub(super) fn is_active(&self) -> bool {
        (State::Offered..=State::Cancelling).contains(&self.state) && !self.is_waiting()
    }

    fn is_waiting(&self) -> bool {
        self.state == State::Running && !self.questions.is_empty()
    }

    /// Its state in a word of the protocol. An end that is not durable is not shown.
    pub(super) fn word(&self) -> &'static str {
        match self.state {
            State::Asked | State::Queued => "queued",
            State::Offered | State::Starting => "dispatched",
            State::Running if self.is_waiting() => "waiting",
            State::Running | State::Ending => "running",
            State::Cancelling => "cancelling",
            State::Ended => "ended",
        }
    }

    /// An event of its worker, or the end of a call that the daemon writes in its place.
    pub(super) fn takes(&mut self, attempt: u64, kind: &str, data: &str, is_blind: bool) -> Judgement {
        let EventData { call, status, request, .. } =
            serde_json::from_str(data).map_err(|error| error.to_string())?;
        let request = request.map(Cow::into_owned);
        let is_this = |said: &(u64, String, String)| (said.0, &*said.1, &*said.2) == (attempt, kind, data);
        match self.heard.iter().position(is_this) {
            Some(at) => drop(self.heard.drain(..=at)),
            None => {
                let is_end = kind == "tool_completed" && status.as_deref() == Some("interrupted");
                let is_daemons = matches!(kind, "input_received" | "run_retrying");
                must!(is_end || is_daemons, "its worker did not say this");
            }
        }
        let is_executed = matches!(self.state, State::Running | State::Cancelling) && self.attempt == attempt;
        must!(is_executed || is_blind, "attempt {} is {:?}", self.attempt, self.state);
        let is_running = self.state == State::Running;
        let is_right = match (kind, call) {
            // A run that is to stop waits for nobody.
            ("input_required", _) if is_running => self.questions.insert(request.unwrap_or_default()),
            ("input_received", _) => request.is_none_or(|request| self.questions.remove(&request)),
            ("run_retrying", _) => {
                self.questions.clear();
                self.open.is_empty()
            }
            ("tool_executing", Some(call)) => self.open.insert(call.into_owned()),
            ("tool_completed", Some(call)) => self.open.remove(call.as_ref()),
            ("tool_progress", Some(call)) => self.open.contains(call.as_ref()),
            _ => true,
        };
        must!(is_right, "the open calls are {:?}, the questions {:?}", self.open, self.questions);
        Ok(())
    }

    /// Messages up to `n` of this attempt are acknowledged; the last may be its end.
    pub(super) fn acks(&self, attempt: Option<u64>, n: Option<u64>) -> Judgement {
        let (attempt, n) = (attempt.unwrap_or(0), n.unwrap_or(u64::MAX));
        let is_durable = self.durable.0 == attempt && (n <= self.durable.1 || self.state == State::Ended);
        must!(is_durable, "attempt and message {:?} are durable", self.durable);
        Ok(())
    }
}
