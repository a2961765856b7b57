//! One HTTP request to a daemon, blocking, for the client commands that do not follow a stream.

use crate::line::{Lost, failed};
use crate::place::Place;
use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long connecting may take, and how long each silence of the daemon.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const ANSWER_MAX: u64 = 16 << 20;
/// The most headers of an answer.
const HEADERS: usize = 64;

/// Sends a request without a body and returns the answer's JSON, null if it has none. An empty token is none.
///
/// # Errors
/// [`Lost::Refused`] with what the daemon says when the status is not 2xx; else why there is no answer.
pub fn ask(place: &Place, token: &str, method: &str, path: &str) -> Result<Value, Lost> {
    ask_with(place, token, method, path, None)
}

/// The same with a body, as JSON.
///
/// # Errors
/// As [`ask`].
pub fn ask_with(
    place: &Place,
    token: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Lost> {
    json(&fetch(place, token, method, path, body)?)
}

/// The same as [`ask`], for what takes the daemon long: each silence may last for `patience`.
///
/// # Errors
/// As [`ask`].
pub fn ask_patiently(
    place: &Place,
    token: &str,
    method: &str,
    path: &str,
    patience: Duration,
) -> Result<Value, Lost> {
    json(&exchange(place, token, (method, path), None, patience)?)
}

fn json(answer: &[u8]) -> Result<Value, Lost> {
    if answer.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(answer).map_err(|_| broken("expected JSON"))
}

/// Sends a request and returns the answer's body as it is.
///
/// # Errors
/// As [`ask`].
pub fn fetch(
    place: &Place,
    token: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Vec<u8>, Lost> {
    exchange(place, token, (method, path), body, PATIENCE)
}

fn exchange(
    place: &Place,
    token: &str,
    (method, path): (&str, &str),
    body: Option<&Value>,
    patience: Duration,
) -> Result<Vec<u8>, Lost> {
    let target = place.target(path)?;
    let authority = &target.authority;
    let unreachable = |error: io::Error| match words(&error, patience) {
        Some(why) => Lost::Unreachable { url: place.url.clone(), why },
        None => failed(&place.url, &error),
    };
    let socket = connect(authority).map_err(unreachable)?;
    let waits = socket.try_clone().map_err(unreachable)?;
    let mut stream = place.speak(&target, socket)?;
    let path = target.uri.path_and_query().map_or(path, |path| path.as_str());
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
    if !token.is_empty() {
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(malformed_token());
        }
        head.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    if method != "GET" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    head.push_str(&body);
    stream.write_all(head.as_bytes()).map_err(unreachable)?;
    waits.set_read_timeout(Some(patience)).map_err(unreachable)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).map_err(unreachable)?;
    read(&answer)
}

/// The refusal of a token that no header can carry.
pub(crate) fn malformed_token() -> Lost {
    Lost::Refused {
        status: 401,
        code: "token_malformed".into(),
        message: "the token has characters that cannot stand in a header".into(),
        retry_ms: None,
    }
}

/// The first of the host's addresses that answers.
fn connect(authority: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in authority.to_socket_addrs()? {
        match connect_one(address) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_one(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// That it took too long, if it did.
fn words(error: &io::Error, patience: Duration) -> Option<String> {
    let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    is_late.then(|| format!("no answer within {} s", patience.as_secs()))
}

fn broken(why: &str) -> Lost {
    Lost::Broken(format!("{why}; is it a Runcast daemon?"))
}

/// Reads a whole answer: its body, or the refusal.
fn read(answer: &[u8]) -> Result<Vec<u8>, Lost> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = head.parse(answer) else {
        return Err(broken("expected an HTTP answer, found something else or a part of one"));
    };
    let (status, body) = (head.code.unwrap_or_default(), &answer[length..]);
    let told = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let told = told.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok());
    if told.is_some_and(|told| told != body.len()) {
        return Err(Lost::Broken("the answer came in part".into()));
    }
    if (200..300).contains(&status) {
        return Ok(body.to_owned());
    }
    let json = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let text = |field: &str| json[field].as_str().unwrap_or_default().to_owned();
    let retry_ms = json["retry_ms"].as_u64();
    Err(Lost::Refused { status, code: text("code"), message: text("message"), retry_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
        assert_eq!(read(whole.as_bytes()).unwrap(), b"{\"a\":1}");
        for end in [0, 10, whole.len() - 8, whole.len() - 1] {
            assert!(matches!(read(&whole.as_bytes()[..end]), Err(Lost::Broken(_))), "{end}");
        }
    }

    #[test]
    fn a_refusal_says_what_the_daemon_says() {
        let body = r#"{"code":"run_not_found","message":"none","retry_ms":5}"#;
        let refused = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let expected = Lost::Refused {
            status: 404,
            code: "run_not_found".into(),
            message: "none".into(),
            retry_ms: Some(5),
        };
        assert_eq!(read(refused.as_bytes()), Err(expected));
        let bare = Lost::Refused { status: 502, code: String::new(), message: String::new(), retry_ms: None };
        assert_eq!(read(b"HTTP/1.1 502 Bad Gateway\r\n\r\nno"), Err(bare));
    }
}
