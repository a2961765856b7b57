//! The oracles: each file guards a promise of PROTOCOL.md §2. This one hands them what happens.

pub mod access;
pub mod alerts;
pub mod answers;
pub mod bounds;
pub mod complete;
pub mod drain;
pub mod durable;
pub mod ends;
pub mod erased;
pub mod fair;
pub mod fencing;
pub mod first_sign;
pub mod idle;
pub mod isolation;
pub mod joined;
pub mod kept;
pub mod keys;
pub mod lease;
pub mod limits;
pub mod listing;
pub mod liveness;
pub mod order;
pub mod others;
pub mod pairs;
pub mod places;
pub mod positions;
pub mod purge;
pub mod questions;
pub mod ready;
pub mod recorded;
pub mod restart;
pub mod resume;
pub mod retries;
pub mod revoked;
pub mod rot;
pub mod silence;
pub mod spans;
pub mod timers;
pub mod topics;
pub mod truth;
pub mod undelivered;
pub mod warned;
mod wrote;

use crate::pipe::PipeId;
use crate::said::Said;
use crate::schedule::{Micros, Schedule};
use crate::sometimes;
use crate::sometimes::{Tally, state_of};
use answers::Promised;
use fencing::Fencing;
use first_sign::Waits;
use isolation::Overheard;
use keys::Keys;
use lease::Leases;
use limits::Limits;
use order::Sender;
use others::Progress;
use positions::Positions;
use restart::Rows;
use revoked::Revoked;
use runcast_core::Core;
use runcast_core::config::{Config, Store};
use runcast_core::odd;
use runcast_core::record::{Record, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use topics::Lanes;
use truth::Truth;
use undelivered::Delivery;

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    /// When.
    pub at: Micros,
    /// Which oracle saw it.
    pub oracle: &'static str,
    /// The user whom it concerns.
    pub user: Option<usize>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.at / 1_000_000, self.at % 1_000_000);
        write!(f, "{} at {seconds}.{micros:06} s: {}", self.oracle, self.what)
    }
}

/// Whose connection it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A user's, by number.
    User(usize),
    /// A worker's, by name.
    Worker(String),
    /// Of somebody without a good token.
    Stranger,
}

/// A connection as the oracles know it.
#[derive(Debug)]
struct Watched {
    who: Who,
    /// How many events its client takes unacknowledged; `None` for a viewer.
    window: Option<u64>,
    /// Whether nothing but faults may slow it down.
    healthy: bool,
    welcomed: bool,
    closed: bool,
    /// The generation of its user when it began.
    generation: u64,
    epoch: String,
    head: u64,
    heard: Micros,
    sender: Sender,
    waits: Waits,
    progress: Progress,
    topics: Lanes,
}

/// All oracles of a world.
#[derive(Debug)]
pub struct Oracles {
    schedule: Schedule,
    /// What is durable.
    pub truth: Truth,
    /// The rows that are durable.
    pub rows: Rows,
    /// Who executes what.
    pub fencing: Fencing,
    /// Who has how many runs.
    pub limits: Limits,
    /// Whether the daemon treats windows oddly: then nothing is said of what it holds back.
    narrow: bool,
    /// Who lives.
    pub leases: Leases,
    /// What is stored of devices' positions.
    pub positions: Positions,
    /// What ended runs' users have got of it.
    pub delivery: Delivery,
    /// What came about.
    pub tally: Tally,
    /// Whether ended runs are forgotten while the world lasts.
    pub forgets_runs: bool,
    /// The users' numbers, by name.
    names: BTreeMap<String, usize>,
    /// Users whom an operator wants erased.
    to_be_erased: BTreeSet<String>,
    /// Users whom an operator has wanted gone, for whatever time.
    sent_away: BTreeSet<String>,
    /// Whose tokens were revoked.
    pub revoked: Revoked,
    /// How often each user was erased.
    erasures: BTreeMap<usize, u64>,
    /// Disks that were lost with all that was on them.
    pub disks_lost: u64,
    /// Each incarnation of a stream, and how often the one of before was lost.
    epochs: BTreeMap<String, u64>,
    conns: BTreeMap<PipeId, Watched>,
    /// Connections of which the daemon has let go in this turn.
    leaving: Vec<PipeId>,
    /// Which runs the keys of requests have named.
    keys: Keys,
    crashes: u64,
    alive_since: BTreeMap<usize, Micros>,
    broken: Option<Violation>,
    /// Events that users' devices were sent.
    pub delivered: u64,
    /// Those that were sent again.
    pub redelivered: u64,
    /// Records that became durable, and messages that were written: each was judged.
    pub checked: u64,
}

impl Oracles {
    /// Nothing has happened yet.
    pub fn new(schedule: Schedule, config: &Config) -> Self {
        Self {
            schedule,
            truth: Truth::default(),
            rows: Rows::default(),
            fencing: Fencing::default(),
            limits: Limits::default(),
            narrow: config.odd & odd::NARROW != 0,
            leases: Leases::default(),
            positions: Positions::default(),
            delivery: Delivery::default(),
            tally: Tally::default(),
            forgets_runs: config.store.keep < Store::default().keep,
            names: BTreeMap::new(),
            to_be_erased: BTreeSet::new(),
            sent_away: BTreeSet::new(),
            revoked: Revoked::default(),
            erasures: BTreeMap::new(),
            disks_lost: 0,
            epochs: BTreeMap::new(),
            conns: BTreeMap::new(),
            leaving: Vec::new(),
            keys: Keys::new(config.runs.key_keep.as_millis()),
            crashes: 0,
            alive_since: BTreeMap::new(),
            broken: None,
            delivered: 0,
            redelivered: 0,
            checked: 0,
        }
    }

    /// The first promise that was broken.
    pub fn broken(&self) -> Option<&Violation> {
        self.broken.as_ref()
    }

    /// Takes note of a judgement.
    pub fn judge(&mut self, oracle: &'static str, user: Option<usize>, judgement: Result<(), String>) {
        if let Err(what) = judgement
            && self.broken.is_none()
        {
            self.broken = Some(Violation { at: self.schedule.now(), oracle, user, what });
        }
    }

    /// Somebody calls the daemon.
    pub fn calls(&mut self, id: PipeId, who: Who, window: Option<u64>, healthy: bool) {
        let generation = match who {
            Who::User(user) => self.generation(user),
            Who::Worker(_) | Who::Stranger => 0,
        };
        let watched = Watched {
            who,
            window,
            healthy,
            welcomed: false,
            closed: false,
            generation,
            epoch: String::new(),
            head: 0,
            heard: 0,
            sender: Sender::default(),
            waits: Waits::default(),
            progress: Progress::default(),
            topics: Lanes::default(),
        };
        self.conns.insert(id, watched);
    }

    /// A connection has lost bytes for good: whether it hears anything proves nothing any more.
    pub fn hurt(&mut self, id: PipeId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.healthy = false;
        }
    }

    /// A client is about to acknowledge, in a topic or in its user's own stream.
    pub fn acks(&mut self, id: PipeId, topic: Option<&str>, seq: u64) {
        match (self.conns.get_mut(&id), topic) {
            (Some(conn), None) => conn.sender.acked(seq),
            (Some(conn), Some(topic)) => conn.topics.acked(topic, seq),
            (None, _) => {}
        }
    }

    /// Whether the user of a connection may read what is for operators.
    pub fn operates(&mut self, id: PipeId, operates: bool) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.topics.operates = operates;
        }
    }

    /// A client asks for a run on a healthy connection; its words travel for so long at most.
    pub fn asks(&mut self, id: PipeId, request: &str, travel: Micros) {
        let now = self.schedule.now();
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.healthy && conn.welcomed) {
            conn.waits.asks(now, request, travel);
        }
    }

    /// The network does not take what the daemon has for a client.
    pub fn crowded(&mut self, id: PipeId) {
        let now = self.schedule.now();
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.waits.crowded(now);
        }
    }

    /// How often the daemon was killed so far.
    pub fn crashes(&self) -> u64 {
        self.crashes
    }

    /// The daemon has let go of a connection.
    pub fn hung_up(&mut self, id: PipeId) {
        self.leaving.push(id);
    }

    /// All that was written has been judged, the last words too: who has left is forgotten.
    pub fn settle(&mut self) {
        for id in std::mem::take(&mut self.leaving) {
            if let Some(conn) = self.conns.remove(&id)
                && let Who::Worker(name) = conn.who
            {
                self.limits.hung_up(&name);
            }
        }
    }

    /// The daemon was killed.
    pub fn killed(&mut self) {
        self.crashes += 1;
        self.conns.clear();
        self.leaving.clear();
        self.positions.killed();
        self.limits.killed(&self.truth);
    }

    /// A user's number.
    pub fn knows(&mut self, name: &str, user: usize) {
        self.names.insert(name.to_owned(), user);
    }

    /// An operator wants a user erased.
    pub fn erases(&mut self, name: &str) {
        self.to_be_erased.insert(name.to_owned());
    }

    /// Whether an operator has wanted a user erased.
    pub fn is_to_be_erased(&self, name: &str) -> bool {
        self.to_be_erased.contains(name)
    }

    /// An operator wants a user's connections closed.
    pub fn sends_away(&mut self, name: &str) {
        self.sent_away.insert(name.to_owned());
    }

    /// Whether an operator ever has.
    pub fn is_sent_away(&self, name: &str) -> bool {
        self.sent_away.contains(name)
    }

    /// How often all that was stored of a user was lost, or erased, so far.
    fn generation(&self, user: usize) -> u64 {
        self.disks_lost + self.erasures.get(&user).copied().unwrap_or(0)
    }

    /// The last of a user is gone: nothing else may be left, and nothing is true of that user any more.
    fn erased(&mut self, name: &str) {
        let Some(user) = self.names.get(name).copied() else { return };
        self.judge("O28", Some(user), erased::judge(&self.rows, name));
        *self.erasures.entry(user).or_default() += 1;
        self.truth.erase(name);
        self.delivery.erase(name);
        self.positions.erase(name);
        self.keys.erase(user);
        self.alive_since.remove(&user);
    }

    /// After a start: users whose erasure was durable, though nobody was told. `known` had streams before
    /// it; others may have got theirs in a commit of which nobody was told either.
    pub fn look_for_erased(&mut self, known: &BTreeSet<String>) {
        let had = |name: &String| known.contains(name) || self.truth.has_stream(name);
        let gone = |name: &&String| had(name) && !self.rows.has_stream(name);
        let gone: Vec<String> = self.names.keys().filter(gone).cloned().collect();
        gone.iter().for_each(|name| self.erased(name));
    }

    /// The disk is lost: what follows is a new beginning.
    pub fn disk_lost(&mut self) {
        self.disks_lost += 1;
        self.truth.forget();
        self.revoked.forget();
        self.rows = Rows::default();
        self.delivery = Delivery::default();
        self.keys.forget();
        self.alive_since.clear();
        self.limits.killed(&self.truth);
    }

    /// How often all that was stored of a user was lost, or erased, before this incarnation began. One that
    /// nobody was seen to be told of is the newest.
    pub fn generation_of(&self, epoch: &str, user: usize) -> u64 {
        self.epochs.get(epoch).copied().unwrap_or_else(|| self.generation(user))
    }

    /// How many disks were lost before this incarnation of a topic began.
    pub fn disk_of_topic(&self, epoch: &str) -> u64 {
        self.epochs.get(epoch).copied().unwrap_or(self.disks_lost)
    }

    /// Where a limit seems to be exceeded, asks the daemon which runs are with workers, or offered to them,
    /// and to which.
    pub fn settle_limits(&mut self, active: impl FnOnce() -> BTreeMap<String, String>) {
        if self.limits.is_suspicious() {
            let judgement = self.limits.settle(&active());
            self.judge("O8", None, judgement);
        }
    }

    /// All is at rest, and durable: what the daemon says of it is held against what is true, unless the truth
    /// forgets.
    pub fn at_rest(&mut self, core: &Core) {
        if !self.forgets_runs {
            let undelivered = self.delivery.at_rest(&self.truth, &self.rows, core.inspect());
            self.judge("O27", None, undelivered);
            let alerts = self.truth.alerts.at_rest(core.inspect());
            self.judge("O29", None, alerts);
        }
    }

    /// The daemon has given records to the store.
    pub fn submitted(&mut self, record: &Record) {
        let Record::Event { bytes, .. } = record else { return };
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if !text.contains("\"agent_completed\"") {
            return;
        }
        let Ok(said) = Said::read(text) else { return };
        if let (Some("agent_completed"), Some(run)) = (said.event.as_deref(), said.run.as_deref()) {
            self.limits.over(run);
        }
    }

    /// A user's stream may have begun, or begun anew.
    fn begun(&mut self, record: &Record) {
        let Record::Put { key, value } = record else { return };
        if key.table != Table::User || &*key.name != "stream" {
            return;
        }
        let Some(user) = self.names.get(&*key.owner).copied() else { return };
        let row: serde_json::Value = serde_json::from_slice(value).unwrap_or_default();
        let (epoch, generation) = (row["epoch"].as_str().unwrap_or_default(), self.generation(user));
        if !self.epochs.contains_key(epoch) {
            self.epochs.insert(epoch.to_owned(), generation);
        }
    }

    /// A record has reached stable storage.
    pub fn stored(&mut self, record: &Record) {
        self.rows.apply(record);
        self.checked += 1;
        if let Record::Delete { key } = record
            && key.table == Table::User
            && &*key.name == "stream"
        {
            let left = erased::events(&self.truth, &key.owner);
            self.judge("O28", None, left);
            self.erased(&key.owner);
        }
        self.begun(record);
        let mut ended = None;
        self.judge("O3", None, kept::trimmed(&self.truth, record));
        let place = self.positions.stored(record);
        self.judge("O3", None, place);
        self.delivery.stored(record);
        let mut broken = None;
        let result = self.truth.store(record, &mut |event, run| {
            match event.kind {
                "agent_completed" => {
                    ended = Some((event.data.status.as_deref().unwrap_or_default().to_owned(), run.started))
                }
                "run_retrying" => sometimes!(self.tally, Retried),
                "input_required" => sometimes!(self.tally, Asked),
                "input_received" => {
                    sometimes!(self.tally, Answered if event.data.expired != Some(true));
                    sometimes!(self.tally, AnswerExpired if event.data.expired == Some(true));
                }
                "agent_started" => {
                    let tally = &mut self.tally;
                    sometimes!(tally, StartedLater if event.said.attempt > Some(1));
                }
                _ => {}
            }
            let checks = [
                ("O3", self.keys.queued(event, self.crashes)),
                ("O6", ends::judge(event, run)),
                ("O7", pairs::judge(event, run)),
                ("O9", fair::judge(event)),
                ("O24", questions::judge(event, run)),
                ("O18", fencing::judge(event, run)),
                (
                    "O14",
                    if event.kind == "run_retrying" { spans::delay(&event.data, run.starts) } else { Ok(()) },
                ),
            ];
            if let Some((oracle, Err(what))) = checks.into_iter().find(|(_, result)| result.is_err()) {
                broken.get_or_insert((oracle, run.user, format!("{what}: {:?}", event.said)));
            }
            Ok(())
        });
        if let Some((status, started)) = ended {
            self.tell(&status);
            sometimes!(self.tally, EndWhileQueued if started.is_none());
        }
        if let Record::Event { stream, bytes, .. } = record
            && stream.0.ends_with(":agents")
            && let Some(event) = std::str::from_utf8(bytes).ok().and_then(|text| Said::read(text).ok()?.event)
        {
            self.tell(&event);
        }
        self.judge("O4", None, result);
        if let Some((oracle, user, what)) = broken {
            self.judge(oracle, user, Err(what));
        }
    }

    /// The daemon has told somebody that this is so.
    pub fn promised(&mut self, promised: &Promised) {
        let judgement = promised.judge(&self.truth, &self.rows);
        self.judge("O16", None, judgement);
    }

    /// The daemon has said something with a secret in it, elsewhere than on a WebSocket.
    pub fn overheard(&mut self, heard: &Overheard) {
        let user = heard.to.as_deref().and_then(|name| self.names.get(name)).copied();
        self.judge("O10", user, heard.judge(user));
    }

    /// Counts what a word of the protocol stands for.
    fn tell(&mut self, word: &str) {
        if let Some(state) = state_of(word) {
            self.tally.mark(state);
        }
    }

    /// Looks whether a healthy connection is kept waiting, calm having reigned since `calm_since` (which may
    /// be to come).
    pub fn look(&mut self, calm_since: Micros) {
        let now = self.schedule.now();
        let mut broken = None;
        for conn in self.conns.values_mut().filter(|conn| conn.welcomed && conn.healthy && !conn.closed) {
            let Who::User(user) = conn.who else { continue };
            let alive_since = self.truth.is_alive(user).then(|| *self.alive_since.entry(user).or_insert(now));
            conn.waits.forget(|run| {
                self.truth.runs.get(run).is_some_and(|run| run.started.is_some() || run.ended.is_some())
            });
            let (position, takes_more) = conn.sender.position();
            let room = takes_more && !self.narrow;
            // Whoever has a full window is told by `backlog` that more wait. But where the daemon fills a
            // window with one event for a test, nobody is more than a window behind.
            let is_told = !(self.narrow && conn.sender.waits_for_acks());
            let head = self.truth.stream(user, &conn.epoch).map_or(0, |log| log.head());
            let silent = |since| silence::judge(now, conn.heard, since, calm_since);
            let topics = conn.topics.look(now, &mut self.truth, self.narrow, calm_since);
            let judgements = [
                ("O11", alive_since.filter(|_| is_told).map_or(Ok(()), silent)),
                ("O12", conn.waits.look(now, calm_since)),
                ("O23", conn.progress.look(now, position, room && position < head, calm_since)),
                ("O23", topics),
            ];
            for (oracle, judgement) in judgements {
                if let Err(what) = judgement {
                    broken.get_or_insert((oracle, user, what));
                }
            }
        }
        self.alive_since.retain(|user, _| self.truth.is_alive(*user));
        if let Some((oracle, user, what)) = broken {
            self.judge(oracle, Some(user), Err(what));
        }
    }
}

impl Watched {
    fn user(&self) -> Option<usize> {
        match &self.who {
            Who::User(user) => Some(*user),
            Who::Worker(_) | Who::Stranger => None,
        }
    }
}
