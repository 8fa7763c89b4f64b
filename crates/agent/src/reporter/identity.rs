//! What this node shows the hub: a key that was made here and never leaves it, and the certificate over it.
//!
//! Both lie in one file below the state folder, for root alone, replaced whole. A file that cannot be believed is as good as
//! none. Nothing here speaks to the hub.

use evenkeel_host::{files, membership};
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::io;
use std::path::Path;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// How a node's name is written in its certificate.
const NODE_URN: &str = "urn:evenkeel:node:";

/// A key and the certificate over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Both, in PEM.
    pub(crate) pem: Vec<u8>,
    /// The node's name in it.
    pub(crate) name: String,
    /// From when it holds (unix ms).
    pub(crate) from: i64,
    /// Until when (unix ms).
    pub(crate) until: i64,
    /// Tells this certificate from others.
    pub(crate) print: u32,
}

/// Why there is no identity, or a new one is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The disk.
    #[error("{doing} in the state folder")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No key, or no request, can be made.
    #[error("make a key and a request for a certificate")]
    Make(#[source] rcgen::Error),
    /// What the hub sent is no certificate.
    #[error("what the hub sent is no certificate in PEM")]
    Unreadable,
    /// It is over another key.
    #[error("the certificate that the hub sent is not over this node's key")]
    Foreign,
    /// It is for another node.
    #[error("the certificate that the hub sent is for the node `{0}`")]
    Name(String),
}

impl Identity {
    /// What is kept in the state folder, where that is an identity at all.
    pub(crate) fn load(state_dir: &Path) -> Option<Self> {
        let pem = membership::identity(state_dir)
            .inspect_err(|error| tracing::warn!(%error, "the certificate for the hub cannot be read"))
            .ok()??;
        let read = Self::read(&pem);
        if read.is_none() {
            tracing::warn!("the certificate for the hub does not read; a new one is asked for");
        }
        read
    }

    /// Reads key and certificate.
    fn read(pem: &[u8]) -> Option<Self> {
        let key = KeyPair::from_pem(std::str::from_utf8(pem).ok()?).ok()?;
        let der = CertificateDer::from_pem_slice(pem).ok()?;
        let own = x509_cert::Certificate::from_der(&der).ok()?.tbs_certificate;
        if own.subject_public_key_info.subject_public_key.raw_bytes() != key.der_bytes() {
            return None;
        }
        let (_, names) = own.get::<SubjectAltName>().ok()??;
        let name = names.0.iter().find_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => uri.as_str().strip_prefix(NODE_URN),
            _ => None,
        })?;
        let ms = |at: x509_cert::time::Time| i64::try_from(at.to_unix_duration().as_millis()).ok();
        Some(Self {
            name: name.to_owned(),
            from: ms(own.validity.not_before)?,
            until: ms(own.validity.not_after)?,
            print: crc32fast::hash(&der),
            pem: pem.to_vec(),
        })
    }

    /// When a new one is asked for (unix ms): at two thirds of its life, a tenth of that earlier or later, and for one
    /// certificate always the same.
    pub(crate) fn renew_at(&self) -> i64 {
        let life = (self.until - self.from).max(0);
        let jitter = i64::from(self.print % 2001) - 1000;
        let third = life / 3;
        self.from + third.saturating_mul(2).saturating_add(third.saturating_mul(2) / 10_000 * jitter)
    }
}

/// A key that waits for its certificate.
pub(crate) struct Pending(KeyPair);

impl Pending {
    /// The one that waits already, or a new one. It is on the disk before anybody hears of it: where an answer is lost, the
    /// same key is asked for again, and the hub knows it.
    ///
    /// # Errors
    /// The disk, or no randomness.
    pub(crate) fn take(state_dir: &Path) -> Result<Self, IdentityError> {
        let disk = |doing| move |source| IdentityError::Disk { doing, source };
        let kept = membership::pending_key(state_dir).map_err(disk("read the new key"))?;
        let kept = kept.and_then(|pem| KeyPair::from_pem(std::str::from_utf8(&pem).ok()?).ok());
        if let Some(key) = kept {
            return Ok(Self(key));
        }
        let key = KeyPair::generate().map_err(IdentityError::Make)?;
        let path = membership::pending_key_file(state_dir);
        files::replace(&path, key.serialize_pem().as_bytes(), 0o600).map_err(disk("keep the new key"))?;
        Ok(Self(key))
    }

    /// A request for a certificate over it, in PEM. Whose it is to be is not in it: the hub knows.
    ///
    /// # Errors
    /// It cannot be signed.
    pub(crate) fn request(&self) -> Result<String, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(&self.0).map_err(IdentityError::Make)?;
        request.pem().map_err(IdentityError::Make)
    }

    /// Keeps the certificate with its key, and forgets that the key waits.
    ///
    /// # Errors
    /// It is no certificate of this key and this node, or the disk.
    pub(crate) fn keep(
        &self,
        certificate: &str,
        node: &str,
        state_dir: &Path,
    ) -> Result<Identity, IdentityError> {
        let der =
            CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| IdentityError::Unreadable)?;
        x509_cert::Certificate::from_der(&der).map_err(|_| IdentityError::Unreadable)?;
        let pem = format!("{}{certificate}", self.0.serialize_pem()).into_bytes();
        let identity = Identity::read(&pem).ok_or(IdentityError::Foreign)?;
        if identity.name != node {
            return Err(IdentityError::Name(crate::log::plain(&identity.name)));
        }
        let disk = |doing| move |source| IdentityError::Disk { doing, source };
        files::replace(&membership::identity_file(state_dir), &pem, 0o600)
            .map_err(disk("keep the certificate"))?;
        files::remove(&membership::pending_key_file(state_dir))
            .map_err(disk("forget the key that waited"))?;
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::{Identity, IdentityError, NODE_URN, Pending};
    use rcgen::{CertificateParams, KeyPair, SanType};
    use std::os::unix::fs::MetadataExt as _;

    /// A certificate over a key, as a hub would send it.
    fn certificate(key: &KeyPair, node: &str) -> String {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(format!("{NODE_URN}{node}").try_into().unwrap())];
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 31);
        params.self_signed(key).unwrap().pem()
    }

    #[test]
    fn a_key_is_made_once_waits_for_its_certificate_and_is_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let pending = Pending::take(folder.path()).unwrap();
        let again = Pending::take(folder.path()).unwrap();
        assert_eq!(pending.0.serialize_pem(), again.0.serialize_pem(), "an answer that is lost costs no key");
        let kept = again.keep(&certificate(&pending.0, "mw1"), "mw1", folder.path()).unwrap();
        assert_eq!(Identity::load(folder.path()), Some(kept.clone()));
        assert_eq!(kept.name, "mw1");
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.file_name(), "hub-identity.pem");
            assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600);
        }
        let next = Pending::take(folder.path()).unwrap();
        assert_ne!(
            pending.0.serialize_pem(),
            next.0.serialize_pem(),
            "the next certificate is over another key"
        );
    }

    #[test]
    fn a_certificate_of_another_key_or_node_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let pending = Pending::take(folder.path()).unwrap();
        let other = certificate(&KeyPair::generate().unwrap(), "mw1");
        let refused = |pem: &str| pending.keep(pem, "mw1", folder.path()).unwrap_err();
        assert!(matches!(refused(&other), IdentityError::Foreign));
        assert!(matches!(refused(&certificate(&pending.0, "db1")), IdentityError::Name(_)));
        assert!(matches!(refused("nonsense"), IdentityError::Unreadable));
        assert_eq!(Identity::load(folder.path()), None);
        std::fs::write(folder.path().join("hub-identity.pem"), "spoilt").unwrap();
        assert_eq!(Identity::load(folder.path()), None);
    }

    #[test]
    fn it_is_renewed_at_two_thirds_of_its_life_a_tenth_earlier_or_later() {
        let key = KeyPair::generate().unwrap();
        let pem = format!("{}{}", key.serialize_pem(), certificate(&key, "mw1"));
        let identity = Identity::read(pem.as_bytes()).unwrap();
        let day = 86_400_000;
        let at = |print| Identity { print, ..identity.clone() }.renew_at() - identity.from;
        assert_eq!((at(1000), at(0), at(2000)), (20 * day, 18 * day, 22 * day));
    }
}
