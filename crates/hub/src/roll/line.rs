//! One node's line: what is counted and filtered by, made from its document.

use super::cell::Marks;
use crate::liveness::{CLONE_MS, HubTimes, flags};
use crate::store::NodeDoc;
use evenkeel_report::{Liveness, Seq, Status, Sync};
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
    pub(super) alternated: Option<i64>,
    /// The newest thing it said, to tell which of two lines is the older.
    pub(super) said: (Seq, bool),
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
        Marks::from(self).liveness(times)
    }

    /// Whether two machines speak under its identity.
    #[must_use]
    pub fn cloned(&self, now: i64) -> bool {
        self.alternated.is_some_and(|at| now.saturating_sub(at) < CLONE_MS)
    }

    /// How bad it is, worst last; 0 for a node that is even or was taken out. Says the same as the sentence on the node's page.
    #[must_use]
    pub fn severity(&self, times: HubTimes) -> u8 {
        Marks::from(self).severity(self.liveness(times), self.cloned(times.now))
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
