//! What waits to be told, as rows and as one trait: news, messages on their way, silences, and what stands while it is
//! not a node's own word (a node that is silent, an invariant that is broken).
//!
//! News is written in the transaction of the change that it tells of. Which sink hears of it, and together with what,
//! is decided in `tell`, without SQL; a store keeps and finds rows. Any number of hubs may share them: news is sorted
//! by one hub at a time, and a message is lent to the hub that sends it for as long as a try may take.

use super::Result;
use evenkeel_report::Drift;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What news is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// An item that is off, or is again as it should be.
    Item,
    /// An item that was off and was put right within one pass.
    Repair,
    /// A node that is silent, or is back.
    Node,
    /// A commit that a node refused, or refuses no more.
    Commit,
    /// An invariant across nodes that is broken, or is whole again.
    Invariant,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 5] = [Self::Item, Self::Repair, Self::Node, Self::Commit, Self::Invariant];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Item => "item",
            Self::Repair => "repair",
            Self::Node => "node",
            Self::Commit => "commit",
            Self::Invariant => "invariant",
        }
    }
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing: what was put right, what waits for its moment.
    Info,
    /// Not as it should be.
    Warning,
    /// Not as it should be, and nothing puts it right: errors, refused commits, silent nodes.
    Critical,
}

impl Severity {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct News {
    /// What it is about.
    pub topic: Topic,
    /// Whether something began to be off; else it is over.
    pub open: bool,
    /// How bad it is, or was.
    pub severity: Severity,
    /// The node's name; empty for an invariant.
    pub node: String,
    /// The node's source; empty for an invariant.
    pub source: String,
    /// Its tier.
    pub tier: String,
    /// The item; the fact and the item of an invariant; else empty.
    pub item: String,
    /// A status word, `silent`, `refused` or `broken`.
    pub status: String,
    /// Why it stands so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Drift>,
    /// Where the spec says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_at: Option<String>,
    /// The commit in force, or the one that was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Since when it is or was off (unix ms).
    pub since: i64,
    /// When the hub learned it (unix ms).
    pub at: i64,
}

impl News {
    /// What it is about, so that an end finds its beginning.
    #[must_use]
    pub fn subject(&self) -> String {
        let who = if self.source.is_empty() { &self.tier } else { &self.source };
        format!("{} {who} {}", self.topic.word(), self.item)
    }
}

/// News as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewsRow {
    /// Its key; a later one is larger.
    pub id: i64,
    /// Before this (unix ms) nobody looks at it: it is silenced until then.
    pub due: i64,
    /// What happened.
    pub news: News,
}

/// How a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// To be sent.
    Waiting,
    /// Sent.
    Done,
    /// Given up.
    Failed,
    /// Never done: it is sent again and again, with what stands at the time.
    Standing,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Done, Self::Failed, Self::Standing];

    /// Its word in the store.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Standing => "standing",
        }
    }

    /// The state of that word; what is no word waits.
    #[must_use]
    pub fn read(word: &str) -> Self {
        Self::ALL.into_iter().find(|one| one.word() == word).unwrap_or(Self::Waiting)
    }
}

/// A message for one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id, by which a receiver knows that it had it.
    pub id: String,
    /// The sink's name.
    pub sink: String,
    /// What it gathers: news of the same group joins it until it is first tried.
    pub grp: String,
    /// How it stands.
    pub state: State,
    /// When it was made (unix ms).
    pub first: i64,
    /// When it is tried next (unix ms).
    pub next: i64,
    /// How often it was tried.
    pub tries: u32,
    /// What is told, JSON; of a standing message what it told last.
    pub body: String,
    /// What went wrong last; empty where nothing did.
    pub error: String,
}

/// Something that the hub itself found, and has told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What was told when it began; `since` is in it.
    pub news: News,
}

/// A silence, or a waiver: the same to the hub, and another word to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// What it is called in lists.
    pub id: String,
    /// Whether it is a waiver: what is off may stay so until then.
    pub waiver: bool,
    /// A glob over tiers.
    pub tier: String,
    /// A glob over names of nodes.
    pub node: String,
    /// A glob over items.
    pub item: String,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// When it was made (unix ms).
    pub made: i64,
    /// When it ends (unix ms).
    pub until: i64,
    /// Who ended it before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
}

impl Silence {
    /// The same, ended at `at` (unix ms).
    #[must_use]
    pub fn ended(self, at: i64, by: &str) -> Self {
        Self { until: at, ended_by: Some(by.to_owned()), ..self }
    }
}

/// What one round of sorting looks at.
#[derive(Debug, Default)]
pub struct Desk {
    /// News that is due, and older news of the same subjects that is held back; oldest first.
    pub news: Vec<NewsRow>,
    /// Messages that were not tried yet.
    pub open: Vec<Message>,
    /// Silences that have not ended.
    pub silences: Vec<Silence>,
    /// What the hub itself found before, by its subject.
    pub standing: BTreeMap<String, Standing>,
}

/// What it decides.
#[derive(Debug, Default)]
pub struct Sorted {
    /// News that is settled.
    pub gone: Vec<i64>,
    /// News that is held back until then (unix ms).
    pub held: Vec<(i64, i64)>,
    /// Messages to be made, or to be written anew by their ids.
    pub put: Vec<Message>,
    /// What the hub found, by its subject.
    pub found: Vec<(String, Standing)>,
    /// What is over.
    pub over: Vec<String>,
}

impl Sorted {
    /// Whether nothing is to be kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gone.is_empty()
            && self.held.is_empty()
            && self.put.is_empty()
            && self.found.is_empty()
            && self.over.is_empty()
    }
}

/// How many messages of a sink are in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The sink.
    pub sink: String,
    /// The state.
    pub state: State,
    /// How many.
    pub count: i64,
    /// When the oldest was made (unix ms).
    pub oldest: i64,
    /// How many of them were tried and not taken.
    pub tried: i64,
}

/// What is kept of telling. Every call is whole: it is on the disk when it returns, or nothing of it ever is.
pub trait Telling: Send + Sync {
    /// Sorts up to `most` pieces of news that are due at `now` (unix ms), in one transaction; no two hubs at once: one
    /// that comes second is told `false` and nothing was done.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    fn sort(&self, now: i64, most: usize, work: &mut dyn FnMut(Desk) -> Sorted) -> Result<bool>;
    /// Makes a message, unless there is one of its id.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn ensure(&self, message: &Message) -> Result<()>;
    /// Lends up to `most` messages of these sinks that are due at `now`; they are due again at `until` (unix ms), and
    /// each has one more try.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn claim(&self, sinks: &[String], now: i64, until: i64, most: usize) -> Result<Vec<Message>>;
    /// Keeps how a lent message stands after its try, unless somebody else has tried it since; whether it was kept.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn settle(&self, message: &Message, tried: u32) -> Result<bool>;
    /// Forgets messages that are no standing ones and were made before `before` (unix ms), and silences that ended
    /// before it.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn forget(&self, before: i64) -> Result<()>;
    /// Up to `limit` messages, those that wait first, then the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn messages(&self, limit: usize) -> Result<Vec<Message>>;
    /// How many messages there are, by sink and state.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn tallies(&self) -> Result<Vec<Tally>>;
    /// Silences that end after `now` (unix ms), by their end.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn silences(&self, now: i64) -> Result<Vec<Silence>>;
}
