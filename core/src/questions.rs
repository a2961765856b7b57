//! What a run asks its user, and what the user says to it (PROTOCOL §4 `input_required`, §5 `input`).
//!
//! A run with an open question waits: its clock stands still and it does not count against the limits, but
//! it stays at its worker. The first valid answer wins.

use crate::Core;
use crate::caller::Caller;
use crate::commands::{COMMANDS_MAX, Order};
use crate::conn::text;
use crate::context::RunOf;
use crate::deadlines::Timer;
use crate::effect::Effects;
use crate::ending::About;
use crate::ids::{Device, Key, Request, RunId};
use crate::planted::Bug;
use crate::record::Record;
use crate::run::{Ended, Phase, Run, raw_json};
use crate::time::{Mono, Now, Span, WallMs};
use crate::wire::error::{Code, Refusal};
use crate::wire::event::{Kind, Question};
use crate::wire::json::Object;
use crate::wire::user::{Input, ok};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Questions of a run that may be open at once.
pub(crate) const OPEN_MAX: usize = 32;
/// Keys of inputs that a run remembers.
const KEYS_MAX: usize = 64;
/// Time to answer, when the worker names none, and the longest.
const EXPIRES: Span = Span::secs(24 * 3600);
const EXPIRES_MAX: Span = Span::secs(7 * 24 * 3600);
/// Answered when a worker has not confirmed what it was told before, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// The questions of an attempt.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Questions {
    /// Those that nobody has answered.
    pub(crate) open: BTreeMap<Request, Open>,
    used: BTreeSet<Request>,
    given: BTreeSet<Request>,
    /// The newest keys of inputs, with what was said under them.
    keys: VecDeque<(Key, String)>,
}

/// How long an open question waits. A clock that jumps changes nothing but across a restart, and then at
/// most by the whole time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Open {
    expires_ms: u64,
    in_all: u64,
    #[serde(skip)]
    at: Mono,
}

impl Questions {
    /// Questions as they are stored: each waits for what is left of its time.
    pub(crate) fn from_row(row: &[u8], now: Now) -> Self {
        let mut questions: Self = serde_json::from_slice(row).expect("a stored row is what was stored");
        for open in questions.open.values_mut() {
            open.at = now.mono + WallMs(open.expires_ms).since(now.wall).min(Span(open.in_all));
        }
        questions
    }

    /// Whether what it remembers is within its limits.
    pub(crate) fn is_bounded(&self, events: u64) -> bool {
        let asked = self.used.len().max(self.given.len()) as u64;
        self.open.len() <= OPEN_MAX && self.keys.len() <= KEYS_MAX && asked <= events
    }

    /// The newest keys of inputs, with what was said under them.
    pub(crate) const fn keys(&self) -> &VecDeque<(Key, String)> {
        &self.keys
    }

    fn remember(&mut self, key: Key, digest: String) {
        self.keys.push_back((key, digest));
        if self.keys.len() > KEYS_MAX {
            self.keys.pop_front();
        }
    }
}

impl Core {
    /// A worker asks its run's user.
    pub(crate) fn open_question(&mut self, of: &RunOf, question: &Question) -> Result<(), Refusal> {
        let (now, is_short) = (self.now, self.planted.is(Bug::QuestionClosedEarly));
        let Some(run) = self.run_mut(of) else { return Ok(()) };
        let rule = |message| Err(Refusal::new(Code::BadEvent, message, "keep the order of a run's events"));
        if run.questions.open.len() >= OPEN_MAX {
            return rule(format!("expected at most {OPEN_MAX} open questions of one run"));
        }
        // That nobody has answered in time is always told, so it is those who ask that are held up.
        if run.commands.open() >= COMMANDS_MAX {
            return rule(format!(
                "expected `got` for one of {COMMANDS_MAX} commands before another question"
            ));
        }
        if !run.questions.used.insert(question.request.clone()) {
            let request = &question.request;
            return rule(format!("expected a request that is new in its attempt, found `{request}` again"));
        }
        // A run that is to stop waits for nobody.
        if !matches!(run.phase, Phase::Running(_)) {
            return Ok(());
        }
        let expires = question.expires.unwrap_or(EXPIRES).min(EXPIRES_MAX);
        let was_waiting = run.is_waiting();
        let expires_ms = now.wall.0 + expires.as_millis();
        let at = now.mono + if is_short { expires.ratio(3, 4) } else { expires };
        let open = Open { expires_ms, in_all: expires.0, at };
        run.questions.open.insert(question.request.clone(), open);
        if !was_waiting {
            self.pause(of);
        }
        self.watch_questions(of);
        self.store_questions(of);
        Ok(())
    }

    /// A run waits for its user: its clock stands still, and another may run meanwhile.
    fn pause(&mut self, of: &RunOf) {
        let now = self.now;
        let Some(run) = self.run_mut(of) else { return };
        run.ran = run.ran(now);
        run.running_since = None;
        for timer in [Timer::Timeout, Timer::TimeoutSoon, Timer::Working] {
            self.deadlines.clear(timer(of.run.clone()));
        }
        self.stop_counting(of);
        let context = self.users.get_mut(&of.user).expect("a context in use is in memory");
        context.paused += 1;
    }

    /// A run waits no longer. It counts again, even beyond the limits: then nothing else starts.
    pub(crate) fn resume(&mut self, of: &RunOf) {
        let now = self.now;
        let context = self.users.get_mut(&of.user).expect("a context in use is in memory");
        context.paused -= 1;
        self.count(of);
        self.deadlines.clear(Timer::Questions(of.run.clone()));
        let Some(run) = self.run_mut(of) else { return };
        run.running_since = Some(now.mono);
        run.last_event.1 = now.mono;
        if matches!(run.phase, Phase::Running(_)) {
            self.watch_time(of);
        }
    }

    /// Sets the timer for the first question that expires.
    pub(crate) fn watch_questions(&mut self, of: &RunOf) {
        if self.planted.is(Bug::QuestionStaysOpen) {
            return;
        }
        let Some(run) = self.run_mut(of) else { return };
        if let Some(first) = run.questions.open.values().map(|open| open.at).min() {
            self.deadlines.set(Timer::Questions(of.run.clone()), first);
        }
    }

    /// Questions may have waited for too long.
    pub(crate) fn on_questions_check(&mut self, run: &RunId) {
        let Some(of) = self.run_of(run) else { return };
        let now = self.now.mono;
        let Some(run) = self.run_mut(&of).filter(|run| run.is_waiting()) else { return };
        let over = run.questions.open.iter().filter(|(_, open)| open.at <= now);
        let over: Vec<Request> = over.map(|(request, _)| request.clone()).collect();
        for request in over {
            let data = Object::new().str("request", request.as_str()).raw("expired", true).finish();
            self.close_question(&of, &request);
            self.write(&of, Kind::InputReceived, &data);
            let data = raw_json(&bytes::Bytes::from_static(b"null"));
            self.order(&of, Order::Input { request: Some(request), data, is_expired: true });
        }
        self.watch_questions(&of);
        self.store_questions(&of);
    }

    fn close_question(&mut self, of: &RunOf, request: &Request) {
        let Some(run) = self.run_mut(of) else { return };
        run.questions.open.remove(request);
        if run.questions.open.is_empty() {
            self.resume(of);
        }
    }

    /// The attempt is over, or is to stop: nobody need answer any more.
    pub(crate) fn void_questions(&mut self, of: &RunOf) {
        let Some(run) = self.run_mut(of).filter(|run| run.is_waiting()) else { return };
        run.questions.open.clear();
        self.resume(of);
        self.store_questions(of);
    }

    /// Another attempt asks anew.
    pub(crate) fn forget_questions(&mut self, of: &RunOf) {
        let Some(run) = self.run_mut(of) else { return };
        // The keys stay: they count in the run, not in the attempt.
        let keys = core::mem::take(&mut run.questions.keys);
        run.questions = Questions { keys, ..Questions::default() };
        self.store_questions(of);
    }

    fn store_questions(&mut self, of: &RunOf) {
        if let Some(run) = self.run_mut(of).filter(|run| !run.is_ended()) {
            let key = run.key(crate::record::Table::RunQuestions, &of.run);
            let value = crate::record::row(&run.questions);
            self.durable.record(Record::Put { key, value });
        }
    }

    /// `input`: to a run in memory at once, to another after asking the store whether there was one.
    pub(crate) fn on_input(&mut self, caller: Caller, input: Input, out: &mut Effects) {
        let Some(of) = self.run_for(&caller, &input.run, About::Input) else {
            let run = input.run.clone();
            return self.look_up_end(caller, run, About::Input, Some(Box::new(input)), out);
        };
        self.audit_publisher(&caller, &of.user, &of.run, About::Input);
        let quoted = self.planted.is(Bug::LogQuotesInput).then(|| input.data.clone());
        match self.take_input(&of, input, caller.device.clone()) {
            Ok(()) => {
                let answer = taken(&caller, &of.run);
                if self.planted.is(Bug::InputAnsweredEarly) {
                    return self.send(caller.conn, text(answer), out);
                }
                self.reply(&caller, 200, answer);
            }
            Err(mut refusal) => {
                if let Some(data) = quoted {
                    refusal.message = format!("{}: {data:?}", refusal.message);
                }
                self.refuse(&caller, "input", &refusal, out);
            }
        }
    }

    /// `input` to a run that has ended: the first of it may have been taken, and the answer lost.
    pub(crate) fn answer_late_input(
        &mut self,
        caller: &Caller,
        run: &RunId,
        ended: &Ended,
        input: Option<Box<Input>>,
        out: &mut Effects,
    ) {
        match input.map_or(Ok(false), |input| was_said(&input, &ended.inputs)) {
            // The answer would wait for the store.
            Ok(true) if self.durable.is_full() => {
                self.refuse(caller, "input", &self.storage_unavailable(), out);
            }
            Ok(true) => self.reply(caller, 200, taken(caller, run)),
            Ok(false) => self.refuse(caller, "input", &not_awaited(run), out),
            Err(refusal) => self.refuse(caller, "input", &refusal, out),
        }
    }

    fn take_input(&mut self, of: &RunOf, input: Input, device: Option<Device>) -> Result<(), Refusal> {
        if self.durable.is_full() {
            return Err(self.storage_unavailable());
        }
        let limit = self.config.store.events_per_run;
        let Some(run) = self.run_mut(of) else { return Err(not_awaited(&of.run)) };
        if was_said(&input, run.questions.keys())? {
            return Ok(());
        }
        let digest = digest(&input);
        check_awaited(run, of, input.request.as_ref())?;
        // An answer always fits, as the end does: the question was within the limit.
        if input.request.is_none() && run.events >= limit {
            let message = format!("{} has had {limit} events, as many as a run may have", of.run);
            return Err(Refusal::new(Code::InputNotAwaited, message, "answer an open question, or wait"));
        }
        if run.commands.open() >= COMMANDS_MAX {
            let message = format!("expected at most {COMMANDS_MAX} inputs that the agent has not taken");
            return Err(Refusal::new(Code::RateLimited, message, "wait for the agent").retry(RETRY_MS));
        }
        run.questions.given.extend(input.request.clone());
        if let Some(key) = input.key {
            run.questions.remember(key, digest);
        }
        let written = raw_json(&input.data);
        let data = Object::new()
            .maybe_str("request", input.request.as_ref().map(Request::as_str))
            .raw("data", &*written)
            .maybe_str("device", device.as_ref().map(Device::as_str));
        if let Some(request) = &input.request {
            self.close_question(of, request);
        }
        self.write(of, Kind::InputReceived, &data.finish());
        self.store_questions(of);
        self.order(of, Order::Input { request: input.request, data: written, is_expired: false });
        Ok(())
    }
}

/// The answer to an input that was taken.
fn taken(caller: &Caller, run: &RunId) -> Object {
    ok("input", caller.id()).str("run", run.as_str())
}

fn digest(input: &Input) -> String {
    format!("{:032x}", input.digest)
}

/// Whether an input was taken before under its key, of which a run remembers these.
fn was_said(input: &Input, keys: &VecDeque<(Key, String)>) -> Result<bool, Refusal> {
    let said = input.key.as_ref().and_then(|key| keys.iter().find(|(other, _)| other == key));
    match said {
        Some((_, said)) if *said == digest(input) => Ok(true),
        Some(_) => {
            let message = "the key was used for another input of this run";
            Err(Refusal::new(Code::KeyReused, message, "use a new key for a new input"))
        }
        None => Ok(false),
    }
}

/// Whether a run waits for this answer, or can be steered.
fn check_awaited(run: &Run, of: &RunOf, request: Option<&Request>) -> Result<(), Refusal> {
    if !matches!(run.phase, Phase::Running(_)) {
        return Err(not_awaited(&of.run));
    }
    let Some(request) = request else { return Ok(()) };
    if run.questions.given.contains(request) {
        let message = format!("the question `{request}` has been answered");
        return Err(Refusal::new(Code::InputAlreadyGiven, message, "the first answer counts"));
    }
    if run.questions.open.contains_key(request) { Ok(()) } else { Err(not_awaited(&of.run)) }
}

/// The refusal of what nobody waits for.
pub(crate) fn not_awaited(run: &RunId) -> Refusal {
    let message = format!("{run} does not wait for this input");
    Refusal::new(Code::InputNotAwaited, message, "answer an open question, or steer while the run runs")
}
