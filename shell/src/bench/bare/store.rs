//! What is kept: each user's events in memory, as they leave, one frame behind the other; and all of them in
//! a file, where [`FileDisk`] syncs them as it syncs a commit of the daemon's. Nobody reads that.

use crate::conn::put_text;
use crate::disk::{Disk, FileDisk};
use std::io;
use std::path::Path;

const RING_BYTES: usize = 32 << 20;
/// The file is made of zeros in pieces of so many bytes.
const ZEROS: usize = 64 << 10;

/// Whom events are for.
#[derive(Default)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) stream: Stream,
    /// Its devices, and how far each has acknowledged.
    pub(super) devices: Vec<(String, u64)>,
    /// Its devices' connections that have said `hello`.
    pub(super) conns: Vec<usize>,
}

/// Every frame so far, and where each ends.
#[derive(Default)]
pub(super) struct Stream {
    frames: Vec<u8>,
    ends: Vec<usize>,
}

impl Stream {
    /// The number of its newest event.
    pub(super) const fn head(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Adds an event, and tells its frame.
    pub(super) fn push(&mut self, text: &str) -> &[u8] {
        let begin = self.frames.len();
        put_text(&mut self.frames, text.as_bytes());
        self.ends.push(self.frames.len());
        &self.frames[begin..]
    }

    /// Where the event with this number ends; that with number 0, where the first begins.
    pub(super) fn end_of(&self, seq: u64) -> usize {
        let index = usize::try_from(seq).ok().and_then(|seq| seq.checked_sub(1));
        index.and_then(|index| self.ends.get(index)).copied().unwrap_or(0)
    }

    /// All that comes after this place.
    pub(super) fn after(&self, upto: usize) -> &[u8] {
        &self.frames[upto..]
    }

    /// What is left of the frame that this place lies in; nothing where one begins.
    pub(super) fn rest_of_frame(&self, upto: usize) -> &[u8] {
        let next = self.ends.partition_point(|end| *end < upto);
        self.ends.get(next).map_or(&[], |end| if upto == 0 { &[] } else { &self.frames[upto..*end] })
    }
}

/// A ring of a file, as long as the daemon's journal and written in place, one synced write for each turn.
pub(super) struct Journal {
    disk: FileDisk,
    at: usize,
    /// What this turn stores.
    unsynced: Vec<u8>,
}

impl Journal {
    /// A new one in this directory. Its blocks are the file's from the beginning, so that the first lap costs
    /// what every other does.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let disk = FileDisk::open(&directory.join("journal")).map_err(io::Error::other)?;
        disk.set_len(RING_BYTES as u64)?;
        for at in (0..RING_BYTES).step_by(ZEROS) {
            disk.write(at as u64, &[0; ZEROS])?;
        }
        disk.sync()?;
        Ok(Self { disk, at: 0, unsynced: Vec::new() })
    }

    /// Adds a user's event to what this turn stores.
    pub(super) fn append(&mut self, user: usize, frame: &[u8]) {
        self.unsynced.extend_from_slice(&(user as u32).to_le_bytes());
        self.unsynced.extend_from_slice(frame);
    }

    /// Stores what was added. It is on stable storage when this returns.
    pub(super) fn store(&mut self) -> io::Result<()> {
        for bytes in self.unsynced.chunks(RING_BYTES) {
            if self.at + bytes.len() > RING_BYTES {
                self.at = 0;
            }
            self.disk.write_synced(self.at as u64, bytes)?;
            self.at += bytes.len();
        }
        self.unsynced.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_at_the_ends_of_events_or_in_one() {
        let mut stream = Stream::default();
        assert_eq!(stream.push("one"), b"\x81\x03one");
        stream.push("three");
        assert_eq!([0, 1, 2].map(|seq| stream.end_of(seq)), [0, 5, 12]);
        assert_eq!(stream.after(5), b"\x81\x05three");
        assert_eq!([0, 5, 12].map(|upto| stream.rest_of_frame(upto).len()), [0; 3]);
        assert_eq!((stream.rest_of_frame(2), stream.rest_of_frame(11)), (&b"one"[..], &b"e"[..]));
    }
}
