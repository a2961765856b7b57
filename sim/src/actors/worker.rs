//! A worker: takes runs, does what their inputs say, and misbehaves as often as its plan says, within the
//! protocol.

use super::job::{Job, Stage};
use super::quirks::{self, Quirks, Wish};
use super::{Ctx, backoff, is_of_before};
use crate::dice::Dice;
use crate::link::{Incoming, Link, Upgrade};
use crate::oracles::Who;
use crate::plan::{WorkerPlan, is_retryable};
use crate::said::Said;
use crate::schedule::{MS, Micros, SECOND};
use crate::sometimes;
use crate::trace::Of;
use std::collections::BTreeMap;

/// Time for a call to be answered, up to `welcome`.
const CALL_TIMEOUT: Micros = 15 * SECOND;
/// The longest time for which what was sent may be on its way.
const LATE: Micros = 300 * SECOND;
/// Silence after which a connection is given up: 2.5 heartbeats.
const SILENCE: Micros = 25 * SECOND;
/// Never.
const NEVER: Micros = Micros::MAX;

/// One worker.
#[derive(Debug)]
pub struct Worker {
    plan: WorkerPlan,
    dice: Dice,
    quirks: Quirks,
    /// Which process of this name it is.
    life: u64,
    jobs: BTreeMap<String, Job>,
    link: Option<Link>,
    is_welcome: bool,
    call_at: Micros,
    heard: Micros,
    failures: u32,
    lease: Micros,
    window: usize,
    beat_at: Micros,
    crash_at: Micros,
    flap_at: Micros,
    dies_at: Micros,
    is_dead: bool,
    /// Its connection was made when everything was healed.
    is_undisturbed: bool,
    /// The key that its token is signed with.
    key: u64,
    /// How often this life has called.
    calls: u64,
    /// When this life last gave up a call.
    given_up: Option<Micros>,
    /// When a former one last did: that call may still arrive, and take the place of this one's.
    former_gave_up: Option<Micros>,
}

impl Worker {
    /// A worker that will call soon. What is odd about it has chances of its own.
    pub fn new(plan: WorkerPlan, mut dice: Dice, odd: Dice) -> Self {
        let crash_at = plan.crash_every.map_or(NEVER, |every| dice.exponential(every));
        Self {
            life: 1,
            jobs: BTreeMap::new(),
            link: None,
            is_welcome: false,
            call_at: dice.below(SECOND),
            heard: 0,
            failures: 0,
            lease: 15 * SECOND,
            window: 256,
            beat_at: NEVER,
            crash_at,
            flap_at: NEVER,
            dies_at: plan.dies_at.unwrap_or(NEVER),
            is_dead: false,
            is_undisturbed: false,
            key: 0,
            calls: 0,
            given_up: None,
            former_gave_up: None,
            quirks: Quirks::new(plan.quirks, odd),
            plan,
            dice,
        }
    }

    /// When it wants to be stepped again.
    pub fn deadline(&self) -> Micros {
        if self.is_dead {
            return NEVER;
        }
        if self.link.is_none() {
            return self.call_at.min(self.crash_at).min(self.dies_at);
        }
        let patience = self.heard + if self.is_welcome { SILENCE } else { CALL_TIMEOUT };
        let work = self.work_at().min(self.beat_at).min(self.quirks.deadline());
        let work = if self.is_welcome { work } else { NEVER };
        patience.min(self.crash_at).min(self.flap_at).min(self.dies_at).min(work)
    }

    /// When a job goes on. With a full window none does: an acknowledgement wakes the worker.
    fn work_at(&self) -> Micros {
        let is_full = self.unacked() >= self.window;
        let waits = |job: &&Job| !(is_full && job.stage == Stage::Running);
        self.jobs.values().filter(waits).map(|job| job.at).min().unwrap_or(NEVER)
    }

    fn unacked(&self) -> usize {
        self.jobs.values().map(|job| job.unacked.len()).sum()
    }

    /// Does all it can.
    pub fn step(&mut self, ctx: &mut Ctx<'_>) {
        if ctx.healed {
            (self.crash_at, self.flap_at) = (NEVER, NEVER);
            self.call_at = self.call_at.min(ctx.now + 5 * SECOND);
        }
        if ctx.now >= self.dies_at {
            ctx.trace.note(Of::World, format_args!("{:<12} is gone for good", self.plan.name));
            sometimes!(ctx.oracles.tally, WorkerDies if !self.jobs.is_empty());
            (self.link, self.is_dead) = (None, true);
        }
        if self.is_dead {
            return;
        }
        if ctx.now >= self.crash_at {
            return self.crash(ctx);
        }
        if self.link.is_none() && ctx.now >= self.call_at {
            self.call(ctx);
        }
        self.read(ctx);
        let patience = if self.is_welcome { SILENCE } else { CALL_TIMEOUT };
        if self.link.is_some() && (ctx.now >= self.flap_at || ctx.now >= self.heard + patience) {
            let away = self.plan.flap_every.map_or(SECOND, |(_, away)| away);
            return self.hang_up(ctx, away);
        }
        if self.is_welcome {
            self.work(ctx);
            self.be_odd(ctx);
        }
        if let Some(link) = &mut self.link {
            link.flush();
        }
    }

    fn crash(&mut self, ctx: &mut Ctx<'_>) {
        ctx.trace
            .note(Of::World, format_args!("{:<12} crashes with {} runs", self.plan.name, self.jobs.len()));
        let down = self.dice.log_uniform(200 * MS, 20 * SECOND);
        self.hang_up(ctx, down);
        self.die();
        self.crash_at =
            self.plan.crash_every.map_or(NEVER, |every| ctx.now + down + self.dice.exponential(every));
    }

    /// The next of this name is another process.
    fn die(&mut self) {
        self.jobs.clear();
        self.quirks.gone();
        self.former_gave_up = self.given_up.take().or(self.former_gave_up);
        (self.life, self.calls) = (self.life + 1, 0);
    }

    /// Now and then it wants no more runs, and goes when it has none.
    fn be_odd(&mut self, ctx: &mut Ctx<'_>) {
        match self.quirks.wish(ctx.now, self.jobs.is_empty(), ctx.healed) {
            Some(Wish::Drain) => quirks::DRAIN.iter().for_each(|text| self.send(ctx, text)),
            Some(Wish::Go) => {
                let runs = self.jobs.len();
                ctx.trace.note(Of::World, format_args!("{:<12} goes with {runs} runs", self.plan.name));
                sometimes!(ctx.oracles.tally, WorkerDrained if runs == 0);
                self.link.iter_mut().for_each(Link::close);
                self.hang_up(ctx, SECOND);
                self.die();
            }
            None => {}
        }
    }

    fn hang_up(&mut self, ctx: &mut Ctx<'_>, away: Micros) {
        if self.link.is_some() && !self.is_welcome {
            self.given_up = Some(ctx.now);
        }
        self.link = None;
        self.is_welcome = false;
        self.failures += 1;
        self.call_at = ctx.now + away.max(backoff(&mut self.dice, self.failures));
        self.flap_at = NEVER;
        self.jobs.retain(|_, job| job.stage != Stage::Offered);
        ctx.trace.note(Of::Other, format_args!("{:<12} is apart", self.plan.name));
    }

    fn call(&mut self, ctx: &mut Ctx<'_>) {
        let is_short = self.plan.short_tokens && !ctx.healed && self.dice.chance(1, 3);
        let life = if is_short { self.dice.between(5, 40) } else { 48 * 3600 };
        self.key = ctx.keys.newest();
        let token = ctx.keys.token("workers", "worker", ctx.expiry(life * SECOND));
        let serves = |(agent, slots): &(String, u64)| {
            let retryable = is_retryable(agent);
            format!("{{\"agent\":\"{agent}\",\"slots\":{slots},\"retryable\":{retryable}}}")
        };
        let agents: Vec<String> = self.plan.agents.iter().map(serves).collect();
        let runs: Vec<String> =
            self.jobs.values().map(|job| format!("{{{}}}", job.about().trim_start_matches(','))).collect();
        self.calls += 1;
        let mut hello = format!(
            "{{\"type\":\"hello\",\"worker\":\"{}\",\"call\":{{\"by\":\"life-{}\",\"n\":{}}},\"agents\":[{}],\"runs\":[{}]",
            self.plan.name,
            self.life,
            self.calls,
            agents.join(","),
            runs.join(",")
        );
        let mut upgrade = Upgrade { path: "/worker", ..Upgrade::default() };
        match self.dice.below(2) {
            0 => upgrade.header_token = Some(token),
            _ => hello += &format!(",\"token\":\"{token}\""),
        }
        hello.push('}');
        ctx.trace.message(Of::Other, &self.plan.name, "→", &hello);
        ctx.oracles.leases.said(&self.plan.name, ctx.now);
        upgrade.early.push(hello);
        let link = Link::call(ctx.net, ctx.route(&self.plan.network), &upgrade);
        if let Some(pipe) = link.pipe() {
            ctx.oracles.calls(pipe, Who::Worker(self.plan.name.clone()), None, false);
            for (agent, slots) in &self.plan.agents {
                ctx.oracles.limits.serves(&self.plan.name, agent, *slots as usize);
            }
        }
        self.link = Some(link);
        self.is_undisturbed = ctx.healed;
        (self.heard, self.beat_at) = (ctx.now, NEVER);
        self.flap_at = match self.plan.flap_every {
            Some((every, _)) if !ctx.healed => ctx.now + self.dice.exponential(every),
            _ => NEVER,
        };
    }

    fn read(&mut self, ctx: &mut Ctx<'_>) {
        while let Some(incoming) = self.link.as_mut().and_then(Link::poll) {
            self.heard = ctx.now;
            match incoming {
                Incoming::Opened | Incoming::Alive => {}
                Incoming::Text(text) => self.hear(ctx, &text),
                Incoming::Refused(status) => {
                    self.expect(ctx, matches!(status, 401 | 408 | 429 | 503), || {
                        format!("refused with {status}")
                    });
                    self.hang_up(ctx, 0);
                }
                Incoming::Closed(code) => {
                    ctx.trace.note(Of::Other, format_args!("{:<12} ← closed {code:?}", self.plan.name));
                    // A bad network may bring no whole message within a lease.
                    let is_hasty = code == Some(4404) && self.is_undisturbed && self.plan.network.is_good();
                    let of_before = |at| ctx.now < at + LATE;
                    let was_late = self.former_gave_up.is_some_and(of_before) && code == Some(4510);
                    let good = code.is_none_or(|code| code < 4500 || code == 4503) && !is_hasty || was_late;
                    // Made to be short, it may have expired on its way.
                    let good = good || self.plan.short_tokens && matches!(code, Some(4501 | 4506));
                    let good = good || code == Some(4501) && is_of_before(ctx, self.key, None);
                    self.expect(ctx, good, || format!("closed {code:?}"));
                    self.hang_up(ctx, 0);
                }
            }
        }
    }

    fn expect(&self, ctx: &mut Ctx<'_>, holds: bool, what: impl Fn() -> String) {
        let judgement =
            if holds { Ok(()) } else { Err(format!("a good worker, {}: {}", self.plan.name, what())) };
        ctx.oracles.judge("B3", None, judgement);
    }

    fn hear(&mut self, ctx: &mut Ctx<'_>, text: &str) {
        ctx.trace.message(Of::Other, &self.plan.name, "←", text);
        let Ok(said) = Said::read(text) else {
            return self.expect(ctx, false, || format!("cannot read {text}"));
        };
        let run = said.run.as_deref().unwrap_or_default();
        let mine = self.jobs.get(run).is_some_and(|job| Some(job.attempt) == said.attempt);
        match said.kind.as_ref() {
            "welcome" => self.welcome(ctx, &said),
            "run" => self.offered(ctx, &said),
            "ack" if mine => self.acked(ctx, run, said.n.unwrap_or(0)),
            "withdraw" if mine => self.jobs.retain(|other, job| other != run || job.is_late),
            "cancel" | "input" => self.commanded(ctx, &said),
            "error" => self.refused(ctx, &said, text),
            _ => {}
        }
    }

    fn welcome(&mut self, ctx: &mut Ctx<'_>, said: &Said<'_>) {
        self.is_welcome = true;
        self.failures = 0;
        self.lease = said.lease_ms.unwrap_or(15_000) * MS;
        self.window = said.publish_window.unwrap_or(256) as usize;
        if self.plan.overruns && !ctx.healed {
            self.window *= 4;
        }
        self.beat_at = ctx.now + self.lease / 3;
        let entries = said.run_entries();
        for entry in &entries {
            match entry.state.as_ref() {
                "continue" => self.acked(ctx, &entry.run, entry.n.unwrap_or(0)),
                _ => drop(self.jobs.remove(entry.run.as_ref())),
            }
        }
        let forgotten = self.jobs.keys().find(|run| !entries.iter().any(|entry| entry.run == run.as_str()));
        self.expect(ctx, forgotten.is_none(), || format!("welcome says nothing of {forgotten:?}"));
        if self.quirks.welcome(ctx.now) {
            quirks::DRAIN.iter().for_each(|text| self.send(ctx, text));
        }
        let again: Vec<(String, u64)> = self.jobs.keys().map(|run| (run.clone(), 0)).collect();
        for (run, n) in again {
            self.send_from(ctx, &run, n);
        }
    }

    fn offered(&mut self, ctx: &mut Ctx<'_>, said: &Said<'_>) {
        let (Some(run), Some(attempt), Some(input)) = (said.run.as_deref(), said.attempt, said.input) else {
            return self.expect(ctx, false, || format!("an incomplete offer: {said:?}"));
        };
        self.expect(ctx, !self.quirks.wants_none(), || format!("wants no more runs, and is offered {run}"));
        let think = if ctx.healed { 0 } else { self.dice.log_uniform(1, 20 * MS) };
        let agent = said.agent.as_deref().unwrap_or_default();
        let Some(job) = Job::new(run, attempt, agent, input.get(), ctx.now + think) else {
            return self.expect(ctx, false, || format!("an input is not as it was asked: {input}"));
        };
        self.jobs.insert(run.to_owned(), job);
    }

    fn acked(&mut self, ctx: &mut Ctx<'_>, run: &str, n: u64) {
        let Some(job) = self.jobs.get_mut(run) else { return };
        if job.stage == Stage::Taken {
            job.execute(ctx.now, &mut self.dice);
            let me = format!("{} #{}", self.plan.name, self.life);
            let judgement = ctx.oracles.fencing.executes(run, &me, job.attempt, is_retryable(job.agent()));
            ctx.oracles.judge("O18", None, judgement);
        }
        if job.acked(n) {
            self.jobs.remove(run);
        }
    }

    fn commanded(&mut self, ctx: &mut Ctx<'_>, said: &Said<'_>) {
        let (Some(run), Some(attempt), Some(i)) = (said.run.as_deref(), said.attempt, said.i) else {
            return self.expect(ctx, false, || format!("an incomplete command: {said:?}"));
        };
        let got = format!("{{\"type\":\"got\",\"run\":\"{run}\",\"attempt\":{attempt},\"i\":{i}}}");
        self.send(ctx, &got);
        let is_stubborn = !ctx.healed && self.dice.chance(self.plan.stubborn, 100);
        let Some(job) = self.jobs.get_mut(run).filter(|job| job.attempt == attempt) else { return };
        if i > job.commands {
            job.commands = i;
            let is_told = said.kind == "cancel";
            sometimes!(ctx.oracles.tally, CancelIgnored if is_told && is_stubborn);
            let soon = ctx.now + self.dice.log_uniform(1, 200 * MS);
            match (said.kind.as_ref(), said.request.as_deref()) {
                ("cancel", _) if !is_stubborn => job.cancel(soon),
                ("input", Some(request)) => {
                    let is_asked = job.answered(request, soon);
                    self.expect(ctx, is_asked, || format!("an answer that nobody waits for: {said:?}"));
                }
                _ => {}
            }
        }
    }

    fn refused(&mut self, ctx: &mut Ctx<'_>, said: &Said<'_>, text: &str) {
        let run = said.run.as_deref().unwrap_or_default().to_owned();
        match said.code.as_deref().unwrap_or_default() {
            "fenced" => {
                self.quirks.fenced(&run);
                let is_it = |job: &Job| said.attempt.is_none_or(|attempt| attempt == job.attempt);
                if self.jobs.get(&run).is_some_and(is_it) {
                    self.jobs.remove(&run);
                }
            }
            "gap" => {
                sometimes!(ctx.oracles.tally, GapTold);
                self.send_from(ctx, &run, said.expected.unwrap_or(0));
            }
            "storage_unavailable" => {
                sometimes!(ctx.oracles.tally, WorkerSaysAgain);
                let at = ctx.now + said.retry_ms.unwrap_or(1_000) * MS;
                if let Some(job) = self.jobs.get_mut(&run) {
                    job.resend_at(at, said.expected.unwrap_or(0));
                }
            }
            "rate_limited" => {}
            "token_expired" if self.plan.short_tokens => {}
            "token_signature" if is_of_before(ctx, self.key, None) => {}
            _ => self.expect(ctx, false, || format!("is refused: {text}")),
        }
    }

    /// Does what is due.
    fn work(&mut self, ctx: &mut Ctx<'_>) {
        let due: Vec<String> =
            self.jobs.values().filter(|job| job.at <= ctx.now).map(|job| job.run.clone()).collect();
        for run in due {
            self.go_on(ctx, &run);
        }
        if ctx.now >= self.beat_at {
            self.send(ctx, "{\"type\":\"beat\"}");
        }
    }

    fn go_on(&mut self, ctx: &mut Ctx<'_>, run: &str) {
        let room = self.window.saturating_sub(self.unacked());
        let (hangs, ignores, declines) = match ctx.healed {
            true => (0, 0, 0),
            false => (self.plan.hangs, self.plan.ignores, self.plan.declines),
        };
        let Some(job) = self.jobs.get_mut(run) else { return };
        if let Some(from) = job.take_resend() {
            return self.send_from(ctx, run, from);
        }
        match job.stage {
            Stage::Offered if !job.is_late && self.dice.chance(ignores, 100) => {
                // So late, perhaps, that the offer stands no more.
                (job.is_late, job.at) = (true, ctx.now + self.dice.log_uniform(SECOND, 20 * SECOND));
            }
            Stage::Offered if self.dice.chance(declines, 100) => {
                let text = format!("{{\"type\":\"decline\"{},\"reason\":\"busy\"}}", job.about());
                self.jobs.remove(run);
                sometimes!(ctx.oracles.tally, Declined);
                ctx.oracles.limits.over(run);
                self.send(ctx, &text);
            }
            Stage::Offered => {
                (job.stage, job.at) = (Stage::Taken, NEVER);
                let text = format!("{{\"type\":\"started\"{}}}", job.about());
                self.send(ctx, &text);
            }
            Stage::Running if self.dice.chance(hangs, 1000) => (job.stage, job.at) = (Stage::Hanging, NEVER),
            Stage::Running if room > 0 => {
                let first = job.go_on(ctx.now, room, &mut self.dice);
                let mut texts = job.from(first);
                let is_odd = self.quirks.disorder(&mut texts, ctx.healed);
                sometimes!(ctx.oracles.tally, OutOfOrder if is_odd);
                self.send_all(ctx, texts);
            }
            Stage::Running | Stage::Taken | Stage::Complete | Stage::Hanging => {}
        }
    }

    /// Sends a run's messages that are not acknowledged, from `n` on; and `started` where that is what is
    /// not.
    fn send_from(&mut self, ctx: &mut Ctx<'_>, run: &str, n: u64) {
        let Some(job) = self.jobs.get(run) else { return };
        if job.stage == Stage::Taken {
            let text = format!("{{\"type\":\"started\"{}}}", job.about());
            return self.send(ctx, &text);
        }
        let texts = job.from(n);
        self.send_all(ctx, texts);
    }

    fn send_all(&mut self, ctx: &mut Ctx<'_>, texts: Vec<String>) {
        for text in texts {
            self.send(ctx, &text);
            if self.dice.chance(self.plan.repeats, 100) {
                self.send(ctx, &text);
            }
        }
    }

    fn send(&mut self, ctx: &mut Ctx<'_>, text: &str) {
        ctx.trace.message(Of::Other, &self.plan.name, "→", text);
        self.beat_at = ctx.now + self.lease / 3;
        ctx.oracles.leases.said(&self.plan.name, ctx.now);
        if let Some(link) = &mut self.link {
            link.send(text);
        }
    }
}
