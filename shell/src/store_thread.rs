//! The storage thread: production's [`Storage`].
//!
//! One thread owns the [`Store`]. The loop never waits for it: appends and questions go in by one channel,
//! what is done comes back by another, and `wake` is called so that the loop looks. All appends that are
//! waiting when a commit begins become that one commit, so a slow disk makes commits larger, not later. With
//! nothing else to do, it folds.

use super::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use super::sync::thread::{self, JoinHandle};
use crate::disk::Disk;
use crate::metrics::StoreMeter;
use crate::storage::{Completion, Storage};
use crate::store::{CommitError, FOLD_ROWS, OpenError, Repair, Store, codec};
use runcast_core::ids::{AppendId, BackupName, LoadId};
use runcast_core::record::{Image, Query, Record};
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Appends waiting are joined into one commit up to so many bytes, or one turn's.
const JOINED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// So many questions are answered before appends that came meanwhile are looked for.
const LOADS_BETWEEN_COMMITS: usize = 16;

/// Commits begin so long after each other, at least: what comes meanwhile shares the next one, which costs
/// less than two. What comes after a pause is committed at once.
const COMMIT_EVERY: Duration = Duration::from_millis(2);

type Append = (AppendId, Arc<[Record]>);

/// What the loop asks of the thread. The channel has no limit of its own: the core limits what it has under
/// way.
#[derive(Debug)]
enum Request {
    Commit(Vec<Append>),
    Load(LoadId, Query),
    BackUp(PathBuf),
}

/// The store on its own thread. Dropping it finishes what was submitted, closes the store and ends the
/// thread.
#[derive(Debug)]
pub struct StoreThread {
    /// The appends of this turn.
    turn: Vec<Append>,
    /// None only while being dropped.
    requests: Option<Sender<Request>>,
    completions: Receiver<Completion>,
    /// Where backups are written.
    backups: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl StoreThread {
    /// Opens the store, waits until it has recovered, and starts the thread, which measures by `meter`.
    /// `wake` is called on that thread after completions were given.
    ///
    /// # Errors
    /// As [`Store::open`], and [`OpenError::Io`] if no thread can be had.
    pub fn open(
        disk: impl Disk,
        repair: Repair,
        backups: PathBuf,
        meter: StoreMeter,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Self, Image), OpenError> {
        let (store, image) = Store::open(disk, repair)?;
        let (requests, inbox) = mpsc::channel();
        let (outbox, completions) = mpsc::channel();
        let worker = Worker::new(store, inbox, outbox, meter, wake);
        let thread = thread::Builder::new().name("store".into()).spawn(move || worker.run())?;
        let turn = Vec::new();
        Ok((Self { turn, requests: Some(requests), completions, backups, thread: Some(thread) }, image))
    }

    /// After a failure the thread is gone and has said so: nothing is left to be told.
    fn send(&self, request: Request) {
        if let Some(requests) = &self.requests {
            requests.send(request).unwrap_or_default();
        }
    }
}

impl Storage for StoreThread {
    fn append(&mut self, id: AppendId, records: Arc<[Record]>) {
        self.turn.push((id, records));
    }

    fn load(&mut self, load: LoadId, query: Query) {
        self.send(Request::Load(load, query));
    }

    fn back_up(&mut self, name: &BackupName) {
        self.send(Request::BackUp(self.backups.join(name.as_str())));
    }

    fn submit(&mut self) {
        if !self.turn.is_empty() {
            let turn = std::mem::take(&mut self.turn);
            self.send(Request::Commit(turn));
        }
    }

    /// # Panics
    /// With the thread's own panic, if it had one: a broken invariant must not be survived by half of the
    /// process.
    fn completed(&mut self) -> Option<Completion> {
        match self.completions.try_recv() {
            Ok(completion) => Some(completion),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
                    std::panic::resume_unwind(panic);
                }
                None
            }
        }
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.submit();
        self.requests = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// The thread's own side.
struct Worker<W> {
    store: Store,
    inbox: Receiver<Request>,
    outbox: Sender<Completion>,
    wake: Arc<W>,
    meter: StoreMeter,
    /// Appends that wait for the next commit.
    appends: VecDeque<Append>,
    /// When the last commit began.
    began: Option<Instant>,
    loads: VecDeque<(LoadId, Query)>,
    /// After a full disk everything is dropped until this append is given again.
    dropped_from: Option<AppendId>,
    /// No folding after a full disk until a commit has found room.
    may_fold: bool,
    /// The loop is gone; what was submitted is finished.
    closing: bool,
}

impl<W> fmt::Debug for Worker<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("store", &self.store).finish_non_exhaustive()
    }
}

/// The thread ends here; the loop has been told why.
struct Failed;

impl<W: Fn() + Send + Sync + 'static> Worker<W> {
    fn new(
        store: Store,
        inbox: Receiver<Request>,
        outbox: Sender<Completion>,
        meter: StoreMeter,
        wake: W,
    ) -> Self {
        let (appends, loads) = (VecDeque::new(), VecDeque::new());
        Self {
            store,
            inbox,
            outbox,
            wake: Arc::new(wake),
            meter,
            appends,
            began: None,
            loads,
            dropped_from: None,
            may_fold: true,
            closing: false,
        }
    }

    fn run(mut self) {
        loop {
            self.receive();
            let done = self.commit().and_then(|()| self.answer()).and_then(|()| self.fold());
            if done.is_err() || (self.closing && self.is_idle()) {
                break;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.appends.is_empty() && self.loads.is_empty()
    }

    fn folds(&self) -> bool {
        self.may_fold && !self.closing && self.store.is_fold_due()
    }

    /// Takes in all requests there are; waits for one if there is nothing else to do, and for more where a
    /// commit has just begun.
    fn receive(&mut self) {
        if self.is_idle() && !self.folds() && !self.closing {
            match self.inbox.recv() {
                Ok(request) => self.take(request),
                Err(mpsc::RecvError) => self.closing = true,
            }
        }
        self.wait_for_more();
        loop {
            match self.inbox.try_recv() {
                Ok(request) => self.take(request),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.closing = true;
                    break;
                }
            }
        }
    }

    /// A commit has just begun and ended: appends wait until the next is due, unless a question waits, too.
    fn wait_for_more(&self) {
        if !self.appends.is_empty()
            && self.loads.is_empty()
            && !self.closing
            && let Some(began) = self.began
        {
            thread::sleep(COMMIT_EVERY.saturating_sub(began.elapsed()));
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Commit(appends) => {
                for append in appends {
                    if self.dropped_from == Some(append.0) {
                        self.dropped_from = None;
                    }
                    if self.dropped_from.is_none() {
                        self.appends.push_back(append);
                    }
                }
            }
            Request::Load(load, query) => self.loads.push_back((load, query)),
            Request::BackUp(file) => self.back_up(file),
        }
    }

    /// Holds fast what is durable now, and has another thread write it: commits do not wait for that.
    fn back_up(&self, file: PathBuf) {
        let (outbox, wake) = (self.outbox.clone(), self.wake.clone());
        let snapshot = self.store.snapshot();
        let write = move || {
            let directory = file.parent().map_or(Ok(()), std::fs::create_dir_all);
            let written = directory.map_err(|error| error.to_string());
            let written = written.and_then(|()| snapshot.map_err(|error| error.to_string()));
            let written = written.and_then(|it| it.write(&file).map_err(|error| error.to_string()));
            // A loop that is gone needs no answer.
            outbox.send(Completion::BackedUp(written)).unwrap_or_default();
            wake();
        };
        if let Err(error) = thread::Builder::new().name("backup".into()).spawn(write) {
            self.tell([Completion::BackedUp(Err(error.to_string()))]);
        }
    }

    /// Makes one commit of the appends that wait.
    fn commit(&mut self) -> Result<(), Failed> {
        let joined = self.join();
        let (Some(first), Some(last)) = (joined.first(), joined.last()) else { return Ok(()) };
        let began = *self.began.insert(Instant::now());
        match self.store.commit(&joined) {
            Ok(()) => {
                let records = joined.iter().map(|append| append.1.len()).sum();
                self.meter.committed(records, began.elapsed().as_secs_f64());
                self.meter.journal(self.store.journal_rows());
                self.may_fold = true;
                self.tell([Completion::Appended(last.0)]);
                Ok(())
            }
            Err(CommitError::Full) => {
                self.dropped_from = Some(first.0);
                self.may_fold = false;
                self.appends.clear();
                self.tell([Completion::Full(first.0)]);
                Ok(())
            }
            Err(CommitError::Io(text)) => self.fail(text),
        }
    }

    /// The appends of the next commit.
    fn join(&mut self) -> Vec<Append> {
        let mut bytes = 0;
        let mut count = 0;
        for append in &self.appends {
            bytes += append.1.iter().map(codec::record_bytes).sum::<usize>();
            if count > 0 && bytes > JOINED_BYTES_MAX {
                break;
            }
            count += 1;
        }
        self.appends.drain(..count).collect()
    }

    /// Answers some of the questions that wait.
    fn answer(&mut self) -> Result<(), Failed> {
        let count = self.loads.len().min(LOADS_BETWEEN_COMMITS);
        let mut answers = Vec::with_capacity(count);
        for (load, query) in self.loads.drain(..count) {
            match self.store.load(&query) {
                Ok(found) => answers.push(Completion::Loaded(load, found)),
                Err(error) => {
                    answers.push(Completion::Failed(error.to_string()));
                    break;
                }
            }
        }
        let failed = matches!(answers.last(), Some(Completion::Failed(_)));
        if !answers.is_empty() {
            self.tell(answers);
        }
        if failed { Err(Failed) } else { Ok(()) }
    }

    fn fold(&mut self) -> Result<(), Failed> {
        if !self.is_idle() || !self.folds() {
            return Ok(());
        }
        let began = Instant::now();
        match self.store.fold(FOLD_ROWS) {
            Ok(_) => {
                self.meter.folded(began.elapsed().as_secs_f64());
                self.meter.journal(self.store.journal_rows());
                Ok(())
            }
            Err(CommitError::Full) => {
                self.may_fold = false;
                Ok(())
            }
            Err(CommitError::Io(text)) => self.fail(text),
        }
    }

    fn fail(&self, text: String) -> Result<(), Failed> {
        self.tell([Completion::Failed(text)]);
        Err(Failed)
    }

    /// A loop that is gone needs no completions.
    fn tell(&self, completions: impl IntoIterator<Item = Completion>) {
        for completion in completions {
            self.outbox.send(completion).unwrap_or_default();
        }
        (self.wake)();
    }
}
