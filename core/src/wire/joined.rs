//! Joined events (PROTOCOL §4): consecutive deltas of one run as one event, for a device that is behind.
//!
//! What is joined is made anew for each device from the stored events, and never stored itself. The same
//! events join to the same bytes, so a retry says what was said.

use super::json::{Fields, Object};
use alloc::string::String;
use alloc::vec;
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

/// The bytes of a delta around its place, its time and its text. What has the same bytes there would be read
/// as the same, and is not read.
#[derive(Debug)]
struct Form<'a> {
    before_seq: &'a [u8],
    before_ts: &'a [u8],
    before_text: &'a [u8],
    after_text: &'a [u8],
}

/// What a delta adds to those before it.
#[derive(Debug)]
struct Piece<'a> {
    ts: &'a [u8],
    text: &'a [u8],
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

    fn piece(&self) -> Piece<'a> {
        Piece { ts: self.ts.as_bytes(), text: self.text.as_bytes() }
    }

    /// The event that stands for so many of them after `prev`, the last of which is of this time, around the
    /// place of their text.
    fn around(&self, prev: u64, count: u64, ts: &str) -> (String, String) {
        let data = self.data.iter().fold(Object::new(), |data, (key, value)| match key {
            "delta" => data.raw(key, "\"\""),
            _ => data.raw(key, value),
        });
        let mut before = Object::message("event")
            .number("seq", prev + count)
            .number("prev", prev)
            .number("joined", count)
            .raw("ts", ts)
            .raw("thread", self.thread)
            .raw("run", self.run)
            .raw("attempt", self.attempt)
            .raw("event", self.event)
            .raw("data", data.finish())
            .finish();
        let follows = self.data.iter().skip_while(|(key, _)| *key != "delta").skip(1);
        let follows: usize = follows.map(|(key, value)| r#","":"#.len() + key.len() + value.len()).sum();
        let after = before.split_off(before.len() - follows - r#""}}"#.len());
        (before, after)
    }
}

impl<'a> Form<'a> {
    /// That of this event, which was read; none if the parts come in another order.
    fn of(event: &'a [u8], delta: &Delta<'a>) -> Option<Self> {
        let place = |part: &str| {
            let start = part.as_ptr().addr() - event.as_ptr().addr();
            start..start + part.len()
        };
        let (seq, ts, text) = (place(delta.seq), place(delta.ts), place(delta.text));
        Some(Self {
            before_seq: event.get(..seq.start)?,
            before_ts: event.get(seq.end..ts.start)?,
            before_text: event.get(ts.end..text.start)?,
            after_text: event.get(text.end..)?,
        })
    }

    /// What an event of this form adds; none if it is not of this form.
    fn read<'b>(&self, event: &'b [u8]) -> Option<Piece<'b>> {
        let (_, rest) = number(event.strip_prefix(self.before_seq)?);
        let (ts, rest) = number(rest.strip_prefix(self.before_ts)?);
        let text = rest.strip_prefix(self.before_text)?.strip_suffix(self.after_text)?;
        is_whole(text).then_some(Piece { ts, text })
    }
}

/// A number, and what follows it.
fn number(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

/// Whether a string ends after this text and not before: where it begins is known, and that it is JSON.
fn is_whole(text: &[u8]) -> bool {
    // Nearly always: the processor looks at many bytes at once, whose count cannot overflow.
    let count = |part: &[u8]| part.iter().map(|byte| u8::from(matches!(byte, b'"' | b'\\'))).sum::<u8>();
    if text.chunks(usize::from(u8::MAX)).all(|part| count(part) == 0) {
        return true;
    }
    let mut is_escaped = false;
    for byte in text {
        match byte {
            b'"' if !is_escaped => return false,
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    !is_escaped
}

/// Whether an event of this name, in quotes, is a piece of a text.
fn is_joinable(event: &str) -> bool {
    matches!(event, "\"agent_thinking\"" | "\"agent_output\"")
}

/// Joins as many of these events as go together: consecutive ones, the first of which comes after `prev`. The
/// answer is how many, and what stands for them; none where the first stands alone. `loses` leaves one out.
pub(crate) fn join<'a>(
    prev: u64,
    events: impl Iterator<Item = &'a [u8]>,
    loses: bool,
) -> Option<(u64, Bytes)> {
    let mut events = events.take(EVENTS_MAX as usize);
    let first = events.next().filter(|first| first.len() <= BYTES_MAX)?;
    let delta = Delta::read(first)?;
    let form = Form::of(first, &delta);
    let mut last = delta.piece();
    let (mut count, mut bytes) = (1, first.len());
    // Before the texts, and after them, comes what is around them.
    let mut parts = vec![&[][..], last.text];
    for event in events {
        bytes += event.len();
        if bytes > BYTES_MAX {
            break;
        }
        let alike = form.as_ref().and_then(|form| form.read(event));
        let read = || Delta::read(event).filter(|next| next.continues(&delta)).map(|next| next.piece());
        let Some(piece) = alike.or_else(read) else { break };
        if !(loses && count == 1) {
            parts.push(piece.text);
        }
        count += 1;
        last = piece;
    }
    let ts = core::str::from_utf8(last.ts).ok().filter(|_| count > 1)?;
    let (before, after) = delta.around(prev, count, ts);
    parts[0] = before.as_bytes();
    parts.push(after.as_bytes());
    Some((count, Bytes::from(parts.concat())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec;
    use proptest::prelude::*;

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
        let (count, bytes) = join(3, events.iter().map(|event| &event[..]), false).unwrap();
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
            let (before, after) = (thought(4, "a"), thought(6, "a"));
            assert!(join(3, [&before[..], &other].into_iter(), false).is_none(), "{other:?}");
            assert!(join(3, [&other[..], &after].into_iter(), false).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_joined_event_has_its_limits() {
        let long: Vec<Bytes> = (1..=9).map(|seq| thought(seq, &"x".repeat(10_000))).collect();
        let (count, bytes) = join(0, long.iter().map(|event| &event[..]), false).unwrap();
        assert_eq!(count, 6);
        assert!(bytes.len() <= BYTES_MAX);
        let many: Vec<Bytes> = (1..=1_000).map(|seq| thought(seq, "x")).collect();
        assert_eq!(join(0, many.iter().map(|event| &event[..]), false).unwrap().0, EVENTS_MAX);
    }

    /// Data of a delta, and what may be taken for it.
    fn data() -> impl Strategy<Value = String> {
        let text = r#"(a|,|\\\\|\\"|\\u00e9|","delta":"){0,4}"#;
        (0..8usize, text).prop_map(|(form, text)| match form {
            0..3 => format!(r#"{{"delta":"{text}"}}"#),
            3 => format!(r#"{{"delta":"{text}","message":"m"}}"#),
            4 => format!(r#"{{"message":"m","delta":"{text}"}}"#),
            5 => format!(r#"{{ "delta" : "{text}" }}"#),
            6 => format!(r#"{{"delta":"{text}","more":{{"delta":"{text}"}}}}"#),
            _ => format!(r#"{{"delta":"{text}","text":null}}"#),
        })
    }

    proptest! {
        #[test]
        fn what_has_the_form_of_another_is_read_as_its_continuation(first in data(), next in data()) {
            let (first, next) = (event(9, "agent_output", &first), event(10, "agent_output", &next));
            if let Some(first_delta) = Delta::read(&first)
                && let Some(piece) = Form::of(&first, &first_delta).unwrap().read(&next)
                && let Ok(_) = serde_json::from_slice::<serde::de::IgnoredAny>(&next)
            {
                let delta = Delta::read(&next).unwrap();
                prop_assert!(delta.continues(&first_delta));
                prop_assert_eq!((piece.ts, piece.text), (delta.ts.as_bytes(), delta.text.as_bytes()));
            }
        }

        #[test]
        fn what_differs_in_its_text_alone_has_one_form(texts in prop::array::uniform2(".{0,9}")) {
            let data = texts.map(|text| Object::new().str("delta", &text).str("message", "m").finish());
            let [first, next] = data.map(|data| event(9, "agent_output", &data));
            let form = Form::of(&first, &Delta::read(&first).unwrap()).unwrap();
            prop_assert_eq!(form.read(&next).unwrap().text, Delta::read(&next).unwrap().text.as_bytes());
        }
    }
}
