//! O3, for PROTOCOL §3 "A device's position … is moved by its acknowledgements, and never goes back but by a
//! `reset`": what a device has acknowledged is stored soon, so that a crash takes no more of it than the
//! newest; and what is stored goes back to the floor alone, which is where a reset begins.

use crate::schedule::{MS, Micros, SECOND};
use runcast_core::View;
use runcast_core::record::{Record, Table};
use std::collections::BTreeMap;

/// Time until a moved position must be stored, with a disk that is well: it waits for others, and for a
/// commit.
const STORED_AFTER: Micros = 3 * SECOND;

/// Which device of which user, in which topic (none of them in its user's own stream).
type Who = (String, String, String);

/// How far each device is in the store.
#[derive(Debug, Default)]
pub struct Positions {
    stored: BTreeMap<Who, u64>,
    /// In which epoch that is, where it may only have moved forward since.
    epochs: BTreeMap<Who, String>,
    /// The floors of streams that were trimmed, by epoch.
    floors: BTreeMap<String, u64>,
    /// Devices that are further in memory: how far they were when that was first seen, and when.
    behind: BTreeMap<Who, (u64, Micros)>,
}

impl Positions {
    /// The daemon was killed: what it stores next it has read.
    pub fn killed(&mut self) {
        *self = Self { floors: std::mem::take(&mut self.floors), ..Self::default() };
    }

    /// A connection of a user is told of a reset: its device's position is at the floor, and may be further
    /// when it is stored.
    pub fn reset(&mut self, name: &str) {
        self.epochs.retain(|(user, _, _), _| user != name);
    }

    /// A user is erased.
    pub fn erase(&mut self, name: &str) {
        self.stored.retain(|(user, _, _), _| user != name);
        self.epochs.retain(|(user, _, _), _| user != name);
        self.behind.retain(|(user, _, _), _| user != name);
    }

    /// A record has reached stable storage.
    ///
    /// # Errors
    /// Which device's position has gone back.
    pub fn stored(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Trim { stream, floor } => {
                // A stream's key has its epoch between two colons.
                let epoch = stream.0.split(':').nth(1).unwrap_or_default();
                self.floors.insert(epoch.to_owned(), *floor);
                Ok(())
            }
            Record::Delete { key } if key.table == Table::Device => {
                let is_its = |who: &Who| who.0 == *key.owner && who.1 == *key.name;
                self.epochs.retain(|who, _| !is_its(who));
                Ok(())
            }
            Record::Put { key, value } if key.table == Table::Device => {
                self.place(&key.owner, &key.name, &serde_json::from_slice(value).unwrap_or_default())
            }
            Record::Put { .. } | Record::Delete { .. } | Record::Event { .. } => Ok(()),
        }
    }

    /// A device's row is stored.
    fn place(&mut self, user: &str, device: &str, row: &serde_json::Value) -> Result<(), String> {
        let topics = row.get("topics").and_then(|topics| topics.as_object()).into_iter().flatten();
        let own = String::new();
        for (topic, place) in topics.chain([(&own, row)]) {
            let (Some(acked), Some(epoch)) = (place["acked"].as_u64(), place["epoch"].as_str()) else {
                continue;
            };
            let who = (user.to_owned(), device.to_owned(), topic.clone());
            let floor = self.floors.get(epoch).copied().unwrap_or(1);
            let is_same = self.epochs.insert(who.clone(), epoch.to_owned()).is_some_and(|was| was == epoch);
            let before = self.stored.insert(who, acked).filter(|_| is_same);
            if let Some(before) = before.filter(|before| acked < *before && acked >= floor) {
                return Err(format!(
                    "{user}/{device} {topic} had acknowledged {before}, and goes back to {acked}, \
                     though the floor is {floor}"
                ));
            }
        }
        Ok(())
    }

    /// Compares with the memory of a daemon. `is_well` is whether its disk has been so since the last look.
    ///
    /// # Errors
    /// Which device's position is not stored.
    pub fn look(&mut self, now: Micros, view: View<'_>, is_well: bool) -> Result<(), String> {
        if !is_well {
            self.behind.clear();
        }
        let mut behind = BTreeMap::new();
        let own = view.positions().map(|(user, device, acked)| (user, device, String::new(), acked));
        let places =
            view.places().map(|(user, device, topic, _, acked)| (user, device, topic.to_string(), acked));
        for (user, device, topic, acked) in own.chain(places) {
            let who = (user.to_string(), device.to_string(), topic);
            // What is met for the first time was just read, or stored before its `welcome`.
            let stored = *self.stored.entry(who.clone()).or_insert(acked);
            if acked > stored {
                let before = self.behind.get(&who).copied().filter(|(acked, _)| *acked > stored);
                let (acked, since) = before.unwrap_or((acked, now));
                judge(&who, acked, stored, now - since)?;
                behind.insert(who, (acked, since));
            }
        }
        self.behind = behind;
        Ok(())
    }
}

fn judge((user, device, topic): &Who, acked: u64, stored: u64, time: Micros) -> Result<(), String> {
    if time <= STORED_AFTER {
        return Ok(());
    }
    let ms = time / MS;
    Err(format!("{user}/{device} {topic} acknowledged {acked} {ms} ms ago, and {stored} is stored"))
}
