//! A connection to the relay, the bench's yardstick: lines and frames instead of WebSocket messages.

use mio::net::TcpStream;
use std::io::{ErrorKind, Read, Write};

/// Bytes read at once.
const READ_BYTES: usize = 4 << 10;

/// A socket, what came and is not whole yet, and what waits to leave.
#[derive(Debug)]
pub(super) struct Bare {
    pub(super) socket: TcpStream,
    input: Vec<u8>,
    /// What of the input was handed over.
    taken: usize,
    output: Vec<u8>,
    pub(super) bytes: u64,
}

impl Bare {
    /// Says this line first.
    pub(super) fn new(socket: TcpStream, line: String) -> Self {
        Self { socket, input: Vec::new(), taken: 0, output: line.into_bytes(), bytes: 0 }
    }

    /// The next frame, if it is there.
    pub(super) fn next(&mut self) -> Result<Option<String>, String> {
        loop {
            let rest = &self.input[self.taken..];
            if let Some((length, rest)) = rest.split_first_chunk::<4>() {
                let length = u32::from_le_bytes(*length) as usize;
                if rest.len() >= length {
                    self.taken += 4 + length;
                    return Ok(Some(String::from_utf8_lossy(&rest[..length]).into_owned()));
                }
            }
            self.input.drain(..self.taken);
            self.taken = 0;
            let mut buffer = [0; READ_BYTES];
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err("the relay has gone".into()),
                Ok(length) => {
                    self.bytes += length as u64;
                    self.input.extend_from_slice(&buffer[..length]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("lost: {error}")),
            }
        }
    }

    /// Queues a frame for a group.
    pub(super) fn publish(&mut self, group: usize, text: &str) {
        for number in [group, text.len()] {
            self.output.extend_from_slice(&(number as u32).to_le_bytes());
        }
        self.output.extend_from_slice(text.as_bytes());
    }

    /// Sends off what is queued, as far as the socket takes it.
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
}
