//! The rows: what the hub knows of a node, of an item, of one change. Values only; nothing here reads or writes.

use evenkeel_report::{
    Agent, Change, Counts, Drift, Item, Node, Phase, Seq, SpecState, Spool, Status, Timestamp, Writer,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What comes from a node so soon after it was taken out (ms) was on its way, or another hub's clock is ahead.
pub const ON_ITS_WAY_MS: i64 = 60_000;
/// The status word of an item that is no longer kept.
pub const GONE: &str = "gone";
/// The item under which a node's spec has its history; no real item has an empty id.
pub const SPEC_ITEM: &str = "";

/// The newest thing a node said of itself, by its own count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Voice {
    /// The last report's number.
    pub seq: Seq,
    /// Whether it was a heartbeat, which always speaks after the report of the same number.
    pub beat: bool,
    /// When it was said, by the node's clock (unix ms).
    pub at: i64,
    /// When it was received, by the hub's clock (unix ms).
    pub got: i64,
}

/// The newest heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Beat {
    /// Its event's id.
    pub id: String,
    /// The last report's number.
    pub seq: Seq,
    /// When it was said, by the node's clock (unix ms).
    pub at: i64,
    /// When it was received, by the hub's clock (unix ms).
    pub got: i64,
    /// Seconds between heartbeats.
    pub interval_s: u64,
    /// The spool.
    pub spool: Spool,
    /// Seconds since the last pass ended.
    pub last_pass_age_s: Option<u64>,
}

/// What is known of one node; counts and flags are kept at write time, liveness is not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeDoc {
    /// Who it says it is.
    pub node: Node,
    /// Its agent.
    pub agent: Agent,
    /// First event received (unix ms, the hub's clock).
    pub first_seen: i64,
    /// Last event received (unix ms, the hub's clock).
    pub last_seen: i64,
    /// What decides the fields told by reports and heartbeats alike.
    pub voice: Voice,
    /// The newest heartbeat.
    pub beat: Option<Beat>,
    /// Which spec is in force.
    pub spec: SpecState,
    /// Over every item, as the node told.
    pub counts: Counts,
    /// Over every item, as the node told.
    pub digest_told: String,
    /// Over every item the hub has.
    pub digest_own: String,
    /// Whether the two are equal; nothing while newer reports are known to be on their way.
    pub digest_ok: Option<bool>,
    /// The newest whole full report.
    pub full: Option<Seq>,
    /// The newest full report, cut or not.
    pub full_tried: Option<Seq>,
    /// The newest report received.
    pub top: Option<Seq>,
    /// The smallest epoch ever heard of.
    pub first_epoch: Option<u64>,
    /// By the heartbeats, every report up to this one must have come.
    pub due: Seq,
    /// How many reports of the current epoch never came.
    pub missing: u64,
    /// The boot ids of heartbeats: the newest and the one before.
    pub boots: [String; 2],
    /// When two boot ids last alternated (unix ms, the hub's clock).
    pub alternated: Option<i64>,
    /// When the node last counted backwards (unix ms, the hub's clock).
    pub rewound: Option<i64>,
    /// When its name was last taken out (unix ms, the hub's clock); kept beside it and filled in by a [`super::View`].
    #[serde(skip)]
    pub retired: Option<i64>,
}

impl NodeDoc {
    /// Whether a full report is worth asking for. Not when the newest report already is one: asking again for
    /// what did not help would go on for ever.
    #[must_use]
    pub fn wants_full(&self) -> bool {
        self.digest_ok == Some(false) && self.full_tried != Some(self.voice.seq)
    }

    /// Whether it was taken out and not heard of since ([`ON_ITS_WAY_MS`]): then it owes nothing.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.is_some_and(|at| self.last_seen <= at.saturating_add(ON_ITS_WAY_MS))
    }

    /// The worst status any item has.
    #[must_use]
    pub fn worst(&self) -> Status {
        let some = |status: &&Status| self.counts.of(**status) > 0;
        Status::ALL.iter().rev().find(some).copied().unwrap_or(Status::Compliant).settled()
    }

    /// Seconds between heartbeats; 60 until the node has told.
    #[must_use]
    pub fn interval_s(&self) -> u64 {
        self.beat.as_ref().map_or(60, |beat| beat.interval_s.clamp(1, 86_400))
    }
}

/// A node and its key in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// The store's own number for it.
    pub key: i64,
    /// `urn:uuid:…`.
    pub source: String,
    /// What is known.
    pub doc: NodeDoc,
}

/// What is told with a status; empty parts take no room.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// Why it was repaired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// Where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Why it stands so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is or was off.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Drift>,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer: Option<Writer>,
    /// Where the spec says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared_at: Option<String>,
    /// When it was first seen off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// How many passes have tried.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// What else is known of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// A refused spec: its commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// A refused spec: why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl From<&Item> for Detail {
    fn from(item: &Item) -> Self {
        Self {
            change: item.change,
            phase: item.phase,
            reason: item.reason.clone(),
            drift: item.drift.clone(),
            writer: item.writer.clone(),
            declared_at: item.declared_at.clone(),
            since: item.since,
            attempts: item.attempts,
            facts: item.facts.clone(),
            ..Self::default()
        }
    }
}

/// One item as it stands, and which report said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemRow {
    /// How it stands, settled; `None` is a tombstone: told to be gone, kept so that an older report that comes
    /// late does not bring it back.
    pub status: Option<Status>,
    /// What is told with it.
    pub detail: Detail,
    /// The report that last set it.
    pub seq: Seq,
}

impl ItemRow {
    /// The item as report `seq` leaves it: what a repair put right is history, not state.
    #[must_use]
    pub fn settled(item: &Item, seq: Seq) -> Self {
        let status = item.status.settled();
        let mut detail = Detail::from(item);
        if status <= Status::Compliant {
            let Detail { reason, declared_at, facts, .. } = detail;
            detail = Detail { reason, declared_at, facts, ..Detail::default() };
        }
        if item.status == Status::Repaired {
            detail.reason = None;
        }
        Self { status: Some(status), detail, seq }
    }

    /// What a change of it is measured by.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark::new(self.status.map_or(GONE, Status::word), &self.detail)
    }
}

/// Where an entry of the history stands in its node's own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The report's number, or a heartbeat's.
    pub seq: Seq,
    /// 0 for a report; for a heartbeat its time (unix ms), as many share a number; [`BY_THE_WAY`].
    pub sub: i64,
}

/// The place beside a report's own of what was put right while something worse was left. Such an entry is an event
/// only: no change is measured by it.
pub const BY_THE_WAY: i64 = -1;

/// One change: of an item, or (under [`SPEC_ITEM`]) of the spec in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// Where it stands.
    pub place: Place,
    /// The item.
    pub item: String,
    /// A status word, [`GONE`], or for the spec a sync word.
    pub status: String,
    /// What is told with it.
    pub detail: Detail,
    /// When, by the node's clock (unix ms).
    pub at: i64,
    /// When it was received, by the hub's clock (unix ms).
    pub got: i64,
    /// The commit in force.
    pub commit: Option<String>,
    /// Whether it says what the entry before it says. Echoes are kept, unseen, only while a report between the
    /// two can still come.
    pub echo: bool,
}

impl HistoryRow {
    /// What a change is measured by.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let mut mark = Mark::new(&self.status, &self.detail);
        if self.item == SPEC_ITEM {
            mark.reason.clone_from(&self.commit);
            // A spec that is being fetched, applied or in force is one story; refused and held are others.
            if self.status != "failed" && self.status != "held" {
                "in_force".clone_into(&mut mark.word);
            }
        }
        mark
    }

    /// Whether it tells nothing new after `before`. A repair always does.
    #[must_use]
    pub fn echoes(&self, before: Option<&Mark>) -> bool {
        if self.status == Status::Repaired.word() {
            return false;
        }
        match before {
            Some(before) => *before == self.mark(),
            // What is first heard of and is compliant is no news; that goes for compliant only, or two first
            // words that differ would both pass for the same nothing.
            None if self.item != SPEC_ITEM => self.status == Status::Compliant.word(),
            // Before any report, a heartbeat's spec is news only when something is the matter with it.
            None => self.place.sub != 0 && self.status == "in_force",
        }
    }
}

/// What has to differ between two entries to be a change: never a time, never a count of attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    word: String,
    drift: Vec<Drift>,
    reason: Option<String>,
    phase: Option<Phase>,
    errors: Vec<String>,
}

impl Mark {
    fn new(word: &str, detail: &Detail) -> Self {
        let word = if word == Status::Repaired.word() { Status::Compliant.word() } else { word };
        let quiet = word == Status::Compliant.word();
        let mut drift = if quiet { vec![] } else { detail.drift.clone() };
        drift.sort();
        Self {
            word: word.to_owned(),
            drift,
            reason: if quiet { None } else { detail.reason.clone() },
            phase: detail.phase.filter(|_| !quiet),
            errors: detail.errors.clone(),
        }
    }
}

/// A set of numbers as its runs, sorted and never touching: compact however many reports came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// From runs in any order.
    #[must_use]
    pub fn new(mut runs: Vec<(u64, u64)>) -> Self {
        runs.sort_unstable();
        Self(runs)
    }

    /// The runs, first to last, ends included.
    #[must_use]
    pub fn runs(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Whether `n` is in it.
    #[must_use]
    pub fn contains(&self, n: u64) -> bool {
        self.0.iter().any(|&(lo, hi)| lo <= n && n <= hi)
    }

    /// Puts `n` in; the starts of the runs that went, and the run that came. `n` must not be in it yet.
    pub fn insert(&mut self, n: u64) -> (Vec<u64>, (u64, u64)) {
        let touches = |&(lo, hi): &(u64, u64)| hi.checked_add(1) == Some(n) || n.checked_add(1) == Some(lo);
        let (joined, mut rest): (Vec<_>, Vec<_>) = self.0.iter().copied().partition(touches);
        let run = joined.iter().fold((n, n), |run, &(lo, hi)| (run.0.min(lo), run.1.max(hi)));
        rest.push(run);
        *self = Self::new(rest);
        (joined.into_iter().map(|(lo, _)| lo).collect(), run)
    }

    /// Up to which number nothing is missing, counting from 1.
    #[must_use]
    pub fn frontier(&self) -> u64 {
        self.0.first().filter(|&&(lo, _)| lo <= 1).map_or(0, |&(_, hi)| hi)
    }

    /// The runs that are missing between `lo` and `hi`, ends included.
    #[must_use]
    pub fn missing(&self, lo: u64, hi: u64) -> Vec<(u64, u64)> {
        let mut next = lo;
        let mut holes = vec![];
        for &(run_lo, run_hi) in &self.0 {
            if run_lo > hi {
                break;
            }
            if next < run_lo {
                holes.push((next, run_lo - 1));
            }
            next = next.max(run_hi.saturating_add(1));
        }
        if next <= hi {
            holes.push((next, hi));
        }
        holes
    }
}

#[cfg(test)]
mod tests {
    use super::Ranges;

    #[test]
    fn numbers_in_any_order_become_the_same_runs() {
        let mut ranges = Ranges::default();
        for n in [5, 1, 7, 6, 2, 9] {
            ranges.insert(n);
        }
        assert_eq!(ranges.runs(), [(1, 2), (5, 7), (9, 9)]);
        assert_eq!(ranges.missing(1, 11), [(3, 4), (8, 8), (10, 11)]);
        assert_eq!(ranges.missing(5, 7), []);
        assert_eq!(ranges.frontier(), 2);
    }

    #[test]
    fn a_number_between_two_runs_joins_them() {
        let mut ranges = Ranges::new(vec![(5, 7), (1, 3)]);
        assert_eq!(ranges.insert(4), (vec![1, 5], (1, 7)));
        assert_eq!(ranges.runs(), [(1, 7)]);
    }

    #[test]
    fn the_largest_number_does_not_overflow() {
        let most = u64::try_from(i64::MAX).unwrap_or_default();
        let mut ranges = Ranges::default();
        ranges.insert(most);
        ranges.insert(1);
        assert!(ranges.contains(most));
        assert_eq!(ranges.missing(1, most), [(2, most - 1)]);
        ranges.insert(u64::MAX);
        assert!(ranges.contains(u64::MAX));
    }
}
