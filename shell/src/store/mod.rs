//! The store: records become durable, and questions about them are answered.
//!
//! It knows rows and streams and nothing of what they mean. One group commit is one entry of a journal: one
//! write and one sync. When the journal has grown, what it says is folded into redb's tables, from which most
//! questions are answered; what is not folded yet is also kept in memory (`overlay`). Journal and redb lie on
//! one [`Disk`]; redb's header is guarded by `backend`, everything else by checksums.

mod backend;
mod backup;
pub(crate) mod codec;
mod engine;
mod errors;
mod fold;
mod journal;
mod overlay;
#[cfg(test)]
mod properties;
mod query;

use crate::disk::{Disk, is_full};
pub use backup::{BackupError, Snapshot, restore, sweep};
pub use errors::{CommitError, OpenError, ReadError};
pub use fold::{Fold, Folded};

use backend::{Fault, Operation, asking};
use bytes::{Bytes, BytesMut};
use engine::{Engine, guarded};
use errors::words;
use journal::{Journal, Unreadable};
use overlay::{Overlay, Unfolded};
use query::Unanswered;
use runcast_core::ids::AppendId;
use runcast_core::planted::Planted;
use runcast_core::record::{Found, Image, Query, Record, StreamKey};
use std::collections::HashMap;
use std::sync::Arc;

/// So many streams' ends are remembered; the others are looked up.
const ENDS_MAX: usize = 16 * 1024;
/// A new store's journal has so many blocks: 32 MiB, of which the file has those that were ever written.
const JOURNAL_BLOCKS: u64 = 8 * 1024;

/// Rows and streams on stable storage.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    repair: Repair,
    /// None after a failure that ends the process, or while it is being opened again.
    engine: Option<Arc<Engine>>,
    journal: Journal,
    unfolded: Unfolded,
    /// A fold was begun and has not ended.
    is_folding: bool,
    /// After a fold that found the disk full none is due before the journal has so many blocks in use.
    due_from: u64,
    /// The seq of the newest event of streams written lately. After a commit that failed it says nothing.
    ends: HashMap<StreamKey, u64>,
    /// For what the next commits say.
    room: BytesMut,
    planted: Planted,
}

/// How a store that was not closed finds out which pages of its file are free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repair {
    /// Each fold writes it down. Opening takes milliseconds, whatever the store's size.
    #[default]
    Quick,
    /// By reading the whole file, whose checksums are compared with that. Opening takes a good second for
    /// each gigabyte.
    Full,
}

impl Repair {
    /// As they are written.
    pub const WORDS: &'static [(&'static str, Self)] = &[("quick", Self::Quick), ("full", Self::Full)];
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
    /// [`OpenError`]. A file of another kind or of another version is not touched.
    pub fn open(disk: impl Disk, repair: Repair) -> Result<(Self, Image), OpenError> {
        Self::open_with(disk, repair, JOURNAL_BLOCKS)
    }

    /// The same; a store that is made has a journal of so many blocks of 4 KiB. What finds no room in it goes
    /// straight into the tables.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        disk: impl Disk,
        repair: Repair,
        journal_blocks: u64,
    ) -> Result<(Self, Image), OpenError> {
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let engine = Arc::new(Engine::open(disk.clone(), repair, journal_blocks)?);
        let typed = |error| OpenError::of(error, engine.fault());
        let first = guarded(|| engine.first()).map_err(typed)?;
        let (journal, newest) = read_journal(Journal::new(disk.clone(), engine.journal(), first))?;
        let store = Self {
            disk,
            repair,
            engine: Some(engine),
            journal,
            unfolded: Unfolded { newest, folding: None },
            is_folding: false,
            due_from: 0,
            ends: HashMap::new(),
            room: BytesMut::new(),
            planted: Planted::default(),
        };
        let image = store.require(query::image).map_err(|unanswered| store.open_error(unanswered.into()))?;
        Ok((store, image))
    }

    /// Plants a bug, for the simulator to find. See [`runcast_core::planted`].
    pub fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    /// Makes these appends durable, in one piece: when this returns `Ok` all of them are, and after any error
    /// or crash either all or none. Where the journal has no room it folds first.
    ///
    /// # Errors
    /// [`CommitError::Full`]: none is stored, questions are still answered, and the commit may be tried
    /// again; after a crash before that, all of it may be found, as of a commit under way.
    /// [`CommitError::HeldUp`]: none is stored, and the fold under way must end first.
    /// [`CommitError::Unreadable`]: none is stored, there is no room, and none can be made.
    /// [`CommitError::Io`]: nothing is known any more; each further call fails too.
    ///
    /// # Panics
    /// If an event's seq is not one more than its stream's last: that is the core's promise. If there is no
    /// room while a fold is under way (see [`Self::has_room`]).
    pub fn commit(&mut self, appends: &[(AppendId, Arc<[Record]>)]) -> Result<(), CommitError> {
        if appends.is_empty() {
            return Ok(());
        }
        self.make_ready()?;
        let stored = self.advance(appends).map_err(Into::into).and_then(|()| self.append(appends));
        if stored.is_err() || self.ends.len() > ENDS_MAX {
            self.ends.clear();
        }
        stored
    }

    /// Puts these appends into the journal, or where it has no room for so much straight into the tables.
    fn append(&mut self, appends: &[(AppendId, Arc<[Record]>)]) -> Result<(), CommitError> {
        let records = appends.iter().flat_map(|append| append.1.iter());
        let entry = codec::encode_records(records.clone(), &mut self.room);
        while !self.journal.has_room(entry.len()) && self.unfolded.commits() > 0 {
            self.fold()?;
        }
        if self.journal.has_room(entry.len()) {
            let blocks = self.journal.append(&entry, self.planted).map_err(|fault| self.failed(fault))?;
            self.unfolded.newest.push(records, entry, blocks);
            return Ok(());
        }
        let mut overlay = Overlay::default();
        overlay.push(records, entry, 0);
        self.store(&overlay)
    }

    /// Puts what is larger than the whole journal straight into the tables.
    fn store(&mut self, overlay: &Overlay) -> Result<(), CommitError> {
        let engine = self.engine()?;
        let stored = guarded(|| fold::fold(&engine, overlay, self.journal.next(), self.planted));
        drop(engine);
        self.settle(stored)
    }

    /// Whether a commit of these appends needs no fold to end before it.
    pub fn has_room(&self, appends: &[(AppendId, Arc<[Record]>)]) -> bool {
        let records = appends.iter().flat_map(|append| append.1.iter());
        self.unfolded.commits() == 0 || self.journal.has_room(records.map(codec::record_bytes).sum())
    }

    /// Answers a question from what is durable. Damage is an answer.
    ///
    /// # Errors
    /// [`ReadError`] if the disk does not answer, or not before the fold under way has ended.
    pub fn load(&self, query: &Query) -> Result<Found, ReadError> {
        match self.read(|engine, unfolded| query::answer(engine, unfolded, query)) {
            Err(unanswered) if !unanswered.is_damage() => Err(self.read_error(&unanswered.into())),
            answer => Ok(answer.unwrap_or(Found::Damaged)),
        }
    }

    /// Whether the journal has grown so far that folding it is worth its while. A disk that was full is tried
    /// again when it has grown by an eighth more, or when a commit finds no room in it.
    pub fn is_fold_due(&self) -> bool {
        !self.is_folding && self.journal.is_due() && self.journal.used() >= self.due_from
    }

    /// Begins to fold what the journal holds, or what was left of the last attempt; none if that is nothing.
    ///
    /// # Errors
    /// As [`Self::commit`].
    ///
    /// # Panics
    /// If a fold is under way.
    pub fn begin_fold(&mut self) -> Result<Option<Fold>, CommitError> {
        assert!(!self.is_folding, "one fold at a time");
        self.make_ready()?;
        let engine = self.engine()?;
        let Some(overlay) = self.unfolded.freeze(self.journal.next()) else { return Ok(None) };
        self.is_folding = true;
        Ok(Some(Fold { engine, overlay, planted: self.planted }))
    }

    /// Takes note of what has become of a fold.
    ///
    /// # Errors
    /// As [`Self::commit`]; after [`CommitError::Full`] or [`CommitError::Unreadable`] nothing has moved and
    /// nothing is lost.
    pub fn end_fold(&mut self, folded: Folded) -> Result<(), CommitError> {
        self.is_folding = false;
        self.due_from = self.journal.grown();
        match self.settle(folded.0) {
            Err(CommitError::Full | CommitError::Unreadable(_)) if self.has_folded() => {}
            settled => settled?,
        }
        self.due_from = 0;
        let folded = self.unfolded.folding.take().expect("a fold was under way");
        self.journal.free(folded.overlay.blocks());
        if self.unfolded.commits() == 0 {
            self.room = BytesMut::new();
        }
        Ok(())
    }

    /// Folds what the journal holds, or what was left of the last attempt.
    ///
    /// # Errors
    /// As [`Self::end_fold`].
    ///
    /// # Panics
    /// If a fold is under way.
    pub fn fold(&mut self) -> Result<(), CommitError> {
        match self.begin_fold()? {
            Some(fold) => self.end_fold(fold.run()),
            None => Ok(()),
        }
    }

    /// Commits that are not folded yet.
    pub fn unfolded_commits(&self) -> usize {
        self.unfolded.commits()
    }

    /// Moves the streams' ends to where they will be with these appends.
    fn advance(&mut self, appends: &[(AppendId, Arc<[Record]>)]) -> Result<(), ReadError> {
        for record in appends.iter().flat_map(|append| append.1.iter()) {
            let Record::Event { stream, seq, .. } = record else { continue };
            let follows = |end: Option<u64>| {
                let is_next = end.is_none_or(|end| end + 1 == *seq);
                assert!(is_next, "{stream:?} ends at {end:?}, its next event is {seq}");
            };
            if let Some(end) = self.ends.get_mut(stream) {
                follows(Some(*end));
                *end = *seq;
            } else {
                follows(self.end(stream)?);
                self.ends.insert(stream.clone(), *seq);
            }
        }
        Ok(())
    }

    /// The seq of a stream's newest event, unless nothing is stored of it.
    fn end(&self, stream: &StreamKey) -> Result<Option<u64>, ReadError> {
        if let Some(end) = self.unfolded.last_seq(stream) {
            return Ok(Some(end));
        }
        match self.read(|engine, _| query::end(engine, stream)) {
            Err(unanswered) if !unanswered.is_damage() => Err(self.read_error(&unanswered.into())),
            // Nobody knows where a damaged stream ends; reading it says that it is damaged.
            end => Ok(end.unwrap_or_default()),
        }
    }

    fn engine(&self) -> Result<Arc<Engine>, CommitError> {
        self.engine.clone().ok_or_else(|| CommitError::Io("closed after an earlier failure".into()))
    }

    /// Reads, for somebody who can do without what the disk has lost.
    fn read<T>(
        &self,
        work: impl FnOnce(&Engine, &Unfolded) -> Result<T, Unanswered>,
    ) -> Result<T, Unanswered> {
        self.require(|engine, unfolded| asking(|| work(engine, unfolded), Unanswered::Damaged))
    }

    /// Reads what must be there.
    fn require<T>(
        &self,
        work: impl FnOnce(&Engine, &Unfolded) -> Result<T, Unanswered>,
    ) -> Result<T, Unanswered> {
        let engine = self.engine.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let result = guarded(|| match work(engine, &self.unfolded) {
            Err(Unanswered::Engine(error)) => Err(error),
            answer => Ok(answer),
        });
        result.unwrap_or_else(|error| {
            engine.suspect();
            Err(Unanswered::Engine(error))
        })
    }

    /// Opens redb again if it met something while reading that it does not get over by itself.
    fn make_ready(&mut self) -> Result<(), CommitError> {
        let is_suspect = self.engine()?.is_suspect();
        if is_suspect && !self.is_folding { self.reopen() } else { Ok(()) }
    }

    /// Whether what is being folded is in the tables after all: a commit may fail when it is durable.
    fn has_folded(&self) -> bool {
        let first = self.read(|engine, _| Ok(engine.first()?)).ok();
        self.unfolded.folding.as_ref().map(|folding| folding.first) == first
    }

    /// Turns redb's outcome into ours, and makes the store usable again after a full disk or a lost page.
    fn settle(&mut self, result: Result<(), redb::Error>) -> Result<(), CommitError> {
        let Err(error) = result else { return Ok(()) };
        self.engine.iter().for_each(|engine| engine.suspect());
        let fault = self.engine.as_ref().and_then(|engine| engine.fault());
        let error = match &fault {
            Some(Fault { operation: Operation::Write, error }) if is_full(error.kind()) => CommitError::Full,
            Some(fault @ Fault { operation: Operation::ReadLost, .. }) => {
                CommitError::Unreadable(fault.to_string())
            }
            _ => {
                self.engine = None;
                return Err(CommitError::Io(words(&error, fault)));
            }
        };
        // redb does nothing more after a failure. What was durable still is, on the disk.
        self.reopen()?;
        Err(error)
    }

    /// What a failure of the journal means.
    fn failed(&mut self, fault: Fault) -> CommitError {
        if fault.operation == Operation::Append && is_full(fault.error.kind()) {
            return CommitError::Full;
        }
        self.engine.take().iter().for_each(|engine| engine.suspect());
        CommitError::Io(fault.to_string())
    }

    fn reopen(&mut self) -> Result<(), CommitError> {
        self.engine()?;
        let before = self.engine.take().and_then(Arc::into_inner);
        drop(before.expect("nobody else holds it: two of them never write one file"));
        let opened = Engine::open(self.disk.clone(), self.repair, 0);
        self.engine = Some(Arc::new(opened.map_err(|error| CommitError::Io(error.to_string()))?));
        Ok(())
    }

    fn words(&self, error: &redb::Error) -> String {
        words(error, self.engine.as_ref().and_then(|engine| engine.fault()))
    }

    /// redb does nothing more after a failure, for nobody. What failed in a fold is left for its end, which
    /// tells by it whether redb must only be opened again.
    fn read_error(&self, error: &redb::Error) -> ReadError {
        if self.is_folding && matches!(error, redb::Error::PreviousIo) {
            return ReadError::HeldUp;
        }
        ReadError::Io(self.words(error))
    }

    fn open_error(&self, error: redb::Error) -> OpenError {
        OpenError::of(error, self.engine.as_ref().and_then(|engine| engine.fault()))
    }
}

/// Reads what a journal holds.
fn read_journal(mut journal: Journal) -> Result<(Journal, Overlay), OpenError> {
    let damaged = |number| OpenError::Damaged(format!("entry {number} of its journal"));
    let mut overlay = Overlay::default();
    loop {
        let (number, used) = (journal.next().number, journal.used());
        match journal.read() {
            Ok(Some(body)) => {
                let entry = Bytes::from(body);
                let records = codec::decode_records(entry.clone()).ok_or_else(|| damaged(number))?;
                overlay.push(records.iter(), entry, journal.used() - used);
            }
            Ok(None) => return Ok((journal, overlay)),
            Err(Unreadable::Damaged(number)) => return Err(damaged(number)),
            Err(Unreadable::Lost { number, is_certain, bytes, error }) => {
                let doubt = if is_certain { "" } else { ", if it was ever written," };
                let lost = format!("entry {number} of its journal{doubt}");
                return Err(OpenError::Unreadable { bytes, why: error.to_string(), lost });
            }
            Err(Unreadable::Io(error)) => return Err(error.into()),
        }
    }
}
