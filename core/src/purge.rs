//! What is kept for a time, or up to a number, and then no longer: keys of requests, ends of runs, events.
//! The store is asked for the oldest of them now and then, by rows that are named by their age.
//!
//! Whoever is asleep is purged too: with the end of a run go, when that is old enough, the events up to it.

use crate::context::RunOf;
use crate::deadlines::Timer;
use crate::durable::Reveal;
use crate::effect::{Effect, Effects};
use crate::ids::{Owner, RunId, Topic, User};
use crate::planted::Bug;
use crate::record::{Found, Query, Record, RowKey, Table};
use crate::run::{Ended, Spec, ended_key, history_key, history_run};
use crate::sometimes::Sometimes;
use crate::stream::Keep;
use crate::time::{Span, WallMs};
use crate::{Core, Load};
use alloc::collections::BTreeSet;
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
    /// Keys that were stored since: the answer may be of their predecessors.
    fresh: BTreeSet<RowKey>,
}

/// The stored form of a key's age.
#[derive(Debug, Serialize, Deserialize)]
struct KeyAge {
    user: User,
    /// The name of its row among its user's.
    key: String,
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

/// The row that says how old the key in this row is.
pub(crate) fn key_age_key(key: &RowKey, made_ms: u64) -> RowKey {
    aged(Table::KeyAge, made_ms, &format!("{}/{}", key.name, key.owner))
}

/// The row that says how old an end is.
pub(crate) fn end_age_key(run: &RunId, ended_ms: u64) -> RowKey {
    aged(Table::EndAge, ended_ms, run.as_str())
}

impl Core {
    /// Records how old the key in this row is, that it may be purged.
    pub(crate) fn record_key_age(&mut self, user: &User, key: &RowKey, made_ms: u64) {
        if self.purge.asked > 0 {
            self.purge.fresh.insert(key.clone());
        }
        let value = crate::record::row(&KeyAge { user: user.clone(), key: key.name.as_ref().into() });
        self.durable.record(Record::Put { key: key_age_key(key, made_ms), value });
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
        for topic in self.topics.keys().cloned().collect::<Vec<_>>() {
            self.trim_topic(&topic);
        }
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
            self.purge.fresh.clear();
        }
    }

    fn purge_keys(&mut self, due: Vec<(RowKey, Bytes)>) {
        for (key, row) in due {
            let row: KeyAge = serde_json::from_slice(&row).expect("a stored row is what was stored");
            self.durable.record(Record::Delete { key });
            let key =
                RowKey { table: Table::Key, owner: row.user.as_str().into(), name: row.key.as_str().into() };
            if !self.purge.fresh.contains(&key) {
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
            self.forget_end(&row.user, &run, &row.history, key);
            users.insert(row.user);
        }
        for user in users {
            self.trim_asleep(&user, out);
        }
    }

    /// The end of a run is not kept any more.
    fn forget_end(&mut self, user: &User, run: &RunId, history: &str, age: RowKey) {
        self.seen.mark(Sometimes::EndPurged);
        let history = RowKey { table: Table::History, owner: user.as_str().into(), name: history.into() };
        self.durable.record(Record::Delete { key: age });
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

    fn ask_excess(&mut self, user: &User, out: &mut Effects) {
        let (skip, owner) = (self.config.store.runs_per_user, user.as_str().into());
        let load = self.ask(Load::Excess(user.clone()));
        out.push(Effect::Load {
            load,
            query: Query::First { table: Table::History, owner, skip, rows_max: ROWS },
        });
    }

    /// A user's ended runs past those that are kept have come.
    pub(crate) fn on_excess(&mut self, user: &User, found: Found, out: &mut Effects) {
        let Found::Rows(rows) = found else { return };
        if rows.len() == ROWS {
            self.ask_excess(user, out);
        }
        for (key, row) in rows {
            let (run, _) = history_run(&key).expect("a stored name is one");
            let ended: Ended = serde_json::from_slice(&row).expect("a stored row is what was stored");
            self.forget_end(user, &run, &key.name, end_age_key(&run, ended.ended_ms));
        }
    }

    /// Trims what is too old of a user, who need not be in memory.
    fn trim_asleep(&mut self, user: &User, out: &mut Effects) {
        if self.users.contains_key(user) {
            return self.trim(user);
        }
        if !self.loading.contains_key(user) {
            self.loading.insert(user.clone(), Vec::new());
            let load = self.ask(Load::Context(user.clone()));
            out.push(Effect::Load { load, query: Query::Owner(user.as_str().into()) });
        }
    }

    /// What was written before is too old.
    fn kept_since(&self) -> WallMs {
        WallMs(self.now.wall.0.saturating_sub(self.config.store.keep.as_millis()))
    }

    /// Trims what is too much or too old of a topic's stream.
    pub(crate) fn trim_topic(&mut self, topic: &Topic) {
        let keep = Keep {
            events: self.config.events_of_topic(topic),
            // So many events of at most the length of a message are bound enough.
            bytes: u64::MAX,
            before: self.kept_since(),
            from: None,
        };
        let stream = &mut self.topic(topic).stream;
        let (records, seq) = (stream.shorten(keep), stream.last());
        if !records.is_empty() {
            records.into_iter().for_each(|record| self.durable.record(record));
            self.durable.reveal(Reveal::Head { owner: Owner::Topic(topic.clone()), seq });
        }
    }

    /// Trims what is too much or too old of a user's stream.
    pub(crate) fn trim(&mut self, user: &User) {
        let (store, before) = (&self.config.store, self.kept_since());
        let context = self.users.get_mut(user).expect("a context in use is in memory");
        let from = context.live_from().filter(|_| !self.planted.is(Bug::TrimUnderActiveRun));
        let keep = Keep { events: store.events_per_user, bytes: store.bytes_per_user, before, from };
        if context.stream.is_trimming_held(keep) {
            self.seen.mark(Sometimes::TrimHeldByRun);
        }
        let records = context.stream.shorten(keep);
        if records.is_empty() {
            return;
        }
        if context.stream.is_empty() {
            self.seen.mark(Sometimes::TrimmedWhole);
        }
        let seq = context.stream.last();
        records.into_iter().for_each(|record| self.durable.record(record));
        // Whoever was overtaken is told.
        self.durable.reveal(Reveal::Head { owner: Owner::User(user.clone()), seq });
    }
}
