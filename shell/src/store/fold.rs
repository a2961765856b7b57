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
use redb::{Durability, ReadableTable, Table, WriteTransaction};
use runcast_core::planted::{Bug, Planted};
use runcast_core::record::{RowKey, StreamKey};
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
        let folded = guarded(|| fold(&engine, &overlay, first, planted));
        if folded.is_err() {
            // What was done of it is not to become durable when redb is closed.
            engine.suspect();
        }
        Folded(folded)
    }
}

/// Moves these commits into the tables.
pub(super) fn fold(
    engine: &Engine,
    overlay: &Overlay,
    first: Place,
    planted: Planted,
) -> Result<(), redb::Error> {
    let bytes_max = engine.piece_bytes();
    let mut rows = overlay.sorted_rows().into_iter().peekable();
    while rows.peek().is_some() {
        piece(engine, |transaction| fold_rows(transaction, &mut rows, bytes_max))?;
    }
    let mut streams = overlay.sorted_streams().into_iter().peekable();
    while streams.peek().is_some() {
        piece(engine, |transaction| fold_streams(transaction, overlay, &mut streams, bytes_max, planted))?;
    }
    let transaction = engine.begin_write()?;
    set_first(&transaction, first)?;
    Ok(transaction.commit()?)
}

/// Does a part of it, which counts when a later transaction is durable. redb knows each page's checksum by
/// the end of a transaction: one that has changed more than it keeps in memory has written those pages by
/// then, reads them again, and writes them once more. And what the disk is given at once, commits wait for.
fn piece(
    engine: &Engine,
    work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut transaction = engine.begin_write()?;
    transaction.set_durability(Durability::None)?;
    work(&transaction)?;
    transaction.commit()?;
    engine.sync()
}

/// Folds rows, at least one and about so many bytes of them.
fn fold_rows<'a>(
    transaction: &WriteTransaction,
    rows: &mut impl Iterator<Item = (&'a RowKey, Option<&'a [u8]>)>,
    bytes_max: usize,
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(ROWS)?;
    let mut bytes = 0;
    for (key, value) in rows {
        match value {
            Some(value) => drop(table.insert(row_key(key), codec::encode_row(key, value).as_slice())?),
            None => drop(table.remove(row_key(key))?),
        }
        bytes += key.owner.len() + key.name.len() + value.map_or(0, <[u8]>::len);
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(())
}

/// Folds streams, at least one and about so many bytes of their events.
fn fold_streams<'a>(
    transaction: &WriteTransaction,
    overlay: &'a Overlay,
    streams: &mut impl Iterator<Item = (&'a StreamKey, &'a Tail)>,
    bytes_max: usize,
    planted: Planted,
) -> Result<(), redb::Error> {
    let mut chunks = transaction.open_table(CHUNKS)?;
    let mut bytes = 0;
    for (name, tail) in streams {
        trim(&mut chunks, name, tail.floor)?;
        // Those below the floor are not needed.
        let events = overlay.events_after(tail, tail.floor.saturating_sub(1)).collect();
        bytes += append(&mut chunks, name, events, planted)?;
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(())
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

/// Adds events of a stream, in new chunks of so many bytes in all.
fn append(
    chunks: &mut Chunks<'_>,
    name: &StreamKey,
    mut events: Vec<(u64, &[u8])>,
    planted: Planted,
) -> Result<usize, redb::Error> {
    if planted.is(Bug::FoldLosesLast) {
        events.pop();
    }
    let (mut events, mut bytes) = (&events[..], 0);
    while let Some(&(first, _)) = events.first() {
        let len = chunk_len(events);
        let (chunk, rest) = events.split_at(len);
        let chunk: Vec<&[u8]> = chunk.iter().map(|event| event.1).collect();
        let value = codec::encode_chunk(name, first, &chunk);
        bytes += value.len();
        let replaced = chunks.insert((name.0.as_bytes(), first), value.as_slice())?;
        assert!(replaced.is_none(), "a chunk is written once");
        events = rest;
    }
    Ok(bytes)
}

/// How many of these events make up the next chunk.
fn chunk_len(events: &[(u64, &[u8])]) -> usize {
    let mut bytes = 0;
    let fitting = events.iter().take(CHUNK_EVENTS_MAX).take_while(|event| {
        bytes += 4 + event.1.len();
        bytes <= CHUNK_BYTES_MAX
    });
    fitting.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::ram::Ram;
    use crate::store::{Repair, Store};
    use bytes::Bytes;
    use runcast_core::ids::AppendId;
    use runcast_core::record::Record;
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    const STREAMS: usize = 50;
    const COMMITS: usize = 20;
    const EVENTS: usize = 1_500;
    const EVENT_BYTES: usize = 300;

    /// Counts the bytes that are written to it and read from it.
    #[derive(Clone, Debug, Default)]
    struct Counting {
        disk: Ram,
        written: Arc<AtomicUsize>,
        read: Arc<AtomicUsize>,
        /// Since it was last synced, and the most of that.
        unsynced: Arc<AtomicUsize>,
        unsynced_most: Arc<AtomicUsize>,
    }

    impl Disk for Counting {
        fn size(&self) -> io::Result<u64> {
            self.disk.size()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.read.fetch_add(out.len(), Relaxed);
            self.disk.read(offset, out)
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.written.fetch_add(data.len(), Relaxed);
            let unsynced = self.unsynced.fetch_add(data.len(), Relaxed) + data.len();
            self.unsynced_most.fetch_max(unsynced, Relaxed);
            self.disk.write(offset, data)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.disk.set_len(len)
        }

        fn sync(&self) -> io::Result<()> {
            self.unsynced.store(0, Relaxed);
            self.disk.sync()
        }
    }

    #[test]
    fn what_is_folded_is_written_once_and_in_pieces_and_hardly_read() {
        let disk = Counting::default();
        let (mut store, _) = Store::open(disk.clone(), Repair::Quick).unwrap();
        let streams: Vec<StreamKey> = (0..STREAMS).map(|it| StreamKey(format!("s{it}").into())).collect();
        let bytes = Bytes::from(vec![b'.'; EVENT_BYTES]);
        for commit in 0..COMMITS {
            let event = |number: usize| Record::Event {
                stream: streams[number % STREAMS].clone(),
                seq: (number / STREAMS) as u64 + 1,
                bytes: bytes.clone(),
            };
            let records = (commit * EVENTS..(commit + 1) * EVENTS).map(event).collect();
            store.commit(&[(AppendId(commit as u64 + 1), records)]).unwrap();
        }
        let before = (disk.written.load(Relaxed), disk.read.load(Relaxed));
        store.fold().unwrap();
        let folded = COMMITS * EVENTS * EVENT_BYTES;
        let (written, read) = (disk.written.load(Relaxed) - before.0, disk.read.load(Relaxed) - before.1);
        assert!(written * 4 < folded * 5, "{written} bytes were written to fold {folded}");
        assert!(read * 4 < folded, "{read} bytes were read to fold {folded}");
        let unsynced = disk.unsynced_most.load(Relaxed);
        assert!(unsynced * 2 < folded, "{unsynced} of {folded} bytes were written and not synced");
    }

    /// redb goes on when a commit is durable, and may fail in that.
    #[test]
    fn a_fold_that_has_failed_when_it_was_durable_is_not_done_again() {
        let disk = Ram::default();
        let (mut store, _) = Store::open(disk.clone(), Repair::Quick).unwrap();
        let event = |seq| Record::Event { stream: StreamKey("s".into()), seq, bytes: Bytes::new() };
        store.commit(&[(AppendId(1), [event(1)].into())]).unwrap();
        let fold = store.begin_fold().unwrap().unwrap();
        let engine = fold.engine.clone();
        fold.run().0.unwrap();
        disk.set_full(true);
        let failed = guarded(|| Ok(engine.begin_write()?.commit()?));
        assert!(failed.is_err());
        drop(engine);
        disk.set_full(false);
        store.end_fold(Folded(failed)).unwrap();
        store.commit(&[(AppendId(2), [event(2)].into())]).unwrap();
        store.fold().unwrap();
        assert_eq!(store.unfolded_commits(), 0);
    }
}
