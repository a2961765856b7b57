//! For tests of agents: a run without a daemon.

use super::desk::{Attempt, Desk};
use super::{Agent, Ask, session};
use crate::line::Line;
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;

/// Executes one run, and gives all that the agent would have sent.
pub(crate) fn rehearse(agent: &dyn Agent, input: Value) -> Vec<Value> {
    rehearse_until(agent, input, None)
}

/// The same, of a run that is cancelled before it begins.
pub(crate) fn rehearse_cancelled(agent: &dyn Agent, input: Value) -> Vec<Value> {
    rehearse_until(agent, input, Some("user"))
}

fn rehearse_until(agent: &dyn Agent, input: Value, cancel: Option<&str>) -> Vec<Value> {
    let line = Line::new().unwrap();
    let desk = Arc::new(Desk::new(line.bell()));
    desk.welcome(1_000_000, 1_048_576, &[]);
    let ask = Ask {
        run: "run_t_00000001".into(),
        attempt: 1,
        thread: "t".into(),
        user: "alice".into(),
        agent: agent.name().into(),
        input,
        timeout_ms: None,
    };
    let at = Attempt { run: ask.run.clone(), number: 1 };
    assert!(desk.take(ask, agent.slots()));
    let ask = desk.acknowledge(&at, 0).unwrap();
    if let Some(reason) = cancel {
        desk.cancel(&at, reason.into());
    }
    session::perform(agent, &ask, Arc::clone(&desk));
    let messages = std::iter::from_fn(|| desk.next_message(Instant::now()));
    messages.map(|text| serde_json::from_str(&text).unwrap()).collect()
}
