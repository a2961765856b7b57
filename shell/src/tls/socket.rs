//! A socket, with TLS or without.

use super::TlsStream;
use rustls::ServerConfig;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// What is read and written: a stream as it is, or with TLS over it.
#[derive(Debug)]
pub enum Socket<T> {
    /// In the clear: to a proxy, or on one machine.
    Plain(T),
    /// Encrypted.
    Tls(Box<TlsStream<T>>),
}

impl<T: Read + Write> Socket<T> {
    /// The server's side, encrypted if there is a certificate.
    ///
    /// # Errors
    /// TLS has no connection for this configuration.
    pub fn server(socket: T, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        Ok(match tls {
            Some(config) => Self::Tls(Box::new(TlsStream::server(socket, config)?)),
            None => Self::Plain(socket),
        })
    }

    /// The socket itself, when all was said.
    pub fn finish(self) -> T {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.finish(),
        }
    }

    /// The socket itself, to register it somewhere.
    pub fn below_mut(&mut self) -> &mut T {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.below_mut(),
        }
    }
}

impl<T: Read + Write> Read for Socket<T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl<T: Read + Write> Write for Socket<T> {
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
