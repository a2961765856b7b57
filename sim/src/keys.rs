//! Tokens, as an identity provider signs them, and the keys with which the daemon verifies them: both come to
//! have new keys while the daemon runs.

use runcast::auth::{Keys, Secret, sign};
use runcast::pump::Verify;
use runcast::reload::Current;
use runcast_core::input::Claims;

/// Begins the secrets that the daemon and the identity provider share.
const SECRET: &str = "a secret of the simulated identity provider, long enough for HS256";

/// The keys of a world, numbered as they came. The identity provider signs with the newest.
#[derive(Clone, Debug)]
pub struct Ring {
    /// What the running daemon verifies with, replaced as in production.
    current: Current<Keys>,
    oldest: u64,
    newest: u64,
}

impl Default for Ring {
    fn default() -> Self {
        let ring = Self { current: Current::new(Keys::default()), oldest: 0, newest: 0 };
        ring.load();
        ring
    }
}

impl Ring {
    /// How the daemon looks at signatures.
    pub fn verify(&self) -> Verify {
        let current = self.current.clone();
        Box::new(move |token| current.get().verify(token))
    }

    /// The key of new tokens.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// The oldest key that is good.
    pub fn oldest(&self) -> u64 {
        self.oldest
    }

    /// There is a newer key. Those of before are good for a while.
    pub fn add(&mut self) {
        self.newest += 1;
        self.load();
    }

    /// The oldest key is good no longer, if there is a newer one.
    pub fn retire(&mut self) {
        self.oldest = self.newest.min(self.oldest + 1);
        self.load();
    }

    /// Only the newest key is good.
    pub fn settle(&mut self) {
        self.oldest = self.newest;
        self.load();
    }

    fn load(&self) {
        let secrets = (self.oldest..=self.newest).map(secret);
        self.current.put(secrets.fold(Keys::default(), |keys, secret| keys.with_dev(&secret)));
    }

    /// A token for `sub` that is good until `exp` (Unix seconds).
    pub fn token(&self, sub: &str, scope: &str, exp: u64) -> String {
        self.made(None, sub, scope, exp)
    }

    /// The same, that says when it was made (Unix seconds).
    pub fn made(&self, iat: Option<u64>, sub: &str, scope: &str, exp: u64) -> String {
        signed(self.newest, iat, sub, scope, exp)
    }
}

/// A token that is signed with this key.
pub fn signed(key: u64, iat: Option<u64>, sub: &str, scope: &str, exp: u64) -> String {
    let claims = Claims { sub: sub.to_owned(), exp, iat, scope: Some(scope.to_owned()), ..Claims::default() };
    sign(&claims, &secret(key), None)
}

/// The secret of a key.
fn secret(key: u64) -> Secret {
    // The first was there before there were others.
    let number = if key == 0 { String::new() } else { format!(" {key}") };
    Secret::new(format!("{SECRET}{number}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_good_until_it_is_retired() {
        let mut ring = Ring::default();
        let verify = ring.verify();
        let old = ring.token("ann", "user", 9);
        assert!(verify(&old).is_ok());
        ring.add();
        let new = ring.token("ann", "user", 9);
        assert!(verify(&old).is_ok() && verify(&new).is_ok());
        ring.retire();
        assert!(verify(&old).is_err() && verify(&new).is_ok());
        ring.retire();
        assert!(verify(&new).is_ok(), "one key is always good");
    }
}
