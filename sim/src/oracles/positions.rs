//! O3, for PROTOCOL §3 "A device's position … is moved by its acknowledgements, and never goes back": what a
//! device has acknowledged is stored soon, so that a crash takes no more of it than the newest.

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
    /// Devices that are further in memory: how far they were when that was first seen, and when.
    behind: BTreeMap<Who, (u64, Micros)>,
}

impl Positions {
    /// A user is erased.
    pub fn erase(&mut self, name: &str) {
        self.stored.retain(|(user, _, _), _| user != name);
        self.behind.retain(|(user, _, _), _| user != name);
    }

    /// A record has reached stable storage.
    pub fn stored(&mut self, record: &Record) {
        let Record::Put { key, value } = record else { return };
        if key.table != Table::Device {
            return;
        }
        let Ok(row) = serde_json::from_slice::<serde_json::Value>(value) else { return };
        let topics = row.get("topics").and_then(|topics| topics.as_object()).into_iter().flatten();
        let own = String::new();
        for (topic, place) in topics.chain([(&own, &row)]) {
            if let Some(acked) = place.get("acked").and_then(|acked| acked.as_u64()) {
                self.stored.insert((key.owner.to_string(), key.name.to_string(), topic.clone()), acked);
            }
        }
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
