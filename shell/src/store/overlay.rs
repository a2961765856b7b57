//! What is durable in the journal and not folded yet, kept in memory so that it can be asked for.
//!
//! It is exactly the content of the journal table, in order, with indexes by row and by stream. Its limits
//! are the journal's limits: where it is too long, [`Store::commit`](super::Store::commit) folds before it
//! writes.

use super::codec;
use bytes::Bytes;
use runcast_core::record::{Record, RowKey, StreamKey};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Over so many journal rows,
pub(super) const ROWS_MAX: usize = 1024;
/// or so many bytes, a commit folds first.
pub(super) const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Up to so many journal rows,
const ROWS_KEPT: usize = 256;
/// and so many bytes, there is no need to fold: more events of a stream come together in one chunk.
const BYTES_KEPT: usize = 4 * 1024 * 1024;

/// The unfolded journal.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    journal: VecDeque<JournalRow>,
    rows: BTreeMap<RowKey, Latest>,
    streams: BTreeMap<StreamKey, VecDeque<(u64, Bytes)>>,
    bytes: usize,
}

/// One group commit.
#[derive(Clone, Debug)]
pub(super) struct JournalRow {
    pub(super) number: u64,
    pub(super) commits: Vec<Arc<[Record]>>,
    bytes: usize,
}

/// The newest word on a row.
#[derive(Debug)]
struct Latest {
    journal: u64,
    value: Option<Bytes>,
}

impl JournalRow {
    pub(super) fn new(number: u64, commits: Vec<Arc<[Record]>>) -> Self {
        let bytes = commits.iter().flat_map(|records| records.iter()).map(codec::record_bytes).sum();
        Self { number, commits, bytes }
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.commits.iter().flat_map(|records| records.iter())
    }
}

impl Overlay {
    /// Takes in the next journal row.
    pub(super) fn push(&mut self, row: JournalRow) {
        assert!(self.last().is_none_or(|last| last + 1 == row.number), "journal rows are consecutive");
        for record in row.records() {
            match record {
                Record::Event { stream, seq, bytes } => {
                    self.streams.entry(stream.clone()).or_default().push_back((*seq, bytes.clone()));
                }
                Record::Put { key, value } => self.set(key, row.number, Some(value.clone())),
                Record::Delete { key } => self.set(key, row.number, None),
                Record::Trim { .. } => {}
            }
        }
        self.bytes += row.bytes;
        self.journal.push_back(row);
    }

    fn set(&mut self, key: &RowKey, journal: u64, value: Option<Bytes>) {
        self.rows.insert(key.clone(), Latest { journal, value });
    }

    /// The oldest journal rows.
    pub(super) fn oldest(&self, rows_max: usize) -> impl Iterator<Item = &JournalRow> {
        self.journal.iter().take(rows_max)
    }

    /// Forgets the oldest journal rows: they are found in the tables from here on.
    pub(super) fn drop_oldest(&mut self, rows: usize) {
        for row in self.journal.drain(..rows) {
            for record in row.records() {
                match record {
                    Record::Event { stream, seq, .. } => {
                        let events = self.streams.get_mut(stream).expect("an unfolded event is indexed");
                        let dropped = events.pop_front();
                        assert!(dropped.is_some_and(|event| event.0 == *seq), "events leave as they came");
                        if events.is_empty() {
                            self.streams.remove(stream);
                        }
                    }
                    Record::Put { key, .. } | Record::Delete { key } => {
                        if self.rows.get(key).is_some_and(|latest| latest.journal <= row.number) {
                            self.rows.remove(key);
                        }
                    }
                    Record::Trim { .. } => {}
                }
            }
            self.bytes -= row.bytes;
        }
    }

    /// The number of the newest journal row.
    pub(super) fn last(&self) -> Option<u64> {
        self.journal.back().map(|row| row.number)
    }

    /// How many journal rows there are.
    pub(super) fn len(&self) -> usize {
        self.journal.len()
    }

    /// Whether it is over its limits.
    pub(super) fn is_over(&self) -> bool {
        self.len() >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    /// Whether folding would do good.
    pub(super) fn is_due(&self) -> bool {
        self.len() > ROWS_KEPT || self.bytes > BYTES_KEPT
    }

    /// What it says of a row: nothing, that it is gone, or its value.
    pub(super) fn row(&self, key: &RowKey) -> Option<Option<&Bytes>> {
        self.rows.get(key).map(|latest| latest.value.as_ref())
    }

    /// What it says of all rows from `first` on, ascending.
    pub(super) fn rows_from(&self, first: &RowKey) -> impl Iterator<Item = (&RowKey, Option<&Bytes>)> {
        self.rows.range(first..).map(|(key, latest)| (key, latest.value.as_ref()))
    }

    /// The unfolded events of a stream after this seq, ascending and consecutive.
    pub(super) fn events_after(&self, stream: &StreamKey, after: u64) -> impl Iterator<Item = (u64, &Bytes)> {
        let events = self.streams.get(stream);
        let skipped = events.map_or(0, |events| events.partition_point(|event| event.0 <= after));
        events.into_iter().flatten().skip(skipped).map(|(seq, bytes)| (*seq, bytes))
    }

    /// The seq of a stream's newest unfolded event.
    pub(super) fn last_seq(&self, stream: &StreamKey) -> Option<u64> {
        self.streams.get(stream)?.back().map(|event| event.0)
    }
}
