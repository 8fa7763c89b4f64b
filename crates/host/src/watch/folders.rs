//! Watching files, by way of the folders they are in: a file that is replaced is another file.
//!
//! Where the folder is not there yet, the nearest one above it is watched until it is. A path that is a folder itself
//! stands for every file in it.

use super::Waker;
use crate::files::FileState;
use crate::guard::Guard;
use crate::own_writes::OwnWrites;
use crate::{mounting, owned};
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The most paths that may wait to be looked at; beyond it every file is.
const MOST_WAITING: usize = 1024;

/// How often the watches are set anew while folders come and go; enough once nobody races us.
const ARMINGS: usize = 4;

/// The watch over all files.
pub(super) struct Folders {
    own: OwnWrites,
    guard: Guard,
    news: Arc<Mutex<News>>,
    waker: Waker,
    watcher: Option<RecommendedWatcher>,
    /// Each file and how it was last seen.
    files: BTreeMap<PathBuf, Option<FileState>>,
    watched: BTreeSet<PathBuf>,
    trouble: Option<String>,
}

/// What the watcher's own thread has seen.
#[derive(Debug, Default)]
struct News {
    paths: BTreeSet<PathBuf>,
    lost: bool,
}

impl Folders {
    pub(super) fn new(own: OwnWrites, waker: Waker) -> Self {
        let (files, watched) = (BTreeMap::new(), BTreeSet::new());
        let (guard, news) = (Guard::default(), Arc::default());
        Self { own, guard, news, waker, watcher: None, files, watched, trouble: None }
    }

    /// Why some files are looked at by the slow pass only.
    pub(super) fn degraded(&self) -> Option<String> {
        self.trouble.as_ref().map(|why| format!("files: some are looked at by the slow pass only ({why})"))
    }

    /// Watch these, and no others.
    pub(super) fn set(&mut self, files: &BTreeSet<PathBuf>) {
        self.files.retain(|path, _| files.contains(path));
        for path in files.iter().filter(|path| !self.files.contains_key(*path)).collect::<Vec<_>>() {
            let state = if self.is_local(path) { FileState::at(path) } else { None };
            self.files.insert(path.clone(), state);
        }
        self.arm();
    }

    /// Whether nothing on the way to a file can hold whoever touches it, as a share whose server is dead does. The others are
    /// looked at by whoever can be left behind, and by the slow pass.
    fn is_local(&self, path: &Path) -> bool {
        let clear = |path: &Path| owned::is_local(&self.guard, path).unwrap_or(false);
        match path.parent().map(|above| mounting::resolve(&self.guard, above)) {
            Some(Ok(Some(folder))) => clear(&folder) && clear(path),
            Some(Ok(None)) | None => clear(path),
            Some(Err(_)) => false,
        }
    }

    /// Have exactly the folders watched that are needed now.
    fn arm(&mut self) {
        self.trouble = None;
        if self.files.is_empty() {
            self.watcher = None;
            self.watched.clear();
            return;
        }
        if self.watcher.is_none() {
            match start(self.news.clone(), self.waker.clone()) {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(error) => self.trouble = Some(error.to_string()),
            }
            self.watched.clear();
        }
        // A folder may be made between the look for it and the watch on the one above: look again.
        for _ in 0..ARMINGS {
            let needed = self.needed();
            if needed == self.watched {
                break;
            }
            self.watch_only(needed);
        }
    }

    /// The folders that tell of our files as things stand.
    fn needed(&self) -> BTreeSet<PathBuf> {
        let local: Vec<&PathBuf> = self.files.keys().filter(|path| self.is_local(path)).collect();
        let themselves = local.iter().filter(|path| path.is_dir()).map(|path| (*path).clone());
        let around = local.iter().filter_map(|path| nearest_folder(path));
        around.chain(themselves).collect()
    }

    fn watch_only(&mut self, needed: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        self.trouble = None;
        for folder in self.watched.difference(&needed) {
            let _ = watcher.unwatch(folder);
        }
        self.watched.retain(|folder| needed.contains(folder));
        for folder in needed {
            if self.watched.contains(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(folder)),
                Err(error) => self.trouble = Some(format!("{}: {error}", folder.display())),
            }
        }
    }

    /// The files that others have changed since.
    pub(super) fn read(&mut self) -> Vec<PathBuf> {
        let news = std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner));
        if news.paths.is_empty() && !news.lost {
            return vec![];
        }
        let above = |path: &PathBuf| self.files.keys().any(|file| file != path && file.starts_with(path));
        let moved: Vec<&PathBuf> = news.paths.iter().filter(|path| above(path)).collect();
        let look_around = news.lost || !moved.is_empty();
        if look_around {
            // What was watched under this name may be another folder by now.
            for folder in moved.into_iter().filter(|folder| self.watched.remove(*folder)) {
                let _ = self.watcher.as_mut().map(|watcher| watcher.unwatch(folder));
            }
            self.arm();
        }
        let mut changed = vec![];
        let far: BTreeSet<PathBuf> = if look_around {
            self.files.keys().filter(|path| !self.is_local(path)).cloned().collect()
        } else {
            BTreeSet::new()
        };
        for (path, seen) in self.files.iter_mut().filter(|(path, _)| !far.contains(*path)) {
            let within = |news: &&PathBuf| news.parent() == Some(path) && !self.own.is_ours(news);
            let named = news.paths.contains(path) || news.paths.iter().any(|news| within(&news));
            if !named && !look_around {
                continue;
            }
            let state = FileState::at(path);
            let differs = std::mem::replace(seen, state) != state;
            if (named || differs) && !self.own.is_own_file(path, state) {
                changed.push(path.clone());
            }
        }
        changed
    }
}

/// The folder a file is in, or the nearest above it that is there.
fn nearest_folder(path: &Path) -> Option<PathBuf> {
    path.ancestors().skip(1).find(|folder| folder.is_dir()).map(Path::to_owned)
}

fn start(news: Arc<Mutex<News>>, waker: Waker) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let mut news = news.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(event) if is_read(event.kind) => return,
            Ok(event) if event.need_rescan() => news.lost = true,
            Ok(event) => news.paths.extend(event.paths),
            Err(_) => news.lost = true,
        }
        if news.paths.len() > MOST_WAITING {
            *news = News { paths: BTreeSet::new(), lost: true };
        }
        drop(news);
        waker.wake();
    })
}

/// That somebody reads a file, as we do all the time, is no news.
fn is_read(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}
