//! Files of the fake node, with their owners.

use super::FakeNode;
use crate::{Fault, FileSeen, Secret, Sensor};
use std::path::{Path, PathBuf};

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
        let real = self.place_of(path);
        if self.resolve(&real)?.is_none() || self.links.contains_key(&real) {
            let why = "its folder is not there, or a symlink is in its place";
            return Err(Fault::from(format!("put {}", path.display()), why));
        }
        if owner.is_some_and(|name| self.user(name).ok().flatten().is_none())
            || group.is_some_and(|name| self.group(name).ok().flatten().is_none())
        {
            return Err(Fault::new(format!("put {}: nobody is called so", path.display())));
        }
        self.files.insert(real.clone(), text.reveal().to_owned());
        self.own(&real, owner, group, mode);
        Ok(())
    }

    /// Where a name is: its folder with every symlink followed, and not the name itself.
    fn place_of(&self, path: &Path) -> PathBuf {
        match (path.parent(), path.file_name()) {
            (Some(above), Some(name)) => self.follow(above).join(name),
            _ => path.to_owned(),
        }
    }

    pub(super) fn remove_file(&mut self, path: &Path) {
        for path in [path, &self.place_of(path)] {
            self.files.remove(path);
            self.links.remove(path);
            self.owned.remove(path);
        }
    }

    pub(super) fn keep_before(&mut self, path: &Path) {
        if let Some(text) = self.files.get(&self.place_of(path)) {
            self.before.entry(path.to_owned()).or_insert_with(|| text.clone());
        }
    }
}
