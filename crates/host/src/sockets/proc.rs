//! `/proc` read cheaply: names by raw getdents, links without an allocation, small files in one go.

use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::fmt::Arguments;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

/// Long enough for `socket:[4294967295]`, `net:[4026531840]` and their like.
const LINK: usize = 64;
/// The longest small file that is read, in bytes.
const LONGEST: usize = 16 << 10;

/// `/proc`, open.
pub(super) struct Proc {
    folder: OwnedFd,
    path: String,
    names: Vec<u8>,
}

impl Proc {
    pub(super) fn open() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open("/proc", flags, Mode::empty())?;
        Ok(Self { folder, path: String::new(), names: Vec::with_capacity(32 << 10) })
    }

    /// Every process, those that began last first as far as their numbers tell.
    pub(super) fn pids(&mut self) -> io::Result<Vec<u32>> {
        let mut pids = vec![];
        let again = rustix::fs::openat(&self.folder, ".", folder_flags(), Mode::empty())?;
        numbers(&again, &mut self.names, &mut |pid| {
            pids.push(pid);
            true
        })?;
        pids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(pids)
    }

    /// The number in a link: of `PID/fd/5`, which is `socket:[1234]`, with `kind` `socket` it is 1234; `None` where it is
    /// another kind of thing.
    pub(super) fn link(&mut self, path: Arguments<'_>, kind: &str) -> Result<Option<u64>, Errno> {
        set(&mut self.path, path);
        link(&self.folder, &self.path, kind)
    }

    /// Go through the descriptors of a process that are sockets: their number and inode, until `each` says `false`.
    pub(super) fn sockets_of(
        &mut self,
        pid: u32,
        each: &mut dyn FnMut(u32, u64) -> bool,
    ) -> Result<(), Errno> {
        let folder = self.descriptors(pid)?;
        numbers(&folder, &mut self.names, &mut |fd| {
            set(&mut self.path, format_args!("{fd}"));
            match link(&folder, &self.path, "socket") {
                Ok(Some(inode)) => each(fd, inode),
                _ => true,
            }
        })
    }

    /// The folder of a process's descriptors.
    pub(super) fn descriptors(&mut self, pid: u32) -> Result<OwnedFd, Errno> {
        set(&mut self.path, format_args!("{pid}/fd"));
        rustix::fs::openat(&self.folder, self.path.as_str(), folder_flags(), Mode::empty())
    }

    /// The inode of a socket in such a folder.
    pub(super) fn socket_at(&mut self, folder: &OwnedFd, fd: u32) -> Option<u64> {
        set(&mut self.path, format_args!("{fd}"));
        link(folder, &self.path, "socket").ok().flatten()
    }

    /// A small file.
    pub(super) fn text(&mut self, path: Arguments<'_>) -> Option<String> {
        let file = self.file(path).ok()?;
        let mut bytes = Vec::with_capacity(1024);
        loop {
            bytes.reserve(1024);
            let read = rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)).ok()?;
            if read == 0 || bytes.len() > LONGEST {
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }

    /// A file, open for reading.
    pub(super) fn file(&mut self, path: Arguments<'_>) -> Result<OwnedFd, Errno> {
        set(&mut self.path, path);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(&self.folder, self.path.as_str(), flags, Mode::empty())
    }
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn set(path: &mut String, to: Arguments<'_>) {
    path.clear();
    // Writing to a string cannot fail.
    let _ = std::fmt::Write::write_fmt(path, to);
}

fn link(folder: &OwnedFd, path: &str, kind: &str) -> Result<Option<u64>, Errno> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); LINK];
    let (target, _) = rustix::fs::readlinkat_raw(folder, path, &mut buffer)?;
    Ok(number(target, kind))
}

/// Of `socket:[1234]`, 1234.
fn number(target: &[u8], kind: &str) -> Option<u64> {
    let digits = target.strip_prefix(kind.as_bytes())?.strip_prefix(b":[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The names in a folder that are numbers.
fn numbers(folder: &OwnedFd, buffer: &mut Vec<u8>, each: &mut dyn FnMut(u32) -> bool) -> Result<(), Errno> {
    buffer.clear();
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let number = entry.file_name().to_str().ok().and_then(|name| name.parse().ok());
        if number.is_some_and(|number| !each(number)) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::fd::AsRawFd as _;

    #[test]
    fn a_link_tells_its_number_only_where_it_is_of_that_kind() {
        assert_eq!(number(b"socket:[1234]", "socket"), Some(1234));
        assert_eq!(number(b"net:[4026531840]", "net"), Some(4_026_531_840));
        for other in ["pipe:[1]", "socket:[]", "socket:[-1]", "socket:[1", "socket:[1]x", "/socket:[1]", ""] {
            assert_eq!(number(other.as_bytes(), "socket"), None, "{other}");
        }
    }

    #[test]
    fn our_own_descriptors_are_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (mut proc, ours) = (Proc::open().unwrap(), std::process::id());
        assert!(proc.pids().unwrap().contains(&ours));
        let (mut seen, wanted) = (vec![], socket.as_raw_fd().unsigned_abs());
        proc.sockets_of(ours, &mut |fd, inode| {
            seen.push((fd, inode));
            true
        })
        .unwrap();
        let inode = seen.iter().find(|(fd, _)| *fd == wanted).unwrap().1;
        let folder = proc.descriptors(ours).unwrap();
        assert_eq!(proc.socket_at(&folder, wanted), Some(inode));
        assert_eq!(proc.link(format_args!("{ours}/fd/{wanted}"), "socket"), Ok(Some(inode)));
        assert_eq!(proc.link(format_args!("{ours}/fd/{wanted}"), "pipe"), Ok(None));
        assert!(!proc.text(format_args!("{ours}/comm")).unwrap().is_empty());
        assert_eq!(proc.text(format_args!("{ours}/no-such-file")), None);
    }
}
