//! World 1: everything in virtual time, one event after the other.

mod meddle;

use crate::actors::hostile::Hostile;
use crate::actors::publisher::Publisher;
use crate::actors::rogue::Rogue;
use crate::actors::user::Device;
use crate::actors::vandal::Vandal;
use crate::actors::worker::Worker;
use crate::actors::{Actor, Book, Ctx};
use crate::daemon::Daemon;
use crate::dice::Dice;
use crate::faults::Moment;
use crate::oracles::liveness::Patience;
use crate::oracles::truth::Truth;
use crate::oracles::{Oracles, Violation};
use crate::pipe::{Net, PipeId};
use crate::plan::{Network, Plan};
use crate::schedule::{Event, MS, Micros, SECOND, Schedule};
use crate::sometimes;
use crate::sometimes::Tally;
use crate::states::States;
use crate::tap::Wrote;
use crate::trace::{Of, Show, Trace};
use std::collections::BTreeSet;

/// How often the oracles that watch time look around.
pub(crate) const LOOK_EVERY: Micros = 250 * MS;
/// After a fault, time for those whom it hit to be heard again.
pub(crate) const CALM_AFTER: Micros = 5 * SECOND;

/// Nobody is left broken.
pub(crate) static NOBODY: BTreeSet<usize> = BTreeSet::new();
/// The number of the first hostile client's user.
const HOSTILE: usize = 900;
/// From the number of a worker's chances to that of its odd ones.
const QUIRKS: u64 = 4_000;
/// The number of the first vandal's.
const VANDAL: usize = 950;

/// What happened in a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How long it lasted.
    pub time: Micros,
    /// The same, added up over all devices, workers and hostile clients.
    pub client_time: Micros,
    /// Steps of the world.
    pub steps: u64,
    /// Events sent to devices.
    pub delivered: u64,
    /// Those of them that were sent again.
    pub redelivered: u64,
    /// Critical events that were owed to devices, and those that they have got, each once.
    pub critical: (u64, u64),
    /// Records that were held against what the core was told.
    pub checked: u64,
    /// Runs accepted.
    pub runs: u64,
    /// Commits of the store.
    pub commits: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Times the daemon was killed or lost its power.
    pub crashes: u64,
    /// Connections broken.
    pub resets: u64,
    /// Zones cut off.
    pub partitions: u64,
    /// Pieces of traffic lost, and sent again.
    pub lost: u64,
    /// Sectors that a loss of power has left old, torn, empty or full of garbage.
    pub torn: u64,
    /// The hash over the trace.
    pub hash: u64,
    /// How often the states came about that matter.
    pub tally: Tally,
}

/// A world.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    /// A crash that waits for its moment, and how long the daemon is down then.
    ambush: Option<(Moment, Micros, bool)>,
    schedule: Schedule,
    net: Net,
    trace: Trace,
    oracles: Oracles,
    daemon: Daemon,
    actors: Vec<Actor>,
    book: Book,
    /// When each actor is stepped next.
    planned: Vec<Micros>,
    patience: Option<Patience>,
    /// Holes under way, by the fault that made them.
    holes: Vec<(usize, PipeId)>,
    calm_since: Micros,
    /// The daemon crashes at its next commit: how long it is down, and whether it loses its power.
    armed: Option<(Micros, bool)>,
    /// How long the daemon is down once it has gone down by itself.
    down: Micros,
    /// The actors of users whom the plan leaves broken, and their enemies.
    unhealed: BTreeSet<usize>,
    dice: Dice,
    summary: Summary,
    woken_actors: Vec<usize>,
    woken_server: Vec<PipeId>,
    written: Vec<(PipeId, Wrote)>,
}

impl World {
    /// The world of a plan, with the daemon about to start.
    pub fn new(plan: Plan, show: Show) -> Self {
        let schedule = Schedule::default();
        let dice = |owner| Dice::new(plan.seed, owner);
        let net = Net::new(schedule.clone(), dice(1));
        let trace = Trace::new(schedule.clone(), show);
        let daemon = Daemon::new(&plan, schedule.clone(), trace.clone(), dice(2));
        let actors = cast(&plan);
        let unhealed = unhealed(&plan, &actors);
        net.set_loss(plan.loss);
        let dice_of_world = dice(4);
        for (index, actor) in actors.iter().enumerate() {
            schedule.at(actor.deadline(), Event::Actor(index));
        }
        plan.faults.iter().enumerate().for_each(|(index, (at, _))| schedule.at(*at, Event::Fault(index)));
        schedule.at(0, Event::Boot);
        schedule.at(0, Event::Look);
        Self {
            oracles: Oracles::new(schedule.clone(), &plan.config),
            planned: actors.iter().map(Actor::deadline).collect(),
            ambush: None,
            schedule,
            net,
            trace,
            daemon,
            actors,
            book: Book::default(),
            patience: None,
            holes: Vec::new(),
            calm_since: if plan.loss > 0 { plan.heal_at + CALM_AFTER } else { 0 },
            armed: None,
            down: SECOND,
            unhealed,
            dice: dice_of_world,
            plan,
            summary: Summary::default(),
            woken_actors: Vec::new(),
            woken_server: Vec::new(),
            written: Vec::new(),
        }
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
        while !(self.patience.is_some() && self.missing().is_none()) && self.schedule.now() < time {
            self.step_through(LOOK_EVERY)?;
            if self.patience.is_none() && self.schedule.now() >= self.plan.heal_at {
                self.heal();
            }
            self.look_at_progress()?;
        }
        if self.schedule.now() < time {
            self.count_critical()?;
            self.part()?;
        }
        Ok(self.summary())
    }

    /// Every device has got the critical events that lie in what it was given, each once.
    fn count_critical(&mut self) -> Result<(), Violation> {
        let (counts, judgement) = critical(&mut self.oracles, &self.actors, &self.unhealed);
        self.summary.critical = counts;
        let at = self.schedule.now();
        judgement.map_err(|what| Violation { at, oracle: "O5", user: None, what })
    }

    /// Everything that comes to the core is written down from now on, and given to a fresh one at the end.
    pub fn record(&mut self) {
        self.daemon.records = true;
    }

    /// Runs until `is_so`, at most for so long.
    ///
    /// # Errors
    /// The first promise that is broken; `time` if it did not become so.
    pub fn run_until(&mut self, time: Micros, is_so: impl Fn(&Self) -> bool) -> Result<(), Violation> {
        let end = self.schedule.now() + time;
        while !is_so(self) {
            if self.schedule.next().is_none_or(|next| next > end) {
                let (at, what) = (self.schedule.now(), "what was waited for has not come".to_owned());
                return Err(Violation { at, oracle: "time", user: None, what });
            }
            self.step()?;
        }
        Ok(())
    }

    /// Runs for so long.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn step_through(&mut self, time: Micros) -> Result<(), Violation> {
        let end = self.schedule.now() + time;
        while self.schedule.next().is_some_and(|next| next <= end) {
            self.step()?;
        }
        Ok(())
    }

    /// What happened so far.
    pub fn summary(&self) -> Summary {
        Summary {
            time: self.schedule.now(),
            client_time: self.schedule.now() * self.planned.len() as u64,
            steps: self.schedule.taken(),
            delivered: self.oracles.delivered,
            redelivered: self.oracles.redelivered,
            checked: self.oracles.checked,
            lost: self.net.lost(),
            torn: self.daemon.disk().torn(),
            runs: self.oracles.truth.runs.len() as u64,
            commits: self.daemon.commits,
            turns: self.daemon.turns,
            hash: self.trace.hash(),
            tally: self.daemon.tally(&self.oracles),
            ..self.summary
        }
    }

    /// The states that the core was in so far.
    pub fn take_states(&mut self) -> States {
        std::mem::take(&mut self.daemon.states)
    }

    /// The log.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The judges.
    pub fn oracles(&self) -> &Oracles {
        &self.oracles
    }

    /// The daemon.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// The `n`th device of a user, counted as in the plan.
    pub fn device(&self, user: usize, n: usize) -> &Device {
        self.devices().filter(|device| device.user() == user).nth(n).expect("the plan has this device")
    }

    /// Lets the `n`th device of a user ask for a run.
    pub fn ask(&mut self, user: usize, n: usize) {
        let now = self.schedule.now();
        let mut of_user = self.actors.iter_mut().enumerate().filter_map(|(index, actor)| match actor {
            Actor::Device(device) if device.user() == user => Some((index, device)),
            Actor::Device(_)
            | Actor::Worker(_)
            | Actor::Rogue(_)
            | Actor::Hostile(_)
            | Actor::Vandal(_)
            | Actor::Publisher(_) => None,
        });
        let (index, device) = of_user.nth(n).expect("the plan has this device");
        device.ask(now);
        self.schedule.at(now, Event::Actor(index));
        self.planned[index] = now;
    }

    fn devices(&self) -> impl Iterator<Item = &Device> {
        devices(&self.actors)
    }

    /// One event.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn step(&mut self) -> Result<(), Violation> {
        if let Some(event) = self.schedule.pop() {
            self.happen(event);
            self.settle();
            self.spring();
        }
        match self.oracles.broken() {
            Some(violation) => Err(violation.clone()),
            None => Ok(()),
        }
    }

    /// The moment may have come for which a crash waits.
    fn spring(&mut self) {
        if let Some((during, down, is_power)) = self.ambush
            && self.daemon.is_at(during)
        {
            self.ambush = None;
            self.trace.note(Of::World, format_args!("it is the moment: {during:?}"));
            if is_power {
                self.lose_power(down);
            } else {
                self.kill(down);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Call(id) => {
                if let Some(end) = self.net.answer(id, self.daemon.is_up()) {
                    self.daemon.accept(Box::new(end));
                }
            }
            Event::Arrive(id, way) => self.net.arrive(id, way),
            Event::Room(id, way) => self.net.room(id, way),
            Event::Turn => match self.daemon.turn(&mut self.oracles) {
                Ok(false) => {}
                Ok(true) => {
                    sometimes!(self.oracles.tally, Drained);
                    self.trace.note(Of::World, format_args!("the daemon has gone down"));
                    self.kill(self.down);
                }
                Err(failed) => {
                    self.trace.note(Of::World, format_args!("the daemon ends: {failed}"));
                    self.kill(SECOND);
                }
            },
            Event::Hurry if self.daemon.is_draining() => self.daemon.drain(),
            Event::Hurry => {}
            Event::Stored => {
                if self.daemon.stored(&mut self.oracles) {
                    self.crash_if_armed();
                }
            }
            Event::Actor(index) => {
                if self.planned[index] <= self.schedule.now() {
                    self.act(index);
                }
            }
            Event::Fault(index) => {
                let fault = self.plan.faults[index].1.clone();
                self.inject(&fault, Some(index));
            }
            Event::Mend(index) => self.mend(index),
            Event::Boot => self.boot(),
            Event::Look => {
                self.oracles.look(self.calm_since);
                let is_calm = self.patience.is_some() || self.plan.faults.is_empty();
                self.daemon.look(&mut self.oracles, is_calm.then_some(self.calm_since));
                self.trouble();
                self.schedule.after(LOOK_EVERY, Event::Look);
            }
        }
    }

    /// Passes on what an event has caused.
    fn settle(&mut self) {
        let mut written = std::mem::take(&mut self.written);
        self.net.take_written(&mut written);
        for (id, wrote) in written.drain(..) {
            self.oracles.wrote(id, &wrote);
        }
        self.written = written;
        self.oracles.settle();
        let daemon = &mut self.daemon;
        self.oracles.settle_limits(|| daemon.active());
        let mut woken = std::mem::take(&mut self.woken_server);
        self.net.take_woken_server(&mut woken);
        woken.drain(..).for_each(|id| self.daemon.ready(id));
        self.woken_server = woken;
        let mut woken = std::mem::take(&mut self.woken_actors);
        self.net.take_woken_actors(&mut woken);
        woken.drain(..).for_each(|index| self.act(index));
        self.woken_actors = woken;
    }

    fn act(&mut self, index: usize) {
        let now = self.schedule.now();
        if index >= self.actors.len() {
            return;
        }
        let mut ctx = Ctx {
            index,
            now,
            wall: self.daemon.wall(),
            healed: self.patience.is_some() && !self.unhealed.contains(&index),
            over: self.patience.is_some(),
            broken: self.unhealed.contains(&index),
            net: &self.net,
            trace: &self.trace,
            oracles: &mut self.oracles,
            keys: &self.daemon.keys,
            book: &mut self.book,
        };
        let actor = &mut self.actors[index];
        actor.step(&mut ctx);
        let at = actor.deadline();
        let planned = &mut self.planned[index];
        if at < *planned || *planned <= now {
            *planned = at;
            if at < Micros::MAX {
                self.schedule.at(at, Event::Actor(index));
            }
        }
    }

    fn boot(&mut self) {
        if !self.daemon.is_up() {
            self.disturb(0);
            self.net.set_host(true);
            self.daemon.boot(&mut self.oracles);
        }
    }

    fn missing(&mut self) -> Option<String> {
        missing(&mut self.oracles.truth, &self.actors, &self.unhealed)
    }

    fn look_at_progress(&mut self) -> Result<(), Violation> {
        let now = self.schedule.now();
        let progress = progress(&self.oracles.truth, &self.actors, &self.unhealed);
        let missing = self.missing().unwrap_or_default();
        let Some(patience) = &mut self.patience else { return Ok(()) };
        patience.look(now, progress, &missing).map_err(|(oracle, what)| Violation {
            at: now,
            oracle,
            user: None,
            what,
        })
    }
}

fn devices(actors: &[Actor]) -> impl Iterator<Item = &Device> {
    healed_devices(actors, &NOBODY)
}

fn healed_devices<'a>(
    actors: &'a [Actor],
    unhealed: &'a BTreeSet<usize>,
) -> impl Iterator<Item = &'a Device> {
    let healed = actors.iter().enumerate().filter(|(index, _)| !unhealed.contains(index));
    healed.filter_map(|(_, actor)| match actor {
        Actor::Device(device) => Some(&**device),
        Actor::Worker(_) | Actor::Rogue(_) | Actor::Hostile(_) | Actor::Vandal(_) | Actor::Publisher(_) => {
            None
        }
    })
}

/// The actors of the users whom a plan leaves broken; with them the hostile go on.
fn unhealed(plan: &Plan, actors: &[Actor]) -> BTreeSet<usize> {
    let is_one = |actor: &Actor| match actor {
        Actor::Device(device) => plan.broken.contains(&device.user()),
        Actor::Hostile(_) | Actor::Vandal(_) => !plan.broken.is_empty(),
        Actor::Worker(_) | Actor::Rogue(_) | Actor::Publisher(_) => false,
    };
    (0..actors.len()).filter(|index| is_one(&actors[*index])).collect()
}

/// What is not at rest, if anything, of those who are healed.
pub(crate) fn missing(truth: &mut Truth, actors: &[Actor], unhealed: &BTreeSet<usize>) -> Option<String> {
    let alive = truth.alive();
    if alive > 0 {
        let run = truth.runs.iter().find(|(_, run)| run.ended.is_none()).map(|(id, _)| id);
        return Some(format!("{alive} runs have not ended, one is {run:?}"));
    }
    let unanswered = actors.iter().find_map(|actor| match actor {
        Actor::Publisher(publisher) => publisher.missing(),
        Actor::Device(_) | Actor::Worker(_) | Actor::Rogue(_) | Actor::Hostile(_) | Actor::Vandal(_) => None,
    });
    unanswered.or_else(|| healed_devices(actors, unhealed).find_map(|device| device.missing(truth)))
}

/// How many critical events the devices of those who are healed were owed, and have got; and whether these
/// are the same, where no disk was lost.
pub(crate) fn critical(
    oracles: &mut Oracles,
    actors: &[Actor],
    unhealed: &BTreeSet<usize>,
) -> ((u64, u64), Result<(), String>) {
    let counts = healed_devices(actors, unhealed).map(|device| device.critical(&mut oracles.truth));
    let (owed, got) = counts.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    let is_right = owed == got || oracles.disks_lost > 0;
    let what = || format!("of {owed} critical events {got} have arrived");
    ((owed, got), if is_right { Ok(()) } else { Err(what()) })
}

/// A number that changes with the progress of those who are healed.
pub(crate) fn progress(truth: &Truth, actors: &[Actor], unhealed: &BTreeSet<usize>) -> u64 {
    let positions: u64 = healed_devices(actors, unhealed).map(Device::progress).sum();
    let stored: u64 = truth.streams().map(|(_, log)| log.head()).sum();
    positions + stored
}

/// All actors of a plan: devices by user, then workers, the hostile, publishers, vandals,
/// rogues.
pub(crate) fn cast(plan: &Plan) -> Vec<Actor> {
    let dice = |owner: u64| Dice::new(plan.seed, owner);
    let mut actors = Vec::new();
    for user in &plan.users {
        for device in &user.devices {
            let device = Device::new(device.clone(), user, dice(device.dice));
            actors.push(Actor::Device(Box::new(device)));
        }
    }
    for worker in &plan.workers {
        let (own, odd) = (dice(worker.dice), dice(worker.dice + QUIRKS));
        actors.push(Actor::Worker(Box::new(Worker::new(worker.clone(), own, odd))));
    }
    for n in 0..plan.hostile {
        let hostile = Hostile::new(HOSTILE + n, Network::good(1), dice(3_000 + n as u64));
        actors.push(Actor::Hostile(Box::new(hostile)));
    }
    for publisher in &plan.publishers {
        let dice = dice(publisher.dice);
        actors.push(Actor::Publisher(Box::new(Publisher::new(publisher.clone(), dice))));
    }
    for n in 0..plan.vandals {
        let vandal = Vandal::new(VANDAL + n, Network::good(1), dice(5_000 + n as u64));
        actors.push(Actor::Vandal(Box::new(vandal)));
    }
    for n in 0..plan.rogues {
        let rogue = Rogue::new(n, Network::good(2), dice(5_500 + n as u64));
        actors.push(Actor::Rogue(Box::new(rogue)));
    }
    actors
}
