//! The lists that an operator's console shows (PROTOCOL §7 `GET /v1/status` with `limit` or `find`): runs at
//! workers, runs that wait and why, runs that have ended lately, connections and workers.
//!
//! Nothing is kept for them but the newest ends. Each is made when it is asked for, by one pass over what
//! there is, and has at most as many entries as asked for.

use crate::Core;
use crate::conn::Role;
use crate::context::Context;
use crate::ids::{ConnId, Lane, RunId, User};
use crate::planted::Bug;
use crate::run::{Ended, Phase, Run};
use crate::wire::error::Refusal;
use crate::wire::json::Object;
use crate::wire::query::Params;
use crate::worker::{Worker, WorkerKey};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Entries of each list when nobody says otherwise, and at most.
const LISTED: usize = 50;
const LISTED_MAX: u64 = 200;
/// Ends that are remembered, the newest of all users.
const ENDS: usize = LISTED_MAX as usize;
/// The longest text that is looked for, in bytes: that of the longest name.
const FIND_BYTES: usize = crate::ids::USER_BYTES;

/// What is to be listed.
#[derive(Debug)]
pub(crate) struct Wanted {
    limit: usize,
    find: Option<String>,
}

/// The newest ends of runs, oldest first. Shown when they are durable.
#[derive(Debug, Default)]
pub(crate) struct Ends(VecDeque<(RunId, Ended)>);

/// A list that is being made: what matches is counted, and the first of it taken.
struct List<'w> {
    wanted: &'w Wanted,
    count: usize,
    items: Vec<Object>,
}

impl Wanted {
    /// What a query asks for, if it asks for lists.
    pub(crate) fn read(params: &Params) -> Result<Option<Self>, Refusal> {
        let limit = params.number("limit", 1..=LISTED_MAX)?;
        let fits = |text: &str| (1..=FIND_BYTES).contains(&text.len()).then(|| String::from(text));
        let find = params.read("find", "1 to 256 bytes", fits)?;
        if limit.is_none() && find.is_none() {
            return Ok(None);
        }
        Ok(Some(Self { limit: limit.map_or(LISTED, |limit| limit as usize), find }))
    }

    /// What is looked for.
    pub(crate) fn find(&self) -> Option<&str> {
        self.find.as_deref()
    }

    /// Whether one of these names has in it what is looked for.
    fn matches(&self, names: &[&str]) -> bool {
        self.find.as_ref().is_none_or(|find| names.iter().any(|name| name.contains(find.as_str())))
    }

    fn matches_run(&self, id: &RunId, run: &Run) -> bool {
        let spec = &run.spec;
        self.matches(&[id.as_str(), spec.user.as_str(), spec.thread.as_str(), spec.agent.as_str()])
    }

    const fn list(&self) -> List<'_> {
        List { wanted: self, count: 0, items: Vec::new() }
    }
}

impl List<'_> {
    /// One more that matches. It is described only if there is room.
    fn add(&mut self, describe: impl FnOnce() -> Object) {
        self.count += 1;
        if self.items.len() < self.wanted.limit {
            self.items.push(describe());
        }
    }

    fn finish(self) -> String {
        Object::new().raw("count", self.count).list("items", self.items).finish()
    }
}

impl Ends {
    /// A run has ended, durably or not.
    pub(crate) fn add(&mut self, run: &RunId, ended: Ended) {
        if self.0.len() == ENDS {
            self.0.pop_front();
        }
        self.0.push_back((run.clone(), ended));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// A user is erased.
    pub(crate) fn forget(&mut self, user: &User) {
        self.0.retain(|(_, ended)| ended.user != *user);
    }
}

impl Core {
    /// All lists.
    pub(crate) fn describe_lists(&self, wanted: &Wanted) -> Object {
        Object::new()
            .raw("runs", self.list_active(wanted))
            .raw("queued", self.list_queued(wanted))
            .raw("ended", self.list_ended(wanted))
            .raw("connections", self.list_conns(wanted))
            .raw("workers", self.list_workers(wanted))
    }

    /// Runs at workers or offered to them: the one that was accepted first is first.
    fn list_active(&self, wanted: &Wanted) -> String {
        let at_workers = self.workers.iter().flat_map(|(key, worker)| {
            let of = move |(id, user)| Some((key, id, self.listed_run(user, id)?));
            worker.runs.iter().filter_map(of)
        });
        let matching =
            |(_, id, (_, run)): &(&WorkerKey, &RunId, (&Context, &Run))| wanted.matches_run(id, run);
        let mut runs: Vec<_> = at_workers.filter(matching).collect();
        runs.sort_unstable_by_key(|(_, _, (_, run))| run.ordinal);
        let mut list = wanted.list();
        for (worker, id, (context, run)) in runs {
            list.add(|| {
                run.describe(id, context.stream.head(), self.now)
                    .raw("idle_ms", self.now.mono.since(run.last_event.1).as_millis())
                    .str("user", run.spec.user.as_str())
                    .str("worker", worker.name.as_str())
                    .maybe_raw("input", self.planted.is(Bug::StatusShowsInput).then(|| &*run.spec.input))
            });
        }
        list.finish()
    }

    /// A run that may be shown: it is known to be accepted, and not known to have ended.
    fn listed_run(&self, user: &User, id: &RunId) -> Option<(&Context, &Run)> {
        let context = self.users.get(user)?;
        let run = context.runs.get(id)?;
        run.is_listed(context.stream.head()).then_some((context, run))
    }

    /// Queued runs in the order in which they start as it is now: users take turns, and a turn is one run.
    fn list_queued(&self, wanted: &Wanted) -> String {
        let waiting = |user| self.users.get(user).map(|context| (context, &context.waiting));
        let mut turns: Vec<_> = self.queue.turns.iter().filter_map(waiting).collect();
        let (mut list, mut round, mut ahead) = (wanted.list(), 0, 0);
        while !turns.is_empty() {
            turns.retain(|(_, waiting)| waiting.len() > round);
            for (context, waiting) in &turns {
                let id = &waiting[round];
                let Some(run) = context.runs.get(id) else { continue };
                if run.phase == (Phase::Queued { is_durable: true }) && wanted.matches_run(id, run) {
                    list.add(|| {
                        debug_assert_eq!(ahead, self.ahead(&run.spec.user, round), "turns are one run");
                        self.describe_queued(context, id, run, ahead)
                    });
                }
                ahead += 1;
            }
            round += 1;
        }
        list.finish()
    }

    fn describe_queued(&self, context: &Context, id: &RunId, run: &Run, ahead: u64) -> Object {
        let (reason, message) = self.why_waiting(context, run);
        run.describe(id, context.stream.head(), self.now)
            .str("user", run.spec.user.as_str())
            .raw("position", ahead + 1)
            .raw("waited_ms", run.waited(self.now).as_millis())
            .maybe_raw("eta_ms", self.eta_ms(&run.spec.agent, ahead))
            .str("reason", reason)
            .str("message", message)
    }

    /// The newest ends that are durable, newest first, for as long as ends are kept.
    fn list_ended(&self, wanted: &Wanted) -> String {
        let is_shown = |(id, ended): &&(RunId, Ended)| {
            let in_memory = self.users.get(&ended.user).and_then(|context| context.runs.get(id));
            let age = self.now.wall.since(crate::time::WallMs(ended.ended_ms));
            in_memory.is_none_or(|run| run.phase == Phase::Gone)
                && age < self.config.store.keep
                && !self.is_erased(&ended.user)
                && wanted.matches(&[
                    id.as_str(),
                    ended.user.as_str(),
                    ended.thread.as_str(),
                    ended.agent.as_str(),
                ])
        };
        let mut list = wanted.list();
        for (id, ended) in self.ends.0.iter().rev().filter(is_shown) {
            list.add(|| ended.describe(id).str("user", ended.user.as_str()));
        }
        list.finish()
    }

    /// Users' connections that are welcome: the one that is most behind in its user's stream is first.
    fn list_conns(&self, wanted: &Wanted) -> String {
        let mut conns: Vec<(Reverse<u64>, ConnId, &User)> = Vec::new();
        for (id, conn) in self.conns.iter().filter(|(_, conn)| conn.is_welcome() && !conn.is_closing) {
            let Role::User(me) = &conn.role else { continue };
            let user = &me.identity.user;
            let device = me.device.as_ref().map_or("", |device| device.as_str());
            if wanted.matches(&[user.as_str(), device]) {
                let stream = self.stream_of(user, &Lane::Own);
                let lag = stream.map_or(0, |stream| me.cursor.behind(stream.head()));
                conns.push((Reverse(lag), *id, user));
            }
        }
        conns.sort_unstable();
        let described = conns
            .iter()
            .take(wanted.limit)
            .filter_map(|(_, id, user)| Some(self.describe_conn(*id)?.str("user", user.as_str())));
        Object::new().raw("count", conns.len()).list("items", described).finish()
    }

    /// Workers, those first that are silent.
    fn list_workers(&self, wanted: &Wanted) -> String {
        let matches = |key: &WorkerKey, worker: &Worker| {
            wanted.matches(&[key.name.as_str(), key.sub.as_str()])
                || worker.agents().any(|serves| wanted.matches(&[serves.agent.as_str()]))
        };
        let mut list = wanted.list();
        for is_silent in [true, false] {
            for (key, worker) in &self.workers {
                if worker.conn.is_none() == is_silent && matches(key, worker) {
                    list.add(|| self.describe_worker(key, worker));
                }
            }
        }
        list.finish()
    }
}
