//! What a worker says about its runs (PROTOCOL §6): taking one, its numbered messages, its end.
//!
//! Every message is held against the table of runs: another's run, an old attempt, a number out of order, an
//! event against the order of events are each answered with their code, and touch nothing.

use crate::Core;
use crate::conn::{Role, text};
use crate::context::RunOf;
use crate::deadlines::Timer;
use crate::durable::Reveal;
use crate::effect::Effects;
use crate::ending::End;
use crate::ids::ConnId;
use crate::note::Note;
use crate::planted::Bug;
use crate::progress::Progress;
use crate::run::Phase;
use crate::sometimes::Sometimes;
use crate::time::Span;
use crate::wire::error::{CloseCode, Code, Refusal};
use crate::wire::event::{Kind, WorkerEvent};
use crate::wire::json::Object;
use crate::wire::worker::{self, Attempt, Bad, Body, Said, ack, error};
use crate::worker::WorkerKey;
use alloc::format;
use alloc::string::String;

impl Core {
    /// A message of a worker that is welcome.
    pub(crate) fn on_worker_text(&mut self, id: ConnId, message: &str, out: &mut Effects) {
        let Some(Role::Worker(me)) = self.conns.get(&id).map(|conn| &conn.role) else { return };
        let key = me.key.clone();
        self.renew_lease(&key);
        let is_too_large = message.len() > self.config.server.worker_message;
        let read = worker::read(message);
        if self.is_rated(&key, &read) && !self.is_within_rate(id, None, out) {
            return;
        }
        let body = match read {
            Ok(body) => body,
            Err((of, refusal)) => return self.refuse_unread(id, of.as_deref(), &refusal, out),
        };
        match body {
            Body::Hello(_) => {
                let refusal =
                    Refusal::new(Code::BadMessage, "expected one `hello`, found a second", "say it once");
                self.send_error(id, Some("hello"), None, &refusal, out);
                self.close(id, CloseCode::Violation, &refusal.message, out);
            }
            Body::Started(of) => self.on_started(id, &key, &of, out),
            Body::Decline { of, retry } => self.on_decline(id, &key, &of, retry, out),
            Body::Numbered { of, n, said } => {
                let said = if is_too_large { Err(self.too_large(&said)) } else { said };
                self.on_numbered(id, &key, &of, n, said, out);
            }
            Body::Got { of, i } => {
                if let Some(place) = self.its_run(&key, &of) {
                    self.confirm(&place, i);
                }
            }
            Body::Drain => self.drain_worker(&key),
            Body::Beat => {}
        }
    }

    /// A worker's message without which its numbering is lost ends its connection; another is only answered.
    fn refuse_unread(&mut self, id: ConnId, of: Option<&str>, refusal: &Refusal, out: &mut Effects) {
        self.send_error(id, of, None, refusal, out);
        if matches!(of, Some("event" | "complete" | "hello")) {
            self.close(id, CloseCode::Violation, &refusal.message, out);
        }
    }

    fn too_large(&self, said: &Result<Said<'_>, Bad>) -> Bad {
        let complete = match said {
            Ok(Said::Complete(_)) => true,
            Ok(Said::Event(_)) => false,
            Err(bad) => bad.complete,
        };
        let message = format!("expected at most {} bytes", self.config.server.worker_message);
        Bad { complete, refusal: Refusal::new(Code::TooLarge, message, "measure before sending") }
    }

    /// Whether a message counts for the rate limit: what brings runs forward does not, or ends its connection
    /// when it cannot be read.
    fn is_rated(&self, key: &WorkerKey, read: &Result<Body<'_>, (Option<String>, Refusal)>) -> bool {
        match read {
            Ok(Body::Numbered { .. }) => false,
            Ok(Body::Started(of)) => !self.is_valid_start(key, of),
            Ok(Body::Hello(_) | Body::Decline { .. } | Body::Got { .. } | Body::Drain | Body::Beat) => true,
            Err((of, _)) => !matches!(of.as_deref(), Some("event" | "complete")),
        }
    }

    fn is_valid_start(&self, key: &WorkerKey, of: &Attempt) -> bool {
        let run = self.run_of(&of.run).and_then(|place| self.users.get(&place.user)?.runs.get(&place.run));
        run.is_some_and(|run| run.worker() == Some(key) && run.attempt == of.attempt)
    }

    /// The run of an attempt, if it is this worker's.
    fn its_run(&self, key: &WorkerKey, of: &Attempt) -> Option<RunOf> {
        let place = self.run_of(&of.run)?;
        let run = self.users.get(&place.user)?.runs.get(&place.run)?;
        let is_its = run.worker() == Some(key) && run.attempt == of.attempt;
        (is_its || self.planted.is(Bug::LateAttemptAccepted)).then_some(place)
    }

    /// The run of an attempt that this worker has ended, while it is in memory.
    fn its_ended_run(&self, key: &WorkerKey, of: &Attempt) -> Option<RunOf> {
        let place = self.run_of(&of.run)?;
        let run = self.users.get(&place.user)?.runs.get(&place.run)?;
        run.completed_by(key, of.attempt).then_some(place)
    }

    fn fence(&mut self, id: ConnId, kind: &str, of: &Attempt, out: &mut Effects) {
        self.seen.mark(Sometimes::LateMessageFenced);
        let message = format!("the attempt {} of {} is over, or another worker's", of.attempt, of.run);
        let refusal = Refusal::new(Code::Fenced, message, "stop this run");
        self.note_refusal(id, &refusal);
        self.send(id, text(error(kind, of, None, &refusal)), out);
    }

    fn on_started(&mut self, id: ConnId, key: &WorkerKey, of: &Attempt, out: &mut Effects) {
        let Some(place) = self.its_run(key, of) else { return self.fence(id, "started", of, out) };
        let now = self.now;
        let Some(run) = self.run_mut(&place) else { return };
        match run.phase {
            Phase::Offered(_) => {}
            // A repeated one: its acknowledgement is on its way, or is given again. Nothing may be kept for
            // that: it is free of the rate limit.
            Phase::Running(_) => {
                run.ack_start();
                return self.send(id, text(ack(of, 0)), out);
            }
            Phase::Cancelling(..) if run.is_start_acked => return self.send(id, text(ack(of, 0)), out),
            Phase::Starting(_)
            | Phase::Cancelling(..)
            | Phase::Queued { .. }
            | Phase::Ended
            | Phase::Gone => {
                return;
            }
        }
        if run.attempts == 0 {
            run.queued = run.waited(now);
        }
        run.attempts += 1;
        run.n = 0;
        run.ran_before = run.ran;
        run.is_gap_told = false;
        run.is_start_acked = false;
        run.phase = Phase::Starting(key.clone());
        let data = Object::new()
            .str("agent", run.spec.agent.as_str())
            .str("worker", key.name.as_str())
            .raw("attempt", of.attempt)
            .raw("queued_ms", run.queued.as_millis());
        let first_wait = (run.attempts == 1).then_some(run.queued);
        let queued_ms = run.queued.as_millis();
        self.counts.start(first_wait);
        let (run, attempt, worker) = (of.run.clone(), of.attempt, key.name.as_str().into());
        self.note(Note::Started { run, attempt, worker, queued_ms });
        self.deadlines.clear(Timer::Start(of.run.clone()));
        self.takes_runs(key);
        self.write(&place, Kind::AgentStarted, &data.finish());
        self.store_run(&place);
        self.durable.reveal(Reveal::Started(of.clone()));
    }

    /// A run's start is durable: its worker may execute it.
    pub(crate) fn on_start_durable(&mut self, of: &Attempt, out: &mut Effects) {
        let Some(place) = self.run_of(&of.run) else { return };
        let now = self.now;
        let Some(run) = self.run_mut(&place).filter(|run| run.attempt == of.attempt) else { return };
        let key = match run.phase.clone() {
            Phase::Starting(key) => key,
            Phase::Cancelling(key, _) => {
                self.seen.mark(Sometimes::StartDurableLate);
                self.watch_working(&place);
                return self.ack_start(&place, of, &key, out);
            }
            Phase::Queued { .. } | Phase::Offered(_) | Phase::Running(_) | Phase::Ended | Phase::Gone => {
                return;
            }
        };
        run.phase = Phase::Running(key.clone());
        run.running_since = Some(now.mono);
        run.last_event.1 = now.mono;
        self.watch_time(&place);
        self.ack_start(&place, of, &key, out);
    }

    /// Tells a worker that its start of a run is durable.
    fn ack_start(&mut self, place: &RunOf, of: &Attempt, key: &WorkerKey, out: &mut Effects) {
        let Some(conn) = self.line_to(key) else { return };
        if let Some(run) = self.run_mut(place) {
            run.ack_start();
        }
        self.send(conn, text(ack(of, 0)), out);
    }

    fn on_decline(&mut self, id: ConnId, key: &WorkerKey, of: &Attempt, retry: Span, out: &mut Effects) {
        let until = self.now.mono + retry;
        let Some(place) = self.its_run(key, of) else { return self.fence(id, "decline", of, out) };
        let Some(run) = self.run_mut(&place) else { return };
        // It is executed, or about to be: told that it is another's, its worker would stop, and say no end.
        if !matches!(run.phase, Phase::Offered(_)) {
            let message = "expected `decline` instead of `started`, not after it";
            let refusal = Refusal::new(Code::BadEvent, message, "end the run with `complete`");
            self.note_refusal(id, &refusal);
            return self.send(id, text(error("decline", of, None, &refusal)), out);
        }
        self.avoid(&place, key, until);
        self.deadlines.set_earlier(Timer::Dispatch, until);
        self.requeue(&place);
    }

    fn on_numbered(
        &mut self,
        id: ConnId,
        key: &WorkerKey,
        of: &Attempt,
        n: u64,
        said: Result<Said<'_>, Bad>,
        out: &mut Effects,
    ) {
        let kind = match &said {
            Ok(Said::Complete(_)) | Err(Bad { complete: true, .. }) => "complete",
            Ok(Said::Event(_)) | Err(Bad { complete: false, .. }) => "event",
        };
        let Some(place) = self.its_run(key, of).or_else(|| self.its_ended_run(key, of)) else {
            return self.fence(id, kind, of, out);
        };
        let is_full = self.durable.is_full();
        let misses_none = self.planted.is(Bug::GapAccepted);
        let Some(run) = self.run_mut(&place) else { return };
        let is_ended = run.is_ended();
        if matches!(run.phase, Phase::Offered(_) | Phase::Starting(_)) {
            let message = "expected `started` and its acknowledgement before anything else of a run";
            let refusal = Refusal::new(Code::BadEvent, message, "wait for the ack with n 0");
            self.note_refusal(id, &refusal);
            return self.send(id, text(error(kind, of, Some(n), &refusal)), out);
        }
        let expected = if misses_none { n.max(run.n + 1) } else { run.n + 1 };
        if n > expected || (is_full && n == expected) {
            return self.refuse_number(id, &place, kind, of, n, out);
        }
        if n == expected {
            (run.is_gap_told, run.n) = (false, n);
        }
        self.on_message_waits(id);
        if n == expected {
            let taken = if is_ended { Err(after_end()) } else { self.take(&place, said) };
            if let Err(refusal) = taken {
                self.note_refusal(id, &refusal);
                self.send(id, text(error(kind, of, Some(n), &refusal)), out);
            }
            self.store_run(&place);
        } else {
            self.seen.mark(Sometimes::RepeatedNumber);
        }
        if self.planted.is(Bug::AckBeforeAppend) {
            self.send(id, text(ack(of, n)), out);
        }
        self.durable.reveal(Reveal::Ack { of: of.clone(), n, conn: id });
        self.pace(id, out);
    }

    /// A number that cannot be taken now: said once, then dropped in silence until the expected one comes.
    fn refuse_number(
        &mut self,
        id: ConnId,
        place: &RunOf,
        kind: &str,
        of: &Attempt,
        n: u64,
        out: &mut Effects,
    ) {
        let Some(expected) = self.run_mut(place).map(|run| run.n + 1) else { return };
        let is_expected = n == expected;
        let refusal = if is_expected {
            self.storage_unavailable()
        } else {
            let message = format!("expected n {expected}");
            Refusal::new(Code::Gap, message, "send everything again from `expected` on")
        };
        let Some(run) = self.run_mut(place) else { return };
        if core::mem::replace(&mut run.is_gap_told, true) && !is_expected {
            return;
        }
        self.note_refusal(id, &refusal);
        let answer = error(kind, of, None, &refusal).raw("expected", expected);
        self.send(id, text(answer), out);
    }

    /// A message in its turn, of a run that has not ended.
    fn take(&mut self, place: &RunOf, said: Result<Said<'_>, Bad>) -> Result<(), Refusal> {
        match said {
            Ok(Said::Event(event)) => self.take_event(place, &event),
            Ok(Said::Complete(complete)) => {
                self.end(place, End::completed(&complete));
                Ok(())
            }
            Err(Bad { complete: true, refusal }) => {
                let is_large = refusal.code == Code::TooLarge;
                let code = if is_large { "output_too_large" } else { "bad_complete" };
                self.end(place, End::bad_complete(code, &refusal.message));
                Err(refusal)
            }
            Err(Bad { complete: false, refusal }) => Err(refusal),
        }
    }

    /// An event in its turn: held against the run's other events.
    fn take_event(&mut self, place: &RunOf, event: &WorkerEvent<'_>) -> Result<(), Refusal> {
        let (limit, wall) = (self.config.store.events_per_run, self.now.wall.0);
        let is_repeated = self.planted.is(Bug::DedupeByContent) && self.said_last(place, event.data);
        let Some(run) = self.run_mut(place) else { return Ok(()) };
        let rule = |message| Err(Refusal::new(Code::BadEvent, message, "keep the order of a run's events"));
        if is_repeated {
            return Ok(());
        }
        if run.events >= limit {
            return rule(format!("expected at most {limit} events of one run"));
        }
        let mut is_tool = false;
        match (event.kind, &event.call) {
            (Kind::ToolExecuting, Some(call)) => {
                if !run.tools.used.insert(call.clone()) {
                    return rule(format!("expected a call that is new in its attempt, found `{call}` again"));
                }
                run.tools.open.insert(call.clone(), wall);
                run.tools.count += 1;
                is_tool = true;
            }
            (Kind::ToolProgress, Some(call)) if !run.tools.open.contains_key(call) => {
                return rule(format!("expected progress of a call that is open, found `{call}`"));
            }
            (Kind::ToolCompleted, Some(call)) => {
                if run.tools.open.remove(call).is_none() {
                    let message = format!("expected the end of a call that is open, found `{call}`");
                    return rule(message);
                }
                is_tool = true;
            }
            (_, Some(_) | None) => {}
        }
        if let Some(question) = &event.question {
            self.open_question(place, question)?;
        }
        self.write_with(place, event.kind, event.data, true);
        if Progress::is_told_by(event.kind)
            && let Some(run) = self.run_mut(place)
        {
            run.progress.take(event, run.last_seq);
        }
        if is_tool {
            self.store_tools(place);
        }
        Ok(())
    }

    /// Whether a run's last event said the same: what [`Bug::DedupeByContent`] goes by.
    fn said_last(&self, of: &RunOf, data: &str) -> bool {
        let context = self.users.get(&of.user);
        let last = context.and_then(|context| context.stream.in_memory(context.runs.get(&of.run)?.last_seq));
        last.is_some_and(|last| last.bytes.ends_with(format!("{data}}}").as_bytes()))
    }

    /// Sets the timers of a run that is executed: its time, the warning before, a sign of life.
    pub(crate) fn watch_time(&mut self, of: &RunOf) {
        let now = self.now;
        let Some(run) = self.users.get(&of.user).and_then(|context| context.runs.get(&of.run)) else {
            return;
        };
        let (timeout, ran) = (run.timeout(&self.config), run.ran_in_attempt(now));
        let warn = self.warned_after(timeout);
        self.deadlines.set(Timer::Timeout(of.run.clone()), now.mono + (timeout - ran));
        if warn > ran {
            self.deadlines.set(Timer::TimeoutSoon(of.run.clone()), now.mono + (warn - ran));
        }
        self.watch_working(of);
    }
}

/// The refusal of what comes after the end of its run.
fn after_end() -> Refusal {
    Refusal::new(Code::BadEvent, "expected nothing after `complete`", "send `complete` last")
}
