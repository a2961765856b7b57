//! Workers in this process: agents written as plain Rust, behind the same protocol that any other worker
//! speaks.
//!
//! [`spawn`] starts one thread that holds a WebSocket to a daemon's `/worker` and takes runs for the agents
//! it is given; each run then has a thread of its own, never more than the agents' slots. An agent is a
//! function that says what it does through [`Out`]:
//!
//! ```
//! use runcast::worker::{Agent, AgentError, Ask, Out, Output};
//! use serde_json::json;
//!
//! struct Greeter;
//!
//! impl Agent for Greeter {
//!     fn name(&self) -> &str {
//!         "greeter"
//!     }
//!     fn run(&self, ask: &Ask, out: &mut Out) -> Result<Output, AgentError> {
//!         out.thinking("Whom do I greet?")?;
//!         let name = out.tool("look_up", json!({"user": ask.user}), |_call| Ok(ask.user.clone()))?;
//!         out.output(&format!("Hello, {}!", name.unwrap_or_default()))?;
//!         Ok(Output::text(out.said()))
//!     }
//! }
//! ```
//!
//! What the protocol asks of a worker is kept here, so that an agent need not know it: nothing is executed
//! before the daemon has acknowledged the start; what is not acknowledged is kept and sent again after a
//! reconnect; an agent that is faster than the daemon waits; a cancelled agent is told at its next word.

mod desk;
mod messages;
mod out;
#[cfg(test)]
pub(crate) mod rehearsal;
mod session;
#[cfg(test)]
mod tests;

pub use out::{Call, Out};

use crate::line::Line;
use crate::place::Place;
use desk::Desk;
use serde_json::{Value, json};
use session::Session;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Something that can be asked and answers while it works.
pub trait Agent: Send + Sync {
    /// What users call it. An id (PROTOCOL, conventions).
    fn name(&self) -> &str;

    /// How many runs of it are executed at a time.
    fn slots(&self) -> usize {
        1
    }

    /// Whether a run that lost its worker may be executed again: true only for what changes nothing.
    fn retryable(&self) -> bool {
        false
    }

    /// The time it asks for one attempt, in milliseconds; the daemon's default when `None`.
    fn timeout_ms(&self) -> Option<u64> {
        None
    }

    /// Executes one run, on a thread of its own.
    ///
    /// # Errors
    /// [`AgentError::Failed`] is what the user is told. The others come from `out` and are passed on with
    /// `?`: they end the run as cancelled, or are dropped with a run that is no longer this worker's.
    fn run(&self, ask: &Ask, out: &mut Out) -> Result<Output, AgentError>;
}

/// One run, as the daemon offered it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The run's id.
    pub run: String,
    /// The fencing number of this execution.
    pub attempt: u64,
    /// The conversation it belongs to.
    pub thread: String,
    /// Whose it is.
    pub user: String,
    /// The agent that is asked.
    pub agent: String,
    /// What is asked.
    pub input: Value,
    /// How long this attempt may take, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// What a run ends with when it went well.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// The answer, as it stands in `agent_completed`.
    pub output: Value,
    /// What it cost, in the agent's own terms.
    pub usage: Option<Value>,
}

impl Output {
    /// An answer of words: `{"text": …}`.
    pub fn text(text: impl Into<String>) -> Self {
        Self { output: json!({ "text": text.into() }), usage: None }
    }
}

/// Why a run ends without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// The run was cancelled or its time is over. What was said until now becomes its output.
    #[error("cancelled: {reason}")]
    Cancelled {
        /// `user`, `timeout`, `interrupt` or `operator`.
        reason: String,
    },
    /// The run is no longer this worker's, or the worker stops. Nothing more can be said.
    #[error("the run is no longer this worker's")]
    Gone,
    /// A message would be longer than the daemon takes. Nothing was sent; a shorter one may be.
    #[error("a message of {bytes} bytes, where at most {limit} are taken")]
    TooLarge {
        /// How long it was.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The agent could not do what it was asked.
    #[error("{code}: {message}")]
    Failed {
        /// A stable name.
        code: String,
        /// What was expected, what was found, what to do.
        message: String,
    },
}

impl AgentError {
    /// A failure to tell the user.
    pub fn failed(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed { code: code.into(), message: message.into() }
    }
}

/// The workers that [`spawn`] has started.
#[derive(Debug)]
pub struct Workers {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// Closes the connection, tells running agents that their runs are gone, and returns when the
    /// connection's thread has ended. An agent inside a tool ends when that returns; it is not waited for.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.desk.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the worker's thread had panicked");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts serving `agents` for the daemon at `place` (`ws://host:port`) as the worker `worker_name`, which
/// must be unique among the processes of the token's `sub`. `token` is asked anew before each connection. It
/// connects, and reconnects, until [`Workers::stop`] or until another worker takes its name.
///
/// # Errors
/// When the system grants no thread or poll.
pub fn spawn(
    place: impl Into<Place>,
    token: impl Fn() -> String + Send + 'static,
    agents: Vec<Box<dyn Agent>>,
    worker_name: String,
) -> io::Result<Workers> {
    let line = Line::new()?;
    let desk = Arc::new(Desk::new(line.bell()));
    let agents = agents.into_iter().map(Arc::from).collect();
    let session = Session::new(line, Arc::clone(&desk), agents, place.into(), Box::new(token), worker_name);
    let thread = std::thread::Builder::new().name("worker".into()).spawn(move || session.serve())?;
    Ok(Workers { desk, thread: Some(thread) })
}
