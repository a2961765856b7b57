//! A user's events in pages (PROTOCOL §7 `GET /v1/events`), for those who have no connection.

use crate::caller::Caller;
use crate::effect::{Content, Effects};
use crate::ids::{Epoch, Lane, NAME_RULE, Thread};
use crate::record::{Found, Query};
use crate::stream::{Resume, Stream};
use crate::wire::error::{CloseCode, Code, Refusal};
use crate::wire::event::is_of_thread;
use crate::wire::json::{INTEGER_MAX, Object};
use crate::wire::query::Params;
use crate::wire::user::From;
use crate::{Core, Load};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Events of a page when nobody says otherwise, and at most. So many are looked at for a page of one thread.
const EVENTS: usize = 100;
const EVENTS_MAX: usize = 1_000;
/// Bytes of events looked at for a page, or one event.
const PAGE_BYTES: usize = 256 * 1024;

/// Which page.
#[derive(Debug)]
pub(crate) struct Page {
    epoch: Option<Epoch>,
    after: Option<u64>,
    limit: usize,
    thread: Option<Thread>,
}

impl Page {
    /// The page that a query asks for.
    pub(crate) fn read(params: &Params) -> Result<Self, Refusal> {
        let limit = params.number("limit", 1..=EVENTS_MAX as u64)?;
        Ok(Self {
            epoch: params.read("epoch", NAME_RULE, Epoch::parse)?,
            after: params.number("after", 0..=INTEGER_MAX)?,
            limit: limit.map_or(EVENTS, |limit| limit as usize),
            thread: params.read("thread", NAME_RULE, Thread::parse)?,
        })
    }

    /// Why a socket would be told of a reset where this page begins.
    fn reset(&self, stream: &Stream) -> Option<&'static str> {
        let epoch = self.epoch.clone().unwrap_or_else(|| stream.epoch().clone());
        let seq = self.after.unwrap_or(stream.floor() - 1);
        let Resume { reason, .. } = stream.resume(&From::Position { epoch, seq }, None, None);
        reason
    }

    /// The page, of these events of the stream, as far as they are durable for certain.
    fn write(&self, stream: &Stream, events: &[(u64, Bytes)]) -> Object {
        let (mut page, mut looked_at): (Vec<&str>, u64) = (Vec::new(), 0);
        for (seq, event) in events.iter().filter(|(seq, _)| *seq <= stream.head()) {
            if page.len() == self.limit {
                break;
            }
            looked_at = *seq;
            if self.thread.as_ref().is_none_or(|thread| is_of_thread(event, thread)) {
                page.push(core::str::from_utf8(event).expect("an event is JSON"));
            }
        }
        let is_end = looked_at == 0 || looked_at >= stream.head();
        let next = if is_end { String::from("null") } else { format!("{looked_at}") };
        Object::new()
            .str("epoch", stream.epoch().as_str())
            .raw("floor", stream.floor())
            .raw("head", stream.head())
            .raw("events", format!("[{}]", page.join(",")))
            .raw("next", next)
    }
}

impl Core {
    /// A page is asked for. The user's context is in memory.
    pub(crate) fn on_get_events(&mut self, caller: Caller, page: Page, out: &mut Effects) {
        let user = caller.identity.user.clone();
        if let Err(refusal) = self.check_memory() {
            self.refuse(&caller, "events", &refusal, out);
            return self.leave_memory(&user);
        }
        // What a stream is called must not change once it was said.
        self.store_stream(&user);
        if self.refuse_reset(&caller, &page, out) {
            return self.leave_memory(&user);
        }
        let stream = &self.users.get(&user).expect("a context in use is in memory").stream;
        let query = Query::Events {
            stream: stream.key().clone(),
            after: page.after.unwrap_or(stream.floor() - 1),
            events_max: if page.thread.is_some() { EVENTS_MAX } else { page.limit },
            bytes_max: PAGE_BYTES,
        };
        self.hold(&user);
        self.look_up(caller.conn, Load::Events(caller, page), query, out);
    }

    /// A page has come.
    pub(crate) fn on_events(&mut self, caller: &Caller, page: &Page, found: Found, out: &mut Effects) {
        let user = &caller.identity.user;
        self.release(user);
        let is_there = self.is_still_there(caller.conn);
        let stream = &self.users.get(user).expect("a context in use is in memory").stream;
        match stream.judge(page.after.unwrap_or(0), found) {
            Found::Events(events) if is_there => {
                // It may have been trimmed meanwhile.
                if page.after.is_none() || !self.refuse_reset(caller, page, out) {
                    self.respond_page(caller, page, &events, out);
                }
            }
            Found::Events(_) => {}
            Found::Damaged => {
                let reason = "what is stored of this stream is damaged";
                self.close(caller.conn, CloseCode::ServerError, reason, out);
            }
            Found::Rows(_) => unreachable!("events were asked for"),
        }
        self.leave_memory(user);
    }

    fn respond_page(&mut self, caller: &Caller, page: &Page, events: &[(u64, Bytes)], out: &mut Effects) {
        let context = self.users.get(&caller.identity.user).expect("a context in use is in memory");
        let (answer, is_durable) = (page.write(&context.stream, events), context.is_durable);
        if is_durable {
            return self.respond(caller.conn, 200, Content::Json(answer.finish()), out);
        }
        self.reply(caller, 200, answer);
    }

    fn refuse_reset(&mut self, caller: &Caller, page: &Page, out: &mut Effects) -> bool {
        let context = self.users.get(&caller.identity.user).expect("a context in use is in memory");
        let Some(reason) = page.reset(&context.stream) else { return false };
        self.respond_reset(caller, &Lane::Own, reason, out);
        true
    }

    /// 409: where a socket would be told of a reset.
    pub(crate) fn respond_reset(
        &mut self,
        caller: &Caller,
        lane: &Lane,
        reason: &'static str,
        out: &mut Effects,
    ) {
        let stream = self.stream_of(&caller.identity.user, lane).expect("a context in use is in memory");
        let message = match reason {
            "epoch" => "the stream has begun anew since",
            "trimmed" => "events after this position are no longer kept",
            _ => "expected a position up to the head of the stream, found one past it",
        };
        let refusal = Refusal::new(Code::Reset, message, "begin at the floor, and rebuild from there");
        let problem = crate::http::problem(Code::Reset.status(), &refusal)
            .str("reason", reason)
            .str("epoch", stream.epoch().as_str())
            .raw("floor", stream.floor());
        self.note_refusal(caller.conn, &refusal);
        self.respond(caller.conn, Code::Reset.status(), Content::Problem(problem.finish()), out);
    }
}
