//! Which tokens are good, and what the others are told. The keys under `tests/keys` are for this only.

use super::*;
use crate::config::{AuthConfig, KeyConfig, KeyFile, Origin};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

const SECRET: &[u8] = b"an example secret of enough bytes";
const PAIRS: [(&str, Algorithm); 4] = [
    ("rs256", Algorithm::RS256),
    ("rs256", Algorithm::PS256),
    ("es256", Algorithm::ES256),
    ("eddsa", Algorithm::EdDSA),
];

fn key_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)
}

fn private(name: &str, alg: Algorithm) -> EncodingKey {
    let pem = fs::read(key_file(&format!("{name}.pem"))).unwrap();
    let read = match alg.family() {
        jsonwebtoken::AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem,
        jsonwebtoken::AlgorithmFamily::Ec => EncodingKey::from_ec_pem,
        jsonwebtoken::AlgorithmFamily::Ed => EncodingKey::from_ed_pem,
        jsonwebtoken::AlgorithmFamily::Hmac => panic!("not a pair"),
    };
    read(&pem).unwrap()
}

fn public(name: &str, alg: Algorithm, kid: Option<&str>) -> KeyConfig {
    let file = KeyFile::Public(key_file(&format!("{name}.pub.pem")));
    KeyConfig { kid: kid.map(str::to_owned), alg, file, origin: Origin::Default }
}

fn load(keys: Vec<KeyConfig>) -> Result<Keys, String> {
    Keys::from_config(&AuthConfig { jwks_file: None, keys }, false).map_err(|problems| problems.to_string())
}

fn secret_keys() -> Keys {
    Keys::default().with_dev(&Secret::new(SECRET))
}

/// Signs any claims as any header says.
fn token(alg: Algorithm, kid: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(alg) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

fn hs256(claims: &Value) -> String {
    token(Algorithm::HS256, None, &EncodingKey::from_secret(SECRET), claims)
}

/// A token with this header, whatever it is, and a signature by the secret over both.
fn with_header(header: &Value) -> String {
    let part = |value| hs256(value).split('.').nth(1).unwrap().to_owned();
    let message = format!("{}.{}", part(header), part(&json!({ "sub": "alice", "exp": 2_000_000_000 })));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn alice() -> Value {
    json!({ "sub": "alice", "exp": 2_000_000_000 })
}

fn wrong(what: &str) -> Result<Claims, TokenProblem> {
    Err(TokenProblem::Malformed(what.to_owned()))
}

#[test]
fn a_token_signed_here_is_read_as_it_was_written() {
    let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let whole = Claims {
        sub: "alice".to_owned(),
        exp: 2_000_000_000,
        nbf: Some(5),
        iat: Some(6),
        iss: Some("id".to_owned()),
        aud: texts(&["a", "b"]),
        scope: Some("user worker".to_owned()),
        agents: Some(texts(&["echo"])),
    };
    let least = Claims { sub: "alice".to_owned(), exp: 1, ..Claims::default() };
    for claims in [whole, least] {
        let token = sign(&claims, &Secret::new(SECRET), Some(DEV_KID));
        assert_eq!(secret_keys().verify(&token), Ok(claims));
    }
}

#[test]
fn each_kind_of_public_key_verifies_what_its_private_key_signed() {
    for (name, alg) in PAIRS {
        let keys = load(vec![public(name, alg, Some("k"))]).unwrap();
        for kid in [Some("k"), None] {
            let token = token(alg, kid, &private(name, alg), &alice());
            assert_eq!(keys.verify(&token).unwrap().sub, "alice", "{alg:?}");
        }
    }
}

#[test]
fn a_changed_token_is_not_signed() {
    for (name, alg) in PAIRS {
        let keys = load(vec![public(name, alg, None)]).unwrap();
        let good = token(alg, None, &private(name, alg), &alice());
        let mallory = hs256(&json!({ "sub": "mallory", "exp": 2_000_000_000 }));
        let parts: Vec<&str> = good.split('.').collect();
        let forged = format!("{}.{}.{}", parts[0], mallory.split('.').nth(1).unwrap(), parts[2]);
        assert_eq!(keys.verify(&forged), Err(TokenProblem::Signature), "{alg:?}");
        let unsigned = format!("{}.{}.", parts[0], parts[1]);
        assert_eq!(keys.verify(&unsigned), Err(TokenProblem::Signature), "{alg:?}");
    }
}

#[test]
fn the_algorithm_belongs_to_the_key_and_not_to_the_token() {
    let keys = load(vec![public("rs256", Algorithm::RS256, Some("k"))]).unwrap();
    let pem = fs::read(key_file("rs256.pub.pem")).unwrap();
    let confused = token(Algorithm::HS256, Some("k"), &EncodingKey::from_secret(&pem), &alice());
    assert_eq!(keys.verify(&confused), Err(TokenProblem::Algorithm));
    let padded = token(Algorithm::PS256, Some("k"), &private("rs256", Algorithm::PS256), &alice());
    assert_eq!(keys.verify(&padded), Err(TokenProblem::Algorithm));
    for alg in ["none", "None", "HS1", "HS384"] {
        let token = with_header(&json!({ "alg": alg }));
        assert_eq!(secret_keys().verify(&token), Err(TokenProblem::Algorithm), "{alg}");
    }
}

#[test]
fn a_kid_chooses_among_keys_of_one_algorithm() {
    let keys = load(vec![
        public("rs256", Algorithm::RS256, Some("a")),
        public("es256", Algorithm::ES256, Some("b")),
        public("eddsa", Algorithm::EdDSA, None),
    ])
    .unwrap();
    let signed = |name, alg, kid| keys.verify(&token(alg, kid, &private(name, alg), &alice())).map(drop);
    assert_eq!(signed("rs256", Algorithm::RS256, Some("a")), Ok(()));
    assert_eq!(signed("es256", Algorithm::ES256, None), Ok(()));
    assert_eq!(signed("eddsa", Algorithm::EdDSA, Some("any")), Ok(()));
    assert_eq!(signed("rs256", Algorithm::RS256, Some("b")), Err(TokenProblem::Algorithm));
    let only = load(vec![public("rs256", Algorithm::RS256, Some("a"))]).unwrap();
    let unknown = token(Algorithm::RS256, Some("z"), &private("rs256", Algorithm::RS256), &alice());
    assert_eq!(only.verify(&unknown), Err(TokenProblem::Signature));
}

#[test]
fn what_is_no_jwt_is_told_without_repeating_it() {
    let parts = "expected three parts joined by dots";
    let header = "expected the header to be a JSON object in base64url";
    for (token, what) in [
        ("", parts),
        ("swordfish", parts),
        ("a.b", parts),
        ("a.b.c.d", parts),
        ("..", header),
        ("ä.ö.ü", header),
        ("W10.e30.x", header),
        ("e30.e30.x", "expected `alg` to be a string, found none"),
    ] {
        assert_eq!(secret_keys().verify(token), wrong(what), "{token}");
    }
    let long = "a".repeat(TOKEN_BYTES + 1);
    assert_eq!(secret_keys().verify(&long), wrong("expected at most 8192 bytes, found 8193"));
    let critical = with_header(&json!({ "alg": "HS256", "crit": ["b64"], "b64": false }));
    let what = "expected a header without `crit`: no extension is known here";
    assert_eq!(secret_keys().verify(&critical), wrong(what));
    let kid = with_header(&json!({ "alg": "HS256", "kid": 7 }));
    assert_eq!(secret_keys().verify(&kid), wrong("expected `kid` to be a string, found a number"));
}

#[test]
fn a_claim_of_the_wrong_type_is_named() {
    let texts = "a list of strings";
    let cases = [
        (json!({ "exp": 1 }), "sub", "a string", "none"),
        (json!({ "sub": 7, "exp": 1 }), "sub", "a string", "a number"),
        (json!({ "sub": "alice" }), "exp", "a number of seconds", "none"),
        (json!({ "sub": "alice", "exp": "1" }), "exp", "a number of seconds", "a string"),
        (json!({ "sub": "alice", "exp": null }), "exp", "a number of seconds", "null"),
        (json!({ "sub": "alice", "exp": 1, "nbf": true }), "nbf", "a number of seconds", "a boolean"),
        (json!({ "sub": "alice", "exp": 1, "iat": {} }), "iat", "a number of seconds", "an object"),
        (json!({ "sub": "alice", "exp": 1, "iss": 3 }), "iss", "a string", "a number"),
        (json!({ "sub": "alice", "exp": 1, "aud": 3 }), "aud", "a string or a list of strings", "a number"),
        (json!({ "sub": "alice", "exp": 1, "scope": {} }), "scope", "a string", "an object"),
        (json!({ "sub": "alice", "exp": 1, "agents": "echo" }), "agents", texts, "a string"),
        (json!({ "sub": "alice", "exp": 1, "agents": [1] }), "agents", texts, "a list of something else"),
    ];
    for (claims, name, expected, found) in cases {
        let what = format!("expected `{name}` to be {expected}, found {found}");
        assert_eq!(secret_keys().verify(&hs256(&claims)), wrong(&what));
    }
    let list = wrong("expected the payload to be a JSON object in base64url");
    assert_eq!(secret_keys().verify(&hs256(&json!(["alice"]))), list);
}

#[test]
fn claims_are_read_and_not_judged() {
    let claims =
        json!({ "sub": "", "exp": 0, "nbf": 4_000_000_000_u64, "iss": "x", "aud": "y", "jti": 5, "z": [] });
    let read = secret_keys().verify(&hs256(&claims)).unwrap();
    assert_eq!((read.sub.as_str(), read.exp, read.nbf), ("", 0, Some(4_000_000_000)));
    assert_eq!((read.iss.as_deref(), read.aud), (Some("x"), vec!["y".to_owned()]));
}

#[test]
fn a_date_may_have_a_fraction_and_lie_anywhere() {
    for (written, read) in [
        (json!(1_700_000_000.9), 1_700_000_000),
        (json!(1.7e9), 1_700_000_000),
        (json!(-5), 0),
        (json!(-0.5), 0),
        (json!(1e300), LATEST),
        (json!(u64::MAX), LATEST),
    ] {
        let claims = secret_keys().verify(&hs256(&json!({ "sub": "alice", "exp": written }))).unwrap();
        assert_eq!(claims.exp, read, "{written}");
    }
}

#[test]
fn a_key_that_cannot_verify_is_found_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("short"), "31 bytes and one more is needed\n").unwrap();
    let short = KeyFile::Secret(dir.path().join("short"));
    let private = KeyFile::Public(key_file("es256.pem"));
    let missing = KeyFile::Secret(dir.path().join("missing"));
    let other = "give another file, or the alg that this key is for";
    let cases = [
        (Algorithm::HS256, missing, "missing cannot be read: "),
        (
            Algorithm::HS256,
            short,
            "short is too short a secret: expected at least 32 bytes, found 31; make one with",
        ),
        (
            Algorithm::ES256,
            private,
            "es256.pem: expected a public key, found a private one; give the public one",
        ),
        (
            Algorithm::RS256,
            KeyFile::Public(key_file("rs1024.pub.pem")),
            "RS256 needs an RSA key of 2,048 to 4,096 bits",
        ),
        (Algorithm::ES256, KeyFile::Public(key_file("es384.pub.pem")), "ES256 needs a key on its curve"),
        (
            Algorithm::EdDSA,
            KeyFile::Public(key_file("rs256.pub.pem")),
            "expected the public key of an EdDSA key as PEM",
        ),
        (Algorithm::RS256, KeyFile::Public(key_file("../keys")), "cannot be read: "),
    ];
    for (alg, file, expected) in cases {
        let origin = Origin::File("runcast.toml".into(), Some(3));
        let problem = load(vec![KeyConfig { kid: None, alg, file, origin }]).unwrap_err();
        assert!(problem.starts_with("runcast.toml:3: ") && problem.contains(expected), "{problem}");
    }
    let problem = load(vec![public("es384", Algorithm::ES256, None)]).unwrap_err();
    assert!(problem.ends_with(other), "{problem}");
    assert!(load(vec![public("es384", Algorithm::ES384, None)]).is_ok());
}

#[test]
fn without_keys_there_is_no_start() {
    let problem = load(vec![]).unwrap_err();
    assert!(
        problem.starts_with("configuration: auth: no keys, so nobody could connect; set auth.keys"),
        "{problem}"
    );
}

/// A JWKS with the public keys of `tests/keys`, and others that are of no use.
fn jwks() -> Value {
    let jwk = |name, alg, kid: Option<&str>| {
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&private(name, alg), alg).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk.as_object_mut().unwrap().remove("alg");
        if let Some(kid) = kid {
            jwk["kid"] = kid.into();
        }
        jwk
    };
    let mut encrypts = jwk("rs256", Algorithm::RS256, Some("enc"));
    encrypts["use"] = "enc".into();
    json!({ "keys": [
        jwk("rs256", Algorithm::RS256, Some("r")),
        jwk("es256", Algorithm::ES256, Some("e")),
        jwk("eddsa", Algorithm::EdDSA, None),
        encrypts,
        { "kty": "OKP", "crv": "Ed25519", "x": "c2hvcnQ", "kid": "short" },
        { "kty": "oct", "k": "c2hvcnQ", "kid": "short" },
        { "kty": "RSA", "n": "c2hvcnQ", "e": "AQAB", "kid": "short" },
        { "kty": "EC", "crv": "P-256", "x": "c2hvcnQ", "y": "c2hvcnQ", "kid": "short" },
        { "kty": "moon" },
        5,
    ] })
}

#[test]
fn keys_of_a_jwks_verify_and_those_of_no_use_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    fs::write(&path, jwks().to_string()).unwrap();
    let config = AuthConfig { jwks_file: Some(path), keys: vec![] };
    let keys = Keys::from_config(&config, false).unwrap();
    assert_eq!(keys.keys.len(), 3);
    for (name, alg, kid) in [
        ("rs256", Algorithm::RS256, Some("r")),
        ("es256", Algorithm::ES256, Some("e")),
        ("eddsa", Algorithm::EdDSA, Some("any")),
    ] {
        assert!(keys.verify(&token(alg, kid, &private(name, alg), &alice())).is_ok(), "{alg:?}");
    }
    let encrypted = token(Algorithm::RS256, Some("enc"), &private("rs256", Algorithm::RS256), &alice());
    assert_eq!(keys.verify(&encrypted), Err(TokenProblem::Algorithm));
}

#[test]
fn a_jwks_without_a_usable_key_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    for (text, expected) in [
        ("{\n\"keys\": 5 }", "jwks.json:2: expected a JWKS, {\"keys\": [ … ]}; give the file"),
        (
            "{\"keys\": [{\"kty\": \"moon\"}]}",
            "jwks.json: expected 1 to 32 usable keys, found 1, usable 0; give keys",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let config = AuthConfig { jwks_file: Some(path.clone()), keys: vec![] };
        let problem = Keys::from_config(&config, false).unwrap_err().to_string();
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
fn the_dev_secret_is_made_once_and_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read_dev_secret(dir.path()).unwrap(), None);
    let first = dev_secret(dir.path()).unwrap();
    assert_eq!(dev_secret(dir.path()).unwrap(), first);
    assert_eq!(first.0.len(), 64);
    let mode = fs::metadata(dev_secret_file(dir.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(dev_secret(other.path()).unwrap(), first);
    assert_eq!(format!("{first:?}"), "Secret(…)");
}
