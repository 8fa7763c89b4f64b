//! What lies in a folder itself, below whatever is mounted on it.
//!
//! A copy of the mount around the folder, without what is mounted in it (`open_tree(2)`), is a door to what a mount covers.
//! The copy is nowhere in the tree and is gone with its descriptor; what is mounted is never touched.

use crate::guard::Guard;
use crate::mounting;
use crate::walk::{self, Links};
use evenkeel_core::{COVERED_AT_MOST, Class, Covered, Fault};
use rustix::fs::{IFlags, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// How many names are told.
const TOLD: usize = 3;

/// What lies there.
pub(crate) fn covered(guard: &Guard, folder: &Path) -> Result<Option<Covered>, Fault> {
    let doing = |error: io::Error| Fault::from(format!("look below {}", folder.display()), error);
    let Some(open) = door(guard, folder)? else { return Ok(None) };
    let immutable = flags(&open).map(|flags| flags.contains(IFlags::IMMUTABLE));
    let (entries, names) = count(open).map_err(doing)?;
    Ok(Some(Covered { entries, names, immutable }))
}

/// Let nothing be written there, or let it again.
pub(crate) fn set_immutable(guard: &Guard, folder: &Path, on: bool) -> Result<(), Fault> {
    let doing = format!("set the flag that nothing is written to {} itself", folder.display());
    let Some(open) = door(guard, folder)? else {
        return if on { Err(Fault::new(format!("{doing}: there is no such folder"))) } else { Ok(()) };
    };
    let Some(old) = flags(&open) else {
        let why = format!("{doing}: its filesystem has no such flag");
        return Err(Fault::new(why).class(Class::NotApplicable));
    };
    let mut new = old;
    new.set(IFlags::IMMUTABLE, on);
    if new == old {
        return Ok(());
    }
    rustix::fs::ioctl_setflags(&open, new).map_err(|error| Fault::from(doing, io::Error::from(error)))
}

fn flags(folder: &OwnedFd) -> Option<IFlags> {
    rustix::fs::ioctl_getflags(folder).ok()
}

/// The folder itself, open for reading; `None` where there is none.
pub(crate) fn door(guard: &Guard, folder: &Path) -> Result<Option<OwnedFd>, Fault> {
    let doing = format!("look below {}", folder.display());
    let fault = |error: io::Error| Fault::from(doing.clone(), error);
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else { return Ok(None) };
    let above = match mounting::approach(guard, parent, Links::Any, None, false) {
        Err(error) if mounting::gone(&error) => return Ok(None),
        above => above.map_err(fault)?,
    };
    if above.stopped {
        let why = format!("{doing}: it lies in a mount that may hang, which is not looked below");
        return Err(Fault::new(why).class(Class::NotApplicable));
    }
    match open(guard, above.fd, name) {
        Ok(open) => Ok(Some(open)),
        Err(error) if mounting::gone(&error) => Ok(None),
        Err(error) => Err(fault(error)),
    }
}

fn open(guard: &Guard, above: OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let from = if mounted(guard, &above, name)? { without_mounts(&above)? } else { above };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(rustix::fs::openat2(&from, name, flags, Mode::empty(), resolve)?)
}

fn mounted(guard: &Guard, above: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let awake = guard.awake()?;
    // To go over one that is awake keeps it awake.
    if !awake.is_empty() && awake.contains_key(&mounting::place(above.as_fd())?.join(name)) {
        return Ok(true);
    }
    // Opened as a path only: that wakes no automount.
    let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let seen = rustix::fs::openat(above, name, path, Mode::empty())?;
    Ok(walk::look(&seen)?.stx_mnt_id != walk::look(above)?.stx_mnt_id)
}

fn without_mounts(folder: &OwnedFd) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(folder.as_fd(), c"", flags)?)
}

/// How many, and the first of their names.
fn count(folder: OwnedFd) -> Result<(usize, Vec<String>), io::Error> {
    let (mut entries, mut names) = (0, BTreeSet::new());
    each(folder, &mut |name| {
        entries += 1;
        names.insert(name);
        if names.len() > TOLD {
            names.pop_last();
        }
        entries < COVERED_AT_MOST
    })?;
    Ok((entries, names.into_iter().collect()))
}

/// Every name in a folder, as long as somebody wants more.
pub(crate) fn each(folder: OwnedFd, take: &mut dyn FnMut(String) -> bool) -> Result<(), io::Error> {
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut all = RawDir::new(folder, &mut buffer);
    while let Some(entry) = all.next().transpose().map_err(|errno: Errno| io::Error::from(errno))? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if ![".", "..", "lost+found"].contains(&&*name) && !take(name) {
            break;
        }
    }
    Ok(())
}
