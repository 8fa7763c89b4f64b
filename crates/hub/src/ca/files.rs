//! The authority's files: read with a bound, written once, keys for their owner alone.

use super::CaError;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The most bytes of a file.
const CAP: u64 = 64 * 1024;

fn wrong(doing: &'static str, path: &Path) -> impl Fn(std::io::Error) -> CaError {
    move |source| CaError::File { doing, path: path.display().to_string(), source }
}

pub(super) fn read(path: &Path) -> Result<String, CaError> {
    let mut text = String::new();
    let opened = std::fs::File::open(path).and_then(|file| file.take(CAP).read_to_string(&mut text));
    opened.map(|_| text).map_err(wrong("reading", path))
}

/// At least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let broken = || CaError::Pem { path: path.display().to_string(), what: "certificate" };
    found.ok().filter(|found| !found.is_empty()).ok_or_else(broken)
}

pub(super) fn key(path: &Path) -> Result<KeyPair, CaError> {
    KeyPair::from_pem(&read(path)?)
        .map_err(|_| CaError::Pem { path: path.display().to_string(), what: "private key" })
}

pub(super) fn refuse_existing(dir: &Path, names: &[&str]) -> Result<(), CaError> {
    match names.iter().map(|name| dir.join(name)).find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(CaError::There { path: path.display().to_string() }),
        None => Ok(()),
    }
}

pub(super) fn make_folder(dir: &Path) -> Result<(), CaError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir);
    made.map_err(wrong("making the folder", dir))
}

/// A file that must not be there yet.
pub(super) fn put_new(path: &Path, text: &str, mode: u32) -> Result<(), CaError> {
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    match written {
        Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(CaError::There { path: path.display().to_string() })
        }
        written => written.map_err(wrong("writing", path)),
    }
}

/// A certificate in the place of another: the old one or the new one, whatever happens.
#[expect(clippy::disallowed_methods, reason = "the hub's own file; its host is not a managed node")]
pub(super) fn replace(path: &Path, text: &str) -> Result<(), CaError> {
    let new = path.with_extension("pem.new");
    let _ = std::fs::remove_file(&new);
    put_new(&new, text, 0o644)?;
    std::fs::rename(&new, path).map_err(wrong("replacing", path))
}
