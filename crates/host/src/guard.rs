//! The guard at every mounted folder: a touch that does not come back is not repeated while it hangs.
//!
//! Local filesystems are looked at directly. What a server or another process answers for is touched in a child of its
//! own, of which a mount never has more than one. A look that has no answer in time is *parked*: it goes on waiting, and
//! that it still does is the answer to the next one. So a server that comes back is noticed, and nobody waits twice.

use crate::apart::{self, Answer, Apart};
use crate::mountinfo;
use crate::walk;
use evenkeel_core::{FolderQuestion, FolderSeen, MountEntry};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a killed child may take to be gone before it is left behind.
const GRACE: Duration = Duration::from_millis(200);
/// The longest mount table that is read, in bytes.
const LONGEST_TABLE: u64 = 32 << 20;
/// How many mounts may be looked at, or hang, at one time. `TasksMax=` of the unit leaves room for them.
pub(crate) const MOST: usize = 256;
/// How long nobody need ask for a parked look before it is given up: three times the longest usual interval.
const UNASKED: Duration = Duration::from_mins(10);
/// How often to see whether somebody else's look at the same mount is over.
const AGAIN: Duration = Duration::from_millis(5);

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
    /// Too many others hang.
    #[error("not touched: {MOST} other mounts hang already")]
    Full,
    /// The child could not be had, or died.
    #[error("a child to touch it with")]
    Child(#[source] io::Error),
}

/// What hangs, and which mounts may.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// By the kernel's id of the mount, which is nobody else's as long as a child holds the mount.
    held: Mutex<HashMap<u64, Held>>,
    /// Programs that could not be killed, by the mount point.
    programs: Mutex<HashMap<PathBuf, OwnedFd>>,
    local: Mutex<Option<Local>>,
    /// What was seen of automounts that are awake.
    seen: Mutex<HashMap<PathBuf, Remembered>>,
}

/// What a look at an automount told.
#[derive(Debug)]
struct Remembered {
    mount: u64,
    question: FolderQuestion,
    seen: FolderSeen,
    at: Instant,
}

/// Who is at a mount.
#[derive(Debug)]
enum Held {
    /// A look that may still be in time.
    Busy,
    /// A look that was not. It goes on waiting.
    Parked { child: Apart, asked: Instant },
    /// A child that was killed, and cannot die.
    Stuck(OwnedFd),
}

/// Whether a mount may be touched.
pub(crate) enum Turn {
    /// Yes: it is taken until [`Guard::give`].
    Ours,
    /// Somebody else's touch is under way.
    Busy,
    /// No.
    Not(Trouble),
}

/// Which mounts are local, as of a version of the mount table.
#[derive(Debug)]
struct Local {
    table: File,
    ids: HashSet<u64>,
    /// Where the others are mounted, and their ids.
    risky: Vec<(u64, PathBuf)>,
    /// Automounts with something mounted on them, and its id.
    awake: HashMap<PathBuf, u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernel's id of the mount that a descriptor lies in.
pub(crate) fn mount_of(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(walk::look(fd)?.stx_mnt_id)
}

impl Guard {
    /// Ask for the turn at a mount.
    pub(crate) fn take(&self, id: u64) -> Turn {
        let mut held = lock(&self.held);
        let free = match held.get_mut(&id) {
            None => true,
            Some(Held::Busy) => return Turn::Busy,
            Some(Held::Stuck(pidfd)) => apart::gone(pidfd, Duration::ZERO),
            Some(Held::Parked { child, asked }) => {
                *asked = Instant::now();
                child.done()
            }
        };
        if !free {
            return Turn::Not(Trouble::Hung);
        }
        if !held.contains_key(&id) && held.len() >= MOST {
            return Turn::Not(Trouble::Full);
        }
        // A look that was parked and has its answer is as old as its question: whoever asks now looks anew.
        if let Some(Held::Parked { child, .. }) = held.insert(id, Held::Busy) {
            child.end(GRACE);
        }
        Turn::Ours
    }

    /// The turn at a mount, once somebody else's touch is over.
    pub(crate) fn wait_for(&self, id: u64, deadline: Duration) -> Result<(), Trouble> {
        let end = Instant::now() + deadline;
        loop {
            match self.take(id) {
                Turn::Ours => return Ok(()),
                Turn::Not(trouble) => return Err(trouble),
                Turn::Busy if Instant::now() > end => return Err(Trouble::Hung),
                Turn::Busy => std::thread::sleep(AGAIN),
            }
        }
    }

    /// Give the turn back: the touch is over.
    pub(crate) fn give(&self, id: u64) {
        lock(&self.held).remove(&id);
    }

    /// Give the turn back, with a look that goes on waiting.
    pub(crate) fn park(&self, id: u64, child: Apart) {
        lock(&self.held).insert(id, Held::Parked { child, asked: Instant::now() });
    }

    /// End a child, and give the turn back once it is gone.
    pub(crate) fn finish(&self, id: u64, child: Apart) {
        match child.end(GRACE) {
            Some(pidfd) => lock(&self.held).insert(id, Held::Stuck(pidfd)),
            None => lock(&self.held).remove(&id),
        };
    }

    /// Whether a program that was left behind still hangs at this mount point, or a child that nothing can end.
    pub(crate) fn hangs(&self, target: &Path) -> bool {
        let mut programs = lock(&self.programs);
        programs.retain(|_, pidfd| !apart::gone(pidfd, Duration::ZERO));
        programs.contains_key(target) || self.mounted_at(target).iter().any(|id| self.stuck(*id))
    }

    fn stuck(&self, id: u64) -> bool {
        matches!(lock(&self.held).get(&id), Some(Held::Stuck(pidfd)) if !apart::gone(pidfd, Duration::ZERO))
    }

    /// Remember a program that hangs at this mount point.
    pub(crate) fn left_behind(&self, target: &Path, pidfd: OwnedFd) {
        lock(&self.programs).insert(target.to_owned(), pidfd);
    }

    /// Do something to what is mounted in a child, and wait no longer than `deadline`; it is killed then. For `work`, see
    /// [`Apart::start`].
    pub(crate) fn apart(
        &self,
        deadline: Duration,
        keep: BorrowedFd<'_>,
        work: &dyn Fn() -> Answer,
    ) -> Result<Answer, Trouble> {
        let id = mount_of(keep).map_err(Trouble::Child)?;
        self.wait_for(id, deadline)?;
        let child = match Apart::start(keep, work) {
            Ok(child) => child,
            Err(error) => {
                self.give(id);
                return Err(Trouble::Child(error));
            }
        };
        let answer = child.wait(deadline);
        self.finish(id, child);
        answer.map_err(Trouble::Child)?.ok_or(Trouble::Hung)
    }

    /// End the looks that are parked at a mount point and below it: a child there keeps it from being unmounted.
    pub(crate) fn let_go(&self, target: &Path) {
        for id in self.mounted_at(target) {
            self.end_parked(id, GRACE, |_| true);
        }
    }

    /// The same, for the mount point that a unit is named for.
    pub(crate) fn let_go_of_unit(&self, unit: &str) {
        if let Some(name) = unit.strip_suffix(".mount").or_else(|| unit.strip_suffix(".automount")) {
            self.let_go(&unescape(name));
        }
    }

    fn mounted_at(&self, target: &Path) -> Vec<u64> {
        let below = |(id, at): &(u64, PathBuf)| at.starts_with(target).then_some(*id);
        self.local(|local| local.risky.iter().filter_map(below).collect()).unwrap_or_default()
    }

    fn end_parked(&self, id: u64, grace: Duration, meant: impl Fn(Instant) -> bool) {
        let mut held = lock(&self.held);
        match held.remove(&id) {
            Some(Held::Parked { child, asked }) if meant(asked) => {
                if let Some(pidfd) = child.end(grace) {
                    held.insert(id, Held::Stuck(pidfd));
                }
            }
            Some(Held::Stuck(pidfd)) if apart::gone(&pidfd, Duration::ZERO) => {}
            Some(other) => drop(held.insert(id, other)),
            None => {}
        }
    }

    /// End the looks at mounts that are gone, and those that nobody asks for any more.
    pub(crate) fn tidy(&self) {
        let ids: Vec<u64> = lock(&self.held).keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let there = |id: u64| self.local(|local| local.has(id)).unwrap_or(true);
        for id in ids {
            let there = there(id);
            self.end_parked(id, Duration::ZERO, |asked| !there || asked.elapsed() > UNASKED);
        }
    }

    /// Whether a touch of what is mounted may hang; told by the kernel's id of the mount.
    pub(crate) fn risky(&self, id: u64) -> io::Result<bool> {
        self.local(|local| !local.ids.contains(&id))
    }

    /// Whether no mount whose touch may hang lies on the way to this path, or at it. The path has no symlinks in it.
    pub(crate) fn clear(&self, path: &Path) -> io::Result<bool> {
        self.local(|local| !local.risky.iter().any(|(_, risky)| path.starts_with(risky)))
    }

    /// Automounts that are awake, and the id of what is mounted there. To walk over one renews its time of last use.
    pub(crate) fn awake(&self) -> io::Result<HashMap<PathBuf, u64>> {
        self.local(|local| local.awake.clone())
    }

    /// What was seen of an automount since it woke, as long as the question lets that last.
    pub(crate) fn remembered(&self, question: &FolderQuestion) -> Option<FolderSeen> {
        let lasts = question.lasts?;
        let mount = self.awake().ok()?.get(&question.folder).copied()?;
        let seen = lock(&self.seen);
        let old = seen.get(&question.folder)?;
        let good = old.mount == mount && old.question == *question && old.at.elapsed() < lasts;
        good.then(|| old.seen.clone())
    }

    /// Remember what a look told, where its question lets that last.
    pub(crate) fn remember(&self, question: &FolderQuestion, seen: &FolderSeen) {
        if question.lasts.is_none() {
            return;
        }
        let awake = self.awake().unwrap_or_default();
        let mut all = lock(&self.seen);
        all.retain(|folder, old| awake.get(folder) == Some(&old.mount));
        if let (FolderSeen::Answers(_), Some(mount)) = (seen, awake.get(&question.folder)) {
            let (mount, question, seen) = (*mount, question.clone(), seen.clone());
            all.insert(question.folder.clone(), Remembered { mount, question, seen, at: Instant::now() });
        }
    }

    /// Something is done to a folder: the next look is a new one.
    pub(crate) fn forget(&self, folder: &Path) {
        lock(&self.seen).remove(folder);
    }

    fn local<T>(&self, ask: impl FnOnce(&Local) -> T) -> io::Result<T> {
        let mut local = lock(&self.local);
        let current = match local.take() {
            Some(known) if !changed(&known.table)? => known,
            _ => Local::read()?,
        };
        let answer = ask(&current);
        *local = Some(current);
        Ok(answer)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        for (_, held) in lock(&self.held).drain() {
            if let Held::Parked { child, .. } = held {
                child.end(Duration::ZERO);
            }
        }
    }
}

impl Local {
    fn read() -> io::Result<Self> {
        let (table, text) = read_table()?;
        let entries = mountinfo::parse(&text);
        let awake = awake(&entries);
        let (local, others): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| LOCAL.contains(&&*entry.fstype));
        let ids = local.into_iter().map(|entry| entry.id).collect();
        let risky = others.into_iter().map(|entry| (entry.id, entry.target)).collect();
        Ok(Self { table, ids, risky, awake })
    }

    fn has(&self, id: u64) -> bool {
        self.ids.contains(&id) || self.risky.iter().any(|(risky, _)| *risky == id)
    }
}

/// Automounts with something on them, and the id of that.
fn awake(entries: &[MountEntry]) -> HashMap<PathBuf, u64> {
    let waits: HashMap<u64, &MountEntry> =
        entries.iter().filter(|entry| entry.fstype == "autofs").map(|entry| (entry.id, entry)).collect();
    let on = |entry: &&MountEntry| waits.get(&entry.parent).is_some_and(|below| below.target == entry.target);
    entries.iter().filter(on).map(|entry| (entry.target.clone(), entry.id)).collect()
}

/// The path that a unit's name stands for, `systemd-escape --unescape --path`.
fn unescape(name: &str) -> PathBuf {
    let (mut bytes, mut rest) = (vec![b'/'], name);
    while let Some(first) = rest.bytes().next() {
        let code = rest.strip_prefix("\\x").and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        let (byte, taken) = match code {
            Some(byte) => (byte, 4),
            None => (if first == b'-' { b'/' } else { first }, 1),
        };
        bytes.push(byte);
        rest = rest.get(taken..).unwrap_or_default();
    }
    PathBuf::from(OsString::from_vec(bytes))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_name_leads_back_to_its_mount_point() {
        assert_eq!(unescape(r"srv-my\x2dweb-up\x20loads"), Path::new("/srv/my-web/up loads"));
        assert_eq!(unescape(r"srv-\xc3\xa4"), Path::new("/srv/ä"));
        assert_eq!(unescape(r"srv-\x"), Path::new(r"/srv/\x"));
    }

    #[test]
    fn an_automount_is_awake_while_something_lies_on_it() {
        let table = b"26 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            40 26 0:40 / /srv/a rw - autofs systemd-1 rw,direct\n\
            41 26 0:41 / /srv/b rw - autofs systemd-1 rw,direct\n\
            52 41 0:52 / /srv/b rw - nfs4 10.9.0.2:/b rw\n\
            53 52 0:53 / /srv/b/inner rw - tmpfs tmpfs rw\n\
            60 26 0:60 / /srv/c rw - nfs4 10.9.0.2:/c rw\n";
        assert_eq!(awake(&mountinfo::parse(table)), HashMap::from([("/srv/b".into(), 52)]));
    }
}
