//! Answers to a request: a [`Response`] as HTTP/1.1 bytes, and the switch to a WebSocket.

use crate::metrics::CONTENT_TYPE;
use runcast_core::effect::{Content, Page, Response};
use std::fmt::Write as _;
use tungstenite::handshake::derive_accept_key;

/// The chat page, one file without anything from elsewhere, as `npm run build` in `shell/console` made it.
const CHAT: &str = include_str!("../../console/chat.html");

/// The operators' page, made likewise.
const CONSOLE: &str = include_str!("../../console/console.html");

/// What a page may do: run its own script and style, known by their hashes, and speak to this daemon.
const fn policy(page: Page) -> &'static str {
    match page {
        Page::Chat => include_str!("../../console/chat.csp"),
        Page::Console => include_str!("../../console/console.csp"),
    }
}

/// The bytes of a 101 that selects `runcast.v1`.
pub(super) fn switch(key: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: runcast.v1\r\n\r\n",
        derive_accept_key(key.as_bytes())
    )
}

/// The bytes of the head of a stream of events, which ends with the connection.
pub(super) fn stream(origin: Option<&str>) -> String {
    let shared = shared(origin, None);
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nX-Accel-Buffering: no\r\n{shared}Connection: close\r\n\r\n"
    )
}

/// What lets a page of another origin read an answer, or, where the methods are told that there are, send a
/// request (Fetch Standard, CORS). Tokens come in a header that the page sets, so no credentials are allowed.
fn shared(origin: Option<&str>, methods: Option<&str>) -> String {
    let Some(origin) = origin else { return String::new() };
    let mut shared = format!(
        "Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n\
         Access-Control-Expose-Headers: Retry-After\r\n"
    );
    if let Some(methods) = methods {
        write!(
            shared,
            "Access-Control-Allow-Methods: {methods}\r\nAccess-Control-Allow-Headers: \
             Authorization, Content-Type, Idempotency-Key, Last-Event-ID\r\nAccess-Control-Max-Age: 600\r\n"
        )
        .expect("a string takes all that is written");
    }
    shared
}

/// What a client is told that waits before it sends a body.
pub(super) const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// The bytes of an answer after which the connection ends. Without a body, its length is told all the same.
/// `metrics` is the body of [`Content::Metrics`].
pub(super) fn respond(
    response: &Response,
    metrics: &str,
    origin: Option<&str>,
    without_body: bool,
) -> String {
    let (kind, body) = match &response.content {
        Content::Nothing => (None, ""),
        Content::Text(text) => (Some("text/plain; charset=utf-8"), text.as_str()),
        Content::Json(text) => (Some("application/json"), text.as_str()),
        Content::Problem(text) => (Some("application/problem+json"), text.as_str()),
        Content::Page(Page::Chat) => (Some("text/html; charset=utf-8"), CHAT),
        Content::Page(Page::Console) => (Some("text/html; charset=utf-8"), CONSOLE),
        Content::Metrics => (Some(CONTENT_TYPE), metrics),
    };
    let mut answer = format!("HTTP/1.1 {} {}\r\n", response.status, phrase(response.status),);
    if let Some(kind) = kind {
        write!(answer, "Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len())
            .expect("a string takes all that is written");
    }
    answer.push_str("Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
    if let Some(allow) = response.allow {
        write!(answer, "Allow: {allow}\r\n").expect("a string takes all that is written");
    }
    answer.push_str(&shared(origin, response.allow));
    if let Some(secs) = response.retry_after_secs {
        write!(answer, "Retry-After: {secs}\r\n").expect("a string takes all that is written");
    }
    answer.push_str(match response.status {
        401 => "WWW-Authenticate: Bearer\r\nConnection: close\r\n",
        426 => "Upgrade: websocket\r\nConnection: close, Upgrade\r\n",
        _ => "Connection: close\r\n",
    });
    if let Content::Page(page) = response.content {
        let policy = policy(page);
        write!(answer, "Content-Security-Policy: {policy}\r\nReferrer-Policy: no-referrer\r\n")
            .expect("a string takes all that is written");
    }
    answer.push_str("\r\n");
    if !without_body {
        answer.push_str(body);
    }
    answer
}

/// The status in words. Nobody reads them but people with a terminal.
fn phrase(status: u16) -> &'static str {
    tungstenite::http::StatusCode::from_u16(status).ok().and_then(|it| it.canonical_reason()).unwrap_or("")
}
