//! Which nodes: a filter as it stands in an address, the page of nodes that it picks, and the facets beside it.

use super::cell::{Cell, Marks, TextId};
use super::tally::Each;
use super::{Line, Lines, Roll, Short};
use crate::liveness::{self, HubTimes};
use evenkeel_report::{Liveness, Status, Sync};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many lines are looked at by name for a page before it is found out whether only few fit, and how many are few.
const WALK: usize = if cfg!(test) { 8 } else { 10_000 };
const FEW: usize = if cfg!(test) { 4 } else { 1_000 };

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
    fn rest_fits(&self, even: impl FnOnce() -> bool, texts: Texts, named: impl FnOnce(&str) -> bool) -> bool {
        texts.commit
            && texts.behind
            && self.even.is_none_or(|asked| even() == asked)
            && self.q.as_deref().is_none_or(named)
    }

    /// Each facet by itself: tier, liveness, status, sync.
    fn facets_fit(&self, marks: &Marks, alive: Liveness, texts: Texts) -> [bool; 4] {
        let status = |worst| match worst {
            Worst::Open => marks.worst.is_open(),
            Worst::Is(status) => marks.worst == status,
        };
        let heard = |one| match one {
            Alive::Quiet => matches!(alive, Liveness::Silent | Liveness::Missing),
            Alive::Is(one) => one == alive,
        };
        // Who was taken out is shown to who asks for them.
        let heard_of = self.liveness.map_or(alive != Liveness::Decommissioned, heard);
        [texts.tier, heard_of, self.status.is_none_or(status), self.sync.is_none_or(|one| one == marks.sync)]
    }

    fn asks_retired(&self) -> bool {
        self.liveness == Some(Alive::Is(Liveness::Decommissioned))
    }

    /// Whether a node is meant.
    #[must_use]
    pub fn fits(&self, line: &Line, times: HubTimes) -> bool {
        let (marks, alive) = (Marks::from(line), line.liveness(times));
        let is = |text: &Option<Arc<str>>, word: &str| text.as_deref() == Some(word);
        let tier = |tier: &String| if tier == NO_TIER { line.tier.is_empty() } else { **tier == *line.tier };
        let behind = |commit: &String| is(&line.target, commit) && !is(&line.commit, commit);
        let texts = Texts {
            tier: self.tier.as_ref().is_none_or(tier),
            commit: self.commit.as_ref().is_none_or(|commit| is(&line.commit, commit)),
            behind: self.behind.as_ref().is_none_or(behind),
        };
        self.rest_fits(|| line.even(times), texts, |q| named(line, q))
            && self.facets_fit(&marks, alive, texts).iter().all(|fits| *fits)
    }
}

/// Whether `q`, which is in lower case, is in a node's name or source.
fn named(line: &Line, q: &str) -> bool {
    holds(&line.name, q) || line.source.contains(q)
}

/// What a filter's texts say of a line; true where it has none.
#[derive(Debug, Clone, Copy)]
struct Texts {
    tier: bool,
    commit: bool,
    behind: bool,
}

/// A filter among lines that are held still: no text is compared.
struct Sought<'a> {
    filter: &'a Filter,
    times: HubTimes,
    tier: Option<TextId>,
    commit: Option<TextId>,
    behind: Option<TextId>,
}

impl<'a> Sought<'a> {
    fn new(filter: &'a Filter, lines: &Lines, times: HubTimes) -> Self {
        let id = |text: &str| lines.id(text).unwrap_or(TextId::NONE);
        let tier = filter.tier.as_deref().map(|tier| id(if tier == NO_TIER { "" } else { tier }));
        Self {
            filter,
            times,
            tier,
            commit: filter.commit.as_deref().map(id),
            behind: filter.behind.as_deref().map(id),
        }
    }

    fn texts(&self, cell: &Cell) -> Texts {
        let behind = |commit| cell.target == Some(commit) && cell.commit != Some(commit);
        Texts {
            tier: self.tier.is_none_or(|tier| cell.tier == tier),
            commit: self.commit.is_none_or(|commit| cell.commit == Some(commit)),
            behind: self.behind.is_none_or(behind),
        }
    }

    /// Each facet by itself: tier, liveness, status, sync.
    fn facets(&self, cell: &Cell, alive: Liveness) -> [bool; 4] {
        self.filter.facets_fit(&cell.marks, alive, self.texts(cell))
    }

    /// What is not a facet.
    fn rest(&self, one: Short<'_>, alive: Liveness) -> bool {
        let named = |q: &str| one.line().is_some_and(|line| named(line, q));
        let even = || one.severity(alive, self.times.now) == 0;
        self.filter.rest_fits(even, self.texts(one.cell), named)
    }

    fn fits(&self, one: Short<'_>) -> bool {
        let alive = one.liveness(self.times);
        self.facets(one.cell, alive).iter().all(|fits| *fits) && self.rest(one, alive)
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
        let sought = Sought::new(filter, &lines, times);
        let mut walk = lines.after(after);
        let most = limit.saturating_add(1);
        let mut found: Vec<Short<'_>> =
            walk.by_ref().take(WALK).filter(|one| sought.fits(*one)).take(most).collect();
        // Few fit, or none for a long way: by name every step is somewhere else in memory, so all are looked through first.
        if found.len() < most
            && let Some(next) = walk.next()
        {
            let all: Vec<Short<'_>> = lines.all().filter(|one| sought.fits(*one)).take(FEW + 1).collect();
            if all.len() <= FEW {
                let place = |one: &Short<'_>| {
                    one.line().map(|line| (Arc::clone(&line.name), Arc::clone(&line.source)))
                };
                let from = place(&next);
                let mut rest: Vec<_> = all.into_iter().filter(|one| place(one) >= from).collect();
                rest.sort_by_cached_key(place);
                found.extend(rest);
            } else {
                found.extend(
                    std::iter::once(next)
                        .chain(walk)
                        .filter(|one| sought.fits(*one))
                        .take(most - found.len()),
                );
            }
        }
        let more = found.len() > limit;
        let lines = found.iter().take(limit).filter_map(|one| one.line().cloned()).collect();
        Picked { lines, more }
    }

    /// How many nodes each choice would leave.
    #[must_use]
    pub fn facets(&self, filter: &Filter, times: HubTimes) -> Facets {
        let lines = self.read();
        let sought = Sought::new(filter, &lines, times);
        let with_retired = filter.asks_retired();
        let (mut facets, mut tiers) = (Facets::default(), Each::default());
        for one in lines.all() {
            let alive = one.liveness(times);
            facets.all += usize::from(with_retired || alive != Liveness::Decommissioned);
            if sought.rest(one, alive) {
                facets.count(one.cell, alive, sought.facets(one.cell, alive), &mut tiers);
            }
        }
        let tier = |(id, count): (TextId, usize)| Some((Arc::clone(lines.text(id)?), count));
        facets.tier = tiers.into_each().filter_map(tier).collect();
        facets
    }
}

impl Facets {
    fn count(&mut self, cell: &Cell, alive: Liveness, fit: [bool; 4], tiers: &mut Each<TextId, usize>) {
        let misses = fit.iter().filter(|fits| !**fits).count();
        self.matching += usize::from(misses == 0);
        let counts = |at: usize| misses == 0 || (misses == 1 && !fit[at]);
        if counts(0) {
            *tiers.of(cell.tier) += 1;
        }
        if counts(1) {
            bump(&mut self.liveness, liveness::ALL.iter().position(|one| *one == alive));
        }
        if counts(2) {
            bump(&mut self.status, Status::ALL.iter().position(|one| *one == cell.marks.worst));
        }
        if counts(3) {
            bump(&mut self.sync, SYNCS.iter().position(|(one, _)| *one == cell.marks.sync));
        }
    }
}

fn bump(counts: &mut [usize], at: Option<usize>) {
    if let Some(count) = at.and_then(|at| counts.get_mut(at)) {
        *count += 1;
    }
}
