//! Time as pictures: when each item of a node was off, and how many nodes were. Drawn on the server, with everything they
//! show as words beside them: a title on each mark, and a table.

use super::incident::local;
use super::view::tone;
use super::words::{self, lasting, shown};
use crate::liveness::{HubTimes, liveness};
use crate::past::when;
use crate::spans::{Adrift, Before, PIECES, Stood, Window, of_item};
use crate::store::{HistoryRow, ItemRow, NodeRow, Result, SPEC_ITEM, View};
use evenkeel_report::{Liveness, Status};
use std::collections::BTreeMap;

/// The lengths of a node's picture (h), the usual one first.
const HOURS: [(i64, &str); 3] = [(24, "24 h"), (1, "1 h"), (168, "7 days")];
/// The most changes that are read for it, items that are drawn, and rows of the table.
const CHANGES: usize = 2_000;
const ITEMS: usize = 15;
const TABLE: usize = 100;
/// How wide a picture is, in its own units, and the narrowest mark that can be seen.
const WIDTH: i64 = 1440;
const NARROWEST: i64 = 5;
/// How high a picture of counts is.
const HEIGHT: usize = 100;

/// When the items of a node were off.
pub(super) struct Plot {
    /// Other lengths: address, word, whether it is this one.
    pub(super) lengths: Vec<(String, &'static str, bool)>,
    /// What the picture shows, in a sentence.
    pub(super) says: String,
    pub(super) rows: Vec<Row>,
    /// How many items are not drawn.
    pub(super) more: usize,
    /// Moments along the picture.
    pub(super) ticks: Vec<String>,
    pub(super) table: Vec<Bar>,
    pub(super) cut: bool,
}

/// One item.
pub(super) struct Row {
    pub(super) item: String,
    pub(super) says: String,
    pub(super) bars: Vec<Bar>,
}

/// A time in which it stood so.
#[derive(Clone)]
pub(super) struct Bar {
    pub(super) item: String,
    pub(super) x: i64,
    pub(super) width: i64,
    pub(super) class: &'static str,
    pub(super) word: &'static str,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) lasted: String,
}

/// How many hours a picture is asked for; the usual where nothing is, and where that is no length it has.
pub(crate) fn hours(asked: Option<&str>) -> i64 {
    let known = |hours: &i64| HOURS.iter().any(|(known, _)| known == hours);
    asked.and_then(|text| text.parse().ok()).filter(known).unwrap_or(HOURS[0].0)
}

fn clock(at: i64, window: Window) -> String {
    let text = local(at).replace('T', " ");
    if window.to - window.from > 86_400_000 { text } else { text[11..].to_owned() }
}

fn ticks(window: Window) -> Vec<String> {
    (0..=4).map(|n| clock(window.from + (window.to - window.from) * n / 4, window)).collect()
}

fn x(at: i64, window: Window) -> i64 {
    (at.clamp(window.from, window.to) - window.from) * WIDTH / (window.to - window.from).max(1)
}

impl Bar {
    fn new(
        item: &str,
        from: i64,
        to: i64,
        (class, word): (&'static str, &'static str),
        window: Window,
    ) -> Self {
        let left = x(from, window).min(WIDTH - NARROWEST);
        Self {
            item: shown(item),
            x: left,
            width: (x(to, window) - left).max(NARROWEST),
            class,
            word,
            from: exact(from),
            to: if to >= window.to { "now".to_owned() } else { exact(to) },
            lasted: lasting(to.saturating_sub(from)),
        }
    }

    fn of(item: &str, stood: &Stood, window: Window) -> Self {
        let how = match stood.status {
            Some(Status::Pending) => ("pending", "pending"),
            Some(status) if tone(status.word()) == "bad" => ("error", words::status(status)),
            Some(status) => ("off", words::status(status)),
            None => ("off", "off"),
        };
        // What came right within one pass is hardly to be seen but for its repair.
        let how = if stood.repaired && stood.status.is_none() { ("repaired", "repaired") } else { how };
        Self::new(item, stood.from, stood.to, how, window)
    }
}

fn exact(at: i64) -> String {
    let second = at.div_euclid(1000).rem_euclid(60);
    format!("{}:{second:02}", local(at).replace('T', " "))
}

impl Plot {
    /// The picture of a node in the `hours` up to now; `items` are those that it has.
    pub(super) fn new(
        view: &dyn View,
        row: &NodeRow,
        items: &[(String, ItemRow)],
        hours: i64,
        times: HubTimes,
    ) -> Result<Self> {
        let window = Window { from: times.now.saturating_sub(hours * 3_600_000), to: times.now };
        let (changes, cut) = changes(view, row.key, window)?;
        let mut all: Vec<(i64, &str, Vec<Stood>)> = vec![];
        let now: BTreeMap<&str, &ItemRow> = items.iter().map(|(id, item)| (id.as_str(), item)).collect();
        let open = |id: &str| now.get(id).copied().filter(|item| item.status.is_some_and(Status::is_open));
        let mut by_item: BTreeMap<&str, Vec<&HistoryRow>> = BTreeMap::new();
        for id in now.keys().filter(|id| open(id).is_some()) {
            by_item.insert(id, vec![]);
        }
        for change in changes.iter().rev().filter(|change| change.item != SPEC_ITEM) {
            by_item.entry(&change.item).or_default().push(change);
        }
        for (id, rows) in by_item {
            let stood = of_item(&rows, Before::look(view, row.key, &rows)?, open(id), window);
            if !stood.is_empty() {
                all.push((stood.iter().map(|one| one.to - one.from).sum(), id, stood));
            }
        }
        all.sort_by_key(|(off, id, _)| (std::cmp::Reverse(*off), *id));
        let unseen = unseen(row, window, times);
        let bars = |id: &str, stood: &[Stood]| -> Vec<Bar> {
            stood.iter().map(|one| Bar::of(id, one, window)).collect()
        };
        let mut table: Vec<Bar> = all.iter().flat_map(|(_, id, stood)| bars(id, stood)).collect();
        table.extend(unseen.iter().map(|bar| Bar { item: "every item".to_owned(), ..bar.clone() }));
        table.sort_by(|a, b| b.from.cmp(&a.from));
        table.truncate(TABLE);
        let drawn = |(off, id, stood): &(i64, &str, Vec<Stood>)| Row {
            item: shown(id),
            says: format!("{}: off for {} in the last {}", shown(id), lasting(*off), word(hours)),
            bars: unseen.iter().cloned().chain(bars(id, stood)).collect(),
        };
        let says = match all.len() {
            0 => format!("Nothing was off in the last {}.", word(hours)),
            some => format!(
                "{} off in the last {}, UTC by the node's clock.",
                words::count(some, "item was", "items were"),
                word(hours)
            ),
        };
        Ok(Self {
            lengths: HOURS.map(|(one, word)| (format!("?hours={one}"), word, one == hours)).into(),
            says,
            more: all.len().saturating_sub(ITEMS),
            rows: all.iter().take(ITEMS).map(drawn).collect(),
            ticks: ticks(window),
            table,
            cut,
        })
    }
}

fn word(hours: i64) -> &'static str {
    HOURS.iter().find(|(one, _)| *one == hours).map_or("time", |(_, word)| word)
}

/// The changes of a node within a window, newest first, and whether there are more than are read.
fn changes(view: &dyn View, node: i64, window: Window) -> Result<(Vec<HistoryRow>, bool)> {
    let mut rows = view.timeline(node, None, CHANGES)?;
    let full = rows.len() == CHANGES;
    let cut = full && rows.last().is_some_and(|row| when(row) >= window.from);
    rows.retain(|row| when(row) >= window.from);
    Ok((rows, cut))
}

/// When nobody can say how anything stood: before the node was first heard of, and since it fell silent.
fn unseen(row: &NodeRow, window: Window, times: HubTimes) -> Vec<Bar> {
    let how = ("unseen", "not heard of");
    let before = (row.doc.first_seen > window.from).then_some((window.from, row.doc.first_seen));
    let alive = liveness(Some(row.doc.last_seen), row.doc.interval_s(), times);
    let quiet =
        matches!(alive, Liveness::Silent | Liveness::Missing).then_some((row.doc.last_seen, window.to));
    let bar = |(from, to): (i64, i64)| Bar::new("", from.max(window.from), to.min(window.to), how, window);
    before.into_iter().chain(quiet).map(bar).collect()
}

/// How many nodes had something off.
pub(super) struct Counts {
    pub(super) says: String,
    pub(super) bars: Vec<Count>,
    pub(super) ticks: Vec<String>,
    /// By the hour: from when, and the most nodes at once.
    pub(super) table: Vec<(String, usize)>,
}

/// One piece of it.
pub(super) struct Count {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) height: usize,
    pub(super) title: String,
}

impl Counts {
    /// The picture; nothing where nothing was off.
    pub(super) fn new(adrift: &Adrift) -> Option<Self> {
        let window = adrift.window;
        let most = adrift.nodes.iter().copied().max().filter(|most| *most > 0)?;
        let length = (window.to - window.from).max(1);
        let start = |piece: usize| {
            window.from + length * i64::try_from(piece).unwrap_or(0) / i64::try_from(PIECES).unwrap_or(1)
        };
        let nodes = |count: usize| words::count(count, "node", "nodes");
        let bar = |(piece, count): (usize, &usize)| {
            let height = (count * HEIGHT).div_ceil(most);
            let title = format!("{}: {}", clock(start(piece), window), nodes(*count));
            Count { x: piece * 10, y: HEIGHT - height, height, title }
        };
        let at = adrift.nodes.iter().position(|count| *count == most).unwrap_or(0);
        let cut = if adrift.cut {
            "; more changed than is read at once, so it begins later or lacks some"
        } else {
            ""
        };
        let hour = |(nth, pieces): (usize, &[usize])| {
            (clock(start(nth * 4), window), pieces.iter().copied().max().unwrap_or(0))
        };
        Some(Self {
            says: format!(
                "At most {} had something off at once, at {} UTC{cut}.",
                nodes(most),
                clock(start(at), window)
            ),
            bars: adrift.nodes.iter().enumerate().filter(|(_, count)| **count > 0).map(bar).collect(),
            ticks: ticks(window),
            table: adrift.nodes.chunks(4).enumerate().map(hour).collect(),
        })
    }
}
