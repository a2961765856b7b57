//! One connection of the load generator: many of them share one thread and one poll.

use super::bare::Bare;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use tungstenite::client::{ClientRequestBuilder, IntoClientRequest};
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, Utf8Bytes, WebSocket};

/// Bytes read from a socket at once. Small, since there are thousands.
const READ_BYTES: usize = 4 << 10;
/// What the system may keep for a device that reads nothing, in bytes, so that the daemon soon feels it.
const STALLED_BYTES: usize = 4 << 10;

/// A connection, or none for now.
#[derive(Debug, Default)]
pub(super) struct Peer {
    link: Link,
    /// Said when the connection is open.
    hello: String,
}

#[derive(Debug, Default)]
enum Link {
    #[default]
    None,
    Shaking(Box<MidHandshake<ClientHandshake<Metered>>>),
    Open(Box<WebSocket<Metered>>),
    /// To the relay: what is said here is not sent, what is published is.
    Bare(Box<Bare>),
}

/// Where a connection goes and what it says first.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) at: SocketAddr,
    pub(super) path: &'a str,
    pub(super) jwt: &'a str,
    pub(super) hello: String,
}

impl Peer {
    /// Begins a connection to the relay, which starts with this line.
    pub(super) fn connect_bare(
        &mut self,
        registry: &Registry,
        token: Token,
        at: SocketAddr,
        line: String,
    ) -> Result<(), String> {
        let mut bare = Bare::new(open(at, registry, token).map_err(|error| error.to_string())?, line);
        bare.flush()?;
        self.link = Link::Bare(Box::new(bare));
        Ok(())
    }

    /// Begins a connection, in place of the one there was. It never blocks.
    pub(super) fn connect(
        &mut self,
        registry: &Registry,
        token: Token,
        call: Call<'_>,
    ) -> Result<(), String> {
        let uri = format!("ws://{}{}", call.at, call.path).parse().map_err(|_| "no such path")?;
        let request = ClientRequestBuilder::new(uri)
            .with_sub_protocol("runcast.v1")
            .with_header("Authorization", format!("Bearer {}", call.jwt));
        let request = request.into_client_request().map_err(|error| error.to_string())?;
        let socket = open(call.at, registry, token).map_err(|error| error.to_string())?;
        let config = WebSocketConfig::default().read_buffer_size(READ_BYTES).write_buffer_size(READ_BYTES);
        self.hello = call.hello;
        let stream = Metered { socket, bytes: 0 };
        let shaking = ClientHandshake::start(stream, request, Some(config)).map_err(|it| it.to_string())?;
        self.shake(shaking)
    }

    /// Has the system take little for it, which nobody will read.
    pub(super) fn narrow(&mut self) -> io::Result<()> {
        let Link::Open(socket) = &mut self.link else { return Ok(()) };
        Ok(rustix::net::sockopt::set_socket_recv_buffer_size(&socket.get_mut().socket, STALLED_BYTES)?)
    }

    /// Drops the connection, without a word.
    pub(super) fn cut(&mut self) {
        self.link = Link::None;
    }

    pub(super) const fn is_connected(&self) -> bool {
        !matches!(self.link, Link::None)
    }

    /// The next message, if one is there.
    pub(super) fn next(&mut self) -> Result<Option<Utf8Bytes>, String> {
        if matches!(self.link, Link::Shaking(_))
            && let Link::Shaking(shaking) = std::mem::take(&mut self.link)
        {
            self.shake(*shaking)?;
        }
        let socket = match &mut self.link {
            Link::Open(socket) => socket,
            Link::Bare(bare) => return Ok(bare.next()?.map(Utf8Bytes::from)),
            Link::None | Link::Shaking(_) => return Ok(None),
        };
        loop {
            match socket.read() {
                Ok(Message::Text(text)) => return Ok(Some(text)),
                Ok(Message::Close(frame)) => {
                    let why =
                        frame.map_or("closed".into(), |it| format!("closed: {} {}", it.code, it.reason));
                    self.link = Link::None;
                    return Err(why);
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => {
                    self.link = Link::None;
                    return Err(format!("lost: {error}"));
                }
            }
        }
    }

    /// Queues a message; [`Self::flush`] sends it off.
    pub(super) fn say(&mut self, text: String) -> Result<(), String> {
        let Link::Open(socket) = &mut self.link else { return Ok(()) };
        settle(socket.write(Message::text(text)))
    }

    /// Sends off what is queued; the rest follows when the socket takes more.
    pub(super) fn flush(&mut self) -> Result<(), String> {
        match &mut self.link {
            Link::Open(socket) => settle(socket.flush()),
            Link::Bare(bare) => bare.flush(),
            Link::None | Link::Shaking(_) => Ok(()),
        }
    }

    /// The relay, if it leads there.
    pub(super) fn bare(&mut self) -> Option<&mut Bare> {
        if let Link::Bare(bare) = &mut self.link { Some(bare) } else { None }
    }

    /// The bytes that came in since this was asked last.
    pub(super) fn take_bytes(&mut self) -> u64 {
        match &mut self.link {
            Link::Open(socket) => std::mem::take(&mut socket.get_mut().bytes),
            Link::Bare(bare) => std::mem::take(&mut bare.bytes),
            Link::None | Link::Shaking(_) => 0,
        }
    }

    fn shake(&mut self, shaking: MidHandshake<ClientHandshake<Metered>>) -> Result<(), String> {
        match shaking.handshake() {
            Ok((mut socket, _)) => {
                let said = settle(socket.send(Message::text(std::mem::take(&mut self.hello))));
                self.link = Link::Open(Box::new(socket));
                said
            }
            Err(HandshakeError::Interrupted(shaking)) => {
                self.link = Link::Shaking(Box::new(shaking));
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

fn open(at: SocketAddr, registry: &Registry, token: Token) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(at)?;
    registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
    // Not fatal: on a socket that is gone already it fails, and reading will tell.
    let _unset = socket.set_nodelay(true);
    Ok(socket)
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
