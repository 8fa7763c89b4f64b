//! The real node under the loop: passes on blocking threads over a [`Host`] each, and the host's watcher.
//!
//! A pass holds a lock that `evenkeel apply` takes too, so the two never work on the node side by side.

use super::{Passes, Verdict, Watching, wake::Wakes};
use crate::config::Config;
use evenkeel_core::{Goal, Interest, converge_goal};
use evenkeel_host::{Host, files, watch::Watcher};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Makes passes on the real node.
pub(crate) struct HostPasses {
    host: Host,
    lock: PassLock,
    config: watch::Receiver<Arc<Config>>,
}

impl HostPasses {
    /// Passes over `host`, under the lock in `run_dir`.
    pub(crate) fn new(host: Host, lock: PassLock, config: watch::Receiver<Arc<Config>>) -> Self {
        Self { host, lock, config }
    }
}

impl Passes for HostPasses {
    fn pass(&self, goal: Arc<dyn Goal>) -> Pin<Box<dyn Future<Output = Verdict> + Send>> {
        let (mut host, lock) = (self.host.clone(), self.lock.clone());
        // As the configuration has it now: it may have been read again.
        host.ask_for_slots_at(self.config.borrow().slots());
        let thread = tokio::task::spawn_blocking(move || {
            // Without the lock a pass is still better than none.
            let _held = lock.shared().inspect_err(|error| tracing::warn!(%error, "take the lock of passes"));
            converge_goal(goal.as_ref(), &mut host)
        });
        Box::pin(async move { thread.await.map_err(super::fell_over) })
    }

    fn on_tier(&self, tier: &str) {
        self.host.set_tier(tier);
    }
}

/// The lock between the daemon's passes, which share it, and `apply`, which has it alone.
#[derive(Debug, Clone)]
pub(crate) struct PassLock {
    path: PathBuf,
}

impl PassLock {
    /// The lock in `run_dir`, which is made where it is missing.
    ///
    /// # Errors
    /// The folder or the file cannot be made.
    pub(crate) fn open(run_dir: &Path) -> io::Result<Self> {
        files::make_folder(run_dir, 0o700)?;
        let lock = Self { path: run_dir.join("pass.lock") };
        lock.file()?;
        Ok(lock)
    }

    // An empty file that only stands for a lock; a lock cannot be replaced whole, so it is opened here.
    fn file(&self) -> io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt as _;
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&self.path)
    }

    /// Hold it together with others; waits for one who has it alone.
    fn shared(&self) -> io::Result<File> {
        let file = self.file()?;
        file.lock_shared()?;
        Ok(file)
    }

    /// Have it alone, or `None` when that does not come to pass within `patience`.
    ///
    /// # Errors
    /// The file cannot be opened or locked.
    pub(crate) fn alone(&self, patience: Duration) -> io::Result<Option<File>> {
        let (file, end) = (self.file()?, Instant::now() + patience);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() >= end => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// Start the host's watcher; what it sees goes into the box.
pub(crate) fn watch(host: &Host, wakes: Arc<Wakes>) -> Watcher {
    Watcher::start(host.own_writes(), move |event| wakes.put(event.interest, event.writer))
}

impl Watching for Watcher {
    fn set(&self, interests: Vec<Interest>) {
        Watcher::set(self, interests);
    }
    fn degraded(&self) -> Vec<String> {
        Watcher::degraded(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::PassLock;
    use std::time::Duration;

    #[test]
    fn passes_share_the_lock_and_apply_has_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let lock = PassLock::open(&folder.path().join("run")).unwrap();
        let (one, two) = (lock.shared().unwrap(), lock.shared().unwrap());
        assert!(lock.alone(Duration::ZERO).unwrap().is_none());
        drop((one, two));
        let alone = lock.alone(Duration::from_secs(5)).unwrap();
        assert!(alone.is_some());
        assert!(lock.alone(Duration::ZERO).unwrap().is_none());
    }
}
