//! A WebSocket of the load generator, from its handshake on, without blocking.

use mio::net::TcpStream;
use std::io::{self, ErrorKind, Read, Write};
use tungstenite::handshake::client::{ClientHandshake, Request};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, Utf8Bytes, WebSocket};

/// Bytes read from a socket at once. Small, since there are thousands.
const READ_BYTES: usize = 4 << 10;

/// A connection on its way or open.
#[derive(Debug)]
pub(super) struct Web {
    state: State,
    /// Said when the connection is open, if it is anything.
    hello: String,
}

#[derive(Debug)]
enum State {
    Shaking(Box<MidHandshake<ClientHandshake<Metered>>>),
    Open(Box<WebSocket<Metered>>),
    Over,
}

impl Web {
    /// Begins the handshake on a socket that may still be connecting.
    ///
    /// # Errors
    /// When the other side refuses at once.
    pub(super) fn connect(socket: TcpStream, request: Request, hello: String) -> Result<Self, String> {
        let config = WebSocketConfig::default().read_buffer_size(READ_BYTES).write_buffer_size(READ_BYTES);
        let stream = Metered { socket, bytes: 0 };
        let shaking = ClientHandshake::start(stream, request, Some(config)).map_err(|it| it.to_string())?;
        let mut web = Self { state: State::Over, hello };
        web.shake(shaking)?;
        Ok(web)
    }

    /// Whether the handshake is over, and the connection is not.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// The socket, once it is open.
    pub(super) fn socket(&mut self) -> Option<&mut TcpStream> {
        if let State::Open(socket) = &mut self.state { Some(&mut socket.get_mut().socket) } else { None }
    }

    /// The next message, if one is there.
    ///
    /// # Errors
    /// When the connection is over, with the other side's reason if it gave one.
    pub(super) fn next(&mut self) -> Result<Option<Utf8Bytes>, String> {
        if matches!(self.state, State::Shaking(_))
            && let State::Shaking(shaking) = std::mem::replace(&mut self.state, State::Over)
        {
            self.shake(*shaking)?;
        }
        let State::Open(socket) = &mut self.state else { return Ok(None) };
        loop {
            let why = match socket.read() {
                Ok(Message::Text(text)) => return Ok(Some(text)),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Ok(Message::Close(Some(frame))) => format!("closed: {} {}", frame.code, frame.reason),
                Ok(Message::Close(None)) => "closed".into(),
                Ok(_) => continue,
                Err(error) => format!("lost: {error}"),
            };
            self.state = State::Over;
            return Err(why);
        }
    }

    /// Queues a message; [`Self::flush`] sends it off.
    pub(super) fn say(&mut self, text: String) -> Result<(), String> {
        let State::Open(socket) = &mut self.state else { return Ok(()) };
        settle(socket.write(Message::text(text)))
    }

    /// Sends off what is queued; the rest follows when the socket takes more.
    pub(super) fn flush(&mut self) -> Result<(), String> {
        let State::Open(socket) = &mut self.state else { return Ok(()) };
        settle(socket.flush())
    }

    /// The bytes that came in since this was asked last.
    pub(super) fn take_bytes(&mut self) -> u64 {
        let State::Open(socket) = &mut self.state else { return 0 };
        std::mem::take(&mut socket.get_mut().bytes)
    }

    fn shake(&mut self, shaking: MidHandshake<ClientHandshake<Metered>>) -> Result<(), String> {
        match shaking.handshake() {
            Ok((socket, _)) => {
                self.state = State::Open(Box::new(socket));
                let hello = std::mem::take(&mut self.hello);
                if hello.is_empty() {
                    return Ok(());
                }
                self.say(hello)?;
                self.flush()
            }
            Err(HandshakeError::Interrupted(shaking)) => {
                self.state = State::Shaking(Box::new(shaking));
                Ok(())
            }
            Err(HandshakeError::Failure(error)) => Err(format!("not upgraded: {error}")),
        }
    }
}

/// What would block is queued and leaves later.
fn settle(result: Result<(), Error>) -> Result<(), String> {
    match result {
        Ok(()) => Ok(()),
        Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(format!("lost: {error}")),
    }
}

/// A socket that counts what comes in.
#[derive(Debug)]
struct Metered {
    socket: TcpStream,
    bytes: u64,
}

impl Read for Metered {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.socket.read(into)?;
        self.bytes += length as u64;
        Ok(length)
    }
}

impl Write for Metered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
