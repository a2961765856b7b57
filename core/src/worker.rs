//! Workers: their sessions, which runs they are offered, and how they come back to theirs (PROTOCOL §6).
//!
//! A worker is known by its token's `sub` and its name. Its session outlives its connection by the lease.

use crate::Core;
use crate::agent::AGENTS_KNOWN;
use crate::conn::{Conn, Role, text};
use crate::context::RunOf;
use crate::deadlines::Timer;
use crate::durable::Reveal;
use crate::effect::Effects;
use crate::handshake::Identity;
use crate::ids::{Agent, ConnId, RunId, User, WorkerName};
use crate::planted::Bug;
use crate::record::RowKey;
use crate::run::{Phase, Run};
use crate::sometimes::Sometimes;
use crate::time::{Mono, Span};
use crate::wire::call::Call;
use crate::wire::error::{CloseCode, Code, Refusal};
use crate::wire::json::Object;
use crate::wire::worker::{Attempt, Hello, Serves, about};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Messages of a worker that may be unacknowledged (`publish_window`).
pub(crate) const PUBLISH_WINDOW: usize = 256;
/// The first time for which a worker that did not take a run is passed over.
const PASS_OVER: Span = Span::secs(1);
/// The longest.
const PASS_OVER_MAX: Span = Span::secs(30);

/// Which worker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub struct WorkerKey {
    /// Its token's `sub`.
    pub sub: User,
    /// Its own name.
    pub name: WorkerName,
}

/// A worker's session.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Its connection, while it has one that is welcome.
    pub(crate) conn: Option<ConnId>,
    agents: BTreeMap<Agent, Serves>,
    /// The runs at it, or offered to it.
    pub(crate) runs: BTreeMap<RunId, User>,
    /// How many of them each agent has: looked at for every offer, when there may be thousands of runs.
    used: BTreeMap<Agent, usize>,
    /// Nothing is offered to it before.
    passed_over_until: Mono,
    pass_over: Span,
    /// It wants no more runs.
    is_draining: bool,
    /// Its newest call.
    call: Option<Call>,
}

impl Worker {
    /// Nothing is offered to it before.
    pub(crate) const fn passed_over_until(&self) -> Mono {
        self.passed_over_until
    }

    /// It wants no more runs.
    /// How it is, in a word of `GET /v1/workers`.
    pub(crate) fn state(&self) -> &'static str {
        match self.conn {
            None => "silent",
            Some(_) if self.is_draining() => "draining",
            Some(_) if self.runs.is_empty() => "idle",
            Some(_) => "busy",
        }
    }

    pub(crate) const fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// What it serves.
    pub(crate) fn agents(&self) -> impl Iterator<Item = &Serves> {
        self.agents.values()
    }

    /// Has one run more.
    fn hold(&mut self, of: &RunOf, agent: &Agent) {
        self.runs.insert(of.run.clone(), of.user.clone());
        *self.used.entry(agent.clone()).or_default() += 1;
    }

    /// All its runs, as they are counted.
    pub(crate) fn counted(&self) -> usize {
        self.used.values().sum()
    }

    fn new() -> Self {
        Self {
            conn: None,
            agents: BTreeMap::new(),
            runs: BTreeMap::new(),
            used: BTreeMap::new(),
            passed_over_until: Mono::default(),
            pass_over: PASS_OVER,
            is_draining: false,
            call: None,
        }
    }
}

impl Core {
    /// A worker's `hello` was accepted; the ends of runs that it still names are looked up first.
    pub(crate) fn enter_worker(&mut self, id: ConnId, identity: Identity, hello: Hello, out: &mut Effects) {
        if let Some(refusal) = self.check_agents(&identity, &hello) {
            self.send_error(id, Some("hello"), None, &refusal, out);
            return self.close(id, CloseCode::Violation, &refusal.message, out);
        }
        let name = hello.worker.clone().unwrap_or_else(|| WorkerName::new(self.random()));
        let (key, expires) = (WorkerKey { sub: identity.user, name }, identity.expires);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.role = Role::worker(key.clone(), expires);
        let unknown: Vec<_> = hello
            .runs
            .iter()
            .filter(|of| !self.routes.contains_key(&of.run))
            .map(|of| crate::run::ended_key(&of.run))
            .collect();
        if unknown.is_empty() {
            return self.admit_worker(id, hello, &[], out);
        }
        let load = self.ask(crate::Load::Worker(id, hello));
        out.push(crate::Effect::Load { load, query: crate::record::Query::Rows(unknown) });
    }

    fn check_agents(&self, identity: &Identity, hello: &Hello) -> Option<Refusal> {
        if let Some(serves) = hello.agents.iter().find(|serves| !identity.allows(&serves.agent)) {
            let message = format!("this token may not serve the agent `{}`", serves.agent);
            let hint = "get a token that names it in `agents`";
            return Some(Refusal::new(Code::AgentForbidden, message, hint));
        }
        let new = hello.agents.iter().filter(|serves| !self.agents.contains_key(&serves.agent)).count();
        if self.agents.len() + new > AGENTS_KNOWN {
            let message = format!("expected at most {AGENTS_KNOWN} agents known in all");
            return Some(Refusal::new(Code::Overloaded, message, "serve agents under fewer names"));
        }
        None
    }

    /// The worker's session begins, or goes on.
    pub(crate) fn admit_worker(
        &mut self,
        id: ConnId,
        hello: Hello,
        rows: &[(RowKey, Bytes)],
        out: &mut Effects,
    ) {
        let Some(conn) = self.conns.get(&id).filter(|conn| !conn.is_closing) else { return };
        let Role::Worker(me) = &conn.role else { return };
        let key = me.key.clone();
        if self.durable.is_full() {
            return self.close_unstored(id, out);
        }
        // It would take the place of a newer one, and give up runs that it does not know of yet.
        if self
            .workers
            .get(&key)
            .is_some_and(|worker| Call::is_before(hello.call.as_ref(), worker.call.as_ref()))
        {
            return self.close(id, CloseCode::Replaced, "a later call of this worker was here already", out);
        }
        if let Some(older) = self.workers.get(&key).and_then(|worker| worker.conn) {
            self.close(older, CloseCode::Replaced, "a newer connection of the same worker", out);
        }
        for serves in &hello.agents {
            self.know_agent(&serves.agent, serves.retryable);
        }
        let worker = self.workers.entry(key.clone()).or_insert_with(Worker::new);
        worker.conn = Some(id);
        worker.is_draining = false;
        worker.call = hello.call;
        worker.agents = hello.agents.into_iter().map(|serves| (serves.agent.clone(), serves)).collect();
        self.stirred.insert(key.clone());
        let answers: Vec<_> = hello.runs.iter().map(|of| self.come_back(&key, of, rows)).collect();
        for of in self.unnamed(&key, &hello.runs) {
            self.lose_unnamed(&of);
        }
        self.renew_lease(&key);
        let welcome = Object::message("welcome")
            .str("worker", key.name.as_str())
            .raw("lease_ms", self.config.runs.lease.as_millis())
            .raw("publish_window", PUBLISH_WINDOW)
            .raw("message_bytes", self.config.server.worker_message)
            .raw("heartbeat_ms", self.config.server.heartbeat.as_millis())
            .list("runs", answers);
        self.durable.reveal(Reveal::WorkerWelcome { conn: id, welcome: text(welcome) });
    }

    /// The runs at a worker that it does not name, or by other attempts alone: it does not execute them.
    fn unnamed(&self, key: &WorkerKey, named: &[Attempt]) -> Vec<RunOf> {
        let named: BTreeSet<(&RunId, u64)> = named.iter().map(|of| (&of.run, of.attempt)).collect();
        let runs = self.workers.get(key).into_iter().flat_map(|worker| &worker.runs);
        let attempt = |of: &RunOf| Some(self.users.get(&of.user)?.runs.get(&of.run)?.attempt);
        runs.map(|(run, user)| RunOf { user: user.clone(), run: run.clone() })
            .filter(|of| attempt(of).is_none_or(|attempt| !named.contains(&(&of.run, attempt))))
            .collect()
    }

    /// A worker wants no more runs; those that it has go on.
    pub(crate) fn drain_worker(&mut self, key: &WorkerKey) {
        if let Some(worker) = self.workers.get_mut(key) {
            worker.is_draining = !self.planted.is(Bug::DrainOfWorkerOverheard);
            self.stir(key);
        }
    }

    /// A worker names a run that it has started: does it go on?
    fn come_back(&mut self, key: &WorkerKey, of: &Attempt, rows: &[(RowKey, Bytes)]) -> Object {
        let answer = |n: u64, state: &str| {
            Object::new()
                .str("run", of.run.as_str())
                .raw("attempt", of.attempt)
                .raw("n", n)
                .str("state", state)
        };
        if let Some(place) = self.run_of(&of.run)
            && let Some(run) = self.run_mut(&place)
        {
            let is_its = run.worker() == Some(key) && run.attempt == of.attempt;
            return match &run.phase {
                Phase::Running(_) | Phase::Cancelling(..) if is_its => {
                    run.ack_start();
                    run.is_gap_told = false;
                    answer(run.n, "continue")
                }
                Phase::Starting(_) if is_its => {
                    self.not_taken(&place);
                    answer(0, "gone")
                }
                Phase::Ended | Phase::Gone if run.completed_by(key, of.attempt) => answer(run.n, "ended"),
                Phase::Queued { .. }
                | Phase::Offered(_)
                | Phase::Starting(_)
                | Phase::Running(_)
                | Phase::Cancelling(..)
                | Phase::Ended
                | Phase::Gone => answer(0, "gone"),
            };
        }
        let ended = rows
            .iter()
            .find(|(found, _)| *found == crate::run::ended_key(&of.run))
            .map(|(_, row)| {
                serde_json::from_slice::<crate::run::Ended>(row).expect("a stored row is what was stored")
            })
            .filter(|ended| ended.attempt == of.attempt && ended.completed_by.as_ref() == Some(key));
        answer(0, if ended.is_some() { "ended" } else { "gone" })
    }

    /// A worker has come back without naming one of its runs.
    pub(crate) fn lose_unnamed(&mut self, of: &RunOf) {
        let Some(run) = self.run_mut(of) else { return };
        if matches!(run.phase, Phase::Running(_) | Phase::Cancelling(..)) && run.is_start_acked {
            self.lost(of);
        } else {
            self.not_taken(of);
        }
    }

    /// All that the welcome shows is durable: commands that were not confirmed are given again.
    pub(crate) fn on_worker_welcome(&mut self, id: ConnId, welcome: Bytes, out: &mut Effects) {
        // A token that has expired meanwhile lets nobody in.
        self.watch_worker_expiry(id, out);
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.is_closing) else { return };
        let Role::Worker(me) = &mut conn.role else { return };
        me.is_welcome = true;
        let (key, peer) = (me.key.clone(), conn.peer);
        conn.is_busy = false;
        let (sub, worker) = (key.sub.as_str().into(), key.name.as_str().into());
        self.note(crate::note::Note::WorkerConnected { conn: id, peer, sub, worker });
        self.send(id, welcome, out);
        let runs = self.workers.get(&key).map(|worker| worker.runs.clone()).unwrap_or_default();
        for (run, user) in runs {
            self.repeat_commands(&RunOf { user, run }, out);
        }
        self.queue.has_changed = true;
        self.tell_drain(id, out);
        self.take_inbox(id, out);
    }

    /// A worker's connection is gone. Its session stays for the lease if it has runs.
    pub(crate) fn leave_worker(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(&id) else { return };
        let Role::Worker(me) = &conn.role else { return };
        let key = me.key.clone();
        let Some(worker) = self.workers.get_mut(&key).filter(|worker| worker.conn == Some(id)) else {
            return;
        };
        worker.conn = None;
        let runs = worker.runs.clone();
        self.stir(&key);
        for (run, user) in runs {
            let of = RunOf { user, run };
            if self.run_mut(&of).is_some_and(|run| matches!(run.phase, Phase::Offered(_))) {
                self.not_taken(&of);
            }
        }
        self.forget_worker(&key);
    }

    /// A session without a connection and without runs is over.
    pub(crate) fn forget_worker(&mut self, key: &WorkerKey) {
        if self.workers.get(key).is_some_and(|worker| worker.conn.is_none() && worker.runs.is_empty()) {
            self.workers.remove(key);
            self.stir(key);
            self.deadlines.clear(Timer::Lease(key.clone()));
        }
    }

    /// A run leaves its worker, for whatever reason.
    pub(crate) fn leave_run(&mut self, key: &WorkerKey, run: &RunId, agent: &Agent) {
        let worker = self.workers.get_mut(key).expect("a run's worker has a session");
        assert!(worker.runs.remove(run).is_some(), "a worker knows its runs");
        let used = worker.used.get_mut(agent).expect("a worker counts its runs");
        *used -= 1;
        if *used == 0 {
            worker.used.remove(agent);
        }
        self.forget_worker(key);
    }

    /// The session of a worker whose run was found in the store.
    pub(crate) fn recall_worker(&mut self, key: &WorkerKey, of: &RunOf, agent: &Agent) {
        let worker = self.workers.entry(key.clone()).or_insert_with(Worker::new);
        worker.hold(of, agent);
        self.stir(key);
        self.renew_lease(key);
    }

    /// Offers a run to a worker.
    pub(crate) fn offer(&mut self, of: &RunOf, key: &WorkerKey, out: &mut Effects) {
        self.count(of);
        self.deadlines.set(Timer::Start(of.run.clone()), self.now.mono + self.config.runs.start);
        let context = self.users.get_mut(&of.user).expect("a context in use is in memory");
        let run = context.runs.get_mut(&of.run).expect("a queued run is in its context");
        let spec = run.spec.clone();
        let worker = self.workers.get_mut(key).expect("an offer goes to a worker that is there");
        worker.hold(of, &spec.agent);
        let conn = worker.conn.expect("an offer goes to a worker that is connected");
        assert!(
            context.busy.insert(spec.thread.clone(), of.run.clone()).is_none(),
            "a thread's runs go one at a time"
        );
        run.phase = Phase::Offered(key.clone());
        run.attempt += 1;
        run.progress = crate::progress::Progress::default();
        run.told = None;
        let attempt = Attempt { run: of.run.clone(), attempt: run.attempt };
        run.worker_timeout = worker.agents.get(&spec.agent).and_then(|serves| serves.timeout);
        let timeout = run.timeout(&self.config);
        let offer = about("run", &attempt)
            .str("thread", spec.thread.as_str())
            .str("user", of.user.as_str())
            .str("agent", spec.agent.as_str())
            .raw("input", &*spec.input)
            .maybe_raw("meta", spec.meta.as_deref())
            .raw("timeout_ms", timeout.as_millis());
        self.send(conn, text(offer), out);
    }

    /// The least loaded worker that can take a run now; those that it should avoid only if there is no other.
    pub(crate) fn worker_for(&self, run: &Run) -> Option<WorkerKey> {
        let now = self.now.mono;
        let free = |(_, worker): &(&WorkerKey, &Worker)| {
            worker.passed_over_until <= now && self.free_slots_of(worker, &run.spec.agent) > 0
        };
        let avoided = |key: &WorkerKey| run.avoid.get(key).is_some_and(|until| *until > now);
        self.workers
            .iter()
            .filter(free)
            .filter(|(key, _)| !avoided(key))
            .min_by_key(|(key, worker)| (run.avoid.contains_key(*key), worker.runs.len()))
            .map(|(key, _)| key.clone())
    }

    fn free_slots_of(&self, worker: &Worker, agent: &Agent) -> usize {
        let Some(serves) = worker.agents.get(agent).filter(|_| !worker.is_draining) else { return 0 };
        let hears = |conn: &Conn| conn.is_welcome() && conn.is_read();
        if !worker.conn.is_some_and(|conn| self.conns.get(&conn).is_some_and(|conn| hears(conn))) {
            return 0;
        }
        serves.slots.saturating_sub(worker.used.get(agent).copied().unwrap_or(0))
    }

    /// Slots for an agent that are free now, at workers that are not passed over.
    pub(crate) fn room_for(&self, agent: &Agent) -> usize {
        let workers = self.workers.values().filter(|worker| worker.passed_over_until <= self.now.mono);
        workers.map(|worker| self.free_slots_of(worker, agent)).sum()
    }

    /// Slots for an agent that are free now.
    pub(crate) fn free_slots(&self, agent: &Agent) -> usize {
        self.workers.values().map(|worker| self.free_slots_of(worker, agent)).sum()
    }

    /// Slots for an agent, free or not.
    pub(crate) fn slots(&self, agent: &Agent) -> usize {
        let connected = self.workers.values().filter(|worker| worker.conn.is_some() && !worker.is_draining);
        connected.filter_map(|worker| worker.agents.get(agent)).map(|serves| serves.slots).sum()
    }

    /// Whether any worker may have room for any run: a quick look before the long one.
    pub(crate) fn has_free_slot(&self) -> bool {
        self.workers.values().any(|worker| {
            let slots: usize = worker.agents.values().map(|serves| serves.slots).sum();
            worker.conn.is_some() && worker.runs.len() < slots
        })
    }

    /// A worker did not answer an offer in time: it is passed over for a while.
    pub(crate) fn on_start_overdue(&mut self, run: &RunId, out: &mut Effects) {
        let Some(of) = self.run_of(run) else { return };
        let Some(Phase::Offered(key)) = self.run_mut(&of).map(|run| run.phase.clone()) else { return };
        if self.stood_still() || self.is_unread(&key) || self.durable.is_full() {
            // What it has answered may wait for the daemon, or for the disk.
            return self.deadlines.set(Timer::Start(of.run), self.now.mono + self.config.runs.start);
        }
        self.seen.mark(Sometimes::OfferNotAnswered);
        self.withdraw(&of, &key, out);
        let now = self.now.mono;
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.passed_over_until = now + worker.pass_over;
            worker.pass_over = worker.pass_over.times(2).min(PASS_OVER_MAX);
            let until = worker.passed_over_until;
            self.deadlines.set_earlier(Timer::Dispatch, until);
        }
        self.not_taken(&of);
    }

    /// Tells a worker that an offer no longer stands.
    pub(crate) fn withdraw(&mut self, of: &RunOf, key: &WorkerKey, out: &mut Effects) {
        let Some(attempt) = self.run_mut(of).map(|run| run.attempt) else { return };
        let Some(conn) = self.line_to(key) else { return };
        let attempt = Attempt { run: of.run.clone(), attempt };
        self.send(conn, text(about("withdraw", &attempt)), out);
    }

    /// Where a worker can be told of its runs: nowhere before its `welcome`, which comes first and says it
    /// all.
    pub(crate) fn line_to(&self, key: &WorkerKey) -> Option<ConnId> {
        let conn = self.workers.get(key)?.conn?;
        self.conns.get(&conn).is_some_and(|conn| conn.is_welcome()).then_some(conn)
    }

    /// A worker takes a run: it is passed over no longer.
    pub(crate) fn takes_runs(&mut self, key: &WorkerKey) {
        if let Some(worker) = self.workers.get_mut(key) {
            worker.pass_over = PASS_OVER;
        }
    }
}
