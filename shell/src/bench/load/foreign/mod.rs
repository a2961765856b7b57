//! Connections to what is measured beside the daemon: one file for each protocol, all with the same face.
//! They carry the same events, whose `seq` their publisher counts, so that a device checks order and gaps as
//! it does with a daemon.

mod mqtt;
pub(in crate::bench) mod nats;
mod plain;
mod relay;
mod socketio;
mod wire;

use crate::bench::order::Tongue;
use mio::net::TcpStream;
use std::fmt::Debug;
use std::net::SocketAddr;
use tungstenite::Utf8Bytes;

/// What a connection is for.
#[derive(Clone, Debug)]
pub(in crate::bench) enum Role {
    /// It sends events of any user. It has a number among such.
    Publisher(usize),
    /// It gets what is published for its user.
    Device {
        /// Among all devices.
        number: usize,
        user: usize,
        /// It has everything up to here. Only a relay is asked to go on from there.
        position: u64,
    },
}

impl Role {
    /// Its name on a server that wants one.
    fn name(&self) -> String {
        match self {
            Self::Publisher(number) => format!("p-{number}"),
            Self::Device { number, .. } => format!("d-{number}"),
        }
    }

    const fn is_publisher(&self) -> bool {
        matches!(self, Self::Publisher(_))
    }
}

/// One connection. Nothing of it blocks.
pub(in crate::bench) trait Foreign: Debug {
    /// The next event, as it was published; on a publisher's connection what confirms events is taken in.
    ///
    /// # Errors
    /// When the connection is lost, or the other side says that something is wrong.
    fn next(&mut self) -> Result<Option<Utf8Bytes>, String>;

    /// Queues an event for all devices of this user.
    fn publish(&mut self, user: usize, event: &str) -> Result<(), String>;

    /// Says that all events so far are processed, where that is not said of each as it comes.
    fn ack(&mut self) {}

    /// Events that the other side has not confirmed, where it confirms them.
    fn unconfirmed(&self) -> usize {
        0
    }

    /// Bytes that are queued and have not left, where that can be told.
    fn unsent(&self) -> usize {
        0
    }

    /// Whether a device will get what is published from now on, or a publisher may publish.
    fn is_ready(&self) -> bool;

    /// Sends off what is queued, as far as the socket takes it.
    fn flush(&mut self) -> Result<(), String>;

    /// The bytes that came in since this was asked last.
    fn take_bytes(&mut self) -> u64;
}

/// Begins to speak on a socket that may still be connecting.
///
/// # Errors
/// When that fails at once, or a daemon is what it leads to.
pub(super) fn call(
    tongue: &Tongue,
    at: SocketAddr,
    socket: TcpStream,
    role: &Role,
) -> Result<Box<dyn Foreign>, String> {
    Ok(match tongue {
        Tongue::Runcast { .. } => return Err("a daemon wants a token".into()),
        Tongue::Relay => Box::new(relay::Relay::new(socket, role)?),
        Tongue::WebSocket => Box::new(plain::Plain::new(socket, at, role)?),
        Tongue::SocketIo => Box::new(socketio::SocketIo::new(socket, at, role)?),
        Tongue::Mqtt => Box::new(mqtt::Mqtt::new(socket, role)?),
        Tongue::Nats => Box::new(nats::Nats::new(socket, role)?),
    })
}

/// A user, as these servers know it.
fn user_name(user: usize) -> String {
    format!("u-{user}")
}
