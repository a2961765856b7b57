//! Events (PROTOCOL §4): which there are, what a worker's must look like, and the one encoding of each.

use super::error::{Code, Refusal};
use super::json::{Field, Fields, ObjectPayload, Value, wrong};
use crate::ids::{Call, Request, RunId, Thread};
use crate::time::{Span, WallMs};
use alloc::borrow::Cow;
use alloc::format;
use bytes::{BufMut, Bytes, BytesMut};

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// The events of a run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// All events.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

events! {
    /// The run was accepted.
    RunQueued = "run_queued";
    /// A worker took the run.
    AgentStarted = "agent_started";
    /// What the agent thinks.
    AgentThinking = "agent_thinking";
    /// What the agent answers.
    AgentOutput = "agent_output";
    /// A tool begins.
    ToolExecuting = "tool_executing";
    /// A tool goes on.
    ToolProgress = "tool_progress";
    /// A tool has ended.
    ToolCompleted = "tool_completed";
    /// A step begins.
    StepStarted = "step_started";
    /// A step has ended.
    StepCompleted = "step_completed";
    /// The run goes on.
    RunProgress = "run_progress";
    /// The user is asked; the run waits.
    InputRequired = "input_required";
    /// The user has said something, or nothing in time.
    InputReceived = "input_received";
    /// The attempt was lost; another follows.
    RunRetrying = "run_retrying";
    /// Anything else a worker has to say.
    Custom = "custom";
    /// The run has ended.
    AgentCompleted = "agent_completed";
}

/// An event of a worker, checked for itself.
#[derive(Debug)]
pub struct WorkerEvent<'a> {
    /// Which.
    pub kind: Kind,
    /// Of which tool call, where it is of one.
    pub call: Option<Call>,
    /// What it asks the user, where it does.
    pub question: Option<Question>,
    /// Its data, as written.
    pub data: &'a str,
}

/// What a run asks its user.
#[derive(Debug)]
pub struct Question {
    /// Its name.
    pub request: Request,
    /// How long an answer is waited for.
    pub expires: Option<Span>,
}

impl<'a> Field<'a> for Kind {
    const EXPECTED: &'static str = "agent_thinking, agent_output, tool_executing, tool_progress, \
        tool_completed, step_started, step_completed, run_progress, input_required or custom";
    fn read(value: Value<'a>) -> Option<Self> {
        let word = <Cow<'a, str>>::read(value)?;
        Self::ALL.iter().copied().find(|kind| kind.as_str() == word && kind.is_workers())
    }
}

impl Kind {
    /// Whether a worker may write it.
    const fn is_workers(self) -> bool {
        !matches!(
            self,
            Self::RunQueued
                | Self::AgentStarted
                | Self::InputReceived
                | Self::RunRetrying
                | Self::AgentCompleted
        )
    }
}

/// Reads an event's `event` and `data`.
///
/// # Errors
/// `bad_event`, naming the field and what was expected.
pub fn read<'a>(fields: &Fields<'a>) -> Result<WorkerEvent<'a>, Refusal> {
    let checked = (|| {
        let kind = fields.required::<Kind>("event")?;
        let data = fields.required::<ObjectPayload<'_>>("data")?;
        let call = check(kind, &data.fields)?;
        let question = if kind == Kind::InputRequired { Some(question(&data.fields)?) } else { None };
        Ok(WorkerEvent { kind, call, question, data: data.text })
    })();
    checked.map_err(|refusal: Refusal| Refusal { code: Code::BadEvent, ..refusal })
}

/// What each event's data must have.
fn check(kind: Kind, data: &Fields<'_>) -> Result<Option<Call>, Refusal> {
    match kind {
        Kind::AgentThinking | Kind::AgentOutput => {
            let delta = data.optional::<Cow<'_, str>>("delta")?;
            let text = data.optional::<Cow<'_, str>>("text")?;
            if delta.is_none() && text.is_none() {
                return Err(wrong("delta", "`delta` or `text`", "neither"));
            }
            Ok(None)
        }
        Kind::ToolExecuting => {
            data.required::<Cow<'_, str>>("tool")?;
            data.required("call").map(Some)
        }
        Kind::ToolProgress => {
            percent(data, false)?;
            data.required("call").map(Some)
        }
        Kind::ToolCompleted => {
            let status = data.required::<Cow<'_, str>>("status")?;
            if !matches!(status.as_ref(), "ok" | "error" | "interrupted") {
                return Err(wrong("status", "ok, error or interrupted", &status));
            }
            data.required("call").map(Some)
        }
        Kind::StepStarted | Kind::StepCompleted => data.required::<Cow<'_, str>>("step").map(|_| None),
        Kind::RunProgress => percent(data, true).map(|()| None),
        Kind::Custom => data.required::<Cow<'_, str>>("name").map(|_| None),
        Kind::InputRequired => Ok(None),
        Kind::RunQueued
        | Kind::AgentStarted
        | Kind::InputReceived
        | Kind::RunRetrying
        | Kind::AgentCompleted => unreachable!("no worker's event: {kind:?}"),
    }
}

fn question(data: &Fields<'_>) -> Result<Question, Refusal> {
    data.required::<Cow<'_, str>>("prompt")?;
    data.optional::<ObjectPayload<'_>>("schema")?;
    let expires = data.optional::<u64>("expires_ms")?.map(Span::millis);
    Ok(Question { request: data.required("request")?, expires })
}

/// A percentage: its text is a number from 0 to 100. Compared as text, since the core knows no fractions.
#[derive(Debug)]
pub struct Percent<'a>(
    /// The number, as written.
    pub &'a str,
);

impl<'a> Field<'a> for Percent<'a> {
    const EXPECTED: &'static str = "a number from 0 to 100";
    fn read(value: Value<'a>) -> Option<Self> {
        let raw = value.raw;
        let (whole, fraction) = raw.split_once('.').unwrap_or((raw, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let whole: u64 = whole.parse().ok()?;
        let in_range = whole < 100 || (whole == 100 && fraction.bytes().all(|byte| byte == b'0'));
        (digits(fraction) && in_range).then_some(Self(raw))
    }
}

fn percent(data: &Fields<'_>, required: bool) -> Result<(), Refusal> {
    if required {
        return data.required::<Percent<'_>>("percent").map(|_| ());
    }
    data.optional::<Percent<'_>>("percent").map(|_| ())
}

/// Everything of an event but its data.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Its place in the stream.
    pub seq: u64,
    /// When it was written.
    pub ts: WallMs,
    /// The conversation.
    pub thread: &'a Thread,
    /// The run.
    pub run: &'a RunId,
    /// The attempt; 0 before the first.
    pub attempt: u64,
    /// Which event.
    pub kind: Kind,
}

/// The one encoding of an event: these bytes are stored, and sent to every device. They take no more memory
/// than they need. Names have nothing to escape.
pub fn encode(envelope: Envelope<'_>, data: &str) -> Bytes {
    let Envelope { seq, ts, thread, run, attempt, kind } = envelope;
    let mut digits = [itoa::Buffer::new(); 3];
    let [of_seq, of_ts, of_attempt] = &mut digits;
    let parts = [
        r#"{"type":"event","seq":"#,
        of_seq.format(seq),
        r#","ts":"#,
        of_ts.format(ts.0),
        r#","thread":""#,
        thread.as_str(),
        r#"","run":""#,
        run.as_str(),
        r#"","attempt":"#,
        of_attempt.format(attempt),
        r#","event":""#,
        kind.as_str(),
        r#"","data":"#,
        data,
        "}",
    ];
    Bytes::from(parts.concat())
}

/// Whether an event is of this thread. Names have nothing to escape, and no text of anyone else comes before.
pub fn is_of_thread(event: &Bytes, thread: &Thread) -> bool {
    const FIELD: &[u8] = b",\"thread\":\"";
    let Some(at) = event.windows(FIELD.len()).position(|window| window == FIELD) else { return false };
    let rest = &event[at + FIELD.len()..];
    rest.strip_prefix(thread.as_str().as_bytes()).is_some_and(|rest| rest.first() == Some(&b'"'))
}

/// The same event, marked as the `n`th retry.
pub fn redelivery(event: &Bytes, n: u32) -> Bytes {
    let Some((last, body)) = event.split_last() else { unreachable!("an event is an object") };
    assert!(*last == b'}', "an event is an object");
    let mark = format!(",\"redelivery\":{n}}}");
    let mut bytes = BytesMut::with_capacity(body.len() + mark.len());
    bytes.put_slice(body);
    bytes.put_slice(mark.as_bytes());
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::super::json::Object;
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn a_stored_event_takes_no_more_memory_than_its_bytes() {
        let (thread, run) = (Thread::parse("t1").unwrap(), RunId::parse("run_t1_00000001").unwrap());
        for number in [0, 9, 10, 12_345, u64::MAX] {
            let (seq, ts, attempt) = (number, WallMs(number), number);
            let envelope = Envelope { seq, ts, thread: &thread, run: &run, attempt, kind: Kind::AgentOutput };
            let kept = Vec::from(encode(envelope, r#"{"delta":"x"}"#));
            assert_eq!(kept.capacity(), kept.len(), "{number}");
        }
    }

    proptest! {
        #[test]
        fn an_event_is_an_object_like_any_other(
            numbers in any::<[u64; 3]>(),
            names in prop::array::uniform2("[A-Za-z0-9][A-Za-z0-9_.:@-]{0,127}"),
            kind in prop::sample::select(Kind::ALL),
            data in ".{0,40}",
        ) {
            let [seq, ts, attempt] = numbers;
            let (thread, run) = (Thread::parse(&names[0]).unwrap(), RunId::parse(&names[1]).unwrap());
            let data = Object::new().str("delta", &data).finish();
            let object = Object::message("event")
                .raw("seq", seq)
                .raw("ts", ts)
                .str("thread", thread.as_str())
                .str("run", run.as_str())
                .raw("attempt", attempt)
                .str("event", kind.as_str())
                .raw("data", &data);
            let envelope = Envelope { seq, ts: WallMs(ts), thread: &thread, run: &run, attempt, kind };
            prop_assert_eq!(encode(envelope, &data), object.finish());
        }
    }

    #[test]
    fn whoever_misspells_an_event_is_told_all_that_there_are() {
        let told: Vec<&str> = <Kind as Field<'_>>::EXPECTED.split([',', ' ']).collect();
        for kind in Kind::ALL {
            assert_eq!(told.contains(&kind.as_str()), kind.is_workers(), "{}", kind.as_str());
        }
    }
}
