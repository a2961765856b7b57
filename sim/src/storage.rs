//! The real store, on a simulated disk, at the pace of virtual time: what the storage thread is to
//! production.
//!
//! One job at a time, as there: all appends that wait become one commit, then questions are answered, then
//! the journal is folded. A commit takes effect at the beginning or at the end of its time, by chance, so
//! that a crash falls before, after, or (with the power) into the middle of it.

use crate::dice::Dice;
use crate::faults::Moment;
use crate::schedule::{Event, MS, Micros, Schedule};
use runcast::storage::{Completion, Storage};
use runcast::store::{CommitError, FOLD_ROWS, Store};
use runcast_core::ids::{AppendId, BackupName, LoadId};
use runcast_core::record::{Query, Record};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

type Append = (AppendId, Arc<[Record]>);

/// Questions that are answered before appends are looked for again.
const LOADS_BETWEEN_COMMITS: usize = 16;

/// How long the disk takes; shared with the faults.
#[derive(Clone, Debug)]
pub struct Pace(Rc<Cell<Micros>>);

impl Pace {
    /// A healthy disk.
    pub fn healthy() -> Self {
        Self(Rc::new(Cell::new(MS)))
    }

    /// The mean time of a sync from now on.
    pub fn set(&self, mean: Micros) {
        self.0.set(mean);
    }
}

/// What the one thread is doing.
#[derive(Debug)]
enum Job {
    /// With the result, if it took effect at the beginning.
    Commit(Vec<Append>, Option<Result<(), CommitError>>),
    Loads,
    Fold,
}

/// The store behind the pump.
#[derive(Debug)]
pub struct SimStorage {
    store: Store,
    schedule: Schedule,
    dice: Dice,
    pace: Pace,
    turn: Vec<Append>,
    waiting: Vec<Append>,
    loads: VecDeque<(LoadId, Query)>,
    running: Option<(Micros, Job)>,
    done: VecDeque<Completion>,
    dropped_from: Option<AppendId>,
    /// The store has failed: nothing more is tried.
    is_broken: bool,
    /// Given and not known to be durable.
    pending: VecDeque<Append>,
    submitted: Vec<Arc<[Record]>>,
    acknowledged: Vec<Arc<[Record]>>,
    commits: u64,
    /// Whether what waits is committed in pieces.
    splits: bool,
}

impl SimStorage {
    /// Takes a store that was just opened.
    pub fn new(store: Store, schedule: Schedule, dice: Dice, pace: Pace) -> Self {
        Self {
            store,
            schedule,
            dice,
            pace,
            turn: Vec::new(),
            waiting: Vec::new(),
            loads: VecDeque::new(),
            running: None,
            done: VecDeque::new(),
            dropped_from: None,
            is_broken: false,
            pending: VecDeque::new(),
            submitted: Vec::new(),
            acknowledged: Vec::new(),
            commits: 0,
            splits: false,
        }
    }

    /// Commits what waits in pieces of any size: the daemon must not mind.
    pub fn split(&mut self) {
        self.splits = true;
    }

    /// Records given since the last call.
    pub fn take_submitted(&mut self) -> Vec<Arc<[Record]>> {
        std::mem::take(&mut self.submitted)
    }

    /// Records that have become durable since the last call, in order.
    pub fn take_acknowledged(&mut self) -> Vec<Arc<[Record]>> {
        std::mem::take(&mut self.acknowledged)
    }

    /// Records given of which nothing is known, in order: what a crash may or may not keep.
    pub fn take_pending(&mut self) -> Vec<Arc<[Record]>> {
        self.pending.drain(..).map(|(_, records)| records).collect()
    }

    /// Whether it takes nothing before what it dropped is given again.
    pub fn is_full(&self) -> bool {
        self.dropped_from.is_some()
    }

    /// Whether it was given what it has not acknowledged.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether it is in the middle of this.
    pub fn is_at(&self, moment: Moment) -> bool {
        match &self.running {
            Some((_, Job::Commit(..))) => moment == Moment::Commit,
            Some((_, Job::Fold)) => moment == Moment::Fold,
            Some((_, Job::Loads)) | None => false,
        }
    }

    /// Whether it does what it is given without delay.
    pub fn is_well(&self) -> bool {
        let soon = self.schedule.now() + 100 * MS;
        !self.is_full() && self.running.as_ref().is_none_or(|(at, _)| *at <= soon)
    }

    /// How many commits there were.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// What is under way reaches the disk now, if it has not: as far as that has power.
    pub fn rush(&mut self) {
        match &mut self.running {
            Some((_, Job::Commit(appends, result @ None))) => *result = Some(self.store.commit(appends)),
            // The process ends with its disk: nobody is told.
            Some((_, Job::Fold)) => drop(self.store.fold(FOLD_ROWS)),
            Some((_, Job::Commit(..) | Job::Loads)) | None => {}
        }
    }

    /// The disk is as fast as it should be again, and what is under way does not take longer than that.
    pub fn hasten(&mut self) {
        if let Some((at, _)) = &mut self.running {
            *at = (*at).min(self.schedule.now() + self.dice.exponential(self.pace.0.get()));
            self.schedule.at(*at, Event::Stored);
        }
    }

    /// The time of a job may have come. Tells whether one was finished.
    pub fn finish(&mut self) -> bool {
        let due = self.running.as_ref().is_some_and(|(at, _)| *at <= self.schedule.now());
        if !due {
            return false;
        }
        match self.running.take() {
            Some((_, Job::Commit(appends, early))) => {
                let result = early.unwrap_or_else(|| self.store.commit(&appends));
                self.committed(&appends, result);
            }
            Some((_, Job::Loads)) => self.answer(),
            Some((_, Job::Fold)) => match self.store.fold(FOLD_ROWS) {
                Ok(_) | Err(CommitError::Full) => {}
                Err(CommitError::Io(why)) => self.fail(why),
            },
            None => {}
        }
        self.begin();
        true
    }

    fn committed(&mut self, appends: &[Append], result: Result<(), CommitError>) {
        self.commits += 1;
        let (Some(first), Some(last)) = (appends.first(), appends.last()) else { return };
        match result {
            Ok(()) => {
                while self.pending.front().is_some_and(|(id, _)| *id <= last.0) {
                    self.acknowledged.extend(self.pending.pop_front().map(|(_, records)| records));
                }
                self.done.push_back(Completion::Appended(last.0));
            }
            Err(CommitError::Full) => {
                self.pending.retain(|(id, _)| *id < first.0);
                self.waiting.clear();
                self.dropped_from = Some(first.0);
                self.done.push_back(Completion::Full(first.0));
            }
            Err(CommitError::Io(why)) => self.fail(why),
        }
    }

    fn answer(&mut self) {
        for _ in 0..LOADS_BETWEEN_COMMITS {
            let Some((id, query)) = self.loads.pop_front() else { return };
            self.done.push_back(match self.store.load(&query) {
                Ok(found) => Completion::Loaded(id, found),
                Err(error) => return self.fail(error.to_string()),
            });
        }
    }

    fn fail(&mut self, why: String) {
        self.is_broken = true;
        self.done.push_back(Completion::Failed(why));
    }

    /// Begins the next job, if none is under way.
    fn begin(&mut self) {
        if self.running.is_some() || self.is_broken {
            return;
        }
        let mean = self.pace.0.get();
        let (time, job) = if !self.waiting.is_empty() {
            let count = if self.splits { self.dice.between(1, self.waiting.len() as u64) } else { u64::MAX };
            let rest = self.waiting.split_off(self.waiting.len().min(count as usize));
            let appends = std::mem::replace(&mut self.waiting, rest);
            let early = self.dice.chance(1, 2).then(|| self.store.commit(&appends));
            (mean / 4 + self.dice.exponential(mean), Job::Commit(appends, early))
        } else if !self.loads.is_empty() {
            (self.dice.between(30, 400), Job::Loads)
        } else if self.dropped_from.is_none() && self.store.is_fold_due() {
            (self.dice.between(500, 5_000), Job::Fold)
        } else {
            return;
        };
        let at = self.schedule.now() + time;
        self.running = Some((at, job));
        self.schedule.at(at, Event::Stored);
    }

    /// After a full disk everything is dropped until what was dropped first is given again.
    fn takes(&mut self, id: AppendId) -> bool {
        if self.dropped_from.is_some_and(|from| from != id) {
            return false;
        }
        self.dropped_from = None;
        true
    }
}

impl Storage for SimStorage {
    fn append(&mut self, id: AppendId, records: Arc<[Record]>) {
        if self.takes(id) {
            self.submitted.push(records.clone());
            self.pending.push_back((id, records.clone()));
            self.turn.push((id, records));
        }
    }

    fn load(&mut self, load: LoadId, query: Query) {
        self.loads.push_back((load, query));
        self.begin();
    }

    fn back_up(&mut self, _: &BackupName) {
        self.done.push_back(Completion::BackedUp(Err("this world has one disk".to_owned())));
    }

    fn submit(&mut self) {
        self.waiting.append(&mut self.turn);
        self.begin();
    }

    fn completed(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }
}
