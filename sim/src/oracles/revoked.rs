//! O17, for PROTOCOL §7 `revoke`: nothing more is said to anybody who came with a token that is revoked by
//! now, and from the moment at which the operator hears of it no such token gets anybody in, whatever
//! crashes.

use super::isolation::operates;
use runcast_core::ids::ConnId;
use runcast_core::input::{Claims, Input};
use std::collections::{BTreeMap, BTreeSet};

/// Up to when tokens were revoked, as operators were told.
#[derive(Debug, Default)]
pub struct Revoked {
    upto_ts: BTreeMap<String, u64>,
}

impl Revoked {
    /// An operator hears that a user's tokens are revoked.
    pub fn told(&mut self, user: &str, upto_ts: u64) {
        let upto = self.upto_ts.entry(user.to_owned()).or_default();
        *upto = upto_ts.max(*upto);
    }

    /// Whether a token that was made then (Unix seconds) must be refused from now on.
    pub fn is_revoked(&self, user: &str, made: u64) -> bool {
        self.upto_ts.get(user).is_some_and(|upto| made * 1_000 <= *upto)
    }

    /// Nothing is known any more: the disk is another.
    pub fn forget(&mut self) {
        self.upto_ts.clear();
    }
}

/// Who was sent away, as the core's face shows it in one process of the daemon.
#[derive(Debug, Default)]
pub struct Away {
    /// Requests to revoke a user's tokens, before their own token was looked at.
    asked: BTreeMap<ConnId, String>,
    /// Whose token each connection has brought.
    users: BTreeMap<ConnId, String>,
    /// The user whose tokens are revoked in the present step, and who asked for it.
    present: Option<(ConnId, String)>,
    away: BTreeSet<ConnId>,
}

impl Away {
    /// An input is about to be handled.
    pub fn look(&mut self, input: &Input<'_>) {
        match input {
            Input::Request { conn, head } if head.method == "POST" => {
                self.asked.extend(revokes(head.path).map(|user| (*conn, user)));
            }
            Input::Verified { conn, outcome: Ok(claims) } => self.verified(*conn, claims),
            Input::Closed { conn } => {
                self.asked.remove(conn);
                self.users.remove(conn);
                self.away.remove(conn);
            }
            Input::Opened { .. }
            | Input::Request { .. }
            | Input::Body { .. }
            | Input::BadHead { .. }
            | Input::Message { .. }
            | Input::Verified { .. }
            | Input::Flushed { .. }
            | Input::Appended { .. }
            | Input::AppendFailed { .. }
            | Input::Loaded { .. }
            | Input::Timer
            | Input::Called { .. }
            | Input::Memory { .. }
            | Input::BackedUp { .. }
            | Input::Drain => {}
        }
    }

    fn verified(&mut self, conn: ConnId, claims: &Claims) {
        match self.asked.remove(&conn) {
            Some(user) => self.present = Some((conn, user)).filter(|_| operates(claims)),
            None => drop(self.users.insert(conn, claims.sub.clone())),
        }
    }

    /// Somebody may not do what was asked for: the own token has expired, or is revoked itself.
    pub fn refused(&mut self, conn: ConnId) {
        self.present.take_if(|(asker, _)| *asker == conn);
    }

    /// Something is said.
    ///
    /// # Errors
    /// To somebody who was sent away before.
    pub fn said(&self, conn: ConnId) -> Result<(), String> {
        if self.away.contains(&conn) { Err("said after its tokens were revoked".to_owned()) } else { Ok(()) }
    }

    /// The step is over.
    pub fn settle(&mut self) {
        let Some((_, user)) = self.present.take() else { return };
        let there = self.users.iter().filter(|(_, theirs)| **theirs == user);
        self.away.extend(there.map(|(conn, _)| *conn));
    }
}

/// The user whose tokens a request for this path revokes.
fn revokes(path: &str) -> Option<String> {
    let name = path.strip_prefix("/v1/users/")?.strip_suffix("/revoke")?;
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = if *first == b'%' { after.split_at_checked(2) } else { None };
        match escaped {
            Some((digits, after)) => {
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = after;
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::input::Head;

    #[test]
    fn a_token_of_before_is_revoked_and_one_of_after_is_not() {
        let mut revoked = Revoked::default();
        assert!(!revoked.is_revoked("ann", 0));
        revoked.told("ann", 5_400);
        revoked.told("ann", 1_000);
        assert!(revoked.is_revoked("ann", 5) && !revoked.is_revoked("ann", 6));
        assert!(!revoked.is_revoked("bob", 5));
    }

    #[test]
    fn words_to_somebody_who_was_sent_away_are_seen() {
        let mut away = Away::default();
        let verify = |away: &mut Away, conn, sub: &str, scope: &str| {
            let claims = Claims { sub: sub.into(), scope: Some(scope.into()), ..Claims::default() };
            away.look(&Input::Verified { conn: ConnId(conn), outcome: Ok(claims) });
        };
        verify(&mut away, 1, "Zoë (1)", "user");
        verify(&mut away, 2, "bob", "user");
        let head = Head { method: "POST", path: "/v1/users/Zo%c3%ab%20(1)/revoke", ..Head::default() };
        away.look(&Input::Request { conn: ConnId(3), head });
        verify(&mut away, 3, "op", "operate");
        away.refused(ConnId(3));
        away.settle();
        assert!(away.said(ConnId(1)).is_ok(), "it was refused");
        away.look(&Input::Request { conn: ConnId(3), head });
        verify(&mut away, 3, "op", "operate");
        assert!(away.said(ConnId(1)).is_ok(), "in the same step it may be told");
        away.settle();
        assert!(away.said(ConnId(1)).is_err());
        assert!(away.said(ConnId(2)).is_ok());
        verify(&mut away, 4, "Zoë (1)", "user");
        assert!(away.said(ConnId(4)).is_ok(), "whoever comes later is judged by the own token");
    }
}
