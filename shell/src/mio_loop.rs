//! Production's drive of the [`Pump`]: real sockets, the real clock, signals. As thin as it can be, because
//! nothing in here is simulated.

mod linger;

pub(crate) use linger::LINGERERS;

use crate::conn::Edge;
use crate::metrics::{LoopMeter, resident_bytes};
use crate::pump::{Call, Pump, StorageFailed};
use crate::reload::{Current, Reloader};
use crate::storage::Storage;
use crate::supervisor::Supervisor;
use crate::tls::Socket;
use crate::webhook::Webhook;
use linger::Lingering;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use runcast_core::ids::ConnId;
use runcast_core::time::{Mono, Now, Span, WallMs};
use rustls::ServerConfig;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const LISTENER: Token = Token(0);
const SIGNALS: Token = Token(usize::MAX - 1);
const WAKER: Token = Token(usize::MAX);

/// How often it is looked how much memory is in use.
const MEMORY_EVERY: Span = Span::secs(1);
/// Sockets accepted in one turn.
const ACCEPTS_PER_TURN: usize = 128;
/// Time after which accepting is tried again when the system refused it (no file descriptors).
const ACCEPT_AGAIN: Span = Span::secs(1);

/// Why the loop ended against its will.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The store has failed.
    #[error(transparent)]
    Storage(#[from] StorageFailed),
    /// The system refused to poll.
    #[error("cannot wait for events: {0}")]
    Poll(#[from] io::Error),
}

/// The loop, before it has anything to do. Made first, since the storage thread wants to wake it.
pub struct MioLoop {
    poll: Poll,
    waker: Arc<Waker>,
    signals: Signals,
    start: Instant,
    /// What SIGHUP is for.
    reloader: Option<Reloader>,
    /// The certificate of the moment, if the port speaks TLS.
    tls: Option<Current<ServerConfig>>,
}

/// What the loop knows while it runs.
struct Running<J: Storage> {
    mio: MioLoop,
    listener: TcpListener,
    pump: Pump<Socket<TcpStream>, J>,
    accepting: Accepting,
    lingering: Lingering,
    webhook: Option<Webhook>,
    meter: LoopMeter,
    /// When it is looked again how much memory is in use.
    memory_at: Mono,
    supervisor: Supervisor,
    /// Signals to go down that have come.
    told: u32,
}

/// Whether sockets may be waiting to be accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepting {
    /// None: an edge will tell.
    Drained,
    /// Perhaps.
    Open,
    /// The system refused; not before then, or before a socket was closed. That more have come changes
    /// nothing, and is no reason to try.
    Stalled(Mono),
}

impl MioLoop {
    /// A loop that hears SIGTERM, SIGINT and SIGHUP from here on.
    ///
    /// # Errors
    /// When the system gives no descriptors for it.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        Ok(Self { poll, waker, signals, start: Instant::now(), reloader: None, tls: None })
    }

    /// Who is told of SIGHUP. Without anybody it does nothing.
    #[must_use]
    pub fn reloading(self, reloader: Reloader) -> Self {
        Self { reloader: Some(reloader), ..self }
    }

    /// Has the port speak TLS: each connection with the certificate of the moment in which it comes.
    #[must_use]
    pub fn encrypting(self, tls: Option<Current<ServerConfig>>) -> Self {
        Self { tls, ..self }
    }

    /// Wakes the loop from another thread: the store has completed something.
    pub fn waker(&self) -> impl Fn() + Send + Sync + 'static + use<> {
        let waker = Arc::clone(&self.waker);
        move || {
            if let Err(error) = waker.wake() {
                tracing::error!(%error, "cannot wake the loop");
            }
        }
    }

    /// The clocks, as the core is to know them.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: Mono(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)),
            wall: WallMs(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Runs until SIGTERM or SIGINT have drained it: the first lets running runs end, a second hurries,
    /// a third ends the process at once, as a crash would. What was given to the store by then is the store's
    /// to finish.
    ///
    /// # Errors
    /// When the store has failed, or the system refuses to poll.
    pub fn run<J: Storage>(
        self,
        listener: std::net::TcpListener,
        pump: Pump<Socket<TcpStream>, J>,
        webhook: Option<Webhook>,
        meter: LoopMeter,
    ) -> Result<(), Ended> {
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        self.poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (accepting, lingering) = (Accepting::Open, Lingering::default());
        let supervisor = Supervisor::from_env();
        Running {
            mio: self,
            listener,
            pump,
            accepting,
            lingering,
            webhook,
            meter,
            memory_at: Mono::default(),
            supervisor,
            told: 0,
        }
        .run()
    }
}

impl<J: Storage> Running<J> {
    fn run(&mut self) -> Result<(), Ended> {
        let mut events = Events::with_capacity(1024);
        self.supervisor.ready();
        loop {
            let now = self.mio.now();
            self.supervisor.turns(now.mono);
            self.accept(now.mono);
            while let Some((run, is_taken)) = self.webhook.as_ref().and_then(Webhook::over) {
                self.pump.called(run, is_taken);
            }
            if let Some(at) = self.pump.deadline().filter(|at| *at <= now.mono) {
                self.meter.late(now.mono.since(at));
            }
            if now.mono >= self.memory_at {
                self.memory_at = now.mono + MEMORY_EVERY;
                resident_bytes().into_iter().for_each(|used| self.pump.memory(used));
            }
            let turn = self.pump.turn(now)?;
            self.meter.turned(self.mio.now().mono.since(now.mono));
            for call in turn.calls {
                self.call(call);
            }
            let freed = !turn.closed.is_empty();
            for (conn, socket) in turn.closed {
                self.lingering.add(now.mono, conn, socket.finish());
            }
            if (self.lingering.expire(now.mono) || freed) && matches!(self.accepting, Accepting::Stalled(_)) {
                self.accepting = Accepting::Stalled(now.mono);
            }
            if turn.is_over {
                return self.linger(&mut events);
            }
            let at_once = turn.more || self.accepting == Accepting::Open;
            let timeout = if at_once { Some(Duration::ZERO) } else { self.timeout() };
            match self.mio.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    LISTENER if self.accepting == Accepting::Drained => self.accepting = Accepting::Open,
                    LISTENER | WAKER => {}
                    SIGNALS if self.heed_signals() => return Ok(()),
                    SIGNALS => {}
                    Token(id) => self.edge(ConnId(id as u64), event),
                }
            }
        }
    }

    /// Tells the core to go down, or to hurry, or has files read again; whether it is told no more.
    fn heed_signals(&mut self) -> bool {
        for signal in self.mio.signals.pending() {
            if signal == SIGHUP {
                self.mio.reloader.iter().for_each(Reloader::again);
                continue;
            }
            self.told += 1;
            self.supervisor.stopping();
            tracing::info!(signal, times = self.told, "told to go down");
            self.pump.drain();
        }
        self.told > 2
    }

    /// Lets the last peers read the last words.
    fn linger(&mut self, events: &mut Events) -> Result<(), Ended> {
        if self.told > 1 {
            return Ok(());
        }
        while let Some(at) = self.lingering.deadline() {
            let left = Duration::from_micros(at.since(self.mio.now().mono).0);
            match self.mio.poll.poll(events, Some(left)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in events.iter() {
                match event.token() {
                    SIGNALS => return Ok(()),
                    LISTENER | WAKER => {}
                    Token(id) => drop(self.lingering.edge(ConnId(id as u64))),
                }
            }
            self.lingering.expire(self.mio.now().mono);
        }
        Ok(())
    }

    /// Without a webhook the core wants none called.
    fn call(&mut self, call: Call) {
        match &self.webhook {
            Some(webhook) => webhook.call(call),
            None => self.pump.called(call.run, false),
        }
    }

    /// Bytes that come when a socket was read to its end have an edge of their own (epoll(7)); a peer that
    /// has gone by then has none. Of what TLS has read of a socket nothing is known here.
    fn edge(&mut self, conn: ConnId, event: &Event) {
        let may_end = event.is_read_closed() || event.is_error() || self.mio.tls.is_some();
        if !self.lingering.edge(conn) {
            self.pump.ready(conn, if may_end { Edge::UntilBlocked } else { Edge::UntilShort });
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let accept = match self.accepting {
            Accepting::Stalled(until) => Some(until),
            Accepting::Drained | Accepting::Open => None,
        };
        let deadlines = [
            self.pump.deadline(),
            self.lingering.deadline(),
            self.supervisor.deadline(),
            accept,
            Some(self.memory_at),
        ];
        let at = deadlines.into_iter().flatten().min()?;
        Some(Duration::from_micros(at.since(self.mio.now().mono).0))
    }

    fn accept(&mut self, now: Mono) {
        let is_told = match self.accepting {
            Accepting::Drained => return,
            Accepting::Stalled(until) if now < until => return,
            Accepting::Stalled(_) => true,
            Accepting::Open => false,
        };
        for _ in 0..ACCEPTS_PER_TURN {
            match self.accept_one() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.accepting = Accepting::Drained;
                    return;
                }
                // Gone before it was accepted, or a signal.
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    if !is_told {
                        tracing::warn!(%error, "cannot accept for now; is the limit of open files too low?");
                    }
                    self.accepting = Accepting::Stalled(now + ACCEPT_AGAIN);
                    return;
                }
            }
        }
        self.accepting = Accepting::Open;
    }

    fn accept_one(&mut self) -> io::Result<()> {
        let (mut socket, peer) = self.listener.accept()?;
        // Not fatal: on a socket that is gone already it fails, and reading will tell.
        let _unset = socket.set_nodelay(true);
        let token = Token(self.pump.next().0 as usize);
        self.mio.poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        let tls = self.mio.tls.as_ref().map(Current::get);
        self.pump.accept(Socket::server(socket, tls)?, peer.ip());
        Ok(())
    }
}

impl fmt::Debug for MioLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MioLoop").field("start", &self.start).finish_non_exhaustive()
    }
}
