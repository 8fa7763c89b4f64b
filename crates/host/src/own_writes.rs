//! What we did ourselves, so that our own writes wake nobody; shared between a [`crate::Host`] and its watcher.
//!
//! It is a hint only. What is forgotten here costs one more look at the node, never a missed one.

use crate::files::FileState;
use crate::sysctl::Params;
use evenkeel_core::SysctlKey;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The registry; clones share it.
#[derive(Debug, Clone, Default)]
pub struct OwnWrites(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    params: Params,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// How each file stood when we had last written it, and the time before; `None` where we removed it.
    files: HashMap<PathBuf, [Option<FileState>; 2]>,
    /// The last value of each parameter that we wrote, as it read afterwards.
    sysctls: HashMap<SysctlKey, String>,
    mounts: OwnMounts,
}

/// Our acts on the mount table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OwnMounts {
    /// How many were begun.
    begun: u64,
    /// How many are under way.
    pub(crate) under_way: usize,
    /// The table's hash at the end of the last.
    pub(crate) table: Option<u64>,
}

/// One of our acts on the mount table; it ends when this is dropped.
pub(crate) struct Mounting(OwnWrites);

impl OwnWrites {
    /// The kernel parameters that are held open.
    pub(crate) fn params(&self) -> &Params {
        &self.0.params
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wrote_file(&self, path: &Path, state: Option<FileState>) {
        let mut known = self.known();
        let states = known.files.entry(path.to_owned()).or_default();
        *states = [state, states[0]];
    }

    pub(crate) fn is_own_file(&self, path: &Path, state: Option<FileState>) -> bool {
        // An event may come while the next write is noted and not done. A file that was replaced cannot come back;
        // one that is missing again can.
        self.known()
            .files
            .get(path)
            .is_some_and(|own| own[0] == state || (state.is_some() && own[1] == state))
    }

    /// Whether a file stands as we have left it, or is one that we are just writing.
    pub(crate) fn is_ours(&self, path: &Path) -> bool {
        crate::files::is_unfinished(path) || self.is_own_file(path, FileState::at(path))
    }

    pub(crate) fn wrote_sysctl(&self, key: &SysctlKey, value: &str) {
        self.known().sysctls.insert(key.clone(), value.to_owned());
    }

    pub(crate) fn is_own_sysctl(&self, key: &SysctlKey, value: &str) -> bool {
        self.known().sysctls.get(key).is_some_and(|own| own == value)
    }

    pub(crate) fn mounting(&self) -> Mounting {
        let mut known = self.known();
        known.mounts.begun += 1;
        known.mounts.under_way += 1;
        drop(known);
        Mounting(self.clone())
    }

    pub(crate) fn mounts(&self) -> OwnMounts {
        self.known().mounts
    }
}

impl Drop for Mounting {
    fn drop(&mut self) {
        let table = crate::mounting::table().ok().map(|table| hash(&table));
        let mut known = self.0.known();
        known.mounts.table = table;
        known.mounts.under_way -= 1;
    }
}

pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
