//! O22, for PROTOCOL §2.1 "Durable before visible" over a crash: what a reopened store holds is what the core
//! had been told is durable, and of what was on its way a whole number of appends, in order, none in part;
//! opening it again finds the same, and the same core comes up.

use crate::said::Said;
use runcast_core::Core;
use runcast_core::config::Config;
use runcast_core::record::{Found, Image, Query, Record, RowKey, Table};
use runcast_core::time::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows that are asked for at once.
const PAGE: usize = 512;

/// All rows that are durable, as the records that the store has acknowledged make them.
#[derive(Debug, Default)]
pub struct Rows {
    rows: BTreeMap<RowKey, bytes::Bytes>,
    /// Incarnations of users' streams that are gone: erased, or begun anew since.
    gone: BTreeSet<String>,
}

impl Rows {
    /// All rows.
    pub fn keys(&self) -> impl Iterator<Item = &RowKey> {
        self.rows.keys()
    }

    /// One of them.
    pub fn get(&self, key: &RowKey) -> Option<&bytes::Bytes> {
        self.rows.get(key)
    }

    /// Whether a user has a stream.
    pub fn has_stream(&self, owner: &str) -> bool {
        let key = RowKey { table: Table::User, owner: owner.into(), name: "stream".into() };
        self.rows.contains_key(&key)
    }

    /// The users who have one, empty or not.
    pub fn owners_of_streams(&self) -> BTreeSet<String> {
        let streams = self.rows.keys().filter(|key| key.table == Table::User && &*key.name == "stream");
        streams.map(|key| key.owner.to_string()).collect()
    }

    /// The incarnation of a user's stream.
    pub fn epoch(&self, owner: &str) -> Option<String> {
        let key = RowKey { table: Table::User, owner: owner.into(), name: "stream".into() };
        epoch_in(self.rows.get(&key)?)
    }

    /// Whether an incarnation of a user's stream was durable, and is no more.
    pub fn is_gone(&self, epoch: &str) -> bool {
        self.gone.contains(epoch)
    }

    /// Whether a device of a user has a place.
    pub fn has_device(&self, owner: &str, device: &str) -> bool {
        self.rows.contains_key(&RowKey { table: Table::Device, owner: owner.into(), name: device.into() })
    }

    /// Up to where the device of a `welcome` has acknowledged the stream that it names.
    pub fn acked(&self, welcome: &Said<'_>) -> Option<u64> {
        let (owner, device) = welcome.user.as_deref().zip(welcome.device.as_deref())?;
        let key = RowKey { table: Table::Device, owner: owner.into(), name: device.into() };
        let row: serde_json::Value = serde_json::from_slice(self.rows.get(&key)?).ok()?;
        if row["epoch"].as_str() == welcome.epoch.as_deref() { row["acked"].as_u64() } else { None }
    }

    /// The rows of a table, read.
    pub fn of_table(&self, table: Table) -> impl Iterator<Item = (&RowKey, serde_json::Value)> {
        let rows = self.rows.iter().filter(move |(key, _)| key.table == table);
        rows.map(|(key, row)| (key, serde_json::from_slice(row).unwrap_or_default()))
    }

    /// Whose an undelivered run is, and the seq of its end.
    pub fn undelivered(&self, run: &str) -> Option<(String, u64)> {
        let key = RowKey { table: Table::Undelivered, owner: "".into(), name: run.into() };
        let row: serde_json::Value = serde_json::from_slice(self.rows.get(&key)?).ok()?;
        Some((row["user"].as_str()?.to_owned(), row["last_seq"].as_u64()?))
    }

    /// A record has become durable.
    pub fn apply(&mut self, record: &Record) {
        let (key, before) = match record {
            Record::Put { key, value } => (key, self.rows.insert(key.clone(), value.clone())),
            Record::Delete { key } => (key, self.rows.remove(key)),
            Record::Event { .. } | Record::Trim { .. } => return,
        };
        if key.table == Table::User && &*key.name == "stream" {
            let epoch = before.as_deref().and_then(epoch_in);
            self.gone.extend(epoch.filter(|epoch| Some(epoch) != self.epoch(&key.owner).as_ref()));
        }
    }

    /// Compares a reopened store with this. `pending` are the appends of which nothing was known, `events`
    /// says how many of their events were found. The records of those that were durable after all are
    /// applied; how many appends these are is returned.
    ///
    /// # Errors
    /// No number of pending appends explains what is found.
    pub fn reopened(
        &mut self,
        pending: &[Arc<[Record]>],
        events: usize,
        image: &Image,
        load: &mut dyn FnMut(&Query) -> Result<Found, String>,
    ) -> Result<usize, String> {
        let touched = pending.iter().flat_map(|append| append.iter()).filter_map(row_of);
        let keys: BTreeSet<RowKey> = self.rows.keys().cloned().chain(touched.cloned()).collect();
        let found = read(keys.into_iter().collect(), load)?;
        self.image(image, &found)?;
        let mut before = events;
        let mut reason = None;
        for taken in 0..=pending.len() {
            if let Some(append) = taken.checked_sub(1).and_then(|last| pending.get(last)) {
                append.iter().for_each(|record| self.apply(record));
                before = before.wrapping_sub(append.iter().filter(|record| is_event(record)).count());
            }
            match difference(&self.rows, &found) {
                None if before == 0 => return Ok(taken),
                None => {}
                Some(what) => drop(reason.get_or_insert(what)),
            }
        }
        let reason = reason.unwrap_or_else(|| format!("{events} events of them are found"));
        Err(format!("no number of the {} appends under way explains what is stored: {reason}", pending.len()))
    }

    /// The image is what the tables say: all rows of what is alive.
    fn image(&self, image: &Image, found: &BTreeMap<RowKey, bytes::Bytes>) -> Result<(), String> {
        let alive: Vec<_> = found.iter().filter(|(key, _)| key.table.is_alive()).collect();
        let shown: Vec<_> = image.rows.iter().filter(|(key, _)| key.table.is_alive()).collect();
        if alive.len() == shown.len() && alive.iter().zip(&shown).all(|(a, b)| a.0 == &b.0 && a.1 == &b.1) {
            return Ok(());
        }
        Err(format!("the image has {} rows of what is alive, the tables {}", shown.len(), alive.len()))
    }
}

/// The incarnation that a row of a user's stream names.
fn epoch_in(row: &[u8]) -> Option<String> {
    let row: serde_json::Value = serde_json::from_slice(row).ok()?;
    row["epoch"].as_str().map(str::to_owned)
}

fn is_event(record: &Record) -> bool {
    matches!(record, Record::Event { .. })
}

fn row_of(record: &Record) -> Option<&RowKey> {
    match record {
        Record::Put { key, .. } | Record::Delete { key } => Some(key),
        Record::Event { .. } | Record::Trim { .. } => None,
    }
}

fn read(
    keys: Vec<RowKey>,
    load: &mut dyn FnMut(&Query) -> Result<Found, String>,
) -> Result<BTreeMap<RowKey, bytes::Bytes>, String> {
    let mut rows = BTreeMap::new();
    for page in keys.chunks(PAGE) {
        match load(&Query::Rows(page.to_vec()))? {
            Found::Rows(found) => rows.extend(found),
            other @ (Found::Events(_) | Found::Damaged) => return Err(format!("rows are {other:?}")),
        }
    }
    Ok(rows)
}

/// The first row in which two sets differ, in words.
fn difference(
    expected: &BTreeMap<RowKey, bytes::Bytes>,
    found: &BTreeMap<RowKey, bytes::Bytes>,
) -> Option<String> {
    let words = |rows: &BTreeMap<RowKey, bytes::Bytes>, key: &RowKey| {
        rows.get(key).map_or("nothing".to_owned(), |row| String::from_utf8_lossy(row).into_owned())
    };
    let keys = expected.keys().chain(found.keys());
    let key = keys.into_iter().find(|key| expected.get(*key) != found.get(*key))?;
    let (should, is) = (words(expected, key), words(found, key));
    Some(format!("{key:?} is {is}, and should be {should}"))
}

/// Opens the core twice on the same image.
///
/// # Errors
/// The two differ, or what is opened is not what the image holds.
pub fn twice(config: &Config, seed: [u8; 32], now: Now, image: &Image, again: &Image) -> Result<(), String> {
    if image != again {
        let (first, second) = (image.rows.len(), again.rows.len());
        return Err(format!("recovering twice finds other rows ({first}, then {second})"));
    }
    let open = || {
        let mut out = Vec::new();
        let core = Core::open(config.clone(), seed, image.clone(), now, &mut out);
        core.assert_invariants();
        (core, out)
    };
    let ((first, effects), (second, others)) = (open(), open());
    let runs = |core: &Core| core.inspect().runs().map(|run| format!("{run:?}")).collect::<Vec<_>>();
    if runs(&first) != runs(&second) || format!("{effects:?}") != format!("{others:?}") {
        return Err("the same image makes two different cores".to_owned());
    }
    let specs = image.rows.iter().filter(|(key, _)| key.table == Table::RunSpec);
    let (stored, known) = (specs.count(), first.inspect().runs().count());
    if stored == known { Ok(()) } else { Err(format!("{stored} runs are stored, the core knows {known}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(name: &str, value: &'static str) -> Record {
        let key = RowKey { table: Table::Ended, owner: "".into(), name: name.into() };
        Record::Put { key, value: value.into() }
    }

    /// What a store that holds `rows` is judged as, when `pending` was under way after one row `a` = `1`.
    fn judge(rows: &[Record], pending: &[&[Record]]) -> Result<(), String> {
        let mut known = Rows::default();
        known.apply(&put("a", "1"));
        let mut held = Rows::default();
        rows.iter().for_each(|record| held.apply(record));
        let pending: Vec<Arc<[Record]>> = pending.iter().map(|append| (*append).into()).collect();
        let mut load = |query: &Query| match query {
            Query::Rows(keys) => {
                let row = |key: &RowKey| Some((key.clone(), held.rows.get(key)?.clone()));
                Ok(Found::Rows(keys.iter().filter_map(row).collect()))
            }
            Query::Owner(_) | Query::First { .. } | Query::Events { .. } => {
                Err("nobody asks for that".to_owned())
            }
        };
        known.reopened(&pending, 0, &Image::default(), &mut load).map(drop)
    }

    #[test]
    fn appends_are_found_whole_and_in_order() {
        let (first, second) = ([put("b", "1"), put("c", "1")], [put("a", "2")]);
        let pending: [&[Record]; 2] = [&first, &second];
        let [b, c] = first.clone();
        assert!(judge(&[put("a", "1")], &pending).is_ok());
        assert!(judge(&[put("a", "1"), b.clone(), c.clone()], &pending).is_ok());
        assert!(judge(&[put("a", "2"), b.clone(), c], &pending).is_ok());
        assert!(judge(&[put("a", "1"), b], &pending).is_err(), "half of an append");
        assert!(judge(&[put("a", "2")], &pending).is_err(), "the second without the first");
        assert!(judge(&[], &pending).is_err(), "an acknowledged row is lost");
    }
}
