//! What outlives the agent of a pair of folders: when they were last in step; and the lock that keeps two agents, or an agent
//! and a command, from carrying the same over at the same time.

use crate::files;
use evenkeel_core::MirrorJob;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(50);

/// When the two were last in step, in seconds since 1970, as an agent before this one has noted it.
pub(super) fn in_step_at(state_dir: &Path, job: &MirrorJob) -> Option<i64> {
    let noted = files::read(&file(state_dir, job), 64 << 10).ok()??;
    let noted = String::from_utf8(noted).ok()?;
    // Of the same two folders: a name is no more than a name.
    let (when, rest) = noted.split_once('\n')?;
    (rest == pair(job)).then(|| when.parse().ok())?
}

/// Note it.
pub(super) fn note(state_dir: &Path, job: &MirrorJob, when: i64) -> io::Result<()> {
    files::make_folder(&state_dir.join("in-step"), 0o700)?;
    files::replace(&file(state_dir, job), format!("{when}\n{}", pair(job)).as_bytes(), 0o600)
}

/// Forget it.
pub(super) fn forget(state_dir: &Path, job: &MirrorJob) -> io::Result<()> {
    files::remove(&file(state_dir, job))
}

fn file(state_dir: &Path, job: &MirrorJob) -> PathBuf {
    state_dir.join("in-step").join(name(&job.to))
}

fn pair(job: &MirrorJob) -> String {
    format!("{}\n{}\n", job.from, job.to)
}

/// Have the folder for ourselves, or `None` where that does not come to pass, or is not wanted any more.
pub(super) fn lock(
    run_dir: &Path,
    job: &MirrorJob,
    patience: Duration,
    wanted: &dyn Fn() -> bool,
) -> io::Result<Option<File>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let folder = run_dir.join("sync");
    files::make_folder(&folder, 0o700)?;
    // An empty file that only stands for a lock; a lock cannot be replaced whole, so it is opened here.
    let path = folder.join(name(&job.to));
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    let end = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= end || !wanted() => return Ok(None),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
        }
    }
}

/// A file's name for a folder: the end of its path, to be recognised, and a number of all of it (FNV-1a).
fn name(folder: &str) -> String {
    let number = folder.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '~' };
    let end: String = folder.rsplit('/').next().unwrap_or_default().chars().take(60).map(plain).collect();
    format!("{end}-{number:016x}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use evenkeel_core::DeletionLimit;

    fn job(from: &str, to: &str) -> MirrorJob {
        MirrorJob {
            from: from.into(),
            to: to.into(),
            exclude: vec![],
            delete: true,
            delete_at_most: DeletionLimit::PerCent(10),
            owner: None,
            key: None,
            kib_per_second: None,
        }
    }

    #[test]
    fn the_last_time_in_step_is_remembered_for_the_same_two_folders_only() {
        let folder = tempfile::tempdir().unwrap();
        let one = job("mw1:/srv/a", "/srv/b");
        assert_eq!(in_step_at(folder.path(), &one), None);
        note(folder.path(), &one, 1_790_000_000).unwrap();
        assert_eq!(in_step_at(folder.path(), &one), Some(1_790_000_000));
        assert_eq!(in_step_at(folder.path(), &job("mw2:/srv/a", "/srv/b")), None);
        assert_eq!(in_step_at(folder.path(), &job("mw1:/srv/a", "/srv/c")), None);
        forget(folder.path(), &one).unwrap();
        assert_eq!(in_step_at(folder.path(), &one), None);
    }

    #[test]
    fn two_never_have_the_same_folder_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let one = job("mw1:/srv/a", "/srv/b");
        let held = lock(folder.path(), &one, Duration::ZERO, &|| true).unwrap();
        assert!(held.is_some());
        assert!(lock(folder.path(), &one, Duration::from_millis(120), &|| true).unwrap().is_none());
        assert!(lock(folder.path(), &job("x", "/srv/c"), Duration::ZERO, &|| true).unwrap().is_some());
        drop(held);
        assert!(lock(folder.path(), &one, Duration::ZERO, &|| true).unwrap().is_some());
    }

    #[test]
    fn no_name_leads_out_of_its_folder() {
        for folder in ["/", "/srv/..", "/srv/a b/ü", "/srv/\u{1}x"] {
            let name = name(folder);
            assert!(!name.contains('/') && !name.starts_with('.') && name.len() < 90, "{name}");
        }
        assert_ne!(name("/a/b"), name("/b/b"));
    }
}
