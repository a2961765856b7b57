//! Operators send users away (PROTOCOL §7 `disconnect`, `revoke`): connections are closed, and, if that is
//! wanted, all tokens refused that were made up to now.
//!
//! A revocation is in force at once and for good. Nobody knows how long tokens live that were never seen, so
//! none is ever forgotten; how many there may be is a limit. It is of a token's `sub`, so a worker's or a
//! publisher's tokens are revoked in the same way, and it outlives the erasing of its user.

use crate::Core;
use crate::conn::Role;
use crate::durable::Reveal;
use crate::effect::{Content, Effects, Response};
use crate::ids::{ConnId, User};
use crate::planted::Bug;
use crate::record::{Image, Record, RowKey, Table};
use crate::sometimes::Sometimes;
use crate::time::WallMs;
use crate::wire::error::{CloseCode, Code, Refusal};
use crate::wire::json::{Fields, Object};
use alloc::format;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The stored form of a revocation; its row is named by the user.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    /// Tokens made up to then are refused, wall clock.
    upto_ts: u64,
}

fn revoked_key(user: &User) -> RowKey {
    RowKey { table: Table::Revoked, owner: "".into(), name: user.text() }
}

/// Reads the body of `disconnect`, which may be empty: whether the user may come back at once.
pub(crate) fn read_disconnect(body: &str) -> Result<bool, Refusal> {
    if body.is_empty() {
        return Ok(false);
    }
    Ok(Fields::parse(body)?.optional("reconnect")?.unwrap_or(false))
}

impl Core {
    /// An operator wants a user's connections closed.
    pub(crate) fn on_disconnect(&mut self, id: ConnId, user: &User, reconnect: bool, out: &mut Effects) {
        let (code, reason) = if reconnect {
            (CloseCode::Draining, "an operator asks to connect anew")
        } else {
            (CloseCode::Disconnected, "an operator has disconnected this user")
        };
        let closed = self.send_away(user, code, reason, out);
        let answer = Object::new().str("user", user.as_str()).raw("closed", closed);
        self.respond(id, 200, Content::Json(answer.finish()), out);
    }

    /// An operator wants a user's tokens refused, all that there are by now.
    pub(crate) fn on_revoke(&mut self, id: ConnId, user: User, out: &mut Effects) {
        let limit = self.config.limits.revoked;
        if !self.revoked.contains_key(&user) && self.revoked.len() >= limit {
            let message = format!("the tokens of {limit} users are revoked, which is all there may be");
            let refusal = Refusal::new(Code::Overloaded, message, "raise limits.revoked");
            return self.respond_refusal(id, &refusal, out);
        }
        // The wall clock may have gone back: what was refused before stays so.
        let upto = self.revoked.get(&user).map_or(self.now.wall, |before| self.now.wall.max(*before));
        self.revoked.insert(user.clone(), upto);
        let closed = if self.planted.is(Bug::RevokedStay) {
            0
        } else {
            self.send_away(&user, CloseCode::Disconnected, "an operator has revoked this user's tokens", out)
        };
        if closed > 0 {
            self.seen.mark(Sometimes::RevokedConnected);
        }
        if self.durable.is_full() {
            let hint = "it is in force until the next start; ask again when the store takes it";
            let refusal = Refusal { hint, ..self.storage_unavailable() };
            return self.respond_refusal(id, &refusal, out);
        }
        if !self.planted.is(Bug::RevocationForgotten) {
            let value = crate::record::row(&Row { upto_ts: upto.0 });
            self.durable.record(Record::Put { key: revoked_key(&user), value });
        }
        let answer = Object::new().str("user", user.as_str()).raw("closed", closed).raw("upto_ts", upto.0);
        let response = Response::new(200, Content::Json(answer.finish()));
        self.durable.reveal(Reveal::Respond { conn: id, response });
    }

    /// Takes in the revocations of before the start.
    pub(crate) fn recover_revoked(&mut self, image: &Image) {
        for (key, row) in image.rows.iter().filter(|(key, _)| key.table == Table::Revoked) {
            let user = User::parse(&key.name).expect("a stored name is a user");
            let row: Row = serde_json::from_slice(row).expect("a stored row is what was stored");
            self.revoked.insert(user, WallMs(row.upto_ts));
        }
    }

    /// Refuses a token that was revoked. One that does not say when it was made may be any of those.
    pub(crate) fn check_revoked(&self, user: &User, issued: Option<WallMs>) -> Result<(), Refusal> {
        let Some(upto) = self.revoked.get(user) else { return Ok(()) };
        let message = match issued {
            Some(issued) if issued > *upto => return Ok(()),
            Some(issued) => {
                let late = upto.since(issued).as_millis();
                format!("the token was made {late} ms before an operator revoked this user's tokens")
            }
            None => "an operator has revoked this user's tokens, and this one does not say by `iat` that it \
                     was made after that"
                .into(),
        };
        Err(Refusal::new(Code::TokenRevoked, message, "get a new token, which has an `iat`"))
    }

    /// Closes all connections that are there with a token of this `sub`; how many. Requests are answered
    /// still, unless they have yet to be read.
    fn send_away(&mut self, user: &User, code: CloseCode, reason: &str, out: &mut Effects) -> usize {
        let is_its = |role: &Role| match role {
            Role::User(me) => me.identity.user == *user,
            Role::Worker(me) => me.key.sub == *user,
            Role::Greeting(greeting) => greeting.user() == Some(user),
            Role::Http | Role::Request(_) => false,
        };
        let conns = self.conns.values().filter(|conn| !conn.is_closing && is_its(&conn.role));
        let conns: Vec<ConnId> = conns.map(|conn| conn.id).collect();
        for conn in &conns {
            self.close(*conn, code, reason, out);
        }
        conns.len()
    }
}
