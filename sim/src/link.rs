//! A client's side of a WebSocket over a pipe: real bytes, made by the same library as others' clients.

use crate::carrier::{Carrier, Socket};
use crate::pipe::{PipeId, Route, Status};
use std::io::{ErrorKind, Read, Write};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

/// The key of every upgrade. It proves nothing, so it need not differ.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The longest answer to a head, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The upgrade was granted.
    Opened,
    /// The upgrade was refused with this status.
    Refused(u16),
    /// A text message.
    Text(String),
    /// A ping or a pong.
    Alive,
    /// It is over: with the close code, if one came.
    Closed(Option<u16>),
}

/// How a client asks for its upgrade.
#[derive(Clone, Debug, Default)]
pub struct Upgrade {
    /// `/ws` or `/worker`.
    pub path: &'static str,
    /// A token for the subprotocol.
    pub protocol_token: Option<String>,
    /// A token for the header.
    pub header_token: Option<String>,
    /// Text messages sent right behind the head, before any answer.
    pub early: Vec<String>,
}

impl Upgrade {
    /// As it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: runcast.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: runcast.v1",
            self.path
        );
        if let Some(token) = &self.protocol_token {
            head += &format!(", jwt.{token}");
        }
        if let Some(token) = &self.header_token {
            head += &format!("\r\nAuthorization: Bearer {token}");
        }
        head += "\r\n\r\n";
        let mut bytes = head.into_bytes();
        for text in &self.early {
            bytes.extend(frame(0x81, text.as_bytes()));
        }
        bytes
    }
}

/// A client's frame with a fixed mask.
pub fn frame(operation: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x3a, 0x91, 0x5c, 0x07];
    let mut bytes = vec![operation];
    match payload.len() {
        short @ 0..=125 => bytes.push(0x80 | short as u8),
        middle @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

#[derive(Debug)]
enum Stage {
    Calling { end: Box<dyn Socket>, request: Vec<u8>, written: usize, allowed: usize, answer: Vec<u8> },
    Open(Box<WebSocket<Box<dyn Socket>>>),
    Over,
}

/// A client's connection.
#[derive(Debug)]
pub struct Link {
    stage: Stage,
    close: Option<u16>,
}

impl Link {
    /// Calls the daemon.
    pub fn call(net: &dyn Carrier, route: Route, upgrade: &Upgrade) -> Self {
        Self::raw(net, route, upgrade.bytes())
    }

    /// Calls the daemon and sends these bytes, whatever they are.
    pub fn raw(net: &dyn Carrier, route: Route, request: Vec<u8>) -> Self {
        let (end, allowed) = (net.call(route), request.len());
        Self { stage: Stage::Calling { end, request, written: 0, allowed, answer: Vec::new() }, close: None }
    }

    /// The same, but of these bytes none is sent before it [may](Self::drip).
    pub fn dripping(net: &dyn Carrier, route: Route, request: Vec<u8>) -> Self {
        let mut link = Self::raw(net, route, request);
        if let Stage::Calling { allowed, .. } = &mut link.stage {
            *allowed = 0;
        }
        link
    }

    /// One more byte of the request may be sent. Tells whether there was one.
    pub fn drip(&mut self) -> bool {
        match &mut self.stage {
            Stage::Calling { allowed, request, .. } if *allowed < request.len() => *allowed += 1,
            Stage::Calling { .. } | Stage::Open(_) | Stage::Over => return false,
        }
        true
    }

    /// Which pipe it is on, while it is on one.
    pub fn pipe(&self) -> Option<PipeId> {
        match &self.stage {
            Stage::Calling { end, .. } => Some(end.id()),
            Stage::Open(socket) => Some(socket.get_ref().id()),
            Stage::Over => None,
        }
    }

    /// The next thing that came, if any. Call until it gives `None`; then wait to be woken.
    pub fn poll(&mut self) -> Option<Incoming> {
        let incoming = match &mut self.stage {
            Stage::Calling { end, .. } if end.status() == Status::Calling => return None,
            Stage::Calling { end, .. } if end.status() == Status::Refused => Incoming::Closed(None),
            Stage::Calling { .. } => self.shake_hands()?,
            Stage::Open(socket) => match socket.read() {
                Ok(Message::Text(text)) => Incoming::Text(text.as_str().to_owned()),
                Ok(Message::Close(frame)) => {
                    self.close = frame.map(|CloseFrame { code, .. }| code.into());
                    return self.poll();
                }
                Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                    Incoming::Alive
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => Incoming::Closed(self.close),
            },
            Stage::Over => return None,
        };
        if matches!(incoming, Incoming::Closed(_) | Incoming::Refused(_)) {
            self.stage = Stage::Over;
        }
        Some(incoming)
    }

    /// Sends a text message, or keeps it until there is room.
    pub fn send(&mut self, text: &str) {
        if let Stage::Open(socket) = &mut self.stage {
            // What is wrong with the connection is told by reading.
            let _ = socket.write(Message::text(text)).and_then(|()| socket.flush());
        }
    }

    /// Whether its upgrade was granted, and it is not over.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// Sends what is kept, if there is room now.
    pub fn flush(&mut self) {
        if let Stage::Open(socket) = &mut self.stage {
            let _ = socket.flush();
        }
    }

    /// Writes bytes past the library, as far as they fit.
    pub fn write_raw(&mut self, mut bytes: &[u8]) {
        let Stage::Open(socket) = &mut self.stage else { return };
        while !bytes.is_empty() {
            // What is wrong with the connection is told by reading.
            let Ok(count @ 1..) = socket.get_mut().write(bytes) else { return };
            bytes = &bytes[count..];
        }
    }

    /// Begins to close it properly.
    pub fn close(&mut self) {
        if let Stage::Open(socket) = &mut self.stage {
            let _ = socket.close(None);
            let _ = socket.flush();
        }
    }

    fn shake_hands(&mut self) -> Option<Incoming> {
        let Stage::Calling { end, request, written, allowed, answer } = &mut self.stage else { return None };
        while *written < *allowed {
            match end.write(&request[*written..*allowed]) {
                Ok(count) => *written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Some(Incoming::Closed(None)),
            }
        }
        let mut chunk = [0; 1024];
        let end_of_head = loop {
            if let Some(at) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            match end.read(&mut chunk) {
                Ok(count) if count > 0 && answer.len() < HEAD_MAX => answer.extend(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Ok(_) | Err(_) => return Some(Incoming::Closed(None)),
            }
        };
        let head = String::from_utf8_lossy(&answer[..end_of_head]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let granted = head.contains(&derive_accept_key(KEY.as_bytes()));
        if status != 101 || !granted {
            return Some(Incoming::Refused(if status == 101 { 0 } else { status }));
        }
        self.open(end_of_head + 4);
        Some(Incoming::Opened)
    }

    fn open(&mut self, end_of_head: usize) {
        let Stage::Calling { end, answer, .. } = std::mem::replace(&mut self.stage, Stage::Over) else {
            return;
        };
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        let early = answer[end_of_head..].to_vec();
        let socket = WebSocket::from_partially_read(end, early, Role::Client, Some(config));
        self.stage = Stage::Open(Box::new(socket));
    }
}
