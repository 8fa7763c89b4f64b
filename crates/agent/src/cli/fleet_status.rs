//! `evenkeel fleet status`: how the fleet stands, tier by tier, and which commits are in force.

use super::fleet::{Row, code, counted, painter, plainly, table};
use super::fleet_hub::{Hub, text};
use super::{Ending, Format, paint};
use evenkeel_report::Status;
use serde_json::Value;

/// How many commits are listed.
const COMMITS: usize = 5;

pub(super) fn status(hub: &Hub, format: Format) -> Ending {
    let fleet = hub.fleet()?;
    let code = code(fleet["even"] == true);
    if format == Format::Json {
        return paint::json(&fleet, code);
    }
    let (nodes, uneven) = (count(&fleet["all"], "nodes"), count(&fleet["all"], "uneven"));
    let sentence = match (nodes, uneven) {
        (0, _) => paint::aside("no node"),
        (_, 0) => paint::good(&format!("{}, all even", counted(nodes, "node"))),
        _ => paint::bad(&format!("{uneven} of {} not even", counted(nodes, "node"))),
    };
    let tiers = fleet["tiers"].as_object().into_iter().flatten();
    let tiers: Vec<Row> = tiers.map(|(name, tier)| row(name, tier)).collect();
    let commits = fleet["commits"].as_array().into_iter().flatten().take(COMMITS).map(commit);
    let commits: Vec<Row> = commits.collect();
    let apart = if commits.is_empty() { "" } else { "\n" };
    paint::text(&format!("{sentence}\n{}{apart}{}", table(&tiers), table(&commits)), code)
}

pub(super) fn count(of: &Value, key: &str) -> usize {
    of.get(key).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok()).unwrap_or_default()
}

fn row(name: &str, tier: &Value) -> Row {
    let open = |status: Status| {
        let count = count(&tier["open"], status.word());
        let text =
            if count > 0 { format!("{count} {}", status.word().replace('_', " ")) } else { String::new() };
        (text, painter(status))
    };
    let quiet = ["silent", "missing"].map(|word| (count(&tier["liveness"], word), word));
    let quiet: Vec<_> =
        quiet.iter().filter(|(count, _)| *count > 0).map(|(n, word)| format!("{n} {word}")).collect();
    let (uneven, refusing) = (count(tier, "uneven"), count(tier, "refusing"));
    let told = |count: usize, what: &str| if count > 0 { format!("{count} {what}") } else { String::new() };
    let even: (String, fn(&str) -> String) = if uneven > 0 {
        (told(uneven, "not even"), paint::bad)
    } else {
        ("all even".to_owned(), paint::good)
    };
    vec![
        (if name.is_empty() { "(no tier)".to_owned() } else { name.to_owned() }, paint::name),
        (counted(count(tier, "nodes"), "node"), plainly),
        even,
        open(Status::Error),
        open(Status::NonCompliant),
        open(Status::Pending),
        (quiet.join(", "), paint::bad),
        (told(refusing, "refuse the newest commit"), paint::bad),
    ]
}

fn commit(of: &Value) -> Row {
    let short: String = text(of, "commit").chars().take(10).collect();
    vec![(short, paint::name), (format!("in force on {}", counted(count(of, "nodes"), "node")), plainly)]
}
