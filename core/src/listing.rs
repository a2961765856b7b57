//! A user's runs and threads (PROTOCOL §7): those that have not ended from memory, the others from the store.

use crate::caller::Caller;
use crate::effect::{Content, Effects};
use crate::ending::About;
use crate::ids::{RunId, Thread};
use crate::record::{Found, Query, RowKey, Table};
use crate::run::{Ended, history_place, history_run};
use crate::wire::error::Refusal;
use crate::wire::json::Object;
use crate::wire::query::Params;
use crate::{Core, Load};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;

/// The newest runs of a user among which threads are looked for, and the most that are listed.
pub(crate) const RUNS_MAX: usize = 1_000;
/// Runs that are listed when nobody says otherwise.
const RUNS: usize = 100;

/// What is to be listed.
#[derive(Debug)]
pub(crate) enum Listing {
    /// Runs, newest first.
    Runs {
        /// Only those in this state.
        state: Option<&'static str>,
        /// At most so many.
        limit: usize,
    },
    /// Threads, newest run first.
    Threads,
}

/// A run of the list.
struct Entry {
    thread: Thread,
    state: &'static str,
    text: Object,
}

impl Listing {
    /// The runs that a query asks for.
    pub(crate) fn runs(params: &Params) -> Result<Self, Refusal> {
        const STATES: [&str; 6] = ["queued", "dispatched", "running", "waiting", "cancelling", "ended"];
        let known = |text: &str| STATES.into_iter().find(|state| *state == text);
        let expected = "queued, dispatched, running, waiting, cancelling or ended";
        let state = params.read("state", expected, known)?;
        let limit = params.number("limit", 1..=RUNS_MAX as u64)?.map_or(RUNS, |limit| limit as usize);
        Ok(Self::Runs { state, limit })
    }

    /// How many of the newest ended runs it takes to tell.
    fn ended_max(&self) -> usize {
        match self {
            Self::Runs { state: None | Some("ended"), limit } => *limit,
            Self::Runs { .. } => 0,
            Self::Threads => RUNS_MAX,
        }
    }
}

impl Core {
    /// How a run is: from memory, or from the store.
    pub(crate) fn on_run_state(&mut self, caller: Caller, run: RunId, out: &mut Effects) {
        let now = self.now;
        let described = self.run_for(&caller, &run, About::State).and_then(|of| {
            let context = self.users.get(&of.user)?;
            let head = context.stream.head();
            let state = context.runs.get(&run).filter(|run| run.is_listed(head))?;
            Some((caller.say_whose(state.describe(&run, head, now), &of.user), of.user))
        });
        match described {
            Some((state, user)) => {
                self.audit_publisher(&caller, &user, &run, About::State);
                self.respond(caller.conn, 200, Content::Json(state.finish()), out);
            }
            None => self.look_up_end(caller, run, About::State, None, out),
        }
    }

    /// A list is asked for. The user's context is in memory.
    pub(crate) fn on_list(&mut self, caller: Caller, what: Listing, out: &mut Effects) {
        let user = caller.identity.user.clone();
        self.hold(&user);
        let (owner, rows_max) = (user.text(), what.ended_max());
        let query = Query::First { table: Table::History, owner, skip: 0, rows_max };
        self.look_up(caller.conn, Load::History(caller, what), query, out);
    }

    /// The user's ended runs have come.
    pub(crate) fn on_history(&mut self, caller: &Caller, what: &Listing, found: Found, out: &mut Effects) {
        let user = &caller.identity.user;
        self.release(user);
        if let Some(rows) = self.looked_up(caller.conn, found, out) {
            let entries = self.entries(caller, &rows);
            let list = match what {
                Listing::Runs { state, limit } => {
                    let newest = entries.into_iter().rev().map(|(_, entry)| entry);
                    let wanted = newest.filter(|entry| state.is_none_or(|state| state == entry.state));
                    Object::new().list("runs", wanted.take(*limit).map(|entry| entry.text))
                }
                Listing::Threads => Object::new().list("threads", threads(entries)),
            };
            self.respond(caller.conn, 200, Content::Json(list.finish()), out);
        }
        self.leave_memory(user);
    }

    /// All runs of a caller that are in memory or in these rows, in the order in which they were accepted.
    fn entries(&self, caller: &Caller, rows: &[(RowKey, Bytes)]) -> BTreeMap<((u64, u64), RunId), Entry> {
        let mut entries = BTreeMap::new();
        if let Some(context) = self.users.get(&caller.identity.user) {
            let head = context.stream.head();
            for (id, run) in context.runs.iter().filter(|(_, run)| run.first_seq <= head) {
                let text = run.describe(id, head, self.now);
                let entry = Entry { thread: run.spec.thread.clone(), state: run.state(), text };
                entries.insert((history_place(&run.spec), id.clone()), entry);
            }
        }
        for (key, row) in rows {
            let (id, place) = history_run(key).expect("a stored name is one");
            let ended: Ended = serde_json::from_slice(row).expect("a stored row is what was stored");
            let text = ended.describe(&id);
            entries.insert((place, id), Entry { thread: ended.thread, state: "ended", text });
        }
        entries
    }
}

/// The threads of these runs: the one with the newest run first.
fn threads(entries: BTreeMap<((u64, u64), RunId), Entry>) -> Vec<Object> {
    let mut threads: Vec<(Thread, u64, RunId, &'static str)> = Vec::new();
    let mut places: BTreeMap<Thread, usize> = BTreeMap::new();
    for ((_, run), entry) in entries.into_iter().rev() {
        let place = *places.entry(entry.thread.clone()).or_insert(threads.len());
        match threads.get_mut(place) {
            Some((_, runs, _, _)) => *runs += 1,
            None => threads.push((entry.thread, 1, run, entry.state)),
        }
    }
    let describe = |(thread, runs, last, state): (Thread, u64, RunId, &str)| {
        let object = Object::new().str("thread", thread.as_str()).raw("runs", runs);
        object.str("last_run", last.as_str()).str("state", state)
    };
    threads.into_iter().map(describe).collect()
}
