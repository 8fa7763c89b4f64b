//! How far a commit has come, and which commits are in force.

use super::fleet::{Commit, commits, refusals};
use super::node::nothing;
use super::view::{Refusal, When, short};
use super::{Page, Top, words};
use crate::accounts::Who;
use crate::http::{address, encode};
use crate::look::Look;
use crate::roll::{Short, TextId};
use crate::rollout::{Behind, Reach, Rollout, resolve};
use crate::store::Result;
use askama::Template;

/// The most commits that are listed.
const COMMITS: usize = 100;
/// The size of the curve's picture.
const WIDTH: i64 = 600;
const HEIGHT: i64 = 120;

#[derive(Template)]
#[template(path = "rollouts.html")]
struct Rollouts {
    top: Top,
    title: String,
    commits: Vec<Commit>,
}

#[derive(Template)]
#[template(path = "rollout.html")]
struct Follow {
    top: Top,
    title: String,
    even: bool,
    commit: String,
    refusals: Vec<Refusal>,
    first: Option<When>,
    last: Option<When>,
    p50: Option<String>,
    p99: Option<String>,
    curve: Option<Curve>,
    tiers: Vec<Tier>,
    behind: Vec<Row>,
    more: Option<(usize, String)>,
}

/// The curve as a line of a picture.
struct Curve {
    points: String,
    span: String,
    nodes: usize,
}

struct Tier {
    name: String,
    reach: Reach,
}

struct Row {
    name: String,
    href: String,
    tier: String,
    sync: &'static str,
    liveness: String,
    commit: Option<String>,
}

/// Which commits are in force.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn rollouts(who: &Who, look: &Look<'_>) -> Result<Page> {
    let tally = look.tally()?;
    let commits = commits(&tally, COMMITS);
    let title = match commits.len() {
        0 => "No commit is in force yet".to_owned(),
        1 => format!("One commit is in force on {}", words::count(commits[0].nodes, "node", "nodes")),
        many => format!("{many} commits are in force"),
    };
    Ok(Rollouts { top: Top::of(who), title, commits }.render())
}

/// How far a commit has come; nothing when nobody has ever had or seen it.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn rollout(who: &Who, look: &Look<'_>, given: &str) -> Result<Option<Page>> {
    let commit = resolve(look.roll, given);
    let rollout = Rollout::follow(look.view, look.roll, &commit, look.times)?;
    if !rollout.known() {
        return Ok(None);
    }
    let branch = branch(look, &commit)?;
    let tally = look.tally()?;
    let mut told = refusals(look, &tally)?;
    told.retain(|refusal| refusal.commit.as_deref() == Some(&*short(&words::shown(&commit))));
    let now = look.times.now;
    let when = |at: Option<evenkeel_report::Timestamp>| at.map(|at| When::new(at.unix_ms(), now));
    let left = (rollout.all.of - rollout.all.in_force).saturating_sub(rollout.behind.len());
    let page = Follow {
        top: Top::of(who),
        title: sentence(&rollout, &branch),
        even: rollout.all.in_force == rollout.all.of,
        commit: words::shown(&commit),
        refusals: told,
        first: when(rollout.first),
        last: when(rollout.last),
        p50: rollout.p50_ms.map(words::lasting),
        p99: rollout.p99_ms.map(words::lasting),
        curve: curve(&rollout),
        tiers: rollout
            .tiers
            .iter()
            .map(|(name, reach)| Tier { name: words::tier(name), reach: *reach })
            .collect(),
        behind: rollout.behind.iter().map(Row::new).collect(),
        more: (left > 0).then(|| (left, address("/nodes", &[("behind", commit)]))),
    };
    Ok(Some(page.render()))
}

/// The branch that the first node that has seen the commit follows.
fn branch(look: &Look<'_>, commit: &str) -> Result<String> {
    let found = {
        let lines = look.roll.read();
        let has = |id: TextId| {
            let seen = |one: &Short<'_>| {
                !one.cell.marks.retired() && [one.cell.target, one.cell.commit].contains(&Some(id))
            };
            lines.by_name().find(seen).and_then(|one| one.line().cloned())
        };
        lines.id(commit).and_then(has)
    };
    let rows = look.rows(found.as_slice())?;
    Ok(rows.first().map(|row| words::shown(&row.doc.spec.branch)).unwrap_or_default())
}

/// "main@3f2c1a in force on 42/42, p99 38 s, 1 silent, 3 elsewhere".
fn sentence(rollout: &Rollout, branch: &str) -> String {
    let name = short(&words::shown(&rollout.commit));
    let name = if branch.is_empty() { name } else { format!("{branch}@{name}") };
    let all = rollout.all;
    let (in_force, of) = (words::thousands(all.in_force), words::thousands(all.of));
    let mut told = format!("{name} in force on {in_force}/{of}");
    if let Some(p99) = rollout.p99_ms.filter(|_| all.of > 1) {
        told = format!("{told}, p99 {}", words::lasting(p99));
    }
    let elsewhere = all.nodes - all.of;
    for (count, word) in [(all.refused, "refused it"), (all.silent, "silent"), (elsewhere, "elsewhere")] {
        if count > 0 {
            told = format!("{told}, {} {word}", words::thousands(count));
        }
    }
    told
}

/// The curve from the first node to the last; nothing where one node is all.
fn curve(rollout: &Rollout) -> Option<Curve> {
    let (span, nodes) = rollout.curve.last().copied().filter(|(span, nodes)| *span > 0 && *nodes > 1)?;
    let most = i64::try_from(nodes.max(rollout.all.of)).ok()?;
    let mut points = format!("0,{HEIGHT}");
    for (at, count) in &rollout.curve {
        let y = HEIGHT - i64::try_from(*count).ok()?.saturating_mul(HEIGHT - 4) / most;
        points = format!("{points} {},{y}", at.saturating_mul(WIDTH) / span);
    }
    Some(Curve { points, span: words::lasting(span), nodes })
}

impl Row {
    fn new(behind: &Behind) -> Self {
        Self {
            name: words::shown(&behind.name),
            href: format!("/nodes/{}", encode(&behind.source)),
            tier: words::tier(&behind.tier),
            sync: crate::roll::SYNCS
                .iter()
                .find(|(_, word)| *word == behind.sync)
                .map_or("", |(sync, _)| words::sync(*sync)),
            liveness: behind.liveness.replace('_', " "),
            commit: behind.commit.as_deref().map(|commit| short(&words::shown(commit))),
        }
    }
}

/// The page for a commit that nobody has.
pub(crate) fn no_commit(who: &Who) -> Page {
    nothing(who, "No such commit", "No node has ever had or seen this commit.")
}
