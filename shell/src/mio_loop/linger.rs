//! Sockets to which all was said.
//!
//! Closed at once, with input unread, they would be reset, and the peer's system might drop the last words.
//! So they are kept a little, and what still comes in is dropped.

use mio::net::TcpStream;
use runcast_core::ids::ConnId;
use runcast_core::time::{Mono, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::net::Shutdown;

/// Time for a peer to read the last words, and how many peers may take it.
const LINGER: Span = Span::secs(1);
pub(crate) const LINGERERS: usize = 1024;

/// Sockets that wait for their peers to be done.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    sockets: BTreeMap<ConnId, (Mono, TcpStream)>,
    until: BTreeSet<(Mono, ConnId)>,
}

impl Lingering {
    /// Takes a socket in, unless its peer is done already.
    pub(super) fn add(&mut self, now: Mono, conn: ConnId, socket: TcpStream) {
        if socket.shutdown(Shutdown::Write).is_err() || is_at_end(&socket) {
            return;
        }
        self.sockets.insert(conn, (now + LINGER, socket));
        self.until.insert((now + LINGER, conn));
        if self.until.len() > LINGERERS {
            self.drop_first();
        }
    }

    /// Drops those whose time is over; whether any were.
    pub(super) fn expire(&mut self, now: Mono) -> bool {
        let before = self.until.len();
        while self.deadline().is_some_and(|at| at <= now) {
            self.drop_first();
        }
        self.until.len() < before
    }

    /// When the next of them is dropped.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.until.first().map(|(at, _)| *at)
    }

    /// Whether this was an edge of one of these.
    pub(super) fn edge(&mut self, conn: ConnId) -> bool {
        let Some((until, socket)) = self.sockets.get(&conn) else { return false };
        if is_at_end(socket) {
            self.until.remove(&(*until, conn));
            self.sockets.remove(&conn);
        }
        true
    }

    fn drop_first(&mut self) {
        if let Some((_, conn)) = self.until.pop_first() {
            self.sockets.remove(&conn);
        }
    }
}

/// Drops what a peer still says, up to 1 MiB; whether it is done, or says more.
fn is_at_end(mut socket: &TcpStream) -> bool {
    let mut scratch = [0; 16 * 1024];
    for _ in 0..64 {
        match socket.read(&mut scratch) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
    true
}
