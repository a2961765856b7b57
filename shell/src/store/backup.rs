//! Backups: all that is stored at one moment in a file of its own, and a store made of such a file.

use super::backend::asking;
use super::engine::{CHUNKS, Engine, ROWS, guarded};
use super::journal::Place;
use super::overlay::Overlay;
use super::{CommitError, JOURNAL_BLOCKS, OpenError, ReadError, Repair, Store, backend, codec, fold, query};
use crate::disk::{FileDisk, directory_of, sync_directory_of};
use redb::{Durability, ReadTransaction, ReadableTable, TableDefinition};
use runcast_core::backup::restored;
use runcast_core::input::NoBackup;
use runcast_core::planted::Planted;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::NamedTempFile;

/// Rows that are written in one transaction, so that a backup needs little memory.
const ROWS_AT_ONCE: usize = 4096;

/// What is stored at one moment. What is committed later does not change it.
pub struct Snapshot {
    tables: ReadTransaction,
    /// What was not in the tables, in order.
    unfolded: Vec<Overlay>,
}

/// Why there is no backup, or no store made of one. Each message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Nothing is written over.
    #[error("{0} is there already: move it away, or take another name")]
    There(PathBuf),
    /// The file is no backup, or of a newer version.
    #[error("{0}: {1}")]
    NotABackup(PathBuf, OpenError),
    /// The disk does not do it.
    #[error("{0} cannot be read or written: {1}")]
    Io(PathBuf, String),
}

impl From<BackupError> for NoBackup<String> {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::There(_) => Self::There,
            BackupError::NotABackup(..) | BackupError::Io(..) => Self::Failed(error.to_string()),
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl Store {
    /// Holds fast what is durable at this moment.
    ///
    /// # Errors
    /// [`ReadError`] if the disk does not answer.
    ///
    /// # Panics
    /// While a fold is under way: what is in the tables would not be known.
    pub fn snapshot(&self) -> Result<Snapshot, ReadError> {
        assert!(!self.is_folding, "a snapshot is taken between folds");
        let taken = self.read(|engine, unfolded| {
            Ok(Snapshot { tables: engine.begin_read()?, unfolded: unfolded.up().cloned().collect() })
        });
        taken.map_err(|unanswered| self.read_error(&unanswered.into()))
    }
}

impl Snapshot {
    /// Writes it to a file that is not there yet, and is there whole or not at all; its size in bytes.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn write(&self, file: &Path) -> Result<u64, BackupError> {
        let failed = |error: &dyn fmt::Display| BackupError::Io(file.into(), error.to_string());
        if file.exists() {
            return Err(BackupError::There(file.into()));
        }
        let part = part_of(file).map_err(|error| failed(&error))?;
        let disk = FileDisk::open(part.path()).map_err(|error| failed(&error))?;
        {
            let engine = Engine::open(Arc::new(disk), Repair::Full, JOURNAL_BLOCKS);
            let engine = engine.map_err(|error| failed(&error))?;
            guarded(|| self.copy(&engine)).map_err(|error| failed(&error))?;
        }
        finish(part, file)
    }

    fn copy(&self, into: &Engine) -> Result<(), redb::Error> {
        self.copy_table(into, ROWS)?;
        self.copy_table(into, CHUNKS)?;
        for overlay in &self.unfolded {
            fold::fold(into, overlay, Place::FIRST, Planted::default())?;
        }
        into.begin_write()?.commit()?;
        Ok(())
    }

    fn copy_table<K: redb::Key + 'static>(
        &self,
        into: &Engine,
        table: TableDefinition<'_, K, &'static [u8]>,
    ) -> Result<(), redb::Error> {
        let lost = |text| redb::Error::Io(io::Error::other(text));
        let from = asking(|| Ok(self.tables.open_table(table)?), lost)?;
        let mut rows = asking(|| Ok(from.iter()?), lost)?;
        let mut rows = iter::from_fn(|| asking(|| Ok(rows.next().transpose()?), lost).transpose()).peekable();
        while rows.peek().is_some() {
            let mut transaction = into.begin_write()?;
            transaction.set_durability(Durability::None)?;
            {
                let mut copy = transaction.open_table(table)?;
                for row in rows.by_ref().take(ROWS_AT_ONCE) {
                    let (key, value) = row?;
                    copy.insert(key.value(), value.value())?;
                }
            }
            transaction.commit()?;
        }
        Ok(())
    }
}

/// Makes a store of a backup, in a file that is not there yet. All its streams have new epochs; how many they
/// are. The backup stays as it is.
///
/// # Errors
/// [`BackupError`].
pub fn restore(backup: &Path, file: &Path, mut random: impl FnMut() -> u64) -> Result<u64, BackupError> {
    let failed = |error: &dyn fmt::Display| BackupError::Io(file.into(), error.to_string());
    if file.exists() {
        return Err(BackupError::There(file.into()));
    }
    let mut part = part_of(file).map_err(|error| failed(&error))?;
    let copied = File::open(backup).and_then(|mut from| io::copy(&mut from, part.as_file_mut()));
    copied.map_err(|error| BackupError::Io(backup.into(), error.to_string()))?;
    let disk = FileDisk::open(part.path()).map_err(|error| failed(&error))?;
    let no_backup = |error| BackupError::NotABackup(backup.into(), error);
    // Of an empty file, or of one that was never finished, opening would make a new store.
    let slots = backend::read_slots(&disk).map_err(no_backup)?;
    if slots.is_none_or(|slots| slots.is_unfinished()) {
        return Err(no_backup(OpenError::NotAStore));
    }
    let (mut store, _) = Store::open(disk, Repair::Full).map_err(no_backup)?;
    let renewed = store.renew(&mut random).map_err(|error| failed(&error))?;
    drop(store);
    finish(part, file)?;
    Ok(renewed)
}

impl Store {
    /// Gives all streams new epochs.
    fn renew(&mut self, random: &mut dyn FnMut() -> u64) -> Result<u64, CommitError> {
        self.fold()?;
        let mut renewed = 0;
        let engine = self.engine()?;
        let written = guarded(|| {
            let before = engine.begin_read()?.open_table(ROWS)?;
            let transaction = engine.begin_write()?;
            {
                let mut rows = transaction.open_table(ROWS)?;
                for entry in before.iter()? {
                    let (stored, value) = entry?;
                    let key = query::row_of(stored.value())?;
                    let row = query::whole_row(&key, value.value())?;
                    if let Some(row) = restored(&key, &row, random()) {
                        rows.insert(stored.value(), codec::encode_row(&key, &row).as_slice())?;
                        renewed += 1;
                    }
                }
            }
            Ok(transaction.commit()?)
        });
        drop(engine);
        self.settle(written)?;
        Ok(renewed)
    }
}

/// How the names begin and end of files that are not whole yet. No backup's name begins so.
const PART: (&str, &str) = (".", ".part");

/// Where a file is written until it is whole. It is gone with the value: what has failed is not to keep a
/// full disk full.
fn part_of(file: &Path) -> io::Result<NamedTempFile> {
    let mut name = OsString::from(PART.0);
    name.push(file.file_name().unwrap_or_default());
    name.push(".");
    tempfile::Builder::new().prefix(&name).suffix(PART.1).tempfile_in(directory_of(file))
}

/// Removes what processes that were killed have left of files that were not whole yet. One that cannot be
/// removed is in nobody's way.
pub fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(PART.0) && name.ends_with(PART.1)) {
            fs::remove_file(entry.path()).unwrap_or_default();
        }
    }
}

/// What was written is on the disk, under its name; its size. What has come to be there meanwhile stays.
fn finish(part: NamedTempFile, file: &Path) -> Result<u64, BackupError> {
    let failed = |error: io::Error| BackupError::Io(file.into(), error.to_string());
    part.as_file().sync_all().map_err(failed)?;
    let written = part.persist_noclobber(file).map_err(|refused| {
        let is_there = refused.error.kind() == io::ErrorKind::AlreadyExists;
        if is_there { BackupError::There(file.into()) } else { failed(refused.error) }
    })?;
    sync_directory_of(file).map_err(failed)?;
    Ok(written.metadata().map_err(failed)?.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ram::Ram;
    use bytes::Bytes;
    use runcast_core::ids::AppendId;
    use runcast_core::record::{Record, RowKey, Table};

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn snapshot() -> (Store, Snapshot) {
        let (mut store, _) = Store::open(Ram::default(), Repair::default()).unwrap();
        let key = RowKey { table: Table::Daemon, owner: "".into(), name: "n".into() };
        let put = Record::Put { key, value: Bytes::from_static(b"v") };
        store.commit(&[(AppendId(1), [put].into())]).unwrap();
        store.fold().unwrap();
        let snapshot = store.snapshot().unwrap();
        (store, snapshot)
    }

    #[test]
    fn what_has_failed_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let (store, snapshot) = snapshot();
        drop(store);
        let error = snapshot.write(&dir.path().join("b")).unwrap_err();
        assert!(matches!(error, BackupError::Io(..)), "{error}");
        assert_eq!(names(dir.path()), [""; 0]);
        let backup = dir.path().join("b");
        fs::write(&backup, [7; 10_000]).unwrap();
        let error = restore(&backup, &dir.path().join("store"), || 1).unwrap_err();
        assert!(matches!(error, BackupError::NotABackup(_, OpenError::NotAStore)), "{error}");
        assert_eq!(names(dir.path()), ["b"]);
    }

    #[test]
    fn a_store_is_made_of_a_backup_only() {
        let dir = tempfile::tempdir().unwrap();
        let (backup, file) = (dir.path().join("b"), dir.path().join("store"));
        for foreign in [&[][..], &[0; 8192], &[7; 10_000]] {
            fs::write(&backup, foreign).unwrap();
            let error = restore(&backup, &file, || 1).unwrap_err();
            assert!(matches!(error, BackupError::NotABackup(_, OpenError::NotAStore)), "{error}");
        }
    }

    #[test]
    fn what_has_come_to_be_there_meanwhile_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (backup, file) = (dir.path().join("b"), dir.path().join("store"));
        let (_store, snapshot) = snapshot();
        snapshot.write(&backup).unwrap();
        let comes = || {
            fs::write(&file, "another").unwrap();
            1
        };
        let error = restore(&backup, &file, comes).unwrap_err();
        assert!(matches!(error, BackupError::There(_)), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"another");
    }

    #[test]
    fn what_a_killed_process_left_is_swept_away_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, snapshot) = snapshot();
        let backup = dir.path().join("b.part");
        snapshot.write(&backup).unwrap();
        part_of(&backup).unwrap().keep().unwrap();
        assert_eq!(names(dir.path()).len(), 2);
        sweep(dir.path());
        assert_eq!(names(dir.path()), ["b.part"]);
        sweep(&dir.path().join("none"));
    }
}
