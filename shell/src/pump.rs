//! The loop between streams, store and core: one for production and simulation.
//!
//! It has no socket, no clock and no thread. Whoever drives it hands in streams and their edges and calls
//! [`Pump::turn`] with the time. In a turn come, in this order: due timers, completions of the store,
//! connections (those that have something, in the order in which they came to have it), one submission to the
//! store, and one flush for each connection with output. Effects run in the order emitted; what they cause
//! queues behind them.

use crate::conn::{Conn, Edge, Incoming, Parting, Readers};
use crate::log::{Log, Peer};
use crate::storage::{Completion, Storage};
use runcast_core::effect::{Content, Effect, Effects, Response};
use runcast_core::ids::{ConnId, RunId};
use runcast_core::input::{Claims, Input, Message, NoBackup, TokenProblem};
use runcast_core::lookup::Lookup;
use runcast_core::note::Note;
use runcast_core::planted::Bug;
use runcast_core::time::{Mono, Now, Span};
use runcast_core::wire::error::CloseCode;
use runcast_core::{Core, View};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io::{Read, Write};
use std::net::IpAddr;

/// What one connection may say in one turn, in messages.
const MESSAGES_PER_TURN: usize = 64;
/// Connections heard in one turn; the others have theirs in the next, so that a turn stays short when
/// thousands come back at once.
const VISITS_PER_TURN: usize = 192;
/// The same of strangers: what they say costs most, and who is welcome does not wait for them.
const ARRIVALS_PER_TURN: usize = 64;
/// Answers of the store taken in one turn. With each a device may be sent a page of events.
const COMPLETIONS_PER_TURN: usize = 16;
/// Time for a peer to take the last words to it.
const LAST_WORDS: Span = Span::secs(5);
/// Time for a peer to take an answer, which may be long.
const ANSWER: Span = Span::secs(30);

/// Looks at a token's signature.
pub type Verify = Box<dyn Fn(&str) -> Result<Claims, TokenProblem> + Send>;

/// Writes what is told at `/metrics`.
pub type Meter = Box<dyn Fn(&View<'_>) -> String + Send>;

/// How long a text of the metrics is good: anybody may ask for it, and it costs a look at all connections and
/// runs, for which everybody else waits.
pub(crate) const METRICS_GOOD: Span = Span::secs(1);

/// The metrics, as they were told last.
struct Metrics {
    meter: Meter,
    text: String,
    good_until: Mono,
}

impl Metrics {
    fn told(&mut self, now: Mono, view: &View<'_>) -> &str {
        if now >= self.good_until {
            self.text = (self.meter)(view);
            self.good_until = now + METRICS_GOOD;
        }
        &self.text
    }
}

/// Sees every step of the core at its face: what comes in, what goes out. The simulator judges by it;
/// production has none, which costs nothing.
pub trait Witness {
    /// An input is about to be handled.
    fn before(&mut self, core: &Core, now: Now, input: &Input<'_>);
    /// It was handled: the effects that came of it.
    fn after(&mut self, core: &Core, effects: &[Effect]);
}

/// Nobody looks.
impl Witness for () {
    fn before(&mut self, _core: &Core, _now: Now, _input: &Input<'_>) {}
    fn after(&mut self, _core: &Core, _effects: &[Effect]) {}
}

/// The loop, to be driven turn by turn.
pub struct Pump<S: Read + Write, J: Storage, W: Witness = ()> {
    core: Core,
    witness: W,
    storage: J,
    verify: Verify,
    /// None: there are no metrics.
    metrics: Option<Metrics>,
    /// Boxed: most of a connection is its WebSocket's state, and the map moves what it holds.
    conns: Lookup<ConnId, Box<Entry<S>>>,
    /// What connections need while they are read.
    readers: Readers,
    last: ConnId,
    /// Accepted since the last turn.
    opened: Vec<(ConnId, IpAddr)>,
    lines: Lines,
    /// Connections to which something is to be said, each once.
    unflushed: VecDeque<ConnId>,
    /// When those that end are given up.
    ending: BTreeSet<(Mono, ConnId)>,
    /// Streams to be given back.
    closed: Vec<(ConnId, S)>,
    effects: Effects,
    /// What effects have caused and the core has not heard of.
    causes: VecDeque<Cause>,
    /// Appends were given to the store since the last submission.
    appended: bool,
    /// The core is to be told how much memory is in use.
    used: Option<u64>,
    /// The core is to be told to go down.
    drains: bool,
    /// The core has gone down.
    is_over: bool,
    /// Calls to be made.
    calls: Vec<Call>,
    /// Calls that are over, and whether they were taken.
    called: Vec<(RunId, bool)>,
    log: Log,
}

/// Connections that may have something to say, each once, whoever has waited longest first.
#[derive(Default)]
struct Lines {
    busy: VecDeque<ConnId>,
    /// The same of strangers.
    arriving: VecDeque<ConnId>,
}

impl Lines {
    fn join<S>(&mut self, id: ConnId, entry: &mut Entry<S>) {
        if !std::mem::replace(&mut entry.is_busy, true) {
            let is_stranger = entry.peer == Peer::Stranger;
            let line = if is_stranger { &mut self.arriving } else { &mut self.busy };
            line.push_back(id);
        }
    }
}

struct Entry<S> {
    conn: Conn<S>,
    /// Whether it is in one of the [`Lines`],
    is_busy: bool,
    /// and among [`Pump::unflushed`].
    is_unflushed: bool,
    /// Who it is, for the line of its end.
    peer: Peer,
    /// The core knows that it is gone, and is told nothing more of it.
    told: bool,
    /// When it is given up.
    ends: Option<Mono>,
}

/// Inputs that come from running effects. Claims are boxed, since nearly all are of bytes that have left.
#[derive(Debug)]
enum Cause {
    Verified(ConnId, Box<Result<Claims, TokenProblem>>),
    Flushed(ConnId, usize),
    Closed(ConnId),
}

/// What a turn leaves to whoever drives the pump.
#[derive(Debug)]
pub struct Turn<S> {
    /// Call [`Pump::turn`] again at once: somebody has more, whom fairness has cut short.
    pub more: bool,
    /// Streams of connections that have ended, to be deregistered and dropped. All that was to be said was
    /// given to them, or they take nothing.
    pub closed: Vec<(ConnId, S)>,
    /// Calls of the webhook, to be answered by [`Pump::called`].
    pub calls: Vec<Call>,
    /// The core has gone down: the process may exit, and no further turn need be taken.
    pub is_over: bool,
}

/// A call of the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// About which run.
    pub run: RunId,
    /// Its body, JSON.
    pub body: String,
}

/// The store has failed. What it holds is unknown from here on: the process must end, since a retry may lie.
#[derive(Debug, thiserror::Error)]
#[error("the store has failed: {0}; look at the disk, then start again")]
pub struct StorageFailed(pub String);

impl<S: Read + Write, J: Storage> Pump<S, J> {
    /// A pump around a core that was just opened. `opening` are the effects of that; they run first.
    pub fn new(core: Core, opening: Effects, storage: J, verify: Verify) -> Self {
        Self::watched(core, opening, storage, verify, ())
    }
}

impl<S: Read + Write, J: Storage, W: Witness> Pump<S, J, W> {
    /// The same, with somebody who looks.
    pub fn watched(core: Core, opening: Effects, storage: J, verify: Verify, witness: W) -> Self {
        Self {
            core,
            witness,
            storage,
            verify,
            metrics: None,
            conns: Lookup::default(),
            readers: Readers::default(),
            last: ConnId(0),
            opened: Vec::new(),
            lines: Lines::default(),
            unflushed: VecDeque::new(),
            ending: BTreeSet::new(),
            closed: Vec::new(),
            effects: opening,
            causes: VecDeque::new(),
            appended: false,
            used: None,
            drains: false,
            is_over: false,
            calls: Vec::new(),
            called: Vec::new(),
            log: Log::default(),
        }
    }

    /// The same with metrics.
    #[must_use]
    pub fn metered(mut self, meter: Meter) -> Self {
        self.metrics = Some(Metrics { meter, text: String::new(), good_until: Mono::default() });
        self
    }

    /// Takes a stream that never blocks. The core hears of it in the next turn, in which it is read without
    /// an edge. Ids are 1, 2, 3 …, and never used again.
    pub fn accept(&mut self, stream: S, peer: IpAddr) -> ConnId {
        self.last = self.next();
        let entry = Entry {
            conn: Conn::new(stream),
            is_busy: false,
            is_unflushed: false,
            peer: Peer::Stranger,
            told: false,
            ends: None,
        };
        self.conns.insert(self.last, Box::new(entry));
        self.opened.push((self.last, peer));
        self.queue(self.last);
        self.last
    }

    /// The id that the next [`accept`](Self::accept) gives.
    pub fn next(&self) -> ConnId {
        ConnId(self.last.0 + 1)
    }

    /// An edge: the stream has become readable, writable or both. Unknown ids are ignored.
    pub fn ready(&mut self, conn: ConnId, edge: Edge) {
        if let Some(entry) = self.conns.get_mut(&conn) {
            entry.conn.edge(edge);
            self.lines.join(conn, entry);
        }
    }

    /// A call is over: the core hears in the next turn whether it was taken.
    pub fn called(&mut self, run: RunId, is_taken: bool) {
        self.called.push((run, is_taken));
    }

    /// So many bytes of memory are in use: the core hears of it in the next turn.
    pub fn memory(&mut self, used: u64) {
        self.used = Some(used);
    }

    /// The core is told in the next turn to go down; if it was told before, without waiting for runs. It
    /// has when a turn says [`Turn::is_over`].
    pub fn drain(&mut self) {
        self.drains = true;
    }

    /// When to call [`turn`](Self::turn), should nothing else happen.
    pub fn deadline(&self) -> Option<Mono> {
        let given_up = self.ending.first().map(|(at, _)| *at);
        [self.core.deadline().map(|(at, _)| at), given_up].into_iter().flatten().min()
    }

    /// The core, to look at.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The store, for whoever drives it from outside (the simulator).
    pub fn storage_mut(&mut self) -> &mut J {
        &mut self.storage
    }

    /// Who looks.
    pub fn witness(&self) -> &W {
        &self.witness
    }

    /// The same, to be asked what it saw.
    pub fn witness_mut(&mut self) -> &mut W {
        &mut self.witness
    }

    /// How many bytes wait for the network on each connection.
    pub fn outputs(&self) -> impl Iterator<Item = (ConnId, usize)> {
        self.conns.iter().map(|(id, entry)| (*id, entry.conn.output_bytes()))
    }

    /// The stream of a connection that has not ended.
    pub fn stream(&self, conn: ConnId) -> Option<&S> {
        self.conns.get(&conn).map(|entry| entry.conn.stream())
    }

    /// Does all that is to be done now.
    ///
    /// # Errors
    /// When the store has failed. No further turn may be taken.
    pub fn turn(&mut self, now: Now) -> Result<Turn<S>, StorageFailed> {
        self.run(now);
        self.log.catch_up(now.mono);
        self.give_up(now);
        if self.core.deadline().is_some_and(|(at, _)| at <= now.mono) {
            self.feed(now, Input::Timer);
        }
        for (run, is_taken) in std::mem::take(&mut self.called) {
            self.feed(now, Input::Called { run, is_taken });
        }
        if let Some(used) = self.used.take() {
            self.feed(now, Input::Memory { used });
        }
        if std::mem::take(&mut self.drains) {
            self.feed(now, Input::Drain);
        }
        let has_completions = self.take_completions(now)?;
        for (conn, peer) in std::mem::take(&mut self.opened) {
            self.feed(now, Input::Opened { conn, peer });
        }
        self.hear_some(now);
        if std::mem::take(&mut self.appended) {
            self.storage.submit();
        }
        while let Some(conn) = self.unflushed.pop_front() {
            self.flush(now, conn);
        }
        // What left may let the core say more: that goes out in the next turn, which comes at once.
        self.run(now);
        let waits = [&self.lines.busy, &self.lines.arriving, &self.unflushed]
            .into_iter()
            .any(|line| !line.is_empty());
        let more = has_completions || self.appended || waits;
        let (closed, calls) = (std::mem::take(&mut self.closed), std::mem::take(&mut self.calls));
        Ok(Turn { more, closed, calls, is_over: self.is_over })
    }

    /// Hears what the store has done; whether it may have done more.
    fn take_completions(&mut self, now: Now) -> Result<bool, StorageFailed> {
        for _ in 0..COMPLETIONS_PER_TURN {
            let Some(completion) = self.storage.completed() else { return Ok(false) };
            self.complete(now, completion)?;
        }
        Ok(true)
    }

    /// A connection may have something to say, unless it is gone.
    fn queue(&mut self, id: ConnId) {
        if let Some(entry) = self.conns.get_mut(&id) {
            self.lines.join(id, entry);
        }
    }

    /// Something is to be said to a connection, unless it is gone.
    fn queue_flush(&mut self, id: ConnId) {
        let entry = self.conns.get_mut(&id).filter(|entry| !entry.is_unflushed);
        if let Some(entry) = entry {
            entry.is_unflushed = true;
            self.unflushed.push_back(id);
        }
    }

    fn complete(&mut self, now: Now, completion: Completion) -> Result<(), StorageFailed> {
        match completion {
            Completion::Appended(upto) => self.feed(now, Input::Appended { upto }),
            Completion::Full(from) => self.feed(now, Input::AppendFailed { from }),
            Completion::Loaded(load, found) => self.feed(now, Input::Loaded { load, found }),
            Completion::BackedUp(outcome) => {
                let outcome = outcome.as_ref().map(|bytes| *bytes).map_err(NoBackup::as_str);
                self.feed(now, Input::BackedUp { outcome });
            }
            Completion::Failed(why) => return Err(StorageFailed(why)),
        }
        Ok(())
    }

    /// Ends the connections whose peers have not taken the last words in time.
    fn give_up(&mut self, now: Now) {
        while let Some((_, conn)) = self.ending.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.finish(now, conn);
        }
        self.run(now);
    }

    /// Hears those who have something to say, as many as a turn has room for. Who has more then is heard in
    /// the next one, after the others.
    fn hear_some(&mut self, now: Now) {
        let busy = VISITS_PER_TURN.min(self.lines.busy.len());
        let arriving = ARRIVALS_PER_TURN.min(self.lines.arriving.len());
        for _ in 0..busy {
            let next = self.lines.busy.pop_front();
            next.into_iter().for_each(|conn| self.visit(now, conn));
        }
        for _ in 0..arriving {
            let next = self.lines.arriving.pop_front();
            next.into_iter().for_each(|conn| self.visit(now, conn));
        }
    }

    /// Hears one connection, for as long as fairness allows.
    fn visit(&mut self, now: Now, id: ConnId) {
        let Some(mut entry) = self.conns.get_mut(&id) else { return };
        entry.is_busy = false;
        entry.conn.begin();
        for _ in 0..MESSAGES_PER_TURN {
            let Some(incoming) = entry.conn.receive_with(&mut self.readers) else { break };
            self.hear(now, id, &incoming);
            let Some(still) = self.conns.get_mut(&id) else { return };
            entry = still;
        }
        if entry.conn.is_over() {
            self.finish(now, id);
            self.run(now);
            return;
        }
        let can_flush = !entry.is_unflushed && entry.conn.can_flush();
        if entry.conn.has_more() {
            self.lines.join(id, entry);
        }
        if can_flush && !self.core.inspect().planted().is(Bug::LostWakeUp) {
            self.queue_flush(id);
        }
    }

    fn hear(&mut self, now: Now, conn: ConnId, incoming: &Incoming) {
        let message = match incoming {
            Incoming::Request(request) => {
                return self.feed(now, Input::Request { conn, head: request.head() });
            }
            Incoming::Body(body) => return self.feed(now, Input::Body { conn, body }),
            Incoming::BadHead(problem) => {
                return self.feed(now, Input::BadHead { conn, problem: *problem });
            }
            Incoming::Gone => {
                self.tell_parting(now, conn);
                self.give_until(conn, now.mono + LAST_WORDS);
                if let Some(entry) = self.conns.get_mut(&conn) {
                    entry.told = true;
                }
                return self.feed(now, Input::Closed { conn });
            }
            Incoming::Text(text) => Message::Text(text.as_str()),
            Incoming::Ping => Message::Ping,
            Incoming::Pong => Message::Pong,
            Incoming::Binary => Message::Binary,
            Incoming::TooLarge => Message::TooLarge,
            Incoming::Breach(rule) => Message::Breach(rule),
            Incoming::NotUtf8 => Message::NotUtf8,
        };
        self.feed(now, Input::Message { conn, message });
    }

    fn flush(&mut self, now: Now, id: ConnId) {
        let Some(entry) = self.conns.get_mut(&id) else { return };
        entry.is_unflushed = false;
        let gone = entry.conn.flush();
        if gone > 0 && !entry.told {
            self.causes.push_back(Cause::Flushed(id, gone));
        }
        if entry.conn.is_over() {
            self.finish(now, id);
        } else if entry.conn.has_more() {
            // It was not read as long as it took nothing.
            self.lines.join(id, entry);
        }
    }

    /// Gives a connection's stream back; the core hears of it, if it has not.
    fn finish(&mut self, now: Now, id: ConnId) {
        if self.conns.get(&id).is_some_and(|entry| !entry.told) {
            self.tell_parting(now, id);
        }
        let Some(entry) = self.conns.remove(&id) else { return };
        if let Some(at) = entry.ends {
            self.ending.remove(&(at, id));
        }
        if !entry.told {
            self.causes.push_back(Cause::Closed(id));
        }
        self.closed.push((id, entry.conn.into_stream()));
    }

    /// A connection that ends is given until then to take the last words.
    fn give_until(&mut self, id: ConnId, at: Mono) {
        let Some(entry) = self.conns.get_mut(&id) else { return };
        if entry.ends.is_none_or(|before| at < before) {
            if let Some(before) = entry.ends.replace(at) {
                self.ending.remove(&(before, id));
            }
            self.ending.insert((at, id));
        }
    }

    fn feed(&mut self, now: Now, input: Input<'_>) {
        self.step(now, input);
        self.run(now);
    }

    /// One step of the core. Its effects wait to be run.
    fn step(&mut self, now: Now, input: Input<'_>) {
        debug_assert!(self.effects.is_empty(), "effects run before the next input");
        self.witness.before(&self.core, now, &input);
        self.core.handle(now, input, &mut self.effects);
        self.witness.after(&self.core, &self.effects);
    }

    /// Runs the effects, and what they cause, until there are no more.
    fn run(&mut self, now: Now) {
        loop {
            if !self.effects.is_empty() {
                let mut effects = std::mem::take(&mut self.effects);
                for effect in effects.drain(..) {
                    self.perform(now, effect);
                }
                self.effects = effects;
            }
            let Some(cause) = self.causes.pop_front() else { return };
            let input = match cause {
                Cause::Verified(conn, outcome) => Input::Verified { conn, outcome: *outcome },
                Cause::Flushed(conn, bytes) => Input::Flushed { conn, bytes },
                Cause::Closed(conn) => Input::Closed { conn },
            };
            self.step(now, input);
        }
    }

    fn perform(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Send { conn, text } => self.say(conn, |it| it.send(text)),
            Effect::Ping { conn } => self.say(conn, Conn::ping),
            Effect::Upgrade { conn, message_bytes } => {
                self.say(conn, |it| it.upgrade(message_bytes));
                // Frames may have come with the head.
                self.queue(conn);
            }
            Effect::Allow { conn, message_bytes } => self.say(conn, |it| it.allow(message_bytes)),
            Effect::Share { conn, origin } => self.say(conn, |it| it.share(origin)),
            Effect::Body { conn, length } => {
                self.say(conn, |it| it.take_body(length));
                // It may have come with the head.
                self.queue(conn);
            }
            Effect::Stream { conn } => {
                self.say(conn, Conn::stream_events);
                self.queue(conn);
            }
            Effect::Respond { conn, response } => self.respond(now, conn, &response),
            Effect::Close { conn, code, reason } => self.close(now, conn, code, &reason),
            Effect::Read { conn, on } => {
                self.say(conn, |it| it.read(on));
                if on {
                    // What was buffered meanwhile brings no edge.
                    self.queue(conn);
                }
            }
            Effect::Verify { conn, token } => {
                if self.conns.get(&conn).is_some_and(|entry| !entry.told) {
                    let outcome = (self.verify)(token.reveal());
                    self.causes.push_back(Cause::Verified(conn, Box::new(outcome)));
                }
            }
            Effect::Append { id, records } => {
                self.storage.append(id, records);
                self.appended = true;
            }
            Effect::Load { load, query } => self.storage.load(load, query),
            Effect::Backup { name } => self.storage.back_up(&name),
            Effect::Webhook { run, body } => self.calls.push(Call { run, body }),
            Effect::Note(note) => self.note(now, &note),
            Effect::Audit(audit) => self.log.trail(now.mono, &audit),
            Effect::Exit => {
                self.log.end();
                self.is_over = true;
            }
        }
    }

    fn note(&mut self, now: Now, note: &Note) {
        if let Some((conn, peer)) = self.log.write(now.mono, note)
            && let Some(entry) = self.conns.get_mut(&conn)
        {
            entry.peer = peer;
        }
    }

    /// A peer has gone, and not since it was told to.
    fn tell_parting(&mut self, now: Now, id: ConnId) {
        if let Some(entry) = self.conns.get(&id).filter(|entry| entry.ends.is_none()) {
            let why = entry.conn.parting().unwrap_or(&Parting::Gone);
            self.log.gone(now.mono, id, why, entry.peer);
        }
    }

    /// Does something to a connection, unless it is gone meanwhile, and has it flushed.
    fn say(&mut self, id: ConnId, what: impl FnOnce(&mut Conn<S>)) {
        let Some(entry) = self.conns.get_mut(&id) else { return };
        what(&mut entry.conn);
        if !std::mem::replace(&mut entry.is_unflushed, true) {
            self.unflushed.push_back(id);
        }
    }

    fn respond(&mut self, now: Now, id: ConnId, response: &Response) {
        let metrics = match (&response.content, &mut self.metrics) {
            (Content::Metrics, Some(metrics)) => metrics.told(now.mono, &self.core.inspect()).to_owned(),
            _ => String::new(),
        };
        self.say(id, |it| it.respond_with(response, &metrics));
        self.give_until(id, now.mono + ANSWER);
    }

    fn close(&mut self, now: Now, id: ConnId, code: CloseCode, reason: &str) {
        let peer = self.conns.get(&id).map_or(Peer::Stranger, |entry| entry.peer);
        self.log.closed(now.mono, id, code, reason, peer);
        self.say(id, |it| it.close(code, reason));
        // To a peer that has taken nothing for long, or is not there, one attempt is enough.
        let hopeless = matches!(code, CloseCode::TakesNothing | CloseCode::Silent);
        self.give_until(id, if hopeless { now.mono } else { now.mono + LAST_WORDS });
    }
}

impl<S: Read + Write, J: Storage, W: Witness> fmt::Debug for Pump<S, J, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pump").field("conns", &self.conns.len()).finish_non_exhaustive()
    }
}
