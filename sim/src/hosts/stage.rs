//! What runs on the hosts: the daemon's loop on one, the actors of a zone on each other, every one a task of
//! tokio's.
//!
//! The oracles and the trace are shared by all hosts; a task borrows the stage between two waits, never
//! across one.

use super::wire::{Net, PORT};
use crate::actors::{Actor, Book, Ctx};
use crate::daemon::Daemon;
use crate::oracles::Oracles;
use crate::schedule::{Event, Micros, Schedule};
use crate::trace::{Of, Trace};
use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use turmoil::net::TcpListener;

/// All that the hosts share.
pub(super) type Shared = Rc<RefCell<Stage>>;

/// Those who play, and those who judge them.
#[derive(Debug)]
pub(super) struct Stage {
    /// Shows the time of the host that runs. Hosts take turns, so it goes back by up to a tick between them,
    /// and never on one host.
    pub(super) clock: Schedule,
    /// What the daemon's machine has planned for itself.
    pub(super) queue: Schedule,
    pub(super) net: Net,
    pub(super) trace: Trace,
    pub(super) oracles: Oracles,
    pub(super) daemon: Daemon,
    pub(super) actors: Vec<Actor>,
    pub(super) book: Book,
    pub(super) is_healed: bool,
    /// What else ends with the daemon's process.
    pub(super) fall: Fall,
}

/// What ends with a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fall {
    /// Nothing.
    #[default]
    Process,
    /// Its machine's power.
    Power,
    /// The power and the disk.
    Disk,
}

impl Stage {
    /// Turns the clock to the time of the host that runs. Only within a task: tokio's clock is the real one
    /// elsewhere.
    fn look_at_clock(&self) -> Micros {
        let elapsed = turmoil::sim_elapsed().expect("tasks run on hosts");
        self.clock.set(elapsed.as_micros() as Micros);
        self.clock.now()
    }

    /// Lets an actor do all it can, and tells how long it waits at most.
    fn act(&mut self, index: usize) -> Option<Duration> {
        let now = self.look_at_clock();
        let mut ctx = Ctx {
            index,
            now,
            wall: self.daemon.wall(),
            healed: self.is_healed,
            over: self.is_healed,
            broken: false,
            net: &self.net,
            trace: &self.trace,
            oracles: &mut self.oracles,
            keys: &self.daemon.keys,
            book: &mut self.book,
        };
        self.actors[index].step(&mut ctx);
        self.settle();
        let deadline = self.actors[index].deadline();
        (deadline < Micros::MAX).then(|| from(now, deadline))
    }

    /// Lets the daemon do all that is due, and tells how long it waits at most; an error when it ends: its
    /// store has failed, or it has gone down.
    fn serve(&mut self) -> Result<Option<Duration>, ()> {
        let now = self.look_at_clock();
        for stream in self.net.take_arrived() {
            self.daemon.accept(Box::new(stream));
        }
        for id in self.net.take_edges() {
            self.daemon.ready(id);
        }
        while self.queue.next().is_some_and(|at| at <= now) {
            match self.queue.pop() {
                Some(Event::Turn) => match self.daemon.turn(&mut self.oracles) {
                    Ok(false) => {}
                    Ok(true) => {
                        self.trace.note(Of::World, format_args!("the daemon has gone down"));
                        return Err(());
                    }
                    Err(failed) => {
                        self.trace.note(Of::World, format_args!("the daemon ends: {failed}"));
                        return Err(());
                    }
                },
                Some(Event::Stored) => drop(self.daemon.stored(&mut self.oracles)),
                // The start before has failed.
                Some(Event::Boot) if self.daemon.is_up() => {}
                Some(Event::Boot) => self.daemon.boot(&mut self.oracles),
                other => unreachable!("the daemon's machine plans nothing else: {other:?}"),
            }
            self.settle();
        }
        Ok(self.queue.next().map(|at| from(now, at)))
    }

    /// Whether the daemon is up, and has nothing that is not durable.
    pub(super) fn is_durable(&self) -> bool {
        self.daemon.core().is_some_and(|core| {
            let sizes = core.inspect().sizes();
            sizes.appends == 0 && sizes.moved == 0
        })
    }

    /// Passes on what has happened to the oracles.
    pub(super) fn settle(&mut self) {
        for (id, wrote) in self.net.take_written() {
            self.oracles.wrote(id, &wrote);
        }
        self.oracles.settle();
        let daemon = &mut self.daemon;
        self.oracles.settle_limits(|| daemon.active());
    }
}

/// From now until a deadline; never nothing, so that time goes by in every round of a task.
fn from(now: Micros, deadline: Micros) -> Duration {
    Duration::from_micros(deadline.saturating_sub(now).max(1))
}

async fn wait(at_most: Option<Duration>, bell: &Notify) {
    match at_most {
        // Either is a reason to go on.
        Some(time) => drop(timeout(time, bell.notified()).await),
        None => bell.notified().await,
    }
}

/// The daemon's process. It ends with the task that owns it, however that ends.
#[derive(Debug)]
struct Process(Shared);

impl Process {
    fn start(stage: Shared) -> Self {
        {
            let stage = &mut *stage.borrow_mut();
            stage.look_at_clock();
            stage.daemon.boot(&mut stage.oracles);
        }
        Self(stage)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let stage = &mut *self.0.borrow_mut();
        match std::mem::take(&mut stage.fall) {
            Fall::Process => stage.daemon.kill(&mut stage.oracles),
            Fall::Power => stage.daemon.lose_power(&mut stage.oracles),
            Fall::Disk => stage.daemon.lose_disk(&mut stage.oracles),
        }
        stage.daemon.disk().set_sync_fails(false);
        stage.net.forget_calls();
    }
}

/// The daemon's host: recovers, listens, and drives the pump.
pub(super) async fn serve(stage: Shared) -> turmoil::Result {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    let net = stage.borrow().net.clone();
    let process = Process::start(stage);
    let bell = net.daemon();
    tokio::task::spawn_local(async move {
        while let Ok((stream, client)) = listener.accept().await {
            net.accept(client, stream);
        }
    });
    loop {
        let served = process.0.borrow_mut().serve();
        let Ok(at_most) = served else { return Ok(()) };
        wait(at_most, &bell).await;
    }
}

/// The host of a zone: each of its actors is a task.
pub(super) async fn live(stage: Shared, actors: Vec<usize>) -> turmoil::Result {
    let mut tasks = JoinSet::new();
    for index in actors {
        let (stage, bell) = (stage.clone(), stage.borrow().net.actor(index));
        tasks.spawn_local(async move {
            loop {
                let at_most = stage.borrow_mut().act(index);
                wait(at_most, &bell).await;
            }
        });
    }
    match tasks.join_next().await {
        // Only a panic ends one.
        Some(Err(panic)) => Err(panic.into()),
        Some(Ok(())) | None => Ok(()),
    }
}
