//! What may be set, with its defaults (DESIGN §6). The shell reads it from files; the core judges it.

use crate::ids::{Agent, Topic};
use crate::peer::Network;
use crate::time::Span;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// All that the core must know of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Config {
    /// Connections and their limits.
    pub server: Server,
    /// What a token must say.
    pub auth: Auth,
    /// What is kept.
    pub store: Store,
    /// How runs are queued and executed.
    pub runs: Runs,
    /// How events reach devices.
    pub delivery: Delivery,
    /// When an agent that fails is given nothing for a while.
    pub breaker: Breaker,
    /// What one connection may send.
    pub limits: Limits,
    /// Who may read the metrics.
    pub metrics: Metrics,
    /// Agents known without a worker.
    pub agents: BTreeMap<Agent, AgentConfig>,
    /// Topics, besides those that are always there.
    pub topics: BTreeMap<Topic, TopicConfig>,
    /// Odd choices to be made ([`crate::odd`]); zero in production.
    pub odd: u32,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

section! {
    /// Section `server`.
    Server {
        /// Origins of pages that may connect, besides the daemon's own host.
        origins: Vec<String> = Vec::new(),
        /// Proxies that are believed for whom they speak.
        trusted_proxies: Vec<Network> = Vec::new(),
        /// Connections in all.
        connections: usize = 20_000,
        /// Connections of one user.
        connections_per_user: usize = 16,
        /// Connections from one address.
        connections_per_address: usize = 256,
        /// The longest message of a user, in bytes.
        message: usize = 64 * 1024,
        /// The longest message of a worker, in bytes.
        worker_message: usize = 1024 * 1024,
        /// Bytes that may wait for one connection's network, or one message.
        output: usize = 256 * 1024,
        /// Silence after which a heartbeat is sent; a peer silent for 2.5 × as long is closed.
        heartbeat: Span = Span::secs(10),
        /// Time for the request head, and again for `hello`.
        hello_timeout: Span = Span::secs(10),
        /// Time for which waiting output may not be taken.
        stuck_after: Span = Span::secs(30),
        /// Time for running runs to end when the daemon goes down.
        drain: Span = Span::secs(30),
    }
}

impl Server {
    /// The most connections that are open at once: some beyond the limit, so that they can be told of it.
    pub const fn connections_most(&self) -> usize {
        self.connections + self.connections / 8 + 64
    }
}

section! {
    /// Section `metrics`.
    Metrics {
        /// Whether anybody may read them, or operators alone.
        public: bool = true,
    }
}

section! {
    /// Section `auth`, as far as the core judges it.
    Auth {
        /// The `iss` that is required.
        issuer: Option<String> = None,
        /// The `aud` that is required.
        audience: Option<String> = None,
        /// How far clocks may differ.
        leeway: Span = Span::secs(5),
    }
}

section! {
    /// Section `store`, as far as the core decides.
    Store {
        /// Events kept of a user.
        events_per_user: u64 = 10_000,
        /// Bytes of events kept of a user, or of a topic.
        bytes_per_user: u64 = 64 * 1024 * 1024,
        /// Events one run may have.
        events_per_run: u64 = 5_000,
        /// Time for which events and ends of runs are kept (wall clock).
        keep: Span = Span::secs(7 * 24 * 3600),
        /// Ended runs kept of a user, and some more.
        runs_per_user: usize = 1_000,
        /// Events kept of a topic.
        events_per_topic: u64 = 1_000,
        /// Devices kept of a user.
        devices_per_user: usize = 64,
        /// Memory that the daemon may use, in bytes.
        memory: u64 = 1024 * 1024 * 1024,
    }
}

section! {
    /// Section `runs`.
    Runs {
        /// Runs executed at once, of all users.
        active: usize = 10,
        /// Runs executed at once, of one user.
        active_per_user: usize = 3,
        /// Runs queued, of all users.
        queued: usize = 10_000,
        /// Runs queued, of one user.
        queued_per_user: usize = 20,
        /// Time for one attempt, when nobody says otherwise.
        timeout: Span = Span::secs(30),
        /// The longest time that may be asked for.
        timeout_max: Span = Span::secs(3600),
        /// Time for a worker to take an offered run.
        start: Span = Span::secs(5),
        /// Time for a worker to end a cancelled run.
        cancel_grace: Span = Span::secs(5),
        /// Silence after which a worker is dead.
        lease: Span = Span::secs(15),
        /// The part of a run's time after which its user is warned, in percent.
        warn_at_percent: u32 = 80,
        /// Offers in a row that may be not taken; attempts at a run that may be executed again.
        attempts: u32 = 3,
        /// Time for which an idempotency key is remembered.
        key_keep: Span = Span::secs(24 * 3600),
        /// Time for which a run may be queued (wall clock).
        queued_for: Span = Span::secs(24 * 3600),
    }
}

section! {
    /// Section `delivery`.
    Delivery {
        /// Events of a stream unacknowledged at once on a connection.
        window: u32 = 256,
        /// Time for the first acknowledgement; doubles with each retry.
        ack_timeout: Span = Span::secs(2),
        /// Retries before the connection is closed.
        retries: u32 = 3,
        /// Time between two notices of one kind.
        backlog_every: Span = Span::secs(5),
        /// Time after a run's end within which a device must have acknowledged it.
        undelivered_after: Span = Span::secs(60),
        /// Runs that are watched for that, and listed, at most: beyond them the oldest is forgotten.
        undelivered: usize = 100_000,
        /// What is called for a run that was not delivered.
        webhook: Option<String> = None,
        /// Time within which a queued run is first told of.
        first_notice: Span = Span::millis(500),
    }
}

section! {
    /// Section `breaker`: what keeps runs from an agent that fails.
    Breaker {
        /// Failures in a row after which no run of an agent is let in for a while.
        failures: u32 = 5,
        /// For how long.
        open: Span = Span::secs(30),
        /// Runs that must end well before all are let in again.
        successes: u32 = 2,
    }
}

section! {
    /// Section `limits`.
    Limits {
        /// Messages a second, in the long run.
        messages_per_second: u64 = 50,
        /// Messages at once.
        burst: u64 = 200,
        /// Requests a second of one `sub`, in the long run.
        requests_per_second: u64 = 200,
        /// Requests of one `sub` at once.
        requests_burst: u64 = 1_000,
        /// Attempts of an address to say who it is that may fail, in a minute.
        unauthenticated_per_address_per_minute: u64 = 60,
        /// Users of whom tokens may be revoked.
        revoked: usize = 100_000,
    }
}

section! {
    /// Section `agents.NAME`.
    AgentConfig {
        /// Time for one attempt.
        timeout: Option<Span> = None,
        /// Whether its runs may be executed again; as the newest worker says when absent.
        retryable: Option<bool> = None,
        /// Attempts at a run in all, if it is retryable.
        attempts: Option<u32> = None,
        /// Its runs executed at once.
        active: Option<usize> = None,
    }
}

section! {
    /// Section `topics.NAME`.
    TopicConfig {
        /// Who may read it; users when absent (of `agents` and `alerts`: operators).
        read: Option<Readers> = None,
        /// Events kept of it; as `store.events_per_topic` says when absent.
        events: Option<u64> = None,
    }
}

/// Who may read a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Every user.
    User,
    /// Whoever has the scope `operate`.
    Operate,
}
