//! The connection's side of the core: what arrives on it, in order, and what it is sent.

use crate::Core;
use crate::caller::Caller;
use crate::conn::{Conn, Role, Turn, text};
use crate::context::RunOf;
use crate::deadlines::Timer;
use crate::durable::Reveal;
use crate::effect::{Content, Effects};
use crate::ending::About;
use crate::ids::{ConnId, Owner, RunId};
use crate::input::Message;
use crate::limits::Verdict;
use crate::planted::Bug;
use crate::purge::keep;
use crate::record::Found;
use crate::run::{Ended, Phase, Run};
use crate::sometimes::Sometimes;
use crate::strangers::neighbourhood;
use crate::wire::error::{CloseCode, Code, Refusal};
use crate::wire::event::{Envelope, Kind, encode};
use crate::wire::json::Object;
use crate::wire::user::{self, Body, Input, error};
use crate::wire::worker::{Attempt, Hello, ack};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::IpAddr;
use rand::Rng;

impl Core {
    pub(crate) fn on_opened(&mut self, id: ConnId, peer: IpAddr, out: &mut Effects) {
        let conn = Box::new(Conn::new(id, peer, self.now.mono));
        assert!(self.conns.insert(id, conn).is_none(), "connection ids are never reused");
        *self.addresses.entry(neighbourhood(peer)).or_default() += 1;
        self.counts.opened += 1;
        self.deadlines.set(Timer::Head(id), self.now.mono + self.config.server.hello_timeout);
        self.check_flood(id, peer, out);
    }

    pub(crate) fn on_message(&mut self, id: ConnId, message: Message<'_>, out: &mut Effects) {
        let (mono, cap) = (self.now.mono, self.config.server.output);
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.is_closing) else { return };
        conn.last_in = mono;
        match message {
            Message::Ping => {}
            Message::Pong => conn.ponged(mono),
            Message::Text(message) => match conn.arrive(message, cap) {
                Turn::Now => self.on_text(id, message, out),
                Turn::Later => {
                    self.seen.mark(Sometimes::MessageWaits);
                    self.pace(id, out);
                }
                Turn::TooMuch => {
                    let reason = "at most 64 messages and 256 KiB before the welcome";
                    self.close(id, CloseCode::TooMuchEarly, reason, out);
                }
            },
            Message::Binary => {
                let refusal = Refusal::new(
                    Code::BadMessage,
                    "expected text messages, found a binary one",
                    "send JSON as text",
                );
                self.send_error(id, None, None, &refusal, out);
                self.close(id, CloseCode::Violation, "binary message", out);
            }
            Message::TooLarge => {
                let refusal = conn.role.too_large(&self.config.server);
                self.send_error(id, None, None, &refusal, out);
                self.close(id, CloseCode::MessageTooLarge, "message too large", out);
            }
            Message::NotUtf8 => self.close(id, CloseCode::NotUtf8, "text that is not UTF-8", out),
            Message::Breach(what) => self.close(id, CloseCode::Breach, what, out),
        }
    }

    fn on_text(&mut self, id: ConnId, message: &str, out: &mut Effects) {
        match self.conns.get(&id).map(|conn| &conn.role) {
            Some(Role::Greeting(_)) => self.on_greeting_text(id, message, out),
            Some(Role::User(_)) => self.on_user_text(id, message, out),
            Some(Role::Worker(_)) => self.on_worker_text(id, message, out),
            Some(Role::Http | Role::Request(_)) | None => {}
        }
    }

    /// Handles what waits in a connection's inbox, as far as it can be handled now.
    pub(crate) fn take_inbox(&mut self, id: ConnId, out: &mut Effects) {
        let cap = self.config.server.output;
        while let Some(message) = self.conns.get_mut(&id).and_then(|conn| conn.next(cap)) {
            self.on_text(id, &message, out);
        }
        self.pace(id, out);
    }

    fn on_user_text(&mut self, id: ConnId, message: &str, out: &mut Effects) {
        let read = user::read(message);
        let is_ack = matches!(&read, Ok(user::Request { body: Body::Ack(..), .. }));
        if !is_ack || self.planted.is(Bug::AcksCount) {
            let request = read.as_ref().map_or_else(|unread| unread.id.clone(), |request| request.id.clone());
            if !self.is_within_rate(id, request.as_deref(), out) {
                return;
            }
        }
        let request = match read {
            Ok(request) => request,
            Err(unread) => {
                let (of, request) = (unread.of.as_deref(), unread.id.as_deref());
                self.send_error(id, of, request, &unread.refusal, out);
                if of == Some("hello") {
                    self.close(id, CloseCode::Violation, &unread.refusal.message, out);
                }
                return;
            }
        };
        match request.body {
            Body::Hello(_) => {
                let refusal =
                    Refusal::new(Code::BadMessage, "expected one `hello`, found a second", "say it once");
                self.send_error(id, Some("hello"), request.id.as_deref(), &refusal, out);
                self.close(id, CloseCode::Violation, &refusal.message, out);
            }
            Body::Run(ask) => {
                let Some(caller) = self.caller(id, request.id) else { return };
                let user = caller.identity.user.clone();
                self.on_ask(caller, user, ask, out);
            }
            Body::Cancel(run) => {
                let Some(caller) = self.caller(id, request.id) else { return };
                self.on_cancel(caller, run, out);
            }
            Body::Input(input) => {
                let Some(caller) = self.caller(id, request.id) else { return };
                self.on_input(caller, input, out);
            }
            Body::Subscribe(topics) => self.on_subscribe(id, request.id, topics, out),
            Body::Refresh(token) => self.on_refresh(id, request.id, token, out),
            Body::Ack(lane, seq) => {
                // Only a refused one counts: those that are fine may come one for each event.
                if let Err(refusal) = self.on_ack(id, &lane, seq, out)
                    && self.is_within_rate(id, request.id.as_deref(), out)
                {
                    self.send_error(id, Some("ack"), request.id.as_deref(), &refusal, out);
                }
            }
            Body::Ping(n) => {
                let pong = Object::message("pong")
                    .maybe_str("id", request.id.as_deref())
                    .maybe_raw("n", n)
                    .raw("ts", self.now.wall.0);
                self.send(id, text(pong), out);
            }
        }
    }

    /// The store has said whether a run of which something is asked has ended.
    pub(crate) fn on_ended_looked_up(
        &mut self,
        caller: &Caller,
        run: &RunId,
        about: About,
        input: Option<Box<Input>>,
        found: Found,
        out: &mut Effects,
    ) {
        if let Some(rows) = self.looked_up(caller.conn, found, out) {
            let ended = crate::admission::ended(run, &rows);
            let is_seen = |ended: &Ended| caller.may(&ended.user, &ended.agent) || caller.operates(about);
            let ended = ended.filter(is_seen);
            if let Some(ended) = &ended {
                self.audit_publisher(caller, &ended.user, run, about);
            }
            let not_found = crate::admission::run_not_found();
            match (ended, about) {
                (Some(_), About::Cancel) => self.answer_cancel(caller, run, "ended", out),
                (Some(ended), About::State) => {
                    let state = caller.say_whose(ended.describe(run), &ended.user);
                    self.respond(caller.conn, 200, Content::Json(state.finish()), out);
                }
                (Some(ended), About::Input) => self.answer_late_input(caller, run, &ended, input, out),
                (None, About::Cancel | About::State) => self.refuse(caller, "cancel", &not_found, out),
                (None, About::Input) => self.refuse(caller, "input", &not_found, out),
            }
        }
        self.take_inbox(caller.conn, out);
    }

    /// The store has said how runs ended that a worker still names.
    pub(crate) fn on_worker_looked_up(&mut self, id: ConnId, hello: Hello, found: Found, out: &mut Effects) {
        match found {
            Found::Rows(rows) => self.admit_worker(id, hello, &rows, out),
            Found::Damaged => {
                self.close(id, CloseCode::ServerError, "what is stored of its runs is damaged", out);
            }
            Found::Events(_) => unreachable!("rows were asked for"),
        }
    }

    /// Counts a message for the rate limit of its connection. One that is past it is answered here.
    pub(crate) fn is_within_rate(&mut self, id: ConnId, request: Option<&str>, out: &mut Effects) -> bool {
        let (mono, limits) = (self.now.mono, &self.config.limits);
        let verdict = self.conns.get_mut(&id).map_or(Verdict::Fine, |conn| conn.rate.message(mono, limits));
        match verdict {
            Verdict::Fine => {}
            Verdict::Refuse(wait) => {
                let message = format!(
                    "expected at most {} messages a second, and {} at once",
                    limits.messages_per_second, limits.burst
                );
                let refusal = Refusal::new(Code::RateLimited, message, "send more slowly");
                self.send_error(id, None, request, &refusal.retry(wait.as_millis() + 1), out);
            }
            Verdict::Close => {
                self.close(id, CloseCode::RateLimit, "messages went on in spite of the refusals", out);
            }
        }
        verdict == Verdict::Fine
    }

    pub(crate) fn on_flushed(&mut self, id: ConnId, bytes: usize, out: &mut Effects) {
        let (now, stuck_after) = (self.now, self.config.server.stuck_after);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.flush(bytes, now, stuck_after, &mut self.deadlines);
        if conn.is_closing {
            return;
        }
        let (is_held_up, has_inbox) = (core::mem::take(&mut conn.is_held_up), conn.inbox().0 > 0);
        self.watch_all_acks(id);
        self.notice_owed(id, out);
        if is_held_up {
            self.deliver(id, out);
        }
        if has_inbox {
            self.take_inbox(id, out);
        }
    }

    pub(crate) fn on_closed(&mut self, id: ConnId) {
        self.detach(id);
        crate::conn::clear_timers(id, &mut self.deadlines);
        self.pressure.forget(id);
        let Some(conn) = self.conns.remove(&id) else { return };
        if let Role::Worker(gone) = conn.role {
            self.leave_behind(id, *gone);
        }
        self.uncount(conn.peer);
    }

    pub(crate) fn on_hello_timeout(&mut self, id: ConnId, out: &mut Effects) {
        self.close(id, CloseCode::NoHello, "no hello in time", out);
    }

    pub(crate) fn on_silence(&mut self, id: ConnId, out: &mut Effects) {
        let limit = self.config.server.heartbeat.ratio(5, 2);
        let Some(conn) = self.conns.get(&id) else { return };
        let silent = self.now.mono.since(conn.last_in);
        // Whoever is not read cannot be heard.
        let is_unheard = !conn.is_read() || self.stood_still();
        if silent < limit || is_unheard {
            let left = if is_unheard { limit } else { limit - silent };
            return self.deadlines.set(Timer::Silence(id), self.now.mono + left);
        }
        self.close(id, CloseCode::Silent, "no sign of life", out);
    }

    pub(crate) fn on_stuck(&mut self, id: ConnId, out: &mut Effects) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.is_welcome() {
            self.seen.mark(Sometimes::TookNothing);
        }
        // An HTTP answer that nobody takes is given up, too.
        conn.is_closing = false;
        self.close(id, CloseCode::TakesNothing, "output waits and none of it is taken", out);
    }

    /// Takes a connection out of what it belongs to.
    fn detach(&mut self, id: ConnId) {
        self.stop_waiting(id);
        self.leave_topics(id);
        self.leave_context(id);
        self.leave_worker(id);
    }

    /// Closes a connection.
    pub(crate) fn close(&mut self, id: ConnId, code: CloseCode, reason: &str, out: &mut Effects) {
        // What the daemon's own state closes is no fault of a stranger's.
        if !(4400..4500).contains(&(code as u16)) {
            self.count_attempt(id);
        }
        self.detach(id);
        if let Some(Role::Request(_)) = self.conns.get(&id).map(|conn| &conn.role) {
            let refusal = if code == CloseCode::Draining {
                Self::draining()
            } else {
                Refusal::new(Code::StorageUnavailable, reason, "look at the daemon's store")
            };
            return self.respond_refusal(id, &refusal, out);
        }
        if self.user_conn(id).is_some_and(|me| me.sse.is_some()) {
            self.send(id, crate::sse::close(code, reason), out);
        }
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.is_closing) {
            self.counts.close(code);
            conn.close(code, reason, &mut self.deadlines, out);
        }
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, id: ConnId, message: Bytes, out: &mut Effects) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.send(message, self.now, self.config.server.stuck_after, &mut self.deadlines, out);
        }
    }

    /// Sends an error.
    pub(crate) fn send_error(
        &mut self,
        id: ConnId,
        of: Option<&str>,
        request: Option<&str>,
        refusal: &Refusal,
        out: &mut Effects,
    ) {
        self.note_refusal(id, refusal);
        self.audit_refusal(id, of, None, refusal);
        self.send(id, text(error(of, request, refusal)), out);
    }

    /// Tells workers which of their messages are stored: of each attempt the last.
    pub(crate) fn send_acks(&mut self, mut acks: Vec<(ConnId, RunId, u64, u64)>, out: &mut Effects) {
        acks.sort_unstable();
        let mut acks = acks.into_iter().peekable();
        while let Some((conn, run, attempt, n)) = acks.next() {
            let is_same =
                |next: &(ConnId, RunId, u64, u64)| (next.0, &next.1, next.2) == (conn, &run, attempt);
            if !acks.peek().is_some_and(is_same) {
                self.send(conn, text(ack(&Attempt { run, attempt }, n)), out);
                self.pace(conn, out);
            }
        }
    }

    /// The next random number.
    pub(crate) fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Whose a run is.
    pub(crate) fn run_of(&self, run: &RunId) -> Option<RunOf> {
        self.routes.get(run).map(|user| RunOf { user: user.clone(), run: run.clone() })
    }

    /// A run in memory.
    pub(crate) fn run_mut(&mut self, of: &RunOf) -> Option<&mut Run> {
        self.users.get_mut(&of.user)?.runs.get_mut(&of.run).map(alloc::boxed::Box::as_mut)
    }

    /// An accepted run is durable: it may be offered.
    pub(crate) fn on_queued_durable(&mut self, of: &RunOf) {
        if let Some(run) = self.run_mut(of).filter(|run| run.is_queued()) {
            run.phase = Phase::Queued { is_durable: true };
            self.queue.has_changed = true;
            self.keep_promise(of);
            self.notice_queue();
        }
    }

    /// Writes an event of a run.
    pub(crate) fn write(&mut self, of: &RunOf, kind: Kind, data: &str) {
        self.write_with(of, kind, data, false);
    }

    /// The same: the one way into a user's stream. `is_told` is that [`Self::store_run`] follows.
    pub(crate) fn write_with(&mut self, of: &RunOf, kind: Kind, data: &str, is_told: bool) {
        let now = self.now;
        let context = self.users.get_mut(&of.user).expect("a run's context is in memory");
        let run = context.runs.get_mut(&of.run).expect("a run is in its context");
        let seq = context.stream.next();
        let thread = &run.spec.thread;
        let envelope = Envelope { seq, ts: now.wall, thread, run: &of.run, attempt: run.attempt, kind };
        let bytes = encode(envelope, data);
        if run.first_seq == 0 {
            run.first_seq = seq;
        }
        run.last_seq = seq;
        run.events += 1;
        run.last_event = (kind, now.mono);
        let keep = keep(&self.config.store, Some(context), now.wall, self.planted);
        self.counts.written += 1;
        context.stream.grow(bytes, now, keep, is_told, |record| self.durable.record(record));
        if context.stream.is_trimming_held(keep) {
            self.seen.mark(Sometimes::TrimHeldByRun);
        }
        if self.planted.is(Bug::SendBeforeAppended) {
            context.stream.advance(seq, true);
        }
        self.durable.reveal(Reveal::Head { owner: Owner::User(of.user.clone()), seq });
    }

    /// Stores how far a run is, and its user's stream.
    pub(crate) fn store_run(&mut self, of: &RunOf) {
        let Some(context) = self.users.get(&of.user) else { return };
        if let Some(run) = context.runs.get(&of.run).filter(|run| !run.is_ended()) {
            let row = run.state_row(&of.run, context.stream.extent(), self.now);
            self.durable.record(row);
        }
    }

    /// Stores a run's tool calls.
    pub(crate) fn store_tools(&mut self, of: &RunOf) {
        if let Some(run) = self.run_mut(of).filter(|run| !run.is_ended()) {
            let row = run.tools_row(&of.run);
            self.durable.record(row);
        }
    }
}
