//! The list `auth.keys`: which file holds a key, and what it is good for.

use super::kind::{Kind, quoted};
use super::problem::{Origin, Problem};
use super::table::{AUTH_KEY, find};
use super::written::Written;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use std::path::PathBuf;

/// The algorithms that a key may be for.
pub const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// The most keys that may be listed, and that a JWKS file may hold.
pub(crate) const KEYS_MOST: usize = 32;

/// A key that tokens may be signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfig {
    /// The `kid` of the tokens it is for; any without.
    pub kid: Option<String>,
    /// Its only algorithm.
    pub alg: Algorithm,
    /// Where it is.
    pub file: KeyFile,
    /// Where it was configured.
    pub origin: Origin,
}

/// A file that holds a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFile {
    /// A shared secret; a trailing newline is not part of it.
    Secret(PathBuf),
    /// A public key, as PEM.
    Public(PathBuf),
}

/// One item of the list, before it is judged.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyDraft {
    pub(crate) kid: Option<String>,
    pub(crate) alg: Option<Algorithm>,
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) public_key_file: Option<PathBuf>,
}

/// The kind of `auth.keys`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyList;

impl Kind<Vec<KeyConfig>> for KeyList {
    fn expects(&self) -> String {
        "a list like [{ kid = \"main\", alg = \"HS256\", secret_file = \"secret\" }]".to_owned()
    }

    fn read(&self, written: &Written<'_>) -> Result<Vec<KeyConfig>, Problem> {
        let keys = written.items(&self.expects(), |item| read_key(item, &self.expects()))?;
        if keys.len() > KEYS_MOST {
            let reason = format!("expected at most {KEYS_MOST} keys, found {}", keys.len());
            return Err(written.wrong(reason, "remove those that sign no more"));
        }
        let twice = keys.iter().enumerate().find(|(i, key)| {
            key.kid.is_some() && keys[..*i].iter().any(|other| (&other.kid, other.alg) == (&key.kid, key.alg))
        });
        match twice {
            None => Ok(keys),
            Some((_, key)) => {
                let kid = key.kid.as_deref().unwrap_or_default();
                let reason = format!("auth.keys: the kid {kid:?} is given to two keys of one algorithm");
                Err(Problem::new(key.origin.clone(), reason, "give each key a kid of its own"))
            }
        }
    }

    fn show(&self, value: &Vec<KeyConfig>) -> Option<String> {
        let items: Vec<String> = value.iter().map(show_key).collect();
        (!items.is_empty()).then(|| format!("[{}]", items.join(", ")))
    }
}

fn read_key(item: &Written<'_>, expected: &str) -> Result<KeyConfig, Problem> {
    let table = item.table().ok_or_else(|| item.expected(expected))?;
    let mut draft = KeyDraft::default();
    for (name, value) in table {
        let full = format!("auth.keys.{}", name.get_ref());
        let written = Written { key: &full, toml: Some(value), ..*item };
        match find(AUTH_KEY, name.get_ref()) {
            Ok(key) => key.set(&mut draft, &written)?,
            Err(_) => {
                let names: Vec<_> = AUTH_KEY.iter().map(|key| key.name()).collect();
                return Err(written.wrong("there is no such key", format!("a key has {}", names.join(", "))));
            }
        }
    }
    judge(draft, item)
}

fn judge(draft: KeyDraft, item: &Written<'_>) -> Result<KeyConfig, Problem> {
    let alg = draft.alg.ok_or_else(|| item.wrong("a key without alg", "say alg = \"HS256\" or another"))?;
    let shared = alg.family() == AlgorithmFamily::Hmac;
    let wanted = if shared { "secret_file" } else { "public_key_file" };
    let file = match (draft.secret_file, draft.public_key_file) {
        (Some(secret), None) if shared => KeyFile::Secret(secret),
        (None, Some(public)) if !shared => KeyFile::Public(public),
        (None, None) | (Some(_), _) | (None, Some(_)) => {
            let fix = format!("give it {wanted}, and only that");
            return Err(item.wrong(format!("a key for {alg:?} needs {wanted}"), fix));
        }
    };
    Ok(KeyConfig { kid: draft.kid, alg, file, origin: item.origin() })
}

fn show_key(key: &KeyConfig) -> String {
    let kid = key.kid.as_ref().map(|kid| format!("kid = {}, ", quoted(kid))).unwrap_or_default();
    let (name, path) = match &key.file {
        KeyFile::Secret(path) => ("secret_file", path),
        KeyFile::Public(path) => ("public_key_file", path),
    };
    format!("{{ {kid}alg = \"{:?}\", {name} = {} }}", key.alg, quoted(&path.to_string_lossy()))
}
