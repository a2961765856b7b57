//! What a scenario plays on: a daemon or what stands in its place, and a load generator turned to it.

use super::child::{Daemon, Home, Load, Yardstick};
use super::order::{Crowd, Flow, Order, Tally, Tongue};
use super::peers::{Peer, Running};
use super::report::{Figures, Report};
use super::system::Usage;
use super::told::Told;
use super::{BenchError, Plan, stop};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Workers that publish.
const WORKERS: usize = 4;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The daemon.
    Runcast,
    /// The yardstick: the least that can be done with as many bytes.
    Relay,
    /// The other one: the least that can be done in the daemon's protocol.
    Protocol,
    /// What people would use instead.
    Peer(Peer),
}

impl Who {
    /// Who is measured wherever the daemon has a yardstick.
    pub(super) const OWN: [Self; 3] = [Self::Runcast, Self::Relay, Self::Protocol];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Runcast => "runcast",
            Self::Relay => "bare relay",
            Self::Protocol => "bare protocol",
            Self::Peer(peer) => peer.name(),
        }
    }

    /// What becomes of an event.
    pub(super) const fn promise(self) -> &'static str {
        match self {
            Self::Runcast => {
                "synced to disk before it is sent or confirmed; acknowledged by server and device; kept for devices \
                 that come back"
            }
            Self::Relay => "nothing is acknowledged; kept in memory, lost when the process ends",
            Self::Protocol => {
                "synced to disk before it is sent or confirmed; kept in memory for devices that come back; nothing \
                 is checked, limited, retried, or survives a restart"
            }
            Self::Peer(peer) => peer.promise(),
        }
    }

    /// Who is measured in a scenario that peers can play: our own, and the peers that are wanted and
    /// installed. What is skipped is said, and what each promises.
    pub(super) fn all(plan: &Plan, report: &mut Report) -> Vec<Self> {
        let mut all = Self::OWN.to_vec();
        let Some(folder) = &plan.peers else { return all };
        for peer in Peer::ALL {
            match peer.lacks(folder) {
                None => all.push(Self::Peer(peer)),
                Some(lack) => {
                    let install = folder.join("install");
                    report.note(peer.name(), &format!("skipped: {lack} ({})", install.display()));
                }
            }
        }
        for who in &all {
            report.note(who.name(), who.promise());
        }
        all
    }

    /// Measures each of them once; another is the first in the next round. A peer that fails is told of and
    /// is one of them no longer.
    ///
    /// # Errors
    /// When anybody else fails.
    pub(super) fn round(
        all: &mut Vec<Self>,
        report: &mut Report,
        measure: impl Fn(Self) -> Result<Figures, BenchError>,
    ) -> Result<(), BenchError> {
        for who in all.clone() {
            match measure(who) {
                Ok(figures) => report.add(who.name(), figures),
                Err(error) if matches!(who, Self::Peer(_)) => {
                    stop::check()?;
                    all.retain(|other| *other != who);
                    report.note(who.name(), &format!("failed, and was measured no more: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        all.rotate_left(1);
        Ok(())
    }
}

/// A server and its load. All of it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) load: Load,
    server: Server,
}

#[derive(Debug)]
enum Server {
    Daemon(Daemon, Home),
    Relay(Yardstick),
    Protocol(Yardstick, Home),
    Peer(Running),
}

/// What came of an order.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) tally: Tally,
    /// Processor time of the server, in microseconds.
    pub(super) cpu: u64,
    /// That of the load generator, which has one thread.
    pub(super) load_cpu: u64,
    /// Its memory afterwards, in bytes.
    pub(super) resident: u64,
    /// What it tells itself.
    pub(super) told: Figures,
}

impl Measured {
    /// How much of one processor the load generator took, in percent. Close to 100 it is the load generator
    /// that is measured, not the server.
    pub(super) fn load_share(&self) -> (&'static str, f64) {
        ("load's processor %", self.load_cpu as f64 * 100.0 / self.tally.elapsed.max(1) as f64)
    }
}

impl Stage {
    /// Starts it, with nobody connected.
    ///
    /// # Errors
    /// When something does not start.
    pub(super) fn new(plan: &Plan, who: Who) -> Result<Self, BenchError> {
        match who {
            Who::Runcast => Self::at(Home::open(&plan.directory)?),
            Who::Relay => {
                let relay = Yardstick::relay()?;
                let load = Load::start(relay.address(), Tongue::Relay)?;
                Ok(Self { load, server: Server::Relay(relay) })
            }
            Who::Protocol => {
                let home = Home::open(&plan.directory)?;
                let protocol = Yardstick::protocol(&home)?;
                let load = Load::start(protocol.address(), home.tongue())?;
                Ok(Self { load, server: Server::Protocol(protocol, home) })
            }
            Who::Peer(peer) => {
                let folder = plan.peers.as_deref().unwrap_or(&plan.directory);
                let running = peer.start(folder, &plan.directory)?;
                let load = Load::start(running.address(), peer.tongue())?;
                Ok(Self { load, server: Server::Peer(running) })
            }
        }
    }

    /// A daemon with the limits of connections, attempts and messages that it has by default.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn guarded(plan: &Plan) -> Result<Self, BenchError> {
        Self::at(Home::guarded(&plan.directory)?)
    }

    fn at(home: Home) -> Result<Self, BenchError> {
        let (daemon, _) = Daemon::start(&home)?;
        let load = Load::start(daemon.address(), home.tongue())?;
        Ok(Self { load, server: Server::Daemon(daemon, home) })
    }

    /// Connects everybody; every user has a run that a worker executes.
    ///
    /// # Errors
    /// As [`Load::ask`].
    pub(super) fn set(&mut self, crowd: Crowd) -> Result<(), BenchError> {
        let users = crowd.users;
        self.set_some(crowd, users)
    }

    /// Connects everybody; so many users have a run, the others do nothing.
    ///
    /// # Errors
    /// As [`Load::ask`].
    pub(super) fn set_some(&mut self, crowd: Crowd, users: usize) -> Result<(), BenchError> {
        self.load.ask(&Order::Connect(crowd))?;
        self.load.ask(&Order::Work { workers: WORKERS })?;
        self.load.ask(&Order::Run { users })?;
        Ok(())
    }

    /// What the server has used so far.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn usage(&self) -> Result<Usage, BenchError> {
        match &self.server {
            Server::Daemon(daemon, _) => daemon.usage(),
            Server::Relay(yardstick) | Server::Protocol(yardstick, _) => yardstick.usage(),
            Server::Peer(running) => running.usage(),
        }
    }

    /// Where the daemon is, or what speaks its protocol, and its secret; none for others.
    pub(super) fn door(&self) -> Option<(SocketAddr, PathBuf)> {
        match &self.server {
            Server::Daemon(daemon, home) => Some((daemon.address(), home.secret())),
            Server::Protocol(protocol, home) => Some((protocol.address(), home.secret())),
            Server::Relay(_) | Server::Peer(_) => None,
        }
    }

    /// Has the load do something, and tells what came of it and what the server has used for it.
    ///
    /// # Errors
    /// As [`Load::ask`].
    pub(super) fn measure(&mut self, order: &Order) -> Result<Measured, BenchError> {
        let told = self.told()?;
        let before = (self.usage()?, self.load.usage()?);
        let tally = self.load.ask(order)?;
        let after = (self.usage()?, self.load.usage()?);
        let cpu = after.0.cpu.saturating_sub(before.0.cpu);
        let load_cpu = after.1.cpu.saturating_sub(before.1.cpu);
        let resident = after.0.resident;
        Ok(Measured { tally, cpu, load_cpu, resident, told: self.told()?.since(&told) })
    }

    fn told(&self) -> Result<Told, BenchError> {
        match &self.server {
            Server::Daemon(daemon, _) => daemon.told(),
            Server::Relay(_) | Server::Protocol(..) | Server::Peer(_) => Ok(Told::default()),
        }
    }

    /// The daemon is killed and started again; returns how long that took until it was ready. Devices are
    /// away then, workers are back. Others cannot do this, and stay as they are.
    ///
    /// # Errors
    /// When it does not start, or the workers cannot go on.
    pub(super) fn restart(&mut self) -> Result<Duration, BenchError> {
        let Server::Daemon(daemon, home) = &mut self.server else { return Ok(Duration::ZERO) };
        self.load.ask(&Order::Cut { workers: true })?;
        daemon.kill();
        let (again, took) = Daemon::start(home)?;
        *daemon = again;
        let (at, tongue) = (daemon.address(), home.tongue());
        self.load.ask(&Order::Aim { at, tongue })?;
        self.load.ask(&Order::Rejoin)?;
        Ok(took)
    }
}

impl Flow {
    /// At this rate, for as long as the plan says.
    pub(super) const fn paced(plan: &Plan, rate: u64) -> Self {
        Self { rate: Some(rate), events: None, ms: Some(plan.seconds * 1_000), ..Self::saturated(plan) }
    }

    /// As fast as windows allow, for as long as the plan says.
    pub(super) const fn saturated(plan: &Plan) -> Self {
        let (ms, bytes) = (Some(plan.seconds * 1_000), plan.bytes);
        Self { rate: None, events: None, ms, bytes, to_marked: false, is_watched: true }
    }

    /// So many, as fast as windows allow.
    pub(super) const fn of(plan: &Plan, events: u64) -> Self {
        Self { events: Some(events), ms: None, ..Self::saturated(plan) }
    }
}
