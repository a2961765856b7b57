//! What is known of an agent: whether its runs may be executed again, how long they take, and whether it
//! fails so often that none is let in (the circuit breaker, REQUIREMENTS B14).

use crate::Core;
use crate::config;
use crate::deadlines::Timer;
use crate::ids::Agent;
use crate::planted::Bug;
use crate::record::{Record, RowKey, Table};
use crate::time::{Mono, Now, Span, WallMs};
use alloc::collections::VecDeque;
use alloc::format;
use serde::{Deserialize, Serialize};

/// Agents that are known because a worker served them once.
pub(crate) const AGENTS_KNOWN: usize = 1_000;
/// The newest runs from which the expected wait is taken.
const DURATIONS: usize = 32;

/// An agent.
#[derive(Debug, Default)]
pub(crate) struct AgentState {
    /// The newest worker's word: its runs may be executed again.
    pub(crate) is_retryable: bool,
    /// Its runs that count against the limits.
    pub(crate) active: usize,
    /// Its runs that are told that they start at once, and are not durable yet.
    pub(crate) promised: usize,
    /// How long its newest runs took that ended well, in milliseconds.
    durations: VecDeque<u64>,
    breaker: Breaker,
    /// The topic `agents` has told that a worker serves it.
    pub(crate) is_available: bool,
}

/// Whether runs of an agent are let in and started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breaker {
    /// All of them; so many failed in a row.
    Closed {
        /// Failures in a row.
        failures: u32,
    },
    /// None of them until then.
    Open {
        /// When the next is tried.
        until: Mono,
    },
    /// One at a time, to see whether it goes well.
    HalfOpen {
        /// How many did.
        successes: u32,
    },
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// The stored form of an agent.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Row {
    retryable: bool,
    durations_ms: VecDeque<u64>,
    failures: u32,
    /// Half open: this many went well.
    successes: Option<u32>,
    /// Open until then, wall clock.
    open_until_ms: Option<u64>,
    /// The topic `agents` has told that a worker serves it.
    #[serde(default)]
    available: bool,
}

impl AgentState {
    /// An agent as it is stored. A breaker is open no longer than `open`, whatever the clock says.
    pub(crate) fn from_row(row: &[u8], open: Span, now: Now) -> Self {
        let row: Row = serde_json::from_slice(row).expect("a stored row is what was stored");
        let left = |until| WallMs(until).since(now.wall).min(open);
        let breaker = match (row.open_until_ms, row.successes) {
            (Some(until), _) => Breaker::Open { until: now.mono + left(until) },
            (None, Some(successes)) => Breaker::HalfOpen { successes },
            (None, None) => Breaker::Closed { failures: row.failures },
        };
        Self {
            is_retryable: row.retryable,
            active: 0,
            promised: 0,
            durations: row.durations_ms,
            breaker,
            is_available: row.available,
        }
    }

    fn row(&self, now: Now) -> Row {
        let row = Row {
            retryable: self.is_retryable,
            durations_ms: self.durations.clone(),
            available: self.is_available,
            ..Row::default()
        };
        match self.breaker {
            Breaker::Closed { failures } => Row { failures, ..row },
            Breaker::Open { until } => {
                let left = until.since(now.mono).as_millis();
                Row { open_until_ms: Some(now.wall.0 + left), ..row }
            }
            Breaker::HalfOpen { successes } => Row { successes: Some(successes), ..row },
        }
    }

    /// The breaker, which opens halfway by time alone.
    pub(crate) fn breaker(&self, now: Mono) -> Breaker {
        match self.breaker {
            Breaker::Open { until } if until <= now => Breaker::HalfOpen { successes: 0 },
            breaker @ (Breaker::Closed { .. } | Breaker::Open { .. } | Breaker::HalfOpen { .. }) => breaker,
        }
    }

    /// The mean duration of its newest runs, in milliseconds.
    fn usual_ms(&self) -> Option<u64> {
        self.durations.iter().sum::<u64>().checked_div(self.durations.len() as u64)
    }
}

impl Breaker {
    /// In a word of the protocol.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half_open",
        }
    }

    fn after(self, is_good: bool, config: &config::Breaker, now: Mono) -> Self {
        match (self, is_good) {
            (Self::Closed { .. }, true) => Self::default(),
            (Self::Closed { failures }, false) if failures + 1 < config.failures => {
                Self::Closed { failures: failures + 1 }
            }
            (Self::HalfOpen { successes }, true) if successes + 1 < config.successes => {
                Self::HalfOpen { successes: successes + 1 }
            }
            (Self::HalfOpen { .. }, true) => Self::default(),
            // Runs that were at workers when it opened say nothing new.
            (Self::Open { .. }, _) => self,
            (Self::Closed { .. } | Self::HalfOpen { .. }, false) => Self::Open { until: now + config.open },
        }
    }
}

impl Core {
    /// The state of an agent that is known or configured.
    pub(crate) fn agent_mut(&mut self, agent: &Agent) -> &mut AgentState {
        self.agents.entry(agent.clone()).or_default()
    }

    /// A worker serves an agent, which is known from then on.
    pub(crate) fn know_agent(&mut self, agent: &Agent, is_retryable: bool) {
        let is_new = !self.agents.contains_key(agent);
        let state = self.agent_mut(agent);
        if core::mem::replace(&mut state.is_retryable, is_retryable) != is_retryable || is_new {
            self.store_agent(agent);
        }
    }

    pub(crate) fn store_agent(&mut self, agent: &Agent) {
        let now = self.now;
        let row = self.agent_mut(agent).row(now);
        self.durable.record(Record::Put { key: agent_key(agent), value: crate::record::row(&row) });
    }

    /// How long no run of this agent is let in.
    pub(crate) fn circuit_open(&self, agent: &Agent) -> Option<Span> {
        match self.agents.get(agent)?.breaker(self.now.mono) {
            Breaker::Open { until } => Some(until.since(self.now.mono)),
            Breaker::Closed { .. } | Breaker::HalfOpen { .. } => None,
        }
    }

    /// Whether the agent's own limits let one more of its runs start, beside so many that are about to.
    pub(crate) fn may_start(&self, agent: &Agent, beside: usize) -> bool {
        let limit = self.config.agents.get(agent).and_then(|agent| agent.active).unwrap_or(usize::MAX);
        let Some(state) = self.agents.get(agent) else { return beside < limit };
        match state.breaker(self.now.mono) {
            Breaker::Closed { .. } => state.active + beside < limit,
            Breaker::Open { .. } => false,
            Breaker::HalfOpen { .. } => state.active + beside == 0,
        }
    }

    /// A run of an agent that was executed has ended: well or badly, after so long.
    pub(crate) fn judge_agent(&mut self, agent: &Agent, is_good: bool, ran: Span) {
        let (now, config) = (self.now.mono, self.config.breaker.clone());
        let is_short = self.planted.is(Bug::BreakerTooShort);
        let state = self.agent_mut(agent);
        let before = state.breaker(now);
        state.breaker = before.after(is_good, &config, now);
        if let (true, Breaker::Open { until }) = (is_short, &mut state.breaker) {
            *until = now + config.open.ratio(3, 4);
        }
        if is_good {
            state.durations.push_back(ran.as_millis());
            if state.durations.len() > DURATIONS {
                state.durations.pop_front();
            }
        }
        let after = state.breaker;
        if let Breaker::Open { until } = after {
            self.deadlines.set_earlier(Timer::Dispatch, until);
        }
        self.store_agent(agent);
        self.tell_breaker(agent, before, after);
    }

    /// When breakers that are open are tried again.
    pub(crate) fn circuits_open_until(&self) -> impl Iterator<Item = Mono> {
        let now = self.now.mono;
        self.agents.values().filter_map(move |agent| match agent.breaker(now) {
            Breaker::Open { until } => Some(until),
            Breaker::Closed { .. } | Breaker::HalfOpen { .. } => None,
        })
    }

    /// Whether a run of this agent may be executed again, and how often it may be executed in all.
    pub(crate) fn attempts_of(&self, agent: &Agent) -> u32 {
        let configured = self.config.agents.get(agent);
        let said = self.agents.get(agent).is_some_and(|agent| agent.is_retryable);
        if !configured.and_then(|agent| agent.retryable).unwrap_or(said) {
            return 1;
        }
        configured.and_then(|agent| agent.attempts).unwrap_or(self.config.runs.attempts)
    }

    /// The wait to expect with so many runs ahead, in milliseconds; none while nobody can know.
    pub(crate) fn eta_ms(&self, agent: &Agent, ahead: u64) -> Option<u64> {
        let usual = self.agents.get(agent)?.usual_ms()?;
        let at_once = self.slots(agent).min(self.config.runs.active) as u64;
        usual.saturating_mul(ahead + 1).checked_div(at_once)
    }
}

/// The row that remembers an agent.
fn agent_key(agent: &Agent) -> RowKey {
    RowKey { table: Table::Daemon, owner: "".into(), name: format!("agent:{agent}").into() }
}

/// The agent that a row remembers.
pub(crate) fn agent_of(key: &RowKey) -> Option<Agent> {
    (key.table == Table::Daemon).then(|| key.name.strip_prefix("agent:")).flatten().and_then(Agent::parse)
}
