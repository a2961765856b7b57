//! O1, for PROTOCOL §2.2 "In order, without gaps": on a connection each event continues the one before, from
//! the position that `welcome` named; only marked redeliveries go back. Also that no more than the window is
//! unacknowledged (§4), and that nothing is sent twice on one connection before an acknowledgement was
//! overdue (O5).

use crate::schedule::{MS, Micros};
use std::collections::BTreeMap;

/// The first retry comes after 2 s, the later ones after 4 and 8 s; ± 20 %.
const RETRY_AT_LEAST: Micros = 1_600 * MS;
/// Nothing new is sent while so many bytes are unacknowledged.
const WINDOW_BYTES: usize = 1024 * 1024;

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
    pub fn event(&mut self, seq: u64, redelivery: Option<u64>) -> Result<bool, String> {
        let position = self.position;
        match redelivery {
            None if seq == position + 1 => {
                self.position = seq;
                Ok(true)
            }
            None => Err(format!("at position {position} comes seq {seq}")),
            Some(n) if n >= 1 && seq <= position => Ok(false),
            Some(n) => Err(format!("at position {position} comes seq {seq} as redelivery {n}")),
        }
    }
}

/// One connection's events as the daemon writes them.
#[derive(Debug, Default)]
pub struct Sender {
    reader: Reader,
    window: Option<u64>,
    acked: u64,
    /// When each event that is not acknowledged was last written, and its bytes.
    written: BTreeMap<u64, (Micros, usize)>,
    /// The last redelivery.
    last: (u64, u64),
}

impl Sender {
    /// The connection is welcome: where it starts, and its window, if it acknowledges.
    pub fn welcome(&mut self, from: u64, window: Option<u64>) {
        *self = Self { reader: Reader { position: from }, window, acked: from, ..Self::default() };
    }

    /// Up to where it was sent, and whether its window has room for more.
    pub fn position(&self) -> (u64, bool) {
        let position = self.reader.position;
        let bytes: usize = self.written.values().map(|(_, bytes)| bytes).sum();
        let has_room = |window| position < self.acked + window && bytes < WINDOW_BYTES;
        (position, self.window.is_none_or(has_room))
    }

    /// The client acknowledges (is about to send it).
    pub fn acked(&mut self, seq: u64) {
        self.acked = self.acked.max(seq);
        self.written = self.written.split_off(&(self.acked + 1));
    }

    /// An event is written.
    ///
    /// # Errors
    /// Out of order, past the window, or again too early.
    pub fn event(
        &mut self,
        now: Micros,
        seq: u64,
        redelivery: Option<u64>,
        bytes: usize,
    ) -> Result<(), String> {
        let (before, has_room) = self.position();
        self.reader.event(seq, redelivery)?;
        let Some(window) = self.window else {
            return if redelivery.is_none() {
                Ok(())
            } else {
                Err("a viewer is sent a redelivery".to_owned())
            };
        };
        if seq > self.acked + window {
            return Err(format!(
                "seq {seq} is sent while {} is acknowledged and the window is {window}",
                self.acked
            ));
        }
        if seq > before && !has_room {
            return Err(format!("seq {seq} is sent while {WINDOW_BYTES} bytes are not acknowledged"));
        }
        if let Some(n) = redelivery {
            let begins = self.last.0 != n || seq <= self.last.1;
            let age = self.written.get(&seq).map(|(at, _)| now - at);
            if begins && age.is_some_and(|age| age < RETRY_AT_LEAST) {
                return Err(format!(
                    "seq {seq} is sent again (redelivery {n}) after {} µs",
                    age.unwrap_or(0)
                ));
            }
            self.last = (n, seq);
        }
        if seq > self.acked {
            self.written.entry(seq).or_insert((now, bytes)).0 = now;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_and_an_unmarked_repeat_are_seen() {
        let mut reader = Reader { position: 4 };
        assert_eq!(reader.event(5, None), Ok(true));
        assert_eq!(reader.event(5, Some(1)), Ok(false));
        assert!(reader.event(5, None).is_err());
        assert!(reader.event(7, None).is_err());
        assert!(reader.event(6, Some(1)).is_err());
    }

    #[test]
    fn one_past_the_window_and_a_hasty_retry_are_seen() {
        let mut sender = Sender::default();
        sender.welcome(0, Some(2));
        assert!(sender.event(0, 1, None, 100).is_ok());
        assert!(sender.event(0, 2, None, 100).is_ok());
        assert!(sender.event(0, 3, None, 100).is_err());
        sender.welcome(0, Some(2));
        assert!(sender.event(0, 1, None, 100).is_ok());
        assert!(sender.event(1_500 * MS, 1, Some(1), 100).is_err());
        assert!(sender.event(2_000 * MS, 1, Some(1), 100).is_ok());
    }
}
