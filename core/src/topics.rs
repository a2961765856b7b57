//! Topics: streams that many users may read (PROTOCOL §7). Which there are, who may read and write them, and
//! who does now.
//!
//! A topic's stream is one like a user's, and is delivered by the same code; a connection has a cursor of its
//! own in each.

use crate::config::{Config, Readers};
use crate::handshake::Identity;
use crate::ids::{ConnId, Epoch, Key, Lane, Owner, Topic, User};
use crate::planted::Bug;
use crate::publish::Published;
use crate::record::{Image, RowKey, Table};
use crate::scope::Scope;
use crate::stream::{Keep, Stream};
use crate::time::WallMs;
use crate::wire::error::{Code, Refusal};
use crate::{Core, odd};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use bytes::Bytes;

/// The topics that are always there, and who may read them when nobody says otherwise.
const ALWAYS: [(&str, Readers); 3] =
    [("system", Readers::User), (AGENTS, Readers::Operate), (ALERTS, Readers::Operate)];
/// What becomes of agents and workers: only the daemon writes to it.
pub(crate) const AGENTS: &str = "agents";
/// What an operator should look at: the daemon writes to it, and publishers may.
pub(crate) const ALERTS: &str = "alerts";

/// A topic whose stream has begun.
#[derive(Debug)]
pub(crate) struct TopicState {
    pub(crate) stream: Stream,
    /// The connections that read it.
    pub(crate) readers: BTreeSet<ConnId>,
    /// What was published with a key and may not be found in the store yet.
    pub(crate) keys: BTreeMap<(User, Key), Published>,
    /// Questions to the store about keys that are not answered.
    pub(crate) questions: usize,
    /// Whether its stream is stored, or on its way.
    is_stored: bool,
    /// Whether its stream is stored for certain: it may be shown.
    pub(crate) is_durable: bool,
}

impl TopicState {
    fn new(stream: Stream, is_stored: bool) -> Self {
        Self {
            stream,
            readers: BTreeSet::new(),
            keys: BTreeMap::new(),
            questions: 0,
            is_stored,
            is_durable: is_stored,
        }
    }

    /// Forgets keys that are durable, unless a question to the store may have missed that.
    pub(crate) fn forget_keys(&mut self) {
        if self.questions == 0 {
            let head = self.stream.head();
            self.keys.retain(|_, published| published.seq > head);
        }
    }
}

impl Config {
    /// Who may read a topic, none if there is no such topic.
    pub(crate) fn readers(&self, topic: &Topic) -> Option<Readers> {
        let always = ALWAYS.iter().find(|(name, _)| *name == topic.as_str()).map(|(_, readers)| *readers);
        let declared = self.topics.get(topic).map(|declared| declared.read);
        match (declared, always) {
            (Some(Some(readers)), _) | (_, Some(readers)) => Some(readers),
            (Some(None), None) => Some(Readers::User),
            (None, None) => None,
        }
    }

    /// How much is kept of a topic's stream.
    pub(crate) fn topic_keep(&self, topic: &Topic, wall: WallMs) -> Keep {
        let events = self.topics.get(topic).and_then(|declared| declared.events);
        Keep {
            events: events.unwrap_or(self.store.events_per_topic),
            bytes: self.store.bytes_per_user,
            since: self.store.since(wall),
            from: None,
        }
    }
}

/// The same for one that may not be read and for none.
pub(crate) fn topic_forbidden(topic: &Topic) -> Refusal {
    let message = format!("this token may not read the topic `{topic}`, or there is no such topic");
    Refusal::new(Code::TopicForbidden, message, "check its name, or get a token that may")
}

impl Core {
    /// Whether a token lets its bearer read a topic.
    ///
    /// # Errors
    /// `topic_forbidden`.
    pub(crate) fn check_reader(&self, identity: &Identity, topic: &Topic) -> Result<(), Refusal> {
        let scope = match self.config.readers(topic) {
            Some(Readers::Operate) if !self.planted.is(Bug::TopicToAnyone) => Scope::Operate,
            Some(Readers::User | Readers::Operate) => Scope::User,
            None => return Err(topic_forbidden(topic)),
        };
        if identity.scopes.has(scope) { Ok(()) } else { Err(topic_forbidden(topic)) }
    }

    /// A stream that a connection of this user reads, if it is in memory.
    pub(crate) fn stream_of(&self, user: &User, lane: &Lane) -> Option<&Stream> {
        match lane {
            Lane::Own => self.users.get(user).map(|context| &context.stream),
            Lane::Topic(topic) => self.topics.get(topic).map(|topic| &topic.stream),
        }
    }

    /// The stream of a topic that there is. It begins when it is first asked for.
    pub(crate) fn topic(&mut self, topic: &Topic) -> &mut TopicState {
        if !self.topics.contains_key(topic) {
            let epoch = Epoch::new(self.random());
            let stream = Stream::new(Owner::Topic(topic.clone()), epoch);
            self.topics.insert(topic.clone(), TopicState::new(stream, false));
        }
        self.topics.get_mut(topic).expect("it was just put there")
    }

    /// Takes in the streams of topics that there are still.
    pub(crate) fn recover_topics(&mut self, image: &Image) {
        let row = |key: &RowKey| image.rows.iter().find(|(found, _)| found == key).map(|(_, row)| row);
        for (key, facts) in image.rows.iter().filter(|(key, _)| key.table == Table::Topic) {
            let Some(topic) = key.name.strip_suffix("/stream").and_then(Topic::parse) else { continue };
            if self.config.readers(&topic).is_none() {
                continue;
            }
            let owner = Owner::Topic(topic.clone());
            let marks = row(&Stream::marks_key(&owner)).map(AsRef::as_ref);
            let stream = Stream::from_rows(owner, facts, marks);
            self.topics.insert(topic, TopicState::new(stream, true));
        }
    }

    /// A stream has become durable up to `seq`.
    pub(crate) fn on_head(&mut self, owner: Owner, seq: u64) {
        let keeps = !self.is_odd(odd::EVICT);
        match &owner {
            Owner::User(user) => {
                let Some(context) = self.users.get_mut(user) else { return };
                context.stream.advance(seq, keeps);
            }
            Owner::Topic(topic) => {
                let Some(state) = self.topics.get_mut(topic) else { return };
                state.stream.advance(seq, keeps);
                state.is_durable = true;
                state.forget_keys();
            }
        }
        self.grown.push(owner);
    }

    /// Stores that a topic's stream is there, once.
    pub(crate) fn store_topic(&mut self, topic: &Topic) {
        let state = self.topic(topic);
        if !core::mem::replace(&mut state.is_stored, true) {
            let row = state.stream.row();
            self.durable.record(row);
        }
    }

    /// Writes an event to a topic: the one way into its stream. Returns its seq.
    pub(crate) fn write_to_topic(&mut self, topic: &Topic, event: &str, data: &str) -> u64 {
        let (now, keep) = (self.now, self.config.topic_keep(topic, self.now.wall));
        self.topic(topic).is_stored = true;
        let Self { topics, durable, .. } = self;
        let stream = &mut topics.get_mut(topic).expect("it is there by now").stream;
        let seq = stream.next();
        let bytes: Bytes = crate::wire::topic::encode(topic, seq, now.wall, event, data);
        stream.grow(bytes, now, keep, false, |record| durable.record(record));
        self.durable.reveal(crate::durable::Reveal::Head { owner: Owner::Topic(topic.clone()), seq });
        seq
    }
}
