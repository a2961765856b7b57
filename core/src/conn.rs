//! One connection as the core sees it: who it is by now, what waits to be handled, what waits for the
//! network.

use crate::api::Request;
use crate::config::Server;
use crate::cursor::Cursor;
use crate::deadlines::{Deadlines, Timer};
use crate::effect::{Effect, Effects};
use crate::expiry::Refresh;
use crate::handshake::{Greeting, Identity};
use crate::ids::{ConnId, Device, Epoch, Lane, RunId, Topic, User};
use crate::limits::Rate;
use crate::sse::Sse;
use crate::time::{Mono, Now, Span, WallMs};
use crate::wire::call::Call;
use crate::wire::error::{CloseCode, Code, Refusal};
use crate::wire::json::Object;
use crate::wire::topic::Subscription;
use crate::wire::user::From;
use crate::worker::WorkerKey;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::IpAddr;

/// Messages that may wait to be handled (PROTOCOL §3).
const INBOX_MESSAGES: usize = 64;
/// Their bytes.
const INBOX_BYTES: usize = 256 * 1024;

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) id: ConnId,
    pub(crate) peer: IpAddr,
    pub(crate) role: Role,
    /// An answer from outside is awaited: messages wait in the inbox until it is there.
    pub(crate) is_busy: bool,
    /// A close was asked for: nothing more is read or sent.
    pub(crate) is_closing: bool,
    pub(crate) last_in: Mono,
    pub(crate) rate: Rate,
    inbox: VecDeque<String>,
    inbox_bytes: usize,
    is_read: bool,
    last_out: Mono,
    /// When the ping left that is not answered.
    pinged: Option<Mono>,
    round_trip: Option<Span>,
    sent: u64,
    flushed: u64,
    /// An event waits until others have left.
    pub(crate) is_held_up: bool,
}

/// What a connection is by now.
#[derive(Debug)]
pub(crate) enum Role {
    /// Its request head is being read, or was answered.
    Http,
    /// It has asked for something, which is being carried out.
    Request(Box<Request>),
    /// It has asked for a WebSocket and is not welcome yet.
    Greeting(Box<Greeting>),
    /// A user's.
    User(Box<UserConn>),
    /// A worker's.
    Worker(Box<WorkerConn>),
}

impl Role {
    /// A worker's, whose welcome is on its way.
    pub(crate) fn worker(key: WorkerKey, expires: WallMs) -> Self {
        Self::Worker(Box::new(WorkerConn { key, expires, is_welcome: false, unacked: 0 }))
    }

    /// What is told whoever sends a longer message than is taken of it.
    pub(crate) fn too_large(&self, server: &Server) -> Refusal {
        let measure = "measure before sending";
        let (limit, hint) = match self {
            Self::Greeting(greeting) => {
                (greeting.message_bytes(server), "measure before sending, and send the token in the head")
            }
            Self::Worker(_) => (server.worker_message, measure),
            Self::Http | Self::Request(_) | Self::User(_) => (server.message, measure),
        };
        let message = format!("expected a message of at most {limit} bytes");
        Refusal::new(Code::TooLarge, message, hint)
    }
}

/// A user's connection.
#[derive(Debug)]
pub(crate) struct UserConn {
    pub(crate) identity: Identity,
    /// The device, none for a viewer.
    pub(crate) device: Option<Device>,
    /// What it was told of itself, when the daemon named it and it is not stored yet.
    pub(crate) is_device_stored: bool,
    pub(crate) from: From,
    /// Which of its client's calls it is.
    pub(crate) call: Option<Call>,
    pub(crate) cursor: Cursor,
    /// The topics that it reads, and how far it is in each.
    pub(crate) topics: BTreeMap<Topic, Cursor>,
    /// The topics that it has asked for, until its `welcome` answers that.
    pub(crate) asked: Vec<Subscription>,
    pub(crate) is_welcome: bool,
    /// Runs of whose place in the queue, or of the end of whose time, it could not be told. At most those
    /// that the user may queue.
    pub(crate) owed: BTreeSet<RunId>,
    /// It was told that its token is about to expire.
    pub(crate) is_expiry_told: bool,
    /// A newer token that is being looked at.
    pub(crate) refresh: Option<Refresh>,
    /// Its messages leave as server-sent events.
    pub(crate) sse: Option<Sse>,
}

impl UserConn {
    /// How far it is in one of its streams; none if it does not read that.
    pub(crate) fn cursor(&self, lane: &Lane) -> Option<&Cursor> {
        match lane {
            Lane::Own => Some(&self.cursor),
            Lane::Topic(topic) => self.topics.get(topic),
        }
    }

    /// The same, to be changed.
    pub(crate) fn cursor_mut(&mut self, lane: &Lane) -> Option<&mut Cursor> {
        match lane {
            Lane::Own => Some(&mut self.cursor),
            Lane::Topic(topic) => self.topics.get_mut(topic),
        }
    }

    /// The next event as it leaves; none if this connection is not sent it. Topics go over WebSockets alone.
    pub(crate) fn frame(&self, lane: &Lane, epoch: &Epoch, event: Bytes) -> Option<Bytes> {
        match (&self.sse, lane) {
            (Some(sse), Lane::Own) => sse.event(epoch, self.cursor.sent() + 1, &event),
            (None, _) | (_, Lane::Topic(_)) => Some(event),
        }
    }
}

/// A worker's connection.
#[derive(Debug)]
pub(crate) struct WorkerConn {
    pub(crate) key: WorkerKey,
    /// When its token is good no longer. It connects anew with another: nothing of its runs is lost by that.
    pub(crate) expires: WallMs,
    pub(crate) is_welcome: bool,
    /// Messages that are not acknowledged yet.
    pub(crate) unacked: usize,
}

/// Whether a message can be handled now.
pub(crate) enum Turn {
    /// It can.
    Now,
    /// It was put into the inbox.
    Later,
    /// There is no room: what was sent before the welcome is too much.
    TooMuch,
}

impl Conn {
    pub(crate) fn new(id: ConnId, peer: IpAddr, now: Mono) -> Self {
        Self {
            id,
            peer,
            role: Role::Http,
            is_busy: false,
            is_closing: false,
            last_in: now,
            rate: Rate::default(),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            is_read: true,
            last_out: now,
            pinged: None,
            round_trip: None,
            sent: 0,
            flushed: 0,
            is_held_up: false,
        }
    }

    /// The user, if this is a user's connection.
    pub(crate) fn user(&self) -> Option<&User> {
        match &self.role {
            Role::User(user) => Some(&user.identity.user),
            Role::Http | Role::Request(_) | Role::Greeting(_) | Role::Worker(_) => None,
        }
    }

    /// Whether its `welcome` was sent.
    pub(crate) fn is_welcome(&self) -> bool {
        match &self.role {
            Role::User(user) => user.is_welcome,
            Role::Worker(worker) => worker.is_welcome,
            Role::Http | Role::Request(_) | Role::Greeting(_) => false,
        }
    }

    /// Bytes of messages that wait for the network.
    pub(crate) const fn outstanding(&self) -> u64 {
        self.sent - self.flushed
    }

    /// All bytes of messages ever sent: where the next message ends is this plus its length.
    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    /// All bytes of messages that have left.
    pub(crate) const fn flushed(&self) -> u64 {
        self.flushed
    }

    /// Whether a message of `len` bytes fits under the cap of what may wait. One always may.
    pub(crate) const fn has_room(&self, len: usize, cap: usize) -> bool {
        len as u64 <= self.room(cap)
    }

    /// The longest message that may be sent now.
    pub(crate) const fn room(&self, cap: usize) -> u64 {
        match self.outstanding() {
            0 => u64::MAX,
            outstanding => (cap as u64).saturating_sub(outstanding),
        }
    }

    /// When it was last sent something.
    pub(crate) const fn last_out(&self) -> Mono {
        self.last_out
    }

    /// Sends a ping. Of several without an answer the first counts: that is how long the answer takes.
    pub(crate) fn ping(&mut self, now: Mono, out: &mut Effects) {
        self.pinged.get_or_insert(now);
        out.push(Effect::Ping { conn: self.id });
    }

    /// A pong has come. One that nobody asked for says nothing.
    pub(crate) fn ponged(&mut self, now: Mono) {
        self.round_trip = self.pinged.take().map(|pinged| now.since(pinged)).or(self.round_trip);
    }

    /// Whether nobody knows, nor is about to know, how long an answer takes.
    pub(crate) const fn is_unmeasured(&self) -> bool {
        self.pinged.is_none() && self.round_trip.is_none()
    }

    /// How long the newest answer to a ping took; none before the first.
    pub(crate) const fn round_trip(&self) -> Option<Span> {
        self.round_trip
    }

    /// Sends a message. `stuck_after` is how long it may wait for the network.
    pub(crate) fn send(
        &mut self,
        text: Bytes,
        now: Now,
        stuck_after: Span,
        deadlines: &mut Deadlines,
        out: &mut Effects,
    ) {
        if self.is_closing {
            return;
        }
        if self.outstanding() == 0 {
            deadlines.set(Timer::Stuck(self.id), now.mono + stuck_after);
        }
        self.sent += text.len() as u64;
        self.last_out = now.mono;
        out.push(Effect::Send { conn: self.id, text });
    }

    /// So many bytes of messages have left.
    pub(crate) fn flush(&mut self, bytes: usize, now: Now, stuck_after: Span, deadlines: &mut Deadlines) {
        self.flushed += bytes as u64;
        assert!(self.flushed <= self.sent, "only what was sent can have left");
        if self.is_closing {
            deadlines.clear(Timer::Stuck(self.id));
        } else if self.outstanding() == 0 {
            deadlines.rest(Timer::Stuck(self.id));
        } else {
            deadlines.set(Timer::Stuck(self.id), now.mono + stuck_after);
        }
    }

    /// A message has come: handled now if nothing is before it, else kept in order.
    pub(crate) fn arrive(&mut self, text: &str, output_cap: usize) -> Turn {
        if !self.is_busy && self.inbox.is_empty() && self.has_room(1, output_cap) {
            return Turn::Now;
        }
        let is_full = self.inbox.len() >= INBOX_MESSAGES || self.inbox_bytes + text.len() > INBOX_BYTES;
        if is_full && !self.is_welcome() {
            return Turn::TooMuch;
        }
        self.inbox_bytes += text.len();
        self.inbox.push_back(text.into());
        Turn::Later
    }

    /// The next message that waits, if it can be handled now.
    pub(crate) fn next(&mut self, output_cap: usize) -> Option<String> {
        if self.is_busy || self.is_closing || !self.has_room(1, output_cap) {
            return None;
        }
        let text = self.inbox.pop_front()?;
        if self.inbox.is_empty() {
            self.inbox = VecDeque::new();
        }
        self.inbox_bytes -= text.len();
        Some(text)
    }

    /// Stops reading when it has sent more than can be handled, and begins again when that is done. `is_over`
    /// is whether a window is overrun.
    pub(crate) fn pace(&mut self, is_over: bool, out: &mut Effects) {
        let is_full = self.inbox.len() >= INBOX_MESSAGES || self.inbox_bytes >= INBOX_BYTES;
        let on = !(is_over || is_full && self.is_welcome());
        if on != self.is_read && !self.is_closing {
            self.is_read = on;
            out.push(Effect::Read { conn: self.id, on });
        }
    }

    /// Whether the daemon reads it at present.
    pub(crate) const fn is_read(&self) -> bool {
        self.is_read
    }

    /// How many messages wait, and their bytes.
    pub(crate) fn inbox(&self) -> (usize, usize) {
        (self.inbox.len(), self.inbox_bytes)
    }

    /// Closes it. What belongs to it elsewhere must have been taken apart before.
    pub(crate) fn close(
        &mut self,
        code: CloseCode,
        reason: &str,
        deadlines: &mut Deadlines,
        out: &mut Effects,
    ) {
        if self.is_closing {
            return;
        }
        self.is_closing = true;
        self.inbox = VecDeque::new();
        self.inbox_bytes = 0;
        clear_timers(self.id, deadlines);
        let end = (0..=reason.len().min(123)).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        out.push(Effect::Close { conn: self.id, code, reason: reason[..end].into() });
    }
}

/// Takes back all timers of a connection.
pub(crate) fn clear_timers(id: ConnId, deadlines: &mut Deadlines) {
    for timer in [
        Timer::Head,
        Timer::Answer,
        Timer::Hello,
        Timer::Heartbeat,
        Timer::Silence,
        Timer::Stuck,
        Timer::Expiry,
    ] {
        deadlines.clear(timer(id));
    }
    // Those of topics went with the topics.
    deadlines.clear(Timer::Acks(id, Lane::Own));
    deadlines.clear(Timer::Backlog(id, Lane::Own));
}

/// A finished message as bytes.
pub(crate) fn text(object: Object) -> Bytes {
    Bytes::from(object.finish())
}
