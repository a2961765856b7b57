//! A worker that is broken, or means no good: it takes runs and says of them what nobody may, or of runs that
//! are not its own (PROTOCOL §6). Each time the daemon must say what is wrong, with the code for that, and
//! before it acknowledges the number; what becomes of the run is for the other oracles.

use super::{Ctx, backoff, is_of_before};
use crate::dice::Dice;
use crate::link::{Incoming, Link, Upgrade};
use crate::oracles::Who;
use crate::oracles::truth::mark;
use crate::plan::{AGENTS, Network, is_retryable};
use crate::said::Said;
use crate::schedule::{Micros, SECOND};
use crate::sometimes;
use crate::sometimes::State;
use crate::trace::Of;
use std::collections::{BTreeSet, VecDeque};

/// How often it says that it lives.
const BEAT_EVERY: Micros = SECOND;
/// It hangs up after this at the latest.
const STAYS: Micros = 30 * SECOND;

/// Runs that it remembers: what it is told of one may come after the offer of the next.
const TAKEN: usize = 4;

/// What it does with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trick {
    /// Says something before its start is acknowledged.
    Early,
    /// Ends a tool call that has not begun.
    NoCall,
    /// Begins a tool call twice.
    CallTwice,
    /// Says something after the end.
    AfterEnd,
    /// Ends it in a way that there is not.
    BadEnd,
    /// Says something without its number.
    NoNumber,
    /// Says something of a run that it does not have.
    Others,
}

const TRICKS: [Trick; 7] = [
    Trick::Early,
    Trick::NoCall,
    Trick::CallTwice,
    Trick::AfterEnd,
    Trick::BadEnd,
    Trick::NoNumber,
    Trick::Others,
];

/// A run that it has taken.
#[derive(Debug)]
struct Taken {
    run: String,
    attempt: u64,
    trick: Trick,
    is_started: bool,
    /// It was told that what it has said is wrong.
    is_told: bool,
}

/// One such worker.
#[derive(Debug)]
pub struct Rogue {
    name: String,
    agent: &'static str,
    network: Network,
    dice: Dice,
    link: Option<Link>,
    taken: VecDeque<Taken>,
    /// Runs that it ever had.
    had: BTreeSet<String>,
    lives: u64,
    key: u64,
    beat_at: Micros,
    at: Micros,
}

impl Rogue {
    /// A worker that will call soon.
    pub fn new(number: usize, network: Network, mut dice: Dice) -> Self {
        Self {
            name: format!("rogue-{number}"),
            agent: dice.pick(&AGENTS),
            network,
            link: None,
            taken: VecDeque::new(),
            had: BTreeSet::new(),
            lives: 0,
            key: 0,
            beat_at: Micros::MAX,
            at: dice.below(5 * SECOND),
            dice,
        }
    }

    /// When it wants to be stepped again.
    pub fn deadline(&self) -> Micros {
        self.at.min(self.beat_at)
    }

    /// Does all it can.
    pub fn step(&mut self, ctx: &mut Ctx<'_>) {
        self.read(ctx);
        if ctx.healed {
            // It goes for good, as whoever is mended is another.
            (self.link, self.at, self.beat_at) = (None, Micros::MAX, Micros::MAX);
            return;
        }
        if ctx.now >= self.at {
            if self.link.is_some() { self.hang_up(ctx) } else { self.call(ctx) }
        }
        if ctx.now >= self.beat_at {
            self.send(ctx, "{\"type\":\"beat\"}");
        }
        self.link.iter_mut().for_each(Link::flush);
    }

    fn hang_up(&mut self, ctx: &Ctx<'_>) {
        self.link = None;
        self.taken.clear();
        self.beat_at = Micros::MAX;
        self.at = ctx.now + backoff(&mut self.dice, 5);
    }

    /// It knows of no run: what it had is lost.
    fn call(&mut self, ctx: &mut Ctx<'_>) {
        (self.lives, self.key) = (self.lives + 1, ctx.keys.newest());
        let hello = format!(
            "{{\"type\":\"hello\",\"worker\":\"{}\",\"agents\":[{{\"agent\":\"{}\",\"slots\":1,\"retryable\":{}}}]}}",
            self.name,
            self.agent,
            is_retryable(self.agent)
        );
        ctx.trace.message(Of::Other, &self.name, "→", &hello);
        ctx.oracles.leases.said(&self.name, ctx.now);
        let token = ctx.keys.token("rogues", "worker", ctx.expiry(12 * 3600 * SECOND));
        let upgrade =
            Upgrade { path: "/worker", header_token: Some(token), early: vec![hello], ..Upgrade::default() };
        let link = Link::call(ctx.net, ctx.route(&self.network), &upgrade);
        if let Some(pipe) = link.pipe() {
            ctx.oracles.calls(pipe, Who::Worker(self.name.clone()), None, false);
            ctx.oracles.limits.serves(&self.name, self.agent, 1);
        }
        self.link = Some(link);
        self.at = ctx.now + self.dice.log_uniform(SECOND, STAYS);
    }

    fn send(&mut self, ctx: &mut Ctx<'_>, text: &str) {
        ctx.trace.message(Of::Other, &self.name, "→", text);
        ctx.oracles.leases.said(&self.name, ctx.now);
        self.beat_at = ctx.now + BEAT_EVERY;
        self.link.iter_mut().for_each(|link| link.send(text));
    }

    fn judge(&self, ctx: &mut Ctx<'_>, holds: bool, what: impl Fn() -> String) {
        let what = || format!("{}, of {:?}: {}", self.name, self.taken, what());
        ctx.oracles.judge("B3", None, if holds { Ok(()) } else { Err(what()) });
    }

    fn read(&mut self, ctx: &mut Ctx<'_>) {
        while let Some(incoming) = self.link.as_mut().and_then(Link::poll) {
            match incoming {
                Incoming::Opened | Incoming::Alive => {}
                Incoming::Text(text) => self.hear(ctx, &text),
                Incoming::Refused(_) | Incoming::Closed(_) => {
                    ctx.trace.note(Of::Other, format_args!("{:<12} ← {incoming:?}", self.name));
                    self.ended(ctx, &incoming);
                    self.hang_up(ctx);
                }
            }
        }
    }

    /// Only who has said something without its number is not to come back as it is.
    fn ended(&self, ctx: &mut Ctx<'_>, end: &Incoming) {
        let Incoming::Closed(Some(code @ 4500..)) = *end else { return };
        let is_numberless = self.taken.iter().any(|taken| taken.trick == Trick::NoNumber);
        sometimes!(ctx.oracles.tally, NumberMissed if is_numberless && code == 4504);
        let is_old = code == 4501 && is_of_before(ctx, self.key, None);
        let is_good = is_old || matches!(code, 4503 | 4510) || (code == 4504 && is_numberless);
        self.judge(ctx, is_good, || format!("is closed {code}"));
    }

    fn hear(&mut self, ctx: &mut Ctx<'_>, text: &str) {
        ctx.trace.message(Of::Other, &self.name, "←", text);
        let Ok(said) = Said::read(text) else { return };
        match said.kind.as_ref() {
            "welcome" => self.beat_at = ctx.now + BEAT_EVERY,
            "run" => self.offered(ctx, &said),
            "ack" => self.acked(ctx, &said),
            "withdraw" => self.taken.retain(|taken| said.run.as_deref() != Some(&taken.run)),
            "error" => self.refused(ctx, &said),
            _ => {}
        }
    }

    fn offered(&mut self, ctx: &mut Ctx<'_>, said: &Said<'_>) {
        let (Some(run), Some(attempt)) = (said.run.as_deref(), said.attempt) else { return };
        let trick = self.dice.pick(&TRICKS);
        self.had.insert(run.to_owned());
        if self.taken.len() == TAKEN {
            self.taken.pop_front();
        }
        self.taken.push_back(Taken {
            run: run.to_owned(),
            attempt,
            trick,
            is_started: false,
            is_told: false,
        });
        let about = format!("\"run\":\"{run}\",\"attempt\":{attempt}");
        if trick == Trick::Early {
            self.send(ctx, &event(&about, 1, "agent_output", "\"delta\":\"too early\""));
            self.send(ctx, &format!("{{\"type\":\"decline\",{about},\"reason\":\"no\",\"retry_ms\":3000}}"));
            ctx.oracles.limits.over(run);
        } else {
            self.send(ctx, &format!("{{\"type\":\"started\",{about}}}"));
        }
    }

    fn acked(&mut self, ctx: &mut Ctx<'_>, said: &Said<'_>) {
        let is_it = |taken: &&mut Taken| {
            said.run == Some((&*taken.run).into()) && said.attempt == Some(taken.attempt)
        };
        let Some(taken) = self.taken.iter_mut().find(is_it) else { return };
        let (n, is_told) = (said.n.unwrap_or(0), taken.is_told);
        if let Some(wrong) = taken.trick.wrong().filter(|wrong| n >= *wrong) {
            self.judge(ctx, is_told, || format!("{wrong} is acknowledged, and nothing said against it"));
        } else if !std::mem::replace(&mut taken.is_started, true) {
            let (run, attempt, trick) = (taken.run.clone(), taken.attempt, taken.trick);
            self.play(ctx, &run, attempt, trick);
        }
    }

    /// Its start is acknowledged: now comes what is wrong.
    fn play(&mut self, ctx: &mut Ctx<'_>, run: &str, attempt: u64, trick: Trick) {
        let me = format!("{} #{}", self.name, self.lives);
        let judgement = ctx.oracles.fencing.executes(run, &me, attempt, is_retryable(self.agent));
        ctx.oracles.judge("O18", None, judgement);
        let about = format!("\"run\":\"{run}\",\"attempt\":{attempt}");
        let call = |n: u64, kind: &str, more: &str| {
            event(
                &about,
                n,
                kind,
                &format!("\"call\":\"c\",\"tool\":\"search\"{more},\"mark\":\"{}\"", mark(n)),
            )
        };
        let end = |n: u64, status: &str| {
            format!(
                "{{\"type\":\"complete\",{about},\"n\":{n},\"status\":\"{status}\",\"output\":\"{}\"}}",
                mark(n)
            )
        };
        let texts = match trick {
            Trick::Early => vec![],
            Trick::NoCall => {
                vec![call(1, "tool_completed", ",\"status\":\"ok\",\"duration_ms\":1"), end(2, "ok")]
            }
            Trick::CallTwice => vec![
                call(1, "tool_executing", ",\"args\":{}"),
                call(2, "tool_executing", ",\"args\":{}"),
                end(3, "ok"),
            ],
            Trick::AfterEnd => vec![end(1, "ok"), event(&about, 2, "agent_output", "\"delta\":\"and then\"")],
            Trick::BadEnd => vec![end(1, "perhaps")],
            Trick::NoNumber => {
                vec![format!("{{\"type\":\"event\",{about},\"event\":\"custom\",\"data\":{{}}}}")]
            }
            Trick::Others => {
                let others = ctx.book.runs.iter().filter(|(_, run)| !self.had.contains(run));
                let others: Vec<&String> = others.map(|(_, run)| run).collect();
                let pick = self.dice.below(others.len() as u64) as usize;
                let other = others.get(pick).map(|run| format!("\"run\":\"{run}\",\"attempt\":1"));
                let theirs = other.map(|about| event(&about, 1, "agent_output", "\"delta\":\"not mine\""));
                theirs.into_iter().chain([end(1, "ok")]).collect()
            }
        };
        texts.iter().for_each(|text| self.send(ctx, text));
    }

    /// It is told what is wrong.
    fn refused(&mut self, ctx: &mut Ctx<'_>, said: &Said<'_>) {
        let code = said.code.as_deref().unwrap_or_default();
        // Meanwhile the run may be lost, or the disk full, or it itself refused.
        let is_common = matches!(code, "storage_unavailable" | "rate_limited" | "draining" | "gap")
            || is_of_before(ctx, self.key, Some(code));
        let is_it =
            |taken: &Taken| said.run == Some((&*taken.run).into()) && said.attempt == Some(taken.attempt);
        let its = self.taken.iter().position(is_it);
        let is_numberless =
            said.run.is_none() && self.taken.iter().any(|taken| taken.trick == Trick::NoNumber);
        let is_its = its.is_some();
        let newest = self.taken.len().checked_sub(1);
        let Some(taken) = its.or(newest).and_then(|at| self.taken.get_mut(at)) else { return };
        let state = match (taken.trick, code) {
            (Trick::Others, "fenced") if !is_its => Some(State::OthersRunFenced),
            (_, "bad_message" | "bad_event") if is_numberless => None,
            (_, "fenced") => None,
            (Trick::Early, "bad_event") => Some(State::SaidTooEarly),
            (trick, "bad_event") if said.n == trick.wrong() => Some(State::WorkerCorrected),
            _ if is_common => None,
            _ => return self.judge(ctx, false, || format!("is told {said:?}")),
        };
        taken.is_told |= code != "storage_unavailable" && is_its;
        state.into_iter().for_each(|state| ctx.oracles.tally.mark(state));
    }
}

impl Trick {
    /// The number of the message that is wrong.
    const fn wrong(self) -> Option<u64> {
        match self {
            Self::NoCall | Self::BadEnd => Some(1),
            Self::CallTwice | Self::AfterEnd => Some(2),
            Self::Early | Self::NoNumber | Self::Others => None,
        }
    }
}

fn event(about: &str, n: u64, kind: &str, data: &str) -> String {
    format!("{{\"type\":\"event\",{about},\"n\":{n},\"event\":\"{kind}\",\"data\":{{{data}}}}}")
}
