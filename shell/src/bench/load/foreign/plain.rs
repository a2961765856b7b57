//! A plain WebSocket, as the peers `ws` and FastAPI have it: an event is a text message.

use super::{Foreign, Role, user_name};
use crate::bench::load::web::Web;
use mio::net::TcpStream;
use std::net::SocketAddr;
use tungstenite::Utf8Bytes;
use tungstenite::client::IntoClientRequest;

/// What a server says first to a device, when that will get what is published.
const READY: &str = r#"{"type":"ready"}"#;

#[derive(Debug)]
pub(super) struct Plain {
    web: Web,
    is_publisher: bool,
    has_heard: bool,
}

impl Plain {
    /// Begins the handshake.
    ///
    /// # Errors
    /// When it is refused at once.
    pub(super) fn new(socket: TcpStream, at: SocketAddr, role: &Role) -> Result<Self, String> {
        let uri = match role {
            Role::Publisher(_) => format!("ws://{at}/publish"),
            Role::Device { user, .. } => format!("ws://{at}/devices/{}", user_name(*user)),
        };
        let request = uri.into_client_request().map_err(|error| error.to_string())?;
        let web = Web::connect(socket, request, String::new())?;
        Ok(Self { web, is_publisher: role.is_publisher(), has_heard: false })
    }
}

impl Foreign for Plain {
    fn next(&mut self) -> Result<Option<Utf8Bytes>, String> {
        let mut next = self.web.next()?;
        if next.as_ref().is_some_and(|text| text.as_str() == READY) {
            self.has_heard = true;
            next = self.web.next()?;
        }
        Ok(next)
    }

    fn publish(&mut self, user: usize, event: &str) -> Result<(), String> {
        self.web.say(format!(r#"{{"user":"{}","event":{event}}}"#, user_name(user)))
    }

    fn is_ready(&self) -> bool {
        if self.is_publisher { self.web.is_open() } else { self.has_heard }
    }

    fn flush(&mut self) -> Result<(), String> {
        self.web.flush()
    }

    fn take_bytes(&mut self) -> u64 {
        self.web.take_bytes()
    }
}
