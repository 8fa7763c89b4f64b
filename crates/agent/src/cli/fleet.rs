//! `evenkeel fleet`: how the whole fleet stands, as a hub tells it. Reads from the hub's user API; changes nothing.

use super::fleet_hub::{Hub, HubArgs, text};
use super::fleet_rollout::{self, RolloutArgs};
use super::fleet_status;
use super::{Ending, Format, OFF, paint};
use crate::run::ConfigPlace;
use clap::{Args, Subcommand};
use evenkeel_report::Status;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What is asked of the fleet.
#[derive(Debug, Args)]
pub(crate) struct FleetArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    hub: HubArgs,
    /// How to print it.
    #[arg(long, global = true, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Tell how the fleet stands, tier by tier.
    Status,
    /// List the nodes, worst first.
    Nodes {
        #[command(flatten)]
        filter: Filter,
    },
    /// Tell how one node stands, its open items first.
    Node {
        /// Its name, or its source.
        name: String,
    },
    /// List the open drifts, each once for all the nodes that have it.
    Drift {
        #[command(flatten)]
        filter: Filter,
    },
    /// Tell on how many nodes a commit is in force, and wait for it.
    Rollout(RolloutArgs),
}

/// Which nodes. The hub knows the words.
#[derive(Debug, Args)]
struct Filter {
    /// Those of this tier; `-` for those that have none.
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
    /// Those whose worst item stands like this; `open` for any that wants somebody's eye.
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Those that are `online`, `late`, `silent` or `missing`; `quiet` for the last two.
    #[arg(long, value_name = "LIVENESS")]
    liveness: Option<String>,
}

impl Filter {
    fn params(&self) -> Vec<(&'static str, &str)> {
        let all = [("tier", &self.tier), ("status", &self.status), ("liveness", &self.liveness)];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }
}

/// `evenkeel fleet`.
pub(super) fn fleet(place: &ConfigPlace, args: &FleetArgs) -> Ending {
    let hub = Hub::new(place, &args.hub)?;
    match &args.what {
        What::Nodes { filter } => nodes(&hub, filter, args.format),
        What::Node { name } => node(&hub, name, args.format),
        What::Drift { filter } => drift(&hub, filter, args.format),
        What::Status => fleet_status::status(&hub, args.format),
        What::Rollout(asked) => fleet_rollout::rollout(&hub, asked, args.format),
    }
}

pub(super) fn code(even: bool) -> u8 {
    if even { 0 } else { OFF }
}

fn nodes(hub: &Hub, filter: &Filter, format: Format) -> Ending {
    let mut params = filter.params();
    let all = hub.nodes(&params)?;
    params.push(("even", "no"));
    // Asked last, so that a node that went off meanwhile is told as what it is now.
    let off = hub.nodes(&params)?;
    let mut sources: Vec<String> = off.iter().map(|node| text(node, "source").to_owned()).collect();
    sources.sort_unstable();
    let has =
        |node: &Value| sources.binary_search_by(|source| source.as_str().cmp(text(node, "source"))).is_ok();
    let mut nodes: Vec<Value> = all.into_iter().filter(|node| !has(node)).chain(off).collect();
    for node in &mut nodes {
        let even = !has(node);
        if let Some(fields) = node.as_object_mut() {
            fields.insert("even".to_owned(), even.into());
        }
    }
    nodes.sort_by(|a, b| badness(b).cmp(&badness(a)).then_with(|| text(a, "name").cmp(text(b, "name"))));
    let code = code(sources.is_empty());
    match format {
        Format::Json => paint::json(&json!({"even": sources.is_empty(), "nodes": nodes}), code),
        Format::Text => {
            let sentence = match (nodes.len(), sources.len()) {
                (0, _) => paint::aside("no node"),
                (all, 0) => paint::good(&format!("{}, all even", counted(all, "node"))),
                (all, off) => paint::bad(&format!("{off} of {} not even", counted(all, "node"))),
            };
            let rows: Vec<Row> = nodes.iter().map(row).collect();
            paint::text(&format!("{sentence}\n{}", table(&rows)), code)
        }
    }
}

/// The greater, the worse, in the order in which the hub counts it: whether it is off at all, and by what.
fn badness(node: &Value) -> (bool, u8) {
    let off = node.get("even").and_then(Value::as_bool) == Some(false);
    let (liveness, status) = (text(node, "liveness"), status(node));
    let sync = node.get("spec").map_or("", |spec| text(spec, "sync"));
    let all = [
        (5, status == Some(Status::Error)),
        (4, sync == "failed"),
        (3, matches!(liveness, "silent" | "missing")),
        (2, status == Some(Status::NonCompliant)),
        (1, status == Some(Status::Pending) || sync == "out_of_sync"),
    ];
    (off, all.into_iter().find(|(_, raised)| *raised).map_or(0, |(how, _)| how))
}

fn status(of: &Value) -> Option<Status> {
    Status::ALL.into_iter().find(|status| status.word() == text(of, "status"))
}

pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Cells, each with how it is painted.
pub(super) type Row = Vec<(String, fn(&str) -> String)>;

pub(super) fn plainly(text: &str) -> String {
    text.to_owned()
}

fn row(node: &Value) -> Row {
    let liveness: fn(&str) -> String = match text(node, "liveness") {
        "online" => paint::good,
        "late" => paint::warn,
        "decommissioned" => plainly,
        _ => paint::bad,
    };
    let count = |key: &str| node.pointer(&format!("/counts/{key}")).and_then(Value::as_u64).unwrap_or(0);
    let open: Vec<String> = ["error", "non_compliant", "pending"]
        .into_iter()
        .filter(|key| count(key) > 0)
        .map(|key| format!("{} {}", count(key), key.replace('_', " ")))
        .collect();
    let spec = node.get("spec").unwrap_or(&Value::Null);
    let commit: String = text(spec, "observed_commit").chars().take(7).collect();
    let flags = node.get("flags").and_then(Value::as_array).into_iter().flatten();
    let aside: Vec<&str> =
        std::iter::once(text(spec, "sync")).chain(flags.filter_map(Value::as_str)).collect();
    vec![
        (text(node, "name").to_owned(), paint::name),
        (text(node, "tier").to_owned(), plainly),
        (text(node, "liveness").to_owned(), liveness),
        (text(node, "status").to_owned(), status(node).map_or(plainly, painter)),
        (commit, plainly),
        (open.join(", "), plainly),
        (aside.join(" "), paint::aside),
    ]
}

pub(super) fn painter(status: Status) -> fn(&str) -> String {
    match status {
        Status::Error | Status::NonCompliant => paint::bad,
        Status::Pending | Status::Repaired => paint::warn,
        Status::Compliant => paint::good,
        _ => paint::aside,
    }
}

/// Columns as wide as their widest cell; what nodes wrote stays text.
pub(super) fn table(rows: &[Row]) -> String {
    let plain: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|(cell, _)| crate::log::plain(cell)).collect()).collect();
    let columns = plain.iter().map(Vec::len).max().unwrap_or_default();
    let wide = |at: usize| plain.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| wide(at).unwrap_or_default()).collect();
    let mut out = String::new();
    for (row, cells) in rows.iter().zip(&plain) {
        let mut line = String::new();
        // Blanks are owed until something follows, so that no line ends with them.
        let mut owed = 0;
        for (((_, paint), cell), width) in row.iter().zip(cells).zip(&widths) {
            if *width == 0 {
                continue;
            }
            if !cell.is_empty() {
                let _ = write!(line, "{:owed$}{}", "", paint(cell));
                owed = 0;
            }
            owed += width - cell.chars().count() + 2;
        }
        let _ = writeln!(out, "{line}");
    }
    out
}

fn node(hub: &Hub, name: &str, format: Format) -> Ending {
    let mut node = hub.node(name)?;
    // What even means is the hub's to say.
    let even = hub.nodes(&[("q", text(&node, "source")), ("even", "no")])?.is_empty();
    if let Some(fields) = node.as_object_mut() {
        fields.insert("even".to_owned(), even.into());
    }
    if format == Format::Json {
        return paint::json(&node, code(even));
    }
    let mut out = table(&[row(&node)]);
    let spec = node.get("spec").unwrap_or(&Value::Null);
    for why in spec.get("errors").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        let _ = writeln!(out, "  {}", crate::log::plain(why));
    }
    let items = node.get("items").and_then(Value::as_array).into_iter().flatten();
    for item in items.filter(|item| status(item).is_some_and(Status::is_open)) {
        out.push('\n');
        out.push_str(&off_by(item, "id", text(item, "declared_at")));
    }
    let seen = format!("last heard of {}  {}", text(&node, "last_seen"), text(&node, "source"));
    let _ = writeln!(out, "\n{}", paint::aside(&crate::log::plain(&seen)));
    paint::text(&out, code(even))
}

/// An item and, below it, what it is off by.
fn off_by(item: &Value, id: &str, aside: &str) -> String {
    let word = status(item).map(paint::status).unwrap_or_default();
    let name = paint::name(&crate::log::plain(text(item, id)));
    let mut out = format!("{word} {name}  {}", paint::aside(&crate::log::plain(aside))).trim_end().to_owned();
    out.push('\n');
    for drift in item.get("drift").and_then(Value::as_array).into_iter().flatten() {
        let observed = drift.get("observed").and_then(Value::as_str).unwrap_or("(nothing)");
        let (layer, attr, desired) = (text(drift, "layer"), text(drift, "attr"), text(drift, "desired"));
        let line = crate::log::plain(&format!("{layer} {attr}: {observed}, wanted {desired}"));
        let _ = writeln!(out, "  {line}");
    }
    for key in ["reason", "since"] {
        if let Some(told) = item.get(key).and_then(Value::as_str) {
            let before = if key == "since" { "since " } else { "" };
            let _ = writeln!(out, "  {before}{}", crate::log::plain(told));
        }
    }
    out
}

fn drift(hub: &Hub, filter: &Filter, format: Format) -> Ending {
    let answer = hub.drift(&filter.params())?;
    let open = answer.get("open").unwrap_or(&Value::Null);
    let count = |of: &Value, key: &str| of.get(key).and_then(Value::as_u64).unwrap_or_default();
    let (items, on) = (count(open, "items"), count(open, "nodes"));
    let code = code(items == 0);
    if format == Format::Json {
        return paint::json(&answer, code);
    }
    let counts = |count, what| counted(usize::try_from(count).unwrap_or(usize::MAX), what);
    let more = if open.get("cut") == Some(&Value::Bool(true)) { " and more" } else { "" };
    let mut out = match items {
        0 => paint::good("nothing is adrift"),
        _ => paint::bad(&format!("{} adrift on {}{more}", counts(items, "item"), counts(on, "node"))),
    };
    out.push('\n');
    let mut groups: Vec<&Value> =
        open.get("groups").and_then(Value::as_array).into_iter().flatten().collect();
    // The hub's order, most nodes first, holds among what stands alike.
    groups.sort_by_key(|group| std::cmp::Reverse(status(group)));
    for group in groups {
        let nodes = count(group, "nodes");
        let first = group.get("first").and_then(Value::as_array).into_iter().flatten();
        let mut names: Vec<&str> = first.map(|node| text(node, "name")).collect();
        if nodes > names.len() as u64 {
            names.push("…");
        }
        let on = format!("on {} ({})", counts(nodes, "node"), names.join(", "));
        out.push('\n');
        out.push_str(&off_by(group, "item", &on));
    }
    paint::text(&out, code)
}

#[cfg(test)]
mod tests {
    use super::{badness, plainly, table};
    use serde_json::json;

    #[test]
    fn columns_line_up_and_no_line_ends_with_blanks() {
        let cell = |text: &str| (text.to_owned(), plainly as fn(&str) -> String);
        let rows = [
            vec![cell("a"), cell(""), cell("x"), cell("")],
            vec![cell("long"), cell(""), cell("y"), cell("z")],
        ];
        assert_eq!(table(&rows), "a     x\nlong  y  z\n");
    }

    #[test]
    fn what_nodes_wrote_reaches_no_terminal_as_it_is() {
        let cell = ("\u{1b}[31mred".to_owned(), plainly as fn(&str) -> String);
        assert!(!table(&[vec![cell]]).contains('\u{1b}'));
    }

    #[test]
    fn a_node_that_is_off_is_worse_than_any_that_is_even() {
        let even = json!({"even": true, "liveness": "late", "status": "pending"});
        let off = json!({"even": false, "liveness": "online", "status": "compliant"});
        let silent = json!({"even": false, "liveness": "silent", "status": "compliant"});
        let error = json!({"even": false, "liveness": "online", "status": "error"});
        assert!(badness(&off) > badness(&even));
        assert!(badness(&error) > badness(&silent) && badness(&silent) > badness(&off));
    }
}
