//! From the configuration to keys that can verify: every file is read and every key tried at the start, not
//! when the first token comes.

use super::{Key, Keys, Secret};
use crate::config::{ALGORITHMS, AuthConfig, KEYS_MOST, KeyConfig, KeyFile, Origin, Problem, Problems};
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The longest file with keys, in bytes.
const FILE_BYTES: u64 = 1 << 20;
/// The shortest secret, in bytes: what HS256 gives back (RFC 7518 §3.2).
const SECRET_BYTES: usize = 32;
/// RSA keys from 2,048 bits (RFC 7518 §3.3) to 4,096 (what the library takes), in bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;
const ED25519_BYTES: usize = 32;

impl Keys {
    /// Reads all keys that are configured. Without `dev` there must be one.
    ///
    /// # Errors
    /// Everything that is wrong with the files and what is in them.
    pub fn from_config(config: &AuthConfig, dev: bool) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut keys: Vec<Key> = config.keys.iter().filter_map(|key| problems.keep(from_file(key))).collect();
        if let Some(path) = &config.jwks_file {
            keys.extend(problems.keep(from_jwks(path)).unwrap_or_default());
        }
        if keys.is_empty() && problems.0.is_empty() && !dev {
            let fix = "set auth.keys or auth.jwks_file, or use --dev to try things out";
            problems.0.push(Problem::new(Origin::Default, "auth: no keys, so nobody could connect", fix));
        }
        problems.or(Self { keys })
    }
}

/// Reads a shared secret. A trailing newline is not part of it.
///
/// # Errors
/// The file cannot be read, or the secret is too short to be one.
pub fn read_secret(path: &Path, origin: &Origin) -> Result<Secret, Problem> {
    let mut bytes = read(path, origin)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.len() < SECRET_BYTES {
        let reason = format!(
            "{} is too short a secret: expected at least {SECRET_BYTES} bytes, found {}",
            called(path, origin),
            bytes.len()
        );
        return Err(Problem::new(origin.clone(), reason, "make one with `openssl rand -hex 32`"));
    }
    Ok(Secret(bytes))
}

fn from_file(config: &KeyConfig) -> Result<Key, Problem> {
    let verifier = match &config.file {
        KeyFile::Secret(path) => DecodingKey::from_secret(&read_secret(path, &config.origin)?.0),
        KeyFile::Public(path) => public_key(path, config)?,
    };
    Ok(Key { kid: config.kid.clone(), alg: config.alg, verifier })
}

fn public_key(path: &Path, config: &KeyConfig) -> Result<DecodingKey, Problem> {
    const PRIVATE: &[u8] = b"PRIVATE KEY";
    let pem = read(path, &config.origin)?;
    let problem = |reason: &str, fix: &str| {
        Problem::new(config.origin.clone(), format!("{}: {reason}", path.display()), fix)
    };
    if pem.windows(PRIVATE.len()).any(|word| word == PRIVATE) {
        let fix = "give the public one, which `openssl pkey -pubout` makes of it";
        return Err(problem("expected a public key, found a private one", fix));
    }
    let read = match config.alg.family() {
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(&pem),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(&pem),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(&pem),
        AlgorithmFamily::Hmac => return Err(problem("a secret is no public key", "use secret_file")),
    };
    let key = read.map_err(|_| format!("expected the public key of an {:?} key as PEM", config.alg));
    key.and_then(|key| usable(config.alg, key))
        .map_err(|reason| problem(&reason, "give another file, or the alg that this key is for"))
}

/// Reads a set of keys. Those that cannot be used here are passed over (RFC 7517 §5), but one must be left.
fn from_jwks(path: &Path) -> Result<Vec<Key>, Problem> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let origin = Origin::File(path.to_owned(), None);
    let bytes = read(path, &origin)?;
    let set: Set = serde_json::from_slice(&bytes).map_err(|error| {
        let origin = Origin::File(path.to_owned(), Some(error.line()));
        let reason = "expected a JWKS, {\"keys\": [ … ]}";
        Problem::new(origin, reason, "give the file that the identity provider publishes as jwks_uri")
    })?;
    let found = set.keys.len();
    let keys: Vec<Key> = set.keys.into_iter().filter_map(from_jwk).collect();
    if keys.is_empty() || keys.len() > KEYS_MOST {
        let usable = keys.len();
        let reason = format!("expected 1 to {KEYS_MOST} usable keys, found {found}, usable {usable}");
        let known = ALGORITHMS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        return Err(Problem::new(origin, reason, format!("give keys that sign with {known}")));
    }
    Ok(keys)
}

fn from_jwk(value: serde_json::Value) -> Option<Key> {
    let named = value.get("alg").map(|alg| alg.as_str().and_then(|alg| alg.parse().ok()));
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
        return None;
    }
    let alg = match named {
        Some(named) => named?,
        None => usual_algorithm(&jwk.algorithm)?,
    };
    let verifier = usable(alg, DecodingKey::from_jwk(&jwk).ok()?).ok()?;
    Some(Key { kid: jwk.common.key_id, alg, verifier })
}

/// What a key without `alg` is for.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum may grow")]
fn usual_algorithm(parameters: &AlgorithmParameters) -> Option<Algorithm> {
    match parameters {
        AlgorithmParameters::RSA(_) => Some(Algorithm::RS256),
        AlgorithmParameters::OctetKey(_) => Some(Algorithm::HS256),
        AlgorithmParameters::OctetKeyPair(_) => Some(Algorithm::EdDSA),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Some(Algorithm::ES256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => Some(Algorithm::ES384),
        _ => None,
    }
}

/// The key, if it can verify what is signed with `alg`. The library itself would find out at the first token,
/// and panic at an Ed25519 key that is too short.
fn usable(alg: Algorithm, key: DecodingKey) -> Result<DecodingKey, String> {
    let (what, lengths) = match alg.family() {
        AlgorithmFamily::Hmac => ("a secret of at least 32 bytes", SECRET_BYTES..=usize::MAX),
        AlgorithmFamily::Rsa => ("an RSA key of 2,048 to 4,096 bits", RSA_BYTES),
        AlgorithmFamily::Ec => ("a key on its curve", 0..=usize::MAX),
        AlgorithmFamily::Ed => ("an Ed25519 key", ED25519_BYTES..=ED25519_BYTES),
    };
    if lengths.contains(&length(&key)) && (DEFAULT_PROVIDER.verifier_factory)(&alg, &key).is_ok() {
        Ok(key)
    } else {
        Err(format!("{alg:?} needs {what}"))
    }
}

/// How long a key is, in bytes: of an RSA key its modulus, 0 if it has none.
fn length(key: &DecodingKey) -> usize {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => n.iter().skip_while(|byte| **byte == 0).count(),
        DecodingKeyKind::SecretOrDer(der) if key.family() == AlgorithmFamily::Rsa => {
            let components = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der);
            components.map_or(0, |(n, _)| n.len())
        }
        DecodingKeyKind::SecretOrDer(bytes) => bytes.len(),
    }
}

fn read(path: &Path, origin: &Origin) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let outcome = File::open(path).and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes));
    let reason = match outcome {
        Err(error) => format!("{} cannot be read: {error}", called(path, origin)),
        Ok(_) if bytes.len() as u64 > FILE_BYTES => {
            format!("{} is longer than {FILE_BYTES} bytes", called(path, origin))
        }
        Ok(_) => return Ok(bytes),
    };
    Err(Problem::new(origin.clone(), reason, "give the path of a file with a key that can be read"))
}

/// A file's name, unless the error begins with it anyway.
fn called(path: &Path, origin: &Origin) -> String {
    match origin {
        Origin::File(same, _) if same == path => "the file".to_owned(),
        Origin::File(..) | Origin::Default | Origin::Environment(_) | Origin::Flag(_) => {
            path.display().to_string()
        }
    }
}
