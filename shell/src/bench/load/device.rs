//! A user's device: it checks that each event continues its position, and acknowledges as the client
//! libraries do.

use super::count::Count;
use super::foreign::Role;
use super::peer::Peer;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// Deltas are acknowledged together: after so long, or so many.
pub(super) const ACK_AFTER: Duration = Duration::from_millis(100);
const ACK_EVENTS: u64 = 32;
/// What stands before the time at which an event was sent.
pub(super) const STAMP: &str = "t=";

/// One device.
#[derive(Debug, Default)]
pub(super) struct Device {
    pub(super) peer: Peer,
    pub(super) user: usize,
    /// What it gets is not timed.
    pub(super) is_marked: bool,
    /// It reads and acknowledges nothing.
    pub(super) is_stalled: bool,
    /// Which incarnation of the stream, and how far it has everything.
    epoch: String,
    position: u64,
    acked: u64,
    /// When it acknowledges what it has got.
    pub(super) ack_at: Option<Instant>,
    /// The load generator looks again then.
    pub(super) is_queued: bool,
    /// Published events that it has got.
    pub(super) got: u64,
}

/// What a daemon says to a device, as far as it is looked at.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    seq: Option<u64>,
    prev: Option<u64>,
    joined: Option<u64>,
    redelivery: Option<u64>,
    event: Option<&'a str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    epoch: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resume: Option<Resume<'a>>,
}

#[derive(Deserialize)]
struct Resume<'a> {
    status: &'a str,
    from: u64,
}

impl Device {
    pub(super) fn new(user: usize, is_marked: bool) -> Self {
        Self { user, is_marked, ..Self::default() }
    }

    /// What it says first. It goes on after its position, or from the beginning.
    pub(super) fn hello(&mut self, number: usize, from_oldest: bool) -> String {
        let from = match (from_oldest, self.epoch.as_str()) {
            (true, _) => r#","from":"oldest""#.to_owned(),
            (false, "") => String::new(),
            (false, epoch) => format!(r#","from":{{"epoch":"{epoch}","seq":{}}}"#, self.position),
        };
        if from_oldest {
            (self.epoch, self.position, self.got) = (String::new(), 0, 0);
        }
        format!(r#"{{"type":"hello","device":"d-{number}"{from}}}"#)
    }

    /// What it is to anything but a daemon. It goes on after its position, or from the beginning.
    pub(super) fn role(&mut self, number: usize, from_oldest: bool) -> Role {
        if from_oldest {
            (self.position, self.got) = (0, 0);
        }
        Role::Device { number, user: self.user, position: self.position }
    }

    /// Hears all that is there.
    pub(super) fn hear(&mut self, count: &mut Count) -> Result<(), String> {
        while let Some(text) = self.peer.next()? {
            let said: Said<'_> =
                serde_json::from_str(&text).map_err(|error| format!("cannot be read: {error}: {text}"))?;
            match said.kind {
                "event" => self.on_event(&said, count)?,
                "welcome" => self.on_welcome(said, count)?,
                "error" => return Err(text.to_string()),
                _ => {}
            }
        }
        count.welcome += u64::from(self.peer.is_let_in());
        count.wire_bytes += self.peer.take_bytes();
        self.peer.flush()
    }

    fn on_welcome(&mut self, said: Said<'_>, count: &mut Count) -> Result<(), String> {
        let resume = said.resume.ok_or("a welcome without `resume`")?;
        if !self.epoch.is_empty() && (resume.status, resume.from) != ("resumed", self.position) {
            return Err(format!("was at {}, is {} from {}", self.position, resume.status, resume.from));
        }
        self.epoch = said.epoch.unwrap_or_default().into_owned();
        (self.position, self.acked) = (resume.from, resume.from);
        count.welcome += 1;
        Ok(())
    }

    fn on_event(&mut self, said: &Said<'_>, count: &mut Count) -> Result<(), String> {
        let seq = said.seq.ok_or("an event without `seq`")?;
        if seq <= self.position {
            // Others than a daemon do not say it where this could be read.
            if said.redelivery.is_none() && self.peer.foreign().is_none() {
                return Err(format!("{seq} came again without `redelivery`, while at {}", self.position));
            }
            count.redelivered += 1;
            self.ack_at.get_or_insert_with(|| Instant::now() + ACK_AFTER);
            return Ok(());
        }
        let prev = said.prev.unwrap_or(seq - 1);
        if prev != self.position {
            return Err(format!("a gap: an event after {prev}, while at {}", self.position));
        }
        self.position = seq;
        let is_delta = said.event == Some("agent_output");
        if is_delta {
            let events = said.joined.unwrap_or(1);
            self.got += events;
            count.got(events);
            let mut found = 0;
            for sent in sent_at(said.data.map_or("", |data| data.get())) {
                found += 1;
                if !self.is_marked {
                    count.time(sent);
                }
            }
            if found != events {
                return Err(format!("expected {events} events in {seq}, found {found}"));
            }
        }
        count.ends += u64::from(said.event == Some("agent_completed"));
        if is_delta && seq - self.acked < ACK_EVENTS {
            self.ack_at.get_or_insert_with(|| Instant::now() + ACK_AFTER);
        } else {
            self.ack()?;
        }
        Ok(())
    }

    /// Acknowledges what it has got.
    pub(super) fn ack(&mut self) -> Result<(), String> {
        self.ack_at = None;
        if self.is_stalled {
            return Ok(());
        }
        self.acked = self.position;
        if let Some(foreign) = self.peer.foreign() {
            foreign.ack();
            return Ok(());
        }
        self.peer.say(format!(r#"{{"type":"ack","seq":{}}}"#, self.position))
    }
}

/// When the events in this data were sent, in microseconds of the load generator's clock: one, or, since
/// joining keeps the text of each, as many as are joined.
fn sent_at(data: &str) -> impl Iterator<Item = u64> {
    data.split(STAMP).skip(1).filter_map(|stamp| {
        let digits = stamp.find(|it: char| !it.is_ascii_digit()).unwrap_or(stamp.len());
        stamp[..digits].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_that_is_joined_is_timed() {
        let joined = r#"{"delta":"t=12 ....t=345 ...."}"#;
        assert_eq!(sent_at(joined).collect::<Vec<_>>(), [12, 345]);
        assert_eq!(sent_at(r#"{"text":"none"}"#).count(), 0);
    }
}
