//! The pulling loop: it asks the source now and then, reads what comes, and says which spec is in force.
//!
//! A spec is taken whole or not at all. Whatever goes wrong here, the last good one stays in force.

use crate::config::Config;
use crate::memory::{LastGood, Memory};
use crate::pulled::{Adopted, Pulled};
use crate::source::{Fetched, SourceUrl};
use evenkeel_core::Interest;
use evenkeel_host::{OwnWrites, watch::Watcher};
use evenkeel_spec::{NodeError, Repository};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep};

/// How often a folder is looked at although it did not stir, whatever the poll interval says: that asks nobody.
const FOLDER_INTERVAL: Duration = Duration::from_secs(2);

/// How long after a folder stirred it is read.
const SAVING: Duration = Duration::from_millis(50);

/// Why a bundle is not the spec of this node: one error a line.
pub(crate) type Refusal = Vec<String>;

/// Read a bundle into this node's spec. Blocks.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn read(fetched: &evenkeel_spec::Bundle, node: &str) -> Result<evenkeel_core::Spec, Refusal> {
    let lines = |problems: &evenkeel_spec::Problems| -> Refusal {
        problems.0.iter().map(|problem| crate::log::plain(&problem.one_line())).collect()
    };
    let (repository, warnings) =
        Repository::read(fetched, evenkeel_kinds::KINDS).map_err(|problems| lines(&problems))?;
    for warning in lines(&warnings) {
        tracing::warn!("in the spec: {warning}");
    }
    let machine = evenkeel_host::identity::machine_id();
    repository.node(node, machine.as_deref()).map_err(|error| match &error {
        NodeError::Refused(problems) => lines(problems),
        error => vec![crate::log::plain(&evenkeel_core::chain(error))],
    })
}

/// The pulling loop.
pub(crate) struct Puller {
    config: watch::Receiver<Arc<Config>>,
    pulled: watch::Sender<Pulled>,
    /// Somebody asks for a look now.
    asked: mpsc::Receiver<()>,
    memory: Memory,
    /// A folder that is the source, watched.
    watched: Option<(PathBuf, Arc<Watcher>)>,
    /// It stirs.
    stirred: Arc<Notify>,
    /// The newest commit that was read, good or bad, and for whom: it need not be read again.
    seen: Option<(String, SourceUrl, String)>,
}

impl Puller {
    /// A loop that has pulled nothing yet.
    pub(crate) fn new(
        config: watch::Receiver<Arc<Config>>,
        pulled: watch::Sender<Pulled>,
        asked: mpsc::Receiver<()>,
        memory: Memory,
    ) -> Self {
        Self { config, pulled, asked, memory, watched: None, stirred: Arc::default(), seen: None }
    }

    /// Put the last good spec in force, before anything is asked of anybody.
    pub(crate) async fn recall(&mut self) {
        let config = self.config.borrow().clone();
        let (memory, node) = (self.memory.clone(), config.node.clone());
        let recalled = tokio::task::spawn_blocking(move || {
            let good = memory.last_good()?;
            let spec = read(&good.bundle, &node);
            Some((good.place, good.branch, good.commit, spec))
        });
        let Ok(Some((place, branch, commit, spec))) = recalled.await else { return };
        match spec {
            Ok(spec) => {
                // Read once for this source and node, it is not read again when the source still has it.
                self.seen = config
                    .source
                    .clone()
                    .filter(|source| source.place() == place && source.branch() == branch)
                    .map(|source| (commit.clone(), source, config.node.clone()));
                let spec = Some(Arc::new(Adopted::new(commit, spec, true)));
                self.pulled
                    .send_modify(|pulled| *pulled = Pulled { place, branch, spec, ..Pulled::default() });
            }
            Err(refusal) => {
                let why = refusal.first().cloned().unwrap_or_default();
                tracing::warn!("the last good spec is none for this node and version any more: {why}");
            }
        }
    }

    /// Pull until the task is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            self.pull().await;
            let pause = self.pause();
            tokio::select! {
                () = sleep(pause) => {}
                // Several files are seldom saved at the same instant.
                () = self.stirred.notified() => sleep(SAVING).await,
                asked = self.asked.recv() => if asked.is_none() { return },
                changed = self.config.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The poll interval, ±10 %.
    fn pause(&self) -> Duration {
        let config = self.config.borrow();
        let interval = match &config.source {
            Some(SourceUrl::Folder(_)) => config.poll_interval.min(FOLDER_INTERVAL),
            _ => config.poll_interval,
        };
        interval.mul_f64(0.9 + 0.2 * fastrand::f64())
    }

    async fn pull(&mut self) {
        let config = self.config.borrow_and_update().clone();
        let Some(source) = config.source.clone() else { return };
        let watch = self.watch(&source);
        let known = self.known(&source, &config.node);
        let fetch = {
            let (source, config) = (source.clone(), config.clone());
            tokio::task::spawn_blocking(move || {
                // Watched before it is read: nothing is saved in between.
                if let Some((watcher, parts)) = watch {
                    watcher.set(parts);
                }
                source.fetch(&config, known.as_deref())
            })
        };
        match fetch.await {
            Ok(Ok(None)) => self.reached(&source),
            Ok(Ok(Some(fetched))) => {
                self.reached(&source);
                self.take(fetched, source, &config.node).await;
            }
            Ok(Err(error)) => self.trouble(&source, &evenkeel_core::chain(&error)),
            Err(error) => self.trouble(&source, &format!("the fetch fell over: {error}")),
        }
    }

    /// The watch over the folder that is the source now, if it is one, and what is to be watched there. Where that
    /// cannot be, the interval is short.
    fn watch(&mut self, source: &SourceUrl) -> Option<(Arc<Watcher>, Vec<Interest>)> {
        let SourceUrl::Folder(folder) = source else {
            self.watched = None;
            return None;
        };
        if self.watched.as_ref().is_none_or(|(watched, _)| watched != folder) {
            let stirred = self.stirred.clone();
            let watcher = Watcher::start(OwnWrites::default(), move |_| stirred.notify_one());
            self.watched = Some((folder.clone(), Arc::new(watcher)));
        }
        let parts = ["fleet.yaml", "profiles", "tiers", "nodes"].map(|part| folder.join(part));
        let (_, watcher) = self.watched.as_ref()?;
        Some((watcher.clone(), parts.map(Interest::File).into()))
    }

    fn known(&self, source: &SourceUrl, node: &str) -> Option<String> {
        let same = self.seen.as_ref().filter(|(_, from, whom)| from == source && whom == node);
        same.map(|(commit, _, _)| commit.clone())
    }

    fn reached(&self, source: &SourceUrl) {
        let seen =
            self.seen.as_ref().filter(|(_, from, _)| from == source).map(|(commit, _, _)| commit.clone());
        self.pulled.send_modify(|pulled| {
            if pulled.trouble.take().is_some() {
                tracing::info!(source = %source, "the source {source} is reached again");
            }
            pulled.reached = Some(Instant::now());
            (pulled.place, pulled.branch) = (source.place(), source.branch().to_owned());
            if seen.is_some() {
                pulled.target = seen;
            }
        });
    }

    fn trouble(&self, source: &SourceUrl, why: &str) {
        let why = crate::log::plain(why);
        self.pulled.send_modify(|pulled| {
            if pulled.trouble.as_ref() != Some(&why) {
                tracing::warn!(source = %source, "the source gives nothing, what is in force stays so: {why}");
            }
            (pulled.place, pulled.branch) = (source.place(), source.branch().to_owned());
            pulled.trouble = Some(why);
        });
    }

    /// Read what was fetched, and put it in force or say why not.
    async fn take(&mut self, fetched: Fetched, source: SourceUrl, node: &str) {
        let Fetched { bundle, commit } = fetched;
        self.seen = Some((commit.clone(), source.clone(), node.to_owned()));
        let node = node.to_owned();
        let reading = tokio::task::spawn_blocking(move || {
            let spec = read(&bundle, &node);
            (spec, bundle)
        });
        let (spec, bundle) = match reading.await {
            Ok(read) => read,
            Err(error) => {
                let why = vec![format!("reading it fell over, which is an error in evenkeel: {error}")];
                return self.refuse(&commit, why);
            }
        };
        match spec {
            Err(refusal) => self.refuse(&commit, refusal),
            Ok(spec) => {
                let adopted = Arc::new(Adopted::new(commit.clone(), spec, false));
                self.pulled.send_modify(|pulled| {
                    pulled.target = Some(commit.clone());
                    pulled.refused = vec![];
                    pulled.spec = Some(adopted);
                });
                // In force first, kept second: a full disk delays nothing.
                let (place, branch) = (source.place(), source.branch().to_owned());
                self.keep(LastGood { place, branch, commit, bundle }).await;
            }
        }
    }

    fn refuse(&self, commit: &str, refusal: Refusal) {
        let why = refusal.first().cloned().unwrap_or_default();
        let errors = refusal.len();
        tracing::error!(commit, errors, "the newest spec is refused, what is in force stays so: {why}");
        self.pulled.send_modify(|pulled| {
            pulled.target = Some(commit.to_owned());
            pulled.refused = refusal;
        });
    }

    async fn keep(&self, good: LastGood) {
        let memory = self.memory.clone();
        match tokio::task::spawn_blocking(move || memory.keep_last_good(&good)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the spec cannot be kept; a restart will need the source");
            }
            Err(error) => tracing::warn!(%error, "the spec cannot be kept; a restart will need the source"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    #![expect(clippy::disallowed_methods, reason = "tests write folders to pull from")]
    use super::Puller;
    use crate::config::Config;
    use crate::memory::Memory;
    use crate::pulled::Pulled;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::{mpsc, watch};

    struct Rig {
        folder: tempfile::TempDir,
        config: watch::Sender<Arc<Config>>,
        pulled: watch::Receiver<Pulled>,
        ask: mpsc::Sender<()>,
    }

    fn config(folder: &Path, node: &str) -> Arc<Config> {
        let (spec, state) = (folder.join("spec"), folder.join("state"));
        let text = format!("node: {node}\nsource: {}\nstate_dir: {}\n", spec.display(), state.display());
        Arc::new(Config::parse(Path::new("t"), &text, "h", &|_| None).unwrap())
    }

    fn puller(
        folder: &Path,
    ) -> (Puller, watch::Sender<Arc<Config>>, watch::Receiver<Pulled>, mpsc::Sender<()>) {
        let (config, config_rx) = watch::channel(config(folder, "n1"));
        let (pulled_tx, pulled) = watch::channel(Pulled::default());
        let (ask, asked) = mpsc::channel(1);
        let memory = Memory::open(&folder.join("state")).unwrap();
        (Puller::new(config_rx, pulled_tx, asked, memory), config, pulled, ask)
    }

    impl Rig {
        /// A folder with a good spec for `n1`, pulled from by a loop that runs.
        fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(folder.path().join("spec/tiers")).unwrap();
            let (pulling, config, pulled, ask) = puller(folder.path());
            let rig = Self { folder, config, pulled, ask };
            rig.put("fleet.yaml", "version: 1\nfleet: f\nnodes:\n  n1: {tier: db}\n  n2: {tier: db}\n");
            rig.put("tiers/db.yaml", "version: 1\nsysctl:\n  vm.swappiness: 1\n");
            tokio::spawn(pulling.run());
            rig
        }
        fn spec(&self) -> PathBuf {
            self.folder.path().join("spec")
        }
        fn put(&self, path: &str, text: &str) {
            std::fs::write(self.spec().join(path), text).unwrap();
        }
        async fn until(&mut self, holds: impl FnMut(&Pulled) -> bool) -> Pulled {
            let waiting = self.pulled.wait_for(holds);
            tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap().clone()
        }
    }

    fn swappiness(pulled: &Pulled) -> Option<String> {
        let goals = &pulled.spec.as_ref()?.goals;
        let item = goals.iter().find(|goal| goal.kind() == "sysctl")?.items().get("vm.swappiness")?;
        Some(item.fields["value"].to_string())
    }

    #[tokio::test]
    async fn a_good_spec_is_taken_and_kept_and_a_bad_one_changes_nothing() {
        let mut rig = Rig::start();
        let good = rig.until(|pulled| pulled.spec.is_some()).await;
        assert_eq!(swappiness(&good).as_deref(), Some("1"));
        assert_eq!(good.target, Some(good.spec.as_ref().unwrap().commit.clone()));
        rig.put("tiers/db.yaml", "version: 1\nsysctl:\n  vm.swappiness: 2\nbogus: {}\nsysctl: {}\n");
        rig.ask.send(()).await.unwrap();
        let bad = rig.until(|pulled| !pulled.refused.is_empty()).await;
        assert!(bad.refused.len() >= 2, "all of what is wrong is told: {:?}", bad.refused);
        assert!(bad.refused.iter().any(|line| line.starts_with("tiers/db.yaml:4")), "{:?}", bad.refused);
        assert_ne!(bad.target, good.target);
        assert!(Arc::ptr_eq(bad.spec.as_ref().unwrap(), good.spec.as_ref().unwrap()));
        rig.put("tiers/db.yaml", "version: 1\nsysctl:\n  vm.swappiness: 3\n");
        rig.ask.send(()).await.unwrap();
        let next = rig.until(|pulled| pulled.refused.is_empty()).await;
        assert_eq!(swappiness(&next).as_deref(), Some("3"));
        let memory = Memory::at(&rig.folder.path().join("state"));
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while memory.last_good().is_none_or(|kept| Some(kept.commit) != next.target) {
            assert!(std::time::Instant::now() < end, "the good spec is kept");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn the_last_good_spec_is_in_force_before_anybody_is_asked() {
        let mut rig = Rig::start();
        let good = rig.until(|pulled| pulled.spec.is_some()).await;
        let memory = Memory::at(&rig.folder.path().join("state"));
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while memory.last_good().is_none() {
            assert!(std::time::Instant::now() < end, "the good spec is kept");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The source is gone when the agent starts again.
        std::fs::rename(rig.spec(), rig.folder.path().join("away")).unwrap();
        let (mut again, _config, mut pulled, _ask) = puller(rig.folder.path());
        again.recall().await;
        let recalled = pulled.borrow_and_update().clone();
        assert_eq!(swappiness(&recalled).as_deref(), Some("1"));
        assert!(recalled.spec.as_ref().unwrap().remembered && recalled.target.is_none());
        tokio::spawn(again.run());
        let waiting = pulled.wait_for(|pulled| pulled.trouble.is_some());
        let away = tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap().clone();
        assert!(Arc::ptr_eq(away.spec.as_ref().unwrap(), recalled.spec.as_ref().unwrap()));
        assert!(away.trouble.unwrap().contains("spec"));
        // It comes back with what it had: nothing is in force anew.
        std::fs::rename(rig.folder.path().join("away"), rig.spec()).unwrap();
        let waiting = pulled.wait_for(|pulled| pulled.target.is_some());
        let back = tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap().clone();
        assert_eq!((back.target, back.trouble), (good.target, None));
        assert!(Arc::ptr_eq(back.spec.as_ref().unwrap(), recalled.spec.as_ref().unwrap()));
    }

    #[tokio::test]
    async fn a_node_that_nobody_names_keeps_what_it_has_and_says_so() {
        let mut rig = Rig::start();
        let good = rig.until(|pulled| pulled.spec.is_some()).await;
        rig.put("fleet.yaml", "version: 1\nfleet: f\nnodes:\n  n2: {tier: db}\n");
        rig.ask.send(()).await.unwrap();
        let dropped = rig.until(|pulled| !pulled.refused.is_empty()).await;
        assert!(dropped.refused[0].contains("n1"), "{:?}", dropped.refused);
        assert!(Arc::ptr_eq(dropped.spec.as_ref().unwrap(), good.spec.as_ref().unwrap()));
        // Another name in the configuration is another question, though the commit is the same.
        rig.config.send_replace(config(rig.folder.path(), "n2"));
        let other = rig.until(|pulled| pulled.refused.is_empty()).await;
        assert_eq!(other.spec.unwrap().identity.name, "n2");
    }
}
