//! Runs whose end has reached nobody (PROTOCOL §4 "Undelivered", §7): watched from their end on, listed when
//! no device has acknowledged it in time, told to the webhook, and cleared by an acknowledgement.
//!
//! What is watched is stored with the end and found again at a start. When to call is decided here, how is
//! the shell's business; whether it worked comes back as an input.

use crate::Core;
use crate::context::{RunOf, device_key};
use crate::deadlines::Timer;
use crate::durable::{RETRY, Reveal};
use crate::effect::{Content, Effect, Effects, Response};
use crate::ids::{Agent, ConnId, Device, RunId, Thread, User};
use crate::note::Note;
use crate::planted::Bug;
use crate::record::{Image, Record, RowKey, Table};
use crate::run::{Phase, Spec};
use crate::sometimes::Sometimes;
use crate::time::{Mono, Span, WallMs};
use crate::wire::json::Object;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Calls under way at once.
const CALLS_AT_ONCE: usize = 4;
/// A call that failed is made again so many times,
const CALL_RETRIES: u32 = 6;
/// after this time, three times as long each time (± 20 %).
const CALL_AGAIN: Span = Span::secs(2);
/// Runs that are listed when nobody says otherwise, and at most.
pub(crate) const LISTED: usize = 100;
pub(crate) const LISTED_MAX: usize = 1_000;

/// All runs whose end nobody has acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Undelivered {
    of: BTreeMap<User, BTreeMap<RunId, Entry>>,
    /// By the time of their end, wall clock.
    by_age: BTreeSet<(u64, RunId, User)>,
    /// What is to be done, and when.
    due: BTreeSet<(Mono, RunId, User)>,
    /// Calls that wait for others to be over.
    ready: VecDeque<(User, RunId)>,
    /// Calls under way.
    calls: BTreeMap<RunId, User>,
    /// How many are listed.
    listed: usize,
}

#[derive(Debug)]
struct Entry {
    row: Row,
    due: Option<Mono>,
}

/// Its stored form.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    user: User,
    thread: Thread,
    agent: Agent,
    status: String,
    last_seq: u64,
    ended_ms: u64,
    /// Whether its time was up.
    is_listed: bool,
    /// Calls that were made.
    calls: u32,
    /// Whether one of them was taken.
    is_told: bool,
}

impl Row {
    /// Whether the webhook is still to be called.
    const fn wants_call(&self) -> bool {
        self.is_listed && !self.is_told && self.calls <= CALL_RETRIES
    }

    fn record(&self, run: &RunId) -> Record {
        Record::Put { key: key(run), value: crate::record::row(self) }
    }
}

fn key(run: &RunId) -> RowKey {
    RowKey { table: Table::Undelivered, owner: "".into(), name: run.text() }
}

impl Undelivered {
    /// How many are watched or listed.
    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }

    /// How many are listed.
    pub(crate) const fn listed(&self) -> usize {
        self.listed
    }

    /// How many are listed of one user.
    pub(crate) fn listed_of(&self, user: &User) -> usize {
        let runs = self.of.get(user).into_iter().flat_map(BTreeMap::values);
        runs.filter(|entry| entry.row.is_listed).count()
    }

    /// All of them: whose, which, and whether it is listed.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&User, &RunId, bool)> {
        let of = self.of.iter();
        of.flat_map(|(user, runs)| runs.iter().map(move |(run, entry)| (user, run, entry.row.is_listed)))
    }

    fn insert(&mut self, run: &RunId, row: Row, due: Option<Mono>) {
        self.by_age.insert((row.ended_ms, run.clone(), row.user.clone()));
        self.listed += usize::from(row.is_listed);
        if let Some(due) = due {
            self.due.insert((due, run.clone(), row.user.clone()));
        }
        self.of.entry(row.user.clone()).or_default().insert(run.clone(), Entry { row, due });
    }

    /// Takes one out. Whether it was there.
    fn remove(&mut self, user: &User, run: &RunId) -> bool {
        let Some(runs) = self.of.get_mut(user) else { return false };
        let Some(entry) = runs.remove(run) else { return false };
        if runs.is_empty() {
            self.of.remove(user);
        }
        self.by_age.remove(&(entry.row.ended_ms, run.clone(), user.clone()));
        self.listed -= usize::from(entry.row.is_listed);
        if let Some(due) = entry.due {
            self.due.remove(&(due, run.clone(), user.clone()));
        }
        true
    }

    fn set_due(&mut self, user: &User, run: &RunId, at: Option<Mono>) {
        let Some(entry) = self.of.get_mut(user).and_then(|runs| runs.get_mut(run)) else { return };
        if let Some(before) = core::mem::replace(&mut entry.due, at) {
            self.due.remove(&(before, run.clone(), user.clone()));
        }
        if let Some(at) = at {
            self.due.insert((at, run.clone(), user.clone()));
        }
    }

    fn get_mut(&mut self, user: &User, run: &RunId) -> Option<&mut Row> {
        Some(&mut self.of.get_mut(user)?.get_mut(run)?.row)
    }
}

impl Core {
    /// A run has ended: whether anybody acknowledges that is watched from now on.
    pub(crate) fn watch_delivery(&mut self, of: &RunOf, spec: &Spec, status: &str, last_seq: u64) {
        let row = Row {
            user: of.user.clone(),
            thread: spec.thread.clone(),
            agent: spec.agent.clone(),
            status: status.into(),
            last_seq,
            ended_ms: self.now.wall.0,
            is_listed: false,
            calls: 0,
            is_told: false,
        };
        self.durable.record(row.record(&of.run));
        let mut after = self.config.delivery.undelivered_after;
        if self.planted.is(Bug::ListedTooEarly) {
            after = after.ratio(3, 4);
        }
        let due = self.now.mono + after;
        self.undelivered.insert(&of.run, row, Some(due));
        while self.undelivered.len() > self.config.delivery.undelivered {
            // The oldest has been listed for longest.
            let Some((_, run, user)) = self.undelivered.by_age.first().cloned() else { break };
            self.forget_undelivered(&user, &run);
        }
        self.watch_undelivered();
    }

    /// What was watched before the start.
    pub(crate) fn recover_undelivered(&mut self, image: &Image) {
        for (key, row) in image.rows.iter().filter(|(key, _)| key.table == Table::Undelivered) {
            if self.planted.is(Bug::UndeliveredForgotten) {
                continue;
            }
            let run = RunId::parse(&key.name).expect("a stored run's id is one");
            let row: Row = serde_json::from_slice(row).expect("a stored row is what was stored");
            let age = self.now.wall.since(WallMs(row.ended_ms));
            let due = match row.is_listed {
                false => Some(self.now.mono + (self.config.delivery.undelivered_after - age)),
                true => row.wants_call().then(|| self.now.mono + CALL_AGAIN),
            };
            self.undelivered.insert(&run, row, due);
        }
        self.watch_undelivered();
    }

    /// A device has acknowledged: what it has got was delivered. It counts for what lies after the position
    /// with which it began.
    pub(crate) fn clear_delivered(&mut self, user: &User, device: &Device) {
        let Some(runs) = self.undelivered.of.get(user) else { return };
        let Some(position) = self.users.get(user).and_then(|context| context.devices.get(device)) else {
            return;
        };
        let first = if self.planted.is(Bug::NewcomerCounts) { 0 } else { position.first };
        let got = first + 1..=position.acked;
        let is_got = |(_, entry): &(&RunId, &Entry)| got.contains(&entry.row.last_seq);
        let delivered: Vec<RunId> = runs.iter().filter(is_got).map(|(run, _)| run.clone()).collect();
        if !delivered.is_empty() {
            // With it, that is: after a crash a run is either watched, or known to be delivered.
            let (key, value) = (device_key(user, device), crate::record::row(position));
            self.durable.record(Record::Put { key, value });
        }
        for run in delivered {
            self.forget_undelivered(user, &run);
        }
    }

    fn forget_undelivered(&mut self, user: &User, run: &RunId) {
        if self.undelivered.get_mut(user, run).is_some_and(|row| row.is_listed) {
            self.seen.mark(Sometimes::DeliveredLate);
        }
        if self.undelivered.remove(user, run) {
            self.durable.record(Record::Delete { key: key(run) });
        }
    }

    /// A user is erased, and all that was undelivered.
    pub(crate) fn forget_undelivered_of(&mut self, user: &User) {
        let runs = self.undelivered.of.get(user).into_iter().flatten();
        for run in runs.map(|(run, _)| run.clone()).collect::<Vec<_>>() {
            self.forget_undelivered(user, &run);
        }
    }

    /// What has been listed for as long as anything is kept is listed no more.
    pub(crate) fn purge_undelivered(&mut self) {
        while let Some((ended_ms, run, user)) = self.undelivered.by_age.first().cloned()
            && self.now.wall.since(WallMs(ended_ms)) >= self.config.store.keep
        {
            self.forget_undelivered(&user, &run);
        }
    }

    fn watch_undelivered(&mut self) {
        if let Some((at, _, _)) = self.undelivered.due.first() {
            self.deadlines.set(Timer::Undelivered, *at);
        }
    }

    /// Something is to be done about runs that were not delivered.
    pub(crate) fn on_undelivered(&mut self, out: &mut Effects) {
        while let Some((at, run, user)) = self.undelivered.due.first().cloned()
            && at <= self.now.mono
        {
            self.undelivered.set_due(&user, &run, None);
            self.list_or_call(&RunOf { user, run }, out);
        }
        self.watch_undelivered();
    }

    fn list_or_call(&mut self, of: &RunOf, out: &mut Effects) {
        let is_end_unsure = self.run_mut(of).is_some_and(|run| run.phase == Phase::Ended);
        if is_end_unsure || self.durable.is_full() || self.is_closing_all() {
            return self.undelivered.set_due(&of.user, &of.run, Some(self.now.mono + RETRY));
        }
        let Some(row) = self.undelivered.get_mut(&of.user, &of.run) else { return };
        if !core::mem::replace(&mut row.is_listed, true) {
            let record = row.record(&of.run);
            self.undelivered.listed += 1;
            self.counts.undelivered += 1;
            self.seen.mark(Sometimes::Listed);
            self.durable.record(record);
            self.note(Note::Undelivered { run: of.run.clone(), user: of.user.clone() });
        }
        self.undelivered.ready.push_back((of.user.clone(), of.run.clone()));
        self.call_some(out);
    }

    /// Calls the webhook, if there is one, for what waits for it.
    fn call_some(&mut self, out: &mut Effects) {
        if self.config.delivery.webhook.is_none() {
            return self.undelivered.ready.clear();
        }
        let is_wrong = self.planted.is(Bug::WrongEndTold);
        while self.undelivered.calls.len() < CALLS_AT_ONCE {
            let Some((user, run)) = self.undelivered.ready.pop_front() else { return };
            let Some(row) = self.undelivered.get_mut(&user, &run).filter(|row| row.wants_call()) else {
                continue;
            };
            let body = Object::message("undelivered")
                .str("user", user.as_str())
                .str("run", run.as_str())
                .str("thread", row.thread.as_str())
                .str("agent", row.agent.as_str())
                .str("status", &row.status)
                .raw("ended_ts", if is_wrong { self.now.wall.0 } else { row.ended_ms })
                .finish();
            out.push(Effect::Webhook { run: run.clone(), body });
            self.undelivered.calls.insert(run, user);
        }
        if !self.undelivered.ready.is_empty() {
            self.seen.mark(Sometimes::CallsWait);
        }
    }

    /// The webhook was called: whether it was taken.
    pub(crate) fn on_called(&mut self, run: &RunId, is_taken: bool, out: &mut Effects) {
        let user = self.undelivered.calls.remove(run).expect("what is answered was asked");
        let random = self.random();
        self.counts.called[usize::from(!is_taken)] += 1;
        if let Some(row) = self.undelivered.get_mut(&user, run) {
            row.calls += 1;
            row.is_told = is_taken;
            let (record, calls) = (row.record(run), row.calls);
            let is_wanted = row.wants_call() && !self.planted.is(Bug::FailedCallForgotten);
            let again = is_wanted.then(|| (1..calls).fold(CALL_AGAIN, |wait, _| wait.times(3)));
            let at = again.map(|wait| self.now.mono + wait.ratio(80 + random % 41, 100));
            self.undelivered.set_due(&user, run, at);
            self.durable.record(record);
            self.seen.mark(if is_taken { Sometimes::Called } else { Sometimes::CallFailed });
        }
        self.call_some(out);
        self.watch_undelivered();
    }

    /// `GET /v1/undelivered`.
    pub(crate) fn respond_undelivered(&mut self, conn: ConnId, limit: usize, out: &mut Effects) {
        if self.durable.is_full() {
            return self.respond_refusal(conn, &self.storage_unavailable(), out);
        }
        let newest = self.undelivered.by_age.iter().rev();
        let listed = newest.filter_map(|(_, run, user)| {
            let row = &self.undelivered.of.get(user)?.get(run)?.row;
            row.is_listed.then(|| self.describe_undelivered(run, row))
        });
        let list = Object::new()
            .list("undelivered", listed.take(limit))
            .raw("count", self.undelivered.listed)
            .finish();
        let response = Response::new(200, Content::Json(list));
        self.durable.reveal(Reveal::Respond { conn, response });
    }

    fn describe_undelivered(&self, run: &RunId, row: &Row) -> Object {
        let webhook = match (&self.config.delivery.webhook, row.is_told) {
            (_, true) => "told",
            (None, false) => "none",
            (Some(_), false) if row.wants_call() => "waiting",
            (Some(_), false) => "failed",
        };
        Object::new()
            .str("user", row.user.as_str())
            .str("run", run.as_str())
            .str("thread", row.thread.as_str())
            .str("agent", row.agent.as_str())
            .str("status", &row.status)
            .raw("ended_ts", row.ended_ms)
            .str("webhook", webhook)
            .raw("calls", row.calls)
    }
}
