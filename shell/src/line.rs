//! A WebSocket line to a daemon, for whoever is its client: the built-in workers and the client commands.
//!
//! One thread owns a line and waits in one place, [`Line::next`], for the socket, for a bell that other
//! threads ring, and for a deadline; nothing is polled in turns. What a message means is not known here.

mod answer;

use crate::place::{Place, Target};
use crate::tls::Socket;
use answer::Answered;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use rustls::CertificateError;
use serde_json::Value;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tungstenite::client::{ClientRequestBuilder, IntoClientRequest};
use tungstenite::handshake::client::{ClientHandshake, Request};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode};
use tungstenite::{Error, Message, WebSocket};

/// The subprotocol that every daemon of this version speaks.
const SUBPROTOCOL: &str = "runcast.v1";
/// How long connecting and upgrading may take together.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// The longest message taken from a daemon, in bytes: none can be configured to send as much.
const MESSAGE_MAX: usize = 32 << 20;
/// Bytes read from the socket at once.
const READ_BYTES: usize = 16 << 10;

const SOCKET: Token = Token(0);
const BELL: Token = Token(1);

type Below = Answered<Socket<TcpStream>>;
type Stream = WebSocket<Below>;

/// Rung from any thread, it makes [`Line::next`] return [`Heard::Rung`] soon.
#[derive(Clone, Debug)]
pub struct Bell(Arc<Waker>);

impl Bell {
    /// Rings. Ringing twice before it is heard is heard once.
    pub fn ring(&self) {
        if let Err(error) = self.0.wake() {
            tracing::error!(%error, "cannot wake the thread of a connection");
        }
    }
}

/// What [`Line::next`] returns for.
#[derive(Debug)]
pub enum Heard {
    /// A message.
    Text(String),
    /// A sign of life without content: a ping or a pong.
    Alive,
    /// The bell.
    Rung,
    /// The deadline has passed.
    Late,
}

/// Why there is no line, or none any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The address leads nowhere.
    #[error("cannot reach {url}: {why}")]
    Unreachable {
        /// Where to.
        url: String,
        /// What the system said.
        why: String,
    },
    /// The URL cannot be used. Trying again is of no use.
    #[error("{url} cannot be used: {why}")]
    BadUrl {
        /// As given.
        url: String,
        /// What was expected.
        why: String,
    },
    /// The file that says whom to trust cannot be used. It may be about to be replaced.
    #[error("{0}")]
    NoTrust(String),
    /// Somebody answers there, and is not known to be the daemon that is meant. It may be about to be
    /// renewed.
    #[error("{url} shows a certificate that is not trusted ({why}): {fix}")]
    Untrusted {
        /// As given.
        url: String,
        /// What is wrong with the certificate.
        why: String,
        /// What to do.
        fix: &'static str,
    },
    /// The upgrade was answered with an HTTP status.
    #[error("HTTP {status} {code}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The code of PROTOCOL §5, or empty when the answer has none.
        code: String,
        /// What the answer says.
        message: String,
        /// When to try again, in milliseconds.
        retry_ms: Option<u64>,
    },
    /// The daemon closed the connection.
    #[error("closed with {code} {reason}")]
    Closed {
        /// The close code; 1005 when none was given.
        code: u16,
        /// The words that came with it.
        reason: String,
    },
    /// The connection ended without a close, or broke the WebSocket protocol.
    #[error("connection lost: {0}")]
    Broken(String),
}

/// One connection at a time, and the waiting between two.
pub struct Line {
    poll: Poll,
    events: Events,
    bell: Bell,
    socket: Option<Stream>,
    clogged: bool,
    /// The bell rang while something else was waited for.
    rung: bool,
    heard_at: Instant,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("open", &self.socket.is_some()).finish_non_exhaustive()
    }
}

impl Line {
    /// A line that leads nowhere yet.
    ///
    /// # Errors
    /// When the system grants no poll or no waker (out of file descriptors).
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let bell = Bell(Arc::new(Waker::new(poll.registry(), BELL)?));
        Ok(Self {
            poll,
            events: Events::with_capacity(8),
            bell,
            socket: None,
            clogged: false,
            rung: false,
            heard_at: Instant::now(),
        })
    }

    /// The bell of this line.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Whether it is connected.
    pub fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether what was sent last still waits for the peer to read. Sending more would only fill memory.
    pub fn is_clogged(&self) -> bool {
        self.clogged
    }

    /// When the peer was last heard.
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Connects to this path of the place and upgrades, with the token as `Authorization: Bearer` (none when
    /// empty). A line that was open is dropped first. Takes at most 10 s.
    ///
    /// # Errors
    /// [`Lost`], for every way in which it fails.
    pub fn open(&mut self, place: &Place, path: &str, token: &str) -> Result<(), Lost> {
        self.drop_socket();
        let deadline = Instant::now() + OPEN_WITHIN;
        let (url, target) = (place.url.as_str(), place.target(path)?);
        let request = request(&target, token)?;
        let unreachable = |error: io::Error| Lost::Unreachable { url: url.into(), why: error.to_string() };
        let mut stream = connect(&target.authority, deadline).map_err(unreachable)?;
        self.poll
            .registry()
            .register(&mut stream, SOCKET, Interest::READABLE | Interest::WRITABLE)
            .map_err(unreachable)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(MESSAGE_MAX))
            .max_frame_size(Some(MESSAGE_MAX));
        let stream = Answered::new(place.speak(&target, stream)?);
        let start = ClientHandshake::start(stream, request, Some(config)).map_err(|e| refused(url, e))?;
        self.socket = Some(self.upgrade(url, start, deadline)?);
        self.clogged = false;
        self.heard_at = Instant::now();
        Ok(())
    }

    fn upgrade(
        &mut self,
        url: &str,
        mut step: MidHandshake<ClientHandshake<Below>>,
        deadline: Instant,
    ) -> Result<Stream, Lost> {
        loop {
            match step.handshake() {
                Ok((socket, _response)) => return Ok(socket),
                Err(HandshakeError::Interrupted(next)) => step = next,
                Err(HandshakeError::Failure(error)) => return Err(refused(url, error)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = format!("no answer to the upgrade within {} s", OPEN_WITHIN.as_secs());
                return Err(Lost::Unreachable { url: url.into(), why });
            }
            self.poll_for(Some(left))?;
        }
    }

    /// Sends one message. What the system does not take at once is kept and goes out in [`Line::next`].
    ///
    /// # Errors
    /// [`Lost`] when the line is not open or breaks.
    pub fn send(&mut self, text: String) -> Result<(), Lost> {
        let Some(socket) = self.socket.as_mut() else { return Err(Lost::Broken("not connected".into())) };
        let sent = socket.send(Message::text(text));
        self.clogged = self.settle(sent)?.is_none();
        Ok(())
    }

    /// Waits for a message, the bell, or the deadline. A line that is not open waits for the latter two.
    ///
    /// # Errors
    /// [`Lost`] when the line breaks; it is closed then.
    pub fn next(&mut self, deadline: Option<Instant>) -> Result<Heard, Lost> {
        loop {
            if let Some(heard) = self.take()? {
                return Ok(heard);
            }
            if std::mem::take(&mut self.rung) {
                return Ok(Heard::Rung);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Heard::Late);
            }
            self.poll_for(left)?;
        }
    }

    /// What has already arrived, without waiting.
    ///
    /// # Errors
    /// [`Lost`] when the line breaks; it is closed then.
    pub fn take(&mut self) -> Result<Option<Heard>, Lost> {
        let Some(socket) = self.socket.as_mut() else { return Ok(None) };
        let flushed = socket.flush();
        self.clogged = self.settle(flushed)?.is_none();
        let Some(socket) = self.socket.as_mut() else { return Ok(None) };
        let read = socket.read();
        let Some(message) = self.settle(read)? else { return Ok(None) };
        self.heard_at = Instant::now();
        match message {
            Message::Text(text) => Ok(Some(Heard::Text(text.as_str().into()))),
            Message::Ping(_) | Message::Pong(_) => Ok(Some(Heard::Alive)),
            Message::Close(frame) => Err(self.closed(frame)),
            Message::Binary(_) | Message::Frame(_) => {
                self.drop_socket();
                Err(Lost::Broken("a binary message, where only text is spoken".into()))
            }
        }
    }

    /// Says goodbye with 1000 and drops the connection without waiting for an answer.
    pub fn hang_up(&mut self) {
        if let Some(socket) = self.socket.as_mut() {
            let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            if let Err(error) = socket.close(Some(frame)) {
                tracing::debug!(%error, "closing a connection");
            }
        }
        self.drop_socket();
    }

    /// Sorts out "not now", which is `None`, from broken.
    fn settle<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Lost> {
        match result {
            Ok(done) => Ok(Some(done)),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => {
                self.drop_socket();
                Err(Lost::Broken(error.to_string()))
            }
        }
    }

    fn closed(&mut self, frame: Option<CloseFrame>) -> Lost {
        // Flushing sends the answer to the close; whether that arrives is the peer's affair.
        if let Some(socket) = self.socket.as_mut() {
            let _answered = socket.flush();
        }
        self.drop_socket();
        match frame {
            Some(frame) => Lost::Closed { code: frame.code.into(), reason: frame.reason.as_str().into() },
            None => Lost::Closed { code: 1005, reason: String::new() },
        }
    }

    fn drop_socket(&mut self) {
        if let Some(mut socket) = self.socket.take()
            && let Err(error) = self.poll.registry().deregister(socket.get_mut().below_mut().below_mut())
        {
            tracing::debug!(%error, "letting go of a socket");
        }
        self.clogged = false;
    }

    /// Waits once, and remembers whether the bell rang.
    fn poll_for(&mut self, left: Option<Duration>) -> Result<(), Lost> {
        match self.poll.poll(&mut self.events, left) {
            Ok(()) => self.rung |= self.events.iter().any(|event| event.token() == BELL),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Lost::Broken(error.to_string())),
        }
        Ok(())
    }
}

/// The upgrade request.
fn request(target: &Target, token: &str) -> Result<Request, Lost> {
    let mut builder = ClientRequestBuilder::new(target.uri.clone()).with_sub_protocol(SUBPROTOCOL);
    if !token.is_empty() {
        builder = builder.with_header("Authorization", format!("Bearer {token}"));
    }
    builder.into_client_request().map_err(|_| crate::ask::malformed_token())
}

/// The host, at the first of its addresses that answers.
fn connect(authority: &str, deadline: Instant) -> io::Result<TcpStream> {
    connect_first(&authority.to_socket_addrs()?.collect::<Vec<_>>(), deadline)
}

/// Each has an equal share of the time that is left, as has the upgrade: to many a host one way leads
/// nowhere, and nobody says so.
fn connect_first(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for (&address, others) in addresses.iter().zip((0..addresses.len() as u32).rev()) {
        let left = deadline.saturating_duration_since(Instant::now());
        match connect_one(address, share(left, others)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What one address has of the time that is left, with so many others after it, and the upgrade.
fn share(left: Duration, others: u32) -> Duration {
    left / (others + 2)
}

fn connect_one(address: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::connect_timeout(&address, within.max(Duration::from_millis(1)))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream))
}

/// What a failed upgrade says, in one value.
fn refused(url: &str, error: Error) -> Lost {
    if let Error::Io(error) = &error {
        return failed(url, error);
    }
    let Error::Http(response) = error else {
        return Lost::Unreachable { url: url.into(), why: error.to_string() };
    };
    let status = response.status().as_u16();
    let after =
        response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let body: Value =
        response.body().as_deref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
    let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let retry_ms =
        body.get("retry_ms").and_then(Value::as_u64).or(after.map(|seconds| seconds.saturating_mul(1_000)));
    Lost::Refused { status, code: text("code"), message: text("message"), retry_ms }
}

/// What it means that nothing could be written or read at first.
pub(crate) fn failed(url: &str, error: &io::Error) -> Lost {
    let (url, tls) =
        (url.to_owned(), error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()));
    match tls {
        Some(rustls::Error::InvalidCertificate(why)) => {
            Lost::Untrusted { url, why: why.to_string(), fix: remedy(why) }
        }
        Some(why @ rustls::Error::InvalidMessage(_)) => {
            Lost::Unreachable { url, why: format!("{why}; does it speak TLS?") }
        }
        Some(why) => Lost::Unreachable { url, why: format!("TLS has failed: {why}") },
        None => Lost::Unreachable { url, why: error.to_string() },
    }
}

/// What to do about a certificate that is not trusted.
fn remedy(why: &CertificateError) -> &'static str {
    use CertificateError as It;
    if matches!(why, It::Expired | It::ExpiredContext { .. }) {
        "renew it there, or set the clock of this machine (NTP)"
    } else if matches!(why, It::NotValidYet | It::NotValidYetContext { .. }) {
        "set the clocks of both machines (NTP)"
    } else if matches!(why, It::NotValidForName | It::NotValidForNameContext { .. }) {
        "give a URL with a name that it is for"
    } else {
        "give --ca FILE with its authority, or with itself"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn an_address_that_does_not_answer_leaves_time_for_the_next() {
        // Nobody is accepted there, and one who waits fills the queue: what comes then is dropped.
        let full = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&full, 0).unwrap();
        let full = full.local_addr().unwrap();
        let _waits = std::net::TcpStream::connect(full).unwrap();
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = open.local_addr().unwrap();
        let stream = connect_first(&[full, open], Instant::now() + Duration::from_secs(3)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);

        let all = Duration::from_secs(12);
        let left = (0..3).rev().fold(all, |left, others| left - share(left, others));
        assert_eq!(
            left,
            all / 4,
            "three that do not answer leave as much for the upgrade as each of them had"
        );
    }
}
