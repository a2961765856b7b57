//! A look at the core from outside: for metrics, the console and the simulator's oracles.

use crate::Core;
use crate::ids::{Device, Epoch, RunId, User};
use crate::planted::Planted;
use crate::sometimes::Seen;

/// What there is now.
#[derive(Clone, Copy, Debug)]
pub struct View<'a>(pub(crate) &'a Core);

/// A run, as seen from outside.
#[derive(Clone, Debug)]
pub struct RunView<'a> {
    /// Its id.
    pub run: &'a RunId,
    /// Whose it is.
    pub user: &'a User,
    /// Its state, in a word of the protocol.
    pub state: &'static str,
    /// The fencing number of its last dispatch.
    pub attempt: u64,
    /// The name of the worker at which it is, or to which it is offered.
    pub worker: Option<&'a str>,
}

impl<'a> View<'a> {
    /// Connections of all kinds.
    pub fn connections(&self) -> usize {
        self.0.conns.len()
    }

    /// Users in memory.
    pub fn users(&self) -> usize {
        self.0.users.len()
    }

    /// Workers with a session.
    pub fn workers(&self) -> usize {
        self.0.workers.len()
    }

    /// Runs that wait for a worker.
    pub fn queued(&self) -> usize {
        self.0.queue.waiting
    }

    /// Runs at workers.
    pub fn active(&self) -> usize {
        self.0.queue.active
    }

    /// Timers that are set.
    pub fn timers(&self) -> usize {
        self.0.deadlines.len()
    }

    /// Appends that are not durable yet.
    pub fn appends_waiting(&self) -> usize {
        self.0.durable.waiting()
    }

    /// All runs in memory.
    pub fn runs(&self) -> impl Iterator<Item = RunView<'a>> + use<'a> {
        let core: &'a Core = self.0;
        core.users.iter().flat_map(|(user, context)| {
            context.runs.iter().map(move |(run, state)| RunView {
                run,
                user,
                state: state.state(),
                attempt: state.attempt,
                worker: state.worker().map(|worker| worker.name.as_str()),
            })
        })
    }

    /// All devices of the users in memory, and up to where each has acknowledged.
    pub fn positions(&self) -> impl Iterator<Item = (&'a User, &'a Device, u64)> + use<'a> {
        let core: &'a Core = self.0;
        core.users.iter().flat_map(|(user, context)| {
            context.devices.iter().map(move |(device, position)| (user, device, position.acked))
        })
    }

    /// The bug that was planted, if one was.
    pub fn planted(&self) -> Planted {
        self.0.planted
    }

    /// How often what only the core can see came about.
    pub fn seen(&self) -> &'a Seen {
        &self.0.seen
    }

    /// A user's stream, if it is in memory: epoch, floor, head.
    pub fn stream(&self, user: &str) -> Option<(&'a Epoch, u64, u64)> {
        let stream = &self.0.users.get(user)?.stream;
        Some((stream.epoch(), stream.floor(), stream.head()))
    }
}
