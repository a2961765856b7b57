//! A message as an observer reads it: every field that any message may have, without judging which belong
//! together.
//!
//! Deliberately not the daemon's own codec: a mistake there must not be mirrored here.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a message says. Fields that it does not have are `None`.
#[derive(Debug, Default, Deserialize)]
pub struct Said<'a> {
    /// `event`, `welcome`, …
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// Which answer belongs to which request.
    #[serde(borrow)]
    pub id: Option<Cow<'a, str>>,
    /// The type of the request that is answered.
    #[serde(borrow)]
    pub of: Option<Cow<'a, str>>,
    /// What went wrong.
    #[serde(borrow)]
    pub code: Option<Cow<'a, str>>,
    /// In words.
    #[serde(borrow)]
    pub message: Option<Cow<'a, str>>,
    /// When to try again.
    pub retry_ms: Option<u64>,
    /// The `n` that a worker must go on with.
    pub expected: Option<u64>,

    /// Of which topic an event is.
    #[serde(borrow)]
    pub topic: Option<Cow<'a, str>>,
    /// The topics that a connection reads, or may not.
    #[serde(borrow)]
    pub topics: Option<&'a RawValue>,
    /// Topics that a newer token may not read.
    #[serde(borrow)]
    pub ended: Option<Vec<Cow<'a, str>>>,
    /// Place in the stream.
    pub seq: Option<u64>,
    /// When.
    pub ts: Option<u64>,
    /// The conversation.
    #[serde(borrow)]
    pub thread: Option<Cow<'a, str>>,
    /// The run.
    #[serde(borrow)]
    pub run: Option<Cow<'a, str>>,
    /// The question that is asked or answered.
    #[serde(borrow)]
    pub request: Option<Cow<'a, str>>,
    /// The fencing number.
    pub attempt: Option<u64>,
    /// Which event.
    #[serde(borrow)]
    pub event: Option<Cow<'a, str>>,
    /// Its data.
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    /// Which retry.
    pub redelivery: Option<u64>,
    /// Of deltas that were joined: the position before the first …
    pub prev: Option<u64>,
    /// … and how many they are.
    pub joined: Option<u64>,

    /// Which notice.
    #[serde(borrow)]
    pub notice: Option<Cow<'a, str>>,
    /// The key of an accepted run.
    #[serde(borrow)]
    pub key: Option<Cow<'a, str>>,
    /// Of a `queue` notice: why.
    #[serde(borrow)]
    pub reason: Option<Cow<'a, str>>,
    /// Of a `backlog` notice: how many events.
    pub behind: Option<u64>,
    /// Of a `drain` notice: when to come back.
    pub reconnect_ms: Option<u64>,
    /// Whether that run was known.
    pub duplicate: Option<bool>,
    /// The state of a cancelled run.
    #[serde(borrow)]
    pub state: Option<Cow<'a, str>>,

    /// Of a `welcome`: who.
    #[serde(borrow)]
    pub user: Option<Cow<'a, str>>,
    /// And as which device.
    #[serde(borrow)]
    pub device: Option<Cow<'a, str>>,
    /// The incarnation.
    #[serde(borrow)]
    pub epoch: Option<Cow<'a, str>>,
    /// The oldest that is kept.
    pub floor: Option<u64>,
    /// The newest.
    pub head: Option<u64>,
    /// Where it begins.
    #[serde(borrow)]
    pub resume: Option<Resume<'a>>,
    /// Time between heartbeats.
    pub heartbeat_ms: Option<u64>,
    /// Runs, of a user or a worker.
    #[serde(borrow)]
    pub runs: Option<&'a RawValue>,

    /// Up to which message.
    pub n: Option<u64>,
    /// Which command.
    pub i: Option<u64>,
    /// Time between signs of life, × 3.
    pub lease_ms: Option<u64>,
    /// Messages of a worker that may be unacknowledged.
    pub publish_window: Option<u64>,
    /// What is asked of an agent.
    #[serde(borrow)]
    pub input: Option<&'a RawValue>,
    /// Of an offer.
    #[serde(borrow)]
    pub agent: Option<Cow<'a, str>>,
    /// Time for the attempt.
    pub timeout_ms: Option<u64>,
}

/// Of a `welcome`.
#[derive(Debug, Deserialize)]
pub struct Resume<'a> {
    /// `resumed`, `fresh` or `reset`.
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    /// Why it is a reset.
    #[serde(borrow)]
    pub reason: Option<Cow<'a, str>>,
    /// The position at which the connection starts.
    pub from: u64,
}

/// A run in a `welcome`: a user's has a `first_seq`, a worker's an `n`.
#[derive(Debug, Deserialize)]
pub struct RunEntry<'a> {
    /// Which.
    #[serde(borrow)]
    pub run: Cow<'a, str>,
    /// What is become of it.
    #[serde(borrow)]
    pub state: Cow<'a, str>,
    /// The fencing number.
    pub attempt: Option<u64>,
    /// Up to which its messages are durable.
    pub n: Option<u64>,
    /// Its first event.
    pub first_seq: Option<u64>,
}

/// A topic in a `welcome` or `subscribed`.
#[derive(Debug, Deserialize)]
pub struct TopicEntry<'a> {
    /// Which.
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    /// The incarnation of its stream.
    #[serde(borrow, default)]
    pub epoch: Cow<'a, str>,
    /// The oldest that is kept.
    #[serde(default)]
    pub floor: u64,
    /// The newest.
    #[serde(default)]
    pub head: u64,
    /// Where it begins; none if it may not be read.
    #[serde(borrow)]
    pub resume: Option<Resume<'a>>,
    /// Why it may not.
    #[serde(borrow)]
    pub error: Option<TopicError<'a>>,
}

/// Why a topic may not be read.
#[derive(Debug, Deserialize)]
pub struct TopicError<'a> {
    /// The code.
    #[serde(borrow)]
    pub code: Cow<'a, str>,
}

/// What the oracles look for in an event's data.
#[derive(Debug, Default, Deserialize)]
pub struct EventData<'a> {
    /// Which tool call.
    #[serde(borrow)]
    pub call: Option<Cow<'a, str>>,
    /// How it ended.
    #[serde(borrow)]
    pub status: Option<Cow<'a, str>>,
    /// Which question.
    #[serde(borrow)]
    pub request: Option<Cow<'a, str>>,
    /// Of a run that is queued: by what it is executed.
    #[serde(borrow)]
    pub agent: Option<Cow<'a, str>>,
    /// Of a run that is queued: the key of the request.
    #[serde(borrow)]
    pub key: Option<Cow<'a, str>>,
    /// Which worker.
    #[serde(borrow)]
    pub worker: Option<Cow<'a, str>>,
    /// Whether a question's time ran out.
    pub expired: Option<bool>,
    /// The time to answer a question.
    pub expires_ms: Option<u64>,
    /// The time until another attempt.
    pub delay_ms: Option<u64>,
    /// Why it has not ended well, as far as it is the daemon that says so: a worker may say anything.
    #[serde(borrow, default, deserialize_with = "read_error")]
    pub error: Option<EventError<'a>>,
}

/// What went wrong with a run.
#[derive(Debug, Default, Deserialize)]
pub struct EventError<'a> {
    /// The code.
    #[serde(borrow)]
    pub code: Option<Cow<'a, str>>,
}

/// An error, unless it is something else.
fn read_error<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<EventError<'a>>, D::Error> {
    let raw = <&'de RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

impl<'a> Said<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// It is not JSON, or a field has a type that no message gives it.
    pub fn read(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// Its name.
    pub fn must<T>(field: Option<T>, name: &'static str) -> Result<T, String> {
        field.ok_or_else(|| format!("`{name}` is missing"))
    }

    /// What this event says, as a number: equal for every delivery of the same event, marked as a retry or
    /// not.
    pub fn content(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.topic, self.seq, self.ts, &self.thread, &self.run, self.attempt, &self.event)
            .hash(&mut hasher);
        self.data.map(RawValue::get).hash(&mut hasher);
        hasher.finish()
    }

    /// The topics of a `welcome` or `subscribed`.
    pub fn topic_entries(&self) -> Vec<TopicEntry<'a>> {
        self.topics.and_then(|topics| serde_json::from_str(topics.get()).ok()).unwrap_or_default()
    }

    /// The runs of a `welcome`.
    pub fn run_entries(&self) -> Vec<RunEntry<'a>> {
        self.runs.and_then(|runs| serde_json::from_str(runs.get()).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_says_the_same_and_another_payload_does_not() {
        let event = |extra: &str, delta: &str| {
            let text = format!(
                r#"{{"type":"event","seq":4,"ts":1,"thread":"t","run":"r","attempt":1,"event":"agent_thinking","data":{{"delta":"{delta}"}}{extra}}}"#
            );
            Said::read(&text).unwrap().content()
        };
        assert_eq!(event("", "a"), event(r#","redelivery":2"#, "a"));
        assert_ne!(event("", "a"), event("", "b"));
    }
}
