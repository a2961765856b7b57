//! NATS with JetStream: a device has a durable consumer of its user's subject, asks it for events by the
//! batch and acknowledges them together; each event is acknowledged to its publisher.

use super::wire::Wire;
use super::{Foreign, Role, user_name};
use mio::net::TcpStream;
use tungstenite::Utf8Bytes;

/// The stream that all events go to, in files. It must exist before a device comes.
pub(in crate::bench) const STREAM: &str = r#"{"name":"EVENTS","subjects":["users.*"],"storage":"file"}"#;
/// Events asked for at once: as many as a daemon lets be unacknowledged.
const BATCH: usize = 256;
/// How a consumer's events are to be answered begins so.
const ACK: &str = "$JS.ACK.";
/// What opens a connection.
pub(in crate::bench) const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"bench\",\"version\":\"1\",\"protocol\":1,\
     \"headers\":true,\"no_responders\":true}\r\n";

#[derive(Debug)]
pub(super) struct Nats {
    wire: Wire,
    name: String,
    is_publisher: bool,
    is_ready: bool,
    /// Events that were asked for and have not come.
    asked: usize,
    /// Where the last event is to be acknowledged, and with it all before.
    ack_to: String,
    unconfirmed: usize,
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
enum Said<'a> {
    Message {
        reply: &'a str,
        payload: &'a [u8],
    },
    Ping,
    /// Nothing that wants an answer.
    Other,
}

impl Nats {
    /// Asks for a consumer, or for nothing but confirmations.
    ///
    /// # Errors
    /// When the connection is lost already.
    pub(super) fn new(socket: TcpStream, role: &Role) -> Result<Self, String> {
        let (mut wire, name) = (Wire::new(socket), role.name());
        wire.say(CONNECT.as_bytes());
        wire.say(format!("SUB _INBOX.{name} 1\r\n").as_bytes());
        match role {
            // The first pong says that all before it was taken.
            Role::Publisher(_) => wire.say(b"PING\r\n"),
            Role::Device { user, .. } => {
                let ask = format!(
                    r#"{{"stream_name":"EVENTS","config":{{"durable_name":"{name}","filter_subject":"users.{}","#,
                    user_name(*user)
                ) + r#""deliver_policy":"all","ack_policy":"all"}}"#;
                let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.{name}");
                wire.say(&publication(&subject, &name, ask.as_bytes()));
            }
        }
        wire.flush()?;
        let (is_publisher, ack_to) = (role.is_publisher(), String::new());
        Ok(Self { wire, name, is_publisher, is_ready: false, asked: 0, ack_to, unconfirmed: 0 })
    }

    /// Asks for more before it has all.
    fn ask(&mut self) {
        if self.asked <= BATCH / 2 {
            let batch = BATCH - self.asked;
            let subject = format!("$JS.API.CONSUMER.MSG.NEXT.EVENTS.{}", self.name);
            let ask = format!(r#"{{"batch":{batch}}}"#);
            self.wire.say(&publication(&subject, &self.name, ask.as_bytes()));
            self.asked = BATCH;
        }
    }

    /// What answers a request: that for a consumer, or an event.
    fn on_answer(&mut self, payload: &str) -> Result<(), String> {
        if payload.contains(r#""error""#) {
            return Err(format!("refused: {payload}"));
        }
        if self.is_publisher {
            self.unconfirmed = self.unconfirmed.saturating_sub(1);
        } else {
            self.is_ready = true;
            self.ask();
        }
        Ok(())
    }
}

impl Foreign for Nats {
    fn next(&mut self) -> Result<Option<Utf8Bytes>, String> {
        loop {
            let Some((said, length)) = read(self.wire.input())? else {
                if self.wire.read()? {
                    continue;
                }
                return Ok(None);
            };
            match said {
                Said::Message { reply, payload } => {
                    let payload = String::from_utf8_lossy(payload).into_owned();
                    let is_event = reply.starts_with(ACK);
                    if is_event {
                        reply.clone_into(&mut self.ack_to);
                    }
                    self.wire.take(length);
                    if is_event {
                        self.asked = self.asked.saturating_sub(1);
                        self.ask();
                        return Ok(Some(payload.into()));
                    }
                    self.on_answer(&payload)?;
                }
                Said::Ping => {
                    self.wire.take(length);
                    self.wire.say(b"PONG\r\n");
                }
                Said::Other => {
                    self.is_ready |= self.is_publisher && self.wire.input().starts_with(b"PONG");
                    self.wire.take(length);
                }
            }
        }
    }

    fn publish(&mut self, user: usize, event: &str) -> Result<(), String> {
        self.unconfirmed += 1;
        let subject = format!("users.{}", user_name(user));
        self.wire.say(&publication(&subject, &self.name, event.as_bytes()));
        Ok(())
    }

    fn ack(&mut self) {
        if !self.ack_to.is_empty() {
            self.wire.say(format!("PUB {} 4\r\n+ACK\r\n", self.ack_to).as_bytes());
            self.ack_to.clear();
        }
    }

    fn unconfirmed(&self) -> usize {
        self.unconfirmed
    }

    fn unsent(&self) -> usize {
        self.wire.unsent()
    }

    fn is_ready(&self) -> bool {
        self.is_ready
    }

    fn flush(&mut self) -> Result<(), String> {
        self.wire.flush()
    }

    fn take_bytes(&mut self) -> u64 {
        self.wire.take_bytes()
    }
}

/// What publishes under a subject and wants its answer in the inbox of this name.
pub(in crate::bench) fn publication(subject: &str, name: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("PUB {subject} _INBOX.{name} {}\r\n", payload.len());
    [head.as_bytes(), payload, b"\r\n"].concat()
}

/// The first thing said and its length, if it is whole.
fn read(input: &[u8]) -> Result<Option<(Said<'_>, usize)>, String> {
    let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let line = str::from_utf8(&input[..end]).map_err(|error| error.to_string())?;
    let head = end + 2;
    let mut words = line.split(' ');
    match words.next().unwrap_or_default() {
        "MSG" => {
            let words: Vec<&str> = words.collect();
            let (reply, length) = match words[..] {
                [_, _, reply, length] => (reply, length),
                [_, _, length] => ("", length),
                _ => return Err(format!("unexpected: {line}")),
            };
            let length: usize = length.parse().map_err(|_| format!("unexpected: {line}"))?;
            let whole = input.get(head..head + length + 2);
            Ok(whole.map(|it| (Said::Message { reply, payload: &it[..length] }, head + length + 2)))
        }
        "PING" => Ok(Some((Said::Ping, head))),
        "INFO" | "PONG" | "+OK" => Ok(Some((Said::Other, head))),
        // With a header comes what tells that something went wrong; the header follows.
        _ => Err(format!("unexpected: {}", String::from_utf8_lossy(input))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_when_it_is_whole() {
        let text = b"MSG users.u-1 1 $JS.ACK.EVENTS.d-1.1.5.5.9.0 5\r\nab\r\nc\r\nPING\r\n";
        let said = Said::Message { reply: "$JS.ACK.EVENTS.d-1.1.5.5.9.0", payload: b"ab\r\nc" };
        assert_eq!(read(&text[..50]), Ok(None));
        assert_eq!(read(text), Ok(Some((said, text.len() - 6))));
        assert_eq!(read(b"PING\r\n"), Ok(Some((Said::Ping, 6))));
    }

    #[test]
    fn what_tells_of_trouble_is_an_error() {
        assert!(read(b"-ERR 'Authorization Violation'\r\n").is_err());
        assert!(read(b"HMSG _INBOX.p-0 1 30 30\r\nNATS/1.0 503\r\n\r\n\r\n").is_err());
    }
}
