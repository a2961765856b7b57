//! Events to a connection (PROTOCOL §4): a cursor in each stream that it reads, with a window,
//! acknowledgements and retries of its own.
//!
//! A device is never a queue: what it has not been sent lies in the stream, and is read from memory or in
//! pages from the store when the window has room.

#[cfg(test)]
mod properties;

use crate::config::{Delivery, Server};
use crate::conn::Role;
use crate::deadlines::Timer;
use crate::effect::{Effect, Effects};
use crate::ids::{ConnId, Lane, Owner};
use crate::planted::{Bug, Planted};
use crate::record::{Found, Query, StreamKey};
use crate::sometimes::{Seen, Sometimes};
use crate::stream::{Resume, Stream};
use crate::time::{Mono, Span};
use crate::view::CursorView;
use crate::wire::error::{CloseCode, Code, Refusal};
use crate::wire::event::redelivery;
use crate::{Core, Load, odd};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes of events unacknowledged at once on a connection, or one event (PROTOCOL §4).
const WINDOW_BYTES: usize = 1024 * 1024;
/// Events of one page from the store.
const PAGE_EVENTS: usize = 256;
/// Bytes of one page from the store, or one event.
const PAGE_BYTES: usize = 128 * 1024;

/// The longest event, in bytes: what a worker may send, and its envelope.
pub(crate) const fn event_bytes(server: &Server) -> usize {
    server.worker_message + 4096
}

/// How far a connection is in a stream.
#[derive(Debug)]
pub(crate) struct Cursor {
    resume: Resume,
    window: usize,
    is_viewer: bool,
    /// The last seq that was sent, or where it began.
    sent: u64,
    /// The last seq that was acknowledged here, or where it began.
    acked: u64,
    unacked: VecDeque<Unacked>,
    unacked_bytes: usize,
    /// Retries of the oldest unacknowledged event so far.
    round: u32,
    /// The next seq to be sent again, while a retry goes out.
    again: Option<u64>,
    page: Page,
    /// Since when it is more than a window behind.
    pub(crate) behind_since: Option<Mono>,
    planted: Planted,
}

#[derive(Debug)]
struct Unacked {
    len: usize,
    /// The count of the connection's bytes at which its last copy ends.
    ends: u64,
}

/// A page from the store.
#[derive(Debug, Default)]
enum Page {
    #[default]
    None,
    Asked,
    Here(VecDeque<(u64, Bytes)>),
}

/// What can be sent next.
enum Next {
    /// This event, as it is to be sent.
    Event(Bytes),
    /// Nothing, until something happens.
    Nothing,
    /// A page must be read that begins after this seq.
    Page(u64),
}

impl Cursor {
    pub(crate) fn new(window: u32, is_viewer: bool, planted: Planted) -> Self {
        let resume = Resume { status: "fresh", reason: None, from: 0 };
        Self {
            resume,
            window: window as usize,
            is_viewer,
            sent: 0,
            acked: 0,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            round: 0,
            again: None,
            page: Page::None,
            behind_since: None,
            planted,
        }
    }

    /// Puts it at its beginning.
    pub(crate) fn begin(&mut self, resume: Resume) {
        self.sent = resume.from;
        self.acked = resume.from;
        self.resume = resume;
    }

    pub(crate) const fn resume(&self) -> &Resume {
        &self.resume
    }

    pub(crate) const fn window(&self) -> usize {
        self.window
    }

    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) const fn acked(&self) -> u64 {
        self.acked
    }

    /// What it still needs begins after this seq.
    pub(crate) const fn needs_after(&self) -> u64 {
        if self.is_viewer { self.sent } else { self.acked }
    }

    /// Events that have not been acknowledged, sent or not; for a viewer, that have not been sent.
    pub(crate) const fn behind(&self, head: u64) -> u64 {
        head.saturating_sub(self.needs_after())
    }

    /// Events that were sent and not acknowledged, and their bytes.
    pub(crate) fn unacked(&self) -> (usize, usize) {
        (self.unacked.len(), self.unacked_bytes)
    }

    /// Whether it needs events that its stream has no longer.
    pub(crate) fn is_overtaken(&self, stream: &Stream) -> bool {
        self.needs_after() + 1 < stream.floor()
    }

    /// Whether the next event would be sent if it were there.
    pub(crate) fn is_open(&self) -> bool {
        let is_window_open = self.is_viewer
            || self.unacked.is_empty()
            || (self.unacked.len() < self.window && self.unacked_bytes < WINDOW_BYTES);
        is_window_open && self.again.is_none()
    }

    /// How far it is, as seen from outside.
    pub(crate) const fn view(&self, head: u64, is_open: bool) -> CursorView {
        let is_reading = matches!(self.page, Page::Asked);
        let Self { sent, acked, is_viewer, .. } = *self;
        CursorView { head, sent, acked, is_viewer, is_open, is_reading }
    }

    /// Everything up to `seq` is acknowledged. Returns whether that is news, none if it was never sent.
    fn ack(&mut self, seq: u64) -> Option<bool> {
        if seq > self.sent {
            return None;
        }
        if self.is_viewer || seq <= self.acked {
            return Some(false);
        }
        for _ in self.acked..seq {
            let gone = self.unacked.pop_front().expect("what lies between is unacknowledged");
            self.unacked_bytes -= gone.len;
        }
        self.acked = seq;
        self.round = 0;
        // The device lives: the rest was sent once and gets its time anew.
        self.again = None;
        Some(true)
    }

    /// The event with this seq, from the stream's memory or the page.
    fn find(&mut self, stream: &Stream, seq: u64) -> Option<Bytes> {
        if let Some(entry) = stream.in_memory(seq) {
            return Some(entry.bytes.clone());
        }
        let Page::Here(events) = &mut self.page else { return None };
        while events.front().is_some_and(|(first, _)| *first < seq) {
            events.pop_front();
        }
        match events.front() {
            Some((first, bytes)) if *first == seq => Some(bytes.clone()),
            Some(_) | None => {
                self.page = Page::None;
                None
            }
        }
    }

    /// Whether as many events are unacknowledged as the window takes.
    fn is_full(&self) -> bool {
        if self.planted.is(Bug::WindowNeverReopens) {
            return self.sent - self.resume.from >= self.window as u64;
        }
        self.unacked.len() >= self.window + usize::from(self.planted.is(Bug::WindowOneTooMany))
    }

    fn is_full_of_bytes(&self) -> bool {
        self.unacked_bytes >= WINDOW_BYTES && !self.unacked.is_empty()
    }

    /// Counts which window keeps the next event from being sent, if one does.
    fn mark_full(&self, head: u64, seen: &mut Seen) {
        if self.sent < head && !self.is_viewer && self.is_full() {
            seen.mark(Sometimes::WindowFull);
        }
        if self.sent < head && !self.is_viewer && self.is_full_of_bytes() {
            seen.mark(Sometimes::WindowFullOfBytes);
        }
    }

    fn next(&mut self, stream: &Stream) -> Next {
        let seq = self.again.unwrap_or(self.sent + 1);
        if seq > stream.head() {
            self.page = Page::None;
            return Next::Nothing;
        }
        if self.again.is_none() && !self.is_viewer && (self.is_full() || self.is_full_of_bytes()) {
            return Next::Nothing;
        }
        match self.find(stream, seq) {
            Some(bytes) if self.again.is_some() => {
                assert!(self.round > 0, "what is sent again is a retry");
                Next::Event(redelivery(&bytes, self.round))
            }
            Some(bytes) => Next::Event(bytes),
            None if matches!(self.page, Page::Asked) => Next::Nothing,
            None => Next::Page(seq - 1),
        }
    }

    /// A viewer is not sent this event.
    fn pass_over(&mut self) {
        assert!(self.is_viewer, "a device is sent every event");
        self.sent += 1;
        self.acked = self.sent;
    }

    /// An event was sent; its bytes end at `ends`.
    fn sent_one(&mut self, len: usize, ends: u64) {
        if let Some(seq) = self.again {
            let index = usize::try_from(seq - self.acked - 1).expect("a window fits in memory");
            self.unacked[index].ends = ends;
            self.again = Some(seq + 1).filter(|next| *next <= self.sent);
            if self.planted.is(Bug::RetryLosesOrder) {
                self.again = Some(seq - 1).filter(|next| *next > self.acked);
            }
            return;
        }
        self.sent += 1;
        if !self.is_viewer {
            self.unacked.push_back(Unacked { len, ends });
            self.unacked_bytes += len;
        } else {
            self.acked = self.sent;
        }
    }
}

/// How long to wait for an acknowledgement in this round: doubled each time, ± 20 %.
pub(crate) fn ack_wait(delivery: &Delivery, round: u32, random: u64) -> Span {
    let full = delivery.ack_timeout.times(1 << round.min(16));
    if round == 0 { full } else { full.ratio(80 + random % 41, 100) }
}

impl Core {
    /// Sends a connection all that it may be sent now, of its user's own stream first.
    pub(crate) fn deliver(&mut self, id: ConnId, out: &mut Effects) {
        self.deliver_lane(id, &Lane::Own, out);
        for lane in self.topic_lanes(id) {
            self.deliver_lane(id, &lane, out);
        }
    }

    /// The topics that a connection reads.
    fn topic_lanes(&self, id: ConnId) -> Vec<Lane> {
        let Some(Role::User(me)) = self.conns.get(&id).map(|conn| &conn.role) else { return Vec::new() };
        me.topics.keys().cloned().map(Lane::Topic).collect()
    }

    /// Sends a connection all that it may be sent now of one of its streams.
    pub(crate) fn deliver_lane(&mut self, id: ConnId, lane: &Lane, out: &mut Effects) {
        let Some(user) = self.conns.get(&id).and_then(|conn| conn.user()).cloned() else { return };
        let mut ends_retry = false;
        loop {
            let is_narrow = self.is_odd(odd::NARROW);
            let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.is_welcome() && !conn.is_closing)
            else {
                return;
            };
            let (room, sent) = (conn.room(self.config.server.output), conn.sent());
            let Role::User(me) = &mut conn.role else { return };
            let stream = match lane {
                Lane::Own => &self.users.get(&user).expect("a context in use is in memory").stream,
                Lane::Topic(topic) => &self.topics.get(topic).expect("a topic that is read has begun").stream,
            };
            let Some(cursor) = me.cursor_mut(lane) else { return };
            if cursor.is_overtaken(stream) {
                let reason = "events that it had not acknowledged are no longer kept";
                return self.close(id, CloseCode::Overtaken, reason, out);
            }
            if is_narrow && !cursor.unacked.is_empty() && cursor.again.is_none() {
                break;
            }
            match cursor.next(stream) {
                Next::Nothing => {
                    cursor.mark_full(stream.head(), &mut self.seen);
                    break;
                }
                Next::Page(after) => {
                    cursor.page = Page::Asked;
                    if cursor.again.is_some() {
                        self.seen.mark(Sometimes::PageDuringRetry);
                    }
                    let mut stream = stream.key().clone();
                    if self.planted.is(Bug::ResumeOnAnothers) {
                        stream =
                            self.users.values().next().map_or(stream, |first| first.stream.key().clone());
                    }
                    self.ask_page(id, lane, stream, after, out);
                    break;
                }
                Next::Event(bytes) => match me.frame(lane, stream.epoch(), bytes) {
                    None => me.cursor.pass_over(),
                    // It stays where it is, and is looked for again when there is room.
                    Some(bytes) if bytes.len() as u64 > room => {
                        self.seen.mark(Sometimes::OutputFull);
                        break;
                    }
                    Some(bytes) => {
                        if let Some(cursor) = me.cursor_mut(lane) {
                            let is_retry = cursor.again.is_some();
                            self.counts.send(is_retry);
                            cursor.sent_one(bytes.len(), sent + bytes.len() as u64);
                            ends_retry |= is_retry && cursor.again.is_none();
                        }
                        self.send(id, bytes, out);
                    }
                },
            }
        }
        if ends_retry {
            // The oldest may have left long ago: its clock does not wait for the others.
            self.watch_acks(id, lane);
        }
        self.watch_backlog(id, lane, out);
    }

    fn ask_page(&mut self, id: ConnId, lane: &Lane, stream: StreamKey, after: u64, out: &mut Effects) {
        let load = self.ask(Load::Page(id, lane.clone()));
        let events_max = if self.is_odd(odd::SHORT_PAGE) { 1 } else { PAGE_EVENTS };
        let query = Query::Events { stream, after, events_max, bytes_max: PAGE_BYTES };
        out.push(Effect::Load { load, query });
    }

    /// A page has come.
    pub(crate) fn on_page(&mut self, id: ConnId, lane: &Lane, found: Found, out: &mut Effects) {
        // A topic may be read no longer since, or anew from elsewhere.
        let cursor = self.user_conn(id).and_then(|me| me.cursor_mut(lane));
        let Some(cursor) = cursor.filter(|cursor| matches!(cursor.page, Page::Asked)) else { return };
        match found {
            Found::Events(events) if !events.is_empty() => {
                cursor.page = Page::Here(events.into());
                self.deliver_lane(id, lane, out);
            }
            // Trimmed since it was asked for: `deliver` sees that, too.
            Found::Events(_) => {
                cursor.page = Page::None;
                let reason = "events that it had not been sent are no longer kept";
                self.close(id, CloseCode::Overtaken, reason, out);
            }
            Found::Damaged => {
                self.close(id, CloseCode::ServerError, "what is stored of this stream is damaged", out);
            }
            Found::Rows(_) => unreachable!("events were asked for"),
        }
    }

    /// A stream has grown.
    pub(crate) fn deliver_stream(&mut self, owner: &Owner, out: &mut Effects) {
        match owner {
            Owner::User(user) => {
                for id in self.conns_of(user) {
                    self.deliver_lane(id, &Lane::Own, out);
                }
            }
            Owner::Topic(topic) => {
                let lane = Lane::Topic(topic.clone());
                let readers = self.topics.get(topic).map(|topic| topic.readers.clone()).unwrap_or_default();
                for id in readers {
                    self.deliver_lane(id, &lane, out);
                }
            }
        }
    }

    /// An acknowledgement.
    pub(crate) fn on_ack(
        &mut self,
        id: ConnId,
        lane: &Lane,
        seq: u64,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        // A topic may be read no longer since this was sent: that is nobody's mistake.
        let cursor = self.user_conn(id).and_then(|me| me.cursor_mut(lane));
        let Some(cursor) = cursor else { return Ok(()) };
        let (is_retried, before) = (cursor.again.is_some(), cursor.acked);
        match cursor.ack(seq) {
            None => {
                let message = format!("expected at most {}, found {seq}", cursor.sent);
                return Err(Refusal::new(Code::AckAhead, message, "acknowledge what was sent"));
            }
            Some(false) => return Ok(()),
            Some(true) => {}
        }
        if is_retried {
            self.seen.mark(Sometimes::AckDuringRetry);
        }
        self.count_acked(id, lane, before, seq);
        self.move_device(id, lane);
        self.deadlines.clear(Timer::Acks(id, lane.clone()));
        self.watch_acks(id, lane);
        self.deliver_lane(id, lane, out);
        Ok(())
    }

    /// Bytes have left: the clocks of those that were waited for start.
    pub(crate) fn watch_all_acks(&mut self, id: ConnId) {
        self.watch_acks(id, &Lane::Own);
        for lane in self.topic_lanes(id) {
            self.watch_acks(id, &lane);
        }
    }

    /// Starts the clock of a stream's oldest unacknowledged event, once its bytes have left.
    fn watch_acks(&mut self, id: ConnId, lane: &Lane) {
        let random = self.random();
        let delivery = &self.config.delivery;
        let Some(conn) = self.conns.get(&id) else { return };
        let Role::User(me) = &conn.role else { return };
        let Some(cursor) = me.cursor(lane) else { return };
        if let Some(oldest) = cursor.unacked.front()
            && cursor.again.is_none()
            && conn.flushed() >= oldest.ends
        {
            let mut wait = ack_wait(delivery, cursor.round, random);
            if self.planted.is(Bug::TimerEarly) {
                wait = wait.ratio(3, 4);
            }
            let at = self.now.mono + wait;
            self.deadlines.set_if_unset(Timer::Acks(id, lane.clone()), at);
        }
    }

    /// A stream's oldest unacknowledged event is overdue: all are sent again, or the connection is given up.
    pub(crate) fn on_acks_overdue(&mut self, id: ConnId, lane: &Lane, out: &mut Effects) {
        let retries = self.config.delivery.retries;
        let Some(cursor) = self.user_conn(id).and_then(|me| me.cursor_mut(lane)) else { return };
        if cursor.unacked.is_empty() {
            return;
        }
        if cursor.round >= retries {
            let reason = "events stay unacknowledged after all retries";
            return self.close(id, CloseCode::AcksOverdue, reason, out);
        }
        cursor.round += 1;
        let is_odd = cursor.planted.is(Bug::RetryLosesOrder);
        cursor.again = Some(if is_odd { cursor.sent } else { cursor.acked + 1 });
        self.counts.retries += 1;
        self.deliver_lane(id, lane, out);
    }
}
