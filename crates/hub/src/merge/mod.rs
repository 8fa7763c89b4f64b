//! How events become rows: idempotent, and the same whatever order a node's reports come in.
//!
//! Every rule here is a join: of two things said about the same field, the one with the greater number stays,
//! whichever came first. Only "when did the hub last hear of it" depends on the moment of arrival. Across epochs
//! one thing is weaker: an entry of the history is compared with what was known of the older epoch when it came.
//! No SQL, no clock: `now` is handed in.

mod beat;
mod history;
mod items;
pub mod news;
mod report;

pub use beat::beat;
pub use report::report;

use crate::store::telling::News;
use crate::store::{NodeDoc, NodeRow, Ranges, Result, Tx, Voice};
use evenkeel_report::{Agent, Counts, Node, Seq, SpecState, state_digest};

/// Two events of the same number whose times differ by more than this (ms) were not reordered on the way: the
/// node's clock was set back between them, and the later arrival is believed.
const CLOCK_SET_BACK_MS: i64 = 60_000;

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it had been stored before; then nothing was stored now.
    pub duplicate: bool,
    /// Whether the node should send a full report.
    pub want_full: bool,
    /// The node's key.
    pub node: i64,
    /// What people may want to be told.
    pub news: Vec<News>,
}

/// What a report and a heartbeat tell alike.
struct Told<'a> {
    node: &'a Node,
    agent: &'a Agent,
    spec: &'a SpecState,
    counts: &'a Counts,
    digest: &'a str,
    voice: Voice,
}

fn find_or_add(tx: &mut dyn Tx, source: &str, now: i64) -> Result<NodeRow> {
    if let Some(row) = tx.node(source)? {
        return Ok(row);
    }
    let doc = NodeDoc { first_seen: now, last_seen: now, ..NodeDoc::default() };
    let key = tx.add_node(source, &doc)?;
    Ok(NodeRow { key, source: source.to_owned(), doc })
}

fn supersedes(new: (Seq, bool, i64), old: (Seq, bool, i64)) -> bool {
    let rank = |(seq, beat, _): (Seq, bool, i64)| (seq, beat);
    match rank(new).cmp(&rank(old)) {
        std::cmp::Ordering::Equal => new.2 > old.2 || new.2 < old.2.saturating_sub(CLOCK_SET_BACK_MS),
        other => other.is_gt(),
    }
}

/// Takes over what is told, unless something newer was told before; whether it was taken.
fn hear(doc: &mut NodeDoc, told: &Told<'_>) -> bool {
    let voice = told.voice;
    doc.last_seen = doc.last_seen.max(voice.got);
    doc.first_epoch = Some(doc.first_epoch.map_or(voice.seq.epoch, |first| first.min(voice.seq.epoch)));
    let old = doc.voice;
    let never = doc.digest_told.is_empty();
    if !never && !supersedes((voice.seq, voice.beat, voice.at), (old.seq, old.beat, old.at)) {
        return false;
    }
    doc.voice = voice;
    renew(&mut doc.node, told.node);
    renew(&mut doc.agent, told.agent);
    doc.spec.age_s = told.spec.age_s;
    renew(&mut doc.spec, told.spec);
    doc.counts = *told.counts;
    told.digest.clone_into(&mut doc.digest_told);
    true
}

/// Takes over what is another. Mostly nothing is, and to compare costs less than to copy.
fn renew<T: Clone + PartialEq>(old: &mut T, new: &T) {
    if old != new {
        old.clone_from(new);
    }
}

/// Counts what never came in the current epoch, and compares the two digests.
fn judge(doc: &mut NodeDoc, seen: &Ranges) {
    doc.missing = holes(doc, seen).iter().map(|(lo, hi)| hi - lo + 1).sum();
    let reports_to_come = doc.top.unwrap_or_default() < doc.voice.seq && doc.due < doc.voice.seq;
    doc.digest_ok = if reports_to_come { None } else { Some(doc.digest_own == doc.digest_told) };
}

/// The runs of the current epoch that never came, of what must have come.
///
/// A node that this hub meets in the middle of its first epoch owes nothing from before.
#[must_use]
pub fn holes(doc: &NodeDoc, seen: &Ranges) -> Vec<(u64, u64)> {
    let epoch = doc.voice.seq.epoch;
    let due = if doc.due.epoch == epoch { doc.due.n } else { 0 };
    let first = seen.runs().first().map(|run| run.0);
    let last = seen.runs().last().map_or(0, |run| run.1).max(due);
    match first {
        Some(first) if doc.first_epoch == Some(epoch) => seen.missing(first, last),
        None if doc.first_epoch == Some(epoch) => vec![],
        _ => seen.missing(1, last),
    }
}

/// The digest of what the hub has, kept beside the node's own.
fn own_digest(tx: &mut dyn Tx, node: i64) -> Result<String> {
    Ok(digest_of(tx.items(node)?))
}

fn digest_of(items: items::Known) -> String {
    let items: Vec<_> = items.into_iter().filter_map(|(id, row)| items::as_told(id, row)).collect();
    state_digest(&items)
}

#[cfg(test)]
mod tests {
    use super::{holes, supersedes};
    use crate::store::{NodeDoc, Ranges, Voice};
    use evenkeel_report::Seq;

    fn seq(epoch: u64, n: u64) -> Seq {
        Seq { epoch, n }
    }

    #[test]
    fn a_heartbeat_speaks_after_the_report_of_its_number_and_before_the_next() {
        assert!(supersedes((seq(1, 3), true, 5), (seq(1, 3), false, 9)));
        assert!(!supersedes((seq(1, 3), true, 5), (seq(1, 4), false, 2)));
        assert!(supersedes((seq(2, 1), false, 0), (seq(1, 9), true, 9)));
    }

    #[test]
    fn a_reordered_heartbeat_is_ignored_and_one_after_the_clock_was_set_back_is_not() {
        assert!(!supersedes((seq(1, 3), true, 100_000), (seq(1, 3), true, 130_000)));
        assert!(supersedes((seq(1, 3), true, 100_000), (seq(1, 3), true, 160_001)));
    }

    #[test]
    fn a_node_met_in_the_middle_of_its_epoch_owes_nothing_from_before() {
        let mut doc = NodeDoc {
            first_epoch: Some(7),
            voice: Voice { seq: seq(7, 12), ..Voice::default() },
            ..NodeDoc::default()
        };
        assert_eq!(holes(&doc, &Ranges::new(vec![(10, 10), (12, 12)])), [(11, 11)]);
        doc.first_epoch = Some(6);
        assert_eq!(holes(&doc, &Ranges::new(vec![(10, 10), (12, 12)])), [(1, 9), (11, 11)]);
    }

    #[test]
    fn what_a_heartbeat_says_is_due_and_never_came_is_missing() {
        let doc = NodeDoc {
            first_epoch: Some(7),
            due: seq(7, 4),
            voice: Voice { seq: seq(7, 4), ..Voice::default() },
            ..NodeDoc::default()
        };
        assert_eq!(holes(&doc, &Ranges::new(vec![(1, 2)])), [(3, 4)]);
        assert_eq!(holes(&doc, &Ranges::default()), []);
    }
}
