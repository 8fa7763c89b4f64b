//! One report into the rows.

use super::{Outcome, Told, digest_of, find_or_add, hear, history, items, judge, news};
use crate::store::{NodeDoc, Result, Tx, Voice};
use evenkeel_report::{Event, Report, Scope};

/// Stores one report, unless it is stored already.
///
/// # Errors
/// When the store fails; nothing is to be committed then.
pub fn report(tx: &mut dyn Tx, event: &Event<Report>, now: i64) -> Result<Outcome> {
    let seq = event.data.seq;
    let mut row = find_or_add(tx, &event.source, now)?;
    let mut seen = tx.seen(row.key, seq.epoch)?;
    if seen.contains(seq.n) {
        let want_full = row.doc.wants_full();
        return Ok(Outcome { duplicate: true, want_full, node: row.key, news: vec![] });
    }
    let known = tx.items(row.key)?;
    let settled_before = seen.frontier();
    let (drop, put) = seen.insert(seq.n);
    tx.put_seen(row.key, seq.epoch, &drop, put, now)?;
    let settled = seen.frontier();
    history::of_report(tx, &row, &known, event, settled >= seq.n, now)?;
    // This report closed a gap: between entries up to the frontier nothing can come any more.
    if settled > seq.n {
        tx.drop_echoes(row.key, seq.epoch, settled_before, settled)?;
    }
    items::apply(tx, &row, &known, &event.data)?;
    let refused = news::refused(&row.doc);
    retell(&mut row.doc, event, now);
    let after = tx.items(row.key)?;
    let mut told = news::of_items(&row, &known, &after, event, now);
    told.extend(news::of_spec(&row, refused.as_deref(), now));
    row.doc.digest_own = digest_of(after);
    let current = row.doc.voice.seq.epoch;
    let seen = if current == seq.epoch { seen } else { tx.seen(row.key, current)? };
    judge(&mut row.doc, &seen);
    tx.put_node(row.key, &row.doc)?;
    Ok(Outcome { duplicate: false, want_full: row.doc.wants_full(), node: row.key, news: told })
}

/// What the report says of the whole node.
fn retell(doc: &mut NodeDoc, event: &Event<Report>, now: i64) {
    let seq = event.data.seq;
    let voice = Voice { seq, beat: false, at: event.time.unix_ms(), got: now };
    let data = &event.data;
    let told = Told {
        node: &data.node,
        agent: &data.agent,
        spec: &data.spec,
        counts: &data.counts,
        digest: &data.state_digest,
        voice,
    };
    hear(doc, &told);
    doc.top = doc.top.max(Some(seq));
    if data.scope == Scope::Full {
        doc.full_tried = doc.full_tried.max(Some(seq));
        doc.full = if data.truncated { doc.full } else { doc.full.max(Some(seq)) };
    }
}
