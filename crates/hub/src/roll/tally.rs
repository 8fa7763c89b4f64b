//! The whole roll, counted in one pass: what the first page, the wallboard and the metrics tell.

use super::{Line, Roll};
use crate::liveness::{self, HubTimes};
use evenkeel_report::{Liveness, Sync};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Something for each of the strings that lines share. They are shared, so their address tells which one it is, and
/// neighbours mostly have the same: no text is compared.
#[derive(Debug)]
pub(super) struct Each<'a, T> {
    all: Vec<(&'a Arc<str>, T)>,
    at: HashMap<*const u8, usize>,
    last: Option<(*const u8, usize)>,
}

impl<T> Default for Each<'_, T> {
    fn default() -> Self {
        Self { all: vec![], at: HashMap::new(), last: None }
    }
}

impl<'a, T: Default> Each<'a, T> {
    /// What belongs to `text`.
    pub(super) fn of(&mut self, text: &'a Arc<str>) -> &mut T {
        let address = text.as_ptr();
        let at = match self.last {
            Some((last, at)) if last == address => at,
            _ => *self.at.entry(address).or_insert_with(|| {
                self.all.push((text, T::default()));
                self.all.len() - 1
            }),
        };
        self.last = Some((address, at));
        &mut self.all[at].1
    }

    pub(super) fn into_each(self) -> impl Iterator<Item = (&'a Arc<str>, T)> {
        self.all.into_iter()
    }
}

/// How many nodes of a refusal are named.
const NAMED: usize = 5;

/// How one tier stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TierTally {
    /// How many nodes it has.
    pub nodes: usize,
    /// How many of them are not even.
    pub uneven: usize,
    /// How many are silent or missing.
    pub quiet: usize,
    /// How many items are pending, non-compliant, in error.
    pub open: [u64; 3],
    /// How many nodes have the newest commit they have seen in force.
    pub synced: usize,
    /// How many nodes refuse the newest commit they have seen.
    pub refusing: usize,
    /// Nodes by liveness, in the order of [`liveness::ALL`]. Those that were taken out are counted here, of all nodes
    /// together, and nowhere else.
    pub liveness: [usize; liveness::ALL.len()],
}

/// One spec that was refused for the same reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// How many nodes refused it.
    pub nodes: usize,
    /// The first of them.
    pub first: Vec<Line>,
}

/// How the fleet stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Every node together.
    pub all: TierTally,
    /// By tier.
    pub tiers: BTreeMap<Arc<str>, TierTally>,
    /// Which commit is in force on how many nodes; most first.
    pub commits: Vec<(Option<Arc<str>>, usize)>,
    /// What was refused; by most nodes first.
    pub refused: Vec<Refused>,
    /// The worst nodes, worst first.
    pub worst: Vec<Line>,
}

fn bump(counts: &mut [usize; liveness::ALL.len()], alive: Liveness) {
    if let Some(at) = liveness::ALL.iter().position(|one| *one == alive) {
        counts[at] += 1;
    }
}

impl TierTally {
    fn count(&mut self, line: &Line, uneven: bool, alive: Liveness) {
        self.nodes += 1;
        self.uneven += usize::from(uneven);
        self.quiet += usize::from(matches!(alive, Liveness::Silent | Liveness::Missing));
        self.refusing += usize::from(line.sync == Sync::Failed);
        bump(&mut self.liveness, alive);
        self.synced += usize::from(line.sync == Sync::Synced);
        for (sum, count) in self.open.iter_mut().zip(line.open) {
            *sum += u64::from(count);
        }
    }
}

impl Roll {
    /// Counts everything once, and picks the `worst` nodes.
    #[must_use]
    pub fn tally(&self, worst: usize, times: HubTimes) -> Tally {
        let lines = self.read();
        let mut tally = Tally::default();
        let mut commits: Each<'_, usize> = Each::default();
        let mut without = 0;
        let mut refused: HashMap<u64, Refused> = HashMap::new();
        let mut uneven: Vec<(u8, &Line)> = vec![];
        let mut tiers: Each<'_, TierTally> = Each::default();
        for line in lines.by_name.values() {
            let severity = line.severity(times);
            let alive = line.liveness(times);
            if alive == Liveness::Decommissioned {
                bump(&mut tally.all.liveness, alive);
                continue;
            }
            if severity > 0 {
                uneven.push((severity, line));
            }
            tally.all.count(line, severity > 0, alive);
            tiers.of(&line.tier).count(line, severity > 0, alive);
            match &line.commit {
                Some(commit) => *commits.of(commit) += 1,
                None => without += 1,
            }
            if let Some(hash) = line.refused {
                let one = refused.entry(hash).or_insert_with(|| Refused { nodes: 0, first: vec![] });
                one.nodes += 1;
                if one.first.len() < NAMED {
                    one.first.push(line.clone());
                }
            }
        }
        tally.worst = pick(uneven, worst);
        tally.tiers = tiers.into_each().map(|(name, tier)| (Arc::clone(name), tier)).collect();
        tally.commits =
            commits.into_each().map(|(commit, count)| (Some(Arc::clone(commit)), count)).collect();
        tally.commits.extend((without > 0).then_some((None, without)));
        tally.commits.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        tally.refused = refused.into_values().collect();
        tally.refused.sort_by(|a, b| {
            b.nodes
                .cmp(&a.nodes)
                .then_with(|| a.first.first().map(|one| &one.name).cmp(&b.first.first().map(|one| &one.name)))
        });
        tally
    }
}

/// The worst of them, without sorting all.
fn pick(mut uneven: Vec<(u8, &Line)>, most: usize) -> Vec<Line> {
    let order = |a: &(u8, &Line), b: &(u8, &Line)| {
        b.0.cmp(&a.0).then_with(|| b.1.open().cmp(&a.1.open())).then_with(|| a.1.name.cmp(&b.1.name))
    };
    if uneven.len() > most && most > 0 {
        uneven.select_nth_unstable_by(most - 1, order);
    }
    uneven.truncate(most);
    uneven.sort_by(order);
    uneven.into_iter().map(|(_, line)| line.clone()).collect()
}
