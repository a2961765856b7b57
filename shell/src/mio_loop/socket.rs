//! A socket, with TLS or without.

use crate::tls::TlsStream;
use mio::net::TcpStream;
use rustls::ServerConfig;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// What the pump reads and writes.
#[derive(Debug)]
pub enum Socket {
    /// In the clear: to a proxy, or on one machine.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Encrypted if there is a certificate.
    pub(super) fn new(socket: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        Ok(match tls {
            Some(config) => Self::Tls(Box::new(TlsStream::new(socket, config)?)),
            None => Self::Plain(socket),
        })
    }

    /// The socket itself, when all was said.
    pub(super) fn finish(self) -> TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.finish(),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
