//! What people are told besides events (PROTOCOL §5): where their run stands in the queue, that it works,
//! that they are behind, that the connection lives. Notices are not stored, and go to all of a user's
//! devices.

use crate::Core;
use crate::conn::text;
use crate::context::{Context, RunOf};
use crate::deadlines::Timer;
use crate::effect::Effects;
use crate::ids::{ConnId, Lane, RunId, Topic, User};
use crate::planted::Bug;
use crate::queue::Order;
use crate::run::{Phase, Run};
use crate::time::Span;
use crate::wire::json::Object;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

/// The least time between two notices of one run's place.
const CHANGE_EVERY: Span = Span::secs(1);

/// Whether a run waits, and its user may know.
fn is_queued(context: &Context, run: &RunId) -> bool {
    context.runs.get(run).is_some_and(|run| run.phase == Phase::Queued { is_durable: true })
}

impl Core {
    /// The queue has changed: those in it are looked at soon, and together.
    pub(crate) fn notice_queue(&mut self) {
        let soon = self.config.delivery.first_notice.ratio(1, 5);
        self.deadlines.set_earlier(Timer::Queue, self.now.mono + soon);
    }

    /// Tells every queued run's user where it stands, if that is news, or was last said long ago.
    pub(crate) fn on_notice_queue(&mut self, out: &mut Effects) {
        let mut next: Option<Span> = None;
        let mut told: Vec<(RunOf, u64, String)> = Vec::new();
        for (user, run, ahead) in self.standing() {
            let Some(context) = self.users.get(&user) else { continue };
            let Some(state) = context.runs.get(&run) else { continue };
            let position = ahead.map_or(0, |ahead| ahead + 1);
            let due = self.until_notice(state, position);
            if due == Span::ZERO {
                let notice = self.queue_notice(&user, &run, ahead);
                told.push((RunOf { user, run }, position, notice));
            }
            let due = if due == Span::ZERO { self.config.delivery.backlog_every } else { due };
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        let now = self.now.mono;
        for (of, position, notice) in told {
            if let Some(run) = self.run_mut(&of) {
                run.told = Some((position, now));
            }
            for id in self.notify(&of.user, notice, out) {
                self.owe_notice(id, &of.run);
            }
        }
        if let Some(next) = next {
            self.deadlines.set(Timer::Queue, now + next);
        }
    }

    /// All runs that wait for a worker to begin, with how many are ahead; none for those that are offered.
    fn standing(&self) -> Vec<(User, RunId, Option<u64>)> {
        let mut all = Vec::new();
        let mut order = Order::new(self);
        for user in &self.queue.turns {
            let Some(context) = self.users.get(user) else { continue };
            for (index, id) in context.waiting.iter().enumerate() {
                let ahead = order.ahead(index);
                debug_assert_eq!(ahead, self.ahead(user, index), "one by one it is the same");
                if is_queued(context, id) {
                    all.push((user.clone(), id.clone(), Some(ahead)));
                }
            }
            order.pass(context.waiting.len());
        }
        for worker in self.workers.values() {
            for (run, user) in &worker.runs {
                let offered = self.users.get(user).and_then(|context| context.runs.get(run));
                if offered.is_some_and(|run| matches!(run.phase, Phase::Offered(_) | Phase::Starting(_))) {
                    all.push((user.clone(), run.clone(), None));
                }
            }
        }
        all
    }

    /// A user's queued runs, with how many are ahead.
    fn queued_of(&self, user: &User) -> Vec<(RunId, u64)> {
        let Some(context) = self.users.get(user) else { return Vec::new() };
        let waiting = context.waiting.iter().enumerate().filter(|(_, run)| is_queued(context, run));
        waiting.map(|(index, run)| (run.clone(), self.ahead(user, index))).collect()
    }

    fn owe_notice(&mut self, id: ConnId, run: &RunId) {
        let most = self.config.runs.queued_per_user;
        if let Some(me) = self.user_conn(id).filter(|me| me.owed.len() < most) {
            me.owed.insert(run.clone());
        }
    }

    /// The network takes something again: first of all where those runs stand of which that could not be
    /// said, in the queue or in their time.
    pub(crate) fn notice_owed(&mut self, id: ConnId, out: &mut Effects) {
        let Some(me) = self.user_conn(id).filter(|me| !me.owed.is_empty()) else { return };
        let (owed, user) = (mem::take(&mut me.owed), me.identity.user.clone());
        for (run, ahead) in self.queued_of(&user) {
            if owed.contains(&run) {
                let notice = bytes::Bytes::from(self.queue_notice(&user, &run, Some(ahead)));
                if !self.send_notice(id, notice, out) {
                    self.owe_notice(id, &run);
                }
            }
        }
        for run in owed {
            self.tell_timeout(id, &RunOf { user: user.clone(), run }, out);
        }
    }

    /// How long until a run's user is to be told where it stands.
    fn until_notice(&self, run: &Run, position: u64) -> Span {
        let Some((told, at)) = run.told else { return Span::ZERO };
        let every = if told == position { self.config.delivery.backlog_every } else { CHANGE_EVERY };
        every - self.now.mono.since(at)
    }

    fn queue_notice(&self, user: &User, id: &RunId, ahead: Option<u64>) -> String {
        let context = self.users.get(user).expect("a queued run's context is in memory");
        let run = context.runs.get(id).expect("a queued run is in its context");
        let (reason, why) = match ahead {
            Some(_) => self.why_waiting(context, run),
            None => ("starting", "A worker has been asked to take it."),
        };
        let before = match ahead {
            None => String::new(),
            Some(0) => String::from("You are next. "),
            Some(1) => String::from("1 run is ahead of yours. "),
            Some(ahead) => format!("{ahead} runs are ahead of yours. "),
        };
        Object::message("notice")
            .str("notice", "queue")
            .str("run", id.as_str())
            .raw("position", ahead.map_or(0, |ahead| ahead + 1))
            .raw("ahead", ahead.unwrap_or(0))
            .raw("waiting", self.queue.waiting)
            .maybe_raw("eta_ms", ahead.and_then(|ahead| self.eta_ms(&run.spec.agent, ahead)))
            .raw("waited_ms", run.waited(self.now).as_millis())
            .str("reason", reason)
            .str("message", &format!("{before}{why}"))
            .finish()
    }

    /// Most of an attempt's time is used up.
    pub(crate) fn on_timeout_soon(&mut self, run: &RunId, out: &mut Effects) {
        let Some(of) = self.run_of(run) else { return };
        let Some(notice) = self.timeout_notice(&of) else { return };
        for id in self.notify(&of.user, notice, out) {
            self.owe_notice(id, &of.run);
        }
    }

    /// Of which of its user's runs most of the time is used up, for a connection that was not there to hear
    /// it.
    pub(crate) fn tell_timeouts(&mut self, id: ConnId, out: &mut Effects) {
        let Some(user) = self.conns.get(&id).and_then(|conn| conn.user()).cloned() else { return };
        let runs = self.users.get(&user).into_iter().flat_map(|context| context.runs.keys());
        for run in runs.cloned().collect::<Vec<_>>() {
            self.tell_timeout(id, &RunOf { user: user.clone(), run }, out);
        }
    }

    fn tell_timeout(&mut self, id: ConnId, of: &RunOf, out: &mut Effects) {
        let Some(notice) = self.timeout_notice(of) else { return };
        if !self.send_notice(id, bytes::Bytes::from(notice), out) {
            self.owe_notice(id, &of.run);
        }
    }

    /// That most of an attempt's time is used up, if it is.
    fn timeout_notice(&self, of: &RunOf) -> Option<String> {
        let run = self.users.get(&of.user)?.runs.get(&of.run)?;
        let (ran, timeout) = (run.ran_in_attempt(self.now), run.timeout(&self.config));
        let is_executed = matches!(run.phase, Phase::Running(_)) && !run.is_waiting();
        if !is_executed || ran < self.warned_after(timeout) || self.planted.is(Bug::NobodyWarned) {
            return None;
        }
        let notice = Object::message("notice")
            .str("notice", "timeout_soon")
            .str("run", of.run.as_str())
            .raw("running_ms", ran.as_millis())
            .raw("timeout_ms", timeout.as_millis());
        Some(notice.finish())
    }

    /// After how much of its time a run's user is warned.
    pub(crate) fn warned_after(&self, timeout: Span) -> Span {
        timeout.ratio(self.config.runs.warn_at_percent.into(), 100)
    }

    /// A run at a worker gives a sign of life from now on, should it have no events.
    pub(crate) fn watch_working(&mut self, of: &RunOf) {
        self.deadlines
            .set(Timer::Working(of.run.clone()), self.now.mono + self.config.delivery.backlog_every);
    }

    /// A running run may have had no event for a while.
    pub(crate) fn on_working(&mut self, run: &RunId, out: &mut Effects) {
        let Some(of) = self.run_of(run) else { return };
        let (now, every) = (self.now, self.config.delivery.backlog_every);
        let Some(run) = self.run_mut(&of) else { return };
        if run.is_waiting() || !matches!(run.phase, Phase::Running(_) | Phase::Cancelling(..)) {
            return;
        }
        let (kind, at) = run.last_event;
        let idle = now.mono.since(at);
        let notice = Object::message("notice")
            .str("notice", "working")
            .str("run", of.run.as_str())
            .raw("running_ms", run.ran(now).as_millis())
            .raw("idle_ms", idle.as_millis())
            .str("last_event", kind.as_str());
        let again = if idle >= every { every } else { every - idle };
        if !(idle >= every && self.planted.is(Bug::WorkingSaidOnce)) {
            self.deadlines.set(Timer::Working(of.run.clone()), now.mono + again);
        }
        if idle >= every {
            self.notify(&of.user, notice.finish(), out);
        }
    }

    /// Sees whether a connection is more than a window behind in a stream, or no longer.
    pub(crate) fn watch_backlog(&mut self, id: ConnId, lane: &Lane, out: &mut Effects) {
        let mono = self.now.mono;
        let Some((behind, is_behind)) = self.backlog(id, lane) else { return };
        let Some(cursor) = self.user_conn(id).and_then(|me| me.cursor_mut(lane)) else { return };
        if is_behind == cursor.behind_since.is_some() {
            return;
        }
        if is_behind {
            cursor.behind_since = Some(mono);
            self.tell_backlog(id, lane, behind, mono, out);
        } else {
            self.end_backlog(id, lane, out);
        }
    }

    /// A connection is not behind any more. That is said once: where there is no room for it, it is said when
    /// there is, or when the next notice would have come.
    fn end_backlog(&mut self, id: ConnId, lane: &Lane, out: &mut Effects) {
        let is_told = self.tell_backlog(id, lane, 0, self.now.mono, out);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.is_held_up |= !is_told;
        if is_told && let Some(cursor) = self.user_conn(id).and_then(|me| me.cursor_mut(lane)) {
            cursor.behind_since = None;
            self.deadlines.clear(Timer::Backlog(id, lane.clone()));
        }
    }

    /// A connection may still be behind in a stream.
    pub(crate) fn on_backlog(&mut self, id: ConnId, lane: &Lane, out: &mut Effects) {
        let Some((behind, is_behind)) = self.backlog(id, lane) else { return };
        match self.user_conn(id).and_then(|me| me.cursor(lane)?.behind_since) {
            Some(since) if is_behind => {
                self.tell_backlog(id, lane, behind, since, out);
            }
            Some(_) => self.end_backlog(id, lane, out),
            None => {}
        }
    }

    /// How many events a connection is behind, and whether that is more than a window.
    fn backlog(&self, id: ConnId, lane: &Lane) -> Option<(u64, bool)> {
        let crate::conn::Role::User(me) = &self.conns.get(&id)?.role else { return None };
        let head = self.stream_of(&me.identity.user, lane)?.head();
        let cursor = me.cursor(lane)?;
        Some((cursor.behind(head), cursor.is_behind(head)))
    }

    /// Tells how many events wait. Whether there was room for that.
    fn tell_backlog(
        &mut self,
        id: ConnId,
        lane: &Lane,
        behind: u64,
        since: crate::Mono,
        out: &mut Effects,
    ) -> bool {
        let message = if behind == 0 {
            String::from("You are up to date.")
        } else {
            format!("{behind} events wait for this device.")
        };
        let notice = Object::message("notice")
            .str("notice", "backlog")
            .maybe_str("topic", lane.topic().map(Topic::as_str))
            .raw("behind", behind)
            .raw("oldest_ms", self.now.mono.since(since).as_millis())
            .str("message", &message);
        let again = self.now.mono + self.config.delivery.backlog_every;
        self.deadlines.set(Timer::Backlog(id, lane.clone()), again);
        self.send_notice(id, text(notice), out)
    }

    /// Tells all of a user's devices. Returns those whose network takes nothing.
    fn notify(&mut self, user: &User, notice: String, out: &mut Effects) -> Vec<ConnId> {
        let notice = bytes::Bytes::from(notice);
        let is_odd = self.planted.is(Bug::NoticeToWrongUser);
        let user = if is_odd { self.users.keys().next().unwrap_or(user) } else { user };
        let mut conns = self.conns_of(user);
        conns.retain(|id| !self.send_notice(*id, notice.clone(), out));
        conns
    }

    /// A notice does not wait for a network that takes nothing: tells whether it was sent.
    pub(crate) fn send_notice(&mut self, id: ConnId, notice: bytes::Bytes, out: &mut Effects) -> bool {
        let cap = self.config.server.output;
        let is_sse = self.user_conn(id).is_some_and(|me| me.sse.is_some());
        let notice = if is_sse { crate::sse::notice(&notice) } else { notice };
        let has_room = self.conns.get(&id).is_some_and(|conn| conn.has_room(notice.len(), cap));
        if has_room {
            self.send(id, notice, out);
        }
        has_room
    }

    /// A connection may have been sent nothing, or may have said nothing, for a while.
    pub(crate) fn on_heartbeat(&mut self, id: ConnId, out: &mut Effects) {
        let (now, every) = (self.now, self.config.server.heartbeat);
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.is_closing) else { return };
        let quiet = now.mono.since(conn.last_out());
        let unheard = now.mono.since(conn.last_in);
        let (is_quiet, is_unheard) = (quiet >= every, unheard >= every);
        let until_quiet = if is_quiet { every } else { every - quiet };
        let until_unheard = if is_unheard { every } else { every - unheard };
        self.deadlines.set(Timer::Heartbeat(id), now.mono + until_quiet.min(until_unheard));
        if conn.outstanding() > 0 || !(is_quiet || is_unheard || conn.is_unmeasured()) {
            return;
        }
        if let crate::conn::Role::User(me) = &conn.role
            && let Some(sse) = &me.sse
        {
            let context = self.users.get(&me.identity.user).filter(|_| me.is_welcome);
            let comment = context.map(|context| sse.comment(context.stream.epoch(), me.cursor.sent()));
            return comment.into_iter().for_each(|comment| self.send(id, comment, out));
        }
        // Whoever only watches has nothing to say: a ping makes it give a sign of life.
        conn.ping(now.mono, out);
        if !is_quiet || !conn.is_welcome() {
            return;
        }
        let mut heartbeat = Object::message("heartbeat").raw("ts", now.wall.0);
        if let crate::conn::Role::User(me) = &conn.role
            && let Some(context) = self.users.get(&me.identity.user)
        {
            heartbeat = heartbeat.raw("head", context.stream.head()).raw("at", me.cursor.sent());
        }
        self.send(id, text(heartbeat), out);
    }
}
