//! O17, for PROTOCOL §2.7 "Isolated" and §3: nothing but a refusal is said before authentication, nothing
//! after the token has expired, when the connection is closed (4506); and an acknowledgement of what was
//! never sent changes nothing.

use crate::told::Told;
use crate::watch::Cause;
use runcast_core::ids::{ConnId, Lane, Topic};
use runcast_core::input::{Input, Message};
use runcast_core::time::{Mono, Now, Span, WallMs};
use runcast_core::{Core, CursorView};

/// How long a token that a jump of the wall clock has made old may go unnoticed: expiry is by the wall clock,
/// and looked at again every five minutes.
const UNNOTICED: Span = Span::secs(301);

/// The wall clock comes in whole milliseconds, and timers in microseconds.
const ROUNDING: Span = Span::millis(2);

/// What is known of a connection's token.
#[derive(Debug, Default)]
pub struct Access {
    expires: Option<WallMs>,
    /// When a newer one expires that is being judged.
    newer: Option<WallMs>,
    /// Since when it is past that.
    lapsed: Option<Mono>,
    is_welcome: bool,
    is_closed: bool,
}

impl Access {
    /// A signature was looked at: when the token expires, if it holds.
    pub fn verified(&mut self, expires: Option<WallMs>) {
        if self.is_welcome {
            self.newer = expires;
        } else {
            self.expires = expires.or(self.expires);
        }
    }

    /// It is said to be welcome: from here on it is closed in time.
    pub fn welcomed(&mut self) {
        self.is_welcome = true;
    }

    /// It is said that the newer token counts.
    pub fn refreshed(&mut self) {
        self.expires = self.newer.take().or(self.expires);
    }

    /// It is closed: nothing more is said to it.
    pub fn closed(&mut self) {
        self.is_closed = true;
    }

    /// For how long its token has been expired, if that must have been noticed. `jumps` is whether the wall
    /// clock may.
    fn is_over(&mut self, now: Now, leeway: Span, jumps: bool) -> Option<Span> {
        let expires = self.expires?;
        if now.wall < expires + leeway + ROUNDING {
            self.lapsed = None;
            return None;
        }
        let lapsed = *self.lapsed.get_or_insert(now.mono);
        // A jump is noticed late.
        let is_noticed = !jumps || now.mono.since(lapsed) > UNNOTICED;
        is_noticed.then(|| now.wall.since(expires + leeway))
    }

    /// Timers have been looked at: judges that a connection whose token has expired was closed.
    ///
    /// # Errors
    /// It was not.
    pub fn overdue(&mut self, now: Now, leeway: Span, jumps: bool) -> Result<(), String> {
        if !self.is_welcome || self.is_closed {
            return Ok(());
        }
        let over = self.is_over(now, leeway, jumps);
        over.map_or(Ok(()), |over| Err(format!("open {} ms after its token has expired", over.as_millis())))
    }

    /// Judges that something is said to this connection.
    ///
    /// # Errors
    /// It must not be.
    pub fn judge(
        &mut self,
        now: Now,
        cause: &Cause,
        told: &Told<'_>,
        leeway: Span,
        jumps: bool,
    ) -> Result<(), String> {
        let is_refusal = *told == Told::Error;
        if self.expires.is_none() {
            return if is_refusal { Ok(()) } else { Err("said before authentication".to_owned()) };
        }
        let over = self.is_over(now, leeway, jumps);
        // Of what is due at once a heartbeat may come before the close, without which the step is overdue.
        let is_closed_next = *cause == Cause::Timer && self.is_welcome;
        match over {
            Some(over) if !is_refusal && !is_closed_next => {
                Err(format!("said {} ms after the token has expired", over.as_millis()))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What was before a forged acknowledgement.
#[derive(Debug, Default)]
pub struct Before {
    forged: Option<(ConnId, Lane, CursorView)>,
    appended: bool,
}

impl Before {
    /// Looks at an input that is about to be handled.
    pub fn look(core: &Core, input: &Input<'_>) -> Self {
        let Input::Message { conn, message: Message::Text(text) } = input else { return Self::default() };
        let Some(rest) = text.strip_prefix("{\"type\":\"ack\",") else { return Self::default() };
        let (topic, rest) = match rest.strip_prefix("\"topic\":\"").and_then(|rest| rest.split_once("\",")) {
            Some((topic, rest)) => (Topic::parse(topic), rest),
            None => (None, rest),
        };
        let seq = rest.strip_prefix("\"seq\":").map_or("", |rest| rest.trim_end_matches('}'));
        let (lane, seq): (_, u64) = (Lane::from(topic), seq.parse().unwrap_or(0));
        let cursor = core.inspect().cursor(*conn, &lane).filter(|cursor| seq > cursor.sent);
        Self { forged: cursor.map(|cursor| (*conn, lane, cursor)), appended: false }
    }

    /// Something is to be stored.
    pub fn appended(&mut self) {
        self.appended = true;
    }

    /// Judges what has become of it.
    ///
    /// # Errors
    /// Something has changed.
    pub fn judge(&mut self, core: &Core) -> Result<(), String> {
        let Some((conn, lane, before)) = self.forged.take() else { return Ok(()) };
        let after = core.inspect().cursor(conn, &lane);
        // It may have closed the connection: the last of many refusals does.
        let is_same = after.is_none_or(|after| CursorView { is_open: before.is_open, ..after } == before);
        if is_same && !self.appended {
            return Ok(());
        }
        Err(format!("a forged acknowledgement has changed {before:?} to {after:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono: Mono(ms * 1_000), wall: WallMs(ms) }
    }

    #[test]
    fn only_a_refusal_is_said_to_a_stranger() {
        let mut access = Access::default();
        let mut say = |told| access.judge(at(5), &Cause::Other, &told, Span::ZERO, false);
        assert!(say(Told::Error).is_ok());
        assert!(say(Told::Other).is_err());
    }

    #[test]
    fn nothing_is_said_after_a_token_has_expired() {
        let mut access = Access::default();
        access.verified(Some(WallMs(1_000)));
        let mut say = |ms, jumps| access.judge(at(ms), &Cause::Other, &Told::Other, Span::secs(5), jumps);
        assert!(say(6_001, false).is_ok());
        assert!(say(6_002, true).is_ok(), "the clock may just have jumped");
        assert!(say(6_002, false).is_err());
        assert!(say(400_000, true).is_err());
    }

    #[test]
    fn a_connection_is_closed_when_its_token_has_expired() {
        let mut access = Access::default();
        access.verified(Some(WallMs(1_000)));
        access.welcomed();
        assert!(access.overdue(at(6_001), Span::secs(5), false).is_ok());
        assert!(access.overdue(at(6_002), Span::secs(5), true).is_ok(), "the clock may just have jumped");
        assert!(access.overdue(at(6_002), Span::secs(5), false).is_err());
        let heartbeat = access.judge(at(9_000), &Cause::Timer, &Told::Heartbeat, Span::secs(5), false);
        assert!(heartbeat.is_ok(), "if the same step closes it");
        access.verified(Some(WallMs(9_000)));
        assert!(access.overdue(at(6_002), Span::secs(5), false).is_err(), "nobody has said that this counts");
        access.refreshed();
        assert!(access.overdue(at(14_001), Span::secs(5), false).is_ok());
        assert!(access.overdue(at(14_002), Span::secs(5), false).is_err());
        access.closed();
        assert!(access.overdue(at(14_002), Span::secs(5), false).is_ok());
    }
}
