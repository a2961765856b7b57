//! O3 and O4, for PROTOCOL §2.1 and "seq … never reused": whatever was acknowledged is found in the store
//! after every crash, as it was; what was on its way is found as it was, or not at all.

use super::truth::Truth;
use crate::said::Said;
use runcast_core::record::{Found, Image, Query, Record, StreamKey, Table};
use std::collections::{BTreeMap, BTreeSet};

/// Events that are read at once.
const PAGE: usize = 256;

/// Compares a reopened store's streams with the truth; what of `pending` (in its order) was stored after all
/// is returned, and is true from now on.
///
/// # Errors
/// The oracle that is broken, and how.
pub fn reopened(
    truth: &Truth,
    pending: &[Record],
    load: &mut dyn FnMut(&Query) -> Result<Found, String>,
) -> Result<Vec<Record>, (&'static str, String)> {
    let mut unsure: BTreeMap<&StreamKey, Vec<&Record>> = BTreeMap::new();
    let mut floors: BTreeMap<&StreamKey, u64> = BTreeMap::new();
    for record in pending {
        match record {
            Record::Event { stream, .. } => unsure.entry(stream).or_default().push(record),
            Record::Trim { stream, floor } => drop(floors.insert(stream, *floor)),
            Record::Put { .. } | Record::Delete { .. } => {}
        }
    }
    let known: BTreeMap<_, _> = truth.streams().collect();
    let keys: BTreeSet<_> = known.keys().chain(unsure.keys()).copied().collect();
    let mut found = Vec::new();
    for key in keys {
        let log = known.get(key);
        let floor = log.map_or(1, |log| log.floor).max(floors.get(key).copied().unwrap_or(1));
        let contents = log.map_or(&[][..], |log| &log.contents);
        let later = unsure.get(key).map_or(&[][..], Vec::as_slice);
        found.extend(stream(key, floor, contents, later, load)?);
    }
    Ok(found)
}

/// PROTOCOL §4 "Keeping": trimming never passes the first event of a run that has not ended.
///
/// # Errors
/// Which run's it passes.
pub fn trimmed(truth: &Truth, record: &Record) -> Result<(), String> {
    let Record::Trim { stream, floor } = record else { return Ok(()) };
    let under = truth.alive_on(stream).find(|(_, run)| run.first_seq < *floor);
    under.map_or(Ok(()), |(id, run)| {
        Err(format!(
            "{stream:?} is trimmed up to {floor}, {id} begins at {} and has not ended",
            run.first_seq
        ))
    })
}

/// Every run that has not ended is in the image.
///
/// # Errors
/// Which one is not.
pub fn runs(truth: &Truth, image: &Image) -> Result<(), String> {
    let named = |table| -> BTreeSet<&str> {
        image.rows.iter().filter(|(key, _)| key.table == table).map(|(key, _)| &*key.name).collect()
    };
    let (specs, states) = (named(Table::RunSpec), named(Table::RunState));
    let lost = truth.runs.iter().find(|(id, run)| {
        run.ended.is_none() && !(specs.contains(id.as_str()) && states.contains(id.as_str()))
    });
    match lost {
        Some((id, _)) => Err(format!("{id} was accepted and is not in the image")),
        None => Ok(()),
    }
}

/// Reads one log from its floor on.
fn stream(
    key: &StreamKey,
    floor: u64,
    contents: &[u64],
    later: &[&Record],
    load: &mut dyn FnMut(&Query) -> Result<Found, String>,
) -> Result<Vec<Record>, (&'static str, String)> {
    let head = contents.len() as u64;
    let mut at = floor - 1;
    let mut found = Vec::new();
    loop {
        let query = Query::Events { stream: key.clone(), after: at, events_max: PAGE, bytes_max: usize::MAX };
        let events =
            match load(&query).map_err(|error| ("O3", format!("{key:?} is not readable: {error}")))? {
                Found::Events(events) => events,
                other @ (Found::Rows(_) | Found::Damaged) => {
                    return Err(("O3", format!("{key:?} after {at} is {other:?}")));
                }
            };
        if events.is_empty() {
            break;
        }
        for (seq, bytes) in events {
            at += 1;
            if seq != at {
                return Err(("O3", format!("{key:?} has {seq} where {at} should be")));
            }
            if seq <= head {
                same(key, seq, &bytes, contents[seq as usize - 1])?;
            } else {
                found.push(expected(key, seq, &bytes, later)?);
            }
        }
    }
    if at < head {
        return Err(("O3", format!("{key:?} ends at {at}, {head} was acknowledged")));
    }
    Ok(found)
}

fn same(key: &StreamKey, seq: u64, bytes: &[u8], content: u64) -> Result<(), (&'static str, String)> {
    let text = String::from_utf8_lossy(bytes);
    match Said::read(&text) {
        Ok(said) if said.content() == content => Ok(()),
        _ => Err(("O4", format!("seq {seq} of {key:?} is now {text}"))),
    }
}

/// What is found past the acknowledged head must be what was on its way there.
fn expected(
    key: &StreamKey,
    at: u64,
    found: &[u8],
    later: &[&Record],
) -> Result<Record, (&'static str, String)> {
    let same = |record: &&&Record| matches!(record, Record::Event { seq, bytes, .. } if *seq == at && bytes == found);
    match later.iter().find(same) {
        Some(record) => Ok((**record).clone()),
        None => {
            Err(("O4", format!("seq {at} of {key:?} was never given: {}", String::from_utf8_lossy(found))))
        }
    }
}
