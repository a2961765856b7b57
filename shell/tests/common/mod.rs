//! What these tests stand on: a pipe in memory that blocks and takes bytes as the test wants, and a store
//! that forgets.

#![allow(dead_code, reason = "each test binary uses its part")]

use runcast::pump::{Pump, Verify};
use runcast::storage::{Completion, Storage};
use runcast_core::Core;
use runcast_core::config::Config;
use runcast_core::effect::Effects;
use runcast_core::ids::{AppendId, BackupName, LoadId};
use runcast_core::input::{Claims, NoBackup};
use runcast_core::record::{Found, Image, Query, Record};
use runcast_core::time::{Mono, Now, WallMs};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

#[derive(Debug, Default)]
struct Way {
    bytes: VecDeque<u8>,
    ended: bool,
    /// How many bytes one call moves.
    chunk: Option<usize>,
    /// How many more bytes are taken before it blocks.
    room: Option<usize>,
    /// How often something was written.
    writes: usize,
    /// How often it was read, in vain or not.
    reads: usize,
}

/// One end of a pipe.
#[derive(Clone, Debug)]
pub(crate) struct Pipe {
    from: Rc<RefCell<Way>>,
    to: Rc<RefCell<Way>>,
}

impl Pipe {
    /// Two ends.
    pub(crate) fn pair() -> (Self, Self) {
        let (a, b) = (Rc::<RefCell<Way>>::default(), Rc::<RefCell<Way>>::default());
        (Self { from: Rc::clone(&a), to: Rc::clone(&b) }, Self { from: b, to: a })
    }

    /// One call of the other end's read or of this end's write moves at most so many bytes.
    pub(crate) fn chunk(&self, bytes: usize) {
        self.to.borrow_mut().chunk = Some(bytes);
    }

    /// This end takes so many bytes more, then blocks.
    pub(crate) fn room(&self, bytes: usize) {
        self.to.borrow_mut().room = Some(bytes);
    }

    /// The other end reads an end of stream after all that was written.
    pub(crate) fn end(&self) {
        self.to.borrow_mut().ended = true;
    }

    /// How often this end was written to.
    pub(crate) fn writes(&self) -> usize {
        self.to.borrow().writes
    }

    /// How often this end was read.
    pub(crate) fn reads(&self) -> usize {
        self.from.borrow().reads
    }

    /// All that waits for this end.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.from.borrow_mut().bytes.drain(..).collect()
    }

    /// Whether the other end has read all.
    pub(crate) fn is_drained(&self) -> bool {
        self.to.borrow().bytes.is_empty()
    }

    /// Writes all.
    pub(crate) fn put(&self, bytes: &[u8]) {
        self.to.borrow_mut().bytes.extend(bytes);
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut way = self.from.borrow_mut();
        way.reads += 1;
        if way.bytes.is_empty() {
            return if way.ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let most = into.len().min(way.chunk.unwrap_or(usize::MAX));
        way.bytes.read(&mut into[..most])
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut way = self.to.borrow_mut();
        let most = bytes.len().min(way.chunk.unwrap_or(usize::MAX)).min(way.room.unwrap_or(usize::MAX));
        if most == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        way.room = way.room.map(|room| room - most);
        way.writes += 1;
        way.bytes.extend(&bytes[..most]);
        Ok(most)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A frame as a client sends it, masked.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    raw_frame(0x80 | opcode, Some([7, 11, 13, 17]), payload)
}

/// A frame with this first byte and mask.
pub(crate) fn raw_frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(masked | length as u8),
        length @ 126..65536 => {
            bytes.push(masked | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
    let key = mask.unwrap_or_default();
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// A request for a WebSocket, with more header lines.
pub(crate) fn upgrade_request(more: &str) -> String {
    format!(
        "GET /ws?x=1 HTTP/1.1\r\nHost: localhost:8787\r\nUpgrade: websocket\r\n\
         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// A store that keeps nothing and completes each append when it is submitted.
#[derive(Debug, Default)]
pub(crate) struct Forgetful {
    given: Option<AppendId>,
    done: VecDeque<Completion>,
    /// How often something was submitted.
    pub(crate) submissions: usize,
    /// How often a page of events was asked for.
    pub(crate) pages: usize,
    /// What is submitted is not completed until it goes on.
    pub(crate) is_stuck: bool,
}

impl Forgetful {
    /// It is stuck no longer.
    pub(crate) fn go_on(&mut self) {
        self.is_stuck = false;
        self.done.extend(self.given.take().map(Completion::Appended));
    }

    /// The next thing that it has done.
    pub(crate) fn complete(&mut self, completion: Completion) {
        self.done.push_back(completion);
    }
}

impl Storage for Forgetful {
    fn append(&mut self, id: AppendId, _records: Arc<[Record]>) {
        self.given = Some(id);
    }

    fn load(&mut self, load: LoadId, query: Query) {
        let found = match query {
            Query::Rows(_) | Query::Owner(_) | Query::First { .. } => Found::Rows(Vec::new()),
            Query::Events { .. } => {
                self.pages += 1;
                Found::Events(Vec::new())
            }
        };
        self.done.push_back(Completion::Loaded(load, found));
    }

    fn back_up(&mut self, _: &BackupName) {
        self.done.push_back(Completion::BackedUp(Err(NoBackup::Failed("nothing is kept here".to_owned()))));
    }

    fn submit(&mut self) {
        self.submissions += 1;
        if !self.is_stuck {
            self.done.extend(self.given.take().map(Completion::Appended));
        }
    }

    fn completed(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }
}

/// A pump around a new core, whose store forgets and whose tokens are names, and the time of its beginning.
pub(crate) fn begin(config: Config) -> (Pump<Pipe, Forgetful>, Now) {
    let now = Now { mono: Mono(1), wall: WallMs(1_700_000_000_000) };
    let mut effects = Effects::new();
    let core = Core::open(config, [7; 32], Image::default(), now, &mut effects);
    (Pump::new(core, effects, Forgetful::default(), trusting()), now)
}

/// A verifier for which every token is a user's name, with a scope after a `+` if it has one, and its
/// signature good.
pub(crate) fn trusting() -> Verify {
    Box::new(|token| {
        let (sub, scope) =
            token.split_once('+').map_or((token, None), |(sub, scope)| (sub, Some(scope.to_owned())));
        Ok(Claims { sub: sub.into(), scope, exp: u64::MAX / 1000, ..Claims::default() })
    })
}
