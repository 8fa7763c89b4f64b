//! What nodes tell of their items beside a status, in memory: of each node the facts and labels that some invariant asks
//! for, as a sheet. Nodes that tell the same have one sheet between them, so a fleet of equals costs what one node does.

use super::Roll;
use super::cell::TextId;
use super::tally::Each;
use crate::liveness::HubTimes;
use evenkeel_report::Liveness;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Facts or labels, by name.
pub type Named = BTreeMap<String, String>;

/// How many nodes of a group are named.
const NAMED: usize = 20;

/// Which facts and which labels are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Facts of items, by name.
    pub facts: BTreeSet<String>,
    /// Labels of nodes, by name.
    pub labels: BTreeSet<String>,
}

/// What one node tells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sheet {
    /// Its labels.
    pub labels: Named,
    /// The facts of its items, by the item's id; no item without one.
    pub items: BTreeMap<String, Named>,
}

/// What is new of one node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// Every label, where they were told.
    pub labels: Option<Named>,
    /// Every fact of these items; of an item that is gone there is none.
    pub items: Vec<(String, Named)>,
    /// Whether the items that are not among these are gone.
    pub whole: bool,
}

/// The sheets, by the node's place among the lines.
#[derive(Debug, Default)]
pub(super) struct Sheets {
    pub(super) wanted: Wanted,
    of: Vec<Option<Arc<Sheet>>>,
    all: HashSet<Arc<Sheet>>,
    sweep_at: usize,
}

fn only(mut named: Named, wanted: &BTreeSet<String>) -> Named {
    named.retain(|name, _| wanted.contains(name));
    named
}

impl Sheets {
    /// Takes over what is new of a node; whether anything that is kept has changed.
    pub(super) fn note(&mut self, node: u32, news: News) -> bool {
        let old = self.of(node);
        let mut sheet = old.map(|sheet| (**sheet).clone()).unwrap_or_default();
        if let Some(labels) = news.labels {
            sheet.labels = only(labels, &self.wanted.labels);
        }
        if news.whole {
            sheet.items.clear();
        }
        for (item, facts) in news.items {
            let kept = only(facts, &self.wanted.facts);
            if kept.is_empty() {
                sheet.items.remove(&item);
            } else {
                sheet.items.insert(item, kept);
            }
        }
        if old.map_or(sheet == Sheet::default(), |old| **old == sheet) {
            return false;
        }
        let shared = self.share(sheet);
        let at = node as usize;
        if self.of.len() <= at {
            self.of.resize(at + 1, None);
        }
        self.of[at] = Some(shared);
        true
    }

    /// What a node tells; nothing where it never told any of it.
    pub(super) fn of(&self, node: u32) -> Option<&Arc<Sheet>> {
        self.of.get(node as usize)?.as_ref()
    }

    pub(super) fn forget(&mut self, node: u32) {
        if let Some(of) = self.of.get_mut(node as usize) {
            *of = None;
        }
    }

    fn share(&mut self, sheet: Sheet) -> Arc<Sheet> {
        if self.all.len() >= self.sweep_at {
            self.all.retain(|sheet| Arc::strong_count(sheet) > 1);
            self.sweep_at = self.all.len() * 2 + 1024;
        }
        if let Some(known) = self.all.get(&sheet) {
            return Arc::clone(known);
        }
        let sheet = Arc::new(sheet);
        self.all.insert(Arc::clone(&sheet));
        sheet
    }
}

/// Nodes of one tier that tell the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Their tier; empty where they have none.
    pub tier: Arc<str>,
    /// What they tell.
    pub sheet: Arc<Sheet>,
    /// How many they are.
    pub nodes: usize,
    /// The first of them, by name.
    pub names: Vec<Arc<str>>,
}

impl Roll {
    /// Takes over what is new of nodes' facts and labels.
    pub fn note(&self, news: impl IntoIterator<Item = (i64, News)>) {
        let mut changed = false;
        let mut lines = self.write();
        for (node, news) in news {
            changed |= lines.note(node, news);
        }
        drop(lines);
        if changed {
            self.change();
        }
    }

    /// Every node that has a say, with those that tell the same. A node that is missing or was taken out has none: what it
    /// told last may be long gone.
    #[must_use]
    pub fn groups(&self, times: HubTimes) -> Vec<Group> {
        let lines = self.read();
        let mut groups: Each<(TextId, *const Sheet), Option<Group>> = Each::default();
        for one in lines.by_name() {
            if matches!(one.liveness(times), Liveness::Missing | Liveness::Decommissioned) {
                continue;
            }
            let (Some(sheet), tier) = (one.sheet(), one.cell.tier) else { continue };
            let group = groups.of((tier, Arc::as_ptr(sheet))).get_or_insert_with(|| {
                let tier = lines.text(tier).cloned().unwrap_or_default();
                Group { tier, sheet: Arc::clone(sheet), nodes: 0, names: vec![] }
            });
            group.nodes += 1;
            if group.names.len() < NAMED {
                group.names.extend(one.line().map(|line| Arc::clone(&line.name)));
            }
        }
        groups.into_each().filter_map(|(_, group)| group).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Named, News, Sheets, Wanted};

    fn named(all: &[(&str, &str)]) -> Named {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn news(items: &[(&str, Named)]) -> News {
        let items = items.iter().map(|(item, facts)| ((*item).to_owned(), facts.clone())).collect();
        News { items, ..News::default() }
    }

    #[test]
    fn equal_nodes_share_a_sheet_and_what_nobody_asks_for_is_not_kept() {
        let wanted = Wanted { facts: ["a".to_owned()].into(), labels: ["rack".to_owned()].into() };
        let mut sheets = Sheets { wanted, ..Sheets::default() };
        let told = news(&[("x", named(&[("a", "1"), ("b", "2")])), ("y", named(&[("b", "3")]))]);
        assert!(sheets.note(1, told.clone()) && sheets.note(2, told.clone()));
        assert!(!sheets.note(1, told), "told again it is no news");
        assert!(!sheets.note(3, news(&[("y", named(&[("b", "3")]))])));
        assert_eq!(sheets.all.len(), 1);
        assert_eq!(sheets.of(1).unwrap().items, [("x".to_owned(), named(&[("a", "1")]))].into());
        let labels = Some(named(&[("rack", "7"), ("serial", "0815")]));
        assert!(sheets.note(2, News { labels, ..News::default() }));
        assert_eq!(sheets.of(2).unwrap().labels, named(&[("rack", "7")]));
        assert!(sheets.note(2, News { whole: true, ..News::default() }));
        assert!(sheets.of(2).unwrap().items.is_empty() && !sheets.of(1).unwrap().items.is_empty());
    }
}
