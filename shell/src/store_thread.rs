//! The storage thread: production's [`Storage`].
//!
//! One thread owns the [`Store`]. The loop never waits for it: appends and questions go in by one channel,
//! what is done comes back by another, and `wake` is called so that the loop looks. All appends that are
//! waiting when a commit begins become that one commit, so a slow disk makes commits larger, not later. With
//! nothing else to do, it folds.

use crate::disk::Disk;
use crate::storage::{Completion, Storage};
use crate::store::{CommitError, FOLD_ROWS, OpenError, Store, codec};
use runcast_core::ids::{AppendId, LoadId};
use runcast_core::record::{Image, Query, Record};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};

/// Appends waiting are joined into one commit up to so many bytes, or one turn's.
const JOINED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// So many questions are answered before appends that came meanwhile are looked for.
const LOADS_BETWEEN_COMMITS: usize = 16;

type Append = (AppendId, Arc<[Record]>);

/// What the loop asks of the thread. The channel has no limit of its own: the core limits what it has under
/// way.
#[derive(Debug)]
enum Request {
    Commit(Vec<Append>),
    Load(LoadId, Query),
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
    thread: Option<JoinHandle<()>>,
}

impl StoreThread {
    /// Opens the store, waits until it has recovered, and starts the thread. `wake` is called on that thread
    /// after completions were given.
    ///
    /// # Errors
    /// As [`Store::open`], and [`OpenError::Io`] if no thread can be had.
    pub fn open(disk: impl Disk, wake: impl Fn() + Send + 'static) -> Result<(Self, Image), OpenError> {
        let (store, image) = Store::open(disk)?;
        let (requests, inbox) = mpsc::channel();
        let (outbox, completions) = mpsc::channel();
        let worker = Worker::new(store, inbox, outbox, wake);
        let thread = thread::Builder::new().name("store".into()).spawn(move || worker.run())?;
        let turn = Vec::new();
        Ok((Self { turn, requests: Some(requests), completions, thread: Some(thread) }, image))
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
            && !thread::panicking()
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
    wake: W,
    /// Appends that wait for the next commit.
    appends: VecDeque<Append>,
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

impl<W: Fn()> Worker<W> {
    fn new(store: Store, inbox: Receiver<Request>, outbox: Sender<Completion>, wake: W) -> Self {
        let (appends, loads) = (VecDeque::new(), VecDeque::new());
        Self {
            store,
            inbox,
            outbox,
            wake,
            appends,
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

    /// Takes in all requests there are; waits for one if there is nothing else to do.
    fn receive(&mut self) {
        if self.is_idle() && !self.folds() && !self.closing {
            match self.inbox.recv() {
                Ok(request) => self.take(request),
                Err(mpsc::RecvError) => self.closing = true,
            }
        }
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
        }
    }

    /// Makes one commit of the appends that wait.
    fn commit(&mut self) -> Result<(), Failed> {
        let joined = self.join();
        let (Some(first), Some(last)) = (joined.first(), joined.last()) else { return Ok(()) };
        match self.store.commit(&joined) {
            Ok(()) => {
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
        match self.store.fold(FOLD_ROWS) {
            Ok(_) => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FileDisk;
    use bytes::Bytes;
    use runcast_core::record::{Found, RowKey, StreamKey, Table};
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A file whose disk can be full or broken, and whose syncs can be held up.
    #[derive(Debug)]
    struct Moody {
        file: FileDisk,
        moods: Arc<Moods>,
    }

    #[derive(Debug, Default)]
    struct Moods {
        full: AtomicBool,
        broken: AtomicBool,
        gate: std::sync::Mutex<()>,
    }

    impl Disk for Moody {
        fn size(&self) -> io::Result<u64> {
            self.file.size()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read(offset, out)
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            // A header is written over, which needs no room.
            if offset >= 8192 && self.moods.full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.file.write(offset, data)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.file.set_len(len)
        }
        fn sync(&self) -> io::Result<()> {
            drop(self.moods.gate.lock().unwrap());
            if self.moods.broken.load(Ordering::SeqCst) {
                return Err(io::Error::other("EIO"));
            }
            self.file.sync()
        }
    }

    struct Rig {
        dir: tempfile::TempDir,
        moods: Arc<Moods>,
        store: StoreThread,
        image: Image,
        woken: Receiver<()>,
    }

    impl Rig {
        fn open(dir: tempfile::TempDir) -> Self {
            let moods = Arc::new(Moods::default());
            let file = FileDisk::open(&dir.path().join("store")).unwrap();
            let (wake, woken) = mpsc::channel();
            let disk = Moody { file, moods: moods.clone() };
            let (store, image) = StoreThread::open(disk, move || wake.send(()).unwrap_or_default()).unwrap();
            Self { dir, moods, store, image, woken }
        }

        fn new() -> Self {
            Self::open(tempfile::tempdir().unwrap())
        }

        fn again(self) -> Self {
            drop(self.store);
            Self::open(self.dir)
        }

        fn append(&mut self, id: u64) {
            self.store.append(AppendId(id), [event(id)].into());
        }

        fn next(&mut self) -> Completion {
            loop {
                if let Some(completion) = self.store.completed() {
                    return completion;
                }
                self.woken.recv().unwrap();
            }
        }

        /// All completions up to and with the one that says that this append is durable; how many there were.
        fn until_appended(&mut self, id: u64) -> usize {
            (1..).find(|_| matches!(self.next(), Completion::Appended(done) if done == AppendId(id))).unwrap()
        }

        fn seqs(&mut self) -> Vec<u64> {
            let stream = StreamKey("s".into());
            let query = Query::Events { stream, after: 0, events_max: usize::MAX, bytes_max: usize::MAX };
            self.store.load(LoadId(1), query);
            let completion = self.next();
            let Completion::Loaded(LoadId(1), Found::Events(events)) = completion else {
                panic!("{completion:?}");
            };
            events.into_iter().map(|event| event.0).collect()
        }
    }

    fn event(seq: u64) -> Record {
        Record::Event { stream: StreamKey("s".into()), seq, bytes: Bytes::from_static(b"{}") }
    }

    #[test]
    fn what_was_submitted_is_durable_when_it_is_said_and_is_found_after_a_restart() {
        let mut rig = Rig::new();
        let key = RowKey { table: Table::Daemon, owner: "".into(), name: "n".into() };
        let put = Record::Put { key: key.clone(), value: Bytes::from_static(b"v") };
        rig.store.append(AppendId(1), [event(1), put].into());
        rig.append(2);
        rig.store.submit();
        rig.until_appended(2);
        assert_eq!(rig.seqs(), [1, 2]);
        let rig = rig.again();
        assert_eq!(rig.image.rows, [(key, Bytes::from_static(b"v"))]);
    }

    #[test]
    fn submits_that_wait_while_a_commit_syncs_become_one_commit() {
        let mut rig = Rig::new();
        let moods = rig.moods.clone();
        let gate = moods.gate.lock().unwrap();
        for id in 1..=100 {
            rig.append(id);
            rig.store.submit();
        }
        drop(gate);
        // The one that was under way, and all the others.
        assert!(rig.until_appended(100) <= 2);
        assert_eq!(rig.seqs(), (1..=100).collect::<Vec<_>>());
    }

    #[test]
    fn dropping_it_finishes_what_was_submitted_and_the_turn_at_hand() {
        let mut rig = Rig::new();
        for id in 1..=3000 {
            rig.append(id);
            if id % 7 == 0 {
                rig.store.submit();
            }
        }
        let mut rig = rig.again();
        assert_eq!(rig.seqs(), (1..=3000).collect::<Vec<_>>());
    }

    #[test]
    fn after_a_full_disk_everything_is_dropped_until_the_same_append_comes_again() {
        let mut rig = Rig::new();
        rig.append(1);
        rig.store.submit();
        rig.until_appended(1);
        rig.moods.full.store(true, Ordering::SeqCst);
        rig.append(2);
        rig.append(3);
        rig.store.submit();
        let full = rig.next();
        assert!(matches!(full, Completion::Full(AppendId(2))), "{full:?}");
        rig.append(4);
        rig.store.submit();
        assert_eq!(rig.seqs(), [1]);
        rig.moods.full.store(false, Ordering::SeqCst);
        rig.append(5);
        rig.store.submit();
        rig.append(2);
        rig.append(3);
        rig.store.submit();
        rig.until_appended(3);
        assert_eq!(rig.seqs(), [1, 2, 3]);
    }

    #[test]
    fn a_failed_sync_is_told_once_and_ends_the_thread() {
        let mut rig = Rig::new();
        rig.moods.broken.store(true, Ordering::SeqCst);
        rig.append(1);
        rig.store.submit();
        let failed = rig.next();
        assert!(matches!(&failed, Completion::Failed(text) if text.contains("EIO")), "{failed:?}");
        rig.append(2);
        rig.store.submit();
        rig.store.load(LoadId(1), Query::Owner("u".into()));
        while rig.woken.recv().is_ok() {}
        assert!(rig.store.completed().is_none());
    }

    #[test]
    #[should_panic(expected = "its next event is 3")]
    fn a_broken_promise_of_the_core_is_a_panic_on_the_loops_thread_too() {
        let mut rig = Rig::new();
        rig.append(1);
        rig.store.append(AppendId(2), [event(3)].into());
        rig.store.submit();
        while rig.woken.recv().is_ok() {}
        rig.store.completed();
    }
}
