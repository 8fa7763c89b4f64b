//! What a message says to a person. What nodes wrote is shown as it is, with control and direction characters visible.

use super::fleet::REMOVED;
use super::route::Bundle;
use crate::http::encode;
use crate::pages::shown;
use crate::store::telling::{News, Topic};

/// How many nodes a sentence names.
const NAMED: usize = 5;
/// How much of a reason is shown.
const REASON: usize = 300;

/// One line: what is off, or over, and where.
pub(super) fn summary(bundle: &Bundle) -> String {
    let (item, status) = (shown(&bundle.item), shown(&bundle.status).replace('_', "-"));
    let nodes = nodes(bundle);
    let tier = bundle.nodes.first().map(|news| shown(&news.tier)).unwrap_or_default();
    match (bundle.topic, bundle.open) {
        (Topic::Item, true) => format!("{item} is {status} on {nodes}"),
        (Topic::Item, false) => format!("{item} is no more {status} on {nodes}"),
        (Topic::Repair, _) => format!("{item} was put right on {nodes}"),
        (Topic::Node, true) => format!("{nodes} {} silent", if bundle.count == 1 { "is" } else { "are" }),
        (Topic::Node, false) if bundle.status == REMOVED => {
            format!("{nodes} {} taken out", if bundle.count == 1 { "was" } else { "were" })
        }
        (Topic::Node, false) => format!("{nodes} {} back", if bundle.count == 1 { "is" } else { "are" }),
        (Topic::Commit, open) => {
            let commit = bundle.nodes.first().and_then(|news| news.commit.as_deref()).unwrap_or_default();
            let short: String = shown(commit).chars().take(12).collect();
            let word = if open { "was refused by" } else { "is refused no more by" };
            format!("commit {short} {word} {nodes}")
        }
        (Topic::Invariant, true) => format!("{item} differs between the nodes of {tier}"),
        (Topic::Invariant, false) => format!("{item} is the same again on the nodes of {tier}"),
    }
}

fn nodes(bundle: &Bundle) -> String {
    let names: Vec<String> = bundle.nodes.iter().take(NAMED).map(|news| shown(&news.node)).collect();
    let more = bundle.count.saturating_sub(names.len() as u64);
    match (bundle.count, more) {
        (1, _) => names.concat(),
        (count, 0) => format!("{count} nodes ({})", names.join(", ")),
        (count, more) => format!("{count} nodes ({} and {more} more)", names.join(", ")),
    }
}

/// What is off, layer by layer, or why.
pub(super) fn detail(news: &News) -> Vec<String> {
    let mut lines: Vec<String> = news
        .drift
        .iter()
        .take(5)
        .map(|drift| {
            let observed = drift.observed.as_deref().map_or_else(|| "nothing".to_owned(), shown);
            format!("{}: {observed} instead of {}", shown(&drift.attr), shown(&drift.desired))
        })
        .collect();
    lines.extend(news.reason.as_deref().map(|reason| shown(reason).chars().take(REASON).collect()));
    lines.extend(news.declared_at.as_deref().map(|at| format!("declared at {}", shown(at))));
    lines
}

/// The node's page.
pub(super) fn link(public_url: Option<&str>, news: &News) -> Option<String> {
    let base = public_url?.trim_end_matches('/');
    if news.source.is_empty() {
        Some(format!("{base}/"))
    } else {
        Some(format!("{base}/nodes/{}", encode(&news.source)))
    }
}
