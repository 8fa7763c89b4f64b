//! What people may want to be told of an event: what began to be off by it, and what is over. Only what stands is
//! compared, before and after: a report that comes late tells no news.

use super::items::Known;
use crate::store::telling::{News, Severity, Topic};
use crate::store::{ItemRow, NodeDoc, NodeRow};
use evenkeel_report::{Event, Report, Scope, Status, Sync};
use std::collections::BTreeSet;

/// How bad an item is that stands so.
#[must_use]
pub fn severity(status: Status) -> Severity {
    match status {
        Status::Error => Severity::Critical,
        Status::NonCompliant => Severity::Warning,
        _ => Severity::Info,
    }
}

/// News of a node, with nothing in it yet.
#[must_use]
pub fn blank(row: &NodeRow, topic: Topic, now: i64) -> News {
    News {
        topic,
        open: true,
        severity: Severity::Critical,
        node: row.doc.node.name.clone(),
        source: row.source.clone(),
        tier: row.doc.node.tier.clone(),
        item: String::new(),
        status: String::new(),
        reason: None,
        drift: vec![],
        declared_at: None,
        commit: row.doc.spec.observed_commit.clone(),
        since: now,
        at: now,
    }
}

/// An item that is open, as news.
#[must_use]
pub fn of_item(row: &NodeRow, id: &str, item: &ItemRow, now: i64) -> News {
    let status = item.status.unwrap_or(Status::NotApplicable);
    News {
        severity: severity(status),
        item: id.to_owned(),
        status: status.word().to_owned(),
        reason: item.detail.reason.clone(),
        drift: item.detail.drift.clone(),
        declared_at: item.detail.declared_at.clone(),
        since: item.detail.since.map_or(now, evenkeel_report::Timestamp::unix_ms),
        ..blank(row, Topic::Item, now)
    }
}

/// A commit that the node refuses, as news; nothing where it refuses none.
#[must_use]
pub fn of_refusal(row: &NodeRow, now: i64) -> Option<News> {
    let commit = refused(&row.doc)?;
    let reason = Some(row.doc.spec.errors.join("\n")).filter(|text| !text.is_empty());
    Some(News {
        status: "refused".to_owned(),
        reason,
        commit: Some(commit),
        since: row.doc.voice.at,
        ..blank(row, Topic::Commit, now)
    })
}

/// The commit that a node refuses.
pub(super) fn refused(doc: &NodeDoc) -> Option<String> {
    let refuses = doc.spec.sync == Sync::Failed;
    refuses.then(|| doc.spec.target_commit.clone().unwrap_or_default())
}

/// What changed of a refusal; `before` is what was refused before.
pub(super) fn of_spec(row: &NodeRow, before: Option<&str>, now: i64) -> Vec<News> {
    let after = of_refusal(row, now);
    match (before, after) {
        (Some(old), Some(new)) if new.commit.as_deref() == Some(old) => vec![],
        (_, Some(new)) => vec![new],
        (Some(old), None) => {
            let status = "refused".to_owned();
            let commit = Some(old.to_owned());
            vec![News { open: false, status, commit, ..blank(row, Topic::Commit, now) }]
        }
        (None, None) => vec![],
    }
}

/// What changed of the items that a report touched.
pub(super) fn of_items(
    row: &NodeRow,
    known: &Known,
    after: &Known,
    event: &Event<Report>,
    now: i64,
) -> Vec<News> {
    let data = &event.data;
    let mut touched: BTreeSet<&String> = data.items.iter().map(|item| &item.id).chain(&data.gone).collect();
    if data.scope == Scope::Full {
        touched.extend(known.keys());
    }
    let open = |item: Option<&ItemRow>| item.and_then(|item| item.status).filter(|status| status.is_open());
    let mut news = vec![];
    for id in touched {
        let (old, new) = (known.get(id), after.get(id));
        match (open(old), open(new)) {
            (was, Some(is)) if was != Some(is) => news.extend(new.map(|item| of_item(row, id, item, now))),
            (Some(_), None) => {
                news.extend(old.map(|item| News { open: false, ..of_item(row, id, item, now) }));
            }
            _ => {}
        }
    }
    // One that was open and is repaired is told as its end.
    let by_the_way =
        |id: &String| open(known.get(id)).is_none() && after.get(id).is_some_and(|item| item.seq == data.seq);
    for item in data.items.iter().filter(|item| item.status == Status::Repaired && by_the_way(&item.id)) {
        let told = ItemRow {
            status: Some(Status::Repaired),
            detail: crate::store::Detail::from(item),
            seq: data.seq,
        };
        news.push(News { topic: Topic::Repair, open: false, ..of_item(row, &item.id, &told, now) });
    }
    news
}
