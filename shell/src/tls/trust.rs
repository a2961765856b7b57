//! How a client knows that a daemon is the one that it means: by whom its certificate is signed, or by the
//! certificate itself.

use super::{TlsStream, certificates, chain, validity};
use crate::config::{Origin, Problem};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use webpki_roots::TLS_SERVER_ROOTS;

/// The most certificates of authorities in a file: systems have some hundred and fifty.
const AUTHORITIES_MOST: usize = 4_096;

/// Why a client cannot begin to speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Nothing that has a certificate is called so.
    #[error("{0} is no name of a host")]
    Host(String),
    /// The file that says whom to trust is missing, cannot be read, or is not what it should be.
    #[error(transparent)]
    File(#[from] Problem),
    /// The library has no connection for this.
    #[error("TLS cannot begin: {0}")]
    Tls(#[from] io::Error),
}

/// Whose certificates are taken for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those that a well-known authority has signed.
    #[default]
    WellKnown,
    /// Those that an authority in this PEM file has signed, and those that stand in it themselves, for their
    /// names and their time; no others.
    File(PathBuf),
    /// The first certificate in this PEM file alone, whatever its name is: for a client beside the daemon.
    Itself(PathBuf),
}

impl Trust {
    /// A client's side of a connection to `host`, a name or an address.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn connect<T: Read + Write>(&self, below: T, host: &str) -> Result<TlsStream<T>, TrustError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|_| TrustError::Host(host.to_owned()))?;
        Ok(TlsStream::client(below, Arc::new(self.config()?), name)?)
    }

    fn config(&self) -> Result<ClientConfig, Problem> {
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has what both versions need");
        let named = match self {
            Self::WellKnown => None,
            Self::File(path) => Some(Named::known(path, Arc::clone(&provider))?),
            Self::Itself(path) => Some(Named::Itself(chain(path)?.swap_remove(0))),
        };
        let mut config = match named {
            None => {
                let roots = RootCertStore { roots: TLS_SERVER_ROOTS.to_vec() };
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Some(named) => {
                let verifier = Arc::new(Verifier { named, provider });
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Whom a file names.
#[derive(Debug)]
enum Named {
    /// What an authority in it has signed, and what stands in it itself. The latter is its own authority, as
    /// whoever makes one with a single command means it: the library, which looks for the end of a chain,
    /// would refuse it where it may sign others.
    Known { certificates: Vec<CertificateDer<'static>>, signed: Arc<WebPkiServerVerifier> },
    /// One certificate, whatever its name and time are.
    Itself(CertificateDer<'static>),
}

/// Takes for good whom a file names. That a daemon has the key is proved by the signatures, as ever.
#[derive(Debug)]
struct Verifier {
    named: Named,
    provider: Arc<CryptoProvider>,
}

impl Named {
    fn known(path: &Path, provider: Arc<CryptoProvider>) -> Result<Self, Problem> {
        let fix = "give the certificate of the daemon, or of the authority that has signed it";
        let certificates = certificates(path, AUTHORITIES_MOST, fix)?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let signed = signed.map_err(|_| {
            let reason = format!("none of its {} certificates can be read", certificates.len());
            Problem::new(Origin::File(path.to_owned(), None), reason, fix)
        })?;
        Ok(Self::Known { certificates, signed })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.named {
            Named::Known { certificates, signed } if !certificates.contains(shown) => {
                return signed.verify_server_cert(shown, chain, name, ocsp, now);
            }
            Named::Known { .. } => {
                check_time(shown, now)?;
                verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
            }
            Named::Itself(certificate) if shown != certificate => {
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
            Named::Itself(_) => {}
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate is good at this time.
fn check_time(certificate: &CertificateDer<'_>, time: UnixTime) -> Result<(), CertificateError> {
    let (from, until) = validity::read(certificate).ok_or(CertificateError::BadEncoding)?;
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    if time.as_secs() < from {
        return Err(CertificateError::NotValidYetContext { time, not_before: at(from) });
    }
    if until < time.as_secs() {
        return Err(CertificateError::ExpiredContext { time, not_after: at(until) });
    }
    Ok(())
}
