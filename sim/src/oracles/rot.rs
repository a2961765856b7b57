//! O3 on a disk that rots, for PROTOCOL §3 "A server never resumes partially and silently": of a store with
//! garbage in its middle or at its tail each stream and row is read as it was, or said to be damaged; or the
//! store says so when it is opened. Nothing else is ever taken for content, and nothing is left out in
//! silence, with one exception: after a quick repair redb's pages are not compared with their checksums, and
//! a row whose key has rotted is not found.

use super::restart::Rows;
use super::truth::Truth;
use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::said::Said;
use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use runcast::store::{OpenError, Repair, Store};
use runcast_core::record::{Found, Query, RowKey, StreamKey};
use std::collections::BTreeMap;

/// Events, or rows, that are read at once.
const PAGE: usize = 256;
/// What rots in one piece at most, in bytes.
const PIECE: u64 = 16 * 1024;

/// What is to be found: all that is true.
#[derive(Clone, Copy, Debug)]
struct Expected<'a> {
    truth: &'a Truth,
    rows: &'a Rows,
    /// Whether keys may have rotted unseen.
    repair: Repair,
}

/// Lets copies of a disk rot, and reads what is on them, as the world's own daemon would.
///
/// # Errors
/// Something is found that is not true.
pub fn judge(
    disk: &SimDisk,
    repair: Repair,
    (truth, rows): (&Truth, &Rows),
    dice: &mut Dice,
) -> Result<(), String> {
    for _ in 0..4 {
        let copy = disk.kill();
        rot(&copy, dice);
        match Store::open(copy, repair) {
            Ok((store, _)) => {
                let mut load = |query: &Query| store.load(query).map_err(|error| error.to_string());
                Expected { truth, rows, repair }.read(&mut load)?;
            }
            Err(OpenError::Damaged(_)) => {}
            Err(error) => return Err(format!("a rotten disk is called another thing: {error}")),
        }
    }
    Ok(())
}

impl Expected<'_> {
    /// Reads everything, as far as it is not said to be damaged.
    fn read(&self, load: &mut dyn FnMut(&Query) -> Result<Found, String>) -> Result<(), String> {
        for (key, log) in self.truth.streams() {
            stream(key, log.floor, &log.contents, load)?;
        }
        let keys: Vec<RowKey> = self.rows.keys().cloned().collect();
        keys.chunks(PAGE).try_for_each(|page| self.page(page, load))
    }

    fn page(
        &self,
        keys: &[RowKey],
        load: &mut dyn FnMut(&Query) -> Result<Found, String>,
    ) -> Result<(), String> {
        let found: BTreeMap<RowKey, Bytes> = match load(&Query::Rows(keys.to_vec()))? {
            Found::Rows(found) => found.into_iter().collect(),
            Found::Damaged => return Ok(()),
            found @ Found::Events(_) => return Err(format!("rows are {found:?}")),
        };
        for key in keys {
            let expected = self.rows.get(key);
            let found = found.get(key);
            let is_lost = found.is_none() && self.repair == Repair::Quick;
            if found != expected && !is_lost {
                return Err(format!("on a rotten disk {key:?} is {found:?}, and should be {expected:?}"));
            }
        }
        Ok(())
    }
}

fn rot(disk: &SimDisk, dice: &mut Dice) {
    let mut rng = ChaCha8Rng::from_seed(dice.seed());
    let length = dice.log_uniform(1, PIECE) as usize;
    let blocks = disk.used_blocks();
    if dice.chance(1, 3) || blocks.is_empty() {
        return disk.corrupt_tail(length, &mut rng);
    }
    // Its first blocks say where everything is; they have tests of their own.
    let block = blocks[dice.below(blocks.len() as u64) as usize];
    disk.corrupt(block * 4096 + dice.below(8) * 512, length.min(512), &mut rng);
}

/// Reads one log from its floor on, up to its end or to where it is said to be damaged.
fn stream(
    key: &StreamKey,
    floor: u64,
    contents: &[u64],
    load: &mut dyn FnMut(&Query) -> Result<Found, String>,
) -> Result<(), String> {
    let mut at = floor - 1;
    // What the newest commit has trimmed may be all that there was before it.
    let end = at.max(contents.len() as u64);
    loop {
        let query = Query::Events { stream: key.clone(), after: at, events_max: PAGE, bytes_max: usize::MAX };
        let events = match load(&query)? {
            Found::Events(events) if events.is_empty() => break,
            Found::Events(events) => events,
            Found::Damaged => return Ok(()),
            found @ Found::Rows(_) => return Err(format!("events are {found:?}")),
        };
        // That is damage, too: the core asks from the floor on, and compares.
        if events.first().is_some_and(|(first, _)| *first > at + 1) {
            return Ok(());
        }
        for (seq, bytes) in events {
            at += 1;
            let text = String::from_utf8_lossy(&bytes);
            let content = Said::read(&text).map(|said| said.content()).ok();
            if seq != at || content.is_none() || content != contents.get(seq as usize - 1).copied() {
                return Err(format!("on a rotten disk {seq} of {key:?} is {text}, after {}", at - 1));
            }
        }
    }
    if at == end {
        return Ok(());
    }
    Err(format!("on a rotten disk {key:?} ends at {at} of {end}, and nothing is said of damage"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::record::{Record, Table};

    fn event(stream: &str, seq: u64) -> Record {
        let bytes = format!("{{\"type\":\"event\",\"topic\":\"t\",\"seq\":{seq}}}").into();
        Record::Event { stream: StreamKey(stream.into()), seq, bytes }
    }

    fn row(value: &'static str) -> Record {
        let key = RowKey { table: Table::Ended, owner: "".into(), name: "r".into() };
        Record::Put { key, value: value.into() }
    }

    /// What is stored: how many events of two streams, and a row; whether the first stream is damaged after
    /// its events.
    #[derive(Clone, Copy)]
    struct Held {
        events: [u64; 2],
        row: Option<&'static str>,
        is_damaged: bool,
    }

    /// How this is judged where two streams have two events each, and the row is "2".
    fn judge(held: Held, repair: Repair) -> Result<(), String> {
        let streams = ["t:e:t", "t:f:t"];
        let (mut truth, mut rows) = (Truth::default(), Rows::default());
        let all = [1, 2].into_iter().flat_map(|seq| streams.map(|stream| event(stream, seq)));
        for record in all.chain([row("1"), row("2")]) {
            truth.store(&record, &mut |_, _| Ok(())).unwrap();
            rows.apply(&record);
        }
        let mut load = |query: &Query| match query {
            Query::Events { stream, after, .. } => {
                let index = streams.iter().position(|name| *name == &*stream.0).unwrap();
                let page: Vec<_> =
                    (after + 1..=held.events[index]).map(|seq| event(&stream.0, seq)).collect();
                if page.is_empty() && held.is_damaged && index == 0 {
                    return Ok(Found::Damaged);
                }
                let bytes = |record| match record {
                    Record::Event { seq, bytes, .. } => (seq, bytes),
                    Record::Put { .. } | Record::Delete { .. } | Record::Trim { .. } => unreachable!(),
                };
                Ok(Found::Events(page.into_iter().map(bytes).collect()))
            }
            Query::Rows(keys) => {
                let found = |row: &'static str| keys.iter().map(move |key| (key.clone(), row.into()));
                Ok(Found::Rows(held.row.into_iter().flat_map(found).collect()))
            }
            Query::Owner(_) | Query::First { .. } => Err("nobody asks for that".to_owned()),
        };
        Expected { truth: &truth, rows: &rows, repair }.read(&mut load)
    }

    #[test]
    fn nothing_is_missing_and_nothing_is_another() {
        let held = |events, row| Held { events, row: Some(row), is_damaged: false };
        assert!(judge(held([2, 2], "2"), Repair::Full).is_ok());
        assert!(judge(held([1, 1], "1"), Repair::Full).is_err(), "a commit less");
        assert!(judge(held([1, 2], "2"), Repair::Full).is_err(), "one stream misses it");
        assert!(judge(held([2, 2], "1"), Repair::Full).is_err(), "the rows miss it");
        assert!(judge(held([2, 2], "3"), Repair::Quick).is_err(), "nobody wrote that");
    }

    #[test]
    fn a_row_is_missing_only_where_keys_are_not_compared() {
        let held = Held { events: [2, 2], row: None, is_damaged: false };
        assert!(judge(held, Repair::Quick).is_ok());
        assert!(judge(held, Repair::Full).is_err());
    }

    #[test]
    fn what_is_said_to_be_damaged_may_end_anywhere() {
        let held = |events| Held { events, row: Some("2"), is_damaged: true };
        assert!(judge(held([0, 2]), Repair::Quick).is_ok());
        assert!(judge(held([0, 1]), Repair::Quick).is_err(), "nothing is said of the other");
    }
}
