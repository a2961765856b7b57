//! One connection, over any stream: an HTTP head, then an answer or a WebSocket.
//!
//! Knows no socket, no clock and no core. Bytes become [`Incoming`]; what is to be said is gathered and
//! leaves with [`Conn::flush`], once a turn. Nothing a peer sends makes it panic, grow past its limits, or
//! hold the loop.

mod answer;
mod frame;
mod head;
mod parting;
mod socket;
mod wire;

pub(crate) use frame::put_text;
pub use head::Request;
pub use parting::Parting;
pub use socket::Readers;
pub use wire::Edge;

use bytes::Bytes;
use head::HEAD_BYTES;
use runcast_core::effect::Response;
use runcast_core::input::HeadProblem;
use runcast_core::wire::error::CloseCode;
use socket::Socket;
use std::io::{ErrorKind, Read, Write};
use tungstenite::Utf8Bytes;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::Message;
use tungstenite::protocol::frame::{CloseFrame, Frame};
use wire::Wire;

/// What one connection may be read in one turn, in bytes.
const BYTES_PER_TURN: usize = 64 * 1024;
/// Bytes read at once before the upgrade, and of what nobody wants to know.
const CHUNK_BYTES: usize = 2048;
/// Pongs that may wait for a peer; one that takes none of them is not read until it does.
const PONGS: usize = 64;
/// The longest reason of a close frame, in bytes (RFC 6455 §5.5).
const REASON_BYTES: usize = 123;

/// A connection over a stream that never blocks.
#[derive(Debug)]
pub struct Conn<S> {
    wire: Wire<S>,
    phase: Phase,
    /// Not read, because the core wants it so.
    paused: bool,
    /// Not read any more, since what follows means nothing.
    deaf: bool,
    /// All that can be had for now was received.
    dry: bool,
    /// Pongs queued since the output was last out.
    pongs: usize,
    /// How the peer went, once it has.
    parting: Option<Parting>,
}

#[derive(Debug)]
enum Phase {
    /// The head is being read: what there is of it.
    Head(Vec<u8>),
    /// Somebody thinks about the answer. Nothing is read.
    Judged(Judged),
    /// The body of a request is being read: what there is of it goes where the early bytes went.
    Body(Judged, usize),
    /// A WebSocket.
    Open(Socket),
    /// An answer that goes on. What comes in is dropped.
    Stream,
    /// What is queued goes out, what comes in is dropped.
    Ending,
}

/// What must be kept of a request until it is answered.
#[derive(Debug, Default)]
struct Judged {
    /// What came after the head.
    early: Vec<u8>,
    key: Option<String>,
    without_body: bool,
    expects_continue: bool,
    /// The page of this origin may read the answer.
    origin: Option<Box<str>>,
}

/// What a connection has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A head was read whole.
    Request(Box<Request>),
    /// The body that was asked for was read whole.
    Body(Vec<u8>),
    /// What came is not a head.
    BadHead(HeadProblem),
    /// A text message.
    Text(Utf8Bytes),
    /// A ping; the pong is queued.
    Ping,
    /// A pong.
    Pong,
    /// A binary message.
    Binary,
    /// A message longer than allowed. Nothing more is read.
    TooLarge,
    /// A breach of RFC 6455: which. Nothing more is read.
    Breach(&'static str),
    /// Text that is not UTF-8. Nothing after it can be read.
    NotUtf8,
    /// The peer is gone, or says that it goes (its close frame is answered). The last that is told.
    Gone,
}

impl<S> Conn<S> {
    /// A connection on which nothing was read yet.
    pub fn new(stream: S) -> Self {
        let phase = Phase::Head(Vec::new());
        let wire = Wire::new(stream);
        Self { wire, phase, paused: false, deaf: false, dry: false, pongs: 0, parting: None }
    }

    /// The stream below.
    pub fn stream(&self) -> &S {
        self.wire.stream()
    }

    /// The stream below, to register it somewhere. Who reads or writes it breaks the connection.
    pub fn stream_mut(&mut self) -> &mut S {
        self.wire.stream_mut()
    }

    /// The stream back. What waits to leave is lost.
    pub fn into_stream(self) -> S {
        self.wire.into_stream()
    }

    /// The stream has become readable, writable or both. Remembered until it was read as far as that.
    pub fn edge(&mut self, edge: Edge) {
        self.wire.edge(edge);
    }

    /// Begins a turn, in which a bounded number of bytes is read.
    pub fn begin(&mut self) {
        self.wire.allow(BYTES_PER_TURN);
        self.dry = false;
    }

    /// Whether [`receive`](Self::receive) may have more without a new edge.
    pub fn has_more(&self) -> bool {
        match &self.phase {
            Phase::Head(_) | Phase::Body(..) | Phase::Open(_) | Phase::Stream => {
                !self.dry && !self.paused && !self.deaf && self.pongs < PONGS
            }
            Phase::Ending => !self.dry,
            Phase::Judged(_) => false,
        }
    }

    /// Whether output waits and the stream may take some.
    pub fn can_flush(&self) -> bool {
        self.wire.can_flush()
    }

    /// How many bytes wait for the network.
    pub fn output_bytes(&self) -> usize {
        self.wire.output_bytes()
    }

    /// Whether there is nothing more to do with it: all is said, or the stream has failed.
    pub fn is_over(&self) -> bool {
        self.wire.is_broken() || matches!(self.phase, Phase::Ending) && !self.wire.has_output()
    }

    /// How the peer went, if that was found out by reading.
    pub fn parting(&self) -> Option<&Parting> {
        self.parting.as_ref()
    }

    /// Reads it, or lets its bytes wait in the network.
    pub fn read(&mut self, on: bool) {
        self.paused = !on;
    }
}

impl<S: Read + Write> Conn<S> {
    /// The next thing that came in; `None` when there is none for now.
    pub fn receive(&mut self) -> Option<Incoming> {
        self.receive_with(&mut Readers::default())
    }

    /// The same, with what others need for that while they are read.
    pub fn receive_with(&mut self, readers: &mut Readers) -> Option<Incoming> {
        if matches!(self.phase, Phase::Ending) {
            self.discard();
            return None;
        }
        if !self.has_more() {
            return None;
        }
        match &mut self.phase {
            Phase::Head(_) => self.receive_head(),
            Phase::Body(..) => self.receive_body(),
            Phase::Stream => self.receive_end(),
            Phase::Open(_) => self.receive_message(readers),
            Phase::Judged(_) | Phase::Ending => None,
        }
    }

    fn receive_head(&mut self) -> Option<Incoming> {
        let Phase::Head(bytes) = &mut self.phase else { return None };
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            match self.wire.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.dry = !self.wire.was_cut_short();
                    return None;
                }
                Ok(0) => return Some(self.lost(Parting::Gone)),
                Err(error) => return Some(self.lost(Parting::failed(&error))),
                Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            }
            match Request::parse(bytes) {
                Ok(None) => debug_assert!(bytes.len() < HEAD_BYTES),
                Ok(Some((request, length))) => {
                    let early = bytes.split_off(length);
                    let (key, without_body) = (request.key().map(Into::into), request.wants_no_body());
                    let expects_continue = request.expects_continue();
                    self.phase =
                        Phase::Judged(Judged { early, key, without_body, expects_continue, origin: None });
                    return Some(Incoming::Request(Box::new(request)));
                }
                Err(problem) => {
                    self.phase = Phase::Judged(Judged::default());
                    return Some(Incoming::BadHead(problem));
                }
            }
        }
    }

    fn receive_body(&mut self) -> Option<Incoming> {
        let Phase::Body(judged, length) = &mut self.phase else { return None };
        let mut chunk = [0; CHUNK_BYTES];
        while judged.early.len() < *length {
            match self.wire.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.dry = !self.wire.was_cut_short();
                    return None;
                }
                Ok(0) => return Some(self.lost(Parting::Gone)),
                Err(error) => return Some(self.lost(Parting::failed(&error))),
                Ok(bytes) => judged.early.extend_from_slice(&chunk[..bytes]),
            }
        }
        let mut body = std::mem::take(&mut judged.early);
        body.truncate(*length);
        self.phase = Phase::Judged(std::mem::take(judged));
        Some(Incoming::Body(body))
    }

    /// A peer to whom a stream goes has nothing more to say, but may go.
    fn receive_end(&mut self) -> Option<Incoming> {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            match self.wire.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.dry = !self.wire.was_cut_short();
                    return None;
                }
                Ok(0) => return Some(self.lost(Parting::Gone)),
                Err(error) => return Some(self.lost(Parting::failed(&error))),
                Ok(_) => {}
            }
        }
    }

    fn receive_message(&mut self, readers: &mut Readers) -> Option<Incoming> {
        let Phase::Open(socket) = &mut self.phase else { return None };
        let message = socket.read(&mut self.wire, readers);
        self.dry = socket.is_drained(&self.wire);
        let incoming = match message {
            Ok(Message::Text(text)) => Incoming::Text(text),
            Ok(Message::Binary(_) | Message::Frame(_)) => Incoming::Binary,
            Ok(Message::Pong(_)) => Incoming::Pong,
            Ok(Message::Ping(_)) => {
                self.pongs += 1;
                Incoming::Ping
            }
            Ok(Message::Close(frame)) => {
                // The answer is waiting inside; this moves it to the output and reports the end, which we
                // know.
                let _end = socket.flush(&mut self.wire);
                self.phase = Phase::Ending;
                self.parting = Some(Parting::Closed(frame.map(|frame| frame.code.into())));
                Incoming::Gone
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                self.dry = !self.wire.was_cut_short();
                return None;
            }
            Err(error) => self.failed(&error),
        };
        Some(incoming)
    }

    /// What an error of reading means.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the errors are tungstenite's, which may add some")]
    fn failed(&mut self, error: &Error) -> Incoming {
        let incoming = match error {
            Error::Io(error) => return self.lost(Parting::failed(error)),
            Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                return self.lost(Parting::Gone);
            }
            Error::Capacity(CapacityError::MessageTooLong { .. }) => Incoming::TooLarge,
            Error::Protocol(breach) => Incoming::Breach(words(breach)),
            Error::Utf8(_) => Incoming::NotUtf8,
            _ => Incoming::Breach("a frame as in RFC 6455 was expected"),
        };
        self.deaf = true;
        incoming
    }

    fn lost(&mut self, parting: Parting) -> Incoming {
        self.parting = Some(parting);
        self.wire.fail();
        self.phase = Phase::Ending;
        Incoming::Gone
    }

    /// Takes what a peer still says, so that it comes to read what was said to it.
    fn discard(&mut self) {
        let mut chunk = [0; CHUNK_BYTES];
        while !self.dry {
            match self.wire.read(&mut chunk) {
                Ok(0) => self.dry = true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.dry = !self.wire.was_cut_short();
                    return;
                }
                Err(_) => {
                    self.wire.fail();
                    return;
                }
            }
        }
    }

    /// Becomes a WebSocket that selects `runcast.v1` and takes messages of at most so many bytes.
    /// Only for a request whose [`Head`](runcast_core::input::Head) said that it asks for one, rightly.
    pub fn upgrade(&mut self, message_bytes: usize) {
        let Phase::Judged(judged) = &mut self.phase else { return };
        let key = judged.key.take().expect("only a valid request for a WebSocket is upgraded");
        let early = std::mem::take(&mut judged.early);
        self.put(answer::switch(&key).as_bytes());
        self.phase = Phase::Open(Socket::new(message_bytes, early));
    }

    /// Takes messages of at most so many bytes from here on.
    pub fn allow(&mut self, message_bytes: usize) {
        if let Phase::Open(socket) = &mut self.phase {
            socket.allow(message_bytes);
        }
    }

    /// Reads the body of the request, so many bytes.
    pub fn take_body(&mut self, length: usize) {
        let Phase::Judged(judged) = &mut self.phase else { return };
        let judged = std::mem::take(judged);
        if judged.expects_continue && judged.early.is_empty() {
            self.put(answer::CONTINUE.as_bytes());
        }
        self.phase = Phase::Body(judged, length);
    }

    /// Lets a page of this origin read the answer to the request.
    pub fn share(&mut self, origin: Box<str>) {
        if let Phase::Judged(judged) = &mut self.phase {
            judged.origin = Some(origin);
        }
    }

    /// Answers the request with a stream: what is [sent](Self::send) from then on are its bytes.
    pub fn stream_events(&mut self) {
        if let Phase::Judged(judged) = &self.phase {
            let head = answer::stream(judged.origin.as_deref());
            self.put(head.as_bytes());
            self.phase = Phase::Stream;
        }
    }

    /// Answers the request, or whatever came in its place; the connection ends when the answer is out.
    pub fn respond(&mut self, response: &Response) {
        self.respond_with(response, "");
    }

    /// The same, with the text that stands for [`Content::Metrics`](runcast_core::effect::Content::Metrics).
    pub fn respond_with(&mut self, response: &Response, metrics: &str) {
        let (origin, without_body) = match &self.phase {
            Phase::Judged(judged) | Phase::Body(judged, _) => (judged.origin.as_deref(), judged.without_body),
            Phase::Head(_) => (None, false),
            Phase::Open(_) | Phase::Stream | Phase::Ending => return,
        };
        let answer = answer::respond(response, metrics, origin, without_body);
        self.put(answer.as_bytes());
        self.end();
    }

    /// Queues a text message, or bytes of a stream. Nothing happens on a connection that ends.
    pub fn send(&mut self, text: Bytes) {
        match &mut self.phase {
            Phase::Stream => self.put(&text),
            Phase::Open(socket) => {
                let queued = socket.write_text(&mut self.wire, &text);
                debug_assert!(queued.is_ok(), "the wire takes all, and an open WebSocket is not closing");
            }
            Phase::Head(_) | Phase::Judged(_) | Phase::Body(..) | Phase::Ending => return,
        }
        self.wire.mark(text.len());
    }

    /// Queues a ping.
    pub fn ping(&mut self) {
        if let Phase::Open(socket) = &mut self.phase {
            let queued = socket.write(&mut self.wire, Frame::ping(Bytes::new()));
            debug_assert!(queued.is_ok(), "the wire takes all, and an open WebSocket is not closing");
        }
    }

    /// Queues a close frame (of a WebSocket), after which the connection ends.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        if let Phase::Open(socket) = &mut self.phase {
            let reason = reason[..reason.floor_char_boundary(REASON_BYTES)].into();
            let close = CloseFrame { code: (code as u16).into(), reason };
            // A pong that waits inside would come after the close frame, where nothing may.
            let queued = socket.flush(&mut self.wire);
            let queued = queued.and_then(|()| socket.write(&mut self.wire, Frame::close(Some(close))));
            debug_assert!(queued.is_ok(), "the wire takes all");
        }
        self.end();
    }

    /// Writes what is queued, as far as the stream takes it. Tells how many payload bytes of messages that
    /// were [sent](Self::send) are now gone, in whole messages.
    pub fn flush(&mut self) -> usize {
        let gone = self.wire.send_off();
        if !self.wire.has_output() {
            self.pongs = 0;
        }
        gone
    }

    fn put(&mut self, bytes: &[u8]) {
        self.wire.write_all(bytes).expect("the wire takes all");
    }

    fn end(&mut self) {
        self.phase = Phase::Ending;
    }
}

/// What was expected, for a peer's programmer.
#[expect(clippy::wildcard_enum_match_arm, reason = "the errors are tungstenite's; most belong to handshakes")]
fn words(breach: &ProtocolError) -> &'static str {
    match breach {
        ProtocolError::UnmaskedFrameFromClient => "a masked frame was expected",
        ProtocolError::NonZeroReservedBits => "reserved bits of zero were expected: no extension was agreed",
        ProtocolError::FragmentedControlFrame => "a control frame in one piece was expected",
        ProtocolError::ControlFrameTooBig => "a control frame of at most 125 bytes was expected",
        ProtocolError::UnexpectedContinueFrame => "a first frame was expected, not a continuation",
        ProtocolError::ExpectedFragment(_) => "a continuation was expected, not a first frame",
        ProtocolError::InvalidCloseSequence => {
            "a close frame with no payload, or a code and text, was expected"
        }
        ProtocolError::UnknownControlFrameType(_)
        | ProtocolError::UnknownDataFrameType(_)
        | ProtocolError::InvalidOpcode(_) => "an opcode of RFC 6455 was expected",
        _ => "a frame as in RFC 6455 was expected",
    }
}
