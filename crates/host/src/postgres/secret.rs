//! Passwords: read from a file at the moment they are needed, and kept nowhere.

use crate::files;
use evenkeel_core::{Fault, PgSecret};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The longest password that is read, in bytes.
const LONGEST: usize = 4096;
/// Where systemd puts a unit's credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The password, where there is one. No error has a part of it.
pub(super) fn read(secret: &PgSecret, doing: &str) -> Result<Option<String>, Fault> {
    let path = match secret {
        PgSecret::None => return Ok(None),
        PgSecret::File(path) => path.clone(),
        PgSecret::Credential(name) => credential(name, doing)?,
    };
    let text = from(&path)
        .map_err(|error| Fault::from(format!("{doing}: read the password in {}", path.display()), error))?;
    Ok(Some(text))
}

fn credential(name: &str, doing: &str) -> Result<PathBuf, Fault> {
    let folder = std::env::var_os(CREDENTIALS).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = folder.ok_or_else(|| {
        Fault::new(format!(
            "{doing}: the agent's unit has no credentials: add LoadCredential={name}:/path/of/the/password to it"
        ))
    })?;
    Ok(folder.join(name))
}

/// The only line of a file that nobody else may use.
pub(crate) fn from(path: &Path) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let stat = rustix::fs::fstat(&file)?;
    files::refuse_irregular(&stat)?;
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned()));
    if stat.st_mode & 0o077 != 0 {
        return refuse("others than its owner may use the file: chmod 0600");
    }
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        return refuse("it belongs to somebody else than root: chown root");
    }
    let bytes = files::read_capped(file, &stat, LONGEST)?;
    // What is no UTF-8 must not be shown by the error.
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(io::Error::other("it is empty"));
    }
    if text.contains(['\n', '\0']) {
        return Err(io::Error::other("it has more than one line"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use evenkeel_core::chain;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_password_is_read_from_a_file_that_nobody_else_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "s3cret canary\r\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let secret = PgSecret::File(path.clone());
        for open in [0o640, 0o604, 0o620] {
            mode(open);
            let why = chain(&read(&secret, "ask PostgreSQL rds").unwrap_err());
            assert!(why.contains("chmod 0600") && !why.contains("canary"), "{why}");
        }
        mode(0o400);
        assert_eq!(read(&secret, "ask").unwrap().as_deref(), Some("s3cret canary"));
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        read(&PgSecret::File(link), "ask").unwrap_err();
        mode(0o600);
        for bad in [&b""[..], b"\n", b"canary\nmore\n", b"\xffcanary"] {
            std::fs::write(&path, bad).unwrap();
            let why = chain(&read(&secret, "ask").unwrap_err());
            assert!(!why.contains("canary"), "{why}");
        }
        assert_eq!(read(&PgSecret::None, "ask").unwrap(), None);
    }
}
