//! Sockets to which all was said.
//!
//! Closed at once, with input unread, they would be reset, and the peer's system might drop the last words. So they
//! are kept a little, and what still comes in is dropped.

use mio::net::TcpStream;
use runcast_core::ids::ConnId;
use runcast_core::time::{Mono, Span};
use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read};
use std::net::Shutdown;

/// Time for a peer to read the last words, and how many peers may take it.
const LINGER: Span = Span::secs(1);
const LINGERERS: usize = 1024;

/// Sockets that wait for their peers to be done.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    sockets: BTreeMap<ConnId, TcpStream>,
    until: VecDeque<(Mono, ConnId)>,
}

impl Lingering {
    /// Takes a socket in, unless its peer is done already.
    pub(super) fn add(&mut self, now: Mono, conn: ConnId, socket: TcpStream) {
        if socket.shutdown(Shutdown::Write).is_err() || is_at_end(&socket) {
            return;
        }
        self.sockets.insert(conn, socket);
        self.until.push_back((now + LINGER, conn));
    }

    /// Drops those whose time is over; whether any were.
    pub(super) fn expire(&mut self, now: Mono) -> bool {
        let before = self.until.len();
        while self.until.front().is_some_and(|(at, _)| *at <= now) || self.until.len() > LINGERERS {
            if let Some((_, conn)) = self.until.pop_front() {
                self.sockets.remove(&conn);
            }
        }
        self.until.len() < before
    }

    /// When the next of them is dropped.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.until.front().map(|(at, _)| *at)
    }

    /// Whether this was an edge of one of these.
    pub(super) fn edge(&mut self, conn: ConnId) -> bool {
        let Some(socket) = self.sockets.get(&conn) else { return false };
        if is_at_end(socket) {
            self.sockets.remove(&conn);
        }
        true
    }
}

/// Drops what a peer still says, a bounded amount; whether it is done, or says too much.
fn is_at_end(mut socket: &TcpStream) -> bool {
    let mut scratch = [0; 4096];
    for _ in 0..16 {
        match socket.read(&mut scratch) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
    true
}
