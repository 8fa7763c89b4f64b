//! The pulling loop: it asks the source now and then, reads what comes, and says which spec is in force.
//!
//! A spec is taken whole or not at all. Whatever goes wrong here, the last good one stays in force.

use crate::config::Config;
use crate::memory::{LastGood, Memory};
use crate::pulled::{Adopted, Pulled};
use crate::source::{Fetched, SourceUrl};
use evenkeel_spec::{NodeError, Repository};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

/// How often a folder is looked at, whatever the poll interval says: that asks nobody.
const FOLDER_INTERVAL: Duration = Duration::from_secs(2);

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
        tracing::warn!(warning, "in the spec");
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
        Self { config, pulled, asked, memory, seen: None }
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
                tracing::warn!(why, "the last good spec is none for this node and version any more");
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
        let known = self.known(&source, &config.node);
        let fetch = {
            let (source, config) = (source.clone(), config.clone());
            tokio::task::spawn_blocking(move || source.fetch(&config, known.as_deref()))
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

    fn known(&self, source: &SourceUrl, node: &str) -> Option<String> {
        let same = self.seen.as_ref().filter(|(_, from, whom)| from == source && whom == node);
        same.map(|(commit, _, _)| commit.clone())
    }

    fn reached(&self, source: &SourceUrl) {
        let seen =
            self.seen.as_ref().filter(|(_, from, _)| from == source).map(|(commit, _, _)| commit.clone());
        self.pulled.send_modify(|pulled| {
            if pulled.trouble.take().is_some() {
                tracing::info!(source = %source, "the source is reached again");
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
                tracing::warn!(source = %source, why, "the source gives nothing; what is in force stays so");
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
        tracing::error!(
            commit,
            errors = refusal.len(),
            why,
            "the newest spec is refused; what is in force stays so"
        );
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
