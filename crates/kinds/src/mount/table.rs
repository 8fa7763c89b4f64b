//! What is mounted at a place, and whether it is what is wanted there.

use super::want::{Source, Want};
use evenkeel_core::{Fault, MountEntry, Sensor};
use std::path::{Path, PathBuf};

/// What waits at a place to be touched.
pub(super) const AUTOFS: &str = "autofs";

/// What is at a mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// Nothing.
    Nothing,
    /// Nothing yet: it is mounted at the first touch.
    Idle,
    /// What is wanted.
    Right,
    /// Something else: what.
    Wrong(String),
    /// Nobody can say, because the source is not there.
    NoSource(String),
}

/// A path as the kernel would mount on it, and whether it is there: symlinks above are followed as far as it exists.
pub(super) fn canonical(path: &Path, node: &dyn Sensor) -> Result<(PathBuf, bool), Fault> {
    if let Some(real) = node.resolve(path)? {
        return Ok((real, true));
    }
    match (path.parent(), path.file_name()) {
        (Some(above), Some(name)) => Ok((canonical(above, node)?.0.join(name), false)),
        _ => Ok((path.to_owned(), false)),
    }
}

/// The entry that is seen at `target`: the last that no other entry for the same place sits on.
pub(super) fn topmost<'a>(mounts: &'a [MountEntry], target: &Path) -> Option<&'a MountEntry> {
    // As bytes: both are as the kernel writes them, and comparing paths part by part is what a pass would mostly do.
    let target = target.as_os_str();
    let there = || mounts.iter().filter(|entry| entry.target.as_os_str() == target);
    let covered = |entry: &MountEntry| there().any(|other| other.parent == entry.id && other.id != entry.id);
    there().rfind(|entry| !covered(entry)).or_else(|| there().next_back())
}

pub(super) fn identity(
    want: &Want,
    target: &Path,
    mounts: &[MountEntry],
    node: &dyn Sensor,
) -> Result<Identity, Fault> {
    let top = topmost(mounts, target);
    let missing = match want.source() {
        Source::Folder(path) | Source::Image(path) | Source::Device(path) => {
            node.resolve(&path)?.is_none().then(|| format!("waiting: {} is not there", path.display()))
        }
        Source::Remote(_) | Source::Free => None,
    };
    Ok(match (top, missing) {
        (_, Some(why)) => Identity::NoSource(why),
        (None, None) => Identity::Nothing,
        (Some(top), None) if top.fstype == AUTOFS => Identity::Idle,
        (Some(top), None) if right(want, top, mounts, node)? => Identity::Right,
        (Some(top), None) => Identity::Wrong(tell(top)),
    })
}

/// How many mounts of what is meant lie on one another at `target`, from the top; `None` is meant to be anything.
pub(super) fn depth(
    want: Option<&Want>,
    target: &Path,
    mounts: &[MountEntry],
    node: &dyn Sensor,
) -> Result<usize, Fault> {
    let (mut mounts, mut depth) = (mounts.to_vec(), 0);
    while let Some(top) = topmost(&mounts, target) {
        let meant = want.map_or(Ok(true), |want| right(want, top, &mounts, node))?;
        if !meant {
            break;
        }
        let gone = top.clone();
        mounts.retain(|entry| *entry != gone);
        depth += 1;
    }
    Ok(depth)
}

/// An entry in one line.
pub(super) fn tell(entry: &MountEntry) -> String {
    let root = if entry.root == Path::new("/") {
        String::new()
    } else {
        format!(", folder {}", entry.root.display())
    };
    format!("{} {}{root}", entry.fstype, entry.source)
}

fn right(want: &Want, top: &MountEntry, mounts: &[MountEntry], node: &dyn Sensor) -> Result<bool, Fault> {
    let typed = top.fstype == want.fstype || (want.fstype == "nfs" && top.fstype == "nfs4");
    Ok(match want.source() {
        // A bind mount has the type and source of what it shows; what tells it is device and folder.
        Source::Folder(path) => {
            let Some(real) = node.resolve(&path)? else { return Ok(false) };
            place(&real, mounts) == Some((top.device, top.root.clone()))
        }
        Source::Image(path) => {
            let real = node.resolve(&path)?;
            typed && real.is_some() && node.backing(&top.source) == real
        }
        Source::Device(path) => {
            let (wanted, seen) = (node.resolve(&path)?, node.resolve(Path::new(&top.source))?);
            typed && wanted.is_some() && wanted == seen
        }
        Source::Remote(source) => typed && (bare(&source) == bare(&top.source) || by_address(&source, top)),
        Source::Free => typed,
    })
}

/// A remote source without slashes at its end, which the kernel drops: `host:/a/` is `host:/a`.
fn bare(source: &str) -> &str {
    let trimmed = source.trim_end_matches('/');
    // The root of an export is a slash, and stays one.
    if trimmed.ends_with(':') { &source[..=trimmed.len()] } else { trimmed }
}

/// Whether a share of NFS that is named by its server's address is mounted by the server's name.
fn by_address(source: &str, top: &MountEntry) -> bool {
    let (Some((host, path)), Some((_, seen))) = (source.rsplit_once(":/"), top.source.rsplit_once(":/"))
    else {
        return false;
    };
    let address = top.super_options.iter().find_map(|one| one.strip_prefix("addr="));
    top.fstype.starts_with("nfs")
        && address == Some(host.trim_matches(['[', ']']))
        && path.trim_end_matches('/') == seen.trim_end_matches('/')
}

/// The filesystem that a resolved path lies in, and which folder of it the path is.
fn place(path: &Path, mounts: &[MountEntry]) -> Option<((u32, u32), PathBuf)> {
    let entry = path.ancestors().find_map(|above| topmost(mounts, above))?;
    let rest = path.strip_prefix(&entry.target).ok()?;
    let root = if rest.as_os_str().is_empty() { entry.root.clone() } else { entry.root.join(rest) };
    Some((entry.device, root))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn slashes_at_the_end_of_a_source_do_not_matter() {
        assert_eq!(bare("h:/a/"), bare("h:/a"));
        assert_eq!(bare("h:/"), "h:/");
        assert_ne!(bare("h:/"), bare("h:/a"));
    }

    #[test]
    fn the_topmost_entry_is_the_one_that_nothing_sits_on() {
        let entry = |id, parent, source: &str| MountEntry {
            id,
            parent,
            device: (0, 1),
            root: "/".into(),
            target: "/x".into(),
            options: vec![],
            fstype: "tmpfs".into(),
            source: source.into(),
            super_options: vec![],
        };
        // In the order of the table a mount that was moved may come before what it covers.
        let mounts = [entry(7, 5, "upper"), entry(5, 1, "lower")];
        assert_eq!(topmost(&mounts, Path::new("/x")).unwrap().source, "upper");
        assert_eq!(topmost(&mounts, Path::new("/y")), None);
    }
}
