//! Keys and signatures. Whether a token's claims are good enough is judged in the core, by its own clock;
//! here it is only found out whether they are signed, and what they are.

mod dev;
mod load;

pub use dev::{DEV_KID, dev_secret, dev_secret_file, read_dev_secret};
pub use load::read_secret;

use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use runcast_core::input::{Claims, TokenProblem};
use serde_json::{Map, Value};
use std::fmt;

/// The longest token, in bytes. (A request head of 16 KiB must hold it.)
pub const TOKEN_BYTES: usize = 8 * 1024;

/// The last moment that a claim can name, in Unix seconds: the end of the year 9999. Later ones count as
/// this, so that nobody need fear to add to them.
const LATEST: u64 = 253_402_300_799;

/// The keys that tokens may be signed with.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    keys: Vec<Key>,
}

/// A key, and the only algorithm it is for: a token cannot choose another for it.
#[derive(Clone, Debug)]
struct Key {
    kid: Option<String>,
    alg: Algorithm,
    verifier: DecodingKey,
}

/// A shared secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret that is not in a file: a test's.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// For whoever signs with it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Keys {
    /// Adds the secret of `--dev`.
    #[must_use]
    pub fn with_dev(mut self, secret: &Secret) -> Self {
        let verifier = DecodingKey::from_secret(&secret.0);
        self.keys.push(Key { kid: Some(DEV_KID.to_owned()), alg: Algorithm::HS256, verifier });
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Reads a token's claims, if one of the keys has signed it.
    ///
    /// A key counts if its `kid` is the token's, or one of the two has none. `exp` and the other claims are
    /// read, not judged.
    ///
    /// # Errors
    /// What is wrong, without repeating anything of the token.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenProblem> {
        if token.len() > TOKEN_BYTES {
            return malformed(format!("expected at most {TOKEN_BYTES} bytes, found {}", token.len()));
        }
        let parts: Vec<&str> = token.splitn(4, '.').collect();
        let [header, payload, signature] = parts[..] else {
            return malformed("expected three parts joined by dots");
        };
        let header = part(header, "header")?;
        let kid = claim(&header, "kid", "a string", text)?;
        let alg = required(&header, "alg", "a string", text)?;
        if header.contains_key("crit") {
            return malformed("expected a header without `crit`: no extension is known here");
        }
        let message = &token.as_bytes()[..token.len() - signature.len() - 1];
        self.check(message, signature, kid.as_deref(), &alg)?;
        claims(&part(payload, "payload")?)
    }

    fn check(
        &self,
        message: &[u8],
        signature: &str,
        kid: Option<&str>,
        alg: &str,
    ) -> Result<(), TokenProblem> {
        let alg: Algorithm = alg.parse().map_err(|_| TokenProblem::Algorithm)?;
        let mut named =
            self.keys.iter().filter(|key| key.kid.is_none() || kid.is_none() || key.kid.as_deref() == kid);
        let fitting: Vec<&Key> = named.clone().filter(|key| key.alg == alg).collect();
        let signed = |key: &&Key| {
            jsonwebtoken::crypto::verify(signature, message, &key.verifier, key.alg).unwrap_or(false)
        };
        if fitting.iter().any(signed) {
            Ok(())
        } else if fitting.is_empty() && named.next().is_some() {
            Err(TokenProblem::Algorithm)
        } else {
            Err(TokenProblem::Signature)
        }
    }
}

/// Signs claims with HS256.
pub fn sign(claims: &Claims, secret: &Secret, kid: Option<&str>) -> String {
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| value.map(|value| body.insert(name.to_owned(), value));
    put("sub", Some(claims.sub.clone().into()));
    put("exp", Some(claims.exp.into()));
    put("nbf", claims.nbf.map(Into::into));
    put("iat", claims.iat.map(Into::into));
    put("iss", claims.iss.clone().map(Into::into));
    put("aud", (!claims.aud.is_empty()).then(|| claims.aud.clone().into()));
    put("scope", claims.scope.clone().map(Into::into));
    put("agents", claims.agents.clone().map(Into::into));
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, &body, &EncodingKey::from_secret(&secret.0))
        .expect("HMAC takes any key, and a map of strings and numbers is JSON")
}

fn malformed<T>(what: impl Into<String>) -> Result<T, TokenProblem> {
    Err(TokenProblem::Malformed(what.into()))
}

/// One part of a token as a JSON object. (The library decodes only the middle part of a token by itself.)
fn part(encoded: &str, name: &str) -> Result<Map<String, Value>, TokenProblem> {
    insecure_decode_claims(format!(".{encoded}."))
        .or_else(|_| malformed(format!("expected the {name} to be a JSON object in base64url")))
}

fn claims(payload: &Map<String, Value>) -> Result<Claims, TokenProblem> {
    const DATE: &str = "a number of seconds";
    const TEXTS: &str = "a list of strings";
    Ok(Claims {
        sub: required(payload, "sub", "a string", text)?,
        exp: required(payload, "exp", DATE, date)?,
        nbf: claim(payload, "nbf", DATE, date)?,
        iat: claim(payload, "iat", DATE, date)?,
        iss: claim(payload, "iss", "a string", text)?,
        aud: claim(payload, "aud", "a string or a list of strings", text_or_texts)?.unwrap_or_default(),
        scope: claim(payload, "scope", "a string", text)?,
        agents: claim(payload, "agents", TEXTS, texts)?,
    })
}

fn required<T>(
    object: &Map<String, Value>,
    name: &str,
    expected: &str,
    read: fn(&Value) -> Option<T>,
) -> Result<T, TokenProblem> {
    claim(object, name, expected, read)?
        .map_or_else(|| malformed(format!("expected `{name}` to be {expected}, found none")), Ok)
}

fn claim<T>(
    object: &Map<String, Value>,
    name: &str,
    expected: &str,
    read: fn(&Value) -> Option<T>,
) -> Result<Option<T>, TokenProblem> {
    let Some(value) = object.get(name) else { return Ok(None) };
    match read(value) {
        Some(read) => Ok(Some(read)),
        None => malformed(format!("expected `{name}` to be {expected}, found {}", kind(value))),
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(text).collect()
}

fn text_or_texts(value: &Value) -> Option<Vec<String>> {
    text(value).map(|one| vec![one]).or_else(|| texts(value))
}

/// A NumericDate of RFC 7519: it may have a fraction, which is dropped. What is before 1970 counts as 1970.
fn date(value: &Value) -> Option<u64> {
    // A cast from float saturates, and a JSON number is never NaN.
    let seconds = value.as_u64().or_else(|| value.as_f64().map(|seconds| seconds as u64))?;
    Some(seconds.min(LATEST))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list of something else",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
