//! Who holds a mount: by an open file, a working folder, a root, a program or a mapping in it.
//!
//! Only links and tables of /proc are read, never what is mounted: that a server is dead holds nobody up here. A process
//! that sleeps uninterruptibly is not asked for its mappings, since the answer may wait for it.

use crate::files;
use crate::mounting;
use crate::watch;
use evenkeel_core::{Fault, Holder, MountEntry};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The most that are told.
const MOST: usize = 20;
/// The longest text of /proc that is read.
const LONGEST: usize = 4 << 20;

/// Those that hold the topmost mount at `target`, by their ids.
pub(crate) fn of(target: &Path) -> Result<Vec<Holder>, Fault> {
    let mounts = mounting::mounts()?;
    let Some(mount) = mounts.iter().rev().find(|entry| entry.target == target) else { return Ok(vec![]) };
    let doing = |error: std::io::Error| Fault::from("look at the processes in /proc", error);
    let ours = fs::read_link("/proc/self/ns/mnt").map_err(doing)?;
    let names = files::names(Path::new("/proc")).map_err(doing)?.unwrap_or_default();
    let mut pids: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    let others = pids.into_iter().filter(|pid| *pid != std::process::id());
    Ok(others.filter(|pid| holds(*pid, mount, &ours)).take(MOST).map(holder).collect())
}

fn holder(pid: u32) -> Holder {
    let read = |name: &str| text(&format!("/proc/{pid}/{name}"));
    let comm = read("comm").map(|comm| comm.trim_end().to_owned()).unwrap_or_default();
    Holder { pid, comm, unit: read("cgroup").and_then(|cgroup| watch::unit(&cgroup)) }
}

fn text(path: &str) -> Option<String> {
    let bytes = files::read(Path::new(path), LONGEST).ok()??;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a process that has gone in the meantime, or that we may not look at, holds it is answered by no.
fn holds(pid: u32, mount: &MountEntry, ours: &Path) -> bool {
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).ok();
    // The ids of mounts are the same for everybody; paths are those of one namespace.
    let here = link("ns/mnt").as_deref() == Some(ours);
    let inside = |path: PathBuf| path.starts_with(&mount.target);
    (here && ["cwd", "root", "exe"].into_iter().filter_map(link).any(inside))
        || descriptors(pid).iter().any(|fd| of_mount(pid, fd, mount.id))
        || (here && awake(pid) && maps(pid, mount))
}

fn descriptors(pid: u32) -> Vec<OsString> {
    let all = fs::read_dir(format!("/proc/{pid}/fdinfo"));
    all.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name())).collect()
}

/// `mnt_id:` in `/proc/PID/fdinfo/N`, `proc(5)`.
fn of_mount(pid: u32, fd: &OsString, id: u64) -> bool {
    let path = format!("/proc/{pid}/fdinfo/{}", fd.display());
    let info = text(&path).unwrap_or_default();
    info.lines().any(|line| line.strip_prefix("mnt_id:").is_some_and(|told| told.trim().parse() == Ok(id)))
}

/// Not in state D.
fn awake(pid: u32) -> bool {
    let stat = text(&format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('D'))
}

/// `start-end perms offset major:minor inode path`
fn maps(pid: u32, mount: &MountEntry) -> bool {
    let device = format!("{:02x}:{:02x}", mount.device.0, mount.device.1);
    let maps = text(&format!("/proc/{pid}/maps")).unwrap_or_default();
    let target = String::from_utf8_lossy(mount.target.as_os_str().as_bytes()).into_owned();
    maps.lines().any(|line| {
        let mut words = line.split_ascii_whitespace().skip(3);
        words.next() == Some(&device) && line.contains(&target)
    })
}
