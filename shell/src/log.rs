//! The log: one line for each thing that happened, with its ids. How lines look, and which are written, is
//! set in `daemon.rs`.
//!
//! At `info` stand connections from `connected` to `closed` or `gone`, runs, and refusals with their reasons;
//! at `warn` those that are the daemon's own want. Peers that send nonsense must not fill a disk: of
//! refusals with one code, and of closes of whoever was never welcome, some have lines in a minute, the
//! others are `debug`, and when the minute is over it is said how many they were.

use crate::conn::Parting;
use runcast_core::effect::Audit;
use runcast_core::ids::{ConnId, Device, User};
use runcast_core::note::Note;
use runcast_core::time::{Mono, Span};
use runcast_core::wire::error::{CloseCode, Code};
use std::collections::BTreeMap;

/// Lines of a kind …
const LINES: u32 = 10;
/// … in so much time.
const TIME: Span = Span::secs(60);

/// What may come in crowds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Refusals with this code.
    Refused(&'static str),
    /// Closes with this code of connections that were never welcome.
    Closed(u16),
    /// Connections that have failed before they were welcome.
    Failed,
}

/// What came of a kind since its time began.
#[derive(Debug)]
struct Crowd {
    until: Mono,
    lines: u32,
    more: u64,
}

/// Writes the log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    crowds: BTreeMap<Kind, Crowd>,
}

impl Log {
    /// Writes what the core has noted.
    pub(crate) fn write(&mut self, now: Mono, note: &Note) {
        match note {
            Note::Refused { conn, code, message } => self.refused(now, *conn, *code, message),
            Note::Connected { conn, peer, user, device, resume } => {
                let device = device.as_ref().map(Device::as_str);
                tracing::info!(conn = conn.0, %peer, %user, device, resume, "connected");
            }
            Note::WorkerConnected { conn, peer, sub, worker } => {
                tracing::info!(conn = conn.0, %peer, sub, worker, "worker connected");
            }
            Note::Accepted { run, user, agent } => tracing::info!(%run, %user, %agent, "run accepted"),
            Note::Started { run, attempt, worker, queued_ms } => {
                tracing::info!(%run, attempt, worker, queued_ms, "run started");
            }
            Note::Retried { run, delay_ms } => {
                tracing::warn!(%run, delay_ms, "run retried: its worker is lost");
            }
            Note::Ended { run, status: status @ ("ok" | "cancelled"), running_ms } => {
                tracing::info!(%run, status, running_ms, "run ended");
            }
            Note::Ended { run, status, running_ms } => {
                tracing::warn!(%run, status, running_ms, "run ended");
            }
            Note::Undelivered { run, user } => tracing::info!(%run, %user, "run undelivered"),
            Note::StoreFull => tracing::error!(
                "the store takes nothing: the disk is full; free some space: until then runs are refused, and \
                 what is stored is delivered"
            ),
            Note::StoreTakes => tracing::info!("the store takes what it is given again"),
        }
    }

    fn refused(&mut self, now: Mono, conn: ConnId, code: Code, why: &str) {
        let (conn, name) = (conn.0, code.as_str());
        if !self.has_room(now, Kind::Refused(name)) {
            tracing::debug!(conn, code = name, why, "refused");
        } else if code.status() >= 500 {
            tracing::warn!(conn, code = name, why, "refused");
        } else {
            tracing::info!(conn, code = name, why, "refused");
        }
    }

    /// The daemon closes a connection.
    pub(crate) fn closed(&mut self, now: Mono, conn: ConnId, code: CloseCode, reason: &str, welcome: bool) {
        let (conn, code) = (conn.0, code as u16);
        if welcome || self.has_room(now, Kind::Closed(code)) {
            tracing::info!(conn, code, reason, "closed");
        } else {
            tracing::debug!(conn, code, reason, "closed");
        }
    }

    /// A peer has gone by itself.
    pub(crate) fn gone(&mut self, now: Mono, conn: ConnId, why: &Parting, welcome: bool) {
        let conn = conn.0;
        let is_failure = matches!(why, Parting::Failed(_));
        if welcome || is_failure && self.has_room(now, Kind::Failed) {
            tracing::info!(conn, %why, "gone");
        } else {
            tracing::debug!(conn, %why, "gone");
        }
    }

    /// Whether one more of a kind has a line of its own.
    fn has_room(&mut self, now: Mono, kind: Kind) -> bool {
        let crowd = self.crowds.entry(kind).or_insert(Crowd { until: now + TIME, lines: 0, more: 0 });
        let has_room = crowd.lines < LINES;
        if has_room {
            crowd.lines += 1;
        } else {
            crowd.more += 1;
        }
        has_room
    }

    /// Says how many had no line, of the kinds whose time is over.
    pub(crate) fn catch_up(&mut self, now: Mono) {
        self.over(now).for_each(tell);
    }

    /// Says it of all.
    pub(crate) fn end(&mut self) {
        self.over(Mono(u64::MAX)).for_each(tell);
    }

    /// The kinds whose time is over, and how many had no line.
    fn over(&mut self, now: Mono) -> impl Iterator<Item = (Kind, u64)> {
        self.crowds.extract_if(.., move |_, crowd| crowd.until <= now).map(|(kind, crowd)| (kind, crowd.more))
    }
}

fn tell((kind, more): (Kind, u64)) {
    match kind {
        _ if more == 0 => {}
        Kind::Refused(code) => tracing::info!(code, more, "and more were refused"),
        Kind::Closed(code) => tracing::info!(code, more, "and more were closed"),
        Kind::Failed => tracing::info!(more, "and more have failed"),
    }
}

/// One line of the log with the target `audit`.
pub(crate) fn trail(audit: &Audit) {
    let Audit { conn, peer, by, action, about, refused } = audit;
    let by = by.as_ref().map(User::as_str);
    let (about, code) = (about.as_deref(), refused.map(Code::as_str));
    let outcome = if code.is_some() { "refused" } else { "allowed" };
    tracing::info!(target: "audit", conn = conn.0, %peer, by, action, about, code, "{outcome}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_has_some_lines_in_a_minute_and_then_one_more() {
        let mut log = Log::default();
        let (many, other) = (Kind::Refused("bad_json"), Kind::Closed(4501));
        let told = |log: &mut Log, at| (0..25).filter(|_| log.has_room(at, many)).count();
        let (first, last) = (Mono(7), Mono(7) + TIME);
        assert_eq!(told(&mut log, first), 10);
        assert!(log.has_room(first, other), "another kind has lines of its own");
        assert_eq!(log.over(Mono(last.0 - 1)).count(), 0);
        assert_eq!(log.over(last).collect::<Vec<_>>(), [(many, 15), (other, 0)]);
        assert_eq!(told(&mut log, last), 10, "in the next minute there are lines again");
        assert_eq!(log.over(Mono(u64::MAX)).collect::<Vec<_>>(), [(many, 15)]);
    }
}
