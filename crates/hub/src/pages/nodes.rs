//! The list of nodes: facets with counts, a page at a time. The address is the filter, and the filter is the address.

use super::view::NodeLine;
use super::{Page, Top, words};
use crate::accounts::Who;
use crate::http::{address, next};
use crate::liveness;
use crate::look::Look;
use crate::roll::{Facets, Filter, NO_TIER, SYNCS};
use crate::store::Result;
use askama::Template;
use evenkeel_report::Status;

/// How many tiers are offered.
const TIERS: usize = 20;

#[derive(Template)]
#[template(path = "nodes.html")]
struct Nodes {
    top: Top,
    title: String,
    q: String,
    /// What a search keeps of the filter.
    hidden: Vec<(&'static str, String)>,
    facets: Vec<Facet>,
    /// What narrows the list and is no facet: what it says, and the address without it.
    tags: Vec<(String, String)>,
    lines: Vec<NodeLine>,
    next: Option<String>,
    first: Option<String>,
    exports: Vec<(&'static str, String)>,
    none: bool,
}

/// One facet.
struct Facet {
    name: &'static str,
    choices: Vec<Choice>,
}

/// One value of a facet.
struct Choice {
    label: String,
    count: usize,
    href: String,
    on: bool,
}

impl Choice {
    fn shown(&self) -> String {
        words::thousands(self.count)
    }
}

/// A page of the nodes that fit.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn nodes(
    who: &Who,
    look: &Look<'_>,
    filter: &Filter,
    after: Option<(&str, Option<&str>)>,
    limit: usize,
) -> Result<Page> {
    let picked = look.roll.pick(filter, after, limit, look.times);
    let counted = look.facets(filter)?;
    let rows = look.rows(&picked.lines)?;
    let params = filter.params();
    let value = |name: &str| params.iter().find(|(one, _)| *one == name).map(|(_, value)| value.clone());
    let api = |format: &str| {
        let with = params.iter().cloned().chain([("format", format.to_owned())]);
        address("/api/v1/nodes", &with.collect::<Vec<_>>())
    };
    let last = picked.lines.last().filter(|_| picked.more);
    let page = Nodes {
        top: Top::of(who),
        title: sentence(&counted, params.is_empty()),
        q: value("q").unwrap_or_default(),
        hidden: params.iter().filter(|(name, _)| *name != "q").cloned().collect(),
        facets: facets(&counted, &params),
        tags: tags(&params),
        lines: rows.iter().map(|row| NodeLine::new(row, vec![], look.times)).collect(),
        next: last.map(|last| next("/nodes", filter, last, None)),
        first: after.map(|_| address("/nodes", &params)),
        exports: vec![
            ("CSV", api("csv")),
            ("NDJSON", api("ndjson")),
            ("JSON", address("/api/v1/nodes", &params)),
        ],
        none: look.roll.is_empty(),
    };
    Ok(page.render())
}

fn sentence(counted: &Facets, whole: bool) -> String {
    let nodes = |count: usize| words::count(count, "node", "nodes");
    match (counted.matching, counted.all) {
        (_, 0) => "No node has reported yet".to_owned(),
        (_, all) if whole => nodes(all),
        (0, all) => format!("None of {} fits", nodes(all)),
        (some, all) => format!("{} of {}", words::thousands(some), nodes(all)),
    }
}

type Given = [(&'static str, String)];

/// The filter with one parameter set to another value, or without it.
fn with(params: &Given, name: &'static str, value: Option<&str>) -> String {
    let rest = params.iter().filter(|(one, _)| *one != name).cloned();
    address("/nodes", &rest.chain(value.map(|value| (name, value.to_owned()))).collect::<Vec<_>>())
}

/// A facet's choices: those that would leave something, and the one that is chosen.
fn facet(
    name: &'static str,
    param: &'static str,
    values: impl IntoIterator<Item = (String, String, usize)>,
    params: &Given,
) -> Facet {
    let chosen = params.iter().find(|(one, _)| *one == param).map(|(_, value)| value.as_str());
    let mut choices = vec![];
    for (word, label, count) in values {
        let on = chosen == Some(&*word);
        if count > 0 || on {
            let href = with(params, param, (!on).then_some(&*word));
            choices.push(Choice { label, count, href, on });
        }
    }
    Facet { name, choices }
}

fn facets(counted: &Facets, params: &Given) -> Vec<Facet> {
    let mut tiers: Vec<_> = counted.tier.iter().map(|(tier, count)| (&**tier, *count)).collect();
    let chosen = params.iter().find(|(name, _)| *name == "tier").map(|(_, value)| value.as_str());
    tiers.sort_by_key(|(tier, count)| (chosen != Some(*tier), std::cmp::Reverse(*count)));
    tiers.truncate(TIERS);
    tiers.sort_unstable();
    let tiers = tiers.into_iter().map(|(tier, count)| {
        let word = if tier.is_empty() { NO_TIER } else { tier };
        (word.to_owned(), words::tier(tier), count)
    });
    let lives = liveness::ALL.into_iter().zip(counted.liveness).map(|(one, count)| {
        let word = liveness::word(one);
        (word.to_owned(), word.replace('_', " "), count)
    });
    let is_open = Status::ALL.into_iter().zip(counted.status).filter(|(status, _)| status.is_open());
    let open = ("open".to_owned(), "open".to_owned(), is_open.map(|(_, count)| count).sum());
    let statuses = Status::ALL.into_iter().zip(counted.status).rev();
    let statuses = statuses.map(|(one, count)| (one.word().to_owned(), words::status(one).to_owned(), count));
    let syncs = SYNCS.into_iter().zip(counted.sync);
    let syncs = syncs.map(|((one, word), count)| (word.to_owned(), words::sync(one).to_owned(), count));
    vec![
        facet("Tier", "tier", tiers, params),
        facet("Heard of", "liveness", lives, params),
        facet("Worst item", "status", [open].into_iter().chain(statuses), params),
        facet("Spec", "sync", syncs, params),
    ]
}

/// What narrows the list beside the facets.
fn tags(params: &Given) -> Vec<(String, String)> {
    let tag = |(name, value): &(&'static str, String)| {
        let says = match *name {
            "even" if value == "yes" => "even".to_owned(),
            "even" => "not even".to_owned(),
            "liveness" if value == "quiet" => "silent or missing".to_owned(),
            "commit" => format!("has {} in force", super::view::short(&words::shown(value))),
            "behind" => format!("behind {}", super::view::short(&words::shown(value))),
            "q" => format!("name has “{}”", words::shown(value)),
            _ => return None,
        };
        Some((says, with(params, name, None)))
    };
    params.iter().filter_map(tag).collect()
}
