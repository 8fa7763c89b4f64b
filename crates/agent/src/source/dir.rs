//! A folder as a source: for trying things, for tests, and for whoever brings the files by other means.
//!
//! Its commit is a hash over the files. Symlinks are not followed; they are handed on as what they are.

use super::{FILES_CAP, FetchError, Fetched, TOTAL_CAP};
use evenkeel_host::files::{self, TreeEntry};
use evenkeel_spec::{Bundle, Entry};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::Path;

/// Read the folder, unless it still is what `known` is the hash of.
pub(super) fn fetch(folder: &Path, known: Option<&str>) -> Result<Option<Fetched>, FetchError> {
    let doing = || format!("read the spec folder {}", folder.display());
    let tree = files::read_tree(folder, &evenkeel_spec::wants_path, Bundle::FILE_CAP)
        .map_err(|error| FetchError::from(doing(), error))?;
    let mut bundle = Bundle::default();
    let mut total = 0;
    for (path, entry) in tree {
        let entry = match entry {
            TreeEntry::File(bytes) => Entry::File(bytes),
            TreeEntry::Link(target) => Entry::Link(target),
            TreeEntry::TooBig(bytes) => Entry::TooBig(bytes),
            TreeEntry::Other(what) => Entry::Other(what),
        };
        if let Entry::File(bytes) = &entry {
            total += bytes.len() as u64;
        }
        bundle.files.insert(path, entry);
        if total > TOTAL_CAP || bundle.files.len() > FILES_CAP {
            return Err(FetchError::new(format!("{}: {}", doing(), super::too_much())));
        }
    }
    let commit = hash(&bundle);
    Ok((known != Some(commit.as_str())).then_some(Fetched { bundle, commit }))
}

/// `sha256:` over paths and contents, each with its length, so that no two trees read alike.
fn hash(bundle: &Bundle) -> String {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for (path, entry) in &bundle.files {
        field(path.as_bytes());
        match entry {
            Entry::File(bytes) => {
                field(b"file");
                field(bytes);
            }
            Entry::Link(target) => {
                field(b"link");
                field(target.as_bytes());
            }
            Entry::TooBig(bytes) => {
                field(b"big");
                field(&bytes.to_le_bytes());
            }
            Entry::Other(what) => {
                field(b"other");
                field(what.as_bytes());
            }
        }
    }
    hash.finalize().iter().fold("sha256:".to_owned(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    #![expect(clippy::disallowed_methods, reason = "tests write folders to read")]
    use super::fetch;
    use evenkeel_spec::Entry;

    #[test]
    fn a_folder_is_read_once_and_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("fleet.yaml", "version: 1\n");
        put("tiers/db.yaml", "version: 1\n");
        put("README.md", "not ours");
        std::os::unix::fs::symlink("/etc/shadow", folder.path().join("nodes.yaml")).unwrap();
        std::fs::create_dir_all(folder.path().join("nodes")).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", folder.path().join("nodes/a.yaml")).unwrap();
        let first = fetch(folder.path(), None).unwrap().unwrap();
        let names: Vec<&str> = first.bundle.files.keys().map(String::as_str).collect();
        assert_eq!(names, ["fleet.yaml", "nodes/a.yaml", "tiers/db.yaml"]);
        assert_eq!(first.bundle.files["nodes/a.yaml"], Entry::Link("/etc/shadow".into()));
        assert!(fetch(folder.path(), Some(&first.commit)).unwrap().is_none());
        put("tiers/db.yaml", "version: 1\nmode: audit\n");
        let second = fetch(folder.path(), Some(&first.commit)).unwrap().unwrap();
        assert_ne!(first.commit, second.commit);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_it() {
        let error = fetch(std::path::Path::new("/nonexistent/spec"), None).err().unwrap();
        assert!(evenkeel_core::chain(&error).contains("/nonexistent/spec"));
    }
}
