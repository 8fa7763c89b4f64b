//! The hub's own certificate authority: made once, kept in a folder, and asked for one certificate per node.
//!
//! It signs what [`csr`] has read and nothing else: whatever name a request carries is left aside, the name in a
//! certificate is the one it was asked for. It vouches for nobody but the hub and its nodes; no key is ever replaced.

pub mod csr;
mod files;

use csr::PublicKey;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use time::{Duration, OffsetDateTime};
use x509_cert::der::{Decode as _, asn1::Utf8StringRef};

/// How long the authority vouches for anybody.
const CA_LIFE: Duration = Duration::days(3650);
/// How long the hub's own certificate holds. The authority is its own and pinned: no browser's rules bind it.
const SERVER_LIFE: Duration = Duration::days(825);
/// How much earlier than now a certificate begins to hold, for clocks that are behind.
const BACKDATED: Duration = Duration::minutes(5);
/// How the name of a node is written in its certificate.
pub const NODE_URN: &str = "urn:evenkeel:node:";

/// Why the authority cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// One of its files.
    #[error("{doing} {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is one already.
    #[error("{path} is there already: nothing was written, no key is ever replaced")]
    There {
        /// The file.
        path: String,
    },
    /// A file has something else in it.
    #[error("{path} holds no {what} in PEM")]
    Pem {
        /// The file.
        path: String,
        /// What was looked for.
        what: &'static str,
    },
    /// Key and certificate are not of each other.
    #[error("{dir}: ca.key is not the key of ca.pem")]
    Apart {
        /// The folder.
        dir: String,
    },
    /// A name is none.
    #[error("{name:?} is neither a DNS name nor an address")]
    Name {
        /// What was written.
        name: String,
    },
    /// Signing or making a key failed.
    #[error("making a certificate")]
    Make(#[from] rcgen::Error),
    /// No randomness.
    #[error("no randomness from the kernel")]
    Random,
}

/// The authority, ready to sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What there is to show of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// `sha256:…` over the certificate.
    pub fingerprint: String,
    /// Until when it vouches.
    pub until: OffsetDateTime,
    /// Until when the hub's own certificate holds.
    pub server_until: OffsetDateTime,
}

/// What the hub listens with.
#[derive(Debug)]
pub struct ServerIdentity {
    /// The hub's own certificate and those above it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// The authority's certificate: who may vouch for nodes.
    pub ca: CertificateDer<'static>,
    /// Until when the hub's own certificate holds.
    pub until: OffsetDateTime,
}

/// Makes an authority and a certificate for a hub of these names in `dir`.
///
/// # Errors
/// When there is one already, a name is none, or a file cannot be written.
pub fn init(dir: &Path, names: &[String]) -> Result<(), CaError> {
    files::refuse_existing(dir, &["ca.key", "ca.pem", "server.key", "server.pem"])?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let params = authority(&format!("evenkeel CA {}", hex(&random::<4>()?)));
    let pem = params.self_signed(&key)?.pem();
    let server_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let authority = Authority { issuer: Issuer::new(params, key), pem };
    let server = authority.server(names, &server_key)?;
    files::make_folder(dir)?;
    files::put_new(&dir.join("ca.key"), &authority.issuer.key().serialize_pem(), 0o600)?;
    files::put_new(&dir.join("ca.pem"), &authority.pem, 0o644)?;
    files::put_new(&dir.join("server.key"), &server_key.serialize_pem(), 0o600)?;
    files::put_new(&dir.join("server.pem"), &server, 0o644)
}

/// Gives the hub a new certificate for these names, with the key that it has.
///
/// # Errors
/// When there is no authority in `dir`, a name is none, or the file cannot be written.
pub fn renew_server(dir: &Path, names: &[String]) -> Result<(), CaError> {
    let authority = Authority::load(dir)?;
    let key = files::key(&dir.join("server.key"))?;
    files::replace(&dir.join("server.pem"), &authority.server(names, &key)?)
}

/// What there is to show.
///
/// # Errors
/// When it cannot be read.
pub fn show(dir: &Path) -> Result<Shown, CaError> {
    let ca = files::certificates(&dir.join("ca.pem"))?.swap_remove(0);
    let server = files::certificates(&dir.join("server.pem"))?.swap_remove(0);
    let until = |path: &str, der: &[u8]| {
        let path = || dir.join(path).display().to_string();
        until(der).ok_or_else(|| CaError::Pem { path: path(), what: "certificate" })
    };
    Ok(Shown {
        fingerprint: format!("sha256:{}", fingerprint(&ca)),
        until: until("ca.pem", &ca)?,
        server_until: until("server.pem", &server)?,
    })
}

impl ServerIdentity {
    /// Reads it from `dir`.
    ///
    /// # Errors
    /// When a file is missing or holds something else.
    pub fn load(dir: &Path) -> Result<Self, CaError> {
        let path = dir.join("server.pem");
        let chain = files::certificates(&path)?;
        let until = chain
            .first()
            .and_then(|own| until(own))
            .ok_or_else(|| CaError::Pem { path: path.display().to_string(), what: "certificate" })?;
        let key_path = dir.join("server.key");
        let key = PrivateKeyDer::from_pem_slice(files::read(&key_path)?.as_bytes())
            .map_err(|_| CaError::Pem { path: key_path.display().to_string(), what: "private key" })?;
        Ok(Self { chain, key, ca: files::certificates(&dir.join("ca.pem"))?.swap_remove(0), until })
    }
}

impl Authority {
    /// Reads it from `dir`.
    ///
    /// # Errors
    /// When a file is missing, holds something else, or the two are not of each other.
    pub fn load(dir: &Path) -> Result<Self, CaError> {
        let path = dir.join("ca.pem");
        let broken = || CaError::Pem { path: path.display().to_string(), what: "certificate" };
        let der = files::certificates(&path)?.swap_remove(0);
        let own = x509_cert::Certificate::from_der(&der).map_err(|_| broken())?.tbs_certificate;
        let name = own.subject.0.first().and_then(|part| part.0.iter().next()).ok_or_else(broken)?;
        let name: Utf8StringRef<'_> = name.value.decode_as().map_err(|_| broken())?;
        let key = files::key(&dir.join("ca.key"))?;
        if own.subject_public_key_info.subject_public_key.raw_bytes() != key.public_key_raw() {
            return Err(CaError::Apart { dir: dir.display().to_string() });
        }
        Ok(Self { issuer: Issuer::new(authority(name.as_str()), key), pem: files::read(&path)? })
    }

    /// Its certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate, in PEM, with which `node` may speak, and do nothing else, from `from` until `until`.
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue(
        &self,
        node: &str,
        key: &PublicKey,
        serial: [u8; 16],
        (from, until): (OffsetDateTime, OffsetDateTime),
    ) -> Result<String, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "evenkeel node");
        params.subject_alt_names = vec![SanType::URI(format!("{NODE_URN}{node}").try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        (params.not_before, params.not_after) = (from, until);
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }

    fn server(&self, names: &[String], key: &KeyPair) -> Result<String, CaError> {
        let bad = |name: &String| CaError::Name { name: name.clone() };
        for name in names {
            rustls::pki_types::ServerName::try_from(name.as_str()).map_err(|_| bad(name))?;
        }
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "evenkeel hub");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&serial()?));
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now - BACKDATED, now + SERVER_LIFE);
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }
}

/// The authority's own certificate, before it is signed. Everything but the name is the same for every authority, so
/// that the name is all that has to be read back.
fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - BACKDATED, now + CA_LIFE);
    params
}

/// A serial number for a certificate: 126 random bits, always 16 bytes long.
///
/// # Errors
/// When there is no randomness.
pub fn serial() -> Result<[u8; 16], CaError> {
    let mut serial = random::<16>()?;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(serial)
}

/// From when until when (unix ms) a certificate holds that is signed at `now` for a `life`. Short ones are backdated
/// less, so that two thirds of one are never over at once.
#[must_use]
pub fn span(now: i64, life: std::time::Duration) -> (i64, i64) {
    let life = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
    let back = i64::try_from(BACKDATED.whole_milliseconds()).unwrap_or(0).min(life / 10);
    // Certificates know whole seconds.
    let whole = |ms: i64| ms.div_euclid(1000) * 1000;
    (whole(now - back), whole(now.saturating_add(life)))
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], CaError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| CaError::Random)?;
    Ok(bytes)
}

/// SHA-256, in hex.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn until(der: &[u8]) -> Option<OffsetDateTime> {
    let own = x509_cert::Certificate::from_der(der).ok()?.tbs_certificate;
    let seconds = own.validity.not_after.to_unix_duration().as_secs();
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Authority, CaError, ServerIdentity, init, renew_server, show, span};
    use std::os::unix::fs::MetadataExt as _;
    use std::time::Duration;

    #[test]
    fn an_authority_is_made_once_and_its_keys_are_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("hub");
        let names = ["hub.example.org".to_owned(), "127.0.0.1".to_owned()];
        init(&dir, &names).unwrap();
        for name in ["ca.key", "server.key"] {
            assert_eq!(std::fs::metadata(dir.join(name)).unwrap().mode() & 0o777, 0o600, "{name}");
        }
        let shown = show(&dir).unwrap();
        assert!(shown.fingerprint.starts_with("sha256:") && shown.fingerprint.len() == 71, "{shown:?}");
        let why = init(&dir, &names).unwrap_err();
        assert!(matches!(why, CaError::There { .. }), "{why}");
        assert_eq!(show(&dir).unwrap(), shown, "and nothing was touched");
        Authority::load(&dir).unwrap();
        ServerIdentity::load(&dir).unwrap();
    }

    #[test]
    fn the_hub_gets_a_new_certificate_and_keeps_its_key() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), &["a.example".to_owned()]).unwrap();
        let before = ServerIdentity::load(dir.path()).unwrap();
        renew_server(dir.path(), &["b.example".to_owned()]).unwrap();
        let after = ServerIdentity::load(dir.path()).unwrap();
        assert_ne!(before.chain, after.chain);
        assert_eq!(before.key, after.key);
        let why = renew_server(dir.path(), &["no name".to_owned()]).unwrap_err();
        assert!(why.to_string().contains("no name"), "{why}");
    }

    #[test]
    fn a_key_of_another_authority_is_noticed() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        init(one.path(), &["a.example".to_owned()]).unwrap();
        init(two.path(), &["a.example".to_owned()]).unwrap();
        std::fs::copy(two.path().join("ca.pem"), one.path().join("ca.pem")).unwrap();
        assert!(matches!(Authority::load(one.path()), Err(CaError::Apart { .. })));
    }

    #[test]
    fn a_short_life_is_not_over_by_two_thirds_when_it_begins() {
        let (from, until) = span(1_000_000, Duration::from_secs(20));
        assert!(from + (until - from) * 2 / 3 > 1_000_000 + 10_000, "{from} {until}");
        let (from, _) = span(1_000_000_000, Duration::from_hours(720));
        assert_eq!(from, 1_000_000_000 - 300_000);
    }
}
