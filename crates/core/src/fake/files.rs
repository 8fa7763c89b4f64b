//! Files of the fake node, with their owners.

use super::FakeNode;
use crate::{Fault, FileSeen, Secret, Sensor};
use std::path::Path;

impl FakeNode {
    pub(super) fn see_file(&self, path: &Path) -> Option<FileSeen> {
        let real = self.follow(path);
        let text = self.files.get(&real)?;
        let root = || ("root".to_owned(), "root".to_owned(), 0o644);
        let (owner, group, mode) = self.owned.get(&real).cloned().unwrap_or_else(root);
        Some(FileSeen { text: Secret::new(text), owner, group, mode })
    }

    /// Strict where the real one is: no folder is made, no user is made up, and a symlink is not replaced.
    pub(super) fn put_file(
        &mut self,
        path: &Path,
        text: &Secret,
        (owner, group): (Option<&str>, Option<&str>),
        mode: Option<u32>,
    ) -> Result<(), Fault> {
        let above = path.parent().map(|above| self.resolve(above)).transpose()?.flatten();
        if above.as_deref() != path.parent() || self.links.contains_key(path) {
            return Err(Fault::new(format!(
                "put {}: its folder is not there, or a symlink is",
                path.display()
            )));
        }
        if owner.is_some_and(|name| self.user(name).ok().flatten().is_none())
            || group.is_some_and(|name| self.group(name).ok().flatten().is_none())
        {
            return Err(Fault::new(format!("put {}: nobody is called so", path.display())));
        }
        self.files.insert(path.to_owned(), text.reveal().to_owned());
        self.own(path, owner, group, mode);
        Ok(())
    }

    pub(super) fn keep_before(&mut self, path: &Path) {
        if let Some(text) = self.files.get(path) {
            self.before.entry(path.to_owned()).or_insert_with(|| text.clone());
        }
    }
}
