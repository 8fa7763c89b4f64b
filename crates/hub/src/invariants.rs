//! What must be the same on every node of a tier, and is not: judged from the facts that nodes tell of their items.
//!
//! A name may stand for one number here and another there; each node is even by itself then, and files on a share have
//! the wrong owner all the same. Nothing is stored: it is worked out when somebody asks.

use crate::liveness::HubTimes;
use crate::roll::{Line, Roll};
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

/// Every invariant that does not hold. A node that is missing or was taken out has no say: what it told last may be long gone.
///
/// # Errors
/// When the store cannot be read.
pub fn broken(view: &dyn View, roll: &Roll, times: HubTimes) -> Result<Vec<Broken>> {
    let mut told: BTreeMap<(&str, String, String), BTreeMap<String, Vec<String>>> = BTreeMap::new();
    let alive = |line: &Line| !matches!(line.liveness(times), Liveness::Missing | Liveness::Decommissioned);
    for (key, item, facts) in view.facts()? {
        let its: Vec<_> =
            INVARIANTS.iter().filter_map(|one| Some((one.fact, facts.get(one.fact)?))).collect();
        if its.is_empty() {
            continue;
        }
        let Some(line) = roll.line(key).filter(alive) else { continue };
        for (fact, value) in its {
            let says = told.entry((fact, line.tier.to_string(), item.clone())).or_default();
            says.entry(value.clone()).or_default().push(line.name.to_string());
        }
    }
    let differ = told.into_iter().filter(|(_, says)| says.len() > 1);
    Ok(differ.map(|((fact, tier, item), says)| Broken { fact, tier, item, says }).collect())
}
