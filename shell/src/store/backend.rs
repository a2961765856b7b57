//! Gives a [`Disk`] to redb, and guards what redb cannot guard itself: its header.
//!
//! redb keeps its root in 320 bytes at the start of the file and writes them in place, twice in each commit;
//! were that one sector damaged by a loss of power, everything would be gone. So the header lives in two
//! slots of our own, each with a number and a checksum. A write always goes to the slot that is *not* the
//! newest known to be durable; at start the valid slot with the highest number is the header. With that a
//! header write is all or nothing, whatever a loss of power does to the sectors that were not synced. A slot
//! holds the header twice, in two sectors: were the newest slot lost to one bad sector, the older one would
//! quietly take the last commit back.
//!
//! ```text
//! disk    0..1024     slot A          2 x: magic 16, version 4, number 8, redb's header 320, CRC-32 4, zeros
//!         4096..5120  slot B          the same
//!         8192..      the journal     blocks of 4096, as many as the slots say
//!         after it    redb's pages    redb's offset 4096 and up
//! ```
//!
//! The number has 40 bits; the other 24 say how many blocks the journal has, which never changes.
//!
//! A slot that the disk cannot read may be the newest. Then redb chooses, by the checksums of all its pages,
//! between what the other slot says was last and what it says was being made the last.
//!
//! redb remembers an error of the disk, and answers nothing to anybody from then on. So of bytes that the
//! disk has lost it does not hear while it is only asked ([`asking`]): whoever asks does.
//!
//! The slots also carry the store's version, so that a file of another kind or of a newer version is
//! recognised before anything is written. Magic, version and checksum keep their places in every version.

use super::OpenError;
use crate::disk::{Disk, is_lost};
use redb::StorageBackend;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MAGIC: &[u8; 16] = b"runcast store\r\n\x1a";
/// The store's version. A newer one in a file is refused, since what it says would be misread: of how far a
/// stream reaches, version 3 tells in the rows of its runs; version 4 gives their numbers places for names.
const VERSION: u32 = 4;
/// The oldest that can be read. From its opening on it is of the newest: redb then writes the header.
const OLDEST: u32 = 2;

const BLOCK: u64 = 4096;
const SLOTS_END: u64 = 2 * BLOCK;
/// A copy is one sector, a slot two copies.
const COPY_BYTES: usize = 512;
const SLOT_BYTES: usize = 2 * COPY_BYTES;
/// What redb reads and writes of its first page; the rest of that page is never used.
const HEADER_BYTES: usize = 320;
const VERSION_AT: usize = MAGIC.len();
const NUMBER_AT: usize = VERSION_AT + 4;
const HEADER_AT: usize = NUMBER_AT + 8;
const CHECKSUM_AT: usize = HEADER_AT + HEADER_BYTES;
/// The header's number has so many bits of its field.
const NUMBER_BITS: u32 = 40;

/// The disk as redb sees it.
#[derive(Debug)]
pub(super) struct Backend {
    disk: Arc<dyn Disk>,
    /// Where redb's first page lies.
    pages_at: u64,
    slots: Mutex<Slots>,
    faults: Faults,
    /// Where bytes begin that the disk has lost and somebody has asked for: the log has a line of each.
    lost: Mutex<BTreeSet<u64>>,
}

/// The two slots of the header.
#[derive(Debug)]
pub(super) struct Slots {
    header: [u8; HEADER_BYTES],
    number: u64,
    journal_blocks: u64,
    /// The slot that holds the newest header known to be durable.
    durable: u64,
    /// The other slot was written since.
    dirty: bool,
    /// The other slot cannot be read.
    is_in_doubt: bool,
}

/// What last went wrong beneath redb, whose own errors do not say which operation it was.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<Option<Fault>>>);

/// An operation that failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) operation: Operation,
    pub(super) error: io::Error,
}

/// Operations of a disk, apart where the answer to a failure differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    /// Reading what the disk has lost.
    ReadLost,
    Write,
    Sync,
    /// Writing a commit to the journal and syncing it, in one.
    Append,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.operation {
            Operation::Read | Operation::ReadLost => "reading",
            Operation::Write => "writing",
            Operation::Sync => "syncing",
            Operation::Append => "writing and syncing a commit",
        };
        write!(f, "{what} failed: {}", self.error)
    }
}

impl Faults {
    /// The last fault, forgotten with this.
    pub(super) fn take(&self) -> Option<Fault> {
        lock(&self.0).take()
    }

    pub(super) fn note<T>(&self, operation: Operation, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            let error = io::Error::new(error.kind(), error.to_string());
            *lock(&self.0) = Some(Fault { operation, error });
        })
    }
}

/// A panic elsewhere leaves these values whole: each is replaced in one piece.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backend {
    /// Looks at what is there, and makes an empty disk a store with a journal of so many blocks. Another kind
    /// of file, or one of another version, is left as it is.
    pub(super) fn open(disk: Arc<dyn Disk>, journal_blocks: u64) -> Result<Self, OpenError> {
        let slots = match read_slots(disk.as_ref())? {
            Some(mut slots) => {
                // What is read here may never have been synced. It must be, before the older slot is written
                // over.
                disk.sync()?;
                if slots.is_in_doubt {
                    slots.renew(disk.as_ref())?;
                }
                slots
            }
            None => format(disk.as_ref(), journal_blocks)?,
        };
        let pages_at = slots.journal().end;
        if slots.is_unfinished() {
            disk.set_len(pages_at)?;
        } else if disk.size()? <= pages_at {
            return Err(OpenError::Damaged("it was cut off".into()));
        }
        Ok(Self {
            disk,
            pages_at,
            slots: Mutex::new(slots),
            faults: Faults::default(),
            lost: Mutex::default(),
        })
    }

    /// Where the journal lies, in bytes.
    pub(super) fn journal(&self) -> Range<u64> {
        lock(&self.slots).journal()
    }

    /// Where redb's byte lies, from its first page on.
    fn place(&self, offset: u64) -> u64 {
        offset - BLOCK + self.pages_at
    }

    pub(super) fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Leaves redb, for whoever asks it.
    fn leave(&self, bytes: Range<u64>, error: &io::Error) -> ! {
        let lost =
            format!("bytes {} to {} of the store's file cannot be read ({error})", bytes.start, bytes.end);
        if lock(&self.lost).insert(bytes.start) {
            tracing::error!(
                "{lost}: whoever asks for what is there is told that it is damaged; check the disk"
            );
        }
        resume_unwind(Box::new(Lost(lost)))
    }
}

thread_local! {
    static IS_ASKING: Cell<bool> = const { Cell::new(false) };
}

/// What the disk has lost, to be caught by whoever asks for it.
struct Lost(String);

/// Asks redb something, of which what the disk has lost is one outcome. redb is as good as before: what only
/// reads has changed nothing when it is unwound, and no lock is held while the disk reads.
pub(super) fn asking<T, E>(
    work: impl FnOnce() -> Result<T, E>,
    lost: impl FnOnce(String) -> E,
) -> Result<T, E> {
    IS_ASKING.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    IS_ASKING.set(false);
    result.unwrap_or_else(|panic| match panic.downcast::<Lost>() {
        Ok(text) => Err(lost(text.0)),
        Err(panic) => resume_unwind(panic),
    })
}

impl Slots {
    /// redb writes its magic last when it creates a database: without it there is none yet.
    pub(super) fn is_unfinished(&self) -> bool {
        self.header[..9] == [0; 9]
    }

    fn journal(&self) -> Range<u64> {
        SLOTS_END..SLOTS_END + self.journal_blocks * BLOCK
    }

    /// Writes the other slot, which cannot be read and may have been newer: as if the process had been killed
    /// while it was written, in a commit in one phase. Either this slot's last commit is the last, or the one
    /// that it was about to make the last: redb takes the newer that is whole, by its checksums. All of the
    /// block is written: a part could not be.
    fn renew(&mut self, disk: &dyn Disk) -> io::Result<()> {
        if !self.is_unfinished() {
            self.header[FLAGS_AT] = self.header[FLAGS_AT] & !TWO_PHASES | NOT_CLOSED;
        }
        self.number += 1;
        let mut block = [0; BLOCK as usize];
        block[..SLOT_BYTES].copy_from_slice(&self.encode());
        disk.write_synced((1 - self.durable) * BLOCK, &block)?;
        (self.durable, self.is_in_doubt) = (1 - self.durable, false);
        Ok(())
    }

    fn encode(&self) -> [u8; SLOT_BYTES] {
        assert!(self.number < 1 << NUMBER_BITS, "a header is written less than a trillion times");
        let number = self.number | self.journal_blocks << NUMBER_BITS;
        let mut slot = [0; SLOT_BYTES];
        slot[..VERSION_AT].copy_from_slice(MAGIC);
        slot[VERSION_AT..NUMBER_AT].copy_from_slice(&VERSION.to_le_bytes());
        slot[NUMBER_AT..HEADER_AT].copy_from_slice(&number.to_le_bytes());
        slot[HEADER_AT..CHECKSUM_AT].copy_from_slice(&self.header);
        let checksum = crc32fast::hash(&slot[..CHECKSUM_AT]);
        slot[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        slot.copy_within(..COPY_BYTES, COPY_BYTES);
        slot
    }
}

/// Where redb's header has its flags, and two of them: a commit is the last only because the header that
/// says so was written after it was durable; and redb was not closed.
const FLAGS_AT: usize = 9;
const TWO_PHASES: u8 = 4;
const NOT_CLOSED: u8 = 2;

/// What a copy's bytes say.
enum Copy {
    Valid { number: u64, journal_blocks: u64, header: Box<[u8; HEADER_BYTES]> },
    OfVersion(u32),
    Broken,
    Foreign,
}

fn decode(copy: &[u8]) -> Copy {
    if &copy[..VERSION_AT] != MAGIC {
        return Copy::Foreign;
    }
    let checksum = u32::from_le_bytes(array(&copy[CHECKSUM_AT..CHECKSUM_AT + 4]));
    if checksum != crc32fast::hash(&copy[..CHECKSUM_AT]) {
        return Copy::Broken;
    }
    let version = u32::from_le_bytes(array(&copy[VERSION_AT..NUMBER_AT]));
    if !(OLDEST..=VERSION).contains(&version) {
        return Copy::OfVersion(version);
    }
    let number = u64::from_le_bytes(array(&copy[NUMBER_AT..HEADER_AT]));
    let (number, journal_blocks) = (number & ((1 << NUMBER_BITS) - 1), number >> NUMBER_BITS);
    Copy::Valid { number, journal_blocks, header: Box::new(array(&copy[HEADER_AT..CHECKSUM_AT])) }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the slice has the array's length")
}

/// The newest valid header; none if the disk is empty or was never finished being made a store.
pub(super) fn read_slots(disk: &dyn Disk) -> Result<Option<Slots>, OpenError> {
    let size = disk.size()?;
    if size == 0 {
        return Ok(None);
    }
    if size < SLOTS_END {
        return Err(OpenError::NotAStore);
    }
    let mut newest: Option<Slots> = None;
    let (mut other, mut broken, mut unread) = (None, false, Vec::new());
    for index in 0..2 {
        let (mut is_there, mut failed) = (false, None);
        for copy in 0..2 {
            let mut bytes = [0; COPY_BYTES];
            if let Err(error) = disk.read(index * BLOCK + copy * COPY_BYTES as u64, &mut bytes) {
                failed = Some(error);
                continue;
            }
            match decode(&bytes) {
                Copy::Valid { number, journal_blocks, header } => {
                    is_there = true;
                    if newest.as_ref().is_none_or(|slots| slots.number < number) {
                        let header = *header;
                        let (durable, dirty, is_in_doubt) = (index, false, false);
                        let slots = Slots { header, number, journal_blocks, durable, dirty, is_in_doubt };
                        newest = Some(slots);
                    }
                }
                Copy::OfVersion(version) => other = other.max(Some(version)),
                Copy::Broken => broken = true,
                Copy::Foreign => {}
            }
        }
        unread.extend(failed.filter(|_| !is_there).map(|error| (index * BLOCK, error)));
    }
    if newest.is_none()
        && other.is_none()
        && let (Some((first, error)), Some((last, _))) = (unread.first(), unread.last())
    {
        let (bytes, why, lost) = (*first..last + BLOCK, error.to_string(), "its header".into());
        return Err(OpenError::Unreadable { bytes, why, lost });
    }
    match (newest, other) {
        (Some(slots), None) => Ok(Some(Slots { is_in_doubt: !unread.is_empty(), ..slots })),
        (_, Some(found)) if found > VERSION => Err(OpenError::Newer { found, known: VERSION }),
        (_, Some(found)) => Err(OpenError::Older { found, oldest: OLDEST }),
        (None, None) if size == SLOTS_END && nothing_but_slots(disk)? => Ok(None),
        (None, None) if broken => Err(OpenError::Damaged("all copies of its header".into())),
        (None, None) => Err(OpenError::NotAStore),
    }
}

/// Whether a store was being made here when the power went: only the slots' own sectors may hold anything.
fn nothing_but_slots(disk: &dyn Disk) -> io::Result<bool> {
    let mut rest = [0; BLOCK as usize - SLOT_BYTES];
    for index in 0..2 {
        disk.read(index * BLOCK + SLOT_BYTES as u64, &mut rest)?;
        if rest.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes an empty disk a store without a database. Both slots are written, so that the disk has given their
/// room for good: a full disk must never be in the way of a header.
fn format(disk: &dyn Disk, journal_blocks: u64) -> io::Result<Slots> {
    let slots = Slots {
        header: [0; HEADER_BYTES],
        number: 1,
        journal_blocks,
        durable: 0,
        dirty: false,
        is_in_doubt: false,
    };
    disk.set_len(SLOTS_END)?;
    disk.write(0, &slots.encode())?;
    disk.write(BLOCK, &slots.encode())?;
    disk.sync()?;
    Ok(slots)
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        let size = self.faults.note(Operation::Read, self.disk.size())?;
        Ok(if size <= self.pages_at { 0 } else { size - self.pages_at + BLOCK })
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset >= BLOCK {
            let (from, to) = (self.place(offset), self.place(offset) + out.len() as u64);
            let Err(error) = self.disk.read(from, out) else { return Ok(()) };
            let is_lost = is_lost(&error);
            if is_lost && IS_ASKING.get() {
                self.leave(from..to, &error);
            }
            let operation = if is_lost { Operation::ReadLost } else { Operation::Read };
            let error = io::Error::new(error.kind(), format!("bytes {from} to {to}: {error}"));
            return self.faults.note(operation, Err(error));
        }
        let slots = lock(&self.slots);
        let part = header_part(offset, out.len()).and_then(|part| slots.header.get(part));
        out.copy_from_slice(part.ok_or_else(beyond_header)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = if len == 0 { self.pages_at } else { self.place(len) };
        self.faults.note(Operation::Write, self.disk.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut slots = lock(&self.slots);
        self.faults.note(Operation::Sync, self.disk.sync())?;
        if slots.dirty {
            slots.durable = 1 - slots.durable;
            slots.dirty = false;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset >= BLOCK {
            return self.faults.note(Operation::Write, self.disk.write(self.place(offset), data));
        }
        let mut slots = lock(&self.slots);
        let part = header_part(offset, data.len()).and_then(|part| slots.header.get_mut(part));
        part.ok_or_else(beyond_header)?.copy_from_slice(data);
        slots.number += 1;
        slots.dirty = true;
        let at = (1 - slots.durable) * BLOCK;
        self.faults.note(Operation::Write, self.disk.write(at, &slots.encode()))
    }
}

fn header_part(offset: u64, len: usize) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    Some(start..start.checked_add(len)?)
}

/// redb 4 touches nothing of its first page but the header; another redb that does is not silently misread.
fn beyond_header() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "access between the database's header and its first page")
}
