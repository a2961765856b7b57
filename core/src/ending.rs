//! How runs end (PROTOCOL §2.4): exactly once, with every open tool closed before, whatever happened.

use crate::Core;
use crate::caller::Caller;
use crate::commands::Order;
use crate::conn::text;
use crate::context::RunOf;
use crate::deadlines::Timer;
use crate::durable::Reveal;
use crate::effect::Effects;
use crate::ids::{Call, RunId};
use crate::note::Note;
use crate::planted::Bug;
use crate::record::{Query, Record, Table};
use crate::run::{Cause, Ended, Phase, Run, ended_key, history_key};
use crate::sometimes::Sometimes;
use crate::time::{Span, WallMs};
use crate::wire::error::Refusal;
use crate::wire::event::Kind;
use crate::wire::json::Object;
use crate::wire::user::{Input, ok};
use crate::wire::worker::{Complete, Status};
use crate::worker::WorkerKey;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The delay before the first new attempt, and the longest.
const RETRY_DELAY: Span = Span::millis(500);
const RETRY_DELAY_MAX: Span = Span::secs(30);

/// What is asked of a run that may have ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About {
    /// That it ends.
    Cancel,
    /// That it hears something.
    Input,
    /// How it is.
    State,
}

/// How a run ends.
#[derive(Debug)]
pub(crate) struct End {
    status: &'static str,
    reason: Option<&'static str>,
    output: Option<String>,
    error: Option<String>,
    usage: Option<String>,
    is_completed: bool,
}

impl End {
    fn new(status: &'static str) -> Self {
        Self { status, reason: None, output: None, error: None, usage: None, is_completed: false }
    }

    fn with_error(status: &'static str, code: &str, message: &str) -> Self {
        let error = Object::new().str("code", code).str("message", message).finish();
        Self { error: Some(error), ..Self::new(status) }
    }

    /// As its worker says.
    pub(crate) fn completed(complete: &Complete<'_>) -> Self {
        let status = match complete.status {
            Status::Ok => "ok",
            Status::Error => "error",
            Status::Cancelled => "cancelled",
        };
        Self {
            output: complete.output.map(String::from),
            error: complete.error.map(String::from),
            usage: complete.usage.map(String::from),
            is_completed: true,
            ..Self::new(status)
        }
    }

    /// Its worker's `complete` could not be read.
    pub(crate) fn bad_complete(code: &str, message: &str) -> Self {
        Self { is_completed: true, ..Self::with_error("error", code, message) }
    }

    /// Its worker is dead.
    fn worker_lost() -> Self {
        let message = "the worker that executed the run is gone";
        Self::with_error("worker_lost", "worker_lost", message)
    }

    /// No worker took it.
    fn not_taken(times: u32) -> Self {
        let message = format!("the run was offered {times} times in a row, and no worker took it");
        Self::with_error("worker_lost", "not_taken", &message)
    }

    /// It was queued for too long.
    fn expired() -> Self {
        Self::with_error("error", "queue_expired", "the run was queued for longer than allowed")
    }

    /// It was told to stop.
    pub(crate) fn stopped(cause: Cause) -> Self {
        match cause {
            Cause::User | Cause::Interrupt | Cause::Operator => {
                Self { reason: Some(cause.as_str()), ..Self::new("cancelled") }
            }
            Cause::Timeout => Self::timed_out(Self::new("timed_out")),
        }
    }

    fn timed_out(self) -> Self {
        let error = Object::new().str("code", "timed_out").str("message", "the run's time was up").finish();
        Self { status: "timed_out", error: Some(error), ..self }
    }

    /// What stands when the run had been told to stop: a time-out is one whatever came in time.
    fn after(self, cause: Option<Cause>) -> Self {
        match cause {
            Some(Cause::Timeout) => self.timed_out(),
            Some(cause @ (Cause::User | Cause::Interrupt | Cause::Operator))
                if self.status == "cancelled" =>
            {
                Self { reason: Some(cause.as_str()), ..self }
            }
            Some(Cause::User | Cause::Interrupt | Cause::Operator) | None => self,
        }
    }
}

impl Core {
    /// Ends a run. It is alive before, and never again.
    pub(crate) fn end(&mut self, of: &RunOf, end: End) {
        let now = self.now;
        let Some(run) = self.run_mut(of).filter(|run| !run.is_ended()) else {
            unreachable!("a run ends once: {of:?}")
        };
        let cause = match run.phase {
            Phase::Cancelling(_, cause) => Some(cause),
            Phase::Queued { .. }
            | Phase::Offered(_)
            | Phase::Starting(_)
            | Phase::Running(_)
            | Phase::Ended
            | Phase::Gone => None,
        };
        let end = end.after(cause);
        let (is_queued, worker) = (run.is_queued(), run.worker().cloned());
        run.completed_by = worker.clone().filter(|_| end.is_completed);
        let is_tool_open = !run.tools.open.is_empty();
        match end.status {
            "timed_out" if is_tool_open => self.seen.mark(Sometimes::ToolOpenAtTimeout),
            "worker_lost" if is_tool_open => self.seen.mark(Sometimes::ToolOpenAtLoss),
            _ => {}
        }
        self.end_attempt(of);
        let Some(run) = self.run_mut(of) else { return };
        let (agent, ran, was_executed) = (run.spec.agent.clone(), run.ran, run.attempts > 0);
        let data = completed_data(run, &end, now);
        self.counts.ended.add(end.status);
        if was_executed {
            self.counts.ran.add(ran);
        }
        self.note_end(of, end.status, ran.as_millis());
        self.write(of, Kind::AgentCompleted, &data.finish());
        if is_queued {
            self.dequeue(of);
            // The next of its thread need not wait for the same: it may be another agent's.
            self.queue.has_changed = true;
        }
        if let Some(worker) = &worker {
            self.free_slot(of);
            self.leave_run(worker, &of.run, &agent);
        }
        if was_executed && end.status != "cancelled" {
            self.judge_agent(&agent, end.status == "ok", ran);
        }
        self.store_end(of, &end);
        self.durable.reveal(Reveal::Ended(of.clone()));
    }

    /// An attempt is over: nobody need answer or stop it any more, its clock stands, its tools are closed.
    fn end_attempt(&mut self, of: &RunOf) {
        let now = self.now;
        self.void_questions(of);
        self.void_commands(of);
        let Some(run) = self.run_mut(of) else { return };
        run.ran = run.ran(now);
        run.running_since = None;
        let mut interrupted = core::mem::take(&mut run.tools.open);
        if self.planted.is(Bug::NoClosingOfTools) {
            interrupted.clear();
        }
        for (call, since) in interrupted {
            let data = interrupted_data(&call, now.wall.since(WallMs(since)).as_millis());
            self.write(of, Kind::ToolCompleted, &data.finish());
        }
    }

    /// A run leaves the worker at which it is: its slot, its user's and its thread's are free.
    fn free_slot(&mut self, of: &RunOf) {
        for timer in [Timer::Start, Timer::Timeout, Timer::TimeoutSoon, Timer::Grace, Timer::Working] {
            self.deadlines.clear(timer(of.run.clone()));
        }
        self.stop_counting(of);
        let context = self.users.get_mut(&of.user).expect("a context in use is in memory");
        let thread = &context.runs.get(&of.run).expect("a run at a worker is in its context").spec.thread;
        let freed = context.busy.remove(thread);
        assert_eq!(freed.as_ref(), Some(&of.run), "a thread is busy with one run");
    }

    fn store_end(&mut self, of: &RunOf, end: &End) {
        let now = self.now;
        let context = self.users.get_mut(&of.user).expect("a context in use is in memory");
        let run = context.runs.get_mut(&of.run).expect("a run that ends is in its context");
        run.phase = Phase::Ended;
        let ended = run.ended(end.status, now);
        let row = crate::record::row(&ended);
        // Found by its id alone: in the history nobody looks for them.
        let found = match run.questions.keys() {
            keys if keys.is_empty() => row.clone(),
            keys => crate::record::row(&Ended { inputs: keys.clone(), ..run.ended(end.status, now) }),
        };
        let (history, spec, last_seq) = (history_key(&run.spec, &of.run), run.spec.clone(), run.last_seq);
        for table in [Table::RunSpec, Table::RunState, Table::RunTools, Table::RunQuestions] {
            self.durable.record(Record::Delete { key: run.key(table, &of.run) });
        }
        self.durable.record(Record::Put { key: ended_key(&of.run), value: found });
        self.durable.record(Record::Put { key: history, value: row });
        self.record_end_age(&spec, &of.run, now.wall.0);
        self.ends.add(&of.run, ended);
        self.watch_delivery(of, &spec, end.status, last_seq);
    }

    /// A run's end is durable: it is only history.
    pub(crate) fn on_end_durable(&mut self, of: &RunOf, out: &mut Effects) {
        self.count_ended(of, out);
        if let Some(run) = self.run_mut(of) {
            run.phase = Phase::Gone;
        }
        self.leave_memory(&of.user);
    }

    /// A user wants a run to end. Returns the state to answer, none if no such run is in memory.
    pub(crate) fn cancel(&mut self, of: &RunOf, cause: Cause, out: &mut Effects) -> Option<&'static str> {
        let run = self.run_mut(of)?;
        let (attempt, phase) = (run.attempt, run.phase.clone());
        let is_starting = matches!(phase, Phase::Starting(_));
        match phase {
            Phase::Queued { .. } => self.end(of, End::stopped(cause)),
            Phase::Offered(worker) => {
                self.seen.mark(Sometimes::CancelledOffered);
                self.withdraw(of, &worker, out);
                self.end(of, End::stopped(cause));
            }
            Phase::Starting(worker) | Phase::Running(worker) => {
                assert!(attempt > 0, "a run at a worker was dispatched");
                if is_starting {
                    self.seen.mark(Sometimes::CancelledStarting);
                }
                self.stop(of, worker, cause);
                return Some("cancelling");
            }
            Phase::Cancelling(..) => return Some("cancelling"),
            Phase::Ended | Phase::Gone => {}
        }
        Some("ended")
    }

    /// A run is to stop: that is stored, and then said to its worker.
    fn stop(&mut self, of: &RunOf, worker: WorkerKey, cause: Cause) {
        self.void_questions(of);
        let Some(run) = self.run_mut(of) else { return };
        run.phase = Phase::Cancelling(worker, cause);
        self.deadlines.clear(Timer::Timeout(of.run.clone()));
        self.deadlines.clear(Timer::TimeoutSoon(of.run.clone()));
        self.order(of, Order::Cancel(cause));
        self.durable.reveal(Reveal::Cancelled(of.clone()));
    }

    /// That a run is to stop is durable.
    pub(crate) fn on_cancel_durable(&mut self, of: &RunOf) {
        if self.run_mut(of).is_some_and(|run| matches!(run.phase, Phase::Cancelling(..))) {
            let grace = self.config.runs.cancel_grace;
            let is_short = self.planted.is(Bug::GraceTooShort);
            let by = self.now.mono + if is_short { grace.ratio(3, 4) } else { grace };
            if !self.planted.is(Bug::GraceNeverOver) {
                self.deadlines.set(Timer::Grace(of.run.clone()), by);
            }
        }
    }

    /// An attempt has used up its time.
    pub(crate) fn on_timeout(&mut self, run: &RunId) {
        let Some(of) = self.run_of(run) else { return };
        let Some(run) = self.run_mut(&of) else { return };
        let Phase::Running(worker) = run.phase.clone() else { return };
        self.stop(&of, worker, Cause::Timeout);
    }

    /// A worker has not ended a run that was to stop.
    pub(crate) fn on_grace_over(&mut self, run: &RunId) {
        let Some(of) = self.run_of(run) else { return };
        let Some(run) = self.run_mut(&of) else { return };
        let Phase::Cancelling(_, cause) = run.phase else { return };
        if self.planted.is(Bug::TwoEnds) {
            return self.write(&of, Kind::AgentCompleted, "{\"status\":\"cancelled\"}");
        }
        self.end(&of, End::stopped(cause));
    }

    /// A run's worker is dead.
    pub(crate) fn lost(&mut self, of: &RunOf) {
        if self.planted.is(Bug::ExecutedTwice) {
            return self.requeue(of);
        }
        let Some(run) = self.run_mut(of) else { return };
        if let Phase::Cancelling(_, cause) = run.phase {
            return self.end(of, End::stopped(cause));
        }
        let (attempts, agent) = (run.attempts, run.spec.agent.clone());
        if attempts < u64::from(self.attempts_of(&agent)) {
            return self.retry(of);
        }
        self.end(of, End::worker_lost());
    }

    /// An attempt was lost, and another is allowed: the run goes back to its place, and waits a little.
    fn retry(&mut self, of: &RunOf) {
        let now = self.now.mono;
        let (stays_short, is_early) =
            (self.planted.is(Bug::DelayStaysShort), self.planted.is(Bug::RetriedTooEarly));
        self.counts.retried += 1;
        self.end_attempt(of);
        let Some(run) = self.run_mut(of) else { return };
        run.tools.used.clear();
        let doublings = if stays_short { 1 } else { run.attempts.min(10) };
        let delay = (1..doublings).fold(RETRY_DELAY, |delay, _| delay.times(2)).min(RETRY_DELAY_MAX);
        run.not_before = now + if is_early { delay.ratio(1, 2) } else { delay };
        (run.queued_since, run.queued_before) = (now, Span::ZERO);
        let data = Object::new().str("reason", "worker_lost").raw("delay_ms", delay.as_millis());
        self.deadlines.set_earlier(Timer::Dispatch, now + delay);
        self.note(Note::Retried { run: of.run.clone(), delay_ms: delay.as_millis() });
        self.write(of, Kind::RunRetrying, &data.finish());
        self.store_tools(of);
        self.forget_questions(of);
        self.requeue(of);
    }

    /// An offer was not taken: the run goes back to its place, or was offered often enough.
    pub(crate) fn not_taken(&mut self, of: &RunOf) {
        let limit = self.config.runs.attempts;
        let now = self.now.mono;
        let Some(run) = self.run_mut(of) else { return };
        run.not_taken += 1;
        let times = run.not_taken;
        if let Phase::Cancelling(_, cause) = run.phase {
            return self.end(of, End::stopped(cause));
        }
        if let Some(worker) = run.worker().cloned() {
            self.avoid(of, &worker, now);
        }
        if times >= limit {
            self.seen.mark(Sometimes::OfferedTooOften);
            return self.end(of, End::not_taken(times));
        }
        self.requeue(of);
    }

    /// A run goes back to its place in the queue. What its worker was told of it is not for the next one.
    pub(crate) fn requeue(&mut self, of: &RunOf) {
        self.void_commands(of);
        self.free_slot(of);
        let Some(run) = self.run_mut(of) else { return };
        let Some(worker) = run.worker().cloned() else { unreachable!("a run comes back from a worker") };
        let agent = run.spec.agent.clone();
        run.phase = Phase::Queued { is_durable: true };
        run.running_since = None;
        run.told = None;
        self.store_run(of);
        self.leave_run(&worker, &of.run, &agent);
        self.enqueue(of);
    }

    /// A run may have been queued for too long.
    pub(crate) fn on_queued_check(&mut self, run: &RunId) {
        let Some(of) = self.run_of(run) else { return };
        let (wall, mono, limit) = (self.now.wall, self.now.mono, self.config.runs.queued_for);
        let Some(run) = self.run_mut(&of).filter(|run| run.is_queued()) else { return };
        let age = wall.since(WallMs(run.spec.accepted_ms));
        if age >= limit {
            return self.end(&of, End::expired());
        }
        let again = (limit - age).min(crate::queue::AGE_EVERY);
        self.deadlines.set(Timer::Queued(of.run), mono + again);
    }

    /// Answers a cancel.
    pub(crate) fn answer_cancel(&mut self, caller: &Caller, run: &RunId, state: &str, out: &mut Effects) {
        let answer = ok("cancel", caller.id()).str("run", run.as_str()).str("state", state);
        if self.planted.is(Bug::CancelAnsweredEarly) {
            return self.send(caller.conn, text(answer), out);
        }
        self.reply(caller, 200, answer);
    }

    /// `cancel`: of a run in memory at once, of another after asking the store.
    pub(crate) fn on_cancel(&mut self, caller: Caller, run: RunId, out: &mut Effects) {
        if self.durable.is_full() {
            let refusal: Refusal = self.storage_unavailable();
            return self.refuse(&caller, "cancel", &refusal, out);
        }
        let of = self.run_for(&caller, &run, About::Cancel);
        let is_theirs = of.as_ref().is_some_and(|of| self.is_theirs(&caller, of));
        let cause = if is_theirs { Cause::User } else { Cause::Operator };
        if let Some((of, state)) = of.and_then(|of| Some((of.clone(), self.cancel(&of, cause, out)?))) {
            self.audit_publisher(&caller, &of.user, &run, About::Cancel);
            return self.answer_cancel(&caller, &run, state, out);
        }
        self.look_up_end(caller, run, About::Cancel, None, out);
    }

    /// Asks the store how a run ended that is not in memory, or not this caller's. `input` is what it is to
    /// hear.
    pub(crate) fn look_up_end(
        &mut self,
        caller: Caller,
        run: RunId,
        about: About,
        input: Option<Box<Input>>,
        out: &mut Effects,
    ) {
        let query = Query::Rows(Vec::from([ended_key(&run)]));
        self.look_up(caller.conn, crate::Load::Ended { caller, run, about, input }, query, out);
    }
}

fn interrupted_data(call: &Call, duration_ms: u64) -> Object {
    Object::new().str("call", call.as_str()).str("status", "interrupted").raw("duration_ms", duration_ms)
}

fn completed_data(run: &Run, end: &End, now: crate::time::Now) -> Object {
    Object::new()
        .str("status", end.status)
        .maybe_str("reason", end.reason)
        .maybe_raw("output", end.output.as_deref())
        .maybe_raw("error", end.error.as_deref())
        .maybe_raw("usage", end.usage.as_deref())
        .raw("queued_ms", run.queued(now).as_millis())
        .raw("running_ms", run.ran(now).as_millis())
        .raw("attempts", run.attempts)
        .raw("tools", run.tools.count)
}
