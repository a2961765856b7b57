//! The storage thread: production's [`Storage`].
//!
//! One thread owns the [`Store`]. The loop never waits for it: appends and questions go in by one channel,
//! what is done comes back by another, and `wake` is called so that the loop looks. All appends that are
//! waiting when a commit begins become that one commit, so a slow disk makes commits larger, not later. A
//! thread of its own folds, from time to time, while commits go on, and when it is quiet.

use super::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use super::sync::thread::{self, JoinHandle};
use crate::disk::make_directory;
use crate::metrics::StoreMeter;
use crate::storage::{Completion, Storage};
use crate::store::{CommitError, Fold, Folded, ReadError, Store, codec};
use runcast_core::ids::{AppendId, BackupName, LoadId};
use runcast_core::input::NoBackup;
use runcast_core::record::{Query, Record};
use rustix::process::setpriority_process;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Appends waiting are joined into one commit up to so many bytes, or one turn's.
const JOINED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// So many questions are answered before appends that came meanwhile are looked for.
const LOADS_BETWEEN_COMMITS: usize = 16;

/// Commits begin so long after each other, at least: what comes meanwhile shares the next one, which costs
/// less than two, and wakes nobody. What comes after a pause is committed at once,
const COMMIT_EVERY: Duration = Duration::from_millis(1);
/// and so many bytes are worth a commit of their own.
const COMMIT_BYTES: usize = 64 * 1024;

/// When nothing was asked for so long, all there is is folded, however little: what was kept of it in memory
/// is free again, and the next start has less to read.
const QUIET: Duration = Duration::from_secs(5);

/// Folding takes what the loop and the commits leave of the processors.
const FOLD_NICENESS: i32 = 10;

type Append = (AppendId, Arc<[Record]>);
/// How much an append takes is counted once, by the thread that has just written it.
type Sized = (Append, usize);

/// What the loop asks of the thread. The channel has no limit of its own: the core limits what it has under
/// way.
#[derive(Debug)]
enum Request {
    Commit(Vec<Sized>),
    Load(LoadId, Query),
    BackUp(PathBuf),
    /// What has become of a fold.
    Folded(Folded),
    /// The loop is gone.
    Close,
}

/// The store on its own thread. Dropping it finishes what was submitted, closes the store and ends the
/// thread.
#[derive(Debug)]
pub struct StoreThread {
    /// The appends of this turn.
    turn: Vec<Sized>,
    requests: Sender<Request>,
    completions: Receiver<Completion>,
    /// Where backups are written.
    backups: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl StoreThread {
    /// Starts the thread over a store that was just opened; it measures by `meter`. `wake` is called on that
    /// thread after completions were given.
    ///
    /// # Errors
    /// If no thread can be had.
    pub fn start(
        store: Store,
        backups: PathBuf,
        meter: StoreMeter,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel();
        let (outbox, completions) = mpsc::channel();
        let (folds, due) = mpsc::channel();
        let folder = Folder { due, requests: requests.clone(), meter: meter.clone() };
        thread::Builder::new().name("fold".into()).spawn(move || folder.run())?;
        let worker = Worker::new(store, inbox, folds, outbox, meter, wake);
        let thread = thread::Builder::new().name("store".into()).spawn(move || worker.run())?;
        Ok(Self { turn: Vec::new(), requests, completions, backups, thread: Some(thread) })
    }

    /// After a failure the thread is gone and has said so: nothing is left to be told.
    fn send(&self, request: Request) {
        self.requests.send(request).unwrap_or_default();
    }

    /// The same, of what does not wait until the next commit is due.
    fn send_now(&self, request: Request) {
        self.send(request);
        self.thread.iter().for_each(|thread| thread.thread().unpark());
    }
}

impl Storage for StoreThread {
    fn append(&mut self, id: AppendId, records: Arc<[Record]>) {
        let bytes = records.iter().map(codec::record_bytes).sum();
        self.turn.push(((id, records), bytes));
    }

    fn load(&mut self, load: LoadId, query: Query) {
        self.send_now(Request::Load(load, query));
    }

    fn back_up(&mut self, name: &BackupName) {
        self.send(Request::BackUp(self.backups.join(name.as_str())));
    }

    fn submit(&mut self) {
        if !self.turn.is_empty() {
            let turn = std::mem::take(&mut self.turn);
            let is_worth_one = is_worth_a_commit(&turn);
            let request = Request::Commit(turn);
            if is_worth_one { self.send_now(request) } else { self.send(request) }
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
        self.send(Request::Close);
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
    folds: Sender<Fold>,
    outbox: Sender<Completion>,
    wake: Arc<W>,
    meter: StoreMeter,
    /// Appends that wait for the next commit.
    appends: VecDeque<Sized>,
    /// When the last commit began.
    began: Option<Instant>,
    loads: VecDeque<(LoadId, Query)>,
    backups: VecDeque<PathBuf>,
    is_folding: bool,
    /// The disk has lost what the last fold had to read.
    cannot_fold: bool,
    /// After a full disk everything is dropped until this append is given again.
    dropped_from: Option<AppendId>,
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
        folds: Sender<Fold>,
        outbox: Sender<Completion>,
        meter: StoreMeter,
        wake: W,
    ) -> Self {
        Self {
            store,
            inbox,
            folds,
            outbox,
            wake: Arc::new(wake),
            meter,
            appends: VecDeque::new(),
            began: None,
            loads: VecDeque::new(),
            backups: VecDeque::new(),
            is_folding: false,
            cannot_fold: false,
            dropped_from: None,
            closing: false,
        }
    }

    fn run(mut self) {
        loop {
            let done = self.receive().and_then(|()| self.commit()).and_then(|()| self.answer());
            let done = done.and_then(|()| self.back_up()).and_then(|()| self.fold_if_due());
            if done.is_err() || (self.closing && self.is_idle()) {
                break;
            }
        }
        self.await_fold();
    }

    /// Nothing waits that can be done now.
    fn is_idle(&self) -> bool {
        self.appends.is_empty() && self.loads.is_empty() && (self.backups.is_empty() || self.is_folding)
    }

    /// Takes in all requests there are; waits for one if there is nothing else to do.
    fn receive(&mut self) -> Result<(), Failed> {
        self.receive_waiting()?;
        if let Some(left) = self.until_due() {
            thread::park_timeout(left);
            self.receive_waiting()?;
        }
        if self.is_idle() && !self.closing {
            self.receive_first()?;
            self.receive_waiting()?;
        }
        Ok(())
    }

    fn receive_waiting(&mut self) -> Result<(), Failed> {
        loop {
            match self.inbox.try_recv() {
                Ok(request) => self.take(request)?,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    /// How long no commit is to begin yet, if there is nothing else to do either. It may be cut short.
    fn until_due(&self) -> Option<Duration> {
        let has_more = self.closing || !self.loads.is_empty() || is_worth_a_commit(&self.appends);
        let began = self.began.filter(|_| !has_more)?;
        COMMIT_EVERY.checked_sub(began.elapsed())
    }

    /// Waits for a request, and folds where that takes long.
    fn receive_first(&mut self) -> Result<(), Failed> {
        if self.is_folding || self.cannot_fold || self.store.unfolded_commits() == 0 {
            return self.receive_one();
        }
        match self.inbox.recv_timeout(QUIET) {
            Ok(request) => self.take(request),
            Err(RecvTimeoutError::Timeout) => self.fold(),
            Err(RecvTimeoutError::Disconnected) => unreachable!("who folds holds a sender"),
        }
    }

    fn receive_one(&mut self) -> Result<(), Failed> {
        let request = self.inbox.recv().expect("who folds holds a sender");
        self.take(request)
    }

    fn take(&mut self, request: Request) -> Result<(), Failed> {
        match request {
            Request::Commit(appends) => {
                for sized in appends {
                    if self.dropped_from == Some(sized.0.0) {
                        self.dropped_from = None;
                    }
                    if self.dropped_from.is_none() {
                        self.appends.push_back(sized);
                    }
                }
            }
            Request::Load(load, query) => self.loads.push_back((load, query)),
            Request::BackUp(file) => self.backups.push_back(file),
            Request::Folded(folded) => return self.folded(folded),
            Request::Close => self.closing = true,
        }
        Ok(())
    }

    /// Holds fast what is durable now, and has another thread write it: commits do not wait for that.
    fn back_up(&mut self) -> Result<(), Failed> {
        if self.is_folding {
            return Ok(());
        }
        let Some(file) = self.backups.pop_front() else { return Ok(()) };
        let (outbox, wake) = (self.outbox.clone(), self.wake.clone());
        let snapshot = self.store.snapshot();
        let write = move || {
            let directory = file.parent().map_or(Ok(()), make_directory);
            let written = directory.map_err(|error| NoBackup::Failed(error.to_string()));
            let written =
                written.and_then(|()| snapshot.map_err(|error| NoBackup::Failed(error.to_string())));
            let written = written.and_then(|it| it.write(&file).map_err(NoBackup::from));
            // A loop that is gone needs no answer.
            outbox.send(Completion::BackedUp(written)).unwrap_or_default();
            wake();
        };
        if let Err(error) = thread::Builder::new().name("backup".into()).spawn(write) {
            self.tell([Completion::BackedUp(Err(NoBackup::Failed(error.to_string())))]);
        }
        Ok(())
    }

    /// Makes one commit of the appends that wait.
    fn commit(&mut self) -> Result<(), Failed> {
        let count = self.joined();
        let (joined, bytes): (Vec<Append>, Vec<usize>) = self.appends.drain(..count).unzip();
        let (Some(&(first, _)), Some(&(last, _))) = (joined.first(), joined.last()) else { return Ok(()) };
        while self.is_folding && !self.store.has_room(&joined) {
            self.receive_one()?;
        }
        let began = *self.began.insert(Instant::now());
        match self.store.commit(&joined) {
            Ok(()) => {
                let records = joined.iter().map(|append| append.1.len()).sum();
                self.meter.committed(records, began.elapsed().as_secs_f64());
                self.meter.journal(self.store.unfolded_commits());
                // The loop, which has made them, is then the last to hold the records, and frees them.
                drop(joined);
                self.tell([Completion::Appended(last)]);
                Ok(())
            }
            Err(CommitError::Full) => {
                self.dropped_from = Some(first);
                self.appends.clear();
                self.tell([Completion::Full(first)]);
                Ok(())
            }
            Err(CommitError::HeldUp) => {
                joined.into_iter().zip(bytes).rev().for_each(|sized| self.appends.push_front(sized));
                self.until_folded()
            }
            Err(CommitError::Unreadable(text) | CommitError::Io(text)) => self.fail(text),
        }
    }

    /// Waits for the fold that is under way. What is asked for meanwhile waits.
    fn until_folded(&mut self) -> Result<(), Failed> {
        while self.is_folding {
            self.receive_one()?;
        }
        Ok(())
    }

    /// How many appends make up the next commit.
    fn joined(&self) -> usize {
        let mut all = 0;
        let fitting = self.appends.iter().take_while(|(_, bytes)| {
            all += bytes;
            // At least one.
            all == *bytes || all <= JOINED_BYTES_MAX
        });
        fitting.count()
    }

    /// Answers some of the questions that wait.
    fn answer(&mut self) -> Result<(), Failed> {
        let mut answers = Vec::new();
        let mut done = Ok(());
        while answers.len() < LOADS_BETWEEN_COMMITS
            && let Some((load, query)) = self.loads.pop_front()
        {
            match self.store.load(&query) {
                Ok(found) => answers.push(Completion::Loaded(load, found)),
                Err(error) => {
                    self.loads.push_front((load, query));
                    done = Err(error);
                    break;
                }
            }
        }
        if !answers.is_empty() {
            self.tell(answers);
        }
        match done {
            Ok(()) => Ok(()),
            // It is asked again after that.
            Err(ReadError::HeldUp) => self.until_folded(),
            Err(error @ ReadError::Io(_)) => self.fail(error.to_string()),
        }
    }

    fn fold_if_due(&mut self) -> Result<(), Failed> {
        if self.is_folding || self.closing || !self.store.is_fold_due() { Ok(()) } else { self.fold() }
    }

    /// Has the other thread fold: commits do not wait for it.
    fn fold(&mut self) -> Result<(), Failed> {
        let fold = match self.store.begin_fold() {
            Ok(Some(fold)) => fold,
            Ok(None) | Err(CommitError::Full | CommitError::HeldUp) => return Ok(()),
            Err(CommitError::Unreadable(text) | CommitError::Io(text)) => return self.fail(text),
        };
        self.folds.send(fold).expect("who folds ends after this thread");
        self.is_folding = true;
        Ok(())
    }

    fn folded(&mut self, folded: Folded) -> Result<(), Failed> {
        self.is_folding = false;
        let ended = self.store.end_fold(folded);
        self.cannot_fold = matches!(ended, Err(CommitError::Unreadable(_)));
        match ended {
            // A disk that is full is tried again when the journal has grown, or it is quiet.
            Ok(()) | Err(CommitError::Full | CommitError::HeldUp) => {}
            // One that has lost something is when the journal has grown.
            Err(CommitError::Unreadable(text)) => {
                tracing::error!("the journal cannot be folded ({text}), and is filling up: check the disk");
            }
            Err(CommitError::Io(text)) => return self.fail(text),
        }
        self.meter.journal(self.store.unfolded_commits());
        Ok(())
    }

    /// Nobody may write this disk when this thread has ended. What has become of the fold, the next start
    /// sees.
    fn await_fold(&mut self) {
        while self.is_folding {
            self.is_folding = !matches!(self.inbox.recv(), Ok(Request::Folded(_)));
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

/// The side of the thread that folds, for as long as there is a store's.
struct Folder {
    due: Receiver<Fold>,
    requests: Sender<Request>,
    meter: StoreMeter,
}

impl Folder {
    fn run(self) {
        // Of this thread alone. Where it is not granted it folds all the same.
        setpriority_process(None, FOLD_NICENESS).unwrap_or_default();
        for fold in self.due {
            let began = Instant::now();
            let folded = fold.run();
            self.meter.folded(began.elapsed().as_secs_f64());
            self.requests.send(Request::Folded(folded)).unwrap_or_default();
        }
    }
}

/// Whether these need not wait for more.
fn is_worth_a_commit<'a>(appends: impl IntoIterator<Item = &'a Sized>) -> bool {
    appends.into_iter().map(|(_, bytes)| bytes).sum::<usize>() >= COMMIT_BYTES
}
