//! The daemon in the simulated world: the real pump around the real core and store, over simulated streams
//! and a simulated disk; killed and started again as the faults want it.

use crate::carrier::Socket;
use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::faults::{Fault, Moment};
use crate::keys::Ring;
use crate::model::{Model, Watching};
use crate::oracles::listing::Listing;
use crate::oracles::ready::Ready;
use crate::oracles::recorded::{Recording, Start};
use crate::oracles::spans::Spans;
use crate::oracles::{Oracles, bounds, isolation, kept, others, restart, timers};
use crate::pipe::PipeId;
use crate::plan::Plan;
use crate::schedule::{Event, MS, Micros, SECOND, Schedule};
use crate::sometimes;
use crate::sometimes::Tally;
use crate::states::States;
use crate::storage::{Pace, SimStorage};
use crate::trace::{Of, Trace};
use crate::watch::Watch;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use runcast::conn::Edge;
use runcast::pump::{Pump, StorageFailed};
use runcast::store::{OpenError, Repair, Store};
use runcast_core::Core;
use runcast_core::config::Config;
use runcast_core::ids::{ConnId, RunId};
use runcast_core::odd;
use runcast_core::planted::Planted;
use runcast_core::record::Record;
use runcast_core::time::{Mono, Now, WallMs};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

/// Unix time in milliseconds at the beginning of every world.
const EPOCH_MS: u64 = 1_789_000_000_000;
/// From an edge to the turn that sees it: what a loop needs to come around.
const TURN: Micros = 30;
/// The store's journal: small, so that it goes round, is folded often, and some commits find no room in it.
const JOURNAL_BLOCKS: u64 = 96;

/// The daemon's machine.
#[derive(Debug)]
pub struct Daemon {
    config: Config,
    planted: Planted,
    schedule: Schedule,
    trace: Trace,
    dice: Dice,
    disk: SimDisk,
    /// The keys of tokens, which may be replaced while the process runs.
    pub keys: Ring,
    /// How long syncs take.
    pub pace: Pace,
    pump: Option<Pump<Box<dyn Socket>, SimStorage, Watch>>,
    pipes: BTreeMap<ConnId, PipeId>,
    conns: BTreeMap<PipeId, ConnId>,
    turn_at: Option<Micros>,
    stalled_until: Micros,
    spins: u32,
    /// By how much the wall clock is off, in milliseconds.
    off_by: i64,
    /// Given to the store before the crash, with nothing known.
    pending: Vec<Arc<[Record]>>,
    /// Whether the storage thread commits in pieces.
    splits: bool,
    repair: Repair,
    /// Whether the wall clock may jump.
    jumps: bool,
    /// Whether what comes to the core is written down and given to a fresh one (O20).
    pub records: bool,
    booted_at: Micros,
    /// Calls of the webhook that are under way, until when, and whether they are taken.
    calls: Vec<(Micros, RunId, bool)>,
    /// What the model says about the core.
    judgement: Rc<RefCell<Result<(), String>>>,
    /// Commits there were.
    pub commits: u64,
    /// Turns there were.
    pub turns: u64,
    /// States that the core was in.
    pub states: States,
}

impl Daemon {
    /// A machine with an empty disk, not yet started.
    pub fn new(plan: &Plan, schedule: Schedule, trace: Trace, dice: Dice) -> Self {
        Self {
            config: plan.config.clone(),
            planted: plan.planted,
            schedule,
            trace,
            dice,
            disk: SimDisk::default(),
            keys: Ring::default(),
            pace: Pace::healthy(),
            pump: None,
            pipes: BTreeMap::new(),
            conns: BTreeMap::new(),
            turn_at: None,
            stalled_until: 0,
            spins: 0,
            off_by: 0,
            pending: Vec::new(),
            splits: plan.splits,
            repair: if plan.repairs_fully { Repair::Full } else { Repair::Quick },
            jumps: plan.faults.iter().any(|(_, fault)| matches!(fault, Fault::Jump { .. })),
            records: false,
            booted_at: 0,
            calls: Vec::new(),
            judgement: Rc::new(RefCell::new(Ok(()))),
            commits: 0,
            turns: 0,
            states: States::default(),
        }
    }

    /// Whether the process runs.
    pub fn is_up(&self) -> bool {
        self.pump.is_some()
    }

    /// The wall clock, in Unix milliseconds.
    pub fn wall(&self) -> u64 {
        (EPOCH_MS + self.schedule.now() / 1_000).saturating_add_signed(self.off_by)
    }

    /// Lets the wall clock jump.
    pub fn jump(&mut self, by: i64) {
        self.off_by += by;
    }

    /// Keeps the process from running until then.
    pub fn stall(&mut self, until: Micros) {
        self.stalled_until = until;
        if self.pump.is_some() && until <= self.schedule.now() {
            // It goes on at once, not when it would have gone on.
            self.plan_turn(self.schedule.now() + TURN);
        }
    }

    /// The disk.
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The core, while the process runs.
    pub fn core(&self) -> Option<&Core> {
        self.pump.as_ref().map(Pump::core)
    }

    /// The runs that the core has given, or offered, to workers, and to which. One that has ended is with
    /// none, though its end may wait for the store.
    pub fn active(&self) -> BTreeMap<String, String> {
        let runs = self.core().into_iter().flat_map(|core| core.inspect().runs());
        runs.filter_map(|run| Some((run.run.to_string(), run.worker?.to_owned()))).collect()
    }

    /// How often the states came about that matter, in all daemons so far.
    pub fn tally(&self, oracles: &Oracles) -> Tally {
        let mut tally = oracles.tally;
        if let Some(core) = self.core() {
            tally.add_seen(core.inspect().seen());
        }
        tally
    }

    /// Whether its store is in the middle of this.
    pub fn is_at(&mut self, moment: Moment) -> bool {
        self.pump.as_mut().is_some_and(|pump| pump.storage_mut().is_at(moment))
    }

    /// Lets oracles look into the core. Nothing has disturbed it since `calm_since`, where that is said.
    pub fn look(&mut self, oracles: &mut Oracles, calm_since: Option<Micros>) {
        let now = self.schedule.now();
        let Some(pump) = self.pump.as_mut() else { return };
        if let Some(calm_since) = calm_since {
            let (view, lease) = (pump.core().inspect(), self.config.runs.lease.0);
            let judgement = oracles.leases.look(now, view, lease, calm_since.max(self.booted_at));
            oracles.judge("O19", None, judgement);
        }
        let is_well = now >= self.stalled_until && pump.storage_mut().is_well();
        let judgement = oracles.positions.look(now, pump.core().inspect(), is_well);
        oracles.judge("O3", None, judgement);
        pump.core().assert_invariants();
        if self.config.odd & odd::NARROW == 0 {
            oracles.judge("O23", None, others::owed(pump.core()));
        }
        oracles.judge("O10", None, isolation::counted(pump.core()));
        let longest = pump.outputs().map(|(_, bytes)| bytes).max().unwrap_or(0);
        oracles.judge("O13", None, bounds::output(longest, &self.config));
        let late = pump.witness().look(pump.core());
        if let Err((oracle, what)) = late {
            oracles.judge(oracle, None, Err(what));
        }
    }

    /// Starts the process: recovers, compares what is found with what is true, and listens.
    pub fn boot(&mut self, oracles: &mut Oracles) {
        let (mut store, image) = match Store::open_with(self.disk.clone(), self.repair, JOURNAL_BLOCKS) {
            Ok(opened) => opened,
            Err(error @ (OpenError::Io(_) | OpenError::Full)) => return self.boot_later(&error),
            Err(error) => {
                return oracles.judge("O3", None, Err(format!("the store cannot be opened: {error}")));
            }
        };
        store.plant(self.planted);
        let pending = std::mem::take(&mut self.pending);
        let mut load = |query: &_| store.load(query).map_err(|error| error.to_string());
        let flat: Vec<Record> = pending.iter().flat_map(|append| append.to_vec()).collect();
        let events = match kept::reopened(&oracles.truth, &flat, &mut load) {
            Ok(found) => {
                sometimes!(oracles.tally, CrashKeepsAppends if !found.is_empty());
                found.iter().for_each(|record| oracles.stored(record));
                found.len()
            }
            Err((oracle, what)) => return oracles.judge(oracle, None, Err(what)),
        };
        let known = oracles.rows.owners_of_streams();
        match oracles.rows.reopened(&pending, events, &image, &mut load) {
            Ok(taken) => {
                let kept = pending.iter().take(taken).flat_map(|append| append.iter());
                kept.filter(|record| matches!(record, Record::Trim { .. }))
                    .for_each(|trim| oracles.stored(trim));
            }
            Err(what) => oracles.judge("O22", None, Err(what)),
        }
        oracles.look_for_erased(&known);
        let alive = oracles.truth.alive();
        self.trace.note(Of::World, format_args!("the daemon starts, with {alive} runs that have not ended"));
        let lost = kept::runs(&oracles.truth, &image);
        oracles.judge("O3", None, lost);
        self.booted_at = self.schedule.now();
        let (seed, now) = (self.dice.seed(), self.now());
        let again = Store::open_with(self.disk.kill(), self.repair, JOURNAL_BLOCKS)
            .map_err(|error| error.to_string());
        let twice = again.and_then(|(_, again)| restart::twice(&self.config, seed, now, &image, &again));
        oracles.judge("O22", None, twice);
        let mut storage = SimStorage::new(store, self.schedule.clone(), self.fork(), self.pace.clone());
        if self.splits {
            storage.split();
        }
        let (mut opening, config) = (Vec::new(), self.config.clone());
        let (model, listing) = (image.clone(), Listing::open(&config, &image, now));
        let written_down = self.records.then(|| image.clone());
        let core = Core::open_planted(config.clone(), seed, image, now, self.planted, &mut opening);
        let recording = written_down.map(|image| {
            let start = Start { config: config.clone(), seed, image, now, planted: self.planted };
            Recording::new(start, &opening)
        });
        let model = Model::open(&self.config, &model);
        let model = Watching::begin(model, &opening, &core, &self.judgement);
        let begun = (Ready::open(&core, now.mono), Spans::open(&core, now.mono));
        let watch = Watch::new(config, self.jumps, model, listing, begun, recording);
        self.pump = Some(Pump::watched(core, opening, storage, self.keys.verify(), watch));
        self.turn_at = None;
        self.plan_turn(self.schedule.now() + TURN);
    }

    /// The disk fails already. Someone looks after it, and starts the process again.
    fn boot_later(&mut self, error: &OpenError) {
        self.trace.note(Of::World, format_args!("the daemon does not start: {error}"));
        self.disk.set_sync_fails(false);
        self.schedule.after(SECOND, Event::Boot);
    }

    fn fork(&mut self) -> Dice {
        Dice::new(self.dice.any(), 1)
    }

    /// A process counts its time from its own start.
    fn now(&self) -> Now {
        Now { mono: Mono(self.schedule.now() - self.booted_at), wall: WallMs(self.wall()) }
    }

    /// Takes a connection.
    pub fn accept(&mut self, end: Box<dyn Socket>) {
        let Some(pump) = &mut self.pump else { return };
        let id = end.id();
        // Two clients share an address now and then.
        let address = Ipv4Addr::new(10, 0, (id.0 >> 7) as u8, (id.0 as u8) | 1);
        let conn = pump.accept(end, IpAddr::V4(address));
        self.pipes.insert(conn, id);
        self.conns.insert(id, conn);
        self.plan_turn(self.schedule.now() + TURN);
    }

    /// An edge.
    pub fn ready(&mut self, id: PipeId) {
        if let (Some(pump), Some(conn)) = (&mut self.pump, self.conns.get(&id)) {
            let edge = pump.stream(*conn).map_or(Edge::UntilBlocked, |end| end.edge());
            pump.ready(*conn, edge);
            self.plan_turn(self.schedule.now() + TURN);
        }
    }

    /// The storage thread may have done its job. Tells whether something has become durable by it.
    pub fn stored(&mut self, oracles: &mut Oracles) -> bool {
        let Some(pump) = &mut self.pump else { return false };
        let storage = pump.storage_mut();
        let (commits, was_full) = (storage.commits(), storage.is_full());
        if storage.finish() {
            self.commits += storage.commits() - commits;
            sometimes!(oracles.tally, DiskFull if storage.is_full() && !was_full);
            let acknowledged = storage.take_acknowledged();
            let records = acknowledged.iter().map(|records| records.len()).sum::<usize>();
            if records > 0 {
                self.trace.note(Of::World, format_args!("stored: {records} records"));
            }
            for record in acknowledged.iter().flat_map(|records| records.iter()) {
                oracles.stored(record);
            }
            self.plan_turn(self.schedule.now() + TURN);
            return records > 0;
        }
        false
    }

    /// How its store finds its free pages.
    pub fn repair(&self) -> Repair {
        self.repair
    }

    /// Whether the process goes down.
    pub fn is_draining(&self) -> bool {
        self.core().is_some_and(|core| core.inspect().is_draining())
    }

    /// Of its memory so much is in use, in percent.
    pub fn use_memory(&mut self, percent: u64) {
        if let Some(pump) = &mut self.pump {
            pump.memory(self.config.store.memory / 100 * percent);
            self.plan_turn(self.schedule.now() + TURN);
        }
    }

    /// Tells the process to go down; told again, it hurries.
    pub fn drain(&mut self) {
        if let Some(pump) = &mut self.pump {
            pump.drain();
            self.plan_turn(self.schedule.now() + TURN);
        }
    }

    /// Takes a turn of the loop, if its time has come. Tells whether the process has gone down by itself.
    ///
    /// # Errors
    /// The store has failed, and the process must end.
    pub fn turn(&mut self, oracles: &mut Oracles) -> Result<bool, StorageFailed> {
        let (now, at) = (self.now(), self.schedule.now());
        if self.turn_at.is_none_or(|planned| planned > at) {
            return Ok(false);
        }
        self.turn_at = None;
        if at < self.stalled_until {
            self.plan_turn(self.stalled_until);
            return Ok(false);
        }
        let Some(pump) = &mut self.pump else { return Ok(false) };
        for (_, run, is_taken) in self.calls.extract_if(.., |(until, _, _)| *until <= at) {
            pump.called(run, is_taken);
        }
        let turn = pump.turn(now).inspect_err(|_| sometimes!(oracles.tally, DiskBroken));
        oracles.judge("O21", None, self.judgement.replace(Ok(())));
        let turn = turn?;
        self.turns += 1;
        self.states.look(self.turns, pump.core());
        if let Some((oracle, what)) = pump.witness_mut().take_broken() {
            oracles.judge(oracle, None, Err(what));
        }
        pump.witness_mut().take_promised().iter().for_each(|promised| oracles.promised(promised));
        pump.witness_mut().take_overheard().iter().for_each(|heard| oracles.overheard(heard));
        for records in pump.storage_mut().take_submitted() {
            records.iter().for_each(|record| oracles.submitted(record));
        }
        for (conn, _) in pump.outputs().filter(|(_, waits)| *waits > 0) {
            self.pipes.get(&conn).into_iter().for_each(|pipe| oracles.crowded(*pipe));
        }
        let deadline = pump.deadline();
        for (conn, end) in turn.closed {
            if let Some(pipe) = self.pipes.remove(&conn) {
                self.conns.remove(&pipe);
                oracles.hung_up(pipe);
            }
            drop(end);
        }
        for call in turn.calls {
            let judgement = oracles.delivery.called(&call, &oracles.rows, &oracles.truth);
            oracles.judge("O27", None, judgement);
            self.trace.note(Of::World, format_args!("the webhook is called: {}", call.body));
            let until = at + self.dice.log_uniform(MS, 10 * SECOND);
            self.calls.push((until, call.run, self.dice.chance(2, 3)));
        }
        if let Some(next) = self.calls.iter().map(|(until, _, _)| *until).min() {
            self.plan_turn(next.max(at + TURN));
        }
        if turn.more {
            self.plan_turn(at + TURN);
        }
        if let Some(Mono(deadline)) = deadline {
            let deadline = self.booted_at + deadline;
            self.spins = if deadline <= at { self.spins + 1 } else { 0 };
            if self.spins > timers::SPINS_MAX {
                oracles.judge("O15", None, Err("the deadline stays in the past, turn after turn".to_owned()));
            }
            self.plan_turn(deadline.max(at + TURN));
        }
        Ok(turn.is_over)
    }

    /// Gives what was written down, if it was, to a fresh core.
    pub fn replay(&mut self, oracles: &mut Oracles) {
        let recording = self.pump.as_mut().and_then(|pump| pump.witness_mut().take_recording());
        if let Some(recording) = recording {
            oracles.judge("O20", None, recording.replay());
        }
    }

    fn plan_turn(&mut self, at: Micros) {
        if self.turn_at.is_none_or(|planned| at < planned) {
            self.turn_at = Some(at);
            self.schedule.at(at, Event::Turn);
        }
    }

    /// Ends the process at once, with all that is in its memory. What was written stays.
    pub fn kill(&mut self, oracles: &mut Oracles) {
        let disk = self.disk.kill();
        self.end(disk, oracles);
    }

    /// The disk is as fast as it should be again.
    pub fn hasten(&mut self) {
        self.pace.set(MS);
        if let Some(pump) = &mut self.pump {
            pump.storage_mut().hasten();
        }
    }

    /// Takes the power away, perhaps in the middle of a commit.
    pub fn lose_power(&mut self, oracles: &mut Oracles) {
        if let Some(pump) = &mut self.pump
            && self.dice.chance(3, 4)
        {
            self.disk.power_off_at(self.disk.operations() + self.dice.below(12));
            pump.storage_mut().rush();
        }
        let mut rng = ChaCha8Rng::from_seed(self.dice.seed());
        let disk = self.disk.crash(&mut rng);
        self.end(disk, oracles);
    }

    /// Takes the power and the disk away: an empty one takes its place.
    pub fn lose_disk(&mut self, oracles: &mut Oracles) {
        self.end(SimDisk::default(), oracles);
        self.pending.clear();
        sometimes!(oracles.tally, DiskLost);
        oracles.disk_lost();
    }

    fn end(&mut self, disk: SimDisk, oracles: &mut Oracles) {
        sometimes!(oracles.tally, CrashSoonAgain if self.schedule.now() < self.booted_at + SECOND);
        sometimes!(oracles.tally, CrashWithToolOpen if oracles.truth.has_open_tool());
        if let Some(pump) = self.pump.as_mut() {
            oracles.tally.add_seen(pump.core().inspect().seen());
            sometimes!(oracles.tally, CrashWithAppends if pump.storage_mut().has_pending());
            sometimes!(oracles.tally, CrashWhileFolding if pump.storage_mut().is_at(Moment::Fold));
        }
        // What dropping the store still writes goes to the old disk, which nobody will see again.
        self.replay(oracles);
        if let Some(mut pump) = self.pump.take() {
            self.pending = pump.storage_mut().take_pending();
        }
        self.disk = disk;
        self.pipes.clear();
        self.conns.clear();
        self.turn_at = None;
        self.calls.clear();
        oracles.killed();
    }
}
