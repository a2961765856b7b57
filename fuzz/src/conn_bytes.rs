//! Any bytes in any pieces, heads and frames: a connection never panics, never takes more than it may, writes
//! only what a server may, and hears the same however the bytes were cut.

use crate::choices::Choices;
use crate::pipe::Pipe;
use runcast::conn::{Conn, Edge, Incoming};
use runcast_core::effect::{Content, Response};
use runcast_core::input::{BodyLength, UpgradeRequest};
use runcast_core::wire::error::CloseCode;
use runcast_sim::tap::{Tap, Wrote};

/// The longest message that is taken.
const LIMIT: usize = 1000;
/// What may wait for a peer that takes nothing: answers to its messages of one turn, and pongs.
const OUTPUT: usize = 512 * 1024;
/// Pieces, at most.
const PIECES: usize = 64;
/// Comes before the bytes where the first byte is odd: most of what is to be found lies behind the upgrade.
const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The first byte says whether an upgrade comes before, the second how much the peer takes in each turn; then
/// a count and that many lengths, and the bytes.
pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let is_upgraded = choices.byte() % 2 == 1;
    let room = usize::from(choices.byte());
    let cuts: Vec<usize> = choices.some().iter().take(PIECES).map(|cut| usize::from(*cut) + 1).collect();
    let mut bytes = if is_upgraded { UPGRADE.to_vec() } else { Vec::new() };
    bytes.extend_from_slice(choices.rest());
    let whole = Peer::new(OUTPUT).heard([bytes.as_slice()]);
    let mut rest = bytes.as_slice();
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        rest = after;
        pieces.push(piece);
    }
    pieces.push(rest);
    assert_eq!(whole, Peer::new(OUTPUT).heard(pieces.iter().copied()), "however it is cut, it says the same");
    Peer::new(room).heard(pieces);
}

/// A connection, driven as the loop drives it, and its peer.
struct Peer {
    conn: Conn<Pipe>,
    tap: Tap,
    /// What the peer takes in each turn.
    room: usize,
    heard: Vec<Incoming>,
    /// Payload sent, and payload reported as gone.
    sent: usize,
    gone: usize,
}

impl Peer {
    fn new(room: usize) -> Self {
        let conn = Conn::new(Pipe::default());
        Self { conn, tap: Tap::default(), room, heard: Vec::new(), sent: 0, gone: 0 }
    }

    /// All that is heard when these arrive one after the other, and then nothing more.
    fn heard<'a>(mut self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Incoming> {
        for piece in pieces {
            self.conn.stream_mut().arrived.extend(piece);
            self.turns();
        }
        self.conn.stream_mut().ended = true;
        self.turns();
        self.heard
    }

    fn turns(&mut self) {
        self.conn.edge(Edge::UntilBlocked);
        loop {
            self.conn.begin();
            while let Some(incoming) = self.conn.receive() {
                self.answer(&incoming);
                self.heard.push(incoming);
            }
            self.flush();
            if !self.conn.has_more() || self.conn.is_over() {
                return;
            }
        }
    }

    /// As the core would, with less thought.
    fn answer(&mut self, incoming: &Incoming) {
        assert_ne!(self.heard.last(), Some(&Incoming::Gone), "whoever is gone says nothing");
        match incoming {
            Incoming::Request(request) if request.head().upgrade == UpgradeRequest::Valid => {
                self.conn.upgrade(LIMIT);
            }
            Incoming::Request(request) if let BodyLength::Bytes(bytes) = request.head().body => {
                self.conn.take_body(LIMIT.min(bytes as usize));
            }
            Incoming::Request(_) | Incoming::Body(_) | Incoming::BadHead(_) => {
                let content = Content::Text("no".into());
                self.conn.respond(&Response::new(400, content));
            }
            Incoming::Text(text) => {
                assert!(text.len() <= LIMIT, "a message is limited");
                self.sent += text.len();
                self.conn.send(text.clone().into());
                self.conn.ping();
            }
            Incoming::Ping | Incoming::Pong | Incoming::Gone => {}
            Incoming::Binary => self.conn.close(CloseCode::Violation, "binary"),
            Incoming::TooLarge => self.conn.close(CloseCode::MessageTooLarge, "too large"),
            Incoming::NotUtf8 => self.conn.close(CloseCode::NotUtf8, "not UTF-8"),
            Incoming::Breach(what) => self.conn.close(CloseCode::Breach, what),
        }
    }

    fn flush(&mut self) {
        self.conn.stream_mut().room = self.room;
        self.gone += self.conn.flush();
        assert!(self.gone <= self.sent, "only what was sent is gone");
        let written = std::mem::take(&mut self.conn.stream_mut().written);
        let mut out = Vec::new();
        self.tap.feed(&written, &mut out);
        let broken = out.iter().find(|wrote| matches!(wrote, Wrote::Broken(_)));
        assert_eq!(broken, None, "a server writes whole, unmasked frames");
    }
}
