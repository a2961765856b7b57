//! How long a connection may last: its token's time; for users the warning before, and a newer token in time
//! (PROTOCOL §5 `refresh`, `expiring`).

use crate::Core;
use crate::conn::{Role, text};
use crate::deadlines::Timer;
use crate::effect::{Effect, Effects, Token};
use crate::ids::{ConnId, Topic};
use crate::input::{Claims, TokenProblem};
use crate::planted::Bug;
use crate::scope::Scope;
use crate::sometimes::Sometimes;
use crate::time::Span;
use crate::wire::error::{CloseCode, Code, Refusal};
use crate::wire::json::Object;
use crate::wire::user::ok;
use alloc::string::String;
use alloc::vec::Vec;

/// How often an expiry, which is by the wall clock, is looked at again.
const EXPIRY_EVERY: Span = Span::secs(300);
/// How long before it is told.
const TOLD_BEFORE: Span = Span::secs(60);

/// A token whose signature is being looked at.
#[derive(Debug)]
pub(crate) struct Refresh {
    /// The `id` that the answer repeats.
    request: Option<String>,
}

impl Core {
    /// Whether a connection's token has expired.
    pub(crate) fn is_expired(&self, id: ConnId) -> bool {
        let Some(Role::User(me)) = self.conns.get(&id).map(|conn| &conn.role) else { return false };
        me.identity.expires.since(self.now.wall) == Span::ZERO
    }

    /// Closes a connection whose token has expired, warns one whose token is about to, or looks again later.
    pub(crate) fn watch_expiry(&mut self, id: ConnId, out: &mut Effects) {
        let (now, again) = (self.now, self.config.delivery.backlog_every);
        let Some(me) = self.user_conn(id) else { return };
        let left = me.identity.expires.since(now.wall);
        if left == Span::ZERO {
            if self.planted.is(Bug::ExpiredStays) {
                return;
            }
            return self.close(id, CloseCode::TokenExpired, "the token has expired", out);
        }
        let is_told = me.is_expiry_told;
        let next = if is_told {
            left
        } else if left > TOLD_BEFORE {
            left - TOLD_BEFORE
        } else {
            let notice = Object::message("notice").str("notice", "expiring");
            let notice = notice.raw("expires_ms", left.as_millis());
            let is_sent = self.send_notice(id, text(notice), out);
            if let Some(me) = self.user_conn(id) {
                me.is_expiry_told = is_sent;
            }
            // What found no room is said again soon.
            if is_sent { left } else { left.min(again) }
        };
        self.deadlines.set(Timer::Expiry(id), now.mono + next.min(EXPIRY_EVERY));
    }

    /// A connection's token may have expired.
    pub(crate) fn on_expiry(&mut self, id: ConnId, out: &mut Effects) {
        self.watch_expiry(id, out);
        self.watch_worker_expiry(id, out);
    }

    /// Closes a worker whose token has expired, or looks again later.
    pub(crate) fn watch_worker_expiry(&mut self, id: ConnId, out: &mut Effects) {
        let conn = self.conns.get(&id).filter(|conn| !conn.is_closing);
        let Some(Role::Worker(me)) = conn.map(|conn| &conn.role) else { return };
        let left = me.expires.since(self.now.wall);
        if left == Span::ZERO {
            self.seen.mark(Sometimes::WorkerExpired);
            return self.close(id, CloseCode::TokenExpired, "the token has expired", out);
        }
        self.deadlines.set(Timer::Expiry(id), self.now.mono + left.min(EXPIRY_EVERY));
    }

    /// A connection brings a newer token. Its other messages wait until that is judged.
    pub(crate) fn on_refresh(
        &mut self,
        id: ConnId,
        request: Option<String>,
        token: Token,
        out: &mut Effects,
    ) {
        let Some(me) = self.user_conn(id) else { return };
        me.refresh = Some(Refresh { request });
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.is_busy = true;
        }
        out.push(Effect::Verify { conn: id, token });
    }

    /// The signature of a newer token was looked at. One that is refused changes nothing.
    pub(crate) fn on_refreshed(
        &mut self,
        id: ConnId,
        outcome: Result<Claims, TokenProblem>,
        out: &mut Effects,
    ) {
        let Some(Refresh { request }) = self.user_conn(id).and_then(|me| me.refresh.take()) else { return };
        let judged = self.judge(&[Scope::User], outcome);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.is_busy = false;
        let Role::User(me) = &mut conn.role else { return };
        let judged = judged.map_err(|unfit| unfit.refusal).and_then(|identity| {
            if identity.user == me.identity.user {
                return Ok(identity);
            }
            let message = "expected a token of the same user; found one that names another";
            Err(Refusal::new(Code::TokenSubject, message, "open a connection of its own for another user"))
        });
        match judged {
            Err(refusal) => self.send_error(id, Some("refresh"), request.as_deref(), &refusal, out),
            Ok(identity) => {
                (me.identity, me.is_expiry_told) = (identity, false);
                self.answer_refresh(id, request.as_deref(), out);
            }
        }
        self.take_inbox(id, out);
    }

    fn answer_refresh(&mut self, id: ConnId, request: Option<&str>, out: &mut Effects) {
        let now = self.now.wall;
        let Some(me) = self.user_conn(id) else { return };
        let identity = me.identity.clone();
        let topics: Vec<Topic> = me.topics.keys().cloned().collect();
        let ended: Vec<Topic> =
            topics.into_iter().filter(|topic| self.check_reader(&identity, topic).is_err()).collect();
        for topic in &ended {
            self.seen.mark(Sometimes::TopicEnded);
            if !self.planted.is(Bug::TopicOutlivesToken) {
                self.leave_topic(id, topic);
            }
        }
        let answer = ok("refresh", request)
            .raw("expires_ms", identity.expires.since(now).as_millis())
            .strings("ended", ended.iter().map(Topic::as_str));
        self.send(id, text(answer), out);
        self.watch_expiry(id, out);
    }
}
