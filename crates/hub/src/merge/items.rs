//! The items of a node: per item, the report with the greatest number decides.

use crate::store::{Detail, ItemRow, NodeRow, Result, Tx};
use evenkeel_report::{Item, Report, Scope, Seq};
use std::collections::BTreeMap;

/// The items as they stood before a report.
pub(super) type Known = BTreeMap<String, ItemRow>;

/// Brings the items up to what `report` says, where nothing newer has said otherwise.
pub(super) fn apply(tx: &mut dyn Tx, row: &NodeRow, known: &Known, report: &Report) -> Result<()> {
    let seq = report.seq;
    // A later full report listed everything there was; whatever an earlier one says is history.
    if row.doc.full.is_some_and(|full| seq < full) {
        return Ok(());
    }
    let older = |id: &str| known.get(id).is_none_or(|item| item.seq < seq);
    for item in report.items.iter().filter(|item| older(&item.id)) {
        tx.put_item(row.key, &item.id, &ItemRow::settled(item, seq))?;
    }
    match report.scope {
        // A cut list is no whole list.
        Scope::Full if report.truncated => Ok(()),
        Scope::Full => sweep(tx, row.key, known, report),
        Scope::Changes => bury(tx, row.key, report.gone.iter().filter(|id| older(id)), seq),
    }
}

/// What a full report does not list is not kept any more.
fn sweep(tx: &mut dyn Tx, node: i64, known: &Known, report: &Report) -> Result<()> {
    let listed: std::collections::BTreeSet<&str> = report.items.iter().map(|item| item.id.as_str()).collect();
    for (id, item) in known {
        if item.seq < report.seq && !listed.contains(id.as_str()) {
            tx.drop_item(node, id)?;
        }
    }
    Ok(())
}

/// A tombstone for each item that is gone, against older reports still on their way.
fn bury<'a>(tx: &mut dyn Tx, node: i64, gone: impl Iterator<Item = &'a String>, seq: Seq) -> Result<()> {
    for id in gone {
        tx.put_item(node, id, &ItemRow { status: None, detail: Detail::default(), seq })?;
    }
    Ok(())
}

/// An item as the node would tell it, for the digest; nothing for a tombstone.
pub(super) fn as_told(id: String, row: ItemRow) -> Option<Item> {
    Some(Item {
        id,
        status: row.status?,
        change: None,
        phase: row.detail.phase,
        reason: row.detail.reason,
        declared_at: row.detail.declared_at,
        drift: row.detail.drift,
        repaired: vec![],
        writer: None,
        since: row.detail.since,
        attempts: row.detail.attempts,
        facts: row.detail.facts,
        progress: None,
    })
}
