//! What a user's client sends (PROTOCOL §3, §5), and the answers to it.

use super::call::Call;
use super::error::{Code, Refusal};
use super::json::{Field, Fields, Object, ObjectPayload, Payload, Value, wrong};
use super::topic::{Subscription, read_topics};
use crate::effect::Token;
use crate::ids::{self, Agent, Device, Epoch, Key, Lane, RunId, Thread, Topic, User};
use crate::time::Span;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The longest `id` of a request, in bytes.
pub const ID_BYTES: usize = 128;
/// The largest window, in events.
pub const WINDOW_MAX: u64 = 1024;

/// A message that was read.
#[derive(Debug)]
pub struct Request {
    /// Which answer belongs to it.
    pub id: Option<String>,
    /// What it asks.
    pub body: Body,
}

/// What a user's client may send.
#[derive(Debug)]
pub enum Body {
    /// Who, from where on, and how.
    Hello(Hello),
    /// A run is asked for.
    Run(Ask),
    /// A run is to end.
    Cancel(RunId),
    /// A run is told something.
    Input(Input),
    /// Events of a stream were processed, up to a seq.
    Ack(Lane, u64),
    /// Other topics are to be read, and these only.
    Subscribe(Vec<Subscription>),
    /// A newer token.
    Refresh(Token),
    /// A sign of life.
    Ping(Option<u64>),
}

/// `hello`.
#[derive(Debug, Default)]
pub struct Hello {
    /// The device, if it has a name.
    pub device: Option<Device>,
    /// The token, if it did not come in the head.
    pub token: Option<Token>,
    /// Where to begin.
    pub from: From,
    /// How many events may be unacknowledged.
    pub window: Option<u32>,
    /// Whether events are not acknowledged at all.
    pub viewer: bool,
    /// Which of its calls this is, if the client counts them.
    pub call: Option<Call>,
    /// The topics to be read.
    pub topics: Vec<Subscription>,
}

/// Where a connection begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// After this position.
    Position {
        /// Of this incarnation.
        epoch: Epoch,
        /// The last seq that the client has.
        seq: u64,
    },
    /// After the device's position, or `Live` for one that is not known.
    #[default]
    Device,
    /// At the oldest event that is kept.
    Oldest,
    /// After the newest.
    Head,
    /// At the first event of the oldest run that has not ended, or after the newest.
    Live,
}

/// A run as it is asked for, with every field checked for itself.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Makes a repeated request the same request.
    pub key: Option<Key>,
    /// The conversation; absent, the daemon makes one.
    pub thread: Option<Thread>,
    /// Who is to execute it.
    pub agent: Agent,
    /// What is asked, as written.
    pub input: Bytes,
    /// Which of its user's runs goes first.
    pub priority: Priority,
    /// What is to happen when its thread is busy.
    pub on_busy: OnBusy,
    /// Time for one attempt.
    pub timeout: Option<Span>,
    /// The run that asked for this one.
    pub parent: Option<RunId>,
    /// The caller's own words, as written.
    pub meta: Option<Bytes>,
    /// Tells whether two requests with one key are the same.
    pub digest: u128,
}

/// `input`: an answer, or steering.
#[derive(Debug)]
pub struct Input {
    /// To which run.
    pub run: RunId,
    /// To which of its questions; none for steering.
    pub request: Option<ids::Request>,
    /// What is said, as written.
    pub data: Bytes,
    /// Makes a repeated input the same input.
    pub key: Option<Key>,
    /// Tells whether two inputs with one key are the same.
    pub digest: u128,
}

/// Which of a user's own runs goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// After the others, but not for ever.
    Low,
    /// In its turn.
    #[default]
    Normal,
    /// Before the others.
    High,
}

impl Priority {
    /// As it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// What is to happen when the thread has a run that has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBusy {
    /// The new one waits.
    #[default]
    Enqueue,
    /// The new one is refused.
    Reject,
    /// The others are cancelled.
    Interrupt,
}

impl<'a> Field<'a> for Priority {
    const EXPECTED: &'static str = "low, normal or high";
    fn read(value: Value<'a>) -> Option<Self> {
        match <Cow<'a, str>>::read(value)?.as_ref() {
            "low" => Some(Self::Low),
            "normal" => Some(Self::Normal),
            "high" => Some(Self::High),
            _ => None,
        }
    }
}

impl<'a> Field<'a> for OnBusy {
    const EXPECTED: &'static str = "enqueue, reject or interrupt";
    fn read(value: Value<'a>) -> Option<Self> {
        match <Cow<'a, str>>::read(value)?.as_ref() {
            "enqueue" => Some(Self::Enqueue),
            "reject" => Some(Self::Reject),
            "interrupt" => Some(Self::Interrupt),
            _ => None,
        }
    }
}

/// Why a message was not read, with what of it was.
#[derive(Debug)]
pub struct Unread {
    /// Its `id`.
    pub id: Option<String>,
    /// Its `type`.
    pub of: Option<String>,
    /// Why.
    pub refusal: Box<Refusal>,
}

impl Unread {
    fn new(id: Option<String>, of: Option<String>, refusal: Refusal) -> Self {
        Self { id, of, refusal: Box::new(refusal) }
    }
}

impl<'a> Field<'a> for From {
    const EXPECTED: &'static str = "{\"epoch\",\"seq\"}, \"device\", \"oldest\", \"head\" or \"live\"";
    fn read(value: Value<'a>) -> Option<Self> {
        if let Some(word) = <Cow<'a, str>>::read(value) {
            return match word.as_ref() {
                "device" => Some(Self::Device),
                "oldest" => Some(Self::Oldest),
                "head" => Some(Self::Head),
                "live" => Some(Self::Live),
                _ => None,
            };
        }
        let fields = Fields::parse(value.raw).ok()?;
        Some(Self::Position { epoch: fields.required("epoch").ok()?, seq: fields.required("seq").ok()? })
    }
}

/// Reads a message of a user's client.
///
/// # Errors
/// Why it cannot be read, with its `id` and `type` where those can.
pub fn read(text: &str) -> Result<Request, Unread> {
    let fields = Fields::parse(text).map_err(|refusal| Unread::new(None, None, refusal))?;
    let id = match fields.optional::<Cow<'_, str>>("id") {
        Ok(id) if id.as_ref().is_none_or(|id| id.len() <= ID_BYTES) => id.map(Cow::into_owned),
        Ok(_) => {
            let refusal = wrong("id", "a string of at most 128 bytes", "a longer one");
            return Err(Unread::new(None, None, refusal));
        }
        Err(refusal) => return Err(Unread::new(None, None, refusal)),
    };
    let kind = match fields.required::<Cow<'_, str>>("type") {
        Ok(kind) => kind,
        Err(refusal) => return Err(Unread::new(id, None, refusal)),
    };
    match body(&kind, &fields) {
        Ok(body) => Ok(Request { id, body }),
        Err(refusal) if refusal.code == Code::UnknownType => Err(Unread::new(id, None, refusal)),
        Err(refusal) => Err(Unread::new(id, Some(kind.into_owned()), refusal)),
    }
}

fn body(kind: &str, fields: &Fields<'_>) -> Result<Body, Refusal> {
    match kind {
        "hello" => hello(fields).map(Body::Hello),
        "run" => ask(fields).map(Body::Run),
        "cancel" => fields.required("run").map(Body::Cancel),
        "input" => input(fields, fields.required("run")?).map(Body::Input),
        "ack" => Ok(Body::Ack(fields.optional::<Topic>("topic")?.into(), fields.required("seq")?)),
        "subscribe" => match read_topics(fields)? {
            Some(topics) => Ok(Body::Subscribe(topics)),
            None => Err(wrong("topics", "the whole new set of topics", "nothing")),
        },
        "refresh" => Ok(Body::Refresh(Token::new(&fields.required::<Cow<'_, str>>("token")?))),
        "ping" => fields.optional("n").map(Body::Ping),
        _ => Err(unknown_type(kind, "hello, run, cancel, input, subscribe, ack, refresh, ping")),
    }
}

/// The refusal of a `type` that is not known.
pub(crate) fn unknown_type(kind: &str, known: &str) -> Refusal {
    let kind: String = kind.chars().take(40).collect();
    Refusal::new(
        Code::UnknownType,
        format!("expected a type of {known}; found `{kind}`"),
        "check the spelling, and that the daemon's version knows it",
    )
}

fn hello(fields: &Fields<'_>) -> Result<Hello, Refusal> {
    let viewer = fields.optional::<bool>("ack")? == Some(false);
    let from = fields.optional::<From>("from")?;
    if viewer && from == Some(From::Device) {
        return Err(wrong("from", "another beginning: a viewer has no device", "\"device\""));
    }
    let window = match fields.optional::<u64>("window")? {
        Some(window) if !(1..=WINDOW_MAX).contains(&window) => {
            return Err(wrong("window", "a whole number from 1 to 1024", &format!("{window}")));
        }
        window => window.map(|window| window as u32),
    };
    let topics = read_topics(fields)?.unwrap_or_default();
    if viewer && topics.iter().any(|topic| topic.from == From::Device) {
        return Err(wrong("topics", "other beginnings: a viewer has no device", "\"device\""));
    }
    Ok(Hello {
        device: fields.optional("device")?,
        token: fields.optional::<Cow<'_, str>>("token")?.map(|token| Token::new(&token)),
        from: from.unwrap_or(if viewer { From::Live } else { From::Device }),
        window,
        viewer,
        call: fields.optional("call")?,
        topics,
    })
}

/// Reserved for the daemon: names that a run's metadata may not have.
const META_RESERVED: [&str; 5] = ["user", "run", "thread", "agent", "runcast"];
/// The longest metadata, in bytes.
const META_BYTES: usize = 4096;

fn ask(fields: &Fields<'_>) -> Result<Ask, Refusal> {
    let meta = fields.optional::<ObjectPayload<'_>>("meta")?;
    if let Some(meta) = &meta {
        if let Some(reserved) = META_RESERVED.iter().find(|name| meta.fields.has(name)) {
            return Err(wrong("meta", "no name that is the daemon's own", reserved));
        }
        if meta.text.len() > META_BYTES {
            return Err(wrong("meta", "at most 4096 bytes", &format!("{}", meta.text.len())));
        }
    }
    Ok(Ask {
        key: fields.optional("key")?,
        thread: fields.optional("thread")?,
        agent: fields.required("agent")?,
        input: Bytes::copy_from_slice(fields.required::<Payload<'_>>("input")?.0.as_bytes()),
        priority: fields.optional("priority")?.unwrap_or_default(),
        on_busy: fields.optional("on_busy")?.unwrap_or_default(),
        timeout: fields.optional::<u64>("timeout_ms")?.map(Span::millis),
        parent: fields.optional("parent")?,
        meta: meta.map(|meta| Bytes::copy_from_slice(meta.text.as_bytes())),
        digest: fields.digest(&["id", "key", "type", "user"]),
    })
}

fn input(fields: &Fields<'_>, run: RunId) -> Result<Input, Refusal> {
    Ok(Input {
        run,
        request: fields.optional("request")?,
        data: Bytes::copy_from_slice(fields.required::<Payload<'_>>("data")?.0.as_bytes()),
        key: fields.optional("key")?,
        digest: fields.digest(&["id", "key", "type", "run"]),
    })
}

/// Reads the body of an HTTP request for a run: the user whose it is to be, if one is named, and the run.
/// `thread` and `key` are those of the path and the header.
///
/// # Errors
/// `bad_json`, or `bad_message`, naming the field and what was expected.
pub fn read_run(
    body: &str,
    thread: Option<&Thread>,
    key: Option<Key>,
) -> Result<(Option<User>, Ask), Refusal> {
    let quoted = thread.map(|thread| format!("\"{thread}\""));
    let mut fields = Fields::parse(body)?;
    if let (Some(thread), Some(quoted)) = (thread, &quoted) {
        if let Some(other) = fields.optional::<Thread>("thread")?
            && other != *thread
        {
            return Err(wrong("thread", "the thread of the path, or none", other.as_str()));
        }
        fields.put("thread", quoted);
    }
    let ask = ask(&fields)?;
    let key = one_key(ask.key, key)?;
    Ok((fields.optional("user")?, Ask { key, ..ask }))
}

/// Reads the body of an HTTP request with an input for `run`. `key` is that of the header.
///
/// # Errors
/// `bad_json`, or `bad_message`, naming the field and what was expected.
pub fn read_input(body: &str, run: RunId, key: Option<Key>) -> Result<Input, Refusal> {
    let input = input(&Fields::parse(body)?, run)?;
    let key = one_key(input.key, key)?;
    Ok(Input { key, ..input })
}

/// A key may come in the body, in the header, or the same in both.
fn one_key(body: Option<Key>, header: Option<Key>) -> Result<Option<Key>, Refusal> {
    match (body, header) {
        (Some(body), Some(header)) if body != header => {
            Err(wrong("key", "the key of the header `Idempotency-Key`, or none", body.as_str()))
        }
        (body, header) => Ok(header.or(body)),
    }
}

/// An acknowledgement over HTTP.
#[derive(Debug)]
pub struct Ack {
    /// As which device.
    pub device: Device,
    /// In which of its streams.
    pub lane: Lane,
    /// In which incarnation of the stream.
    pub epoch: Epoch,
    /// Up to which event.
    pub seq: u64,
}

/// Reads the body of an HTTP acknowledgement.
///
/// # Errors
/// `bad_json`, or `bad_message`, naming the field and what was expected.
pub fn read_ack(body: &str) -> Result<Ack, Refusal> {
    let fields = Fields::parse(body)?;
    Ok(Ack {
        device: fields.required("device")?,
        lane: fields.optional::<Topic>("topic")?.into(),
        epoch: fields.required("epoch")?,
        seq: fields.required("seq")?,
    })
}

/// `error`.
pub fn error(of: Option<&str>, id: Option<&str>, refusal: &Refusal) -> Object {
    let error = Object::message("error")
        .maybe_str("of", of)
        .maybe_str("id", id)
        .str("code", refusal.code.as_str())
        .str("message", &refusal.message)
        .str("hint", refusal.hint)
        .maybe_raw("retry_ms", refusal.retry_ms)
        .raw("temporary", refusal.code.is_temporary());
    with_also(error, refusal)
}

/// Adds what else is wrong with the same request, if anything is.
pub fn with_also(error: Object, refusal: &Refusal) -> Object {
    if refusal.also.is_empty() {
        return error;
    }
    let also = refusal.also.iter().map(|other| {
        let code = Object::new().str("code", other.code.as_str());
        code.str("message", &other.message).str("hint", other.hint)
    });
    error.list("also", also)
}

/// `ok` to the request `of`.
pub fn ok(of: &str, id: Option<&str>) -> Object {
    Object::message("ok").str("of", of).maybe_str("id", id)
}

/// `accepted`, as to a first request (`duplicate` false) or a repeated one.
pub fn accepted(id: Option<&str>, key: Option<&Key>, run: &RunId, thread: &Thread, place: Place) -> Object {
    Object::message("accepted")
        .maybe_str("id", id)
        .maybe_str("key", key.map(Key::as_str))
        .str("run", run.as_str())
        .str("thread", thread.as_str())
        .raw("position", place.position)
        .raw("ahead", place.ahead)
        .maybe_raw("eta_ms", place.eta_ms)
        .raw("duplicate", place.duplicate)
}

/// Where a run stands when it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `ahead` + 1, or 0 when it is not queued.
    pub position: u64,
    /// Queued runs that start before it.
    pub ahead: u64,
    /// The wait to expect, in milliseconds, if that is known.
    pub eta_ms: Option<u64>,
    /// Whether the run was there before.
    pub duplicate: bool,
}
