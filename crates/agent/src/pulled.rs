//! What the pulling loop tells the enforcing one: one value that always says the whole of it.

use evenkeel_core::{Goal, Identity, Mode, Spec};
use evenkeel_report::{SpecState, Sync};
use std::sync::Arc;
use tokio::time::Instant;

/// How pulling stands.
#[derive(Clone, Default)]
pub(crate) struct Pulled {
    /// Where it is pulled from, without credentials.
    pub(crate) place: String,
    /// The branch.
    pub(crate) branch: String,
    /// The newest commit seen.
    pub(crate) target: Option<String>,
    /// When the source was last reached.
    pub(crate) reached: Option<Instant>,
    /// Why it could not be reached just now.
    pub(crate) trouble: Option<String>,
    /// Why the newest commit was refused, one error a line.
    pub(crate) refused: Vec<String>,
    /// The spec to keep: the newest good one.
    pub(crate) spec: Option<Arc<Adopted>>,
}

/// A spec in force.
pub(crate) struct Adopted {
    /// Its commit.
    pub(crate) commit: String,
    /// Who this node is in it.
    pub(crate) identity: Identity,
    /// The node's mode.
    pub(crate) mode: Mode,
    /// One goal for every kind, in the order they are applied.
    pub(crate) goals: Vec<Arc<dyn Goal>>,
    /// Read from the agent's memory and not from the source.
    pub(crate) remembered: bool,
}

impl Adopted {
    /// The spec at `commit`.
    pub(crate) fn new(commit: String, spec: Spec, remembered: bool) -> Self {
        let goals = spec.goals.into_iter().map(Arc::from).collect();
        Self { commit, identity: spec.identity, mode: spec.mode, goals, remembered }
    }
}

impl Pulled {
    /// As it is told. `settled` says whether every section of the spec in force was looked at.
    pub(crate) fn state(&self, settled: bool, now: Instant) -> SpecState {
        let observed = self.spec.as_ref().map(|spec| spec.commit.clone());
        let sync = match (&self.target, &observed) {
            (None, _) => Sync::Unknown,
            _ if !self.refused.is_empty() => Sync::Failed,
            (target, observed) if target != observed => Sync::OutOfSync,
            _ if !settled => Sync::Progressing,
            _ => Sync::Synced,
        };
        let trouble = self.trouble.iter().map(|why| format!("source: {why}"));
        SpecState {
            repo: self.place.clone(),
            branch: self.branch.clone(),
            target_commit: self.target.clone(),
            observed_commit: observed,
            signer: None,
            age_s: self.reached.map(|at| now.saturating_duration_since(at).as_secs()),
            sync,
            errors: self.refused.iter().cloned().chain(trouble).collect(),
        }
    }
}
