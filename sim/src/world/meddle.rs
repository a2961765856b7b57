//! How a world is meddled with: its faults, its healing, and its end.

use super::{CALM_AFTER, World};
use crate::faults::Fault;
use crate::oracles::liveness::Patience;
use crate::oracles::{Violation, bounds, purge, rot};
use crate::pipe::{PipeId, Way, ZONES};
use crate::schedule::{Event, Micros, SECOND};
use crate::trace::Of;
use runcast_core::Core;

/// Time for the daemon to forget all who have gone: the longest lease, and the close of every connection.
const PARTING: Micros = 90 * SECOND;
/// The longest time for which something is kept that a world outlasts.
const KEPT_AT_MOST: Micros = 300 * SECOND;
/// Time for the daemon to purge what is too old: it looks once a minute, and then again until all is done.
const PURGE: Micros = 130 * SECOND;

impl World {
    /// Something goes wrong, for so long: whoever it hits needs some time to be heard again.
    pub(super) fn disturb(&mut self, time: Micros) {
        self.calm_since = self.calm_since.max(self.schedule.now() + time + CALM_AFTER);
    }

    pub(super) fn kill(&mut self, down: Micros) {
        self.disturb(down);
        self.daemon.kill(&mut self.oracles);
        self.daemon.disk().set_sync_fails(false);
        self.summary.crashes += 1;
        self.schedule.after(down, Event::Boot);
    }

    pub(super) fn lose_power(&mut self, down: Micros) {
        self.disturb(down);
        self.net.set_host(false);
        self.daemon.lose_power(&mut self.oracles);
        self.summary.crashes += 1;
        self.schedule.after(down, Event::Boot);
    }

    fn lose_disk(&mut self, down: Micros) {
        self.disturb(down);
        self.net.set_host(false);
        self.daemon.lose_disk(&mut self.oracles);
        self.summary.crashes += 1;
        self.schedule.after(down, Event::Boot);
    }

    /// A commit has reached the disk, and the core does not know it yet.
    pub(super) fn crash_if_armed(&mut self) {
        match self.armed.take() {
            Some((down, true)) => self.lose_power(down),
            Some((down, false)) => self.kill(down),
            None => {}
        }
    }

    /// Lets something go wrong now; `index` is its number in the plan, if it is of the plan.
    pub fn inject(&mut self, fault: &Fault, index: Option<usize>) {
        if self.patience.is_some() {
            return;
        }
        self.trace.note(Of::World, format_args!("fault: {fault:?}"));
        self.disturb(fault.time().unwrap_or(0));
        if let (Some(time), Some(index)) = (fault.time(), index) {
            self.schedule.after(time, Event::Mend(index));
        }
        match fault {
            Fault::Reset { pick } => self.reset(*pick),
            Fault::Hole { pick, .. } => self.hole(*pick, index),
            Fault::Partition { zone, ways, .. } => {
                self.summary.partitions += 1;
                ways.iter().for_each(|way| self.net.set_blocked(*zone, *way, true));
            }
            Fault::Slowness { factor, .. } => self.net.set_slowness(*factor),
            Fault::DropAll => {
                for id in self.net.open() {
                    self.summary.resets += 1;
                    self.net.reset(id);
                }
            }
            Fault::Kill { time } if self.daemon.is_up() => self.kill(*time),
            Fault::PowerLoss { time } if self.daemon.is_up() => self.lose_power(*time),
            Fault::NewDisk { time } if self.daemon.is_up() => self.lose_disk(*time),
            Fault::Kill { .. } | Fault::PowerLoss { .. } | Fault::NewDisk { .. } => {}
            Fault::Ambush { during, time, power } => self.ambush = Some((*during, *time, *power)),
            Fault::CrashAtCommit { time, power } => self.armed = Some((*time, *power)),
            Fault::Drain { time, hurry } => {
                self.down = *time;
                self.daemon.drain();
                hurry.iter().for_each(|after| self.schedule.after(*after, Event::Hurry));
            }
            Fault::Stall { time } => self.daemon.stall(self.schedule.now() + time),
            Fault::SlowDisk { sync, .. } => self.daemon.pace.set(*sync),
            Fault::FullDisk { .. } => {
                let disk = self.daemon.disk();
                disk.set_quota(Some(disk.used_bytes()));
            }
            Fault::LittleMemory { .. } => self.daemon.use_memory(97),
            Fault::BrokenDisk { .. } => self.daemon.disk().set_sync_fails(true),
            Fault::RotateKeys { .. } => self.daemon.keys.add(),
            Fault::Jump { by } => self.daemon.jump(*by),
        }
        self.settle();
    }

    fn reset(&mut self, pick: u64) {
        let open = self.net.open();
        if !open.is_empty() {
            self.summary.resets += 1;
            self.net.reset(open[(pick % open.len() as u64) as usize]);
        }
    }

    fn hole(&mut self, pick: u64, index: Option<usize>) {
        let open = self.net.open();
        if !open.is_empty() {
            let id = open[(pick % open.len() as u64) as usize];
            self.net.set_hole(id, true);
            self.holes.extend(index.map(|index| (index, id)));
        }
    }

    /// A fault of the plan is over.
    pub(super) fn mend(&mut self, index: usize) {
        match &self.plan.faults[index].1 {
            Fault::Hole { .. } => {
                let over = self.holes.iter().position(|(fault, _)| *fault == index);
                if let Some((_, id)) = over.map(|at| self.holes.swap_remove(at)) {
                    self.net.set_hole(id, false);
                }
            }
            Fault::Partition { zone, ways, .. } => {
                ways.iter().for_each(|way| self.net.set_blocked(*zone, *way, false));
            }
            Fault::Slowness { .. } => self.net.set_slowness(1),
            Fault::SlowDisk { .. } => self.daemon.hasten(),
            Fault::FullDisk { .. } => self.daemon.disk().set_quota(None),
            Fault::LittleMemory { .. } => self.daemon.use_memory(10),
            Fault::RotateKeys { .. } => self.daemon.keys.retire(),
            Fault::Stall { .. }
            | Fault::Reset { .. }
            | Fault::DropAll
            | Fault::Kill { .. }
            | Fault::Ambush { .. }
            | Fault::PowerLoss { .. }
            | Fault::NewDisk { .. }
            | Fault::CrashAtCommit { .. }
            | Fault::BrokenDisk { .. }
            | Fault::Drain { .. }
            | Fault::Jump { .. } => {}
        }
    }

    /// Makes everything good, for good; but for those users whom the plan leaves broken.
    pub fn heal(&mut self) {
        self.trace.note(Of::World, format_args!("everything is healed"));
        let now = self.schedule.now();
        (0..ZONES).for_each(|zone| Way::BOTH.iter().for_each(|way| self.net.set_blocked(zone, *way, false)));
        self.holes.clear();
        let unhealed = &self.unhealed;
        self.net.heal(&|owner| !unhealed.contains(&owner));
        (self.armed, self.ambush) = (None, None);
        self.daemon.hasten();
        self.daemon.disk().set_quota(None);
        self.daemon.disk().set_sync_fails(false);
        self.daemon.use_memory(10);
        self.daemon.keys.settle();
        self.daemon.stall(0);
        self.patience = Some(Patience::new(now));
        self.disturb(0);
        for index in 0..self.actors.len() {
            self.planned[index] = now;
            self.schedule.at(now, Event::Actor(index));
        }
        self.settle();
    }

    /// Those who are not healed go on to be cut off, and to hear nothing.
    pub(super) fn trouble(&mut self) {
        if self.patience.is_none() || self.unhealed.is_empty() || !self.dice.chance(1, 6) {
            return;
        }
        let mine: Vec<PipeId> = self.net.open_of(&|owner| self.unhealed.contains(&owner));
        if mine.is_empty() {
            return;
        }
        let id = self.dice.pick(&mine);
        match self.dice.below(3) {
            0 => self.net.reset(id),
            choice => self.net.set_hole(id, choice == 1),
        }
        self.settle();
    }

    /// Where nothing is kept for longer than a world may last, nothing is left after that.
    fn outlast(&mut self) -> Result<(), Violation> {
        let (store, rows) = (&self.plan.config.store, &self.oracles.rows);
        let too_many = purge::not_too_many(rows, &self.plan.config);
        let time = store.keep.0;
        if let Some(core) = self.daemon.core() {
            self.oracles.at_rest(core);
        }
        self.oracles.judge("O26", None, too_many);
        if time <= KEPT_AT_MOST {
            self.step_through(time + PURGE)?;
            let left = purge::nothing_left(&self.oracles.rows, &self.oracles.truth);
            self.oracles.judge("O26", None, left);
        }
        Ok(())
    }

    /// Everybody goes, for good; then nothing must be left in memory, a last start must find everything, and
    /// a rotten disk must not pass for a good one.
    pub(super) fn part(&mut self) -> Result<(), Violation> {
        self.trace.note(Of::World, format_args!("everybody goes"));
        // What those who are not healed had asked for is lost on its way: nobody asks for anything any more.
        let theirs = self.net.open_of(&|owner| self.unhealed.contains(&owner));
        theirs.into_iter().for_each(|id| self.net.reset(id));
        self.net.heal(&|_| true);
        self.actors.clear();
        let end = self.schedule.now() + PARTING;
        let left = |world: &Self| world.daemon.core().map(|core| bounds::base(&core.inspect().sizes()));
        while !matches!(left(self), Some(Ok(()))) {
            if self.schedule.now() >= end {
                let what =
                    left(self).and_then(Result::err).unwrap_or_else(|| "the daemon is down".to_owned());
                return Err(Violation { at: end, oracle: "O13", user: None, what });
            }
            self.step_through(super::LOOK_EVERY)?;
        }
        self.outlast()?;
        self.kill(SECOND);
        self.step_through(2 * SECOND)?;
        if self.plan.rots {
            let is_durable = |core: &Core| core.inspect().appends_waiting() == 0;
            self.run_until(PARTING, |world| world.daemon.core().is_some_and(is_durable))?;
            let (daemon, all) = (&self.daemon, (&self.oracles.truth, &self.oracles.rows));
            let found = rot::judge(daemon.disk(), daemon.repair(), all, &mut self.dice);
            self.oracles.judge("O3", None, found);
        }
        self.step()
    }
}
