//! Blocks of the disk that cannot be read at all: what the rest tells is made anew, and what it does not tell
//! stops the start. Never is it taken for what nobody has written.

use super::store_model::{Model, Script, one, put};
use super::{JOURNAL_BLOCKS, Run, open, recovered, run};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use runcast::disk::{Disk, Untouched};
use runcast::store::{OpenError, Repair, Store};
use runcast_sim::disk::{SimDisk, Unreadable};

const BLOCK: u64 = 4096;
/// The header's two blocks, and the journal's after them.
const GUARDED: u64 = 2 + JOURNAL_BLOCKS;

/// What a process has left, and what it knew.
fn left(seed: u64, repair: Repair) -> (SimDisk, Run) {
    let disk = SimDisk::default();
    let script = Script::draw(seed, 25 + seed as usize % 7);
    let before = run(&disk, repair, &Model::default(), &script.steps);
    (disk.kill(), before)
}

fn without(disk: &SimDisk, blocks: &[u64], until: Unreadable) -> SimDisk {
    let disk = disk.kill();
    blocks.iter().for_each(|block| disk.make_unreadable(*block, until));
    disk
}

/// Whether it opens: then all that was acknowledged is there. Else it says why not.
fn opens(disk: &SimDisk, repair: Repair, before: &Run) -> bool {
    match Store::open_with(disk.kill(), repair, JOURNAL_BLOCKS) {
        Ok(_) => {
            recovered(disk, repair, before);
            true
        }
        Err(OpenError::Unreadable { .. } | OpenError::Damaged(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn any_one_block_of_header_and_journal_is_made_anew() {
    for (seed, repair) in (0..6).map(|seed| (seed, [Repair::Quick, Repair::Full][seed as usize % 2])) {
        let (disk, before) = left(seed, repair);
        let journal = (2..GUARDED).map(|block| (block, Unreadable::ForGood));
        for (block, until) in (0..GUARDED).map(|block| (block, Unreadable::UntilWritten)).chain(journal) {
            let found = without(&disk, &[block], until);
            let known = recovered(&found, repair, &before);
            let next = run(&found, repair, &known, &Script::after(&known, seed, 4).steps);
            assert!(next.under_way.is_none(), "block {block}, {until:?}");
            recovered(&found, repair, &next);
        }
    }
}

#[test]
fn a_process_that_is_killed_at_any_operation_leaves_a_header_of_which_a_half_is_enough() {
    let script = Script::draw(5, 30);
    let whole = SimDisk::default();
    run(&whole, Repair::Quick, &Model::default(), &script.steps);
    for at in 0..whole.operations() {
        let disk = SimDisk::default();
        disk.power_off_at(at);
        let before = run(&disk, Repair::Quick, &Model::default(), &script.steps);
        let killed = disk.kill();
        for block in (0..2).filter(|_| before.acknowledged.has_any()) {
            recovered(&without(&killed, &[block], Unreadable::UntilWritten), Repair::Quick, &before);
        }
    }
}

#[test]
fn a_crash_at_any_operation_while_the_header_is_made_anew_is_a_crash_like_any_other() {
    for (seed, repair) in [(1, Repair::Quick), (2, Repair::Full)] {
        let (disk, before) = left(seed, repair);
        for block in 0..2 {
            let found = without(&disk, &[block], Unreadable::UntilWritten);
            let probe = found.kill();
            drop(Store::open_with(probe.clone(), repair, JOURNAL_BLOCKS).expect("it is made anew"));
            for at in 0..probe.operations() {
                let again = found.kill();
                again.power_off_at(at);
                let before = run(&again, repair, &before.acknowledged, &[]);
                let mut rng = ChaCha8Rng::seed_from_u64(at);
                recovered(&again.crash(&mut rng), repair, &before);
            }
        }
    }
}

#[test]
fn two_blocks_that_cannot_be_read_take_nothing_away_in_silence() {
    for seed in [1, 2] {
        let (disk, before) = left(seed, Repair::Quick);
        let mut opened = 0;
        for first in 0..GUARDED {
            for second in first + 1..GUARDED {
                let found = without(&disk, &[first, second], Unreadable::UntilWritten);
                opened += u32::from(opens(&found, Repair::Quick, &before));
            }
        }
        assert!(opened > 100, "{opened}: most are of different entries");
    }
}

#[test]
fn a_block_that_cannot_be_read_beside_one_that_has_rotted_takes_nothing_away_in_silence() {
    for seed in [3] {
        let (disk, before) = left(seed, Repair::Quick);
        for unread in 0..GUARDED {
            for rotten in (2..GUARDED).filter(|rotten| *rotten != unread) {
                let found = without(&disk, &[unread], Unreadable::UntilWritten);
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                found.corrupt(rotten * BLOCK, BLOCK as usize, &mut rng);
                opens(&found, Repair::Quick, &before);
            }
        }
    }
}

#[test]
fn after_a_loss_of_power_too_what_was_acknowledged_is_there_or_the_start_is_refused() {
    let script = Script::draw(1, 25);
    let whole = SimDisk::default();
    run(&whole, Repair::Quick, &Model::default(), &script.steps);
    for at in (0..whole.operations()).step_by(3) {
        let disk = SimDisk::default();
        disk.power_off_at(at);
        let before = run(&disk, Repair::Quick, &Model::default(), &script.steps);
        let mut rng = ChaCha8Rng::seed_from_u64(at);
        let crashed = disk.crash(&mut rng);
        let blocks = GUARDED.min(crashed.size().unwrap() / BLOCK);
        for block in 0..blocks {
            opens(&without(&crashed, &[block], Unreadable::UntilWritten), Repair::Quick, &before);
        }
    }
}

#[test]
fn a_page_that_cannot_be_read_is_told_with_its_bytes() {
    let (disk, _) = two_commits();
    let pages: Vec<u64> = disk.used_blocks().into_iter().filter(|block| *block >= GUARDED).collect();
    let opened = Store::open(without(&disk, &pages, Unreadable::ForGood), Repair::Quick);
    let told = opened.err().map(|error| error.to_string()).expect("without its pages it is no store");
    let at = |told: &str| Some(told.split_once("bytes ")?.1.split_once(' ')?.0.parse::<u64>().ok()? / BLOCK);
    assert!(at(&told).is_some_and(|block| pages.contains(&block)), "{told}");
}

/// A store that was folded, and then two commits of two blocks each.
fn two_commits() -> (SimDisk, Model) {
    let disk = SimDisk::default();
    let (mut store, _) = open(&disk);
    let mut known = Model::default();
    let mut commit = |store: &mut Store, id: u64| {
        let commit = one(id, vec![put("ann", "a", &id.to_string())]);
        store.commit(&commit).expect("it is stored");
        known.apply(&commit);
    };
    commit(&mut store, 1);
    store.fold().expect("it is folded");
    commit(&mut store, 2);
    commit(&mut store, 3);
    (disk.kill(), known)
}

fn refused(disk: &SimDisk, blocks: &[u64]) -> String {
    let found = without(disk, blocks, Unreadable::UntilWritten);
    let opened = Store::open_with(found, Repair::Quick, JOURNAL_BLOCKS);
    let Err(error) = opened else { panic!("without {blocks:?} it is opened") };
    assert!(matches!(error, OpenError::Unreadable { .. }), "{error}");
    error.to_string()
}

#[test]
fn what_cannot_be_made_anew_is_told_with_its_bytes_what_is_lost_and_what_to_do() {
    let (disk, _) = two_commits();
    let told = refused(&disk, &[4, 5]);
    let expected = "bytes 16384 to 24576 of the store's file cannot be read (";
    assert!(told.starts_with(expected), "{told}");
    assert!(told.contains("and with them entry 2 of its journal is lost: check the disk"), "{told}");
    let told = refused(&disk, &[6, 7]);
    assert!(told.contains("bytes 24576 to 32768") && told.contains("entry 3 of its journal"), "{told}");
    assert!(told.contains(", if it was ever written, is lost: check the disk"), "{told}");
    let told = refused(&disk, &[0, 1]);
    assert!(told.contains("bytes 0 to 8192") && told.contains("its header is lost"), "{told}");
}

#[test]
fn one_block_after_the_newest_entry_hides_nothing_and_two_may() {
    let (disk, known) = two_commits();
    for block in [8, 9, 20] {
        let (store, image) = open(&without(&disk, &[block], Unreadable::ForGood));
        known.check(&store, &image);
    }
    let (store, image) = open(&without(&disk, &[20, 21], Unreadable::ForGood));
    known.check(&store, &image);
    refused(&disk, &[8, 9]);
}

#[test]
fn a_look_at_a_store_of_which_a_block_cannot_be_read_changes_nothing() {
    let (disk, known) = two_commits();
    for block in [0, 1, 4, 5, 6, 7] {
        let found = without(&disk, &[block], Unreadable::UntilWritten);
        let untouched = found.kill();
        let looked = Store::open_with(Untouched::new(found.clone()), Repair::Quick, JOURNAL_BLOCKS);
        let (store, image) = looked.expect("what a start makes anew");
        known.check(&store, &image);
        assert!(found.equals(&untouched));
    }
}
