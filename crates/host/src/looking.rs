//! Looks into folders that may lie in mounts: all begun before any is waited for, each with its own deadline.
//!
//! A look that has no answer in time is left to the [`Guard`], parked. What runs in a child makes system calls and nothing
//! else. The one thing a look may change is a file of its own making, where a write was asked for.

use crate::apart::{Answer, Apart};
use crate::guard::{self, Guard, Trouble, Turn};
use crate::mounting::{self, Failure, Seen};
use crate::users;
use crate::walk::{Links, Reached};
use evenkeel_core::{FolderQuestion, FolderSeen, Inside, WriteTrouble, chain};
use nix::poll::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Where content is put together before it takes its place. A folder that has it is not seeded yet.
pub(crate) const SEED: &str = ".evenkeel-seed";
const SEED_C: &CStr = c".evenkeel-seed";
/// As many looks are under way at one time; the others wait their turn.
const AT_ONCE: usize = 128;

/// Look into all of them.
pub(crate) fn folders(guard: &Guard, questions: &[FolderQuestion]) -> Vec<FolderSeen> {
    guard.tidy();
    let mut seen: Vec<Option<FolderSeen>> = questions.iter().map(|_| None).collect();
    let (mut looks, mut later) = (vec![], vec![]);
    for (at, question) in questions.iter().enumerate() {
        seen[at] = guard.remembered(question);
        if seen[at].is_some() {
            continue;
        }
        match begin(guard, question) {
            Begun::Over(answer) => seen[at] = Some(answer),
            Begun::Busy => later.push(at),
            Begun::Look(look) => looks.push((at, look)),
        }
        if looks.len() == AT_ONCE {
            gather(guard, questions, &mut looks, &mut seen);
        }
    }
    gather(guard, questions, &mut looks, &mut seen);
    for at in later {
        seen[at] = Some(one(guard, &questions[at]));
    }
    seen.into_iter().map(|seen| seen.unwrap_or(FolderSeen::Hung)).collect()
}

/// A look after somebody else's at the same mount.
fn one(guard: &Guard, question: &FolderQuestion) -> FolderSeen {
    let end = Instant::now() + question.within;
    loop {
        match begin(guard, question) {
            Begun::Over(answer) => return answer,
            Begun::Busy if Instant::now() > end => return FolderSeen::Hung,
            Begun::Busy => std::thread::sleep(Duration::from_millis(5)),
            Begun::Look(look) => {
                let (mut looks, mut seen) = (vec![(0, look)], vec![None]);
                gather(guard, std::slice::from_ref(question), &mut looks, &mut seen);
                return seen.pop().flatten().unwrap_or(FolderSeen::Hung);
            }
        }
    }
}

/// What became of the beginning of a look.
enum Begun {
    Over(FolderSeen),
    Busy,
    Look(Look),
}

/// A look that is under way.
struct Look {
    id: u64,
    child: Apart,
    end: Instant,
}

fn begin(guard: &Guard, question: &FolderQuestion) -> Begun {
    let doing = doing(question);
    let trouble = |error: io::Error| Begun::Over(FolderSeen::Trouble(format!("{doing}: {error}")));
    let reached = match mounting::approach(guard, &question.folder, Links::Any, None, false) {
        Ok(reached) => reached,
        Err(error) => return trouble(error),
    };
    let task = match Task::new(question, &reached) {
        Ok(task) => task,
        Err(error) => return trouble(error),
    };
    let (base, work) = (reached.fd.as_fd(), || mounting::said(task.look(reached.fd.as_fd())));
    if !reached.stopped {
        return Begun::Over(told(question, mounting::heard(&work())));
    }
    let id = match guard::mount_of(base) {
        Ok(id) => id,
        Err(error) => return trouble(error),
    };
    match guard.take(id) {
        Turn::Busy => Begun::Busy,
        Turn::Not(why) => Begun::Over(told(question, Err(Failure::Trouble(why)))),
        Turn::Ours => start(guard, question, id, base, &work),
    }
}

fn start(
    guard: &Guard,
    question: &FolderQuestion,
    id: u64,
    base: BorrowedFd,
    work: &dyn Fn() -> Answer,
) -> Begun {
    match Apart::start(base, work) {
        Ok(child) => Begun::Look(Look { id, child, end: Instant::now() + question.within }),
        Err(error) => {
            guard.give(id);
            Begun::Over(told(question, Err(Failure::Trouble(Trouble::Child(error)))))
        }
    }
}

/// Wait for all of these at once; who has no answer in time is parked.
fn gather(
    guard: &Guard,
    questions: &[FolderQuestion],
    looks: &mut Vec<(usize, Look)>,
    seen: &mut [Option<FolderSeen>],
) {
    while !looks.is_empty() {
        wait(looks);
        let now = Instant::now();
        let (over, waiting): (Vec<_>, Vec<_>) =
            looks.drain(..).partition(|(_, look)| look.child.done() || look.end <= now);
        *looks = waiting;
        for (at, look) in over {
            let told = end(guard, &questions[at], look);
            guard.remember(&questions[at], &told);
            seen[at] = Some(told);
        }
    }
}

/// Until one of them is done, or the next deadline is over.
fn wait(looks: &[(usize, Look)]) {
    let next = looks.iter().map(|(_, look)| look.end).min();
    let left = next.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
    let mut fds: Vec<PollFd> =
        looks.iter().map(|(_, look)| PollFd::new(look.child.answer(), PollFlags::POLLIN)).collect();
    // Interrupted or not, whoever is done is found by asking each.
    let _ = poll(&mut fds, crate::program::timeout(left));
}

fn end(guard: &Guard, question: &FolderQuestion, look: Look) -> FolderSeen {
    match look.child.wait(Duration::ZERO) {
        Ok(Some(answer)) => {
            guard.finish(look.id, look.child);
            told(question, mounting::heard(&answer))
        }
        Ok(None) => {
            guard.park(look.id, look.child);
            FolderSeen::Hung
        }
        Err(error) => {
            guard.finish(look.id, look.child);
            told(question, Err(Failure::Trouble(Trouble::Child(error))))
        }
    }
}

fn doing(question: &FolderQuestion) -> String {
    format!("look into {}", question.folder.display())
}

fn told(question: &FolderQuestion, heard: Result<Seen, Failure>) -> FolderSeen {
    match heard {
        Ok(seen) => FolderSeen::Answers(inside(question, &seen)),
        Err(Failure::Trouble(Trouble::Hung)) => FolderSeen::Hung,
        Err(Failure::Errno(Errno::STALE)) => FolderSeen::Stale,
        Err(failure) => FolderSeen::Trouble(chain(&failure.fault(&doing(question)))),
    }
}

fn inside(question: &FolderQuestion, seen: &Seen) -> Inside {
    let write = match i32::try_from(seen.write) {
        Ok(0) => Ok(()),
        Ok(errno) if errno == Errno::ROFS.raw_os_error() => Err(WriteTrouble::ReadOnly),
        errno => {
            Err(WriteTrouble::Other(io::Error::from_raw_os_error(errno.unwrap_or_default()).to_string()))
        }
    };
    Inside {
        uid: seen.uid,
        owner: users::name(seen.uid),
        gid: seen.gid,
        group: users::group_name(seen.gid),
        mode: seen.mode,
        sentinel: question.sentinel.as_ref().map(|_| seen.sentinel != 0),
        empty: seen.empty != 0,
        took: Duration::from_micros(seen.took.into()),
        write: question.write.then_some(write),
    }
}

/// What a look does, made ready before there is a child: in it nothing can be allocated.
struct Task {
    rest: CString,
    sentinel: Option<CString>,
    /// The name of the file that is written and removed.
    write: Option<CString>,
}

impl Task {
    fn new(question: &FolderQuestion, reached: &Reached) -> io::Result<Self> {
        let write = question.write.then(|| CString::new(format!(".evenkeel-{}", std::process::id())));
        Ok(Self {
            rest: mounting::joined(&reached.rest)?,
            sentinel: question.sentinel.as_deref().map(CString::new).transpose()?,
            write: write.transpose()?,
        })
    }

    /// Nothing but system calls: this runs in a child.
    fn look(&self, base: BorrowedFd) -> Result<Seen, Errno> {
        let begun = clock();
        let folder = mounting::below(base, &self.rest, OFlags::PATH | OFlags::DIRECTORY)?;
        let stat = rustix::fs::statat(&folder, c".", AtFlags::empty())?;
        let mut seen =
            Seen { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777, ..Seen::default() };
        if let Some(name) = &self.sentinel {
            seen.sentinel = u32::from(there(folder.as_fd(), name)?);
        }
        // A share whose server was exchanged still answers for itself, and not for what is in it.
        seen.empty = u32::from(self.nothing_in(folder.as_fd())?);
        if let Some(name) = &self.write {
            seen.write = write(folder.as_fd(), name, &seen);
        }
        seen.took = u32::try_from(clock().saturating_sub(begun)).unwrap_or(u32::MAX);
        Ok(seen)
    }

    fn nothing_in(&self, folder: BorrowedFd) -> Result<bool, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = match rustix::fs::openat(folder, c".", flags, Mode::empty()) {
            Err(Errno::ACCESS | Errno::PERM) => return Ok(false),
            open => open?,
        };
        let (mut buffer, mut more) = ([MaybeUninit::uninit(); 4096], false);
        let mut names = RawDir::new(open, &mut buffer);
        while let Some(entry) = names.next().transpose()? {
            let name = entry.file_name();
            if name == SEED_C {
                return Ok(true);
            }
            let counts = ![c".", c"..", c"lost+found"].contains(&name);
            more |= counts && self.sentinel.as_deref() != Some(name) && self.write.as_deref() != Some(name);
            // A half-made seed is only looked for where there is little to look through.
            if more && names.is_buffer_empty() {
                break;
            }
        }
        Ok(!more)
    }
}

fn there(folder: BorrowedFd, name: &CStr) -> Result<bool, Errno> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Make a file and remove it, as the folder's owner where root has no say: a server may take root for nobody.
fn write(folder: BorrowedFd, name: &CStr, seen: &Seen) -> u32 {
    let done = match make_and_remove(folder, name) {
        Err(Errno::ACCESS | Errno::PERM) if seen.uid != 0 => {
            nix::unistd::setfsgid(nix::unistd::Gid::from_raw(seen.gid));
            nix::unistd::setfsuid(nix::unistd::Uid::from_raw(seen.uid));
            make_and_remove(folder, name)
        }
        done => done,
    };
    done.map_or_else(|errno| errno.raw_os_error().unsigned_abs(), |()| 0)
}

fn make_and_remove(folder: BorrowedFd, name: &CStr) -> Result<(), Errno> {
    // One that a look before was ended at.
    let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?;
    // What was only put aside may still be refused.
    let written = rustix::io::write(&file, b"x").and_then(|_| rustix::fs::fsync(&file));
    rustix::fs::unlinkat(folder, name, AtFlags::empty())?;
    written
}

/// In microseconds.
fn clock() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |now| u64::try_from(now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000).unwrap_or_default())
}
