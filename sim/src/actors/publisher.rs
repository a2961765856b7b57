//! A publisher: a server that says something on topics over HTTP, mostly with a key, and asks again with it
//! until it is answered. What it is told must be durable, and each publication be made once.

use super::errand::Errand;
use super::http::{Call, Outcome};
use super::{Ctx, is_of_before};
use crate::dice::Dice;
use crate::oracles::topics::OPERATORS;
use crate::oracles::truth::secret;
use crate::plan::PublisherPlan;
use crate::schedule::{MS, Micros, SECOND};
use crate::sometimes;
use crate::trace::Of;
use serde_json::Value;

/// A publication, as it is asked for.
#[derive(Debug)]
struct Publication {
    topic: &'static str,
    mark: String,
    has_key: bool,
    body: String,
    /// What is to be done to a user, if that is what is asked for.
    errand: Option<(Errand, String)>,
    /// How often it was asked for.
    tries: u32,
    /// The key of the token with which it was.
    key: u64,
    /// The disk on which it was last asked.
    disk: u64,
}

/// One publisher.
#[derive(Debug)]
pub struct Publisher {
    plan: PublisherPlan,
    dice: Dice,
    said: u64,
    publication: Option<Publication>,
    call: Option<Call>,
    at: Micros,
}

impl Publisher {
    /// A publisher that will say something soon.
    pub fn new(plan: PublisherPlan, mut dice: Dice) -> Self {
        let at = dice.below(3 * SECOND);
        Self { plan, dice, said: 0, publication: None, call: None, at }
    }

    /// When it wants to be stepped again.
    pub fn deadline(&self) -> Micros {
        self.call.as_ref().map_or(self.at, |call| call.until)
    }

    /// What it waits for, if anything.
    pub fn missing(&self) -> Option<String> {
        let publication = self.publication.as_ref()?;
        Some(format!("{} waits for the answer to {}", self.plan.name, publication.mark))
    }

    /// Does all it can.
    pub fn step(&mut self, ctx: &mut Ctx<'_>) {
        if ctx.healed {
            self.at = self.at.min(ctx.now + 5 * SECOND);
        }
        if let Some(call) = &mut self.call {
            let outcome = call.go_on(ctx.now);
            if outcome != Outcome::Waits {
                self.call = None;
                self.heed(ctx, &outcome);
            }
            return;
        }
        if ctx.now < self.at {
            return;
        }
        if self.publication.is_none() && !ctx.over {
            self.publication = Some(self.next());
        }
        match self.publication.take() {
            Some(publication) => self.ask(ctx, publication),
            None => self.at = Micros::MAX,
        }
    }

    fn next(&mut self) -> Publication {
        if !self.plan.erases.is_empty() && self.dice.chance(1, 10) {
            let user = self.dice.pick(&self.plan.erases.iter().collect::<Vec<_>>()).clone();
            return self.errand(Errand::Erase, user);
        }
        if !self.plan.sends_away.is_empty() && self.dice.chance(1, 6) {
            let user = self.dice.pick(&self.plan.sends_away.iter().collect::<Vec<_>>()).clone();
            let errand =
                self.dice.pick(&[Errand::Reconnect, Errand::Disconnect, Errand::Revoke, Errand::Revoke]);
            return self.errand(errand, user);
        }
        if self.plan.asks_ready && self.dice.chance(1, 10) {
            return self.errand(Errand::look(self.said), String::new());
        }
        let topic = self.dice.pick(&["news", "news", "ops", "system", "alerts"]);
        let mark = format!("{}-{}", self.plan.name, self.said);
        self.said += 1;
        let secret = if matches!(topic, "ops" | "alerts") { secret(OPERATORS) } else { String::new() };
        let bulk = if self.dice.chance(1, 40) { self.dice.log_uniform(100, 60_000) as usize } else { 0 };
        let body = format!(
            "{{\"event\":\"flash\",\"data\":{{\"mark\":\"#pub={mark};\",\"secret\":\"{secret}\",\"bulk\":\"{}\"}}}}",
            "z".repeat(bulk)
        );
        Publication {
            topic,
            mark,
            has_key: self.dice.chance(3, 4),
            body,
            errand: None,
            tries: 0,
            key: 0,
            disk: 0,
        }
    }

    fn errand(&mut self, errand: Errand, user: String) -> Publication {
        let mark = format!("{errand:?} {user}");
        let errand = Some((errand, user));
        Publication { topic: "", mark, has_key: true, body: String::new(), errand, tries: 0, key: 0, disk: 0 }
    }

    fn ask(&mut self, ctx: &mut Ctx<'_>, mut publication: Publication) {
        publication.tries += 1;
        publication.key = ctx.keys.newest();
        let Publication { topic, mark, has_key, body, .. } = &publication;
        let scope = if publication.errand.is_some() { "operate" } else { "publish" };
        let made = (!self.plan.sends_away.is_empty()).then(|| ctx.expiry(0));
        let token = ctx.keys.made(made, &self.plan.name, scope, ctx.expiry(3600 * SECOND));
        let key = if *has_key { format!("Idempotency-Key: {mark}\r\n") } else { String::new() };
        let mut request = format!(
            "POST /v1/topics/{topic}/events HTTP/1.1\r\nHost: runcast.test\r\nAuthorization: Bearer {token}\r\n\
             {key}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut what = format!("publishes {mark} on {topic}");
        if let Some((errand, user)) = &publication.errand {
            what = format!("{errand:?} {user}");
            request = errand.http(user, &token);
            publication.disk = errand.begins(ctx, user);
        }
        ctx.trace.message(Of::Other, &self.plan.name, "→", &what);
        let call = Call::new(ctx, &self.plan.network, request);
        (self.publication, self.call) = (Some(publication), Some(call));
        // Whatever can be done at once is done at the next step.
        self.step(ctx);
    }

    fn heed(&mut self, ctx: &mut Ctx<'_>, outcome: &Outcome) {
        let Some(publication) = self.publication.take() else { return };
        let pause = self.dice.exponential(self.plan.every);
        self.at = ctx.now + pause;
        ctx.trace.message(Of::Other, &self.plan.name, "←", &format!("{outcome:?}"));
        if let (Some((errand, user)), Outcome::Answered(status, body)) = (&publication.errand, outcome)
            && errand.is_done(ctx, user, publication.disk, *status, body)
        {
            return;
        }
        match outcome {
            Outcome::Answered(status @ (200 | 201), body) if publication.errand.is_none() => {
                self.judge(ctx, &publication, *status, body)
            }
            // Another operator, or it itself, has had its tokens revoked, or the key is another.
            Outcome::Answered(401, _)
                if !self.plan.sends_away.is_empty() || is_of_before(ctx, publication.key, None) =>
            {
                self.at = ctx.now + self.dice.between(100 * MS, 2 * SECOND);
                self.publication = Some(publication);
            }
            Outcome::Answered(429 | 503 | 408, _) | Outcome::Broken => {
                // Without a key nobody can know whether it has come about.
                self.at = ctx.now + self.dice.between(100 * MS, 2 * SECOND);
                self.publication = Some(publication).filter(|publication| publication.has_key);
            }
            Outcome::Answered(..) | Outcome::Waits => {
                let what = format!("{} is refused: {outcome:?}", publication.mark);
                ctx.oracles.judge("B3", None, Err(what));
            }
        }
    }

    /// What is answered is durable under that seq, and was there before if it says so.
    fn judge(&self, ctx: &mut Ctx<'_>, publication: &Publication, status: u16, body: &str) {
        let answer: Value = serde_json::from_str(body).unwrap_or_default();
        let at = (publication.topic.to_owned(), publication.mark.clone());
        let stored = ctx.oracles.truth.published.get(&at).copied();
        let is_lost = stored.is_none() && ctx.oracles.disks_lost > 0;
        if answer["seq"].as_u64() != stored && !is_lost {
            let what = format!("{publication:?} is answered {body}, and stored under {stored:?}");
            ctx.oracles.judge("O16", None, Err(what));
        }
        let is_repeated = status == 200;
        sometimes!(ctx.oracles.tally, PublishedAgain if is_repeated);
        let is_first = publication.tries == 1;
        if answer["duplicate"].as_bool() != Some(is_repeated) || (is_repeated && is_first) {
            let what = format!("{publication:?} is answered {status}: {body}");
            ctx.oracles.judge("O3", None, Err(what));
        }
    }
}
