//! A disk in memory, for tests: it knows what was synced, can be full, and can break. It is locked for one
//! operation only, in which nothing waits: an explorer of schedules may stand above it.

use crate::disk::Disk;
use std::io;
use std::sync::{Arc, Mutex};

/// A disk in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ram(Arc<Mutex<Content>>);

/// Content now, content at the last sync, and what is wrong.
#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    is_full: bool,
    is_broken: bool,
}

impl Disk for Ram {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let from = offset as usize;
        let found = state.now.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        // A header is written over, which needs no room.
        if state.is_full && offset >= 8192 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (from, to) = (offset as usize, offset as usize + data.len());
        let length = state.now.len().max(to);
        state.now.resize(length, 0);
        state.now[from..to].copy_from_slice(data);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().now.resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.is_broken {
            return Err(io::Error::other("EIO"));
        }
        state.synced = state.now.clone();
        Ok(())
    }
}

impl Ram {
    /// What a loss of power leaves.
    pub(crate) fn after_power_loss(&self) -> Self {
        let synced = self.0.lock().unwrap().synced.clone();
        Self(Arc::new(Mutex::new(Content { now: synced.clone(), synced, ..Content::default() })))
    }

    /// Takes nothing more, or again, but what is written over.
    pub(crate) fn set_full(&self, is_full: bool) {
        self.0.lock().unwrap().is_full = is_full;
    }

    /// Fails each sync from now on.
    pub(crate) fn break_syncs(&self) {
        self.0.lock().unwrap().is_broken = true;
    }
}
