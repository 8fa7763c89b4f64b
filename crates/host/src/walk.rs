//! The way to a folder, one component at a time, so that nobody can bend it while it is walked.
//!
//! A folder on the way may belong to somebody else: `/etc/postgresql` is the database user's. Whoever owns a folder can
//! put a symlink where it was a moment ago, and a path opened as a whole would lead a root process anywhere. So every
//! component is opened by itself with `O_NOFOLLOW`, and a symlink is followed only where nobody but root (or we
//! ourselves) could have put it: `/lib`, `/var/run`. Files are then named relative to the folder's descriptor.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// As many as the kernel follows, `path_resolution(7)`.
const MOST_LINKS: usize = 40;

/// Whose symlinks are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// Only those that root, or whoever we run as, has put into a folder that nobody else may write to.
    Trusted,
    /// Anybody's: for a look, which changes nothing.
    Any,
}

/// How to walk.
pub(crate) struct Walk<'a> {
    pub(crate) links: Links,
    /// Permission bits for folders that are missing; they are made.
    pub(crate) make: Option<u32>,
    /// Whether the way may end in something else than a folder.
    pub(crate) to_file: bool,
    /// Says of a mount, by the kernel's id of it, that nothing below its root must be touched here.
    pub(crate) stop: &'a dyn Fn(u64) -> io::Result<bool>,
    /// Mount points at whose door it stops: to go through is a touch.
    pub(crate) shut: &'a [PathBuf],
}

/// Where a walk ended.
pub(crate) struct Reached {
    /// An `O_PATH` descriptor.
    pub(crate) fd: OwnedFd,
    /// Components that were not walked.
    pub(crate) rest: Vec<OsString>,
    /// Whether `stop` ended it.
    pub(crate) stopped: bool,
    /// Whether `shut` did: the next component of `rest` is the mount point.
    pub(crate) shut: bool,
}

/// Walk to a folder. Where one is missing and `make` tells permission bits, it is made.
pub(crate) fn folder(path: &Path, make: Option<u32>) -> io::Result<OwnedFd> {
    let walk = Walk { links: Links::Trusted, make, to_file: false, stop: &|_| Ok(false), shut: &[] };
    walk.to(path).map(|reached| reached.fd)
}

impl Walk<'_> {
    /// Walk as far as it goes. Never asks a filesystem anything that it would have to ask a server.
    pub(crate) fn to(&self, path: &Path) -> io::Result<Reached> {
        let mut rest = parts(path);
        let (mut here, mut followed, mut mount) = (open_root()?, 0, None);
        let mut at = PathBuf::from("/");
        loop {
            let id = look(&here)?.stx_mnt_id;
            if mount.replace(id) != Some(id) && (self.stop)(id)? {
                return Ok(Reached { fd: here, rest: rest.into(), stopped: true, shut: false });
            }
            let Some(part) = rest.pop_front() else {
                return Ok(Reached { fd: here, rest: vec![], stopped: false, shut: false });
            };
            if !self.shut.is_empty() && self.shut.contains(&at.join(&part)) {
                rest.push_front(part);
                return Ok(Reached { fd: here, rest: rest.into(), stopped: false, shut: true });
            }
            let next = enter(&here, &part, self.make)?;
            let seen = look(&next)?;
            match FileType::from_raw_mode(seen.stx_mode.into()) {
                FileType::Directory => {
                    if part == ".." {
                        at.pop();
                    } else {
                        at.push(&part);
                    }
                    here = next;
                }
                FileType::Symlink => {
                    followed += 1;
                    if followed > MOST_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    may_follow(&here, &part, &seen, self.links)?;
                    let target = rustix::fs::readlinkat(&next, "", vec![])?.into_bytes();
                    if target.first() == Some(&b'/') {
                        at = PathBuf::from("/");
                    }
                    here = follow(here, &mut rest, target)?;
                }
                _ if self.to_file && rest.is_empty() => {
                    return Ok(Reached { fd: next, rest: vec![], stopped: false, shut: false });
                }
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
    }
}

fn follow(here: OwnedFd, rest: &mut VecDeque<OsString>, target: Vec<u8>) -> io::Result<OwnedFd> {
    let target = OsString::from_vec(target);
    for part in parts(Path::new(&target)).into_iter().rev() {
        rest.push_front(part);
    }
    if Path::new(&target).is_absolute() { open_root() } else { Ok(here) }
}

/// What is known of a descriptor without asking a server that may be dead.
pub(crate) fn look(fd: impl AsFd) -> io::Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    Ok(rustix::fs::statx(fd, "", flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?)
}

fn open_root() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/", flags, Mode::empty())?)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let named = |part: Component| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(named).collect()
}

fn enter(here: &OwnedFd, part: &OsStr, make: Option<u32>) -> io::Result<OwnedFd> {
    let open = || {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(here, part, flags, Mode::empty())
    };
    match (open(), make) {
        (Err(Errno::NOENT), Some(mode)) => {
            make_one(here, part, mode)?;
            Ok(open()?)
        }
        (opened, _) => Ok(opened?),
    }
}

/// Make one folder, durably and with exactly these permission bits, whatever the umask.
fn make_one(here: &OwnedFd, part: &OsStr, mode: u32) -> io::Result<()> {
    match rustix::fs::mkdirat(here, part, Mode::from_raw_mode(0o700)) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let new = rustix::fs::openat(here, part, flags, Mode::empty())?;
    rustix::fs::fchmod(&new, Mode::from_raw_mode(mode))?;
    sync(here)
}

/// Make what was done in a folder durable. An `O_PATH` descriptor cannot be synced itself.
pub(crate) fn sync(folder: impl AsFd) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::fsync(rustix::fs::openat(folder, ".", flags, Mode::empty())?)?)
}

fn may_follow(here: &OwnedFd, part: &OsStr, link: &Statx, links: Links) -> io::Result<()> {
    if links == Links::Any {
        return Ok(());
    }
    let folder = look(here)?;
    let ours = |uid: u32| uid == 0 || uid == rustix::process::geteuid().as_raw();
    // A hard link to one of root's symlinks can be put into any folder that is open to writers.
    if ours(link.stx_uid) && ours(folder.stx_uid) && folder.stx_mode & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "`{}` on the way is a symlink that somebody else may move (its owner is {}, its folder's {}): put a folder in \
         its place, or name the place that it leads to",
        part.display(),
        link.stx_uid,
        folder.stx_uid
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_walk_stops_before_a_door_that_is_shut_whatever_way_leads_there() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("a/door/in")).unwrap();
        std::fs::create_dir(top.join("b")).unwrap();
        std::os::unix::fs::symlink("../a/door", top.join("b/link")).unwrap();
        std::os::unix::fs::symlink(top.join("a"), top.join("b/far")).unwrap();
        let shut = [top.join("a/door")];
        let walk = Walk { links: Links::Any, make: None, to_file: true, stop: &|_| Ok(false), shut: &shut };
        let rest = |way: &str| {
            let reached = walk.to(&top.join(way)).unwrap();
            assert_eq!(reached.shut, !reached.rest.is_empty(), "{way}");
            reached.rest.iter().collect::<PathBuf>()
        };
        for way in ["a/door", "b/link", "b/far/door", "b/../a/./door"] {
            assert_eq!(rest(way), Path::new("door"), "{way}");
        }
        assert_eq!(rest("b/link/in"), Path::new("door/in"));
        assert_eq!(rest("b"), Path::new(""));
    }
}
