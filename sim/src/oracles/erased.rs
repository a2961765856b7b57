//! O28, for PROTOCOL §7 `DELETE /v1/users/{user}`: when the last row of a user is gone nothing else is left,
//! neither what was stored under the user's name nor the ends of the user's runs nor an event.

use super::restart::Rows;
use super::truth::Truth;
use runcast_core::record::Table;

/// Judges the rows that are left.
///
/// # Errors
/// Which is.
pub fn judge(rows: &Rows, name: &str) -> Result<(), String> {
    if let Some(key) = rows.keys().find(|key| &*key.owner == name) {
        return Err(format!("{name} is erased, and there is still {key:?}"));
    }
    let left = rows.of_table(Table::Ended).find(|(_, row)| row["user"] == name);
    left.map_or(Ok(()), |(key, _)| Err(format!("{name} is erased, and there is still {key:?}")))
}

/// Judges the events that are left.
///
/// # Errors
/// Which are.
pub fn events(truth: &Truth, name: &str) -> Result<(), String> {
    let left = truth.streams_of(name).find(|(_, log)| log.floor <= log.head());
    left.map_or(Ok(()), |(key, log)| {
        Err(format!("{name} is erased, and {key:?} still has events from {} to {}", log.floor, log.head()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::record::{Record, RowKey};

    #[test]
    fn what_is_left_of_a_user_is_seen() {
        let put = |table, owner: &str, name: &str, value: &str| {
            let key = RowKey { table, owner: owner.into(), name: name.into() };
            Record::Put { key, value: value.to_owned().into() }
        };
        let mut rows = Rows::default();
        rows.apply(&put(Table::Ended, "", "run_a_1", "{\"user\":\"bob\"}"));
        assert!(judge(&rows, "ann").is_ok());
        assert!(judge(&rows, "bob").is_err());
        rows.apply(&put(Table::Key, "ann", "k", "{}"));
        assert!(judge(&rows, "ann").is_err());
    }
}
