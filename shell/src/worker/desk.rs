//! Where the agents' threads and the session's thread meet: the runs that this worker has, and what of them
//! is not acknowledged yet.
//!
//! Agents put messages here and wait while too many are kept; the session takes them from here to send, and
//! lets go of them when they are acknowledged. All of it is bounded: messages by the daemon's window (and one
//! `complete` and one `tool_completed` a run, which never wait), runs by the agents' slots.

use super::messages::{Complete, Known, Position, Resume, Say};
use super::{AgentError, Ask};
use crate::line::Bell;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Names one execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) run: String,
    pub(super) number: u64,
}

/// The meeting place.
#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    changed: Condvar,
    bell: Bell,
}

#[derive(Debug)]
struct State {
    runs: BTreeMap<String, Taken>,
    /// Threads by agent: those of lost runs that have not noticed yet, too.
    threads: BTreeMap<String, usize>,
    /// The run that was sent from last, so that each has its turn.
    turn: String,
    window: usize,
    message_bytes: usize,
    stopped: bool,
}

/// One run that `started` was sent for.
#[derive(Debug)]
struct Taken {
    attempt: u64,
    /// What to execute, until the start is acknowledged.
    waiting: Option<Ask>,
    /// What its user said to the question that the agent waits for, with its name; `None` when nobody did.
    answer: Option<(String, Option<Value>)>,
    /// The number of the last message.
    n: u64,
    kept: VecDeque<Kept>,
    /// How many of `kept` were sent on this connection.
    sent: usize,
    complete: bool,
    cancel: Option<String>,
    /// The last command that was had.
    command: u64,
    /// Nothing is sent before, since the daemon's store does not accept.
    hold: Option<Instant>,
}

#[derive(Debug)]
struct Kept {
    n: u64,
    text: String,
}

/// Which messages may pass a cancel and a full window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// None: it waits for room, and fails when the run is cancelled.
    Waits,
    /// What closes something that was opened.
    Closes,
}

/// The end of a run, as the agent's thread found it.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) status: &'static str,
    pub(super) output: Option<Value>,
    pub(super) error: Option<Value>,
    pub(super) usage: Option<Value>,
}

/// The agents' side.
impl Desk {
    pub(super) fn new(bell: Bell) -> Self {
        let state = State {
            runs: BTreeMap::new(),
            threads: BTreeMap::new(),
            turn: String::new(),
            window: 1,
            message_bytes: 0,
            stopped: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), bell }
    }

    /// Nothing under the lock can panic half-way, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an event, waiting for room where `pace` says so.
    pub(super) fn post(&self, at: &Attempt, event: &str, data: &Value, pace: Pace) -> Result<(), AgentError> {
        let mut state = self.lock();
        loop {
            let room = state.has_room();
            let taken = state.live(at)?;
            if pace == Pace::Closes {
                break;
            }
            taken.check_cancel()?;
            if room {
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let (limit, taken) = (state.message_bytes, state.live(at)?);
        let n = taken.n + 1;
        let text = Say::Event { run: &at.run, attempt: at.number, n, event, data }.encode();
        taken.keep(n, text, limit)?;
        drop(state);
        self.bell.ring();
        Ok(())
    }

    /// Puts the end of a run. One that is too long becomes an error that says so.
    pub(super) fn complete(&self, at: &Attempt, ending: &Ending) -> Result<(), AgentError> {
        let mut state = self.lock();
        let (limit, taken) = (state.message_bytes, state.live(at)?);
        let n = taken.n + 1;
        let say = Say::Complete(Complete {
            run: &at.run,
            attempt: at.number,
            n,
            status: ending.status,
            output: ending.output.as_ref(),
            error: ending.error.as_ref(),
            usage: ending.usage.as_ref(),
        });
        taken.keep(n, say.encode(), limit)?;
        taken.complete = true;
        drop(state);
        self.bell.ring();
        Ok(())
    }

    /// Whether the run is still to be executed.
    pub(super) fn check(&self, at: &Attempt) -> Result<(), AgentError> {
        self.lock().live(at)?.check_cancel()
    }

    /// Waits, but no longer than the run is to be executed.
    pub(super) fn pause(&self, at: &Attempt, time: Duration) -> Result<(), AgentError> {
        let end = Instant::now() + time;
        let mut state = self.lock();
        loop {
            state.live(at)?.check_cancel()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for the answer to a question: `None` when its time ran out.
    pub(super) fn hear(&self, at: &Attempt, request: &str) -> Result<Option<Value>, AgentError> {
        let mut state = self.lock();
        loop {
            let taken = state.live(at)?;
            taken.check_cancel()?;
            match taken.answer.take() {
                Some((to, data)) if to == request => return Ok(data),
                // To a question that was asked before.
                Some(_) | None => {}
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A thread has ended.
    pub(super) fn thread_ended(&self, agent: &str) {
        if let Some(threads) = self.lock().threads.get_mut(agent) {
            *threads = threads.saturating_sub(1);
        }
    }

    /// Returns true once stopped.
    #[cfg(test)]
    pub(super) fn wait_until_stopped(&self) -> bool {
        let state = self.changed.wait_while(self.lock(), |state| !state.stopped);
        state.unwrap_or_else(PoisonError::into_inner).stopped
    }

    /// Takes all runs away, for good.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
        self.bell.ring();
    }
}

/// The session's side.
impl Desk {
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Takes a run that was offered, if a thread of its agent is free. An earlier attempt of it is over then.
    /// True: say `started` (again, when it was said before).
    pub(super) fn take(&self, ask: Ask, slots: usize) -> bool {
        let mut state = self.lock();
        match state.runs.get(&ask.run).map(|taken| taken.attempt) {
            Some(attempt) if attempt == ask.attempt => return true,
            Some(_) => {
                state.runs.remove(&ask.run);
                self.changed.notify_all();
            }
            None => {}
        }
        let waiting = |taken: &&Taken| taken.waiting.as_ref().is_some_and(|other| other.agent == ask.agent);
        let taken =
            state.threads.get(&ask.agent).copied().unwrap_or(0) + state.runs.values().filter(waiting).count();
        if taken >= slots {
            return false;
        }
        state.runs.insert(ask.run.clone(), Taken::new(ask));
        true
    }

    /// The daemon has everything up to `n`. Gives what to execute when that is the start.
    pub(super) fn acknowledge(&self, at: &Attempt, n: u64) -> Option<Ask> {
        let mut state = self.lock();
        let taken = state.live(at).ok()?;
        let begin = taken.waiting.take();
        taken.drop_through(n);
        if taken.complete && taken.kept.is_empty() {
            state.runs.remove(&at.run);
        }
        if let Some(ask) = &begin {
            *state.threads.entry(ask.agent.clone()).or_default() += 1;
        }
        drop(state);
        self.changed.notify_all();
        begin
    }

    /// The daemon wants `expected` next, after `hold`.
    pub(super) fn send_again(&self, at: &Attempt, expected: u64, hold: Option<Duration>) {
        let mut state = self.lock();
        if let Ok(taken) = state.live(at) {
            taken.sent = taken.kept.iter().take_while(|kept| kept.n < expected).count();
            taken.hold = hold.map(|hold| Instant::now() + hold);
        }
    }

    /// A command of this number came. True when it is new; `None` when the run is not known.
    pub(super) fn command(&self, at: &Attempt, i: u64) -> Option<bool> {
        let mut state = self.lock();
        let taken = state.live(at).ok()?;
        let new = i > taken.command;
        taken.command = taken.command.max(i);
        Some(new)
    }

    /// Tells the agent to end.
    pub(super) fn cancel(&self, at: &Attempt, reason: String) {
        if let Ok(taken) = self.lock().live(at) {
            taken.cancel.get_or_insert(reason);
        }
        self.changed.notify_all();
    }

    /// Tells the agent what its user said to its question.
    pub(super) fn answer(&self, at: &Attempt, request: String, data: Option<Value>) {
        if let Ok(taken) = self.lock().live(at) {
            taken.answer = Some((request, data));
        }
        self.changed.notify_all();
    }

    /// The run is another's now.
    pub(super) fn forget(&self, at: &Attempt) {
        let mut state = self.lock();
        if state.live(at).is_ok() {
            state.runs.remove(&at.run);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Everything that `hello` must name.
    pub(super) fn positions(&self) -> Vec<(Attempt, u64)> {
        let state = self.lock();
        let position =
            |(run, taken): (&String, &Taken)| (Attempt { run: run.clone(), number: taken.attempt }, taken.n);
        state.runs.iter().map(position).collect()
    }

    /// A connection begins: what the daemon says of the runs that `hello` named. Gives what to execute now.
    pub(super) fn welcome(&self, window: usize, message_bytes: usize, runs: &[Resume]) -> Vec<Ask> {
        let mut state = self.lock();
        state.window = window.max(1);
        state.message_bytes = message_bytes;
        for taken in state.runs.values_mut() {
            (taken.sent, taken.hold) = (0, None);
        }
        // A run that the daemon says nothing of is not ours: else it might be executed twice.
        state.runs.retain(|run, taken| {
            runs.iter().any(|r| &r.run == run && r.attempt == taken.attempt && r.state == Known::Continue)
        });
        drop(state);
        self.changed.notify_all();
        let at = |resume: &Resume| Attempt { run: resume.run.clone(), number: resume.attempt };
        runs.iter().filter_map(|resume| self.acknowledge(&at(resume), resume.n)).collect()
    }

    /// The next message to send, if there is one that the window and the daemon's store allow.
    pub(super) fn next_message(&self, now: Instant) -> Option<String> {
        let mut state = self.lock();
        if state.runs.values().map(|taken| taken.sent).sum::<usize>() >= state.window {
            return None;
        }
        let after = (Bound::Excluded(state.turn.clone()), Bound::Unbounded);
        let ready = |(_, taken): &(&String, &Taken)| {
            taken.sent < taken.kept.len() && taken.hold.is_none_or(|hold| hold <= now)
        };
        let run = state.runs.range(after).find(ready).or_else(|| state.runs.iter().find(ready))?.0.clone();
        let taken = state.runs.get_mut(&run)?;
        let text = taken.kept.get(taken.sent)?.text.clone();
        taken.sent += 1;
        state.turn = run;
        Some(text)
    }

    /// When the first of the runs that are held back may send again.
    pub(super) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.lock().runs.values().filter_map(|taken| taken.hold).filter(|hold| *hold > now).min()
    }
}

impl State {
    fn live(&mut self, at: &Attempt) -> Result<&mut Taken, AgentError> {
        if self.stopped {
            return Err(AgentError::Gone);
        }
        self.runs.get_mut(&at.run).filter(|taken| taken.attempt == at.number).ok_or(AgentError::Gone)
    }

    fn has_room(&self) -> bool {
        self.runs.values().map(|taken| taken.kept.len()).sum::<usize>() < self.window
    }
}

impl Taken {
    fn new(ask: Ask) -> Self {
        Self {
            attempt: ask.attempt,
            waiting: Some(ask),
            answer: None,
            n: 0,
            kept: VecDeque::new(),
            sent: 0,
            complete: false,
            cancel: None,
            command: 0,
            hold: None,
        }
    }

    fn check_cancel(&self) -> Result<(), AgentError> {
        match &self.cancel {
            Some(reason) => Err(AgentError::Cancelled { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn keep(&mut self, n: u64, text: String, limit: usize) -> Result<(), AgentError> {
        if text.len() > limit {
            return Err(AgentError::TooLarge { bytes: text.len(), limit });
        }
        self.n = n;
        self.kept.push_back(Kept { n, text });
        Ok(())
    }

    fn drop_through(&mut self, n: u64) {
        while self.kept.front().is_some_and(|kept| kept.n <= n) {
            self.kept.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
    }
}

impl Attempt {
    pub(super) fn position(&self, n: u64) -> Position<'_> {
        Position { run: &self.run, attempt: self.number, n }
    }
}
