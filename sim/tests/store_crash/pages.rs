//! Pages of redb's tables that the disk cannot read while the store is open: they cost the answers that need
//! them, and a fold that needs them waits. Nothing else notices.
//!
//! They are lost after the store is opened: with debug assertions redb reads all there are at a start. So
//! there are more of them than it keeps in memory.

use super::store_model::{Commit, Model, event, one, put, stream};
use super::{JOURNAL_BLOCKS, Run, open, recovered};
use runcast::disk::Disk;
use runcast::store::{CommitError, Fold, ReadError, Repair, Store};
use runcast_core::record::{Found, Query};
use runcast_sim::disk::{SimDisk, Unreadable};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const BLOCK: u64 = 4096;
/// Where redb's pages begin.
const PAGES: u64 = 2 + JOURNAL_BLOCKS;

/// What the system calls it when a disk cannot read, and when there is no memory.
const EIO: i32 = 5;
const ENOMEM: i32 = 12;

/// A disk of which some reads of redb's pages fail: after so many that are spared so many.
#[derive(Clone, Debug)]
struct Failing {
    disk: SimDisk,
    error: i32,
    spared: Arc<AtomicU64>,
    failing: Arc<AtomicU64>,
}

impl Failing {
    fn new(disk: &SimDisk, error: i32) -> Self {
        Self { disk: disk.kill(), error, spared: Arc::default(), failing: Arc::default() }
    }

    fn fail(&self, spared: u64, failing: u64) {
        self.spared.store(spared, Relaxed);
        self.failing.store(failing, Relaxed);
    }

    /// Whether it still would.
    fn has_not_failed(&self) -> bool {
        self.failing.load(Relaxed) > 0
    }
}

impl Disk for Failing {
    fn size(&self) -> io::Result<u64> {
        self.disk.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let is_left =
            |counter: &AtomicU64| counter.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if offset >= PAGES * BLOCK && !is_left(&self.spared) && is_left(&self.failing) {
            return Err(io::Error::from_raw_os_error(self.error));
        }
        self.disk.read(offset, out)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }
}

/// Of each stream.
const EVENTS: u64 = 100;
const EVENT_BYTES: usize = 60_000;
const NAMES: [&str; 4] = ["ann/e-1", "ann/e-2", "bob/e-1", "bob/e-10"];

/// A store of which everything is in the tables, and what it knows.
fn folded() -> (SimDisk, Model) {
    let (disk, mut known) = (SimDisk::default(), Model::default());
    let (mut store, _) = open(&disk);
    for id in 1..=EVENTS {
        let mut records = vec![put(&format!("user-{id}"), "d", "a row")];
        records.extend(NAMES.map(|name| event(name, id, &[id as u8; EVENT_BYTES])));
        let commit = one(id, records);
        store.commit(&commit).expect("it is stored");
        known.apply(&commit);
    }
    store.fold().expect("it is folded");
    drop(store);
    (disk, known)
}

fn open_failing(disk: &Failing) -> Store {
    Store::open_with(disk.clone(), Repair::Quick, JOURNAL_BLOCKS).expect("a store").0
}

/// An event that has not been read for longest.
fn first_event() -> Query {
    Query::Events { stream: stream(NAMES[0]), after: 0, events_max: 1, bytes_max: 0 }
}

/// Commits for somebody of whom nothing is in the tables.
fn for_another(id: u64) -> Commit {
    one(id, vec![put("another", "d", &id.to_string())])
}

/// Where bytes begin that a text names, in blocks.
fn named(text: &str) -> Option<u64> {
    Some(text.split_once("bytes ")?.1.split_once(' ')?.0.parse::<u64>().ok()? / BLOCK)
}

#[test]
fn a_page_that_cannot_be_read_costs_the_answers_that_need_it_and_nothing_else() {
    let (whole, known) = folded();
    let (mut damaged, mut unharmed) = (0, 0);
    let pages = whole.used_blocks().into_iter().filter(|block| *block >= PAGES);
    for block in pages.collect::<Vec<_>>().into_iter().rev().step_by(331) {
        let disk = whole.kill();
        let (mut store, _) = open(&disk);
        known.check_answers(&store);
        disk.make_unreadable(block, Unreadable::ForGood);
        let answers = known.damaged_answers(&store);
        assert!(answers <= 1, "{answers} answers need block {block}");
        for id in 0..2 {
            let before = disk.operations();
            store.commit(&for_another(id)).expect("who needs nothing of it goes on");
            assert_eq!(disk.operations() - before, 2, "a write and a sync: nothing is opened again");
            assert_eq!(known.damaged_answers(&store), answers, "block {block}");
        }
        if answers == 0 { unharmed += 1 } else { damaged += 1 }
    }
    assert!(damaged > 5, "{damaged} {unharmed}");
}

#[test]
fn whichever_read_fails_the_question_is_answered_as_damaged_and_the_next_one_rightly() {
    let (whole, known) = folded();
    let disk = Failing::new(&whole, EIO);
    let store = open_failing(&disk);
    for reads in 0.. {
        known.check_answers(&store);
        disk.fail(reads, 1);
        let answer = store.load(&first_event()).expect("an answer");
        if disk.has_not_failed() {
            disk.fail(0, 0);
            assert!(reads > 0, "{reads}");
            return;
        }
        assert_eq!(answer, Found::Damaged);
    }
}

#[test]
fn a_fold_under_way_does_not_notice_what_others_cannot_read() {
    let (whole, mut known) = folded();
    let disk = Failing::new(&whole, EIO);
    let mut store = open_failing(&disk);
    let fold = next_fold(&mut store, &mut known);
    disk.fail(0, 1);
    assert_eq!(store.load(&first_event()).expect("an answer"), Found::Damaged);
    store.end_fold(fold.run()).expect("it is folded");
    assert_eq!(store.unfolded_commits(), 0);
    known.check_answers(&store);
}

/// Begins to fold an event of the first stream, after all else was read.
fn next_fold(store: &mut Store, known: &mut Model) -> Fold {
    let commit = one(1, vec![event(NAMES[0], EVENTS + 1, b"to be folded"), put("ann", "d", "as well")]);
    store.commit(&commit).expect("it is stored");
    known.apply(&commit);
    known.check_answers(store);
    store.begin_fold().expect("a fold").expect("something to fold")
}

#[test]
fn a_fold_of_which_any_read_fails_is_done_again_and_nothing_is_lost() {
    let (whole, known) = folded();
    for repair in [Repair::Quick, Repair::Full] {
        let reads = (0..).take_while(|reads| fails(&whole, known.clone(), repair, *reads)).count();
        assert!(reads > 1, "{reads}");
    }
}

/// Whether a fold has so many reads and one more, which fails.
fn fails(whole: &SimDisk, mut known: Model, repair: Repair, reads: u64) -> bool {
    let disk = Failing::new(whole, EIO);
    let (mut store, _) = Store::open_with(disk.clone(), repair, JOURNAL_BLOCKS).expect("a store");
    let fold = next_fold(&mut store, &mut known);
    disk.fail(reads, 1);
    let run = fold.run();
    let has_failed = !disk.has_not_failed();
    disk.fail(0, 0);
    match store.load(&first_event()) {
        Ok(found) => assert_ne!(found, Found::Damaged, "what another could not read"),
        Err(error) => assert_eq!(error, ReadError::HeldUp),
    }
    match store.end_fold(run) {
        Ok(()) => assert_eq!(store.unfolded_commits(), 0),
        Err(CommitError::Unreadable(text)) => assert!(has_failed && named(&text).is_some(), "{text}"),
        Err(error) => panic!("{error}"),
    }
    known.check_answers(&store);
    store.fold().expect("it is folded");
    known.check_answers(&store);
    drop(store);
    recovered(&disk.disk.kill(), repair, &Run { acknowledged: known, under_way: None });
    has_failed
}

#[test]
fn a_fold_that_cannot_read_waits_and_a_commit_that_finds_no_room_then_says_why() {
    let (whole, mut known) = folded();
    let disk = Failing::new(&whole, EIO);
    let mut store = open_failing(&disk);
    let mut fold = Some(next_fold(&mut store, &mut known));
    let (mut commits, mut folds) = (0, 0);
    loop {
        if let Some(fold) = fold.take() {
            disk.fail(0, u64::MAX);
            let run = fold.run();
            disk.fail(0, 0);
            let error = store.end_fold(run).expect_err("it cannot be read");
            let is_told = matches!(&error, CommitError::Unreadable(text) if named(text).is_some());
            assert!(is_told && !store.is_fold_due(), "{error}: it waits");
            folds += 1;
        }
        let commit = for_another(commits);
        if !store.has_room(&commit) {
            break;
        }
        store.commit(&commit).expect("there is room");
        known.apply(&commit);
        commits += 1;
        if store.is_fold_due() {
            known.check_answers(&store);
            fold = store.begin_fold().expect("a fold");
        }
    }
    assert!(commits > 8 && (2..8).contains(&folds), "{commits} {folds}");
    known.check_answers(&store);
    disk.fail(0, u64::MAX);
    let ended = store.commit(&for_another(commits)).expect_err("there is no room").to_string();
    assert!(named(&ended).is_some() && ended.contains("check the disk"), "{ended}");
    drop(store);
    disk.fail(0, 0);
    recovered(&disk.disk.kill(), Repair::Quick, &Run { acknowledged: known, under_way: None });
}

#[test]
fn what_says_nothing_of_a_page_is_not_called_damage() {
    let (whole, known) = folded();
    let disk = Failing::new(&whole, ENOMEM);
    let store = open_failing(&disk);
    known.check_answers(&store);
    disk.fail(0, 1);
    assert!(matches!(store.load(&first_event()), Err(ReadError::Io(_))));
}

#[test]
fn a_file_that_was_cut_off_is_damaged_there_only() {
    let (disk, known) = folded();
    let (mut store, _) = open(&disk);
    known.check_answers(&store);
    let pages = disk.size().expect("a size") / BLOCK;
    disk.set_len(pages / 2 * BLOCK).expect("it is cut off");
    let answers = known.damaged_answers(&store);
    assert!(answers > 0 && answers <= NAMES.len(), "{answers}");
    store.commit(&for_another(1)).expect("who needs nothing of it goes on");
    assert_eq!(known.damaged_answers(&store), answers);
}
