//! MQTT 3.1.1 with QoS 1: a device subscribes to its user's topic in a session that outlives the connection,
//! and acknowledges each event as it comes; a publisher's events are acknowledged to it.

use super::wire::Wire;
use super::{Foreign, Role, user_name};
use mio::net::TcpStream;
use tungstenite::Utf8Bytes;

/// The first byte of packets: their type, and flags. Of what is published only the type is looked at.
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBLISH_QOS_1: u8 = 0x32;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
/// The protocol's name with its length before it, and its level.
const PROTOCOL: &[u8] = b"\0\x04MQTT\x04";
const CLEAN_SESSION: u8 = 2;
/// What a subscription's answer says when it is granted with QoS 1.
const GRANTED_QOS_1: u8 = 1;

#[derive(Debug)]
pub(super) struct Mqtt {
    wire: Wire,
    /// What a device subscribes to.
    topic: Option<String>,
    is_ready: bool,
    /// Of the last event that was published, and how many of them are not acknowledged.
    id: u16,
    unconfirmed: usize,
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
enum Said<'a> {
    Event { id: [u8; 2], payload: &'a [u8] },
    Connected,
    Subscribed,
    Acknowledged,
}

impl Mqtt {
    /// Asks to be let in.
    ///
    /// # Errors
    /// When the connection is lost already.
    pub(super) fn new(socket: TcpStream, role: &Role) -> Result<Self, String> {
        let (topic, flags) = match role {
            Role::Publisher(_) => (None, CLEAN_SESSION),
            Role::Device { user, .. } => (Some(topic(*user)), 0),
        };
        let mut wire = Wire::new(socket);
        // Kept alive for ever.
        wire.say(&packet(CONNECT, &[PROTOCOL, &[flags, 0, 0], &text(&role.name())]));
        wire.flush()?;
        Ok(Self { wire, topic, is_ready: false, id: 0, unconfirmed: 0 })
    }
}

impl Foreign for Mqtt {
    fn next(&mut self) -> Result<Option<Utf8Bytes>, String> {
        loop {
            let Some((said, length)) = read(self.wire.input())? else {
                if self.wire.read()? {
                    continue;
                }
                return Ok(None);
            };
            match said {
                Said::Event { id, payload } => {
                    let event = String::from_utf8_lossy(payload).into_owned();
                    self.wire.take(length);
                    self.wire.say(&packet(PUBACK, &[&id]));
                    return Ok(Some(event.into()));
                }
                Said::Connected => match &self.topic {
                    None => self.is_ready = true,
                    Some(topic) => {
                        let subscribe = packet(SUBSCRIBE, &[&1_u16.to_be_bytes(), &text(topic), &[1]]);
                        self.wire.say(&subscribe);
                    }
                },
                Said::Subscribed => self.is_ready = true,
                Said::Acknowledged => self.unconfirmed = self.unconfirmed.saturating_sub(1),
            }
            self.wire.take(length);
        }
    }

    fn publish(&mut self, user: usize, event: &str) -> Result<(), String> {
        // Zero names no packet.
        self.id = self.id.checked_add(1).unwrap_or(1);
        self.unconfirmed += 1;
        let parts = [&text(&topic(user)), &self.id.to_be_bytes()[..], event.as_bytes()];
        self.wire.say(&packet(PUBLISH_QOS_1, &parts));
        Ok(())
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

fn topic(user: usize) -> String {
    format!("users/{}", user_name(user))
}

/// A text with its length before it.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// A packet of these parts: its first byte, the length of the rest in groups of seven bits, least first, the
/// rest.
fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut bytes = vec![first];
    loop {
        let more = if length > 0x7f { 0x80 } else { 0 };
        bytes.push((length & 0x7f) as u8 | more);
        length >>= 7;
        if length == 0 {
            break;
        }
    }
    bytes.extend(parts.concat());
    bytes
}

/// The first packet and its length, if it is whole.
fn read(input: &[u8]) -> Result<Option<(Said<'_>, usize)>, String> {
    let Some((first, rest)) = input.split_first() else { return Ok(None) };
    let Some(digits) = rest.iter().take(4).position(|byte| byte & 0x80 == 0) else { return Ok(None) };
    let digits = &rest[..=digits];
    let length = digits.iter().rev().fold(0, |length, digit| length << 7 | usize::from(digit & 0x7f));
    let head = 1 + digits.len();
    let Some(body) = input.get(head..head + length) else { return Ok(None) };
    let said = match (*first, body) {
        (CONNACK, [_, 0]) => Said::Connected,
        (SUBACK, [_, _, GRANTED_QOS_1]) => Said::Subscribed,
        (PUBACK, _) => Said::Acknowledged,
        (first, body) if first & 0xf0 == PUBLISH => {
            event(body).ok_or_else(|| format!("an event that cannot be read: {body:?}"))?
        }
        (first, body) => return Err(format!("unexpected: a packet {first:#04x} with {body:?}")),
    };
    Ok(Some((said, head + length)))
}

/// What follows the topic: the packet's id and the payload.
fn event(body: &[u8]) -> Option<Said<'_>> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    let (id, payload) = rest.get(usize::from(u16::from_be_bytes(*length))..)?.split_first_chunk::<2>()?;
    Some(Said::Event { id: *id, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_when_it_is_whole() {
        let payload = vec![b'.'; 300];
        let packet = packet(PUBLISH_QOS_1, &[&text("users/u-7"), &[1, 2], &payload]);
        assert_eq!(packet[1..3], [0xb9, 0x02], "313 = 0x39 + 2 × 128");
        assert_eq!(read(&packet[..1]), Ok(None));
        assert_eq!(read(&packet[..packet.len() - 1]), Ok(None));
        let said = Said::Event { id: [1, 2], payload: &payload };
        assert_eq!(read(&packet), Ok(Some((said, packet.len()))));
    }

    #[test]
    fn a_refusal_is_an_error() {
        assert_eq!(read(&[CONNACK, 2, 0, 0]), Ok(Some((Said::Connected, 4))));
        assert!(read(&[CONNACK, 2, 0, 5]).is_err(), "not authorised");
        assert!(read(&[SUBACK, 3, 0, 1, 0x80]).is_err(), "not granted");
    }
}
