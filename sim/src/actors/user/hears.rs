//! What a device is told, and what it makes of that.

use super::{ACK_AFTER, Device, LIVES_EVERY, Phase};
use crate::actors::topics::Broken;
use crate::actors::{Ctx, is_of_before};
use crate::link::{Incoming, Link};
use crate::oracles::durable;
use crate::oracles::order::{Piece, Reader};
use crate::oracles::resume::{self, Client, Welcome};
use crate::oracles::truth::is_critical;
use crate::plan::Habit;
use crate::said::{EventData, Said};
use crate::schedule::{MS, Micros, SECOND};
use crate::sometimes;
use crate::trace::Of;

impl Device {
    pub(super) fn read(&mut self, ctx: &mut Ctx<'_>) {
        while let Some(incoming) = self.link.as_mut().and_then(Link::poll) {
            self.heard = ctx.now;
            match incoming {
                Incoming::Opened | Incoming::Alive => {}
                Incoming::Text(text) => self.hear(ctx, &text),
                Incoming::Refused(status) => {
                    let good = matches!(status, 401 | 408 | 429 | 503);
                    self.kept = None;
                    self.expect(ctx, "B10", good, || format!("the upgrade is refused: {status}"));
                    self.hang_up(ctx);
                }
                Incoming::Closed(code) => {
                    ctx.trace.note(Of::User(self.user), format_args!("{:<12} ← closed {code:?}", self.who));
                    // Past 4500 only what a slow network or a short token explains.
                    let good = code.is_none_or(|code| code < 4500 || matches!(code, 4501 | 4503 | 4506));
                    let good = good || (code == Some(4507) && ctx.oracles.is_sent_away(&self.user_name));
                    self.kept.take_if(|_| code.is_none_or(|code| code >= 4500));
                    // A bad network may bring no whole message in that time.
                    let is_undisturbed = self.is_undisturbed && self.plan.network.is_good();
                    let is_hasty = is_undisturbed && matches!(code, Some(4403 | 4404 | 4407));
                    let good = good && !is_hasty;
                    self.expect(ctx, "B10", good, || format!("a good client is closed {code:?}"));
                    self.hang_up(ctx);
                    if code == Some(4400) {
                        let told = self.back_after.take();
                        self.call_at = ctx.now + told.unwrap_or(self.dice.between(SECOND, 5 * SECOND));
                    }
                }
            }
            if self.is_lazy() && !ctx.healed && self.dice.chance(1, 300) {
                // Long enough, at times, for the daemon to lose its patience.
                let is_long = self.plan.habit == Habit::Deaf || self.dice.chance(1, 3);
                let least = if is_long { 35 * SECOND } else { SECOND };
                self.reads_at = ctx.now + self.dice.log_uniform(least, 60 * SECOND);
                self.lives_at = ctx.now;
                return;
            }
        }
    }

    /// Whether it leaves off reading now and then.
    pub(super) fn is_lazy(&self) -> bool {
        matches!(self.plan.habit, Habit::Stuck | Habit::Deaf)
    }

    /// Says that it is there, though it does not read.
    pub(super) fn live(&mut self, ctx: &Ctx<'_>) {
        if self.plan.habit != Habit::Deaf || self.reads_at == 0 || ctx.now < self.lives_at {
            return;
        }
        self.lives_at = ctx.now + LIVES_EVERY;
        if let Some(link) = &mut self.link {
            link.send("{\"type\":\"ping\"}");
        }
    }

    fn hear(&mut self, ctx: &mut Ctx<'_>, text: &str) {
        ctx.trace.message(Of::User(self.user), &self.who, "←", text);
        let Ok(said) = Said::read(text) else {
            return self.expect(ctx, "wire", false, || format!("cannot be read: {text}"));
        };
        let id = said.id.as_deref().unwrap_or_default();
        match said.kind.as_ref() {
            "welcome" => self.welcome(ctx, &said),
            "event" if said.topic.is_some() => {
                self.arrived += 1;
                let judged = self.topics.event(ctx, &said);
                self.judge(ctx, judged);
            }
            "event" => self.event(ctx, &said),
            "subscribed" => {
                let judged = self.topics.subscribed(ctx, &said);
                self.judge(ctx, judged);
            }
            "notice" if said.notice.as_deref() == Some("expiring") => self.refresh(ctx),
            "ok" if said.of.as_deref() == Some("refresh") => {
                let operates = self.refresh.take().unwrap_or(self.operates);
                let judged = self.topics.refreshed(operates, &said);
                self.judge(ctx, judged);
            }
            "accepted" => {
                let run = said.run.as_deref().unwrap_or_default();
                ctx.book.runs.push((self.user, run.to_owned()));
                self.asks.accepted(ctx.now, id, run, &mut self.dice);
            }
            "ok" | "pong" => self.asks.answered(id),
            "notice" if said.notice.as_deref() == Some("drain") => {
                self.back_after = said.reconnect_ms.map(|ms| ms * MS);
            }
            "error" => self.refused(ctx, &said, text),
            _ => {}
        }
    }

    fn judge(&self, ctx: &mut Ctx<'_>, judged: Result<(), Broken>) {
        if let Err((oracle, what)) = judged {
            self.expect(ctx, oracle, false, || what.clone());
        }
    }

    /// The token is about to expire: mostly it is replaced in time, now and then by one that is good for
    /// less.
    fn refresh(&mut self, ctx: &mut Ctx<'_>) {
        if self.refresh.is_some() || self.dice.chance(1, 3) {
            return;
        }
        let operates = self.operates && self.dice.chance(1, 2);
        let life = if ctx.healed { 12 * 3600 } else { self.dice.between(10, 90) };
        let token = self.token(ctx, life, operates);
        let text = format!("{{\"type\":\"refresh\",\"id\":\"refresh\",\"token\":\"{token}\"}}");
        ctx.trace.message(Of::User(self.user), &self.who, "→", &text);
        self.refresh = Some(operates);
        if let Some(link) = &mut self.link {
            link.send(&text);
        }
    }

    fn welcome(&mut self, ctx: &mut Ctx<'_>, said: &Said<'_>) {
        self.judge_token(ctx);
        let (Some(epoch), Some(resume), Some(head), Some(floor)) =
            (said.epoch.as_deref(), said.resume.as_ref(), said.head, said.floor)
        else {
            return self.expect(ctx, "wire", false, || format!("an incomplete welcome: {said:?}"));
        };
        // Another disk: nobody there knows this device. (A welcome of before may still have been on its way.)
        let generation = ctx.oracles.generation_of(epoch, self.user);
        let is_new = generation > self.generation;
        if is_new {
            self.generation = generation;
            // A call that nobody answered may have come before that or after.
            (self.is_known, self.told) = (false, if self.is_unsure { u64::MAX } else { 0 });
            self.topics.forgotten(self.told);
        }
        self.is_unsure = false;
        // Whatever an unanswered call has made of its position, it is in this stream.
        self.told = self.told.min(head);
        let client = Client {
            from: &self.from,
            has: self.has.as_ref().map(|(epoch, seq)| (epoch.as_str(), *seq)),
            told: self.is_known.then_some(self.told),
            stored: ctx.oracles.rows.acked(said),
            is_new,
        };
        if let Err((oracle, what)) = resume::judge(client, Welcome { epoch, floor, head, resume }) {
            self.expect(ctx, oracle, false, || format!("{what}: {client:?}, {said:?}", client = self.from));
        }
        let keeps = self.has.as_ref().is_some_and(|(had, seq)| had == epoch && *seq >= resume.from);
        if resume.status != "resumed" || !keeps {
            self.has = Some((epoch.to_owned(), resume.from));
            self.spans.push((epoch.to_owned(), resume.from, resume.from));
        }
        if !self.is_known || resume.status == "reset" {
            self.told = self.told.max(resume.from);
        }
        let is_inside = self.acked < self.reader.position && resume.status == "resumed";
        sometimes!(ctx.oracles.tally, ResumedMidWindow if is_inside && ctx.oracles.crashes() > self.crashes);
        self.crashes = ctx.oracles.crashes();
        self.is_known = !self.is_viewer();
        self.reader = Reader { position: resume.from };
        self.acked = resume.from;
        self.phase = Phase::Welcome;
        self.failures = 0;
        self.asks.again(ctx.now);
        let judged = self.topics.welcome(ctx, said, &mut self.dice);
        self.judge(ctx, judged);
    }

    fn event(&mut self, ctx: &mut Ctx<'_>, said: &Said<'_>) {
        let seq = said.seq.unwrap_or(0);
        self.arrived += 1;
        let Some((epoch, has)) = self.has.clone().filter(|_| self.is_welcome()) else {
            return self.expect(ctx, "B1", false, || "an event before welcome".to_owned());
        };
        if let Err((oracle, what)) = durable::event(&mut ctx.oracles.truth, self.user, &epoch, said) {
            self.expect(ctx, oracle, false, || what.clone());
        }
        match self.reader.event(Piece::of(said)) {
            Ok(true) if seq > has => {
                self.has = Some((epoch, seq));
                self.slowest_ms = self.slowest_ms.max(ctx.wall.saturating_sub(said.ts.unwrap_or(ctx.wall)));
                self.critical += u64::from(is_critical(said.event.as_deref().unwrap_or_default()));
                if let Some((_, _, last)) = self.spans.last_mut() {
                    *last = seq;
                }
                self.answer(ctx.now, said);
            }
            Ok(_) => {}
            Err(what) => self.expect(ctx, "O1", false, || what.clone()),
        }
        self.ack_at = self.ack_at.min(ctx.now + ACK_AFTER);
    }

    fn answer(&mut self, now: Micros, said: &Said<'_>) {
        let (Some(run), Some("input_required"), Some(data)) = (&said.run, said.event.as_deref(), said.data)
        else {
            return;
        };
        let data: EventData<'_> = serde_json::from_str(data.get()).unwrap_or_default();
        self.asks.asked(now, run, data.request.as_deref().unwrap_or_default(), &mut self.dice);
    }

    fn refused(&mut self, ctx: &mut Ctx<'_>, said: &Said<'_>, text: &str) {
        let code = said.code.as_deref().unwrap_or_default();
        let id = said.id.as_deref().unwrap_or_default();
        match (said.of.as_deref(), code) {
            (Some("subscribe"), _) => {
                let judged = self.topics.refused(said);
                return self.judge(ctx, judged);
            }
            // It was made to be short, and has expired on its way, or was revoked.
            (Some("refresh"), "token_expired" | "token_revoked" | "rate_limited" | "token_signature") => {
                self.refresh = None;
                return;
            }
            _ => {}
        }
        match code {
            "queue_full"
            | "draining"
            | "user_queue_full"
            | "agent_unavailable"
            | "rate_limited"
            | "storage_unavailable"
            | "overloaded" => {
                self.asks.refused(ctx.now, id, said.retry_ms);
            }
            // Another was faster, the run has ended or was not awaiting, or the thread is not free: so be it.
            "thread_busy" | "input_already_given" | "input_not_awaited" => self.asks.answered(id),
            // Two devices answer one question in other words.
            "key_reused" if said.of.as_deref() == Some("input") => self.asks.answered(id),
            // Nobody has served it yet.
            "agent_unknown" => self.asks.refused(ctx.now, id, Some(2_000)),
            "token_expired" => {}
            "token_signature" if is_of_before(ctx, self.key, None) => {}
            "token_revoked" if self.keeps_tokens => self.kept = None,
            "run_not_found"
                if ctx.oracles.disks_lost > 0
                    || ctx.oracles.forgets_runs
                    || ctx.oracles.is_to_be_erased(&self.user_name) =>
            {
                self.asks.answered(id)
            }
            _ => self.expect(ctx, "B3", false, || format!("a good request is refused: {text}")),
        }
    }
}
