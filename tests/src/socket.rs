//! One connection, in JSON messages.

use crate::PATIENCE;
use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Error, Message, WebSocket};

/// A WebSocket to the daemon.
#[derive(Debug)]
pub struct Socket {
    socket: WebSocket<TcpStream>,
    /// What came while another message was looked for, oldest first.
    kept: std::collections::VecDeque<Value>,
    /// Since when nothing comes but what comes by itself: that ends no wait.
    idle_since: Option<Instant>,
}

/// A connection has ended: with a close code, or torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended(pub Option<u16>);

impl Socket {
    /// Connects to `path`, with the token in the `Authorization` header.
    pub fn connect(address: SocketAddr, path: &str, token: &str) -> Result<Self, Ended> {
        Self::with(address, path, "runcast.v1", Some(token))
    }

    /// Connects with these subprotocols and this token in the header. What is refused by HTTP ends with its
    /// status.
    pub fn with(
        address: SocketAddr,
        path: &str,
        protocols: &str,
        token: Option<&str>,
    ) -> Result<Self, Ended> {
        let stream = dial(address).map_err(|_| Ended(None))?;
        stream.set_nodelay(true).expect("a socket can be told not to wait");
        let mut request = format!("ws://{address}{path}").into_client_request().expect("a URL");
        let header = |text: &str| HeaderValue::from_str(text).expect("a header's value");
        request.headers_mut().insert("sec-websocket-protocol", header(protocols));
        if let Some(token) = token {
            request.headers_mut().insert("authorization", header(&format!("Bearer {token}")));
        }
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Self::on(socket)),
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                Err(Ended(Some(response.status().as_u16())))
            }
            Err(_) => Err(Ended(None)),
        }
    }

    /// Goes on with a stream on which the upgrade was done by hand.
    pub fn upgraded(stream: TcpStream, already_read: Vec<u8>) -> Self {
        let role = tungstenite::protocol::Role::Client;
        Self::on(WebSocket::from_partially_read(stream, already_read, role, None))
    }

    fn on(socket: WebSocket<TcpStream>) -> Self {
        Self { socket, kept: Default::default(), idle_since: None }
    }

    /// Sends a message. That the connection has ended is found out by reading.
    pub fn say(&mut self, message: &Value) {
        self.send(Message::text(message.to_string()));
    }

    /// Sends anything.
    pub fn send(&mut self, message: Message) {
        let _ = self.socket.send(message);
    }

    /// Says nothing more, without a word about it.
    pub fn hang_up(&self) {
        self.socket.get_ref().shutdown(Shutdown::Write).expect("a socket can be shut down");
    }

    /// The next message.
    ///
    /// # Panics
    /// When none comes in time, or one that is not JSON.
    pub fn hear(&mut self) -> Result<Value, Ended> {
        self.read().map(|message| message.expect("something is heard in time"))
    }

    /// The next message, or none if there is none within a time.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn hear_within(&mut self, time: Duration) -> Result<Option<Value>, Ended> {
        self.socket.get_ref().set_read_timeout(Some(time)).expect("a socket has time-outs");
        let heard = self.read();
        self.socket.get_ref().set_read_timeout(Some(PATIENCE)).expect("a socket has time-outs");
        heard
    }

    fn read(&mut self) -> Result<Option<Value>, Ended> {
        if let Some(kept) = self.kept.pop_front() {
            return Ok(Some(kept));
        }
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let message = serde_json::from_str(&text).expect("JSON");
                    self.lose_patience(&message);
                    return Ok(Some(message));
                }
                Ok(Message::Close(frame)) => return Err(Ended(frame.map(|frame| frame.code.into()))),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(_) => return Err(Ended(None)),
            }
        }
    }

    /// Fails when for too long nothing has come but heartbeats and notices, which come for ever.
    fn lose_patience(&mut self, message: &Value) {
        if !matches!(message["type"].as_str(), Some("heartbeat" | "notice")) {
            self.idle_since = None;
            return;
        }
        let since = self.idle_since.get_or_insert_with(Instant::now);
        assert!(since.elapsed() < PATIENCE, "nothing comes but heartbeats and notices, like {message}");
    }

    /// The next message of a type; others are kept for [`hear`](Self::hear).
    pub fn hear_type(&mut self, kind: &str) -> Result<Value, Ended> {
        let mut kept = std::collections::VecDeque::new();
        let found = loop {
            match self.hear() {
                Ok(message) if message["type"] == kind => break Ok(message),
                Ok(message) => kept.push_back(message),
                Err(ended) => break Err(ended),
            }
        };
        kept.append(&mut self.kept);
        self.kept = kept;
        found
    }

    /// Reads on to the end.
    pub fn end(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.hear() {
                return ended;
            }
        }
    }
}

/// A connection on which nothing waits for ever.
///
/// # Errors
/// When nobody listens.
pub fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a piece of HTTP and reads the answer to its end: the status, and the body (or the head, if it has
/// none).
pub fn raw_request(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = dial(address).expect("the daemon listens");
    stream.write_all(request.as_bytes()).expect("the daemon reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and then the end");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status, body.unwrap_or(answer))
}
