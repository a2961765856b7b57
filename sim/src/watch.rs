//! Looks at the core's face, step by step: every input, every effect, in order. What happens there has an
//! exact time, so this is where schedules, timers, access and bounds are judged (O8–O10, O13–O15, O17, O27,
//! O30–O32), where the model stands beside the core (O21), and where a run of the daemon is written down for
//! O20.

use crate::model::Watching;
use crate::oracles::access::{self, Access};
use crate::oracles::answers::{Answers, Promised};
use crate::oracles::bounds;
use crate::oracles::drain::Drain;
use crate::oracles::fair::{Fair, Ranks};
use crate::oracles::idle::Idle;
use crate::oracles::isolation::{Hearers, Overheard};
use crate::oracles::limits::{self, Slots};
use crate::oracles::listing::Listing;
use crate::oracles::places::Places;
use crate::oracles::ready::Ready;
use crate::oracles::recorded::Recording;
use crate::oracles::retries::{self, Clock};
use crate::oracles::revoked::Away;
use crate::oracles::spans::Spans;
use crate::oracles::timers::{self, Offers};
use crate::oracles::warned::Warned;
use crate::said::Said;
use crate::told::Told;
use runcast::pump::Witness;
use runcast_core::Core;
use runcast_core::config::Config;
use runcast_core::effect::Effect;
use runcast_core::ids::{ConnId, Lane, Topic};
use runcast_core::input::{Input, Message};
use runcast_core::time::{Mono, Now, WallMs};
use std::collections::BTreeMap;

/// A broken promise: which oracle says so, and how.
pub type Broken = (&'static str, String);

/// What has caused a step, as far as anyone asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A connection was accepted.
    Opened(ConnId),
    /// A peer has said something: whether it was text.
    Heard(ConnId, bool),
    /// A signature was looked at: when the token expires, if it holds.
    Verified(ConnId, Option<WallMs>),
    /// Bytes of a connection have left.
    Flushed(ConnId, usize),
    /// A connection is over.
    Closed(ConnId),
    /// A question was answered: messages that waited for it were handled.
    Loaded,
    /// Something is durable.
    Appended,
    /// Time has gone by.
    Timer,
    /// The daemon is to go down.
    Drain,
    /// Anything else.
    Other,
}

/// A connection at the core's face.
#[derive(Debug)]
pub struct Line {
    /// When it was accepted.
    pub opened: Mono,
    /// When anything, and when text, was last heard of it.
    pub heard: (Mono, Mono),
    /// When it was last sent a message.
    pub said: Mono,
    /// When output last left, or began to wait.
    pub moved: Mono,
    /// Bytes of all messages sent, and of those that have left.
    pub bytes: (u64, u64),
    /// Its token.
    pub access: Access,
    /// Its unacknowledged events, stream by stream.
    pub clocks: BTreeMap<Lane, Clock>,
}

/// The witness of one process of the daemon.
#[derive(Debug)]
pub struct Watch {
    config: Config,
    now: Now,
    cause: Cause,
    lines: BTreeMap<ConnId, Line>,
    offers: Offers,
    fair: Fair,
    ranks: Ranks,
    places: Places,
    warned: Warned,
    idle: Idle,
    slots: Slots,
    listing: Listing,
    ready: Ready,
    spans: Spans,
    drain: Drain,
    before: access::Before,
    away: Away,
    hearers: Hearers,
    answers: Answers,
    /// Whether the wall clock may jump.
    jumps: bool,
    model: Watching,
    recording: Option<Recording>,
    broken: Option<Broken>,
}

impl Watch {
    /// The witness of a process that is about to start. `jumps` is whether its wall clock may; `listing` is
    /// what it knows to be undelivered, `ready` what is to be said of it, and `spans` what its runs wait for.
    pub fn new(
        config: Config,
        jumps: bool,
        model: Watching,
        listing: Listing,
        (ready, spans): (Ready, Spans),
        recording: Option<Recording>,
    ) -> Self {
        Self {
            config,
            now: Now::default(),
            cause: Cause::Other,
            lines: BTreeMap::new(),
            offers: Offers::default(),
            fair: Fair::default(),
            ranks: Ranks::default(),
            places: Places::default(),
            warned: Warned::default(),
            idle: Idle::default(),
            slots: Slots::default(),
            listing,
            ready,
            spans,
            drain: Drain::default(),
            before: access::Before::default(),
            away: Away::default(),
            hearers: Hearers::default(),
            answers: Answers::default(),
            jumps,
            model,
            recording,
            broken: None,
        }
    }

    /// The first promise that was broken.
    pub fn take_broken(&mut self) -> Option<Broken> {
        self.broken.take()
    }

    /// What was promised to be durable.
    pub fn take_promised(&mut self) -> Vec<Promised> {
        self.answers.take()
    }

    /// What was said with a secret in it, elsewhere than on WebSockets.
    pub fn take_overheard(&mut self) -> Vec<Overheard> {
        self.hearers.take()
    }

    /// What was written down, if it was asked for.
    pub fn take_recording(&mut self) -> Option<Recording> {
        self.recording.take()
    }

    /// Looks for what should have happened by now.
    ///
    /// # Errors
    /// What has not.
    pub fn look(&self, core: &Core) -> Result<(), Broken> {
        // Before its first turn a process has had no time for anything.
        if self.now.mono == Mono(0) {
            return Ok(());
        }
        let delivery = &self.config.delivery;
        let clocks = self.lines.iter().flat_map(|(conn, line)| {
            line.clocks.iter().map(move |(lane, clock)| (conn, lane, clock, line.bytes))
        });
        for (conn, lane, clock, bytes) in clocks {
            let cursor = core.inspect().cursor(*conn, lane);
            // A retry of what is not in memory waits for the disk.
            if cursor.is_some_and(|cursor| cursor.is_reading) {
                continue;
            }
            let overdue = clock.overdue(self.now.mono, bytes, delivery);
            overdue.map_err(|what| ("O14", format!("{conn:?}, {lane:?}: {what}: {cursor:?}")))?;
        }
        self.spans.overdue(self.now.mono, core, &self.config.runs).map_err(|what| ("O14", what))?;
        self.listing.overdue(self.now.mono, core).map_err(|what| ("O27", what))
    }

    fn judge(&mut self, oracle: &'static str, judgement: Result<(), String>) {
        if let Err(what) = judgement {
            self.broken.get_or_insert((oracle, what));
        }
    }

    /// What the cause of a step changes.
    fn heed(&mut self) {
        let mono = self.now.mono;
        match self.cause {
            Cause::Opened(conn) => {
                self.lines.insert(conn, Line::at(mono));
            }
            Cause::Heard(conn, is_text) => {
                if let Some(line) = self.lines.get_mut(&conn) {
                    line.heard = (mono, if is_text { mono } else { line.heard.1 });
                }
            }
            Cause::Verified(conn, expires) => {
                if let Some(line) = self.lines.get_mut(&conn) {
                    line.access.verified(expires);
                }
            }
            Cause::Flushed(conn, bytes) => {
                if let Some(line) = self.lines.get_mut(&conn) {
                    line.bytes.1 += bytes as u64;
                    line.moved = mono;
                }
            }
            Cause::Drain => self.drain.told(mono),
            Cause::Closed(_) | Cause::Loaded | Cause::Appended | Cause::Timer | Cause::Other => {}
        }
    }

    /// Takes in what was acknowledged in a step: after its effects, since what is acknowledged is not sent
    /// again.
    fn sync(&mut self, core: &Core) {
        let mono = self.now.mono;
        let sync = |conn: ConnId, line: &mut Line| {
            for (lane, clock) in &mut line.clocks {
                clock.sync(core.inspect().cursor(conn, lane), mono, line.bytes);
            }
        };
        match self.cause {
            Cause::Heard(conn, _) | Cause::Flushed(conn, _) => {
                if let Some(line) = self.lines.get_mut(&conn) {
                    sync(conn, line);
                }
            }
            // Messages that waited for this were handled.
            Cause::Loaded | Cause::Verified(..) | Cause::Appended => {
                self.lines.iter_mut().for_each(|(conn, line)| sync(*conn, line));
            }
            Cause::Opened(_) | Cause::Closed(_) | Cause::Timer | Cause::Drain | Cause::Other => {}
        }
    }

    /// Once timers were looked at, whoever's token has expired is closed.
    fn look_at_tokens(&mut self) {
        let (now, leeway) = (self.now, self.config.auth.leeway);
        if self.cause != Cause::Timer {
            return;
        }
        let lines = self.lines.iter_mut();
        let overdue = lines.map(|(conn, line)| (conn, line.access.overdue(now, leeway, self.jumps)));
        let overdue = overdue.map(|(conn, is)| is.map_err(|what| format!("{conn:?} is {what}")));
        let overdue = overdue.into_iter().find(Result::is_err).unwrap_or(Ok(()));
        self.judge("O17", overdue);
    }

    fn sent(&mut self, core: &Core, conn: ConnId, text: &[u8]) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        let (now, delivery) = (self.now, &self.config.delivery);
        let told = Told::read(text);
        let leeway = self.config.auth.leeway;
        match told {
            Told::Welcome => line.access.welcomed(),
            Told::Refreshed => line.access.refreshed(),
            Told::Event(..)
            | Told::Topics
            | Told::Offer(..)
            | Told::Withdraw(_)
            | Told::Cancel(..)
            | Told::TimeoutSoon(_)
            | Told::Heartbeat
            | Told::Error
            | Told::Other => {}
        }
        let judgements = [
            ("O14", self.spans.said(now.mono, conn, &told)),
            ("O17", self.away.said(conn)),
            ("O17", line.access.judge(now, &self.cause, &told, leeway, self.jumps)),
            ("O15", timers::sent(line, now.mono, &self.config, &self.cause, &told, &mut self.offers)),
        ];
        if line.bytes.0 == line.bytes.1 {
            line.moved = now.mono;
        }
        line.bytes.0 += text.len() as u64;
        let output = (line.bytes.0.saturating_sub(line.bytes.1), self.config.server.output);
        let warned = self.warned.said(now.mono, core, conn, &told, output);
        line.said = now.mono;
        let schedule = match told {
            Told::Event(topic, seq, redelivery) => {
                let lane = Lane::from(topic.and_then(Topic::parse));
                let cursor = core.inspect().cursor(conn, &lane);
                let event = retries::Event { seq, redelivery, ends: line.bytes.0 };
                line.clocks.entry(lane).or_default().event(now.mono, cursor, &event, delivery)
            }
            Told::Topics | Told::Refreshed => {
                line.forget_topics(text);
                Ok(())
            }
            Told::Offer(run, _) => {
                self.fair.dispatched(run);
                Ok(())
            }
            Told::Welcome
            | Told::Withdraw(_)
            | Told::Cancel(..)
            | Told::TimeoutSoon(_)
            | Told::Heartbeat
            | Told::Error
            | Told::Other => Ok(()),
        };
        for (oracle, judgement) in judgements.into_iter().chain([("O14", schedule), ("O32", warned)]) {
            let words = |what| format!("{conn:?}: {what}: {}", String::from_utf8_lossy(text));
            self.judge(oracle, judgement.map_err(words));
        }
    }

    fn effect(&mut self, core: &Core, effect: &Effect) {
        match effect {
            Effect::Send { conn, text } => self.sent(core, *conn, text),
            Effect::Close { conn, code, .. } => {
                self.spans.closed(*conn);
                let Some(line) = self.lines.get_mut(conn) else { return };
                let (now, delivery) = (self.now.mono, &self.config.delivery);
                // One stream whose time is up is reason enough.
                let mut overdue = Ok(());
                for clock in line.clocks.values() {
                    overdue = clock.closed(now, *code, delivery);
                    if overdue.is_ok() {
                        break;
                    }
                }
                line.access.closed();
                let timer = timers::closed(line, self.now.mono, &self.config, *code);
                line.clocks.clear();
                self.judge("O14", overdue);
                self.judge("O15", timer);
            }
            Effect::Append { .. } => {
                self.before.appended();
                let given = self.spans.gives(self.now.mono, &self.cause, effect, &self.config.runs);
                self.judge("O15", given);
            }
            Effect::Respond { conn, response } if matches!(response.status, 401 | 403) => {
                self.away.refused(*conn);
            }
            Effect::Upgrade { .. }
            | Effect::Allow { .. }
            | Effect::Share { .. }
            | Effect::Respond { .. }
            | Effect::Body { .. }
            | Effect::Stream { .. }
            | Effect::Ping { .. }
            | Effect::Read { .. }
            | Effect::Verify { .. }
            | Effect::Load { .. }
            | Effect::Webhook { .. }
            | Effect::Note(_)
            | Effect::Audit(_)
            | Effect::Backup { .. }
            | Effect::Exit => {}
        }
    }
}

impl Line {
    /// One that was accepted now.
    pub fn at(now: Mono) -> Self {
        Self {
            opened: now,
            heard: (now, now),
            said: now,
            moved: now,
            bytes: (0, 0),
            access: Access::default(),
            clocks: BTreeMap::new(),
        }
    }

    /// Topics that are not read any more are not waited for.
    fn forget_topics(&mut self, text: &[u8]) {
        let Some(said) = std::str::from_utf8(text).ok().and_then(|text| Said::read(text).ok()) else {
            return;
        };
        let (entries, ended) = (said.topic_entries(), said.ended.unwrap_or_default());
        self.clocks.retain(|lane, _| {
            let Some(topic) = lane.topic() else { return true };
            let is_listed = entries.iter().any(|entry| entry.topic == topic.as_str());
            is_listed || said.kind == "ok" && !ended.iter().any(|ended| ended == topic.as_str())
        });
    }
}

impl Witness for Watch {
    fn before(&mut self, core: &Core, now: Now, input: &Input<'_>) {
        self.now = now;
        self.cause = Cause::of(input);
        self.before = access::Before::look(core, input);
        self.away.look(input);
        self.hearers.look(input);
        self.answers.look(input);
        self.spans.look(now.mono, input);
        self.idle.look(input);
        self.places.look(input);
        self.slots.look(input);
        self.listing.look(now.mono, input);
        self.ready.look(now.mono, input, core.deadline().map(|(at, _)| at));
        self.model.before(core, now, input);
        if let Some(recording) = &mut self.recording {
            recording.input(now, input);
        }
    }

    fn after(&mut self, core: &Core, effects: &[Effect]) {
        self.model.after(core, effects);
        if let Some(recording) = &mut self.recording {
            recording.effects(effects);
        }
        self.heed();
        for effect in effects {
            let drain = self.drain.judge(self.now.mono, effect, core, &self.config);
            self.judge("O25", drain);
            self.hearers.hear(effect);
            self.answers.see(effect);
            self.idle.hear(self.now.mono, effect, &self.config);
            self.effect(core, effect);
        }
        self.sync(core);
        self.look_at_tokens();
        let sizes = core.inspect().sizes();
        // A full store is told nothing, and what goes down records nothing once all is durable.
        let tells_nothing = core.inspect().is_store_full() || core.inspect().is_draining();
        self.judge("O13", bounds::judge(&sizes, &self.config, tells_nothing));
        if !self.fair.offered().is_empty() {
            let (runs, offered) = (core.inspect().runs().collect::<Vec<_>>(), self.fair.offered());
            let limits = limits::at_dispatch(&runs, offered, &self.config.runs, &self.slots);
            self.judge("O8", limits);
        }
        let is_timer = self.cause == Cause::Timer;
        let idle = self.idle.settle(self.now.mono, core, self.fair.offered(), is_timer);
        self.judge("O9", idle);
        let is_offered = !self.fair.offered().is_empty();
        let places = self.places.settle(core, self.now.wall, effects, is_offered, &mut self.ranks);
        self.judge("O31", places);
        let fair = self.fair.settle(core, self.config.runs.active_per_user, &self.ranks);
        self.judge("O9", fair);
        let ready = self.ready.settle(self.now.mono, sizes.appends, effects);
        self.judge("O30", ready);
        let listing = self.listing.settle(self.now.mono, core, effects);
        self.judge("O27", listing);
        let unmoved = self.before.judge(core);
        self.judge("O17", unmoved);
        self.away.settle();
        if let Cause::Closed(conn) = self.cause {
            self.lines.remove(&conn);
            self.warned.closed(conn);
        }
    }
}

impl Cause {
    fn of(input: &Input<'_>) -> Self {
        match input {
            Input::Opened { conn, .. } => Self::Opened(*conn),
            Input::Message { conn, message } => Self::Heard(*conn, matches!(message, Message::Text(_))),
            Input::Verified { conn, outcome } => {
                let expires = outcome.as_ref().ok().map(|claims| WallMs(claims.exp.saturating_mul(1_000)));
                Self::Verified(*conn, expires)
            }
            Input::Flushed { conn, bytes } => Self::Flushed(*conn, *bytes),
            Input::Closed { conn } => Self::Closed(*conn),
            Input::Loaded { .. } => Self::Loaded,
            Input::Appended { .. } => Self::Appended,
            Input::Timer => Self::Timer,
            Input::Drain => Self::Drain,
            Input::Request { .. }
            | Input::Body { .. }
            | Input::BadHead { .. }
            | Input::Called { .. }
            | Input::Memory { .. }
            | Input::BackedUp { .. }
            | Input::AppendFailed { .. } => Self::Other,
        }
    }
}
