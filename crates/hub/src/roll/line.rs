//! One node's line: what is counted and filtered by, made from its document.

use crate::liveness::{CLONE_MS, HubTimes, flags, liveness};
use crate::store::NodeDoc;
use evenkeel_report::{Liveness, Seq, Status, Sync};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

/// What is known of one node, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The store's own number for it.
    pub key: i64,
    /// Its name.
    pub name: Arc<str>,
    /// `urn:uuid:…`.
    pub source: Arc<str>,
    /// Its tier; empty where it has none.
    pub tier: Arc<str>,
    /// Last event received (unix ms, the hub's clock).
    pub last_seen: i64,
    /// Seconds between heartbeats.
    pub interval_s: u64,
    /// The worst status of any item.
    pub worst: Status,
    /// How many items are pending, non-compliant, in error.
    pub open: [u32; 3],
    /// How many items it has.
    pub items: u32,
    /// How its spec stands.
    pub sync: Sync,
    /// The commit in force.
    pub commit: Option<Arc<str>>,
    /// The newest commit it has seen.
    pub target: Option<Arc<str>>,
    /// The repository and the branch that it follows.
    pub follows: Arc<str>,
    /// Which spec it refused, and why, as a hash; nothing where it refused none.
    pub refused: Option<u64>,
    /// Whether heartbeats come and passes do not.
    pub stalled: bool,
    /// Whether the hub's digest is another.
    pub unproved: bool,
    /// Whether it was taken out and not heard of since.
    pub retired: bool,
    /// When two boot ids last alternated (unix ms, the hub's clock).
    alternated: Option<i64>,
    /// The newest thing it said, to tell which of two lines is the older.
    said: (Seq, bool),
}

/// The open statuses, as [`Line::open`] counts them.
pub(crate) const OPEN: [Status; 3] = [Status::Pending, Status::NonCompliant, Status::Error];

impl Line {
    /// The line of a document.
    #[must_use]
    pub fn new(key: i64, source: &str, doc: &NodeDoc) -> Self {
        let spec = &doc.spec;
        let refused = (spec.sync == Sync::Failed || !spec.errors.is_empty()).then(|| {
            let mut hash = DefaultHasher::new();
            (&spec.target_commit, &spec.observed_commit, &spec.errors).hash(&mut hash);
            hash.finish()
        });
        Self {
            key,
            name: doc.node.name.as_str().into(),
            source: source.into(),
            tier: doc.node.tier.as_str().into(),
            last_seen: doc.last_seen,
            interval_s: doc.interval_s(),
            worst: doc.worst(),
            open: OPEN.map(|status| doc.counts.of(status)),
            items: Status::ALL.iter().fold(0, |sum: u32, status| sum.saturating_add(doc.counts.of(*status))),
            sync: spec.sync,
            commit: spec.observed_commit.as_deref().map(Into::into),
            target: spec.target_commit.as_deref().map(Into::into),
            follows: format!("{} {}", spec.repo, spec.branch).into(),
            refused,
            // Of a moment before the two could have alternated: that flag is judged when somebody asks.
            stalled: flags(doc, i64::MIN / 2).contains(&"stalled"),
            unproved: doc.digest_ok == Some(false),
            retired: doc.is_retired(),
            alternated: doc.alternated,
            said: (doc.voice.seq, doc.voice.beat),
        }
    }

    /// Whether it is heard of.
    #[must_use]
    pub fn liveness(&self, times: HubTimes) -> Liveness {
        if self.retired {
            return Liveness::Decommissioned;
        }
        liveness(Some(self.last_seen), self.interval_s, times)
    }

    /// Whether two machines speak under its identity.
    #[must_use]
    pub fn cloned(&self, now: i64) -> bool {
        self.alternated.is_some_and(|at| now.saturating_sub(at) < CLONE_MS)
    }

    /// How bad it is, worst last; 0 for a node that is even or was taken out. Says the same as the sentence on the node's page.
    #[must_use]
    pub fn severity(&self, times: HubTimes) -> u8 {
        if self.retired {
            return 0;
        }
        let [pending, non_compliant, error] = self.open;
        let quiet = matches!(self.liveness(times), Liveness::Silent | Liveness::Missing);
        let no_spec = self.sync == Sync::Unknown && self.commit.is_none();
        let all = [
            (6, error > 0),
            (5, self.sync == Sync::Failed),
            (4, quiet),
            (3, non_compliant > 0 || self.stalled || self.cloned(times.now)),
            (2, pending > 0 || self.sync == Sync::OutOfSync),
            (1, no_spec || self.unproved),
        ];
        all.into_iter().find(|(_, raised)| *raised).map_or(0, |(how, _)| how)
    }

    /// Whether nothing about it wants somebody's eye.
    #[must_use]
    pub fn even(&self, times: HubTimes) -> bool {
        self.severity(times) == 0
    }

    /// How many items want somebody's eye.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        (self.last_seen, self.said) < (other.last_seen, other.said)
    }

    /// Whether both look alike on a page, but for when the node was heard of.
    pub(super) fn shows_as(&self, other: &Self) -> bool {
        let Self { last_seen, interval_s, said, .. } = *other;
        Self { last_seen, interval_s, said, ..self.clone() } == *other
    }
}

/// Strings that many lines have in common, each kept once.
#[derive(Debug, Default)]
pub(super) struct Strings {
    all: HashSet<Arc<str>>,
    sweep_at: usize,
}

impl Strings {
    /// The same line with its common strings shared.
    pub(super) fn share(&mut self, line: Line) -> Line {
        if self.all.len() >= self.sweep_at {
            self.all.retain(|text| Arc::strong_count(text) > 1);
            self.sweep_at = self.all.len() * 2 + 1024;
        }
        let tier = self.one(line.tier);
        let commit = line.commit.map(|text| self.one(text));
        let target = line.target.map(|text| self.one(text));
        let follows = self.one(line.follows);
        Line { tier, commit, target, follows, ..line }
    }

    fn one(&mut self, text: Arc<str>) -> Arc<str> {
        if let Some(known) = self.all.get(&text) {
            return Arc::clone(known);
        }
        self.all.insert(Arc::clone(&text));
        text
    }
}
