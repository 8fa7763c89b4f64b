//! A report and a heartbeat: the two things an agent tells.

use crate::{Counts, Item, Mode, Sync};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Node {
    /// Its name in the fleet.
    pub name: String,
    /// Its tier; empty while the node is in no tier.
    #[serde(default)]
    pub tier: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The kernel's id of this boot.
    #[serde(default)]
    pub boot_id: String,
}

/// The program that speaks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Agent {
    /// Its version.
    pub version: String,
}

/// A report's number. Sent twice it is stored once; a gap in `n` is a report that never came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Seq {
    /// New whenever the agent's memory is.
    pub epoch: u64,
    /// Counts up by one from 1.
    pub n: u64,
}

/// Why a pass was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The slow timer.
    Interval,
    /// Something was seen to change on the node.
    Drift,
    /// A new commit.
    Commit,
    /// Somebody asked.
    Asked,
    /// The agent started.
    Start,
}

/// One pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pass {
    /// A UUID, version 7.
    pub id: String,
    /// Why it was made.
    pub trigger: Trigger,
    /// The node's mode.
    pub mode: Mode,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// Which spec is in force, and which should be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct SpecState {
    /// Where it is pulled from, without credentials.
    pub repo: String,
    /// The branch.
    pub branch: String,
    /// The newest commit seen.
    pub target_commit: Option<String>,
    /// The commit in force.
    pub observed_commit: Option<String>,
    /// Whose signature it bears.
    pub signer: Option<String>,
    /// Seconds since the source was last reached.
    pub age_s: Option<u64>,
    /// How the two stand.
    pub sync: Sync,
    /// Why the newest commit was refused, one error a line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// Whether a report lists every item or only those that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every item: what is not listed is not kept any more.
    Full,
    /// Only what changed since the report before.
    Changes,
}

/// What one pass found and did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report {
    /// Who speaks.
    pub node: Node,
    /// The program that speaks.
    pub agent: Agent,
    /// Its number.
    pub seq: Seq,
    /// The pass.
    pub pass: Pass,
    /// Which spec.
    pub spec: SpecState,
    /// Every item, or the changed ones.
    pub scope: Scope,
    /// Over every item of the node, listed here or not.
    pub counts: Counts,
    /// Over every item of the node: [`crate::state_digest`].
    pub state_digest: String,
    /// The items, in the order of their ids.
    pub items: Vec<Item>,
    /// Items that are no longer kept; only with [`Scope::Changes`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
    /// Whether something was cut to fit the caps.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// How the spool stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Spool {
    /// Reports that wait.
    pub waiting: u64,
    /// Reports that were dropped for want of space, since the epoch began.
    pub dropped: u64,
}

/// "I am here, and nothing changed": small, never spooled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Heartbeat {
    /// Who speaks.
    pub node: Node,
    /// The program that speaks.
    pub agent: Agent,
    /// The last report's number.
    pub seq: Seq,
    /// Seconds between heartbeats: what lateness is measured by.
    pub interval_s: u64,
    /// Which spec.
    pub spec: SpecState,
    /// Over every item.
    pub counts: Counts,
    /// Over every item.
    pub state_digest: String,
    /// What waits to be told.
    pub spool: Spool,
    /// Seconds since the last pass ended; a number that only grows means that passes have stalled.
    #[serde(default)]
    pub last_pass_age_s: Option<u64>,
}
