//! Tokens of the tests' own secret.

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

/// What the daemon under test verifies tokens with.
pub const SECRET: &[u8] = b"a secret of the end-to-end tests only";

/// The claims of a token of `user` with `scope`, good until 2106.
pub fn claims(user: &str, scope: &str) -> Value {
    json!({ "sub": user, "scope": scope, "exp": u32::MAX })
}

/// Any claims, signed with any secret.
pub fn sign(claims: &Value, secret: &[u8]) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(secret)).expect("claims can be signed")
}

/// A good token.
pub fn token(user: &str, scope: &str) -> String {
    sign(&claims(user, scope), SECRET)
}
