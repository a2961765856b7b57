//! What publishers say on topics (PROTOCOL §7 `POST /v1/topics/{topic}/events`).

use crate::caller::Caller;
use crate::effect::Effects;
use crate::ids::{Key, Topic, User};
use crate::planted::Bug;
use crate::record::{Found, Query, Record, RowKey, Table};
use crate::sometimes::Sometimes;
use crate::time::WallMs;
use crate::wire::error::{Code, Refusal};
use crate::wire::json::Object;
use crate::wire::topic::Publication;
use crate::{Core, Load};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A publication that waits for what the store knows of its key.
#[derive(Debug)]
pub(crate) struct Asked {
    caller: Caller,
    key: Key,
    publication: Publication,
}

/// What was published with a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Published {
    /// Where it stands in its topic.
    pub(crate) seq: u64,
    /// Tells whether another with this key is the same.
    digest: String,
    /// When, wall clock.
    made_ms: u64,
}

impl Core {
    /// Something is to be published. Whether it is new only the store can tell, if it has a key.
    pub(crate) fn on_publish(&mut self, caller: Caller, publication: Publication, out: &mut Effects) {
        let topic = &publication.topic;
        if let Err(refusal) = self.check_publisher(topic) {
            return self.refuse(&caller, "publish", &refusal, out);
        }
        let Some(key) = publication.key.clone() else {
            return self.publish(&caller, &publication);
        };
        let row = key_of(&caller.identity.user, topic, &key);
        self.topic(topic).questions += 1;
        let asked = Box::new(Asked { caller, key, publication });
        self.look_up(asked.caller.conn, Load::Publication(asked), Query::Rows([row].into()), out);
    }

    fn check_publisher(&self, topic: &Topic) -> Result<(), Refusal> {
        let is_open = topic.as_str() != crate::topics::AGENTS && self.config.readers(topic).is_some();
        if !is_open {
            let message = format!("expected a topic that publishers may write to, found `{topic}`");
            return Err(Refusal::new(Code::TopicForbidden, message, "declare it in the configuration"));
        }
        if self.durable.is_full() { Err(self.storage_unavailable()) } else { Ok(()) }
    }

    /// What the store knows of a publication's key has come.
    pub(crate) fn on_publication_looked_up(&mut self, asked: Asked, found: Found, out: &mut Effects) {
        let Asked { caller, key, publication } = asked;
        self.topic(&publication.topic).questions -= 1;
        if let Some(rows) = self.looked_up(caller.conn, found, out) {
            let stored = rows.first().map(|(_, row)| {
                serde_json::from_slice::<Published>(row).expect("a stored row is what was stored")
            });
            self.publish_with_key(&caller, &key, &publication, stored, out);
        }
        self.topic(&publication.topic).forget_keys();
    }

    fn publish_with_key(
        &mut self,
        caller: &Caller,
        key: &Key,
        publication: &Publication,
        stored: Option<Published>,
        out: &mut Effects,
    ) {
        let (user, keep, wall) = (caller.identity.user.clone(), self.config.runs.key_keep, self.now.wall);
        let by = (user, key.clone());
        let made_before = stored.as_ref().map(|stored| stored.made_ms);
        let stored = stored.filter(|stored| wall.since(WallMs(stored.made_ms)) < keep);
        let before = self.topic(&publication.topic).keys.get(&by).cloned().or(stored);
        let digest = format!("{:032x}", publication.digest);
        match before {
            Some(before) if before.digest != digest => {
                let message =
                    format!("the key `{key}` was used for another publication, which is {}", before.seq);
                let refusal = Refusal::new(Code::KeyReused, message, "use a new key for a new publication");
                self.refuse(caller, "publish", &refusal, out);
            }
            Some(before) => {
                self.seen.mark(Sometimes::PublishedBefore);
                self.reply(caller, 200, answer(before.seq, true));
            }
            None => {
                let seq = self.topic(&publication.topic).stream.next();
                let row = Published { seq, digest, made_ms: wall.0 };
                let key = key_of(&by.0, &publication.topic, &by.1);
                if !self.planted.is(Bug::PublicationTwice) {
                    self.record_key_age(key.clone(), wall.0, made_before);
                    self.durable.record(Record::Put { key, value: crate::record::row(&row) });
                }
                self.topic(&publication.topic).keys.insert(by, row);
                self.publish(caller, publication);
            }
        }
    }

    fn publish(&mut self, caller: &Caller, publication: &Publication) {
        let Publication { topic, event, data, .. } = publication;
        let seq = self.write_to_topic(topic, event.as_str(), as_text(data));
        self.reply(caller, 201, answer(seq, false));
    }
}

fn answer(seq: u64, is_duplicate: bool) -> Object {
    Object::new().raw("seq", seq).raw("duplicate", is_duplicate)
}

fn as_text(data: &Bytes) -> &str {
    core::str::from_utf8(data).expect("a payload is text")
}

/// The row that remembers a publisher's key. The slash, which no name has, keeps it apart from keys of runs.
fn key_of(publisher: &User, topic: &Topic, key: &Key) -> RowKey {
    RowKey { table: Table::Key, owner: publisher.text(), name: format!("{topic}/{key}").into() }
}
