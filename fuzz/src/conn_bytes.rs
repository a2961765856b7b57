//! Any bytes in any pieces, heads and frames: a connection never panics, never takes more than it may, writes
//! only what a server may, and hears the same however the bytes were cut and whoever is read beside it.

use crate::choices::Choices;
use crate::pipe::Pipe;
use runcast::conn::{Conn, Edge, Incoming, Readers};
use runcast_core::effect::{Content, Response};
use runcast_core::input::{BodyLength, UpgradeRequest};
use runcast_core::wire::error::CloseCode;
use runcast_sim::tap::{Tap, Wrote};

/// The longest message that is taken at first.
const LIMIT: usize = 1000;
/// The longest after the first text, of which more is read at once.
const LIMIT_THEN: usize = 128 * 1024;
/// What may wait for a peer that takes nothing: answers to its messages of one turn, and pongs.
const OUTPUT: usize = 512 * 1024;
/// Pieces, at most.
const PIECES: usize = 64;
/// Comes before the bytes where the first byte is odd: most of what is to be found lies behind the upgrade.
const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The first byte says whether an upgrade comes before, and what an edge promises, the second how much the
/// peer takes in each turn; then a count and that many lengths, and the bytes.
pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let ways = choices.byte();
    let edge = if ways & 2 == 0 { Edge::UntilBlocked } else { Edge::UntilShort };
    let room = usize::from(choices.byte());
    let cuts: Vec<usize> = choices.some().iter().take(PIECES).map(|cut| usize::from(*cut) + 1).collect();
    let mut bytes = if ways & 1 == 1 { UPGRADE.to_vec() } else { Vec::new() };
    bytes.extend_from_slice(choices.rest());
    let [whole] = heard([Peer::new(OUTPUT)], edge, &[&bytes]);
    let mut rest = bytes.as_slice();
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        rest = after;
        pieces.push(piece);
    }
    pieces.push(rest);
    for cut in heard([Peer::new(OUTPUT), Peer::new(OUTPUT)], edge, &pieces) {
        assert_eq!(whole, cut, "however it is cut, and beside whomever, it says the same");
    }
    heard([Peer::new(room)], edge, &pieces);
}

/// All that each of these hears when the pieces arrive one after the other, and then nothing more. They are
/// read in turn, with what the loop lends to one after the other.
fn heard<const N: usize>(mut peers: [Peer; N], edge: Edge, pieces: &[&[u8]]) -> [Vec<Incoming>; N] {
    let mut readers = Readers::default();
    for piece in pieces {
        for peer in &mut peers {
            peer.conn.stream_mut().arrived.extend(*piece);
            peer.turns(edge, &mut readers);
        }
    }
    for peer in &mut peers {
        peer.conn.stream_mut().ended = true;
        peer.turns(Edge::UntilBlocked, &mut readers);
    }
    peers.map(|peer| peer.heard)
}

/// A connection, driven as the loop drives it, and its peer.
struct Peer {
    conn: Conn<Pipe>,
    tap: Tap,
    /// What the peer takes in each turn.
    room: usize,
    /// The longest message that it may say.
    limit: usize,
    heard: Vec<Incoming>,
    /// Payload sent, and payload reported as gone.
    sent: usize,
    gone: usize,
}

impl Peer {
    fn new(room: usize) -> Self {
        let conn = Conn::new(Pipe::default());
        Self { conn, tap: Tap::default(), room, limit: LIMIT, heard: Vec::new(), sent: 0, gone: 0 }
    }

    fn turns(&mut self, edge: Edge, readers: &mut Readers) {
        self.conn.edge(edge);
        loop {
            self.conn.begin();
            while let Some(incoming) = self.conn.receive_with(readers) {
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
            Incoming::Request(request) if request.head().path == "/v1/stream" => self.conn.stream_events(),
            Incoming::Request(_) | Incoming::Body(_) | Incoming::BadHead(_) => {
                let content = Content::Text("no".into());
                self.conn.respond(&Response::new(400, content));
            }
            Incoming::Text(text) => {
                assert!(text.len() <= self.limit, "a message is limited");
                self.limit = LIMIT_THEN;
                self.conn.allow(self.limit);
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
