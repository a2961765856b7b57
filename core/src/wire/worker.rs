//! What a worker sends (PROTOCOL §6), and what it is sent.

use super::call::Call;
use super::error::{Code, Refusal};
use super::event::{self, WorkerEvent};
use super::json::{Field, Fields, List, Object, ObjectPayload, Payload, Value, wrong};
use super::user::unknown_type;
use crate::effect::Token;
use crate::ids::{Agent, RunId, WorkerName};
use crate::time::Span;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Agents that one worker may serve.
pub const AGENTS_MAX: usize = 64;
/// Slots that one worker may offer for an agent.
pub const SLOTS_MAX: u64 = 10_000;
/// Runs that a worker may name in its `hello`.
pub const RUNS_MAX: usize = 10_000;
/// The longest wait that a decline may ask for.
const DECLINE_MAX: Span = Span::secs(600);

/// What a worker may send.
#[derive(Debug)]
pub enum Body<'a> {
    /// Who, for which agents, and which runs it still has.
    Hello(Hello),
    /// It takes an offered run.
    Started(Attempt),
    /// It does not take an offered run.
    Decline {
        /// Which.
        of: Attempt,
        /// For how long not to offer it again.
        retry: Span,
    },
    /// A numbered message of a run; `said` is what could not be read of the rest, or what it says.
    Numbered {
        /// Of which attempt.
        of: Attempt,
        /// Its number.
        n: u64,
        /// What it says.
        said: Result<Said<'a>, Bad>,
    },
    /// All commands about a run up to `i` have arrived.
    Got {
        /// Of which attempt.
        of: Attempt,
        /// Up to which.
        i: u64,
    },
    /// No more runs, please.
    Drain,
    /// A sign of life.
    Beat,
}

/// One attempt of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The run.
    pub run: RunId,
    /// The fencing number.
    pub attempt: u64,
}

/// What a numbered message says.
#[derive(Debug)]
pub enum Said<'a> {
    /// An event.
    Event(WorkerEvent<'a>),
    /// The end.
    Complete(Complete<'a>),
}

/// A numbered message whose number could be read and the rest not.
#[derive(Debug)]
pub struct Bad {
    /// Whether it was the end.
    pub complete: bool,
    /// What is wrong.
    pub refusal: Refusal,
}

/// `complete`.
#[derive(Debug)]
pub struct Complete<'a> {
    /// How the worker says it ended.
    pub status: Status,
    /// What came of it, as written.
    pub output: Option<&'a str>,
    /// `{"code","message"}`, as written.
    pub error: Option<&'a str>,
    /// What it cost, as written.
    pub usage: Option<&'a str>,
}

/// How a worker may end a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Well.
    Ok,
    /// Badly.
    Error,
    /// As it was told to.
    Cancelled,
}

impl<'a> Field<'a> for Status {
    const EXPECTED: &'static str = "ok, error or cancelled";
    fn read(value: Value<'a>) -> Option<Self> {
        match <Cow<'a, str>>::read(value)?.as_ref() {
            "ok" => Some(Self::Ok),
            "error" => Some(Self::Error),
            "cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }
}

/// `hello` of a worker.
#[derive(Debug)]
pub struct Hello {
    /// Its name; absent, the daemon makes one.
    pub worker: Option<WorkerName>,
    /// The token, if it did not come in the head.
    pub token: Option<Token>,
    /// What it serves.
    pub agents: Vec<Serves>,
    /// The runs that it has said `started` for.
    pub runs: Vec<Attempt>,
    /// Which of its calls this is, if the worker counts them.
    pub call: Option<Call>,
}

/// An agent that a worker serves.
#[derive(Clone, Debug)]
pub struct Serves {
    /// Which.
    pub agent: Agent,
    /// How many runs at once.
    pub slots: usize,
    /// Whether its runs may be executed again after they were lost.
    pub retryable: bool,
    /// Time for one attempt.
    pub timeout: Option<Span>,
}

/// Reads a message of a worker.
///
/// # Errors
/// Why it cannot be read; with its `type` where that can.
pub fn read(text: &str) -> Result<Body<'_>, (Option<String>, Refusal)> {
    let fields = Fields::parse(text).map_err(|refusal| (None, refusal))?;
    let kind = fields.required::<Cow<'_, str>>("type").map_err(|refusal| (None, refusal))?;
    body(&kind, &fields).map_err(|refusal| {
        let known = refusal.code != Code::UnknownType;
        (known.then(|| kind.clone().into_owned()), refusal)
    })
}

fn body<'a>(kind: &str, fields: &Fields<'a>) -> Result<Body<'a>, Refusal> {
    match kind {
        "hello" => hello(fields).map(Body::Hello),
        "started" => attempt(fields).map(Body::Started),
        "decline" => decline(fields),
        "event" | "complete" => numbered(kind == "complete", fields),
        "got" => Ok(Body::Got { of: attempt(fields)?, i: fields.required("i")? }),
        "drain" => Ok(Body::Drain),
        "beat" => Ok(Body::Beat),
        _ => Err(unknown_type(kind, "hello, started, decline, event, complete, got, drain, beat")),
    }
}

fn attempt(fields: &Fields<'_>) -> Result<Attempt, Refusal> {
    Ok(Attempt { run: fields.required("run")?, attempt: fields.required("attempt")? })
}

fn decline<'a>(fields: &Fields<'a>) -> Result<Body<'a>, Refusal> {
    let of = attempt(fields)?;
    let retry = fields.optional::<u64>("retry_ms")?.map_or(Span::secs(1), Span::millis);
    Ok(Body::Decline { of, retry: retry.min(DECLINE_MAX) })
}

fn numbered<'a>(is_complete: bool, fields: &Fields<'a>) -> Result<Body<'a>, Refusal> {
    let of = attempt(fields)?;
    let n = fields.required("n")?;
    let said =
        if is_complete { complete(fields).map(Said::Complete) } else { event::read(fields).map(Said::Event) };
    Ok(Body::Numbered { of, n, said: said.map_err(|refusal| Bad { complete: is_complete, refusal }) })
}

fn complete<'a>(fields: &Fields<'a>) -> Result<Complete<'a>, Refusal> {
    let checked = (|| {
        let error = fields.optional::<ObjectPayload<'_>>("error")?;
        if let Some(error) = &error {
            error.fields.required::<Cow<'_, str>>("code")?;
            error.fields.required::<Cow<'_, str>>("message")?;
        }
        Ok(Complete {
            status: fields.required("status")?,
            output: fields.optional::<Payload<'_>>("output")?.map(|output| output.0),
            error: error.map(|error| error.text),
            usage: fields.optional::<ObjectPayload<'_>>("usage")?.map(|usage| usage.text),
        })
    })();
    checked.map_err(|refusal: Refusal| Refusal { code: Code::BadEvent, ..refusal })
}

fn hello(fields: &Fields<'_>) -> Result<Hello, Refusal> {
    let agents = fields.required::<List<'_>>("agents")?.0;
    if agents.is_empty() || agents.len() > AGENTS_MAX {
        return Err(wrong("agents", "1 to 64 agents", &format!("{}", agents.len())));
    }
    let agents = agents.into_iter().map(serves).collect::<Result<Vec<_>, _>>()?;
    let is_again = |(at, one): &(usize, &Serves)| agents[..*at].iter().any(|other| other.agent == one.agent);
    if let Some((_, again)) = agents.iter().enumerate().find(is_again) {
        return Err(wrong("agents", "each agent once", again.agent.as_str()));
    }
    let runs = fields.optional::<List<'_>>("runs")?.map(|list| list.0).unwrap_or_default();
    if runs.len() > RUNS_MAX {
        return Err(wrong("runs", "at most 10000 runs", &format!("{}", runs.len())));
    }
    Ok(Hello {
        worker: fields.optional("worker")?,
        token: fields.optional::<Cow<'_, str>>("token")?.map(|token| Token::new(&token)),
        agents,
        runs: runs
            .into_iter()
            .map(|raw| attempt(&Fields::parse(raw).map_err(|_| wrong("runs", "objects", raw))?))
            .collect::<Result<_, _>>()?,
        call: fields.optional("call")?,
    })
}

fn serves(raw: &str) -> Result<Serves, Refusal> {
    let fields = Fields::parse(raw)
        .map_err(|_| wrong("agents", "objects with `agent` and `slots`", "another value"))?;
    let slots = fields.optional::<u64>("slots")?.unwrap_or(1);
    if !(1..=SLOTS_MAX).contains(&slots) {
        return Err(wrong("slots", "a whole number from 1 to 10000", &format!("{slots}")));
    }
    let timeout_ms = fields.optional::<u64>("timeout_ms")?;
    if timeout_ms == Some(0) {
        return Err(wrong("timeout_ms", "1 millisecond or more", "0"));
    }
    Ok(Serves {
        agent: fields.required("agent")?,
        slots: slots as usize,
        retryable: fields.optional("retryable")?.unwrap_or(false),
        timeout: timeout_ms.map(Span::millis),
    })
}

/// `error` to a worker, about an attempt.
pub fn error(of: &str, attempt: &Attempt, n: Option<u64>, refusal: &Refusal) -> Object {
    super::user::error(Some(of), None, refusal)
        .str("run", attempt.run.as_str())
        .raw("attempt", attempt.attempt)
        .maybe_raw("n", n)
}

/// `ack`: everything of the attempt up to `n` is durable; 0 is its start.
pub fn ack(attempt: &Attempt, n: u64) -> Object {
    about("ack", attempt).number("n", n)
}

/// A message about an attempt.
pub fn about(kind: &str, attempt: &Attempt) -> Object {
    Object::message(kind).str("run", attempt.run.as_str()).number("attempt", attempt.attempt)
}
