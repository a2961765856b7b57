//! Connections over turmoil's streams, as sockets that never block.
//!
//! A read or write polls the stream once; a waker that rings its owner's bell makes the edge. turmoil hands
//! over one write as one read, counts segments instead of bytes, and breaks whole hosts only: so writes are
//! cut here by chance, each connection has a window in bytes, and a reset or a black hole of one connection
//! is made at its two ends.

use crate::carrier::{Carrier, Socket};
use crate::dice::Dice;
use crate::pipe::{PipeId, Route, Status, Way};
use crate::schedule::{Micros, SECOND, Schedule};
use crate::tap::{Tap, Wrote};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use turmoil::net::TcpStream;

/// Where the daemon listens.
pub const PORT: u16 = 8787;
/// The name of its host.
pub const DAEMON: &str = "daemon";
/// A write is cut here at the latest, in bytes.
const SEGMENT: u64 = 16 * 1024;
/// A slow line is read so many times a second.
const READS_PER_S: u64 = 8;

/// Wakes the task that owns an end, and lets the daemon's know which end it is.
#[derive(Debug)]
struct Bell {
    task: Arc<Notify>,
    edge: Option<(PipeId, Edges)>,
}

type Edges = Arc<Mutex<Vec<PipeId>>>;

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if let Some((id, edges)) = &self.edge {
            edges.lock().unwrap_or_else(PoisonError::into_inner).push(*id);
        }
        self.task.notify_one();
    }
}

/// What is on its way in one direction.
#[derive(Debug, Default)]
struct Lane {
    bytes: usize,
    writer_waits: bool,
}

/// What both ends of a connection know, and turmoil does not.
#[derive(Debug)]
struct Wire {
    route: Route,
    status: Status,
    /// Whether the client's end, and the daemon's, has been dropped.
    gone: [bool; 2],
    reset: bool,
    hole: bool,
    lanes: [Lane; 2],
    tap: Tap,
    /// When a slow line gives the client its next bytes, and whether it will ring then.
    free_at: Micros,
    will_ring: bool,
    bells: [Waker; 2],
}

#[derive(Debug)]
struct State {
    clock: Schedule,
    dice: Dice,
    wires: BTreeMap<PipeId, Wire>,
    made: u64,
    actors: Vec<Arc<Notify>>,
    daemon: Arc<Notify>,
    edges: Edges,
    /// Accepted by the daemon's machine, but the client has not been told.
    accepted: BTreeMap<SocketAddr, TcpStream>,
    /// To be handed to the daemon.
    arrived: Vec<(PipeId, TcpStream)>,
    written: Vec<(PipeId, Wrote)>,
}

/// All connections of a world. Clones share them.
#[derive(Clone, Debug)]
pub struct Net(Rc<RefCell<State>>);

/// One end of a connection.
#[derive(Debug)]
pub struct Stream {
    net: Net,
    id: PipeId,
    /// The direction in which this end writes.
    writes: Way,
    /// Filled by the task that connects.
    tcp: Rc<RefCell<Option<TcpStream>>>,
}

impl Net {
    /// A network for so many actors, with no connections.
    pub fn new(clock: Schedule, dice: Dice, actors: usize) -> Self {
        let actors = (0..actors).map(|_| Arc::default()).collect();
        let (daemon, edges) = (Arc::default(), Arc::default());
        Self(Rc::new(RefCell::new(State {
            clock,
            dice,
            wires: BTreeMap::new(),
            made: 0,
            actors,
            daemon,
            edges,
            accepted: BTreeMap::new(),
            arrived: Vec::new(),
            written: Vec::new(),
        })))
    }

    /// What wakes an actor's task.
    pub fn actor(&self, index: usize) -> Arc<Notify> {
        self.0.borrow().actors[index].clone()
    }

    /// What wakes the daemon's task.
    pub fn daemon(&self) -> Arc<Notify> {
        self.0.borrow().daemon.clone()
    }

    /// The daemon's machine has accepted a connection. The daemon is handed it as soon as the client knows,
    /// which is in the same tick: only then is it known whose it is.
    pub fn accept(&self, client: SocketAddr, tcp: TcpStream) {
        self.0.borrow_mut().accepted.insert(client, tcp);
    }

    fn connected(&self, id: PipeId, answer: io::Result<TcpStream>) -> Option<TcpStream> {
        let mut net = self.0.borrow_mut();
        let address = answer.as_ref().ok().and_then(|tcp| tcp.local_addr().ok());
        let server = address.and_then(|address| net.accepted.remove(&address));
        let wire = net.wires.get_mut(&id).expect("a call keeps its wire");
        wire.status = if answer.is_ok() { Status::Connected } else { Status::Refused };
        wire.bells[Way::Up as usize].wake_by_ref();
        wire.gone[Way::Down as usize] = server.is_none();
        if wire.gone == [true, true] {
            net.wires.remove(&id);
        }
        if let Some(server) = server {
            net.arrived.push((id, server));
            net.daemon.notify_one();
        }
        answer.ok()
    }

    /// Connections for the daemon since the last call.
    pub fn take_arrived(&self) -> Vec<Stream> {
        let arrived = std::mem::take(&mut self.0.borrow_mut().arrived);
        let end = |(id, tcp)| {
            let tcp = Rc::new(RefCell::new(Some(tcp)));
            Stream { net: self.clone(), id, writes: Way::Down, tcp }
        };
        arrived.into_iter().map(end).collect()
    }

    /// The daemon's ends that have changed since the last call.
    pub fn take_edges(&self) -> Vec<PipeId> {
        let edges = self.0.borrow().edges.clone();
        std::mem::take(&mut *edges.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the daemon has written since the last call.
    pub fn take_written(&self) -> Vec<(PipeId, Wrote)> {
        std::mem::take(&mut self.0.borrow_mut().written)
    }

    /// The daemon's process is gone, and with it what it had not taken.
    pub fn forget_calls(&self) {
        drop(self.take_arrived());
        self.0.borrow_mut().accepted.clear();
    }

    /// Connections that are open at both ends.
    pub fn open(&self) -> Vec<PipeId> {
        let net = self.0.borrow();
        let is_open = |wire: &Wire| wire.status == Status::Connected && !wire.reset;
        net.wires.iter().filter(|(_, wire)| is_open(wire)).map(|(id, _)| *id).collect()
    }

    /// The connections of a zone.
    pub fn of_zone(&self, zone: usize) -> Vec<PipeId> {
        let net = self.0.borrow();
        net.wires.iter().filter(|(_, wire)| wire.route.zone == zone).map(|(id, _)| *id).collect()
    }

    /// Breaks a connection at both ends; what is on the way is lost.
    pub fn reset(&self, id: PipeId) {
        if let Some(wire) = self.0.borrow_mut().wires.get_mut(&id) {
            wire.reset = true;
            wire.ring();
        }
    }

    /// Swallows (or lets through again) everything on one connection.
    pub fn set_hole(&self, id: PipeId, on: bool) {
        if let Some(wire) = self.0.borrow_mut().wires.get_mut(&id) {
            wire.hole = on;
            wire.ring();
        }
    }

    /// Makes every connection fast, for good.
    pub fn heal(&self) {
        let mut net = self.0.borrow_mut();
        for wire in net.wires.values_mut() {
            wire.route.bytes_per_s = wire.route.bytes_per_s.max(1_000_000);
            wire.route.tiny = false;
            wire.hole = false;
            wire.free_at = 0;
            wire.ring();
        }
    }
}

impl Carrier for Net {
    fn call(&self, route: Route) -> Box<dyn Socket> {
        let id = {
            let mut net = self.0.borrow_mut();
            net.made += 1;
            let id = PipeId(net.made);
            let wire = net.wire(id, route);
            net.wires.insert(id, wire);
            id
        };
        let tcp = Rc::new(RefCell::new(None));
        let (net, slot) = (self.clone(), tcp.clone());
        tokio::task::spawn_local(async move {
            let answer = TcpStream::connect((DAEMON, PORT)).await;
            *slot.borrow_mut() = net.connected(id, answer);
        });
        Box::new(Stream { net: self.clone(), id, writes: Way::Up, tcp })
    }
}

impl State {
    fn wire(&self, id: PipeId, route: Route) -> Wire {
        let client = Bell { task: self.actors[route.owner].clone(), edge: None };
        let server = Bell { task: self.daemon.clone(), edge: Some((id, self.edges.clone())) };
        Wire {
            route,
            status: Status::Calling,
            gone: [false, false],
            reset: false,
            hole: false,
            lanes: Default::default(),
            tap: Tap::default(),
            free_at: 0,
            will_ring: false,
            bells: [Waker::from(Arc::new(client)), Waker::from(Arc::new(server))],
        }
    }
}

impl Wire {
    fn ring(&self) {
        self.bells.iter().for_each(Waker::wake_by_ref);
    }

    /// How many bytes a slow line gives its client now; rings when there will be more.
    fn pace(&mut self, now: Micros, wanted: usize) -> usize {
        let rate = self.route.bytes_per_s;
        if rate >= 1_000_000 {
            return wanted;
        }
        if now >= self.free_at {
            self.will_ring = false;
            return wanted.min((rate / READS_PER_S).max(1) as usize);
        }
        if !std::mem::replace(&mut self.will_ring, true) {
            let (bell, time) = (self.bells[Way::Up as usize].clone(), self.free_at - now);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_micros(time)).await;
                bell.wake();
            });
        }
        0
    }
}

fn other(way: Way) -> Way {
    match way {
        Way::Up => Way::Down,
        Way::Down => Way::Up,
    }
}

impl Socket for Stream {
    fn id(&self) -> PipeId {
        self.id
    }

    fn status(&self) -> Status {
        self.net.0.borrow().wires[&self.id].status
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut net = self.net.0.borrow_mut();
        let (now, tiny) = (net.clock.now(), net.dice.between(1, 64) as usize);
        let wire = net.wires.get_mut(&self.id).expect("an end keeps its wire");
        if wire.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if wire.hole {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut limit = into.len().min(if wire.route.tiny { tiny } else { usize::MAX });
        if self.writes == Way::Up {
            limit = wire.pace(now, limit);
        }
        let mut tcp = self.tcp.borrow_mut();
        let Some(tcp) = tcp.as_mut().filter(|_| limit > 0) else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let mut buffer = ReadBuf::new(&mut into[..limit]);
        let mut context = Context::from_waker(&wire.bells[self.writes as usize]);
        let Poll::Ready(result) = Pin::new(tcp).poll_read(&mut context, &mut buffer) else {
            return Err(ErrorKind::WouldBlock.into());
        };
        result?;
        let count = buffer.filled().len();
        let lane = &mut wire.lanes[other(self.writes) as usize];
        lane.bytes = lane.bytes.saturating_sub(count);
        if std::mem::take(&mut lane.writer_waits) {
            wire.bells[other(self.writes) as usize].wake_by_ref();
        }
        if self.writes == Way::Up {
            wire.free_at = wire.free_at.max(now) + count as u64 * SECOND / wire.route.bytes_per_s;
        }
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let mut net = self.net.0.borrow_mut();
        let net = &mut *net;
        let (tiny, segment) = (net.dice.between(1, 64), net.dice.between(1, SEGMENT));
        let wire = net.wires.get_mut(&self.id).expect("an end keeps its wire");
        if wire.reset || wire.status == Status::Refused {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let segment = if wire.route.tiny { tiny } else { segment } as usize;
        let lane = &mut wire.lanes[self.writes as usize];
        let count = wire.route.buffer.saturating_sub(lane.bytes).min(from.len()).min(segment);
        if count == 0 && !from.is_empty() {
            lane.writer_waits = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut tcp = self.tcp.borrow_mut();
        let tcp = tcp.as_mut().ok_or(ErrorKind::WouldBlock)?;
        let mut context = Context::from_waker(&wire.bells[self.writes as usize]);
        let Poll::Ready(result) = Pin::new(tcp).poll_write(&mut context, &from[..count]) else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let count = result?;
        lane.bytes += count;
        if self.writes == Way::Down {
            let mut wrote = Vec::new();
            wire.tap.feed(&from[..count], &mut wrote);
            net.written.extend(wrote.into_iter().map(|wrote| (self.id, wrote)));
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut net = self.net.0.borrow_mut();
        if let Some(wire) = net.wires.get_mut(&self.id) {
            wire.gone[self.writes as usize] = true;
            if wire.gone == [true, true] {
                net.wires.remove(&self.id);
            }
        }
    }
}
