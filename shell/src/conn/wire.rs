//! A stream as tungstenite sees it: reads are metered, writes never wait.
//!
//! What is written is gathered here and leaves in one write a turn. So a frame is never half queued, the
//! automatic pongs cost no system call of their own, and it is known to the byte which messages have left.

use super::frame::{HEADER_BYTES, put_text};
use bytes::{Buf, BytesMut};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

/// Messages for which there is room while none wait.
const KEPT_MESSAGES: usize = 4;

/// What an edge promises of those that follow: how far a stream is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edge {
    /// Whatever comes after a read that brought less than there was room for has an edge of its own.
    UntilShort,
    /// Only what comes after a read that would have blocked has one.
    UntilBlocked,
}

/// A stream, its edges, and the output that waits for it.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    /// There was an edge, and it was not read as far as that since.
    readable: Option<Edge>,
    writable: bool,
    /// How much may still be read in this turn.
    allowance: usize,
    /// Reading ended at the allowance, not at the stream.
    cut_short: bool,
    /// All that was ever read, in bytes.
    taken: u64,
    out: BytesMut,
    /// All that was ever queued and all that ever left, in bytes.
    queued: u64,
    left: u64,
    /// For each message that waits: where it ends among all that was queued, and its payload.
    waiting: VecDeque<(u64, usize)>,
    broken: bool,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            readable: Some(Edge::UntilBlocked),
            writable: true,
            allowance: 0,
            cut_short: false,
            taken: 0,
            out: BytesMut::new(),
            queued: 0,
            left: 0,
            waiting: VecDeque::new(),
            broken: false,
        }
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    pub(super) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// An edge: what would have blocked may go on.
    pub(super) fn edge(&mut self, edge: Edge) {
        self.readable = self.readable.max(Some(edge));
        self.writable = true;
    }

    /// Begins a turn, in which so many bytes may be read.
    pub(super) fn allow(&mut self, bytes: usize) {
        self.allowance = bytes;
        self.cut_short = false;
    }

    /// Whether the last read ended at the allowance.
    pub(super) fn was_cut_short(&self) -> bool {
        self.cut_short
    }

    /// Whether a read may bring something.
    pub(super) fn is_readable(&self) -> bool {
        self.readable.is_some()
    }

    /// How many bytes were ever read.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Queues a text message, in a frame.
    pub(super) fn put_text(&mut self, text: &[u8]) {
        let before = self.out.len();
        self.out.reserve(HEADER_BYTES + text.len());
        put_text(&mut self.out, text);
        self.queued += (self.out.len() - before) as u64;
    }

    /// Notes that a message of so many payload bytes ends here.
    pub(super) fn mark(&mut self, payload: usize) {
        self.waiting.push_back((self.queued, payload));
    }

    /// Whether output waits.
    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// How many bytes of output wait.
    pub(super) fn output_bytes(&self) -> usize {
        self.out.len()
    }

    /// Whether output waits and may be tried.
    pub(super) fn can_flush(&self) -> bool {
        self.has_output() && self.writable && !self.broken
    }

    /// Whether writing failed for good.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Nothing can be said any more.
    pub(super) fn fail(&mut self) {
        self.broken = true;
    }
}

impl<S: Write> Wire<S> {
    /// Writes what waits, as far as the stream takes it: the payload of the messages that are now wholly
    /// gone.
    pub(super) fn send_off(&mut self) -> usize {
        while self.can_flush() {
            match self.stream.write(&self.out) {
                Ok(0) => self.broken = true,
                Ok(taken) => {
                    self.out.advance(taken);
                    self.left += taken as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.broken = true,
            }
        }
        let mut gone = 0;
        while let Some((_, payload)) = self.waiting.pop_front_if(|(end, _)| *end <= self.left) {
            gone += payload;
        }
        if self.out.is_empty() {
            // Most connections have nothing to say most of the time, and need no room for it.
            self.out = BytesMut::new();
            if self.waiting.capacity() > KEPT_MESSAGES {
                self.waiting = VecDeque::new();
            }
        }
        gone
    }
}

impl<S: Read> Read for Wire<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.is_readable() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let most = into.len().min(self.allowance);
        if most == 0 {
            self.cut_short = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        loop {
            match self.stream.read(&mut into[..most]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() == ErrorKind::WouldBlock {
                        self.readable = None;
                    }
                    return Err(error);
                }
                Ok(bytes) => {
                    if bytes < most {
                        self.readable = self.readable.filter(|edge| *edge != Edge::UntilShort);
                    }
                    self.allowance -= bytes;
                    self.taken += bytes as u64;
                    return Ok(bytes);
                }
            }
        }
    }
}

impl<S> Write for Wire<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        self.queued += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
