//! What must not differ between the nodes of one tier: each item as each of them will have it, shown to its kind together.
//!
//! Only what the kind says is a complaint; that two nodes differ is what layers are for. A glob stands for the nodes that
//! it names and nobody else does.

use crate::layers::{self, Merged, Rank, Voice};
use crate::ledger::Ledger;
use crate::repository::{Repository, node_of};
use crate::table::Row;
use crate::{select, speak};
use evenkeel_core::RawItem;
use std::collections::{BTreeMap, BTreeSet};

/// One node, or glob, with one item as the layers have it there.
struct One {
    who: String,
    rank: Rank,
    merged: Merged,
    raw: RawItem,
}

/// Look across every tier that more than one stack of documents speaks to.
pub(crate) fn check(repository: &Repository, ledger: &mut Ledger) {
    for (_, nodes) in tiers(repository) {
        let own = |node: &&String| repository.has_own_file(node);
        // Without a file of a node's own, all of a tier is the same.
        if nodes.len() < 2 || !nodes.iter().any(|node| own(&node)) {
            continue;
        }
        for row in &repository.rows {
            for (name, of) in items(repository, *row, &nodes) {
                complain(*row, &name, &of, ledger);
            }
        }
    }
}

/// Who is on each tier: what `fleet.yaml` names, and what only a file of its own names, by way of a glob.
fn tiers(repository: &Repository) -> BTreeMap<&str, BTreeSet<String>> {
    let mut tiers: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for selector in repository.selectors() {
        tiers.entry(&selector.tier).or_default().insert(selector.pattern.clone());
    }
    for node in repository.documents.keys().filter_map(|path| node_of(path)) {
        if let Ok(selector) = select::find(&repository.fleet.selectors, node) {
            tiers.entry(&selector.tier).or_default().insert(node.to_owned());
        }
    }
    tiers
}

/// Every item of one kind, as each node has it.
fn items(repository: &Repository, row: Row, nodes: &BTreeSet<String>) -> BTreeMap<String, Vec<One>> {
    let mut items: BTreeMap<String, Vec<One>> = BTreeMap::new();
    for who in nodes {
        let Some(selector) = repository
            .fleet
            .selectors
            .iter()
            .find(|one| one.pattern == *who)
            .or_else(|| select::find(&repository.fleet.selectors, who).ok())
        else {
            continue;
        };
        let layers = repository.stack(selector, who);
        for (name, voices) in layers::voices(&layers, row.kind.name()) {
            items.entry(name.to_owned()).or_default().extend(one(repository, row, who, &voices));
        }
    }
    items
}

fn one(repository: &Repository, row: Row, who: &str, voices: &[Voice]) -> Option<One> {
    let merged = layers::merge(row, repository.fleet.mode, voices)?;
    if merged.fields.is_poisoned() {
        return None;
    }
    let rank = voices.last()?.layer.rank;
    Some(One { who: who.to_owned(), rank, raw: merged.raw(), merged })
}

fn complain(row: Row, name: &str, of: &[One], ledger: &mut Ledger) {
    // What most have is what the others differ from; where nobody is in the majority, the weakest layer is.
    let alike = |one: &One| of.iter().filter(|other| other.raw.fields == one.raw.fields).count();
    let Some(usual) = of.iter().max_by_key(|one| (alike(one), std::cmp::Reverse(one.rank))) else { return };
    let differs =
        of.iter().filter(|one| one.raw.fields != usual.raw.fields || one.raw.absent != usual.raw.absent);
    let Some(odd) = differs.max_by_key(|one| one.rank) else { return };
    let shown: Vec<(&str, &RawItem)> = of.iter().map(|one| (one.who.as_str(), &one.raw)).collect();
    for complaint in row.kind.across(name, &shown) {
        speak::complain(row, name, &odd.merged, &complaint, ledger);
    }
}
