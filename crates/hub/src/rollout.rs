//! How far one commit has come: on how many of the nodes that have seen it it is in force, how long that took, and who
//! is behind. From the roll and from the history's entries of what came into force.

use crate::liveness::{self, HubTimes};
use crate::roll::{Each, Line, Lines, Roll, TextId};
use crate::store::{Result, View};
use evenkeel_report::{Liveness, Sync, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// How many nodes that are behind are named.
const NAMED: usize = 100;

/// How many nodes of a tier have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Reach {
    /// How many nodes there are, also those that have seen nothing of it or have gone on to another.
    pub nodes: usize,
    /// On how many nodes it is in force.
    pub in_force: usize,
    /// How many have seen it, in force or not.
    pub of: usize,
    /// How many of those that are behind are silent or missing.
    pub silent: usize,
    /// How many refused it.
    pub refused: usize,
}

/// A node that has seen the commit and has another in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "NodeBehind")]
pub struct Behind {
    /// Its name.
    pub name: String,
    /// `urn:uuid:…`.
    pub source: String,
    /// Its tier.
    pub tier: String,
    /// How its spec stands.
    #[schemars(with = "Sync")]
    pub sync: &'static str,
    /// Whether it is heard of.
    #[schemars(with = "Liveness")]
    pub liveness: &'static str,
    /// The commit in force.
    pub commit: Option<String>,
}

impl Behind {
    fn new(line: &Line, alive: Liveness) -> Self {
        Self {
            name: line.name.to_string(),
            source: line.source.to_string(),
            tier: line.tier.to_string(),
            sync: crate::roll::sync_word(line.sync),
            liveness: liveness::word(alive),
            commit: line.commit.as_deref().map(str::to_owned),
        }
    }
}

/// How far a commit has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Rollout {
    /// The commit.
    pub commit: String,
    /// Over every tier.
    pub all: Reach,
    /// By tier.
    pub tiers: BTreeMap<String, Reach>,
    /// When the first node was heard to have it in force, by the hub's clock.
    pub first: Option<Timestamp>,
    /// When the last was.
    pub last: Option<Timestamp>,
    /// How long after the first the median node had it (ms).
    pub p50_ms: Option<i64>,
    /// How long after the first 99 of 100 had it (ms).
    pub p99_ms: Option<i64>,
    /// The first hundred nodes that are behind, by name.
    pub behind: Vec<Behind>,
    /// How many nodes had it in force how long after the first (ms), as a curve of at most sixty points.
    pub curve: Vec<(i64, usize)>,
}

/// The full id of a commit that is known by `given` or begins with it; as given where no node has it.
#[must_use]
pub fn resolve(roll: &Roll, given: &str) -> String {
    let lines = roll.read();
    if lines.id(given).is_some() || given.len() < 7 {
        return given.to_owned();
    }
    let mut last = None;
    let kept = lines.by_name().map(|one| one.cell).filter(|cell| !cell.marks.retired());
    let commits = kept.flat_map(|cell| [cell.commit, cell.target]).flatten();
    // Neighbours mostly have the same.
    let mut other = commits.filter(|id| last.replace(*id) != Some(*id)).filter_map(|id| lines.text(id));
    let found = other.find(|commit| commit.starts_with(given));
    found.map_or(given, |commit| commit).to_owned()
}

impl Rollout {
    /// Follows a commit.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn follow(view: &dyn View, roll: &Roll, commit: &str, times: HubTimes) -> Result<Self> {
        let mut rollout = Self {
            commit: commit.to_owned(),
            all: Reach::default(),
            tiers: BTreeMap::new(),
            first: None,
            last: None,
            p50_ms: None,
            p99_ms: None,
            behind: vec![],
            curve: vec![],
        };
        rollout.count(&roll.read(), times);
        let mut taken: Vec<i64> = view.taken(commit)?.into_iter().map(|(_, at)| at).collect();
        taken.sort_unstable();
        rollout.time(&taken);
        Ok(rollout)
    }

    /// Whether anybody has ever had or seen it.
    #[must_use]
    pub fn known(&self) -> bool {
        self.all.of > 0 || self.first.is_some()
    }

    fn count(&mut self, lines: &Lines, times: HubTimes) {
        let commit = lines.id(&self.commit);
        let is = |id: Option<TextId>| id.is_some() && id == commit;
        let mut tiers: Each<TextId, Reach> = Each::default();
        for one in lines.by_name() {
            let cell = one.cell;
            let (in_force, seen) = (is(cell.commit), is(cell.target));
            let alive = one.liveness(times);
            if alive == Liveness::Decommissioned {
                continue;
            }
            let tier = tiers.of(cell.tier);
            for reach in [&mut self.all, &mut *tier] {
                reach.nodes += 1;
            }
            if !in_force && !seen {
                continue;
            }
            let behind = !in_force;
            let silent = behind && matches!(alive, Liveness::Silent | Liveness::Missing);
            for reach in [&mut self.all, tier] {
                reach.of += 1;
                reach.in_force += usize::from(in_force);
                reach.silent += usize::from(silent);
                reach.refused += usize::from(behind && cell.marks.refuses());
            }
            if behind && self.behind.len() < NAMED {
                self.behind.extend(one.line().map(|line| Behind::new(line, alive)));
            }
        }
        let name = |id| lines.text(id).map(ToString::to_string).unwrap_or_default();
        self.tiers = tiers.into_each().map(|(id, reach)| (name(id), reach)).collect();
    }

    /// From the sorted times at which nodes were heard to have it.
    fn time(&mut self, taken: &[i64]) {
        let (Some(first), Some(last)) = (taken.first(), taken.last()) else { return };
        self.first = Timestamp::from_unix_ms(*first);
        self.last = Timestamp::from_unix_ms(*last);
        let after = |share: usize| percentile(taken, share).map(|at| at - first);
        (self.p50_ms, self.p99_ms) = (after(50), after(99));
        let step = taken.len().div_ceil(59).max(1);
        let points = taken.iter().enumerate().map(|(at, time)| (time - first, at + 1));
        self.curve =
            points.filter(|(_, count)| count % step == 0 || *count == taken.len() || *count == 1).collect();
    }
}

/// The smallest value that `share` of 100 do not exceed (nearest rank).
fn percentile(sorted: &[i64], share: usize) -> Option<i64> {
    let rank = (sorted.len() * share).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let hundred: Vec<i64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 99), Some(99));
        assert_eq!(percentile(&hundred, 50), Some(50));
        assert_eq!(percentile(&[7], 99), Some(7));
        assert_eq!(percentile(&[1, 2, 3], 99), Some(3));
        assert_eq!(percentile(&[], 50), None);
    }
}
