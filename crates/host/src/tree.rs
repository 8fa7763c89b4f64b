//! A whole folder of files, read with bounds: what a source that is a folder serves.
//!
//! No symlink is followed, and nothing but regular files is opened.

use crate::files::{read_capped, refuse_irregular, word};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The most names that are looked at, wanted or not.
const MOST_VISITED: usize = 100_000;
/// The most files that are taken.
const MOST_TAKEN: usize = 10_000;
/// The most bytes that are taken over all files.
const MOST_BYTES: usize = 64 << 20;
/// How deep folders may lie in each other.
const DEEPEST: usize = 64;

/// What a name in a tree stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeEntry {
    /// A regular file and its bytes.
    File(Vec<u8>),
    /// A symlink and its target.
    Link(String),
    /// A file that is longer than the cap, and its length in bytes.
    TooBig(u64),
    /// A FIFO, a socket, a device.
    Other(String),
}

/// Everything below `root` whose path from there, `/`-separated, is `wanted`; sorted by path. Folders called `.git` are
/// left out. A file longer than `cap` bytes is told as such.
///
/// # Errors
/// Something cannot be read, a name is not UTF-8, or there is more than 10,000 files or 64 MiB.
pub fn read_tree(
    root: &Path,
    wanted: &dyn Fn(&str) -> bool,
    cap: usize,
) -> io::Result<Vec<(String, TreeEntry)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(root, flags, Mode::empty())?;
    let mut reading = Reading { wanted, cap, visited: 0, bytes: 0, taken: vec![] };
    reading.folder(&folder, "", 0)?;
    reading.taken.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(reading.taken)
}

struct Reading<'a> {
    wanted: &'a dyn Fn(&str) -> bool,
    cap: usize,
    visited: usize,
    bytes: usize,
    taken: Vec<(String, TreeEntry)>,
}

impl Reading<'_> {
    fn folder(&mut self, folder: &OwnedFd, prefix: &str, depth: usize) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c"..", c".git"].contains(&name) {
                continue;
            }
            self.visited += 1;
            if self.visited > MOST_VISITED {
                return Err(too_much(&format!("more than {MOST_VISITED} names")));
            }
            let Ok(name) = name.to_str() else {
                return Err(too_much(&format!("a name in `{prefix}` that is not UTF-8")));
            };
            self.entry(folder, name, &format!("{prefix}{name}"), depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, folder: &OwnedFd, name: &str, path: &str, depth: usize) -> io::Result<()> {
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            if depth == DEEPEST {
                return Err(too_much(&format!("folders deeper than {DEEPEST}")));
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = rustix::fs::openat(folder, name, flags, Mode::empty())?;
            return self.folder(&below, &format!("{path}/"), depth + 1);
        }
        if !(self.wanted)(path) {
            return Ok(());
        }
        let entry = match kind {
            FileType::RegularFile => self.file(folder, name)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, vec![])?;
                TreeEntry::Link(target.to_string_lossy().into_owned())
            }
            other => TreeEntry::Other(word(other).to_owned()),
        };
        if self.taken.len() == MOST_TAKEN {
            return Err(too_much(&format!("more than {MOST_TAKEN} files")));
        }
        self.taken.push((path.to_owned(), entry));
        Ok(())
    }

    fn file(&mut self, folder: &OwnedFd, name: &str) -> io::Result<TreeEntry> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
        let stat = rustix::fs::fstat(&file)?;
        refuse_irregular(&stat)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size > self.cap as u64 {
            return Ok(TreeEntry::TooBig(size));
        }
        let bytes = read_capped(file, &stat, self.cap)?;
        self.bytes += bytes.len();
        if self.bytes > MOST_BYTES {
            return Err(too_much(&format!("more than {} MiB", MOST_BYTES >> 20)));
        }
        Ok(TreeEntry::File(bytes))
    }
}

fn too_much(what: &str) -> io::Error {
    io::Error::other(format!("{what}: this does not look like a spec repository"))
}
