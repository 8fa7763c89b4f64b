//! What this node can and cannot do, each ability tried on something that it does no harm to. For `evenkeel doctor`.
//!
//! It looks, and changes nothing: no parameter is written, no folder made, nobody's connection touched. A reason says
//! why, and after a colon what to do.

use crate::program::Program;
use crate::sockets::powers;
use crate::watch::Writers;
use crate::{systemd, watch};
use evenkeel_core::SocketPowers;
use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How far something can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// As it should be; with what there is to say beside.
    Ok(Option<String>),
    /// In part, or not everywhere.
    Limited(String),
    /// Not at all.
    No(String),
}

/// Something that a node can do, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ability {
    /// What.
    pub name: String,
    /// How far.
    pub extent: Extent,
}

impl Ability {
    /// An ability by its name.
    pub fn new(name: impl Into<String>, extent: Extent) -> Self {
        Self { name: name.into(), extent }
    }
}

/// Everything about connections: seeing them, whose they are, giving them other timers, ending them, containers.
#[must_use]
pub fn sockets(powers: SocketPowers) -> Vec<Ability> {
    let all = |done: Result<(), String>| done.map_or_else(Extent::No, |()| Extent::Ok(None));
    // What is left without the right: our own user's processes, our own network namespace.
    let some = |done: Result<(), String>| done.map_or_else(Extent::Limited, |()| Extent::Ok(None));
    vec![
        Ability::new("see connections", all(powers.see)),
        Ability::new("name who holds them", some(powers::owners())),
        Ability::new("give live ones other timers", some(powers.retune)),
        Ability::new("end stuck ones", all(powers.free)),
        Ability::new("look into containers", some(powers.enter)),
    ]
}

/// Writing kernel parameters, and whether this kernel knows the one that shortens a blackout best.
#[must_use]
pub fn sysctls() -> Vec<Ability> {
    let net = writable(Path::new("/proc/sys/net/ipv4/tcp_retries2"));
    let rest = writable(Path::new("/proc/sys/vm/swappiness"));
    let writing = match (net, rest) {
        (Ok(()), Ok(())) => Extent::Ok(None),
        (Ok(()), Err(why)) => Extent::Limited(format!("net.* only; the others are {}", unwritable(why))),
        (Err(why), _) => Extent::No(format!("they are {}", unwritable(why))),
    };
    let known = rustix::fs::stat("/proc/sys/net/ipv4/tcp_rto_max_ms").is_ok();
    let rto_max = if known {
        Extent::Ok(None)
    } else {
        let why = "this kernel does not know it (6.15 does): net.ipv4.tcp_retries2 alone bounds how long a request hangs";
        Extent::Limited(why.to_owned())
    };
    vec![Ability::new("write sysctls", writing), Ability::new("net.ipv4.tcp_rto_max_ms", rto_max)]
}

fn writable(path: &Path) -> Result<(), Errno> {
    rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)
}

fn unwritable(why: Errno) -> String {
    match why {
        Errno::ROFS => "read-only here, as in a container: run the agent on the machine itself".to_owned(),
        Errno::ACCESS | Errno::PERM => "not ours to write: run as root".to_owned(),
        Errno::NOENT => "not there: no /proc/sys is mounted".to_owned(),
        error => io::Error::from(error).to_string(),
    }
}

/// Whether drift in the kernel is seen at once, and by whose hand.
#[must_use]
pub fn writers() -> Ability {
    let extent = match watch::writers() {
        Writers::Named => Extent::Ok(None),
        Writers::Unnamed(why) => Extent::Limited(format!(
            "changes are seen at once, and who made them is not ({why}): it takes CAP_SYS_ADMIN and fanotify_init in the \
             unit's SystemCallFilter="
        )),
        Writers::Unseen(why) => Extent::Limited(format!(
            "changes are seen by the clock only ({why}): raise fs.inotify.max_user_instances"
        )),
    };
    Ability::new("see who changes a sysctl", extent)
}

/// Mounting, and by whom.
#[must_use]
pub fn mounts() -> Ability {
    let root = rustix::process::geteuid().is_root();
    let extent = match (systemd::runs(), root, powers::has(CapabilitySet::SYS_ADMIN)) {
        (true, true, _) if powers::in_user_namespace() => {
            Extent::No("systemd does not take orders from a user namespace: run as root".to_owned())
        }
        (true, true, _) => Extent::Ok(Some("by systemd".to_owned())),
        (true, false, _) => Extent::No("systemd takes orders from root alone: run as root".to_owned()),
        (false, _, true) => Extent::Limited(
            "no systemd runs here: what is mounted is not mounted again at the next boot until the agent runs".to_owned(),
        ),
        (false, _, false) => Extent::No("no systemd runs here, and without CAP_SYS_ADMIN nothing can be mounted: run as root".to_owned()),
    };
    Ability::new("mount", extent)
}

/// The program that fetches, and the one that keeps it within bounds.
#[must_use]
pub fn git() -> Ability {
    let version = |program: &str| Program::new(program).args(["--version"]).run(Duration::from_secs(5), 4096);
    let extent = match (version("git"), version("prlimit")) {
        (Err(error), _) => Extent::No(format!("{}: install git", evenkeel_core::chain(&error))),
        (_, Err(error)) => Extent::No(format!("{}: install util-linux", evenkeel_core::chain(&error))),
        (Ok(git), Ok(_)) => {
            let said = String::from_utf8_lossy(&git.stdout);
            Extent::Ok(Some(said.trim().trim_start_matches("git version ").to_owned()))
        }
    };
    Ability::new("git", extent)
}

/// Whether a folder of ours can be written, or made.
#[must_use]
pub fn folder(name: &str, path: &Path) -> Ability {
    let there = path.ancestors().find(|above| rustix::fs::stat(*above).is_ok()).unwrap_or(Path::new("/"));
    let extent = match rustix::fs::accessat(CWD, there, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
    {
        Ok(()) => Extent::Ok(Some(path.display().to_string())),
        Err(error) => {
            let error = io::Error::from(error);
            Extent::No(format!(
                "{} cannot be written ({error}): run as root, or name another in the configuration",
                there.display()
            ))
        }
    };
    Ability::new(name, extent)
}
