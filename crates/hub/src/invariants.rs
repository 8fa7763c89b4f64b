//! What must be the same on every node of a tier, and is not: judged from the facts that nodes tell of their items.
//!
//! A name may stand for one number here and another there; each node is even by itself then, and files on a share have
//! the wrong owner all the same. Nothing is stored: it is worked out when somebody asks.

use crate::liveness::{HubTimes, liveness};
use crate::store::{Result, View};
use evenkeel_report::Liveness;
use std::collections::BTreeMap;

/// A fact that must not differ between nodes of one tier that have the same item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invariant {
    /// The fact's name.
    pub fact: &'static str,
    /// What it is, and why it matters.
    pub means: &'static str,
}

/// Every invariant there is.
pub const INVARIANTS: &[Invariant] = &[Invariant {
    fact: "owner.uid",
    means: "an owner's name stands for the same number on every node, or files on a share belong to somebody else",
}];

/// One invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The fact.
    pub fact: &'static str,
    /// The tier.
    pub tier: String,
    /// The item.
    pub item: String,
    /// Which nodes say what.
    pub says: BTreeMap<String, Vec<String>>,
}

/// Every invariant that does not hold. A node that is missing has no say: what it told last may be long gone.
///
/// # Errors
/// When the store cannot be read.
pub fn broken(view: &dyn View, times: HubTimes) -> Result<Vec<Broken>> {
    let facts = view.facts()?;
    if facts.is_empty() {
        return Ok(vec![]);
    }
    let alive = |seen: i64, interval: u64| liveness(Some(seen), interval, times) != Liveness::Missing;
    let nodes: BTreeMap<i64, (String, String)> = view
        .nodes(None, usize::MAX)?
        .into_iter()
        .filter(|row| alive(row.doc.last_seen, row.doc.interval_s()))
        .map(|row| (row.key, (row.doc.node.tier, row.doc.node.name)))
        .collect();
    let mut told: BTreeMap<(&str, String, String), BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for (key, item, facts) in facts {
        let Some((tier, name)) = nodes.get(&key) else { continue };
        for invariant in INVARIANTS {
            let Some(value) = facts.get(invariant.fact) else { continue };
            let says = told.entry((invariant.fact, tier.clone(), item.clone())).or_default();
            says.entry(value.clone()).or_default().push(name.clone());
        }
    }
    let differ = told.into_iter().filter(|(_, says)| says.len() > 1);
    Ok(differ.map(|((fact, tier, item), says)| Broken { fact, tier, item, says }).collect())
}
