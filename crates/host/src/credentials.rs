//! systemd credentials of the agent, and fingerprints by which secrets are told apart.
//!
//! A credential is read from `$CREDENTIALS_DIRECTORY` each time it is needed and kept nowhere. A fingerprint is a keyed hash: it
//! can be compared, and without its key nothing can be tried against it.

use crate::{files, identity};
use evenkeel_core::{Fault, Secret};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::path::Path;

/// The credential that makes fingerprints comparable between nodes.
const KEY: &str = "evenkeel-report-key";
/// What a machine's id is hashed with, so that a fingerprint's key is nothing that another program has.
const APPLICATION: [u8; 16] = *b"evenkeel:secrets";
/// As much as systemd takes for all of a unit's.
const LONGEST: usize = 1 << 20;
/// The block of SHA-256, in bytes.
const BLOCK: usize = 64;

/// A credential of the agent's.
pub(crate) fn read(name: &str) -> Result<Option<Secret>, Fault> {
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(folder) => read_in(Path::new(&folder), name),
        None => Ok(None),
    }
}

fn read_in(folder: &Path, name: &str) -> Result<Option<Secret>, Fault> {
    let doing = || format!("read the credential `{}`", name.escape_default());
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.starts_with('.') || name.len() > 255 || !name.chars().all(plain) {
        return Err(Fault::new(format!("{}: this is no name of one", doing())));
    }
    let found = files::read_whole(&folder.join(name), LONGEST);
    let Some((bytes, stat)) = found.map_err(|error| Fault::from(doing(), error))? else { return Ok(None) };
    // With an access list, the group's bits are that list's; those of others are never needed.
    if stat.st_mode & 0o027 != 0 {
        return Err(Fault::new(format!("{}: others than its owner may read or write it", doing())));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| Fault::new(format!("{}: it is no UTF-8 text", doing())))?;
    Ok(Some(Secret::new(text)))
}

/// A short text by which two secrets can be told apart.
pub(crate) fn fingerprint(text: &Secret) -> String {
    let key = match read(KEY) {
        Ok(Some(key)) => key.reveal().trim().as_bytes().to_vec(),
        _ => machine_key(),
    };
    short(&hmac(&key, text.reveal().as_bytes()))
}

/// As `sd_id128_get_machine_app_specific(3)` has it: the machine's id is the key, and never seen. A machine without one has its
/// boot's.
fn machine_key() -> Vec<u8> {
    let id = identity::machine_id().unwrap_or_else(identity::boot_id);
    hmac(id.as_bytes(), &APPLICATION).to_vec()
}

fn short(hash: &[u8; 32]) -> String {
    hex(&hash[..8])
}

/// Bytes in small hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// HMAC-SHA256, RFC 2104.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let (inner, outer) = (block.map(|byte| byte ^ 0x36), block.map(|byte| byte ^ 0x5c));
    let inner = Sha256::new().chain_update(inner).chain_update(text).finalize();
    Sha256::new().chain_update(outer).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_keyed_hash_is_that_of_rfc_4231() {
        let one = hmac(&[0x0b; 20], b"Hi There");
        assert_eq!(hex(&one), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        let two = hmac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(&two), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(&long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn equal_secrets_have_equal_fingerprints_and_nothing_of_the_secret_shows() {
        let (one, other) = (fingerprint(&Secret::new("canary")), fingerprint(&Secret::new("canarz")));
        assert_eq!(one, fingerprint(&Secret::new("canary")));
        assert!(one != other && one.len() == 16 && !one.contains("canary"));
    }

    #[test]
    fn a_credential_is_read_only_by_a_plain_name_and_only_where_nobody_else_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        write(&path, "canary\n").unwrap();
        let mode = |bits| set_permissions(&path, Permissions::from_mode(bits)).unwrap();
        mode(0o400);
        assert_eq!(read_in(folder.path(), "db").unwrap().unwrap().reveal(), "canary\n");
        assert!(read_in(folder.path(), "none").unwrap().is_none());
        for bits in [0o404, 0o420, 0o402, 0o644] {
            mode(bits);
            assert!(read_in(folder.path(), "db").is_err(), "{bits:o}");
        }
        mode(0o440);
        assert!(read_in(folder.path(), "db").is_ok(), "systemd's own access list shows so");
        std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
        for name in ["link", "", ".", "..", "../db", "a/b", ".hidden"] {
            assert!(read_in(folder.path(), name).is_err(), "{name}");
        }
        write(&path, [0xff]).unwrap();
        assert!(read_in(folder.path(), "db").is_err());
    }
}
