//! The store: records become durable, and questions about them are answered.
//!
//! It knows rows and streams and nothing of what they mean. One group commit is one row of a journal, in one
//! redb transaction. Little by little journal rows are folded into the tables from which most questions are
//! answered; what is not folded yet is also kept in memory (`overlay`). Beneath redb lies a [`Disk`]; the
//! header is guarded by `backend`, everything else by checksums.
//!
//! Every commit is redb's "quick repair" (two syncs: first the pages, then the header that names them): after
//! a loss of power nothing needs to be walked, however much is stored.

mod backend;
mod backup;
pub(crate) mod codec;
mod engine;
mod fold;
mod overlay;
#[cfg(test)]
mod properties;
mod query;

use crate::disk::{Disk, is_full};
pub use backup::{BackupError, Snapshot, restore};

use backend::{Fault, Operation};
use engine::{Engine, guarded};
use overlay::{JournalRow, Overlay};
use redb::Database;
use runcast_core::ids::AppendId;
use runcast_core::planted::Planted;
use runcast_core::record::{Found, Image, Query, Record, StreamKey};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// So many streams' ends are remembered; the others are looked up.
const ENDS_MAX: usize = 16 * 1024;
/// A good number of journal rows for one call of [`Store::fold`]: some milliseconds.
pub const FOLD_ROWS: usize = 64;

/// Rows and streams on stable storage.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    repair: Repair,
    /// None after a failure that ends the process, or while it is being opened again.
    engine: Option<Engine>,
    overlay: Overlay,
    /// The number of the next journal row.
    next: u64,
    /// The seq of the newest event of streams written lately.
    ends: BTreeMap<StreamKey, u64>,
    planted: Planted,
}

/// How a store that was not closed finds out which pages of its file are free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repair {
    /// Each commit writes it down, and is synced twice. Opening takes milliseconds, whatever the store's
    /// size.
    #[default]
    Quick,
    /// By reading the whole file, whose checksums are compared with that. A commit is synced once and costs
    /// less processor time; opening takes a good second for each gigabyte.
    Full,
}

impl Repair {
    /// As they are written.
    pub const WORDS: &'static [(&'static str, Self)] = &[("quick", Self::Quick), ("full", Self::Full)];
}

/// Why a store cannot be opened. Each message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Written by a newer version of Runcast. Nothing was touched.
    #[error(
        "the store is of version {found}, this Runcast knows versions up to {known}: \
         start a newer Runcast, or use another data directory"
    )]
    Newer {
        /// The store's version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Another kind of file. Nothing was touched.
    #[error("the store's file is not a Runcast store: move it away, or use another data directory")]
    NotAStore,
    /// What is needed at start cannot be trusted. Names what.
    #[error("the store is damaged ({0}): restore it from a backup, or move it away to begin anew")]
    Damaged(String),
    /// No room.
    #[error("the store cannot be opened, the disk is full: free some space")]
    Full,
    /// The disk does not do what it should. Says what.
    #[error("the store cannot be read or written ({0}): check the disk")]
    Io(String),
}

/// Why records are not durable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommitError {
    /// No room. Nothing of the commit is stored; the same may be tried again later.
    #[error("the disk is full: free some space")]
    Full,
    /// A write or a sync failed. What is stored is unknown, and the process must end.
    #[error("the store cannot be written ({0}): check the disk")]
    Io(String),
}

/// A question that cannot be answered, since the disk does not answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the store cannot be read ({0}): check the disk")]
pub struct ReadError(String);

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        if is_full(error.kind()) { Self::Full } else { Self::Io(error.to_string()) }
    }
}

impl From<ReadError> for CommitError {
    fn from(error: ReadError) -> Self {
        Self::Io(error.0)
    }
}

/// Whether a store could be opened here, as far as a look at its header tells. Nothing is written.
///
/// # Errors
/// [`OpenError`].
pub fn recognise(disk: &dyn Disk) -> Result<(), OpenError> {
    backend::read_slots(disk).map(|_| ())
}

impl Store {
    /// Opens the store on this disk, or makes one on an empty disk. Recovery is complete when this returns.
    ///
    /// # Errors
    /// [`OpenError`]. A file of another kind or of a newer version is not touched.
    pub fn open(disk: impl Disk, repair: Repair) -> Result<(Self, Image), OpenError> {
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let (engine, overlay) = Engine::open(disk.clone(), repair)?;
        let next = overlay.last().map_or(1, |last| last + 1);
        let store = Self {
            disk,
            repair,
            engine: Some(engine),
            overlay,
            next,
            ends: BTreeMap::new(),
            planted: Planted::default(),
        };
        let image = store.read(query::image).map_err(|error| store.open_error(error))?;
        Ok((store, image))
    }

    /// Plants a bug, for the simulator to find. See [`runcast_core::planted`].
    pub fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    /// Makes these appends durable, in one piece: when this returns `Ok` all of them are, and after any error
    /// or crash either all or none.
    ///
    /// # Errors
    /// [`CommitError::Full`]: none is stored, questions are still answered, and the commit may be tried
    /// again. [`CommitError::Io`]: nothing is known any more; each further call fails too.
    ///
    /// # Panics
    /// If an event's seq is not one more than its stream's last: that is the core's promise.
    pub fn commit(&mut self, appends: &[(AppendId, Arc<[Record]>)]) -> Result<(), CommitError> {
        if appends.is_empty() {
            return Ok(());
        }
        self.make_ready()?;
        let ends = self.ends_after(appends)?;
        while self.overlay.is_over() {
            self.fold(FOLD_ROWS)?;
        }
        let row = JournalRow::new(self.next, appends.iter().map(|append| append.1.clone()).collect());
        let value = codec::encode_journal(row.number, &row.commits);
        let written = guarded(|| {
            let engine = self.engine.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            engine.write_journal(row.number, &value)
        });
        match self.settle(written) {
            Ok(()) => self.overlay.push(row),
            // redb failed after the commit was durable, and recovery has found it.
            Err(CommitError::Full) if self.overlay.last() == Some(row.number) => {}
            Err(error) => return Err(error),
        }
        self.next += 1;
        if self.ends.len() + ends.len() > ENDS_MAX {
            self.ends.clear();
        }
        self.ends.extend(ends);
        Ok(())
    }

    /// Answers a question from what is durable. Damage is an answer.
    ///
    /// # Errors
    /// [`ReadError`] if the disk does not answer.
    pub fn load(&self, query: &Query) -> Result<Found, ReadError> {
        match self.read(|db, overlay| query::answer(db, overlay, query)) {
            Ok(found) => Ok(found),
            Err(redb::Error::Corrupted(_)) => Ok(Found::Damaged),
            Err(error) => Err(ReadError(self.words(&error))),
        }
    }

    /// Moves up to so many journal rows, the oldest, into the tables; says whether any are left.
    ///
    /// # Errors
    /// As [`Self::commit`]; after [`CommitError::Full`] nothing has moved and nothing is lost.
    pub fn fold(&mut self, rows_max: usize) -> Result<bool, CommitError> {
        self.make_ready()?;
        let batch: Vec<&JournalRow> = self.overlay.oldest(rows_max).collect();
        let count = batch.len();
        if count > 0 {
            let folded = guarded(|| fold::fold(self.engine()?, &batch, self.planted));
            self.settle(folded)?;
            self.overlay.drop_oldest(count);
        }
        Ok(self.overlay.len() > 0)
    }

    /// Commits that are not folded yet.
    pub fn journal_rows(&self) -> usize {
        self.overlay.len()
    }

    /// Whether the journal has grown so far that a call of [`Self::fold`] is worth its while.
    pub fn is_fold_due(&self) -> bool {
        self.overlay.is_due()
    }

    /// What the streams' ends will be with these appends.
    fn ends_after(
        &self,
        appends: &[(AppendId, Arc<[Record]>)],
    ) -> Result<BTreeMap<StreamKey, u64>, ReadError> {
        let mut ends: BTreeMap<StreamKey, u64> = BTreeMap::new();
        for record in appends.iter().flat_map(|append| append.1.iter()) {
            let Record::Event { stream, seq, .. } = record else { continue };
            let end = match ends.get(stream) {
                Some(end) => Some(*end),
                None => self.end(stream)?,
            };
            assert!(
                end.is_none_or(|end| end + 1 == *seq),
                "{stream:?} ends at {end:?}, its next event is {seq}"
            );
            ends.insert(stream.clone(), *seq);
        }
        Ok(ends)
    }

    /// The seq of a stream's newest event, unless nothing is stored of it.
    fn end(&self, stream: &StreamKey) -> Result<Option<u64>, ReadError> {
        if let Some(end) = self.ends.get(stream).copied().or_else(|| self.overlay.last_seq(stream)) {
            return Ok(Some(end));
        }
        match self.read(|db, _| query::end(db, stream)) {
            Ok(end) => Ok(end),
            // Nobody knows where a damaged stream ends; reading it says that it is damaged.
            Err(redb::Error::Corrupted(_)) => Ok(None),
            Err(error) => Err(ReadError(self.words(&error))),
        }
    }

    fn engine(&self) -> Result<&Database, redb::Error> {
        let engine = self.engine.as_ref().and_then(Engine::db);
        engine.ok_or(redb::Error::DatabaseClosed)
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&Database, &Overlay) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let result = guarded(|| work(self.engine()?, &self.overlay));
        if result.is_err() {
            self.engine.iter().for_each(Engine::suspect);
        }
        result
    }

    /// Opens redb again if it met something while reading that it does not get over by itself.
    fn make_ready(&mut self) -> Result<(), CommitError> {
        let is_suspect = self.engine.as_ref().is_some_and(Engine::is_suspect);
        if is_suspect { self.reopen() } else { Ok(()) }
    }

    /// Turns redb's outcome into ours, and makes the store usable again after a full disk.
    fn settle(&mut self, result: Result<(), redb::Error>) -> Result<(), CommitError> {
        let Err(error) = result else { return Ok(()) };
        self.engine.iter().for_each(Engine::suspect);
        let fault = self.engine.as_ref().and_then(|engine| engine.fault());
        if let Some(Fault { operation: Operation::Write, error }) = &fault
            && is_full(error.kind())
        {
            // redb does nothing more after a failed write. What was durable still is, on the disk.
            self.reopen()?;
            return Err(CommitError::Full);
        }
        self.engine = None;
        Err(CommitError::Io(words(&error, fault)))
    }

    fn reopen(&mut self) -> Result<(), CommitError> {
        if self.engine.take().is_none() {
            return Err(CommitError::Io("closed after an earlier failure".into()));
        }
        let opened = Engine::open(self.disk.clone(), self.repair);
        let (engine, overlay) = opened.map_err(|error| CommitError::Io(error.to_string()))?;
        self.next = overlay.last().map_or(self.next, |last| last + 1);
        (self.engine, self.overlay) = (Some(engine), overlay);
        Ok(())
    }

    fn words(&self, error: &redb::Error) -> String {
        words(error, self.engine.as_ref().and_then(|engine| engine.fault()))
    }

    fn open_error(&self, error: redb::Error) -> OpenError {
        OpenError::of(error, self.engine.as_ref().and_then(|engine| engine.fault()))
    }
}

impl OpenError {
    fn of(error: redb::Error, fault: Option<Fault>) -> Self {
        if let redb::Error::Corrupted(what) = error {
            return Self::Damaged(what);
        }
        match &fault {
            Some(fault) if is_full(fault.error.kind()) => Self::Full,
            _ => Self::Io(words(&error, fault)),
        }
    }
}

fn words(error: &redb::Error, fault: Option<Fault>) -> String {
    match fault {
        Some(Fault { operation: Operation::Read, error }) => format!("reading failed: {error}"),
        Some(Fault { operation: Operation::Write, error }) => format!("writing failed: {error}"),
        Some(Fault { operation: Operation::Sync, error }) => format!("syncing failed: {error}"),
        None => error.to_string(),
    }
}
