//! The network namespaces of this node's containers: which there are, and how to ask in one of them.
//!
//! A container's processes are in a process namespace and a network namespace other than ours. No namespace is held open:
//! that would keep it alive. One is entered by a thread that does nothing else and ends.

use super::diag::Diag;
use super::powers;
use super::proc::Proc;
use rustix::io::Errno;
use rustix::thread::LinkNameSpaceType;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// How many are looked into.
const MOST: usize = 64;
/// By how many of its processes one is remembered: some may have ended when it is entered.
const MOST_PIDS: usize = 4;
/// For how long the list is good.
const GOOD: Duration = Duration::from_secs(3);

/// A container's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) inode: u64,
    pids: Vec<u32>,
}

/// All of them, as of a moment.
#[derive(Debug, Default)]
pub(super) struct Namespaces(Option<(Instant, Found)>);

/// What was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) spaces: Vec<Space>,
    /// What could not be looked at, and why.
    pub(super) blind: Vec<String>,
}

/// Why one could not be entered.
#[derive(Debug)]
pub(super) enum Barred {
    /// It is gone.
    Gone,
    /// Anything else, for a person.
    Why(String),
}

impl Namespaces {
    /// Those there are, found anew every few seconds.
    pub(super) fn now(&mut self) -> io::Result<Found> {
        if let Some((at, found)) = &self.0
            && at.elapsed() < GOOD
        {
            return Ok(found.clone());
        }
        let found = find(&mut Proc::open()?)?;
        self.0 = Some((Instant::now(), found.clone()));
        Ok(found)
    }

    /// One of them, by its inode.
    pub(super) fn get(&mut self, inode: u64) -> io::Result<Option<Space>> {
        for _ in 0..2 {
            let space = self.now()?.spaces.into_iter().find(|space| space.inode == inode);
            if space.is_some() {
                return Ok(space);
            }
            self.0 = None;
        }
        Ok(None)
    }
}

fn find(proc: &mut Proc) -> io::Result<Found> {
    let ours = |proc: &mut Proc, kind: &str| proc.link(format_args!("self/ns/{kind}"), kind);
    let (our_net, our_pid) = (ours(proc, "net")?, ours(proc, "pid")?);
    let mut spaces = BTreeMap::<u64, Vec<u32>>::new();
    let (mut hidden, mut shown) = (0, 0);
    for pid in proc.pids()? {
        let net = match proc.link(format_args!("{pid}/ns/net"), "net") {
            Ok(net) if net == our_net => {
                shown += 1;
                continue;
            }
            Ok(Some(net)) => net,
            Err(Errno::ACCESS | Errno::PERM) => {
                hidden += 1;
                continue;
            }
            _ => continue,
        };
        shown += 1;
        let pids = spaces.entry(net).or_default();
        if pids.len() < MOST_PIDS
            && proc.link(format_args!("{pid}/ns/pid"), "pid").is_ok_and(|seen| seen != our_pid)
        {
            pids.push(pid);
        }
    }
    let mut spaces: Vec<Space> = spaces
        .into_iter()
        .filter(|(_, pids)| !pids.is_empty())
        .map(|(inode, pids)| Space { inode, pids })
        .collect();
    let mut blind = vec![];
    // With every right some processes may still be closed to us, as a hardened first one is; they are no containers.
    if hidden > shown || (hidden > 0 && !powers::reaches_others()) {
        blind.push(
            "containers of other users: their namespaces cannot be seen without CAP_SYS_PTRACE".to_owned(),
        );
    }
    if spaces.len() > MOST {
        spaces.truncate(MOST);
        blind.push(format!(
            "more than {MOST} network namespaces of containers: the others are not looked into"
        ));
    }
    Ok(Found { spaces, blind })
}

/// Do something in each of these network namespaces, in one thread of its own.
pub(super) fn within<T: Send>(
    spaces: &[Space],
    mut work: impl FnMut(&Space, io::Result<Diag>) -> T + Send,
) -> Vec<(u64, Result<T, Barred>)> {
    if spaces.is_empty() {
        return vec![];
    }
    let each = || {
        let mut in_one = |space: &Space| {
            enter(space)?;
            Ok(work(space, Diag::open()))
        };
        spaces.iter().map(|space| (space.inode, in_one(space))).collect()
    };
    let done = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespaces".into()).spawn_scoped(scope, each);
        thread.map(std::thread::ScopedJoinHandle::join)
    });
    match done {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => barred(spaces, "the look broke off; this is a bug"),
        Err(error) => barred(spaces, &error.to_string()),
    }
}

fn barred<T>(spaces: &[Space], why: &str) -> Vec<(u64, Result<T, Barred>)> {
    spaces.iter().map(|space| (space.inode, Err(Barred::Why(why.to_owned())))).collect()
}

/// Move the calling thread, for the rest of its life.
fn enter(space: &Space) -> Result<(), Barred> {
    let told = |error: Errno| {
        let mut name = None;
        if let (Ok(mut proc), Some(pid)) = (Proc::open(), space.pids.first()) {
            name = proc
                .text(format_args!("{pid}/comm"))
                .map(|comm| format!(" of `{}` (pid {pid})", comm.trim_end()));
        }
        let what = format!("the network namespace{} cannot be entered: ", name.unwrap_or_default());
        Barred::Why(match error {
            Errno::PERM | Errno::ACCESS => format!(
                "{what}no right to; CAP_SYS_ADMIN and CAP_SYS_PTRACE are needed, and RestrictNamespaces=net where the unit has \
                 that option"
            ),
            error => format!("{what}{}", io::Error::from(error)),
        })
    };
    let mut proc = Proc::open().map_err(|error| Barred::Why(error.to_string()))?;
    let mut last = None;
    for pid in &space.pids {
        let file = match proc.file(format_args!("{pid}/ns/net")) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::SRCH) => continue,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        // Its number may be another process's by now.
        if rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_ino == space.inode) {
            let entered =
                rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
            return entered.map_err(told);
        }
    }
    Err(last.map_or(Barred::Gone, told))
}
