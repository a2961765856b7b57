//! A stream in memory whose ends are moved by the fuzzer: what arrives, and how much is taken.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

/// The daemon's end of a connection.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// What has arrived and was not read.
    pub(crate) arrived: VecDeque<u8>,
    /// Nothing more will arrive.
    pub(crate) ended: bool,
    /// How many bytes are taken before it blocks.
    pub(crate) room: usize,
    /// What was written and not looked at.
    pub(crate) written: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.arrived.is_empty() && !self.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.arrived.read(into)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room);
        if taken == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= taken;
        self.written.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
