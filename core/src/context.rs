//! One user: the owner of a stream, devices, connections and runs. Reached only through a verified token.
//!
//! A context comes into being whole: from all that the store has of its user, or new. It leaves memory when
//! nobody is connected, nothing runs and nothing is on its way.

use crate::conn::Role;
use crate::durable::Reveal;
use crate::effect::{Effect, Effects};
use crate::few::Few;
use crate::ids::{AppendId, ConnId, Device, Epoch, Key, Lane, Owner, RunId, Thread, Topic, User};
use crate::planted::Bug;
use crate::record::{Found, Query, RowKey, Table};
use crate::run::{Phase, Run};
use crate::sometimes::Sometimes;
use crate::stream::Stream;
use crate::wire::error::CloseCode;
use crate::{Core, Load};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A run and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunOf {
    pub(crate) user: User,
    pub(crate) run: RunId,
}

/// Everything that belongs to one user and is alive.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) stream: Stream,
    pub(crate) devices: Few<Device, Position>,
    pub(crate) conns: Few<ConnId, ()>,
    /// Runs that have not ended, and those whose end is not durable.
    /// Boxed, since a map keeps room for eleven as long as it lives, and most users have one or none.
    pub(crate) runs: BTreeMap<RunId, Box<Run>>,
    /// The idempotency keys of those runs.
    pub(crate) keys: BTreeMap<Key, RunId>,
    /// Queued runs, oldest first.
    pub(crate) waiting: VecDeque<RunId>,
    /// Threads with a run at a worker.
    pub(crate) busy: BTreeMap<Thread, RunId>,
    /// Runs at a worker that wait for their user, and count against no limit.
    pub(crate) paused: usize,
    /// Devices whose position is not stored yet.
    pub(crate) unstored: Few<Device, ()>,
    /// Questions to the store that are not answered: what they may have missed stays in memory.
    pub(crate) questions: usize,
    /// How often it could leave memory.
    leaves: u64,
    /// Whether it is to leave as soon as all that is on its way is durable.
    is_leaving: bool,
    /// Whether its stream is stored, or on its way.
    pub(crate) is_stored: bool,
    /// Whether its stream is stored for certain: it may be shown.
    pub(crate) is_durable: bool,
}

/// How far a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// In which incarnation of its user's stream.
    pub(crate) epoch: Epoch,
    /// With which position it began there: of what lies before others may know.
    #[serde(default)]
    pub(crate) first: u64,
    /// It has everything of that up to here.
    pub(crate) acked: u64,
    /// When it was last heard of, wall clock.
    pub(crate) heard_ms: u64,
    /// How far it is in each topic that it has ever read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) topics: BTreeMap<Topic, Place>,
    /// The append that makes it known; none before there is one. What was read from the store is known.
    #[serde(skip, default = "known")]
    pub(crate) known_from: Option<AppendId>,
}

/// Before the first append.
#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's type")]
const fn known() -> Option<AppendId> {
    Some(AppendId(0))
}

/// How far a device is in a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// In which incarnation of the topic's stream.
    pub(crate) epoch: Epoch,
    /// It has everything up to here.
    pub(crate) acked: u64,
}

impl Position {
    /// Of a device that began at `first`, and has everything of its user's stream up to `acked`.
    pub(crate) fn new(epoch: &Epoch, first: u64, acked: u64, heard_ms: u64) -> Self {
        Self { epoch: epoch.clone(), first, acked, heard_ms, topics: BTreeMap::new(), known_from: None }
    }

    /// Up to where it has everything of a stream, if it was ever welcome to this incarnation of it.
    pub(crate) fn acked_in(&self, lane: &Lane, epoch: &Epoch) -> Option<u64> {
        match lane {
            Lane::Own => (self.epoch == *epoch).then_some(self.acked),
            Lane::Topic(topic) => {
                self.topics.get(topic).filter(|place| place.epoch == *epoch).map(|place| place.acked)
            }
        }
    }

    /// It has everything of a stream up to `acked`.
    pub(crate) fn put(&mut self, lane: &Lane, epoch: Epoch, acked: u64) {
        match lane {
            Lane::Own => (self.epoch, self.acked) = (epoch, acked),
            Lane::Topic(topic) => drop(self.topics.insert(topic.clone(), Place { epoch, acked })),
        }
    }
}

impl Context {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            devices: Few::default(),
            conns: Few::default(),
            runs: BTreeMap::new(),
            keys: BTreeMap::new(),
            waiting: VecDeque::new(),
            busy: BTreeMap::new(),
            paused: 0,
            unstored: Few::default(),
            questions: 0,
            leaves: 0,
            is_leaving: false,
            is_stored: false,
            is_durable: false,
        }
    }

    /// The context as it is stored; none if nothing is.
    pub(crate) fn from_rows(user: &User, rows: &[(RowKey, Bytes)]) -> Option<Self> {
        let row = |key: RowKey| rows.iter().find(|(found, _)| *found == key).map(|(_, value)| value.as_ref());
        let owner = Owner::User(user.clone());
        let (facts, marks) = (row(Stream::row_key(&owner))?, row(Stream::marks_key(&owner)));
        let stream = Stream::from_rows(owner, facts, marks);
        let mut context = Self::new(stream);
        context.is_stored = true;
        context.is_durable = true;
        for (key, value) in rows.iter().filter(|(key, _)| key.table == Table::Device) {
            let position: Position = serde_json::from_slice(value).expect("a stored row is what was stored");
            let device = Device::parse(&key.name).expect("a stored name is a name");
            if position.epoch == *context.stream.epoch() {
                context.devices.or_insert(device, position);
            }
        }
        Some(context)
    }

    /// The first event of the oldest run that has not ended.
    pub(crate) fn live_from(&self) -> Option<u64> {
        self.runs.values().filter(|run| !run.is_ended()).map(|run| run.first_seq).min()
    }

    /// Runs at a worker, but for those that wait for their user.
    pub(crate) fn active(&self) -> usize {
        self.busy.len() - self.paused
    }

    /// Whether it may leave memory.
    fn is_idle(&self) -> bool {
        self.conns.is_empty() && self.runs.is_empty() && self.unstored.is_empty() && self.questions == 0
    }

    /// Forgets runs whose end is durable, unless a question to the store may have missed that.
    pub(crate) fn forget_ended(&mut self) -> Vec<RunId> {
        if self.questions > 0 {
            return Vec::new();
        }
        let gone: Vec<RunId> =
            self.runs.iter().filter(|(_, run)| run.phase == Phase::Gone).map(|(id, _)| id.clone()).collect();
        for id in &gone {
            self.runs.remove(id);
            self.keys.retain(|_, run| run != id);
        }
        if self.runs.is_empty() {
            assert!(self.keys.is_empty() && self.busy.is_empty(), "keys and threads are those of runs");
            (self.runs, self.keys, self.busy) = Default::default();
        }
        gone
    }
}

/// The row that stores a device's position.
pub(crate) fn device_key(user: &User, device: &Device) -> RowKey {
    RowKey { table: Table::Device, owner: user.text(), name: device.text() }
}

impl Core {
    /// Makes a user's context be there, and then lets the connection in.
    pub(crate) fn open_context(&mut self, id: ConnId, user: &User, out: &mut Effects) {
        if self.waits_for_erasure(id, user) {
            return;
        }
        if self.users.contains_key(user) {
            return self.enter_context(id, out);
        }
        self.load_context(user, out);
        let waiting = self.loading.entry(user.clone()).or_default();
        waiting.push(id);
        if waiting.len() == 2 {
            self.seen.mark(Sometimes::TwoWaitForOneLoad);
        }
    }

    /// Whoever has gone waits for no user any more: while the disk is slow, or full, many may come and go.
    pub(crate) fn stop_waiting(&mut self, id: ConnId) {
        let user = match self.conns.get(&id).map(|conn| &conn.role) {
            Some(Role::User(me)) => Some(&me.identity.user),
            Some(Role::Request(request)) => request.awaited(),
            Some(Role::Http | Role::Greeting(_) | Role::Worker(_)) | None => None,
        };
        let Some(user) = user else { return };
        if let Some(waiting) = self.loading.get_mut(user) {
            waiting.retain(|other| *other != id);
        }
        if let Some(erase) = self.erasing.get_mut(user) {
            erase.stop_waiting(id);
        }
    }

    /// Reads a context from the store, unless that is under way.
    pub(crate) fn load_context(&mut self, user: &User, out: &mut Effects) {
        if !self.loading.contains_key(user) {
            self.loading.insert(user.clone(), Vec::new());
            let load = self.ask(Load::Context(user.clone()));
            out.push(Effect::Load { load, query: Query::Owner(user.text()) });
        }
    }

    /// The context is there.
    fn enter_context(&mut self, id: ConnId, out: &mut Effects) {
        match self.conns.get(&id).map(|conn| &conn.role) {
            Some(Role::User(_)) => self.admit_device(id, out),
            Some(Role::Request(_)) => self.on_request_context(id, out),
            Some(Role::Http | Role::Greeting(_) | Role::Worker(_)) | None => {}
        }
    }

    /// What the store has of a user has come.
    pub(crate) fn on_context(&mut self, user: &User, found: Found, out: &mut Effects) {
        let waiting = self.loading.remove(user).unwrap_or_default();
        match found {
            Found::Rows(rows) => {
                let context = Context::from_rows(user, &rows).unwrap_or_else(|| {
                    let is_odd = self.planted.is(Bug::EpochNotChanged);
                    let named_after_user =
                        user.as_str().bytes().fold(0, |sum, byte| sum << 5 ^ u64::from(byte));
                    let epoch = Epoch::new(if is_odd { named_after_user } else { self.random() });
                    Context::new(Stream::new(Owner::User(user.clone()), epoch))
                });
                let context = Box::new(context);
                assert!(self.users.insert(user.clone(), context).is_none(), "a context is built once");
                for id in waiting {
                    self.enter_context(id, out);
                }
                self.trim(user);
                if self.is_erased(user) {
                    return self.begin_erase(user, out);
                }
                self.leave_memory(user);
            }
            Found::Damaged => {
                if self.is_erased(user) {
                    self.give_up_erasing(user, out);
                }
                for id in waiting {
                    self.close(id, CloseCode::ServerError, "what is stored of this user is damaged", out);
                }
            }
            Found::Events(_) => unreachable!("rows were asked for"),
        }
    }

    /// The connections of a user that are welcome.
    pub(crate) fn conns_of(&self, user: &User) -> Vec<ConnId> {
        let Some(context) = self.users.get(user) else { return Vec::new() };
        context.conns.keys().copied().filter(|id| self.is_welcome(*id)).collect()
    }

    fn is_welcome(&self, id: ConnId) -> bool {
        self.conns.get(&id).is_some_and(|conn| conn.is_welcome() && !conn.is_closing)
    }

    /// Stores that a user's stream is there, once.
    pub(crate) fn store_stream(&mut self, user: &User) {
        let context = self.users.get_mut(user).expect("a context in use is in memory");
        if !core::mem::replace(&mut context.is_stored, true) {
            self.durable.record(context.stream.row());
        }
    }

    /// Lets the events leave memory that all connections of a user have got.
    pub(crate) fn leave_delivered(&mut self, user: &User) {
        let Some(context) = self.users.get(user) else { return };
        let got = context.conns.keys().filter_map(|id| Some(self.user_at(*id)?.cursor.needs_after())).min();
        if let (Some(got), Some(context)) = (got, self.users.get_mut(user)) {
            context.stream.leave(got);
        }
    }

    /// Lets a context leave memory as soon as all that is on its way is durable.
    pub(crate) fn leave_memory(&mut self, user: &User) {
        let Some(context) = self.users.get_mut(user) else { return };
        for gone in context.forget_ended() {
            if !self.planted.is(Bug::RouteStays) {
                self.routes.remove(&gone);
            }
        }
        if context.is_idle() && !self.planted.is(Bug::ContextStays) {
            context.leaves += 1;
            // Once is enough: to a full store users come and go, and nothing is revealed.
            if !core::mem::replace(&mut context.is_leaving, true) {
                self.durable.reveal(Reveal::Unload { user: user.clone(), leaves: context.leaves });
            }
        }
    }

    /// Nothing of a user is on its way any more, but for what has come since.
    pub(crate) fn on_unload(&mut self, user: &User, leaves: u64, out: &mut Effects) {
        let Some(context) = self.users.get_mut(user) else { return };
        context.is_leaving = false;
        if !context.is_idle() || context.leaves != leaves {
            self.seen.mark(Sometimes::UnloadCalledOff);
            return self.leave_memory(user);
        }
        if self.is_erased(user) {
            return self.erase_rows(user, out);
        }
        self.users.remove(user);
    }

    /// Takes a connection out of its user's context.
    pub(crate) fn leave_context(&mut self, id: ConnId) {
        let Some(user) = self.conns.get(&id).and_then(|conn| conn.user()).cloned() else { return };
        if let Some(context) = self.users.get_mut(&user)
            && context.conns.remove(&id)
        {
            self.leave_memory(&user);
        }
    }

    /// The role of a user's connection.
    pub(crate) fn user_conn(&mut self, id: ConnId) -> Option<&mut crate::conn::UserConn> {
        match &mut self.conns.get_mut(&id)?.role {
            Role::User(user) => Some(user),
            Role::Http | Role::Request(_) | Role::Greeting(_) | Role::Worker(_) => None,
        }
    }
}
