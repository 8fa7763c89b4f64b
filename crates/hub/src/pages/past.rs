//! One node as it stood at a moment in the past.

use super::incident::local;
use super::view::OpenItem;
use super::{Page, Top, words};
use crate::accounts::Who;
use crate::http::encode;
use crate::look::Look;
use crate::past::{Known, Past, Was};
use crate::store::Result;
use askama::Template;
use evenkeel_report::{Status, Timestamp};

/// By how much "earlier" and "later" lead on (ms).
const STEP: i64 = 600_000;

#[derive(Template)]
#[template(path = "past.html")]
struct Then {
    top: Top,
    title: String,
    name: String,
    even: bool,
    href: String,
    at: String,
    earlier: String,
    later: Option<String>,
    reached: bool,
    reaches: String,
    /// Why what is told may be old.
    silent: Option<String>,
    spec: Option<(String, &'static str)>,
    open: Vec<OpenItem>,
    quiet: Vec<(OpenItem, String)>,
}

/// What is said of how something is known.
fn known(was: &Was) -> String {
    let since = was.changed.map(|at| format!("since {}", exact(at))).unwrap_or_default();
    match was.known {
        Known::Told => since,
        Known::Unchanged => "nothing had changed by then; it may not have been kept yet".to_owned(),
        Known::Left => format!("{since}; no longer kept, and when it left is not known"),
        Known::Forgotten => "the change that would say it has been forgotten".to_owned(),
    }
}

/// A node's page as of `at` (unix ms); nothing when no node of this name or source has reported.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn past(who: &Who, look: &Look<'_>, name: &str, at: i64) -> Result<Option<Page>> {
    let Some(row) = look.view.node(name)? else { return Ok(None) };
    let past = Past::look(look.view, &row, at, look.kept_since())?;
    let href = format!("/nodes/{}", encode(&row.source));
    let then = |at: i64| format!("{href}?at={}", encode(&moment(at)));
    let name = words::shown(&row.doc.node.name);
    let in_words = exact(at);
    let title = match (past.reached(), past.open()) {
        (false, _) => format!("How {name} stood at {in_words} is not known any more"),
        (true, 0) => format!("Nothing was off on {name} at {in_words}"),
        (true, some) => {
            format!("{} off on {name} at {in_words}", words::count(some, "item was", "items were"))
        }
    };
    let mut items: Vec<(&String, &Was)> = past.items.iter().collect();
    items.sort_by(|(a_id, a), (b_id, b)| b.item.status.cmp(&a.item.status).then_with(|| a_id.cmp(b_id)));
    let (open, quiet): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|(_, was)| was.item.status.is_some_and(Status::is_open));
    let one = |(id, was): &(&String, &Was)| {
        let item = OpenItem::new(id, &was.item, at);
        if was.item.status.is_none() { OpenItem { status: "unknown", ..item } } else { item }
    };
    let spec = past.spec.as_ref().and_then(|spec| {
        let word = match spec.status.as_str() {
            "failed" => "in force, and its newest was refused",
            "held" => "held",
            _ => "in force",
        };
        Some((super::view::short(&words::shown(spec.commit.as_deref()?)), word))
    });
    let silent = (row.doc.last_seen < at).then(|| exact(row.doc.last_seen));
    let page = Then {
        top: Top::of(who),
        title,
        even: past.reached() && past.open() == 0,
        at: local(at),
        earlier: then(at - STEP),
        later: Some(at + STEP).filter(|later| *later <= look.times.now).map(then),
        reached: past.reached(),
        reaches: exact(past.reaches),
        silent,
        spec,
        open: open.iter().map(one).collect(),
        quiet: quiet.iter().map(|it| (one(it), known(it.1))).collect(),
        name,
        href,
    };
    Ok(Some(page.render()))
}

fn moment(at: i64) -> String {
    Timestamp::from_unix_ms(at).map(|at| at.to_string()).unwrap_or_default()
}

/// A moment to the second, as people read it.
fn exact(at: i64) -> String {
    format!("{} UTC", moment(at - at.rem_euclid(1000)).replace('T', " ").trim_end_matches('Z'))
}
