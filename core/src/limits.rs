//! How much one connection may send: so many messages a second, and a burst (PROTOCOL §5).

#[cfg(test)]
mod properties;
pub(crate) mod quota;

use crate::config::Limits;
use crate::time::{Mono, Span};

/// Refusals within this time are counted together.
const REFUSALS_WITHIN: Span = Span::secs(10);

/// The rate of one connection, as the time at which its messages would have been sent evenly (GCRA).
#[derive(Debug, Default)]
pub(crate) struct Rate {
    even: Mono,
    refused_since: Mono,
    refused: u64,
}

/// What to do with a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Handle it.
    Fine,
    /// Refuse it; the next one is fine after so long.
    Refuse(Span),
    /// Close: it goes on in spite of the refusals.
    Close,
}

impl Rate {
    /// A message has come.
    pub(crate) fn message(&mut self, now: Mono, limits: &Limits) -> Verdict {
        let every = Span(1_000_000 / limits.messages_per_second);
        let even = self.even.max(now);
        let early = even.since(now);
        let allowed = every.times(limits.burst - 1);
        if early <= allowed {
            self.even = even + every;
            return Verdict::Fine;
        }
        self.refuse(now, limits, early - allowed)
    }

    fn refuse(&mut self, now: Mono, limits: &Limits, wait: Span) -> Verdict {
        if now.since(self.refused_since) > REFUSALS_WITHIN {
            self.refused_since = now;
            self.refused = 0;
        }
        self.refused += 1;
        if self.refused >= limits.burst { Verdict::Close } else { Verdict::Refuse(wait) }
    }
}
