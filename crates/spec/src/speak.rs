//! What a kind complains of, told to a person: with its place, and in words that know no programming language.

use crate::layers::Merged;
use crate::ledger::Ledger;
use crate::show;
use crate::table::Row;
use crate::tree::Place;
use evenkeel_core::{Complaint, Mode, PathEnd, Severity};

/// The most problems of shape that are looked for in one item.
const SHAPES: usize = 8;

/// Have a kind look at an item, and put all that it complains of into the ledger.
///
/// A kind tells of the first problem of shape only. What it tells of is then taken out and the kind asked again, so that
/// somebody who mends the item need not come back for the next.
pub(crate) fn check(row: Row, name: &str, mut merged: Merged, ledger: &mut Ledger) {
    let mut taken: Vec<String> = vec![];
    for _ in 0..SHAPES {
        let complaints = row.kind.check(name, &merged.raw());
        let shape = complaints.iter().find(|complaint| complaint.help.is_none()).cloned();
        for complaint in complaints {
            let missing = complaint.message.strip_prefix("missing field ").and_then(ticked);
            let ours = missing.is_some_and(|field| taken.iter().any(|taken| taken == field));
            // Once something is taken out, only further problems of shape are news.
            if !ours && (taken.is_empty() || complaint.help.is_none()) {
                complain(row, name, &merged, &complaint, ledger);
            }
        }
        match shape.and_then(|shape| merged.take(&culprit(&shape))) {
            Some(field) => taken.push(field),
            None => return,
        }
    }
}

/// Have a kind hold an item against the paths of its node. What is only looked at breaks nothing.
pub(crate) fn check_paths(row: Row, name: &str, merged: &Merged, ends: &[PathEnd], ledger: &mut Ledger) {
    for mut complaint in row.kind.check_paths(name, &merged.raw(), ends) {
        if merged.mode == Mode::Audit {
            complaint.severity = Severity::Warning;
        }
        let at = merged.locate(&complaint.path);
        let message = show::cut(&complaint.message, 400);
        let help = complaint.help.map(|help| show::cut(&help, 600));
        ledger.add(complaint.severity, "path", &at, message, help);
    }
}

/// The way to what a problem of shape is about.
fn culprit(complaint: &Complaint) -> Vec<String> {
    let mut path = complaint.path.clone();
    let unknown = complaint.message.strip_prefix("unknown field ").and_then(ticked);
    if let Some(field) = unknown.filter(|field| path.last().map(String::as_str) != Some(*field)) {
        path.push(field.to_owned());
    }
    path
}

/// Put a kind's complaint into the ledger.
pub(crate) fn complain(row: Row, name: &str, merged: &Merged, complaint: &Complaint, ledger: &mut Ledger) {
    let told = if complaint.help.is_some() {
        Told {
            code: "check",
            message: show::cut(&complaint.message, 400),
            help: complaint.help.clone(),
            key: None,
        }
    } else {
        shape(row, complaint)
    };
    let key = told.key.as_deref().and_then(|key| {
        let parent = match complaint.path.split_last() {
            Some((last, parent)) if last == key => parent,
            _ => &complaint.path,
        };
        merged.locate_key(parent, key)
    });
    let at = key
        .or_else(|| in_text(merged, &complaint.path, ledger))
        .unwrap_or_else(|| merged.locate(&complaint.path));
    let message = named(row, name, complaint, &told.message);
    let help = told.help.map(|help| show::cut(&help, 600));
    ledger.add(complaint.severity, told.code, &at, message, help);
}

/// The line of a text that a path ends in, as `["content", "[3]"]` is the third.
fn in_text(merged: &Merged, path: &[String], ledger: &Ledger) -> Option<Place> {
    let [field, line] = path else { return None };
    let line: u32 = line.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
    let node = &merged.fields.get(field)?.node;
    let text = merged.texts.get(field);
    let said = text.map_or_else(|| node.text(), |text| Some(text.said.as_str()))?;
    let said = said.lines().nth(line.checked_sub(1)? as usize)?;
    if let Some(file) = text.and_then(|text| text.file.as_deref()) {
        let width = u32::try_from(said.chars().count()).unwrap_or(u32::MAX);
        return Some(Place { line, column: 1, width, ..Place::file(file) });
    }
    let said = said.trim();
    if said.is_empty() { None } else { ledger.find(&node.place, said) }
}

struct Told {
    code: &'static str,
    message: String,
    help: Option<String>,
    /// The key that is meant, where it is a key and not a value.
    key: Option<String>,
}

/// With the item's name before it, where the message does not say it.
fn named(row: Row, name: &str, complaint: &Complaint, message: &str) -> String {
    let last = complaint.path.last().filter(|last| !last.starts_with('['));
    if message.contains(name) && last.is_none_or(|last| message.contains(last.as_str())) {
        return message.to_owned();
    }
    let mut id = format!("{}/{name}", row.kind.name());
    for part in &complaint.path {
        id = if part.starts_with('[') { id + part } else { format!("{id}/{part}") };
    }
    format!("{}: {message}", show::cut(&id, 120))
}

/// The first word between backticks.
fn ticked(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

/// An error of shape, as serde words it.
fn shape(row: Row, complaint: &Complaint) -> Told {
    let text = complaint.message.as_str();
    let told = |code, message, help: String| {
        let help = Some(help).filter(|help| !help.is_empty());
        Told { code, message, help, key: None }
    };
    if let Some(rest) = text.strip_prefix("unknown field ") {
        let field = ticked(rest).unwrap_or_default().to_owned();
        let help = show::allowed(&field, &words(row, rest, complaint));
        let message = format!("{} is not known here", show::quoted(&field));
        return Told { key: Some(field), ..told("unknown-key", message, help) };
    }
    if let Some(rest) = text.strip_prefix("missing field ") {
        let field = show::quoted(ticked(rest).unwrap_or_default());
        let help = format!("say {field} here, or in a layer below");
        return told("missing-key", format!("{field} is missing"), help);
    }
    if let Some(rest) = text.strip_prefix("unknown variant ") {
        let variant = ticked(rest).unwrap_or_default();
        let expected: Vec<&str> = rest.split('`').skip(3).step_by(2).collect();
        let message = format!("{} is not one of the words that stand here", show::quoted(variant));
        return told("wrong-type", message, show::allowed(variant, &expected));
    }
    if text.starts_with("data did not match any variant") {
        return told(
            "wrong-type",
            "this has none of the forms that may stand here".to_owned(),
            String::new(),
        );
    }
    wrong_type(text)
}

/// The words that serde lists, and those that every item has where it is an item that they are listed for.
fn words(row: Row, rest: &str, complaint: &Complaint) -> Vec<String> {
    let inner = match complaint.path.split_last() {
        Some((last, parent)) if Some(last.as_str()) == ticked(rest) => parent,
        _ => &complaint.path,
    };
    if inner.is_empty() {
        return row.words();
    }
    rest.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

/// `invalid type: integer `5`, expected a string` and its kin.
fn wrong_type(text: &str) -> Told {
    let rest = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "));
    let Some((found, wanted)) = rest.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return Told { code: "wrong-type", message: show::cut(text, 400), help: None, key: None };
    };
    let wanted = match wanted {
        "a map" => "a map (`name: value` lines below it)",
        "a sequence" => "a list",
        "a boolean" => "`true` or `false`",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0 on",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        other => other.strip_prefix("struct ").map_or(other, |_| "a map (`name: value` lines below it)"),
    };
    let (sort, value) = found.split_once(' ').unwrap_or((found, ""));
    let value = value.trim_matches(['`', '"']);
    let found = match sort {
        "integer" | "floating" => format!("the number {}", show::quoted(value.trim_start_matches("point `"))),
        "string" => format!("the text {}", show::quoted(value)),
        "boolean" => show::quoted(value),
        "sequence" => "a list".to_owned(),
        "map" => "a map".to_owned(),
        _ => show::cut(found, 80),
    };
    let number = value.trim_start_matches("point `");
    let quote = matches!(sort, "integer" | "floating" | "boolean") && !number.is_empty();
    let text_wanted = wanted.contains("string") || wanted.contains('"');
    let help = (quote && text_wanted).then(|| format!("quote it: \"{number}\""));
    let message = format!("this must be {}, not {found}", wanted.replace("a string", "a text"));
    Told { code: "wrong-type", message: show::cut(&message, 400), help, key: None }
}
