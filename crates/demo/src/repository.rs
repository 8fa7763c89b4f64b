//! The git repository that the nodes follow: a real one, in the demo's folder, made from the adapted example.

use crate::adapt::Tree;
use crate::child::PATH;
use crate::trouble::{Doing, Result, Trouble};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A repository with a work tree.
pub(crate) struct Repository {
    /// Where it is.
    pub(crate) path: PathBuf,
}

/// The example that comes with the sources, if they are still where they were when this was built.
pub(crate) fn example(asked: Option<&Path>) -> Result<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/eden");
    let path = asked.map_or(built, Path::to_owned);
    if path.join("fleet.yaml").is_file() {
        return Ok(path);
    }
    Err(Trouble::told(format!(
        "{} has no fleet.yaml: run this from the sources, or name a spec repository with --spec",
        path.display()
    )))
}

/// The text files below `folder`.
pub(crate) fn read_tree(folder: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).doing(|| format!("read {}", at.display()))? {
            let path = entry.doing(|| format!("read {}", at.display()))?.path();
            let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
            if name == ".git" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
                tree.insert(name, text);
            }
        }
    }
    Ok(tree)
}

impl Repository {
    /// A new repository at `path` with `tree` as its first commit, on `main`.
    pub(crate) fn make(path: &Path, tree: &Tree) -> Result<Self> {
        fs::create_dir_all(path).doing(|| format!("make {}", path.display()))?;
        let repository = Self { path: path.to_owned() };
        repository.git(&["init", "-q", "-b", "main"])?;
        for (name, text) in tree {
            repository.write(name, text)?;
        }
        repository.commit("the example, as this machine can have it")?;
        Ok(repository)
    }

    /// Write a file of the work tree.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path.join(name);
        let doing = || format!("write {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).doing(doing)?;
        }
        fs::write(&path, text).doing(doing)
    }

    /// The files of the work tree.
    pub(crate) fn tree(&self) -> Result<Tree> {
        read_tree(&self.path)
    }

    /// Commit everything; the commit's id.
    pub(crate) fn commit(&self, message: &str) -> Result<String> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "-q", "-m", message])?;
        self.head()
    }

    /// Take back the last commit with another.
    pub(crate) fn revert(&self) -> Result<String> {
        self.git(&["revert", "--no-edit", "HEAD"])?;
        self.head()
    }

    /// The commit that nodes should keep.
    pub(crate) fn head(&self) -> Result<String> {
        self.git(&["rev-parse", "HEAD"])
    }

    fn git(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        command.args([
            "-c",
            "user.name=the demo",
            "-c",
            "user.email=demo@localhost",
            "-c",
            "commit.gpgsign=false",
        ]);
        command
            .args(arguments)
            .current_dir(&self.path)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or(PATH.into()))
            .env("LC_ALL", "C.UTF-8");
        // Nobody's habits: hooks, templates, other default branches.
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", &self.path);
        let output = command.output().doing(|| "run git (package git)".into())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Trouble::told(format!("git {}: {}", arguments.join(" "), said.trim())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Repository, Tree};

    #[test]
    fn a_commit_can_be_taken_back_and_the_history_keeps_both() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::from_iter([("tiers/db.yaml".to_owned(), "version: 1\n".to_owned())]);
        let repository = Repository::make(&folder.path().join("eden"), &tree).unwrap();
        let first = repository.head().unwrap();
        repository.write("tiers/db.yaml", "version: 2\n").unwrap();
        let second = repository.commit("a mistake").unwrap();
        let third = repository.revert().unwrap();
        assert!(first != second && second != third && first != third);
        assert_eq!(repository.tree().unwrap(), tree);
    }
}
