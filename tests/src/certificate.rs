//! Certificates for `localhost`, signed by themselves.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate itself.
    pub der: Vec<u8>,
    /// The same as PEM.
    pub pem: String,
    /// Its private key as PEM.
    pub key: String,
}

impl Certificate {
    /// One that is good from 2020 to the beginning of a year.
    pub fn until(year: i32) -> Self {
        Self::between(2020, year)
    }

    /// One that is good from the beginning of a year to that of another.
    pub fn between(from: i32, until: i32) -> Self {
        Self::with(|params| {
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        })
    }

    /// One that is good from 2020 on, and for so long from now.
    pub fn for_time(time: Duration) -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later");
        Self::with(|params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(1970, 1, 1) + since_1970 + time;
        })
    }

    /// One that may sign others, as `openssl req -x509` makes it, for this name.
    pub fn of_authority(name: &str) -> Self {
        Self::with(|params| {
            *params = CertificateParams::new([name.to_owned()]).expect("a name");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        })
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { der: certificate.der().to_vec(), pem: certificate.pem(), key: key.serialize_pem() }
    }

    /// Writes both to `cert.pem` and `key.pem` in a directory, and returns these paths.
    pub fn write(&self, directory: &Path) -> (PathBuf, PathBuf) {
        let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        fs::write(&cert, &self.pem).expect("the certificate is written");
        fs::write(&key, &self.key).expect("the key is written");
        (cert, key)
    }
}
