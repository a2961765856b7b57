//! Which topics a connection reads: with its `hello`, and changed while it is connected (PROTOCOL §3, §5).

use crate::Core;
use crate::conn::{UserConn, text};
use crate::context::Position;
use crate::cursor::Cursor;
use crate::deadlines::Timer;
use crate::durable::Reveal;
use crate::effect::Effects;
use crate::ids::{ConnId, Lane, Topic};
use crate::planted::Bug;
use crate::sometimes::Sometimes;
use crate::stream::{Resume, Stream};
use crate::wire::error::Refusal;
use crate::wire::json::{Object, wrong};
use crate::wire::topic::Subscription;
use crate::wire::user::{From, error};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// What a connection is to read from now on, on its way to being durable.
#[derive(Debug)]
pub(crate) struct Change {
    conn: ConnId,
    /// The `id` that the answer repeats.
    request: Option<String>,
    /// The whole new set; those that are new begin there.
    topics: Vec<(Topic, Option<Resume>)>,
}

impl Core {
    /// Finds a connection's place in each topic of its `hello` that it may read. `is_known` is whether
    /// nothing else has to be stored before it is welcome: then a full store must not keep it waiting for a
    /// topic.
    /// Returns whether nothing of topics has to be stored.
    pub(crate) fn enter_topics(&mut self, id: ConnId, is_known: bool) -> bool {
        let asked = self.user_conn(id).map(|me| me.asked.clone()).unwrap_or_default();
        let may_wait = !(is_known && self.durable.is_full());
        let mut is_known = true;
        for Subscription { topic, from } in asked {
            let Some(me) = self.user_conn(id) else { return is_known };
            let identity = me.identity.clone();
            if let Err(refusal) = self.check_reader(&identity, &topic) {
                self.seen.mark(Sometimes::TopicForbidden);
                self.note_refusal(id, &refusal);
                self.audit_refusal(id, Some("hello"), Some(&topic), &refusal);
                continue;
            }
            let must_store = self.must_store(id, &topic);
            if must_store && !may_wait {
                self.seen.mark(Sometimes::TopicWithoutRoom);
                continue;
            }
            is_known &= !must_store;
            let resume = self.place_in_topic(id, &topic, &from);
            self.read_topic(id, topic, resume);
        }
        is_known
    }

    /// Other topics are to be read, and only these.
    pub(crate) fn on_subscribe(
        &mut self,
        id: ConnId,
        request: Option<String>,
        asked: Vec<Subscription>,
        out: &mut Effects,
    ) {
        let must_store = match self.check_subscription(id, &asked) {
            Ok(must_store) => must_store,
            Err((refusal, topic)) => {
                self.note_refusal(id, &refusal);
                self.audit_refusal(id, Some("subscribe"), topic.as_ref(), &refusal);
                let answer = error(Some("subscribe"), request.as_deref(), &refusal);
                return self.send(id, text(answer), out);
            }
        };
        let mut topics = Vec::with_capacity(asked.len());
        for Subscription { topic, from } in asked {
            let is_kept = self.user_conn(id).is_some_and(|me| me.topics.contains_key(&topic));
            let begins_anew = self.planted.is(Bug::KeptTopicBeginsAnew);
            let resume = (!is_kept || begins_anew).then(|| self.place_in_topic(id, &topic, &from));
            topics.push((topic, resume));
        }
        let change = Change { conn: id, request, topics };
        if !must_store {
            return self.change_topics(change, out);
        }
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.is_busy = true;
        }
        self.durable.reveal(Reveal::Subscribed(Box::new(change)));
    }

    /// Whether a connection may read all of these, and whether something must be stored before it does. A
    /// refusal comes with the topic that it is about, if it is about one.
    fn check_subscription(
        &mut self,
        id: ConnId,
        asked: &[Subscription],
    ) -> Result<bool, (Refusal, Option<Topic>)> {
        let Some(me) = self.user_conn(id) else { return Ok(false) };
        let identity = me.identity.clone();
        if me.device.is_none() && asked.iter().any(|asked| asked.from == From::Device) {
            return Err((wrong("topics", "other beginnings: a viewer has no device", "\"device\""), None));
        }
        let kept: Vec<bool> = asked.iter().map(|asked| me.topics.contains_key(&asked.topic)).collect();
        let mut must_store = false;
        for (asked, is_kept) in asked.iter().zip(kept) {
            if let Err(refusal) = self.check_reader(&identity, &asked.topic) {
                self.seen.mark(Sometimes::TopicForbidden);
                return Err((refusal, Some(asked.topic.clone())));
            }
            must_store |= !is_kept && self.must_store(id, &asked.topic);
        }
        if must_store && self.durable.is_full() {
            return Err((self.storage_unavailable(), None));
        }
        Ok(must_store)
    }

    /// Whether something must be stored before a connection may read a topic: its stream, or that its device
    /// has a position in it.
    fn must_store(&mut self, id: ConnId, topic: &Topic) -> bool {
        let state = self.topic(topic);
        let (is_durable, epoch) = (state.is_durable, state.stream.epoch().clone());
        let Some(me) = self.user_conn(id) else { return false };
        let (user, device) = (me.identity.user.clone(), me.device.clone());
        let context = self.users.get(&user).expect("a context in use is in memory");
        let position = device.and_then(|device| context.devices.get(&device));
        let lane = Lane::Topic(topic.clone());
        let is_placed = |position: &Position| position.acked_in(&lane, &epoch).is_some();
        !is_durable || position.is_some_and(|there| !is_placed(there) || !self.is_stored(position))
    }

    fn place_in_topic(&mut self, id: ConnId, topic: &Topic, from: &From) -> Resume {
        self.store_topic(topic);
        self.place_device(id, &Lane::Topic(topic.clone()), from)
    }

    /// A connection reads a topic from here on.
    fn read_topic(&mut self, id: ConnId, topic: Topic, resume: Resume) {
        let planted = self.planted;
        let Some(me) = self.user_conn(id) else { return };
        let is_viewer = me.device.is_none();
        let mut cursor = Cursor::new(me.cursor.window() as u32, is_viewer, planted);
        cursor.begin(resume);
        me.topics.insert(topic.clone(), cursor);
        self.topic(&topic).readers.insert(id);
    }

    /// All that the answer shows is durable.
    pub(crate) fn on_subscribed(&mut self, change: Change, out: &mut Effects) {
        let id = change.conn;
        if self.is_still_there(id) {
            self.change_topics(change, out);
            self.take_inbox(id, out);
        }
    }

    /// The answer would wait for a full store, and with it all that the connection says.
    pub(crate) fn refuse_change(&mut self, change: Change, out: &mut Effects) {
        let id = change.conn;
        if self.is_still_there(id) {
            let refusal = self.storage_unavailable();
            self.send_error(id, Some("subscribe"), change.request.as_deref(), &refusal, out);
            self.take_inbox(id, out);
        }
    }

    fn change_topics(&mut self, change: Change, out: &mut Effects) {
        let Change { conn: id, request, topics } = change;
        let Some(me) = self.user_conn(id) else { return };
        let gone: Vec<Topic> =
            me.topics.keys().filter(|had| !topics.iter().any(|(topic, _)| topic == *had)).cloned().collect();
        for topic in &gone {
            self.leave_topic(id, topic);
        }
        let mut entries = Vec::with_capacity(topics.len());
        for (topic, resume) in &topics {
            if let Some(resume) = resume {
                self.read_topic(id, topic.clone(), resume.clone());
            } else {
                self.seen.mark(Sometimes::TopicKept);
            }
            self.topic(topic).is_durable = true;
            let Some(me) = self.user_conn(id) else { return };
            let kept = Resume { status: "resumed", reason: None, from: me.topics[topic].sent() };
            let state = &self.topics[topic];
            entries.push(entry(topic, &state.stream, resume.as_ref().unwrap_or(&kept)));
        }
        let answer = Object::message("subscribed").maybe_str("id", request.as_deref());
        self.send(id, text(answer.list("topics", entries)), out);
        for (topic, _) in topics {
            self.deliver_lane(id, &Lane::Topic(topic), out);
        }
    }

    /// A connection reads a topic no longer.
    pub(crate) fn leave_topic(&mut self, id: ConnId, topic: &Topic) {
        let lane = Lane::Topic(topic.clone());
        self.deadlines.clear(Timer::Acks(id, lane.clone()));
        self.deadlines.clear(Timer::Backlog(id, lane));
        if let Some(me) = self.user_conn(id) {
            me.topics.remove(topic);
        }
        if let Some(state) = self.topics.get_mut(topic) {
            state.readers.remove(&id);
        }
    }

    /// A connection reads nothing any more.
    pub(crate) fn leave_topics(&mut self, id: ConnId) {
        let topics: Vec<Topic> =
            self.user_conn(id).map(|me| me.topics.keys().cloned().collect()).unwrap_or_default();
        for topic in topics {
            self.leave_topic(id, &topic);
        }
    }

    /// A topic that was asked for, in a `welcome`.
    pub(crate) fn describe_topic(&self, me: &UserConn, topic: &Topic) -> Object {
        match (me.topics.get(topic), self.topics.get(topic)) {
            (Some(cursor), Some(state)) => entry(topic, &state.stream, cursor.resume()),
            (None, _) | (_, None) => {
                let is_allowed = self.check_reader(&me.identity, topic);
                let refusal = is_allowed.err().unwrap_or_else(|| self.storage_unavailable());
                let error = Object::new().str("code", refusal.code.as_str()).str("message", &refusal.message);
                Object::new().str("topic", topic.as_str()).raw("error", error.finish())
            }
        }
    }
}

fn entry(topic: &Topic, stream: &Stream, resume: &Resume) -> Object {
    Object::new()
        .str("topic", topic.as_str())
        .str("epoch", stream.epoch().as_str())
        .raw("floor", stream.floor())
        .raw("head", stream.head())
        .raw("resume", resume.describe().finish())
}
