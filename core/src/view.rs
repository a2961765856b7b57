//! A look at the core from outside: for metrics, the console and the simulator's oracles.

use crate::Core;
use crate::alerts::Alert;
use crate::config::Config;
use crate::conn::Role;
use crate::counts::Counts;
use crate::erase::Erase;
use crate::ids::{Agent, ConnId, Device, Epoch, Lane, RunId, Thread, Topic, User};
use crate::planted::Planted;
use crate::run::Phase;
use crate::sometimes::Seen;
use alloc::vec::Vec;

/// What there is now.
#[derive(Clone, Copy, Debug)]
pub struct View<'a>(pub(crate) &'a Core);

/// A run, as seen from outside.
#[derive(Clone, Debug)]
pub struct RunView<'a> {
    /// Its id.
    pub run: &'a RunId,
    /// Whose it is.
    pub user: &'a User,
    /// Its state, in a word of the protocol.
    pub state: &'static str,
    /// The fencing number of its last dispatch.
    pub attempt: u64,
    /// Its place among all runs ever accepted.
    pub ordinal: u64,
    /// Its conversation.
    pub thread: &'a Thread,
    /// What executes it.
    pub agent: &'a Agent,
    /// Whether it is queued, durable, and may be offered to any worker, as far as its agent's limits and
    /// breaker let it.
    pub is_rested: bool,
    /// Whether it is, and they do.
    pub is_ready: bool,
    /// The name of the worker at which it is, or to which it is offered.
    pub worker: Option<&'a str>,
}

/// How far a user's connection is in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorView {
    /// The newest durable seq of its stream.
    pub head: u64,
    /// The last seq that was sent.
    pub sent: u64,
    /// The last seq that was acknowledged.
    pub acked: u64,
    /// Whether nothing is acknowledged on it.
    pub is_viewer: bool,
    /// Whether the next event would be sent now if it were there: it is welcome and not closing, window and
    /// output have room, and no retry is under way.
    pub is_open: bool,
    /// Whether it waits for a page from the store.
    pub is_reading: bool,
}

/// How much there is of everything that grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Connections of all kinds.
    pub connections: usize,
    /// Addresses with connections.
    pub addresses: usize,
    /// Users in memory.
    pub users: usize,
    /// Users whose context is being read.
    pub loading: usize,
    /// Runs that are known by their ids.
    pub routes: usize,
    /// Workers with a session.
    pub workers: usize,
    /// Connections of workers that have gone before all they said was durable.
    pub left_behind: usize,
    /// Users with queued runs.
    pub turns: usize,
    /// Queued runs.
    pub queued: usize,
    /// Runs at workers.
    pub active: usize,
    /// Questions to the store.
    pub loads: usize,
    /// Users whose devices' positions are not stored.
    pub moved: usize,
    /// Timers that are set.
    pub timers: usize,
    /// Places of timers that are not set at present.
    pub resting: usize,
    /// Appends that are not durable.
    pub appends: usize,
    /// Ended runs that nobody has acknowledged.
    pub undelivered: usize,
    /// Addresses that have lately failed to say who they are, and those who have lately made requests.
    pub quotas: usize,
    /// Runs that workers have or are offered, those that wait for their user too.
    pub held: usize,
    /// Workers to which a queued run is not offered for a while, or only when there is no other.
    pub avoided: usize,
    /// Agents that are known.
    pub agents: usize,
    /// Topics whose streams have begun.
    pub topics: usize,
    /// Workers that the topic `agents` has told of.
    pub presence: usize,
    /// Alerts that are not over.
    pub alerts: usize,
    /// Users who are being erased.
    pub erasing: usize,
    /// Connections that wait for a user's context, or for the end of its erasing.
    pub waiting: usize,
    /// Users whose tokens are revoked.
    pub revoked: usize,
    /// Connections that wait for there to be more memory.
    pub shed: usize,
    /// What is shown when appends are durable.
    pub reveals: usize,
    /// Ends of runs that operators are shown, and searches of theirs.
    pub remembered: usize,
    /// What is gathered while an input is handled, and goes out at its end.
    pub gathered: usize,
}

impl<'a> View<'a> {
    /// Connections of all kinds.
    pub fn connections(&self) -> usize {
        self.0.conns.len()
    }

    /// Users in memory.
    pub fn users(&self) -> usize {
        self.0.users.len()
    }

    /// Workers with a session.
    pub fn workers(&self) -> usize {
        self.0.workers.len()
    }

    /// Runs that wait for a worker.
    pub fn queued(&self) -> usize {
        self.0.queue.waiting
    }

    /// Runs at workers.
    pub fn active(&self) -> usize {
        self.0.queue.active
    }

    /// Timers that are set.
    pub fn timers(&self) -> usize {
        self.0.deadlines.len()
    }

    /// Appends that are not durable yet.
    pub fn appends_waiting(&self) -> usize {
        self.0.durable.waiting()
    }

    /// Ended runs that nobody has acknowledged: whose, which, and whether it is listed.
    pub fn undelivered(&self) -> impl Iterator<Item = (&'a User, &'a RunId, bool)> + use<'a> {
        self.0.undelivered.iter()
    }

    /// What operators were told to look at, and is not over.
    pub fn alerts(&self) -> impl Iterator<Item = &'a Alert> + use<'a> {
        self.0.alerts.iter()
    }

    /// Whether the daemon goes down.
    pub fn is_draining(&self) -> bool {
        self.0.is_draining()
    }

    /// Whether it is going down, and runs are waited for no longer.
    pub fn is_closing(&self) -> bool {
        self.0.is_closing_all()
    }

    /// Whether the store takes nothing at present.
    pub fn is_store_full(&self) -> bool {
        self.0.durable.is_full()
    }

    /// All runs in memory.
    pub fn runs(&self) -> impl Iterator<Item = RunView<'a>> + use<'a> {
        let core: &'a Core = self.0;
        core.users.iter().flat_map(move |(user, context)| {
            context.runs.iter().map(move |(run, state)| {
                let is_rested = state.phase == (Phase::Queued { is_durable: true })
                    && state.not_before <= core.now.mono
                    && state.avoid.is_empty()
                    && !core.is_draining();
                RunView {
                    run,
                    user,
                    state: state.state(),
                    attempt: state.attempt,
                    ordinal: state.ordinal,
                    thread: &state.spec.thread,
                    agent: &state.spec.agent,
                    is_rested,
                    is_ready: is_rested && core.may_start(&state.spec.agent, 0),
                    worker: state.worker().map(|worker| worker.name.as_str()),
                }
            })
        })
    }

    /// Whether an agent's own limits and its breaker let one more of its runs start, beside so many that are
    /// about to.
    pub fn may_start(&self, agent: &Agent, beside: usize) -> bool {
        self.0.may_start(agent, beside)
    }

    /// For how many more runs of an agent the workers have room that are there and not passed over.
    pub fn room_for(&self, agent: &Agent) -> usize {
        self.0.room_for(agent)
    }

    /// All devices of the users in memory, and up to where each has acknowledged.
    pub fn positions(&self) -> impl Iterator<Item = (&'a User, &'a Device, u64)> + use<'a> {
        let core: &'a Core = self.0;
        core.users.iter().flat_map(|(user, context)| {
            context.devices.iter().map(move |(device, position)| (user, device, position.acked))
        })
    }

    /// The same devices, and up to where each has acknowledged in each topic, in which incarnation of it.
    pub fn places(
        &self,
    ) -> impl Iterator<Item = (&'a User, &'a Device, &'a Topic, &'a Epoch, u64)> + use<'a> {
        let core: &'a Core = self.0;
        let devices = core.users.iter().flat_map(|(user, context)| {
            context.devices.iter().map(move |(device, position)| (user, device, position))
        });
        devices.flat_map(|(user, device, position)| {
            let places = position.topics.iter();
            places.map(move |(topic, place)| (user, device, topic, &place.epoch, place.acked))
        })
    }

    /// The bug that was planted, if one was.
    pub fn planted(&self) -> Planted {
        self.0.planted
    }

    /// What is configured.
    pub fn config(&self) -> &'a Config {
        &self.0.config
    }

    /// What has happened since the start, counted.
    pub fn counts(&self) -> &'a Counts {
        &self.0.counts
    }

    /// How often what only the core can see came about.
    pub fn seen(&self) -> &'a Seen {
        &self.0.seen
    }

    /// A user's stream, if it is in memory: epoch, floor, head.
    pub fn stream(&self, user: &str) -> Option<(&'a Epoch, u64, u64)> {
        let stream = &self.0.users.get(&User::parse(user)?)?.stream;
        Some((stream.epoch(), stream.floor(), stream.head()))
    }

    /// The connections of a run's user that are welcome and not closing.
    pub fn connections_of(&self, run: &RunId) -> Vec<ConnId> {
        self.0.run_of(run).map_or(Vec::new(), |of| self.0.conns_of(&of.user))
    }

    /// A topic's stream, if it has begun: epoch, floor, head.
    pub fn topic(&self, topic: &str) -> Option<(&'a Epoch, u64, u64)> {
        let stream = &self.0.topics.get(&Topic::parse(topic)?)?.stream;
        Some((stream.epoch(), stream.floor(), stream.head()))
    }

    /// How much there is of everything that grows.
    pub fn sizes(&self) -> Sizes {
        let core = self.0;
        Sizes {
            connections: core.conns.len(),
            addresses: core.addresses.len(),
            users: core.users.len(),
            loading: core.loading.len(),
            routes: core.routes.len(),
            workers: core.workers.len(),
            turns: core.queue.turns.len(),
            queued: core.queue.waiting,
            active: core.queue.active,
            loads: core.loads.len(),
            left_behind: core.left_behind.len(),
            moved: core.moved.len(),
            timers: core.deadlines.len(),
            resting: core.deadlines.resting(),
            appends: core.durable.waiting(),
            undelivered: core.undelivered.len(),
            quotas: core.attempts.len() + core.requests.len(),
            held: core.workers.values().map(|worker| worker.runs.len()).sum(),
            avoided: core.avoided(),
            agents: core.agents.len(),
            topics: core.topics.len(),
            presence: core.presence.len(),
            alerts: core.alerts.iter().count(),
            erasing: core.erasing.len(),
            waiting: core
                .loading
                .values()
                .map(Vec::len)
                .chain(core.erasing.values().map(Erase::waiting))
                .sum(),
            revoked: core.revoked.len(),
            shed: core.pressure.shed(),
            reveals: core.durable.reveals(),
            remembered: core.ends.len() + core.searches.len(),
            gathered: core.grown.len() + core.notes.len() + core.trail.len(),
        }
    }

    /// How far a user's connection is in one of its streams.
    pub fn cursor(&self, id: ConnId, lane: &Lane) -> Option<CursorView> {
        let conn = self.0.conns.get(&id)?;
        let Role::User(me) = &conn.role else { return None };
        let (head, cursor) = (self.0.stream_of(&me.identity.user, lane)?.head(), me.cursor(lane)?);
        let has_room = conn.room(self.0.config.server.output) == u64::MAX;
        let may_be_sent = conn.is_welcome() && !conn.is_closing && !self.0.pressure.is_shed(id);
        let is_open = may_be_sent && has_room && cursor.is_open();
        Some(cursor.view(head, is_open))
    }

    /// The streams that a user's connection reads.
    pub fn lanes(&self, id: ConnId) -> Vec<Lane> {
        let Some(Role::User(me)) = self.0.conns.get(&id).map(|conn| &conn.role) else { return Vec::new() };
        let topics = me.topics.keys().cloned().map(Lane::Topic);
        core::iter::once(Lane::Own).chain(topics).collect()
    }

    /// The connections of all users, ascending, and how far each is in each of its streams.
    pub fn cursors(&self) -> impl Iterator<Item = (ConnId, Lane, CursorView)> + use<'a> {
        let view = *self;
        self.0.conns.keys().flat_map(move |id| {
            view.lanes(*id).into_iter().filter_map(move |lane| {
                let cursor = view.cursor(*id, &lane)?;
                Some((*id, lane, cursor))
            })
        })
    }
}
