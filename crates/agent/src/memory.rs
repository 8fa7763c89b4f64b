//! What the agent remembers in its state folder: the last good spec with its commit, and which items were off since
//! when. Nothing else.
//!
//! A file that cannot be believed is moved aside and never fatal: the source still has the spec.

use crate::enforce::ledger::OpenItems;
use crate::sealed::{self, Sealed};
use evenkeel_host::files;
use evenkeel_spec::Bundle;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The most bytes a remembered spec may have: bytes are written as numbers in JSON, so four times what a source may
/// bring, and some.
const SPEC_CAP: usize = 96 << 20;
/// The most bytes the open items may have.
const OPEN_CAP: usize = 8 << 20;

/// The state folder.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    folder: PathBuf,
}

/// The last good spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastGood {
    /// Where it came from, without credentials.
    pub(crate) place: String,
    /// Its branch.
    pub(crate) branch: String,
    /// Its commit.
    pub(crate) commit: String,
    /// Its files.
    pub(crate) bundle: Bundle,
}

impl Memory {
    /// The memory in `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        files::make_folder(folder, 0o700)?;
        Ok(Self::at(folder))
    }

    /// Have the folder to oneself for as long as what is returned lives: two agents would number their reports alike,
    /// and a hub would take the one's for the other's.
    ///
    /// # Errors
    /// Another agent has it, or it cannot be opened.
    pub(crate) fn alone(&self) -> io::Result<File> {
        let folder = File::open(&self.folder)?;
        match folder.try_lock() {
            Ok(()) => Ok(folder),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => {
                let why = format!(
                    "another agent keeps its state in {}: give this one a state_dir of its own",
                    self.folder.display()
                );
                Err(io::Error::new(io::ErrorKind::AddrInUse, why))
            }
        }
    }

    /// The memory in `folder`, to read from.
    pub(crate) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The last good spec, where there is one.
    pub(crate) fn last_good(&self) -> Option<LastGood> {
        self.read("last-good", SPEC_CAP)
    }

    /// Keep this as the last good spec.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn keep_last_good(&self, spec: &LastGood) -> io::Result<()> {
        self.write("last-good", spec)
    }

    /// What was off, and since when.
    pub(crate) fn open_items(&self) -> OpenItems {
        self.read("open", OPEN_CAP).unwrap_or_default()
    }

    /// Keep this as what is off.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn keep_open_items(&self, open: &OpenItems) -> io::Result<()> {
        self.write("open", open)
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, name: &str, cap: usize) -> Option<T> {
        let path = self.folder.join(name);
        let content = match sealed::read(&path, cap) {
            Ok(Sealed::Whole(content)) => content,
            Ok(Sealed::Missing) => return None,
            Ok(Sealed::Broken) => {
                sealed::move_aside(&path);
                return None;
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "cannot be read; going on without it");
                return None;
            }
        };
        let read = serde_json::from_slice(&content);
        // Whole and not understood: another version wrote it.
        read.inspect_err(|_| sealed::move_aside(&path)).ok()
    }

    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        sealed::write(&self.folder.join(name), &serde_json::to_vec(value)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    #![expect(clippy::disallowed_methods, reason = "tests break files on purpose")]
    use super::{LastGood, Memory};
    use crate::enforce::ledger::Open;
    use evenkeel_report::Timestamp;
    use evenkeel_spec::{Bundle, Entry};

    fn good() -> LastGood {
        let mut bundle = Bundle::default();
        bundle.files.insert("fleet.yaml".into(), Entry::File(b"version: 1\n".to_vec()));
        LastGood { place: "git+file:///x".into(), branch: "main".into(), commit: "3f2c".into(), bundle }
    }

    #[test]
    fn the_last_good_spec_and_the_open_items_outlive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::open(&folder.path().join("state")).unwrap();
        assert_eq!(memory.last_good(), None);
        memory.keep_last_good(&good()).unwrap();
        let open =
            [("sysctl/a.b".to_owned(), Open { since: Timestamp::from_unix_ms(1_000).unwrap(), attempts: 2 })];
        memory.keep_open_items(&open.clone().into()).unwrap();
        let again = Memory::at(&folder.path().join("state"));
        assert_eq!(again.last_good(), Some(good()));
        assert_eq!(again.open_items(), open.into());
    }

    #[test]
    fn two_agents_do_not_share_a_memory() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::open(folder.path()).unwrap();
        let held = memory.alone().unwrap();
        assert!(memory.alone().unwrap_err().to_string().contains("state_dir of its own"));
        drop(held);
        memory.alone().unwrap();
    }

    #[test]
    fn a_damaged_memory_is_moved_aside_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::open(folder.path()).unwrap();
        memory.keep_last_good(&good()).unwrap();
        let path = folder.path().join("last-good");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert_eq!(memory.last_good(), None);
        assert!(!path.exists());
        assert_eq!(
            std::fs::read(folder.path().join("last-good.corrupt")).unwrap(),
            &bytes[..bytes.len() - 3]
        );
        memory.keep_last_good(&good()).unwrap();
        assert_eq!(memory.last_good(), Some(good()));
    }

    #[test]
    fn a_whole_file_of_another_version_is_moved_aside_too() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::open(folder.path()).unwrap();
        crate::sealed::write(&folder.path().join("open"), b"[\"what\"]").unwrap();
        assert!(memory.open_items().is_empty());
        assert!(folder.path().join("open.corrupt").exists());
    }
}
