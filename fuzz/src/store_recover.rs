//! Arbitrary bytes and damaged stores: opening one never panics, does the same a second time, and never gives
//! out what was not put in.

use crate::choices::Choices;
use bytes::Bytes;
use runcast::disk::Disk;
use runcast::store::{OpenError, Repair, Store};
use runcast_core::ids::AppendId;
use runcast_core::record::{Found, Image, Query, Record, RowKey, StreamKey, Table};
use runcast_sim::disk::SimDisk;
use std::collections::{BTreeMap, BTreeSet};

/// Steps of a script, and changes of what it left, at most.
const STEPS: usize = 40;
const OWNERS: [&str; 3] = ["", "ann", "bob"];
const STREAMS: [&str; 2] = ["u:e-1:ann", "u:e-2:bob"];
/// The journal's: it goes round, and some commits find no room in it.
const JOURNAL_BLOCKS: u64 = 24;
/// What is read and written of the disk at once.
const BLOCK: u64 = 4096;

/// An even first byte: the rest is the disk. An odd one: a script that fills a store, after a count of its
/// bytes, and then changes of its bytes.
pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut truth = Truth::default();
    let disk = if choices.byte() & 1 == 0 {
        SimDisk::holding(choices.rest())
    } else {
        let disk = truth.script(&mut Choices::new(choices.some()));
        damage(&disk, &mut choices);
        disk
    };
    let first = truth.opened(&disk.kill());
    let again = disk.kill();
    assert_eq!(first, truth.opened(&again), "the same disk opens the same way");
    if first.is_ok() {
        truth.go_on(&again);
    }
}

fn open(disk: &SimDisk) -> Result<(Store, Image), OpenError> {
    Store::open_with(disk.clone(), Repair::default(), JOURNAL_BLOCKS)
}

/// Everything that was ever put in.
#[derive(Debug, Default)]
struct Truth {
    rows: BTreeMap<RowKey, BTreeSet<Bytes>>,
    streams: BTreeMap<StreamKey, Vec<Bytes>>,
}

impl Truth {
    /// Fills a store.
    fn script(&mut self, choices: &mut Choices<'_>) -> SimDisk {
        let mut disk = SimDisk::default();
        let (mut store, _) = open(&disk).expect("a new disk");
        for id in 1..=STEPS as u64 {
            if choices.is_empty() {
                break;
            }
            match choices.below(8) {
                0 => store.fold().expect("a disk that works"),
                1 => {
                    drop(store);
                    disk = disk.kill();
                    store = open(&disk).expect("what was closed can be opened").0;
                }
                _ => {
                    let records: Vec<Record> = (0..=choices.below(4)).map(|_| self.record(choices)).collect();
                    store.commit(&[(AppendId(id), records.into())]).expect("a disk that works");
                }
            }
        }
        disk.kill()
    }

    fn record(&mut self, choices: &mut Choices<'_>) -> Record {
        let kind = choices.below(8);
        let stream = StreamKey(choices.pick(&STREAMS).into());
        if kind < 4 {
            let bytes = Bytes::from(vec![choices.byte(); choices.below(256) * 8]);
            let events = self.streams.entry(stream.clone()).or_default();
            events.push(bytes.clone());
            return Record::Event { stream, seq: events.len() as u64, bytes };
        }
        if kind == 4 {
            return Record::Trim { stream, floor: u64::from(choices.byte()) };
        }
        let table = choices.pick(&Table::ALL);
        let key = RowKey { table, owner: choices.pick(&OWNERS).into(), name: choices.pick(&OWNERS).into() };
        if kind == 5 {
            return Record::Delete { key };
        }
        let value = Bytes::from(vec![choices.byte(); choices.below(64)]);
        self.rows.entry(key.clone()).or_default().insert(value.clone());
        Record::Put { key, value }
    }

    /// Opens a store and asks everything: the image, or why there is none.
    fn opened(&self, disk: &SimDisk) -> Result<Image, String> {
        let (store, image) = open(disk).map_err(|error| error.to_string())?;
        self.check_rows(&image.rows);
        for owner in OWNERS {
            self.check(&store, &Query::Owner(owner.into()));
        }
        self.check(&store, &Query::Rows(self.rows.keys().cloned().collect()));
        for stream in STREAMS {
            let stream = StreamKey(stream.into());
            for after in [0, 3, 70] {
                let (events_max, bytes_max) = (50, 20_000);
                self.check(&store, &Query::Events { stream: stream.clone(), after, events_max, bytes_max });
            }
        }
        Ok(image)
    }

    fn check(&self, store: &Store, query: &Query) {
        match store.load(query) {
            Ok(Found::Rows(rows)) => self.check_rows(&rows),
            Ok(Found::Events(events)) => {
                let Query::Events { stream, after, .. } = query else { panic!("rows were asked for") };
                let known = self.streams.get(stream).map_or(&[][..], Vec::as_slice);
                let mut before = *after;
                for (seq, bytes) in &events {
                    assert!(before == *after || *seq == before + 1, "events are consecutive");
                    before = *seq;
                    assert_eq!(known.get(*seq as usize - 1), Some(bytes), "seq {seq} is what was put in");
                }
            }
            Ok(Found::Damaged) | Err(_) => {}
        }
    }

    fn check_rows(&self, rows: &[(RowKey, Bytes)]) {
        for (key, value) in rows {
            let known = self.rows.get(key).is_some_and(|values| values.contains(value));
            assert!(known, "{key:?} was never {value:?}");
        }
    }

    /// What could be opened can be worked with: whatever fails says so.
    fn go_on(&self, disk: &SimDisk) {
        let Ok((mut store, _)) = open(disk) else { return };
        let key = RowKey { table: Table::Key, owner: "new".into(), name: "row".into() };
        let put = Record::Put { key: key.clone(), value: Bytes::from_static(b"new") };
        let is_kept = store.commit(&[(AppendId(1), [put].into())]).is_ok();
        let is_kept = store.fold().is_ok() && is_kept;
        drop(store);
        if is_kept && let Ok((store, _)) = open(&disk.kill()) {
            match store.load(&Query::Rows(vec![key.clone()])) {
                Ok(Found::Rows(rows)) => assert_eq!(rows, [(key, Bytes::from_static(b"new"))]),
                Ok(Found::Events(_) | Found::Damaged) | Err(_) => {}
            }
        }
    }
}

/// Changes bytes in the blocks that are used, or cuts the disk off.
fn damage(disk: &SimDisk, choices: &mut Choices<'_>) {
    let blocks = disk.used_blocks();
    for _ in 0..STEPS {
        if choices.is_empty() {
            return;
        }
        let block = blocks[choices.below(blocks.len())];
        let at = block * BLOCK + u64::from(choices.byte()) * 16 + u64::from(choices.byte() % 16);
        let mut bytes = vec![0; 1 + choices.below(64)];
        if at + bytes.len() as u64 > disk.size().expect("a disk that works") {
            continue;
        }
        match choices.byte() {
            0 => disk.set_len(at).expect("a disk that works"),
            1 => disk.write(at, &bytes).expect("a disk that works"),
            mask => {
                disk.read(at, &mut bytes).expect("a disk that works");
                bytes.iter_mut().for_each(|byte| *byte ^= mask);
                disk.write(at, &bytes).expect("a disk that works");
            }
        }
    }
}
