//! The head of an HTTP request: bytes to the few fields that anyone asks for.
//!
//! The verdict depends on the bytes alone, never on how they were cut on their way.

use runcast_core::input::{BodyLength, Head, HeadProblem, UpgradeRequest};

/// The longest head, in bytes.
pub(super) const HEAD_BYTES: usize = 16 * 1024;
/// The most headers.
const HEADERS: usize = 64;

/// A request that was read whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    method: String,
    path: String,
    query: Option<String>,
    host: Option<String>,
    origin: Option<String>,
    authorization: Option<String>,
    protocols: Option<String>,
    idempotency_key: Option<String>,
    last_event_id: Option<String>,
    forwarded: Option<String>,
    forwarded_for: Option<String>,
    upgrade: UpgradeRequest,
    key: Option<String>,
    length: Option<u64>,
    is_encoded: bool,
    expects_continue: bool,
}

/// The headers that together ask for a WebSocket.
#[derive(Debug, Default)]
struct Asked {
    upgrade: bool,
    connection: bool,
    version: Option<String>,
    key: Option<String>,
}

impl Request {
    /// Reads a head from the beginning of `bytes`: the request and the head's length, or `None` while it is
    /// not whole.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadProblem> {
        let whole = &bytes[..bytes.len().min(HEAD_BYTES)];
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(whole) {
            Ok(httparse::Status::Complete(length)) => Self::take(&parsed).map(|it| Some((it, length))),
            Ok(httparse::Status::Partial) if whole.len() == HEAD_BYTES => Err(HeadProblem::TooLarge),
            Ok(httparse::Status::Partial) => Ok(None),
            Err(httparse::Error::TooManyHeaders) => Err(HeadProblem::TooLarge),
            Err(problem) => Err(HeadProblem::Malformed(expected(problem))),
        }
    }

    fn take(parsed: &httparse::Request<'_, '_>) -> Result<Self, HeadProblem> {
        let target = parsed.path.unwrap_or_default();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.into())),
            None => (target, None),
        };
        let method = parsed.method.unwrap_or_default().into();
        let mut request = Self { method, path: path.into(), query, ..Self::default() };
        let mut asked = Asked::default();
        for header in parsed.headers.iter() {
            request.header(&mut asked, header.name, header.value)?;
        }
        request.upgrade = asked.judge(&request.method, parsed.version);
        // One who speaks HTTP/1.0 would take that it may go on for the answer (RFC 9110 §10.1.1).
        request.expects_continue &= parsed.version == Some(1);
        request.key = asked.key;
        Ok(request)
    }

    fn header(&mut self, asked: &mut Asked, name: &str, value: &[u8]) -> Result<(), HeadProblem> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("host") {
            once(&mut self.host, value)
        } else if is("origin") {
            once(&mut self.origin, value)
        } else if is("authorization") {
            once(&mut self.authorization, value)
        } else if is("sec-websocket-protocol") {
            join(&mut self.protocols, text(value)?);
            Ok(())
        } else if is("sec-websocket-version") {
            once(&mut asked.version, value)
        } else if is("sec-websocket-key") {
            once(&mut asked.key, value)
        } else if is("upgrade") {
            asked.upgrade |= has_token(text(value)?, "websocket");
            Ok(())
        } else if is("connection") {
            asked.connection |= has_token(text(value)?, "upgrade");
            Ok(())
        } else if is("content-length") {
            self.take_length(text(value)?)
        } else if is("transfer-encoding") {
            self.is_encoded = true;
            Ok(())
        } else if is("expect") {
            self.expects_continue = text(value)?.eq_ignore_ascii_case("100-continue");
            Ok(())
        } else if is("idempotency-key") {
            once(&mut self.idempotency_key, value)
        } else if is("last-event-id") {
            once(&mut self.last_event_id, value)
        } else if is("forwarded") {
            join(&mut self.forwarded, text(value)?);
            Ok(())
        } else if is("x-forwarded-for") {
            join(&mut self.forwarded_for, text(value)?);
            Ok(())
        } else {
            Ok(())
        }
    }

    fn take_length(&mut self, value: &str) -> Result<(), HeadProblem> {
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        match value.parse().ok().filter(|_| digits) {
            Some(length) if self.length.is_none() => {
                self.length = Some(length);
                Ok(())
            }
            Some(_) | None => Err(HeadProblem::Malformed("one Content-Length, a number")),
        }
    }

    /// The request as the core is told of it.
    pub fn head(&self) -> Head<'_> {
        Head {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            host: self.host.as_deref(),
            origin: self.origin.as_deref(),
            authorization: self.authorization.as_deref(),
            protocols: self.protocols.as_deref(),
            upgrade: self.upgrade,
            body: match self.length {
                _ if self.is_encoded => BodyLength::Unknown,
                Some(length) => BodyLength::Bytes(length),
                None => BodyLength::None,
            },
            idempotency_key: self.idempotency_key.as_deref(),
            last_event_id: self.last_event_id.as_deref(),
            forwarded: self.forwarded.as_deref(),
            forwarded_for: self.forwarded_for.as_deref(),
        }
    }

    /// The `Sec-WebSocket-Key` of a valid request for a WebSocket.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_deref().filter(|_| self.upgrade == UpgradeRequest::Valid)
    }

    /// Whether the body comes only when it is asked for.
    pub(super) fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Whether its answer goes without a body.
    pub(super) fn wants_no_body(&self) -> bool {
        self.method == "HEAD"
    }
}

impl Asked {
    /// RFC 6455 §4.2.1.
    fn judge(&self, method: &str, version: Option<u8>) -> UpgradeRequest {
        if !self.upgrade {
            return UpgradeRequest::No;
        }
        if method != "GET" {
            return UpgradeRequest::Invalid("the method GET");
        }
        if version != Some(1) {
            return UpgradeRequest::Invalid("HTTP/1.1");
        }
        if !self.connection {
            return UpgradeRequest::Invalid("Connection: Upgrade");
        }
        if self.version.as_deref() != Some("13") {
            return UpgradeRequest::Invalid("Sec-WebSocket-Version: 13");
        }
        if !self.key.as_deref().is_some_and(is_key) {
            return UpgradeRequest::Invalid("a Sec-WebSocket-Key of 16 bytes in base64");
        }
        UpgradeRequest::Valid
    }
}

/// Takes a header that may come once. Of two, nobody knows which one a proxy before us has judged.
fn once(slot: &mut Option<String>, value: &[u8]) -> Result<(), HeadProblem> {
    let value = text(value)?;
    match slot.replace(value.into()) {
        None => Ok(()),
        Some(_) => Err(HeadProblem::Malformed("each header once that tells what is asked")),
    }
}

fn join(slot: &mut Option<String>, value: &str) {
    match slot {
        Some(joined) => {
            joined.push_str(", ");
            joined.push_str(value);
        }
        None => *slot = Some(value.into()),
    }
}

fn text(value: &[u8]) -> Result<&str, HeadProblem> {
    let ascii = std::str::from_utf8(value).ok().filter(|text| text.is_ascii());
    ascii.map(str::trim).ok_or(HeadProblem::Malformed("header values in ASCII"))
}

fn has_token(list: &str, token: &str) -> bool {
    list.split(',').any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// 16 bytes in base64 are 22 letters and two signs of filling.
fn is_key(key: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    key.len() == 24 && key.strip_suffix("==").is_some_and(|letters| letters.bytes().all(letter))
}

fn expected(problem: httparse::Error) -> &'static str {
    match problem {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => "a header line, `Name: value`",
        httparse::Error::NewLine => "lines that end with CR LF",
        httparse::Error::Version => "HTTP/1.1",
        httparse::Error::Status | httparse::Error::Token | httparse::Error::TooManyHeaders => {
            "a request line, `GET /path HTTP/1.1`"
        }
    }
}
