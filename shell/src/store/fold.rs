//! Folding: what the journal says goes into the tables, and its room is free again.
//!
//! One durable transaction takes a row of commits from the journal's beginning: what they say is applied, and
//! the place where the journal begins moves behind them. So a crash finds them unfolded or folded, and
//! folding again after a crash is the same as having folded once. It takes a while and needs nobody to stand
//! still: commits go on beside it, and questions are answered from what is in memory until it has ended.

use super::codec::{self, CHUNK_BYTES_MAX, CHUNK_EVENTS_MAX};
use super::engine::{CHUNKS, Engine, ROWS, guarded, row_key, set_first};
use super::journal::Place;
use super::overlay::{Frozen, Overlay, Tail};
use bytes::Bytes;
use redb::{ReadableTable, Table};
use runcast_core::planted::{Bug, Planted};
use runcast_core::record::StreamKey;
use std::fmt;
use std::sync::Arc;

/// Work for any thread: [`Fold::run`] it, and give what comes out back to the store.
#[must_use = "the store does not fold again before this has ended"]
pub struct Fold {
    pub(super) engine: Arc<Engine>,
    pub(super) overlay: Frozen,
    pub(super) planted: Planted,
}

/// What has become of a fold, for [`Store::end_fold`](super::Store::end_fold).
#[derive(Debug)]
#[must_use = "the store does not fold again before it knows this"]
pub struct Folded(pub(super) Result<(), redb::Error>);

impl fmt::Debug for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fold").field("first", &self.overlay.first).finish_non_exhaustive()
    }
}

impl Fold {
    /// Folds. When this returns nobody but the store holds what was folded.
    pub fn run(self) -> Folded {
        let Self { engine, overlay: Frozen { overlay, first }, planted } = self;
        Folded(guarded(|| fold(&engine, &overlay, first, planted)))
    }
}

/// Moves these commits into the tables.
pub(super) fn fold(
    engine: &Engine,
    overlay: &Overlay,
    first: Place,
    planted: Planted,
) -> Result<(), redb::Error> {
    let transaction = engine.begin_write()?;
    {
        let mut rows = transaction.open_table(ROWS)?;
        for (key, value) in &overlay.rows {
            match value {
                Some(value) => drop(rows.insert(row_key(key), codec::encode_row(key, value).as_slice())?),
                None => drop(rows.remove(row_key(key))?),
            }
        }
        let mut chunks = transaction.open_table(CHUNKS)?;
        for (name, tail) in &overlay.streams {
            trim(&mut chunks, name, tail.floor)?;
            append(&mut chunks, name, tail, planted)?;
        }
    }
    set_first(&transaction, first)?;
    Ok(transaction.commit()?)
}

type Chunks<'txn> = Table<'txn, (&'static [u8], u64), &'static [u8]>;

/// Removes the chunks of which all events are below the floor.
fn trim(chunks: &mut Chunks<'_>, stream: &StreamKey, floor: u64) -> Result<(), redb::Error> {
    if floor == 0 {
        return Ok(());
    }
    let name = stream.0.as_bytes();
    let mut firsts = Vec::new();
    for entry in chunks.range((name, 0)..(name, floor))? {
        firsts.push(entry?.0.value().1);
    }
    // A chunk ends where the next one begins; only the last one must be looked into.
    let Some(last) = firsts.pop() else { return Ok(()) };
    let next = match chunks.get((name, last))? {
        // Of a damaged chunk nobody knows where it ends. It stays, and is answered as damaged.
        Some(value) => {
            codec::decode_chunk(stream, last, value.value()).map(|events| last + events.len() as u64)
        }
        None => None,
    };
    if next.is_some_and(|next| next <= floor) {
        firsts.push(last);
    }
    for first in firsts {
        chunks.remove((name, first))?;
    }
    Ok(())
}

/// Adds a stream's events at or above its floor, in new chunks.
fn append(
    chunks: &mut Chunks<'_>,
    name: &StreamKey,
    tail: &Tail,
    planted: Planted,
) -> Result<(), redb::Error> {
    let below = tail.events.partition_point(|event| event.0 < tail.floor);
    let mut events: Vec<(u64, &Bytes)> =
        tail.events.range(below..).map(|(seq, bytes)| (*seq, bytes)).collect();
    if planted.is(Bug::FoldLosesLast) {
        events.pop();
    }
    let mut events = &events[..];
    while let Some(&(first, _)) = events.first() {
        let len = chunk_len(events);
        let (chunk, rest) = events.split_at(len);
        let bytes: Vec<&Bytes> = chunk.iter().map(|event| event.1).collect();
        let value = codec::encode_chunk(name, first, &bytes);
        let replaced = chunks.insert((name.0.as_bytes(), first), value.as_slice())?;
        assert!(replaced.is_none(), "a chunk is written once");
        events = rest;
    }
    Ok(())
}

/// How many of these events make up the next chunk.
fn chunk_len(events: &[(u64, &Bytes)]) -> usize {
    let mut bytes = 0;
    let fitting = events.iter().take(CHUNK_EVENTS_MAX).take_while(|event| {
        bytes += event.1.len();
        bytes <= CHUNK_BYTES_MAX
    });
    fitting.count().max(1)
}
