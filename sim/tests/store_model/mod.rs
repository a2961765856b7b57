//! A model of the store, maps and lists, and scripts of what a core might ask of it.

use bytes::Bytes;
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};
use runcast::store::Store;
use runcast_core::ids::AppendId;
use runcast_core::record::{Found, Image, Query, Record, RowKey, StreamKey, Table};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) type Commit = Vec<(AppendId, Arc<[Record]>)>;

const OWNERS: [&str; 4] = ["", "ann", "bob", "bo"];
const NAMES: [&str; 3] = ["", "a", "b"];
const STREAMS: [&str; 4] = ["ann/e-1", "ann/e-2", "bob/e-1", "bob/e-10"];

/// What the store must know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    rows: BTreeMap<RowKey, Bytes>,
    streams: BTreeMap<StreamKey, Stream>,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    floor: u64,
    events: Vec<(u64, Bytes)>,
}

impl Model {
    pub(crate) fn apply(&mut self, commit: &Commit) {
        for record in commit.iter().flat_map(|append| append.1.iter()) {
            match record {
                Record::Event { stream, seq, bytes } => {
                    self.streams.entry(stream.clone()).or_default().events.push((*seq, bytes.clone()));
                }
                Record::Put { key, value } => drop(self.rows.insert(key.clone(), value.clone())),
                Record::Delete { key } => drop(self.rows.remove(key)),
                Record::Trim { stream, floor } => {
                    let stream = self.streams.entry(stream.clone()).or_default();
                    stream.floor = stream.floor.max(*floor);
                }
            }
        }
    }

    /// Asserts that the store, just opened, knows this and nothing else.
    pub(crate) fn check(&self, store: &Store, image: &Image) {
        assert_eq!(*image, self.image());
        self.check_answers(store);
    }

    pub(crate) fn check_answers(&self, store: &Store) {
        assert_eq!(self.damaged_answers(store), 0);
    }

    pub(crate) fn has_any(&self) -> bool {
        !self.rows.is_empty() || !self.streams.is_empty()
    }

    pub(crate) fn agrees(&self, store: &Store, image: &Image) -> bool {
        let ends = STREAMS.iter().all(|name| {
            let mine = self.streams.get(&stream(name)).and_then(|stream| stream.events.last());
            let after = mine.map_or(0, |event| event.0 - 1);
            let Found::Events(events) = ask(store, &events_after(name, after)) else { return false };
            let trimmed = self.streams.get(&stream(name)).is_some_and(|stream| stream.floor > after + 1);
            events.last() == mine || (trimmed && events.is_empty())
        });
        let rows = all_keys().all(|key| {
            let found = ask(store, &Query::Rows(vec![key.clone()]));
            let mine = self.rows.get_key_value(&key).map(|(key, value)| (key.clone(), value.clone()));
            found == Found::Rows(mine.into_iter().collect())
        });
        ends && rows && *image == self.image()
    }

    /// Asks everything; asserts that each answer is right or says that it is damaged, and counts the latter.
    pub(crate) fn damaged_answers(&self, store: &Store) -> usize {
        let mut damaged = 0;
        let mut is = |found: Found, right: Found| match found {
            Found::Damaged => damaged += 1,
            Found::Rows(_) | Found::Events(_) => assert_eq!(found, right),
        };
        let keys: Vec<RowKey> =
            all_keys().chain([key(Table::Device, "u", "d")]).chain(self.rows.keys().cloned()).collect();
        is(ask(store, &Query::Rows(keys.clone())), self.rows_where(|key| keys.contains(key)));
        for owner in OWNERS.into_iter().chain(["nobody"]) {
            let right = self.rows_where(|key| key.table.is_context() && &*key.owner == owner);
            is(ask(store, &Query::Owner(owner.into())), right);
        }
        for name in STREAMS.into_iter().chain(["s"]) {
            let empty = Stream::default();
            let stream = self.streams.get(&stream(name)).unwrap_or(&empty);
            match ask(store, &events_after(name, 0)) {
                Found::Events(events) => stream.check(&events),
                found @ (Found::Rows(_) | Found::Damaged) => is(found, Found::Events(stream.events.clone())),
            }
        }
        damaged
    }

    fn rows_where(&self, is: impl Fn(&RowKey) -> bool) -> Found {
        let rows = self.rows.iter().filter(|(key, _)| is(key));
        Found::Rows(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn image(&self) -> Image {
        let alive: Vec<&RowKey> = self.rows.keys().filter(|key| key.table.is_alive()).collect();
        let named = |owner: &str| !owner.is_empty() && alive.iter().any(|key| &*key.owner == owner);
        let rows =
            self.rows_where(|key| key.table.is_alive() || (key.table.is_context() && named(&key.owner)));
        let Found::Rows(rows) = rows else { unreachable!() };
        Image { rows }
    }
}

impl Stream {
    /// What was trimmed may still be there; everything else is, and is what was stored.
    fn check(&self, found: &[(u64, Bytes)]) {
        let missing = self.events.len().checked_sub(found.len()).expect("no more than was stored");
        assert_eq!(found, &self.events[missing..]);
        assert!(
            self.events[..missing].iter().all(|event| event.0 < self.floor),
            "only what is below the floor"
        );
    }
}

/// What a process does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Commit(Commit),
    Fold,
    Load,
}

#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
}

impl Script {
    pub(crate) fn draw(seed: u64, steps: usize) -> Self {
        Self::after(&Model::default(), seed, steps)
    }

    /// Steps that a core might take that knows this.
    pub(crate) fn after(known: &Model, seed: u64, steps: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut model = known.clone();
        let mut id = 0;
        let draw = |_| match rng.random_range(0..10) {
            0..7 => {
                let mut commit = Commit::new();
                for _ in 0..rng.random_range(1..4) {
                    id += 1;
                    let records = records(&model, &mut rng);
                    let append = (AppendId(id), records);
                    model.apply(&vec![append.clone()]);
                    commit.push(append);
                }
                Step::Commit(commit)
            }
            7..9 => Step::Fold,
            _ => Step::Load,
        };
        Self { steps: (0..steps).map(draw).collect() }
    }
}

fn records(known: &Model, rng: &mut impl Rng) -> Arc<[Record]> {
    let mut model = known.clone();
    let mut records = Vec::new();
    for _ in 0..rng.random_range(0..6) {
        let record = record(&model, rng);
        model.apply(&vec![(AppendId(0), Arc::from([record.clone()]))]);
        records.push(record);
    }
    records.into()
}

fn record(model: &Model, rng: &mut impl Rng) -> Record {
    let name = STREAMS[rng.random_range(0..STREAMS.len())];
    let last = model.streams.get(&stream(name)).and_then(|stream| stream.events.last()).map(|event| event.0);
    let table = Table::ALL[rng.random_range(0..Table::ALL.len())];
    let key = key(table, OWNERS[rng.random_range(0..4)], NAMES[rng.random_range(0..3)]);
    match rng.random_range(0..10) {
        0..5 => {
            let longest = if rng.random_ratio(1, 40) { 18 } else { 10 };
            let mut bytes = vec![0; 1 << rng.random_range(0..longest)];
            rng.fill_bytes(&mut bytes);
            Record::Event { stream: stream(name), seq: last.map_or(1, |last| last + 1), bytes: bytes.into() }
        }
        5..8 => Record::Put { key, value: rng.random::<u64>().to_string().into() },
        8 => Record::Delete { key },
        _ => trim(name, rng.random_range(0..last.map_or(1, |last| last + 2))),
    }
}

fn all_keys() -> impl Iterator<Item = RowKey> {
    let owners = OWNERS.into_iter().flat_map(|owner| NAMES.into_iter().map(move |name| (owner, name)));
    owners.flat_map(|(owner, name)| Table::ALL.into_iter().map(move |table| key(table, owner, name)))
}

fn ask(store: &Store, query: &Query) -> Found {
    store.load(query).expect("the disk answers")
}

fn events_after(name: &str, after: u64) -> Query {
    Query::Events { stream: stream(name), after, events_max: usize::MAX, bytes_max: usize::MAX }
}

fn key(table: Table, owner: &str, name: &str) -> RowKey {
    RowKey { table, owner: owner.into(), name: name.into() }
}

pub(crate) fn stream(name: &str) -> StreamKey {
    StreamKey(name.into())
}

pub(crate) fn event(name: &str, seq: u64, bytes: &[u8]) -> Record {
    Record::Event { stream: stream(name), seq, bytes: Bytes::copy_from_slice(bytes) }
}

pub(crate) fn put(owner: &str, name: &str, value: &str) -> Record {
    Record::Put { key: key(Table::Device, owner, name), value: value.to_owned().into() }
}

pub(crate) fn trim(name: &str, floor: u64) -> Record {
    Record::Trim { stream: stream(name), floor }
}

pub(crate) fn row(number: u64) -> String {
    format!("row-{number}")
}

pub(crate) fn one(id: u64, records: Vec<Record>) -> Commit {
    vec![(AppendId(id), records.into())]
}
