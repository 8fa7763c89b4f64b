//! The whole roll, counted in one pass: what the first page, the wallboard and the metrics tell.

use super::cell::{Marks, TextId};
use super::{Line, Roll, Short};
use crate::liveness::{self, HubTimes};
use evenkeel_report::{Liveness, Sync};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

/// Something for each of a few keys. Neighbours mostly have the same.
#[derive(Debug)]
pub(crate) struct Each<K, T> {
    all: Vec<(K, T)>,
    at: HashMap<K, usize>,
    last: Option<(K, usize)>,
}

impl<K, T> Default for Each<K, T> {
    fn default() -> Self {
        Self { all: vec![], at: HashMap::new(), last: None }
    }
}

impl<K: Copy + Eq + Hash, T: Default> Each<K, T> {
    /// What belongs to `key`.
    pub(crate) fn of(&mut self, key: K) -> &mut T {
        let at = match self.last {
            Some((last, at)) if last == key => at,
            _ => *self.at.entry(key).or_insert_with(|| {
                self.all.push((key, T::default()));
                self.all.len() - 1
            }),
        };
        self.last = Some((key, at));
        &mut self.all[at].1
    }

    /// Every key and what belongs to it, in the order in which they were first met.
    pub(crate) fn into_each(self) -> impl Iterator<Item = (K, T)> {
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
    fn count(&mut self, marks: &Marks, open: [u32; 3], uneven: bool, alive: Liveness) {
        self.nodes += 1;
        self.uneven += usize::from(uneven);
        self.quiet += usize::from(matches!(alive, Liveness::Silent | Liveness::Missing));
        self.refusing += usize::from(marks.sync == Sync::Failed);
        bump(&mut self.liveness, alive);
        self.synced += usize::from(marks.sync == Sync::Synced);
        for (sum, count) in self.open.iter_mut().zip(open) {
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
        let mut commits: Each<Option<TextId>, usize> = Each::default();
        let mut refused: HashMap<u64, Refused> = HashMap::new();
        let mut uneven: Vec<(u8, Short<'_>)> = vec![];
        let mut tiers: Each<TextId, TierTally> = Each::default();
        for one in lines.by_name() {
            let cell = one.cell;
            let alive = one.liveness(times);
            if alive == Liveness::Decommissioned {
                bump(&mut tally.all.liveness, alive);
                continue;
            }
            let (severity, open) = (one.severity(alive, times.now), one.open());
            if severity > 0 {
                uneven.push((severity, one));
            }
            tally.all.count(&cell.marks, open, severity > 0, alive);
            tiers.of(cell.tier).count(&cell.marks, open, severity > 0, alive);
            *commits.of(cell.commit) += 1;
            if cell.marks.refuses()
                && let Some(line) = one.line()
                && let Some(hash) = line.refused
            {
                let one = refused.entry(hash).or_insert_with(|| Refused { nodes: 0, first: vec![] });
                one.nodes += 1;
                if one.first.len() < NAMED {
                    one.first.push(line.clone());
                }
            }
        }
        tally.worst = pick(&uneven, worst);
        let text = |id: TextId| lines.text(id).map(Arc::clone);
        tally.tiers = tiers.into_each().map(|(id, tier)| (text(id).unwrap_or_default(), tier)).collect();
        tally.commits = commits.into_each().map(|(commit, count)| (commit.and_then(text), count)).collect();
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

/// The worst of them, without sorting all. They come by name.
fn pick(uneven: &[(u8, Short<'_>)], most: usize) -> Vec<Line> {
    type Bad = (Reverse<u8>, Reverse<u32>, usize);
    let bad = |(at, (severity, one)): (usize, &(u8, Short<'_>))| -> Bad {
        let open = one.open().iter().fold(0, |sum: u32, count| sum.saturating_add(*count));
        (Reverse(*severity), Reverse(open), at)
    };
    let mut order: Vec<Bad> = uneven.iter().enumerate().map(bad).collect();
    if order.len() > most && most > 0 {
        order.select_nth_unstable(most - 1);
    }
    order.truncate(most);
    order.sort_unstable();
    order.iter().filter_map(|(.., at)| uneven[*at].1.line().cloned()).collect()
}
