//! How the database's certificate is checked: against the file that the address names, never the system's roots.

use super::address::{Address, Tls};
use crate::store::{Result, StoreError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

/// The configuration for `require` and `verify-full`.
pub(super) fn config(address: &Address) -> Result<ClientConfig> {
    let opened = |source| StoreError::Open { path: address.place(), source };
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|why| opened(Box::new(why)))?;
    match &address.tls {
        Tls::VerifyFull(ca) => {
            let roots = roots(ca).map_err(|why| opened(format!("{}: {why}", ca.display()).into()))?;
            Ok(builder.with_root_certificates(roots).with_no_client_auth())
        }
        Tls::Off | Tls::Require => {
            let verifier = Arc::new(Anybody { provider });
            Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
        }
    }
}

fn roots(ca: &Path) -> std::result::Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca).map_err(|why| why.to_string())?;
    for one in certificates {
        let one = one.map_err(|why| format!("it is no PEM file: {why}"))?;
        roots.add(one).map_err(|why| why.to_string())?;
    }
    if roots.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(roots) }
}

/// `require`: whoever it is holds the key of the certificate it showed, and that is all.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, known)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, known)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
