//! Who holds a socket: from its inode to a process and its descriptor, by way of `/proc/PID/fd`.
//!
//! Going through everybody's descriptors is dear, so it is done only for sockets that were not known before. What is known
//! is checked again by a readlink, which tells whether that descriptor still is that socket. One costs the kernel 4 µs,
//! more than it takes to tell of the socket itself; so of many sockets only some are checked each time, in turn. Whoever
//! acts on a socket makes sure of it anyway.

use super::proc::Proc;
use crate::watch;
use evenkeel_core::{SocketOwner, SocketQuestion};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a socket whose holder was not found is believed to have none that can be seen.
const BELIEVED: Duration = Duration::from_secs(30);
/// How many known holders are checked in one look.
const CHECKED: usize = 250;
/// Of how many questions the holders are remembered.
const MOST_QUESTIONS: usize = 64;

/// A socket to be owned: its namespace and cookie, which name it, and its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) netns: u64,
    pub(super) cookie: u64,
    /// 0 where no process has it: it waits to be accepted, or was left behind.
    pub(super) inode: u32,
}

/// Who holds what, as of the last look at each question.
#[derive(Debug, Default)]
pub(super) struct Owners {
    known: Vec<(SocketQuestion, Known)>,
    /// The number of this look.
    look: u64,
}

/// By namespace and cookie.
type Known = HashMap<(u64, u64), Held>;

#[derive(Debug, Clone)]
struct Held {
    inode: u32,
    holder: Result<Holder, Instant>,
    /// The look in which that was last made sure of; 0 where it was only found.
    checked: u64,
}

/// One that holds a socket.
#[derive(Debug, Clone)]
struct Holder {
    pid: u32,
    fd: u32,
    who: Arc<Who>,
}

#[derive(Debug)]
struct Who {
    comm: String,
    unit: Option<String>,
}

impl Owners {
    /// Who holds each of these, which are all that a question has found.
    pub(super) fn of(
        &mut self,
        question: &SocketQuestion,
        wanted: &[Wanted],
    ) -> io::Result<Vec<Option<SocketOwner>>> {
        self.look += 1;
        let at = self.known.iter().position(|(asked, _)| asked == question);
        let before = at.map(|at| self.known.remove(at).1).unwrap_or_default();
        let now = look(&mut Proc::open()?, wanted, before, self.look)?;
        let owner = |one: &Option<Held>| {
            let holder = one.as_ref()?.holder.as_ref().ok()?;
            let (comm, unit) = (holder.who.comm.clone(), holder.who.unit.clone());
            Some(SocketOwner { pid: holder.pid, fd: holder.fd, comm, unit })
        };
        let owners = now.iter().map(owner).collect();
        let known = wanted.iter().zip(now).filter_map(|(one, held)| Some(((one.netns, one.cookie), held?)));
        self.known.push((question.clone(), known.collect()));
        if self.known.len() > MOST_QUESTIONS {
            self.known.remove(0);
        }
        Ok(owners)
    }
}

fn look(proc: &mut Proc, wanted: &[Wanted], mut before: Known, number: u64) -> io::Result<Vec<Option<Held>>> {
    let mut held: Vec<Option<Held>> = wanted
        .iter()
        .map(|one| before.remove(&(one.netns, one.cookie)).filter(|held| held.inode == one.inode))
        .collect();
    let likely = check(proc, &mut held, number);
    let mut missing: HashMap<u64, usize> = HashMap::new();
    for (at, one) in wanted.iter().enumerate() {
        let settled = match &held[at] {
            Some(Held { holder: Ok(_), .. }) => true,
            Some(Held { holder: Err(since), .. }) => since.elapsed() < BELIEVED,
            None => one.inode == 0,
        };
        if !settled {
            missing.insert(one.inode.into(), at);
        }
    }
    if missing.is_empty() {
        return Ok(held);
    }
    for at in missing.values() {
        held[*at] = Some(Held { inode: wanted[*at].inode, holder: Err(Instant::now()), checked: 0 });
    }
    // Those that held some before will have the new ones too, most of the time.
    let rest = proc.pids()?.into_iter().filter(|pid| !likely.contains(pid)).collect::<Vec<_>>();
    for pid in likely.iter().rev().copied().chain(rest) {
        scan(proc, pid, &mut missing, &mut held);
        if missing.is_empty() {
            break;
        }
    }
    Ok(held)
}

/// Check those whose last check is the longest ago, and forget everything of a process of which one is not so any more;
/// the processes that hold something.
fn check(proc: &mut Proc, held: &mut [Option<Held>], number: u64) -> BTreeSet<u32> {
    let mut turn: Vec<(u64, u32, usize)> = held
        .iter()
        .enumerate()
        .filter_map(|(at, held)| {
            let held = held.as_ref()?;
            Some((held.checked, held.holder.as_ref().ok()?.pid, at))
        })
        .collect();
    let pids = turn.iter().map(|(_, pid, _)| *pid).collect();
    if turn.len() > CHECKED {
        turn.select_nth_unstable(CHECKED);
        turn.truncate(CHECKED);
    }
    turn.sort_unstable_by_key(|(_, pid, at)| (*pid, *at));
    let mut wrong = BTreeSet::new();
    for group in turn.chunk_by(|(_, one, _), (_, other, _)| one == other) {
        let pid = group[0].1;
        let folder = if group.len() > 2 { proc.descriptors(pid).ok() } else { None };
        for (_, _, at) in group {
            let Some(Held { inode, holder: Ok(holder), checked }) = &mut held[*at] else { continue };
            let found = match &folder {
                Some(folder) => proc.socket_at(folder, holder.fd),
                None => proc.link(format_args!("{pid}/fd/{}", holder.fd), "socket").ok().flatten(),
            };
            *checked = number;
            if found != Some(u64::from(*inode)) {
                wrong.insert(pid);
                break;
            }
        }
    }
    if !wrong.is_empty() {
        for one in held.iter_mut() {
            let of = one.as_ref().and_then(|held| held.holder.as_ref().ok());
            if of.is_some_and(|holder| wrong.contains(&holder.pid)) {
                *one = None;
            }
        }
    }
    pids
}

/// Look through one process's descriptors for what is missing.
fn scan(proc: &mut Proc, pid: u32, missing: &mut HashMap<u64, usize>, held: &mut [Option<Held>]) {
    let mut found: Vec<(usize, u32)> = vec![];
    // One that is gone by now, or is not ours to look at, holds nothing that we could see.
    let _ = proc.sockets_of(pid, &mut |fd, inode| {
        found.extend(missing.remove(&inode).map(|at| (at, fd)));
        !missing.is_empty()
    });
    if found.is_empty() {
        return;
    }
    let who = Arc::new(who(proc, pid));
    for (at, fd) in found {
        if let Some(held) = &mut held[at] {
            held.holder = Ok(Holder { pid, fd, who: who.clone() });
        }
    }
}

fn who(proc: &mut Proc, pid: u32) -> Who {
    let comm = proc.text(format_args!("{pid}/comm")).unwrap_or_default().trim_end().to_owned();
    let cgroup = proc.text(format_args!("{pid}/cgroup")).unwrap_or_default();
    Who { comm, unit: watch::unit(&cgroup).or_else(|| container(&cgroup)) }
}

/// A container that is no unit of systemd's: of `0::/docker/4f…`, the first 12 digits, as its tools tell it.
fn container(cgroup: &str) -> Option<String> {
    let is_id = |part: &&str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = cgroup.lines().find_map(|line| line.rsplit('/').find(is_id))?;
    Some(format!("container {}", &id[..12]))
}

/// The descriptor by which this process holds a socket, if it does.
pub(super) fn descriptor(proc: &mut Proc, pid: u32, inode: u32) -> Option<u32> {
    let mut found = None;
    let _ = proc.sockets_of(pid, &mut |fd, seen| {
        found = (seen == u64::from(inode)).then_some(fd);
        found.is_none()
    });
    found
}

/// Somebody who holds a socket, and their name.
pub(super) fn holder(proc: &mut Proc, inode: u32) -> Option<(u32, String)> {
    let pids = proc.pids().ok()?;
    let pid = pids.into_iter().find(|pid| descriptor(proc, *pid, inode).is_some())?;
    Some((pid, who(proc, pid).comm))
}

#[cfg(test)]
mod tests {
    use super::container;

    #[test]
    fn a_container_is_told_by_the_head_of_its_number() {
        let id = "4f2e8ab1c0de".to_owned() + &"0".repeat(52);
        assert_eq!(container(&format!("3:cpu:/docker/{id}\n")).as_deref(), Some("container 4f2e8ab1c0de"));
        assert_eq!(
            container(&format!("0::/kubepods/pod1/{id}/sub\n")).as_deref(),
            Some("container 4f2e8ab1c0de")
        );
        assert_eq!(container("0::/user.slice\n"), None);
    }
}
