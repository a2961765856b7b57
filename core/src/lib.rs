#![no_std]
//! The state machine of Runcast: pure, single-threaded, deterministic.
//!
//! Everything from outside comes in as an [`Input`], everything it does goes out as an [`Effect`], in order.
//! It has no clock, no file, no socket and no randomness but its seed: the same inputs give the same effects,
//! on every machine.
//!
//! ```
//! use runcast_core::{Core, config::Config, ids::ConnId, input::{Head, Input}, record::Image, time::Now};
//!
//! let mut out = Vec::new();
//! let now = Now::default();
//! let mut core = Core::open(Config::default(), [0; 32], Image::default(), now, &mut out);
//! let (conn, peer) = (ConnId(1), [127, 0, 0, 1].into());
//! core.handle(now, Input::Opened { conn, peer }, &mut out);
//! let head = Head { method: "GET", path: "/livez", ..Head::default() };
//! core.handle(now, Input::Request { conn, head }, &mut out);
//! // The loop runs the effects in the order emitted, feeds back what they cause, and comes back
//! // with `Input::Timer` at the deadline.
//! assert_eq!(out.len(), 1);
//! assert!(core.deadline().is_some());
//! ```

extern crate alloc;

mod admission;
mod agent;
mod alerts;
mod api;
mod audit;
pub mod backup;
mod caller;
mod commands;
pub mod config;
mod conn;
mod context;
pub mod counts;
mod cursor;
mod deadlines;
mod delivery;
mod device;
mod drain;
mod durable;
pub mod effect;
mod ending;
mod erase;
mod execution;
mod expiry;
mod few;
mod flow;
mod gauges;
mod handshake;
mod history;
mod http;
pub mod ids;
pub mod input;
mod invariants;
mod lease;
mod legacy;
mod limits;
mod listing;
mod loads;
pub mod lookup;
pub mod note;
mod notices;
pub mod odd;
mod operate;
mod overview;
pub mod peer;
pub mod planted;
mod positions;
mod presence;
mod pressure;
mod progress;
mod publish;
mod purge;
mod questions;
mod queue;
mod ready;
pub mod record;
mod recovery;
mod requests;
mod revoke;
mod run;
mod scope;
pub mod sometimes;
mod sse;
mod strangers;
mod stream;
mod subscribe;
pub mod time;
mod topics;
mod undelivered;
mod user_view;
mod view;
pub mod wire;
mod worker;

pub use alerts::Alert;
pub use deadlines::Timer;
pub use gauges::{By, Gauges};
pub use view::{CursorView, RunView, Sizes, View};
pub use worker::WorkerKey;

use agent::AgentState;
use alerts::Alerts;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use audit::Searches;
use backup::Backup;
use config::Config;
use conn::Conn;
use context::Context;
use core::net::IpAddr;
use counts::Counts;
use deadlines::Deadlines;
use drain::Drain;
use durable::{Durable, Reveal};
use effect::{Audit, Effect, Effects};
use erase::Erase;
use flow::LeftBehind;
use ids::{Agent, ConnId, LoadId, Owner, RunId, Topic, User};
use input::Input;
use limits::quota::Quotas;
use loads::Load;
use lookup::{Lookup, Secret};
use note::Note;
use planted::Planted;
use positions::Moved;
use presence::Presence;
use pressure::Pressure;
use purge::Purge;
use queue::Queue;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use ready::Lag;
use record::Image;
use sometimes::Seen;
use time::{Mono, Now, WallMs};
use topics::TopicState;
use undelivered::Undelivered;
use worker::Worker;

/// The state machine.
#[derive(Debug)]
pub struct Core {
    config: Config,
    rng: ChaCha8Rng,
    now: Now,
    deadlines: Deadlines,
    durable: Durable,
    /// Boxed, as contexts are, since a map keeps room for nearly twice what it has.
    conns: Lookup<ConnId, Box<Conn>>,
    addresses: BTreeMap<IpAddr, usize>,
    /// Addresses that have failed to say who they are.
    attempts: Quotas<IpAddr>,
    pressure: Pressure,
    /// Who has lately made requests.
    requests: Quotas<User>,
    users: Lookup<User, Box<Context>>,
    /// Users whose context is being read, with the connections that wait for it.
    loading: BTreeMap<User, Vec<ConnId>>,
    /// Whose each run is: the authority for routing.
    routes: Lookup<RunId, User>,
    workers: BTreeMap<WorkerKey, Worker>,
    /// What connections of workers have left behind that is not durable yet.
    left_behind: BTreeMap<ConnId, LeftBehind>,
    /// Agents that were ever served, or have ended a run.
    agents: BTreeMap<Agent, AgentState>,
    queue: Queue,
    last_ordinal: u64,
    loads: BTreeMap<LoadId, Load>,
    last_load: u64,
    /// Users with positions that are not stored.
    moved: Moved,
    /// How far it is with going down, if it is.
    drain: Option<Drain>,
    backup: Option<Backup>,
    /// Users who are being erased.
    erasing: BTreeMap<User, Erase>,
    /// Users of whom all tokens are refused that were made up to then, wall clock.
    revoked: BTreeMap<User, WallMs>,
    purge: Purge,
    undelivered: Undelivered,
    /// Whose streams have grown, some of them more than once.
    grown: Vec<Owner>,
    /// Topics whose streams have begun.
    topics: BTreeMap<Topic, TopicState>,
    /// What the topic `agents` has said of each worker.
    presence: BTreeMap<WorkerKey, Presence>,
    /// Workers of which it may have to say more.
    stirred: BTreeSet<WorkerKey>,
    /// What the topic `alerts` has said.
    alerts: Alerts,
    searches: Searches,
    /// When the loop was last too late.
    lag: Lag,
    counts: Counts,
    /// What is worth a line of the log, until the input ends.
    notes: Vec<Note>,
    /// Lines of the audit trail, until the input ends.
    trail: Vec<Audit>,
    /// The newest ends of runs.
    ends: overview::Ends,
    planted: Planted,
    seen: Seen,
}

impl Core {
    /// Opens the core on what the store knows.
    ///
    /// `seed` is all the randomness it ever has: a production daemon takes it from the system at every start.
    pub fn open(config: Config, seed: [u8; 32], image: Image, now: Now, out: &mut Effects) -> Self {
        Self::open_planted(config, seed, image, now, Planted::default(), out)
    }

    /// Opens the core with a bug in it, for the simulator to find. See [`planted`].
    pub fn open_planted(
        config: Config,
        seed: [u8; 32],
        image: Image,
        now: Now,
        planted: Planted,
        out: &mut Effects,
    ) -> Self {
        let mut core = Self::empty(config, seed, now, planted);
        core.recover(&image, out);
        core.deadlines.tidy();
        core
    }

    fn empty(config: Config, seed: [u8; 32], now: Now, planted: Planted) -> Self {
        let secret = Secret::of(&seed);
        Self {
            config,
            rng: ChaCha8Rng::from_seed(seed),
            now,
            deadlines: Deadlines::new(secret.clone()),
            durable: Durable::default(),
            conns: Lookup::default(),
            addresses: BTreeMap::new(),
            attempts: Quotas::default(),
            pressure: Pressure::default(),
            requests: Quotas::default(),
            users: Lookup::new(secret.clone()),
            loading: BTreeMap::new(),
            routes: Lookup::new(secret),
            workers: BTreeMap::new(),
            agents: BTreeMap::new(),
            queue: Queue::default(),
            last_ordinal: 0,
            loads: BTreeMap::new(),
            last_load: 0,
            left_behind: BTreeMap::new(),
            moved: Moved::default(),
            grown: Vec::new(),
            drain: None,
            backup: None,
            erasing: BTreeMap::new(),
            revoked: BTreeMap::new(),
            purge: Purge::default(),
            undelivered: Undelivered::default(),
            topics: BTreeMap::new(),
            presence: BTreeMap::new(),
            stirred: BTreeSet::new(),
            alerts: Alerts::default(),
            searches: Searches::default(),
            lag: Lag::default(),
            counts: Counts::default(),
            notes: Vec::new(),
            trail: Vec::new(),
            ends: overview::Ends::default(),
            planted,
            seen: Seen::default(),
        }
    }

    /// Handles one input, whole. Never fails, and never panics on what comes from outside.
    pub fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Effects) {
        self.now = Now { mono: self.now.mono.max(now.mono), wall: now.wall };
        match input {
            Input::Opened { conn, peer } => self.on_opened(conn, peer, out),
            Input::Request { conn, head } => self.on_request(conn, head, out),
            Input::Body { conn, body } => self.on_body(conn, body, out),
            Input::BadHead { conn, problem } => self.on_bad_head(conn, problem, out),
            Input::Message { conn, message } => self.on_message(conn, message, out),
            Input::Verified { conn, outcome } => self.on_verified(conn, outcome, out),
            Input::Flushed { conn, bytes } => self.on_flushed(conn, bytes, out),
            Input::Closed { conn } => self.on_closed(conn),
            Input::Appended { upto } => self.on_appended(upto, out),
            Input::AppendFailed { from } => self.on_append_failed(from, out),
            Input::Loaded { load, found } => self.on_loaded(load, found, out),
            Input::Timer => self.on_timer(out),
            Input::Called { run, is_taken } => self.on_called(&run, is_taken, out),
            Input::BackedUp { outcome } => self.on_backed_up(outcome, out),
            Input::Memory { used } => self.on_memory(used, out),
            Input::Drain => self.on_drain(out),
        }
        self.settle(out);
        self.deadlines.tidy();
        self.tell_notes(out);
        self.assert_cheap();
    }

    /// When to come back with [`Input::Timer`], and why.
    pub fn deadline(&self) -> Option<(Mono, Timer)> {
        self.deadlines.first()
    }

    /// A look at what there is.
    pub fn inspect(&self) -> View<'_> {
        View(self)
    }

    /// Ends an input: what can start is offered, what was recorded leaves, what waits for nothing is shown.
    fn settle(&mut self, out: &mut Effects) {
        loop {
            self.tell_presence();
            self.dispatch(out);
            self.tell_alerts();
            // Last, since it may be the end: nothing is recorded after it.
            self.watch_drain(out);
            let reveals = self.durable.commit(self.now.mono, out);
            if reveals.is_empty() && !self.queue.has_changed {
                return;
            }
            self.reveal(reveals, out);
        }
    }

    /// Shows what has become durable, in order; then devices are sent what their streams have grown by.
    fn reveal(&mut self, reveals: Vec<Reveal>, out: &mut Effects) {
        let mut acks = Vec::new();
        for reveal in reveals {
            match reveal {
                Reveal::Reply { conn, text } => self.send(conn, text, out),
                Reveal::Respond { conn, response } => self.answer(conn, response, out),
                Reveal::Welcome(conn) => self.on_welcome(conn, out),
                Reveal::WorkerWelcome { conn, welcome } => self.on_worker_welcome(conn, welcome, out),
                Reveal::Head { owner, seq } => self.on_head(owner, seq),
                Reveal::Subscribed(change) => self.on_subscribed(*change, out),
                Reveal::Queued(of) => self.on_queued_durable(&of),
                Reveal::Started(of) => self.on_start_durable(&of, out),
                Reveal::Ack { of, n, conn } => {
                    self.on_message_durable(conn, out);
                    acks.push((conn, of.run, of.attempt, n));
                }
                Reveal::Cancelled(of) => self.on_cancel_durable(&of),
                Reveal::Command { of, i } => self.on_command_durable(&of, i, out),
                Reveal::Ended(of) => self.on_end_durable(&of, out),
                Reveal::Unload { user, leaves } => self.on_unload(&user, leaves, out),
                Reveal::ForgotSome { user } => self.ask_excess(&user, out),
                Reveal::ErasedSome { user, table } => self.on_erased_some(&user, table, out),
                Reveal::Erased(user) => self.on_erased(&user, out),
            }
        }
        self.send_acks(acks, out);
        let mut grown = core::mem::take(&mut self.grown);
        grown.sort_unstable();
        grown.dedup();
        for owner in grown {
            self.deliver_stream(&owner, out);
        }
    }

    fn on_timer(&mut self, out: &mut Effects) {
        self.watch_lateness();
        let mut retries_later = 0;
        while let Some(timer) = self.deadlines.due(self.now.mono) {
            match timer {
                Timer::Head(conn) => self.on_head_timeout(conn, out),
                Timer::Answer(conn) => self.on_answer_overdue(conn, out),
                Timer::Hello(conn) => self.on_hello_timeout(conn, out),
                Timer::Heartbeat(conn) => self.on_heartbeat(conn, out),
                Timer::Silence(conn) => self.on_silence(conn, out),
                Timer::Stuck(conn) => self.on_stuck(conn, out),
                Timer::Acks(conn, lane) => self.on_acks_overdue(conn, lane, &mut retries_later, out),
                Timer::Expiry(conn) => self.on_expiry(conn, out),
                Timer::Backlog(conn, lane) => self.on_backlog(conn, &lane, out),
                Timer::Start(run) => self.on_start_overdue(&run, out),
                Timer::Timeout(run) => self.on_timeout(&run),
                Timer::TimeoutSoon(run) => self.on_timeout_soon(&run, out),
                Timer::Questions(run) => self.on_questions_check(&run),
                Timer::Grace(run) => self.on_grace_over(&run),
                Timer::Working(run) => self.on_working(&run, out),
                Timer::Queued(run) => self.on_queued_check(&run),
                Timer::Lease(worker) => self.on_lease_over(&worker, out),
                Timer::Queue => self.on_notice_queue(out),
                Timer::Dispatch => self.on_dispatch_again(),
                Timer::Positions => self.store_some_positions(),
                Timer::Drain => self.on_drain_step(out),
                Timer::Purge => self.on_purge(out),
                Timer::Undelivered => self.on_undelivered(out),
                // It is looked at after each input.
                Timer::Alerts => {}
                Timer::StoreRetry => self.durable.retry(out),
            }
        }
    }
}
