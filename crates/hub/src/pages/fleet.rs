//! The front page: the fleet in one sentence, what is the matter with it, tier by tier, and its worst nodes.

use super::plot::Counts;
use super::view::{self, Held, NodeLine, OpenItem, Refusal, Repair};
use super::words;
use super::{Page, Top};
use crate::accounts::Who;
use crate::http::address;
use crate::look::Look;
use crate::roll::{Line, NO_TIER, Tally, TierTally};
use crate::store::telling::{Silence, State};
use crate::store::{NodeRow, Result, SlotRow};
use askama::Template;

/// Up to so many nodes, every one is shown; of a larger fleet, the worst.
const ALL: usize = 30;
/// The most open items of a node, repairs, tiers, commits, refusals and slots that are shown.
const OPEN: usize = 6;
const REPAIRS: usize = 12;
const TIERS: usize = 40;
const COMMITS: usize = 5;
const REFUSALS: usize = 5;
const SLOTS: usize = 20;

#[derive(Template)]
#[template(path = "fleet.html")]
struct Fleet {
    top: Top,
    title: String,
    sentence: String,
    even: bool,
    none: bool,
    /// Whether every node is shown; then they come first.
    small: bool,
    refusals: Vec<Refusal>,
    tiers: Vec<Tier>,
    more_tiers: usize,
    nodes_title: &'static str,
    nodes: Vec<NodeLine>,
    more: Option<(usize, String)>,
    commits: Vec<Commit>,
    broken: usize,
    adrift: Option<Counts>,
    /// Messages that nobody took.
    untold: Option<String>,
    held: Vec<Held>,
    repairs: Vec<Repair>,
}

/// One tier in the table.
pub(super) struct Tier {
    pub(super) name: String,
    pub(super) nodes: Counted,
    pub(super) uneven: Counted,
    pub(super) quiet: Counted,
    pub(super) error: Counted,
    pub(super) non_compliant: Counted,
    pub(super) pending: Counted,
}

/// A number, and the list of what it counts.
pub(super) struct Counted {
    pub(super) count: u64,
    pub(super) href: String,
}

impl Counted {
    fn shown(&self) -> String {
        words::thousands(usize::try_from(self.count).unwrap_or(usize::MAX))
    }
}

impl Tier {
    fn new(name: &str, tally: &TierTally) -> Self {
        let word = if name.is_empty() { NO_TIER } else { name };
        let link = |more: &[(&'static str, &str)]| {
            let params = [("tier", word)].into_iter().chain(more.iter().copied());
            address("/nodes", &params.map(|(name, value)| (name, value.to_owned())).collect::<Vec<_>>())
        };
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let [pending, non_compliant, error] = tally.open;
        let open = |status| address("/drift", &[("tier", word.to_owned()), ("status", String::from(status))]);
        Self {
            name: words::tier(name),
            nodes: Counted { count: count(tally.nodes), href: link(&[]) },
            uneven: Counted { count: count(tally.uneven), href: link(&[("even", "no")]) },
            quiet: Counted { count: count(tally.quiet), href: link(&[("liveness", "quiet")]) },
            error: Counted { count: error, href: open("error") },
            non_compliant: Counted { count: non_compliant, href: open("open") },
            pending: Counted { count: pending, href: open("open") },
        }
    }
}

/// A commit that is in force somewhere.
pub(super) struct Commit {
    pub(super) short: String,
    pub(super) full: String,
    pub(super) href: String,
    pub(super) nodes: usize,
    pub(super) share: usize,
}

/// The commits in force, most nodes first.
pub(super) fn commits(tally: &Tally, most: usize) -> Vec<Commit> {
    let known = tally.commits.iter().filter_map(|(commit, nodes)| Some((commit.as_deref()?, *nodes)));
    let one = |(commit, nodes): (&str, usize)| Commit {
        short: view::short(&words::shown(commit)),
        full: words::shown(commit),
        href: format!("/rollout/{}", crate::http::encode(commit)),
        nodes,
        share: (nodes * 100).checked_div(tally.all.nodes).unwrap_or(0),
    };
    known.take(most).map(one).collect()
}

/// How the fleet stands.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn fleet(who: &Who, look: &Look<'_>) -> Result<Page> {
    let tally = look.tally()?;
    let (all, uneven) = (tally.all.nodes, tally.all.uneven);
    let shown = if all <= ALL { every(look) } else { tally.worst.clone() };
    let rows = look.rows(&shown)?;
    let few: Vec<&NodeRow> =
        rows.iter().filter(|row| !words::woes(&row.doc, look.times).is_empty()).collect();
    let sentence = words::fleet(all, uneven, tally.all.open, &few, rows.first(), look.times);
    let left = uneven.saturating_sub(shown.len());
    let more = (all > ALL && left > 0).then(|| (left, address("/nodes", &[("even", "no".to_owned())])));
    let silences = look.telling.silences(look.times.now)?;
    let nodes: Result<Vec<_>> = rows.iter().map(|row| line(look, row, &silences)).collect();
    let held = look.slots.held()?;
    let broken = look.broken()?.len();
    let given_up = look.telling.tallies()?.into_iter().filter(|one| one.state == State::Failed);
    let given_up = given_up.map(|one| one.count);
    let top = Top::of(who);
    let slot = |row: &SlotRow| Held::new(row, top.acts && who.has_tier(&row.group), look.times.now);
    let page = Fleet {
        title: sentence.clone(),
        sentence,
        even: uneven == 0,
        none: all == 0,
        small: all <= ALL,
        refusals: refusals(look, &tally)?,
        tiers: tally.tiers.iter().take(TIERS).map(|(name, tier)| Tier::new(name, tier)).collect(),
        more_tiers: tally.tiers.len().saturating_sub(TIERS),
        nodes_title: if all <= ALL { "Nodes" } else { "Worst nodes" },
        nodes: nodes?,
        more,
        commits: commits(&tally, COMMITS),
        broken,
        adrift: Counts::new(look.adrift()?.as_ref()),
        untold: words::untold(given_up.sum()),
        held: held.values().flatten().take(SLOTS).map(slot).collect(),
        repairs: repairs(look)?,
        top,
    };
    Ok(page.render())
}

/// Every node, worst first.
fn every(look: &Look<'_>) -> Vec<Line> {
    let mut lines = vec![];
    look.roll.each(|line| lines.push(line.clone()));
    lines.sort_by_key(|line| std::cmp::Reverse((line.severity(look.times), line.open())));
    lines
}

/// A node with what is open on it.
fn line(look: &Look<'_>, row: &NodeRow, silences: &[Silence]) -> Result<NodeLine> {
    let mut open = vec![];
    if row.doc.counts.open() > 0 {
        let mut items = look.view.items(row.key)?;
        items.retain(|(_, item)| item.status.is_some_and(evenkeel_report::Status::is_open));
        items.sort_by(|(a_id, a), (b_id, b)| b.status.cmp(&a.status).then_with(|| a_id.cmp(b_id)));
        let shown =
            |(id, item): &(String, _)| OpenItem::new(id, item, look.times.now).under(row, id, silences);
        open.extend(items.iter().take(OPEN).map(shown));
    }
    Ok(NodeLine::new(row, open, look.times))
}

/// What was refused, with the reasons that the first node of each told.
pub(super) fn refusals(look: &Look<'_>, tally: &Tally) -> Result<Vec<Refusal>> {
    let mut told = vec![];
    for refused in tally.refused.iter().take(REFUSALS) {
        let Some(first) = refused.first.first() else { continue };
        let names: Vec<&str> = refused.first.iter().map(|line| &*line.name).collect();
        let rows = look.rows(std::slice::from_ref(first))?;
        told.extend(rows.first().map(|row| Refusal::new(&row.doc.spec, &names, refused.nodes)));
    }
    Ok(told)
}

fn repairs(look: &Look<'_>) -> Result<Vec<Repair>> {
    let repairs = look.view.repairs(REPAIRS)?;
    let one = |(node, row): &(i64, _)| Repair::new(look.roll.line(*node).as_ref(), row, look.times.now);
    Ok(repairs.iter().map(one).collect())
}
