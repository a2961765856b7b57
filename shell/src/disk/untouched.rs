//! A disk that is read and never written: what is written is kept in memory, for looking at a store.

use super::Disk;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is kept is kept in pages of so many bytes,
const PAGE: u64 = 4096;
/// and at most so many: recovery writes little.
const PAGES_MOST: usize = 64 * 1024;

/// A disk whose bytes stay as they are.
#[derive(Debug)]
pub struct Untouched<D> {
    beneath: D,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    pages: BTreeMap<u64, Vec<u8>>,
    /// Its length, if that was changed.
    len: Option<u64>,
    /// Bytes from here on were cut off once: beneath them lies nothing any more.
    cut: Option<u64>,
}

impl<D: Disk> Untouched<D> {
    /// Stands before a disk.
    pub fn new(beneath: D) -> Self {
        Self { beneath, written: Mutex::default() }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self, written: &Written) -> io::Result<u64> {
        written.len.map_or_else(|| self.beneath.size(), Ok)
    }

    /// A page as it is by now, with zeros past the end.
    fn page(&self, written: &Written, number: u64) -> io::Result<Vec<u8>> {
        if let Some(page) = written.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; PAGE as usize];
        let end = self.beneath.size()?.min(written.cut.unwrap_or(u64::MAX));
        let there = end.saturating_sub(number * PAGE).min(PAGE) as usize;
        if there > 0 {
            self.beneath.read(number * PAGE, &mut page[..there])?;
        }
        Ok(page)
    }
}

/// The pages of a range, each with the part of it that lies there.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let end = offset + len as u64;
    (offset / PAGE..end.div_ceil(PAGE)).map(move |page| {
        let first = offset.max(page * PAGE) - page * PAGE;
        let last = end.min((page + 1) * PAGE) - page * PAGE;
        (page, first as usize..last as usize)
    })
}

impl<D: Disk> Disk for Untouched<D> {
    fn size(&self) -> io::Result<u64> {
        self.len(&self.written())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset + out.len() as u64 > self.len(&written)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        for (number, part) in parts(offset, out.len()) {
            let len = part.len();
            out[done..done + len].copy_from_slice(&self.page(&written, number)?[part]);
            done += len;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        let mut done = 0;
        for (number, part) in parts(offset, data.len()) {
            if written.pages.len() >= PAGES_MOST {
                return Err(io::Error::other("too much would be written to look at it"));
            }
            // One that cannot be read can be written.
            let is_whole = part.len() as u64 == PAGE;
            let mut page = if is_whole { vec![0; PAGE as usize] } else { self.page(&written, number)? };
            let len = part.len();
            page[part].copy_from_slice(&data[done..done + len]);
            written.pages.insert(number, page);
            done += len;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        let cut = written.cut.unwrap_or(u64::MAX).min(len);
        (written.len, written.cut) = (Some(len), Some(cut));
        written.pages.split_off(&len.div_ceil(PAGE));
        if let Some(page) = written.pages.get_mut(&(len / PAGE)) {
            page[(len % PAGE) as usize..].fill(0);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ram::Ram;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let bytes = proptest::collection::vec(any::<u8>(), 1..9_000);
        prop_oneof![
            (0u64..20_000, bytes).prop_map(|(at, bytes)| Step::Write(at, bytes)),
            (0u64..30_000).prop_map(Step::SetLen),
        ]
    }

    proptest! {
        #[test]
        fn it_reads_like_a_disk_that_was_written_and_is_none(
            before in proptest::collection::vec(any::<u8>(), 0..20_000),
            steps in proptest::collection::vec(step(), 0..20),
        ) {
            let disk = Ram::default();
            disk.set_len(before.len() as u64).unwrap();
            disk.write(0, &before).unwrap();
            let (look, mut model) = (Untouched::new(disk.clone()), before.clone());
            for step in steps {
                match step {
                    Step::Write(at, bytes) => {
                        let end = at as usize + bytes.len();
                        if end <= model.len() {
                            look.write(at, &bytes).unwrap();
                            model[at as usize..end].copy_from_slice(&bytes);
                        }
                    }
                    Step::SetLen(len) => {
                        look.set_len(len).unwrap();
                        model.resize(len as usize, 0);
                    }
                }
                let mut out = vec![1; model.len()];
                look.read(0, &mut out).unwrap();
                prop_assert_eq!(&out, &model);
                prop_assert_eq!(look.size().unwrap(), model.len() as u64);
            }
            let mut out = vec![1; before.len()];
            disk.read(0, &mut out).unwrap();
            prop_assert_eq!(out, before);
        }
    }
}
