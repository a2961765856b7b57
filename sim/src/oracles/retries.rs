//! O14, for PROTOCOL §2.3 "At least once on the wire" and the schedule of §4: an event that is not
//! acknowledged is sent again 2 s after its bytes have left, then 4 s and 8 s later (± 20 %), no more than
//! three times, each retry once; 16 s after the last the connection is closed. Neither earlier nor later.

use runcast_core::CursorView;
use runcast_core::config::Delivery;
use runcast_core::time::{Mono, Span};
use runcast_core::wire::error::CloseCode;
use std::collections::VecDeque;

/// Rounding of times to whole microseconds, and the turn in which a timer is seen.
const SLACK: Span = Span::millis(1);

/// An event as it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Its place.
    pub seq: u64,
    /// Which retry.
    pub redelivery: Option<u64>,
    /// The count of the connection's bytes at which it ends.
    pub ends: u64,
}

/// The unacknowledged events of a connection, and when the oldest of them is to be sent again.
#[derive(Debug, Default)]
pub struct Clock {
    /// Everything up to here is acknowledged.
    acked: u64,
    /// What was sent after that: its seq, and where it ends among the connection's bytes.
    sent: VecDeque<(u64, u64)>,
    /// Retries so far.
    round: u64,
    /// Which of them a retry that is going out sends next.
    again: Option<usize>,
    /// Since when the clock of the oldest runs.
    since: Option<Mono>,
}

/// The least and the longest time to wait in a round.
fn wait(delivery: &Delivery, round: u64) -> (Span, Span) {
    let full = delivery.ack_timeout.times(1 << round.min(16));
    if round == 0 { (full, full) } else { (full.ratio(80, 100), full.ratio(120, 100)) }
}

impl Clock {
    /// Takes in what may have been acknowledged, and what has left: `bytes` are those sent and those gone.
    pub fn sync(&mut self, cursor: Option<CursorView>, now: Mono, bytes: (u64, u64)) {
        let Some(cursor) = cursor.filter(|cursor| !cursor.is_viewer) else { return };
        if cursor.acked > self.acked {
            while self.sent.pop_front_if(|(seq, _)| *seq <= cursor.acked).is_some() {}
            (self.acked, self.round, self.again, self.since) = (cursor.acked, 0, None, None);
        }
        let has_left = self.sent.front().is_some_and(|(_, ends)| *ends <= bytes.1);
        if self.since.is_none() && self.again.is_none() && has_left {
            self.since = Some(now);
        }
    }

    /// An event is sent.
    ///
    /// # Errors
    /// It is a retry at the wrong time, or the wrong one.
    pub fn event(
        &mut self,
        now: Mono,
        cursor: Option<CursorView>,
        event: &Event,
        delivery: &Delivery,
    ) -> Result<(), String> {
        if cursor.is_none_or(|cursor| cursor.is_viewer) {
            return Ok(());
        }
        let Some(n) = event.redelivery else {
            self.sent.push_back((event.seq, event.ends));
            return Ok(());
        };
        let index = match self.again {
            Some(next) if n == self.round => next,
            Some(_) => return Err(format!("retry {n} of seq {} in place of {}", event.seq, self.round)),
            None => self.begin(now, n, delivery)?,
        };
        match self.sent.get_mut(index) {
            Some((seq, ends)) if *seq == event.seq => *ends = event.ends,
            other => return Err(format!("a retry of seq {} in place of {other:?}", event.seq)),
        }
        self.again = Some(index + 1).filter(|next| *next < self.sent.len());
        Ok(())
    }

    /// A retry begins, with the oldest.
    fn begin(&mut self, now: Mono, n: u64, delivery: &Delivery) -> Result<usize, String> {
        let (least, _) = wait(delivery, self.round);
        if n != self.round + 1 || n > u64::from(delivery.retries) {
            return Err(format!("retry {n} comes after retry {}", self.round));
        }
        match self.since {
            None => return Err(format!("retry {n} comes before the first copy has left")),
            Some(since) if now.since(since) < least => {
                return Err(format!("retry {n} comes after {} ms", now.since(since).as_millis()));
            }
            Some(_) => {}
        }
        (self.round, self.since) = (n, None);
        Ok(0)
    }

    /// The connection is closed.
    ///
    /// # Errors
    /// For overdue acknowledgements, and too early.
    pub fn closed(&self, now: Mono, code: CloseCode, delivery: &Delivery) -> Result<(), String> {
        if code != CloseCode::AcksOverdue {
            return Ok(());
        }
        let waited = self.since.map_or(Span::ZERO, |since| now.since(since));
        let (least, _) = wait(delivery, self.round);
        if self.round == u64::from(delivery.retries) && waited >= least {
            return Ok(());
        }
        Err(format!("closed {} ms after retry {}", waited.as_millis(), self.round))
    }

    /// Looks whether a retry, the rest of one, or the close after the last, should have come by the last
    /// turn. What waits for the network keeps them back. Nothing else does a retry that has begun: it goes on
    /// in the step in which there is room.
    ///
    /// # Errors
    /// It should.
    pub fn overdue(&self, turn: Mono, bytes: (u64, u64), delivery: &Delivery) -> Result<(), String> {
        if bytes.0 != bytes.1 {
            return Ok(());
        }
        if let Some(next) = self.again {
            let (round, all, seq) = (self.round, self.sent.len(), self.sent.get(next).map(|(seq, _)| seq));
            return Err(format!(
                "retry {round} has stopped after {next} of {all} events, before seq {seq:?}"
            ));
        }
        let Some(since) = self.since else { return Ok(()) };
        let (_, most) = wait(delivery, self.round);
        if turn.since(since) <= most + SLACK {
            return Ok(());
        }
        let (next, waited) = (self.sent.front(), turn.since(since).as_millis());
        Err(format!("{next:?} waits for its acknowledgement since {waited} ms, after {} retries", self.round))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: CursorView =
        CursorView { head: 9, sent: 2, acked: 0, is_viewer: false, is_open: true, is_reading: false };

    /// A clock whose two events have left at 0.
    fn clock() -> Clock {
        let mut clock = Clock::default();
        for seq in [1, 2] {
            let event = Event { seq, redelivery: None, ends: seq * 10 };
            clock.event(Mono(0), Some(NEW), &event, &Delivery::default()).unwrap();
        }
        clock.sync(Some(NEW), Mono(0), (20, 20));
        clock
    }

    fn retry(clock: &mut Clock, ms: u64, seq: u64, n: u64) -> Result<(), String> {
        let event = Event { seq, redelivery: Some(n), ends: 100 };
        clock.event(Mono(ms * 1_000), Some(NEW), &event, &Delivery::default())
    }

    #[test]
    fn a_retry_comes_at_its_time_and_whole() {
        assert!(retry(&mut clock(), 1_999, 1, 1).is_err(), "early");
        assert!(retry(&mut clock(), 2_000, 1, 2).is_err(), "the second first");
        assert!(retry(&mut clock(), 2_000, 2, 1).is_err(), "not from the oldest on");
        let mut good = clock();
        assert!(retry(&mut good, 2_000, 1, 1).is_ok());
        assert!(retry(&mut good, 2_000, 1, 1).is_err(), "twice");
        let mut good = clock();
        assert!(retry(&mut good, 2_000, 1, 1).is_ok());
        assert!(retry(&mut good, 2_000, 2, 1).is_ok());
        assert!(retry(&mut good, 9_000, 1, 2).is_err(), "before the first has left");
        good.sync(Some(NEW), Mono(2_100_000), (100, 100));
        assert!(retry(&mut good, 2_100 + 3_100, 1, 2).is_err(), "before 4 s less 20 %");
    }

    #[test]
    fn a_retry_that_does_not_come_is_missed() {
        let delivery = Delivery::default();
        assert!(clock().overdue(Mono(2_000_000), (20, 20), &delivery).is_ok());
        assert!(clock().overdue(Mono(2_002_000), (20, 20), &delivery).is_err());
        assert!(clock().overdue(Mono(2_002_000), (30, 20), &delivery).is_ok(), "output waits");
        let mut acked = clock();
        acked.sync(Some(CursorView { acked: 2, ..NEW }), Mono(1_000_000), (20, 20));
        assert!(acked.overdue(Mono(9_000_000), (20, 20), &delivery).is_ok());
    }

    #[test]
    fn a_retry_that_stops_midway_is_missed() {
        let delivery = Delivery::default();
        let mut clock = clock();
        retry(&mut clock, 2_000, 1, 1).unwrap();
        assert!(clock.overdue(Mono(2_000_000), (30, 20), &delivery).is_ok(), "output waits");
        assert!(clock.overdue(Mono(2_000_000), (30, 30), &delivery).is_err());
        retry(&mut clock, 2_000, 2, 1).unwrap();
        assert!(clock.overdue(Mono(2_000_000), (40, 40), &delivery).is_ok());
    }

    #[test]
    fn a_connection_is_closed_only_after_the_last_retry() {
        let delivery = Delivery::default();
        assert!(clock().closed(Mono(3_000_000), CloseCode::AcksOverdue, &delivery).is_err());
        assert!(clock().closed(Mono(3_000_000), CloseCode::Silent, &delivery).is_ok());
    }
}
