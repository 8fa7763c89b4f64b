//! What this node shows the hub: where its certificate and key are, and the token with which it is let in.
//!
//! Whoever speaks to the hub for this node takes the certificate from here. Nothing here speaks to anybody, and no error
//! has a part of a key or a token.

use crate::{files, postgres};
use std::io;
use std::path::{Path, PathBuf};

/// The most bytes of what is kept.
const CAP: usize = 64 * 1024;
/// Where systemd puts a unit's credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The file with the private key and, after it, the certificate and those above it, in PEM: one file, so that the two are
/// always of each other. It is there once the node was let in.
#[must_use]
pub fn identity_file(state_dir: &Path) -> PathBuf {
    state_dir.join("hub-identity.pem")
}

/// The file with the key of a certificate that has been asked for and has not come yet.
#[must_use]
pub fn pending_key_file(state_dir: &Path) -> PathBuf {
    state_dir.join("hub-key.pem")
}

/// Key and certificate, where the node has them.
///
/// # Errors
/// The file is there and cannot be read.
pub fn identity(state_dir: &Path) -> io::Result<Option<Vec<u8>>> {
    files::read(&identity_file(state_dir), CAP)
}

/// The key that waits for a certificate.
///
/// # Errors
/// The file is there and cannot be read.
pub fn pending_key(state_dir: &Path) -> io::Result<Option<Vec<u8>>> {
    files::read(&pending_key_file(state_dir), CAP)
}

/// The token in a file of root's (or the agent's own user's) that no group and no other may touch.
///
/// # Errors
/// It is not such a file, or not one line.
pub fn token(path: &Path) -> io::Result<String> {
    postgres::secret::from(path)
}

/// The token in a credential of the agent's unit.
///
/// # Errors
/// The unit has none of that name.
pub fn token_credential(name: &str) -> io::Result<String> {
    let folder = std::env::var_os(CREDENTIALS).map(PathBuf::from).filter(|path| path.is_absolute());
    let none = || {
        let why = format!(
            "the agent's unit has no credentials: add LoadCredential={name}:/path/of/the/token to it"
        );
        io::Error::new(io::ErrorKind::NotFound, why)
    };
    token(&folder.ok_or_else(none)?.join(name))
}
