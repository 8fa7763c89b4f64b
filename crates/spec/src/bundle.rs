//! The files of a spec repository at one commit, as a source fetched them. Bytes only: nothing here reads a disk.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The files of a spec repository at one commit.
///
/// It serialises, so that a fetcher in another process can hand it over and the agent can keep it as the last good spec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// What there is, by its path from the repository's root, `/` between the parts.
    pub files: BTreeMap<String, Entry>,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A file and its content.
    File(#[serde(with = "content")] Vec<u8>),
    /// A symlink and where it leads. Refused: what is reviewed must be what is read.
    Link(String),
    /// A file of so many bytes that it was not fetched.
    TooBig(u64),
    /// Anything else (a FIFO, a submodule), in a few words.
    Other(String),
}

impl Bundle {
    /// The most bytes that one file may have.
    pub const FILE_CAP: usize = 256 * 1024;

    /// Add a file; one over [`Self::FILE_CAP`] is noted by its size only.
    pub fn insert_file(&mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        let entry =
            if bytes.len() > Self::FILE_CAP { Entry::TooBig(bytes.len() as u64) } else { Entry::File(bytes) };
        self.files.insert(path.into(), entry);
    }

    /// The content of a file that is there and small enough.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        match self.files.get(path) {
            Some(Entry::File(bytes)) if bytes.len() <= Self::FILE_CAP => Some(bytes),
            _ => None,
        }
    }
}

/// The folders that hold documents.
pub(crate) const FOLDERS: [&str; 3] = ["profiles", "tiers", "nodes"];

/// Which paths a source should fetch: `fleet.yaml`, the YAML below `profiles`, `tiers` and `nodes`, and all below
/// `files` and `trust`.
///
/// The folders' own names are among them, so that one that is a symlink is seen and refused; so is `.yml`, to say
/// that it is not read.
#[must_use]
pub fn wants_path(path: &str) -> bool {
    let (folder, rest) = path.split_once('/').unwrap_or((path, ""));
    if folder == path {
        return matches!(path, "fleet.yaml" | "fleet.yml" | "files" | "trust") || FOLDERS.contains(&path);
    }
    match folder {
        "files" | "trust" => !rest.is_empty(),
        folder => FOLDERS.contains(&folder) && has_suffix(rest, &[".yaml", ".yml"]),
    }
}

/// Exactly so: `.YAML` is another file.
pub(crate) fn has_suffix(path: &str, suffixes: &[&str]) -> bool {
    suffixes.iter().any(|suffix| path.ends_with(suffix))
}

/// Text travels as text, and only what is no UTF-8 as numbers.
mod content {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Wire<T, B> {
        Text(T),
        Raw(B),
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Wire::<&str, &[u8]>::Text(text).serialize(serializer),
            Err(_) => Wire::<&str, &[u8]>::Raw(bytes).serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Ok(match Wire::<String, Vec<u8>>::deserialize(deserializer)? {
            Wire::Text(text) => text.into_bytes(),
            Wire::Raw(bytes) => bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_what_a_spec_is_made_of_is_fetched() {
        for path in
            ["fleet.yaml", "profiles/a.yaml", "tiers/eu/db.yaml", "files/x", "trust/allowed_signers", "tiers"]
        {
            assert!(wants_path(path), "{path}");
        }
        for path in
            ["README.md", "profiles/README.md", "src/fleet.yaml", "files/", "a/tiers/db.yaml", "", "/"]
        {
            assert!(!wants_path(path), "{path}");
        }
    }

    #[test]
    fn a_bundle_comes_back_from_json_as_it_was() {
        let mut bundle = Bundle::default();
        bundle.insert_file("fleet.yaml", "version: 1\n");
        bundle.insert_file("files/raw", [0xff, 0, 1]);
        bundle.insert_file("files/big", vec![b'x'; Bundle::FILE_CAP + 1]);
        bundle.files.insert("tiers/db.yaml".into(), Entry::Link("/etc/passwd".into()));
        let json = serde_json::to_string(&bundle).unwrap();
        assert!(json.contains(r#""version: 1\n""#), "{json}");
        assert_eq!(serde_json::from_str::<Bundle>(&json).unwrap(), bundle);
        assert_eq!(bundle.files["files/big"], Entry::TooBig(262_145));
    }
}
