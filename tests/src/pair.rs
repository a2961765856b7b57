//! Key pairs that are made for one test, as an identity provider has them.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::Value;

/// A key pair on the curve P-256, and its name.
#[derive(Debug)]
pub struct Pair {
    kid: String,
    pair: KeyPair,
}

impl Pair {
    /// A new one, for ES256.
    pub fn new(kid: &str) -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key is made");
        Self { kid: kid.to_owned(), pair }
    }

    /// The public key, as PEM.
    pub fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    /// The public key, as a JWKS lists it.
    pub fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.private(), Algorithm::ES256).expect("a public key is told");
        let mut jwk = serde_json::to_value(jwk).expect("it is JSON");
        jwk["kid"] = self.kid.clone().into();
        jwk
    }

    /// Signs claims, and names the key.
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, &self.private()).expect("claims can be signed")
    }

    fn private(&self) -> EncodingKey {
        EncodingKey::from_ec_pem(self.pair.serialize_pem().as_bytes()).expect("a key that was just written")
    }
}
