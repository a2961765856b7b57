//! For tests: a daemon that does what the test says, over a real WebSocket.

use serde_json::Value;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

/// How long a test waits for what must come, before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Listens on a free port.
#[derive(Debug)]
pub(crate) struct Server(TcpListener);

/// One connection of the client under test.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: WebSocket<TcpStream>,
    /// What it asked for.
    pub(crate) path: String,
    /// The token's header.
    pub(crate) authorization: Option<String>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.0.local_addr().unwrap())
    }

    /// The next connection, upgraded.
    #[allow(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
    pub(crate) fn accept(&self) -> Peer {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut path, mut authorization) = (String::new(), None);
        let upgrade = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            path = request.uri().path().to_owned();
            let token = request.headers().get("authorization");
            authorization = token.map(|token| token.to_str().unwrap().to_owned());
            let asked = request.headers().get("sec-websocket-protocol").unwrap();
            assert_eq!(asked, "runcast.v1");
            response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("runcast.v1"));
            Ok(response)
        };
        let socket = tungstenite::accept_hdr(stream, upgrade).unwrap();
        Peer { socket, path, authorization }
    }

    /// Answers the next connection with a piece of HTTP.
    pub(crate) fn refuse(&self, response: &str) {
        use std::io::{Read, Write};
        let (mut stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(response.as_bytes()).unwrap();
    }
}

impl Peer {
    pub(crate) fn say(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    /// The client's next message.
    pub(crate) fn hear(&mut self) -> Value {
        loop {
            let message = self.socket.read().expect("a message from the client");
            if let Message::Text(text) = &message {
                return serde_json::from_str(text).unwrap();
            }
            assert!(message.is_ping() || message.is_pong(), "expected a message, found {message:?}");
        }
    }

    /// Returns when the client has heard everything that was said, and has answered nothing to it.
    pub(crate) fn ping(&mut self) {
        self.socket.send(Message::Ping("".into())).unwrap();
        let answer = self.socket.read().expect("a pong from the client");
        assert!(answer.is_pong(), "expected a pong and nothing before it, found {answer:?}");
    }

    /// Closes with a code.
    pub(crate) fn close(&mut self, code: u16) {
        self.socket.close(Some(CloseFrame { code: code.into(), reason: "".into() })).unwrap();
    }

    /// Reads on until the connection has ended; the client's close code, if it said one.
    pub(crate) fn closed(&mut self) -> Option<u16> {
        let mut code = None;
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => code = frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("still open")
                }
                Err(_) => return code,
            }
        }
    }
}
