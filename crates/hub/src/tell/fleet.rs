//! How the fleet stands, for whoever is told of what stands: everything that is off now, as news, and the nodes.

use crate::invariants;
use crate::liveness::{HubTimes, liveness};
use crate::merge::news::{blank, of_item, of_refusal};
use crate::roll::Roll;
use crate::store::telling::{News, Severity, Topic};
use crate::store::{NodeRow, Result, View};
use evenkeel_report::Liveness;
use std::collections::HashMap;

/// The most open items that are looked at.
const OPEN: usize = 10_000;

/// The fleet at one moment.
#[derive(Debug, Default)]
pub struct Fleet {
    /// Every node, with whether it is heard of.
    pub nodes: Vec<(NodeRow, Liveness)>,
    /// What is off.
    pub off: Vec<News>,
}

pub(super) fn is_silent(liveness: Liveness) -> bool {
    matches!(liveness, Liveness::Silent | Liveness::Missing)
}

impl Fleet {
    /// Looks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn look(view: &dyn View, roll: &Roll, times: HubTimes) -> Result<Self> {
        let alive = |row: &NodeRow| liveness(Some(row.doc.last_seen), row.doc.interval_s(), times);
        let nodes: Vec<_> = view.nodes(None, usize::MAX)?.into_iter().map(|row| (alive(&row), row)).collect();
        let nodes: Vec<(NodeRow, Liveness)> = nodes.into_iter().map(|(alive, row)| (row, alive)).collect();
        let by_key: HashMap<i64, &NodeRow> = nodes.iter().map(|(row, _)| (row.key, row)).collect();
        let mut off = vec![];
        for (key, id, item) in view.open_items(OPEN)? {
            off.extend(by_key.get(&key).map(|row| of_item(row, &id, &item, times.now)));
        }
        for (row, alive) in &nodes {
            off.extend(of_refusal(row, times.now));
            if is_silent(*alive) {
                let status = "silent".to_owned();
                off.push(News { status, since: row.doc.last_seen, ..blank(row, Topic::Node, times.now) });
            }
        }
        for broken in invariants::broken(view, roll, times)? {
            let says = broken.says.iter().map(|(value, nodes)| format!("{value} on {}", nodes.join(", ")));
            off.push(News {
                topic: Topic::Invariant,
                open: true,
                severity: Severity::Warning,
                node: String::new(),
                source: String::new(),
                tier: broken.tier,
                item: format!("{} of {}", broken.fact, broken.item),
                status: "broken".to_owned(),
                reason: Some(says.collect::<Vec<_>>().join("; ")),
                drift: vec![],
                declared_at: None,
                commit: None,
                since: times.now,
                at: times.now,
            });
        }
        Ok(Self { nodes, off })
    }

    /// What the hub itself finds: silent nodes and broken invariants.
    #[must_use]
    pub fn found(&self) -> Vec<News> {
        let own = |news: &&News| matches!(news.topic, Topic::Node | Topic::Invariant);
        self.off.iter().filter(own).cloned().collect()
    }

    /// Whether what was found is over. A node is back when it was heard of since, and not because a hub that has just
    /// started gives it some time.
    #[must_use]
    pub fn over(&self, news: &News) -> bool {
        let node = self.nodes.iter().find(|(row, _)| row.source == news.source);
        news.topic != Topic::Node || node.is_none_or(|(row, _)| row.doc.last_seen > news.since)
    }
}
