//! What there is at this moment, for metrics. Counted when it is asked for: by one pass over connections,
//! runs and workers.

use crate::Core;
use crate::conn::{Conn, Role};
use crate::ids::Lane;
use crate::time::Span;
use crate::view::View;

/// Time without an event after which an open run is counted as silent (REQUIREMENTS D4).
const SILENT_AFTER: Span = Span::millis(500);

/// The kinds of connections.
const KINDS: [&str; 6] = ["http", "greeting", "user", "viewer", "sse", "worker"];
/// The states of runs.
const STATES: [&str; 5] = ["queued", "dispatched", "running", "waiting", "cancelling"];
/// The states of workers.
const WORKERS: [&str; 4] = ["idle", "busy", "silent", "draining"];
/// The states of agents' breakers.
const BREAKERS: [&str; 3] = ["closed", "open", "half_open"];

/// A count for each of some words.
pub type By<const N: usize> = [(&'static str, u64); N];

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// Connections by kind: `http` (a request, or none yet), `greeting` (no `welcome` yet), `user`, `viewer`,
    /// `sse`, `worker`.
    pub connections: By<6>,
    /// Bytes that wait for the network, of all connections.
    pub output_bytes: u64,
    /// Events that were not acknowledged (by viewers: not taken), of all connections in their own streams.
    pub behind: u64,
    /// Connections that are more than a window behind.
    pub lagging: u64,
    /// Users in memory.
    pub users: u64,
    /// Runs that have not ended, by state.
    pub runs: By<5>,
    /// Those of them that have had no event for half a second.
    pub silent: By<5>,
    /// Workers by state.
    pub workers: By<4>,
    /// Known agents by the state of their circuit breaker.
    pub breakers: By<3>,
    /// Ended runs that are listed as not delivered.
    pub undelivered: u64,
    /// Appends that the store has not made durable.
    pub appends: u64,
    /// Timers that are set.
    pub timers: u64,
    /// Whether the store takes nothing at present.
    pub is_store_full: bool,
    /// Whether the daemon goes down.
    pub is_draining: bool,
}

fn zero<const N: usize>(words: [&'static str; N]) -> By<N> {
    words.map(|word| (word, 0))
}

fn add<const N: usize>(by: &mut By<N>, word: &str) {
    let of = by.iter_mut().find(|(other, _)| *other == word);
    of.expect("what is counted is one of the words").1 += 1;
}

impl View<'_> {
    /// What there is.
    pub fn gauges(&self) -> Gauges {
        let core = self.0;
        let mut gauges = Gauges {
            connections: zero(KINDS),
            output_bytes: 0,
            behind: 0,
            lagging: 0,
            users: core.users.len() as u64,
            runs: zero(STATES),
            silent: zero(STATES),
            workers: zero(WORKERS),
            breakers: zero(BREAKERS),
            undelivered: core.undelivered.listed() as u64,
            appends: core.durable.waiting() as u64,
            timers: core.deadlines.len() as u64,
            is_store_full: core.durable.is_full(),
            is_draining: core.is_draining(),
        };
        for conn in core.conns.values() {
            gauges.conn(core, conn);
        }
        gauges.runs(core);
        for worker in core.workers.values() {
            add(&mut gauges.workers, worker.state());
        }
        for agent in core.agents.values() {
            add(&mut gauges.breakers, agent.breaker(core.now.mono).as_str());
        }
        gauges
    }
}

impl Gauges {
    fn conn(&mut self, core: &Core, conn: &Conn) {
        let kind = match &conn.role {
            Role::Http | Role::Request(_) => "http",
            Role::Greeting(_) => "greeting",
            Role::User(me) if !me.is_welcome => "greeting",
            Role::User(me) if me.sse.is_some() => "sse",
            Role::User(me) if me.device.is_none() => "viewer",
            Role::User(_) => "user",
            Role::Worker(_) => "worker",
        };
        add(&mut self.connections, kind);
        self.output_bytes += conn.outstanding();
        if let Role::User(me) = &conn.role
            && me.is_welcome
            && let Some(stream) = core.stream_of(&me.identity.user, &Lane::Own)
        {
            self.behind += me.cursor.behind(stream.head());
            self.lagging += u64::from(me.cursor.behind_since.is_some());
        }
    }

    fn runs(&mut self, core: &Core) {
        let runs = core.users.values().flat_map(|context| context.runs.values());
        for run in runs.filter(|run| !run.is_ended()) {
            add(&mut self.runs, run.state());
            if core.now.mono.since(run.last_event.1) >= SILENT_AFTER {
                add(&mut self.silent, run.state());
            }
        }
    }
}
