//! Content that is shipped in a folder, copied once into the share that is mounted over it.
//!
//! It is put together in a folder beside where it belongs and moved into place last, so that a copy that was cut short is
//! gone on with and never taken for a whole one. One pass copies for a while and leaves the rest to the next, so that
//! nobody waits for it. The share may hang: only cp(1), find(1), chown(1), mv(1) and rm(1) touch it, each with a deadline.

use crate::below;
use crate::guard::Guard;
use crate::looking::SEED;
use crate::program::{Output, Program, ProgramError};
use evenkeel_core::{Class, Fault};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long one call of a program may take.
const DEADLINE: Duration = Duration::from_mins(2);
/// How long a pass copies.
const TURN: Duration = Duration::from_secs(15);
/// How many files one call of cp(1) gets.
const FILES: usize = 64;
/// How many names one call of mv(1) gets.
const NAMES: usize = 500;
/// The most that find(1) may tell, in bytes.
const TOLD: usize = 64 << 20;

/// Copy what lies below into what is mounted there. Whether that is empty was seen before.
pub(crate) fn seed(
    guard: &Guard,
    folder: &Path,
    sentinel: Option<&str>,
    (owner, group): (Option<&str>, Option<&str>),
) -> Result<(), Fault> {
    let doing = format!("copy what lies below {} into what is mounted there", folder.display());
    guard.forget(folder);
    let Some(source) = below::door(guard, folder)? else {
        return Err(Fault::new(format!("{doing}: there is no such folder")));
    };
    // The copy of the mount is in nobody's tree; by our descriptor it can be reached.
    let from = PathBuf::from(format!("/proc/{}/fd/{}/.", std::process::id(), source.as_raw_fd()));
    let copy = Copy { doing, from, folder, half: folder.join(SEED), whose: whose(owner, group) };
    let fault = |error: io::Error| Fault::from(copy.doing.clone(), error);
    // The mark of the right export is the server's to make.
    let ours = |name: &OsStr| name != SEED && name != "lost+found" && Some(name) != sentinel.map(OsStr::new);
    let mut parts = vec![];
    walk(&copy.from, Path::new(""), &ours, &mut parts).map_err(fault)?;
    copy.gather(&parts)?;
    copy.settle(&parts)
}

/// A file, a link or an empty folder, by its path from the top.
struct Part {
    path: PathBuf,
    size: u64,
    /// Unix time, s.
    changed: i64,
    folder: bool,
}

fn walk(top: &Path, at: &Path, ours: &dyn Fn(&OsStr) -> bool, parts: &mut Vec<Part>) -> io::Result<()> {
    for entry in std::fs::read_dir(top.join(at))? {
        let entry = entry?;
        if at == Path::new("") && !ours(&entry.file_name()) {
            continue;
        }
        let (path, seen) = (at.join(entry.file_name()), entry.metadata()?);
        let before = parts.len();
        if seen.is_dir() {
            walk(top, &path, ours, parts)?;
        }
        if parts.len() == before {
            parts.push(Part { path, size: seen.len(), changed: seen.mtime(), folder: seen.is_dir() });
        }
    }
    Ok(())
}

fn whose(owner: Option<&str>, group: Option<&str>) -> Option<String> {
    let group = group.map(|group| format!(":{group}"));
    (owner.is_some() || group.is_some())
        .then(|| format!("{}{}", owner.unwrap_or_default(), group.unwrap_or_default()))
}

struct Copy<'a> {
    doing: String,
    from: PathBuf,
    folder: &'a Path,
    half: PathBuf,
    whose: Option<String>,
}

impl Copy<'_> {
    /// Put together what is not there yet, for as long as a turn lasts.
    fn gather(&self, parts: &[Part]) -> Result<(), Fault> {
        let begun = Instant::now();
        self.run(Program::new("mkdir").args(["-p", "--"]).arg(&self.half))?;
        let (there, moved) = (self.there()?, self.moved()?);
        let is_there = |part: &&Part| {
            let top = part.path.iter().next().unwrap_or_default();
            moved.contains(top) || there.get(part.path.as_os_str()).is_some_and(|seen| part.is(*seen))
        };
        let (done, left): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(is_there);
        // What a copy that was cut short has left of a file: cp(1) does not always write over what is there.
        let cut = left.iter().filter(|part| there.contains_key(part.path.as_os_str()));
        let cut: Vec<PathBuf> = cut.map(|part| self.half.join(&part.path)).collect();
        for some in cut.chunks(NAMES) {
            self.run(Program::new("rm").args(["-f", "--"]).args(some))?;
        }
        for (turn, some) in left.chunks(FILES).enumerate() {
            if begun.elapsed() > TURN {
                let so_far = done.len() + turn * FILES;
                let why = format!("{}: {so_far} of {} are there", self.doing, parts.len());
                return Err(Fault::new(why).class(Class::Waiting));
            }
            let paths = || some.iter().map(|part| part.path.as_os_str());
            let copy = Program::new("cp").args(["-a", "--parents", "-t"]).arg(&self.half).arg("--");
            self.run(copy.args(paths()).folder(&self.from))?;
            if let Some(whose) = &self.whose {
                let own = Program::new("chown").args(["-h", "--", whose]);
                self.run(own.args(paths().map(|path| self.half.join(path))))?;
            }
        }
        Ok(())
    }

    /// Give everything its owner, and move it to where it belongs.
    fn settle(&self, parts: &[Part]) -> Result<(), Fault> {
        if let Some(whose) = &self.whose {
            // Folders, and what a copy that was cut short has left without one.
            self.run(Program::new("chown").args(["-R", "-h", "--", whose]).arg(&self.half))?;
        }
        let moved = self.moved()?;
        let mut names: Vec<&OsStr> = parts.iter().filter_map(|part| part.path.iter().next()).collect();
        names.dedup();
        names.retain(|name| !moved.contains(*name));
        for some in names.chunks(NAMES) {
            let moving = Program::new("mv").args(["-n", "-t"]).arg(self.folder).arg("--");
            self.run(moving.args(some.iter().map(|name| self.half.join(name))))?;
        }
        self.run(Program::new("rm").args(["-r", "-f", "--"]).arg(&self.half)).map(drop)
    }

    /// What was put together before: size (bytes) and time of the last change (s).
    fn there(&self) -> Result<HashMap<OsString, (u64, i64)>, Fault> {
        let find = Program::new("find").arg(&self.half);
        let told = self.run(find.args(["-mindepth", "1", "-printf", r"%s %Ts %P\0"]))?;
        let one = |entry: &[u8]| {
            let mut words = entry.splitn(3, |byte| *byte == b' ');
            let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<i64>().ok();
            let (size, changed) = (number()?, number()?);
            Some((OsStr::from_bytes(words.next()?).to_owned(), (u64::try_from(size).ok()?, changed)))
        };
        Ok(told.stdout.split(|byte| *byte == 0).filter_map(one).collect())
    }

    /// What is in its place.
    fn moved(&self) -> Result<HashSet<OsString>, Fault> {
        let find = Program::new("find").arg(self.folder);
        let told = self.run(find.args(["-mindepth", "1", "-maxdepth", "1", "-printf", r"%f\0"]))?;
        Ok(told.stdout.split(|byte| *byte == 0).map(|name| OsStr::from_bytes(name).to_owned()).collect())
    }

    fn run(&self, program: Program) -> Result<Output, Fault> {
        match program.run(DEADLINE, TOLD) {
            Ok(output) if output.code == Some(0) => Ok(output),
            Ok(output) => Err(Fault::from(self.doing.clone(), output.complaint())),
            Err(error @ ProgramError::Start { .. }) => {
                Err(Fault::from(self.doing.clone(), error).class(Class::NotApplicable))
            }
            Err(error) => Err(Fault::from(self.doing.clone(), error)),
        }
    }
}

impl Part {
    /// Whether what has this size and time is this, whole: cp(1) sets the time when all is written.
    fn is(&self, (size, changed): (u64, i64)) -> bool {
        self.folder || (self.size, self.changed) == (size, changed)
    }
}
