//! What has drifted across the fleet: open drifts, each told once for all the nodes that have it; those that were
//! closed lately, with how long they stood; and items that cannot settle.
//!
//! Nothing is stored for it: open drifts are the items as they stand, the rest is the history of the last hour.

use crate::liveness::HubTimes;
use crate::look::Look;
use crate::roll::{Filter, Line, Roll};
use crate::store::{HistoryRow, ItemRow, Result, SPEC_ITEM, View};
use evenkeel_report::{Drift, Status, Timestamp, Writer};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// How far back drifts that were closed, and items that do not settle, are looked for (ms).
pub const LATELY_MS: i64 = 3_600_000;
/// The most open items and the most entries of the history that are read for one answer.
const OPEN: usize = 50_000;
const ENTRIES: usize = 5_000;
/// How many nodes of a group are named.
const NAMED: usize = 10;
/// How many changes within [`LATELY_MS`] make an item flap.
const FLAPS: usize = 3;
/// How many entries of a node's timeline are searched for when a drift began.
const SEARCHED: usize = 200;

/// A node, as far as it has to be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NodeRef {
    /// Its name.
    pub name: String,
    /// `urn:uuid:…`.
    pub source: String,
}

impl From<&Line> for NodeRef {
    fn from(line: &Line) -> Self {
        Self { name: line.name.to_string(), source: line.source.to_string() }
    }
}

/// One drift, and every node that has it: same item, same status, same values in the same layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "DriftGroup")]
pub struct Group {
    /// The item.
    pub item: String,
    /// How it stands.
    pub status: Status,
    /// What is off.
    pub drift: Vec<Drift>,
    /// Why, where every node says the same.
    pub reason: Option<String>,
    /// Where the spec says it, on the first node.
    pub declared_at: Option<String>,
    /// How many nodes have it.
    pub nodes: usize,
    /// The first of them by name, at most ten.
    pub first: Vec<NodeRef>,
    /// Their tier, where all of them are of one.
    pub tier: Option<String>,
    /// When it was first seen on any of them.
    pub since: Option<Timestamp>,
    /// On how many of them it came back at least three times within the hour.
    pub flapping: usize,
    /// On how many of those another program is known to write it.
    pub contested: usize,
}

/// Every open drift.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(rename = "OpenDrifts")]
pub struct Open {
    /// How many items are open.
    pub items: usize,
    /// On how many nodes.
    pub nodes: usize,
    /// Whether there are more open items than are read for one answer.
    pub cut: bool,
    /// Most nodes first.
    pub groups: Vec<Group>,
}

/// A drift that was closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ClosedDrift")]
pub struct Closed {
    /// The node.
    pub node: NodeRef,
    /// The item.
    pub item: String,
    /// Whether the agent put it right; else it came right by itself or by somebody else.
    pub repaired: bool,
    /// When, by the hub's clock.
    pub at: Option<Timestamp>,
    /// For how long it had stood (ms), where that is known.
    pub lasted_ms: Option<i64>,
    /// What had been off.
    pub drift: Vec<Drift>,
    /// Who had done it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer: Option<Writer>,
    /// Whether it came back at least three times within the hour.
    pub flapping: bool,
    /// Whether another program is known to write it.
    pub contested: bool,
}

/// What changed within the last hour.
#[derive(Debug, Default)]
pub struct Lately {
    rows: Vec<(i64, HistoryRow)>,
    restless: HashMap<(i64, String), Restless>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Restless {
    times: usize,
    rival: bool,
}

impl Restless {
    fn flaps(self) -> bool {
        self.times >= FLAPS
    }
}

fn is_open(word: &str) -> bool {
    Status::ALL.iter().any(|status| status.is_open() && status.word() == word)
}

impl Lately {
    /// Reads the last hour.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(view: &dyn View, now: i64) -> Result<Self> {
        let rows = view.between(now.saturating_sub(LATELY_MS), now.saturating_add(1), ENTRIES)?;
        let mut restless: HashMap<(i64, String), Restless> = HashMap::new();
        for (node, row) in rows.iter().filter(|(_, row)| row.item != SPEC_ITEM) {
            if row.status == Status::Repaired.word() || is_open(&row.status) {
                let one = restless.entry((*node, row.item.clone())).or_default();
                one.times += 1;
                one.rival |= row.detail.writer.is_some();
            }
        }
        Ok(Self { rows, restless })
    }

    /// Whether more changed within the hour than is read.
    #[must_use]
    pub fn cut(&self) -> bool {
        self.rows.len() == ENTRIES
    }

    fn of(&self, node: i64, item: &str) -> Restless {
        self.restless.get(&(node, item.to_owned())).copied().unwrap_or_default()
    }

    /// Up to `most` drifts that were closed, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn closed(&self, view: &dyn View, roll: &Roll, most: usize) -> Result<Vec<Closed>> {
        let mut closed = vec![];
        for (node, row) in &self.rows {
            let repaired = row.status == Status::Repaired.word();
            if row.item == SPEC_ITEM || !(repaired || row.status == Status::Compliant.word()) {
                continue;
            }
            let Some(line) = roll.line(*node) else { continue };
            closed.push(self.one(view, &line, *node, row, repaired)?);
            if closed.len() == most {
                break;
            }
        }
        Ok(closed)
    }

    fn one(
        &self,
        view: &dyn View,
        line: &Line,
        node: i64,
        row: &HistoryRow,
        repaired: bool,
    ) -> Result<Closed> {
        let restless = self.of(node, &row.item);
        let mut closed = Closed {
            node: line.into(),
            item: row.item.clone(),
            repaired,
            at: Timestamp::from_unix_ms(row.got),
            lasted_ms: row.detail.since.map(|since| row.at.saturating_sub(since.unix_ms()).max(0)),
            drift: row.detail.drift.clone(),
            writer: row.detail.writer.clone(),
            flapping: restless.flaps(),
            contested: restless.flaps() && restless.rival,
        };
        // An item that came right by itself tells nothing of what was before; its own last entry does.
        if closed.lasted_ms.is_none() {
            let before = view.timeline(node, Some((row.place, &row.item)), SEARCHED)?;
            if let Some(before) = before.into_iter().find(|before| before.item == row.item) {
                let since = before.detail.since.map_or(before.at, Timestamp::unix_ms);
                closed.lasted_ms = Some(row.at.saturating_sub(since).max(0));
                closed.drift = before.detail.drift;
            }
        }
        Ok(closed)
    }
}

/// The key of a group. A reason counts only where no value tells what is off.
fn key(id: String, item: &ItemRow) -> (String, Status, Vec<Drift>, Option<String>) {
    let mut drift = item.detail.drift.clone();
    drift.sort();
    let reason = item.detail.reason.clone().filter(|_| drift.is_empty());
    (id, item.status.unwrap_or(Status::NotApplicable), drift, reason)
}

/// What is open, of nodes that fit and of items whose id contains `item`; where nothing narrows it, many may share it.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn of(look: &Look<'_>, filter: &Filter, item: &str, lately: &Lately) -> Result<Arc<Open>> {
    let find = || open(look.view, look.roll, look.times, filter, item, lately).map(Arc::new);
    if item.is_empty() && *filter == Filter::default() {
        look.keep_now(&look.kept.drift, find)
    } else {
        find()
    }
}

/// Every open drift on nodes that fit, of items whose id contains `item`.
///
/// # Errors
/// When the store cannot be read.
pub fn open(
    view: &dyn View,
    roll: &Roll,
    times: HubTimes,
    filter: &Filter,
    item: &str,
    lately: &Lately,
) -> Result<Open> {
    let rows = view.open_items(OPEN)?;
    let mut open = Open { cut: rows.len() == OPEN, ..Open::default() };
    let mut groups: HashMap<_, (Group, Vec<NodeRef>)> = HashMap::new();
    let mut nodes: HashSet<i64> = HashSet::new();
    let mut lines: BTreeMap<i64, Option<Line>> = BTreeMap::new();
    for (node, id, row) in rows {
        let line = lines
            .entry(node)
            .or_insert_with(|| roll.line(node).filter(|line| filter.fits(line, times)))
            .as_ref();
        let Some(line) = line.filter(|_| id.contains(item)) else { continue };
        open.items += 1;
        nodes.insert(node);
        let restless = lately.of(node, &id);
        let key = key(id, &row);
        let (group, refs) = groups.entry(key.clone()).or_insert_with(|| (Group::new(key, &row), vec![]));
        group.add(&row, &line.tier, restless);
        refs.push(line.into());
    }
    open.nodes = nodes.len();
    open.groups = groups.into_values().map(|(group, refs)| group.named(refs)).collect();
    open.groups.sort_by(|a, b| {
        b.nodes
            .cmp(&a.nodes)
            .then_with(|| b.status.cmp(&a.status))
            .then_with(|| (&a.item, &a.drift).cmp(&(&b.item, &b.drift)))
    });
    Ok(open)
}

impl Group {
    fn new((item, status, drift, _): (String, Status, Vec<Drift>, Option<String>), row: &ItemRow) -> Self {
        Self {
            item,
            status,
            drift,
            reason: row.detail.reason.clone(),
            declared_at: row.detail.declared_at.clone(),
            nodes: 0,
            first: vec![],
            tier: None,
            since: None,
            flapping: 0,
            contested: 0,
        }
    }

    fn add(&mut self, row: &ItemRow, tier: &str, restless: Restless) {
        if self.nodes == 0 {
            self.tier = Some(tier.to_owned());
        } else if self.tier.as_deref() != Some(tier) {
            self.tier = None;
        }
        self.nodes += 1;
        self.flapping += usize::from(restless.flaps());
        self.contested += usize::from(restless.flaps() && restless.rival);
        if self.reason != row.detail.reason {
            self.reason = None;
        }
        if let Some(since) = row.detail.since {
            let older = |known: Timestamp| since.unix_ms() < known.unix_ms();
            self.since = Some(self.since.filter(|known| !older(*known)).unwrap_or(since));
        }
    }

    fn named(mut self, mut refs: Vec<NodeRef>) -> Self {
        refs.sort_by(|a, b| (&a.name, &a.source).cmp(&(&b.name, &b.source)));
        refs.truncate(NAMED);
        self.first = refs;
        self
    }
}
