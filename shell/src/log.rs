//! The log: one line for each thing that happened, with its ids. How lines look, and which are written, is
//! set in `daemon.rs`.
//!
//! At `info` stand connections from `connected` to `closed` or `gone`, runs, and refusals with their reasons;
//! at `warn` refusals that are the daemon's own want (5xx), attempts that were lost, and runs that end
//! neither `ok` nor `cancelled`. Peers that send nonsense, or come and go, must not fill a disk: of refusals
//! with one code, of closes of whoever was never welcome, of one `sub`'s connections, and in the trail of
//! refusals of one `sub` with one code, some have lines in a minute, the others are `debug` (the trail's are
//! nothing), and when the minute is over it is said how many they were.

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

/// How many kinds are kept apart in that time. Those whom a token names are beyond it counted together.
const KINDS: usize = 10_000;

/// What may come in crowds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Refusals with this code.
    Refused(&'static str),
    /// The same in the audit trail, of the one whom a good token names, or of all others.
    Denied(Option<User>, &'static str),
    /// Closes with this code of connections that were never welcome.
    Closed(u16),
    /// Connections that have failed before they were welcome.
    Failed,
    /// Connections that were welcome, of this `sub`, or of all others.
    Visit(Option<String>),
}

impl Kind {
    /// The kind that it belongs to when there are too many.
    fn in_common(self) -> Self {
        match self {
            Self::Denied(_, code) => Self::Denied(None, code),
            Self::Visit(_) => Self::Visit(None),
            Self::Refused(_) | Self::Closed(_) | Self::Failed => self,
        }
    }
}

/// What came of a kind in its minute.
#[derive(Debug, Default)]
struct Crowd {
    lines: u32,
    more: u64,
}

/// Whose end it is that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Somebody who was never welcome.
    Stranger,
    /// One whose `connected` has a line.
    Told,
    /// One whose `connected` has none, since too many of the same `sub` have come.
    Untold,
}

/// Writes the log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    crowds: BTreeMap<Kind, Crowd>,
    /// When the minute is over. None: nothing has come since the last was.
    until: Option<Mono>,
}

impl Log {
    /// Writes what the core has noted. Where somebody is welcome: what that one is for the line of the end.
    pub(crate) fn write(&mut self, now: Mono, note: &Note) -> Option<(ConnId, Peer)> {
        match note {
            Note::Refused { conn, code, message } => self.refused(now, *conn, *code, message),
            Note::Connected { conn, peer, user, device, resume } => {
                let device = device.as_ref().map(Device::as_str);
                let visit = self.visit(now, user.as_str());
                if visit == Peer::Told {
                    tracing::info!(conn = conn.0, %peer, %user, device, resume, "connected");
                } else {
                    tracing::debug!(conn = conn.0, %peer, %user, device, resume, "connected");
                }
                return Some((*conn, visit));
            }
            Note::WorkerConnected { conn, peer, sub, worker } => {
                let visit = self.visit(now, sub);
                if visit == Peer::Told {
                    tracing::info!(conn = conn.0, %peer, sub, worker, "worker connected");
                } else {
                    tracing::debug!(conn = conn.0, %peer, sub, worker, "worker connected");
                }
                return Some((*conn, visit));
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
        None
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

    /// Somebody is welcome: whether that has a line.
    fn visit(&mut self, now: Mono, sub: &str) -> Peer {
        if self.has_room(now, Kind::Visit(Some(sub.to_owned()))) { Peer::Told } else { Peer::Untold }
    }

    /// The daemon closes a connection.
    pub(crate) fn closed(&mut self, now: Mono, conn: ConnId, code: CloseCode, reason: &str, peer: Peer) {
        let (conn, code) = (conn.0, code as u16);
        if self.tells_end(now, peer, Some(Kind::Closed(code))) {
            tracing::info!(conn, code, reason, "closed");
        } else {
            tracing::debug!(conn, code, reason, "closed");
        }
    }

    /// A peer has gone by itself.
    pub(crate) fn gone(&mut self, now: Mono, conn: ConnId, why: &Parting, peer: Peer) {
        let conn = conn.0;
        let failed = matches!(why, Parting::Failed(_)).then_some(Kind::Failed);
        if self.tells_end(now, peer, failed) {
            tracing::info!(conn, %why, "gone");
        } else {
            tracing::debug!(conn, %why, "gone");
        }
    }

    /// Whether an end has a line; a stranger's if it is of a kind that has.
    fn tells_end(&mut self, now: Mono, peer: Peer, kind: Option<Kind>) -> bool {
        match peer {
            Peer::Told => true,
            Peer::Untold => false,
            Peer::Stranger => kind.is_some_and(|kind| self.has_room(now, kind)),
        }
    }

    /// One line of the log with the target `audit`. What is allowed always has one.
    pub(crate) fn trail(&mut self, now: Mono, audit: &Audit) {
        let Audit { conn, peer, by, action, about, refused } = audit;
        let code = refused.map(Code::as_str);
        if let Some(code) = code
            && !self.has_room(now, Kind::Denied(by.clone(), code))
        {
            return;
        }
        let (by, about) = (by.as_ref().map(User::as_str), about.as_deref());
        let outcome = if code.is_some() { "refused" } else { "allowed" };
        tracing::info!(target: "audit", conn = conn.0, %peer, by, action, about, code, "{outcome}");
    }

    /// Whether one more of a kind has a line of its own.
    fn has_room(&mut self, now: Mono, kind: Kind) -> bool {
        self.until.get_or_insert(now + TIME);
        let is_known = self.crowds.len() < KINDS || self.crowds.contains_key(&kind);
        let kind = if is_known { kind } else { kind.in_common() };
        let crowd = self.crowds.entry(kind).or_default();
        let has_room = crowd.lines < LINES;
        if has_room {
            crowd.lines += 1;
        } else {
            crowd.more += 1;
        }
        has_room
    }

    /// Says how many had no line, when the minute is over.
    pub(crate) fn catch_up(&mut self, now: Mono) {
        if self.until.is_some_and(|until| until <= now) {
            self.end();
        }
    }

    /// Says it now.
    pub(crate) fn end(&mut self) {
        self.over().for_each(tell);
    }

    /// The kinds of which some had no line, and how many. A new minute begins.
    fn over(&mut self) -> impl Iterator<Item = (Kind, u64)> + use<> {
        self.until = None;
        let crowds = std::mem::take(&mut self.crowds).into_iter();
        crowds.map(|(kind, crowd)| (kind, crowd.more)).filter(|(_, more)| *more > 0)
    }
}

fn tell((kind, more): (Kind, u64)) {
    match kind {
        Kind::Refused(code) => tracing::info!(code, more, "and more were refused"),
        Kind::Denied(by, code) => {
            let by = by.as_ref().map(User::as_str);
            tracing::info!(target: "audit", by, code, more, "and more were refused");
        }
        Kind::Closed(code) => tracing::info!(code, more, "and more were closed"),
        Kind::Failed => tracing::info!(more, "and more have failed"),
        Kind::Visit(sub) => tracing::info!(sub, more, "and more have connected"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_has_some_lines_in_a_minute_and_then_one_more() {
        let mut log = Log::default();
        let (many, other) = (Kind::Refused("bad_json"), Kind::Closed(4501));
        let told = |log: &mut Log, at| (0..25).filter(|_| log.has_room(at, many.clone())).count();
        let (first, last) = (Mono(7), Mono(7) + TIME);
        assert_eq!(told(&mut log, first), 10);
        assert!(log.has_room(first, other), "another kind has lines of its own");
        log.catch_up(Mono(last.0 - 1));
        assert!(!log.has_room(first, many.clone()), "the minute is not over");
        log.catch_up(last);
        assert_eq!(told(&mut log, last), 10, "in the next minute there are lines again");
        assert_eq!(log.over().collect::<Vec<_>>(), [(many, 15)]);
    }

    #[test]
    fn each_user_has_lines_of_their_own_until_there_are_too_many_to_know() {
        let mut log = Log::default();
        let come = |log: &mut Log, sub: &str| log.visit(Mono(0), sub) == Peer::Told;
        assert_eq!((0..25).filter(|_| come(&mut log, "flood")).count(), 10);
        assert_eq!((0..20_000).filter(|n| come(&mut log, &n.to_string())).count(), KINDS - 1 + 10);
        assert!(log.crowds.len() <= KINDS + 1);
        assert!(come(&mut log, "7"), "who is known has room still");
        let told: BTreeMap<Kind, u64> = log.over().collect();
        let others = 20_000 - (KINDS as u64 - 1) - 10;
        let expected = [(Kind::Visit(None), others), (Kind::Visit(Some("flood".into())), 15)];
        assert_eq!(told, expected.into());
    }
}
