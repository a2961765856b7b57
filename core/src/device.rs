//! How a device comes in: `hello`, the device's place among the others, where it begins, and `welcome`.

use crate::caller::Caller;
use crate::conn::{Role, UserConn, text};
use crate::context::{Position, device_key};
use crate::cursor::Cursor;
use crate::durable::Reveal;
use crate::effect::Effects;
use crate::few::Few;
use crate::handshake::Identity;
use crate::ids::{ConnId, Device, Lane, User};
use crate::note::Note;
use crate::planted::Bug;
use crate::record::Record;
use crate::sse::Sse;
use crate::stream::Resume;
use crate::wire::call::Call;
use crate::wire::error::{CloseCode, Code, Refusal};
use crate::wire::json::Object;
use crate::wire::user::{Ack, From, Hello};
use crate::{Core, odd};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use bytes::Bytes;

impl Core {
    /// A user's `hello` was accepted.
    pub(crate) fn enter_user(
        &mut self,
        id: ConnId,
        identity: Identity,
        hello: Hello,
        sse: Option<Sse>,
        out: &mut Effects,
    ) {
        let window = hello.window.unwrap_or(self.config.delivery.window);
        let is_named = hello.device.is_some();
        let device = (!hello.viewer).then(|| hello.device.unwrap_or_else(|| Device::new(self.random())));
        let user = identity.user.clone();
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.role = Role::User(Box::new(UserConn {
            identity,
            device,
            is_device_stored: is_named,
            from: hello.from,
            call: hello.call,
            cursor: Cursor::new(window, hello.viewer || sse.is_some(), self.planted),
            topics: BTreeMap::new(),
            asked: hello.topics,
            is_welcome: false,
            owed: BTreeSet::new(),
            is_expiry_told: false,
            refresh: None,
            sse,
        }));
        self.open_context(id, &user, out);
    }

    /// The context is there: finds the connection's place in it.
    pub(crate) fn admit_device(&mut self, id: ConnId, out: &mut Effects) {
        let Some(conn) = self.conns.get(&id).filter(|conn| !conn.is_closing) else { return };
        let Role::User(me) = &conn.role else { return };
        let (user, device) = (me.identity.user.clone(), me.device.clone());
        let call = me.call.clone();
        let mut is_known = self.is_known(&user, device.as_ref());
        if !is_known && self.durable.is_full() {
            return self.close_unstored(id, out);
        }
        if let Some(older) = device.as_ref().and_then(|device| self.conn_of_device(&user, device)) {
            let theirs = self.user_at(older).and_then(|older| older.call.as_ref());
            if Call::is_before(call.as_ref(), theirs) {
                return self.close(
                    id,
                    CloseCode::Replaced,
                    "a later call of this client is here already",
                    out,
                );
            }
            if !self.planted.is(Bug::TwinStays) {
                self.close(older, CloseCode::Replaced, "a newer connection of the same device", out);
            }
        }
        let limit = self.config.server.connections_per_user;
        if self.users.get(&user).is_some_and(|context| context.conns.len() >= limit) {
            let reason = format!("{limit} connections are all of one user");
            return self.close(id, CloseCode::TooManyConnections, &reason, out);
        }
        self.store_stream(&user);
        let from = self.user_conn(id).map(|me| me.from.clone()).unwrap_or_default();
        let resume = self.place_device(id, &Lane::Own, &from);
        if let Some(me) = self.user_conn(id) {
            me.cursor.begin(resume);
        }
        is_known &= self.enter_topics(id, is_known);
        let Some(context) = self.users.get_mut(&user) else { return };
        context.conns.or_insert(id, ());
        if is_known {
            // All that the welcome shows is durable: it need not wait, not even for a full store.
            return self.on_welcome(id, out);
        }
        self.durable.reveal(Reveal::Welcome(id));
    }

    /// Whether nothing has to be stored before this device, or this viewer, is welcome.
    fn is_known(&self, user: &User, device: Option<&Device>) -> bool {
        self.users.get(user).is_some_and(|context| {
            context.is_durable && device.is_none_or(|device| self.is_stored(context.devices.get(device)))
        })
    }

    /// Whether a device is there, and will be after a crash.
    pub(crate) fn is_stored(&self, position: Option<&Position>) -> bool {
        if self.planted.is(Bug::WelcomeBeforePlaced) {
            return position.is_some();
        }
        let known_from = position.and_then(|position| position.known_from);
        known_from.is_some_and(|append| self.durable.has(append))
    }

    /// Decides where a connection begins in one of its streams, and moves its device's position accordingly.
    pub(crate) fn place_device(&mut self, id: ConnId, lane: &Lane, from: &From) -> Resume {
        let wall = self.now.wall.0;
        let Some(me) = self.user_conn(id) else { unreachable!("whoever is placed is a user's connection") };
        let (user, device, is_named) = (me.identity.user.clone(), me.device.clone(), me.is_device_stored);
        let own = me.cursor.acked();
        let stream = self.stream_of(&user, lane).expect("a stream that is read is in memory");
        let (epoch, head) = (stream.epoch().clone(), stream.head());
        let context = self.users.get(&user).expect("a context in use is in memory");
        let position = device.as_ref().and_then(|device| context.devices.get(device));
        let known = position.and_then(|position| position.acked_in(lane, &epoch));
        let live = if *lane == Lane::Own { context.live_from() } else { None };
        let (mut resume, is_there) = (stream.resume(from, known, live), position.is_some());
        self.counts.resume(&resume);
        if self.planted.is(Bug::ResumeOffByOne) && resume.status == "resumed" {
            resume.from = head.min(resume.from + 1);
        }
        if self.planted.is(Bug::ResumeTooEarly) && resume.status == "resumed" {
            resume.from = resume.from.saturating_sub(1);
        }
        let Some(device) = device.filter(|_| is_there || is_named) else { return resume };
        let context = self.users.get_mut(&user).expect("a context in use is in memory");
        // Its own stream comes first.
        let new = Position::new(context.stream.epoch(), resume.first(), own, wall);
        let position = context.devices.or_insert(device.clone(), new);
        position.heard_ms = wall;
        let goes_back = self.planted.is(Bug::PositionGoesBack) && resume.status == "resumed";
        position.put(lane, epoch, if goes_back { resume.from } else { begins_at(known, &resume) });
        position.topics.retain(|topic, _| self.config.readers(topic).is_some());
        if known.is_some() && position.known_from.is_some() {
            self.store_soon(&user, &device, false);
        } else {
            // It is known from its first `welcome` on, so that comes after this.
            position.known_from = Some(self.durable.next());
            let value = crate::record::row(position);
            self.durable.record(Record::Put { key: device_key(&user, &device), value });
        }
        if let Some(me) = self.user_conn(id) {
            me.is_device_stored = true;
        }
        self.forget_device(&user, &device);
        self.clear_delivered(&user, &device);
        resume
    }

    /// A connection has acknowledged more of one of its streams.
    pub(crate) fn move_device(&mut self, id: ConnId, lane: &Lane) {
        let is_eager = self.is_odd(odd::EAGER);
        let Some(me) = self.user_conn(id) else { return };
        me.is_device_stored = true;
        let Some(device) = me.device.clone() else { return };
        let (user, acked) = (me.identity.user.clone(), me.cursor(lane).map(Cursor::acked));
        let is_there = self.users.get(&user).is_some_and(|context| context.devices.contains_key(&device));
        if !is_there {
            self.add_device(id, &user, &device);
        }
        if let Some(acked) = acked {
            self.put_position(&user, &device, lane, acked);
        }
        self.store_soon(&user, &device, is_eager);
        self.forget_device(&user, &device);
        self.clear_delivered(&user, &device);
    }

    /// The first acknowledgement of a device that the daemon has named says where it is in all its streams.
    fn add_device(&mut self, id: ConnId, user: &User, device: &Device) {
        let wall = self.now.wall.0;
        let Some(me) = self.user_at(id) else { return };
        let (first, own) = (me.cursor.resume().first(), me.cursor.acked());
        let topics = me.topics.iter().map(|(topic, cursor)| (Lane::Topic(topic.clone()), cursor.acked()));
        let topics: Vec<(Lane, u64)> = topics.collect();
        let context = self.users.get_mut(user).expect("a context in use is in memory");
        let new = Position::new(context.stream.epoch(), first, own, wall);
        context.devices.or_insert(device.clone(), new);
        for (lane, acked) in topics {
            self.put_position(user, device, &lane, acked);
        }
    }

    /// A device that is there has everything of a stream that it reads up to `acked`.
    fn put_position(&mut self, user: &User, device: &Device, lane: &Lane, acked: u64) {
        let Self { users, topics, now, planted, .. } = self;
        let context = users.get_mut(user).expect("a context in use is in memory");
        let epoch = match lane {
            Lane::Own => context.stream.epoch(),
            Lane::Topic(topic) => topics.get(topic).expect("a topic that is read has begun").stream.epoch(),
        };
        let position = context.devices.get_mut(device).expect("a device that is there");
        position.heard_ms = now.wall.0;
        let acked = position.acked_in(lane, epoch).map_or(acked, |known| known.max(acked));
        if planted.is(Bug::TopicAckMovesOwn) {
            let own = position.epoch.clone();
            position.put(&Lane::Own, own, position.acked.max(acked));
        }
        position.put(lane, epoch.clone(), acked);
    }

    /// Keeps the number of devices: the one longest unheard of that is not connected is forgotten. `coming`
    /// is not, whatever the clock says, which may have been set back since the others were heard of.
    fn forget_device(&mut self, user: &User, coming: &Device) {
        let limit = self.config.store.devices_per_user;
        if self.users.get(user).is_none_or(|context| context.devices.len() <= limit) {
            return;
        }
        let connected: Vec<Device> = self.devices_connected(user);
        let Some(context) = self.users.get_mut(user) else { return };
        while context.devices.len() > limit {
            let oldest = context
                .devices
                .iter()
                .filter(|(device, _)| *device != coming && !connected.contains(device))
                .min_by_key(|(_, position)| position.heard_ms)
                .map(|(device, _)| device.clone());
            let Some(oldest) = oldest else { return };
            context.devices.remove(&oldest);
            context.unstored.remove(&oldest);
            self.durable.record(Record::Delete { key: device_key(user, &oldest) });
        }
    }

    fn devices_connected(&self, user: &User) -> Vec<Device> {
        let conns = self.users.get(user).map(|context| &context.conns);
        conns.into_iter().flat_map(Few::keys).filter_map(|id| self.device_of(*id).cloned()).collect()
    }

    fn device_of(&self, id: ConnId) -> Option<&Device> {
        self.user_at(id)?.device.as_ref()
    }

    pub(crate) fn user_at(&self, id: ConnId) -> Option<&UserConn> {
        match &self.conns.get(&id)?.role {
            Role::User(user) => Some(user),
            Role::Http | Role::Request(_) | Role::Greeting(_) | Role::Worker(_) => None,
        }
    }

    pub(crate) fn conn_of_device(&self, user: &User, device: &Device) -> Option<ConnId> {
        let context = self.users.get(user)?;
        context.conns.keys().copied().find(|id| self.device_of(*id) == Some(device))
    }

    /// An acknowledgement over HTTP. The user's context is in memory.
    pub(crate) fn on_device_ack(&mut self, caller: &Caller, ack: &Ack, out: &mut Effects) {
        let user = &caller.identity.user;
        match self.check_device_ack(caller, ack) {
            Ok(None) => self.take_device_ack(caller, ack, out),
            Ok(Some(reason)) => self.respond_reset(caller, &ack.lane, reason, out),
            Err(refusal) => self.refuse(caller, "ack", &refusal, out),
        }
        self.leave_memory(user);
    }

    /// Whether an acknowledgement can be taken, or why a socket would be told of a reset.
    fn check_device_ack(&self, caller: &Caller, ack: &Ack) -> Result<Option<&'static str>, Refusal> {
        let user = &caller.identity.user;
        if let Lane::Topic(topic) = &ack.lane {
            self.check_reader(&caller.identity, topic)?;
        }
        let context = self.users.get(user).expect("a context in use is in memory");
        let position = context.devices.get(&ack.device);
        let stream = self.stream_of(user, &ack.lane);
        let (Some(position), Some(stream)) = (position, stream) else {
            let message = format!("expected a device of this user, found none called {}", ack.device);
            return Err(Refusal::new(Code::NotFound, message, "connect as this device first"));
        };
        if ack.epoch != *stream.epoch() {
            return Ok(Some("epoch"));
        }
        if position.acked_in(&ack.lane, stream.epoch()).is_none() {
            let message = format!("expected a topic that the device {} has read", ack.device);
            return Err(Refusal::new(Code::NotFound, message, "read the topic as this device first"));
        }
        let head = stream.head();
        if ack.seq > head {
            let message = format!("expected at most {head}, found {}", ack.seq);
            return Err(Refusal::new(Code::AckAhead, message, "acknowledge what was sent"));
        }
        if self.durable.is_full() { Err(self.storage_unavailable()) } else { Ok(None) }
    }

    fn take_device_ack(&mut self, caller: &Caller, ack: &Ack, out: &mut Effects) {
        let (user, wall) = (&caller.identity.user, self.now.wall.0);
        // A socket of the same device need not send again what it had acknowledged elsewhere.
        if let Some(conn) = self.conn_of_device(user, &ack.device)
            && let Some(sent) = self.user_conn(conn).and_then(|me| Some(me.cursor(&ack.lane)?.sent()))
            && let Err(refusal) = self.on_ack(conn, &ack.lane, ack.seq.min(sent), out)
        {
            unreachable!("what was sent may be acknowledged: {refusal}");
        }
        let context = self.users.get_mut(user).expect("a context in use is in memory");
        let position = context.devices.get_mut(&ack.device).expect("a device that was found");
        let acked = position.acked_in(&ack.lane, &ack.epoch).unwrap_or(0);
        position.put(&ack.lane, ack.epoch.clone(), acked.max(ack.seq));
        position.heard_ms = wall;
        let value = crate::record::row(position);
        self.durable.record(Record::Put { key: device_key(user, &ack.device), value });
        self.clear_delivered(user, &ack.device);
        self.reply_nothing(caller);
    }

    /// All that the welcome shows is durable.
    pub(crate) fn on_welcome(&mut self, id: ConnId, out: &mut Effects) {
        if self.is_expired(id) {
            return self.close(id, CloseCode::TokenExpired, "the token has expired", out);
        }
        if self.is_overtaken(id) {
            let reason = "what it was to begin with is no longer kept";
            return self.close(id, CloseCode::Overtaken, reason, out);
        }
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.is_closing) else { return };
        let Role::User(me) = &mut conn.role else { return };
        me.is_welcome = true;
        conn.is_busy = false;
        let note = Note::Connected {
            conn: id,
            peer: conn.peer,
            user: me.identity.user.clone(),
            device: me.device.clone(),
            resume: me.cursor.resume().status,
        };
        self.notes.push(note);
        if let Some(context) = self.users.get_mut(&me.identity.user) {
            context.is_durable = true;
        }
        for topic in me.topics.keys() {
            self.topics.get_mut(topic).expect("a topic that is read has begun").is_durable = true;
        }
        if let Some(welcome) = self.welcome(id) {
            let welcome = self.frame_welcome(id, welcome);
            self.send(id, welcome, out);
        }
        if let Some(me) = self.user_conn(id) {
            me.asked = Vec::new();
        }
        self.tell_drain(id, out);
        self.watch_expiry(id, out);
        self.deliver(id, out);
        self.tell_timeouts(id, out);
        self.take_inbox(id, out);
    }

    /// Whether its streams were trimmed past its beginnings while its place in them was made durable.
    fn is_overtaken(&self, id: ConnId) -> bool {
        let Some(me) = self.user_at(id) else { return false };
        let own = self.users.get(&me.identity.user).map(|context| (&me.cursor, &context.stream));
        let topics =
            me.topics.iter().filter_map(|(topic, cursor)| Some((cursor, &self.topics.get(topic)?.stream)));
        own.into_iter().chain(topics).any(|(cursor, stream)| cursor.is_overtaken(stream))
    }

    fn frame_welcome(&self, id: ConnId, welcome: Object) -> Bytes {
        if let Some(Role::User(me)) = self.conns.get(&id).map(|conn| &conn.role)
            && me.sse.is_some()
            && let Some(context) = self.users.get(&me.identity.user)
        {
            return crate::sse::welcome(context.stream.epoch(), me.cursor.resume().from, welcome);
        }
        text(welcome)
    }

    fn welcome(&self, id: ConnId) -> Option<Object> {
        let Role::User(me) = &self.conns.get(&id)?.role else { return None };
        let context = self.users.get(&me.identity.user)?;
        let (stream, resume, config) = (&context.stream, me.cursor.resume(), &self.config);
        let head = if self.planted.is(Bug::HeadBeforeDurable) { stream.last() } else { stream.head() };
        let mut runs: Vec<_> = context.runs.iter().filter(|(_, run)| run.is_listed(stream.head())).collect();
        runs.sort_by_key(|(_, run)| run.ordinal);
        let limits = Object::new()
            .raw("window", me.cursor.window())
            .raw("message_bytes", config.server.message)
            .raw("event_bytes", crate::delivery::event_bytes(&config.server))
            .raw("runs_active", config.runs.active_per_user)
            .raw("runs_queued", config.runs.queued_per_user);
        Some(
            Object::message("welcome")
                .str("connection", &format!("c-{}", id.0))
                .str("user", me.identity.user.as_str())
                .maybe_str("device", me.device.as_ref().map(Device::as_str))
                .str("epoch", stream.epoch().as_str())
                .raw("floor", stream.floor())
                .raw("head", head)
                .raw("resume", resume.describe().finish())
                .raw("heartbeat_ms", config.server.heartbeat.as_millis())
                .list("topics", me.asked.iter().map(|asked| self.describe_topic(me, &asked.topic)))
                .list("runs", runs.into_iter().map(|(id, run)| run.describe(id, stream.head(), self.now)))
                .raw("limits", limits.finish()),
        )
    }
}

/// Where a device's position is after a connection of it has begun so.
fn begins_at(known: Option<u64>, resume: &Resume) -> u64 {
    match known {
        // Forward only acknowledgements move it: its client may never hear of this reset.
        Some(known) if resume.status == "reset" => known.min(resume.from),
        Some(known) if resume.status == "resumed" => known.max(resume.from),
        Some(known) => known,
        None => resume.from,
    }
}
