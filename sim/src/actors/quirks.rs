//! What is odd about a worker, and within the protocol: messages out of order, messages left out until they
//! are missed, and a wish for no more runs (PROTOCOL §6 `drain`). It has chances of its own.

use crate::dice::Dice;
use crate::plan::QuirksPlan;
use crate::schedule::{Micros, SECOND};

/// Never.
const NEVER: Micros = Micros::MAX;
/// A run that is no worker's: what is said of it is answered at once.
const NOBODYS: &str = "run_nobodys_00000000";
/// Who wants no more runs stays so long at most for those that it has.
const LEAVES_WITHIN: Micros = 30 * SECOND;

/// The drain, and behind it a question: once that is answered the drain was heard.
pub(super) const DRAIN: [&str; 2] = [
    "{\"type\":\"drain\"}",
    "{\"type\":\"decline\",\"run\":\"run_nobodys_00000000\",\"attempt\":1,\"reason\":\"drain\"}",
];

/// What it wants now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To say that it takes no more runs.
    Drain,
    /// To go, and come back as another process.
    Go,
}

/// A worker that wants no more runs.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    /// From when on it goes if it has no runs, and whether that is now.
    from: Micros,
    is_ripe: bool,
    /// When it goes anyway.
    until: Micros,
    /// The daemon has heard of it, on the present connection.
    is_heard: bool,
}

/// What is odd about one worker.
#[derive(Debug)]
pub(super) struct Quirks {
    plan: QuirksPlan,
    dice: Dice,
    at: Micros,
    leaving: Option<Leaving>,
}

impl Quirks {
    pub(super) fn new(plan: QuirksPlan, dice: Dice) -> Self {
        Self { plan, dice, at: NEVER, leaving: None }
    }

    /// When it wants something next.
    pub(super) fn deadline(&self) -> Micros {
        self.leaving.map_or(self.at, |leaving| if leaving.is_ripe { leaving.until } else { leaving.from })
    }

    /// It is welcome. Tells whether it must say once more that it wants no more runs.
    pub(super) fn welcome(&mut self, now: Micros) -> bool {
        if let (NEVER, None, Some(every)) = (self.at, self.leaving, self.plan.drains_every) {
            self.at = now + self.dice.exponential(every);
        }
        self.leaving.as_mut().is_some_and(|leaving| {
            leaving.is_heard = false;
            true
        })
    }

    /// What it wants now, on a connection on which it is welcome.
    pub(super) fn wish(&mut self, now: Micros, is_idle: bool, healed: bool) -> Option<Wish> {
        if let Some(leaving) = &mut self.leaving {
            leaving.is_ripe |= now >= leaving.from;
            let goes = healed || now >= leaving.until || (is_idle && leaving.is_ripe);
            return goes.then_some(Wish::Go);
        }
        if healed {
            self.at = NEVER;
        }
        if now < self.at {
            return None;
        }
        let from = now + self.dice.log_uniform(SECOND, 10 * SECOND);
        self.leaving = Some(Leaving { from, is_ripe: false, until: now + LEAVES_WITHIN, is_heard: false });
        Some(Wish::Drain)
    }

    /// It is gone, or its process has crashed: the next one takes runs.
    pub(super) fn gone(&mut self) {
        (self.at, self.leaving) = (NEVER, None);
    }

    /// It is told that a run is not its own: perhaps the one of which it has asked.
    pub(super) fn fenced(&mut self, run: &str) {
        if let Some(leaving) = self.leaving.as_mut().filter(|_| run == NOBODYS) {
            leaving.is_heard = true;
        }
    }

    /// Whether a run must not be offered to it any more.
    pub(super) fn wants_none(&self) -> bool {
        self.leaving.is_some_and(|leaving| leaving.is_heard)
    }

    /// Brings new messages out of order, or leaves one out; not the last, so that it will be missed. Tells
    /// whether it has.
    pub(super) fn disorder(&mut self, texts: &mut Vec<String>, healed: bool) -> bool {
        let QuirksPlan { shuffles, skips, .. } = self.plan;
        if healed || texts.len() < 2 {
            return false;
        }
        let (one, other) = (self.dice.below(texts.len() as u64 - 1) as usize, texts.len() - 1);
        if self.dice.chance(shuffles, 100) {
            texts.swap(one, other);
        } else if self.dice.chance(skips, 100) {
            texts.remove(one);
        } else {
            return false;
        }
        true
    }
}
