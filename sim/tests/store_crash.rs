//! The store on a disk that loses power, fills up and breaks: what was acknowledged is kept, in order and
//! whole.

#[path = "store_crash/pages.rs"]
mod pages;
mod store_model;
#[path = "store_crash/unreadable.rs"]
mod unreadable;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use runcast::disk::Disk;
use runcast::store::{CommitError, OpenError, ReadError, Repair, Store};
use runcast_core::record::{Found, Image, Query};
use runcast_sim::disk::SimDisk;
use store_model::{Commit, Model, Script, Step, event, one, put, row, stream};

/// The journal's blocks: few, so that it goes round, and some commits find no room in it.
const JOURNAL_BLOCKS: u64 = 24;

fn open(disk: &SimDisk) -> (Store, Image) {
    Store::open_with(disk.clone(), Repair::default(), JOURNAL_BLOCKS).expect("a store")
}

/// What a process did before it ended: the commits acknowledged, and the one under way.
struct Run {
    acknowledged: Model,
    under_way: Option<Commit>,
}

/// Opens the store and runs the script until its end, or until the disk fails.
fn run(disk: &SimDisk, repair: Repair, known: &Model, steps: &[Step]) -> Run {
    let mut run = Run { acknowledged: known.clone(), under_way: None };
    let Ok((mut store, image)) = Store::open_with(disk.clone(), repair, JOURNAL_BLOCKS) else { return run };
    known.check(&store, &image);
    for step in steps {
        let outcome = match step {
            Step::Commit(commit) => {
                let outcome = store.commit(commit);
                match outcome {
                    Ok(()) => run.acknowledged.apply(commit),
                    Err(_) => run.under_way = Some(commit.clone()),
                }
                outcome
            }
            Step::Fold => store.fold(),
            Step::Load => {
                run.acknowledged.check_answers(&store);
                Ok(())
            }
        };
        if outcome.is_err() {
            break;
        }
    }
    run
}

/// Opens what a crash left, and says which of the two permitted states is there.
fn recovered(disk: &SimDisk, repair: Repair, before: &Run) -> Model {
    let (store, image) =
        Store::open_with(disk.clone(), repair, JOURNAL_BLOCKS).expect("what a crash leaves can be opened");
    let mut with = before.acknowledged.clone();
    if let Some(commit) = &before.under_way {
        with.apply(commit);
        if with.agrees(&store, &image) {
            return with;
        }
    }
    before.acknowledged.check(&store, &image);
    before.acknowledged.clone()
}

#[test]
fn a_crash_at_any_operation_loses_nothing_acknowledged_and_shows_no_commit_in_part() {
    [Repair::Quick, Repair::Full].into_iter().for_each(crash_at_each_operation);
}

fn crash_at_each_operation(repair: Repair) {
    let script = Script::draw(1, 40);
    let whole = SimDisk::default();
    run(&whole, repair, &Model::default(), &script.steps);
    let operations = whole.operations();
    assert!(operations > 100, "{operations}");
    for at in 0..operations {
        let disk = SimDisk::default();
        disk.power_off_at(at);
        let before = run(&disk, repair, &Model::default(), &script.steps);
        for seed in 0..3 {
            let found = disk.crash(&mut ChaCha8Rng::seed_from_u64(at * 3 + seed));
            let once = recovered(&found, repair, &before);
            let twice = run(&found, repair, &once, &Script::after(&once, seed, 3).steps);
            recovered(&found, repair, &twice);
        }
    }
}

#[test]
fn a_crash_at_any_operation_of_a_recovery_is_a_crash_like_any_other() {
    [Repair::Quick, Repair::Full].into_iter().for_each(crash_at_each_operation_of_a_recovery);
}

fn crash_at_each_operation_of_a_recovery(repair: Repair) {
    let script = Script::draw(3, 10);
    let disk = SimDisk::default();
    let done = run(&disk, repair, &Model::default(), &script.steps);
    for seed in 0..6 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let left = disk.crash(&mut rng);
        let probe = left.kill();
        drop(
            Store::open_with(probe.clone(), repair, JOURNAL_BLOCKS)
                .expect("a crash leaves what can be opened"),
        );
        for at in 0..probe.operations() {
            let again = left.kill();
            again.power_off_at(at);
            let before = run(&again, repair, &done.acknowledged, &[]);
            recovered(&again.crash(&mut rng), repair, &before);
        }
    }
}

#[test]
fn many_lives_with_crashes_kills_and_clean_ends_keep_every_acknowledged_commit() {
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let repair = if seed % 2 == 0 { Repair::Quick } else { Repair::Full };
        let (mut disk, mut known) = (SimDisk::default(), Model::default());
        for life in 0..6 {
            let script = Script::after(&known, seed * 100 + life, 12);
            if rng.random_ratio(3, 4) {
                disk.power_off_at(rng.random_range(0..120));
            }
            let before = run(&disk, repair, &known, &script.steps);
            disk = match rng.random_range(0..4) {
                0 => disk.kill(),
                _ => disk.crash(&mut rng),
            };
            known = recovered(&disk, repair, &before);
        }
    }
}

#[test]
fn a_process_that_is_killed_leaves_what_it_acknowledged_without_a_repair() {
    let disk = SimDisk::default();
    let (mut store, _) = open(&disk);
    let mut known = Model::default();
    for seq in 1..=40 {
        let commit = one(seq, vec![event("s", seq, b"{}"), put("u", "d", &seq.to_string())]);
        store.commit(&commit).unwrap();
        known.apply(&commit);
        store.fold().unwrap();
        let (found, image) = open(&disk.kill());
        known.check(&found, &image);
    }
}

#[test]
fn a_full_disk_refuses_commits_answers_questions_and_takes_the_same_commit_when_there_is_room() {
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let disk = SimDisk::default();
        let (mut store, _) = open(&disk);
        let mut known = Model::default();
        disk.set_quota(Some(disk.used_bytes() + rng.random_range(0..200_000)));
        let (mut seq, mut refusals) = (0, 0);
        let refused = loop {
            let commit = one(seq, vec![event("s", seq + 1, &vec![b'x'; rng.random_range(1..9000)])]);
            match store.commit(&commit) {
                Ok(()) => {
                    seq += 1;
                    known.apply(&commit);
                }
                // What the refused commit had freed may make room for the next.
                Err(CommitError::Full) => refusals += 1,
                Err(error @ (CommitError::HeldUp | CommitError::Unreadable(_) | CommitError::Io(_))) => {
                    panic!("{error}")
                }
            }
            if refusals == 5 {
                break commit;
            }
        };
        known.check_answers(&store);
        let (after_kill, image) = open(&disk.kill());
        known.check(&after_kill, &image);
        disk.set_quota(None);
        store.commit(&refused).unwrap();
        known.apply(&refused);
        known.check_answers(&store);
        drop(store);
        let (store, image) = open(&disk);
        known.check(&store, &image);
    }
}

#[test]
fn a_full_disk_while_folding_moves_nothing_and_loses_nothing() {
    let disk = SimDisk::default();
    let (mut store, _) = open(&disk);
    let mut known = Model::default();
    for seq in 1..=200 {
        let commit = one(seq, vec![event("s", seq, &[b'x'; 2000])]);
        store.commit(&commit).unwrap();
        known.apply(&commit);
    }
    disk.set_quota(Some(disk.used_bytes()));
    let mut refused = 0;
    while refused < 3 {
        assert_eq!(store.fold().unwrap_err(), CommitError::Full);
        refused += 1;
        known.check_answers(&store);
        let (after_kill, image) = open(&disk.kill());
        known.check(&after_kill, &image);
    }
    disk.set_quota(None);
    store.fold().unwrap();
    assert_eq!(store.unfolded_commits(), 0);
    known.check_answers(&store);
}

#[test]
fn a_full_disk_is_tried_again_when_the_journal_has_grown_and_when_a_commit_needs_the_room() {
    let disk = SimDisk::default();
    let (mut store, _) = open(&disk);
    // Once round, so that no commit needs a new block.
    let mut seqs = 1..;
    let mut commit = |store: &mut Store| {
        let seq = seqs.next().unwrap();
        store.commit(&one(seq, vec![event("s", seq, &[b'x'; 3000])])).map_err(|error| (seq, error))
    };
    (0..JOURNAL_BLOCKS).for_each(|_| commit(&mut store).unwrap());
    store.fold().unwrap();
    while !store.is_fold_due() {
        commit(&mut store).unwrap();
    }
    let quota = disk.used_bytes();
    let fold = store.begin_fold().unwrap().expect("there is something to fold");
    disk.set_quota(Some(quota));
    // While it is under way the other half is filled but for some of it.
    (0..3).for_each(|_| commit(&mut store).unwrap());
    assert_eq!(store.end_fold(fold.run()), Err(CommitError::Full));
    let mut tried = 0;
    let (seq, refused) = loop {
        assert!(!store.is_fold_due(), "nothing has changed since it was tried");
        if let Err(refused) = commit(&mut store) {
            break refused;
        }
        if store.is_fold_due() {
            assert_eq!(store.fold(), Err(CommitError::Full));
            tried += 1;
        }
    };
    assert_eq!((refused, tried), (CommitError::Full, 1));
    disk.set_quota(None);
    store.commit(&one(seq, vec![event("s", seq, b"{}")])).unwrap();
    assert_eq!(store.unfolded_commits(), 7, "what that fold was to do is done");
}

#[test]
fn what_a_failed_fold_holds_up_can_be_done_when_that_has_ended() {
    const STREAMS: u64 = 100;
    let disk = SimDisk::default();
    let (mut store, _) = open(&disk);
    // What is larger than the journal goes straight into the tables, and not all of it into memory.
    let large = |number| event(&format!("s{number}"), 1, &[b'x'; 100_000]);
    store.commit(&one(1, (0..STREAMS).map(large).collect())).unwrap();
    drop(store);
    let (mut store, _) = open(&disk);
    store.commit(&one(2, (1..=40).map(|seq| event("t", seq, &[b'x'; 2000])).collect())).unwrap();
    let fold = store.begin_fold().unwrap().expect("there is something to fold");
    disk.set_quota(Some(disk.used_bytes()));
    let folded = fold.run();
    let load = |store: &Store, number: u64| {
        let stream = stream(&format!("s{number}"));
        store.load(&Query::Events { stream, after: 0, events_max: 1, bytes_max: 1 })
    };
    let loads: Vec<_> = (0..STREAMS).map(|number| load(&store, number)).filter(Result::is_err).collect();
    assert!(!loads.is_empty() && loads.iter().all(|load| *load == Err(ReadError::HeldUp)));
    let commit =
        |number: u64| store.commit(&one(3, vec![event(&format!("s{number}"), 2, b"{}")])).unwrap_err();
    let mut commits: Vec<_> = (0..STREAMS).map(commit).collect();
    commits.retain(|error| *error != CommitError::Full);
    assert!(!commits.is_empty() && commits.iter().all(|error| *error == CommitError::HeldUp));
    assert_eq!(store.end_fold(folded), Err(CommitError::Full));
    for number in 0..STREAMS {
        assert!(matches!(load(&store, number), Ok(Found::Events(events)) if events.len() == 1));
    }
    disk.set_quota(None);
    store
        .commit(&one(3, (0..STREAMS).map(|number| event(&format!("s{number}"), 2, b"{}")).collect()))
        .unwrap();
    store.fold().unwrap();
    assert_eq!(store.unfolded_commits(), 1);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let disk = SimDisk::default();
    let (mut store, _) = open(&disk);
    store.commit(&one(1, vec![event("s", 1, b"{}")])).unwrap();
    disk.set_sync_fails(true);
    let error = store.commit(&one(2, vec![event("s", 2, b"{}")])).unwrap_err();
    assert!(matches!(&error, CommitError::Io(text) if text.contains("the disk does not sync")), "{error}");
    disk.set_sync_fails(false);
    assert!(matches!(store.commit(&one(2, vec![event("s", 2, b"{}")])), Err(CommitError::Io(_))));
    assert!(store.fold().is_err());
    assert!(store.load(&Query::Owner("u".into())).is_err());
}

#[test]
fn what_was_written_synced_is_kept_and_promises_nothing_to_what_was_only_written() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..100 {
        let disk = SimDisk::holding(&[1; 4096]);
        disk.write(0, &[2; 2048]).expect("it takes writes");
        disk.write_synced(512, &[3; 1024]).expect("it takes writes");
        let found = disk.kill().crash(&mut ChaCha8Rng::seed_from_u64(seed));
        let mut bytes = [0; 4096];
        found.read(0, &mut bytes).expect("its length is durable");
        assert_eq!(bytes[512..1536], [3; 1024], "seed {seed}");
        assert_eq!(bytes[2048..], [1; 2048], "seed {seed}");
        *(if bytes[..512] == [2; 512] { &mut kept } else { &mut lost }) += 1;
    }
    assert!(kept > 0 && lost > 0, "{kept} kept, {lost} lost");
}

/// Gives all copies of the header another version, with the checksum of a store that means it.
fn set_version(disk: &SimDisk, version: u32) {
    for at in [0, 512, 4096, 4608] {
        let mut copy = [0; 348];
        disk.read(at, &mut copy).expect("a header");
        copy[16..20].copy_from_slice(&version.to_le_bytes());
        let checksum = crc32fast::hash(&copy).to_le_bytes();
        disk.write(at, &[&copy[..], &checksum].concat()).expect("a disk that takes writes");
    }
}

#[test]
fn another_version_and_another_kind_of_file_are_refused_and_not_touched() {
    let disk = SimDisk::default();
    drop(open(&disk));
    let newer = disk.kill();
    set_version(&newer, 5);
    let before = newer.kill();
    let error = Store::open(newer.clone(), Repair::default()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 5, known: 4 }), "{error}");
    set_version(&newer, 1);
    let error = Store::open(newer.clone(), Repair::default()).unwrap_err();
    assert!(matches!(error, OpenError::Older { found: 1, oldest: 2 }), "{error}");
    set_version(&newer, 5);
    assert!(newer.equals(&before));

    for foreign in [&b"hello"[..], &[7; 8192], &[0; 100_000], b"SQLite format 3\0"] {
        let disk = SimDisk::holding(foreign);
        let error = Store::open(disk.clone(), Repair::default()).unwrap_err();
        assert!(matches!(error, OpenError::NotAStore), "{error}");
        assert!(disk.equals(&SimDisk::holding(foreign)));
        assert_eq!(disk.operations(), 0);
    }
}

#[test]
fn a_store_of_a_former_version_is_read_and_is_of_the_newest_before_anything_is_added() {
    for former in [2, 3] {
        let disk = SimDisk::default();
        let done = run(&disk, Repair::default(), &Model::default(), &Script::draw(4, 20).steps);
        let disk = disk.kill();
        set_version(&disk, former);
        let opened = open(&disk);
        let found = disk.kill();
        drop(opened);
        let versions = [0, 4096].map(|at| {
            let mut version = [0; 4];
            found.read(at + 16, &mut version).expect("a header");
            u32::from_le_bytes(version)
        });
        assert!(versions.contains(&4), "whoever knows only version {former} refuses it: {versions:?}");
        recovered(&found, Repair::default(), &done);
    }
}

#[test]
fn one_bad_sector_in_the_header_costs_nothing() {
    let disk = SimDisk::default();
    let done = run(&disk, Repair::default(), &Model::default(), &Script::draw(4, 20).steps);
    for left in [disk.kill(), disk] {
        for at in [0, 512, 4096, 4608] {
            let damaged = left.kill();
            damaged.corrupt(at, 512, &mut ChaCha8Rng::seed_from_u64(at));
            recovered(&damaged, Repair::default(), &done);
        }
    }
}

#[test]
fn damage_is_named_or_answered_as_damage_and_never_taken_for_content() {
    let script = Script::draw(5, 60);
    let whole = SimDisk::default();
    let done = run(&whole, Repair::default(), &Model::default(), &script.steps);
    let (mut refused, mut damaged, mut unharmed) = (0, 0, 0);
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let disk = whole.kill();
        let blocks = disk.used_blocks();
        let block = blocks[rng.random_range(0..blocks.len())];
        let sector = rng.random_range(0..8);
        disk.corrupt(block * 4096 + sector * 512, 512, &mut rng);
        match Store::open(disk, Repair::default()) {
            Err(OpenError::Damaged(_)) => refused += 1,
            Err(error) => panic!("seed {seed}: {error}"),
            Ok((store, _)) => match done.acknowledged.damaged_answers(&store) {
                0 => unharmed += 1,
                _ => damaged += 1,
            },
        }
    }
    assert!(refused > 0 && damaged > 0 && unharmed > 0, "{refused} {damaged} {unharmed}");
}

/// What is stored so, wherever it is on the disk, has rotted.
fn rot(disk: &SimDisk, bytes: &[u8]) {
    let mut all = vec![0; usize::try_from(disk.size().expect("a size")).expect("a small disk")];
    disk.read(0, &mut all).expect("it is read");
    let places = all.windows(bytes.len()).enumerate().filter(|(_, found)| *found == bytes);
    let places: Vec<usize> = places.map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "it is on the disk");
    places.iter().for_each(|at| disk.corrupt(*at as u64, 1, &mut ChaCha8Rng::seed_from_u64(1)));
}

#[test]
fn only_the_answer_is_damaged_where_only_what_was_asked_for_is() {
    let disk = SimDisk::default();
    let (mut store, _) = open(&disk);
    let commit = one(1, vec![event("s", 1, b"an event that rots"), put("u", "d", "a row that rots")]);
    store.commit(&commit).unwrap();
    store.fold().unwrap();
    drop(store);
    rot(&disk, b"an event that rots");
    rot(&disk, b"a row that rots");
    let (mut store, _) = open(&disk);
    let events = Query::Events { stream: stream("s"), after: 0, events_max: 9, bytes_max: 9 };
    for query in [events, Query::Owner("u".into())] {
        assert_eq!(store.load(&query).unwrap(), Found::Damaged);
        let before = disk.operations();
        store.commit(&one(2, vec![put("u", "e", "another")])).unwrap();
        assert_eq!(disk.operations() - before, 2, "a commit is a write and a sync: nothing is opened again");
    }
}

#[test]
fn a_stream_is_read_in_pages_and_forgets_what_was_trimmed() {
    let (mut store, _) = Store::open(SimDisk::default(), Repair::default()).unwrap();
    // With their lengths 128 of them fill a chunk.
    let body = |seq: u64| format!("{seq:0244}");
    for seq in 1..=300u64 {
        store.commit(&one(seq, vec![event("s", seq, body(seq).as_bytes())])).unwrap();
        if seq == 250 {
            store.fold().unwrap();
        }
    }
    let page = |store: &Store, after, events_max, bytes_max| {
        let query = Query::Events { stream: stream("s"), after, events_max, bytes_max };
        let found = store.load(&query).unwrap();
        let Found::Events(events) = found else { panic!("{found:?}") };
        events.into_iter().map(|event| event.0).collect::<Vec<_>>()
    };
    assert_eq!(page(&store, 0, 1000, 1 << 20), (1..=300).collect::<Vec<_>>());
    assert_eq!(page(&store, 240, 20, 1 << 20), (241..=260).collect::<Vec<_>>());
    assert_eq!(page(&store, 240, 1000, 500), [241, 242]);
    assert_eq!(page(&store, 240, 0, 0), [241]);
    assert_eq!(page(&store, 300, 10, 10), [0; 0]);
    let trim = store_model::trim("s", 130);
    store.commit(&one(301, vec![trim])).unwrap();
    store.fold().unwrap();
    assert_eq!(page(&store, 0, 1000, 1 << 20), (129..=300).collect::<Vec<_>>());
    store.commit(&one(302, vec![store_model::trim("s", 301)])).unwrap();
    store.fold().unwrap();
    assert_eq!(page(&store, 0, 1000, 1 << 20), [0; 0]);
    store.commit(&one(303, vec![event("s", 301, b"{}")])).unwrap();
    assert_eq!(page(&store, 300, 1000, 1 << 20), [301]);
}

#[test]
#[should_panic(expected = "its next event is 7")]
fn a_gap_in_a_stream_is_a_broken_promise_of_the_core_also_after_a_restart() {
    let disk = SimDisk::default();
    let (mut store, _) = open(&disk);
    store.commit(&one(1, vec![event("s", 5, b"{}")])).unwrap();
    store.fold().unwrap();
    drop(store);
    let (mut store, _) = open(&disk);
    store.commit(&one(2, vec![event("s", 7, b"{}")])).unwrap_or_default();
}

#[test]
fn a_journal_longer_than_its_limit_is_folded_by_the_commits_themselves() {
    let disk = SimDisk::default();
    let (mut store, _) = open(&disk);
    let mut known = Model::default();
    for seq in 1..=1100 {
        let commit = one(seq, vec![event("s", seq, b"{}"), put("u", &row(seq % 7), "v")]);
        store.commit(&commit).unwrap();
        known.apply(&commit);
    }
    known.check_answers(&store);
    let (store, image) = open(&disk.kill());
    known.check(&store, &image);
}
