//! World 2: the daemon and its clients as hosts in turmoil, each with a real async runtime; the second
//! opinion.
//!
//! Plan, actors, pump, connections, core, journal on its simulated disk, oracles and trace are those of
//! world 1. What differs is who carries the bytes ([`wire`]), who tells the time (turmoil, in ticks of 5 ms,
//! with tokio's timers of 1 ms inside) and who runs next (tokio's tasks: one for the daemon's loop, one for
//! each actor, on a host for the daemon and one for each zone).
//!
//! | fault | here |
//! |---|---|
//! | reset, drop of all | at both ends of the connection, since turmoil breaks only hosts |
//! | hole | both ends hear nothing; what they say waits |
//! | partition, both ways | half of them `hold`: all waits, calls hang |
//! | | the others `partition`: all is lost, calls are refused |
//! | partition, one way | `partition_oneway`: what is said that way is lost |
//! | slowness | the longest latency of all links |
//! | SIGKILL | `crash`: connections are closed, calls hang until `bounce`; the disk stays |
//! | loss of power | the machine is partitioned first, so nobody is told |
//! | stall, clock jumps, new keys, all of the disk | as in world 1 |
//!
//! turmoil sends nothing again: a connection that has lost bytes is dead from then on, without a sign of it.
//! Not here: a latency for each client (it is each zone's), a partition of a zone that is cut off already,
//! faults between two ticks (a crash at a commit is one like any other), loss, and users who stay broken. Nor
//! what comes in world 1 after all is at rest: nobody goes, so that nothing is left in memory (O13), nothing
//! is kept for too long (O26), the last start and the disk that rots (O3) are judged there alone. `fail_rate`
//! is not used: it makes black holes of pairs of hosts.
//!
//! The same seed is the same world, in every process: turmoil's own generator and epoch are set, nothing
//! here asks tokio for chance (`select!` would, and is seeded only by a flag of the compiler), and no time
//! is taken from tokio outside its tasks. Only the masks of clients' frames differ: they come from the
//! operating system, and nobody looks at them.

mod faults;
mod stage;
pub mod wire;

use crate::dice::Dice;
use crate::oracles::liveness::Patience;
use crate::oracles::{Oracles, Violation};
use crate::pipe::ZONES;
use crate::plan::{Network, Plan};
use crate::schedule::{MS, Micros, Schedule};
use crate::states::States;
use crate::trace::{Of, Show, Trace};
use crate::world::{CALM_AFTER, LOOK_EVERY, NOBODY, Summary, cast, critical, missing, progress};
use crate::{actors::Book, daemon::Daemon};
use faults::Cut;
use stage::{Shared, Stage};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use turmoil::{Builder, Sim};
use wire::{DAEMON, Net};

/// How long each host runs before the next.
const TICK: Micros = 5 * MS;
/// Once everybody has everything, time for what is to be stored to be durable.
const SETTLED_WITHIN: Micros = 30_000 * MS;
/// Segments on a connection, calls to a host: never reached, since turmoil panics there, and loses the end
/// of a stream.
const CAPACITY: usize = 1 << 20;

/// A world of hosts.
pub struct Hosts {
    /// First, so that the hosts go before what they share.
    sim: Sim<'static>,
    plan: Plan,
    stage: Shared,
    trace: Trace,
    /// The longest way to each zone, undisturbed.
    latency: [Micros; ZONES],
    slowness: u64,
    cut: [Option<Cut>; ZONES],
    has_power: bool,
    next_fault: usize,
    /// Faults that end, by their number in the plan.
    mends: Vec<(Micros, usize)>,
    holes: Vec<(usize, crate::pipe::PipeId)>,
    restart_at: Option<Micros>,
    patience: Option<Patience>,
    calm_since: Micros,
    summary: Summary,
}

impl Hosts {
    /// The world of a plan, with the daemon about to start.
    pub fn new(mut plan: Plan, show: Show) -> Self {
        let clock = Schedule::default();
        let queue = clock.beside();
        let seed = plan.seed;
        let dice = |owner| Dice::new(seed, owner);
        let mut ways = dice(3);
        let latency = std::array::from_fn(|_| ways.log_uniform(MS, 80 * MS));
        plan.networks().for_each(|network| network.latency = latency[network.zone]);
        let actors = cast(&plan);
        let trace = Trace::new(clock.clone(), show);
        let stage = Rc::new(RefCell::new(Stage {
            net: Net::new(clock.clone(), dice(1), actors.len()),
            oracles: Oracles::new(clock.clone(), &plan.config),
            daemon: Daemon::new(&plan, queue.clone(), trace.clone(), dice(2)),
            trace: trace.clone(),
            clock,
            queue,
            actors,
            book: Book::default(),
            is_healed: false,
            fall: stage::Fall::default(),
        }));
        let hosts = Self {
            sim: populate(&plan, &stage),
            latency,
            plan,
            stage,
            trace,
            slowness: 1,
            cut: [None; ZONES],
            has_power: true,
            next_fault: 0,
            mends: Vec::new(),
            holes: Vec::new(),
            restart_at: None,
            patience: None,
            calm_since: 0,
            summary: Summary::default(),
        };
        hosts.set_latency();
        hosts
    }

    /// Runs until everything has been healed and has come to rest.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn finish(&mut self) -> Result<Summary, Violation> {
        self.finish_within(Micros::MAX)
    }

    /// The same, but stops after so much time, with nothing judged that has not happened by then.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn finish_within(&mut self, time: Micros) -> Result<Summary, Violation> {
        while !(self.patience.is_some() && self.missing().is_none()) && self.now() < time {
            for _ in 0..LOOK_EVERY / TICK {
                self.tick()?;
            }
            if self.patience.is_none() && self.now() >= self.plan.heal_at {
                self.heal();
            }
            self.look()?;
        }
        if self.now() < time {
            self.rest()?;
        }
        let broken = {
            let stage = &mut *self.stage.borrow_mut();
            stage.daemon.replay(&mut stage.oracles);
            stage.oracles.broken().cloned()
        };
        broken.map_or_else(|| Ok(self.summary()), Err)
    }

    /// Everybody has everything: once all is durable too, the oracles that want rest are asked.
    fn rest(&mut self) -> Result<(), Violation> {
        let end = self.now() + SETTLED_WITHIN;
        while !self.stage.borrow().is_durable() {
            if self.now() >= end {
                return Err(self.violation("O19", "what is to be stored does not become durable".to_owned()));
            }
            self.tick()?;
        }
        let stage = &mut *self.stage.borrow_mut();
        let (counts, judgement) = critical(&mut stage.oracles, &stage.actors, &NOBODY);
        self.summary.critical = counts;
        stage.oracles.judge("O5", None, judgement);
        if let Some(core) = stage.daemon.core() {
            stage.oracles.at_rest(core);
        }
        Ok(())
    }

    /// All that comes to the core is written down from now on, and given to a fresh one in the end (O20).
    pub fn record(&mut self) {
        self.stage.borrow_mut().daemon.records = true;
    }

    /// What happened so far.
    pub fn summary(&self) -> Summary {
        let stage = self.stage.borrow();
        Summary {
            time: self.now(),
            client_time: self.now() * stage.actors.len() as u64,
            delivered: stage.oracles.delivered,
            runs: stage.oracles.truth.runs.len() as u64,
            commits: stage.daemon.commits,
            turns: stage.daemon.turns,
            hash: self.trace.hash(),
            tally: stage.daemon.tally(&stage.oracles),
            ..self.summary
        }
    }

    /// The states that the core was in so far.
    pub fn take_states(&mut self) -> States {
        std::mem::take(&mut self.stage.borrow_mut().daemon.states)
    }

    /// The log.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    fn now(&self) -> Micros {
        self.sim.elapsed().as_micros() as Micros
    }

    /// What the plan wants now, then one tick of all hosts.
    fn tick(&mut self) -> Result<(), Violation> {
        self.stage.borrow().clock.set(self.now());
        self.meddle();
        self.summary.steps += 1;
        let result = self.sim.step();
        self.stage.borrow().clock.set(self.now());
        if let Err(panic) = result {
            return Err(self.violation("panic", panic.to_string()));
        }
        match self.stage.borrow().oracles.broken() {
            Some(violation) => Err(violation.clone()),
            None => Ok(()),
        }
    }

    fn violation(&self, oracle: &'static str, what: String) -> Violation {
        Violation { at: self.now(), oracle, user: None, what }
    }

    fn missing(&self) -> Option<String> {
        let stage = &mut *self.stage.borrow_mut();
        missing(&mut stage.oracles.truth, &stage.actors, &NOBODY)
    }

    /// Lets the oracles that watch time look around.
    fn look(&mut self) -> Result<(), Violation> {
        {
            let stage = &mut *self.stage.borrow_mut();
            let is_calm = self.patience.is_some() || self.plan.faults.is_empty();
            if is_calm {
                stage.oracles.look(self.calm_since);
            }
            stage.daemon.look(&mut stage.oracles, is_calm.then_some(self.calm_since));
        }
        let (now, missing) = (self.now(), self.missing().unwrap_or_default());
        let progress = {
            let stage = self.stage.borrow();
            progress(&stage.oracles.truth, &stage.actors, &NOBODY)
        };
        let Some(patience) = &mut self.patience else { return Ok(()) };
        patience.look(now, progress, &missing).map_err(|(oracle, what)| self.violation(oracle, what))
    }

    /// Makes everything good, for good.
    fn heal(&mut self) {
        self.trace.note(Of::World, format_args!("everything is healed"));
        let now = self.now();
        self.mends.clear();
        self.holes.clear();
        self.slowness = 1;
        self.set_latency();
        (0..ZONES).for_each(|zone| self.reunite(zone));
        let stage = &mut *self.stage.borrow_mut();
        stage.is_healed = true;
        stage.net.heal();
        stage.daemon.hasten();
        stage.daemon.disk().set_quota(None);
        stage.daemon.disk().set_sync_fails(false);
        stage.daemon.use_memory(10);
        stage.daemon.keys.settle();
        stage.daemon.stall(0);
        self.patience = Some(Patience::new(now));
        self.calm_since = now + CALM_AFTER;
        (0..stage.actors.len()).for_each(|index| stage.net.actor(index).notify_one());
    }
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosts").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// The name of a zone's host.
fn zone(number: usize) -> String {
    format!("zone-{number}")
}

/// turmoil with all hosts. The daemon's is the first, and so the first to run in a tick.
fn populate(plan: &Plan, stage: &Shared) -> Sim<'static> {
    let mut sim = Builder::new()
        .rng_seed(plan.seed)
        .epoch(SystemTime::UNIX_EPOCH)
        .tick_duration(Duration::from_micros(TICK))
        .simulation_duration(Duration::MAX)
        .min_message_latency(Duration::ZERO)
        .tcp_capacity(CAPACITY)
        .build();
    let daemon = stage.clone();
    sim.host(DAEMON, move || stage::serve(daemon.clone()));
    let zones = zones(plan);
    for number in 0..ZONES {
        let here = zones.iter().enumerate().filter(|(_, zone)| **zone == number);
        let (stage, here) = (stage.clone(), here.map(|(index, _)| index).collect::<Vec<_>>());
        sim.host(zone(number), move || stage::live(stage.clone(), here.clone()));
    }
    sim
}

/// Where each actor of the cast is.
fn zones(plan: &Plan) -> Vec<usize> {
    let devices = plan.users.iter().flat_map(|user| &user.devices).map(|device| device.network.zone);
    let workers = plan.workers.iter().map(|worker| worker.network.zone);
    let hostile = (0..plan.hostile).map(|_| Network::good(1).zone);
    let publishers = plan.publishers.iter().map(|publisher| publisher.network.zone);
    let vandals = (0..plan.vandals).map(|_| Network::good(1).zone);
    let rogues = (0..plan.rogues).map(|_| Network::good(2).zone);
    devices.chain(workers).chain(hostile).chain(publishers).chain(vandals).chain(rogues).collect()
}
