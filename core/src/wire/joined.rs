//! Joined events (PROTOCOL §4): consecutive deltas of one run as one event, for a device that is behind.
//!
//! What is joined is made anew for each device from the stored events, and never stored itself. The same
//! events join to the same bytes, so a retry says what was said.

use super::json::{Fields, Object};
use alloc::string::String;
use bytes::Bytes;

/// The bytes of all events that become one, at most; so the one has fewer.
const BYTES_MAX: usize = 64 * 1024;
/// The events that become one, at most: they must fit into one page from the store.
pub(crate) const EVENTS_MAX: u64 = 256;

/// What a delta is of: all but its text, its place and its time.
#[derive(Debug)]
struct Delta<'a> {
    seq: &'a str,
    ts: &'a str,
    thread: &'a str,
    run: &'a str,
    attempt: &'a str,
    event: &'a str,
    data: Fields<'a>,
    /// Its text as it stands in JSON, without the quotes.
    text: &'a str,
}

impl<'a> Delta<'a> {
    /// Reads an event; none if it is no delta, or one whose data cannot be written anew as it was.
    fn read(event: &'a [u8]) -> Option<Self> {
        let fields = Fields::parse(core::str::from_utf8(event).ok()?).ok()?;
        let event = fields.raw("event").filter(|event| is_joinable(event))?;
        let data = Fields::parse(fields.raw("data")?).ok()?;
        let is_plain = |key: &str| !key.bytes().any(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'));
        let is_once = data.iter().filter(|(key, _)| *key == "delta").count() == 1;
        if !is_once || data.has("text") || !data.iter().all(|(key, _)| is_plain(key)) {
            return None;
        }
        Some(Self {
            seq: fields.raw("seq")?,
            ts: fields.raw("ts")?,
            thread: fields.raw("thread")?,
            run: fields.raw("run")?,
            attempt: fields.raw("attempt")?,
            event,
            text: data.raw("delta")?.strip_prefix('"')?.strip_suffix('"')?,
            data,
        })
    }

    /// Whether both are equal in all that a joined event says once.
    fn continues(&self, first: &Self) -> bool {
        let of = |delta: &Self| (delta.thread, delta.run, delta.attempt, delta.event);
        let others = |(key, _): &(&str, &str)| *key != "delta";
        of(self) == of(first)
            && self.data.iter().filter(others).eq(first.data.iter().filter(others))
            && self.data.iter().count() == first.data.iter().count()
    }

    /// The event that stands for `count` of them after `prev`, of which this is the last.
    fn joined(&self, prev: u64, count: u64, text: &str) -> Bytes {
        let data = self.data.iter().fold(Object::new(), |data, (key, value)| match key {
            "delta" => data.raw(key, format_args!("\"{text}\"")),
            _ => data.raw(key, value),
        });
        let event = Object::message("event")
            .raw("seq", self.seq)
            .raw("prev", prev)
            .raw("joined", count)
            .raw("ts", self.ts)
            .raw("thread", self.thread)
            .raw("run", self.run)
            .raw("attempt", self.attempt)
            .raw("event", self.event)
            .raw("data", data.finish());
        Bytes::from(event.finish())
    }
}

/// Whether an event of this name, in quotes, is a piece of a text.
fn is_joinable(event: &str) -> bool {
    matches!(event, "\"agent_thinking\"" | "\"agent_output\"")
}

/// Joins as many of these events as go together: consecutive ones, the first of which comes after `prev`. The
/// answer is how many, and what stands for them; none where the first stands alone. `loses` leaves one out.
pub(crate) fn join(prev: u64, events: impl Iterator<Item = Bytes>, loses: bool) -> Option<(u64, Bytes)> {
    let mut events = events.take(EVENTS_MAX as usize);
    let first = events.next().filter(|first| first.len() <= BYTES_MAX)?;
    let first_delta = Delta::read(&first)?;
    let (mut text, mut bytes) = (String::from(first_delta.text), first.len());
    let (mut count, mut last) = (1, first.clone());
    for event in events {
        bytes += event.len();
        let Some(delta) = Delta::read(&event).filter(|delta| delta.continues(&first_delta)) else { break };
        if bytes > BYTES_MAX {
            break;
        }
        if !(loses && count == 1) {
            text.push_str(delta.text);
        }
        count += 1;
        last = event;
    }
    let last = Delta::read(&last).filter(|_| count > 1)?;
    Some((count, last.joined(prev, count, &text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec;

    fn event(seq: u64, kind: &str, data: &str) -> Bytes {
        Bytes::from(format!(
            r#"{{"type":"event","seq":{seq},"ts":{},"thread":"t","run":"r","attempt":1,"event":"{kind}","data":{data}}}"#,
            seq + 100
        ))
    }

    fn thought(seq: u64, text: &str) -> Bytes {
        event(seq, "agent_thinking", &format!(r#"{{"delta":"{text}","message":"m"}}"#))
    }

    #[test]
    fn deltas_that_follow_each_other_become_one_with_all_of_their_text() {
        let other = event(7, "agent_output", r#"{"delta":"e"}"#);
        let events = [thought(4, "a"), thought(5, r#"\"\ud83d\ude00"#), thought(6, "c"), other];
        let (count, bytes) = join(3, events.into_iter(), false).unwrap();
        assert_eq!(count, 3);
        assert_eq!(
            core::str::from_utf8(&bytes).unwrap(),
            r#"{"type":"event","seq":6,"prev":3,"joined":3,"ts":106,"thread":"t","run":"r","attempt":1,"event":"agent_thinking","data":{"delta":"a\"\ud83d\ude00c","message":"m"}}"#
        );
    }

    #[test]
    fn what_differs_in_anything_else_is_not_joined() {
        for other in [
            event(5, "agent_output", r#"{"delta":"b","message":"m"}"#),
            event(5, "agent_thinking", r#"{"delta":"b","message":"n"}"#),
            event(5, "agent_thinking", r#"{"delta":"b"}"#),
            event(5, "agent_thinking", r#"{"text":"b","message":"m"}"#),
            event(5, "agent_thinking", r#"{"delta":"b","delta":"c","message":"m"}"#),
            event(5, "tool_progress", r#"{"call":"c","delta":"b","message":"m"}"#),
        ] {
            assert!(join(3, [thought(4, "a"), other.clone()].into_iter(), false).is_none(), "{other:?}");
            assert!(join(3, [other.clone(), thought(6, "a")].into_iter(), false).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_joined_event_has_its_limits() {
        let long: Vec<Bytes> = (1..=9).map(|seq| thought(seq, &"x".repeat(10_000))).collect();
        let (count, bytes) = join(0, long.into_iter(), false).unwrap();
        assert_eq!(count, 6);
        assert!(bytes.len() <= BYTES_MAX);
        let many = (1..=1_000).map(|seq| thought(seq, "x"));
        assert_eq!(join(0, many, false).unwrap().0, EVENTS_MAX);
    }
}
