//! The pages: made on the server, whole without a script. What nodes wrote is text: escaped by the templates, and
//! control and direction characters are made visible before, so that no value can pass for another.

mod view;
mod words;
pub(crate) use words::shown;

use crate::invariants;
use crate::liveness::HubTimes;
use crate::slots::Slots;
use crate::store::telling::{State, Telling};
use crate::store::{NodeRow, Result, View};
use askama::Template;
use std::collections::BTreeMap;
use view::{Change, Differs, Held, NodeLine, OpenItem, Refusal, Repair, Tier};

/// The most nodes, open items, repairs and changes that a page shows.
const NODES: usize = 500;
const OPEN: usize = 1000;
const REPAIRS: usize = 20;
const CHANGES: usize = 100;

type Page = std::result::Result<String, askama::Error>;

#[derive(Template)]
#[template(path = "fleet.html")]
struct Fleet {
    title: String,
    sentence: String,
    even: bool,
    refusals: Vec<Refusal>,
    tiers: Vec<Tier>,
    hidden: usize,
    broken: Vec<Differs>,
    held: Vec<Held>,
    repairs: Vec<Repair>,
    untold: Option<String>,
}

#[derive(Template)]
#[template(path = "node.html")]
struct Node {
    title: String,
    sentence: String,
    even: bool,
    refusals: Vec<Refusal>,
    line: NodeLine,
    about: Vec<(&'static str, String)>,
    items: Vec<OpenItem>,
    changes: Vec<Change>,
    older: Option<String>,
}

#[derive(Template)]
#[template(path = "nobody.html")]
struct Nobody {
    title: String,
}

/// The front page: every node by tier, what is open, what was repaired.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn fleet(view: &dyn View, slots: &Slots, telling: &dyn Telling, times: HubTimes) -> Result<Page> {
    let rows = view.nodes(None, usize::MAX)?;
    let silences = telling.silences(times.now)?;
    let given_up =
        telling.tallies()?.into_iter().filter(|one| one.state == State::Failed).map(|one| one.count);
    let by_key: BTreeMap<i64, &NodeRow> = rows.iter().map(|row| (row.key, row)).collect();
    let mut open: BTreeMap<i64, Vec<OpenItem>> = BTreeMap::new();
    for (node, id, item) in view.open_items(OPEN)? {
        let Some(row) = by_key.get(&node) else { continue };
        open.entry(node).or_default().push(OpenItem::new(&id, &item, times.now).under(row, &id, &silences));
    }
    let names: BTreeMap<i64, String> = rows.iter().map(|row| (row.key, row.doc.node.name.clone())).collect();
    let repairs = view.repairs(REPAIRS)?;
    let repairs = repairs.iter().map(|(node, row)| Repair::new(names.get(node), row, times.now)).collect();
    let sentence = words::fleet(&rows, times);
    let page = Fleet {
        title: sentence.clone(),
        even: rows.iter().all(|row| words::woes(&row.doc, times).is_empty()),
        sentence,
        refusals: view::refusals(&rows),
        broken: invariants::broken(view, times)?.iter().map(Differs::new).collect(),
        held: slots.held()?.into_values().flatten().map(|row| Held::new(&row, times.now)).collect(),
        hidden: rows.len().saturating_sub(NODES),
        tiers: tiers(rows, open, times),
        repairs,
        untold: words::untold(given_up.sum()),
    };
    Ok(page.render())
}

/// By tier; nodes that are not even first, so that a cut hides none of them before the even ones.
fn tiers(mut rows: Vec<NodeRow>, mut open: BTreeMap<i64, Vec<OpenItem>>, times: HubTimes) -> Vec<Tier> {
    rows.sort_by_cached_key(|row| (words::woes(&row.doc, times).is_empty(), row.doc.node.name.clone()));
    let mut tiers: BTreeMap<String, Vec<NodeLine>> = BTreeMap::new();
    for row in rows.into_iter().take(NODES) {
        let open = open.remove(&row.key).unwrap_or_default();
        tiers.entry(row.doc.node.tier.clone()).or_default().push(NodeLine::new(&row, open, times));
    }
    tiers.into_iter().map(|(name, nodes)| Tier::new(&name, nodes)).collect()
}

/// One node's page; nothing when no node of this name or source has reported.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn node(
    view: &dyn View,
    telling: &dyn Telling,
    name: &str,
    times: HubTimes,
) -> Result<Option<Page>> {
    let Some(row) = view.node(name)? else { return Ok(None) };
    let silences = telling.silences(times.now)?;
    let shown = |id: &str, item| OpenItem::new(id, item, times.now).under(&row, id, &silences);
    let mut items = view.items(row.key)?;
    items.sort_by(|(a_id, a), (b_id, b)| b.status.cmp(&a.status).then_with(|| a_id.cmp(b_id)));
    let changes = view.timeline(row.key, None, CHANGES + 1)?;
    let older = (changes.len() > CHANGES)
        .then(|| format!("/api/v1/nodes/{}/timeline?limit=1000", crate::http::encode(&row.source)));
    let sentence = words::node(&row.doc, times);
    let page = Node {
        title: sentence.clone(),
        sentence,
        even: words::woes(&row.doc, times).is_empty(),
        refusals: view::refusals(std::slice::from_ref(&row)),
        about: view::about(&row, times),
        line: NodeLine::new(&row, vec![], times),
        items: items.iter().map(|(id, item)| shown(id, item)).collect(),
        changes: changes.iter().take(CHANGES).map(|change| Change::new(change, times.now)).collect(),
        older,
    };
    Ok(Some(page.render()))
}

/// The page for a name that nobody has.
///
/// # Errors
/// When the template fails.
pub(crate) fn nobody() -> Page {
    Nobody { title: "No such node".to_owned() }.render()
}
