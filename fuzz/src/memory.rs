//! A store in maps: what is durable, what is on its way, and the answers to questions.

use bytes::Bytes;
use runcast_core::ids::{AppendId, LoadId};
use runcast_core::input::Input;
use runcast_core::record::{Found, Image, Query, Record, RowKey, StreamKey};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What a store that works keeps its word about.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    rows: BTreeMap<RowKey, Bytes>,
    streams: BTreeMap<StreamKey, BTreeMap<u64, Bytes>>,
    waiting: VecDeque<(AppendId, Arc<[Record]>)>,
    questions: VecDeque<(LoadId, Query)>,
    /// After it was full: nothing is taken before this is given again.
    dropped_from: Option<AppendId>,
}

impl Memory {
    /// Takes an append, unless one before it was dropped.
    pub(crate) fn give(&mut self, id: AppendId, records: Arc<[Record]>) {
        if self.dropped_from.is_none_or(|from| from == id) {
            self.dropped_from = None;
            self.waiting.push_back((id, records));
        }
    }

    /// Takes a question.
    pub(crate) fn ask(&mut self, load: LoadId, query: Query) {
        self.questions.push_back((load, query));
    }

    /// Makes at most so many appends durable.
    pub(crate) fn commit(&mut self, appends_max: usize) -> Option<Input<'static>> {
        let count = appends_max.min(self.waiting.len());
        let appends: Vec<_> = self.waiting.drain(..count).collect();
        let upto = appends.last()?.0;
        appends.iter().flat_map(|(_, records)| records.iter()).for_each(|record| self.keep(record));
        Some(Input::Appended { upto })
    }

    /// Is full: drops all that waits, if anything does.
    pub(crate) fn fail(&mut self) -> Option<Input<'static>> {
        let from = self.waiting.front()?.0;
        self.waiting.clear();
        self.dropped_from = Some(from);
        Some(Input::AppendFailed { from })
    }

    fn keep(&mut self, record: &Record) {
        match record {
            Record::Event { stream, seq, bytes } => {
                let events = self.streams.entry(stream.clone()).or_default();
                let last = events.last_key_value().map_or(seq - 1, |(last, _)| *last);
                assert_eq!(last + 1, *seq, "the next event of {stream:?}");
                events.insert(*seq, bytes.clone());
            }
            Record::Put { key, value } => drop(self.rows.insert(key.clone(), value.clone())),
            Record::Delete { key } => drop(self.rows.remove(key)),
            Record::Trim { stream, floor } => {
                // The newest event stays, so that the next one is known by it.
                let events = self.streams.entry(stream.clone()).or_default();
                let last = events.last_key_value().map_or(0, |(last, _)| *last);
                *events = events.split_off(&last.min(*floor));
            }
        }
    }

    /// Answers the oldest question.
    pub(crate) fn answer(&mut self) -> Option<Input<'static>> {
        let (load, query) = self.questions.pop_front()?;
        let found = match query {
            Query::Rows(keys) => {
                let keys: BTreeSet<RowKey> = keys.into_iter().collect();
                self.rows_where(|key| keys.contains(key))
            }
            Query::Owner(owner) => self.rows_where(|key| key.table.is_context() && key.owner == owner),
            Query::First { table, owner, skip, rows_max } => {
                let mut found = self.rows_where(|key| key.table == table && key.owner == owner);
                if let Found::Rows(rows) = &mut found {
                    rows.drain(..skip.min(rows.len()));
                    rows.truncate(rows_max);
                }
                found
            }
            Query::Events { stream, after, events_max, bytes_max } => {
                let mut bytes_left = bytes_max;
                let events = self.streams.get(&stream).into_iter().flat_map(|it| it.range(after + 1..));
                let page = events.take(events_max).enumerate().take_while(|(index, (_, bytes))| {
                    bytes_left = bytes_left.saturating_sub(bytes.len());
                    *index == 0 || bytes_left > 0
                });
                Found::Events(page.map(|(_, (seq, bytes))| (*seq, bytes.clone())).collect())
            }
        };
        Some(Input::Loaded { load, found })
    }

    fn rows_where(&self, is: impl Fn(&RowKey) -> bool) -> Found {
        let rows = self.rows.iter().filter(|(key, _)| is(key));
        Found::Rows(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// What the next process finds: what is durable, and so many of the appends on their way.
    pub(crate) fn crash(&mut self, appends_kept: usize) -> Image {
        self.commit(appends_kept);
        (self.waiting, self.questions, self.dropped_from) = Default::default();
        let alive: BTreeSet<&str> =
            self.rows.keys().filter(|key| key.table.is_alive()).map(|key| &*key.owner).collect();
        let is_named = |key: &RowKey| !key.owner.is_empty() && alive.contains(&*key.owner);
        match self.rows_where(|key| key.table.is_alive() || (key.table.is_context() && is_named(key))) {
            Found::Rows(rows) => Image { rows },
            Found::Events(_) | Found::Damaged => unreachable!("rows were asked for"),
        }
    }
}
