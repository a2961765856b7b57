//! The hand-over between loop and storage thread, in schedules that shuttle draws: whatever the order in
//! which the two get to run, no wake-up is lost (a loop that sleeps for ever is a deadlock, which shuttle
//! reports), nothing is said to be stored before it is, the order is kept, and the end is an end.

use super::under_shuttle::store_thread::StoreThread;
use crate::disk::Disk;
use crate::metrics::StoreMeter;
use crate::ram::Ram;
use crate::storage::{Completion, Storage};
use crate::store::{Repair, Store};
use bytes::Bytes;
use runcast_core::ids::{AppendId, LoadId};
use runcast_core::record::{Found, Query, Record, StreamKey};
use shuttle::Runner;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Schedules that are tried, drawn at random and with few changes of the thread that has priority.
const SCHEDULES: usize = 60;
/// Each thread's stack: redb needs more than shuttle gives.
const STACK_BYTES: usize = 1024 * 1024;

/// The journal's blocks: each second commit makes folding worth its while.
const JOURNAL_BLOCKS: u64 = 16;

fn open(disk: impl Disk) -> Store {
    Store::open_with(disk, Repair::default(), JOURNAL_BLOCKS).unwrap().0
}

/// The seqs of the stream that a loss of power leaves.
fn seqs(disk: &Ram) -> Vec<u64> {
    let store = open(disk.after_power_loss());
    let Found::Events(events) = store.load(&everything()).unwrap() else { panic!("events") };
    events.into_iter().map(|(seq, _)| seq).collect()
}

fn everything() -> Query {
    let stream = StreamKey("s".into());
    Query::Events { stream, after: 0, events_max: usize::MAX, bytes_max: usize::MAX }
}

/// Lets others run before each of its operations that change something, as a real one does.
#[derive(Debug)]
struct Slow(Ram);

impl Disk for Slow {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        shuttle::thread::yield_now();
        self.0.write(offset, data)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        shuttle::thread::yield_now();
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        shuttle::thread::yield_now();
        self.0.sync()
    }
}

/// As the loop's: calls made while nobody sleeps are remembered as one.
#[derive(Debug, Default)]
struct Waker {
    is_called: Mutex<bool>,
    changed: Condvar,
}

impl Waker {
    fn wake(&self) {
        *self.is_called.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn sleep(&self) {
        let mut is_called = self.is_called.lock().unwrap();
        while !*is_called {
            is_called = self.changed.wait(is_called).unwrap();
        }
        *is_called = false;
    }
}

/// The loop's side.
struct Loop {
    thread: StoreThread,
    waker: Arc<Waker>,
    disk: Ram,
    come: VecDeque<Completion>,
}

impl Loop {
    fn open() -> Self {
        Self::over(open)
    }

    fn over(open: impl FnOnce(Ram) -> Store) -> Self {
        let disk = Ram::default();
        let waker = Arc::new(Waker::default());
        let wakes = waker.clone();
        let (store, meter) = (open(disk.clone()), StoreMeter::default());
        let thread = StoreThread::start(store, PathBuf::new(), meter, move || wakes.wake()).unwrap();
        Self { thread, waker, disk, come: VecDeque::new() }
    }

    /// A turn that gives the store these, each in an append of its own.
    fn submit(&mut self, ids: impl IntoIterator<Item = u64>) {
        for seq in ids {
            let stream = StreamKey("s".into());
            let record = Record::Event { stream, seq, bytes: Bytes::from_static(b"{}") };
            self.thread.append(AppendId(seq), [record].into());
        }
        self.thread.submit();
    }

    /// As the loop does it: all that there is, and then it sleeps until it is woken.
    fn next(&mut self) -> Completion {
        loop {
            while let Some(completion) = self.thread.completed() {
                self.come.push_back(completion);
            }
            match self.come.pop_front() {
                Some(completion) => return completion,
                None => self.waker.sleep(),
            }
        }
    }

    /// Waits until this append is durable; each completion on the way is right, too.
    fn until_appended(&mut self, id: u64) {
        let mut before = 0;
        while before < id {
            let Completion::Appended(AppendId(upto)) = self.next() else { panic!("appends were given") };
            assert!(upto > before, "{upto} comes after {before}");
            assert!(seqs(&self.disk).len() as u64 >= upto, "{upto} is durable before that is said");
            before = upto;
        }
    }
}

/// In schedules of both kinds.
fn explore(scene: fn()) {
    let mut config = shuttle::Config::new();
    config.stack_size = STACK_BYTES;
    Runner::new(RandomScheduler::new(SCHEDULES), config.clone()).run(scene);
    Runner::new(PctScheduler::new(3, SCHEDULES), config).run(scene);
}

#[test]
fn no_wake_up_is_lost_and_nothing_is_said_before_it_is_stored() {
    explore(|| {
        let mut it = Loop::open();
        it.submit([1]);
        it.submit([2, 3]);
        it.until_appended(1);
        it.submit([4]);
        it.until_appended(4);
    });
}

/// Nobody asks anything here: a question and a fold may both wait for one of redb's own locks, of which
/// shuttle knows nothing.
#[test]
fn commits_go_on_beside_a_fold_and_each_is_there_after_a_loss_of_power() {
    explore(|| {
        let mut it = Loop::over(|disk| open(Slow(disk)));
        for id in 1..=12 {
            it.submit([id]);
            it.until_appended(id);
        }
        let disk = it.disk.clone();
        drop(it);
        assert_eq!(seqs(&disk), (1..=12).collect::<Vec<_>>());
    });
}

#[test]
fn questions_are_answered_in_order_from_what_is_durable() {
    explore(|| {
        let mut it = Loop::open();
        it.submit([1, 2]);
        for load in 1..=3 {
            it.thread.load(LoadId(load), everything());
        }
        let (mut loaded, mut upto) = (0, 0);
        while loaded < 3 || upto < 2 {
            match it.next() {
                Completion::Appended(id) => upto = id.0,
                Completion::Loaded(load, Found::Events(events)) => {
                    loaded += 1;
                    assert_eq!(load, LoadId(loaded));
                    assert!(events.len() as u64 >= upto, "what is durable is found");
                }
                other @ (Completion::Loaded(..)
                | Completion::Full(_)
                | Completion::BackedUp(_)
                | Completion::Failed(_)) => {
                    panic!("{other:?}")
                }
            }
        }
    });
}

#[test]
fn dropping_it_finishes_what_was_given_and_ends_the_thread() {
    explore(|| {
        let mut it = Loop::open();
        it.submit([1]);
        it.submit([2]);
        it.thread.append(AppendId(3), [].into());
        let disk = it.disk.clone();
        drop(it);
        assert_eq!(seqs(&disk), [1, 2]);
    });
}

#[test]
fn after_a_full_disk_nothing_is_taken_until_the_same_append_comes_again() {
    explore(|| {
        let mut it = Loop::open();
        it.submit([1]);
        it.until_appended(1);
        it.disk.set_full(true);
        it.submit([2]);
        it.submit([3]);
        let full = it.next();
        assert!(matches!(full, Completion::Full(AppendId(2))), "{full:?}");
        it.submit([4]);
        it.disk.set_full(false);
        it.submit([2, 3, 4]);
        let mut upto = 1;
        while upto < 4 {
            let Completion::Appended(id) = it.next() else { panic!("what was given again is stored") };
            assert!(id.0 > upto);
            upto = id.0;
        }
        assert_eq!(seqs(&it.disk), [1, 2, 3, 4]);
    });
}

#[test]
fn a_failed_sync_is_told_and_what_comes_after_it_is_never_said_to_be_stored() {
    explore(|| {
        let mut it = Loop::open();
        it.submit([1]);
        it.until_appended(1);
        it.disk.break_syncs();
        it.submit([2]);
        it.submit([3]);
        assert!(matches!(it.next(), Completion::Failed(_)));
        it.submit([4]);
        assert!(it.thread.completed().is_none(), "the thread has said its last word");
        let disk = it.disk.clone();
        drop(it);
        assert_eq!(seqs(&disk), [1]);
    });
}
