//! A disk in memory that loses power, fills up and breaks, the same way each time for the same seed.
//!
//! What was not synced when the power goes is, sector by sector, old, new, zeros, garbage or torn; or the
//! writes up to some moment are there and no later one; or, one time in ten, everything is. All clones of a
//! disk are the same disk; [`SimDisk::crash`] and [`SimDisk::kill`] give what the next process finds, apart
//! from it.

use rand::{Rng, RngExt};
use runcast::disk::Disk;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a loss of power keeps or loses in one piece, in bytes.
pub const SECTOR: usize = 512;
const BLOCK: usize = 4096;
/// What the system calls it when a disk cannot read.
const EIO: i32 = 5;

/// A simulated disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// As it was after the last sync.
    durable: Content,
    /// As it is read.
    current: Content,
    /// Everything since the last sync, in order.
    log: Vec<Change>,
    operations: u64,
    syncs: u64,
    power_off_at: Option<u64>,
    quota_bytes: Option<u64>,
    sync_fails: bool,
    /// Sectors that losses of power have left as nobody wrote them last.
    torn: u64,
    /// Blocks that cannot be read.
    unreadable: BTreeMap<u64, Unreadable>,
}

/// Until when a block cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The disk gives it another place when all of it is written.
    UntilWritten,
    /// It takes what is written and does not give it back.
    ForGood,
}

/// Bytes, sparse: a block that is not there is zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    len: u64,
    blocks: BTreeMap<u64, Arc<[u8; BLOCK]>>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, data: Arc<[u8]> },
    SetLen(u64),
}

/// How a loss of power treats what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing is lost.
    Clean,
    /// The changes up to some moment are there, the one at that moment torn, and no later one.
    Prefix,
    /// Each sector for itself: old, new, zeros, garbage or torn.
    Scrambled,
}

impl Loss {
    /// Draws one, in the shares of the simulation's plan.
    pub fn draw(rng: &mut impl Rng) -> Self {
        match rng.random_range(0..10) {
            0 => Self::Clean,
            1..3 => Self::Prefix,
            _ => Self::Scrambled,
        }
    }
}

impl SimDisk {
    /// A disk with this content, all of it durable.
    pub fn holding(bytes: &[u8]) -> Self {
        let mut content = Content::default();
        content.set_len(bytes.len() as u64);
        content.write(0, bytes);
        Self::of(content)
    }

    fn of(content: Content) -> Self {
        let state = State { durable: content.clone(), current: content, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many operations there were that change something: writes, changes of the length, syncs.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many sectors losses of power have left old, torn, empty or full of garbage, so far.
    pub fn torn(&self) -> u64 {
        self.state().torn
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// From this operation on (the first is 0) everything fails, as if the process no longer ran. A write
    /// that is this operation is still under way, and may be found in part.
    pub fn power_off_at(&self, operation: u64) {
        self.state().power_off_at = Some(operation);
    }

    /// The disk takes no more new blocks than make so many bytes in all; what has a block may be written
    /// over.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.state().quota_bytes = bytes;
    }

    /// How many bytes of blocks are in use.
    pub fn used_bytes(&self) -> u64 {
        self.state().current.used_bytes()
    }

    /// Whether syncs fail with EIO.
    pub fn set_sync_fails(&self, fails: bool) {
        self.state().sync_fails = fails;
    }

    /// The disk as it is found after the power was lost now.
    pub fn crash(&self, rng: &mut impl Rng) -> Self {
        let loss = Loss::draw(rng);
        self.crash_with(loss, rng)
    }

    /// The same, with the kind of loss given.
    pub fn crash_with(&self, loss: Loss, rng: &mut impl Rng) -> Self {
        let state = self.state();
        let found = Self::of(match loss {
            Loss::Clean => state.current.clone(),
            Loss::Prefix => state.prefix(rng),
            Loss::Scrambled => state.scrambled(rng),
        });
        let torn = |sector: &u64| found.state().current.sector(*sector) != state.current.sector(*sector);
        let count = state.touched_sectors().iter().filter(|sector| torn(sector)).count() as u64;
        found.state().torn = state.torn + count;
        found.state().unreadable = state.unreadable.clone();
        found
    }

    /// The disk as it is found after the process was killed now: all that was written is there, but what was
    /// not synced can still be lost with the power.
    pub fn kill(&self) -> Self {
        let state = self.state();
        let (durable, current, log) = (state.durable.clone(), state.current.clone(), state.log.clone());
        let (torn, unreadable) = (state.torn, state.unreadable.clone());
        Self(Arc::new(Mutex::new(State { durable, current, log, torn, unreadable, ..State::default() })))
    }

    /// Makes this block of 4 KiB one that cannot be read, nor written in part.
    pub fn make_unreadable(&self, block: u64, until: Unreadable) {
        self.state().unreadable.insert(block, until);
    }

    /// Fills a part of the disk with garbage, durably.
    pub fn corrupt(&self, offset: u64, len: usize, rng: &mut impl Rng) {
        let mut garbage = vec![0; len];
        rng.fill_bytes(&mut garbage);
        let mut state = self.state();
        state.current.write(offset, &garbage);
        state.durable.write(offset, &garbage);
    }

    /// Fills the last `len` bytes with garbage, durably.
    pub fn corrupt_tail(&self, len: usize, rng: &mut impl Rng) {
        let size = self.state().current.len;
        let len = len.min(usize::try_from(size).unwrap_or(len));
        self.corrupt(size - len as u64, len, rng);
    }

    /// The places that hold anything, in blocks of 4 KiB.
    pub fn used_blocks(&self) -> Vec<u64> {
        self.state().current.blocks.keys().copied().collect()
    }

    /// Whether both hold the same bytes.
    pub fn equals(&self, other: &Self) -> bool {
        let mine = self.state().current.clone();
        mine == other.state().current
    }
}

impl Content {
    fn used_bytes(&self) -> u64 {
        (self.blocks.len() * BLOCK) as u64
    }

    fn set_len(&mut self, len: u64) {
        let (keep, part) = (len.div_ceil(BLOCK as u64), (len % BLOCK as u64) as usize);
        drop(self.blocks.split_off(&keep));
        if len < self.len
            && part > 0
            && let Some(block) = self.blocks.get_mut(&(keep - 1))
        {
            Arc::make_mut(block)[part..].fill(0);
        }
        self.len = len;
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        for (block, at, part) in parts(offset, out.len()) {
            match self.blocks.get(&block) {
                Some(bytes) => out[part.clone()].copy_from_slice(&bytes[at..at + part.len()]),
                None => out[part].fill(0),
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        self.len = self.len.max(offset + data.len() as u64);
        for (block, at, part) in parts(offset, data.len()) {
            let bytes = self.blocks.entry(block).or_insert_with(|| Arc::new([0; BLOCK]));
            Arc::make_mut(bytes)[at..at + part.len()].copy_from_slice(&data[part]);
        }
    }

    fn sector(&self, sector: u64) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        self.read(sector * SECTOR as u64, &mut bytes);
        bytes
    }

    fn new_blocks(&self, offset: u64, len: usize) -> u64 {
        parts(offset, len).filter(|part| !self.blocks.contains_key(&part.0)).count() as u64
    }
}

/// The blocks that a piece lies in: block, place in it, range of the piece.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let place = offset + done as u64;
        let at = (place % BLOCK as u64) as usize;
        let end = len.min(done + BLOCK - at);
        let part = done..end;
        done = end;
        Some((place / BLOCK as u64, at, part))
    })
}

impl State {
    /// Counts an operation; fails if there is no power.
    fn count(&mut self) -> io::Result<()> {
        let operation = self.operations;
        self.operations += 1;
        match self.power_off_at {
            Some(at) if operation >= at => Err(no_power()),
            _ => Ok(()),
        }
    }

    fn is_without_power(&self) -> bool {
        self.power_off_at.is_some_and(|at| self.operations > at)
    }

    fn is_last_operation(&self) -> bool {
        self.power_off_at == Some(self.operations)
    }

    /// Fails if a block of this range that cannot be read has to be: a write of a part reads the rest.
    fn reads(&self, offset: u64, len: usize, is_needed: impl Fn(usize) -> bool) -> io::Result<()> {
        let mut parts = parts(offset, len);
        let fails =
            parts.any(|(block, _, part)| self.unreadable.contains_key(&block) && is_needed(part.len()));
        if fails { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
    }

    fn apply(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.log.push(change);
    }

    fn prefix(&self, rng: &mut impl Rng) -> Content {
        let mut content = self.durable.clone();
        let kept = rng.random_range(0..=self.log.len());
        self.log[..kept].iter().for_each(|change| change.apply(&mut content));
        if let Some(Change::Write { offset, data }) = self.log.get(kept) {
            content.write(*offset, &data[..rng.random_range(0..=data.len())]);
        }
        content
    }

    fn scrambled(&self, rng: &mut impl Rng) -> Content {
        let lens = self.log.iter().filter_map(|change| match change {
            Change::SetLen(len) => Some(*len),
            Change::Write { .. } => None,
        });
        let lens: Vec<u64> = std::iter::once(self.durable.len).chain(lens).collect();
        let len = lens[rng.random_range(0..lens.len())];
        let mut content = self.durable.clone();
        content.set_len(len);
        for sector in self.touched_sectors() {
            let at = sector * SECTOR as u64;
            if at + SECTOR as u64 <= len {
                content.write(at, &lost(self.durable.sector(sector), self.current.sector(sector), rng));
            }
        }
        content.set_len(len);
        content
    }

    /// The sectors written since the last sync. Those that were only cut off come back as zeros or as they
    /// were.
    fn touched_sectors(&self) -> BTreeSet<u64> {
        let writes = self.log.iter().filter_map(|change| match change {
            Change::Write { offset, data } => Some((*offset, data.len() as u64)),
            Change::SetLen(_) => None,
        });
        let sector = SECTOR as u64;
        writes.flat_map(|(offset, len)| offset / sector..(offset + len).div_ceil(sector)).collect()
    }
}

fn no_power() -> io::Error {
    io::Error::other("no power")
}

/// What is found of one sector that was written and not synced.
fn lost(old: [u8; SECTOR], new: [u8; SECTOR], rng: &mut impl Rng) -> [u8; SECTOR] {
    match rng.random_range(0..100) {
        0..45 => old,
        45..80 => new,
        80..90 => [0; SECTOR],
        90..95 => {
            let mut garbage = [0; SECTOR];
            rng.fill_bytes(&mut garbage);
            garbage
        }
        _ => {
            let (mut torn, at) = (old, rng.random_range(0..=SECTOR));
            torn[..at].copy_from_slice(&new[..at]);
            torn
        }
    }
}

impl Change {
    /// What is left of it beside this range.
    fn beside(self, range: &Range<u64>) -> Vec<Self> {
        let Self::Write { offset, data } = &self else { return vec![self] };
        let (start, end) = (*offset, offset + data.len() as u64);
        let part = |from: u64, to: u64| {
            let data = &data[(from - start) as usize..(to - start) as usize];
            Self::Write { offset: from, data: data.into() }
        };
        if range.end <= start || end <= range.start {
            return vec![self];
        }
        let before = (start < range.start).then(|| part(start, range.start));
        let after = (range.end < end).then(|| part(range.end, end));
        before.into_iter().chain(after).collect()
    }

    fn apply(&self, content: &mut Content) {
        match self {
            Self::Write { offset, data } => content.write(*offset, data),
            Self::SetLen(len) => content.set_len(*len),
        }
    }
}

impl Disk for SimDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.state().current.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if state.is_without_power() {
            return Err(no_power());
        }
        if offset + out.len() as u64 > state.current.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        state.reads(offset, out.len(), |_| true)?;
        state.current.read(offset, out);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let last = state.is_last_operation();
        let counted = state.count();
        if counted.is_err() && !last {
            return counted;
        }
        assert!(offset + data.len() as u64 <= state.current.len, "the store writes within the length");
        let needed = state.current.new_blocks(offset, data.len()) * BLOCK as u64;
        if needed > 0 && state.quota_bytes.is_some_and(|quota| state.current.used_bytes() + needed > quota) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.reads(offset, data.len(), |written| written < BLOCK)?;
        for (block, ..) in parts(offset, data.len()) {
            if state.unreadable.get(&block) == Some(&Unreadable::UntilWritten) {
                state.unreadable.remove(&block);
            }
        }
        state.apply(Change::Write { offset, data: data.into() });
        counted
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let last = state.is_last_operation();
        let counted = state.count();
        if counted.is_ok() || last {
            state.apply(Change::SetLen(len));
        }
        counted
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.count()?;
        if state.sync_fails {
            return Err(io::Error::other("the disk does not sync"));
        }
        let State { log, durable, .. } = &mut *state;
        log.drain(..).for_each(|change| change.apply(durable));
        state.syncs += 1;
        Ok(())
    }

    /// Two operations: power may be lost between writing and syncing. What else was written stays as likely
    /// to be lost as before.
    fn write_synced(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write(offset, data)?;
        let mut state = self.state();
        state.count()?;
        if state.sync_fails {
            return Err(io::Error::other("the disk does not sync"));
        }
        state.durable.write(offset, data);
        let range = offset..offset + data.len() as u64;
        state.log = std::mem::take(&mut state.log).into_iter().flat_map(|it| it.beside(&range)).collect();
        state.syncs += 1;
        Ok(())
    }
}
