//! O27, for PROTOCOL §4 "Undelivered": nothing that a device has acknowledged is told to the webhook, nothing
//! that is not durable, and of each run what its stored end says; and at rest exactly those ended runs are
//! watched or listed that no device has acknowledged, counting each device from the position with which it
//! began.

use super::restart::Rows;
use super::truth::{RunTruth, Truth};
use runcast::pump::Call;
use runcast_core::View;
use runcast_core::record::{Record, Table};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the delivery of runs' ends.
#[derive(Debug, Default)]
pub struct Delivery {
    /// What stored positions of devices say: by user, the seqs after the first and up to the second.
    got: BTreeMap<String, BTreeSet<(u64, u64)>>,
}

impl Delivery {
    /// A user is erased.
    pub fn erase(&mut self, name: &str) {
        self.got.remove(name);
    }

    /// A record has become durable.
    pub fn stored(&mut self, record: &Record) {
        let Record::Put { key, value } = record else { return };
        if key.table == Table::Device {
            let row: serde_json::Value = serde_json::from_slice(value).unwrap_or_default();
            let number = |name: &str| row[name].as_u64().unwrap_or(0);
            let got = self.got.entry(key.owner.to_string()).or_default();
            let (first, acked) = (number("first"), number("acked"));
            // What begins at the same place counts as far as the furthest.
            got.retain(|(other, upto)| *other != first || *upto > acked);
            got.insert((first, acked));
        }
    }

    fn is_delivered(&self, user: &str, last_seq: u64) -> bool {
        let got = self.got.get(user).into_iter().flatten();
        got.copied().any(|(first, acked)| (first + 1..=acked).contains(&last_seq))
    }

    /// The webhook is called. (That it is time is judged at the core's face: `listing.rs`.)
    ///
    /// # Errors
    /// It should not be, or is told what is not so.
    pub fn called(&self, call: &Call, rows: &Rows, truth: &Truth) -> Result<(), String> {
        let id = call.run.as_str();
        let Some((user, last_seq)) = rows.undelivered(id) else {
            return Err(format!("the webhook is called for {id}, which is not known to be undelivered"));
        };
        if self.is_delivered(&user, last_seq) {
            return Err(format!("the webhook is called for {id}, which was delivered"));
        }
        let body: Value = serde_json::from_str(&call.body).map_err(|error| error.to_string())?;
        let run = truth.runs.get(id).filter(|run| run.ended.is_some() && run.last_seq == last_seq);
        let run = run.ok_or_else(|| format!("the webhook is called for {id}, whose end is not durable"))?;
        let expected = json!({
            "type": "undelivered", "user": user, "run": id, "thread": run.thread, "agent": run.agent,
            "status": run.ended, "ended_ts": run.ended_ts,
        });
        if body == expected { Ok(()) } else { Err(format!("the webhook is told {body}, and not {expected}")) }
    }

    /// All is at rest: judges what is watched and listed.
    ///
    /// # Errors
    /// What is too much, or missing.
    pub fn at_rest(&self, truth: &Truth, rows: &Rows, view: View<'_>) -> Result<(), String> {
        let known: BTreeSet<&str> = view.undelivered().map(|(_, run, _)| run.as_str()).collect();
        let names = rows.keys().filter(|key| key.table == Table::Undelivered).map(|key| &*key.name);
        let stored: BTreeSet<&str> = names.collect();
        if let Some(run) = known.symmetric_difference(&stored).next() {
            let (known, stored) = (known.contains(run), stored.contains(run));
            return Err(format!("{run} is undelivered in memory: {known}, and in the store: {stored}"));
        }
        let mut ended = truth.runs.iter().filter(|(_, run)| run.ended.is_some() && !run.is_erased);
        ended.try_for_each(|(id, run)| self.one(id, run, stored.contains(id.as_str())))
    }

    fn one(&self, id: &str, run: &RunTruth, is_listed: bool) -> Result<(), String> {
        let key = run.stream.as_ref().map_or("", |key| &key.0);
        let user = key.splitn(3, ':').nth(2).unwrap_or_default();
        let is_delivered = self.is_delivered(user, run.last_seq);
        if is_delivered != is_listed {
            return Ok(());
        }
        Err(format!(
            "{id} ended at seq {}: delivered {is_delivered}, undelivered {is_listed}; the devices of {user} have {:?}",
            run.last_seq,
            self.got.get(user)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::record::RowKey;

    fn position(first: u64, acked: u64) -> Record {
        let key = RowKey { table: Table::Device, owner: "ann".into(), name: "d".into() };
        let value = format!("{{\"epoch\":\"e-1\",\"first\":{first},\"acked\":{acked}}}");
        Record::Put { key, value: value.into() }
    }

    #[test]
    fn a_device_counts_from_where_it_began() {
        let mut delivery = Delivery::default();
        delivery.stored(&position(10, 10));
        delivery.stored(&position(10, 14));
        assert!(!delivery.is_delivered("ann", 10));
        assert!(delivery.is_delivered("ann", 11));
        assert!(!delivery.is_delivered("ann", 15));
        assert!(!delivery.is_delivered("bob", 11));
    }
}
