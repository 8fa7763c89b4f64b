//! One node: a plain sentence, its items worst first with every layer side by side, and what changed.

use super::plot::Plot;
use super::silences;
use super::view::{self, Change, NodeLine, OpenItem, Refusal};
use super::{Page, Top, words};
use crate::accounts::Who;
use crate::look::Look;
use crate::store::{ItemRow, Result};
use crate::tell::silence::is_within;
use askama::Template;
use evenkeel_report::{Status, Sync};

/// The most changes that are shown.
const CHANGES: usize = 100;

#[derive(Template)]
#[template(path = "node.html")]
struct Node {
    top: Top,
    title: String,
    sentence: String,
    even: bool,
    refusals: Vec<Refusal>,
    line: NodeLine,
    about: Vec<(&'static str, String)>,
    rollout: Option<String>,
    /// Those that want somebody's eye, with their layers.
    open: Vec<OpenItem>,
    /// The others.
    quiet: Vec<OpenItem>,
    plot: Plot,
    /// Where an earlier moment is asked for.
    href: String,
    changes: Vec<Change>,
    older: Option<String>,
}

#[derive(Template)]
#[template(path = "nobody.html")]
struct Nobody {
    top: Top,
    title: String,
    why: &'static str,
}

/// One node's page, with a picture of the last `hours`; nothing when no node of this name or source has reported.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn node(who: &Who, look: &Look<'_>, name: &str, hours: i64) -> Result<Option<Page>> {
    let (view, times) = (look.view, look.times);
    let Some(row) = view.node(name)? else { return Ok(None) };
    let mut items = view.items(row.key)?;
    items.sort_by(|(a_id, a), (b_id, b)| b.status.cmp(&a.status).then_with(|| a_id.cmp(b_id)));
    let (open, quiet): (Vec<_>, Vec<_>) =
        items.iter().partition(|(_, item)| item.status.is_some_and(Status::is_open));
    let in_force = look.telling.silences(times.now)?;
    let commit_in_force = row.doc.spec.observed_commit.as_deref();
    let top = Top::of(who);
    let tier = &row.doc.node.tier;
    let may_silence = top.acts && is_within(who, tier);
    let silence = |id: &str| {
        let tier = Some(tier.as_str()).filter(|tier| !tier.is_empty());
        may_silence.then(|| silences::make(tier, Some(&row.doc.node.name), Some(id)))
    };
    let one = |(id, item): &(String, ItemRow)| {
        let link = |at: &String| super::git::link(&row.doc.spec.repo, commit_in_force, at);
        let link = item.detail.declared_at.as_ref().and_then(link);
        let item = OpenItem::new(id, item, times.now).under(&row, id, &in_force);
        let silence = silence(id).filter(|_| item.silenced.is_none());
        OpenItem { link, silence, ..item }
    };
    let told = |items: Vec<&(String, ItemRow)>| items.into_iter().map(one).collect();
    let changes = view.timeline(row.key, None, CHANGES + 1)?;
    let older = (changes.len() > CHANGES)
        .then(|| format!("/api/v1/nodes/{}/timeline?limit=1000", crate::http::encode(&row.source)));
    let sentence = words::node(&row.doc, times);
    let spec = &row.doc.spec;
    let refused = spec.sync == Sync::Failed || !spec.errors.is_empty();
    let commit = spec.target_commit.as_ref().or(spec.observed_commit.as_ref());
    let plot = Plot::new(view, &row, &items, hours, times)?;
    let page = Node {
        top,
        plot,
        href: format!("/nodes/{}", crate::http::encode(&row.source)),
        title: sentence.clone(),
        sentence,
        even: words::woes(&row.doc, times).is_empty(),
        refusals: refused.then(|| Refusal::new(spec, &[&row.doc.node.name], 1)).into_iter().collect(),
        about: view::about(&row, times),
        rollout: commit.map(|commit| format!("/rollout/{}", crate::http::encode(commit))),
        line: NodeLine::new(&row, vec![], times),
        open: told(open),
        quiet: told(quiet),
        changes: changes.iter().take(CHANGES).map(|change| Change::new(change, times.now)).collect(),
        older,
    };
    Ok(Some(page.render()))
}

/// The page for a name that nobody has.
///
/// # Errors
/// When the template fails.
pub(crate) fn nobody(who: &Who) -> Page {
    let why = "No node of this name or source has ever reported here.";
    nothing(who, "No such node", why)
}

/// The page for a commit that nobody has.
///
/// # Errors
/// When the template fails.
pub(super) fn nothing(who: &Who, title: &str, why: &'static str) -> Page {
    Nobody { top: Top::of(who), title: title.to_owned(), why }.render()
}
