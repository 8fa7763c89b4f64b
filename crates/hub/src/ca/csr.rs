//! What a node asks to be signed: a PKCS#10 request, of which the public key is taken and nothing else.
//!
//! One kind of key is known, ECDSA on P-256. That the asker has the private half is proved by the request's own signature.

use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::request::CertReq;

/// The most bytes of a request.
pub const CSR_CAP: usize = 8192;
/// id-ecPublicKey, RFC 5480.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// secp256r1, RFC 5480.
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// ecdsa-with-SHA256, RFC 5758.
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// A point on P-256 whose private half the asker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

/// Why a request is not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// It does not read.
    #[error("`csr` is no certificate request (PKCS#10) in PEM")]
    Unreadable,
    /// Another kind of key.
    #[error("`csr` has another kind of key: this hub signs ECDSA keys on P-256 alone")]
    Kind,
    /// The signature is not by the key.
    #[error("`csr` is not signed with its own key")]
    Signature,
}

/// Reads a request, and checks that it is signed by its own key.
///
/// # Errors
/// When it is not.
pub fn read(pem: &str) -> Result<PublicKey, CsrError> {
    if pem.len() > CSR_CAP {
        return Err(CsrError::Unreadable);
    }
    let der =
        CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| CsrError::Unreadable)?;
    let request = CertReq::from_der(&der).map_err(|_| CsrError::Unreadable)?;
    let key = &request.info.public_key;
    let curve = key.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    if key.algorithm.oid != EC || curve != Some(P256) || request.algorithm.oid != ECDSA_SHA256 {
        return Err(CsrError::Kind);
    }
    let point = key.subject_public_key.as_bytes().ok_or(CsrError::Kind)?;
    let signed = request.info.to_der().map_err(|_| CsrError::Unreadable)?;
    let signature = request.signature.as_bytes().ok_or(CsrError::Signature)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .verify(&signed, signature)
        .map_err(|_| CsrError::Signature)?;
    Ok(PublicKey(point.to_vec()))
}

impl PublicKey {
    /// SHA-256 over the point, in hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        super::fingerprint(&self.0)
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{CsrError, read};
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    fn request(algorithm: &'static rcgen::SignatureAlgorithm) -> String {
        let key = KeyPair::generate_for(algorithm).unwrap();
        CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap()
    }

    #[test]
    fn a_request_on_p256_is_read_and_another_kind_of_key_is_not() {
        read(&request(&PKCS_ECDSA_P256_SHA256)).unwrap();
        assert_eq!(read(&request(&PKCS_ECDSA_P384_SHA384)), Err(CsrError::Kind));
        assert_eq!(read(&request(&PKCS_ED25519)), Err(CsrError::Kind));
    }

    #[test]
    fn a_request_that_was_changed_on_the_way_or_signed_by_another_key_is_refused() {
        let (mine, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let csr = CertificateParams::default().serialize_request(&mine).unwrap();
        let mut der = csr.der().to_vec();
        let at = der.windows(65).position(|bytes| bytes == mine.public_key_raw()).unwrap();
        der[at..at + 65].copy_from_slice(other.public_key_raw());
        let pem = |der: &[u8]| {
            let text = rustls_pem(der);
            format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
        };
        assert_eq!(read(&pem(csr.der())), read(&csr.pem().unwrap()));
        assert_eq!(read(&pem(&der)), Err(CsrError::Signature));
        for nonsense in ["", "csr", &pem(b"nonsense"), &"x".repeat(100_000)] {
            assert_eq!(read(nonsense), Err(CsrError::Unreadable));
        }
    }

    /// Base64 without a crate for it.
    fn rustls_pem(der: &[u8]) -> String {
        const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let sign = |chunk: &[u8], index: usize| {
            let bits = chunk
                .iter()
                .chain(&[0, 0])
                .take(3)
                .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
            if index <= chunk.len() { char::from(SIGNS[bits >> (18 - 6 * index) & 63]) } else { '=' }
        };
        let text: Vec<char> = der.chunks(3).flat_map(|chunk| (0..4).map(move |n| sign(chunk, n))).collect();
        text.chunks(64).map(|line| line.iter().collect::<String>()).collect::<Vec<_>>().join("\n")
    }
}
