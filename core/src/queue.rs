//! Who is next: limits, and fair order (PROTOCOL §5, REQUIREMENTS A7).
//!
//! Users take turns; within a user runs go by rank: the time at which they came, later by a fixed while for
//! each lower priority, so that a low one is overtaken only by what comes soon after it. A thread's runs go
//! one at a time, in the order in which they came. A run that cannot start now (its thread, its user or its
//! agent's workers are busy) lets others pass and keeps its place.

use crate::Core;
use crate::context::{Context, RunOf};
use crate::deadlines::Timer;
use crate::effect::Effects;
use crate::ids::{Agent, RunId, Thread, User};
use crate::planted::Bug;
use crate::run::{Phase, Run};
use crate::sometimes::Sometimes;
use crate::time::{Mono, Span};
use crate::wire::user::{Place, Priority};
use crate::worker::WorkerKey;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// How often a queued run's age, which is by the wall clock, is looked at.
pub(crate) const AGE_EVERY: Span = Span::secs(3600);

/// Whoever has not taken a run, and is gone, has so long to come back before that is forgotten.
const AVOIDED_FOR: Span = Span::secs(30);

/// By how much later than one of high priority a run counts as come, in milliseconds.
const LATER_MS: [(Priority, u64); 3] =
    [(Priority::High, 0), (Priority::Normal, 60_000), (Priority::Low, 300_000)];

/// All that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Users with queued runs, in the order of their turns.
    pub(crate) turns: VecDeque<User>,
    /// Queued runs of all users.
    pub(crate) waiting: usize,
    /// Runs at workers, of all users, but for those that wait for their user.
    pub(crate) active: usize,
    /// Runs that are told that they start at once, and are not durable yet: each will take one slot, so that
    /// there are no more than may be active.
    pub(crate) promised: usize,
    /// The latest wall clock by which a run was ranked: ranks never go back.
    latest_ms: u64,
    /// Whether a run may be able to start that could not before.
    pub(crate) has_changed: bool,
}

/// How many queued runs start before each, of all users in one walk. Users take turns: before a user's run
/// with `index` older ones come as many of everybody, and one more of those whose turn is earlier.
#[derive(Debug)]
pub(crate) struct Order {
    /// By index: the runs of everybody with fewer older ones.
    rounds: Vec<u64>,
    /// By index: the users passed so far that have a run with as many older ones.
    before: Vec<u64>,
}

impl Order {
    pub(crate) fn new(core: &Core) -> Self {
        let mut longer: Vec<u64> = Vec::new();
        for context in core.queue.turns.iter().filter_map(|user| core.users.get(user)) {
            longer.resize(longer.len().max(context.waiting.len()), 0);
            longer[..context.waiting.len()].iter_mut().for_each(|users| *users += 1);
        }
        let before = alloc::vec![0; longer.len()];
        let sums = longer.into_iter().scan(0, |sum, users| {
            let sum_before = *sum;
            *sum += users;
            Some(sum_before)
        });
        Self { rounds: sums.collect(), before }
    }

    /// Of a run with so many older ones of the user whose turn it is in this walk.
    pub(crate) fn ahead(&self, index: usize) -> u64 {
        self.rounds[index] + self.before[index]
    }

    /// That user had so many, and the next one has its turn.
    pub(crate) fn pass(&mut self, waiting: usize) {
        self.before[..waiting].iter_mut().for_each(|users| *users += 1);
    }
}

impl Core {
    /// A run joins the queue: a new one last, one that goes back in its old place.
    pub(crate) fn enqueue(&mut self, of: &RunOf) {
        let now = self.now;
        let context = self.users.get_mut(&of.user).expect("a context in use is in memory");
        let order = |id: &RunId| context.runs.get(id).map(|run| (run.spec.rank, run.ordinal));
        let own = order(&of.run);
        let mut at =
            context.waiting.iter().position(|other| order(other) > own).unwrap_or(context.waiting.len());
        if self.planted.is(Bug::LastInFirstOut) {
            at = 0;
        }
        context.waiting.insert(at, of.run.clone());
        let run = context.runs.get(&of.run).expect("a queued run is in its context");
        let (spec, is_durable) = (&run.spec, run.phase == (Phase::Queued { is_durable: true }));
        let age = now.wall.since(crate::time::WallMs(spec.accepted_ms));
        let left = Span(self.config.runs.queued_for.0.saturating_sub(age.0)).min(AGE_EVERY);
        self.deadlines.set(Timer::Queued(of.run.clone()), now.mono + left);
        if context.waiting.len() == 1 {
            self.queue.turns.push_back(of.user.clone());
        }
        self.queue.waiting += 1;
        // One that is not durable cannot start, and when it is, that is told.
        self.queue.has_changed |= is_durable;
        self.notice_queue();
    }

    /// A run leaves the queue.
    pub(crate) fn dequeue(&mut self, of: &RunOf) {
        let context = self.users.get_mut(&of.user).expect("a context in use is in memory");
        let at = context.waiting.iter().position(|run| *run == of.run).expect("a queued run is in the queue");
        context.waiting.remove(at);
        if context.waiting.is_empty() {
            context.waiting = VecDeque::new();
            self.queue.turns.retain(|user| *user != of.user);
        }
        self.queue.waiting -= 1;
        self.keep_promise(of);
        self.deadlines.clear(Timer::Queued(of.run.clone()));
        self.notice_queue();
    }

    /// Offers runs to workers until nothing more can start. While the store is full none can: that it has
    /// would not be durable, and each that goes back leaves a row behind.
    pub(crate) fn dispatch(&mut self, out: &mut Effects) {
        if !core::mem::take(&mut self.queue.has_changed) || self.is_draining() || self.durable.is_full() {
            return;
        }
        while self.queue.active < self.config.runs.active {
            let Some((turn, run, worker)) = self.next_to_start() else { return };
            let user = self.queue.turns.remove(turn).expect("a turn that was found");
            self.queue.turns.push_back(user.clone());
            let of = RunOf { user, run };
            if self.users.get(&of.user).is_some_and(|context| context.waiting.front() != Some(&of.run)) {
                self.seen.mark(Sometimes::ThreadPassedOver);
            }
            self.dequeue(&of);
            self.offer(&of, &worker, out);
        }
    }

    /// A worker that was passed over may be offered runs again; the next such time is watched.
    pub(crate) fn on_dispatch_again(&mut self) {
        self.queue.has_changed = true;
        let now = self.now.mono;
        let avoided = self
            .users
            .values()
            .flat_map(|context| context.waiting.iter().filter_map(|id| context.runs.get(id)))
            .flat_map(|run| run.avoid.values());
        let passed_over = self.workers.values().map(crate::worker::Worker::passed_over_until);
        let delayed = self
            .users
            .values()
            .flat_map(|context| context.waiting.iter().filter_map(|id| context.runs.get(id)))
            .map(|run| run.not_before);
        let all = avoided.copied().chain(passed_over).chain(delayed).chain(self.circuits_open_until());
        let next = all.filter(|until| *until > now).min();
        if let Some(next) = next {
            self.deadlines.set(Timer::Dispatch, next);
        }
    }

    /// Workers that queued runs pass over, or take only when there is no other.
    pub(crate) fn avoided(&self) -> usize {
        let runs = self.users.values().flat_map(|context| context.runs.values());
        runs.map(|run| run.avoid.len()).sum()
    }

    /// A run is not offered to a worker before, and then to others first. A worker that is gone and had time
    /// to come back is forgotten: its name may be one that is never seen again.
    pub(crate) fn avoid(&mut self, of: &RunOf, worker: &WorkerKey, until: Mono) {
        let Self { users, workers, now, .. } = self;
        let run = users.get_mut(&of.user).and_then(|context| context.runs.get_mut(&of.run));
        let Some(run) = run else { return };
        run.avoid.retain(|key, until| workers.contains_key(key) || *until + AVOIDED_FOR > now.mono);
        run.avoid.insert(worker.clone(), until);
    }

    fn next_to_start(&self) -> Option<(usize, RunId, WorkerKey)> {
        if !self.has_free_slot() {
            return None;
        }
        self.queue.turns.iter().enumerate().find_map(|(turn, user)| {
            let context = self.users.get(user)?;
            let (run, worker) = self.next_of_user(context)?;
            Some((turn, run, worker))
        })
    }

    fn next_of_user(&self, context: &Context) -> Option<(RunId, WorkerKey)> {
        if context.active() >= self.config.runs.active_per_user {
            return None;
        }
        let mut passed: alloc::collections::BTreeSet<&Thread> = alloc::collections::BTreeSet::new();
        for id in &context.waiting {
            let run = context.runs.get(id)?;
            let thread = &run.spec.thread;
            let is_first = !context.busy.contains_key(thread) && passed.insert(thread);
            if is_first
                && run.not_before <= self.now.mono
                && self.may_start(&run.spec.agent, 0)
                && run.phase == (Phase::Queued { is_durable: true })
                && let Some(worker) = self.worker_for(run)
            {
                return Some((id.clone(), worker));
            }
        }
        None
    }

    /// Where a run stands: queued runs that start before it by the present order.
    pub(crate) fn place(&self, user: &User, run: &RunId) -> Place {
        let own = self.users.get(user);
        let waits = own.filter(|own| own.runs.get(run).is_none_or(|run| !run.is_promised));
        let index = waits.and_then(|own| own.waiting.iter().position(|other| other == run));
        let ahead = index.map(|index| self.ahead(user, index));
        let position = ahead.map_or(0, |ahead| ahead + 1);
        let agent = own.and_then(|own| own.runs.get(run)).map(|run| &run.spec.agent);
        let eta_ms = agent.zip(ahead).and_then(|(agent, ahead)| self.eta_ms(agent, ahead));
        Place { position, ahead: ahead.unwrap_or(0), eta_ms, duplicate: false }
    }

    /// The rank of a run that is being accepted.
    pub(crate) fn rank(&mut self, user: &User, thread: &Thread, priority: Priority) -> u64 {
        self.queue.latest_ms = self.queue.latest_ms.max(self.now.wall.0);
        let mut later = LATER_MS.iter().find(|(of, _)| *of == priority).map_or(0, |(_, later)| *later);
        if self.planted.is(Bug::PriorityIgnored) {
            later = 0;
        }
        let runs = self.users.get(user).into_iter().flat_map(|context| context.runs.values());
        let of_thread = runs.filter(|run| !run.is_ended() && run.spec.thread == *thread);
        let before = of_thread.map(|run| run.spec.rank).max().unwrap_or(0);
        before.max(self.queue.latest_ms + later)
    }

    /// A run counts against the limits.
    pub(crate) fn count(&mut self, of: &RunOf) {
        let agent = self.run_mut(of).map(|run| run.spec.agent.clone());
        self.queue.active += 1;
        if let Some(agent) = agent {
            self.agent_mut(&agent).active += 1;
        }
    }

    /// A run counts against the limits no longer: another may start.
    pub(crate) fn stop_counting(&mut self, of: &RunOf) {
        let agent = self.run_mut(of).map(|run| run.spec.agent.clone());
        assert!(self.queue.active > 0, "a slot is freed once");
        if !self.planted.is(Bug::SlotNeverFreed) {
            self.queue.active -= 1;
        }
        if self.planted.is(Bug::SlotFreedTwice) {
            self.queue.active = self.queue.active.saturating_sub(1);
        }
        if let Some(agent) = agent {
            self.agent_mut(&agent).active -= 1;
        }
        self.queue.has_changed |= !self.planted.is(Bug::ThreadWakesNobody);
        self.notice_queue();
    }

    /// A run is told that it starts at once.
    pub(crate) fn promise(&mut self, of: &RunOf) {
        let Some(run) = self.run_mut(of) else { return };
        run.is_promised = true;
        let agent = run.spec.agent.clone();
        self.queue.promised += 1;
        self.agent_mut(&agent).promised += 1;
    }

    /// What a run was told, if that was that it starts at once, needs to be remembered no longer.
    pub(crate) fn keep_promise(&mut self, of: &RunOf) {
        let Some(run) = self.run_mut(of).filter(|run| run.is_promised) else { return };
        run.is_promised = false;
        let agent = run.spec.agent.clone();
        self.queue.promised -= 1;
        self.agent_mut(&agent).promised -= 1;
    }

    /// Queued runs that start before a user's run with `index` older ones: everyone has had as many turns.
    pub(crate) fn ahead(&self, user: &User, index: usize) -> u64 {
        if index == 0 {
            // Everybody in the queue has a run in the first round.
            let turn = self.queue.turns.iter().position(|other| other == user);
            return turn.unwrap_or(self.queue.turns.len()) as u64;
        }
        let mut is_before = true;
        let mut ahead = index;
        for other in &self.queue.turns {
            if other == user {
                is_before = false;
            } else if let Some(context) = self.users.get(other) {
                ahead += context.waiting.len().min(index + usize::from(is_before));
            }
        }
        ahead as u64
    }

    /// Where a run will stand that is being accepted: 0 if nothing keeps it from starting at once.
    pub(crate) fn place_of_new(&self, user: &User, thread: &Thread, agent: &Agent, rank: u64) -> Place {
        let own = self.users.get(user).expect("a context in use is in memory");
        if self.starts_at_once(own, thread, agent) {
            return Place::default();
        }
        // It goes behind those of its own rank, as `enqueue` will have it.
        let is_before = |id: &&RunId| own.runs.get(*id).is_some_and(|run| run.spec.rank <= rank);
        let mut index = own.waiting.iter().take_while(is_before).count();
        if self.planted.is(Bug::PlaceIgnoresPriority) {
            index = own.waiting.len();
        }
        let ahead = self.ahead(user, index);
        Place { position: ahead + 1, ahead, eta_ms: self.eta_ms(agent, ahead), duplicate: false }
    }

    /// Whether a run that is being accepted will be dispatched when it is durable, as things are. Whoever is
    /// durable and waits cannot start now, so only those count to whom a slot is promised.
    fn starts_at_once(&self, own: &Context, thread: &Thread, agent: &Agent) -> bool {
        let mut waiting = own.waiting.iter().filter_map(|id| own.runs.get(id));
        let of_user = waiting.clone().filter(|run| run.is_promised).count();
        let mut of_agent = self.agents.get(agent).map_or(0, |agent| agent.promised);
        if self.planted.is(Bug::PlaceCountsEverybody) {
            of_agent = self.queue.waiting;
        }
        self.queue.active + self.queue.promised < self.config.runs.active
            && own.active() + of_user < self.config.runs.active_per_user
            && !own.busy.contains_key(thread)
            && !waiting.any(|run| run.spec.thread == *thread)
            && self.may_start(agent, of_agent)
            && self.room_for(agent) > of_agent
    }

    /// Why a run of this context does not start, and in words.
    pub(crate) fn why_waiting(&self, context: &Context, run: &Run) -> (&'static str, &'static str) {
        if self.is_draining() {
            return ("draining", "The daemon is going down; the run goes on when it is back.");
        }
        if context.busy.contains_key(&run.spec.thread) {
            return ("thread_order", "An earlier run of this thread has not ended.");
        }
        if run.not_before > self.now.mono {
            return ("retry_delay", "It was lost, and is tried again in a moment.");
        }
        if self.durable.is_full() {
            return ("concurrency", "The store is full; runs start again when it is not.");
        }
        if self.circuit_open(&run.spec.agent).is_some() {
            return ("circuit_open", "The agent has failed too often, and rests.");
        }
        // Whoever is told this starts one; where workers are busy that is a matter of limits.
        if self.slots(&run.spec.agent) == 0 {
            return ("no_worker", "No worker for this agent is connected.");
        }
        if context.active() >= self.config.runs.active_per_user {
            return ("user_limit", "As many of your runs as allowed are running.");
        }
        if self.queue.active >= self.config.runs.active {
            return ("concurrency", "As many runs as allowed are running.");
        }
        if self.free_slots(&run.spec.agent) == 0 {
            return ("concurrency", "All workers for this agent are busy.");
        }
        // One that waits for a worker holds up those of its thread, whose agents may have all they need.
        let mut waiting = context.waiting.iter().filter_map(|id| context.runs.get(id));
        let first = waiting.find(|other| other.spec.thread == run.spec.thread);
        if first.is_some_and(|first| first.spec.ordinal != run.spec.ordinal) {
            return ("thread_order", "An earlier run of this thread has not ended.");
        }
        if !self.may_start(&run.spec.agent, 0) {
            return ("concurrency", "As many runs of this agent as may are running.");
        }
        if self.worker_for(run).is_none() {
            return ("concurrency", "Its workers have not taken it, and are asked again.");
        }
        ("concurrency", "Others are before it.")
    }
}
