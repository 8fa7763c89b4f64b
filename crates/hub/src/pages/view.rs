//! What the templates show: plain text, made from rows. Every string that a node wrote goes through `shown`.

use super::words::{self, ago, shown};
use crate::http::encode;
use crate::invariants::{Broken, Says};
use crate::liveness::{self, HubTimes, flags};
use crate::roll::Line;
use crate::slots::node_of;
use crate::store::telling::Silence;
use crate::store::{Detail, HistoryRow, ItemRow, NodeRow, SPEC_ITEM, SlotRow};
use crate::tell::silence;
use evenkeel_report::{Drift, Layer, SpecState, Status, Sync, Timestamp};
use std::collections::BTreeMap;

/// A moment: as people speak, and exactly.
pub(super) struct When {
    pub(super) ago: String,
    /// The same as a length of time: "6 min".
    pub(super) span: String,
    pub(super) exact: String,
}

impl When {
    pub(super) fn new(at: i64, now: i64) -> Self {
        let exact = Timestamp::from_unix_ms(at).map(|at| at.to_string()).unwrap_or_default();
        Self { ago: ago(at, now), span: words::span(now.saturating_sub(at).max(0)), exact }
    }
}

/// One layer in which something is off.
pub(super) struct Off {
    pub(super) layer: String,
    pub(super) attr: String,
    pub(super) observed: Option<String>,
    pub(super) desired: String,
}

/// What is off, a layer each.
pub(super) fn offs(drift: &[Drift]) -> Vec<Off> {
    let off = |drift: &Drift| Off {
        layer: shown(&drift.layer.to_string()),
        // The one attribute that most items have says nothing.
        attr: if drift.attr == "value" { String::new() } else { shown(&drift.attr) },
        observed: drift.observed.as_deref().map(shown),
        desired: shown(&drift.desired),
    };
    drift.iter().map(off).collect()
}

/// One attribute of an item in every layer, side by side.
pub(super) struct Layered {
    pub(super) attr: String,
    /// What the spec asks for.
    pub(super) desired: String,
    /// The file, where one differs, and what is in it.
    pub(super) disk: Vec<(String, Option<String>)>,
    /// Where else it differs, and what is in effect there.
    pub(super) effect: Vec<(String, Option<String>)>,
}

fn layered(drift: &[Drift]) -> Vec<Layered> {
    let mut all: BTreeMap<(&str, &str), Layered> = BTreeMap::new();
    for one in drift {
        let row = all.entry((&one.attr, &one.desired)).or_insert_with(|| Layered {
            attr: shown(&one.attr),
            desired: shown(&one.desired),
            disk: vec![],
            effect: vec![],
        });
        let observed = one.observed.as_deref().map(shown);
        match &one.layer {
            Layer::File(path) => row.disk.push((shown(&path.display().to_string()), observed)),
            layer => row.effect.push((shown(&layer.to_string()), observed)),
        }
    }
    all.into_values().collect()
}

/// An item as it stands.
pub(super) struct OpenItem {
    pub(super) layers: Vec<Layered>,
    pub(super) id: String,
    pub(super) status: &'static str,
    pub(super) tone: &'static str,
    pub(super) since: Option<When>,
    pub(super) reason: Option<String>,
    pub(super) declared_at: Option<String>,
    /// Where that line can be looked at.
    pub(super) link: Option<String>,
    pub(super) drift: Vec<Off>,
    pub(super) attempts: u32,
    pub(super) writer: Option<String>,
    pub(super) facts: Vec<(String, String)>,
    pub(super) silenced: Option<String>,
    /// Where who looks may silence it.
    pub(super) silence: Option<String>,
}

impl OpenItem {
    /// The same, with the silence that it is under: it is shown all the same.
    pub(super) fn under(self, node: &NodeRow, id: &str, silences: &[Silence]) -> Self {
        let (tier, name) = (&node.doc.node.tier, &node.doc.node.name);
        let off = self.since.is_some();
        let over = silences.iter().filter(|one| off && silence::matches(one, tier, name, id));
        Self { silenced: over.max_by_key(|one| one.until).map(words::silenced), ..self }
    }

    pub(super) fn new(id: &str, item: &ItemRow, now: i64) -> Self {
        let status = item.status.unwrap_or(Status::NotApplicable);
        let detail = &item.detail;
        Self {
            id: shown(id),
            status: words::status(status),
            tone: tone(status.word()),
            since: detail.since.map(|since| When::new(since.unix_ms(), now)),
            reason: detail.reason.as_deref().map(shown),
            declared_at: detail.declared_at.as_deref().map(shown),
            link: None,
            drift: offs(&detail.drift),
            layers: layered(&detail.drift),
            attempts: detail.attempts,
            writer: detail.writer.as_ref().map(words::writer),
            facts: detail.facts.iter().map(|(name, value)| (shown(name), shown(value))).collect(),
            silenced: None,
            silence: None,
        }
    }
}

/// The class that colours a status; the word is always beside it.
pub(super) fn tone(word: &str) -> &'static str {
    match word {
        "error" | "failed" | "missing" => "bad",
        "non_compliant" | "pending" | "held" | "silent" | "late" => "warn",
        "repaired" => "good",
        _ => "plain",
    }
}

/// A flag and what it means.
pub(super) struct Flag {
    pub(super) word: &'static str,
    pub(super) means: &'static str,
}

/// A node in a table.
pub(super) struct NodeLine {
    pub(super) name: String,
    pub(super) href: String,
    pub(super) tier: String,
    pub(super) even: bool,
    pub(super) liveness: &'static str,
    pub(super) liveness_tone: &'static str,
    pub(super) seen: When,
    pub(super) flags: Vec<Flag>,
    pub(super) commit: Option<String>,
    pub(super) commit_full: String,
    pub(super) sync: &'static str,
    pub(super) sync_tone: &'static str,
    pub(super) counts: Vec<(u32, &'static str, &'static str)>,
    pub(super) open: Vec<OpenItem>,
}

impl NodeLine {
    pub(super) fn new(row: &NodeRow, open: Vec<OpenItem>, times: HubTimes) -> Self {
        let doc = &row.doc;
        let alive = liveness::word(liveness::of(doc, times));
        let flag = |word| Flag { word, means: words::flag(word) };
        let count = |status: &Status| (doc.counts.of(*status), words::status(*status), tone(status.word()));
        let commit = doc.spec.observed_commit.as_deref().map(shown);
        Self {
            name: shown(&doc.node.name),
            href: format!("/nodes/{}", encode(&row.source)),
            tier: shown(&doc.node.tier),
            even: words::woes(doc, times).is_empty(),
            liveness: alive,
            liveness_tone: tone(alive),
            seen: When::new(doc.last_seen, times.now),
            flags: flags(doc, times.now).into_iter().map(flag).collect(),
            commit_full: commit.clone().unwrap_or_default(),
            commit: commit.map(|commit| short(&commit)),
            sync: words::sync(doc.spec.sync),
            sync_tone: if doc.spec.sync == Sync::Failed { "bad" } else { "plain" },
            counts: Status::ALL.iter().rev().map(count).filter(|count| count.0 > 0).collect(),
            open,
        }
    }
}

/// As much of a commit as people read.
pub(super) fn short(commit: &str) -> String {
    commit.chars().take(10).collect()
}

/// A place where an invariant does not hold.
pub(super) struct Differs {
    pub(super) tier: String,
    pub(super) item: String,
    /// What is said, and by whom.
    pub(super) says: Vec<(String, String)>,
    pub(super) since: Option<When>,
}

impl Differs {
    pub(super) fn new(one: &Broken, now: i64) -> Self {
        let who = |says: &Says| {
            some_of(&says.nodes.iter().take(5).map(String::as_str).collect::<Vec<_>>(), says.count)
        };
        let says = one.says.iter().map(|says| (shown(&says.value), who(says))).collect();
        let tier = if one.tier.is_empty() { String::new() } else { shown(&one.tier) };
        Self { tier, item: shown(&one.item), says, since: one.since.map(|since| When::new(since, now)) }
    }
}

/// A slot of the fleet that somebody holds.
pub(super) struct Held {
    /// Whether who looks may free it; then this is which.
    pub(super) free: Option<(String, String)>,
    pub(super) group: String,
    pub(super) id: String,
    pub(super) href: String,
    pub(super) since: When,
}

impl Held {
    pub(super) fn new(row: &SlotRow, may_free: bool, now: i64) -> Self {
        let href = format!("/nodes/{}", encode(node_of(&row.id)));
        let free = may_free.then(|| (row.group.clone(), row.id.clone()));
        Self { free, group: shown(&row.group), id: shown(&row.id), href, since: When::new(row.since, now) }
    }
}

/// A commit that was refused, and by whom.
pub(super) struct Refusal {
    pub(super) nodes: String,
    pub(super) commit: Option<String>,
    pub(super) in_force: Option<String>,
    pub(super) errors: Vec<String>,
}

impl Refusal {
    /// A spec that `count` nodes refused, of which some are named.
    pub(super) fn new(spec: &SpecState, names: &[&str], count: usize) -> Self {
        Self {
            nodes: some_of(names, count),
            commit: spec.target_commit.as_deref().map(|commit| short(&shown(commit))),
            in_force: spec.observed_commit.as_deref().map(|commit| short(&shown(commit))),
            errors: spec.errors.iter().flat_map(|error| error.lines()).map(shown).collect(),
        }
    }
}

/// The first five names, and how many more there are of `count`.
pub(super) fn some_of(names: &[&str], count: usize) -> String {
    let first: Vec<_> = names.iter().take(5).map(|name| shown(name)).collect();
    match count.saturating_sub(first.len()) {
        0 => first.join(", "),
        more => format!("{} and {} more", first.join(", "), words::thousands(more)),
    }
}

/// One repair.
pub(super) struct Repair {
    pub(super) node: String,
    pub(super) href: String,
    pub(super) change: Change,
}

impl Repair {
    pub(super) fn new(line: Option<&Line>, row: &HistoryRow, now: i64) -> Self {
        let (name, source) = line.map(|line| (&*line.name, &*line.source)).unwrap_or_default();
        Self { node: shown(name), href: format!("/nodes/{}", encode(source)), change: Change::new(row, now) }
    }
}

/// One entry of the history.
pub(super) struct Change {
    pub(super) when: When,
    pub(super) item: Option<String>,
    pub(super) status: String,
    pub(super) tone: &'static str,
    pub(super) cause: Option<&'static str>,
    pub(super) drift: Vec<Off>,
    pub(super) reason: Option<String>,
    pub(super) writer: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) target: Option<String>,
    pub(super) errors: Vec<String>,
}

impl Change {
    pub(super) fn new(row: &HistoryRow, now: i64) -> Self {
        let Detail { change, reason, drift, writer, target, errors, .. } = &row.detail;
        let spec = row.item == SPEC_ITEM;
        let status = match row.status.as_str() {
            "in_force" => "in force".to_owned(),
            "failed" => "refused".to_owned(),
            word => {
                let known = Status::ALL.iter().find(|status| status.word() == word);
                known.map_or(word, |known| words::status(*known)).to_owned()
            }
        };
        Self {
            when: When::new(row.at, now),
            item: Some(shown(&row.item)).filter(|_| !spec),
            status,
            tone: tone(&row.status),
            cause: change.map(|change| match change {
                evenkeel_report::Change::Corrective => "the node had moved",
                evenkeel_report::Change::Intentional => "the spec had moved",
            }),
            drift: offs(drift),
            reason: reason.as_deref().map(shown),
            writer: writer.as_ref().map(words::writer),
            commit: row.commit.as_deref().map(|commit| short(&shown(commit))),
            target: target.as_deref().map(|commit| short(&shown(commit))),
            errors: errors.iter().flat_map(|error| error.lines()).map(shown).collect(),
        }
    }
}

/// What is known of a node beside its state.
pub(super) fn about(row: &NodeRow, times: HubTimes) -> Vec<(&'static str, String)> {
    let doc = &row.doc;
    let labels: Vec<_> = doc.node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let digest = match doc.digest_ok {
        Some(true) => "proved: the hub has exactly what the node has",
        Some(false) => "differs: the hub has asked for a full report",
        None => "reports are on their way",
    };
    let mut about = vec![
        ("Tier", shown(&doc.node.tier)),
        ("Labels", shown(&labels.join(", "))),
        ("Source", shown(&row.source)),
        ("Repository", shown(&format!("{} {}", doc.spec.repo, doc.spec.branch))),
        ("Agent", shown(&doc.agent.version)),
        ("Boot", shown(&doc.node.boot_id)),
        ("Known for", words::span(times.now.saturating_sub(doc.first_seen))),
        ("State", digest.to_owned()),
    ];
    if let Some(at) = doc.retired.filter(|_| doc.is_retired()) {
        about.push(("Taken out", When::new(at, times.now).ago));
    }
    if doc.missing > 0 {
        about.push(("Never came", format!("{} reports", doc.missing)));
    }
    if let Some(waiting) = doc.beat.as_ref().map(|beat| beat.spool.waiting).filter(|waiting| *waiting > 0) {
        about.push(("Waiting", format!("{waiting} reports in its spool")));
    }
    about.retain(|(_, text)| !text.trim().is_empty());
    about
}
