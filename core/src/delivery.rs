//! Events to a connection (PROTOCOL §4): in each stream that it reads all that its cursor lets through, with
//! acknowledgements and retries.
//!
//! A device is never a queue: what it has not been sent lies in the stream, and is read from memory or in
//! pages from the store when the window has room.

use crate::config::{Delivery, Server};
use crate::conn::Role;
use crate::cursor::{Cursor, Next};
use crate::deadlines::Timer;
use crate::effect::{Effect, Effects};
use crate::few::Few;
use crate::ids::{ConnId, Lane, Owner};
use crate::planted::Bug;
use crate::record::{Found, Query, StreamKey};
use crate::sometimes::Sometimes;
use crate::time::Span;
use crate::wire::error::{CloseCode, Code, Refusal};
use crate::{Core, Load, odd};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;

/// Events of one page from the store.
const PAGE_EVENTS: usize = 256;
/// Bytes of one page from the store, or one event.
const PAGE_BYTES: usize = 128 * 1024;
/// When the timers of a turn have caused so much, what is to be sent again waits: a thousand events for
/// devices that stand still must not keep the others waiting.
const ENOUGH_EFFECTS: usize = 128;
/// Of the connections for which that waits so many come back together, a millisecond after each other.
const RETRIES_AT_ONCE: u64 = 64;

/// The longest event, in bytes: what a worker may send, and its envelope.
pub(crate) const fn event_bytes(server: &Server) -> usize {
    server.worker_message + 4096
}

/// How long to wait for an acknowledgement in this round: doubled each time, ± 20 %.
pub(crate) fn ack_wait(delivery: &Delivery, round: u32, random: u64) -> Span {
    let full = delivery.ack_timeout.times(1 << round.min(16));
    if round == 0 { full } else { full.ratio(80 + random % 41, 100) }
}

/// What came of sending events of one stream to a connection.
struct Sent {
    stop: Stop,
    /// All that was to be sent again has been.
    ends_retry: bool,
    /// It is more than a window behind since then, or no longer.
    turns_backlog: bool,
}

/// What is to be done since no more could be sent.
enum Stop {
    /// Nothing.
    Open,
    /// The connection needs events that are no longer kept.
    Overtaken,
    /// A page of this stream is needed, after this seq, with so many events.
    Page(StreamKey, u64, usize),
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
        let Some(sent) = self.send_events(id, lane, out) else { return };
        match sent.stop {
            Stop::Open => {}
            Stop::Overtaken => {
                let reason = "events that it had not acknowledged are no longer kept";
                return self.close(id, CloseCode::Overtaken, reason, out);
            }
            Stop::Page(stream, after, count) => self.ask_page(id, lane, (stream, after, count), out),
        }
        if sent.ends_retry {
            // The oldest may have left long ago: its clock does not wait for the others.
            self.watch_acks(id, lane);
        }
        if sent.turns_backlog {
            self.watch_backlog(id, lane, out);
        }
    }

    /// Sends events until something stands in the way. The connection and the stream are looked up once.
    fn send_events(&mut self, id: ConnId, lane: &Lane, out: &mut Effects) -> Option<Sent> {
        let (is_narrow, now) = (self.is_odd(odd::NARROW), self.now);
        let Self { conns, users, topics, config, deadlines, counts, seen, pressure, .. } = self;
        let conn = conns.get_mut(&id).filter(|conn| conn.is_welcome() && !conn.is_closing)?;
        let stream = match lane {
            Lane::Own => &users.get(conn.user()?).expect("a context in use is in memory").stream,
            Lane::Topic(topic) => &topics.get(topic).expect("a topic that is read has begun").stream,
        };
        let (mut ends_retry, mut stop) = (false, Stop::Open);
        loop {
            let (room, ends) = (conn.room(config.server.output), conn.sent());
            let Role::User(me) = &mut conn.role else { return None };
            let cursor = me.cursor_mut(lane)?;
            let is_retry = cursor.is_retrying();
            if cursor.is_overtaken(stream) {
                stop = Stop::Overtaken;
                break;
            }
            if is_narrow && cursor.unacked().0 > 0 && !is_retry {
                break;
            }
            match cursor.next(stream) {
                Next::Nothing => {
                    cursor.mark_full(stream.head(), seen);
                    break;
                }
                // What is sent again is little, and has its time.
                Next::Page(..) if !is_retry && pressure.sheds(id) => break,
                Next::Page(after, count) => {
                    cursor.page_asked(after);
                    if is_retry {
                        seen.mark(Sometimes::PageDuringRetry);
                    }
                    stop = Stop::Page(stream.key().clone(), after, count);
                    break;
                }
                Next::Event(seq, bytes) => match me.frame(lane, stream.epoch(), bytes) {
                    None => me.cursor.pass_over(),
                    // It stays where it is, and is looked for again when there is room.
                    Some(bytes) if bytes.len() as u64 > room => {
                        seen.mark(Sometimes::OutputFull);
                        conn.is_held_up = true;
                        break;
                    }
                    Some(bytes) => {
                        let cursor = me.cursor_mut(lane)?;
                        let before = cursor.sent();
                        cursor.sent_one(seq, bytes.len(), ends + bytes.len() as u64);
                        ends_retry |= is_retry && !cursor.is_retrying();
                        counts.send(is_retry);
                        if cursor.sent() > before + 1 {
                            counts.joined += cursor.sent() - before;
                            seen.mark(Sometimes::Joined);
                        }
                        conn.send(bytes, now, config.server.stuck_after, deadlines, out);
                    }
                },
            }
        }
        let Role::User(me) = &conn.role else { return None };
        let cursor = me.cursor(lane)?;
        let turns_backlog = cursor.is_behind(stream.head()) != cursor.behind_since.is_some();
        Some(Sent { stop, ends_retry, turns_backlog })
    }

    /// Asks for a page of a stream, after a seq, with at least so many events if they are there.
    fn ask_page(&mut self, id: ConnId, lane: &Lane, page: (StreamKey, u64, usize), out: &mut Effects) {
        let (mut stream, after, count) = page;
        if self.planted.is(Bug::ResumeOnAnothers) {
            stream = self.users.values().next().map_or(stream, |first| first.stream.key().clone());
        }
        let load = self.ask(Load::Page(id, lane.clone(), after));
        let events_max = count.max(if self.is_odd(odd::SHORT_PAGE) { 1 } else { PAGE_EVENTS });
        let query = Query::Events { stream, after, events_max, bytes_max: PAGE_BYTES };
        out.push(Effect::Load { load, query });
    }

    /// A page has come, that was asked for after this seq.
    pub(crate) fn on_page(&mut self, id: ConnId, lane: &Lane, after: u64, found: Found, out: &mut Effects) {
        // A topic may be read no longer since, or anew from elsewhere.
        let Some(me) = self.user_conn(id) else { return };
        if me.cursor(lane).and_then(Cursor::asked) != Some(after) {
            return;
        }
        let user = me.identity.user.clone();
        let found = self.stream_of(&user, lane).map_or(Found::Damaged, |stream| stream.judge(after, found));
        let Some(cursor) = self.user_conn(id).and_then(|me| me.cursor_mut(lane)) else { return };
        match found {
            Found::Events(events) if !events.is_empty() => {
                cursor.page_read(events.into());
                self.deliver_lane(id, lane, out);
            }
            // Trimmed since it was asked for: `deliver` sees that, too.
            Found::Events(_) => {
                cursor.page_read(VecDeque::new());
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
                let conns = self.users.get(user).map(|context| &context.conns);
                for id in conns.into_iter().flat_map(Few::keys).copied().collect::<Vec<_>>() {
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
        let (is_retried, before) = (cursor.is_retrying(), cursor.acked());
        match cursor.ack(seq) {
            None => {
                let message = format!("expected at most {}, found {seq}", cursor.sent());
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
        self.deadlines.rest(Timer::Acks(id, lane.clone()));
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
        let Some(conn) = self.conns.get(&id) else { return };
        let Role::User(me) = &conn.role else { return };
        let clock = me.cursor(lane).and_then(Cursor::clock);
        let Some((round, _)) = clock.filter(|(_, ends)| conn.flushed() >= *ends) else { return };
        let random = if round == 0 { 0 } else { self.random() };
        let mut wait = ack_wait(&self.config.delivery, round, random);
        if self.planted.is(Bug::TimerEarly) {
            wait = wait.ratio(3, 4);
        }
        let at = self.now.mono + wait;
        self.deadlines.set_if_unset(Timer::Acks(id, lane.clone()), at);
    }

    /// A stream's oldest unacknowledged event is overdue: all are sent again, or the connection is given up;
    /// in a later turn if this one has done enough. `later` counts those of this turn for which it is so.
    pub(crate) fn on_acks_overdue(&mut self, id: ConnId, lane: Lane, later: &mut u64, out: &mut Effects) {
        let enough = if self.is_odd(odd::LATE_RETRY) { 0 } else { ENOUGH_EFFECTS };
        if out.len() > enough {
            *later += 1;
            let turns = 1 + *later / RETRIES_AT_ONCE;
            return self.deadlines.set(Timer::Acks(id, lane), self.now.mono + Span::millis(turns));
        }
        let retries = self.config.delivery.retries;
        let Some(cursor) = self.user_conn(id).and_then(|me| me.cursor_mut(&lane)) else { return };
        if cursor.unacked().0 == 0 {
            return;
        }
        if !cursor.begin_retry(retries) {
            let reason = "events stay unacknowledged after all retries";
            return self.close(id, CloseCode::AcksOverdue, reason, out);
        }
        self.counts.retries += 1;
        self.deliver_lane(id, &lane, out);
    }
}
