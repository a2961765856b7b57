//! A device of a user, behaving as a client library should: it keeps its position over connections, drops
//! what it has, repeats unanswered requests with their keys, and believes nothing that it can check.

mod hears;

use super::asks::Asks;
use super::topics::Topics;
use super::{Ctx, backoff};
use crate::dice::Dice;
use crate::link::{Link, Upgrade};
use crate::oracles::order::Reader;
use crate::oracles::resume::From;
use crate::oracles::truth::Truth;
use crate::oracles::{Who, complete};
use crate::plan::{DevicePlan, Habit, NEVER_ACKS, UserPlan};
use crate::said::Said;
use crate::schedule::{MS, Micros, SECOND};
use crate::sometimes;
use crate::trace::Of;

/// Time for a call to be answered, up to `welcome`.
const CALL_TIMEOUT: Micros = 15 * SECOND;
/// Silence after which a client gives a connection up: 2.5 heartbeats.
const SILENCE: Micros = 25 * SECOND;
/// How often a device that does not read says that it is there.
const LIVES_EVERY: Micros = 8 * SECOND;
/// What is not acknowledged by number is after this time.
const ACK_AFTER: Micros = 500 * MS;
/// Never.
const NEVER: Micros = Micros::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Apart,
    Calling,
    Welcome,
}

/// One device.
#[derive(Debug)]
pub struct Device {
    plan: DevicePlan,
    user: usize,
    user_name: String,
    who: String,
    dice: Dice,
    asks: Asks,
    topics: Topics,
    /// Whether its token lets it read what is for operators.
    operates: bool,
    /// Whether its tokens say when they were made, and are used more than once.
    keeps_tokens: bool,
    /// The one that it kept, when it was made, and the key it is signed with.
    kept: Option<(String, u64, u64)>,
    /// The oldest key of a token that it has brought on this connection.
    key: u64,
    /// It came with a token that must not let it in: when that was made.
    revoked: Option<u64>,
    /// What a newer token that is not answered for would let it read.
    refresh: Option<bool>,
    link: Option<Link>,
    phase: Phase,
    /// How often it has called.
    calls: u64,
    /// Events that have arrived, repeated ones too.
    arrived: u64,
    call_at: Micros,
    leave_at: Micros,
    /// It does not read before this time.
    reads_at: Micros,
    /// While it does not, when it says next that it is there.
    lives_at: Micros,
    heard: Micros,
    failures: u32,
    from: From,
    reader: Reader,
    /// What the application has: incarnation and seq.
    has: Option<(String, u64)>,
    /// What its application has been given, without a gap each: incarnation, the seq before the first, the
    /// last.
    spans: Vec<(String, u64, u64)>,
    /// Critical events that it has got, each once.
    critical: u64,
    /// The longest time from an event's being written to its arrival, in milliseconds.
    slowest_ms: u64,
    /// A `welcome` has named this device: the daemon must know it from then on.
    is_known: bool,
    /// The furthest position that the daemon may have for this device.
    told: u64,
    /// Whether a call has gone unanswered since the last welcome.
    is_unsure: bool,
    acked: u64,
    ack_at: Micros,
    /// How often all that was stored of its user was lost before it got what it has.
    generation: u64,
    /// Its connection was made when everything was healed.
    is_undisturbed: bool,
    /// Crashes before its last welcome.
    crashes: u64,
    /// How long after the close it was told to come back.
    back_after: Option<Micros>,
}

impl Device {
    /// A device that will call soon.
    pub fn new(plan: DevicePlan, user: &UserPlan, mut dice: Dice) -> Self {
        let (keeps_tokens, operates) = (user.keeps_tokens, user.operates);
        let (user_name, user) = (&user.name, user.number);
        let label = plan.name.clone().unwrap_or_else(|| format!("viewer-{}", dice.below(1000)));
        Self {
            who: format!("{user_name}/{label}"),
            user,
            user_name: user_name.clone(),
            topics: Topics::new(&plan.topics, plan.name.is_none(), operates),
            operates,
            keeps_tokens,
            kept: None,
            key: 0,
            revoked: None,
            refresh: None,
            asks: Asks::new(&plan, user, &label, &mut dice),
            link: None,
            phase: Phase::Apart,
            calls: 0,
            arrived: 0,
            call_at: dice.below(2 * SECOND),
            leave_at: NEVER,
            reads_at: 0,
            lives_at: 0,
            heard: 0,
            failures: 0,
            from: From::Device,
            reader: Reader::default(),
            has: None,
            spans: Vec::new(),
            critical: 0,
            slowest_ms: 0,
            is_known: false,
            told: 0,
            is_unsure: false,
            acked: 0,
            ack_at: NEVER,
            generation: 0,
            crashes: 0,
            back_after: None,
            is_undisturbed: false,
            plan,
            dice,
        }
    }

    /// Its user's number.
    pub fn user(&self) -> usize {
        self.user
    }

    /// Up to where its application has everything.
    pub fn position(&self) -> u64 {
        self.has.as_ref().map_or(0, |(_, seq)| *seq)
    }

    /// A number that changes while it gets on: its position; and behind a slow line, which may have to bring
    /// minutes of retries first, whatever arrives.
    pub fn progress(&self) -> u64 {
        let arrived = if self.plan.network.is_good() { 0 } else { self.arrived };
        self.position() + self.topics.progress() + arrived
    }

    /// The critical events that it was owed, and those that it has got.
    pub fn critical(&self, truth: &mut Truth) -> (u64, u64) {
        let owed = |(epoch, from, to): &(String, u64, u64)| {
            truth.stream(self.user, epoch).map_or(0, |log| log.critical_between(*from, *to))
        };
        (self.spans.iter().map(owed).sum(), self.critical)
    }

    /// The longest time from an event's being written to its arrival here, in milliseconds.
    pub fn slowest_ms(&self) -> u64 {
        self.slowest_ms
    }

    /// Whether it is connected and welcome.
    pub fn is_welcome(&self) -> bool {
        self.phase == Phase::Welcome
    }

    /// Asks for a run at once.
    pub fn ask(&mut self, now: Micros) {
        self.asks.ask(now, &mut self.dice);
    }

    /// What it still lacks, if anything.
    pub fn missing(&self, truth: &mut Truth) -> Option<String> {
        if let Some(text) = self.asks.unanswered() {
            return Some(format!("{} waits for the answer to {text}", self.who));
        }
        let Some((epoch, seq)) = self.has.as_ref().filter(|_| self.is_welcome()) else {
            return Some(format!("{} is not connected", self.who));
        };
        let head = truth.stream(self.user, epoch).map_or(0, |log| log.head());
        complete::device(&self.who, *seq, (!self.is_viewer()).then_some(self.acked), head)
            .or_else(|| self.topics.missing(&self.who, truth))
    }

    /// When it wants to be stepped again.
    pub fn deadline(&self) -> Micros {
        if self.link.is_none() {
            return self.call_at;
        }
        if self.reads_at > 0 {
            let lives_at = if self.plan.habit == Habit::Deaf { self.lives_at } else { NEVER };
            return self.reads_at.min(self.leave_at).min(lives_at);
        }
        let work = if self.is_welcome() {
            self.asks.deadline().min(self.ack_at).min(self.topics.deadline())
        } else {
            NEVER
        };
        self.patience_ends().min(self.leave_at).min(work)
    }

    /// Does all it can.
    pub fn step(&mut self, ctx: &mut Ctx<'_>) {
        if self.link.is_none() {
            if ctx.now < self.call_at && !(ctx.healed && self.call_at > ctx.now + 5 * SECOND) {
                return;
            }
            self.call(ctx);
        }
        if ctx.healed {
            (self.leave_at, self.reads_at) = (NEVER, 0);
        }
        if ctx.now >= self.leave_at {
            return self.leave(ctx);
        }
        if ctx.now >= self.reads_at {
            self.reads_at = 0;
            self.read(ctx);
        }
        self.live(ctx);
        if self.link.is_some() && self.reads_at == 0 && ctx.now >= self.patience_ends() {
            ctx.trace.note(Of::User(self.user), format_args!("{:<12} gives up", self.who));
            return self.hang_up(ctx);
        }
        if self.is_welcome() {
            self.work(ctx);
        }
        if let Some(link) = &mut self.link {
            link.flush();
        }
    }

    fn patience_ends(&self) -> Micros {
        self.heard + if self.phase == Phase::Calling { CALL_TIMEOUT } else { SILENCE }
    }

    fn is_viewer(&self) -> bool {
        self.plan.name.is_none()
    }

    fn call(&mut self, ctx: &mut Ctx<'_>) {
        self.from = self.choose_from();
        self.is_undisturbed = ctx.healed;
        let upgrade = self.upgrade(ctx);
        for early in &upgrade.early {
            ctx.trace.message(Of::User(self.user), &self.who, "→", early);
        }
        let link = Link::call(ctx.net, ctx.route(&self.plan.network), &upgrade);
        if let Some(pipe) = link.pipe() {
            let window = (!self.is_viewer()).then(|| self.plan.window.unwrap_or(256));
            let healthy = self.plan.network.is_good() && !self.is_lazy() && !ctx.broken;
            ctx.oracles.knows(&self.user_name, self.user);
            ctx.oracles.calls(pipe, Who::User(self.user), window, healthy);
            ctx.oracles.operates(pipe, self.operates);
        }
        self.link = Some(link);
        self.phase = Phase::Calling;
        (self.heard, self.ack_at, self.reads_at) = (ctx.now, NEVER, 0);
        self.leave_at = match self.plan.habit {
            Habit::Flapping => ctx.now + self.dice.exponential(4 * SECOND),
            Habit::Away => ctx.now + self.dice.exponential(10 * SECOND),
            Habit::Online | Habit::Stuck | Habit::Deaf => NEVER,
        };
    }

    /// The head, `hello` right behind it, and now and then more, before any answer.
    fn upgrade(&mut self, ctx: &mut Ctx<'_>) -> Upgrade {
        let life = if !ctx.healed && self.dice.chance(1, 10) { self.dice.between(5, 40) } else { 12 * 3600 };
        let token = self.token_to_call(ctx, life);
        let mut upgrade = Upgrade { path: "/ws", ..Upgrade::default() };
        let mut hello = self.hello();
        match self.dice.below(3) {
            0 => upgrade.protocol_token = Some(token),
            1 => upgrade.header_token = Some(token),
            _ => hello += &format!(",\"token\":\"{token}\""),
        }
        upgrade.early.push(hello + "}");
        if self.dice.chance(1, 3) {
            upgrade.early.extend(self.asks.early().map(str::to_owned));
        }
        upgrade
    }

    /// A token for so many seconds.
    fn token(&self, ctx: &Ctx<'_>, life: u64, operates: bool) -> String {
        let scope = if operates { "user operate" } else { "user" };
        let made = self.keeps_tokens.then(|| ctx.expiry(0));
        ctx.keys.made(made, &self.user_name, scope, ctx.expiry(life * SECOND))
    }

    /// A new one, or the one of before, as long as nobody has refused that.
    fn token_to_call(&mut self, ctx: &mut Ctx<'_>, life: u64) -> String {
        self.key = ctx.keys.newest();
        if !self.keeps_tokens {
            return self.token(ctx, life, self.operates);
        }
        if self.kept.is_none() || self.dice.chance(1, 3) {
            let token = self.token(ctx, 12 * 3600, self.operates);
            self.kept = Some((token, ctx.expiry(0), self.key));
        }
        let (token, made, key) = self.kept.clone().expect("it was just made");
        self.key = key;
        self.revoked = Some(made).filter(|made| ctx.oracles.revoked.is_revoked(&self.user_name, *made));
        sometimes!(ctx.oracles.tally, OldTokenRefused if self.revoked.is_some());
        token
    }

    /// The daemon has let it in.
    fn judge_token(&self, ctx: &mut Ctx<'_>) {
        // Of another disk nobody knows it any more.
        let made = self.revoked.filter(|made| ctx.oracles.revoked.is_revoked(&self.user_name, *made));
        self.expect(ctx, "O17", made.is_none(), || "a revoked token lets it in".to_owned());
    }

    fn expect(&self, ctx: &mut Ctx<'_>, oracle: &'static str, holds: bool, what: impl Fn() -> String) {
        let judgement = if holds { Ok(()) } else { Err(format!("{}: {}", self.who, what())) };
        ctx.oracles.judge(oracle, Some(self.user), judgement);
    }

    /// Mostly the own position, now and then another way that cannot lose what the application has.
    fn choose_from(&mut self) -> From {
        let choice = self.dice.below(16);
        let Some((epoch, seq)) = self.has.clone() else {
            return match choice {
                0 => From::Oldest,
                1 => From::Head,
                2..6 => From::Live,
                _ if self.is_viewer() => From::Live,
                _ => From::Device,
            };
        };
        match choice {
            0..4 if !self.is_viewer() && seq >= self.told => From::Device,
            4 => From::Oldest,
            5 if self.is_viewer() => From::Live,
            6 if self.is_viewer() => From::Head,
            _ => From::Own(epoch, seq),
        }
    }

    /// `hello` without its closing bracket.
    fn hello(&mut self) -> String {
        self.calls += 1;
        let mut text =
            format!("{{\"type\":\"hello\",\"call\":{{\"by\":\"{}\",\"n\":{}}}", self.who, self.calls);
        match &self.plan.name {
            Some(name) => text += &format!(",\"device\":\"{name}\""),
            None => text += ",\"ack\":false",
        }
        match &self.from {
            From::Own(epoch, seq) => {
                text += &format!(",\"from\":{{\"epoch\":\"{epoch}\",\"seq\":{seq}}}");
                self.told = self.told.max(*seq);
            }
            From::Device if self.dice.chance(1, 2) => text += ",\"from\":\"device\"",
            From::Device => {}
            From::Oldest => text += ",\"from\":\"oldest\"",
            From::Head => text += ",\"from\":\"head\"",
            From::Live => text += ",\"from\":\"live\"",
        }
        if let Some(window) = self.plan.window {
            text += &format!(",\"window\":{window}");
        }
        text += &self.topics.hello(&mut self.dice);
        text
    }

    fn leave(&mut self, ctx: &mut Ctx<'_>) {
        let mean = if self.plan.habit == Habit::Away { 40 * SECOND } else { SECOND };
        if let Some(link) = self.link.as_mut().filter(|_| self.dice.chance(1, 2)) {
            link.close();
        }
        self.hang_up(ctx);
        self.call_at = ctx.now + self.dice.exponential(mean);
    }

    fn hang_up(&mut self, ctx: &mut Ctx<'_>) {
        if self.phase == Phase::Calling {
            // Perhaps the daemon has welcomed the device, somewhere.
            self.told = if self.is_known { self.told } else { u64::MAX };
            self.is_unsure = true;
        }
        self.topics.apart(self.phase == Phase::Calling);
        self.refresh = None;
        self.link = None;
        self.phase = Phase::Apart;
        self.reads_at = 0;
        self.failures += 1;
        self.call_at = ctx.now + backoff(&mut self.dice, self.failures);
        ctx.trace.note(Of::User(self.user), format_args!("{:<12} is apart", self.who));
    }

    /// Sends what is due.
    fn work(&mut self, ctx: &mut Ctx<'_>) {
        let mut texts = self.asks.due(ctx.now, ctx.over, &mut self.dice);
        let unacked = self.reader.position - self.acked.min(self.reader.position);
        let is_mute = self.plan.ack_every == NEVER_ACKS && !ctx.healed;
        let is_late = ctx.now >= self.ack_at || (ctx.healed && unacked > 0);
        let is_due = !is_mute && (unacked >= self.plan.ack_every || is_late);
        if is_due && !self.is_viewer() {
            self.acked = self.reader.position;
            self.told = self.told.max(self.acked);
            if let Some(pipe) = self.link.as_ref().and_then(Link::pipe) {
                ctx.oracles.acks(pipe, None, self.acked);
            }
            texts.push(format!("{{\"type\":\"ack\",\"seq\":{}}}", self.acked));
        }
        if is_due || is_mute {
            self.ack_at = NEVER;
        }
        let every = (!is_mute).then_some(self.plan.ack_every);
        for (topic, seq) in self.topics.acks(ctx.now, every, ctx.healed) {
            if let Some(pipe) = self.link.as_ref().and_then(Link::pipe) {
                ctx.oracles.acks(pipe, Some(topic), seq);
            }
            texts.push(format!("{{\"type\":\"ack\",\"topic\":\"{topic}\",\"seq\":{seq}}}"));
        }
        texts.extend(self.topics.change(ctx.now, ctx.over, &mut self.dice));
        for text in texts {
            ctx.trace.message(Of::User(self.user), &self.who, "→", &text);
            if text.starts_with("{\"type\":\"run\"")
                && let (Some(pipe), Ok(said)) = (self.link.as_ref().and_then(Link::pipe), Said::read(&text))
            {
                let travel = self.plan.network.latency * 2 + 20 * MS;
                ctx.oracles.asks(pipe, said.id.as_deref().unwrap_or_default(), travel);
            }
            if let Some(link) = &mut self.link {
                link.send(&text);
            }
        }
    }
}
