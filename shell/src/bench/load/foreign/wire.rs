//! A socket with what came and was not taken yet, and what waits to leave.

use mio::net::TcpStream;
use std::io::{ErrorKind, Read, Write};

/// Bytes read at once.
const READ_BYTES: usize = 4 << 10;

#[derive(Debug)]
pub(super) struct Wire {
    socket: TcpStream,
    input: Vec<u8>,
    /// What of the input was taken.
    taken: usize,
    output: Vec<u8>,
    bytes: u64,
}

impl Wire {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, input: Vec::new(), taken: 0, output: Vec::new(), bytes: 0 }
    }

    /// What has come and was not taken.
    pub(super) fn input(&self) -> &[u8] {
        &self.input[self.taken..]
    }

    /// Takes so many bytes of the input.
    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
    }

    /// Reads once; false when nothing is there.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) fn read(&mut self) -> Result<bool, String> {
        self.input.drain(..self.taken);
        self.taken = 0;
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err("closed".into()),
                Ok(length) => {
                    self.bytes += length as u64;
                    self.input.extend_from_slice(&buffer[..length]);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("lost: {error}")),
            }
        }
    }

    /// Queues bytes.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Bytes that are queued and have not left.
    pub(super) fn unsent(&self) -> usize {
        self.output.len()
    }

    /// Sends off what is queued, as far as the socket takes it; it may not be connected yet.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) fn flush(&mut self) -> Result<(), String> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(taken) => drop(self.output.drain(..taken)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("lost: {error}")),
            }
        }
        Ok(())
    }

    /// The bytes that came in since this was asked last.
    pub(super) fn take_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }
}
