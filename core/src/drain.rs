//! Going down well (PROTOCOL §5 `drain`, §7 "Draining"): nothing new is begun, everybody is told when to come
//! back, what runs may end, and then connections are closed a few at a time.
//!
//! Whatever has not ended by then stays in the store and goes on with the next start: what is queued in its
//! place, what runs with its worker, whose lease begins anew.

use crate::Core;
use crate::conn::{Role, text};
use crate::context::RunOf;
use crate::deadlines::Timer;
use crate::effect::{Content, Effect, Effects};
use crate::ids::ConnId;
use crate::planted::Bug;
use crate::record::{Record, Table};
use crate::run::Phase;
use crate::sometimes::Sometimes;
use crate::time::{Mono, Span};
use crate::wire::error::{CloseCode, Code, Refusal};
use crate::wire::json::Object;
use alloc::vec::Vec;

/// Connections that are told at once, and the time until the next are.
const TOLD_AT_ONCE: usize = 256;
const TELL_EVERY: Span = Span::millis(5);
/// Connections that are closed at once, and the time until the next are.
const CLOSED_AT_ONCE: usize = 64;
const CLOSE_EVERY: Span = Span::millis(10);
/// Time for the last peers to take the last words; the loop gives each five seconds.
const LAST_WORDS: Span = Span::secs(6);
/// The same, when there is a hurry.
const LAST_WORDS_IN_HURRY: Span = Span::secs(1);

/// The earliest time at which a client is to come back, in milliseconds: the next daemon needs some to start.
const BACK_AFTER_MS: u64 = 1_000;
/// Clients come back within this time after it: one a millisecond, but never all at once nor too late.
const SPREAD_MS: core::ops::RangeInclusive<u64> = 4_000..=60_000;
/// Answered to whoever asks for what is not begun any more, in milliseconds.
const RETRY_MS: u64 = 5_000;

/// How far the daemon is with going down.
#[derive(Debug)]
pub(crate) struct Drain {
    /// What runs may end until then.
    until: Mono,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Connections up to this one were told.
    Telling(ConnId),
    /// All were told, and runs are running.
    Waiting,
    /// Connections are closed, and waited for until then.
    Closing(Mono),
    /// The process may exit.
    Over,
}

impl Core {
    /// Whether the daemon is going down.
    pub(crate) const fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Whether runs are waited for no longer.
    pub(crate) fn is_closing_all(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| matches!(drain.stage, Stage::Closing(_) | Stage::Over))
    }

    /// The refusal of whatever would begin something new.
    pub(crate) fn draining() -> Refusal {
        let message = "the daemon is going down, and begins nothing new";
        Refusal::new(Code::Draining, message, "try again when it has been started again").retry(RETRY_MS)
    }

    /// The daemon is to go down; said again, without waiting for runs.
    pub(crate) fn on_drain(&mut self, out: &mut Effects) {
        if self.is_draining() {
            return self.hurry(out);
        }
        self.begin_drain(out);
    }

    /// `POST /v1/drain`: said again, it changes nothing.
    pub(crate) fn on_drain_request(&mut self, id: ConnId, out: &mut Effects) {
        if !self.is_draining() {
            self.begin_drain(out);
        }
        let left = self.drain.as_ref().map_or(Span::ZERO, |drain| drain.until.since(self.now.mono));
        let answer = Object::new()
            .raw("draining", true)
            .raw("active", self.queue.active)
            .raw("queued", self.queue.waiting)
            .raw("deadline_ms", left.as_millis());
        self.respond(id, 202, Content::Json(answer.finish()), out);
    }

    fn begin_drain(&mut self, out: &mut Effects) {
        let until = self.now.mono + self.config.server.drain;
        self.drain = Some(Drain { until, stage: Stage::Telling(ConnId(0)) });
        self.take_back_offers(out);
        if self.queue.active > 0 {
            self.seen.mark(Sometimes::DrainWithRuns);
        }
        if self.planted.is(Bug::DrainDropsQueued) {
            self.drop_queued();
        }
        self.tell_some(out);
    }

    /// Offers that nobody has taken are taken back: their runs are queued, and stay so.
    fn take_back_offers(&mut self, out: &mut Effects) {
        let at_workers = self.workers.iter().flat_map(|(key, worker)| {
            let of = |(run, user): (&_, &_)| RunOf { user: Clone::clone(user), run: Clone::clone(run) };
            worker.runs.iter().map(move |at| (key.clone(), of(at)))
        });
        for (key, of) in at_workers.collect::<Vec<_>>() {
            if self.run_mut(&of).is_some_and(|run| matches!(run.phase, Phase::Offered(_))) {
                self.withdraw(&of, &key, out);
                self.requeue(&of);
            }
        }
    }

    /// What [`Bug::DrainDropsQueued`] does: whatever is not running is not kept.
    fn drop_queued(&mut self) {
        for (id, run) in self.users.values().flat_map(|context| &context.runs) {
            for table in [Table::RunSpec, Table::RunState].into_iter().filter(|_| run.is_queued()) {
                self.durable.record(Record::Delete { key: run.key(table, id) });
            }
        }
    }

    /// The next step of going down is due.
    pub(crate) fn on_drain_step(&mut self, out: &mut Effects) {
        let Some(drain) = &self.drain else { return };
        match drain.stage {
            Stage::Telling(_) => self.tell_some(out),
            Stage::Waiting if self.now.mono >= drain.until => {
                if self.queue.active > 0 {
                    self.seen.mark(Sometimes::DrainOverDeadline);
                }
                self.begin_closing(LAST_WORDS);
                self.close_some(CLOSED_AT_ONCE, out);
            }
            Stage::Waiting => self.deadlines.set(Timer::Drain, drain.until),
            Stage::Closing(_) => self.close_some(CLOSED_AT_ONCE, out),
            Stage::Over => {}
        }
    }

    /// Tells the next connections.
    fn tell_some(&mut self, out: &mut Effects) {
        let Some(Drain { stage: Stage::Telling(after), until }) = self.drain else { return };
        let next = self.conns.keys_in((core::ops::Bound::Excluded(after), core::ops::Bound::Unbounded));
        let ids: Vec<ConnId> = next.copied().take(TOLD_AT_ONCE).collect();
        for id in &ids {
            self.tell_drain(*id, out);
        }
        let is_done = ids.len() < TOLD_AT_ONCE;
        let stage = ids.last().filter(|_| !is_done).map_or(Stage::Waiting, |last| Stage::Telling(*last));
        self.drain = Some(Drain { until, stage });
        let again = if is_done { until } else { self.now.mono + TELL_EVERY };
        self.deadlines.set(Timer::Drain, again);
    }

    /// Tells a connection that the daemon is going down, if it is: each user's client when to come back.
    pub(crate) fn tell_drain(&mut self, id: ConnId, out: &mut Effects) {
        if !self.is_draining() {
            return;
        }
        let all = self.conns.len() as u64;
        let random = self.random();
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.is_welcome() && !conn.is_closing) else {
            return;
        };
        match &conn.role {
            Role::User(_) => {
                let spread = all.clamp(*SPREAD_MS.start(), *SPREAD_MS.end());
                let notice = Object::message("notice")
                    .str("notice", "drain")
                    .raw("reconnect_ms", BACK_AFTER_MS + random % spread);
                self.send_notice(id, text(notice), out);
            }
            Role::Worker(_) => self.send(id, text(Object::message("drain")), out),
            Role::Http | Role::Request(_) | Role::Greeting(_) => {}
        }
    }

    /// Runs are waited for no longer.
    fn hurry(&mut self, out: &mut Effects) {
        if self.drain.as_ref().is_some_and(|drain| drain.stage != Stage::Over) {
            self.seen.mark(Sometimes::DrainInHurry);
            self.begin_closing(LAST_WORDS_IN_HURRY);
            self.close_some(usize::MAX, out);
        }
    }

    fn begin_closing(&mut self, last_words: Span) {
        let (now, conns) = (self.now.mono, self.conns.len() as u64);
        // The last of them is closed so late.
        let pace = CLOSE_EVERY.times(conns / CLOSED_AT_ONCE as u64);
        if let Some(drain) = &mut self.drain {
            drain.stage = Stage::Closing(now + pace + last_words);
        }
    }

    /// Closes the next connections.
    fn close_some(&mut self, count: usize, out: &mut Effects) {
        let Some(Drain { stage: Stage::Closing(give_up), .. }) = self.drain else { return };
        let open = self.conns.values().filter(|conn| !conn.is_closing).map(|conn| conn.id);
        let ids: Vec<ConnId> = open.take(count).collect();
        for id in &ids {
            self.close(*id, CloseCode::Draining, "the daemon is going down", out);
        }
        let again = if ids.len() < count { give_up } else { self.now.mono + CLOSE_EVERY };
        // When that is over, only the store is waited for.
        if again > self.now.mono {
            self.deadlines.set(Timer::Drain, again);
        }
    }

    /// Sees at the end of each input whether going down can go on: when nothing runs any more and all is
    /// durable connections are closed, and when they are the process may exit.
    pub(crate) fn watch_drain(&mut self, out: &mut Effects) {
        let Some(drain) = &self.drain else { return };
        match drain.stage {
            Stage::Waiting if self.queue.active == 0 && self.is_all_durable() => {
                self.begin_closing(LAST_WORDS);
                self.close_some(CLOSED_AT_ONCE, out);
            }
            Stage::Closing(give_up) if self.conns.is_empty() || self.now.mono >= give_up => {
                self.exit_when_durable(out);
            }
            Stage::Telling(_) | Stage::Waiting | Stage::Closing(_) | Stage::Over => {}
        }
    }

    /// A full store is not waited for: what it did not take was shown to nobody.
    fn is_all_durable(&self) -> bool {
        self.durable.is_idle() || self.durable.is_full()
    }

    fn exit_when_durable(&mut self, out: &mut Effects) {
        if !self.durable.is_full() {
            self.store_positions();
        }
        if !self.is_all_durable() {
            return;
        }
        if let Some(drain) = &mut self.drain {
            drain.stage = Stage::Over;
        }
        self.deadlines.clear(Timer::Drain);
        out.push(Effect::Exit);
    }
}
