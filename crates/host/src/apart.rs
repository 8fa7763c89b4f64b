//! Work in a forked child, so that work which never comes back can be left behind. The only unsafe code of evenkeel.
//!
//! A dead network share holds whoever touches it, in a state in which not even a signal counts. A thread held so could
//! never be given up; a child can. It does a handful of system calls on descriptors that it inherits and says its answer
//! through a pipe. It never allocates, locks, or returns, and keeps none of the agent's other descriptors: those of a
//! child that hangs for days would stay open as long.
#![expect(unsafe_code, reason = "fork(2), and nothing but system calls in the child")]

use crate::program::timeout;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// What a child may say.
pub(crate) type Answer = [u8; 32];

/// A child at work.
#[derive(Debug)]
pub(crate) struct Apart {
    pidfd: OwnedFd,
    answer: OwnedFd,
}

impl Apart {
    /// Start `work` in a child that has nothing open but `keep`.
    ///
    /// `work` must do nothing but system calls: no allocation, no lock, no panic.
    pub(crate) fn start(keep: BorrowedFd<'_>, work: &dyn Fn() -> Answer) -> io::Result<Self> {
        let (answer, say) = io::pipe()?;
        let (answer, say) = (OwnedFd::from(answer), OwnedFd::from(say));
        // SAFETY: the child makes only system calls (see `work`) and ends with `_exit`; it never returns from here.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => child(keep, &say, work),
            pid => {
                let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
                Ok(Self { pidfd: rustix::process::pidfd_open(pid, PidfdFlags::empty())?, answer })
            }
        }
    }

    /// Its answer, where it comes in time; an error where it died without one.
    pub(crate) fn wait(&self, deadline: Duration) -> io::Result<Option<Answer>> {
        if !self.answers(deadline)? {
            return Ok(None);
        }
        let mut answer = Answer::default();
        let length = rustix::io::read(&self.answer, &mut answer)?;
        if length == answer.len() { Ok(Some(answer)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn answers(&self, within: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.answer.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut fds, timeout(within))? > 0)
    }

    /// Whether it has said its answer, or died without one.
    pub(crate) fn done(&self) -> bool {
        self.answers(Duration::ZERO).unwrap_or(true)
    }

    /// The descriptor that is readable once it is done.
    pub(crate) fn answer(&self) -> BorrowedFd<'_> {
        self.answer.as_fd()
    }

    /// Kill it, give it `grace` to be gone, and hand over its descriptor where it is not.
    pub(crate) fn end(self, grace: Duration) -> Option<OwnedFd> {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        (!gone(&self.pidfd, grace)).then_some(self.pidfd)
    }
}

/// Whether a process is gone, or is within a time; one that is ours is reaped.
pub(crate) fn gone(pidfd: &OwnedFd, within: Duration) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let ended = matches!(poll(&mut fds, timeout(within)), Ok(count) if count > 0);
    if ended {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options);
    }
    ended
}

fn child(keep: BorrowedFd<'_>, say: &OwnedFd, work: &dyn Fn() -> Answer) -> ! {
    close_all_but(keep.as_raw_fd(), say.as_raw_fd());
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: back to the default, so that no handler of the agent runs in here.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // Unwinding into the parent's frames would be worse than any answer.
    if let Ok(answer) = std::panic::catch_unwind(AssertUnwindSafe(work)) {
        let _ = rustix::io::write(say, &answer);
    }
    // SAFETY: ends this process and runs nothing of the parent's.
    unsafe { libc::_exit(0) }
}

/// `close_range(2)` around two descriptors. Where the kernel lacks it they stay open, which is untidy and no more.
fn close_all_but(one: i32, other: i32) {
    let (low, high) = (one.min(other), one.max(other));
    for (first, last) in [(0, low - 1), (low + 1, high - 1), (high + 1, i32::MAX)] {
        if first <= last {
            // SAFETY: these descriptors belong to objects of the parent that this process never uses again.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}
