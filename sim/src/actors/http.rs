//! A request over HTTP, from the call to its answer.

use super::Ctx;
use crate::carrier::Socket;
use crate::pipe::Status;
use crate::plan::Network;
use crate::schedule::{Micros, SECOND};
use std::io::{ErrorKind, Read, Write};

/// Time for a request to be answered.
const PATIENCE: Micros = 40 * SECOND;
/// The longest answer, in bytes.
const ANSWER_MAX: usize = 128 * 1024;

/// A request under way.
#[derive(Debug)]
pub(super) struct Call {
    end: Box<dyn Socket>,
    request: Vec<u8>,
    written: usize,
    answer: Vec<u8>,
    /// When it is given up.
    pub(super) until: Micros,
}

/// What has become of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing yet.
    Waits,
    /// It has gone unanswered, for good.
    Broken,
    /// The status and the body.
    Answered(u16, String),
}

impl Call {
    /// Calls the daemon.
    pub(super) fn new(ctx: &Ctx<'_>, network: &Network, request: String) -> Self {
        let (end, until) = (ctx.net.call(ctx.route(network)), ctx.now + PATIENCE);
        Self { end, request: request.into_bytes(), written: 0, answer: Vec::new(), until }
    }

    /// Writes and reads as far as that goes. Who waits for too long has none.
    pub(super) fn go_on(&mut self, now: Micros) -> Outcome {
        let outcome = self.talk();
        if outcome == Outcome::Waits && now >= self.until { Outcome::Broken } else { outcome }
    }

    fn talk(&mut self) -> Outcome {
        match self.end.status() {
            Status::Calling => return Outcome::Waits,
            Status::Refused => return Outcome::Broken,
            Status::Connected => {}
        }
        while self.written < self.request.len() {
            match self.end.write(&self.request[self.written..]) {
                Ok(count) => self.written += count,
                // If it is broken, reading tells.
                Err(_) => break,
            }
        }
        let mut chunk = [0; 1024];
        loop {
            match self.end.read(&mut chunk) {
                Ok(0) => return self.answered().unwrap_or(Outcome::Broken),
                Ok(count) if self.answer.len() < ANSWER_MAX => self.answer.extend(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.answered().unwrap_or(Outcome::Waits);
                }
                Ok(_) | Err(_) => return self.answered().unwrap_or(Outcome::Broken),
            }
        }
    }

    /// The answer, once it is there whole.
    fn answered(&self) -> Option<Outcome> {
        let text = String::from_utf8_lossy(&self.answer);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        (body.len() >= length.unwrap_or(0)).then(|| Outcome::Answered(status, body.to_owned()))
    }
}
