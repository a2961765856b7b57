//! The network: duplex byte pipes between clients and the daemon's machine, in virtual time.
//!
//! A pipe behaves like a TCP connection whose ends are watched edge-triggered: an end is woken only when
//! something changes after it was told `WouldBlock` (and when the connection breaks), so a loop that forgets
//! to drain a socket hangs here as it would there. Bytes take time, wait while the way is blocked, and come
//! in order or not at all.

mod end;
#[cfg(test)]
mod tests;

use crate::carrier::{Carrier, Socket};
use crate::dice::Dice;
use crate::schedule::{Event, Micros, SECOND, Schedule};
use crate::tap::{Tap, Wrote};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Names a pipe. Never reused in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PipeId(pub u64);

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Way {
    /// From the client to the daemon.
    Up,
    /// From the daemon to the client.
    Down,
}

impl Way {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];
}

/// When something that was lost is sent again; later each time.
const RESEND_AFTER: Micros = 200_000;
/// Losses in a row that break a connection.
const RESENDS: u32 = 7;

/// How many zones there are. A partition cuts one off from the daemon's machine.
pub const ZONES: usize = 3;

/// What a connection is like.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The actor whose connection it is.
    pub owner: usize,
    /// Where the client is, below [`ZONES`].
    pub zone: usize,
    /// Time one way.
    pub latency: Micros,
    /// Bytes a second from the daemon to the client.
    pub bytes_per_s: u64,
    /// Bytes that may be on the way in one direction, unread ones included.
    pub buffer: usize,
    /// Whether reads and writes move 1–64 bytes at a time.
    pub tiny: bool,
}

/// What a healed connection carries at least, in bytes a second: the longest event within a few seconds,
/// since a client gives up when it hears nothing for 25.
const HEALED: u64 = 50_000;

impl Route {
    /// Makes it good enough for everything.
    pub fn heal(&mut self) {
        self.bytes_per_s = self.bytes_per_s.max(1_000_000);
        self.buffer = self.buffer.max((HEALED * 2 * self.latency / SECOND) as usize);
        self.tiny = false;
    }
}

/// Something on its way.
#[derive(Debug)]
enum Cargo {
    Open,
    Bytes(usize),
    Fin,
}

/// One direction of one pipe.
#[derive(Debug, Default)]
struct Lane {
    /// Everything written and not yet read; the first `arrived` can be read.
    bytes: VecDeque<u8>,
    arrived: usize,
    flight: VecDeque<(Micros, Cargo)>,
    /// When the line is free for the next byte.
    free_at: Micros,
    ended: bool,
    /// The reader was told `WouldBlock`, or has not read yet.
    reader_waits: bool,
    /// The writer was told `WouldBlock`.
    writer_waits: bool,
    arrive_due: bool,
    room_due: bool,
}

#[derive(Debug)]
struct Pipe {
    route: Route,
    lanes: [Lane; 2],
    /// Whether the client's end, and the daemon's, has been dropped.
    gone: [bool; 2],
    connected: bool,
    accepted: bool,
    refused: bool,
    reset: bool,
    hole: bool,
    tap: Tap,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    dice: Dice,
    pipes: BTreeMap<PipeId, Pipe>,
    made: u64,
    blocked: [[bool; 2]; ZONES],
    host_up: bool,
    slowness: u64,
    /// Of 100 pieces of traffic so many are lost.
    loss: u64,
    lost: u64,
    woken_actors: Vec<usize>,
    woken_server: Vec<PipeId>,
    written: Vec<(PipeId, Wrote)>,
}

/// All pipes of a world. Clones share them.
#[derive(Clone, Debug)]
pub struct Net(Rc<RefCell<State>>);

/// One end of a pipe. Dropping it closes the connection.
#[derive(Debug)]
pub struct End {
    net: Net,
    id: PipeId,
    /// The direction in which this end writes.
    writes: Way,
}

impl Net {
    /// A network without connections.
    pub fn new(schedule: Schedule, dice: Dice) -> Self {
        Self(Rc::new(RefCell::new(State {
            schedule,
            dice,
            pipes: BTreeMap::new(),
            made: 0,
            blocked: [[false; 2]; ZONES],
            host_up: true,
            slowness: 1,
            loss: 0,
            lost: 0,
            woken_actors: Vec::new(),
            woken_server: Vec::new(),
            written: Vec::new(),
        })))
    }

    /// A client calls. Its end is usable once [`Socket::status`] says so.
    pub fn call(&self, route: Route) -> End {
        let mut net = self.0.borrow_mut();
        net.made += 1;
        let id = PipeId(net.made);
        let waiting = || Lane { reader_waits: true, ..Lane::default() };
        let pipe = Pipe {
            route,
            lanes: [waiting(), waiting()],
            gone: [false, false],
            connected: false,
            accepted: false,
            refused: false,
            reset: false,
            hole: false,
            tap: Tap::default(),
        };
        net.pipes.insert(id, pipe);
        let delay = net.travel(route.latency);
        net.schedule.after(delay, Event::Call(id));
        End { net: self.clone(), id, writes: Way::Up }
    }

    /// A call has reached the machine: the daemon's end of it, if somebody listens and the way is free.
    pub fn answer(&self, id: PipeId, listening: bool) -> Option<End> {
        let mut net = self.0.borrow_mut();
        let blocked = net.is_blocked(id, Way::Up)?;
        if blocked {
            net.schedule.after(SECOND, Event::Call(id));
            return None;
        }
        let pipe = net.pipes.get_mut(&id)?;
        pipe.accepted = true;
        pipe.gone[Way::Down as usize] = !listening;
        pipe.refused = !listening;
        net.launch(id, Way::Down, Cargo::Open);
        listening.then(|| End { net: self.clone(), id, writes: Way::Down })
    }

    /// Something may have arrived at the far end.
    pub fn arrive(&self, id: PipeId, way: Way) {
        let mut net = self.0.borrow_mut();
        let Some(blocked) = net.is_blocked(id, way) else { return };
        let now = net.schedule.now();
        let Some(pipe) = net.pipes.get_mut(&id) else { return };
        pipe.lanes[way as usize].arrive_due = false;
        if blocked {
            return;
        }
        if pipe.gone[1 - way as usize] && !pipe.refused {
            return net.fall_on_deaf_ears(id, way);
        }
        let mut news = false;
        let lane = &mut pipe.lanes[way as usize];
        while lane.flight.front().is_some_and(|(at, _)| *at <= now) {
            match lane.flight.pop_front().expect("there is a front").1 {
                Cargo::Open => {
                    pipe.connected = true;
                    news = true;
                }
                Cargo::Bytes(count) => lane.arrived += count,
                Cargo::Fin => {
                    lane.ended = true;
                    news = true;
                }
            }
        }
        if news || (lane.arrived > 0 && lane.reader_waits) {
            lane.reader_waits = false;
            net.wake(id, way);
        }
        net.plan_arrival(id, way);
    }

    /// The sender may have room again.
    pub fn room(&self, id: PipeId, way: Way) {
        let mut net = self.0.borrow_mut();
        let Some(blocked) = net.is_blocked(id, way) else { return };
        let Some(pipe) = net.pipes.get_mut(&id) else { return };
        let buffer = pipe.route.buffer;
        let lane = &mut pipe.lanes[way as usize];
        lane.room_due = false;
        if !blocked && lane.writer_waits && lane.bytes.len() < buffer {
            lane.writer_waits = false;
            net.wake_writer(id, way);
        }
    }

    /// Breaks a connection at both ends; what is on the way is lost.
    pub fn reset(&self, id: PipeId) {
        let mut net = self.0.borrow_mut();
        net.break_down(id, Way::Up);
        net.break_down(id, Way::Down);
    }

    /// Swallows (or lets through again) everything on one connection.
    pub fn set_hole(&self, id: PipeId, on: bool) {
        let mut net = self.0.borrow_mut();
        if let Some(pipe) = net.pipes.get_mut(&id) {
            pipe.hole = on;
        }
        net.set_moving();
    }

    /// Blocks or frees one direction of a zone.
    pub fn set_blocked(&self, zone: usize, way: Way, on: bool) {
        let mut net = self.0.borrow_mut();
        net.blocked[zone][way as usize] = on;
        net.set_moving();
    }

    /// Takes the daemon's machine off the network, or puts it back. Without it nobody is told of anything.
    pub fn set_host(&self, up: bool) {
        let mut net = self.0.borrow_mut();
        net.host_up = up;
        net.set_moving();
    }

    /// Makes every way so many times as long.
    pub fn set_slowness(&self, factor: u64) {
        self.0.borrow_mut().slowness = factor;
    }

    /// Of 100 pieces of traffic so many are lost from now on. What is lost is sent again, later each time, as
    /// TCP does; what is lost too often breaks its connection.
    pub fn set_loss(&self, percent: u64) {
        self.0.borrow_mut().loss = percent;
    }

    /// How many pieces of traffic were lost so far.
    pub fn lost(&self) -> u64 {
        self.0.borrow().lost
    }

    /// Makes every connection of these owners fast, for good, and loses nothing any more.
    pub fn heal(&self, is_healed: &dyn Fn(usize) -> bool) {
        let mut net = self.0.borrow_mut();
        let now = net.schedule.now();
        (net.slowness, net.loss) = (1, 0);
        net.blocked = [[false; 2]; ZONES];
        for pipe in net.pipes.values_mut().filter(|pipe| is_healed(pipe.route.owner)) {
            pipe.route.heal();
            pipe.hole = false;
            // What is on its way over a slow or lossy line need not be for minutes.
            let soon = now + pipe.route.latency;
            for lane in &mut pipe.lanes {
                lane.free_at = 0;
                lane.flight.iter_mut().for_each(|(at, _)| *at = soon.min(*at));
                lane.arrive_due = false;
            }
        }
        net.set_moving();
    }

    /// Connections that are open at both ends.
    pub fn open(&self) -> Vec<PipeId> {
        self.open_of(&|_| true)
    }

    /// Those of these owners.
    pub fn open_of(&self, is_meant: &dyn Fn(usize) -> bool) -> Vec<PipeId> {
        let net = self.0.borrow();
        let is_open = |pipe: &Pipe| pipe.connected && !pipe.reset && is_meant(pipe.route.owner);
        net.pipes.iter().filter(|(_, pipe)| is_open(pipe)).map(|(id, _)| *id).collect()
    }

    /// The actors whose connections have changed since the last call.
    pub fn take_woken_actors(&self, into: &mut Vec<usize>) {
        into.append(&mut self.0.borrow_mut().woken_actors);
    }

    /// The daemon's ends that have changed since the last call.
    pub fn take_woken_server(&self, into: &mut Vec<PipeId>) {
        into.append(&mut self.0.borrow_mut().woken_server);
    }

    /// What the daemon has written since the last call.
    pub fn take_written(&self, into: &mut Vec<(PipeId, Wrote)>) {
        into.append(&mut self.0.borrow_mut().written);
    }
}

impl State {
    /// Whether one direction of a pipe is blocked; `None` if the pipe is no more.
    fn is_blocked(&self, id: PipeId, way: Way) -> Option<bool> {
        let pipe = self.pipes.get(&id)?;
        Some(!self.host_up || pipe.hole || self.blocked[pipe.route.zone][way as usize])
    }

    fn travel(&mut self, latency: Micros) -> Micros {
        let latency = latency * self.slowness;
        latency + self.dice.below(latency / 5 + 1)
    }

    /// How much later something comes because it is lost on its way and sent again; `None` if that is given
    /// up.
    fn lose(&mut self, latency: Micros) -> Option<Micros> {
        let (mut later, mut wait) = (0, RESEND_AFTER.max(3 * latency));
        for _ in 0..RESENDS {
            if self.loss == 0 || !self.dice.chance(self.loss, 100) {
                return Some(later);
            }
            self.lost += 1;
            (later, wait) = (later + wait, 2 * wait);
        }
        None
    }

    /// Sends something on its way behind what is there already.
    fn launch(&mut self, id: PipeId, way: Way, cargo: Cargo) {
        let now = self.schedule.now();
        let Some(latency) = self.pipes.get(&id).map(|pipe| pipe.route.latency) else { return };
        let Some(again) = self.lose(latency) else {
            self.break_down(id, Way::Up);
            return self.break_down(id, Way::Down);
        };
        let travel = self.travel(latency) + again;
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let rate = if way == Way::Down { pipe.route.bytes_per_s } else { 10_000_000 };
        let lane = &mut pipe.lanes[way as usize];
        let size = if let Cargo::Bytes(count) = cargo { count as u64 } else { 0 };
        lane.free_at = lane.free_at.max(now) + size * SECOND / rate;
        let at = (lane.free_at + travel).max(lane.flight.back().map_or(0, |(at, _)| *at));
        match (lane.flight.back_mut(), &cargo) {
            (Some((last, Cargo::Bytes(before))), Cargo::Bytes(count)) if *last == at => *before += count,
            (_, Cargo::Open | Cargo::Bytes(_) | Cargo::Fin) => lane.flight.push_back((at, cargo)),
        }
        self.plan_arrival(id, way);
    }

    fn plan_arrival(&mut self, id: PipeId, way: Way) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let lane = &mut pipe.lanes[way as usize];
        let Some((at, _)) = lane.flight.front() else { return };
        if !lane.arrive_due {
            lane.arrive_due = true;
            self.schedule.at(*at, Event::Arrive(id, way));
        }
    }

    /// After a change of what is blocked: whatever waits tries again, as a retransmission would.
    fn set_moving(&mut self) {
        for (id, pipe) in &mut self.pipes {
            for way in Way::BOTH {
                let latency = pipe.route.latency;
                let lane = &mut pipe.lanes[way as usize];
                if !lane.arrive_due && !lane.flight.is_empty() {
                    lane.arrive_due = true;
                    self.schedule.after(latency, Event::Arrive(*id, way));
                }
                if !lane.room_due && lane.writer_waits {
                    lane.room_due = true;
                    self.schedule.after(latency, Event::Room(*id, way));
                }
            }
        }
    }

    /// Wakes the end that reads in this direction.
    fn wake(&mut self, id: PipeId, way: Way) {
        match way {
            Way::Up => self.woken_server.push(id),
            Way::Down => self.wake_client(id),
        }
    }

    /// Wakes the end that writes in this direction.
    fn wake_writer(&mut self, id: PipeId, way: Way) {
        match way {
            Way::Up => self.wake_client(id),
            Way::Down => self.woken_server.push(id),
        }
    }

    fn wake_client(&mut self, id: PipeId) {
        if let Some(pipe) = self.pipes.get(&id) {
            self.woken_actors.push(pipe.route.owner);
        }
    }

    /// What arrives where nobody is any more is answered by a reset.
    fn fall_on_deaf_ears(&mut self, id: PipeId, way: Way) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let only_fin = pipe.lanes[way as usize].flight.iter().all(|(_, cargo)| matches!(cargo, Cargo::Fin));
        pipe.lanes[way as usize].flight.clear();
        if only_fin {
            return;
        }
        self.break_down(id, if way == Way::Up { Way::Down } else { Way::Up });
    }

    /// Lets the end that reads in this direction know that the connection is broken.
    fn break_down(&mut self, id: PipeId, way: Way) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        pipe.reset = true;
        for lane in &mut pipe.lanes {
            lane.bytes.clear();
            lane.flight.clear();
            lane.arrived = 0;
        }
        self.wake(id, way);
    }

    fn drop_end(&mut self, id: PipeId, writes: Way) {
        let host_up = self.host_up;
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        pipe.gone[writes as usize] = true;
        if pipe.gone == [true, true] {
            self.pipes.remove(&id);
            return;
        }
        let power_is_gone = writes == Way::Down && !host_up;
        if !pipe.reset && !power_is_gone {
            self.launch(id, writes, Cargo::Fin);
        }
    }
}

/// What a client knows of its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// No answer yet.
    Calling,
    /// Nobody listens there.
    Refused,
    /// It stands, or stood: reading and writing tell.
    Connected,
}

impl Carrier for Net {
    fn call(&self, route: Route) -> Box<dyn Socket> {
        Box::new(self.call(route))
    }
}
