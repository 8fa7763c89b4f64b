//! Mounts, and what lies in them.
//!
//! Never a lazy or forced unmount. Every touch that could hang goes through the [`Guard`].

use crate::apart::Answer;
use crate::guard::{self, Guard, Trouble};
use crate::mountinfo;
use crate::program::{self, Program, ProgramError};
use crate::users;
use crate::walk::{Links, Reached, Walk};
use evenkeel_core::{Class, Fault, MountEntry};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// How long a look or a chown may take.
const LOOK: Duration = Duration::from_secs(2);
/// How long mount(8) and umount(8) may take.
const MOUNT: Duration = Duration::from_secs(30);
/// Options that belong to one mount of a filesystem, mount(8).
const OF_THE_MOUNT: [&str; 14] = [
    "ro",
    "rw",
    "nosuid",
    "suid",
    "nodev",
    "dev",
    "noexec",
    "exec",
    "noatime",
    "atime",
    "nodiratime",
    "diratime",
    "relatime",
    "norelatime",
];

/// The mount table's text.
pub(crate) fn table() -> io::Result<Vec<u8>> {
    guard::read_table().map(|(_, text)| text)
}

/// The mount table.
pub(crate) fn mounts() -> Result<Vec<MountEntry>, Fault> {
    let text = table().map_err(|error| Fault::from(format!("read {}", mountinfo::PATH), error))?;
    Ok(mountinfo::parse(&text))
}

/// The file behind a loop device.
pub(crate) fn backing(device: &str) -> Option<PathBuf> {
    let name = device.strip_prefix("/dev/")?;
    let digits = name.strip_prefix("loop")?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let file = format!("/sys/block/{name}/loop/backing_file");
    let text = crate::files::read(Path::new(&file), 8192).ok()??;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(text.strip_suffix(b"\n").unwrap_or(&text))))
}

/// Walk towards a path, and stop at the first mount whose server may be dead.
pub(crate) fn approach(
    guard: &Guard,
    path: &Path,
    links: Links,
    make: Option<u32>,
    to_file: bool,
) -> io::Result<Reached> {
    let stop = |id: u64| guard.risky(id);
    Walk { links, make, to_file, stop: &stop, shut: &[] }.to(path)
}

/// Walk to a path for a look, and stop at the door of an automount that is awake.
fn approach_asleep(guard: &Guard, path: &Path) -> io::Result<Reached> {
    let stop = |id: u64| guard.risky(id);
    let shut: Vec<PathBuf> = guard.awake()?.into_keys().collect();
    let reached = Walk { links: Links::Any, make: None, to_file: true, stop: &stop, shut: &shut }.to(path)?;
    // What lies behind the door cannot be looked at without a touch.
    if reached.shut && reached.rest.len() > 1 {
        return approach(guard, path, Links::Any, None, true);
    }
    Ok(reached)
}

/// Where a descriptor is.
pub(crate) fn place(fd: BorrowedFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// A path with every symlink followed, as the kernel sees it.
pub(crate) fn resolve(guard: &Guard, path: &Path) -> Result<Option<PathBuf>, Fault> {
    let doing = |error: io::Error| Fault::from(format!("resolve {}", path.display()), error);
    match straight(guard, path) {
        Straight::Real(real) => return Ok(Some(real)),
        Straight::Missing => return Ok(None),
        Straight::Unclear => {}
    }
    let reached = match approach_asleep(guard, path) {
        Err(error) if gone(&error) => return Ok(None),
        reached => reached.map_err(doing)?,
    };
    let found = place(reached.fd.as_fd()).map_err(doing)?;
    if reached.rest.is_empty() || reached.shut {
        return Ok(Some(reached.rest.iter().fold(found, |path, part| path.join(part))));
    }
    let rest = joined(&reached.rest).map_err(doing)?;
    let base = reached.fd.as_fd();
    let there = || said(below(base, &rest, OFlags::PATH).map(|_| Seen::default()));
    match answer(guard, base, &there) {
        Ok(_) => Ok(Some(reached.rest.iter().fold(found, |path, part| path.join(part)))),
        Err(Failure::Errno(Errno::NOENT | Errno::NOTDIR)) => Ok(None),
        Err(failure) => Err(failure.fault(&format!("resolve {}", path.display()))),
    }
}

/// What the common case says of a path: that no symlink and no share is on the way.
enum Straight {
    Real(PathBuf),
    Missing,
    /// It has to be found out step by step.
    Unclear,
}

/// The common case, in one call.
fn straight(guard: &Guard, path: &Path) -> Straight {
    let plain = |part: Component| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(plain) || !guard.clear(path).unwrap_or(false) {
        return Straight::Unclear;
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(_) => Straight::Real(path.components().collect()),
        Err(Errno::NOENT | Errno::NOTDIR) => Straight::Missing,
        Err(_) => Straight::Unclear,
    }
}

pub(crate) fn gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Set owner, group and permission bits of a folder.
pub(crate) fn own(
    guard: &Guard,
    path: &Path,
    (owner, group): (Option<&str>, Option<&str>),
    mode: Option<u32>,
) -> Result<(), Fault> {
    let doing = format!("set owner and mode of {}", path.display());
    let fault = |error: io::Error| Fault::from(doing.clone(), error);
    let unknown =
        |what: &str, name: &str| Fault::new(format!("{doing}: there is no {what} `{name}` on this node"));
    let uid = owner.map(|name| users::number(name).ok_or_else(|| unknown("user", name))).transpose()?;
    let gid =
        group.map(|name| users::group_number(name).ok_or_else(|| unknown("group", name))).transpose()?;
    let reached = approach(guard, path, Links::Trusted, None, false).map_err(fault)?;
    let rest = joined(&reached.rest).map_err(fault)?;
    let base = reached.fd.as_fd();
    let change = || said(change_owner(base, &rest, (uid, gid), mode));
    guard.forget(path);
    let done = if reached.stopped { answer(guard, base, &change) } else { heard(&change()) };
    done.map(drop).map_err(|failure| failure.fault(&doing))
}

/// Nothing but system calls: this runs in a child.
fn change_owner(
    base: BorrowedFd,
    rest: &CStr,
    (uid, gid): (Option<u32>, Option<u32>),
    mode: Option<u32>,
) -> Result<Seen, Errno> {
    let folder = below(base, rest, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let stat = rustix::fs::fstat(&folder)?;
    let uid = uid.filter(|uid| *uid != stat.st_uid).map(rustix::fs::Uid::from_raw);
    let gid = gid.filter(|gid| *gid != stat.st_gid).map(rustix::fs::Gid::from_raw);
    if uid.is_some() || gid.is_some() {
        rustix::fs::fchown(&folder, uid, gid)?;
    }
    if let Some(mode) = mode {
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode & 0o7777))?;
    }
    Ok(Seen::default())
}

/// Make a folder to mount on.
pub(crate) fn make_folder(guard: &Guard, path: &Path) -> Result<(), Fault> {
    let doing = format!("make folder {}", path.display());
    let fault = |error: io::Error| Fault::from(doing.clone(), error);
    let reached = approach(guard, path, Links::Trusted, Some(0o755), false).map_err(fault)?;
    if reached.rest.is_empty() {
        return Ok(());
    }
    let parts = reached.rest.iter().map(|part| CString::new(part.as_bytes()));
    let parts: Vec<CString> = parts.collect::<Result<_, _>>().map_err(|error| fault(error.into()))?;
    let base = reached.fd.as_fd();
    let make = || said(make_below(base, &parts));
    answer(guard, base, &make).map(drop).map_err(|failure| failure.fault(&doing))
}

/// Nothing but system calls: this runs in a child.
fn make_below(base: BorrowedFd, parts: &[CString]) -> Result<Seen, Errno> {
    let mut here = below(base, c".", OFlags::PATH | OFlags::DIRECTORY)?;
    for part in parts {
        match rustix::fs::mkdirat(&here, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => here = below(here.as_fd(), part, OFlags::PATH | OFlags::DIRECTORY)?,
            Err(error) => return Err(error),
        }
    }
    Ok(Seen::default())
}

/// What is below a folder, with no symlink on the way. An empty path is the folder itself.
pub(crate) fn below(base: BorrowedFd, rest: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let rest = if rest.is_empty() { c"." } else { rest };
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    rustix::fs::openat2(base, rest, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

pub(crate) fn joined(parts: &[OsString]) -> io::Result<CString> {
    let path: PathBuf = parts.iter().collect();
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// What a touch told. What it did not ask for is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    /// 1 where the sentinel is there.
    pub(crate) sentinel: u32,
    /// 1 where there is nothing in it but the sentinel.
    pub(crate) empty: u32,
    /// In microseconds.
    pub(crate) took: u32,
    /// Why a write was refused: an `errno`.
    pub(crate) write: u32,
}

/// Why a touch told nothing.
pub(crate) enum Failure {
    Errno(Errno),
    Trouble(Trouble),
}

impl Failure {
    pub(crate) fn fault(self, doing: &str) -> Fault {
        match self {
            Self::Errno(Errno::LOOP) => {
                Fault::new(format!("{doing}: a symlink is on the way within the mounted filesystem"))
            }
            Self::Errno(errno) => Fault::from(doing, io::Error::from(errno)),
            Self::Trouble(trouble) => Fault::from(doing, trouble),
        }
    }
}

fn answer(guard: &Guard, base: BorrowedFd, work: &dyn Fn() -> Answer) -> Result<Seen, Failure> {
    heard(&guard.apart(LOOK, base, work).map_err(Failure::Trouble)?)
}

/// Eight words: the `errno`, and what was seen. Nothing but arithmetic: this runs in a child.
pub(crate) fn said(seen: Result<Seen, Errno>) -> Answer {
    let words = match seen {
        Ok(seen) => [0, seen.uid, seen.gid, seen.mode, seen.sentinel, seen.empty, seen.took, seen.write],
        Err(errno) => [errno.raw_os_error().unsigned_abs(), 0, 0, 0, 0, 0, 0, 0],
    };
    let mut answer = Answer::default();
    for (bytes, word) in answer.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    answer
}

pub(crate) fn heard(answer: &Answer) -> Result<Seen, Failure> {
    let mut words =
        answer.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    let mut word = || words.next().unwrap_or_default();
    match i32::try_from(word()) {
        Ok(0) => Ok(Seen {
            uid: word(),
            gid: word(),
            mode: word(),
            sentinel: word(),
            empty: word(),
            took: word(),
            write: word(),
        }),
        errno => Err(Failure::Errno(Errno::from_raw_os_error(errno.unwrap_or_default()))),
    }
}

/// Mount something.
pub(crate) fn mount(
    guard: &Guard,
    (source, target): (&str, &Path),
    fstype: &str,
    options: &[String],
) -> Result<(), Fault> {
    let mut options = options.to_vec();
    let bind = fstype == "bind";
    if bind && !options.iter().any(|option| option == "bind" || option == "rbind") {
        options.insert(0, "bind".to_owned());
    }
    let mut program = Program::new("mount");
    if !bind {
        program = program.args(["-t", fstype]);
    }
    if !options.is_empty() {
        program = program.arg("-o").arg(options.join(","));
    }
    let doing = format!("mount {source} on {}", target.display());
    run(guard, target, &doing, program.arg("--").arg(source).arg(target))
}

/// Change the options of what is mounted.
pub(crate) fn remount(guard: &Guard, target: &Path, options: &[String]) -> Result<(), Fault> {
    let doing = format!("remount {}", target.display());
    let mut all = vec!["remount"];
    if for_this_mount_only(target, options)? {
        all.push("bind");
    }
    all.extend(options.iter().map(String::as_str));
    let program = Program::new("mount").arg("-o").arg(all.join(",")).arg("--").arg(target);
    run(guard, target, &doing, program)
}

/// Whether other mounts show the same filesystem, which must keep their options.
fn for_this_mount_only(target: &Path, options: &[String]) -> Result<bool, Fault> {
    if !options.iter().all(|option| OF_THE_MOUNT.contains(&&**option)) {
        return Ok(false);
    }
    let mounts = mounts()?;
    let Some(ours) = mounts.iter().rev().find(|entry| entry.target == target) else { return Ok(false) };
    Ok(ours.root != Path::new("/")
        || mounts.iter().any(|entry| entry.device == ours.device && entry.id != ours.id))
}

/// Unmount, plainly.
pub(crate) fn unmount(guard: &Guard, target: &Path) -> Result<(), Fault> {
    let doing = format!("unmount {}", target.display());
    run(guard, target, &doing, Program::new("umount").arg("--").arg(target))
}

fn run(guard: &Guard, target: &Path, doing: &str, program: Program) -> Result<(), Fault> {
    guard.let_go(target);
    if guard.hangs(target) {
        return Err(Fault::from(doing, Trouble::Hung));
    }
    match program.run(MOUNT, 64 << 10) {
        Ok(output) if output.code == Some(0) => Ok(()),
        Ok(output) => Err(Fault::from(doing, output.complaint())),
        Err(ProgramError::Deadline { stuck, .. }) => {
            if let Some(Ok(pidfd)) = stuck.map(program::pidfd) {
                guard.left_behind(target, pidfd);
            }
            Err(Fault::from(doing, Trouble::Hung))
        }
        Err(error @ ProgramError::Start { .. }) => Err(Fault::from(doing, error).class(Class::NotApplicable)),
        Err(error) => Err(Fault::from(doing, error)),
    }
}
