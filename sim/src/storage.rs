//! The real store, on a simulated disk, at the pace of virtual time: what the storage thread is to
//! production.
//!
//! One job at a time, as there: all appends that wait become one commit, then questions are answered. The
//! journal is folded beside that. Commits and folds take effect at the beginning or at the end of their time,
//! by chance, so that a crash falls before, after, or (with the power) into the middle of it.

use crate::dice::Dice;
use crate::faults::Moment;
use crate::schedule::{Event, MS, Micros, Schedule};
use runcast::storage::{Completion, Storage};
use runcast::store::{CommitError, Fold, Folded, ReadError, Store};
use runcast_core::ids::{AppendId, BackupName, LoadId};
use runcast_core::input::NoBackup;
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
}

/// What the other thread is doing, if there is one.
#[derive(Debug)]
enum Folding {
    Begun(Fold),
    /// It took effect at the beginning.
    Run(Folded),
}

impl Folding {
    fn run(self) -> Folded {
        match self {
            Self::Begun(fold) => fold.run(),
            Self::Run(folded) => folded,
        }
    }
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
    folding: Option<(Micros, Folding)>,
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
            folding: None,
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
        match moment {
            Moment::Commit => matches!(self.running, Some((_, Job::Commit(..)))),
            Moment::Fold => self.folding.is_some(),
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
        // The process ends with its disk: nobody is told.
        if self.dice.chance(1, 2) {
            self.rush_fold();
        }
        if let Some((_, Job::Commit(appends, result @ None))) = &mut self.running
            && (self.folding.is_none() || self.store.has_room(appends))
        {
            *result = Some(self.store.commit(appends));
        }
        self.rush_fold();
    }

    fn rush_fold(&mut self) {
        self.folding = self.folding.take().map(|(at, folding)| (at, Folding::Run(folding.run())));
    }

    /// The disk is as fast as it should be again, and what is under way does not take longer than that.
    pub fn hasten(&mut self) {
        let soon = self.schedule.now() + self.dice.exponential(self.pace.0.get());
        let times = [self.running.as_mut().map(|it| &mut it.0), self.folding.as_mut().map(|it| &mut it.0)];
        for at in times.into_iter().flatten() {
            *at = (*at).min(soon);
            self.schedule.at(*at, Event::Stored);
        }
    }

    /// The time of a job may have come. Tells whether one was finished.
    pub fn finish(&mut self) -> bool {
        let is_due = |at: Micros| at <= self.schedule.now();
        let (job, fold) =
            (self.running.take_if(|(at, _)| is_due(*at)), self.folding.take_if(|(at, _)| is_due(*at)));
        let is_one = job.is_some() || fold.is_some();
        if let Some((_, folding)) = fold {
            self.end_fold(folding);
        }
        match job {
            Some((_, Job::Commit(appends, early))) => {
                let result = early.unwrap_or_else(|| self.commit(&appends));
                self.committed(&appends, result);
            }
            Some((_, Job::Loads)) => self.answer(),
            None => {}
        }
        if is_one {
            self.begin();
        }
        is_one
    }

    /// A commit that finds no room, or that a failed fold holds up, waits for the fold under way.
    fn commit(&mut self, appends: &[Append]) -> Result<(), CommitError> {
        if !self.store.has_room(appends) {
            self.until_folded();
        }
        match self.store.commit(appends) {
            Err(CommitError::HeldUp) => {
                self.until_folded();
                self.store.commit(appends)
            }
            done => done,
        }
    }

    fn until_folded(&mut self) {
        if let Some((_, folding)) = self.folding.take() {
            self.end_fold(folding);
        }
    }

    fn end_fold(&mut self, folding: Folding) {
        match self.store.end_fold(folding.run()) {
            Ok(()) | Err(CommitError::Full | CommitError::HeldUp | CommitError::Unreadable(_)) => {}
            Err(CommitError::Io(why)) => self.fail(why),
        }
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
            Err(CommitError::HeldUp) => unreachable!("what is held up is committed again"),
            Err(CommitError::Unreadable(why) | CommitError::Io(why)) => self.fail(why),
        }
    }

    fn answer(&mut self) {
        for _ in 0..LOADS_BETWEEN_COMMITS {
            let Some((id, query)) = self.loads.pop_front() else { return };
            match self.store.load(&query) {
                Ok(found) => self.done.push_back(Completion::Loaded(id, found)),
                Err(ReadError::HeldUp) => {
                    self.loads.push_front((id, query));
                    self.until_folded();
                }
                Err(error @ ReadError::Io(_)) => return self.fail(error.to_string()),
            }
        }
    }

    fn fail(&mut self, why: String) {
        if std::mem::replace(&mut self.is_broken, true) {
            return;
        }
        self.done.push_back(Completion::Failed(why));
    }

    /// Begins the next job, and to fold, as far as none is under way.
    fn begin(&mut self) {
        if self.running.is_none() && !self.is_broken {
            self.begin_job();
        }
        if self.folding.is_none() && !self.is_broken && (self.store.is_fold_due() || self.is_quiet()) {
            self.begin_fold();
        }
    }

    /// Nothing is asked for: then production folds after a while, and this now and then.
    fn is_quiet(&mut self) -> bool {
        self.running.is_none() && self.store.unfolded_commits() > 0 && self.dice.chance(1, 50)
    }

    fn begin_job(&mut self) {
        let mean = self.pace.0.get();
        let (time, job) = if !self.waiting.is_empty() {
            let count = if self.splits { self.dice.between(1, self.waiting.len() as u64) } else { u64::MAX };
            let rest = self.waiting.split_off(self.waiting.len().min(count as usize));
            let appends = std::mem::replace(&mut self.waiting, rest);
            let early = self.dice.chance(1, 2).then(|| self.commit(&appends));
            (mean / 4 + self.dice.exponential(mean), Job::Commit(appends, early))
        } else if !self.loads.is_empty() {
            (self.dice.between(30, 400), Job::Loads)
        } else {
            return;
        };
        let at = self.schedule.now() + time;
        self.running = Some((at, job));
        self.schedule.at(at, Event::Stored);
    }

    fn begin_fold(&mut self) {
        let fold = match self.store.begin_fold() {
            Ok(Some(fold)) => Folding::Begun(fold),
            Ok(None) | Err(CommitError::Full | CommitError::HeldUp) => return,
            Err(CommitError::Unreadable(why) | CommitError::Io(why)) => return self.fail(why),
        };
        let folding = if self.dice.chance(1, 2) { Folding::Run(fold.run()) } else { fold };
        let time = self.dice.between(500, 5_000) + self.dice.exponential(self.pace.0.get());
        let at = self.schedule.now() + time;
        self.folding = Some((at, folding));
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
        self.done
            .push_back(Completion::BackedUp(Err(NoBackup::Failed("this world has one disk".to_owned()))));
    }

    fn submit(&mut self) {
        self.waiting.append(&mut self.turn);
        self.begin();
    }

    fn completed(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }
}
