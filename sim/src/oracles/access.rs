//! O17, for PROTOCOL §2.7 "Isolated" and §3: nothing but a refusal is said before authentication, nothing
//! after the token has expired, and an acknowledgement of what was never sent changes nothing.

use crate::watch::{Cause, Told};
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
    /// Since when it is past that.
    lapsed: Option<Mono>,
}

impl Access {
    /// A signature was looked at: when the token expires, if it holds. A newer token that has expired already
    /// is refused, and changes nothing.
    pub fn verified(&mut self, expires: Option<WallMs>, now: WallMs, leeway: Span) {
        let is_first = self.expires.is_none();
        self.expires = expires.filter(|at| is_first || now < *at + leeway).or(self.expires);
    }

    /// Judges that something is said to this connection. `jumps` is whether the wall clock may.
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
        let Some(expires) = self.expires else {
            let is_refusal = *told == Told::Error;
            return if is_refusal { Ok(()) } else { Err("said before authentication".to_owned()) };
        };
        if now.wall < expires + leeway + ROUNDING {
            self.lapsed = None;
            return Ok(());
        }
        let lapsed = *self.lapsed.get_or_insert(now.mono);
        // Of what is due at once, a heartbeat may come before the close; a jump is noticed late.
        let is_noticed = !jumps || now.mono.since(lapsed) > UNNOTICED;
        if is_noticed && *cause != Cause::Timer && *told != Told::Error {
            return Err(format!(
                "said {} ms after the token has expired",
                now.wall.since(expires).as_millis()
            ));
        }
        Ok(())
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
        access.verified(Some(WallMs(1_000)), WallMs(0), Span::ZERO);
        let mut say = |ms, jumps| access.judge(at(ms), &Cause::Other, &Told::Other, Span::secs(5), jumps);
        assert!(say(6_001, false).is_ok());
        assert!(say(6_002, true).is_ok(), "the clock may just have jumped");
        assert!(say(6_002, false).is_err());
        assert!(say(400_000, true).is_err());
    }
}
