//! O30, for PROTOCOL §7 "`GET /readyz`": at each moment the daemon says that it is ready, or which check
//! fails, as it is: its store takes nothing, or has had something for five seconds that is not durable; a
//! timer was a second late in the last five; it goes down.

use runcast_core::Core;
use runcast_core::effect::{Content, Effect};
use runcast_core::ids::{AppendId, ConnId};
use runcast_core::input::Input;
use runcast_core::time::{Mono, Span};
use std::collections::VecDeque;

/// What was given to the store is to be durable within this time.
const STORE_WITHIN: Span = Span::secs(5);
/// A timer that is so late says that the loop lags,
const LATE: Span = Span::secs(1);
/// for so long.
const AFTER: Span = Span::secs(5);

/// What is so, as the inputs of a process tell it.
#[derive(Debug, Default)]
pub struct Ready {
    /// Everything up to here is durable.
    upto: u64,
    /// When each append after it was made.
    made: VecDeque<Mono>,
    is_full: bool,
    lags_until: Mono,
    is_draining: bool,
    /// Who asks in this step.
    asked: Option<ConnId>,
}

impl Ready {
    /// Of a process that has just started.
    pub fn open(core: &Core, now: Mono) -> Self {
        Self { made: std::iter::repeat_n(now, core.inspect().appends_waiting()).collect(), ..Self::default() }
    }

    /// An input is about to be handled. `due` is when the core's next timer is.
    pub fn look(&mut self, now: Mono, input: &Input<'_>, due: Option<Mono>) {
        self.asked = None;
        match input {
            Input::Request { conn, head } if head.path == "/readyz" => self.asked = Some(*conn),
            Input::Timer if now.since(due.unwrap_or(now)) >= LATE => self.lags_until = now + AFTER,
            Input::Appended { upto: AppendId(upto) } => {
                self.is_full = false;
                let durable = usize::try_from(upto - self.upto).unwrap_or(usize::MAX);
                self.made.drain(..durable.min(self.made.len()));
                self.upto = *upto;
            }
            Input::AppendFailed { .. } => self.is_full = true,
            Input::Drain => self.is_draining = true,
            Input::Opened { .. }
            | Input::Request { .. }
            | Input::Body { .. }
            | Input::BadHead { .. }
            | Input::Message { .. }
            | Input::Verified { .. }
            | Input::Flushed { .. }
            | Input::Closed { .. }
            | Input::Loaded { .. }
            | Input::Timer
            | Input::Called { .. }
            | Input::Memory { .. }
            | Input::BackedUp { .. } => {}
        }
    }

    /// A step is over, after which so many appends are not durable.
    ///
    /// # Errors
    /// It has answered, and something else is so.
    pub fn settle(&mut self, now: Mono, waiting: usize, effects: &[Effect]) -> Result<(), String> {
        // Those that were made while the store is full are given to it later.
        self.made.resize(waiting, now);
        let Some(asked) = self.asked else { return Ok(()) };
        for effect in effects {
            if let Effect::Respond { conn, response } = effect
                && *conn == asked
                && let Content::Text(text) = &response.content
            {
                self.judge(now, response.status, text)?;
            }
        }
        Ok(())
    }

    fn judge(&self, now: Mono, status: u16, text: &str) -> Result<(), String> {
        let is_slow = !self.is_full && self.made.front().is_some_and(|at| now.since(*at) >= STORE_WITHIN);
        let checks = [
            ("store (it takes nothing", self.is_full),
            ("store (what it was given", is_slow),
            ("loop lag", now < self.lags_until),
            ("draining", self.is_draining),
        ];
        let is_ready = checks.iter().all(|(_, fails)| !fails);
        let wrong = checks.into_iter().find(|(words, fails)| text.contains(words) != *fails);
        match wrong {
            Some((words, true)) => Err(format!("{words:?} fails, and readyz says {status}: {text}")),
            Some((words, false)) => Err(format!("{words:?} does not fail, and readyz says {status}: {text}")),
            None if status != if is_ready { 200 } else { 503 } => {
                Err(format!("readyz says {status}: {text}"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::effect::Response;
    use runcast_core::input::Head;

    const CONN: ConnId = ConnId(1);
    const GOOD: &str = "ready\n";
    const SLOW: &str = "not ready: store (what it was given 5000 ms ago is not stored)\n";

    /// How this answer is judged at that time.
    fn ask(ready: &mut Ready, ms: u64, status: u16, text: &str) -> Result<(), String> {
        let head = Head { method: "GET", path: "/readyz", ..Head::default() };
        ready.look(Mono(ms * 1_000), &Input::Request { conn: CONN, head }, None);
        let response = Response::new(status, Content::Text(text.to_owned()));
        let waiting = ready.made.len();
        ready.settle(Mono(ms * 1_000), waiting, &[Effect::Respond { conn: CONN, response }])
    }

    #[test]
    fn a_store_that_is_slow_or_full_is_said_to_be() {
        let mut ready = Ready::default();
        ready.settle(Mono(0), 2, &[]).unwrap();
        assert!(ask(&mut ready, 4_999, 200, GOOD).is_ok());
        assert!(ask(&mut ready, 4_999, 503, SLOW).is_err());
        assert!(ask(&mut ready, 5_000, 200, GOOD).is_err());
        assert!(ask(&mut ready, 5_000, 503, SLOW).is_ok());
        assert!(ask(&mut ready, 5_000, 200, SLOW).is_err(), "the status");
        ready.look(Mono(0), &Input::AppendFailed { from: AppendId(2) }, None);
        assert!(ask(&mut ready, 5_000, 503, SLOW).is_err(), "it takes nothing");
        assert!(ask(&mut ready, 5_000, 503, "not ready: store (it takes nothing)\n").is_ok());
        ready.look(Mono(0), &Input::Appended { upto: AppendId(2) }, None);
        assert!(ask(&mut ready, 9_000, 200, GOOD).is_ok());
    }

    #[test]
    fn a_loop_that_lags_and_a_daemon_that_goes_down_are_said_to() {
        let mut ready = Ready::default();
        ready.look(Mono(2_000_000), &Input::Timer, Some(Mono(1_000_001)));
        assert!(ask(&mut ready, 2_000, 200, GOOD).is_ok());
        ready.look(Mono(2_000_000), &Input::Timer, Some(Mono(1_000_000)));
        assert!(ask(&mut ready, 6_999, 200, GOOD).is_err());
        assert!(ask(&mut ready, 6_999, 503, "not ready: loop lag (…)\n").is_ok());
        assert!(ask(&mut ready, 7_000, 200, GOOD).is_ok());
        ready.look(Mono(0), &Input::Drain, None);
        assert!(ask(&mut ready, 7_000, 200, GOOD).is_err());
        assert!(ask(&mut ready, 7_000, 503, "not ready: draining\n").is_ok());
    }
}
