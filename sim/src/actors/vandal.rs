//! Clients that mean no good in how they speak: floods, drips, broken frames, tokens of before, one device
//! twice at once. (`hostile.rs` has those that mean no good in what they say.)
//!
//! Each call plays one trick, and checks the answer that PROTOCOL names: what must be refused is refused with
//! its code, and what is merely odd is understood.

use super::errand::Errand;
use super::hostile::is_common;
use super::http::{Call, Outcome};
use super::tricks::{self, Trick};
use super::{Ctx, backoff, is_of_before};
use crate::dice::Dice;
use crate::keys;
use crate::link::{Incoming, Link, Upgrade};
use crate::oracles::Who;
use crate::plan::Network;
use crate::said::Said;
use crate::schedule::{MS, Micros, SECOND};
use crate::sometimes;
use crate::trace::Of;
use std::collections::VecDeque;

/// A trick is given up after this.
const PATIENCE: Micros = 20 * SECOND;
/// For how long its tokens are good: longer than a jump of the clock.
const TOKEN: Micros = 12 * 3600 * SECOND;
/// Nothing more is to be done.
const NEVER: Micros = Micros::MAX;

/// One of its connections.
#[derive(Debug)]
struct Line {
    link: Link,
    is_welcome: bool,
    /// It must not be welcome.
    is_replayed: bool,
    /// What was asked last on it was answered.
    is_answered: bool,
}

/// One such client, with a user of its own.
#[derive(Debug)]
pub struct Vandal {
    user: usize,
    name: String,
    network: Network,
    dice: Dice,
    trick: Trick,
    lines: Vec<Line>,
    /// What it writes one byte at a time once its connection is open.
    drops: VecDeque<u8>,
    /// The time between two bytes, or two bursts of acknowledgements.
    every: Micros,
    /// Bursts that are still to come, and what each acknowledges.
    bursts: (u32, String),
    /// When it goes on.
    next_at: Micros,
    /// It does not read before this.
    reads_at: Micros,
    /// The token that it will replay: whose, when it was made, and what it says.
    token: (String, u64, String),
    /// The newest key when it called.
    key: u64,
    /// Users whose tokens it had revoked.
    revoked: u64,
    /// The disk on which it asked for that.
    disk: u64,
    call: Option<Call>,
    at: Micros,
}

impl Vandal {
    /// A client that will call soon.
    pub fn new(user: usize, network: Network, mut dice: Dice) -> Self {
        Self {
            user,
            name: format!("vandal-{user}"),
            network,
            trick: Trick::Fragments,
            lines: Vec::new(),
            drops: VecDeque::new(),
            every: 0,
            bursts: (0, String::new()),
            next_at: NEVER,
            reads_at: 0,
            token: (String::new(), 0, String::new()),
            key: 0,
            revoked: 0,
            disk: 0,
            call: None,
            at: dice.below(5 * SECOND),
            dice,
        }
    }

    /// When it wants to be stepped again.
    pub fn deadline(&self) -> Micros {
        let reads_at = if self.reads_at > 0 { self.reads_at } else { NEVER };
        self.at.min(self.next_at).min(reads_at)
    }

    /// Plays on.
    pub fn step(&mut self, ctx: &mut Ctx<'_>) {
        if ctx.now >= self.reads_at {
            self.reads_at = 0;
            self.read(ctx);
        }
        if ctx.now >= self.next_at {
            self.go_on(ctx);
        }
        self.hear_of_revocation(ctx);
        self.lines.iter_mut().for_each(|line| line.link.flush());
        if ctx.now < self.at {
            return;
        }
        if !self.lines.is_empty() || self.call.is_some() || ctx.healed {
            return self.leave(ctx);
        }
        self.play(ctx);
    }

    /// The trick is over. Whatever connections are left are dropped as they are.
    fn leave(&mut self, ctx: &Ctx<'_>) {
        self.lines.clear();
        self.drops.clear();
        (self.call, self.next_at, self.reads_at) = (None, NEVER, 0);
        let pause = if ctx.healed { 3600 * SECOND } else { self.dice.log_uniform(10 * MS, 5 * SECOND) };
        self.at = ctx.now + pause;
    }

    /// Calls the daemon, for another trick.
    fn play(&mut self, ctx: &mut Ctx<'_>) {
        self.trick = self.dice.pick(&Trick::ALL);
        ctx.trace.note(Of::Other, format_args!("{:<12} tries {:?}", self.name, self.trick));
        let now = ctx.expiry(0);
        self.key = ctx.keys.newest();
        let mut token = ctx.keys.token(&self.name, "user", ctx.expiry(TOKEN));
        if self.trick == Trick::Expired {
            let late = self.dice.log_uniform(7, 3 * 3600);
            token = ctx.keys.made(Some(now - late - 60), &self.name, "user", now - late);
        } else if self.trick == Trick::Revoked {
            // Every time another user's, since no older token of the same is good any more.
            self.revoked += 1;
            let name = format!("{}-{}", self.name, self.revoked);
            token = ctx.keys.made(Some(now), &name, "user", ctx.expiry(TOKEN));
            self.token = (name, now, token.clone());
        } else if self.trick == Trick::OldKey {
            // Where there is none of before, one that there never was.
            let old = ctx.keys.oldest().checked_sub(1).unwrap_or(u64::MAX);
            token = keys::signed(old, None, &self.name, "user", ctx.expiry(TOKEN));
        }
        self.at = ctx.now + PATIENCE;
        let is_replayed = matches!(self.trick, Trick::Expired | Trick::OldKey);
        for _ in 0..if self.trick == Trick::Twins { 2 } else { 1 } {
            self.connect(ctx, token.clone(), is_replayed);
        }
    }

    fn connect(&mut self, ctx: &mut Ctx<'_>, token: String, is_replayed: bool) {
        let mut hello = "{\"type\":\"hello\",\"device\":\"vandal\"".to_owned();
        let mut upgrade = Upgrade { path: "/ws", ..Upgrade::default() };
        if self.trick == Trick::EqualAcks {
            hello += ",\"topics\":[{\"topic\":\"news\",\"from\":\"oldest\"}]";
        }
        match self.dice.below(3) {
            0 => upgrade.protocol_token = Some(token),
            1 => upgrade.header_token = Some(token),
            _ => hello += &format!(",\"token\":\"{token}\""),
        }
        hello.push('}');
        let (route, is_slow) = (ctx.route(&self.network), self.trick == Trick::SlowHead);
        let link = if is_slow || self.trick == Trick::Drip {
            self.drops = [hello.as_str(), tricks::PING].iter().flat_map(|text| tricks::text(text)).collect();
            let pace = if is_slow { (200 * MS, 900 * MS) } else { (500, 7 * MS) };
            self.every = self.dice.log_uniform(pace.0, pace.1);
            self.next_at = ctx.now;
            Link::dripping(ctx.net, route, upgrade.bytes())
        } else {
            upgrade.early.push(hello);
            Link::call(ctx.net, route, &upgrade)
        };
        if let Some(pipe) = link.pipe() {
            ctx.oracles.calls(pipe, Who::User(self.user), Some(256), false);
        }
        self.lines.push(Line { link, is_welcome: false, is_replayed, is_answered: false });
    }

    fn read(&mut self, ctx: &mut Ctx<'_>) {
        for index in 0..self.lines.len() {
            while ctx.now >= self.reads_at
                && let Some(incoming) = self.lines.get_mut(index).and_then(|line| line.link.poll())
            {
                match incoming {
                    Incoming::Opened | Incoming::Alive => {}
                    Incoming::Text(text) => self.hear(ctx, index, &text),
                    Incoming::Refused(_) | Incoming::Closed(_) => self.ended(ctx, index, &incoming),
                }
            }
        }
    }

    fn hear(&mut self, ctx: &mut Ctx<'_>, index: usize, text: &str) {
        ctx.trace.message(Of::User(self.user), &self.name, "←", text);
        let Ok(said) = Said::read(text) else { return };
        match said.kind.as_ref() {
            "welcome" => self.welcome(ctx, index, &said),
            "pong" if said.n == Some(tricks::ASKED) => self.answered(ctx, index),
            "error" => self.refused(ctx, index, &said),
            _ => {}
        }
    }

    fn judge(&self, ctx: &mut Ctx<'_>, holds: bool, what: impl Fn() -> String) {
        let what = || format!("{} plays {:?}: {}", self.name, self.trick, what());
        ctx.oracles.judge("B3", Some(self.user), if holds { Ok(()) } else { Err(what()) });
    }

    /// It is welcome: now comes what it is there for.
    fn welcome(&mut self, ctx: &mut Ctx<'_>, index: usize, said: &Said<'_>) {
        let line = &mut self.lines[index];
        line.is_welcome = true;
        let is_replayed = line.is_replayed;
        let (name, made, _) = &self.token;
        if is_replayed && self.trick == Trick::Revoked {
            let is_revoked = ctx.oracles.revoked.is_revoked(name, *made);
            let what = || Err(format!("{} is let in by a revoked token", self.name));
            ctx.oracles.judge("O17", Some(self.user), if is_revoked { what() } else { Ok(()) });
        }
        let is_forged = is_replayed && self.trick == Trick::OldKey;
        let forged = || Err(format!("{} is let in by a token that no good key has signed", self.name));
        ctx.oracles.judge("O17", Some(self.user), if is_forged { forged() } else { Ok(()) });
        let link = &mut self.lines[index].link;
        match self.trick {
            Trick::EqualAcks => self.begin_acks(ctx, index, said),
            Trick::Fragments => link.write_raw(&tricks::fragments(tricks::PING)),
            Trick::NotUtf8 => link.write_raw(&tricks::not_utf8(&mut self.dice)),
            Trick::Breach => link.write_raw(&tricks::breach(&mut self.dice)),
            Trick::Announce => link.write_raw(&tricks::announcement(&mut self.dice)),
            Trick::Pings => {
                link.write_raw(&tricks::pings());
                link.send(tricks::PING);
                // Every second time it takes no pong for a while.
                self.reads_at = if self.dice.chance(1, 2) { ctx.now + 12 * SECOND } else { 0 };
            }
            Trick::Shouts => (0..tricks::SHOUTS).for_each(|_| link.send("{\"type\":\"ping\"}")),
            Trick::MidFrame => {
                link.write_raw(&tricks::half_a_frame(&mut self.dice));
                sometimes!(ctx.oracles.tally, GoneMidFrame);
                self.leave(ctx);
            }
            Trick::Revoked if !is_replayed => self.revoke(ctx),
            Trick::Twins if self.lines.iter().all(|line| line.is_welcome) => {
                self.lines.iter_mut().for_each(|line| line.link.send(tricks::PING));
            }
            // What is asked is on its way already, or nothing is.
            Trick::Drip
            | Trick::SlowHead
            | Trick::Expired
            | Trick::Revoked
            | Trick::OldKey
            | Trick::Twins => {}
        }
    }

    /// Some hundreds of acknowledgements of where it begins, for as long as a retry takes and longer.
    fn begin_acks(&mut self, ctx: &mut Ctx<'_>, index: usize, said: &Said<'_>) {
        let entry = said.topic_entries().pop().and_then(|entry| entry.resume);
        let (topic, from) = match (entry, self.dice.chance(1, 2)) {
            (Some(resume), true) => (Some("news"), resume.from),
            _ => (None, said.resume.as_ref().map_or(0, |resume| resume.from)),
        };
        if let Some(pipe) = self.lines[index].link.pipe() {
            ctx.oracles.acks(pipe, topic, from);
        }
        let topic = topic.map(|topic| format!("\"topic\":\"{topic}\",")).unwrap_or_default();
        self.bursts = (10, format!("{{\"type\":\"ack\",{topic}\"seq\":{from}}}"));
        (self.every, self.next_at) = (500 * MS, ctx.now);
    }

    /// The next byte, or the next burst.
    fn go_on(&mut self, ctx: &mut Ctx<'_>) {
        self.next_at = ctx.now + self.every;
        let Some(Line { link, .. }) = self.lines.first_mut() else { return self.next_at = NEVER };
        if self.trick == Trick::EqualAcks {
            (0..100).for_each(|_| link.send(&self.bursts.1));
            self.bursts.0 -= 1;
            if self.bursts.0 == 0 {
                link.send(tricks::PING);
                self.next_at = NEVER;
            }
        } else if link.drip() {
            // What becomes of it is seen at once.
            self.read(ctx);
        } else if link.is_open() {
            match self.drops.pop_front() {
                Some(byte) => link.write_raw(&[byte]),
                None => self.next_at = NEVER,
            }
        }
    }

    /// Its question was answered, though it was asked so oddly.
    fn answered(&mut self, ctx: &mut Ctx<'_>, index: usize) {
        self.lines[index].is_answered = true;
        let tally = &mut ctx.oracles.tally;
        match self.trick {
            Trick::EqualAcks => sometimes!(tally, EqualAcksTaken),
            Trick::Fragments => sometimes!(tally, FragmentsRead),
            Trick::Drip => sometimes!(tally, DripRead),
            Trick::Pings => sometimes!(tally, PingsAnswered),
            Trick::Twins => {
                // Each was asked when both were welcome.
                let living = self.lines.iter().filter(|line| line.is_answered).count();
                return self.judge(ctx, living < 2, || "both connections of a device live".to_owned());
            }
            Trick::SlowHead
            | Trick::NotUtf8
            | Trick::Breach
            | Trick::Announce
            | Trick::Shouts
            | Trick::MidFrame
            | Trick::Expired
            | Trick::Revoked
            | Trick::OldKey => return,
        }
        self.leave(ctx);
    }

    /// It is told what is wrong, which must be what is.
    fn refused(&mut self, ctx: &mut Ctx<'_>, index: usize, said: &Said<'_>) {
        let code = said.code.as_deref().unwrap_or_default();
        let expected = self.trick.refused(self.lines[index].is_replayed);
        let is_common = matches!(code, "storage_unavailable" | "overloaded" | "draining")
            || is_of_before(ctx, self.key, Some(code));
        self.judge(ctx, code == expected || is_common, || format!("is told {said:?}, not {expected:?}"));
    }

    /// A connection is over: as PROTOCOL says, or since it broke, which is no answer.
    fn ended(&mut self, ctx: &mut Ctx<'_>, index: usize, end: &Incoming) {
        ctx.trace.note(Of::Other, format_args!("{:<12} ← {end:?}", self.name));
        let line = self.lines.remove(index);
        if let Incoming::Refused(code) | Incoming::Closed(Some(code)) = end {
            let expected = self.trick.ends(line.is_replayed);
            let is_old = matches!(code, 401 | 4501) && is_of_before(ctx, self.key, None);
            let is_good = expected.contains(code) || is_common(*code) || *code == 4510 || is_old;
            self.judge(ctx, is_good, || format!("is answered {code} and not {expected:?}"));
            let is_refused = line.is_replayed && !line.is_welcome && expected.contains(code);
            sometimes!(ctx.oracles.tally, OldTokenReplayed if is_refused && self.trick == Trick::Expired);
            let is_retired = self.trick == Trick::OldKey && ctx.keys.oldest() > 0;
            sometimes!(ctx.oracles.tally, OldKeyRefused if is_refused && is_retired);
            sometimes!(ctx.oracles.tally, RevokedReplayed if is_refused && self.trick == Trick::Revoked);
            sometimes!(ctx.oracles.tally, SlowHeadRefused if self.trick == Trick::SlowHead && *code == 408);
            let is_other_welcome = self.lines.iter().any(|line| line.is_welcome);
            let is_replaced = self.trick == Trick::Twins && *code == 4510;
            sometimes!(ctx.oracles.tally, TwinReplaced if is_replaced && is_other_welcome);
        }
        if self.lines.is_empty() && self.call.is_none() {
            self.leave(ctx);
            self.at = ctx.now + backoff(&mut self.dice, 5);
        }
    }

    /// Has its own token revoked, as an operator.
    fn revoke(&mut self, ctx: &mut Ctx<'_>) {
        let token = ctx.keys.token(&self.name, "operate", ctx.expiry(TOKEN));
        let user = &self.token.0;
        self.disk = Errand::Revoke.begins(ctx, user);
        self.call = Some(Call::new(ctx, &self.network, Errand::Revoke.http(user, &token)));
    }

    /// Once that is answered, it comes with the token all the same.
    fn hear_of_revocation(&mut self, ctx: &mut Ctx<'_>) {
        let Some(call) = &mut self.call else { return };
        let outcome = call.go_on(ctx.now);
        if outcome == Outcome::Waits {
            return;
        }
        self.call = None;
        let (user, _, token) = self.token.clone();
        match outcome {
            Outcome::Answered(status, body)
                if Errand::Revoke.is_done(ctx, &user, self.disk, status, &body) =>
            {
                self.at = ctx.now + PATIENCE;
                self.connect(ctx, token, true);
            }
            Outcome::Answered(..) | Outcome::Broken | Outcome::Waits => self.leave(ctx),
        }
    }
}
