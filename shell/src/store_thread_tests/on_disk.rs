//! The storage thread over a file whose disk can be full or broken, or loses what is read.

use crate::disk::{Disk, FileDisk};
use crate::metrics::StoreMeter;
use crate::storage::{Completion, Storage};
use crate::store::{Repair, Store};
use crate::store_thread::StoreThread;
use bytes::Bytes;
use runcast_core::ids::{AppendId, BackupName, LoadId};
use runcast_core::input::NoBackup;
use runcast_core::record::{Found, Image, Query, Record, RowKey, StreamKey, Table};
use std::io;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

/// A file whose disk can be full or broken or loses what is read, and whose operations can be held up.
#[derive(Debug)]
struct Moody {
    file: FileDisk,
    moods: Arc<Moods>,
}

#[derive(Debug, Default)]
struct Moods {
    full: AtomicBool,
    broken: AtomicBool,
    /// What the thread of this name reads of the tables is lost.
    loses: Mutex<&'static str>,
    gate: Mutex<()>,
    /// What is to happen in a fold that finds the disk full, beside a question.
    scene: Mutex<Option<Scene>>,
}

/// The next read of the thread that answers waits, and so does the next write of the one that folds, which
/// finds the disk full then.
#[derive(Debug)]
struct Scene {
    reads: Option<Wait>,
    writes: Option<Wait>,
}

/// Says that somebody has come, and hears when they may go on.
type Wait = (Sender<()>, Receiver<()>);

impl Moods {
    /// Tells that this thread has come to where it is to wait, and waits. Whether there was such a place.
    fn waits(&self, name: &str, of: fn(&mut Scene) -> &mut Option<Wait>) -> bool {
        let mut scene = self.scene.lock().unwrap();
        let is_it = thread::current().name() == Some(name);
        let place = scene.as_mut().filter(|_| is_it).and_then(|scene| of(scene).take());
        drop(scene);
        let Some((come, go)) = place else { return false };
        come.send(()).unwrap();
        go.recv().unwrap();
        true
    }
}

impl Disk for Moody {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.moods.waits("store", |scene| &mut scene.reads);
        let is_lost = thread::current().name() == Some(*self.moods.loses.lock().unwrap());
        if is_lost && offset >= (2 + JOURNAL_BLOCKS) * 4096 {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.read(offset, out)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset >= 8192 && self.moods.waits("fold", |scene| &mut scene.writes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
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

/// The journal's blocks.
const JOURNAL_BLOCKS: u64 = 128;

fn open(disk: impl Disk) -> (Store, Image) {
    Store::open_with(disk, Repair::default(), JOURNAL_BLOCKS).unwrap()
}

struct Rig {
    dir: tempfile::TempDir,
    moods: Arc<Moods>,
    store: StoreThread,
    image: Image,
    meter: StoreMeter,
    woken: Receiver<()>,
}

impl Rig {
    fn open(dir: tempfile::TempDir) -> Self {
        let moods = Arc::new(Moods::default());
        let file = FileDisk::open(&dir.path().join("store")).unwrap();
        let (wake, woken) = mpsc::channel();
        let disk = Moody { file, moods: moods.clone() };
        let (store, image) = open(disk);
        let (backups, meter) = (dir.path().join("backups"), StoreMeter::default());
        let wake = move || wake.send(()).unwrap_or_default();
        let store = StoreThread::start(store, backups, meter.clone(), wake).unwrap();
        Self { dir, moods, store, image, meter, woken }
    }

    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    /// With so many events of a stream `old` in the tables that not all of it is in memory. What is larger
    /// than the journal goes straight there.
    fn with_old() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(FileDisk::open(&dir.path().join("store")).unwrap());
        store.commit(&[(AppendId(1), (1..=OLD).map(|seq| large("old", seq, 100_000)).collect())]).unwrap();
        drop(store);
        Self::open(dir)
    }

    /// How many events of it there are.
    fn old(&mut self) -> Option<u64> {
        let stream = StreamKey("old".into());
        let query = Query::Events { stream, after: 0, events_max: usize::MAX, bytes_max: usize::MAX };
        self.store.load(LoadId(1), query);
        let completion = self.next();
        let Completion::Loaded(LoadId(1), found) = completion else { panic!("{completion:?}") };
        match found {
            Found::Events(events) => Some(events.len() as u64),
            Found::Damaged => None,
            Found::Rows(_) => panic!("events were asked for"),
        }
    }

    /// Appends events of a stream `new`, of which the journal holds a few.
    fn append_new(&mut self, seqs: RangeInclusive<u64>) {
        for seq in seqs {
            self.store.append(AppendId(seq), [large("new", seq, 10_000)].into());
            self.store.submit();
            self.until_appended(seq);
        }
    }

    fn back_up(&mut self, name: &str) -> Result<u64, NoBackup<String>> {
        self.store.back_up(&BackupName::parse(name).unwrap());
        let Completion::BackedUp(written) = self.next() else { panic!("a backup was asked for") };
        written
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

const OLD: u64 = 100;

fn large(stream: &str, seq: u64, bytes: usize) -> Record {
    Record::Event { stream: StreamKey(stream.into()), seq, bytes: Bytes::from(vec![b'.'; bytes]) }
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
fn a_question_while_a_fold_meets_a_full_disk_is_answered_when_that_has_ended() {
    let mut rig = Rig::with_old();
    let ((reads, may_read), (writes, may_write)) = (mpsc::channel(), mpsc::channel());
    let ((come_to_read, is_reading), (come_to_write, is_writing)) = (mpsc::channel(), mpsc::channel());
    let scene = Scene { reads: None, writes: Some((come_to_write, may_write)) };
    *rig.moods.scene.lock().unwrap() = Some(scene);
    rig.append_new(1..=30);
    is_writing.recv().unwrap();
    rig.moods.scene.lock().unwrap().as_mut().unwrap().reads = Some((come_to_read, may_read));
    let stream = StreamKey("old".into());
    let query = Query::Events { stream, after: 0, events_max: usize::MAX, bytes_max: usize::MAX };
    rig.store.load(LoadId(1), query);
    is_reading.recv().unwrap();
    // The fold fails while the question is being answered.
    writes.send(()).unwrap();
    while rig.meter.folds() == 0 {
        thread::yield_now();
    }
    reads.send(()).unwrap();
    let Completion::Loaded(_, Found::Events(events)) = rig.next() else { panic!("it is answered") };
    assert_eq!(events.len() as u64, OLD);
}

#[test]
fn what_the_disk_has_lost_is_damaged_to_who_asks_for_it_and_to_nobody_else() {
    let mut rig = Rig::with_old();
    *rig.moods.loses.lock().unwrap() = "store";
    assert_eq!(rig.old(), None);
    rig.append_new(1..=100);
    assert_eq!(rig.old(), None);
    *rig.moods.loses.lock().unwrap() = "";
    assert_eq!(rig.old(), Some(OLD));
}

#[test]
fn a_fold_that_needs_what_the_disk_has_lost_is_done_when_it_is_there_and_nothing_waits_for_it() {
    let mut rig = Rig::with_old();
    // Its end is in memory, and its beginning is where that of `new` has to go.
    assert_eq!(rig.old(), Some(OLD));
    *rig.moods.loses.lock().unwrap() = "fold";
    rig.append_new(1..=22);
    while rig.meter.folds() == 0 {
        thread::yield_now();
    }
    assert_eq!(rig.old(), Some(OLD));
    rig.append_new(23..=25);
    *rig.moods.loses.lock().unwrap() = "";
    // More than the journal holds.
    rig.append_new(26..=100);
    let mut rig = rig.again();
    assert_eq!(rig.old(), Some(OLD));
}

#[test]
fn a_backup_that_needs_what_the_disk_has_lost_says_what_and_harms_nobody() {
    let mut rig = Rig::with_old();
    *rig.moods.loses.lock().unwrap() = "backup";
    let Err(NoBackup::Failed(why)) = rig.back_up("b") else { panic!("not all of it can be read") };
    assert!(why.contains("bytes") && why.contains("of the store's file cannot be read"), "{why}");
    assert_eq!(rig.old(), Some(OLD));
    *rig.moods.loses.lock().unwrap() = "";
    rig.back_up("b").unwrap();
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
