//! A connection to the relay, the bench's yardstick: a line at first, then frames with their length before
//! them.

use super::wire::Wire;
use super::{Foreign, Role};
use mio::net::TcpStream;
use tungstenite::Utf8Bytes;

#[derive(Debug)]
pub(super) struct Relay(Wire);

impl Relay {
    /// Says what it is for.
    ///
    /// # Errors
    /// When the connection is lost already.
    pub(super) fn new(socket: TcpStream, role: &Role) -> Result<Self, String> {
        let mut wire = Wire::new(socket);
        match role {
            Role::Publisher(_) => wire.say(b"P\n"),
            Role::Device { user, position, .. } => wire.say(format!("D {user} {position}\n").as_bytes()),
        }
        wire.flush()?;
        Ok(Self(wire))
    }
}

impl Foreign for Relay {
    fn next(&mut self) -> Result<Option<Utf8Bytes>, String> {
        loop {
            if let Some((length, rest)) = self.0.input().split_first_chunk::<4>()
                && let Some(frame) = rest.get(..u32::from_le_bytes(*length) as usize)
            {
                let event = String::from_utf8_lossy(frame).into_owned();
                self.0.take(4 + event.len());
                return Ok(Some(event.into()));
            }
            if !self.0.read()? {
                return Ok(None);
            }
        }
    }

    fn publish(&mut self, user: usize, event: &str) -> Result<(), String> {
        for number in [user, event.len()] {
            self.0.say(&(number as u32).to_le_bytes());
        }
        self.0.say(event.as_bytes());
        Ok(())
    }

    fn unsent(&self) -> usize {
        self.0.unsent()
    }

    /// What it keeps is sent to whoever comes later, too.
    fn is_ready(&self) -> bool {
        true
    }

    fn flush(&mut self) -> Result<(), String> {
        self.0.flush()
    }

    fn take_bytes(&mut self) -> u64 {
        self.0.take_bytes()
    }
}
