//! How the fleet stands, for whoever is told of what stands: everything that is off now, as news, and the nodes.

use crate::invariants::Broken;
use crate::liveness::{self, HubTimes};
use crate::merge::news::{blank, of_item, of_refusal};
use crate::store::telling::{News, Severity, Topic};
use crate::store::{NodeRow, Result, View};
use evenkeel_report::Liveness;
use std::collections::{HashMap, HashSet};

/// The most open items that are looked at.
const OPEN: usize = 10_000;

/// The fleet at one moment.
#[derive(Debug, Default)]
pub struct Fleet {
    /// Every node that was not taken out, with whether it is heard of.
    pub nodes: Vec<(NodeRow, Liveness)>,
    /// The sources of those that were.
    pub retired: HashSet<String>,
    /// What is off.
    pub off: Vec<News>,
}

/// The status of a node whose silence is over because it was taken out.
pub(super) const REMOVED: &str = "removed";

pub(super) fn is_silent(liveness: Liveness) -> bool {
    matches!(liveness, Liveness::Silent | Liveness::Missing)
}

fn of_broken(broken: &Broken, now: i64) -> News {
    let says = |says: &crate::invariants::Says| {
        let more = match says.count - says.nodes.len().min(says.count) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{} on {}{more}", says.value, says.nodes.join(", "))
    };
    let says = broken.says.iter().map(says).collect::<Vec<_>>().join("; ");
    let item = [broken.name.as_str(), &broken.item];
    News {
        topic: Topic::Invariant,
        open: true,
        severity: Severity::Warning,
        node: String::new(),
        source: String::new(),
        tier: broken.tier.clone(),
        item: item.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" of "),
        status: "broken".to_owned(),
        reason: Some(format!("{says}. {}", broken.remedy)),
        drift: vec![],
        declared_at: None,
        commit: None,
        since: broken.since.unwrap_or(now),
        at: now,
    }
}

impl Fleet {
    /// Looks; `broken` are the invariants that do not hold.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn look(view: &dyn View, broken: &[Broken], times: HubTimes) -> Result<Self> {
        let (retired, rows): (Vec<_>, Vec<_>) =
            view.nodes(None, usize::MAX)?.into_iter().partition(|row| row.doc.is_retired());
        let retired = retired.into_iter().map(|row| row.source).collect();
        let nodes: Vec<_> = rows
            .into_iter()
            .map(|row| {
                let alive = liveness::of(&row.doc, times);
                (row, alive)
            })
            .collect();
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
        off.extend(broken.iter().map(|one| of_broken(one, times.now)));
        Ok(Self { nodes, retired, off })
    }

    /// What the hub itself finds: silent nodes and broken invariants.
    #[must_use]
    pub fn found(&self) -> Vec<News> {
        let own = |news: &&News| matches!(news.topic, Topic::Node | Topic::Invariant);
        self.off.iter().filter(own).cloned().collect()
    }

    /// How what was found has ended; nothing where it has not. A node is back when it was heard of since, and not because
    /// a hub that has just started gives it some time; one that was taken out is silent no more and not back.
    #[must_use]
    pub fn over(&self, news: &News) -> Option<News> {
        let ended = News { open: false, ..news.clone() };
        if news.topic == Topic::Node && self.retired.contains(&news.source) {
            return Some(News { status: REMOVED.to_owned(), ..ended });
        }
        let node = self.nodes.iter().find(|(row, _)| row.source == news.source);
        let over = news.topic != Topic::Node || node.is_none_or(|(row, _)| row.doc.last_seen > news.since);
        over.then_some(ended)
    }
}
