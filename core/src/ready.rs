//! Whether the daemon can serve: `GET /readyz` (PROTOCOL §7).
//!
//! Whoever balances by it sends new connections elsewhere for as long as a check fails. Those that are there
//! stay, so each check tells of what a new one would suffer from, and is over soon after that is.

use crate::Core;
use crate::effect::{Content, Effects};
use crate::ids::ConnId;
use crate::time::{Mono, Span};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What was given to the store is to be durable within this time.
const STORE_WITHIN: Span = Span::secs(5);
/// A timer that fires so late says that whoever comes now is not served in time.
const LATE: Span = Span::secs(1);
/// For how long after it that counts.
const AFTER: Span = Span::secs(5);

/// When the loop was last too late, and how late it was.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    at: Option<Mono>,
    by: Span,
}

impl Core {
    /// A timer was so late.
    pub(crate) fn watch_lag(&mut self, late: Span) {
        if late >= LATE {
            self.lag = Lag { at: Some(self.now.mono), by: late };
        }
    }

    /// The timers that fire now should have done so long ago: the daemon stood still. What its peers have
    /// said meanwhile lies unread, so that nobody has been silent.
    pub(crate) fn stood_still(&self) -> bool {
        self.lag.at == Some(self.now.mono)
    }

    /// `GET /readyz`.
    pub(crate) fn respond_ready(&mut self, id: ConnId, out: &mut Effects) {
        let failed = self.failed_checks();
        if failed.is_empty() {
            return self.respond(id, 200, Content::Text("ready\n".into()), out);
        }
        let text = format!("not ready: {}\n", failed.join(", "));
        self.respond(id, 503, Content::Text(text), out);
    }

    /// The checks that fail, in the words of the answer.
    fn failed_checks(&self) -> Vec<String> {
        let waited = self.durable.waited(self.now.mono);
        let mut failed = Vec::new();
        if self.durable.is_full() {
            failed.push("store (it takes nothing at present: is the disk full?)".into());
        } else if waited >= STORE_WITHIN {
            let ms = waited.as_millis();
            failed.push(format!("store (what it was given {ms} ms ago is not stored: look at the disk)"));
        }
        if self.lag.at.is_some_and(|at| self.now.mono < at + AFTER) {
            let ms = self.lag.by.as_millis();
            failed
                .push(format!("loop lag (a timer was {ms} ms late: the processor is busy, or stood still)"));
        }
        if self.is_draining() {
            failed.push("draining".into());
        }
        failed
    }
}
