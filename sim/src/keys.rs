//! Tokens, as an identity provider would sign them.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

/// The secret that the daemon and the identity provider share.
pub const SECRET: &[u8] = b"a secret of the simulated identity provider, long enough for HS256";

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    exp: u64,
    scope: &'a str,
}

/// A token for `sub` that is good until `exp` (Unix seconds).
pub fn token(sub: &str, scope: &str, exp: u64) -> String {
    let claims = Claims { sub, exp, scope };
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET))
        .expect("plain claims can be signed with a plain secret")
}
