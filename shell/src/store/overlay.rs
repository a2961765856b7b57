//! What is in the journal and not in the tables yet, in memory so that it can be asked for: the newest word
//! on each row, and the events of each stream.
//!
//! There are two of it at most. Commits are added to the one. When it is worth its while that one is folded,
//! unchanged from then on, and another takes its place.

use super::journal::Place;
use bytes::Bytes;
use runcast_core::record::{Record, RowKey, StreamKey, Table};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// Some commits in a row. Each event has a word on a few rows of its owner, who is one of many.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay {
    rows: HashMap<Arc<str>, RowsOfOwner>,
    streams: HashMap<StreamKey, Tail>,
    /// How many commits,
    commits: usize,
    /// and how many blocks of the journal they are.
    blocks: u64,
}

/// What was last said of each; none if it is gone.
type RowsOfOwner = BTreeMap<RowKey, Option<Bytes>>;

/// A stream's newest events.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    /// Those below are no longer needed, in the tables either.
    pub(super) floor: u64,
    pub(super) events: VecDeque<(u64, Bytes)>,
}

impl Overlay {
    /// Takes in the next commit, which takes so many blocks of the journal.
    pub(super) fn push<'a>(&mut self, records: impl Iterator<Item = &'a Record>, blocks: u64) {
        for record in records {
            match record {
                Record::Event { stream, seq, bytes } => {
                    self.stream(stream).events.push_back((*seq, bytes.clone()));
                }
                Record::Put { key, value } => self.set(key, Some(value.clone())),
                Record::Delete { key } => self.set(key, None),
                Record::Trim { stream, floor } => {
                    let tail = self.stream(stream);
                    tail.floor = tail.floor.max(*floor);
                }
            }
        }
        self.commits += 1;
        self.blocks += blocks;
    }

    fn set(&mut self, key: &RowKey, value: Option<Bytes>) {
        let rows = match self.rows.get_mut(&key.owner) {
            Some(rows) => rows,
            None => self.rows.entry(key.owner.clone()).or_default(),
        };
        match rows.get_mut(key) {
            Some(latest) => *latest = value,
            None => drop(rows.insert(key.clone(), value)),
        }
    }

    fn stream(&mut self, key: &StreamKey) -> &mut Tail {
        if !self.streams.contains_key(key) {
            self.streams.insert(key.clone(), Tail::default());
        }
        self.streams.get_mut(key).expect("it is there by now")
    }

    /// What it says of a row: nothing, that it is gone, or its value.
    fn row(&self, key: &RowKey) -> Option<Option<&Bytes>> {
        self.rows.get(&key.owner)?.get(key).map(Option::as_ref)
    }

    /// What it says of the rows of a table, of one owner or of all.
    fn rows_of(
        &self,
        table: Table,
        owner: Option<&Arc<str>>,
    ) -> impl Iterator<Item = (&RowKey, Option<&Bytes>)> {
        let one = owner.and_then(|owner| self.rows.get_key_value(owner));
        let all = owner.is_none().then_some(&self.rows).into_iter().flatten();
        one.into_iter().chain(all).flat_map(move |(owner, rows)| {
            let first = RowKey { table, owner: owner.clone(), name: "".into() };
            let rows = rows.range(first..).take_while(move |(key, _)| key.table == table);
            rows.map(|(key, value)| (key, value.as_ref()))
        })
    }

    /// What it says of all rows, in the order of their keys.
    pub(super) fn sorted_rows(&self) -> Vec<(&RowKey, Option<&Bytes>)> {
        let rows = self.rows.values().flatten();
        let mut rows: Vec<_> = rows.map(|(key, value)| (key, value.as_ref())).collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        rows
    }

    /// All streams, in the order of their keys.
    pub(super) fn sorted_streams(&self) -> Vec<(&StreamKey, &Tail)> {
        let mut streams: Vec<_> = self.streams.iter().collect();
        streams.sort_unstable_by_key(|(key, _)| *key);
        streams
    }

    /// How many commits there are.
    pub(super) fn commits(&self) -> usize {
        self.commits
    }

    /// How many blocks of the journal they are.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }
}

/// All that is not folded: what is being folded, if anything is, and what came later.
#[derive(Debug, Default)]
pub(super) struct Unfolded {
    pub(super) folding: Option<Frozen>,
    pub(super) newest: Overlay,
}

/// What is being folded.
#[derive(Clone, Debug)]
pub(super) struct Frozen {
    pub(super) overlay: Arc<Overlay>,
    /// Where the journal begins when that is done.
    pub(super) first: Place,
}

impl Unfolded {
    /// What is to be folded next, as it will stay; none if there is nothing. `next` is where the journal goes
    /// on.
    pub(super) fn freeze(&mut self, next: Place) -> Option<Frozen> {
        if self.folding.is_none() && self.newest.commits > 0 {
            let overlay = Arc::new(std::mem::take(&mut self.newest));
            self.folding = Some(Frozen { overlay, first: next });
        }
        self.folding.clone()
    }

    /// Both, the newest first.
    fn down(&self) -> impl Iterator<Item = &Overlay> {
        std::iter::once(&self.newest).chain(self.folding.as_ref().map(|frozen| &*frozen.overlay))
    }

    /// Both, the newest last.
    pub(super) fn up(&self) -> impl Iterator<Item = &Overlay> {
        self.folding.as_ref().map(|frozen| &*frozen.overlay).into_iter().chain(std::iter::once(&self.newest))
    }

    /// How many commits there are.
    pub(super) fn commits(&self) -> usize {
        self.down().map(Overlay::commits).sum()
    }

    /// What it says of a row: nothing, that it is gone, or its value.
    pub(super) fn row(&self, key: &RowKey) -> Option<Option<&Bytes>> {
        self.down().find_map(|overlay| overlay.row(key))
    }

    /// What it says of the rows of a table, of one owner or of all, in no order but that the last word on a
    /// row is the last.
    pub(super) fn rows_of(
        &self,
        table: Table,
        owner: Option<&Arc<str>>,
    ) -> impl Iterator<Item = (&RowKey, Option<&Bytes>)> {
        self.up().flat_map(move |overlay| overlay.rows_of(table, owner))
    }

    /// The events of a stream after this seq, ascending and consecutive.
    pub(super) fn events_after(&self, stream: &StreamKey, after: u64) -> impl Iterator<Item = (u64, &Bytes)> {
        self.up().filter_map(|overlay| overlay.streams.get(stream)).flat_map(move |tail| {
            let skipped = tail.events.partition_point(|event| event.0 <= after);
            tail.events.range(skipped..).map(|(seq, bytes)| (*seq, bytes))
        })
    }

    /// The seq of a stream's newest event.
    pub(super) fn last_seq(&self, stream: &StreamKey) -> Option<u64> {
        self.down().find_map(|overlay| overlay.streams.get(stream)?.events.back()).map(|event| event.0)
    }
}
