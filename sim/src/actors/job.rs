//! A run in a worker's hands: what it does, what of it is not acknowledged, and how far it is.

use crate::dice::Dice;
use crate::oracles::truth::mark;
use crate::schedule::{MS, Micros, SECOND};
use serde::Deserialize;
use std::collections::{BTreeSet, VecDeque};

/// Never.
const NEVER: Micros = Micros::MAX;
/// Messages that are made at once, at most.
const BURST: u64 = 20;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Offered, not answered.
    Offered,
    /// `started` was sent, and is not acknowledged.
    Taken,
    /// It is executed.
    Running,
    /// `complete` was made, and is not acknowledged.
    Complete,
    /// It hangs.
    Hanging,
}

/// What a run's input asks its worker to do.
#[derive(Debug, Deserialize)]
struct Wish {
    secret: String,
    deltas: u64,
    tools: u64,
    questions: u64,
    /// Bytes by which some of its words are longer.
    bulk: usize,
    ms: u64,
    end: String,
}

/// A run.
#[derive(Debug)]
pub struct Job {
    /// Which.
    pub run: String,
    /// The fencing number.
    pub attempt: u64,
    /// How far it is.
    pub stage: Stage,
    /// When it goes on.
    pub at: Micros,
    /// Its offer is answered late, by one who does not hear meanwhile.
    pub is_late: bool,
    /// Up to which its commands have come.
    pub commands: u64,
    /// Its messages that are not acknowledged, with their numbers.
    pub unacked: VecDeque<(u64, String)>,
    agent: String,
    wish: Wish,
    n: u64,
    deltas: u64,
    tools: u64,
    open: VecDeque<u64>,
    questions: u64,
    /// Questions that nobody has answered.
    asked: BTreeSet<String>,
    is_cancelled: bool,
    /// After a full disk: from which message on to send again, and when its work goes on.
    resend: Option<(u64, Micros)>,
}

impl Job {
    /// An offer; answered at `at`.
    pub fn new(run: &str, attempt: u64, agent: &str, input: &str, at: Micros) -> Option<Self> {
        let wish: Wish = serde_json::from_str(input).ok()?;
        Some(Self {
            run: run.to_owned(),
            agent: agent.to_owned(),
            attempt,
            stage: Stage::Offered,
            at,
            is_late: false,
            commands: 0,
            unacked: VecDeque::new(),
            n: 0,
            deltas: wish.deltas,
            tools: wish.tools,
            questions: wish.questions,
            asked: BTreeSet::new(),
            open: VecDeque::new(),
            is_cancelled: false,
            resend: None,
            wish,
        })
    }

    /// By which agent.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// `,"run":…,"attempt":…`, as in every message about it.
    pub fn about(&self) -> String {
        format!(",\"run\":\"{}\",\"attempt\":{}", self.run, self.attempt)
    }

    /// It may be executed from now on.
    pub fn execute(&mut self, now: Micros, dice: &mut Dice) {
        self.stage = Stage::Running;
        self.at = now + dice.exponential(self.pace());
    }

    /// Everything up to `n` is acknowledged. Tells whether the job is done with that.
    pub fn acked(&mut self, n: u64) -> bool {
        while self.unacked.front().is_some_and(|(first, _)| *first <= n) {
            self.unacked.pop_front();
        }
        self.stage == Stage::Complete && self.unacked.is_empty()
    }

    /// Its messages from `n` on that are not acknowledged.
    pub fn from(&self, n: u64) -> Vec<String> {
        self.unacked.iter().filter(|(number, _)| *number >= n).map(|(_, text)| text.clone()).collect()
    }

    /// The store took nothing: everything from `n` on is to be sent again later.
    pub fn resend_at(&mut self, at: Micros, n: u64) {
        let goes_on = self.resend.map_or(self.at, |(_, goes_on)| goes_on);
        self.resend = Some((n, goes_on));
        self.at = at;
    }

    /// From which message on to send again, if that is why its time has come.
    pub fn take_resend(&mut self) -> Option<u64> {
        let (n, goes_on) = self.resend.take()?;
        self.at = goes_on.max(self.at);
        Some(n)
    }

    /// It is to end as cancelled soon.
    pub fn cancel(&mut self, at: Micros) {
        self.is_cancelled = true;
        if matches!(self.stage, Stage::Running | Stage::Hanging) {
            self.stage = Stage::Running;
            self.at = at;
        }
    }

    /// An answer has come, or none in time. Tells whether it was asked for.
    pub fn answered(&mut self, request: &str, at: Micros) -> bool {
        if self.stage == Stage::Running {
            self.at = self.at.min(at);
        }
        self.asked.remove(request)
    }

    /// Goes on with at most `room` messages, and returns the number of the first that was made.
    pub fn go_on(&mut self, now: Micros, room: usize, dice: &mut Dice) -> u64 {
        let first = self.n + 1;
        if !self.is_cancelled {
            // One is left for `complete`.
            let most = BURST.min(room as u64 - 1);
            (0..dice.between(1, BURST).min(most)).for_each(|_| self.one(dice));
        }
        let has_said_all = self.deltas == 0 && self.tools == 0 && self.open.is_empty() && self.questions == 0;
        let is_over = has_said_all && self.asked.is_empty();
        self.at = if has_said_all && !is_over { NEVER } else { now + dice.exponential(self.pace()) };
        if self.is_cancelled || (is_over && self.wish.end != "never") {
            self.complete();
        } else if is_over {
            (self.stage, self.at) = (Stage::Hanging, NEVER);
        }
        first
    }

    /// One event, unless there is none left.
    fn one(&mut self, dice: &mut Dice) {
        let n = self.n + 1;
        let text = format!("{} {}", self.wish.secret, mark(n));
        let same = format!("{} la", self.wish.secret);
        if self.questions > 0 && dice.below(self.deltas + 2) == 0 {
            return self.ask(&text, dice);
        }
        let choice = dice.below(self.deltas + 3 * self.tools + 3 * self.open.len() as u64 + 1);
        let (event, data) = if choice < self.deltas {
            self.deltas -= 1;
            match dice.below(16) {
                0 => ("agent_output", format!("\"delta\":\"{text}\",\"message\":\"m1\"")),
                1 => ("custom", format!("\"name\":\"note\",\"value\":{{\"of\":[1.50,\"{text}\"]}}")),
                2 => ("run_progress", format!("\"percent\":{},\"text\":\"{text}\"", dice.below(100))),
                3 if !self.open.is_empty() => {
                    ("tool_progress", format!("\"call\":\"call_{}\",\"text\":\"{text}\"", self.open[0]))
                }
                // Words that may have been said before: only their number tells them apart.
                12.. => ("agent_output", format!("\"delta\":\"{same}\"")),
                4 | 5 => ("agent_thinking", format!("\"text\":\"{text}{}\"", "x".repeat(self.wish.bulk))),
                _ => ("agent_thinking", format!("\"delta\":\"{text}\"")),
            }
        } else if self.tools > 0 && (self.open.is_empty() || dice.chance(1, 2)) {
            let call = self.tools;
            self.tools -= 1;
            self.open.push_back(call);
            (
                "tool_executing",
                format!("\"call\":\"call_{call}\",\"tool\":\"search\",\"args\":{{\"q\":\"{text}\"}}"),
            )
        } else if let Some(call) = self.open.pop_front() {
            let data =
                format!("\"call\":\"call_{call}\",\"status\":\"ok\",\"result\":\"{text}\",\"duration_ms\":3");
            ("tool_completed", data)
        } else {
            return;
        };
        self.say("event", &format!(",\"event\":\"{event}\",\"data\":{{{data}}}"));
    }

    /// Asks the user. Whoever does not answer in time is not waited for.
    fn ask(&mut self, text: &str, dice: &mut Dice) {
        let request = format!("question_{}", self.questions);
        self.questions -= 1;
        self.asked.insert(request.clone());
        let expires = dice.log_uniform(500, 20_000);
        let data = format!("\"request\":\"{request}\",\"prompt\":\"{text}\",\"expires_ms\":{expires}");
        self.say("event", &format!(",\"event\":\"input_required\",\"data\":{{{data}}}"));
    }

    fn complete(&mut self) {
        let output = format!("{} {}", self.wish.secret, mark(self.n + 1));
        let status = if self.is_cancelled { "cancelled" } else { &self.wish.end };
        let error =
            if status == "error" { ",\"error\":{\"code\":\"tired\",\"message\":\"no more\"}" } else { "" };
        let body = format!(",\"status\":\"{status}\",\"output\":\"{output}\"{error}");
        self.say("complete", &body);
        (self.stage, self.at) = (Stage::Complete, NEVER);
    }

    fn say(&mut self, kind: &str, body: &str) {
        self.n += 1;
        let text = format!("{{\"type\":\"{kind}\"{},\"n\":{}{body}}}", self.about(), self.n);
        self.unacked.push_back((self.n, text));
    }

    /// Mean time between two bursts.
    fn pace(&self) -> Micros {
        let bursts = 1 + (self.wish.deltas + 2 * self.wish.tools) / (BURST / 2);
        (self.wish.ms * MS / bursts).clamp(MS, 20 * SECOND)
    }
}
