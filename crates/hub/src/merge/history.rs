//! The history: one entry for each change, and for each repair.
//!
//! What counts as a change is told by the entry before it, and that one may come later. So an entry that merely
//! repeats the one before (an echo) is kept, unseen, while a report between the two can still come, and is
//! dropped or never written once everything before it is here.

use super::items::Known;
use crate::store::{BY_THE_WAY, Detail, GONE, HistoryRow, Mark, NodeRow, Place, Result, SPEC_ITEM, Tx};
use evenkeel_report::{Event, Item, Report, SpecState, Status, Sync};

/// What `event` adds. `settled`: every report before it is here, so that echoes need not be kept.
pub(super) fn of_report(
    tx: &mut dyn Tx,
    row: &NodeRow,
    known: &Known,
    event: &Event<Report>,
    settled: bool,
    now: i64,
) -> Result<()> {
    let data = &event.data;
    let place = Place { seq: data.seq, sub: 0 };
    let entry = |item: &str, status: &str, detail: Detail| HistoryRow {
        place,
        item: item.to_owned(),
        status: status.to_owned(),
        detail,
        at: event.time.unix_ms(),
        got: now,
        commit: data.spec.observed_commit.clone(),
        echo: false,
    };
    for item in &data.items {
        let standing =
            known.get(&item.id).filter(|item| item.seq < data.seq).map(crate::store::ItemRow::mark);
        let entry = entry(&item.id, item.status.word(), Detail::from(item));
        record(tx, row.key, entry, standing, settled)?;
        if !item.repaired.is_empty() {
            tx.put_history(row.key, &by_the_way(item, place, event, now))?;
        }
    }
    for id in &data.gone {
        record(tx, row.key, entry(id, GONE, Detail::default()), None, settled)?;
    }
    record(tx, row.key, of_spec(place, &data.spec, event.time.unix_ms(), now), None, settled)
}

/// What was put right of an item that has something worse left.
fn by_the_way(item: &Item, place: Place, event: &Event<Report>, now: i64) -> HistoryRow {
    let detail = Detail {
        change: item.change,
        drift: item.repaired.clone(),
        writer: item.writer.clone(),
        declared_at: item.declared_at.clone(),
        ..Detail::default()
    };
    HistoryRow {
        place: Place { sub: BY_THE_WAY, ..place },
        item: item.id.clone(),
        status: Status::Repaired.word().to_owned(),
        detail,
        at: event.time.unix_ms(),
        got: now,
        commit: event.data.spec.observed_commit.clone(),
        echo: false,
    }
}

/// What a heartbeat adds: nothing, or that the spec in force is another.
pub(super) fn of_beat(tx: &mut dyn Tx, node: i64, place: Place, spec: &SpecState, now: i64) -> Result<()> {
    record(tx, node, of_spec(place, spec, place.sub, now), None, true)
}

fn of_spec(place: Place, spec: &SpecState, at: i64, got: i64) -> HistoryRow {
    let refused = !spec.errors.is_empty();
    let status = match spec.sync {
        Sync::Failed => "failed",
        _ if refused => "failed",
        Sync::Held => "held",
        Sync::Synced | Sync::Progressing | Sync::OutOfSync | Sync::Unknown => "in_force",
    };
    let target = spec.target_commit.clone().filter(|_| status == "failed");
    HistoryRow {
        place,
        item: SPEC_ITEM.to_owned(),
        status: status.to_owned(),
        detail: Detail { target, errors: spec.errors.clone(), ..Detail::default() },
        at,
        got,
        commit: spec.observed_commit.clone(),
        echo: false,
    }
}

/// Writes `entry` unless it is an echo that nothing can turn into news, and sets right whether the entry after
/// it is one. `standing` is the item's state just before it, where that is known better than from the history.
fn record(
    tx: &mut dyn Tx,
    node: i64,
    mut entry: HistoryRow,
    standing: Option<Mark>,
    settled: bool,
) -> Result<()> {
    let before = match standing {
        Some(mark) => Some(mark),
        None => tx.before(node, &entry.item, entry.place)?.map(|row| row.mark()),
    };
    entry.echo = entry.echoes(before.as_ref());
    if let Some(mut after) = tx.after(node, &entry.item, entry.place)? {
        let echo = after.echoes(Some(&entry.mark()));
        if echo != after.echo {
            after.echo = echo;
            tx.put_history(node, &after)?;
        }
    }
    if entry.echo && settled { Ok(()) } else { tx.put_history(node, &entry) }
}
