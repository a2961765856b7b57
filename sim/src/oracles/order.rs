//! O1, for PROTOCOL §2.2 "In order, without gaps": on a connection each event continues the one before, from
//! the position that `welcome` named; only marked redeliveries go back, and say what was said. Also that no
//! more than the window is unacknowledged (§4), and that nothing is sent twice on one connection before an
//! acknowledgement was overdue (O5).

use crate::said::Said;
use crate::schedule::{MS, Micros};
use std::collections::BTreeMap;

/// The first retry comes after 2 s, the later ones after 4 and 8 s; ± 20 %.
const RETRY_AT_LEAST: Micros = 1_600 * MS;
/// Nothing new is sent while so many bytes are unacknowledged.
const WINDOW_BYTES: usize = 1024 * 1024;

/// Where an event belongs.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// The position before it.
    pub prev: u64,
    /// Its seq: of deltas that were joined, the last one's.
    pub seq: u64,
    /// Which retry it is.
    pub redelivery: Option<u64>,
}

impl Piece {
    /// Of an event.
    pub fn of(said: &Said<'_>) -> Self {
        let seq = said.seq.unwrap_or(0);
        Self { prev: said.prev.unwrap_or(seq.saturating_sub(1)), seq, redelivery: said.redelivery }
    }
}

/// One connection's events, as they are sent or as they are received.
#[derive(Debug, Default)]
pub struct Reader {
    /// Up to where everything came.
    pub position: u64,
}

impl Reader {
    /// An event came. Tells whether it is a new one on this connection.
    ///
    /// # Errors
    /// It does not continue the connection.
    pub fn event(&mut self, place: Piece) -> Result<bool, String> {
        let position = self.position;
        match place.redelivery {
            None if place.prev == position && place.seq > position => {
                self.position = place.seq;
                Ok(true)
            }
            Some(n) if n >= 1 && place.seq <= position => Ok(false),
            None | Some(_) => Err(format!("at position {position} comes {place:?}")),
        }
    }
}

/// An event that was written.
#[derive(Clone, Copy, Debug)]
struct Written {
    /// When, the last time.
    at: Micros,
    bytes: usize,
    /// The position before it.
    prev: u64,
}

/// One connection's events as the daemon writes them.
#[derive(Debug, Default)]
pub struct Sender {
    reader: Reader,
    window: Option<u64>,
    acked: u64,
    /// What is not acknowledged, by its seq.
    written: BTreeMap<u64, Written>,
    /// The last redelivery.
    last: (u64, u64),
    /// Whether a retry is under way: nothing new is sent before its end.
    is_again: bool,
}

impl Sender {
    /// The connection is welcome: where it starts, and its window, if it acknowledges.
    pub fn welcome(&mut self, from: u64, window: Option<u64>) {
        *self = Self { reader: Reader { position: from }, window, acked: from, ..Self::default() };
    }

    /// Up to where it was sent, and whether more may be sent.
    pub fn position(&self) -> (u64, bool) {
        (self.reader.position, !self.is_again && self.has_room())
    }

    /// Whether anything is not acknowledged.
    pub fn waits_for_acks(&self) -> bool {
        !self.written.is_empty()
    }

    /// Whether its window has room for more.
    fn has_room(&self) -> bool {
        self.window.is_none_or(|window| (self.written.len() as u64) < window) && !self.is_full_of_bytes()
    }

    /// Whether the bytes of what is not acknowledged fill its window, however few events they are.
    fn is_full_of_bytes(&self) -> bool {
        let bytes: usize = self.written.values().map(|written| written.bytes).sum();
        self.window.is_some() && bytes >= WINDOW_BYTES
    }

    /// The client acknowledges (is about to send it).
    pub fn acked(&mut self, seq: u64) {
        self.acked = self.acked.max(seq);
        self.written = self.written.split_off(&(self.acked + 1));
        self.is_again &= !self.written.is_empty();
    }

    /// An event is written, in so many bytes.
    ///
    /// # Errors
    /// Out of order, past the window, again too early, or again as another.
    pub fn event(&mut self, now: Micros, place: Piece, bytes: usize) -> Result<(), String> {
        let Piece { prev, seq, redelivery } = place;
        let (before, has_room) = (self.reader.position, self.has_room());
        self.reader.event(place)?;
        if self.window.is_none() {
            let is_plain = redelivery.is_none() && prev + 1 == seq;
            return if is_plain { Ok(()) } else { Err(format!("a viewer is sent {place:?}")) };
        }
        self.is_again &= seq <= before;
        if seq > before && !has_room {
            let (held, acked) = (self.written.len(), self.acked);
            return Err(format!("seq {seq} is sent while {held} are unacknowledged after {acked}"));
        }
        if let Some(n) = redelivery {
            self.again(now, place, n)?;
        }
        if seq > self.acked {
            self.written.entry(seq).or_insert(Written { at: now, bytes, prev }).at = now;
        }
        Ok(())
    }

    /// It is written again.
    fn again(&mut self, now: Micros, place: Piece, n: u64) -> Result<(), String> {
        self.is_again = self.written.last_key_value().is_some_and(|(newest, _)| place.seq < *newest);
        let begins = self.last.0 != n || place.seq <= self.last.1;
        self.last = (n, place.seq);
        let Some(first) = self.written.get(&place.seq) else { return Ok(()) };
        if first.prev != place.prev {
            return Err(format!("{place:?} was sent as what comes after {}", first.prev));
        }
        let age = now - first.at;
        if begins && age < RETRY_AT_LEAST {
            return Err(format!("{place:?} comes after {age} µs"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn one(seq: u64, redelivery: Option<u64>) -> Piece {
        Piece { prev: seq - 1, seq, redelivery }
    }

    #[test]
    fn a_gap_and_an_unmarked_repeat_are_seen() {
        let mut reader = Reader { position: 4 };
        assert_eq!(reader.event(one(5, None)), Ok(true));
        assert_eq!(reader.event(one(5, Some(1))), Ok(false));
        assert!(reader.event(one(5, None)).is_err());
        assert!(reader.event(one(7, None)).is_err());
        assert!(reader.event(one(6, Some(1))).is_err());
        assert!(reader.event(Piece { prev: 4, seq: 8, redelivery: None }).is_err(), "5 was there");
        assert_eq!(reader.event(Piece { prev: 5, seq: 8, redelivery: None }), Ok(true));
    }

    #[test]
    fn one_past_the_window_and_a_hasty_retry_are_seen() {
        let mut sender = Sender::default();
        sender.welcome(0, Some(2));
        assert!(sender.event(0, one(1, None), 100).is_ok());
        assert!(sender.event(0, Piece { prev: 1, seq: 9, redelivery: None }, 100).is_ok());
        assert!(sender.event(0, one(10, None), 100).is_err());
        assert!(sender.event(2_000 * MS, one(9, Some(1)), 100).is_err(), "it stood for more");
        sender.welcome(0, Some(2));
        assert!(sender.event(0, one(1, None), 100).is_ok());
        assert!(sender.event(1_500 * MS, one(1, Some(1)), 100).is_err());
        assert!(sender.event(2_000 * MS, one(1, Some(1)), 100).is_ok());
    }
}
