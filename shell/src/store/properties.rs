//! Properties of folding: it changes no answer, whenever it begins and ends.

use super::{Fold, Folded, Repair, Store};
use crate::ram::Ram;
use bytes::Bytes;
use proptest::prelude::*;
use runcast_core::ids::AppendId;
use runcast_core::record::{Found, Query, Record, RowKey, StreamKey, Table};
use std::collections::BTreeMap;

/// A journal in which a script finds room,
const ENOUGH: u64 = 1024;
/// and one in which some commits do, and hardly one beside another.
const FEW: u64 = 12;

const NAMES: [&str; 3] = ["", "ann", "bob"];

/// What is put in, as a core would: the seqs follow.
#[derive(Clone, Debug)]
enum What {
    Event { stream: usize, bytes: usize },
    Put { table: usize, owner: usize, name: usize, value: u8 },
    Delete { table: usize, owner: usize, name: usize },
    Trim { stream: usize, below_end: u64 },
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<What>),
    Fold,
    /// Begins to fold; the next one does it, and what comes then is found twice.
    BeginFold,
    EndFold,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (table, name) = (0..Table::ALL.len(), 0..NAMES.len());
    let row = (table, name.clone(), name);
    let what = prop_oneof![
        6 => (0..2usize, 0..2_000usize).prop_map(|(stream, bytes)| What::Event { stream, bytes }),
        3 => (row.clone(), any::<u8>())
            .prop_map(|((table, owner, name), value)| What::Put { table, owner, name, value }),
        1 => row.prop_map(|(table, owner, name)| What::Delete { table, owner, name }),
        1 => (0..2usize, 0..20u64).prop_map(|(stream, below_end)| What::Trim { stream, below_end }),
    ];
    let step = prop_oneof![
        6 => prop::collection::vec(what, 1..30).prop_map(Step::Commit),
        2 => Just(Step::Fold),
        2 => Just(Step::BeginFold),
        2 => Just(Step::EndFold),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..25)
}

fn row(table: usize, owner: usize, name: usize) -> RowKey {
    RowKey { table: Table::ALL[table], owner: NAMES[owner].into(), name: NAMES[name].into() }
}

fn stream(stream: usize) -> StreamKey {
    StreamKey(NAMES[stream + 1].into())
}

/// The records, with the seqs that come next; `ends` are the streams' last ones, `floors` below which was
/// trimmed.
fn record(what: &What, ends: &mut [u64; 2], floors: &mut [u64; 2]) -> Record {
    match *what {
        What::Event { stream: of, bytes } => {
            ends[of] += 1;
            let bytes = Bytes::from(vec![ends[of] as u8; bytes]);
            Record::Event { stream: stream(of), seq: ends[of], bytes }
        }
        What::Put { table, owner, name, value } => {
            Record::Put { key: row(table, owner, name), value: Bytes::from(vec![value; 3]) }
        }
        What::Delete { table, owner, name } => Record::Delete { key: row(table, owner, name) },
        What::Trim { stream: of, below_end } => {
            floors[of] = floors[of].max(ends[of].saturating_sub(below_end));
            Record::Trim { stream: stream(of), floor: floors[of] }
        }
    }
}

/// All rows, and all pages of all streams, a few events at a time. What was trimmed may be there or not.
fn answers(store: &Store, floors: [u64; 2]) -> (Found, BTreeMap<(usize, u64), Bytes>) {
    let tables = 0..Table::ALL.len();
    let keys = tables.flat_map(|table| (0..9).map(move |names| row(table, names / 3, names % 3))).collect();
    let mut events = BTreeMap::new();
    for (of, floor) in floors.into_iter().enumerate() {
        let mut after = floor.saturating_sub(1);
        loop {
            let query = Query::Events { stream: stream(of), after, events_max: 7, bytes_max: 5_000 };
            let Found::Events(page) = store.load(&query).unwrap() else { panic!("events were asked for") };
            assert!(
                page.len() <= 7
                    && (page.len() <= 1 || page.iter().map(|it| it.1.len()).sum::<usize>() <= 5_000)
            );
            let Some((last, _)) = page.last() else { break };
            after = *last;
            events.extend(page.into_iter().map(|(seq, bytes)| ((of, seq), bytes)));
        }
    }
    (store.load(&Query::Rows(keys)).unwrap(), events)
}

/// A fold that has not ended.
enum Halfway {
    Begun(Fold),
    Run(Folded),
}

impl Halfway {
    fn run(self) -> Self {
        match self {
            Self::Begun(fold) => Self::Run(fold.run()),
            run @ Self::Run(_) => run,
        }
    }
}

fn end(store: &mut Store, folding: &mut Option<Halfway>) {
    if let Some(Halfway::Run(folded)) = folding.take().map(Halfway::run) {
        store.end_fold(folded).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn folding_changes_no_answer(steps in steps()) {
        let mut disk = Ram::default();
        let open = |disk: &Ram, blocks| Store::open_with(disk.clone(), Repair::default(), blocks).unwrap().0;
        let (mut never, mut store) = (open(&Ram::default(), ENOUGH), open(&disk, FEW));
        let (mut ends, mut floors, mut folding) = ([0; 2], [0; 2], None);
        for (id, step) in steps.iter().enumerate() {
            match step {
                Step::Commit(all) => {
                    let records: Vec<Record> =
                        all.iter().map(|what| record(what, &mut ends, &mut floors)).collect();
                    let appends = [(AppendId(id as u64), records.into())];
                    never.commit(&appends).unwrap();
                    if !store.has_room(&appends) {
                        end(&mut store, &mut folding);
                    }
                    store.commit(&appends).unwrap();
                }
                Step::Fold => {
                    end(&mut store, &mut folding);
                    store.fold().unwrap();
                }
                Step::BeginFold if folding.is_none() => {
                    folding = store.begin_fold().unwrap().map(Halfway::Begun);
                }
                Step::BeginFold => folding = folding.map(Halfway::run),
                Step::EndFold => end(&mut store, &mut folding),
                Step::Restart => {
                    folding = None;
                    disk = disk.after_power_loss();
                    store = open(&disk, FEW);
                }
            }
            prop_assert_eq!(answers(&store, floors), answers(&never, floors), "after {:?}", step);
        }
    }
}
