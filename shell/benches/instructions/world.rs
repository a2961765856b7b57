//! A daemon without a system: the product's pump, core and connections over sockets in memory, a store that
//! is a list, and a clock that a step moves.

use runcast::conn::Edge;
use runcast::pump::Pump;
use runcast::storage::{Completion, Storage};
use runcast_core::Core;
use runcast_core::config::Config;
use runcast_core::ids::{AppendId, BackupName, ConnId, LoadId};
use runcast_core::input::{Claims, NoBackup};
use runcast_core::record::{Found, Image, Query, Record};
use runcast_core::time::{Mono, Now, Span, WallMs};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

/// Unix time in milliseconds when it begins.
const EPOCH_MS: u64 = 1_789_000_000_000;
/// How much later the next turn is, in microseconds.
const TURN: u64 = 100;

/// What lies on one socket.
#[derive(Debug, Default)]
struct Wire {
    arrived: VecDeque<u8>,
    written: Vec<u8>,
    is_gone: bool,
}

/// The daemon's end of it.
#[derive(Clone, Debug, Default)]
struct Socket(Rc<RefCell<Wire>>);

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.arrived.is_empty() && !wire.is_gone {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.arrived.read(into)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A store that was empty at the beginning. What is appended becomes durable when it is told so.
#[derive(Debug, Default)]
struct List {
    newest: Option<AppendId>,
    done: VecDeque<Completion>,
    /// Streams and rows are all in the core's memory by now: it may ask nothing.
    is_begun: bool,
}

impl Storage for List {
    fn append(&mut self, id: AppendId, records: Arc<[Record]>) {
        self.newest = Some(id);
        drop(records);
    }

    fn load(&mut self, load: LoadId, query: Query) {
        assert!(!self.is_begun, "a hot path asks the store: {query:?}");
        let found = match query {
            Query::Rows(_) | Query::Owner(_) | Query::First { .. } => Found::Rows(Vec::new()),
            Query::Events { .. } => Found::Events(Vec::new()),
        };
        self.done.push_back(Completion::Loaded(load, found));
    }

    fn back_up(&mut self, _name: &BackupName) {
        self.done.push_back(Completion::BackedUp(Err(NoBackup::Failed("there is no file".into()))));
    }

    fn submit(&mut self) {}

    fn completed(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }
}

/// The daemon and its peers' ends.
pub(crate) struct World {
    pump: Pump<Socket, List>,
    peers: BTreeMap<ConnId, Socket>,
    now: u64,
}

impl World {
    /// A daemon with limits that stand in nobody's way.
    pub(crate) fn new() -> Self {
        let mut config = Config::default();
        (config.runs.timeout, config.runs.lease) = (Span::secs(3_600), Span::secs(600));
        (config.runs.active, config.server.connections_per_address) = (10_000, 10_000);
        (config.store.events_per_run, config.store.events_per_user) = (1_000_000, 1_000_000);
        (config.limits.messages_per_second, config.limits.burst) = (1_000_000, 1_000_000);
        let (mut opening, now) = (Vec::new(), at(0));
        let core = Core::open(config, [7; 32], Image::default(), now, &mut opening);
        // A token is its user's name; signatures are not counted.
        let verify = |token: &str| {
            let scope = Some("user worker".to_owned());
            Ok(Claims { sub: token.to_owned(), exp: u64::from(u32::MAX), scope, ..Claims::default() })
        };
        let pump = Pump::new(core, opening, List::default(), Box::new(verify));
        Self { pump, peers: BTreeMap::new(), now: 0 }
    }

    /// From here on the store is asked nothing.
    pub(crate) fn begun(mut self) -> Self {
        self.pump.storage_mut().is_begun = true;
        self
    }

    /// One turn.
    pub(crate) fn turn(&mut self) -> bool {
        self.now += TURN;
        let turn = self.pump.turn(at(self.now)).expect("a list does not fail");
        turn.more
    }

    /// What was appended becomes durable. Whether the core hears of anything in the next turn.
    pub(crate) fn sync(&mut self) -> bool {
        let list = self.pump.storage_mut();
        let newest = list.newest.take();
        list.done.extend(newest.map(Completion::Appended));
        !list.done.is_empty()
    }

    /// Turns until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        while self.turn() || self.sync() {}
    }

    /// Somebody connects and sends a request for an upgrade, and all that he says first, at once.
    pub(crate) fn connect(&mut self, path: &str, token: &str, first: &str) -> ConnId {
        let socket = Socket::default();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: runcast.v1\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        socket.0.borrow_mut().arrived.extend(head.bytes().chain(frame(first)));
        let conn = self.pump.accept(socket.clone(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        self.peers.insert(conn, socket);
        conn
    }

    /// Somebody says something; it is heard in the next turn.
    pub(crate) fn say(&mut self, conn: ConnId, text: &str) {
        self.peers[&conn].0.borrow_mut().arrived.extend(frame(text));
        self.pump.ready(conn, Edge::UntilShort);
    }

    /// Somebody goes without a word.
    pub(crate) fn leave(&mut self, conn: ConnId) {
        if let Some(socket) = self.peers.remove(&conn) {
            socket.0.borrow_mut().is_gone = true;
            self.pump.ready(conn, Edge::UntilBlocked);
        }
    }

    /// What was written to a peer since this was asked last.
    pub(crate) fn written(&mut self, conn: ConnId) -> String {
        let bytes = std::mem::take(&mut self.peers[&conn].0.borrow_mut().written);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Forgets what was written to anybody.
    pub(crate) fn forget(&mut self) {
        self.peers.values().for_each(|socket| socket.0.borrow_mut().written.clear());
    }
}

fn at(micros: u64) -> Now {
    Now { mono: Mono(micros), wall: WallMs(EPOCH_MS + micros / 1_000) }
}

/// A client's text message, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81];
    match text.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(text.bytes());
    bytes
}
