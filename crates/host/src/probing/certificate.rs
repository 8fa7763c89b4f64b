//! Until when a certificate is valid: the first one in a file, or the one that a server shows. Nothing is verified but
//! that: whether anybody vouches for it is another question.

use super::age;
use crate::guard::Guard;
use crate::postgres::Anybody;
use crate::program::Program;
use crate::{files, mounting};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use x509_cert::der::Decode as _;

/// The longest file that is read, in bytes.
const LONGEST: usize = 1 << 20;

/// In seconds since 1970, of the first certificate in a PEM file.
pub(super) fn of_file(guard: &Guard, path: &Path, within: Duration) -> Result<i64, String> {
    let real = mounting::resolve(guard, path).map_err(|fault| evenkeel_core::chain(&fault))?;
    let real = real.ok_or("there is no such file")?;
    let clear = guard.clear(&real).map_err(|error| error.to_string())?;
    let pem = if clear { here(&real)? } else { on_a_share(guard, &real, within)? };
    let mut all = CertificateDer::pem_slice_iter(&pem);
    let first = all.next().ok_or("there is no certificate in it")?;
    ends(&first.map_err(|error| format!("it is no PEM file: {error}"))?)
}

fn here(path: &Path) -> Result<Vec<u8>, String> {
    let read = files::read(path, LONGEST).map_err(|error| error.to_string())?;
    read.ok_or_else(|| "there is no such file".to_owned())
}

/// Read by a program that can be given up, once the share is seen to answer.
fn on_a_share(guard: &Guard, path: &Path, within: Duration) -> Result<Vec<u8>, String> {
    age::of(guard, path, within)?;
    let read = Program::new("cat").arg("--").arg(path).run(within, LONGEST);
    let read = read.map_err(|error| evenkeel_core::chain(&error))?;
    if read.code == Some(0) { Ok(read.stdout) } else { Err(read.complaint()) }
}

/// In seconds since 1970, of the certificate that is shown to a client that asks for `name`.
pub(super) fn shown(stream: tokio::net::TcpStream, name: &str, within: Duration) -> Result<i64, String> {
    let told = |error: std::io::Error| super::tcp::told(&error);
    let mut stream = stream.into_std().map_err(told)?;
    stream.set_nonblocking(false).map_err(told)?;
    stream.set_read_timeout(Some(within)).map_err(told)?;
    stream.set_write_timeout(Some(within)).map_err(told)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody { provider }))
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let mut session =
        rustls::ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    while session.is_handshaking() {
        session.complete_io(&mut stream).map_err(|error| format!("TLS: {}", told(error)))?;
    }
    let shown = session.peer_certificates().and_then(<[_]>::first);
    ends(shown.ok_or("it shows no certificate")?)
}

fn ends(certificate: &CertificateDer<'_>) -> Result<i64, String> {
    let read = x509_cert::Certificate::from_der(certificate);
    let read = read.map_err(|error| format!("its certificate cannot be read: {error}"))?;
    let end = read.tbs_certificate.validity.not_after.to_unix_duration();
    i64::try_from(end.as_secs()).map_err(|error| error.to_string())
}
