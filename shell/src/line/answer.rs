//! The answer to an upgrade, in one piece.
//!
//! The WebSocket library takes for the body of a refusal what it has read with the head. Where the two come
//! apart, as proxies and TLS may send them, the code and the words of the refusal would be lost.

use std::io::{self, ErrorKind, Read, Write};

/// The longest answer that is waited for whole, in bytes. What the daemon says is far shorter.
const ANSWER_MAX: usize = 16 << 10;
/// The most headers of it.
const HEADERS: usize = 64;
/// Bytes read at once.
const CHUNK_BYTES: usize = 2048;

/// A stream whose first answer is read when it is there whole, and which is then as it was.
#[derive(Debug)]
pub(super) struct Answered<S> {
    below: S,
    /// What of the answer was not read from here yet.
    answer: Vec<u8>,
    is_whole: bool,
}

impl<S> Answered<S> {
    /// One on which nothing was read.
    pub(super) fn new(below: S) -> Self {
        Self { below, answer: Vec::new(), is_whole: false }
    }

    /// The stream below.
    pub(super) fn below_mut(&mut self) -> &mut S {
        &mut self.below
    }
}

impl<S: Read> Answered<S> {
    /// Reads until the answer is whole, or will never be.
    fn gather(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK_BYTES];
        while !is_whole(&self.answer) {
            match self.below.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => self.answer.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock || self.answer.is_empty() => {
                    return Err(error);
                }
                // What came before it is worth hearing.
                Err(_) => break,
            }
        }
        self.is_whole = true;
        Ok(())
    }
}

impl<S: Read> Read for Answered<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.is_whole {
            self.gather()?;
        }
        if self.answer.is_empty() {
            return self.below.read(into);
        }
        let length = self.answer.len().min(into.len());
        into[..length].copy_from_slice(&self.answer[..length]);
        self.answer.drain(..length);
        Ok(length)
    }
}

impl<S: Write> Write for Answered<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.below.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.below.flush()
    }
}

/// Whether nothing more is to be waited for: an upgrade has no body, nor has what says of no length that it
/// has one.
fn is_whole(answer: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    match head.parse(answer) {
        _ if answer.len() >= ANSWER_MAX => true,
        Ok(httparse::Status::Partial) => false,
        Ok(httparse::Status::Complete(_)) if head.code == Some(101) => true,
        Ok(httparse::Status::Complete(length)) => {
            let told = head.headers.iter().find(|it| it.name.eq_ignore_ascii_case("content-length"));
            let told = told.and_then(|it| std::str::from_utf8(it.value).ok()?.trim().parse::<usize>().ok());
            answer.len() - length >= told.unwrap_or(0)
        }
        // Whoever asked will say what it is.
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{Lost, refused};
    use std::collections::VecDeque;
    use tungstenite::client::IntoClientRequest;
    use tungstenite::handshake::HandshakeError;
    use tungstenite::handshake::client::ClientHandshake;

    const URL: &str = "ws://127.0.0.1:1";

    /// Somebody who says something in pieces, with nothing between them, and then goes.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.0.front_mut() else { return Ok(0) };
            if piece.is_empty() {
                self.0.pop_front();
                return Err(ErrorKind::WouldBlock.into());
            }
            let length = piece.as_slice().read(into)?;
            piece.drain(..length);
            Ok(length)
        }
    }

    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What comes of an upgrade that is answered so.
    fn ask(pieces: &[&str]) -> Lost {
        let pieces = Pieces(pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect());
        let request = URL.into_client_request().unwrap();
        let mut step = ClientHandshake::start(Answered::new(pieces), request, None).unwrap();
        loop {
            match step.handshake() {
                Ok(_) => panic!("nobody has agreed"),
                Err(HandshakeError::Interrupted(next)) => step = next,
                Err(HandshakeError::Failure(error)) => return refused(URL, error),
            }
        }
    }

    fn expired() -> Lost {
        let (code, message) = ("token_expired".into(), "5 s ago".into());
        Lost::Refused { status: 401, code, message, retry_ms: Some(7) }
    }

    const BODY: &str = r#"{"code":"token_expired","message":"5 s ago","retry_ms":7}"#;

    #[test]
    fn a_refusal_is_understood_however_it_was_cut() {
        let head = format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n", BODY.len());
        let answer = format!("{head}{BODY}");
        for end in 1..answer.len() {
            let (first, rest) = answer.split_at(end);
            assert_eq!(ask(&[first, rest]), expired(), "cut after {end} bytes");
        }
        let bytes: Vec<&str> = answer.split_inclusive(|_| true).collect();
        assert_eq!(ask(&bytes), expired());
    }

    #[test]
    fn what_will_never_be_whole_is_not_waited_for() {
        let bare =
            |status| Lost::Refused { status, code: String::new(), message: String::new(), retry_ms: None };
        assert_eq!(ask(&["HTTP/1.1 502 Bad Gateway\r\n\r\n", "and words"]), bare(502));
        assert_eq!(ask(&["HTTP/1.1 401 No\r\nContent-Length: 1000\r\n\r\n", BODY]), expired());
        let long = format!("HTTP/1.1 404 No\r\nContent-Length: 99999\r\n\r\n{}", "x".repeat(ANSWER_MAX));
        assert_eq!(ask(&[&long]), bare(404));
        assert!(matches!(ask(&["no HTTP at all\r\n\r\n"]), Lost::Unreachable { .. }));
    }
}
