//! Any text as a message of a user or a worker: reading it never panics, what was read means the same when it
//! is written and read again, and a refusal stays short however long the message was.

use runcast_core::ids::{Key, RunId, Thread, Topic};
use runcast_core::time::WallMs;
use runcast_core::wire::error::{Code, Refusal};
use runcast_core::wire::event::{self, Envelope, Kind};
use runcast_core::wire::json::{Fields, INTEGER_MAX, Object};
use runcast_core::wire::query::Params;
use runcast_core::wire::topic::{self, Subscription, TOPICS_MAX};
use runcast_core::wire::user::{self, Ask, Hello, Input, WINDOW_MAX};
use runcast_core::wire::worker::{self, AGENTS_MAX, RUNS_MAX, SLOTS_MAX, Said};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// The longest text of a refusal, in bytes.
const REFUSAL_BYTES: usize = 600;

/// The bytes are the message.
pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    of_user(text);
    of_worker(text);
    of_publisher(text);
    of_http(text);
    is_read_alike(text);
}

/// What is read of a text, or why it is not: of what is not JSON just that, since where it ends differs.
fn outcome<T: Debug>(read: Result<T, Refusal>) -> String {
    match read {
        Err(refusal) if refusal.code == Code::BadJson => Code::BadJson.as_str().to_owned(),
        read => format!("{read:?}"),
    }
}

/// What ends with a line break is not read in the short way: the parser makes the same of it.
fn is_read_alike(text: &str) {
    let reads: [fn(&str) -> String; 3] = [
        |text| outcome(user::read(text).map_err(|unread| *unread.refusal)),
        |text| outcome(worker::read(text).map_err(|(_, refusal)| refusal)),
        |text| outcome(topic::read_publication(text, Topic::parse("news").expect("a name"), None)),
    ];
    let ended = format!("{text}\n");
    for read in reads {
        assert_eq!(read(text), read(&ended), "the short way reads what the parser reads");
    }
}

fn of_user(text: &str) {
    let request = match user::read(text) {
        Ok(request) => request,
        Err(unread) => return short(&unread.refusal),
    };
    assert!(request.id.as_ref().is_none_or(|id| id.len() <= user::ID_BYTES));
    match &request.body {
        user::Body::Run(ask) => asked(text, request.id.as_deref(), ask),
        user::Body::Hello(hello) => hello_of_user(hello),
        user::Body::Cancel(run) => {
            let again = user::read(&Object::message("cancel").str("run", run.as_str()).finish());
            let again = again.expect("what was written can be read").body;
            assert!(matches!(&again, user::Body::Cancel(other) if other == run));
        }
        user::Body::Input(input) => said(input),
        user::Body::Ack(_, number) | user::Body::Ping(Some(number)) => assert!(*number <= INTEGER_MAX),
        user::Body::Subscribe(topics) => subscribed(topics),
        user::Body::Refresh(_) => {}
        user::Body::Ping(None) => {}
    }
}

/// Each topic once, and not too many.
fn subscribed(topics: &[Subscription]) {
    assert!(topics.len() <= TOPICS_MAX);
    let names: BTreeSet<&str> = topics.iter().map(|it| it.topic.as_str()).collect();
    assert_eq!(names.len(), topics.len(), "each topic once");
}

/// A run, written again from what was read, and in another order: the same run, and the same request to a
/// key.
fn asked(text: &str, id: Option<&str>, ask: &Ask) {
    let raw = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("JSON is UTF-8");
    let written = Object::message("run")
        .maybe_str("id", id)
        .maybe_str("key", ask.key.as_ref().map(|key| key.as_str()))
        .maybe_str("thread", ask.thread.as_ref().map(|thread| thread.as_str()))
        .str("agent", ask.agent.as_str())
        .raw("input", raw(&ask.input))
        .str("priority", ask.priority.as_str())
        .maybe_raw("timeout_ms", ask.timeout.map(|timeout| timeout.as_millis()))
        .maybe_str("parent", ask.parent.as_ref().map(|parent| parent.as_str()))
        .maybe_raw("meta", ask.meta.as_ref().map(|meta| raw(meta)))
        .finish();
    let again = ask_of(&written);
    let facts = |ask: &Ask| {
        let names = (ask.key.clone(), ask.thread.clone(), ask.agent.clone(), ask.parent.clone());
        (names, ask.input.clone(), ask.meta.clone(), ask.timeout, ask.priority)
    };
    assert_eq!(facts(ask), facts(&again), "written again it is the same run");
    let sorted: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).expect("it was read as JSON");
    let sorted = serde_json::to_string_pretty(&sorted).expect("JSON can be written");
    assert_eq!(ask.digest, ask_of(&sorted).digest, "neither order nor white space makes another request");
    let value: Value = serde_json::from_slice(&ask.input).unwrap_or_default();
    assert!(depth(&value) <= 64, "a payload is at most 64 deep");
}

/// An input, written again from what was read.
fn said(input: &Input) {
    let data = std::str::from_utf8(&input.data).expect("JSON is UTF-8");
    let written = Object::message("input")
        .str("run", input.run.as_str())
        .maybe_str("request", input.request.as_ref().map(|request| request.as_str()))
        .raw("data", data)
        .maybe_str("key", input.key.as_ref().map(|key| key.as_str()))
        .finish();
    let again = user::read(&written).expect("what was written can be read").body;
    let is_same = matches!(&again, user::Body::Input(other) if other.run == input.run
        && other.request == input.request && other.data == input.data && other.key == input.key);
    assert!(is_same, "written again it is the same input");
}

fn ask_of(text: &str) -> Ask {
    match user::read(text).expect("what was written can be read").body {
        user::Body::Run(ask) => ask,
        other @ (user::Body::Hello(_)
        | user::Body::Cancel(_)
        | user::Body::Input(_)
        | user::Body::Ack(..)
        | user::Body::Subscribe(_)
        | user::Body::Refresh(_)
        | user::Body::Ping(_)) => panic!("a run was written, {other:?} is read"),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn hello_of_user(hello: &Hello) {
    assert!(hello.window.is_none_or(|window| (1..=WINDOW_MAX).contains(&u64::from(window))));
    subscribed(&hello.topics);
    if let user::From::Position { seq, .. } = &hello.from {
        assert!(*seq <= INTEGER_MAX);
    }
    assert!(!(hello.viewer && hello.from == user::From::Device), "a viewer has no device");
}

fn of_worker(text: &str) {
    let body = match worker::read(text) {
        Ok(body) => body,
        Err((_, refusal)) => return short(&refusal),
    };
    match body {
        worker::Body::Hello(hello) => {
            assert!((1..=AGENTS_MAX).contains(&hello.agents.len()));
            assert!(hello.agents.iter().all(|serves| (1..=SLOTS_MAX).contains(&(serves.slots as u64))));
            assert!(hello.runs.len() <= RUNS_MAX);
        }
        worker::Body::Numbered { n, said, .. } => {
            assert!(n <= INTEGER_MAX);
            match said {
                Ok(Said::Event(said)) => encoded(said.kind, said.data),
                Ok(Said::Complete(complete)) => {
                    for payload in [complete.output, complete.error, complete.usage].into_iter().flatten() {
                        // What a completed run's event carries.
                        let data = Object::new().raw("output", payload).finish();
                        encoded(Kind::AgentCompleted, &data);
                    }
                }
                Err(bad) => short(&bad.refusal),
            }
        }
        worker::Body::Started(_)
        | worker::Body::Decline { .. }
        | worker::Body::Got { .. }
        | worker::Body::Drain
        | worker::Body::Beat => {}
    }
}

/// An event is JSON, carries its data as written, and so does its redelivery.
fn encoded(kind: Kind, data: &str) {
    let run = RunId::parse("run_t_00000001").expect("a run's id");
    let thread = Thread::parse("t").expect("a thread's name");
    let envelope = Envelope { seq: 1, ts: WallMs(2), thread: &thread, run: &run, attempt: 3, kind };
    let event = event::encode(envelope, data);
    let again = event::redelivery(&event, 4);
    for (bytes, mark) in [(&event, None), (&again, Some("4"))] {
        let text = std::str::from_utf8(bytes).expect("an event is UTF-8");
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).expect("an event is JSON");
        assert_eq!(fields["data"].get(), data, "data goes through as written");
        assert_eq!(fields.get("redelivery").map(|mark| mark.get()), mark);
        assert!(Fields::parse(text).is_ok());
    }
}

/// A publication's event is JSON, and carries its data as written.
fn of_publisher(text: &str) {
    let name = Topic::parse("news").expect("a name");
    let publication = match topic::read_publication(text, name, None) {
        Ok(publication) => publication,
        Err(refusal) => return short(&refusal),
    };
    let data = std::str::from_utf8(&publication.data).expect("JSON is UTF-8");
    let event = topic::encode(&publication.topic, 1, WallMs(2), publication.event.as_str(), data);
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(&event).expect("an event is JSON");
    assert_eq!(fields["data"].get(), data, "data goes through as written");
}

/// The text as the body of a request, and as the query of one.
fn of_http(text: &str) {
    let run = RunId::parse("run_t_00000001").expect("a run's id");
    let thread = Thread::parse("t").expect("a thread's name");
    let key = || Key::parse("k");
    let refusals = [
        user::read_run(text, Some(&thread), key()).err(),
        user::read_input(text, run, key()).err(),
        user::read_ack(text).err(),
        Params::parse(Some(text)).err(),
    ];
    refusals.iter().flatten().for_each(short);
}

fn short(refusal: &Refusal) {
    let length = refusal.message.len();
    assert!(length <= REFUSAL_BYTES, "a refusal of {length} bytes begins with {:.80}", refusal.message);
}
