//! How a node stood at a moment in the past, from its history.
//!
//! The history has changes and nothing else, so of an item without one up to then it is known that nothing was off: it was
//! compliant, or not kept yet. Where older changes have been forgotten, it says so instead. A change counts from when the
//! node saw it, by its own clock, and never from later than when the hub heard of it: what came late, out of a spool, is
//! where it belongs.

use crate::store::{BY_THE_WAY, Detail, GONE, HistoryRow, ItemRow, NodeRow, Result, SPEC_ITEM, View};
use evenkeel_report::Status;
use std::collections::BTreeMap;

/// How many changes are read at once, and at most.
const CHUNK: usize = 1_000;
const MOST: usize = 50_000;

/// When a change happened (unix ms).
#[must_use]
pub fn when(row: &HistoryRow) -> i64 {
    row.at.min(row.got)
}

/// The status of a word of the history, as it is left after a repair.
#[must_use]
pub fn settled(word: &str) -> Option<Status> {
    Status::ALL.into_iter().find(|status| status.word() == word).map(Status::settled)
}

/// How something of an item is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// A change says it.
    Told,
    /// No change had happened by then: compliant, or not kept yet.
    Unchanged,
    /// A change says it, and the item is kept no more; when it left, no change says.
    Left,
    /// The change that would say it has been forgotten.
    Forgotten,
}

impl Known {
    /// The word in an answer.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Unchanged => "unchanged",
            Self::Left => "left",
            Self::Forgotten => "forgotten",
        }
    }
}

/// How one item stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Was {
    /// How it is known.
    pub known: Known,
    /// How it stood; a status of `None` where that is forgotten.
    pub item: ItemRow,
    /// When it came to stand so (unix ms), where a change says it.
    pub changed: Option<i64>,
}

/// How a node stood at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// The moment (unix ms).
    pub at: i64,
    /// From when on the history is whole (unix ms).
    pub reaches: i64,
    /// The last change of the spec by then.
    pub spec: Option<HistoryRow>,
    /// The items by id.
    pub items: BTreeMap<String, Was>,
}

/// What the changes of an item say.
#[derive(Default)]
struct Changes {
    /// The last by then.
    last: Option<HistoryRow>,
    /// Whether one came after, and whether it was told to be gone.
    after: bool,
    gone_after: bool,
}

impl Past {
    /// Looks back. Before `since` (unix ms) the store may have forgotten.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn look(view: &dyn View, row: &NodeRow, at: i64, since: i64) -> Result<Self> {
        let (changes, oldest) = changes(view, row.key, at)?;
        let forgotten = row.doc.first_seen < since || oldest.is_some();
        let reaches = row.doc.first_seen.max(since).max(oldest.unwrap_or(i64::MIN));
        let mut now: BTreeMap<String, ItemRow> = view.items(row.key)?.into_iter().collect();
        let mut past = Self { at, reaches, spec: None, items: BTreeMap::new() };
        if at < reaches {
            return Ok(past);
        }
        for (id, its) in changes {
            if id == SPEC_ITEM {
                past.spec = its.last;
                continue;
            }
            let kept = now.remove(&id).is_some() || its.gone_after;
            past.items.extend(its.was(kept, forgotten).map(|was| (id, was)));
        }
        // What has never changed is what it was; without a change it can only be compliant, unless that was forgotten.
        for (id, item) in now {
            let known = if forgotten { Known::Told } else { Known::Unchanged };
            past.items.insert(id, Was { known, item, changed: None });
        }
        Ok(past)
    }

    /// Whether the history reaches back so far.
    #[must_use]
    pub fn reached(&self) -> bool {
        self.at >= self.reaches
    }

    /// How many items stood so.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.items.values().filter(|was| was.item.status == Some(status)).count()
    }

    /// How many wanted somebody's eye.
    #[must_use]
    pub fn open(&self) -> usize {
        self.items.values().filter(|was| was.item.status.is_some_and(Status::is_open)).count()
    }
}

/// The changes of every item around a moment; and how far back they go, where not all were read.
fn changes(view: &dyn View, node: i64, at: i64) -> Result<(BTreeMap<String, Changes>, Option<i64>)> {
    let mut items: BTreeMap<String, Changes> = BTreeMap::new();
    let (mut after, mut read): (Option<HistoryRow>, usize) = (None, 0);
    loop {
        let rows = view.timeline(node, after.as_ref().map(|row| (row.place, row.item.as_str())), CHUNK)?;
        let last = rows.len() < CHUNK;
        read += rows.len();
        after = rows.last().cloned().or(after);
        for row in rows.into_iter().filter(|row| row.place.sub != BY_THE_WAY) {
            let its = items.entry(row.item.clone()).or_default();
            if when(&row) > at {
                its.after = true;
                its.gone_after |= row.status == GONE;
            } else if its.last.is_none() {
                its.last = Some(row);
            }
        }
        if last {
            return Ok((items, None));
        }
        if read >= MOST {
            return Ok((items, after.as_ref().map(when)));
        }
    }
}

impl Changes {
    /// How the item stood; nothing where it was not kept.
    fn was(self, kept: bool, forgotten: bool) -> Option<Was> {
        let Some(row) = self.last else {
            // It changed later for the first time that is known.
            let (known, status) = if forgotten {
                (Known::Forgotten, None)
            } else {
                (Known::Unchanged, Some(Status::Compliant))
            };
            let item = ItemRow { status, detail: Detail::default(), seq: evenkeel_report::Seq::default() };
            return self.after.then_some(Was { known, item, changed: None });
        };
        let status = settled(&row.status)?;
        let known = if kept { Known::Told } else { Known::Left };
        let changed = Some(when(&row));
        let mut detail = row.detail;
        if status <= Status::Compliant {
            let Detail { declared_at, .. } = detail;
            detail = Detail { declared_at, ..Detail::default() };
        }
        Some(Was { known, item: ItemRow { status: Some(status), detail, seq: row.place.seq }, changed })
    }
}
