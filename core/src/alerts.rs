//! The topic `alerts` (PROTOCOL §7): what an operator should look at, said when it begins and when it is
//! over.
//!
//! What was told is stored together with the event that told it, and compared with what is at the end of each
//! input: so the topic ends up true whatever came between, a full store or a crash. A watermark that was
//! crossed is crossed until there is clearly less; what lasts a moment is told for a minute.

use crate::Core;
use crate::agent::Breaker;
use crate::deadlines::Timer;
use crate::ids::{Agent, Topic};
use crate::planted::Bug;
use crate::record::{Image, Record, RowKey, Table};
use crate::sometimes::Sometimes;
use crate::time::{Mono, Span};
use crate::wire::json::Object;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use bytes::Bytes;

/// A commit that takes as long is slow.
const SLOW_COMMIT: Span = Span::secs(1);
/// A timer that fires so late says that the loop is held up.
const LATE_LOOP: Span = Span::millis(500);
/// For how long after the last of them that is told.
const MOMENT: Span = Span::secs(60);
/// Of a limit, the share in percent at which an alert begins, and below which it is over.
const WATERMARKS: [u64; 2] = [80, 70];

/// Something that an operator should look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alert {
    /// Few runs more can be queued.
    QueueHigh,
    /// Few connections more are let in.
    ConnectionsHigh,
    /// Little memory is left; near the end of it new runs are refused.
    MemoryHigh,
    /// The disk takes long.
    CommitSlow,
    /// The loop is held up: the processor is busy, or the process stood still.
    LoopLate,
    /// Runs have ended and nobody has heard.
    Undelivered,
    /// Runs of an agent fail one after the other, and no more are let in.
    BreakerOpen(Agent),
}

impl Alert {
    /// Those that are of the daemon as a whole.
    fn of_all() -> &'static [Self] {
        static OF_ALL: [Alert; 6] = [
            Alert::QueueHigh,
            Alert::ConnectionsHigh,
            Alert::MemoryHigh,
            Alert::CommitSlow,
            Alert::LoopLate,
            Alert::Undelivered,
        ];
        &OF_ALL
    }

    /// Its name in the protocol.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::QueueHigh => "queue_high",
            Self::ConnectionsHigh => "connections_high",
            Self::MemoryHigh => "memory_high",
            Self::CommitSlow => "commit_slow",
            Self::LoopLate => "loop_late",
            Self::Undelivered => "undelivered",
            Self::BreakerOpen(_) => "breaker_open",
        }
    }

    /// The agent that it is about, if it is about one.
    pub const fn agent(&self) -> Option<&Agent> {
        match self {
            Self::BreakerOpen(agent) => Some(agent),
            Self::QueueHigh
            | Self::ConnectionsHigh
            | Self::MemoryHigh
            | Self::CommitSlow
            | Self::LoopLate
            | Self::Undelivered => None,
        }
    }

    /// What to do.
    const fn hint(&self) -> &'static str {
        match self {
            Self::QueueHigh => "start more workers, or raise runs.queued",
            Self::ConnectionsHigh => "raise server.connections, or spread the users over more daemons",
            Self::MemoryHigh => "raise store.memory, or spread the users over more daemons",
            Self::CommitSlow => "look at the disk under store.dir, and at what else writes to it",
            Self::LoopLate => "give the daemon more processor time; look for pauses of the machine",
            Self::Undelivered => "see GET /v1/undelivered; tell these users by other means",
            Self::BreakerOpen(_) => "look at the errors of this agent's newest runs",
        }
    }

    /// Which it is.
    pub(crate) fn describe(&self) -> Object {
        let object = Object::new().str("alert", self.as_str());
        object.maybe_str("agent", self.agent().map(Agent::as_str))
    }

    fn key(&self) -> RowKey {
        let name = match self.agent() {
            Some(agent) => format!("{}/{agent}", self.as_str()),
            None => self.as_str().to_owned(),
        };
        RowKey { table: Table::Alert, owner: "".into(), name: name.into() }
    }

    /// The one that a row remembers.
    fn from_name(name: &str) -> Option<Self> {
        let agent = name.strip_prefix("breaker_open/").and_then(Agent::parse);
        agent.map(Self::BreakerOpen).or_else(|| Self::of_all().iter().find(|it| it.as_str() == name).cloned())
    }
}

/// What was told, and what is remembered for a moment.
#[derive(Debug, Default)]
pub(crate) struct Alerts {
    told: BTreeSet<Alert>,
    /// Agents of whose breakers there may be something to tell.
    stirred: BTreeSet<Agent>,
    slow_until: Mono,
    late_until: Mono,
}

impl Alerts {
    /// What was told and is not over.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Alert> {
        self.told.iter()
    }

    /// Something has become of an agent's breaker.
    pub(crate) fn stir(&mut self, agent: &Agent) {
        self.stirred.insert(agent.clone());
    }
}

impl Core {
    /// Takes in what was told before.
    pub(crate) fn recover_alerts(&mut self, image: &Image) {
        let rows = image.rows.iter().filter(|(key, _)| key.table == Table::Alert);
        self.alerts.told = rows.filter_map(|(key, _)| Alert::from_name(&key.name)).collect();
        let told = self.alerts.told.iter().filter_map(Alert::agent);
        self.alerts.stirred = told.chain(self.agents.keys()).cloned().collect();
    }

    /// The oldest append that has become durable was on its way for so long.
    pub(crate) fn watch_commit(&mut self, waited: Span) {
        if waited >= SLOW_COMMIT {
            self.alerts.slow_until = self.now.mono + MOMENT;
            self.deadlines.set(Timer::Alerts, self.alerts.slow_until);
        }
    }

    /// The next timer is late, if it is.
    pub(crate) fn watch_lateness(&mut self) {
        let due = self.deadlines.first().map_or(self.now.mono, |(at, _)| at);
        let late = self.now.mono.since(due);
        self.watch_lag(late);
        if late >= LATE_LOOP {
            self.alerts.late_until = self.now.mono + MOMENT;
            self.deadlines.set(Timer::Alerts, self.alerts.late_until);
        }
    }

    /// Tells the topic what has begun and what is over.
    pub(crate) fn tell_alerts(&mut self) {
        if self.durable.is_full() {
            // What cannot be stored is not told; it is compared again when it can.
            return;
        }
        for alert in Alert::of_all() {
            self.watch_alert(alert);
        }
        while let Some(agent) = self.alerts.stirred.pop_first() {
            self.watch_alert(&Alert::BreakerOpen(agent));
        }
        let (now, ends) = (self.now.mono, [self.alerts.slow_until, self.alerts.late_until]);
        if let Some(next) = ends.into_iter().filter(|end| *end > now).min() {
            self.deadlines.set_if_unset(Timer::Alerts, next);
        }
    }

    /// One that was told, in words too if it is so still: while the store takes nothing it may be over and
    /// not told to be.
    pub(crate) fn describe_alert(&self, alert: &Alert) -> Object {
        let words = self.is_so(alert, true).then(|| self.words(alert));
        alert.describe().maybe_str("message", words.as_deref()).str("hint", alert.hint())
    }

    /// Asked after each input, and nearly always answered with no.
    #[inline]
    fn watch_alert(&mut self, alert: &Alert) {
        let was_so = self.alerts.told.contains(alert);
        if self.is_so(alert, was_so) != was_so {
            self.tell_alert(alert, was_so);
        }
    }

    /// Tells that an alert is over, or that it has begun.
    #[cold]
    fn tell_alert(&mut self, alert: &Alert, was_so: bool) {
        if !was_so {
            self.durable.record(Record::Put { key: alert.key(), value: Bytes::from_static(b"{}") });
            self.write_to_topic(&alerts(), "alert_raised", &self.describe_alert(alert).finish());
            self.seen.mark(Sometimes::Alerted);
            self.alerts.told.insert(alert.clone());
        } else if !self.planted.is(Bug::AlertStays) {
            self.durable.record(Record::Delete { key: alert.key() });
            self.write_to_topic(&alerts(), "alert_cleared", &alert.describe().finish());
            self.alerts.told.remove(alert);
        }
    }

    /// How much there is of what an alert is about, and how much there may be.
    #[inline]
    fn measure(&self, alert: &Alert) -> (u64, u64) {
        match alert {
            Alert::QueueHigh => (self.queue.waiting as u64, self.config.runs.queued as u64),
            Alert::ConnectionsHigh => (self.conns.len() as u64, self.config.server.connections as u64),
            Alert::MemoryHigh => (self.pressure.used >> 20, self.config.store.memory >> 20),
            Alert::Undelivered => (self.undelivered.listed() as u64, 0),
            Alert::CommitSlow | Alert::LoopLate | Alert::BreakerOpen(_) => (0, 0),
        }
    }

    /// Whether there is something to look at. `was_so` is whether there was. Asked after each input.
    #[inline]
    fn is_so(&self, alert: &Alert, was_so: bool) -> bool {
        let (now, limit) = self.measure(alert);
        match alert {
            Alert::QueueHigh | Alert::ConnectionsHigh | Alert::MemoryHigh => {
                now > 0 && now * 100 >= limit * WATERMARKS[usize::from(was_so)]
            }
            Alert::Undelivered => now > 0,
            Alert::CommitSlow => self.now.mono < self.alerts.slow_until,
            Alert::LoopLate => self.now.mono < self.alerts.late_until,
            Alert::BreakerOpen(agent) => self
                .agents
                .get(agent)
                .is_some_and(|state| !matches!(state.breaker(self.now.mono), Breaker::Closed { .. })),
        }
    }

    /// What there is to look at, in words.
    fn words(&self, alert: &Alert) -> String {
        let (now, limit) = self.measure(alert);
        match alert {
            Alert::QueueHigh => format!("{now} of {limit} runs are queued"),
            Alert::ConnectionsHigh => format!("{now} of {limit} connections are open"),
            Alert::MemoryHigh => format!("{now} of {limit} MiB of memory are in use"),
            Alert::CommitSlow => "a commit took a second or more".to_owned(),
            Alert::LoopLate => "a timer was half a second late or more".to_owned(),
            Alert::Undelivered => format!("runs that have ended and nobody has heard: {now}"),
            Alert::BreakerOpen(agent) => format!("the breaker of `{agent}` is open"),
        }
    }
}

/// The topic.
fn alerts() -> Topic {
    Topic::parse(crate::topics::ALERTS).expect("it is a name")
}
