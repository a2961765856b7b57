//! What is in the journal and not in the tables yet, in memory so that it can be asked for: the newest word
//! on each row, and the events of each stream.
//!
//! There are two of it at most. Commits are added to the one. When it is worth its while that one is folded,
//! unchanged from then on, and another takes its place.

use super::journal::Place;
use bytes::Bytes;
use runcast_core::record::{Record, RowKey, StreamKey};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Some commits in a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay {
    pub(super) rows: BTreeMap<RowKey, Option<Bytes>>,
    pub(super) streams: BTreeMap<StreamKey, Tail>,
    /// How many commits,
    commits: usize,
    /// and how many blocks of the journal they are.
    blocks: u64,
}

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
        match self.rows.get_mut(key) {
            Some(latest) => *latest = value,
            None => drop(self.rows.insert(key.clone(), value)),
        }
    }

    fn stream(&mut self, key: &StreamKey) -> &mut Tail {
        if !self.streams.contains_key(key) {
            self.streams.insert(key.clone(), Tail::default());
        }
        self.streams.get_mut(key).expect("it is there by now")
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
        self.down().find_map(|overlay| overlay.rows.get(key)).map(Option::as_ref)
    }

    /// What it says of rows from `first` on, as long as `asked`; the last word on a row is the last.
    pub(super) fn rows_from(
        &self,
        first: &RowKey,
        asked: impl Fn(&RowKey) -> bool,
    ) -> impl Iterator<Item = (&RowKey, Option<&Bytes>)> {
        self.up().flat_map(move |overlay| {
            let rows = overlay.rows.range(first..).take_while(|row| asked(row.0));
            rows.map(|(key, value)| (key, value.as_ref())).collect::<Vec<_>>()
        })
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
