//! Which nodes: a filter as it stands in an address, the page of nodes that it picks, and the facets beside it.

use super::tally::Each;
use super::{Line, Lines, Place, Roll};
use crate::liveness::{self, HubTimes};
use evenkeel_report::{Liveness, Status, Sync};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// What stands for "in no tier" in an address.
pub const NO_TIER: &str = "-";

/// Which nodes are meant; every field narrows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Filter {
    tier: Option<String>,
    liveness: Option<Alive>,
    status: Option<Worst>,
    sync: Option<Sync>,
    even: Option<bool>,
    commit: Option<String>,
    behind: Option<String>,
    q: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Worst {
    Open,
    Is(Status),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Alive {
    /// Silent or missing.
    Quiet,
    Is(Liveness),
}

/// A word that no filter has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {given:?} is none of: {known}")]
pub struct BadFilter {
    field: &'static str,
    given: String,
    known: String,
}

/// Every sync and its word.
pub(crate) const SYNCS: [(Sync, &str); 6] = [
    (Sync::Synced, "synced"),
    (Sync::Progressing, "progressing"),
    (Sync::OutOfSync, "out_of_sync"),
    (Sync::Failed, "failed"),
    (Sync::Held, "held"),
    (Sync::Unknown, "unknown"),
];

/// The word of a sync.
pub(crate) fn sync_word(sync: Sync) -> &'static str {
    SYNCS.iter().find(|(one, _)| *one == sync).map_or("unknown", |(_, word)| word)
}

fn one_of<T: Copy>(
    field: &'static str,
    given: Option<&str>,
    known: &[(T, &'static str)],
) -> Result<Option<T>, BadFilter> {
    let Some(given) = given else { return Ok(None) };
    let found = known.iter().find(|(_, word)| *word == given);
    found.map(|(value, _)| Some(*value)).ok_or_else(|| BadFilter {
        field,
        given: given.to_owned(),
        known: known.iter().map(|(_, word)| *word).collect::<Vec<_>>().join(", "),
    })
}

/// Whether a name has `q`, which is in lower case, in it.
fn holds(name: &str, q: &str) -> bool {
    if name.is_ascii() {
        let mut pieces = name.as_bytes().windows(q.len().max(1));
        return q.is_empty() || pieces.any(|piece| piece.eq_ignore_ascii_case(q.as_bytes()));
    }
    name.to_lowercase().contains(q)
}

impl Filter {
    /// From the parameters of an address; one that is empty narrows nothing.
    ///
    /// # Errors
    /// When a word is none that the parameter knows.
    pub fn parse(param: impl Fn(&str) -> Option<String>) -> Result<Self, BadFilter> {
        let given = |name: &str| param(name).filter(|text| !text.is_empty());
        let worst: Vec<_> = Status::ALL
            .iter()
            .map(|one| (Worst::Is(*one), one.word()))
            .chain([(Worst::Open, "open")])
            .collect();
        let lives = liveness::ALL.iter().map(|one| (Alive::Is(*one), liveness::word(*one)));
        let lives: Vec<_> = lives.chain([(Alive::Quiet, "quiet")]).collect();
        let even = [(true, "yes"), (false, "no")];
        Ok(Self {
            tier: given("tier"),
            liveness: one_of("liveness", given("liveness").as_deref(), &lives)?,
            status: one_of("status", given("status").as_deref(), &worst)?,
            sync: one_of("sync", given("sync").as_deref(), &SYNCS)?,
            even: one_of("even", given("even").as_deref(), &even)?,
            commit: given("commit"),
            behind: given("behind"),
            q: given("q").map(|q| q.to_lowercase()),
        })
    }

    /// The parameters again, in one order.
    #[must_use]
    pub fn params(&self) -> Vec<(&'static str, String)> {
        let status = self.status.map(|worst| match worst {
            Worst::Open => "open",
            Worst::Is(status) => status.word(),
        });
        let alive = self.liveness.map(|alive| match alive {
            Alive::Quiet => "quiet",
            Alive::Is(one) => liveness::word(one),
        });
        let all = [
            ("tier", self.tier.clone()),
            ("liveness", alive.map(str::to_owned)),
            ("status", status.map(str::to_owned)),
            ("sync", self.sync.map(|one| sync_word(one).to_owned())),
            ("even", self.even.map(|even| if even { "yes" } else { "no" }.to_owned())),
            ("commit", self.commit.clone()),
            ("behind", self.behind.clone()),
            ("q", self.q.clone()),
        ];
        all.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect()
    }

    /// What is not a facet.
    fn rest_fits(&self, line: &Line, times: HubTimes) -> bool {
        let is = |text: &Option<Arc<str>>, word: &str| text.as_deref() == Some(word);
        let has = |q: &String| holds(&line.name, q) || line.source.contains(q.as_str());
        self.even.is_none_or(|even| line.even(times) == even)
            && self.commit.as_ref().is_none_or(|commit| is(&line.commit, commit))
            && self.behind.as_ref().is_none_or(|commit| is(&line.target, commit) && !is(&line.commit, commit))
            && self.q.as_ref().is_none_or(has)
    }

    /// Each facet by itself: tier, liveness, status, sync.
    fn facets_fit(&self, line: &Line, alive: Liveness) -> [bool; 4] {
        let tier = |tier: &String| if tier == NO_TIER { line.tier.is_empty() } else { **tier == *line.tier };
        let status = |worst| match worst {
            Worst::Open => line.worst.is_open(),
            Worst::Is(status) => line.worst == status,
        };
        let heard = |one| match one {
            Alive::Quiet => matches!(alive, Liveness::Silent | Liveness::Missing),
            Alive::Is(one) => one == alive,
        };
        // Who was taken out is shown to who asks for them.
        let heard_of = self.liveness.map_or(alive != Liveness::Decommissioned, heard);
        [
            self.tier.as_ref().is_none_or(tier),
            heard_of,
            self.status.is_none_or(status),
            self.sync.is_none_or(|one| one == line.sync),
        ]
    }

    fn asks_retired(&self) -> bool {
        self.liveness == Some(Alive::Is(Liveness::Decommissioned))
    }

    /// Whether a node is meant.
    #[must_use]
    pub fn fits(&self, line: &Line, times: HubTimes) -> bool {
        self.rest_fits(line, times) && self.facets_fit(line, line.liveness(times)).iter().all(|fits| *fits)
    }
}

/// How many nodes each choice would leave, with the rest of the filter as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facets {
    /// How many the whole filter leaves.
    pub matching: usize,
    /// How many there are; without those that were taken out, unless they are asked for.
    pub all: usize,
    /// By tier.
    pub tier: BTreeMap<Arc<str>, usize>,
    /// By liveness, in the order of [`liveness::ALL`].
    pub liveness: [usize; 6],
    /// By worst status, in the order of [`Status::ALL`].
    pub status: [usize; 7],
    /// By sync, in the order told by [`Filter`]'s words.
    pub sync: [usize; 6],
}

/// A page of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// The nodes, by name and source.
    pub lines: Vec<Line>,
    /// Whether there are more after the last.
    pub more: bool,
}

impl Roll {
    /// Up to `limit` nodes that fit, after a name and a source; without a source the name is passed whole.
    #[must_use]
    pub fn pick(
        &self,
        filter: &Filter,
        after: Option<(&str, Option<&str>)>,
        limit: usize,
        times: HubTimes,
    ) -> Picked {
        let lines = self.read();
        let mut fitting =
            lines.after(after).filter(|line| filter.fits(line, times)).take(limit.saturating_add(1)).cloned();
        let mut lines: Vec<_> = fitting.by_ref().take(limit).collect();
        let more = fitting.next().is_some();
        lines.shrink_to_fit();
        Picked { lines, more }
    }

    /// How many nodes each choice would leave.
    #[must_use]
    pub fn facets(&self, filter: &Filter, times: HubTimes) -> Facets {
        let lines = self.read();
        let retired = if filter.asks_retired() {
            0
        } else {
            lines.by_name.values().filter(|line| line.retired).count()
        };
        let mut facets = Facets { all: lines.by_name.len() - retired, ..Facets::default() };
        let mut tiers = Each::default();
        for line in lines.by_name.values().filter(|line| filter.rest_fits(line, times)) {
            facets.count(line, filter, times, &mut tiers);
        }
        facets.tier = tiers.into_each().map(|(name, count)| (Arc::clone(name), count)).collect();
        facets
    }
}

impl Facets {
    fn count<'a>(&mut self, line: &'a Line, filter: &Filter, times: HubTimes, tiers: &mut Each<'a, usize>) {
        let alive = line.liveness(times);
        let fit = filter.facets_fit(line, alive);
        let misses = fit.iter().filter(|fits| !**fits).count();
        self.matching += usize::from(misses == 0);
        let counts = |at: usize| misses == 0 || (misses == 1 && !fit[at]);
        if counts(0) {
            *tiers.of(&line.tier) += 1;
        }
        if counts(1) {
            bump(&mut self.liveness, liveness::ALL.iter().position(|one| *one == alive));
        }
        if counts(2) {
            bump(&mut self.status, Status::ALL.iter().position(|one| *one == line.worst));
        }
        if counts(3) {
            bump(&mut self.sync, SYNCS.iter().position(|(one, _)| *one == line.sync));
        }
    }
}

fn bump(counts: &mut [usize], at: Option<usize>) {
    if let Some(count) = at.and_then(|at| counts.get_mut(at)) {
        *count += 1;
    }
}

impl Lines {
    /// Every line behind a place.
    fn after(&self, after: Option<(&str, Option<&str>)>) -> impl Iterator<Item = &Line> {
        let from: Bound<Place> = match after {
            None => Bound::Unbounded,
            Some((name, Some(source))) => Bound::Excluded((name.into(), source.into())),
            // No source sorts after the largest character.
            Some((name, None)) => Bound::Excluded((name.into(), char::MAX.to_string().into())),
        };
        self.by_name.range((from, Bound::Unbounded)).map(|(_, line)| line)
    }
}
