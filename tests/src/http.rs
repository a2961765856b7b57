//! HTTP requests as a program without a library makes them: one a connection.

use crate::{Door, dial};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;

/// A request that is put together.
#[derive(Clone, Debug)]
pub struct Ask {
    method: String,
    path: String,
    headers: String,
    body: Option<String>,
}

/// What a request was answered with.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    /// The body, as it came.
    pub body: String,
    /// The same as JSON, null if there is none or it is no JSON.
    pub json: Value,
}

impl Ask {
    /// A request without a token or a body.
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.into(), path: path.into(), headers: String::new(), body: None }
    }

    /// The same with a token.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// The same with one header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        write!(self.headers, "{name}: {value}\r\n").expect("a string takes everything");
        self
    }

    /// The same with a body, and its length.
    #[must_use]
    pub fn body(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        let length = body.len().to_string();
        self.header("content-length", &length)
    }

    /// The same with JSON as its body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body(&body.to_string())
    }

    /// Sends it on a connection of its own, which is returned unread.
    pub fn open(&self, door: &Door) -> TcpStream {
        let mut stream = dial(door.address()).expect("the daemon listens");
        let Self { method, path, headers, body } = self;
        let body = body.as_deref().unwrap_or_default();
        let text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{body}");
        stream.write_all(text.as_bytes()).expect("the daemon reads");
        stream
    }

    /// Sends it and reads the answer to its end.
    pub fn send(&self, door: &Door) -> Answer {
        let mut text = String::new();
        self.open(door).read_to_string(&mut text).expect("an answer, and then the end");
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let json = serde_json::from_str(body).unwrap_or_default();
        Answer { status, head: head.to_owned(), body: body.to_owned(), json }
    }
}
