//! How a run comes in: every check that it must pass, the answer, and its first event (PROTOCOL §5 `run`).
//!
//! All checks are hard. A run that fails one is answered and leaves no trace; one that passes is an immutable
//! [`Spec`] from then on.

use crate::caller::Caller;
use crate::context::RunOf;
use crate::durable::Reveal;
use crate::effect::{Effect, Effects};
use crate::ids::{ConnId, Key, RunId, Thread, User};
use crate::note::Note;
use crate::planted::Bug;
use crate::record::{Found, Query, Record, RowKey, Table};
use crate::run::{Cause, Ended, KeyRow, Run, Spec, ended_key, key_key, raw_json};
use crate::sometimes::Sometimes;
use crate::time::WallMs;
use crate::wire::error::{CloseCode, Code, Refusal};
use crate::wire::event::Kind;
use crate::wire::json::{Object, wrong};
use crate::wire::user::{Ask, OnBusy, Place, accepted};
use crate::{Core, Load};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use bytes::Bytes;

/// A run that waits for what the store knows of it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) caller: Caller,
    /// Whose run it is to be.
    pub(crate) user: User,
    pub(crate) ask: Ask,
    thread: Thread,
    run: RunId,
}

/// Answered when a user's run is refused for a while, in milliseconds.
const RETRY_MS: u64 = 1_000;

impl Core {
    /// A run is asked for. What only the store can tell is looked up first. The user's context is in memory.
    pub(crate) fn on_ask(&mut self, caller: Caller, user: User, ask: Ask, out: &mut Effects) {
        let conn = caller.conn;
        let thread = ask.thread.clone().unwrap_or_else(|| Thread::new(self.random()));
        let run = self.new_run_id(&thread);
        let mut rows = Vec::from([ended_key(&run)]);
        rows.extend(ask.key.as_ref().map(|key| key_key(&user, key)));
        rows.extend(ask.parent.as_ref().map(ended_key));
        self.hold(&user);
        let asked = Asked { caller, user, ask, thread, run };
        self.look_up(conn, Load::Run(Box::new(asked)), Query::Rows(rows), out);
    }

    /// Keeps a context in memory, with all that a question to the store may have missed.
    pub(crate) fn hold(&mut self, user: &User) {
        self.users.get_mut(user).expect("a context in use is in memory").questions += 1;
    }

    /// The answer has come for which [`Self::hold`] kept the context.
    pub(crate) fn release(&mut self, user: &User) {
        self.users.get_mut(user).expect("a question keeps its context in memory").questions -= 1;
    }

    /// Asks the store on behalf of a connection, whose other messages wait meanwhile.
    pub(crate) fn look_up(&mut self, conn: ConnId, load: Load, query: Query, out: &mut Effects) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.is_busy = true;
        }
        let load = self.ask(load);
        out.push(Effect::Load { load, query });
    }

    /// The answer to [`Self::look_up`] has come: returns the rows, if the connection can still be answered.
    pub(crate) fn looked_up(
        &mut self,
        conn: ConnId,
        found: Found,
        out: &mut Effects,
    ) -> Option<Vec<(RowKey, Bytes)>> {
        let is_there = self.is_still_there(conn);
        match found {
            Found::Rows(rows) => is_there.then_some(rows),
            Found::Damaged => {
                self.close(conn, CloseCode::ServerError, "what is stored of this is damaged", out);
                None
            }
            Found::Events(_) => unreachable!("rows were asked for"),
        }
    }

    /// The store has answered a connection, which may be gone.
    pub(crate) fn is_still_there(&mut self, conn: ConnId) -> bool {
        self.conns.get_mut(&conn).is_some_and(|conn| {
            conn.is_busy = false;
            !conn.is_closing
        })
    }

    fn new_run_id(&mut self, thread: &Thread) -> RunId {
        loop {
            let id = RunId::new(thread, self.random() as u32);
            if !self.routes.contains_key(&id) {
                return id;
            }
        }
    }

    /// What the store knows of a run that is asked for has come.
    pub(crate) fn on_asked(&mut self, asked: Asked, found: Found, out: &mut Effects) {
        let (conn, user) = (asked.caller.conn, asked.user.clone());
        self.release(&user);
        if let Some(rows) = self.looked_up(conn, found, out) {
            if rows.iter().any(|(key, _)| *key == ended_key(&asked.run)) {
                return self.on_ask(asked.caller, user, asked.ask, out);
            }
            if let Err(refusal) = self.admit(&asked, &rows, out) {
                self.refuse(&asked.caller, "run", &refusal, out);
            }
        }
        self.leave_memory(&user);
        self.take_inbox(conn, out);
    }

    fn admit(&mut self, asked: &Asked, rows: &[(RowKey, Bytes)], out: &mut Effects) -> Result<(), Refusal> {
        if let Some(key) = &asked.ask.key
            && self.answer_duplicate(asked, key, rows)?
        {
            return Ok(());
        }
        self.check(asked, rows)?;
        if asked.ask.on_busy == OnBusy::Interrupt {
            for of in self.runs_of_thread(&asked.user, &asked.thread) {
                self.cancel(&of, Cause::Interrupt, out);
            }
        }
        self.accept(asked, rows);
        Ok(())
    }

    /// Every check, whatever the others say: whoever asks hears all that is wrong at once.
    fn check(&self, asked: &Asked, rows: &[(RowKey, Bytes)]) -> Result<(), Refusal> {
        let checks = [
            self.check_draining(),
            self.check_erased(&asked.user),
            self.check_agent(asked),
            self.check_timeout(asked),
            self.check_parent(asked, rows),
            self.check_thread(asked),
            self.check_room_for_run(asked),
        ];
        let mut wrong = checks.into_iter().filter_map(Result::err);
        let Some(first) = wrong.next() else { return Ok(()) };
        Err(Refusal { also: wrong.collect(), ..first })
    }

    fn check_draining(&self) -> Result<(), Refusal> {
        let is_refused = self.is_draining() && !self.planted.is(Bug::DrainTakesRuns);
        if is_refused { Err(Self::draining()) } else { Ok(()) }
    }

    fn check_timeout(&self, asked: &Asked) -> Result<(), Refusal> {
        let longest = self.config.runs.timeout_max;
        let Some(timeout) = asked.ask.timeout else { return Ok(()) };
        if timeout.0 > 0 && timeout <= longest {
            return Ok(());
        }
        let expected = format!("1 to {} milliseconds", longest.as_millis());
        Err(wrong("timeout_ms", &expected, &format!("{}", timeout.as_millis())))
    }

    fn check_thread(&self, asked: &Asked) -> Result<(), Refusal> {
        if asked.ask.on_busy != OnBusy::Reject || self.runs_of_thread(&asked.user, &asked.thread).is_empty() {
            return Ok(());
        }
        let message = format!("the thread `{}` has a run that has not ended", asked.thread);
        Err(Refusal::new(Code::ThreadBusy, message, "wait for its end, or ask with another on_busy"))
    }

    fn runs_of_thread(&self, user: &User, thread: &Thread) -> Vec<RunOf> {
        let runs = self.users.get(user).into_iter().flat_map(|context| &context.runs);
        runs.filter(|(_, run)| !run.is_ended() && run.spec.thread == *thread)
            .map(|(run, _)| RunOf { user: user.clone(), run: run.clone() })
            .collect()
    }

    /// The same key within its time: the same answer, or a refusal if the request is another.
    fn answer_duplicate(
        &mut self,
        asked: &Asked,
        key: &Key,
        rows: &[(RowKey, Bytes)],
    ) -> Result<bool, Refusal> {
        let context = self.users.get(&asked.user).expect("a context in use is in memory");
        let digest = digest(asked.ask.digest);
        let (run, thread, first) = if let Some(run) = context.keys.get(key) {
            let spec = &context.runs.get(run).expect("a key's run is in memory with it").spec;
            (run.clone(), spec.thread.clone(), spec.digest.clone())
        } else if let Some(row) = self.stored_key(&asked.user, key, rows) {
            self.seen.mark(Sometimes::KeyFoundInStore);
            (row.run, row.thread, row.digest)
        } else {
            return Ok(false);
        };
        if first != digest {
            let message = format!("the key `{key}` was used for another request, which made {run}");
            return Err(Refusal::new(Code::KeyReused, message, "use a new key for a new request"));
        }
        // The answer is shown when all before it is durable: it would wait for a full store, with each that
        // is sent after it.
        if self.durable.is_full() {
            return Err(self.storage_unavailable());
        }
        // Whoever waits for its end learns whether that is still to come, and up to where it may be.
        let state = context.runs.get(&run).filter(|run| !run.is_ended()).map(|run| run.state());
        let head = context.stream.last();
        let mut place = self.place(&asked.user, &run);
        place.duplicate = true;
        let answer = accepted(asked.caller.id(), Some(key), &run, &thread, place);
        let answer = answer.maybe_str("state", state).raw("head", head);
        self.reply(&asked.caller, 200, answer);
        Ok(true)
    }

    fn stored_key(&self, user: &User, key: &Key, rows: &[(RowKey, Bytes)]) -> Option<KeyRow> {
        let (_, row) = rows.iter().find(|(found, _)| *found == key_key(user, key))?;
        let row: KeyRow = serde_json::from_slice(row).expect("a stored row is what was stored");
        (self.now.wall.since(WallMs(row.made_ms)) < self.config.runs.key_keep).then_some(row)
    }

    fn check_room_for_run(&self, asked: &Asked) -> Result<(), Refusal> {
        let runs = &self.config.runs;
        if self.durable.is_full() {
            return Err(self.storage_unavailable());
        }
        self.check_memory()?;
        let waiting = self.users.get(&asked.user).map_or(0, |context| context.waiting.len());
        let freed = self.places_freed(asked);
        if waiting - freed >= runs.queued_per_user {
            let message = format!("expected fewer than {} queued runs of one user", runs.queued_per_user);
            return Err(Refusal::new(Code::UserQueueFull, message, "wait for one to start").retry(RETRY_MS));
        }
        if self.queue.waiting - freed >= runs.queued {
            let message = format!("expected fewer than {} queued runs", runs.queued);
            return Err(Refusal::new(Code::QueueFull, message, "try again later").retry(RETRY_MS));
        }
        Ok(())
    }

    /// The places in the queue of those runs that end when this one is accepted.
    fn places_freed(&self, asked: &Asked) -> usize {
        if asked.ask.on_busy != OnBusy::Interrupt {
            return 0;
        }
        let runs = self.users.get(&asked.user).into_iter().flat_map(|context| context.runs.values());
        runs.filter(|run| run.is_queued() && run.spec.thread == asked.thread).count()
    }

    /// The refusal of what the store would have to take.
    pub(crate) fn storage_unavailable(&self) -> Refusal {
        let message = "the store takes nothing at present; what is stored is delivered on";
        let retry = crate::durable::RETRY.as_millis();
        Refusal::new(Code::StorageUnavailable, message, "free disk space, then try again").retry(retry)
    }

    fn check_agent(&self, asked: &Asked) -> Result<(), Refusal> {
        let agent = &asked.ask.agent;
        if !asked.caller.identity.allows(agent) {
            let message = format!("this token may not run the agent `{agent}`");
            return Err(Refusal::new(Code::AgentForbidden, message, "get a token that names it in `agents`"));
        }
        if !self.config.agents.contains_key(agent) && !self.agents.contains_key(agent) {
            let message = format!("no agent `{agent}` is configured, and no worker has ever served it");
            return Err(Refusal::new(
                Code::AgentUnknown,
                message,
                "check the name, or start a worker for it",
            ));
        }
        if let Some(left) = self.circuit_open(agent) {
            let message = format!("the agent `{agent}` has failed too often in a row");
            let refusal = Refusal::new(Code::AgentUnavailable, message, "try again later");
            return Err(refusal.retry(left.as_millis()));
        }
        Ok(())
    }

    fn check_parent(&self, asked: &Asked, rows: &[(RowKey, Bytes)]) -> Result<(), Refusal> {
        let Some(parent) = &asked.ask.parent else { return Ok(()) };
        let user = &asked.user;
        let is_alive = self.users.get(user).is_some_and(|context| context.runs.contains_key(parent));
        if is_alive || ended_run(user, parent, rows).is_some() {
            return Ok(());
        }
        Err(run_not_found())
    }

    /// All checks are passed: the run exists from here on.
    fn accept(&mut self, asked: &Asked, rows: &[(RowKey, Bytes)]) {
        let Asked { user, ask, thread, run: id, .. } = asked;
        let rank = self.rank(user, thread, ask.priority);
        let place = self.place_of_new(user, thread, &ask.agent, rank);
        self.last_ordinal += 1;
        self.counts.accepted += 1;
        self.note(Note::Accepted { run: id.clone(), user: user.clone(), agent: ask.agent.clone() });
        let spec = Spec {
            user: user.clone(),
            thread: thread.clone(),
            agent: ask.agent.clone(),
            input: raw_json(&ask.input),
            timeout_ms: ask.timeout.map(|timeout| timeout.as_millis()),
            key: ask.key.clone(),
            digest: digest(ask.digest),
            parent: ask.parent.clone(),
            meta: ask.meta.as_ref().map(raw_json),
            priority: ask.priority,
            rank,
            accepted_ms: self.now.wall.0,
            ordinal: self.last_ordinal,
        };
        let data = queued_data(&spec, place);
        self.record_key(&spec, id, rows);
        let run = Run::new(spec, self.now);
        self.durable.record(run.spec_row(id));
        let context = self.users.get_mut(user).expect("a context in use is in memory");
        if let Some(key) = &ask.key {
            context.keys.insert(key.clone(), id.clone());
        }
        assert!(context.runs.insert(id.clone(), Box::new(run)).is_none(), "a run's id is new");
        self.routes.insert(id.clone(), user.clone());
        let of = RunOf { user: user.clone(), run: id.clone() };
        let answer = accepted(asked.caller.id(), ask.key.as_ref(), id, thread, place);
        self.reply(&asked.caller, 201, answer);
        self.durable.reveal(Reveal::Queued(of.clone()));
        self.write(&of, Kind::RunQueued, &data.finish());
        self.store_run(&of);
        self.enqueue(&of);
        if place.position == 0 {
            self.promise(&of);
        }
    }

    fn record_key(&mut self, spec: &Spec, id: &RunId, rows: &[(RowKey, Bytes)]) {
        if let Some(key) = &spec.key
            && !self.planted.is(Bug::KeyForgotten)
        {
            let row = KeyRow {
                run: id.clone(),
                thread: spec.thread.clone(),
                digest: spec.digest.clone(),
                made_ms: spec.accepted_ms,
            };
            let key = key_key(&spec.user, key);
            self.durable.record(Record::Put { key, value: crate::record::row(&row) });
        }
        if let Some(key) = spec.key.as_ref().map(|key| key_key(&spec.user, key)) {
            // One that was used before, too long ago to count, has one age again.
            let before = rows.iter().find(|(found, _)| *found == key).map(|(_, row)| {
                let row: KeyRow = serde_json::from_slice(row).expect("a stored row is what was stored");
                row.made_ms
            });
            self.record_key_age(key, spec.accepted_ms, before);
        }
    }
}

fn queued_data(spec: &Spec, place: Place) -> Object {
    Object::new()
        .str("agent", spec.agent.as_str())
        .raw("input", &*spec.input)
        .raw("position", place.position)
        .maybe_str("key", spec.key.as_ref().map(Key::as_str))
        .str("priority", spec.priority.as_str())
        .maybe_str("parent", spec.parent.as_ref().map(RunId::as_str))
        .maybe_raw("meta", spec.meta.as_deref())
}

fn digest(digest: u128) -> alloc::string::String {
    format!("{digest:032x}")
}

/// The stored end of a run, if it was this user's.
fn ended_run(user: &User, run: &RunId, rows: &[(RowKey, Bytes)]) -> Option<Ended> {
    ended(run, rows).filter(|ended| ended.user == *user)
}

/// The stored end of a run, whosever it was.
pub(crate) fn ended(run: &RunId, rows: &[(RowKey, Bytes)]) -> Option<Ended> {
    let (_, row) = rows.iter().find(|(key, _)| key.table == Table::Ended && *key == ended_key(run))?;
    Some(serde_json::from_slice(row).expect("a stored row is what was stored"))
}

/// The same for another's run and for none. What stood in its place is not repeated: it may be a token.
pub(crate) fn run_not_found() -> Refusal {
    let message = "expected a run of this user, found none with this id";
    Refusal::new(Code::RunNotFound, message, "check the run's id")
}
