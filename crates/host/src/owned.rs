//! Whole files with their owners: looked at, put in their place, and kept as they were.
//!
//! Only on filesystems of this machine. A file on a share would be written by every node that has the share, and whoever
//! touches one whose server is dead does not come back; so such a file is refused before it is touched.

use crate::files::{self, Dress, FileState};
use crate::guard::Guard;
use crate::own_writes::OwnWrites;
use crate::{LONGEST, credentials, mountinfo, mounting, users};
use evenkeel_core::{Class, Fault, FileSeen, Secret};
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::{Path, PathBuf};

/// The longest name of a copy; a longer one is cut, and told from others by a hash.
const NAME: usize = 200;

/// A file to be put in its place.
pub(crate) struct Put<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a Secret,
    pub(crate) owner: Option<&'a str>,
    pub(crate) group: Option<&'a str>,
    pub(crate) mode: Option<u32>,
}

/// Whether nothing on the way to a path can hold whoever touches it. The path has no symlinks in it.
///
/// A machine may have a root of a filesystem that is not known to be local; then everything hangs with it anyway, and what is
/// of the same type is taken for local too.
pub(crate) fn is_local(guard: &Guard, path: &Path) -> io::Result<bool> {
    if guard.clear(path)? {
        return Ok(true);
    }
    let root = Path::new("/");
    if guard.clear(root)? {
        return Ok(false);
    }
    let mounts = mountinfo::parse(&mounting::table()?);
    let of = |path: &Path| {
        let above = mounts.iter().filter(|entry| path.starts_with(&entry.target));
        above.max_by_key(|entry| entry.target.components().count()).map(|entry| entry.fstype.clone())
    };
    Ok(of(path) == of(root))
}

/// The folder of a file, as the kernel sees it; `None` where it is not there.
fn folder(guard: &Guard, path: &Path) -> Result<Option<PathBuf>, Fault> {
    let above = path.parent().filter(|_| path.is_absolute());
    let above = above.ok_or_else(|| Fault::new(format!("{} is no path of a file", path.display())))?;
    let Some(folder) = mounting::resolve(guard, above)? else { return Ok(None) };
    let doing = || format!("reach {}", path.display());
    match is_local(guard, &folder) {
        Ok(true) => Ok(Some(folder)),
        Ok(false) => Err(Fault::new(format!(
            "{} lies on a share: every node that has it would write it; keep it on the machine that serves it",
            path.display()
        ))),
        Err(error) => Err(Fault::from(doing(), error)),
    }
}

/// A regular file with its owner.
pub(crate) fn see(guard: &Guard, path: &Path) -> Result<Option<FileSeen>, Fault> {
    let Some(folder) = folder(guard, path)? else { return Ok(None) };
    let Some(name) = path.file_name() else { return Ok(None) };
    let doing = |error: io::Error| Fault::from(format!("read {}", path.display()), error);
    let real = folder.join(name);
    if !is_local(guard, &real).map_err(doing)? {
        return Err(Fault::new(format!("{} is a mount, and no file", path.display())));
    }
    let Some((bytes, stat)) = files::read_whole(&real, LONGEST).map_err(doing)? else { return Ok(None) };
    Ok(Some(FileSeen {
        text: Secret::new(String::from_utf8_lossy(&bytes)),
        owner: users::name(stat.st_uid).unwrap_or_else(|| stat.st_uid.to_string()),
        group: users::group_name(stat.st_gid).unwrap_or_else(|| stat.st_gid.to_string()),
        mode: stat.st_mode & 0o7777,
    }))
}

/// Put a file in its place.
pub(crate) fn put(guard: &Guard, own: &OwnWrites, put: &Put) -> Result<(), Fault> {
    let doing = format!("put {}", put.path.display());
    let nobody = |what: &str, name: &str| {
        Fault::new(format!("{doing}: there is no {what} `{name}` on this node")).class(Class::Waiting)
    };
    let uid = match put.owner {
        Some(name) => Some(users::number(name).ok_or_else(|| nobody("user", name))?),
        None => None,
    };
    let gid = match put.group {
        Some(name) => Some(users::group_number(name).ok_or_else(|| nobody("group", name))?),
        None => None,
    };
    if folder(guard, put.path)?.is_none() {
        return Err(Fault::new(format!("{doing}: its folder is not there")).class(Class::Waiting));
    }
    let (dress, bytes) = (Dress { uid, gid, mode: put.mode }, put.text.reveal().as_bytes());
    let note = |state: FileState| own.wrote_file(put.path, Some(state));
    files::put_noted(put.path, bytes, &dress, &note).map_err(|error| Fault::from(doing, error))
}

/// Keep a copy of a file, for good, unless one is kept already or there is no such file.
pub(crate) fn keep_before(state_dir: Option<&Path>, guard: &Guard, path: &Path) -> Result<(), Fault> {
    let doing = format!("keep a copy of {}", path.display());
    let Some(state_dir) = state_dir else {
        return Err(Fault::new(format!("{doing}: nobody has said where")));
    };
    let copies = state_dir.join("before");
    let copy = copies.join(name(path));
    let fault = |error: io::Error| Fault::from(doing.clone(), error);
    if FileState::at(&copy).is_some() {
        return Ok(());
    }
    let Some(folder) = folder(guard, path)? else { return Ok(()) };
    let Some(last) = path.file_name() else { return Ok(()) };
    let Some((bytes, _)) = files::read_whole(&folder.join(last), LONGEST).map_err(fault)? else {
        return Ok(());
    };
    files::make_folder(&copies, 0o700).map_err(fault)?;
    files::replace(&copy, &bytes, 0o600).map_err(fault)
}

/// What a copy is called: the path, with `~2f` for every `/`.
fn name(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let one = |byte: &u8| if plain(*byte) { char::from(*byte).to_string() } else { format!("~{byte:02x}") };
    let path = path.as_os_str().as_encoded_bytes();
    let name: String = path.iter().map(one).collect();
    if name.len() <= NAME {
        return name;
    }
    format!("{}~~{}", &name[..NAME - 40], credentials::hex(&Sha256::digest(path)[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_files_share_a_copy_and_no_copy_leaves_its_folder() {
        assert_eq!(name(Path::new("/etc/a b")), "~2fetc~2fa~20b");
        assert_ne!(name(Path::new("/a/b")), name(Path::new("/a~2fb")));
        let long = "x".repeat(300);
        let (one, other) = (name(Path::new(&format!("/{long}/a"))), name(Path::new(&format!("/{long}/b"))));
        assert!(one != other && one.len() <= NAME && !one.contains('/'), "{one}");
    }
}
