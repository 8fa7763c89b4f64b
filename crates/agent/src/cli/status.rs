//! `evenkeel status`: what the running agent last found. The sentence first, then what is off, worst first.

use super::{Ending, Failure, Format, OFF, paint};
use crate::control::{self, Question, Reply, Status};
use crate::run::ConfigPlace;
use evenkeel_report::Item;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

/// How often `--watch` asks.
const WATCH: Duration = Duration::from_secs(1);

/// `evenkeel status`.
pub(super) fn status(place: &ConfigPlace, watch: bool, all: bool, format: Format) -> Ending {
    let run_dir = super::load::config(place)?.run_dir;
    loop {
        let status = ask(&run_dir)?;
        let code = if status.even { 0 } else { OFF };
        let terminal = std::io::stdout().is_terminal();
        if watch && terminal && format == Format::Text {
            // Home, and clear what is below: nothing flickers.
            paint::raw(b"\x1b[H\x1b[J")?;
        }
        match format {
            Format::Json if watch => {
                let line = serde_json::to_string(&status).map_err(|error| Failure::wrong(&error))?;
                paint::raw(format!("{line}\n").as_bytes())?;
            }
            Format::Json => return paint::json(&status, code),
            Format::Text => {
                paint::text(&text(&status, all), code)?;
            }
        }
        if !watch {
            return Ok(code);
        }
        if std::io::stdout().flush().is_err() {
            // Nobody looks any more.
            return Ok(code);
        }
        std::thread::sleep(WATCH);
    }
}

fn ask(run_dir: &Path) -> Result<Status, Failure> {
    match control::ask(run_dir, Question::Status) {
        Ok(Reply::Status(status)) => Ok(*status),
        Ok(Reply::Error(why)) => Err(Failure::Wrong(format!("the agent answers: {why}"))),
        Ok(Reply::Done) => Err(Failure::Wrong("the agent answers something else".to_owned())),
        Err(error) => {
            let path = control::path(run_dir);
            let what = match error.kind() {
                std::io::ErrorKind::PermissionDenied => "only root may ask the agent".to_owned(),
                _ => {
                    format!("no agent answers on {} ({error}): is evenkeel.service running?", path.display())
                }
            };
            Err(Failure::Wrong(what))
        }
    }
}

fn text(status: &Status, all: bool) -> String {
    let mut text = String::new();
    let sentence = crate::log::plain(&status.sentence);
    let sentence = if status.even { paint::good(&sentence) } else { paint::bad(&sentence) };
    let _ = writeln!(text, "{sentence}");
    for line in status.spec.errors.iter().skip(1).take(20) {
        let _ = writeln!(text, "  {}", crate::log::plain(line));
    }
    let shown: Vec<&Item> =
        status.items.iter().filter(|item| all || item.status.is_open() || item.progress.is_some()).collect();
    if !shown.is_empty() {
        text.push('\n');
        text.extend(shown.iter().map(|one| item(one)));
    }
    let _ = writeln!(text, "\n{}", paint::aside(&footer(status)));
    for why in &status.degraded {
        let _ = writeln!(text, "{}", paint::warn(&format!("limited: {}", crate::log::plain(why))));
    }
    text
}

/// An item and, below it, what it is off by; as wide as it is, so that a terminal may wrap it and a program need not.
fn item(item: &Item) -> String {
    let since = item.since.map(|since| format!("since {since}"));
    let aside: Vec<String> = since.into_iter().chain(item.declared_at.clone()).collect();
    let (status, id) = (paint::status(item.status), paint::name(&crate::log::plain(&item.id)));
    let mut text = format!("{status} {id}  {}\n", paint::aside(&crate::log::plain(&aside.join("  "))));
    for line in off_by(item) {
        let _ = writeln!(text, "  {line}");
    }
    text
}

fn off_by(item: &Item) -> Vec<String> {
    let mut lines: Vec<String> = item
        .drift
        .iter()
        .map(|drift| {
            let observed = drift.observed.as_deref().unwrap_or("(nothing)");
            crate::log::plain(&format!(
                "{} {}: {observed}, wanted {}",
                drift.layer, drift.attr, drift.desired
            ))
        })
        .collect();
    lines.extend(item.reason.iter().map(|reason| crate::log::plain(reason)));
    lines.extend(item.progress.iter().map(|progress| crate::log::plain(progress)));
    if let Some(writer) = &item.writer {
        let comm = writer.comm.as_deref().unwrap_or("?");
        let unit = writer.unit.as_ref().map(|unit| format!(" in {unit}")).unwrap_or_default();
        lines.push(crate::log::plain(&format!("written by {comm} (pid {}){unit}", writer.pid)));
    }
    lines
}

fn footer(status: &Status) -> String {
    let ago = |age: Option<u64>| age.map_or_else(|| "never".to_owned(), |age| format!("{age} s ago"));
    let tier = if status.node.tier.is_empty() { String::new() } else { format!(" ({})", status.node.tier) };
    let source = format!("{} reached {}", status.spec.repo, ago(status.spec.age_s));
    let hub = match (&status.hub.url, &status.hub.trouble) {
        (None, _) => "no hub".to_owned(),
        (Some(url), None) => format!("hub {url} heard us {}", ago(status.hub.reached_age_s)),
        (Some(url), Some(why)) => {
            let wait = if status.hub.spool.waiting == 1 { "report waits" } else { "reports wait" };
            let link = if status.hub.shut.is_some() { "listens not" } else { "out of reach" };
            format!("hub {url} {link} ({why}), {} {wait}", status.hub.spool.waiting)
        }
    };
    let pass = format!("last pass {}", ago(status.last_pass_age_s));
    crate::log::plain(&format!("{}{tier} · {source} · {hub} · {pass}", status.node.name))
}
