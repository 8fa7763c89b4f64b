//! The wallboard: a few large numbers, readable across a room; nothing to press.

use super::view::short;
use super::{Page, words};
use crate::look::Look;
use crate::roll::Line;
use crate::store::Result;
use askama::Template;

/// How many tiers and nodes are shown.
const TIERS: usize = 12;
const WORST: usize = 8;

#[derive(Template)]
#[template(path = "wall.html")]
struct Wall {
    title: String,
    tone: &'static str,
    share: String,
    numbers: Vec<Number>,
    tiers: Vec<Tier>,
    worst: Vec<(String, String)>,
    commit: Option<(String, String)>,
}

struct Number {
    count: String,
    word: &'static str,
    tone: &'static str,
}

struct Tier {
    name: String,
    nodes: String,
    uneven: usize,
    even_share: usize,
    tone: &'static str,
}

/// How many of a hundred; never a hundred while one is missing.
fn percent(part: usize, all: usize) -> usize {
    if part == all { 100 } else { (part * 100).checked_div(all).unwrap_or(100).min(99) }
}

/// The wallboard.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn wall(look: &Look<'_>) -> Result<Page> {
    let tally = look.tally()?;
    let all = &tally.all;
    let [pending, non_compliant, error] = all.open;
    let number = |count: u64, word, tone| {
        let tone = if count == 0 { "plain" } else { tone };
        Number { count: words::thousands(usize::try_from(count).unwrap_or(usize::MAX)), word, tone }
    };
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let even = all.nodes - all.uneven;
    let tiers = tally.tiers.iter().take(TIERS).map(|(name, tier)| Tier {
        name: words::tier(name),
        nodes: words::thousands(tier.nodes),
        uneven: tier.uneven,
        even_share: percent(tier.nodes - tier.uneven, tier.nodes),
        tone: if tier.uneven == 0 { "good" } else { "warn" },
    });
    let first = tally.commits.iter().find_map(|(commit, nodes)| Some((commit.as_deref()?, *nodes)));
    let refused: usize = tally.refused.iter().map(|one| one.nodes).sum();
    let page = Wall {
        title: match (all.nodes, all.uneven) {
            (0, _) => "No node has reported yet".to_owned(),
            (nodes, 0) => format!("{}, all even", words::count(nodes, "node", "nodes")),
            (nodes, uneven) => {
                format!("{} of {} not even", words::thousands(uneven), words::count(nodes, "node", "nodes"))
            }
        },
        tone: if error > 0 || all.quiet > 0 {
            "bad"
        } else if all.uneven > 0 {
            "warn"
        } else {
            "good"
        },
        share: format!("{}%", percent(even, all.nodes)),
        numbers: vec![
            number(error, "in error", "bad"),
            number(non_compliant, "non-compliant", "warn"),
            number(pending, "pending", "warn"),
            number(count(all.quiet), "silent", "bad"),
            number(count(refused), "refused a spec", "bad"),
        ],
        tiers: tiers.collect(),
        worst: tally
            .worst
            .iter()
            .take(WORST)
            .map(|line| (words::shown(&line.name), why(line, look)))
            .collect(),
        commit: first.map(|(commit, nodes)| {
            let on = format!("in force on {}/{}", words::thousands(nodes), words::thousands(all.nodes));
            (short(&words::shown(commit)), on)
        }),
    };
    Ok(page.render())
}

/// The first thing that is the matter with a node.
fn why(line: &Line, look: &Look<'_>) -> String {
    let [pending, non_compliant, error] = line.open;
    match line.severity(look.times) {
        6 => format!("{error} in error"),
        5 => "refused its spec".to_owned(),
        4 => format!("silent for {}", words::span(look.times.now.saturating_sub(line.last_seen))),
        3 if non_compliant > 0 => format!("{non_compliant} non-compliant"),
        3 => "stalled or cloned".to_owned(),
        2 if pending > 0 => format!("{pending} pending"),
        2 => "behind".to_owned(),
        _ => "not known yet".to_owned(),
    }
}
