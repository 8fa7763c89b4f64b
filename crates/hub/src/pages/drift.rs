//! What has drifted: each open drift once, with every node that has it; and what was closed within the hour.

use super::silences;
use super::view::{self, Off, When};
use super::{Page, Top, words};
use crate::accounts::Who;
use crate::drifts::{self, Closed, Group, Lately, NodeRef};
use crate::http::{address, encode};
use crate::look::Look;
use crate::roll::Filter;
use crate::store::Result;
use crate::tell::silence::is_within;
use askama::Template;

/// The most groups and closed drifts that are shown.
const GROUPS: usize = 100;
const CLOSED: usize = 40;

#[derive(Template)]
#[template(path = "drift.html")]
struct Drift {
    top: Top,
    title: String,
    even: bool,
    item: String,
    hidden: Vec<(&'static str, String)>,
    tags: Vec<String>,
    cut: bool,
    /// Whether more changed within the hour than is read.
    lately_cut: bool,
    groups: Vec<Line>,
    more: usize,
    closed: Vec<Done>,
}

/// One open drift.
struct Line {
    item: String,
    status: &'static str,
    tone: &'static str,
    nodes: usize,
    first: Vec<(String, String)>,
    more: usize,
    since: Option<When>,
    reason: Option<String>,
    declared_at: Option<String>,
    drift: Vec<Off>,
    flapping: usize,
    contested: usize,
    /// Where who looks may silence it.
    silence: Option<String>,
}

/// One that was closed.
struct Done {
    node: String,
    href: String,
    item: String,
    how: &'static str,
    at: When,
    lasted: Option<String>,
    drift: Vec<Off>,
    writer: Option<String>,
    flapping: bool,
    contested: bool,
}

fn link(node: &NodeRef) -> (String, String) {
    (words::shown(&node.name), format!("/nodes/{}", encode(&node.source)))
}

impl Line {
    fn new(group: &Group, now: i64) -> Self {
        Self {
            item: words::shown(&group.item),
            status: words::status(group.status),
            tone: view::tone(group.status.word()),
            nodes: group.nodes,
            first: group.first.iter().map(link).collect(),
            more: group.nodes.saturating_sub(group.first.len()),
            since: group.since.map(|since| When::new(since.unix_ms(), now)),
            reason: group.reason.as_deref().map(words::shown),
            declared_at: group.declared_at.as_deref().map(words::shown),
            drift: view::offs(&group.drift),
            flapping: group.flapping,
            contested: group.contested,
            silence: None,
        }
    }

    /// With the way to silence it, where somebody may: in its tier, and on its node where it has one alone.
    fn with_silence(self, who: &Who, group: &Group) -> Self {
        let tier = group.tier.as_deref().filter(|tier| !tier.is_empty());
        // Of a drift of many tiers, who is bound to some silences his part.
        if group.tier.is_some() && !is_within(who, tier.unwrap_or("*")) {
            return self;
        }
        let node = group.first.first().filter(|_| group.nodes == 1).map(|node| node.name.as_str());
        Self { silence: Some(silences::make(tier, node, Some(&group.item))), ..self }
    }
}

impl Done {
    fn new(closed: &Closed, now: i64) -> Self {
        let (node, href) = link(&closed.node);
        Self {
            node,
            href,
            item: words::shown(&closed.item),
            how: if closed.repaired { "repaired" } else { "came right" },
            at: When::new(closed.at.map_or(now, evenkeel_report::Timestamp::unix_ms), now),
            lasted: closed.lasted_ms.map(words::lasting),
            drift: view::offs(&closed.drift),
            writer: closed.writer.as_ref().map(words::writer),
            flapping: closed.flapping,
            contested: closed.contested,
        }
    }
}

/// What has drifted on nodes that fit, of items whose id contains `item`.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn drift(who: &Who, look: &Look<'_>, filter: &Filter, item: &str) -> Result<Page> {
    let lately = Lately::read(look.view, look.times.now)?;
    let open = drifts::of(look, filter, item, &lately)?;
    let closed = lately.closed(look.view, look.roll, CLOSED)?;
    let title = match open.items {
        0 => "Nothing is adrift".to_owned(),
        items => format!(
            "{} adrift on {}",
            words::count(items, "item is", "items are"),
            words::count(open.nodes, "node", "nodes")
        ),
    };
    let params = filter.params();
    let top = Top::of(who);
    let line = |group: &Group| {
        let line = Line::new(group, look.times.now);
        if top.acts { line.with_silence(who, group) } else { line }
    };
    let groups = open.groups.iter().take(GROUPS).map(line).collect();
    let page = Drift {
        top,
        title,
        even: open.items == 0,
        item: item.to_owned(),
        tags: params.iter().map(|(name, value)| format!("{name} {}", words::shown(value))).collect(),
        hidden: params,
        cut: open.cut,
        lately_cut: lately.cut(),
        more: open.groups.len().saturating_sub(GROUPS),
        groups,
        closed: closed.iter().map(|closed| Done::new(closed, look.times.now)).collect(),
    };
    Ok(page.render())
}

/// The page about one item.
pub(super) fn of_item(item: &str) -> String {
    address("/drift", &[("item", item.to_owned())])
}
