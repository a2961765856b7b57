//! What a device asks for: runs with keys, cancels, pings. A request stays until it is answered, and is sent
//! again on each connection, word for word.

use crate::dice::Dice;
use crate::oracles::truth::secret;
use crate::plan::{AGENTS, DevicePlan};
use crate::schedule::{MS, Micros, SECOND};

/// Never.
const NEVER: Micros = Micros::MAX;
/// A refusal that is temporary is taken for final after so many tries.
const TRIES: u32 = 4;
/// Requests without an answer, at most.
const OPEN: usize = 64;

#[derive(Debug)]
struct Request {
    id: String,
    text: String,
    at: Micros,
    tries: u32,
}

/// The requests of one device.
#[derive(Debug)]
pub struct Asks {
    user: usize,
    label: String,
    every: Option<Micros>,
    deltas_max: u64,
    is_bulky: bool,
    open: Vec<Request>,
    at: Micros,
    made: u64,
}

impl Asks {
    /// Of a device that asks as often as its plan says; `label` tells its requests from those of others of
    /// its user.
    pub fn new(plan: &DevicePlan, user: usize, label: &str, dice: &mut Dice) -> Self {
        let at = plan.ask_every.map_or(NEVER, |every| dice.exponential(every));
        let (label, deltas_max) = (label.to_owned(), plan.deltas_max);
        let (every, is_bulky) = (plan.ask_every, plan.is_bulky);
        Self { user, label, every, deltas_max, is_bulky, open: Vec::new(), at, made: 0 }
    }

    /// When there is something to send.
    pub fn deadline(&self) -> Micros {
        self.open.iter().map(|request| request.at).min().unwrap_or(NEVER).min(self.at)
    }

    /// The first request that has no answer.
    pub fn unanswered(&self) -> Option<&str> {
        self.open.first().map(|request| request.text.as_str())
    }

    /// Asks for a run now.
    pub fn ask(&mut self, now: Micros, dice: &mut Dice) {
        let text = self.run(dice);
        self.push(now, text);
    }

    /// Asks for what the plan lets it ask for by now, and returns what is to be sent.
    pub fn due(&mut self, now: Micros, over: bool, dice: &mut Dice) -> Vec<String> {
        if over {
            self.at = NEVER;
        }
        if now >= self.at {
            let count = if dice.chance(1, 30) { dice.between(5, 30) } else { 1 };
            (0..count).for_each(|_| self.ask(now, dice));
            if dice.chance(1, 10) {
                self.push(now, "\"type\":\"ping\",\"n\":7".to_owned());
            }
            self.at = self.every.map_or(NEVER, |every| now + dice.exponential(every));
        }
        let mut texts = Vec::new();
        for request in self.open.iter_mut().filter(|request| request.at <= now) {
            request.at = NEVER;
            texts.push(request.text.clone());
        }
        texts
    }

    /// A run was accepted: now and then it is to be cancelled later.
    pub fn accepted(&mut self, now: Micros, id: &str, run: &str, dice: &mut Dice) {
        self.answered(id);
        if dice.chance(1, 8) {
            self.push(now + dice.exponential(3 * SECOND), format!("\"type\":\"cancel\",\"run\":\"{run}\""));
        }
    }

    /// A run asks its user: now and then this device answers, or steers it, after a while.
    pub fn asked(&mut self, now: Micros, run: &str, request: &str, dice: &mut Dice) {
        let about = match dice.below(8) {
            0..4 => return,
            4 => String::new(),
            _ => format!(",\"request\":\"{request}\""),
        };
        let key = if dice.chance(1, 2) { format!(",\"key\":\"input-{request}\"") } else { String::new() };
        let said = format!("{{\"secret\":\"{}\",\"by\":\"{}\"}}", secret(self.user), self.label);
        let at = now + dice.log_uniform(MS, 10 * SECOND);
        self.push(at, format!("\"type\":\"input\",\"run\":\"{run}\"{about}{key},\"data\":{said}"));
    }

    /// A request has its answer.
    pub fn answered(&mut self, id: &str) {
        self.open.retain(|request| request.id != id);
    }

    /// A request is refused for now; it is tried again, but not for ever.
    pub fn refused(&mut self, now: Micros, id: &str, retry_ms: Option<u64>) {
        for request in self.open.iter_mut().filter(|request| request.id == id) {
            request.tries += 1;
            request.at = now + retry_ms.unwrap_or(1_000).clamp(100, 30_000) * MS;
        }
        self.open.retain(|request| request.tries < TRIES);
    }

    /// On a new connection everything is sent again (what was planned for later, a little early).
    pub fn again(&mut self, now: Micros) {
        self.open.iter_mut().for_each(|request| request.at = request.at.min(now));
    }

    /// What may be sent right behind the head.
    pub fn early(&self) -> impl Iterator<Item = &str> {
        self.open.iter().take(5).map(|request| request.text.as_str())
    }

    fn push(&mut self, at: Micros, body: String) {
        if self.open.len() < OPEN {
            self.made += 1;
            let id = format!("{}-{}", self.label, self.made);
            let text = format!("{{{body},\"id\":\"{id}\"}}");
            self.open.push(Request { id, text, at, tries: 0 });
        }
    }

    /// A run and what its worker is to do, which the input says.
    fn run(&mut self, dice: &mut Dice) -> String {
        let key = format!("{}-key-{}", self.label, self.made);
        let thread = dice.below(5);
        let agent = dice.pick(&AGENTS);
        let mut deltas = dice.log_uniform(1, self.deltas_max);
        let bulk = if dice.chance(1, if self.is_bulky { 2 } else { 25 }) {
            dice.log_uniform(1_000, 200_000)
        } else {
            0
        };
        if bulk > 0 {
            deltas = deltas.min(100);
        }
        let questions = if dice.chance(1, 5) { dice.between(1, 3) } else { 0 };
        let tools = if dice.chance(1, 2) { dice.below(6) } else { 0 };
        let never = dice.chance(1, 20);
        let end = if never { "never" } else { dice.pick(&["ok", "ok", "ok", "ok", "error"]) };
        let ms = dice.exponential(1_500);
        let timeout = match (never, dice.below(4)) {
            (true, _) => format!(",\"timeout_ms\":{}", dice.between(500, 6_000)),
            (false, 0) => format!(",\"timeout_ms\":{}", dice.log_uniform(200, 60_000)),
            (false, _) => String::new(),
        };
        let secret = secret(self.user);
        let first = match dice.below(8) {
            0 => ",\"priority\":\"low\"",
            1 => ",\"priority\":\"high\"",
            2 => ",\"on_busy\":\"reject\"",
            3 => ",\"on_busy\":\"interrupt\"",
            _ => "",
        };
        format!(
            "\"type\":\"run\",\"key\":\"{key}\",\"thread\":\"thread_{thread}\",\"agent\":\"{agent}\"{timeout}{first},\
             \"input\":{{\"secret\":\"{secret}\",\"deltas\":{deltas},\"tools\":{tools},\
             \"questions\":{questions},\"bulk\":{bulk},\"ms\":{ms},\"end\":\"{end}\"}}"
        )
    }
}
