//! Files of the fake node, with their owners.

use super::FakeNode;
use crate::{FileSeen, Secret};
use std::path::Path;

impl FakeNode {
    pub(super) fn see_file(&self, path: &Path) -> Option<FileSeen> {
        let real = self.follow(path);
        let text = self.files.get(&real)?;
        let root = || ("root".to_owned(), "root".to_owned(), 0o644);
        let (owner, group, mode) = self.owned.get(&real).cloned().unwrap_or_else(root);
        Some(FileSeen { text: Secret::new(text), owner, group, mode })
    }

    pub(super) fn keep_before(&mut self, path: &Path) {
        if let Some(text) = self.files.get(path) {
            self.before.entry(path.to_owned()).or_insert_with(|| text.clone());
        }
    }
}
