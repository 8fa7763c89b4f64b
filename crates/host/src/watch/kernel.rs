//! Watching kernel parameters: fanotify, which names the writer; else inotify, which does not; else not at all.
//!
//! Each file is held open while it is watched. A parameter that nobody holds open may fall out of the kernel's cache,
//! and its watch with it, silently.

use super::writer;
use crate::own_writes::OwnWrites;
use crate::sockets::powers;
use evenkeel_core::SysctlKey;
use evenkeel_report::Writer;
use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags as InotifyFlags, Inotify, WatchDescriptor};
use rustix::thread::CapabilitySet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

/// The most batches of events that are taken at a time, so that a flood does not starve the rest.
const MOST_BATCHES: usize = 64;

/// The watch over all parameters.
pub(super) struct Kernel {
    own: OwnWrites,
    how: How,
    held: BTreeMap<SysctlKey, Held>,
    wanted: BTreeSet<SysctlKey>,
    /// Why a parameter that is there could not be watched.
    trouble: Option<String>,
}

enum How {
    Fanotify(Fanotify),
    Inotify(Inotify, Errno),
    Nothing(Errno, Errno),
}

struct Held {
    file: Arc<File>,
    mark: Mark,
}

enum Mark {
    Inode(u64, u64),
    Watch(WatchDescriptor),
    Nothing,
}

/// What happened.
pub(super) enum Written {
    /// One parameter was written.
    One(SysctlKey, Option<Writer>),
    /// The kernel lost count.
    Any,
}

/// How much is told of whoever writes a parameter.
pub(crate) enum Writers {
    /// Who they are.
    Named,
    /// That somebody wrote.
    Unnamed(String),
    /// Nothing.
    Unseen(String),
}

/// How much is told here.
pub(crate) fn writers() -> Writers {
    match How::best() {
        How::Fanotify(_) if !powers::has(CapabilitySet::SYS_ADMIN) || powers::in_user_namespace() => {
            Writers::Unnamed("fanotify does not tell the processes of others".to_owned())
        }
        How::Fanotify(_) => Writers::Named,
        How::Inotify(_, why) => Writers::Unnamed(format!("fanotify: {why}")),
        How::Nothing(fanotify, inotify) => {
            Writers::Unseen(format!("fanotify: {fanotify}; inotify: {inotify}"))
        }
    }
}

impl Kernel {
    pub(super) fn new(own: OwnWrites) -> Self {
        Self { own, how: How::best(), held: BTreeMap::new(), wanted: BTreeSet::new(), trouble: None }
    }

    /// Why writers are not named, or nothing is seen.
    pub(super) fn degraded(&self) -> Option<String> {
        if self.wanted.is_empty() {
            return None;
        }
        match &self.how {
            How::Fanotify(_) => self.trouble.clone(),
            How::Inotify(_, why) => Some(format!("sysctl: who writes cannot be told (fanotify: {why})")),
            How::Nothing(fanotify, inotify) => Some(format!(
                "sysctl: looked at by the slow pass only (fanotify: {fanotify}; inotify: {inotify})"
            )),
        }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.how {
            How::Fanotify(group) => Some(group.as_fd()),
            How::Inotify(group, _) => Some(group.as_fd()),
            How::Nothing(..) => None,
        }
    }

    /// Watch these, and no others. Returns those that are watched now and were not before.
    pub(super) fn set(&mut self, keys: BTreeSet<SysctlKey>) -> Vec<SysctlKey> {
        let gone: Vec<SysctlKey> = self.held.keys().filter(|key| !keys.contains(key)).cloned().collect();
        for key in gone {
            self.release(&key);
        }
        self.wanted = keys;
        self.trouble = None;
        self.own.params().retain(&|key| self.wanted.contains(key));
        self.refresh()
    }

    /// Whether there is something that [`Self::refresh`] could find.
    pub(super) fn watches(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Watch what has appeared since, as an interface's parameters do. Returns what was not watched before.
    pub(super) fn refresh(&mut self) -> Vec<SysctlKey> {
        if let How::Nothing(..) = self.how {
            self.how = How::best();
        }
        let stale: Vec<SysctlKey> =
            self.held.iter().filter(|(_, held)| is_stale(&held.file)).map(|(key, _)| key.clone()).collect();
        for key in stale {
            self.release(&key);
        }
        let missing: Vec<SysctlKey> =
            self.wanted.iter().filter(|key| !self.held.contains_key(key)).cloned().collect();
        missing.into_iter().filter(|key| self.hold(key)).collect()
    }

    fn hold(&mut self, key: &SysctlKey) -> bool {
        // Reading first lets go of a file that the kernel has replaced.
        let _ = self.own.params().value(key);
        let Ok(file) = self.own.params().open(key) else { return false };
        let mark = self.how.mark(&file).unwrap_or_else(|error| {
            self.trouble = Some(format!("sysctl: {key} is looked at by the slow pass only ({error})"));
            Mark::Nothing
        });
        self.held.insert(key.clone(), Held { file, mark });
        true
    }

    fn release(&mut self, key: &SysctlKey) {
        if let Some(held) = self.held.remove(key) {
            self.how.unmark(&held);
        }
    }

    /// What others have written since.
    pub(super) fn read(&self) -> Vec<Written> {
        let mut written = vec![];
        for _ in 0..MOST_BATCHES {
            let more = match &self.how {
                How::Fanotify(group) => self.read_fanotify(group, &mut written),
                How::Inotify(group, _) => self.read_inotify(group, &mut written),
                How::Nothing(..) => false,
            };
            if !more {
                break;
            }
        }
        written
    }

    fn read_fanotify(&self, group: &Fanotify, written: &mut Vec<Written>) -> bool {
        let Ok(events) = group.read_events() else { return false };
        let mut writers: HashMap<i32, Option<Writer>> = HashMap::new();
        for event in events {
            let (pid, ours) = (event.pid(), i32::try_from(std::process::id()).ok());
            if Some(pid) == ours {
                continue;
            }
            let writer = writers.entry(pid).or_insert_with(|| writer::of(pid)).clone();
            let key = event.fd().and_then(|fd| inode(fd).ok()).map(|inode| self.key_of_inode(inode));
            match key {
                Some(Some(key)) => written.push(Written::One(key, writer)),
                Some(None) => {}
                None => written.push(Written::Any),
            }
        }
        true
    }

    fn read_inotify(&self, group: &Inotify, written: &mut Vec<Written>) -> bool {
        let Ok(events) = group.read_events() else { return false };
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                written.push(Written::Any);
            }
            let watched = |held: &Held| matches!(held.mark, Mark::Watch(watch) if watch == event.wd);
            let Some((key, _)) = self.held.iter().find(|(_, held)| watched(held)) else { continue };
            let value = self.own.params().value(key);
            if !value.is_ok_and(|value| self.own.is_own_sysctl(key, &value)) {
                written.push(Written::One(key.clone(), None));
            }
        }
        true
    }

    fn key_of_inode(&self, (device, inode): (u64, u64)) -> Option<SysctlKey> {
        let watched = |held: &Held| matches!(held.mark, Mark::Inode(d, i) if (d, i) == (device, inode));
        self.held.iter().find(|(_, held)| watched(held)).map(|(key, _)| key.clone())
    }
}

impl How {
    fn best() -> Self {
        let init = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_NONBLOCK | InitFlags::FAN_CLOEXEC;
        let fanotify = match Fanotify::init(init, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC) {
            Ok(group) => return Self::Fanotify(group),
            Err(error) => error,
        };
        match Inotify::init(InotifyFlags::IN_NONBLOCK | InotifyFlags::IN_CLOEXEC) {
            Ok(group) => Self::Inotify(group, fanotify),
            Err(inotify) => Self::Nothing(fanotify, inotify),
        }
    }

    fn mark(&self, file: &File) -> io::Result<Mark> {
        match self {
            Self::Fanotify(group) => {
                group.mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_MODIFY, file, None::<&str>)?;
                inode(file).map(|(device, inode)| Mark::Inode(device, inode))
            }
            Self::Inotify(group, _) => {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                Ok(Mark::Watch(group.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY)?))
            }
            Self::Nothing(..) => Ok(Mark::Nothing),
        }
    }

    fn unmark(&self, held: &Held) {
        match (self, &held.mark) {
            (Self::Fanotify(group), _) => {
                let mask = MaskFlags::FAN_MODIFY;
                let _ = group.mark(MarkFlags::FAN_MARK_REMOVE, mask, &held.file, None::<&str>);
            }
            (Self::Inotify(group, _), Mark::Watch(watch)) => {
                let _ = group.rm_watch(*watch);
            }
            _ => {}
        }
    }
}

fn inode(fd: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The kernel has taken this parameter away since; its name may have come back, for another file.
fn is_stale(file: &File) -> bool {
    let mut byte = [0];
    let read = std::os::unix::fs::FileExt::read_at(file, &mut byte, 0);
    read.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}
