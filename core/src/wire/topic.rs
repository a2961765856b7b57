//! Topics on the wire (PROTOCOL §3 `hello.topics`, §5 `subscribe`, §7): what is asked for, what is published,
//! and the one encoding of a topic's events.

use super::error::Refusal;
use super::json::{Fields, List, Object, Payload, wrong};
use super::user::From;
use crate::ids::{EventName, Key, Topic};
use crate::time::WallMs;
use alloc::format;
use alloc::vec::Vec;
use bytes::Bytes;

/// Topics that one connection may read at once.
pub const TOPICS_MAX: usize = 64;

/// A topic that a connection is to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Which.
    pub topic: Topic,
    /// Where to begin.
    pub from: From,
}

/// Reads the field `topics`, none if it is absent: names, or objects with `topic` and `from`.
///
/// # Errors
/// `bad_message`, naming the field and what was expected.
pub(crate) fn read_topics(fields: &Fields<'_>) -> Result<Option<Vec<Subscription>>, Refusal> {
    let Some(List(items)) = fields.optional::<List<'_>>("topics")? else { return Ok(None) };
    if items.len() > TOPICS_MAX {
        let expected = format!("at most {TOPICS_MAX} topics");
        return Err(wrong("topics", &expected, &format!("{}", items.len())));
    }
    let mut topics: Vec<Subscription> = Vec::with_capacity(items.len());
    for item in items {
        let next = read_one(item)?;
        if topics.iter().any(|other| other.topic == next.topic) {
            return Err(wrong("topics", "each topic once", next.topic.as_str()));
        }
        topics.push(next);
    }
    Ok(Some(topics))
}

fn read_one(item: &str) -> Result<Subscription, Refusal> {
    let expected = "names of topics, or objects with `topic` and `from`";
    if !item.starts_with('{') {
        let name = Fields::parse(&format!("{{\"topic\":{item}}}"))?.required("topic");
        let topic = name.map_err(|_| wrong("topics", expected, item))?;
        return Ok(Subscription { topic, from: From::Head });
    }
    let fields = Fields::parse(item)?;
    let topic = fields.required("topic").map_err(|_| wrong("topics", expected, item))?;
    Ok(Subscription { topic, from: fields.optional("from")?.unwrap_or(From::Head) })
}

/// What a publisher has to say.
#[derive(Clone, Debug)]
pub struct Publication {
    /// On which topic.
    pub topic: Topic,
    /// Which event, in the publisher's own words.
    pub event: EventName,
    /// Its data, as written.
    pub data: Bytes,
    /// Makes a repeated publication the same publication.
    pub key: Option<Key>,
    /// Tells whether two publications with one key are the same.
    pub digest: u128,
}

/// Reads the body of an HTTP request to publish on `topic`. `key` is that of the header.
///
/// # Errors
/// `bad_json`, or `bad_message`, naming the field and what was expected.
pub fn read_publication(body: &str, topic: Topic, key: Option<Key>) -> Result<Publication, Refusal> {
    let fields = Fields::parse(body)?;
    let event = fields.required("event")?;
    let data = Bytes::copy_from_slice(fields.required::<Payload<'_>>("data")?.0.as_bytes());
    Ok(Publication { topic, event, data, key, digest: fields.digest(&[]) })
}

/// The one encoding of a topic's event: these bytes are stored, and sent to everyone who reads it.
pub fn encode(topic: &Topic, seq: u64, ts: WallMs, event: &str, data: &str) -> Bytes {
    Bytes::from(
        Object::message("event")
            .str("topic", topic.as_str())
            .raw("seq", seq)
            .raw("ts", ts.0)
            .str("event", event)
            .raw("data", data)
            .finish(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;
    use crate::wire::error::Code;

    fn topics(text: &str) -> Result<Option<Vec<Subscription>>, Refusal> {
        read_topics(&Fields::parse(text).unwrap())
    }

    #[test]
    fn topics_are_names_or_say_where_they_begin() {
        let epoch = Epoch::parse("e-1").unwrap();
        let found = topics(
            r#"{"topics":["a",{"topic":"b","from":"oldest"},{"topic":"c","from":{"epoch":"e-1","seq":4}},{"topic":"d"}]}"#,
        );
        let from: Vec<From> = found.unwrap().unwrap().into_iter().map(|it| it.from).collect();
        assert_eq!(from, [From::Head, From::Oldest, From::Position { epoch, seq: 4 }, From::Head]);
        assert_eq!(topics("{}"), Ok(None));
        assert_eq!(topics(r#"{"topics":[]}"#), Ok(Some(Vec::new())));
    }

    #[test]
    fn what_is_no_topic_or_stands_twice_is_refused_with_its_field() {
        let many = (0..65).map(|n| format!("\"t{n}\"")).collect::<Vec<_>>().join(",");
        for list in ["4", "[4]", "[\"\"]", "[{}]", "[\"a\",{\"topic\":\"a\"}]", "[[]]", &format!("[{many}]")]
        {
            let refusal = topics(&format!("{{\"topics\":{list}}}")).unwrap_err();
            assert_eq!(refusal.code, Code::BadMessage, "{list}");
            assert!(refusal.message.contains("`topics`"), "{list}: {}", refusal.message);
        }
        assert!(topics(r#"{"topics":[{"topic":"a","from":"yesterday"}]}"#).is_err());
    }
}
