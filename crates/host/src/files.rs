//! Whole files: read with a bound, replaced atomically, never through a symlink that somebody else may move.
//!
//! Nothing here edits a file in place, and nothing here waits: a FIFO or a device is refused before it is opened.
//!
//! Why not the `atomic-write-file` crate? It opens the folder by its path, following whatever symlink is there, and names
//! its temporary file at random, so that killed runs pile up. It keeps owner and mode, and neither label nor attributes.

use crate::walk;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

pub use crate::tree::{TreeEntry, read_tree};

/// How the name of a file ends that is being written. A killed run leaves one at most, and the next run replaces it.
const NEW: &str = ".evenkeel-new";
/// The most names a folder may have.
const MOST_NAMES: usize = 100_000;

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileState {
    inode: u64,
    size: i64,
    modified: (i64, i64),
    /// Type and permission bits, owner, group: they change without a change to the text.
    owned: (u32, u32, u32),
}

impl FileState {
    #[expect(
        clippy::cast_possible_wrap,
        clippy::unnecessary_cast,
        reason = "the types differ between machines"
    )]
    fn of(stat: &Stat) -> Self {
        let modified = (stat.st_mtime as i64, stat.st_mtime_nsec as i64);
        let owned = (stat.st_mode as u32, stat.st_uid, stat.st_gid);
        Self { inode: stat.st_ino, size: stat.st_size, modified, owned }
    }

    /// How the file at a path stands; a symlink is not followed.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        rustix::fs::lstat(path).ok().as_ref().map(Self::of)
    }
}

/// The bytes of a regular file, or `None` where there is no such file. Symlinks are followed.
///
/// # Errors
/// It is no regular file, is longer than `cap` bytes, or cannot be read.
pub fn read(path: &Path, cap: usize) -> io::Result<Option<Vec<u8>>> {
    let fd = match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        opened => opened?,
    };
    let stat = rustix::fs::fstat(&fd)?;
    refuse_irregular(&stat)?;
    // Looked at first, opened afterwards: even opening a device can set something off.
    let itself = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let file = rustix::fs::open(itself, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    read_capped(File::from(file), &stat, cap).map(Some)
}

/// As [`read`], of a file whose folder has no symlink on the way, with what else is known of it. A symlink in its place is an
/// error.
pub(crate) fn read_whole(path: &Path, cap: usize) -> io::Result<Option<(Vec<u8>, Stat)>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        opened => opened?,
    };
    let stat = rustix::fs::fstat(&fd)?;
    refuse_irregular(&stat)?;
    let itself = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let file = rustix::fs::open(itself, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Some((read_capped(File::from(file), &stat, cap)?, stat)))
}

/// Whether this is the name of a file that is just being written, or was when somebody was killed.
pub(crate) fn is_unfinished(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(NEW.as_bytes())
}

pub(crate) fn refuse_irregular(stat: &Stat) -> io::Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(Errno::ISDIR.into()),
        other => Err(io::Error::other(format!("it is no regular file but a {}", word(other)))),
    }
}

/// What a person calls a kind of file.
pub(crate) fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "folder",
        FileType::Symlink => "symlink",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        FileType::Unknown => "file of an unknown kind",
    }
}

pub(crate) fn read_capped(file: File, stat: &Stat, cap: usize) -> io::Result<Vec<u8>> {
    let size = usize::try_from(stat.st_size).unwrap_or(0);
    let mut bytes = vec![0; size.min(cap) + 1];
    // A regular file that gives less than was asked for has no more; /proc says its size is nothing and wants asking on.
    let got = loop {
        match rustix::io::read(&file, &mut bytes[..]) {
            Err(Errno::INTR) => {}
            got => break got?,
        }
    };
    bytes.truncate(got);
    if got != size || size == 0 {
        file.take((cap as u64 + 1).saturating_sub(got as u64)).read_to_end(&mut bytes)?;
    }
    if bytes.len() > cap {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {cap} bytes")));
    }
    Ok(bytes)
}

/// The names in a folder, sorted. A folder that is not there has none. Names of files that are just being written are
/// left out, and so is what is not UTF-8.
///
/// # Errors
/// It is there and cannot be read.
pub fn list(folder: &Path) -> io::Result<Vec<String>> {
    Ok(names(folder)?.unwrap_or_default())
}

/// As [`list`], telling a folder that is not there.
pub(crate) fn names(folder: &Path) -> io::Result<Option<Vec<String>>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if missing(&error) => return Ok(None),
        entries => entries?,
    };
    let mut names = vec![];
    for entry in entries {
        if names.len() == MOST_NAMES {
            return Err(io::Error::other(format!("more than {MOST_NAMES} names in one folder")));
        }
        let name = entry?.file_name().into_string().ok();
        names.extend(name.filter(|name| !name.ends_with(NEW)));
    }
    names.sort_unstable();
    Ok(Some(names))
}

fn missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Make a folder, and those above it. One that is there stays as it is.
///
/// # Errors
/// It cannot be made, or something else is in its place.
pub fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    walk::folder(path, Some(mode)).map(drop)
}

/// Remove a file; it need not be there. A symlink is removed, not what it leads to.
///
/// # Errors
/// It is there and cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    let (above, name) = split(path)?;
    let folder = match walk::folder(above, None) {
        Err(error) if missing(&error) => return Ok(()),
        folder => folder?,
    };
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => {
            removed?;
            walk::sync(&folder)
        }
    }
}

/// Remove a folder and all that is in it; it need not be there, and may be a file. Symlinks are removed, not what they
/// lead to.
///
/// # Errors
/// Something of it is there and cannot be removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => remove(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Replace a file, whole and atomically: a reader, a crash or a power cut meets the old file or the new one.
///
/// Missing folders above it are made. An old file keeps its owner, permission bits, label and user attributes; a new
/// one gets `mode`. Nothing is written where the bytes are the same. A symlink in its place is replaced.
///
/// # Errors
/// A folder on the way cannot be reached safely, something else than a file is in its place, or writing failed; then
/// the old file is still there.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace_noted(path, bytes, mode, &|_| ())
}

/// As [`replace`]; `note` hears how the new file stands, before anybody can see it.
pub(crate) fn replace_noted(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    note: &dyn Fn(FileState),
) -> io::Result<()> {
    let (above, name) = split(path)?;
    let folder = walk::folder(above, Some(0o755))?;
    let old = Old::look(&folder, name)?;
    if old.as_ref().is_some_and(|old| old.holds(bytes)) {
        return Ok(());
    }
    let dress = Dress { mode: old.is_none().then_some(mode), ..Dress::default() };
    exchange(&folder, name, bytes, &dress, old.as_ref(), note)
}

/// Whose a file is to be, and who may read it. What is not said stays as it is, or is root's and 0644 where it is new.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Dress {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) mode: Option<u32>,
}

/// As [`replace_noted`], with owner, group and permission bits, which are the new file's before anybody can see it. No
/// folder is made, and a symlink in its place is an error.
pub(crate) fn put_noted(
    path: &Path,
    bytes: &[u8],
    dress: &Dress,
    note: &dyn Fn(FileState),
) -> io::Result<()> {
    let (above, name) = split(path)?;
    let folder = walk::folder(above, None)?;
    let old = Old::look(&folder, name)?;
    match &old {
        Some(old) if old.wears(dress) && old.holds(bytes) => return Ok(()),
        None if rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() => {
            return Err(io::Error::other("a symlink is in its place, and is not written through"));
        }
        _ => {}
    }
    exchange(&folder, name, bytes, dress, old.as_ref(), note)
}

fn exchange(
    folder: &OwnedFd,
    name: &OsStr,
    bytes: &[u8],
    dress: &Dress,
    old: Option<&Old>,
    note: &dyn Fn(FileState),
) -> io::Result<()> {
    let mut new = OsString::from(".");
    new.push(name);
    new.push(NEW);
    let written = write_new(folder, &new, bytes, dress, old).and_then(|stat| {
        note(FileState::of(&stat));
        put_in_place(folder, &new, name, &stat)
    });
    if written.is_err() {
        let _ = rustix::fs::unlinkat(folder, &new, AtFlags::empty());
    }
    written
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let bad = || io::Error::new(io::ErrorKind::InvalidInput, "a file's path is absolute and ends in a name");
    if !path.is_absolute() {
        return Err(bad());
    }
    path.parent().zip(path.file_name()).ok_or_else(bad)
}

/// A regular file that is about to be replaced.
struct Old {
    file: File,
    stat: Stat,
}

impl Old {
    fn look(folder: &OwnedFd, name: &OsStr) -> io::Result<Option<Self>> {
        let seen = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            seen => seen?,
        };
        if FileType::from_raw_mode(seen.st_mode) == FileType::Symlink {
            return Ok(None);
        }
        refuse_irregular(&seen)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
        let stat = rustix::fs::fstat(&file)?;
        refuse_irregular(&stat)?;
        Ok(Some(Self { file, stat }))
    }

    fn wears(&self, dress: &Dress) -> bool {
        let same = |said: Option<u32>, is: u32| said.is_none_or(|said| said == is);
        same(dress.uid, self.stat.st_uid)
            && same(dress.gid, self.stat.st_gid)
            && same(dress.mode, self.stat.st_mode & 0o7777)
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        let same_size = u64::try_from(self.stat.st_size).is_ok_and(|size| size == bytes.len() as u64);
        let mut held = Vec::with_capacity(bytes.len());
        same_size && (&self.file).take(bytes.len() as u64 + 1).read_to_end(&mut held).is_ok() && held == bytes
    }
}

/// Write the new file beside the old one, as readable as it will be, and durably.
fn write_new(
    folder: &OwnedFd,
    new: &OsStr,
    bytes: &[u8],
    dress: &Dress,
    old: Option<&Old>,
) -> io::Result<Stat> {
    match rustix::fs::unlinkat(folder, new, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(folder, new, flags, Mode::from_raw_mode(0o600))?);
    file.write_all(bytes)?;
    let was = old.map(|old| &old.stat);
    set_owner(&file, dress.uid.or(was.map(|was| was.st_uid)), dress.gid.or(was.map(|was| was.st_gid)))?;
    if let Some(old) = old {
        // Whom an access list let in is not among those who are said to read it now.
        keep_attributes(&file, &old.file, dress.mode.is_none())?;
    }
    let mode = dress.mode.or(was.map(|was| was.st_mode & 0o777)).unwrap_or(0o644);
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    file.sync_all()?;
    Ok(rustix::fs::fstat(&file)?)
}

fn set_owner(file: &File, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let new = rustix::fs::fstat(file)?;
    let (uid, gid) = (uid.filter(|uid| *uid != new.st_uid), gid.filter(|gid| *gid != new.st_gid));
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    let (uid, gid) = (uid.map(rustix::fs::Uid::from_raw), gid.map(rustix::fs::Gid::from_raw));
    Ok(rustix::fs::fchown(file, uid, gid)?)
}

/// Labels, access lists and what users noted. Not what binds to the old bytes or gives power: hashes, capabilities.
fn keep_attributes(new: &File, old: &File, lists: bool) -> io::Result<()> {
    let mut names = vec![0; 4096];
    let length = match rustix::fs::flistxattr(old, &mut names[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        length => length?,
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| worth_keeping(name, lists)) {
        let mut value = vec![0; 65536];
        let length = rustix::fs::fgetxattr(old, name, &mut value[..])?;
        match rustix::fs::fsetxattr(new, name, &value[..length], rustix::fs::XattrFlags::empty()) {
            // In a user namespace labels cannot be set; the folder's default is all there is.
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn worth_keeping(name: &[u8], lists: bool) -> bool {
    let exact: [&[u8]; 2] = [b"security.selinux", b"security.SMACK64"];
    exact.contains(&name) || name.starts_with(b"user.") || (lists && name == b"system.posix_acl_access")
}

fn put_in_place(folder: &OwnedFd, new: &OsStr, name: &OsStr, written: &Stat) -> io::Result<()> {
    // Another process of ours at the same file would have put its own, perhaps half written, under this name.
    let there = rustix::fs::statat(folder.as_fd(), new, AtFlags::SYMLINK_NOFOLLOW)?;
    if (there.st_dev, there.st_ino) != (written.st_dev, written.st_ino) {
        return Err(io::Error::other("somebody else is writing the same file"));
    }
    rustix::fs::renameat(folder, new, folder, name)?;
    walk::sync(folder)
}
