//! What is kept for a time, or up to a number, and then no longer: keys of requests, ends of runs, events.
//! The store is asked for the oldest of them now and then, by rows that are named by their age.
//!
//! Whoever is asleep is purged too: with the end of a run go, when that is old enough, the events up to it.

use crate::config::Store;
use crate::context::{Context, RunOf};
use crate::deadlines::Timer;
use crate::durable::{Durable, Reveal};
use crate::effect::{Effect, Effects};
use crate::ids::{AppendId, Owner, RunId, User};
use crate::planted::{Bug, Planted};
use crate::record::{Found, Query, Record, RowKey, Table};
use crate::run::{Ended, Spec, ended_key, history_key, history_run};
use crate::sometimes::Sometimes;
use crate::stream::{Keep, Stream};
use crate::time::{Span, WallMs};
use crate::{Core, Load};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How often the oldest rows are looked at, and how soon again when there are more of them.
const PURGE_EVERY: Span = Span::secs(60);
const MORE_AFTER: Span = Span::millis(100);
/// Rows that are looked at at once.
const ROWS: usize = 256;
/// A user's ended runs are counted at the end of every so many runs of all.
const COUNT_EVERY: u64 = 16;

/// What is known of purging.
#[derive(Debug, Default)]
pub(crate) struct Purge {
    /// Questions that are not answered.
    asked: usize,
    /// Keys that were stored since, or are not durable yet, with the append that stores them: the answer may
    /// be of their predecessors.
    fresh: BTreeMap<RowKey, AppendId>,
}

/// The stored form of a key's age: which row that key is.
#[derive(Debug, Serialize, Deserialize)]
struct KeyAge {
    owner: String,
    name: String,
}

/// The stored form of an end's age.
#[derive(Debug, Serialize, Deserialize)]
struct EndAge {
    user: User,
    /// The name of its row among its user's.
    history: String,
}

fn aged(table: Table, at_ms: u64, what: &str) -> RowKey {
    RowKey { table, owner: "".into(), name: format!("{at_ms:016x}/{what}").into() }
}

/// When what a row stands for was made, and what its name says after that.
fn age(key: &RowKey) -> Option<(WallMs, &str)> {
    let (at, what) = key.name.split_once('/')?;
    Some((WallMs(u64::from_str_radix(at, 16).ok()?), what))
}

/// The row that says how old a key is.
fn key_age_key(key: &RowKey, made_ms: u64) -> RowKey {
    aged(Table::KeyAge, made_ms, &format!("{}/{}", key.name, key.owner))
}

/// The row that says how old an end is.
pub(crate) fn end_age_key(run: &RunId, ended_ms: u64) -> RowKey {
    aged(Table::EndAge, ended_ms, run.as_str())
}

/// What is stored of a key or an ended run besides this row.
pub(crate) fn rows_beside(key: &RowKey, row: &[u8]) -> Vec<RowKey> {
    #[derive(Deserialize)]
    struct Made {
        made_ms: u64,
    }
    if key.table == Table::Key {
        let made: Made = serde_json::from_slice(row).expect("a stored row is what was stored");
        return Vec::from([key_age_key(key, made.made_ms)]);
    }
    if key.table != Table::History {
        return Vec::new();
    }
    let (run, _) = history_run(key).expect("a stored name is one");
    let ended: Ended = serde_json::from_slice(row).expect("a stored row is what was stored");
    Vec::from([ended_key(&run), end_age_key(&run, ended.ended_ms)])
}

impl Core {
    /// Records how old a key is, that it may be purged. `before` is when its predecessor was made, which
    /// counts no longer.
    pub(crate) fn record_key_age(&mut self, key: RowKey, made_ms: u64, before: Option<u64>) {
        assert!(key.table == Table::Key, "only keys have this age");
        if let Some(before) = before {
            self.durable.record(Record::Delete { key: key_age_key(&key, before) });
        }
        let age = KeyAge { owner: key.owner.as_ref().into(), name: key.name.as_ref().into() };
        let (value, age_key) = (crate::record::row(&age), key_age_key(&key, made_ms));
        self.durable.record(Record::Put { key: age_key, value });
        if before.is_some() || self.purge.asked > 0 {
            self.purge.fresh.insert(key, self.durable.next());
        }
    }

    /// Records how old an end is.
    pub(crate) fn record_end_age(&mut self, spec: &Spec, run: &RunId, ended_ms: u64) {
        let history = history_key(spec, run).name.as_ref().into();
        let value = crate::record::row(&EndAge { user: spec.user.clone(), history });
        self.durable.record(Record::Put { key: end_age_key(run, ended_ms), value });
    }

    /// From here on what is too old is looked for.
    pub(crate) fn watch_ages(&mut self) {
        self.deadlines.set(Timer::Purge, self.now.mono + PURGE_EVERY);
    }

    /// It is time to look for what is too old.
    pub(crate) fn on_purge(&mut self, out: &mut Effects) {
        if self.purge.asked > 0 || self.durable.is_full() {
            return self.watch_ages();
        }
        self.purge_undelivered();
        self.trim_topics();
        for table in [Table::KeyAge, Table::EndAge] {
            let load = self.ask(Load::Aged(table));
            let query = Query::First { table, owner: "".into(), skip: 0, rows_max: ROWS };
            out.push(Effect::Load { load, query });
            self.purge.asked += 1;
        }
        self.watch_ages();
    }

    /// The oldest rows have come.
    pub(crate) fn on_aged(&mut self, table: Table, found: Found, out: &mut Effects) {
        self.purge.asked -= 1;
        let keep = if table == Table::KeyAge { self.config.runs.key_keep } else { self.config.store.keep };
        let rows = match found {
            Found::Rows(rows) => rows,
            // It is damaged: what is not purged does no harm, and whoever reads it is told.
            Found::Damaged => Vec::new(),
            Found::Events(_) => unreachable!("rows were asked for"),
        };
        let is_due = |key: &RowKey| age(key).is_some_and(|(at, _)| self.now.wall.since(at) >= keep);
        let due: Vec<(RowKey, Bytes)> = rows.into_iter().take_while(|(key, _)| is_due(key)).collect();
        if due.len() == ROWS {
            self.deadlines.set_earlier(Timer::Purge, self.now.mono + MORE_AFTER);
        }
        if table == Table::KeyAge {
            self.purge_keys(due)
        } else {
            self.purge_ends(due, out)
        }
        if self.purge.asked == 0 {
            let Self { purge, durable, .. } = self;
            purge.fresh.retain(|_, append| !durable.has(*append));
        }
    }

    fn purge_keys(&mut self, due: Vec<(RowKey, Bytes)>) {
        for (key, row) in due {
            let row: KeyAge = serde_json::from_slice(&row).expect("a stored row is what was stored");
            self.durable.record(Record::Delete { key });
            let key = RowKey { table: Table::Key, owner: row.owner.into(), name: row.name.into() };
            if !self.purge.fresh.contains_key(&key) {
                self.seen.mark(Sometimes::KeyPurged);
                self.durable.record(Record::Delete { key });
            }
        }
    }

    fn purge_ends(&mut self, due: Vec<(RowKey, Bytes)>, out: &mut Effects) {
        let mut users = BTreeSet::new();
        for (key, row) in due {
            let row: EndAge = serde_json::from_slice(&row).expect("a stored row is what was stored");
            let run = age(&key).and_then(|(_, run)| RunId::parse(run)).expect("a stored name is one");
            self.forget_end(&row.user, &run, &row.history);
            self.durable.record(Record::Delete { key });
            users.insert(row.user);
        }
        for user in users {
            self.trim_asleep(&user, out);
        }
    }

    /// The end of a run is not kept any more.
    fn forget_end(&mut self, user: &User, run: &RunId, history: &str) {
        self.seen.mark(Sometimes::EndPurged);
        let history = RowKey { table: Table::History, owner: user.text(), name: history.into() };
        self.durable.record(Record::Delete { key: ended_key(run) });
        if !self.planted.is(Bug::PurgeLeavesHistory) {
            self.durable.record(Record::Delete { key: history });
        }
    }

    /// A run has ended for good: its user may have too many that have.
    pub(crate) fn count_ended(&mut self, of: &RunOf, out: &mut Effects) {
        let ordinal = self.run_mut(of).map_or(0, |run| run.ordinal);
        if ordinal.is_multiple_of(COUNT_EVERY) {
            self.ask_excess(&of.user, out);
        }
    }

    pub(crate) fn ask_excess(&mut self, user: &User, out: &mut Effects) {
        let (skip, owner) = (self.config.store.runs_per_user, user.text());
        let load = self.ask(Load::Excess(user.clone()));
        out.push(Effect::Load {
            load,
            query: Query::First { table: Table::History, owner, skip, rows_max: ROWS },
        });
    }

    /// A user's ended runs past those that are kept have come.
    pub(crate) fn on_excess(&mut self, user: &User, found: Found) {
        let Found::Rows(rows) = found else { return };
        let has_more = rows.len() == ROWS;
        let ends = rows.into_iter().map(|(key, row)| {
            let (run, _) = history_run(&key).expect("a stored name is one");
            let ended: Ended = serde_json::from_slice(&row).expect("a stored row is what was stored");
            (key, run, ended.ended_ms)
        });
        let ends: Vec<(RowKey, RunId, u64)> = ends.collect();
        let latest = ends.iter().map(|(_, _, ended_ms)| *ended_ms).max();
        for (key, run, ended_ms) in ends {
            self.forget_end(user, &run, &key.name);
            // A run that was asked for before those that are kept may have ended after them: when its end is
            // too old, so are the events up to it, and nothing else would tell.
            if Some(ended_ms) != latest {
                self.durable.record(Record::Delete { key: end_age_key(&run, ended_ms) });
            }
        }
        if has_more {
            // Until these are gone for certain they would be found again.
            self.durable.reveal(Reveal::ForgotSome { user: user.clone() });
        }
    }

    /// Trims what is too old of a user, who need not be in memory.
    fn trim_asleep(&mut self, user: &User, out: &mut Effects) {
        if self.users.contains_key(user) {
            return self.trim(user);
        }
        if !self.is_erased(user) {
            self.load_context(user, out);
        }
    }

    /// How much is kept of a user's stream.
    pub(crate) fn keep(&self, user: &User) -> Keep {
        keep(&self.config.store, self.users.get(user).map(Box::as_ref), self.now.wall, self.planted)
    }

    /// Trims what is too much or too old of a user's stream.
    pub(crate) fn trim(&mut self, user: &User) {
        let keep = self.keep(user);
        let context = self.users.get_mut(user).expect("a context in use is in memory");
        if !context.stream.trim(keep) {
            return;
        }
        if context.stream.is_empty() {
            self.seen.mark(Sometimes::TrimmedWhole);
        }
        self.durable.store_floor(&context.stream, Owner::User(user.clone()));
    }

    /// The same of all topics, which are few and in memory.
    fn trim_topics(&mut self) {
        let wall = self.now.wall;
        for (topic, state) in &mut self.topics {
            if state.stream.trim(self.config.topic_keep(topic, wall)) {
                self.durable.store_floor(&state.stream, Owner::Topic(topic.clone()));
            }
        }
    }
}

impl Durable {
    /// A stream was trimmed: whoever was overtaken is told when that is durable.
    fn store_floor(&mut self, stream: &Stream, owner: Owner) {
        self.record(Record::Trim { stream: stream.key().clone(), floor: stream.floor() });
        self.record(stream.row());
        self.reveal(Reveal::Head { owner, seq: stream.last() });
    }
}

impl Store {
    /// What was written before is too old.
    pub(crate) fn since(&self, wall: WallMs) -> WallMs {
        WallMs(wall.0.saturating_sub(self.keep.as_millis()))
    }
}

/// How much of a user's stream is kept, of what is configured and the oldest run that has not ended.
pub(crate) fn keep(store: &Store, context: Option<&Context>, wall: WallMs, planted: Planted) -> Keep {
    let from = context.and_then(Context::live_from).filter(|_| !planted.is(Bug::TrimUnderActiveRun));
    let since = store.since(wall);
    Keep { events: store.events_per_user, bytes: store.bytes_per_user, since, from }
}
