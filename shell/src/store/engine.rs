//! redb on a disk: its tables, opening it and reading the journal, and what to make of its failures.

use super::backend::{Backend, Fault, Faults};
use super::codec;
use super::overlay::{JournalRow, Overlay};
use super::{OpenError, Repair};
use crate::disk::Disk;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use runcast_core::record::RowKey;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// Number of a group commit -> its records.
pub(super) const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");
/// (table, owner, name) -> value.
pub(super) const ROWS: TableDefinition<'_, RowKeyBytes<'_>, &[u8]> = TableDefinition::new("rows");
/// (stream, first seq) -> events.
pub(super) const CHUNKS: TableDefinition<'_, (&[u8], u64), &[u8]> = TableDefinition::new("chunks");

/// A row's key as it is stored; it sorts as the key does.
pub(super) type RowKeyBytes<'a> = (u8, &'a [u8], &'a [u8]);

/// redb's cache, in bytes.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// redb, open.
#[derive(Debug)]
pub(super) struct Engine {
    /// Only `Drop` takes it out.
    db: Option<Database>,
    repair: Repair,
    faults: Faults,
    /// redb has met damage: what it holds in memory is not to be trusted, and not to be written.
    is_suspect: Cell<bool>,
}

impl Engine {
    /// Opens redb on this disk and reads the journal.
    pub(super) fn open(disk: Arc<dyn Disk>, repair: Repair) -> Result<(Self, Overlay), OpenError> {
        let backend = Backend::open(disk)?;
        let faults = backend.faults();
        let typed = |error| OpenError::of(error, faults.take());
        let db = guarded(|| Ok(Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)?));
        let (db, is_suspect) = (Some(db.map_err(typed)?), Cell::new(true));
        let engine = Self { db, repair, faults: faults.clone(), is_suspect };
        let overlay = guarded(|| {
            let db = engine.db().ok_or(redb::Error::DatabaseClosed)?;
            // A table that is missing beside others is damage, not a new store.
            if db.begin_read()?.list_tables()?.next().is_none() {
                engine.create_tables()?;
            }
            read_journal(db)
        });
        let overlay = overlay.map_err(typed)?;
        engine.is_suspect.set(false);
        Ok((engine, overlay))
    }

    /// redb has failed, or met damage.
    pub(super) fn suspect(&self) {
        self.is_suspect.set(true);
    }

    /// Whether it has, and may be of no use until it is opened again.
    pub(super) fn is_suspect(&self) -> bool {
        self.is_suspect.get()
    }

    pub(super) fn db(&self) -> Option<&Database> {
        self.db.as_ref()
    }

    fn create_tables(&self) -> Result<(), redb::Error> {
        let transaction = self.begin_write()?;
        transaction.open_table(JOURNAL)?;
        transaction.open_table(ROWS)?;
        transaction.open_table(CHUNKS)?;
        Ok(transaction.commit()?)
    }

    /// Adds a journal row, durably.
    pub(super) fn write_journal(&self, number: u64, value: &[u8]) -> Result<(), redb::Error> {
        let transaction = self.begin_write()?;
        transaction.open_table(JOURNAL)?.insert(number, value)?;
        Ok(transaction.commit()?)
    }

    /// A transaction, durable when it is committed.
    pub(super) fn begin_write(&self) -> Result<WriteTransaction, redb::Error> {
        let mut transaction = self.db().ok_or(redb::Error::DatabaseClosed)?.begin_write()?;
        transaction.set_quick_repair(self.repair == Repair::Quick);
        Ok(transaction)
    }

    /// What last went wrong on the disk, forgotten with this.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.faults.take()
    }
}

impl Drop for Engine {
    /// Closing makes durable what was folded, where redb is whole. Where it is not, the journal still says it
    /// all, and nothing is written: redb may panic over a damaged page, and once more while that unwinds,
    /// which would end the process. It leaves the disk alone when it is dropped by an unwinding thread.
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

fn read_journal(db: &Database) -> Result<Overlay, redb::Error> {
    let mut overlay = Overlay::default();
    for entry in db.begin_read()?.open_table(JOURNAL)?.iter()? {
        let (key, value) = entry?;
        let number = key.value();
        let records = codec::decode_journal(number, value.value());
        let follows = overlay.last().is_none_or(|last| last.checked_add(1) == Some(number));
        let records = records.filter(|_| follows);
        let records = records.ok_or_else(|| redb::Error::Corrupted(format!("journal row {number}")))?;
        overlay.push(JournalRow::new(number, vec![records]));
    }
    Ok(overlay)
}

pub(super) fn row_key(key: &RowKey) -> RowKeyBytes<'_> {
    (key.table as u8, key.owner.as_bytes(), key.name.as_bytes())
}
