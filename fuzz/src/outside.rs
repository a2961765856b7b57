//! Everything around the core, in memory: connections, tokens, clock and store, moved one step at a time; and
//! beside the core the model, asked after every input.

use crate::memory::Memory;
use runcast_core::Core;
use runcast_core::config::Config;
use runcast_core::effect::{Effect, Effects};
use runcast_core::ids::{ConnId, RunId};
use runcast_core::input::{Claims, Input, NoBackup, TokenProblem};
use runcast_core::record::Image;
use runcast_core::time::{Mono, Now, Span, WallMs};
use runcast_sim::model::Model;
use runcast_sim::said::Said;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// Lines of the history.
const LINES: usize = 60;
/// Timers that may fire at one instant.
const SPINS_MAX: usize = 1_000;
/// Until when tokens are good, in Unix seconds.
const EXPIRES: u64 = 2_000;
/// When everything begins, in Unix milliseconds.
const BEGIN_MS: u64 = 1_000_000;

/// The world of one core.
#[derive(Debug)]
pub(crate) struct Outside {
    config: Config,
    core: Core,
    model: Model,
    pub(crate) now: Now,
    store: Memory,
    /// Calls of the webhook that nobody has answered.
    calls: VecDeque<RunId>,
    /// Backups that are being written.
    backups: usize,
    pub(crate) conns: BTreeMap<ConnId, Line>,
    last_conn: u64,
    /// Runs that were named to anyone, with their newest attempt.
    pub(crate) runs: Vec<(String, u64)>,
    /// How often the core was opened.
    lives: u8,
    /// What went in and what came out lately: what a finding is read by. Not kept where it would slow the
    /// fuzzer.
    history: VecDeque<String>,
}

/// A connection, as its peer sees it.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) is_upgraded: bool,
    pub(crate) is_worker: bool,
    is_over: bool,
    /// Tokens whose signatures are to be looked at.
    tokens: VecDeque<String>,
    /// The body of its request, and whether that is asked for.
    pub(crate) body: Option<String>,
    is_body_asked: bool,
    /// The lengths of messages that wait for the network.
    unflushed: VecDeque<usize>,
    /// The last seq it was sent.
    pub(crate) seen: u64,
    /// The last of a topic.
    pub(crate) seen_of_topic: u64,
    /// The number of the next message of each run.
    pub(crate) next: BTreeMap<(String, u64), u64>,
}

impl Outside {
    pub(crate) fn new(config: Config) -> Self {
        let now = Now { mono: Mono(0), wall: WallMs(BEGIN_MS) };
        let (core, model, effects) = open(&config, 0, Image::default(), now);
        assert!(effects.is_empty(), "nobody is there at the beginning");
        let (store, conns, runs) = (Memory::default(), BTreeMap::new(), Vec::new());
        Self {
            config,
            core,
            model,
            now,
            store,
            calls: VecDeque::new(),
            backups: 0,
            conns,
            last_conn: 0,
            runs,
            lives: 1,
            history: VecDeque::new(),
        }
    }

    /// Hands an input to core and model, and runs what comes of it.
    pub(crate) fn feed(&mut self, input: Input<'_>) {
        let mut effects = Effects::new();
        self.note("<-", &input);
        agree(self.model.hears(&input));
        self.core.handle(self.now, input, &mut effects);
        effects.iter().for_each(|effect| self.note("->", effect));
        agree(self.model.judge(&effects, &self.core));
        self.core.assert_invariants();
        effects.into_iter().for_each(|effect| self.perform(effect));
    }

    fn note(&mut self, arrow: &str, what: &dyn fmt::Debug) {
        if cfg!(feature = "libfuzzer") {
            return;
        }
        if self.history.len() == LINES {
            self.history.pop_front();
        }
        self.history.push_back(format!("{:>9} {arrow} {what:?}", self.now.mono.0));
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Append { id, records } => self.store.give(id, records),
            Effect::Load { load, query } => self.store.ask(load, query),
            Effect::Send { conn, text } => self.sent(conn, &text),
            Effect::Upgrade { conn, .. } => self.line(conn).is_upgraded = true,
            Effect::Respond { conn, .. } | Effect::Close { conn, .. } => self.line(conn).is_over = true,
            Effect::Verify { conn, token } => self.line(conn).tokens.push_back(token.reveal().to_owned()),
            Effect::Body { conn, .. } => self.line(conn).is_body_asked = true,
            Effect::Allow { .. }
            | Effect::Share { .. }
            | Effect::Stream { .. }
            | Effect::Ping { .. }
            | Effect::Read { .. } => {}
            Effect::Webhook { run, .. } => self.calls.push_back(run),
            Effect::Backup { .. } => self.backups += 1,
            Effect::Note(_) | Effect::Audit(_) | Effect::Exit => {}
        }
    }

    fn line(&mut self, conn: ConnId) -> &mut Line {
        self.conns.entry(conn).or_default()
    }

    fn sent(&mut self, conn: ConnId, text: &[u8]) {
        let said = Said::read(std::str::from_utf8(text).expect("UTF-8")).expect("a message");
        let line = self.conns.entry(conn).or_default();
        line.unflushed.push_back(text.len());
        let seen = if said.topic.is_some() { &mut line.seen_of_topic } else { &mut line.seen };
        *seen = (*seen).max(said.seq.filter(|_| said.kind == "event").unwrap_or(0));
        if let Some(run) = said.run.as_deref()
            && matches!(said.kind.as_ref(), "run" | "accepted")
        {
            let attempt = said.attempt.unwrap_or(0);
            match self.runs.iter_mut().find(|(known, _)| known == run) {
                Some((_, newest)) => *newest = attempt.max(*newest),
                None => self.runs.push((run.to_owned(), attempt)),
            }
        }
    }

    /// The incarnation of a topic's stream, if it has begun.
    pub(crate) fn epoch_of_topic(&self, topic: &str) -> &str {
        self.core.inspect().topic(topic).map_or("none", |(epoch, _, _)| epoch.as_str())
    }

    /// The incarnation of a user's stream, if it is in memory.
    pub(crate) fn epoch(&self, user: &str) -> &str {
        self.core.inspect().stream(user).map_or("none", |(epoch, _, _)| epoch.as_str())
    }

    /// Somebody calls.
    pub(crate) fn call(&mut self) -> ConnId {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        self.conns.insert(conn, Line::default());
        self.feed(Input::Opened { conn, peer: [10, 0, 0, (self.last_conn % 3) as u8].into() });
        conn
    }

    /// A peer is gone.
    pub(crate) fn hang_up(&mut self, conn: ConnId) {
        if self.conns.remove(&conn).is_some() {
            self.feed(Input::Closed { conn });
        }
    }

    /// Looks at the signature of a token that waits for it. Tells whether one did.
    pub(crate) fn verify(&mut self, conn: ConnId) -> bool {
        let Some(token) = self.conns.get_mut(&conn).and_then(|line| line.tokens.pop_front()) else {
            return false;
        };
        let claims = |sub: &str, exp| Claims {
            sub: sub.to_owned(),
            exp,
            scope: Some("user worker publish operate".to_owned()),
            ..Claims::default()
        };
        let outcome = match token.split_once('.') {
            None => Ok(claims(&token, EXPIRES)),
            // Good for less than the others: not for what is for operators.
            Some((sub, "less")) => Ok(Claims { scope: None, ..claims(sub, EXPIRES) }),
            Some((sub, "soon")) => Ok(claims(sub, self.now.wall.0 / 1000 + 3)),
            Some((sub, "late")) => Ok(claims(sub, 1)),
            Some((sub, "ever")) => Ok(claims(sub, u64::MAX / 1_000_000)),
            Some(_) => Err(TokenProblem::Signature),
        };
        self.feed(Input::Verified { conn, outcome });
        true
    }

    /// Sends the body that is asked for. Tells whether one was.
    pub(crate) fn send_body(&mut self, conn: ConnId) -> bool {
        let Some(line) = self.conns.get_mut(&conn).filter(|line| line.is_body_asked) else { return false };
        line.is_body_asked = false;
        let body = line.body.take().unwrap_or_default();
        self.feed(Input::Body { conn, body: body.as_bytes() });
        true
    }

    /// Takes so many messages from a connection to the network. Tells whether there were any.
    pub(crate) fn flush(&mut self, conn: ConnId, messages: usize) -> bool {
        let Some(line) = self.conns.get_mut(&conn) else { return false };
        let count = messages.min(line.unflushed.len());
        let bytes: usize = line.unflushed.drain(..count).sum();
        if bytes > 0 {
            self.feed(Input::Flushed { conn, bytes });
        }
        bytes > 0
    }

    /// The store makes so many appends durable.
    pub(crate) fn commit(&mut self, appends: usize) -> bool {
        self.store.commit(appends).map(|input| self.feed(input)).is_some()
    }

    /// The store is full.
    pub(crate) fn fill(&mut self) {
        if let Some(input) = self.store.fail() {
            self.feed(input);
        }
    }

    /// The store answers a question.
    pub(crate) fn answer(&mut self) -> bool {
        self.store.answer().map(|input| self.feed(input)).is_some()
    }

    /// Whoever was called about a run answers, or the next backup ends. Tells whether there was one.
    pub(crate) fn finish(&mut self, is_well: bool) -> bool {
        if let Some(run) = self.calls.pop_front() {
            self.feed(Input::Called { run, is_taken: is_well });
            return true;
        }
        let is_writing = self.backups > 0;
        if is_writing {
            self.backups -= 1;
            let outcome = if is_well { Ok(1) } else { Err(NoBackup::Failed("no room")) };
            self.feed(Input::BackedUp { outcome });
        }
        is_writing
    }

    /// Time goes by, and timers fire as they become due.
    pub(crate) fn wait(&mut self, span: Span) {
        let until = self.now.mono + span;
        let mut spins = 0;
        while let Some((at, timer)) = self.core.deadline().filter(|(at, _)| *at <= until) {
            spins = if at > self.now.mono { 0 } else { spins + 1 };
            assert!(spins < SPINS_MAX, "{timer:?} fires again and again");
            self.pass(at.max(self.now.mono));
            self.feed(Input::Timer);
        }
        self.pass(until);
    }

    fn pass(&mut self, mono: Mono) {
        let span = mono.since(self.now.mono);
        self.now = Now { mono, wall: self.now.wall + span };
    }

    /// Everything that waits is done, until nothing does.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut is_busy = self.commit(usize::MAX) | self.answer() | self.finish(true);
            for conn in self.conns.keys().copied().collect::<Vec<_>>() {
                is_busy |= self.flush(conn, usize::MAX) | self.verify(conn) | self.send_body(conn);
                if self.conns[&conn].is_over {
                    self.hang_up(conn);
                    is_busy = true;
                }
            }
            if !is_busy {
                return;
            }
        }
    }

    /// The process dies, with so many appends on their way being kept, and another one begins.
    pub(crate) fn restart(&mut self, appends_kept: usize) {
        let image = self.store.crash(appends_kept);
        self.conns.clear();
        self.calls.clear();
        self.backups = 0;
        self.note("", &"a restart");
        let effects;
        (self.core, self.model, effects) = open(&self.config, self.lives, image, self.now);
        self.lives = self.lives.wrapping_add(1);
        effects.into_iter().for_each(|effect| self.perform(effect));
    }
}

impl Drop for Outside {
    #[expect(clippy::print_stderr, reason = "a failed test shows what led to it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.history.iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

fn open(config: &Config, life: u8, image: Image, now: Now) -> (Core, Model, Effects) {
    let mut model = Model::open(config, &image);
    let mut effects = Effects::new();
    let core = Core::open(config.clone(), [life; 32], image, now, &mut effects);
    // Workers that were there are not any more: that alone is told, to a topic. What is asked is of users who
    // were being erased.
    let is_quiet = effects.iter().all(|effect| matches!(effect, Effect::Append { .. } | Effect::Load { .. }));
    assert!(is_quiet, "nobody is there at the beginning: {effects:?}");
    agree(model.judge(&effects, &core));
    core.assert_invariants();
    (core, model, effects)
}

fn agree(judgement: Result<(), String>) {
    if let Err(what) = judgement {
        panic!("the model does not agree: {what}");
    }
}
