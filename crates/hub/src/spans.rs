//! When something was off within a span of time: worked out from the changes of that time and from what is off now, without
//! reading further back. A change says since when something is off, and one back to compliant that it was before.

use crate::past::{settled, when};
use crate::store::{BY_THE_WAY, HistoryRow, ItemRow, Result, SPEC_ITEM, View};
use evenkeel_report::Status;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A span of time (unix ms), its end not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From when.
    pub from: i64,
    /// Until when.
    pub to: i64,
}

/// For how long an item stood so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stood {
    /// From when (unix ms), within the window.
    pub from: i64,
    /// Until when.
    pub to: i64,
    /// How; `None` where something was off and the change that says what lies before the window.
    pub status: Option<Status>,
    /// Whether it ended with a repair.
    pub repaired: bool,
}

/// What the first change of an item within a span ended, where that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nobody asked, or it is not known.
    Unasked,
    /// It was off, like this.
    Off(Status),
    /// It was not off, or not kept.
    Even,
}

impl Before {
    fn off(self) -> Option<Status> {
        match self {
            Self::Off(status) => Some(status),
            Self::Unasked | Self::Even => None,
        }
    }

    /// Looks it up, where the first change does not tell it: one back to compliant may end a drift, or the item was not kept
    /// before; one that is gone or skipped may have been off.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn look(view: &dyn View, node: i64, changes: &[&HistoryRow]) -> Result<Self> {
        let Some(first) = changes.iter().find(|row| row.place.sub != BY_THE_WAY) else {
            return Ok(Self::Unasked);
        };
        if !asks(first) {
            return Ok(Self::Unasked);
        }
        let rows = view.timeline(node, Some((first.place, &first.item)), SEARCHED)?;
        let whole = rows.len() < SEARCHED;
        let its = rows.into_iter().find(|row| row.item == first.item && row.place.sub != BY_THE_WAY);
        Ok(match its.map(|row| settled(&row.status)) {
            Some(Some(status)) if status.is_open() => Self::Off(status),
            Some(_) => Self::Even,
            // Its first change ever: nothing was off, unless that was forgotten, and then only what came right tells it.
            None if whole && settled(&first.status) != Some(Status::Compliant) => Self::Even,
            None => Self::Unasked,
        })
    }
}

/// Whether a change does not tell what it ended.
fn asks(first: &HistoryRow) -> bool {
    first.detail.since.is_none() && settled(&first.status).is_none_or(|status| !status.is_open())
}

/// When an item was off, from its changes within `window`, oldest first, from what the first of them ended, and from how
/// the item stands now, where that is open.
#[must_use]
pub fn of_item(changes: &[&HistoryRow], before: Before, now: Option<&ItemRow>, window: Window) -> Vec<Stood> {
    let mut spans = vec![];
    let mut open: Option<(i64, Option<Status>)> = None;
    let clamp = |at: i64| at.clamp(window.from, window.to);
    for (nth, row) in changes.iter().filter(|row| row.place.sub != BY_THE_WAY).enumerate() {
        let at = clamp(when(row));
        let since = row.detail.since.map(|since| since.unix_ms().min(when(row)));
        let status = settled(&row.status);
        let repaired = row.status == Status::Repaired.word();
        let began = open.take();
        let fresh = began.is_none();
        // What the first change ends began before the window, unless it tells since when.
        let ended = began.or_else(|| match (status, since) {
            (_, None) if nth == 0 && before != Before::Unasked => {
                before.off().map(|was| (window.from, Some(was)))
            }
            (Some(Status::Compliant), None) if nth == 0 => Some((window.from, None)),
            (Some(Status::Compliant), since) if repaired || nth == 0 => {
                Some((clamp(since.unwrap_or(at)), None))
            }
            (Some(status), Some(since)) if status.is_open() && since < window.from => {
                Some((window.from, None))
            }
            _ => None,
        });
        if let Some((from, status)) = ended {
            spans.push(Stood { from, to: at, status, repaired });
        }
        // Between that moment and this change there is no other, so it has stood like this since then.
        let from = since.filter(|since| fresh && *since >= window.from).map_or(at, clamp);
        open = status.filter(|status| status.is_open()).map(|status| (from, Some(status)));
    }
    match (open, now) {
        (Some((from, status)), _) => spans.push(Stood { from, to: window.to, status, repaired: false }),
        (None, Some(now)) if changes.is_empty() => {
            let from = now.detail.since.map_or(window.from, |since| clamp(since.unix_ms()));
            spans.push(Stood { from, to: window.to, status: now.status, repaired: false });
        }
        (None, _) => {}
    }
    spans
}

/// How many changes and open items of a whole fleet are read.
const ENTRIES: usize = 10_000;
/// How many times what was before is looked up for a whole fleet, and among how many changes of the node each time.
const LOOKED_UP: usize = 300;
const SEARCHED: usize = 200;
const OPEN: usize = 10_000;
/// Into how many pieces a window is cut: no more than a `u128` has bits.
pub const PIECES: usize = 96;

/// What changed in the whole fleet up to now, and what is off now.
struct Changed {
    /// From when on: later than asked for where there are more changes than are read.
    from: i64,
    /// By node, item and place.
    entries: Vec<(i64, HistoryRow)>,
    open: Vec<(i64, String, ItemRow)>,
    cut: bool,
}

impl Changed {
    /// Of the nodes that are `kept` alone.
    fn read(view: &dyn View, kept: &dyn Fn(i64) -> bool, window: Window) -> Result<Self> {
        let mut entries = view.between(window.from, window.to.saturating_add(1), ENTRIES)?;
        let mut open = view.open_items(OPEN)?;
        let full = entries.len() == ENTRIES;
        let from = entries.last().filter(|_| full).map_or(window.from, |(_, row)| row.got);
        let cut = full || open.len() == OPEN;
        open.retain(|(node, ..)| kept(*node));
        entries.retain(|(node, row)| row.item != SPEC_ITEM && kept(*node));
        entries.sort_by(|(a, one), (b, two)| (a, &one.item, one.place).cmp(&(b, &two.item, two.place)));
        Ok(Self { from, entries, open, cut })
    }

    /// Calls `with` for every item that changed or is off: its node, its changes, oldest first, what the first of those after
    /// the beginning ended, and how it stands now, where that is open. Whether everything was looked up.
    fn each(
        &self,
        view: &dyn View,
        mut with: impl FnMut(i64, &[&HistoryRow], Before, Option<&ItemRow>),
    ) -> Result<bool> {
        let mut looked = 0;
        let key = |(node, id, item)| ((node, id), item);
        let open = self.open.iter().map(|(node, id, item)| key((*node, id.as_str(), item)));
        let mut open: HashMap<(i64, &str), &ItemRow> = open.collect();
        for group in self.entries.chunk_by(|(a, one), (b, two)| a == b && one.item == two.item) {
            let Some((node, first)) = group.first() else { continue };
            let rows: Vec<&HistoryRow> = group.iter().map(|(_, row)| row).collect();
            let before = match rows.first() {
                Some(first) if looked < LOOKED_UP && asks(first) => {
                    looked += 1;
                    Before::look(view, *node, &rows)?
                }
                _ => Before::Unasked,
            };
            with(*node, &rows, before, open.remove(&(*node, first.item.as_str())));
        }
        for ((node, _), item) in open {
            with(node, &[], Before::Unasked, Some(item));
        }
        Ok(looked < LOOKED_UP)
    }
}

/// How many nodes had something off, piece by piece of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adrift {
    /// The window that is told of: shorter than the one that was asked for where there are more changes than are read.
    pub window: Window,
    /// How many nodes, for each of [`PIECES`].
    pub nodes: Vec<usize>,
    /// Whether not everything was read.
    pub cut: bool,
}

impl Window {
    /// The piece in which `at` lies.
    fn piece(self, at: i64) -> usize {
        let length = i128::from(self.to.saturating_sub(self.from)).max(1);
        let piece = i128::from(at.saturating_sub(self.from)) * i128::try_from(PIECES).unwrap_or(1) / length;
        usize::try_from(piece.max(0)).unwrap_or(0).min(PIECES - 1)
    }

    /// The pieces that a time touches, as bits.
    fn pieces(self, stood: &Stood) -> u128 {
        let last = self.piece(stood.to.saturating_sub(1).max(stood.from));
        (self.piece(stood.from)..=last).fold(0, |bits, piece| bits | 1 << piece)
    }
}

/// How many nodes had something off in the time up to now, of those that are `kept`.
///
/// # Errors
/// When the store cannot be read.
pub fn adrift(view: &dyn View, kept: &dyn Fn(i64) -> bool, window: Window) -> Result<Adrift> {
    let changed = Changed::read(view, kept, window)?;
    let window = Window { from: changed.from, ..window };
    let mut bits: HashMap<i64, u128> = HashMap::new();
    let whole = changed.each(view, |node, rows, before, now| {
        for stood in of_item(rows, before, now, window) {
            *bits.entry(node).or_default() |= window.pieces(&stood);
        }
    })?;
    let count = |piece: usize| bits.values().filter(|bits| *bits >> piece & 1 == 1).count();
    Ok(Adrift { window, nodes: (0..PIECES).map(count).collect(), cut: changed.cut || !whole })
}

/// How a whole fleet stood at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// From when on it can be told (unix ms): before that there are more changes than are read.
    pub reaches: i64,
    /// How many nodes had something off.
    pub nodes: usize,
    /// How many items were off, by the word of their status; `off` where only that is known.
    pub items: BTreeMap<&'static str, usize>,
}

/// How the nodes that are `kept` stood at `at` (unix ms), looking back from `now`.
///
/// # Errors
/// When the store cannot be read.
pub fn moment(view: &dyn View, kept: &dyn Fn(i64) -> bool, at: i64, now: i64) -> Result<Moment> {
    let changed = Changed::read(view, kept, Window { from: at, to: now })?;
    let mut moment = Moment { reaches: changed.from, nodes: 0, items: BTreeMap::new() };
    if changed.from > at {
        return Ok(moment);
    }
    let mut nodes: HashSet<i64> = HashSet::new();
    changed.each(view, |node, rows, before, now_open| {
        if let Some(status) = stood_at(rows, before, now_open, Window { from: at, to: now.max(at) }) {
            nodes.insert(node);
            *moment.items.entry(status.map_or("off", Status::word)).or_default() += 1;
        }
    })?;
    moment.nodes = nodes.len();
    Ok(moment)
}

/// How an item stood when the window began, where it was off; `None` inside where only that is known.
#[expect(clippy::option_option, reason = "off or not, and which status where that is known")]
fn stood_at(
    rows: &[&HistoryRow],
    before: Before,
    now: Option<&ItemRow>,
    window: Window,
) -> Option<Option<Status>> {
    let (by_then, after): (Vec<&HistoryRow>, Vec<&HistoryRow>) =
        rows.iter().copied().partition(|row| when(row) <= window.from);
    if let Some(last) = by_then.iter().rfind(|row| row.place.sub != BY_THE_WAY) {
        return settled(&last.status).filter(|status| status.is_open()).map(Some);
    }
    let began = |row: &ItemRow| row.detail.since.is_none_or(|since| since.unix_ms() <= window.from);
    let spans = of_item(&after, before, now.filter(|row| began(row)), window);
    spans.first().filter(|first| first.from <= window.from).map(|first| first.status)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Before, Stood, Window, of_item};
    use crate::store::{Detail, HistoryRow, Place};
    use evenkeel_report::{Seq, Status, Timestamp};

    const WINDOW: Window = Window { from: 1000, to: 2000 };

    fn row(n: u64, at: i64, status: Status, since: Option<i64>) -> HistoryRow {
        let since = since.map(|at| Timestamp::from_unix_ms(at).unwrap());
        HistoryRow {
            place: Place { seq: Seq { epoch: 1, n }, sub: 0 },
            item: "sysctl/a".to_owned(),
            status: status.word().to_owned(),
            detail: Detail { since, ..Detail::default() },
            at,
            got: at,
            commit: None,
            echo: false,
        }
    }

    fn spans(rows: &[HistoryRow]) -> Vec<(i64, i64, Option<Status>, bool)> {
        let rows: Vec<&HistoryRow> = rows.iter().collect();
        let told = |one: &Stood| (one.from, one.to, one.status, one.repaired);
        of_item(&rows, Before::Unasked, None, WINDOW).iter().map(told).collect()
    }

    #[test]
    fn what_was_off_before_the_window_is_off_from_its_beginning() {
        let back = [row(1, 1500, Status::Compliant, None)];
        assert_eq!(spans(&back), [(1000, 1500, None, false)]);
        let worse = [row(1, 1200, Status::Error, Some(10)), row(2, 1300, Status::Repaired, Some(10))];
        assert_eq!(spans(&worse), [(1000, 1200, None, false), (1200, 1300, Some(Status::Error), true)]);
    }

    #[test]
    fn a_drift_that_came_right_in_one_pass_stands_for_as_long_as_it_was_seen() {
        let repairs =
            [row(1, 1200, Status::Repaired, Some(1199)), row(2, 1400, Status::Repaired, Some(1390))];
        assert_eq!(spans(&repairs), [(1199, 1200, None, true), (1390, 1400, None, true)]);
        let stays = [row(1, 1600, Status::Pending, Some(1590))];
        assert_eq!(spans(&stays), [(1590, 2000, Some(Status::Pending), false)]);
        let skipped = [row(1, 1600, Status::Pending, Some(1600)), row(2, 1700, Status::Skipped, None)];
        assert_eq!(spans(&skipped), [(1600, 1700, Some(Status::Pending), false)]);
    }
}
