//! The two worlds, as those see them who run plans.

use crate::hosts::Hosts;
use crate::oracles::Violation;
use crate::plan::Plan;
use crate::schedule::Micros;
use crate::states::States;
use crate::trace::{Show, Trace};
use crate::world::{Summary, World};
use serde::{Deserialize, Serialize};

/// Which world a plan is run in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// World 1: event-driven, in virtual time.
    #[default]
    Events,
    /// World 2: hosts in turmoil.
    Turmoil,
}

impl Which {
    /// What `cargo sim` must be told for it.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Events => "",
            Self::Turmoil => " --world turmoil",
        }
    }
}

/// A world that can be run.
pub trait Play {
    /// Runs until everything has been healed and has come to rest, or so much time is over.
    ///
    /// # Errors
    /// The first promise that is broken.
    fn finish_within(&mut self, time: Micros) -> Result<Summary, Violation>;

    /// All that comes to the core is written down from now on, and given to a fresh one in the end.
    fn record(&mut self);

    /// What happened so far.
    fn summary(&self) -> Summary;

    /// The states that its daemon's core was in so far, which it forgets.
    fn take_states(&mut self) -> States;

    /// The log.
    fn trace(&self) -> &Trace;
}

/// The world of a plan.
pub fn world(plan: Plan, show: Show) -> Box<dyn Play> {
    match plan.world {
        Which::Events => Box::new(World::new(plan, show)),
        Which::Turmoil => Box::new(Hosts::new(plan, show)),
    }
}

impl Play for World {
    fn finish_within(&mut self, time: Micros) -> Result<Summary, Violation> {
        self.finish_within(time)
    }

    fn record(&mut self) {
        self.record();
    }

    fn summary(&self) -> Summary {
        self.summary()
    }

    fn take_states(&mut self) -> States {
        self.take_states()
    }

    fn trace(&self) -> &Trace {
        self.trace()
    }
}

impl Play for Hosts {
    fn finish_within(&mut self, time: Micros) -> Result<Summary, Violation> {
        self.finish_within(time)
    }

    fn record(&mut self) {
        self.record();
    }

    fn summary(&self) -> Summary {
        self.summary()
    }

    fn take_states(&mut self) -> States {
        self.take_states()
    }

    fn trace(&self) -> &Trace {
        self.trace()
    }
}
