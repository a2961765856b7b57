//! Those who use the daemon, and abuse it. Each is a state machine that is stepped when its connection
//! changes or its time has come; it reads all there is, does what is due, and says when it wants to be
//! stepped again.

pub mod asks;
pub mod errand;
pub mod hostile;
mod http;
pub mod job;
pub mod publisher;
mod quirks;
pub mod rogue;
pub mod topics;
mod tricks;
pub mod user;
pub mod vandal;
pub mod worker;

use crate::carrier::Carrier;
use crate::keys::Ring;
use crate::oracles::Oracles;
use crate::pipe::Route;
use crate::plan::Network;
use crate::schedule::{MS, Micros, SECOND};
use crate::trace::Trace;
use hostile::Hostile;
use publisher::Publisher;
use rogue::Rogue;
use user::Device;
use vandal::Vandal;
use worker::Worker;

/// Someone in the world.
#[derive(Debug)]
pub enum Actor {
    /// A user's device.
    Device(Box<Device>),
    /// A worker.
    Worker(Box<Worker>),
    /// A hostile client.
    Hostile(Box<Hostile>),
    /// Another, who means no good in how it speaks.
    Vandal(Box<Vandal>),
    /// A worker that is broken.
    Rogue(Box<Rogue>),
    /// A publisher.
    Publisher(Box<Publisher>),
}

/// What all actors know of each other.
#[derive(Debug, Default)]
pub struct Book {
    /// Runs that were accepted: whose, and which.
    pub runs: Vec<(usize, String)>,
}

/// What an actor is given for a step.
#[derive(Debug)]
pub struct Ctx<'a> {
    /// Its number.
    pub index: usize,
    /// The present.
    pub now: Micros,
    /// The wall clock, in Unix milliseconds.
    pub wall: u64,
    /// Whether it is healed: it behaves as well as it can.
    pub healed: bool,
    /// Whether nobody asks for anything new any more.
    pub over: bool,
    /// Whether it will not be healed.
    pub broken: bool,
    /// The network.
    pub net: &'a dyn Carrier,
    /// The log.
    pub trace: &'a Trace,
    /// The judges.
    pub oracles: &'a mut Oracles,
    /// The keys of tokens.
    pub keys: &'a Ring,
    /// What all know.
    pub book: &'a mut Book,
}

impl Ctx<'_> {
    /// A connection of this actor over this network.
    pub fn route(&self, network: &Network) -> Route {
        let Network { zone, latency, bytes_per_s, buffer, tiny } = *network;
        let mut route = Route { owner: self.index, zone, latency, bytes_per_s, buffer, tiny };
        if self.healed {
            route.heal();
        }
        route
    }

    /// When a token made now runs out, in Unix seconds.
    pub fn expiry(&self, time: Micros) -> u64 {
        (self.wall + time / MS) / 1_000
    }
}

/// What a client has brought to show who it is: a good client may be refused for its key if there is a newer
/// one by now.
fn is_of_before(ctx: &Ctx<'_>, key: u64, code: Option<&str>) -> bool {
    code.is_none_or(|code| code == "token_signature") && key < ctx.keys.newest()
}

impl Actor {
    /// Lets it do all it can.
    pub fn step(&mut self, ctx: &mut Ctx<'_>) {
        match self {
            Self::Device(device) => device.step(ctx),
            Self::Worker(worker) => worker.step(ctx),
            Self::Hostile(hostile) => hostile.step(ctx),
            Self::Vandal(vandal) => vandal.step(ctx),
            Self::Rogue(rogue) => rogue.step(ctx),
            Self::Publisher(publisher) => publisher.step(ctx),
        }
    }

    /// When it wants to be stepped again, should nothing else happen.
    pub fn deadline(&self) -> Micros {
        match self {
            Self::Device(device) => device.deadline(),
            Self::Worker(worker) => worker.deadline(),
            Self::Hostile(hostile) => hostile.deadline(),
            Self::Vandal(vandal) => vandal.deadline(),
            Self::Rogue(rogue) => rogue.deadline(),
            Self::Publisher(publisher) => publisher.deadline(),
        }
    }
}

/// Time to wait before the `n`th call in a row: full jitter under a doubling limit.
fn backoff(dice: &mut crate::dice::Dice, failures: u32) -> Micros {
    let limit = ((100 * MS) << failures.min(6)).min(5 * SECOND);
    dice.between(MS, limit)
}
