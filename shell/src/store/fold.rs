//! Folding: journal rows become rows and chunks.
//!
//! One redb transaction takes whole journal rows: what they say is applied, and they are gone. So a crash
//! finds each journal row either unfolded or folded, and folding again after a crash is the same as having
//! folded once. The transaction need not be durable: the next durable commit makes it so, and until then the
//! journal on the disk still says it all.

use super::codec::{self, CHUNK_BYTES_MAX, CHUNK_EVENTS_MAX};
use super::engine::{CHUNKS, JOURNAL, ROWS, row_key};
use super::overlay::JournalRow;
use bytes::Bytes;
use redb::{Database, Durability, ReadableTable, Table};
use runcast_core::planted::{Bug, Planted};
use runcast_core::record::{Record, RowKey, StreamKey};
use std::collections::BTreeMap;

/// What is left of many records when only their outcome counts.
#[derive(Debug, Default)]
struct Outcome<'a> {
    rows: BTreeMap<&'a RowKey, Option<&'a Bytes>>,
    streams: BTreeMap<&'a StreamKey, Stream<'a>>,
}

#[derive(Debug, Default)]
struct Stream<'a> {
    floor: u64,
    events: Vec<(u64, &'a Bytes)>,
}

/// Moves these journal rows into the tables.
pub(super) fn fold(db: &Database, journal: &[&JournalRow], planted: Planted) -> Result<(), redb::Error> {
    let mut outcome = Outcome::default();
    for record in journal.iter().flat_map(|row| row.records()) {
        outcome.add(record);
    }
    if planted.is(Bug::FoldLosesLast) {
        for stream in outcome.streams.values_mut() {
            stream.events.pop();
        }
    }
    let mut transaction = db.begin_write()?;
    transaction.set_durability(Durability::None)?;
    {
        let mut rows = transaction.open_table(ROWS)?;
        for (key, value) in &outcome.rows {
            match value {
                Some(value) => drop(rows.insert(row_key(key), codec::encode_row(key, value).as_slice())?),
                None => drop(rows.remove(row_key(key))?),
            }
        }
        let mut chunks = transaction.open_table(CHUNKS)?;
        for (name, stream) in &outcome.streams {
            trim(&mut chunks, name, stream.floor)?;
            append(&mut chunks, name, stream)?;
        }
        let mut table = transaction.open_table(JOURNAL)?;
        for row in journal {
            let removed = table.remove(row.number)?;
            assert!(removed.is_some(), "an unfolded journal row is in the journal");
        }
    }
    Ok(transaction.commit()?)
}

impl<'a> Outcome<'a> {
    fn add(&mut self, record: &'a Record) {
        match record {
            Record::Event { stream, seq, bytes } => {
                self.streams.entry(stream).or_default().events.push((*seq, bytes));
            }
            Record::Put { key, value } => drop(self.rows.insert(key, Some(value))),
            Record::Delete { key } => drop(self.rows.insert(key, None)),
            Record::Trim { stream, floor } => {
                let stream = self.streams.entry(stream).or_default();
                stream.floor = stream.floor.max(*floor);
            }
        }
    }
}

type Chunks<'txn> = Table<'txn, (&'static [u8], u64), &'static [u8]>;

/// Removes the chunks of which all events are below the floor.
fn trim(chunks: &mut Chunks<'_>, stream: &StreamKey, floor: u64) -> Result<(), redb::Error> {
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
fn append(chunks: &mut Chunks<'_>, name: &StreamKey, stream: &Stream<'_>) -> Result<(), redb::Error> {
    let below = stream.events.partition_point(|event| event.0 < stream.floor);
    let mut events = &stream.events[below..];
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
