//! What happened in a span of time: who drifted, on which items, and which commit was in force. By the hub's clock.

use super::view::{Change, short};
use super::{Page, Top, words};
use crate::accounts::Who;
use crate::http::encode;
use crate::look::Look;
use crate::store::{HistoryRow, Result, SPEC_ITEM};
use askama::Template;
use evenkeel_report::{Status, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// How long a span is, unless said otherwise, and at most (min).
const MINUTES: i64 = 15;
const MINUTES_MOST: i64 = 24 * 60;
/// The most entries that are read, and nodes, items and changes that are shown.
const ENTRIES: usize = 5_000;
const NODES: usize = 50;
const ITEMS: usize = 50;
const CHANGES: usize = 12;

/// As a browser's field for a date and a time has it.
const LOCAL: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]");
const LOCAL_S: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");

/// A span of time (unix ms, the hub's clock).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    from: i64,
    minutes: i64,
}

impl Span {
    /// From what an address says; the last minutes where it says nothing.
    ///
    /// # Errors
    /// When it is no time, or too long.
    pub(crate) fn parse(
        from: Option<&str>,
        minutes: Option<&str>,
        now: i64,
    ) -> std::result::Result<Self, String> {
        let minutes = match minutes {
            None => MINUTES,
            Some(text) => {
                let parsed = text.parse().ok().filter(|minutes| (1..=MINUTES_MOST).contains(minutes));
                parsed.ok_or_else(|| format!("minutes {text:?} is no number from 1 to {MINUTES_MOST}"))?
            }
        };
        let Some(text) = from else {
            // Up to the end of this minute, as addresses and fields have whole ones.
            let to = now.div_euclid(60_000).saturating_add(1).saturating_mul(60_000);
            return Ok(Self { from: to.saturating_sub(minutes * 60_000), minutes });
        };
        let from = moment(text);
        let from = from.ok_or_else(|| format!("from {text:?} is no time; write 2026-11-23T10:00, in UTC"))?;
        Ok(Self { from, minutes })
    }

    fn to(self) -> i64 {
        self.from.saturating_add(self.minutes * 60_000)
    }

    fn earlier(self) -> Self {
        Self { from: self.from.saturating_sub(self.minutes * 60_000), ..self }
    }

    fn later(self) -> Self {
        Self { from: self.to(), ..self }
    }

    fn href(self) -> String {
        format!("/incident?from={}&minutes={}", encode(&local(self.from)), self.minutes)
    }
}

/// The moment of a text (unix ms): RFC 3339, or as a browser's field has it, in UTC.
pub(crate) fn moment(text: &str) -> Option<i64> {
    let bare = text.trim_end_matches('Z');
    let local = time::PrimitiveDateTime::parse(bare, LOCAL)
        .or_else(|_| time::PrimitiveDateTime::parse(bare, LOCAL_S));
    let local = local.ok().map(time::PrimitiveDateTime::assume_utc);
    let at =
        local.or_else(|| OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok());
    Some(Timestamp::new(at?).unix_ms())
}

pub(super) fn local(at: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(at.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(LOCAL).unwrap_or_default()
}

#[derive(Template)]
#[template(path = "incident.html")]
struct Incident {
    top: Top,
    title: String,
    even: bool,
    from: String,
    to: String,
    lengths: Vec<(i64, &'static str, bool)>,
    earlier: String,
    later: String,
    cut: bool,
    commits: Vec<Commit>,
    items: Vec<Item>,
    nodes: Vec<Story>,
    more: usize,
}

/// A commit that was in force on nodes of which something was heard.
struct Commit {
    short: String,
    href: String,
    nodes: usize,
}

/// An item that was off somewhere.
struct Item {
    id: String,
    href: String,
    nodes: String,
}

/// What changed on one node.
struct Story {
    name: String,
    href: String,
    commit: Option<String>,
    changes: Vec<Change>,
    more: usize,
}

fn is_off(row: &HistoryRow) -> bool {
    let open = |status: &Status| status.is_open() || *status == Status::Repaired;
    row.item != SPEC_ITEM && Status::ALL.iter().any(|status| open(status) && status.word() == row.status)
}

/// What happened in a span of time.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn incident(who: &Who, look: &Look<'_>, span: Span) -> Result<Page> {
    let rows = look.view.between(span.from, span.to(), ENTRIES)?;
    let cut = rows.len() == ENTRIES;
    let mut names: HashMap<i64, (String, String)> = HashMap::new();
    let mut by_node: BTreeMap<i64, Vec<HistoryRow>> = BTreeMap::new();
    let mut items: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut commits: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for (node, row) in rows {
        let (name, _) = names.entry(node).or_insert_with(|| {
            let line = look.roll.line(node);
            line.map(|line| (line.name.to_string(), line.source.to_string())).unwrap_or_default()
        });
        if is_off(&row) {
            items.entry(row.item.clone()).or_default().insert(name.clone());
        }
        if let Some(commit) = &row.commit {
            commits.entry(commit.clone()).or_default().insert(node);
        }
        by_node.entry(node).or_default().push(row);
    }
    let drifted = by_node.values().filter(|rows| rows.iter().any(is_off)).count();
    let mut stories: Vec<_> = by_node.into_iter().collect();
    stories.sort_by_key(|(node, rows)| {
        (std::cmp::Reverse(rows.iter().filter(|row| is_off(row)).count()), names.get(node).cloned())
    });
    let known = [(5, "5 min"), (15, "15 min"), (60, "1 h"), (360, "6 h"), (1440, "24 h")];
    let page = Incident {
        top: Top::of(who),
        title: title(drifted, stories.len(), span),
        even: drifted == 0,
        from: local(span.from),
        to: local(span.to()).replace('T', " "),
        lengths: known.map(|(minutes, word)| (minutes, word, minutes == span.minutes)).into(),
        earlier: span.earlier().href(),
        later: span.later().href(),
        cut,
        commits: commits_of(commits),
        items: items_of(items),
        more: stories.len().saturating_sub(NODES),
        nodes: stories
            .iter()
            .take(NODES)
            .map(|(node, rows)| Story::new(names.get(node), rows, look.times.now))
            .collect(),
    };
    Ok(page.render())
}

fn title(drifted: usize, heard: usize, span: Span) -> String {
    let when = format!("{} to {} UTC", local(span.from).replace('T', " "), &local(span.to())[11..]);
    match (drifted, heard) {
        (0, 0) => format!("Nothing changed from {when}"),
        (0, some) => format!("Nothing drifted from {when}; {} changed", words::count(some, "node", "nodes")),
        (some, _) => format!("{} drifted from {when}", words::count(some, "node", "nodes")),
    }
}

fn commits_of(commits: BTreeMap<String, BTreeSet<i64>>) -> Vec<Commit> {
    let one = |(commit, nodes): (String, BTreeSet<i64>)| Commit {
        short: short(&words::shown(&commit)),
        href: format!("/rollout/{}", encode(&commit)),
        nodes: nodes.len(),
    };
    let mut all: Vec<_> = commits.into_iter().map(one).collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.nodes));
    all.truncate(10);
    all
}

fn items_of(items: BTreeMap<String, BTreeSet<String>>) -> Vec<Item> {
    let mut all: Vec<_> = items.into_iter().collect();
    all.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
    let one = |(id, nodes): (String, BTreeSet<String>)| {
        let names: Vec<&str> = nodes.iter().map(String::as_str).collect();
        Item {
            href: super::drift::of_item(&id),
            id: words::shown(&id),
            nodes: super::view::some_of(&names, names.len()),
        }
    };
    all.into_iter().take(ITEMS).map(one).collect()
}

impl Story {
    fn new(name: Option<&(String, String)>, rows: &[HistoryRow], now: i64) -> Self {
        let (name, source) = name.map(|(name, source)| (name.as_str(), source.as_str())).unwrap_or_default();
        Self {
            name: words::shown(name),
            href: format!("/nodes/{}", encode(source)),
            commit: rows
                .iter()
                .find_map(|row| row.commit.as_deref())
                .map(|commit| short(&words::shown(commit))),
            changes: rows.iter().take(CHANGES).map(|row| Change::new(row, now)).collect(),
            more: rows.len().saturating_sub(CHANGES),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Span, local};

    const NOW: i64 = 1_795_395_723_000;

    #[test]
    fn a_span_is_the_last_quarter_of_an_hour_unless_said_otherwise() {
        let span = Span::parse(None, None, NOW).unwrap();
        assert_eq!(span.to() - span.from, 900_000);
        assert!(span.to() > NOW && span.to() <= NOW + 60_000);
        let span = Span::parse(Some("2026-11-23T01:00"), Some("5"), NOW).unwrap();
        assert_eq!(
            (local(span.from), local(span.to())),
            ("2026-11-23T01:00".into(), "2026-11-23T01:05".into())
        );
        assert_eq!(Span::parse(Some("2026-11-23T02:00:00+01:00"), Some("5"), NOW).unwrap(), span);
        assert_eq!(Span::parse(Some("2026-11-23T01:00Z"), Some("5"), NOW).unwrap(), span);
    }

    #[test]
    fn what_is_no_span_is_refused_with_what_to_write() {
        assert!(Span::parse(Some("yesterday"), None, NOW).unwrap_err().contains("2026-11-23T10:00"));
        assert!(Span::parse(None, Some("0"), NOW).unwrap_err().contains("1 to 1440"));
        assert!(Span::parse(None, Some("99999"), NOW).is_err());
    }
}
