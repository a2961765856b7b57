//! Socket.IO's protocol, version 5, on a WebSocket from the beginning: a digit for the packet of the
//! transport, one for that of Socket.IO, and JSON.

use super::{Foreign, Role, user_name};
use crate::bench::load::web::Web;
use mio::net::TcpStream;
use serde_json::value::RawValue;
use std::net::SocketAddr;
use tungstenite::Utf8Bytes;
use tungstenite::client::IntoClientRequest;

#[derive(Debug)]
pub(super) struct SocketIo {
    web: Web,
    /// What asks to take part: who it is.
    connect: String,
    is_ready: bool,
}

impl SocketIo {
    /// Begins the handshake.
    ///
    /// # Errors
    /// When it is refused at once.
    pub(super) fn new(socket: TcpStream, at: SocketAddr, role: &Role) -> Result<Self, String> {
        let uri = format!("ws://{at}/socket.io/?EIO=4&transport=websocket");
        let request = uri.into_client_request().map_err(|error| error.to_string())?;
        let connect = match role {
            Role::Publisher(_) => "40".to_owned(),
            Role::Device { user, .. } => format!(r#"40{{"user":"{}"}}"#, user_name(*user)),
        };
        Ok(Self { web: Web::connect(socket, request, String::new())?, connect, is_ready: false })
    }

    fn take(&mut self, packet: &str) -> Result<Option<Utf8Bytes>, String> {
        if let Some(said) = packet.strip_prefix("42") {
            return event(said).map(|event| Some(event.into()));
        }
        match packet.get(..2).unwrap_or(packet) {
            // The transport is open.
            "0{" => self.web.say(std::mem::take(&mut self.connect))?,
            "40" => self.is_ready = true,
            // A ping wants a pong.
            "2" => self.web.say("3".to_owned())?,
            _ => return Err(format!("unexpected: {packet}")),
        }
        Ok(None)
    }
}

/// The event among what was emitted: its name, itself, and the offset that connection state recovery adds.
fn event(said: &str) -> Result<&str, String> {
    let parts: Vec<&RawValue> = serde_json::from_str(said).map_err(|error| format!("{error}: {said}"))?;
    parts.get(1).map(|event| event.get()).ok_or_else(|| format!("an event without a value: {said}"))
}

impl Foreign for SocketIo {
    fn next(&mut self) -> Result<Option<Utf8Bytes>, String> {
        while let Some(packet) = self.web.next()? {
            if let Some(event) = self.take(&packet)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn publish(&mut self, user: usize, event: &str) -> Result<(), String> {
        self.web.say(format!(r#"42["publish","{}",{event}]"#, user_name(user)))
    }

    fn is_ready(&self) -> bool {
        self.is_ready
    }

    fn flush(&mut self) -> Result<(), String> {
        self.web.flush()
    }

    fn take_bytes(&mut self) -> u64 {
        self.web.take_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stands_between_its_name_and_its_offset() {
        assert_eq!(event(r#"["event",{"seq":1,"a":[2]},"offset"]"#).unwrap(), r#"{"seq":1,"a":[2]}"#);
        assert!(event(r#"["event"]"#).is_err());
    }
}
