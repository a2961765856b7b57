//! How a client knows that a daemon is the one that it means: by whom its certificate is signed, or by the
//! certificate itself.

use super::{TlsStream, chain};
use crate::config::Problem;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use webpki_roots::TLS_SERVER_ROOTS;

/// Whose certificates are taken for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those that a well-known authority has signed.
    #[default]
    WellKnown,
    /// Those that an authority in this PEM file has signed, and no others. A certificate that is signed by
    /// itself is its own authority.
    File(PathBuf),
    /// The first certificate in this PEM file alone, whatever its name is: for a client beside the daemon.
    Itself(PathBuf),
}

impl Trust {
    /// A client's side of a connection to `host`, a name or an address.
    ///
    /// # Errors
    /// The file cannot be read or is not what it should be; or the host can have no certificate.
    pub fn connect<T: Read + Write>(&self, below: T, host: &str) -> Result<TlsStream<T>, String> {
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|_| format!("{host} is no name of a host"))?;
        let config = self.config().map_err(|problem| problem.to_string())?;
        TlsStream::client(below, Arc::new(config), name).map_err(|error| error.to_string())
    }

    fn config(&self) -> Result<ClientConfig, Problem> {
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has what both versions need");
        let mut config = match self {
            Self::WellKnown => {
                let roots = RootCertStore { roots: TLS_SERVER_ROOTS.to_vec() };
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Self::File(path) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(chain(path)?);
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Self::Itself(path) => {
                let itself = Arc::new(Itself { certificate: chain(path)?.swap_remove(0), provider });
                builder.dangerous().with_custom_certificate_verifier(itself).with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Takes one certificate for good. That its daemon has the key is proved by the signatures, as ever.
#[derive(Debug)]
struct Itself {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Itself {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *shown == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
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
