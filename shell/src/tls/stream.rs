//! TLS over a stream that never blocks, itself a stream that never blocks: what a
//! [`Conn`](crate::conn::Conn) reads and writes in the clear.
//!
//! The stream below is watched edge-triggered and in both directions, so nothing has to be asked of the
//! library about what it waits for: at each edge the connection is read, and reading first writes what the
//! library has to say by itself (its part of the handshake). Over a stream that blocks it blocks.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

/// How much is encrypted at once, in bytes: a record.
const RECORD_BYTES: usize = 16 * 1024;

/// One side of a connection.
pub struct TlsStream<T> {
    below: T,
    tls: Box<Connection>,
    /// So many bytes of what is written were encrypted, and not all of that has left: they count as written
    /// when it has.
    taken: Option<usize>,
}

impl<T: Read + Write> TlsStream<T> {
    /// The server's side of a connection on which nothing was said.
    ///
    /// # Errors
    /// The library has none for this configuration.
    pub fn server(below: T, config: Arc<ServerConfig>) -> io::Result<Self> {
        let tls = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self { below, tls: Box::new(tls.into()), taken: None })
    }

    /// The side of a client that means a server of this name.
    ///
    /// # Errors
    /// The library has none for this configuration.
    pub fn client(below: T, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self { below, tls: Box::new(tls.into()), taken: None })
    }

    /// The stream below, to register it somewhere.
    pub fn below_mut(&mut self) -> &mut T {
        &mut self.below
    }

    /// Says that nothing more will be said, and gives the stream below back.
    pub fn finish(mut self) -> T {
        self.tls.send_close_notify();
        // Whoever takes nothing has been waited for before.
        let _unsent = self.push();
        self.below
    }

    /// Writes what is encrypted, all of it.
    fn push(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.below) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is encrypted: whether there was any.
    fn pull(&mut self) -> io::Result<bool> {
        if self.tls.read_tls(&mut self.below)? == 0 {
            return Ok(false);
        }
        if let Err(error) = self.tls.process_new_packets() {
            tracing::debug!(%error, "TLS has failed");
            // It has an alert to send; if that cannot leave now, it need not.
            let _unsent = self.push();
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        self.push_some()?;
        Ok(true)
    }

    /// Goes on with the handshake. Until it is done a server has nobody whom it could tell anything, and a
    /// client waits for it before its first word.
    fn shake_hands(&mut self) -> io::Result<()> {
        if self.tls.is_handshaking() && matches!(*self.tls, Connection::Server(_)) {
            return Err(ErrorKind::NotConnected.into());
        }
        self.push_some()?;
        while self.tls.is_handshaking() {
            if !self.pull()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Writes what is encrypted as far as it goes; the next edge is for the rest.
    fn push_some(&mut self) -> io::Result<()> {
        match self.push() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            pushed => pushed,
        }
    }
}

impl<T: Read + Write> Read for TlsStream<T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.push_some()?;
        loop {
            match self.tls.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Cut off without a word: for whoever is read here that is an end like any other.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            if !self.pull()? {
                return Ok(0);
            }
        }
    }
}

impl<T: Read + Write> Write for TlsStream<T> {
    /// Takes bytes when they have left encrypted. After `WouldBlock` it must be given the same bytes again,
    /// and may be given more behind them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.tls.is_handshaking() {
            self.shake_hands()?;
        }
        self.push()?;
        if let Some(taken) = self.taken.take() {
            return Ok(taken);
        }
        let taken = self.tls.writer().write(&bytes[..bytes.len().min(RECORD_BYTES)])?;
        self.taken = Some(taken);
        self.push()?;
        self.taken = None;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }
}

impl<T: fmt::Debug> fmt::Debug for TlsStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("below", &self.below).finish_non_exhaustive()
    }
}
