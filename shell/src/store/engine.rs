//! redb on a disk: its tables, opening it, and what to make of its failures.

use super::backend::{Backend, Fault, Faults, Operation};
use super::codec;
use super::journal::Place;
use super::{OpenError, Repair};
use crate::disk::Disk;
use redb::{Builder, Database, ReadTransaction, ReadableDatabase, TableDefinition, WriteTransaction};
use runcast_core::record::RowKey;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The place of the journal's first entry that is not folded.
const FIRST: TableDefinition<'_, (), &[u8]> = TableDefinition::new("first");
/// (table, owner, name) -> value.
pub(super) const ROWS: TableDefinition<'_, RowKeyBytes<'_>, &[u8]> = TableDefinition::new("rows");
/// (stream, first seq) -> events.
pub(super) const CHUNKS: TableDefinition<'_, (&[u8], u64), &[u8]> = TableDefinition::new("chunks");

/// A row's key as it is stored; it sorts as the key does.
pub(super) type RowKeyBytes<'a> = (u8, &'a [u8], &'a [u8]);

/// redb's cache, in bytes.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// redb, open.
#[derive(Debug)]
pub(super) struct Engine {
    /// Only `Drop` takes it out.
    db: Option<Database>,
    disk: Arc<dyn Disk>,
    repair: Repair,
    faults: Faults,
    /// redb has met damage: what it holds in memory is not to be trusted, and not to be written.
    is_suspect: AtomicBool,
    /// Where on the disk the journal lies, in bytes.
    journal: Range<u64>,
}

impl Engine {
    /// Opens redb on this disk; an empty one becomes a store with a journal of so many blocks.
    pub(super) fn open(disk: Arc<dyn Disk>, repair: Repair, journal_blocks: u64) -> Result<Self, OpenError> {
        let backend = Backend::open(disk.clone(), journal_blocks)?;
        let (faults, journal) = (backend.faults(), backend.journal());
        let typed = |error| OpenError::of(error, faults.take());
        let db = guarded(|| Ok(Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)?));
        let (db, is_suspect) = (Some(db.map_err(typed)?), AtomicBool::new(true));
        let engine = Self { db, disk, repair, faults: faults.clone(), is_suspect, journal };
        let made = guarded(|| {
            // A table that is missing beside others is damage, not a new store.
            if engine.begin_read()?.list_tables()?.next().is_none() {
                engine.create_tables()?;
            }
            Ok(())
        });
        made.map_err(typed)?;
        engine.is_suspect.store(false, Ordering::Relaxed);
        Ok(engine)
    }

    /// Where on the disk the journal lies, in bytes.
    pub(super) fn journal(&self) -> Range<u64> {
        self.journal.clone()
    }

    /// Of several transactions each changes so many bytes, with which redb's memory for changes, half of its
    /// cache, is not filled: a sixteenth of the journal, so that tests with a small one have several, too.
    pub(super) fn piece_bytes(&self) -> usize {
        let journal = self.journal.end - self.journal.start;
        usize::try_from(journal / 16).unwrap_or(usize::MAX).min(CACHE_BYTES / 4)
    }

    /// Has the disk write what redb has given it so far.
    pub(super) fn sync(&self) -> Result<(), redb::Error> {
        Ok(self.faults.note(Operation::Sync, self.disk.sync())?)
    }

    /// The place of the journal's first entry that is not folded.
    pub(super) fn first(&self) -> Result<Place, redb::Error> {
        let table = self.begin_read()?.open_table(FIRST)?;
        let value = table.get(())?;
        let place = value.and_then(|value| codec::decode_place(value.value()));
        place.ok_or_else(|| redb::Error::Corrupted("where the journal begins".into()))
    }

    /// redb has failed, or met damage.
    pub(super) fn suspect(&self) {
        self.is_suspect.store(true, Ordering::Relaxed);
    }

    /// Whether it has, and may be of no use until it is opened again.
    pub(super) fn is_suspect(&self) -> bool {
        self.is_suspect.load(Ordering::Relaxed)
    }

    fn create_tables(&self) -> Result<(), redb::Error> {
        let transaction = self.begin_write()?;
        transaction.open_table(ROWS)?;
        transaction.open_table(CHUNKS)?;
        set_first(&transaction, Place::FIRST)?;
        Ok(transaction.commit()?)
    }

    /// What the tables hold now.
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, redb::Error> {
        Ok(self.db()?.begin_read()?)
    }

    /// A transaction, durable when it is committed.
    pub(super) fn begin_write(&self) -> Result<WriteTransaction, redb::Error> {
        let mut transaction = self.db()?.begin_write()?;
        transaction.set_quick_repair(self.repair == Repair::Quick);
        Ok(transaction)
    }

    fn db(&self) -> Result<&Database, redb::Error> {
        self.db.as_ref().ok_or(redb::Error::DatabaseClosed)
    }

    /// What last went wrong on the disk, forgotten with this.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.faults.take()
    }
}

impl Drop for Engine {
    /// Closing writes what lets the next start be quick, where redb is whole. Where it is not, nothing is
    /// written: redb may panic over a damaged page, and once more while that unwinds, which would end the
    /// process. It leaves the disk alone when it is dropped by an unwinding thread.
    fn drop(&mut self) {
        let db = self.db.take();
        let is_suspect = self.is_suspect();
        let closed = guarded(move || {
            let _closes = db;
            if is_suspect {
                resume_unwind(Box::new("given up"));
            }
            Ok(())
        });
        closed.unwrap_or_default();
    }
}

/// Runs redb. Of bytes that nobody wrote it checks little: it may misread them or panic. All of that is
/// damage here.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(redb::Error::Corrupted(text.unwrap_or("unreadable").into()))
    });
    result.map_err(|error| {
        if let redb::Error::Corrupted(what) = &error {
            return redb::Error::Corrupted(one_line(what));
        }
        if let redb::Error::Io(error) = &error
            && error.kind() == io::ErrorKind::UnexpectedEof
        {
            return redb::Error::Corrupted("a page beyond the end".into());
        }
        if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed) {
            return error;
        }
        // The types of our tables, and how we use redb, are fixed: the rest can only come from what was read.
        redb::Error::Corrupted(one_line(&error.to_string()))
    })
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().into()
}

/// Says where the journal begins from this transaction on.
pub(super) fn set_first(transaction: &WriteTransaction, first: Place) -> Result<(), redb::Error> {
    transaction.open_table(FIRST)?.insert((), codec::encode_place(first).as_slice())?;
    Ok(())
}

pub(super) fn row_key(key: &RowKey) -> RowKeyBytes<'_> {
    (key.table as u8, key.owner.as_bytes(), key.name.as_bytes())
}
