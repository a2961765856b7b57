//! Tokens, as an identity provider signs them and the daemon's own keys verify them.

use runcast::auth::{Keys, Secret, sign};
use runcast::pump::Verify;
use runcast_core::input::Claims;

/// The secret that the daemon and the identity provider share.
const SECRET: &[u8] = b"a secret of the simulated identity provider, long enough for HS256";

/// A token for `sub` that is good until `exp` (Unix seconds).
pub fn token(sub: &str, scope: &str, exp: u64) -> String {
    made(None, sub, scope, exp)
}

/// The same, that says when it was made (Unix seconds).
pub fn made(iat: Option<u64>, sub: &str, scope: &str, exp: u64) -> String {
    let claims = Claims { sub: sub.to_owned(), exp, iat, scope: Some(scope.to_owned()), ..Claims::default() };
    sign(&claims, &Secret::new(SECRET), None)
}

/// How the daemon looks at signatures.
pub fn verify() -> Verify {
    let keys = Keys::default().with_dev(&Secret::new(SECRET));
    Box::new(move |token| keys.verify(token))
}
