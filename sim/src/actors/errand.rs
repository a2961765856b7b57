//! What an operator asks for: that a user is erased, sent away, or sent away with all tokens revoked; whether
//! the daemon is ready (that the answer to this is true is seen at the core's face: `ready.rs`); or what it
//! does (in which nothing of what users have said may be: `isolation.rs`).

use super::Ctx;
use crate::sometimes;
use serde_json::Value;

/// One errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// All that is stored goes.
    Erase,
    /// Connections are closed; they may come back at once.
    Reconnect,
    /// Connections are closed.
    Disconnect,
    /// And tokens of before are good for nothing.
    Revoke,
    /// Whether the daemon is ready, which is about no user.
    Ready,
    /// What it does, about no user in particular: which of [`OVERVIEWS`].
    Overview(usize),
}

/// What is shown of all users together.
const OVERVIEWS: [&str; 3] = ["/v1/status?limit=20", "/v1/undelivered?limit=20", "/v1/workers"];

impl Errand {
    /// The `n`th look at the daemon: each second time, whether it is ready.
    pub fn look(n: u64) -> Self {
        let overview = n / 2 % OVERVIEWS.len() as u64;
        if n.is_multiple_of(2) { Self::Ready } else { Self::Overview(overview as usize) }
    }

    /// The request for it, whole, with a token for that.
    pub fn http(self, user: &str, token: &str) -> String {
        let (method, path, body) = self.request(user);
        let length = body.len();
        format!(
            "{method} {path} HTTP/1.1\r\nHost: runcast.test\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
    }

    fn request(self, user: &str) -> (&'static str, String, &'static str) {
        let name: String = user.bytes().map(|byte| format!("%{byte:02x}")).collect();
        match self {
            Self::Erase => ("DELETE", format!("/v1/users/{name}"), ""),
            Self::Reconnect => ("POST", format!("/v1/users/{name}/disconnect"), "{\"reconnect\":true}"),
            Self::Disconnect => ("POST", format!("/v1/users/{name}/disconnect"), ""),
            Self::Revoke => ("POST", format!("/v1/users/{name}/revoke"), ""),
            Self::Ready => ("GET", "/readyz".to_owned(), ""),
            Self::Overview(which) => ("GET", OVERVIEWS[which].to_owned(), ""),
        }
    }

    /// It is about to be asked for, on the disk that this returns: how many were lost before.
    pub fn begins(self, ctx: &mut Ctx<'_>, user: &str) -> u64 {
        if !matches!(self, Self::Ready | Self::Overview(_)) {
            ctx.oracles.sends_away(user);
        }
        if self == Self::Erase {
            ctx.oracles.erases(user);
        }
        ctx.oracles.disks_lost
    }

    /// It was asked for on that disk and is answered: whether that is the answer to it.
    pub fn is_done(self, ctx: &mut Ctx<'_>, user: &str, disk: u64, status: u16, body: &str) -> bool {
        let answer: Value = serde_json::from_str(body).unwrap_or_default();
        match (self, status, answer["upto_ts"].as_u64()) {
            (Self::Erase, 204, _) => sometimes!(ctx.oracles.tally, ErasedForAnOperator),
            (Self::Reconnect | Self::Disconnect, 200, _) => {
                sometimes!(ctx.oracles.tally, SentAway if answer["closed"].as_u64() > Some(0));
            }
            (Self::Ready, 200 | 503, _) => {
                sometimes!(ctx.oracles.tally, NotReady if body.starts_with("not ready"));
            }
            (Self::Overview(_), 200, _) => sometimes!(ctx.oracles.tally, LookedAt),
            // Was the disk lost while the answer was on its way, then what it promises is lost as well.
            (Self::Revoke, 200, Some(_)) if disk != ctx.oracles.disks_lost => {}
            (Self::Revoke, 200, Some(upto_ts)) => ctx.oracles.revoked.told(user, upto_ts),
            _ => return false,
        }
        true
    }
}
