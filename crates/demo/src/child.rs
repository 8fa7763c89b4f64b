//! Programs that cannot outlive the demo: the kernel ends them when whoever started them is gone.
//!
//! A fresh process of this binary gives up its user, ties itself to its parent and becomes the program. It is a
//! process of its own because nothing may be done between fork and exec without unsafe code.

use crate::trouble::{Doing, Result, Trouble};
use crate::words::User;
use nix::unistd::{Gid, Pid, Uid};
use rustix::process::Signal;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where programs are looked for, on the machine and on a node: an ordinary user's PATH often lacks the `sbin`s.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The word by which this binary knows that it is to become another program.
pub(crate) const ROLE: &str = "tied";

/// The path of this binary as any process of it may run it.
pub(crate) const SELF: &str = "/proc/self/exe";

/// A command that becomes `argv`, as `user`, and gets `signal` (a number) when the calling thread is gone.
///
/// Its environment is empty but for PATH; its process group is its own, so that Ctrl-C reaches the demo alone.
pub(crate) fn tied(argv: &[String], user: User, signal: i32) -> Command {
    let mut command = Command::new(SELF);
    let (uid, gid) = user.unwrap_or((u32::MAX, u32::MAX));
    command.arg(ROLE).args([std::process::id(), uid, gid].map(|n| n.to_string())).arg(signal.to_string());
    command
        .args(argv)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .process_group(0);
    command
}

/// The other half: `tied PARENT UID GID SIGNAL PROGRAM ARGUMENT…`. Comes back only with trouble.
pub(crate) fn become_program(words: &[String]) -> Trouble {
    match prepare(words) {
        Ok(argv) => {
            let error = Command::new(&argv[0]).args(&argv[1..]).exec();
            Trouble::Io { doing: format!("run {}", argv[0]), cause: error }
        }
        Err(trouble) => trouble,
    }
}

fn prepare(words: &[String]) -> Result<&[String]> {
    let number = |at: usize| words.get(at).and_then(|text| text.parse::<u32>().ok());
    let (Some(parent), Some(uid), Some(gid), Some(signal)) = (number(0), number(1), number(2), number(3))
    else {
        return Err(Trouble::told("tied: PARENT UID GID SIGNAL PROGRAM"));
    };
    if uid != u32::MAX {
        let gid = Gid::from_raw(gid);
        nix::unistd::setgroups(&[gid]).doing(|| "give up groups".into())?;
        nix::unistd::setgid(gid).doing(|| format!("become group {gid}"))?;
        nix::unistd::setuid(Uid::from_raw(uid)).doing(|| format!("become user {uid}"))?;
    }
    // After the change of user, which forgets it.
    let signal = i32::try_from(signal).ok().and_then(Signal::from_named_raw);
    rustix::process::set_parent_process_death_signal(signal).doing(|| "tie to the parent".into())?;
    if Pid::parent().as_raw() != i32::try_from(parent).unwrap_or(-1) {
        return Err(Trouble::told("the parent is gone already"));
    }
    match words.get(4..) {
        Some(argv) if !argv.is_empty() => Ok(argv),
        _ => Err(Trouble::told("tied: no program named")),
    }
}
