//! One heartbeat into its node's row. It never adds to the history, unless the spec in force is another.

use super::{Outcome, Told, find_or_add, hear, history, judge, news, own_digest, supersedes};
use crate::store::{Beat, NodeDoc, Place, Result, Tx, Voice};
use evenkeel_report::{Event, Heartbeat, Seq};

/// Takes over one heartbeat, unless it is the very one that came last.
///
/// # Errors
/// When the store fails; nothing is to be committed then.
pub fn beat(tx: &mut dyn Tx, event: &Event<Heartbeat>, now: i64) -> Result<Outcome> {
    let mut row = find_or_add(tx, &event.source, now)?;
    let doc = &mut row.doc;
    let at = event.time.unix_ms();
    // The time too: an agent may give every heartbeat between two reports the same id.
    if doc.beat.as_ref().is_some_and(|last| last.id == event.id && last.at == at) {
        let want_full = doc.wants_full();
        return Ok(Outcome { duplicate: true, want_full, node: row.key, news: vec![] });
    }
    let data = &event.data;
    let voice = Voice { seq: data.seq, beat: true, at, got: now };
    watch_for_rewinding(doc, voice);
    keep(doc, event, now);
    let told = Told {
        node: &data.node,
        agent: &data.agent,
        spec: &data.spec,
        counts: &data.counts,
        digest: &data.state_digest,
        voice,
    };
    let refused = news::refused(doc);
    if hear(doc, &told) {
        history::of_beat(tx, row.key, Place { seq: data.seq, sub: at.max(1) }, &data.spec, now)?;
    }
    if row.doc.digest_own.is_empty() {
        row.doc.digest_own = own_digest(tx, row.key)?;
    }
    let seen = tx.seen(row.key, row.doc.voice.seq.epoch)?;
    judge(&mut row.doc, &seen);
    tx.put_node(row.key, &row.doc)?;
    let news = news::of_spec(&row, refused.as_deref(), now);
    Ok(Outcome { duplicate: false, want_full: row.doc.wants_full(), node: row.key, news })
}

/// A node that says, later, a smaller number than before has lost part of its memory (a disk put back from a
/// snapshot), or there are two of it. Its reports would pass for duplicates, so somebody has to know.
fn watch_for_rewinding(doc: &mut NodeDoc, voice: Voice) {
    if !doc.digest_told.is_empty() && voice.seq < doc.voice.seq && voice.at > doc.voice.at {
        doc.rewound = Some(voice.got);
    }
}

/// What only heartbeats tell.
fn keep(doc: &mut NodeDoc, event: &Event<Heartbeat>, now: i64) {
    let data = &event.data;
    let at = event.time.unix_ms();
    watch_for_clones(doc, &data.node.boot_id, now);
    let due = Seq { epoch: data.seq.epoch, n: data.seq.n.saturating_sub(data.spool.waiting) };
    doc.due = doc.due.max(due);
    let newer = |last: &Beat| supersedes((data.seq, true, at), (last.seq, true, last.at));
    if doc.beat.as_ref().is_none_or(newer) {
        doc.beat = Some(Beat {
            id: event.id.clone(),
            seq: data.seq,
            at,
            got: now,
            interval_s: data.interval_s.clamp(1, 86_400),
            spool: data.spool,
            last_pass_age_s: data.last_pass_age_s,
        });
    }
}

/// Heartbeats are never spooled, so a boot id that comes back after another was heard means two machines with
/// one identity. Reports say nothing about it: those of the boot before may come late.
fn watch_for_clones(doc: &mut NodeDoc, boot: &str, now: i64) {
    let [last, before] = &doc.boots;
    if boot.is_empty() || boot == last {
        return;
    }
    if boot == before {
        doc.alternated = Some(now);
    }
    doc.boots = [boot.to_owned(), last.clone()];
}
