//! The second yardstick: a program that speaks the daemon's protocol (`core/PROTOCOL.md`) with the same load
//! generator and does the least that can be done so. What workers say is read once, made an event, and
//! written to a file and synced; then it is confirmed and sent to every device of its user, in one write for
//! each connection and turn. One thread.
//!
//! Nothing else of what the daemon promises is kept. Whoever comes is who its token says, whether or not that
//! is signed; nothing is checked, limited, queued, retried, timed or fenced, and deltas are not joined. A
//! worker that goes never comes back to its runs, and a run that is asked for while none is there is dropped.
//! Streams are kept in memory for devices that come back; the file is never read. A turn's events are synced
//! at once: none waits for more to share a sync with.

mod hear;
mod said;
mod store;

use super::relay::until_input_ends;
use crate::cli::Exit;
use crate::preflight::let_many_wait;
use hear::Run;
use jsonwebtoken::dangerous::insecure_decode_claims;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use serde::Deserialize;
use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use store::{Journal, Stream, User};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::{Role as Side, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

const LISTENER: Token = Token(usize::MAX);
/// Bytes read from a socket at once, whoever it leads to.
const READ_BYTES: usize = 16 << 10;
/// And what is kept for each device to take frames from them: it says little.
const DEVICE_BYTES: usize = 128;

/// Serves on a free port of the loopback, which it prints, until standard input ends. Its file lies in
/// `directory`.
pub(crate) fn main(directory: &Path) -> Exit {
    until_input_ends("the bare protocol", || Bare::new(directory).and_then(Bare::run))
}

struct Bare {
    poll: Poll,
    listener: TcpListener,
    conns: Vec<Option<Conn>>,
    users: Vec<User>,
    by_name: HashMap<String, usize>,
    runs: Vec<Run>,
    /// Connections of workers, which get runs in turn.
    workers: Vec<usize>,
    journal: Journal,
    /// Unix time at the beginning of this turn, in milliseconds.
    ts: String,
    /// The message that is made.
    text: String,
    /// Runs of which something is to be confirmed after this turn's sync.
    unconfirmed: Vec<usize>,
    /// Connections with something to be written in this turn.
    unflushed: Vec<usize>,
}

struct Conn {
    socket: TcpStream,
    /// Takes messages from what is read; none before the upgrade.
    web: Option<Box<WebSocketContext>>,
    role: Role,
    /// What is for this connection alone. It leaves before the user's events.
    out: Vec<u8>,
    is_queued: bool,
}

enum Role {
    /// As much as there is of its request's head.
    Stranger(Vec<u8>),
    /// Its name, from its `hello` on.
    Worker(String),
    Device {
        user: usize,
        /// Its place among the user's devices, if it has named itself.
        device: Option<usize>,
        /// The user's events were written up to here; none before its `hello`.
        upto: Option<usize>,
    },
}

/// What is looked at of a token.
#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl Bare {
    fn new(directory: &Path) -> io::Result<Self> {
        let poll = Poll::new()?;
        let journal = Journal::new(directory)?;
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
        let_many_wait(&listener)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        writeln!(io::stdout(), "{}", listener.local_addr()?)?;
        Ok(Self {
            poll,
            listener,
            conns: Vec::new(),
            users: Vec::new(),
            by_name: HashMap::new(),
            runs: Vec::new(),
            workers: Vec::new(),
            journal,
            ts: String::new(),
            text: String::new(),
            unconfirmed: Vec::new(),
            unflushed: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.ts = now.as_millis().to_string();
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(id) if event.is_readable() => self.serve(id, event.is_read_closed(), &mut buffer),
                    Token(id) => self.queue(id),
                }
            }
            self.journal.store()?;
            self.confirm();
            let mut unflushed = std::mem::take(&mut self.unflushed);
            unflushed.drain(..).for_each(|id| self.flush(id));
            self.unflushed = unflushed;
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let (mut socket, _) = match self.listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                accepted => accepted?,
            };
            let _unset = socket.set_nodelay(true);
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(self.conns.len()), interest)?;
            let (role, out) = (Role::Stranger(Vec::new()), Vec::new());
            self.conns.push(Some(Conn { socket, web: None, role, out, is_queued: false }));
        }
    }

    /// Reads what there is. A read that does not fill the buffer was the last: more brings another edge, but
    /// for an end that was told already. The edge may also mean that there is room to write.
    fn serve(&mut self, id: usize, is_closed: bool, buffer: &mut [u8]) {
        while let Some(conn) = self.conns[id].as_mut() {
            match conn.socket.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => self.leave(id),
                Ok(length) => {
                    self.take(id, &buffer[..length]);
                    if length < buffer.len() && !is_closed {
                        break;
                    }
                }
            }
        }
        self.queue(id);
    }

    fn leave(&mut self, id: usize) {
        match self.conns[id].take().map(|conn| conn.role) {
            Some(Role::Device { user, .. }) => self.users[user].conns.retain(|other| *other != id),
            Some(Role::Worker(_)) => self.workers.retain(|other| *other != id),
            Some(Role::Stranger(_)) | None => {}
        }
    }

    fn take(&mut self, id: usize, bytes: &[u8]) {
        let Some(conn) = self.conns[id].as_mut() else { return };
        let Some(mut web) = conn.web.take() else { return self.upgrade(id, bytes) };
        let mut fed = Fed { bytes, answers: Vec::new() };
        loop {
            match web.read(&mut fed) {
                Ok(Message::Text(text)) => self.hear(id, &text),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.leave(id),
            }
        }
        if let Some(conn) = self.conns[id].as_mut() {
            conn.web = Some(web);
            conn.out.append(&mut fed.answers);
        }
    }

    /// Answers a stranger's request once its head is whole.
    fn upgrade(&mut self, id: usize, bytes: &[u8]) {
        let Some(Conn { role: Role::Stranger(head), .. }) = self.conns[id].as_mut() else { return };
        head.extend_from_slice(bytes);
        let Ok(parsed) = Request::try_parse(head) else { return self.leave(id) };
        let Some((length, request)) = parsed else { return };
        let early = head.split_off(length);
        let (Some(role), Ok(mut response)) = (self.role(&request), create_response(&request)) else {
            return self.leave(id);
        };
        let most = if matches!(role, Role::Worker(_)) { READ_BYTES } else { DEVICE_BYTES };
        let config = WebSocketConfig::default().read_buffer_size(most);
        response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("runcast.v1"));
        let Some(conn) = self.conns[id].as_mut() else { return };
        conn.role = role;
        conn.web = Some(Box::new(WebSocketContext::new(Side::Server, Some(config))));
        if write_response(&mut conn.out, &response).is_err() {
            return self.leave(id);
        }
        self.take(id, &early);
    }

    fn role(&mut self, request: &Request) -> Option<Role> {
        if request.uri().path() == "/worker" {
            return Some(Role::Worker(String::new()));
        }
        let token = request.headers().get("Authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
        let name = insecure_decode_claims::<Claims>(token).ok()?.sub;
        let user = *self.by_name.entry(name).or_insert_with_key(|name| {
            self.users.push(User { name: name.clone(), ..User::default() });
            self.users.len() - 1
        });
        Some(Role::Device { user, device: None, upto: None })
    }

    fn queue(&mut self, id: usize) {
        if let Some(conn) = self.conns[id].as_mut().filter(|conn| !conn.is_queued) {
            conn.is_queued = true;
            self.unflushed.push(id);
        }
    }

    /// One write, if there is anything to be written; more only if that was not all.
    fn flush(&mut self, id: usize) {
        let Some(conn) = self.conns[id].as_mut() else { return };
        conn.is_queued = false;
        let (none, mut nowhere) = (Stream::default(), 0);
        let (stream, upto) = match &mut conn.role {
            Role::Device { user, upto: Some(upto), .. } => (&self.users[*user].stream, upto),
            Role::Device { .. } | Role::Worker(_) | Role::Stranger(_) => (&none, &mut nowhere),
        };
        loop {
            let unsent = stream.after(*upto);
            if conn.out.is_empty() && unsent.is_empty() {
                return;
            }
            match write(&mut conn.socket, &conn.out, unsent) {
                Ok(taken) if taken > 0 => {
                    let own = taken.min(conn.out.len());
                    conn.out.drain(..own);
                    *upto += taken - own;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return self.leave(id),
            }
        }
        // What has begun to leave goes on before anything else.
        let rest = stream.rest_of_frame(*upto);
        conn.out.extend_from_slice(rest);
        *upto += rest.len();
    }
}

/// Writes what there is of both, in one call.
fn write(socket: &mut TcpStream, own: &[u8], unsent: &[u8]) -> io::Result<usize> {
    match (own, unsent) {
        (own, []) => socket.write(own),
        ([], unsent) => socket.write(unsent),
        (own, unsent) => socket.write_vectored(&[IoSlice::new(own), IoSlice::new(unsent)]),
    }
}

/// Bytes that were read, as a stream that has no more for now. What is answered to pings is gathered.
struct Fed<'a> {
    bytes: &'a [u8],
    answers: Vec<u8>,
}

impl Read for Fed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { self.bytes.read(into) }
    }
}

impl Write for Fed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answers.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
