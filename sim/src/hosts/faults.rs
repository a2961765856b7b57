//! The faults of a plan, done to turmoil's hosts and links.

use super::stage::Fall;
use super::wire::DAEMON;
use super::{Hosts, zone};
use crate::faults::Fault;
use crate::pipe::{PipeId, Way, ZONES};
use crate::schedule::{Micros, SECOND};
use crate::trace::Of;
use std::time::Duration;

/// How a zone is cut off from the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// What is said waits.
    Held,
    /// What is said is lost.
    Lost,
    /// What is said in this direction is lost.
    Deaf(Way),
}

/// A zone that is cut off, and by which fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    by: usize,
    how: How,
}

impl Hosts {
    /// Begins and ends what the plan wants begun and ended by now.
    pub(super) fn meddle(&mut self) {
        let now = self.now();
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart();
        }
        if self.restart_at.is_none() && !self.sim.is_host_running(DAEMON) {
            self.summary.crashes += 1;
            self.restart_at = Some(now + SECOND);
        }
        if self.patience.is_some() {
            return;
        }
        while let Some(at) = self.mends.iter().position(|(at, _)| *at <= now) {
            let (_, index) = self.mends.remove(at);
            self.mend(index);
        }
        while let Some((at, fault)) = self.plan.faults.get(self.next_fault).filter(|(at, _)| *at <= now) {
            let (index, fault) = (self.next_fault, fault.clone());
            self.mends.extend(fault.time().map(|time| (at + time, index)));
            self.next_fault += 1;
            self.inject(index, &fault);
        }
    }

    fn inject(&mut self, index: usize, fault: &Fault) {
        self.trace.note(Of::World, format_args!("fault: {fault:?}"));
        let stage = self.stage.clone();
        match fault {
            Fault::Reset { pick } => self.picked(*pick).into_iter().for_each(|id| self.reset(id)),
            Fault::DropAll => stage.borrow().net.open().into_iter().for_each(|id| self.reset(id)),
            Fault::Hole { pick, .. } => {
                if let Some(id) = self.picked(*pick) {
                    stage.borrow().net.set_hole(id, true);
                    self.holes.push((index, id));
                }
            }
            Fault::Partition { zone, ways, time } => self.cut_off(index, *zone, ways, *time),
            Fault::Slowness { factor, .. } => {
                self.slowness = *factor;
                self.set_latency();
            }
            // Here moments are too short to wait for.
            Fault::PowerLoss { time } | Fault::Ambush { time, power: true, .. } => {
                self.lose(Fall::Power, *time)
            }
            Fault::Kill { time } | Fault::Ambush { time, .. } | Fault::CrashAtCommit { time, .. } => {
                self.crash(*time)
            }
            Fault::NewDisk { time } => self.lose(Fall::Disk, *time),
            Fault::Drain { .. } => stage.borrow_mut().daemon.drain(),
            Fault::Stall { time } => stage.borrow_mut().daemon.stall(self.now() + time),
            Fault::SlowDisk { sync, .. } => stage.borrow().daemon.pace.set(*sync),
            Fault::FullDisk { .. } => {
                let stage = stage.borrow();
                let disk = stage.daemon.disk();
                disk.set_quota(Some(disk.used_bytes()));
            }
            Fault::LittleMemory { .. } => stage.borrow_mut().daemon.use_memory(97),
            Fault::BrokenDisk { .. } => stage.borrow().daemon.disk().set_sync_fails(true),
            Fault::RotateKeys { .. } => stage.borrow_mut().daemon.keys.add(),
            Fault::Jump { by } => stage.borrow_mut().daemon.jump(*by),
        }
    }

    fn mend(&mut self, index: usize) {
        let stage = self.stage.clone();
        match &self.plan.faults[index].1 {
            Fault::Hole { .. } => {
                let over = self.holes.iter().position(|(fault, _)| *fault == index);
                if let Some((_, id)) = over.map(|at| self.holes.swap_remove(at)) {
                    stage.borrow().net.set_hole(id, false);
                }
            }
            Fault::Partition { zone, .. } => {
                let zone = *zone;
                if self.cut[zone].is_some_and(|cut| cut.by == index) {
                    self.reunite(zone);
                }
            }
            Fault::Slowness { .. } => {
                self.slowness = 1;
                self.set_latency();
            }
            Fault::SlowDisk { .. } => stage.borrow_mut().daemon.hasten(),
            Fault::FullDisk { .. } => stage.borrow().daemon.disk().set_quota(None),
            Fault::LittleMemory { .. } => stage.borrow_mut().daemon.use_memory(10),
            Fault::RotateKeys { .. } => stage.borrow_mut().daemon.keys.retire(),
            Fault::Stall { .. }
            | Fault::Reset { .. }
            | Fault::DropAll
            | Fault::Kill { .. }
            | Fault::CrashAtCommit { .. }
            | Fault::Ambush { .. }
            | Fault::PowerLoss { .. }
            | Fault::NewDisk { .. }
            | Fault::BrokenDisk { .. }
            | Fault::Drain { .. }
            | Fault::Jump { .. } => {}
        }
    }

    fn picked(&self, pick: u64) -> Option<PipeId> {
        let open = self.stage.borrow().net.open();
        let pick = pick.checked_rem(open.len() as u64)?;
        open.get(pick as usize).copied()
    }

    fn reset(&mut self, id: PipeId) {
        self.summary.resets += 1;
        self.stage.borrow().net.reset(id);
    }

    /// The daemon's machine loses its power, and perhaps more; it comes back after `down`.
    fn lose(&mut self, what: Fall, down: Micros) {
        if self.restart_at.is_none() {
            self.has_power = false;
            (0..ZONES).for_each(|number| self.join(number));
            self.stage.borrow_mut().fall = what;
        }
        self.crash(down);
    }

    /// Ends the daemon's process, if it runs; it is started again after `down`.
    fn crash(&mut self, down: Micros) {
        if self.restart_at.is_none() {
            self.sim.crash(DAEMON);
            self.summary.crashes += 1;
            self.restart_at = Some(self.now() + down);
        }
    }

    fn restart(&mut self) {
        self.restart_at = None;
        self.has_power = true;
        (0..ZONES).for_each(|number| self.join(number));
        self.sim.bounce(DAEMON);
    }

    /// Cuts a zone off, unless it is. The length of the time, as good as chance, says what becomes of what
    /// is said.
    fn cut_off(&mut self, by: usize, zone: usize, ways: &[Way], time: Micros) {
        if self.cut[zone].is_some() {
            return;
        }
        self.summary.partitions += 1;
        let how = match ways {
            [way] => How::Deaf(*way),
            _ if time.is_multiple_of(2) => How::Held,
            _ => How::Lost,
        };
        self.cut[zone] = Some(Cut { by, how });
        self.join(zone);
        self.mark_hurt(zone);
    }

    /// Ends the partition of a zone; a machine without power stays apart until it is started.
    pub(super) fn reunite(&mut self, zone: usize) {
        self.mark_hurt(zone);
        self.cut[zone] = None;
        self.join(zone);
    }

    /// Whoever has lost bytes on the way gets nothing more, before or after: turmoil sends nothing again.
    fn mark_hurt(&self, zone: usize) {
        if self.cut[zone].is_some_and(|cut| cut.how != How::Held) {
            let stage = &mut *self.stage.borrow_mut();
            stage.net.of_zone(zone).into_iter().for_each(|id| stage.oracles.hurt(id));
        }
    }

    /// Makes the link between a zone and the daemon what it should be.
    fn join(&self, number: usize) {
        let name = zone(number);
        // Frees what was held and joins what was cut, in both directions.
        self.sim.release(DAEMON, name.as_str());
        match self.cut[number].map(|cut| cut.how) {
            _ if !self.has_power => self.sim.partition(DAEMON, name.as_str()),
            None => {}
            Some(How::Held) => self.sim.hold(DAEMON, name.as_str()),
            Some(How::Lost) => self.sim.partition(DAEMON, name.as_str()),
            Some(How::Deaf(Way::Up)) => self.sim.partition_oneway(name.as_str(), DAEMON),
            Some(How::Deaf(Way::Down)) => self.sim.partition_oneway(DAEMON, name.as_str()),
        }
    }

    /// Makes the ways as long as they are now.
    pub(super) fn set_latency(&self) {
        for (number, latency) in self.latency.iter().enumerate() {
            let longest = Duration::from_micros(latency * self.slowness);
            self.sim.set_link_max_message_latency(DAEMON, zone(number), longest);
        }
    }
}
