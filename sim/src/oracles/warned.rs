//! O32, for PROTOCOL §5 `timeout_soon` and REQUIREMENTS A8: before a run is stopped because its time is up
//! all of its user's connections are warned that were there, and took what they were sent, since it was
//! offered.

use crate::told::Told;
use runcast_core::Core;
use runcast_core::ids::{ConnId, RunId};
use runcast_core::time::Mono;
use std::collections::{BTreeMap, BTreeSet};

/// Who was warned of what, in one process of the daemon.
#[derive(Debug, Default)]
pub struct Warned {
    /// Since when each connection is welcome that has always had room for what it was sent.
    open: BTreeMap<ConnId, Mono>,
    /// When each run was last offered, and who was warned since.
    offers: BTreeMap<String, (Mono, BTreeSet<ConnId>)>,
}

impl Warned {
    /// Something is said to a connection, of whose output so many bytes wait where there is room for `room`.
    ///
    /// # Errors
    /// Who was not warned.
    pub fn said(
        &mut self,
        now: Mono,
        core: &Core,
        conn: ConnId,
        told: &Told<'_>,
        (waiting, room): (u64, usize),
    ) -> Result<(), String> {
        match told {
            Told::Welcome => {
                self.open.insert(conn, now);
            }
            Told::Offer(run, _) => {
                self.offers.insert((*run).to_owned(), (now, BTreeSet::new()));
            }
            Told::TimeoutSoon(run) => {
                if let Some((_, warned)) = self.offers.get_mut(*run) {
                    warned.insert(conn);
                }
            }
            // It is said again to a worker that comes back.
            Told::Cancel(run, "timeout") => {
                let Some((offered, warned)) = self.offers.remove(*run) else { return Ok(()) };
                let is_open = |conn: &ConnId| self.open.get(conn).is_some_and(|since| *since < offered);
                let conns = RunId::parse(run).map(|run| core.inspect().connections_of(&run));
                let mut conns = conns.into_iter().flatten().filter(is_open);
                if let Some(conn) = conns.find(|conn| !warned.contains(conn)) {
                    return Err(format!("the time of {run} is up, and {conn:?} was not warned"));
                }
            }
            Told::Event(..)
            | Told::Topics
            | Told::Refreshed
            | Told::Withdraw(_)
            | Told::Cancel(..)
            | Told::Heartbeat
            | Told::Error
            | Told::Other => {}
        }
        // A notice does not wait for the network. Whose output took half of its room once is not judged.
        if waiting > room as u64 / 2 {
            self.open.remove(&conn);
        }
        Ok(())
    }

    /// A connection is over.
    pub fn closed(&mut self, conn: ConnId) {
        self.open.remove(&conn);
    }
}
