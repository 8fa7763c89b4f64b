//! The guard at every mounted folder: a touch that does not come back is given up, and not repeated while it hangs.
//!
//! Local filesystems are looked at directly. What a server or another process answers for is touched in a child of its
//! own, of which at most one per folder is ever left hanging.

use crate::apart::{self, Answer, Apart};
use crate::mountinfo;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a killed child may take to be gone before it is left behind.
const GRACE: Duration = Duration::from_millis(200);
/// The longest mount table that is read, in bytes.
const LONGEST_TABLE: u64 = 32 << 20;

/// Filesystems that answer from this machine's memory and disks.
const LOCAL: [&str; 26] = [
    "bcachefs", "bpf", "btrfs", "cgroup", "cgroup2", "debugfs", "devpts", "devtmpfs", "efivarfs", "erofs",
    "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jfs", "overlay", "proc", "ramfs", "rootfs",
    "squashfs", "sysfs", "tmpfs", "vfat", "xfs",
];

/// Why a guarded touch has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// It did not come back in time, or one before it still has not.
    #[error("it does not answer: the filesystem mounted there hangs")]
    Hung,
    /// The child could not be had, or died.
    #[error("a child to touch it with")]
    Child(#[source] io::Error),
}

/// What hangs, and which mounts may.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    stuck: Mutex<HashMap<PathBuf, OwnedFd>>,
    local: Mutex<Option<Local>>,
}

/// Which mounts are local, as of a version of the mount table.
#[derive(Debug)]
struct Local {
    table: File,
    ids: HashSet<u64>,
    /// Where the others are mounted.
    risky: Vec<PathBuf>,
}

impl Guard {
    fn stuck(&self) -> MutexGuard<'_, HashMap<PathBuf, OwnedFd>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an earlier touch of this folder still hangs.
    pub(crate) fn hangs(&self, folder: &Path) -> bool {
        let mut stuck = self.stuck();
        stuck.retain(|_, pidfd| !apart::gone(pidfd, Duration::ZERO));
        stuck.contains_key(folder)
    }

    /// Remember a process that hangs at this folder.
    pub(crate) fn left_behind(&self, folder: &Path, pidfd: OwnedFd) {
        self.stuck().insert(folder.to_owned(), pidfd);
    }

    /// Do something to a folder in a child, and wait no longer than `deadline`. For `work`, see [`Apart::start`].
    pub(crate) fn apart(
        &self,
        folder: &Path,
        deadline: Duration,
        keep: BorrowedFd<'_>,
        work: &dyn Fn() -> Answer,
    ) -> Result<Answer, Trouble> {
        if self.hangs(folder) {
            return Err(Trouble::Hung);
        }
        let child = Apart::start(keep, work).map_err(Trouble::Child)?;
        let answer = child.wait(deadline);
        if let Some(pidfd) = child.end(GRACE) {
            self.left_behind(folder, pidfd);
        }
        answer.map_err(Trouble::Child)?.ok_or(Trouble::Hung)
    }

    /// Whether a touch of what is mounted may hang; told by the kernel's id of the mount.
    pub(crate) fn risky(&self, id: u64) -> io::Result<bool> {
        self.local(|local| !local.ids.contains(&id))
    }

    /// Whether no mount whose touch may hang lies on the way to this path, or at it. The path has no symlinks in it.
    pub(crate) fn clear(&self, path: &Path) -> io::Result<bool> {
        self.local(|local| !local.risky.iter().any(|risky| path.starts_with(risky)))
    }

    fn local<T>(&self, ask: impl FnOnce(&Local) -> T) -> io::Result<T> {
        let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        let current = match local.take() {
            Some(known) if !changed(&known.table)? => known,
            _ => Local::read()?,
        };
        let answer = ask(&current);
        *local = Some(current);
        Ok(answer)
    }
}

impl Local {
    fn read() -> io::Result<Self> {
        let (table, text) = read_table()?;
        let (local, others): (Vec<_>, Vec<_>) =
            mountinfo::parse(&text).into_iter().partition(|entry| LOCAL.contains(&&*entry.fstype));
        let ids = local.into_iter().map(|entry| entry.id).collect();
        Ok(Self { table, ids, risky: others.into_iter().map(|entry| entry.target).collect() })
    }
}

/// The mount table, and the descriptor that tells when it has changed since.
pub(crate) fn read_table() -> io::Result<(File, Vec<u8>)> {
    let mut table = File::open(mountinfo::PATH)?;
    let mut text = vec![];
    // Longer tables come in pieces, and a mount in between can hide another.
    for _ in 0..5 {
        table.rewind()?;
        text.clear();
        Read::by_ref(&mut table).take(LONGEST_TABLE).read_to_end(&mut text)?;
        if !changed(&table)? {
            break;
        }
    }
    Ok((table, text))
}

/// Whether the table has changed since it was opened or last asked so.
fn changed(table: &File) -> io::Result<bool> {
    let mut fds = [PollFd::new(table.as_fd(), PollFlags::POLLPRI)];
    Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
}
