//! Folders of the fake node: what lies in them, below mounts and in mounts.

use super::FakeNode;
use crate::{FolderQuestion, FolderSeen, Inside};
use std::path::Path;
use std::time::Duration;

/// A folder that nobody has said anything of.
#[must_use]
pub fn root_folder() -> Inside {
    let took = Duration::from_millis(1);
    Inside {
        uid: 0,
        owner: Some("root".into()),
        gid: 0,
        group: Some("root".into()),
        mode: 0o755,
        sentinel: None,
        empty: false,
        took,
        write: None,
    }
}

impl FakeNode {
    pub(super) fn look_into(&self, question: &FolderQuestion) -> FolderSeen {
        if let Some(silent) = self.silent.get(&question.folder) {
            return silent.clone();
        }
        let seen = self.insides.get(&question.folder).cloned().unwrap_or_else(root_folder);
        let sentinel = question.sentinel.as_ref().map(|_| seen.sentinel.unwrap_or(true));
        let write = question.write.then(|| seen.write.clone().unwrap_or(Ok(())));
        FolderSeen::Answers(Inside { sentinel, write, ..seen })
    }

    pub(super) fn own(&mut self, path: &Path, owner: Option<&str>, group: Option<&str>, mode: Option<u32>) {
        let root = || ("root".to_owned(), "root".to_owned(), 0o644);
        if self.files.contains_key(path) {
            let held = self.owned.entry(path.to_owned()).or_insert_with(root);
            held.0 = owner.map_or_else(|| held.0.clone(), str::to_owned);
            held.1 = group.map_or_else(|| held.1.clone(), str::to_owned);
            held.2 = mode.unwrap_or(held.2);
            return;
        }
        let inside = self.insides.entry(path.to_owned()).or_insert_with(root_folder);
        inside.owner = owner.map(str::to_owned).or(inside.owner.take());
        inside.group = group.map(str::to_owned).or(inside.group.take());
        inside.mode = mode.unwrap_or(inside.mode);
    }

    pub(super) fn set_immutable(&mut self, path: &Path, on: bool) {
        self.covered.entry(path.to_owned()).or_default().immutable = Some(on);
    }

    pub(super) fn seed(&mut self, path: &Path) {
        let inside = self.insides.entry(path.to_owned()).or_insert_with(root_folder);
        inside.empty = false;
    }
}
