//! Every key that may be set: its name, what it may be, where it is kept, and what it means.
//! Reading, `check --print` and the errors all come from these tables.

use super::kind::{
    Address, Amount, Choice, Kind, Networks, Optional, Origins, Place, Switch, Text, bytes, count, time,
};
use super::problem::Problem;
use super::written::Written;
use super::{Format, KeyDraft, KeyList, Level, Settings};
use crate::store::Repair;
use jsonwebtoken::Algorithm;
use runcast_core::config::{AgentConfig, Readers, TopicConfig};
use runcast_core::time::Span;

/// A key that may be set on an `S`.
pub(crate) trait Key<S>: Sync {
    /// Its name, with its section if it has one.
    fn name(&self) -> &'static str;
    /// What it means, in a sentence.
    fn doc(&self) -> &'static str;
    /// What it may be, in words.
    fn expects(&self) -> String;
    /// Sets it, or says what is wrong with the value.
    fn set(&self, on: &mut S, written: &Written<'_>) -> Result<(), Problem>;
    /// Its value as TOML; none when it is not set.
    fn show(&self, of: &S) -> Option<String>;
    /// Its value as a number, if it is one.
    fn amount(&self, of: &S) -> Option<u64>;
}

/// The keys of an `S`.
pub(crate) type Table<S> = &'static [&'static dyn Key<S>];

/// A key, and the field it sets.
struct Entry<S, T, K> {
    name: &'static str,
    doc: &'static str,
    kind: K,
    get: fn(&S) -> &T,
    get_mut: fn(&mut S) -> &mut T,
}

impl<S: Default, T, K: Kind<T>> Key<S> for Entry<S, T, K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn expects(&self) -> String {
        self.kind.expects()
    }

    fn set(&self, on: &mut S, written: &Written<'_>) -> Result<(), Problem> {
        let default = self.show(&S::default());
        *(self.get_mut)(on) = self.kind.read(&Written { default: default.as_deref(), ..*written })?;
        Ok(())
    }

    fn show(&self, of: &S) -> Option<String> {
        self.kind.show((self.get)(of))
    }

    fn amount(&self, of: &S) -> Option<u64> {
        self.kind.amount((self.get)(of))
    }
}

macro_rules! table {
    ($(#[$doc:meta])* $name:ident: $owner:ty;
     $($key:literal, $($field:ident).+, $kind:expr, $text:literal;)*) => {
        $(#[$doc])*
        pub(crate) static $name: Table<$owner> = &[$(
            &Entry::<$owner, _, _> {
                name: $key,
                doc: $text,
                kind: $kind,
                get: |owner| &owner.$($field).+,
                get_mut: |owner| &mut owner.$($field).+,
            },
        )*];
    };
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const MILLION: u64 = 1_000_000;
const ALGORITHM: Choice<Algorithm> = Choice(super::ALGORITHMS);

const fn ms(ms: u64) -> Span {
    Span::millis(ms)
}

const fn minutes(minutes: u64) -> Span {
    Span::secs(60 * minutes)
}

const fn days(days: u64) -> Span {
    Span::secs(24 * 3600 * days)
}

/// Time for one attempt of a run, wherever it may be set.
const ATTEMPT: Amount = time(ms(100), days(7));

table! {
    /// The keys of the configuration, section by section.
    SETTINGS: Settings;
    "server.listen", listen, Address, "where to listen";
    "server.tls_cert", tls.cert, Optional(Place), "the certificate and its chain, as PEM; without one no TLS";
    "server.tls_key", tls.key, Optional(Place), "the certificate's private key, as PEM";
    "server.trusted_proxies", core.server.trusted_proxies, Networks,
        "proxies that are believed when they tell for whom they speak";
    "server.origins", core.server.origins, Origins, "origins of pages that may connect, besides the own host";
    "server.connections", core.server.connections, count(1, MILLION), "connections in all";
    "server.connections_per_user", core.server.connections_per_user, count(1, MILLION),
        "connections of one user";
    "server.connections_per_address", core.server.connections_per_address, count(1, MILLION),
        "connections from one address";
    "server.message", core.server.message, bytes(KIB, 16 * MIB), "the longest message of a user";
    "server.worker_message", core.server.worker_message, bytes(KIB, 16 * MIB),
        "the longest message of a worker";
    "server.output", core.server.output, bytes(16 * KIB, 64 * MIB),
        "what may wait for one connection's network";
    "server.heartbeat", core.server.heartbeat, time(ms(100), minutes(5)),
        "silence after which a heartbeat is sent";
    "server.hello_timeout", core.server.hello_timeout, time(ms(100), minutes(5)),
        "time for the request head, and again for hello";
    "server.stuck_after", core.server.stuck_after, time(ms(100), minutes(10)),
        "time for which waiting output may not be taken";
    "server.drain", core.server.drain, time(ms(0), minutes(60)),
        "time for running runs to end when the daemon goes down";
    "auth.jwks_file", auth.jwks_file, Optional(Place), "a JWKS file with keys that tokens may be signed with";
    "auth.keys", auth.keys, KeyList, "keys that tokens may be signed with";
    "auth.issuer", core.auth.issuer, Optional(Text), "the iss that a token must have";
    "auth.audience", core.auth.audience, Optional(Text), "the aud that a token must have";
    "auth.leeway", core.auth.leeway, time(ms(0), minutes(5)), "how far clocks may differ";
    "store.dir", data, Place, "the data directory";
    "store.repair", repair, Choice(Repair::WORDS),
        "after a crash: full compares the whole file with its checksums, a second for each gigabyte at the start";
    "store.events_per_user", core.store.events_per_user, count(16, 100 * MILLION), "events kept of a user";
    "store.bytes_per_user", core.store.bytes_per_user, bytes(64 * KIB, TIB),
        "bytes of events kept of a user, or of a topic";
    "store.events_per_run", core.store.events_per_run, count(8, 10 * MILLION), "events that one run may have";
    "store.keep", core.store.keep, time(Span::secs(1), days(3650)),
        "time for which events and ends of runs are kept";
    "store.runs_per_user", core.store.runs_per_user, count(1, 100_000), "ended runs kept of a user";
    "store.events_per_topic", core.store.events_per_topic, count(16, 10 * MILLION), "events kept of a topic";
    "store.memory", core.store.memory, bytes(64 * MIB, TIB),
        "memory that the daemon may use; a warning at 80 percent, no new runs at 95";
    "store.devices_per_user", core.store.devices_per_user, count(1, 10_000), "devices kept of a user";
    "runs.active", core.runs.active, count(1, 100_000), "runs executed at once, of all users";
    "runs.active_per_user", core.runs.active_per_user, count(1, 100_000),
        "runs executed at once, of one user";
    "runs.queued", core.runs.queued, count(1, 10 * MILLION), "runs queued, of all users";
    "runs.queued_per_user", core.runs.queued_per_user, count(1, 10 * MILLION), "runs queued, of one user";
    "runs.timeout", core.runs.timeout, ATTEMPT, "time for one attempt, when nobody says otherwise";
    "runs.timeout_max", core.runs.timeout_max, ATTEMPT, "the longest time that may be asked for";
    "runs.start", core.runs.start, time(ms(100), minutes(10)), "time for a worker to take an offered run";
    "runs.cancel_grace", core.runs.cancel_grace, time(ms(0), minutes(10)),
        "time for a worker to end a cancelled run";
    "runs.lease", core.runs.lease, time(ms(300), minutes(60)), "silence after which a worker is dead";
    "runs.warn_at_percent", core.runs.warn_at_percent, count(1, 99),
        "part of a run's time after which its user is warned";
    "runs.attempts", core.runs.attempts, count(1, 100),
        "offers in a row that may be not taken; attempts at a run that may be executed again";
    "runs.key_keep", core.runs.key_keep, time(minutes(1), days(30)),
        "time for which a run's key is remembered";
    "runs.queued_for", core.runs.queued_for, time(Span::secs(1), days(30)),
        "time for which a run may be queued";
    "delivery.window", core.delivery.window, count(1, 1024), "events unacknowledged at once on a connection";
    "delivery.ack_timeout", core.delivery.ack_timeout, time(ms(10), minutes(5)),
        "time for the first acknowledgement; doubles with each retry";
    "delivery.retries", core.delivery.retries, count(0, 16), "retries before the connection is closed";
    "delivery.backlog_every", core.delivery.backlog_every, time(ms(50), minutes(1)),
        "time between two notices of one kind";
    "delivery.first_notice", core.delivery.first_notice, time(ms(1), minutes(1)),
        "time within which a queued run is first told of";
    "delivery.undelivered_after", core.delivery.undelivered_after, time(ms(100), days(7)),
        "time after a run's end within which a device must have acknowledged it";
    "delivery.undelivered", core.delivery.undelivered, count(1, MILLION),
        "runs that are watched for that, and listed";
    "delivery.webhook", core.delivery.webhook, Optional(Text), "the URL to call when none has";
    "delivery.webhook_secret_file", webhook_secret_file, Optional(Place),
        "the file with the secret that signs those calls";
    "breaker.failures", core.breaker.failures, count(1, 1000),
        "failures in a row after which an agent is given nothing for a while";
    "breaker.open", core.breaker.open, time(ms(100), minutes(60)), "for how long";
    "breaker.successes", core.breaker.successes, count(1, 1000),
        "runs that must end well before an agent is given all again";
    "limits.messages_per_second", core.limits.messages_per_second, count(1, MILLION),
        "messages of a connection, in the long run";
    "limits.burst", core.limits.burst, count(1, MILLION), "messages of a connection at once";
    "limits.requests_per_second", core.limits.requests_per_second, count(1, MILLION),
        "HTTP requests of one sub, in the long run";
    "limits.requests_burst", core.limits.requests_burst, count(1, MILLION), "HTTP requests of one sub at once";
    "limits.unauthenticated_per_address_per_minute", core.limits.unauthenticated_per_address_per_minute,
        count(1, MILLION), "attempts of an address to authenticate that may fail in a minute";
    "limits.revoked", core.limits.revoked, count(1, 10 * MILLION), "users of whom tokens may be revoked";
    "metrics.public", core.metrics.public, Switch, "whether anybody may read /metrics, or operators alone";
    "log.level", log.level, Choice(Level::WORDS), "what is worth a line";
    "log.format", log.format, Choice(Format::WORDS), "how lines look; auto: text on a terminal, else json";
}

table! {
    /// The keys of `[agents.NAME]`.
    AGENT: AgentConfig;
    "timeout", timeout, Optional(ATTEMPT), "time for one attempt of this agent";
    "retryable", retryable, Optional(Switch), "whether its runs may be executed again; else as its workers say";
    "attempts", attempts, Optional(count(1, 100)), "attempts at a run in all, if it is retryable";
    "active", active, Optional(count(1, 100_000)), "its runs executed at once";
}

table! {
    /// The keys of `[topics.NAME]`.
    TOPIC: TopicConfig;
    "read", read, Optional(Choice(READERS)), "who may read it; users, if it is not one of the daemon's own";
    "events", events, Optional(count(16, 10 * MILLION)), "events kept of it; else as store.events_per_topic";
}

/// As they are written.
const READERS: &[(&str, Readers)] = &[("user", Readers::User), ("operate", Readers::Operate)];

table! {
    /// The keys of one item of `auth.keys`.
    AUTH_KEY: KeyDraft;
    "kid", kid, Optional(Text), "the kid of the tokens it is for; any without";
    "alg", alg, Optional(ALGORITHM), "its only algorithm";
    "secret_file", secret_file, Optional(Place), "the file with its secret (HS256 and the like)";
    "public_key_file", public_key_file, Optional(Place), "the file with its public key, as PEM";
}

/// The key called `name`, or the one that was probably meant.
pub(crate) fn find<S>(table: Table<S>, name: &str) -> Result<&'static dyn Key<S>, Option<&'static str>> {
    match table.iter().find(|key| key.name() == name) {
        Some(key) => Ok(*key),
        None => Err(nearest(name, table.iter().map(|key| key.name()))),
    }
}

/// The name most like `name`: by its last part alone, when the section is another.
pub(crate) fn nearest(name: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let last = |name: &'_ str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let far = |other: &str| distance(name, other).min(distance(&last(name), &last(other)) + 1);
    let (distance, best) = names.map(|other| (far(other), other)).min()?;
    (distance <= 1 + last(name).len() / 3).then_some(best)
}

/// How many letters must be added, left out or changed to come from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
