//! How every item of the node stands: what passes found, merged with what was known before.
//!
//! Pure bookkeeping: since when an item is off, how often a repair was tried, whether node or spec had moved, who
//! wrote, and what of it has not been told yet.

use evenkeel_core::{Goal, GoalItem, Interest, Outcome, SysctlKey};
use evenkeel_report::{Change, Counts, Drift, Item, Layer, Phase, Status, Timestamp, VALUE_CAP, Writer, cut};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most facts that an item tells, and the most bytes of a fact's name and of its value.
const MOST_FACTS: usize = 32;
const FACT_CAP: usize = 256;

/// What is remembered of an item that is off, over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open {
    /// When it was first seen off.
    pub(crate) since: Timestamp,
    /// How many passes have tried to put it right.
    pub(crate) attempts: u32,
}

/// Open items by id.
pub(crate) type OpenItems = BTreeMap<String, Open>;

/// Everything a pass over one section brings.
pub(crate) struct Found<'a> {
    /// The section.
    pub(crate) kind: &'static str,
    /// What it found.
    pub(crate) outcomes: Vec<Outcome>,
    /// When it began.
    pub(crate) began: Timestamp,
    /// Who was seen to write before it began.
    pub(crate) writers: &'a BTreeMap<Interest, Writer>,
}

/// How every item stands.
#[derive(Default)]
pub(crate) struct Ledger {
    items: BTreeMap<String, Item>,
    /// Items whose news is not told yet.
    untold: BTreeSet<String>,
    /// Items that vanished and whose vanishing is not told yet.
    gone: BTreeSet<String>,
    /// Items that the spec moved and that have not come right since.
    moved: BTreeSet<String>,
    /// From before the restart; used up as passes come in.
    remembered: OpenItems,
    /// Items with something in them that was cut to [`VALUE_CAP`].
    cut: BTreeSet<String>,
}

impl Ledger {
    /// An empty one that remembers what was off before the restart.
    pub(crate) fn new(remembered: OpenItems) -> Self {
        Self { remembered, ..Self::default() }
    }

    /// A new spec is in force: note what it moved. `None` for `old` where there was none.
    pub(crate) fn respec(&mut self, old: Option<&[Arc<dyn Goal>]>, new: &[Arc<dyn Goal>]) {
        let was = index(old.unwrap_or_default());
        let is = index(new);
        for id in was.keys().chain(is.keys()) {
            if said(was.get(id).copied()) == said(is.get(id).copied()) {
                continue;
            }
            self.moved.insert(id.clone());
        }
        let kinds: BTreeSet<&str> = new.iter().map(|goal| goal.kind()).collect();
        let orphans: Vec<String> =
            self.items.keys().filter(|id| !kinds.contains(kind_of(id))).cloned().collect();
        for id in &orphans {
            self.forget(id);
        }
    }

    /// Merge what a pass found.
    pub(crate) fn merge(&mut self, found: Found) {
        let known: BTreeSet<&str> = found.outcomes.iter().map(|outcome| outcome.id.as_str()).collect();
        let vanished: Vec<String> = self
            .items
            .keys()
            .filter(|id| kind_of(id) == found.kind && !known.contains(id.as_str()))
            .cloned()
            .collect();
        for id in &vanished {
            self.forget(id);
        }
        for outcome in found.outcomes {
            let writer = writer_of(&outcome, found.writers);
            self.enter(outcome, writer, found.began);
        }
    }

    /// Whether an item is known to stand just so, for the same reason.
    pub(crate) fn stands(&self, outcome: &Outcome) -> bool {
        let reason = outcome.reason.as_deref().map(|reason| cut(reason, VALUE_CAP));
        self.items
            .get(&outcome.id)
            .is_some_and(|item| item.status == outcome.status && item.reason.as_deref() == reason)
    }

    /// Whether an item is known to be in error.
    pub(crate) fn in_error(&self, id: &str) -> bool {
        self.items.get(id).is_some_and(|item| item.status == Status::Error)
    }

    fn enter(&mut self, mut outcome: Outcome, writer: Option<Writer>, began: Timestamp) {
        let before = self.items.get(&outcome.id);
        // What was put right beside something worse, and is not told yet, is told whatever this pass found.
        let earlier = before.filter(|item| self.untold.contains(&item.id)).map(|item| &item.repaired);
        if let Some(earlier) = earlier.filter(|drift| !drift.is_empty()) {
            if outcome.status == Status::Compliant {
                outcome.status = Status::Repaired;
                outcome.drift.clone_from(earlier);
            } else {
                outcome.repaired.extend(
                    earlier
                        .iter()
                        .filter(|drift| !outcome.repaired.contains(drift))
                        .cloned()
                        .collect::<Vec<_>>(),
                );
            }
        }
        if outcome.status == Status::Compliant
            && before.is_some_and(|item| item.status == Status::Repaired)
            && self.untold.contains(&outcome.id)
        {
            // A repair that is not told yet is not overwritten by the quiet pass after it.
            return;
        }
        let off = outcome.status.is_open() || outcome.status == Status::Repaired;
        let past = self.past(&outcome.id).filter(|_| off);
        let came_right = outcome.status == Status::Repaired || !outcome.repaired.is_empty();
        let tried = u32::from(came_right || matches!(outcome.phase, Some(Phase::Apply | Phase::Verify)));
        let change = came_right.then(|| self.change(&outcome.id));
        let (drift, cut_drift_too) = cut_drift(outcome.drift);
        let (repaired, cut_repaired) = cut_drift(outcome.repaired);
        if cut_drift_too || cut_repaired {
            self.cut.insert(outcome.id.clone());
        } else {
            self.cut.remove(&outcome.id);
        }
        let item = Item {
            change,
            phase: outcome.phase,
            reason: outcome.reason.map(|reason| cut(&reason, VALUE_CAP).to_owned()),
            declared_at: outcome.declared_at,
            drift: if off { drift } else { vec![] },
            repaired,
            writer: writer.or_else(|| before.and_then(|item| item.writer.clone())).filter(|_| off),
            since: off.then(|| past.as_ref().map_or(began, |open| open.since)),
            attempts: if off { past.map_or(0, |open| open.attempts) + tried } else { 0 },
            status: outcome.status,
            id: outcome.id,
            facts: cut_facts(outcome.facts),
            progress: outcome.progress,
        };
        if item.status <= Status::Compliant || item.status == Status::Repaired {
            self.moved.remove(&item.id);
        }
        let news = before.is_none_or(|before| differs(before, &item));
        self.gone.remove(&item.id);
        self.remembered.remove(&item.id);
        if news {
            self.untold.insert(item.id.clone());
        }
        self.items.insert(item.id.clone(), item);
    }

    /// Since when it has been off, as this run or the one before saw it.
    fn past(&self, id: &str) -> Option<Open> {
        let now = self.items.get(id).and_then(|item| {
            // A repair that is told is over; one that is not yet goes on counting.
            let going =
                item.status.is_open() || (item.status == Status::Repaired && self.untold.contains(id));
            item.since.filter(|_| going).map(|since| Open { since, attempts: item.attempts })
        });
        now.or_else(|| self.remembered.get(id).cloned())
    }

    fn change(&self, id: &str) -> Change {
        if self.moved.contains(id) { Change::Intentional } else { Change::Corrective }
    }

    fn forget(&mut self, id: &str) {
        self.items.remove(id);
        self.untold.remove(id);
        self.moved.remove(id);
        self.cut.remove(id);
        self.gone.insert(id.to_owned());
    }

    /// Every item, as it stands.
    pub(crate) fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    /// How many stand how.
    pub(crate) fn counts(&self) -> Counts {
        self.items().map(|item| item.status).collect()
    }

    /// Whether there is anything to tell.
    pub(crate) fn has_news(&self) -> bool {
        !self.untold.is_empty() || !self.gone.is_empty()
    }

    /// The items with news, worst first.
    pub(crate) fn news(&self) -> Vec<&Item> {
        let mut items: Vec<&Item> = self.untold.iter().filter_map(|id| self.items.get(id)).collect();
        items.sort_by(|a, b| b.status.cmp(&a.status).then_with(|| a.id.cmp(&b.id)));
        items
    }

    /// Whether something in this item was cut.
    pub(crate) fn is_cut(&self, id: &str) -> bool {
        self.cut.contains(id)
    }

    /// Ids whose vanishing is not told yet.
    pub(crate) fn gone(&self) -> &BTreeSet<String> {
        &self.gone
    }

    /// These were told. A repair that was told is a compliant item from now on; what was put right for having left the
    /// spec is none at all.
    pub(crate) fn told<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>) {
        for id in ids {
            self.untold.remove(id);
            let Some(item) = self.items.get_mut(id) else { continue };
            item.repaired.clear();
            if item.status == Status::Repaired && item.declared_at.is_none() {
                self.forget(id);
                continue;
            }
            if item.status == Status::Repaired {
                *item = Item {
                    id: std::mem::take(&mut item.id),
                    status: Status::Compliant,
                    declared_at: item.declared_at.take(),
                    change: None,
                    phase: None,
                    reason: None,
                    drift: vec![],
                    repaired: vec![],
                    writer: None,
                    since: None,
                    attempts: 0,
                    facts: std::mem::take(&mut item.facts),
                    progress: item.progress.take(),
                };
            }
        }
    }

    /// These vanishings were told.
    pub(crate) fn told_gone(&mut self, ids: &[String]) {
        for id in ids {
            self.gone.remove(id);
        }
    }

    /// A full report says it all: what it does not list is gone.
    pub(crate) fn forget_gone(&mut self) {
        self.gone.clear();
    }

    /// Every item is to be told again.
    pub(crate) fn untell_all(&mut self) {
        self.untold = self.items.keys().cloned().collect();
    }

    /// What to remember over a restart.
    pub(crate) fn open(&self) -> OpenItems {
        let off = self.items().filter(|item| item.status.is_open());
        let mut open: OpenItems = off
            .filter_map(|item| Some((item.id.clone(), Open { since: item.since?, attempts: item.attempts })))
            .collect();
        // What no pass of this run has looked at yet is as open as it was.
        for (id, remembered) in &self.remembered {
            open.entry(id.clone()).or_insert_with(|| remembered.clone());
        }
        open
    }

    /// What was remembered of a section and did not turn up in its first pass is over.
    pub(crate) fn settle_remembered(&mut self, kind: &str) {
        self.remembered.retain(|id, _| kind_of(id) != kind);
    }
}

fn kind_of(id: &str) -> &str {
    id.split_once('/').map_or(id, |(kind, _)| kind)
}

fn index(goals: &[Arc<dyn Goal>]) -> BTreeMap<String, &GoalItem> {
    let all = goals.iter().flat_map(|goal| {
        goal.items().iter().map(move |(name, item)| (format!("{}/{name}", goal.kind()), item))
    });
    all.collect()
}

/// What a spec says of an item, without the line it says it at.
fn said(item: Option<&GoalItem>) -> Option<(&serde_json::Value, evenkeel_core::Mode)> {
    item.map(|item| (&item.fields, item.mode))
}

/// Whether there is something to tell. Counts and timings are no news.
fn differs(before: &Item, after: &Item) -> bool {
    after.status == Status::Repaired
        || !after.repaired.is_empty()
        || before.status != after.status
        || before.phase != after.phase
        || before.reason != after.reason
        || before.drift != after.drift
        || before.declared_at != after.declared_at
        || before.facts != after.facts
}

/// Who wrote what this item is off by, as far as an event told.
fn writer_of(outcome: &Outcome, writers: &BTreeMap<Interest, Writer>) -> Option<Writer> {
    let name = outcome.id.split_once('/').map(|(_, name)| name)?;
    outcome.drift.iter().chain(&outcome.repaired).find_map(|drift| match &drift.layer {
        Layer::Kernel => {
            let key: SysctlKey = name.parse().ok()?;
            writers.get(&Interest::Sysctl(key)).cloned()
        }
        Layer::File(path) => writers.get(&Interest::File(path.clone())).cloned(),
        _ => None,
    })
}

/// The first facts, none longer than people read: they come with every report of their item.
fn cut_facts(facts: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let short = |text: &str| cut(text, FACT_CAP).to_owned();
    facts.into_iter().take(MOST_FACTS).map(|(name, value)| (short(&name), short(&value))).collect()
}

fn cut_drift(drift: Vec<Drift>) -> (Vec<Drift>, bool) {
    let mut any = false;
    let mut short = |text: String| {
        any |= text.len() > VALUE_CAP;
        cut(&text, VALUE_CAP).to_owned()
    };
    let drift = drift
        .into_iter()
        .map(|drift| Drift {
            observed: drift.observed.map(&mut short),
            desired: short(drift.desired),
            attr: drift.attr,
            layer: drift.layer,
        })
        .collect();
    (drift, any)
}
