//! What is in the journal and not in the tables yet, in memory so that it can be asked for: the newest word
//! on each row, and the events of each stream.
//!
//! The journal's entries are kept as they are, and of each value where in them it is. So the records stay
//! with whoever has made them, and are freed there; and an entry is freed as one.
//!
//! There are two of it at most. Commits are added to the one. When it is worth its while that one is folded,
//! unchanged from then on, and another takes its place.

use super::codec;
use super::journal::Place;
use bytes::Bytes;
use runcast_core::record::{Record, RowKey, StreamKey, Table};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Some commits in a row. Each event has a word on a few rows of its owner, who is one of many.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay {
    rows: HashMap<Arc<str>, RowsOfOwner>,
    streams: HashMap<StreamKey, Tail>,
    /// One of each commit.
    entries: Vec<Bytes>,
    /// So many blocks of the journal they are.
    blocks: u64,
}

/// What was last said of each; none if it is gone.
type RowsOfOwner = BTreeMap<RowKey, Option<Part>>;

/// Where a value is: in which entry, and where in that.
#[derive(Clone, Debug)]
struct Part {
    entry: usize,
    bytes: Range<usize>,
}

/// A stream's newest events.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    /// Those below are no longer needed, in the tables either.
    pub(super) floor: u64,
    events: Vec<(u64, Part)>,
}

impl Overlay {
    /// Takes in the next commit: its records, and the entry of the journal that they are, which takes so many
    /// blocks there.
    pub(super) fn push<'a>(&mut self, records: impl Iterator<Item = &'a Record>, entry: Bytes, blocks: u64) {
        let (number, mut end) = (self.entries.len(), 0);
        for record in records {
            end += codec::record_bytes(record);
            let part = |value: &Bytes| Part { entry: number, bytes: end - value.len()..end };
            match record {
                Record::Event { stream, seq, bytes } => {
                    self.stream(stream).events.push((*seq, part(bytes)));
                }
                Record::Put { key, value } => self.set(key, Some(part(value))),
                Record::Delete { key } => self.set(key, None),
                Record::Trim { stream, floor } => {
                    let tail = self.stream(stream);
                    tail.floor = tail.floor.max(*floor);
                }
            }
        }
        assert_eq!(end, entry.len(), "an entry is its records");
        self.entries.push(entry);
        self.blocks += blocks;
    }

    fn set(&mut self, key: &RowKey, value: Option<Part>) {
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

    /// The value in this place.
    fn value(&self, part: &Part) -> &[u8] {
        &self.entries[part.entry][part.bytes.clone()]
    }

    /// What it says of a row: nothing, that it is gone, or its value.
    fn row(&self, key: &RowKey) -> Option<Option<&[u8]>> {
        let latest = self.rows.get(&key.owner)?.get(key)?;
        Some(latest.as_ref().map(|part| self.value(part)))
    }

    /// What it says of the rows of a table, of one owner or of all.
    fn rows_of(
        &self,
        table: Table,
        owner: Option<&Arc<str>>,
    ) -> impl Iterator<Item = (&RowKey, Option<&[u8]>)> {
        let one = owner.and_then(|owner| self.rows.get_key_value(owner));
        let all = owner.is_none().then_some(&self.rows).into_iter().flatten();
        one.into_iter().chain(all).flat_map(move |(owner, rows)| {
            let first = RowKey { table, owner: owner.clone(), name: "".into() };
            let rows = rows.range(first..).take_while(move |(key, _)| key.table == table);
            rows.map(|(key, latest)| (key, latest.as_ref().map(|part| self.value(part))))
        })
    }

    /// What it says of all rows, in the order of their keys.
    pub(super) fn sorted_rows(&self) -> Vec<(&RowKey, Option<&[u8]>)> {
        let rows = self.rows.values().flatten();
        let values = rows.map(|(key, latest)| (key, latest.as_ref().map(|part| self.value(part))));
        let mut rows: Vec<_> = values.collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        rows
    }

    /// All streams, in the order of their keys.
    pub(super) fn sorted_streams(&self) -> Vec<(&StreamKey, &Tail)> {
        let mut streams: Vec<_> = self.streams.iter().collect();
        streams.sort_unstable_by_key(|(key, _)| *key);
        streams
    }

    /// The events of one of its streams after this seq, ascending and consecutive.
    pub(super) fn events_after<'a>(
        &'a self,
        tail: &'a Tail,
        after: u64,
    ) -> impl Iterator<Item = (u64, &'a [u8])> {
        let skipped = tail.events.partition_point(|event| event.0 <= after);
        tail.events[skipped..].iter().map(|(seq, part)| (*seq, self.value(part)))
    }

    /// How many commits there are.
    pub(super) fn commits(&self) -> usize {
        self.entries.len()
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
        if self.folding.is_none() && self.newest.commits() > 0 {
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
    pub(super) fn row(&self, key: &RowKey) -> Option<Option<&[u8]>> {
        self.down().find_map(|overlay| overlay.row(key))
    }

    /// What it says of the rows of a table, of one owner or of all, in no order but that the last word on a
    /// row is the last.
    pub(super) fn rows_of(
        &self,
        table: Table,
        owner: Option<&Arc<str>>,
    ) -> impl Iterator<Item = (&RowKey, Option<&[u8]>)> {
        self.up().flat_map(move |overlay| overlay.rows_of(table, owner))
    }

    /// The events of a stream after this seq, ascending and consecutive.
    pub(super) fn events_after(&self, stream: &StreamKey, after: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let tails = self.up().filter_map(|overlay| Some((overlay, overlay.streams.get(stream)?)));
        tails.flat_map(move |(overlay, tail)| overlay.events_after(tail, after))
    }

    /// The seq of a stream's newest event.
    pub(super) fn last_seq(&self, stream: &StreamKey) -> Option<u64> {
        self.down().find_map(|overlay| overlay.streams.get(stream)?.events.last()).map(|event| event.0)
    }
}
