//! TLS on the daemon's port: the certificate and its key, judged at the start and whenever they are read
//! again; a stream that speaks it, for both sides; and whom a client trusts.

mod socket;
mod stream;
mod trust;
mod validity;

pub use socket::Socket;
pub use stream::TlsStream;
pub use trust::{Trust, TrustError};

use crate::config::{Origin, Problem, Settings, units};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest file with certificates or a key, in bytes.
const FILE_BYTES: u64 = 1 << 20;
/// The most certificates of a chain.
const CHAIN_MOST: usize = 16;
/// A certificate that is good for no longer than this is told of.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Where the certificate and its key are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// The chain, as PEM, the daemon's own certificate first.
    pub cert: Option<PathBuf>,
    /// Its private key, as PEM.
    pub key: Option<PathBuf>,
}

/// Reads the certificate that is configured, if one is.
///
/// # Errors
/// One of the two files is missing, cannot be read, or is not what it should be; they do not belong together;
/// the certificate has expired, or is not good yet.
pub fn load(settings: &Settings) -> Result<Option<ServerConfig>, Problem> {
    let (cert, key) = match (&settings.tls.cert, &settings.tls.key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        (one, _) => {
            let (has, lacks) = match one {
                Some(_) => ("server.tls_cert", "server.tls_key"),
                None => ("server.tls_key", "server.tls_cert"),
            };
            let reason = format!("{has} is set and {lacks} is not");
            return Err(Problem::new(settings.origin(has).clone(), reason, "set both, or none"));
        }
    };
    let chain = chain(cert)?;
    judge_time(cert, &chain[0], SystemTime::now())?;
    let private = private_key(key)?;
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has what both versions need");
    let mut config = builder.with_no_client_auth().with_single_cert(chain, private).map_err(|error| {
        let reason = format!("it does not go with {}: {error}", cert.display());
        Problem::new(
            Origin::File(key.clone(), None),
            reason,
            "give the key that the certificate was made for",
        )
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(config))
}

/// Until when the certificate that is configured is good, in Unix seconds.
pub fn expires(settings: &Settings) -> Option<u64> {
    let certificate = chain(settings.tls.cert.as_ref()?).ok()?.swap_remove(0);
    validity::read(&certificate).map(|(_, until)| until)
}

/// Whether the certificate that is configured, and good, is so for a short time only.
pub fn expires_soon(settings: &Settings) -> Option<Problem> {
    let path = settings.tls.cert.as_ref()?;
    let left = Duration::from_secs(expires(settings)?.checked_sub(unix(SystemTime::now()))?);
    (left < SOON).then(|| {
        let reason = format!("the certificate is good for {} more", units::show_roughly(left));
        Problem::new(
            Origin::File(path.clone(), None),
            reason,
            "renew it: a new one is taken over as it comes",
        )
    })
}

/// Whether it is good at this moment.
fn judge_time(path: &Path, certificate: &CertificateDer<'_>, now: SystemTime) -> Result<(), Problem> {
    let problem =
        |reason: String, fix: &str| Err(Problem::new(Origin::File(path.to_owned(), None), reason, fix));
    let now = unix(now);
    let apart = |other: u64| units::show_roughly(Duration::from_secs(now.abs_diff(other)));
    match validity::read(certificate) {
        None => problem("expected a certificate that says how long it is good".into(), "give another"),
        Some((from, _)) if now < from => {
            let reason =
                format!("expected a certificate that is good now, found one that is in {}", apart(from));
            problem(reason, "set the clock (NTP), or give another")
        }
        Some((_, until)) if until < now => {
            let reason = format!("the certificate has expired: it was good until {} ago", apart(until));
            problem(reason, "renew it, or set the clock (NTP)")
        }
        Some(_) => Ok(()),
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    certificates(path, CHAIN_MOST, "give the certificate and its chain")
}

/// The certificates of a file: one at least, and so many at most.
fn certificates(path: &Path, most: usize, fix: &str) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).take(most + 1).collect();
    let read = read.map_err(|error| not_pem(path, &error, fix))?;
    if (1..=most).contains(&read.len()) {
        return Ok(read);
    }
    let found = if read.is_empty() { "0" } else { "more" };
    let reason = format!("expected 1 to {most} certificates as PEM, found {found}");
    Err(Problem::new(Origin::File(path.to_owned(), None), reason, fix))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| not_pem(path, &error, "give the private key"))
}

/// The error says nothing of the content.
fn not_pem(path: &Path, error: &pem::Error, fix: &str) -> Problem {
    let is_nothing = matches!(error, pem::Error::NoItemsFound);
    let found = if is_nothing { "none of what is needed" } else { "something else" };
    Problem::new(Origin::File(path.to_owned(), None), format!("expected PEM, found {found}"), fix)
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let outcome = File::open(path).and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes));
    let reason = match outcome {
        Err(error) => format!("cannot be read: {error}"),
        Ok(_) if bytes.len() as u64 > FILE_BYTES => format!("longer than {FILE_BYTES} bytes"),
        Ok(_) => return Ok(bytes),
    };
    Err(Problem::new(
        Origin::File(path.to_owned(), None),
        reason,
        "give the path of a PEM file that can be read",
    ))
}
