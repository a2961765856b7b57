//! One connection of the load generator: many of them share one thread and one poll.

use super::foreign::{self, Foreign, Role};
use super::web::Web;
use crate::bench::order::Tongue;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io;
use std::net::SocketAddr;
use tungstenite::Utf8Bytes;
use tungstenite::client::{ClientRequestBuilder, IntoClientRequest};

/// What the system may keep for a device that reads nothing, in bytes, so that the daemon soon feels it.
const STALLED_BYTES: usize = 4 << 10;

/// A connection, or none for now.
#[derive(Debug, Default)]
pub(super) struct Peer {
    link: Link,
    /// What it leads to takes part, and that was told.
    is_greeted: bool,
}

#[derive(Debug, Default)]
enum Link {
    #[default]
    None,
    Runcast(Box<Web>),
    /// To something else: what is said here is not sent, what is published is.
    Foreign(Box<dyn Foreign>),
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
    /// Begins a connection to what is no daemon, in place of the one there was. It never blocks.
    pub(super) fn connect_foreign(
        &mut self,
        registry: &Registry,
        token: Token,
        (at, tongue): (SocketAddr, &Tongue),
        role: &Role,
    ) -> Result<(), String> {
        let socket = open(at, registry, token).map_err(|error| error.to_string())?;
        self.link = Link::Foreign(foreign::call(tongue, at, socket, role)?);
        self.is_greeted = false;
        Ok(())
    }

    /// Begins a connection to a daemon, in place of the one there was. It never blocks.
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
        self.link = Link::Runcast(Box::new(Web::connect(socket, request, call.hello)?));
        Ok(())
    }

    /// Has the system take little for it, which nobody will read.
    pub(super) fn narrow(&mut self) -> io::Result<()> {
        let Link::Runcast(web) = &mut self.link else { return Ok(()) };
        let Some(socket) = web.socket() else { return Ok(()) };
        Ok(rustix::net::sockopt::set_socket_recv_buffer_size(socket, STALLED_BYTES)?)
    }

    /// Drops the connection, without a word.
    pub(super) fn cut(&mut self) {
        self.link = Link::None;
    }

    pub(super) const fn is_connected(&self) -> bool {
        !matches!(self.link, Link::None)
    }

    /// Whether what is no daemon has just let it take part; true once for each connection. A daemon says
    /// `welcome` instead.
    pub(super) fn is_let_in(&mut self) -> bool {
        let Link::Foreign(foreign) = &self.link else { return false };
        let is_let_in = !self.is_greeted && foreign.is_ready();
        self.is_greeted |= is_let_in;
        is_let_in
    }

    /// The next message, if one is there.
    pub(super) fn next(&mut self) -> Result<Option<Utf8Bytes>, String> {
        let next = match &mut self.link {
            Link::Runcast(web) => web.next(),
            Link::Foreign(foreign) => foreign.next(),
            Link::None => Ok(None),
        };
        next.inspect_err(|_| self.link = Link::None)
    }

    /// Queues a message; [`Self::flush`] sends it off.
    pub(super) fn say(&mut self, text: String) -> Result<(), String> {
        if let Link::Runcast(web) = &mut self.link { web.say(text) } else { Ok(()) }
    }

    /// Sends off what is queued; the rest follows when the socket takes more.
    pub(super) fn flush(&mut self) -> Result<(), String> {
        match &mut self.link {
            Link::Runcast(web) => web.flush(),
            Link::Foreign(foreign) => foreign.flush(),
            Link::None => Ok(()),
        }
    }

    /// What it leads to, if that is no daemon.
    pub(super) fn foreign(&mut self) -> Option<&mut dyn Foreign> {
        if let Link::Foreign(foreign) = &mut self.link { Some(foreign.as_mut()) } else { None }
    }

    /// The bytes that came in since this was asked last.
    pub(super) fn take_bytes(&mut self) -> u64 {
        match &mut self.link {
            Link::Runcast(web) => web.take_bytes(),
            Link::Foreign(foreign) => foreign.take_bytes(),
            Link::None => 0,
        }
    }
}

fn open(at: SocketAddr, registry: &Registry, token: Token) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(at)?;
    registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
    // Not fatal: on a socket that is gone already it fails, and reading will tell.
    let _unset = socket.set_nodelay(true);
    Ok(socket)
}
