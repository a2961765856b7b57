//! The journal: what is durable and not in redb's tables yet, one entry for each group commit.
//!
//! It is a ring of blocks of its own, before redb's pages. A commit is one synced write in place; folding
//! frees the oldest entries. An entry is its records' bytes cut into blocks, and before them one
//! block more, their parity:
//!
//! ```text
//! block   0..28     CRC-32 of the rest 4, entry's number 8, block's index in it 4,
//!                   blocks of it 4, bytes of the body 4, CRC-32 of the body 4; little endian
//!         28..4096  a piece of the body, zeros after its end; in the first block: all others' pieces, XOR
//! ```
//!
//! An entry is written only when the one before it is durable. So only the newest can have been torn by a
//! loss of power, and nobody was told of it: it is as if it had not been written. Anything else that cannot
//! be read is damage, which is seen by what was written later. One bad block of an entry, the newest too, is
//! made anew from the others. Blocks of an entry that was begun twice, or of a former lap, are told apart by
//! the number and by the checksum of the body.
//!
//! A block that the disk cannot read is a bad one. More of them than can be made anew may hide an entry that
//! was durable: the journal ends there only if what can be read shows that none was.

use super::backend::{Fault, Operation};
use crate::disk::Disk;
use runcast_core::planted::{Bug, Planted};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// In bytes: what a disk writes in one piece at best, and what may rot in one.
pub(super) const BLOCK: usize = 4096;
const HEAD: usize = 28;
const PIECE: usize = BLOCK - HEAD;
/// Blocks that are read at once to look for what was written later.
const LOOKED_AT: u64 = 64;

/// Where an entry begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The entry's number; each has the next.
    pub(super) number: u64,
    /// Its first block's place in the ring.
    pub(super) block: u64,
}

impl Place {
    /// Where the first entry of a store begins.
    pub(super) const FIRST: Self = Self { number: 1, block: 0 };
}

/// The ring.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    /// Where it lies on the disk, in bytes.
    offset: u64,
    /// How many blocks it has.
    blocks: u64,
    next: Place,
    /// Blocks of entries that are not folded.
    used: u64,
    /// Blocks that a start could not read, and why.
    unreadable: BTreeMap<u64, io::Error>,
}

/// Why the journal cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// An entry of this number was durable once.
    Damaged(u64),
    /// An entry of this number was durable once, or may have been, and these bytes of the disk, in which it
    /// is or may be, cannot be read.
    Lost {
        number: u64,
        is_certain: bool,
        bytes: Range<u64>,
        error: io::Error,
    },
    Io(io::Error),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What each block of an entry says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    number: u64,
    blocks: u32,
    bytes: u32,
    body: u32,
}

impl Journal {
    /// The ring that lies there on the disk, of which everything before `first` was folded.
    pub(super) fn new(disk: Arc<dyn Disk>, lies: Range<u64>, first: Place) -> Self {
        let blocks = (lies.end - lies.start) / BLOCK as u64;
        Self { disk, offset: lies.start, blocks, next: first, used: 0, unreadable: BTreeMap::new() }
    }

    /// Where the next entry will begin.
    pub(super) fn next(&self) -> Place {
        self.next
    }

    /// Blocks of entries that are not folded.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Whether half of it is used: folding that is worth its while.
    pub(super) fn is_due(&self) -> bool {
        self.used > 0 && self.used >= self.blocks / 2
    }

    /// So many blocks are used when it has grown by an eighth, a good reason to try again what has failed.
    pub(super) fn grown(&self) -> u64 {
        self.used + (self.blocks / 8).max(1)
    }

    /// Whether an entry with a body of so many bytes finds room.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.used + blocks_of(bytes) <= self.blocks
    }

    /// Makes an entry durable; how many blocks it takes.
    ///
    /// # Errors
    /// If the disk is full nothing is stored, and the same place may be written again; after any other error
    /// nothing is known.
    ///
    /// # Panics
    /// If there is no room.
    pub(super) fn append(&mut self, body: &[u8], planted: Planted) -> Result<u64, Fault> {
        assert!(self.has_room(body.len()), "an entry is written where there is room");
        let entry = encode(self.next.number, body);
        let blocks = (entry.len() / BLOCK) as u64;
        let before_end = (self.blocks - self.next.block).min(blocks);
        let (here, from_start) = entry.split_at(before_end as usize * BLOCK);
        let is_synced = !planted.is(Bug::CommitNotSynced);
        let write = if is_synced { Self::write_synced } else { Self::write };
        write(self, self.next.block, here)
            .and_then(|()| if from_start.is_empty() { Ok(()) } else { write(self, 0, from_start) })
            .map_err(|error| Fault { operation: Operation::Append, error })?;
        self.pass(blocks);
        Ok(blocks)
    }

    /// So many of the oldest blocks were folded, durably.
    pub(super) fn free(&mut self, blocks: u64) {
        self.used = self.used.checked_sub(blocks).expect("what is folded was in the journal");
    }

    /// Reads the body of the next entry, after a start; none at the end. A block that had to be made anew is
    /// written.
    pub(super) fn read(&mut self) -> Result<Option<Vec<u8>>, Unreadable> {
        if self.blocks == 0 {
            return Ok(None);
        }
        let head = self.head(0).or_else(|| self.head(1));
        let Some(entry) = head.and_then(|head| self.entry(head)) else {
            return self.end(head).map(|()| None);
        };
        if let Some(index) = entry.mended {
            let block = self.place(index as u64);
            self.write_synced(block, &entry.blocks[index * BLOCK..][..BLOCK])?;
            self.unreadable.remove(&block);
        }
        self.pass(u64::from(entry.head.blocks));
        Ok(Some(entry.body()))
    }

    /// The next entry, which says this of itself, if all or all but one of its blocks are there and make up
    /// its body.
    fn entry(&mut self, head: Head) -> Option<Entry> {
        let fits = self.used + u64::from(head.blocks) <= self.blocks;
        if !fits || u64::from(head.blocks) != blocks_of(head.bytes as usize) {
            return None;
        }
        let mut blocks = vec![0; head.blocks as usize * BLOCK];
        for (index, out) in (0..).zip(blocks.chunks_exact_mut(BLOCK)) {
            self.fetch(self.place(index), out);
        }
        let mut entry = Entry { head, blocks, mended: None };
        entry.mend();
        let is_whole = crc32fast::hash(&entry.body()) == head.body;
        is_whole.then_some(entry)
    }

    /// What the block with this index in the next entry says, if it is one of that entry's. Either of the
    /// first two tells how many there are.
    fn head(&mut self, index: u32) -> Option<Head> {
        let mut block = [0; BLOCK];
        self.fetch(self.place(u64::from(index)), &mut block);
        let head = decode(&block).filter(|(head, at)| head.number == self.next.number && *at == index);
        head.map(|(head, _)| head)
    }

    /// Where in the ring the block with this index in the next entry is.
    fn place(&self, index: u64) -> u64 {
        (self.next.block + index) % self.blocks
    }

    /// Sees that the journal ends here: that the entry which should be next, of which a block may say this,
    /// was never durable.
    fn end(&mut self, head: Option<Head>) -> Result<(), Unreadable> {
        let number = self.next.number;
        let is_certain = self.was_later_written();
        let free = self.blocks - self.used;
        let own = head.map_or(2, |head| u64::from(head.blocks)).min(free);
        if !is_certain && (0..own).any(|index| self.is_anothers(head, index)) {
            return Ok(());
        }
        let is_lost = |index: u64| self.unreadable.contains_key(&self.place(index));
        let lost = (0..own).find(|index| is_lost(*index));
        if is_certain && lost.is_none() {
            return Err(Unreadable::Damaged(number));
        }
        // What was written after it has two blocks at least, which would say so.
        let hides = |index: &u64| is_lost(*index) && is_lost(index + 1);
        let Some(first) = lost.or_else(|| (1..free).map(|index| index - 1).find(hides)) else {
            return Ok(());
        };
        let first = self.place(first);
        let after = (first..self.blocks).find(|block| !self.unreadable.contains_key(block));
        let bytes = self.byte(first)..self.byte(after.unwrap_or(self.blocks));
        let error = self.unreadable.remove(&first).expect("it is one of them");
        Err(Unreadable::Lost { number, is_certain, bytes, error })
    }

    /// Whether the block with this index in the next entry shows that this entry was not durable: it is whole
    /// and another's, or was never written.
    fn is_anothers(&mut self, head: Option<Head>, index: u64) -> bool {
        let (block, mut bytes) = (self.place(index), [0; BLOCK]);
        self.fetch(block, &mut bytes);
        let is_empty = !self.unreadable.contains_key(&block) && bytes == [0; BLOCK];
        is_empty || decode(&bytes).is_some_and(|(found, at)| head != Some(found) || u64::from(at) != index)
    }

    /// Whether anything was written after the entry that should be next: then that was durable.
    fn was_later_written(&mut self) -> bool {
        let later = self.next.number + 1..=self.next.number.saturating_add(self.blocks);
        let mut piece = vec![0; LOOKED_AT as usize * BLOCK];
        for first in (0..self.blocks).step_by(LOOKED_AT as usize) {
            let blocks = LOOKED_AT.min(self.blocks - first) as usize;
            self.fetch(first, &mut piece[..blocks * BLOCK]);
            let mut heads = piece[..blocks * BLOCK].chunks_exact(BLOCK);
            if heads.any(|block| later.contains(&number(block)) && decode(block).is_some()) {
                return true;
            }
        }
        false
    }

    fn pass(&mut self, blocks: u64) {
        self.used += blocks;
        self.next = Place { number: self.next.number + 1, block: (self.next.block + blocks) % self.blocks };
    }

    /// Reads blocks in a row. One that cannot be read is remembered, and zeros, which no checksum holds for.
    fn fetch(&mut self, first: u64, out: &mut [u8]) {
        if self.disk.read(self.byte(first), out).is_ok() {
            return;
        }
        for (block, out) in (first..).zip(out.chunks_exact_mut(BLOCK)) {
            if let Err(error) = self.disk.read(self.byte(block), out) {
                out.fill(0);
                self.unreadable.insert(block, error);
            }
        }
    }

    /// Where on the disk a block begins.
    fn byte(&self, block: u64) -> u64 {
        self.offset + block * BLOCK as u64
    }

    fn write(&self, block: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write(self.byte(block), bytes)
    }

    fn write_synced(&self, block: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_synced(self.byte(block), bytes)
    }
}

/// An entry that was read.
struct Entry {
    head: Head,
    blocks: Vec<u8>,
    /// The block that was made anew.
    mended: Option<usize>,
}

impl Entry {
    /// Makes one bad block anew. Of several, the body's checksum tells.
    fn mend(&mut self) {
        let head = self.head;
        let mut blocks = (0..).zip(self.blocks.chunks_exact(BLOCK));
        let bad = blocks.find(|(index, block)| decode(block) != Some((head, *index)));
        let Some(bad) = bad.map(|(index, _)| index as usize) else { return };
        let mut parity = [0; PIECE];
        for (index, block) in self.blocks.chunks_exact(BLOCK).enumerate() {
            if index != bad {
                xor(&mut parity, &block[HEAD..]);
            }
        }
        let block = &mut self.blocks[bad * BLOCK..][..BLOCK];
        block[HEAD..].copy_from_slice(&parity);
        head.seal(bad as u32, block);
        self.mended = Some(bad);
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.blocks.len());
        for block in self.blocks.chunks_exact(BLOCK).skip(1) {
            body.extend_from_slice(&block[HEAD..]);
        }
        body.truncate(self.head.bytes as usize);
        body
    }
}

impl Head {
    /// Writes the head of the block with this index, whose piece is there.
    fn seal(&self, index: u32, block: &mut [u8]) {
        block[4..12].copy_from_slice(&self.number.to_le_bytes());
        for (at, number) in [(12, index), (16, self.blocks), (20, self.bytes), (24, self.body)] {
            block[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        let checksum = crc32fast::hash(&block[4..]);
        block[..4].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// So many blocks are needed for a body of so many bytes.
fn blocks_of(bytes: usize) -> u64 {
    1 + bytes.div_ceil(PIECE).max(1) as u64
}

fn encode(number: u64, body: &[u8]) -> Vec<u8> {
    let blocks = blocks_of(body.len());
    let short =
        |number: u64| u32::try_from(number).expect("an entry finds room in a journal of less than 4 GiB");
    let head =
        Head { number, blocks: short(blocks), bytes: short(body.len() as u64), body: crc32fast::hash(body) };
    let mut entry = Vec::with_capacity(blocks as usize * BLOCK);
    entry.resize(BLOCK, 0);
    for piece in body.chunks(PIECE) {
        xor(&mut entry[HEAD..BLOCK], piece);
        entry.extend_from_slice(&[0; HEAD]);
        entry.extend_from_slice(piece);
    }
    entry.resize(blocks as usize * BLOCK, 0);
    for (index, block) in (0..).zip(entry.chunks_exact_mut(BLOCK)) {
        head.seal(index, block);
    }
    entry
}

fn xor(into: &mut [u8], piece: &[u8]) {
    for (into, byte) in into.iter_mut().zip(piece) {
        *into ^= byte;
    }
}

/// What a block says, and which of its entry it is; none if it is no whole block of any.
fn decode(block: &[u8]) -> Option<(Head, u32)> {
    let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let is_whole = word(0) == crc32fast::hash(&block[4..]);
    is_whole.then(|| {
        (Head { number: number(block), blocks: word(16), bytes: word(20), body: word(24) }, word(12))
    })
}

fn number(block: &[u8]) -> u64 {
    u64::from_le_bytes(block[4..12].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ram::Ram;

    const RING: u64 = 16;

    /// A ring at the beginning of a disk.
    fn journal(disk: &Ram, first: Place) -> Journal {
        disk.set_len(RING * BLOCK as u64).unwrap();
        Journal::new(Arc::new(disk.clone()), 0..RING * BLOCK as u64, first)
    }

    /// What a start finds.
    fn found(disk: &Ram, first: Place) -> Result<Vec<Vec<u8>>, Unreadable> {
        let mut journal = journal(disk, first);
        let mut found = Vec::new();
        while let Some(body) = journal.read()? {
            found.push(body);
        }
        Ok(found)
    }

    fn body(number: u64, bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at as u64 * 31 + number) as u8).collect()
    }

    fn spoil(disk: &Ram, block: u64) {
        disk.write(block * BLOCK as u64 + 100, b"spoilt").unwrap();
    }

    /// Three entries, of 3, 4 and 2 blocks.
    fn three() -> (Ram, Vec<Vec<u8>>) {
        let disk = Ram::default();
        let mut journal = journal(&disk, Place::FIRST);
        let bodies = vec![body(1, PIECE + 1), body(2, 3 * PIECE), body(3, 0)];
        let blocks: Vec<u64> =
            bodies.iter().map(|body| journal.append(body, Planted::default()).unwrap()).collect();
        assert_eq!(blocks, [3, 4, 2]);
        (disk, bodies)
    }

    #[test]
    fn one_bad_block_of_any_entry_is_made_anew_for_good() {
        let (disk, bodies) = three();
        for block in 0..9 {
            let spoilt = disk.after_power_loss();
            spoil(&spoilt, block);
            assert_eq!(found(&spoilt, Place::FIRST).unwrap(), bodies, "block {block}");
            let entry = if block < 3 {
                0..3
            } else if block < 7 {
                3..7
            } else {
                7..9
            };
            let other = entry.clone().find(|other| *other != block).unwrap();
            spoil(&spoilt, other);
            assert_eq!(found(&spoilt, Place::FIRST).unwrap(), bodies, "block {block}, then {other}");
        }
    }

    #[test]
    fn two_bad_blocks_are_damage_or_the_newest_entry_that_nobody_was_told_of() {
        let (disk, bodies) = three();
        for (first, second, entry) in [(0, 1, 0), (1, 2, 0), (3, 6, 1), (7, 8, 2)] {
            let spoilt = disk.after_power_loss();
            spoil(&spoilt, first);
            spoil(&spoilt, second);
            match found(&spoilt, Place::FIRST) {
                Ok(found) => assert_eq!((entry, &found[..]), (2, &bodies[..2])),
                Err(Unreadable::Damaged(number)) => assert_eq!(number, entry + 1),
                Err(unread @ (Unreadable::Lost { .. } | Unreadable::Io(_))) => panic!("{unread:?}"),
            }
        }
    }

    #[test]
    fn it_goes_round_and_a_former_lap_is_not_read() {
        let disk = Ram::default();
        let mut journal = journal(&disk, Place::FIRST);
        let mut kept: Vec<(Place, Vec<u8>)> = Vec::new();
        for number in 1..100 {
            let body = body(number, number as usize * 997 % (4 * PIECE));
            while !journal.has_room(body.len()) {
                journal.free(blocks_of(kept.remove(0).1.len()));
            }
            let place = journal.next();
            journal.append(&body, Planted::default()).unwrap();
            kept.push((place, body));
            let bodies: Vec<Vec<u8>> = kept.iter().map(|entry| entry.1.clone()).collect();
            assert_eq!(found(&disk.after_power_loss(), kept[0].0).unwrap(), bodies);
        }
    }

    #[test]
    fn what_was_begun_twice_is_one_of_both_or_nothing() {
        let (first, second) = (encode(1, &body(1, 3 * PIECE)), encode(1, &body(2, 3 * PIECE)));
        for mask in 0..16u32 {
            let disk = Ram::default();
            disk.set_len(RING * BLOCK as u64).unwrap();
            for block in 0..4 {
                let from = if mask >> block & 1 == 0 { &first } else { &second };
                disk.write((block * BLOCK) as u64, &from[block * BLOCK..][..BLOCK]).unwrap();
            }
            let found = found(&disk, Place::FIRST).unwrap();
            let expected = match mask.count_ones() {
                0 | 1 => Some(body(1, 3 * PIECE)),
                3 | 4 => Some(body(2, 3 * PIECE)),
                _ => None,
            };
            // Where one block is of the other attempt, the two that tell how many there are may be it.
            assert!(found.is_empty() || Some(&found[0]) == expected.as_ref(), "{mask:04b}");
            assert!(!matches!(mask, 0 | 15) || !found.is_empty());
        }
    }

    #[test]
    fn without_blocks_it_holds_nothing() {
        let mut journal = Journal::new(Arc::new(Ram::default()), 0..0, Place::FIRST);
        assert!(matches!(journal.read(), Ok(None)));
        assert!(!journal.has_room(0) && !journal.is_due());
    }
}
