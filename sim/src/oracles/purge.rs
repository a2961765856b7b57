//! O26, for PROTOCOL §2.8 "Bounded" on the disk: when everybody has been gone for longer than anything is
//! kept, no key, no end of a run and no event is left; and no user has many more ended runs than are kept.

use super::restart::Rows;
use super::truth::Truth;
use runcast_core::config::Config;
use runcast_core::record::Table;
use std::collections::BTreeMap;

/// A user's ended runs are counted now and then: so many more there may be.
const EXCESS_MAX: usize = 300;

/// Judges what is left of what is too old.
///
/// # Errors
/// What is.
pub fn nothing_left(rows: &Rows, truth: &Truth) -> Result<(), String> {
    let is_aged = |table| matches!(table, Table::Ended | Table::History | Table::EndAge | Table::Undelivered);
    if let Some(key) = rows.keys().find(|key| is_aged(key.table)) {
        return Err(format!("{key:?} should have been purged"));
    }
    // Topics keep their newest events, whatever their age.
    let mut of_users = truth.streams().filter(|(key, _)| key.0.starts_with("u:"));
    let kept = of_users.find(|(_, log)| log.floor <= log.head());
    kept.map_or(Ok(()), |(key, log)| {
        Err(format!("{key:?} still has events from {} to {}, all too old", log.floor, log.head()))
    })
}

/// Judges how many ended runs users have.
///
/// # Errors
/// Who has too many.
pub fn not_too_many(rows: &Rows, config: &Config) -> Result<(), String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for key in rows.keys().filter(|key| key.table == Table::History) {
        *counts.entry(&key.owner).or_default() += 1;
    }
    let most = config.store.runs_per_user + EXCESS_MAX;
    let over = counts.into_iter().find(|(_, count)| *count > most);
    over.map_or(Ok(()), |(user, count)| {
        Err(format!("{user} has {count} ended runs, at most {most} are kept"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::record::{Record, RowKey};

    #[test]
    fn what_is_left_and_what_is_too_much_is_seen() {
        let mut rows = Rows::default();
        assert!(nothing_left(&rows, &Truth::default()).is_ok());
        for n in 0..=EXCESS_MAX {
            let key = RowKey { table: Table::History, owner: "ann".into(), name: n.to_string().into() };
            rows.apply(&Record::Put { key, value: "{}".into() });
        }
        assert!(nothing_left(&rows, &Truth::default()).is_err());
        let mut config = Config::default();
        assert!(not_too_many(&rows, &config).is_ok());
        config.store.runs_per_user = 0;
        assert!(not_too_many(&rows, &config).is_err());
    }
}
