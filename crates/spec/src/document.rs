//! A profile, a tier or a node's file: one document, not yet laid over others.

use crate::fleet::outside;
use crate::ledger::Ledger;
use crate::shape;
use crate::show;
use crate::table::{HEAD, Row};
use crate::tree::{Data, Entry, Map, Node, Place};
use evenkeel_core::Mode;
use serde_json::Value;
use std::collections::BTreeMap;

/// What one document says.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) path: String,
    pub(crate) mode: Option<(Mode, Place)>,
    /// Paths of profiles, in order.
    pub(crate) include: Vec<(String, Place)>,
    pub(crate) sections: BTreeMap<&'static str, BTreeMap<String, Said>>,
}

/// What one document says of one item.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) at: Place,
    pub(crate) mode: Option<(Mode, Place)>,
    pub(crate) absent: Option<(bool, Place)>,
    pub(crate) fields: Map,
}

/// Read one document. What could be understood comes back even where something else is wrong.
pub(crate) fn read(path: &str, node: &Node, rows: &[Row], ledger: &mut Ledger) -> Document {
    let mut document =
        Document { path: path.to_owned(), mode: None, include: vec![], sections: BTreeMap::new() };
    let whole = Place::file(path);
    let help = "it says `version: 1` and below that its sections, such as `sysctl:`";
    let Some(map) = shape::map(node, "a document", help, ledger) else {
        return document;
    };
    shape::version(map, &whole, ledger);
    only_known(map, rows, ledger);
    if let Some(entry) = map.get("mode") {
        document.mode = shape::mode(&entry.node, ledger).map(|mode| (mode, entry.node.place.clone()));
    }
    if let Some(entry) = map.get("include") {
        document.include = includes(&entry.node, ledger);
    }
    for row in rows {
        if let Some(entry) = map.get(row.kind.name()) {
            document.sections.insert(row.kind.name(), section(*row, entry, ledger));
        }
    }
    empty_audit(&document, ledger);
    document
}

/// A section that is no kind.
fn only_known(map: &Map, rows: &[Row], ledger: &mut Ledger) {
    let kinds: Vec<&str> = rows.iter().map(|row| row.kind.name()).collect();
    let words: Vec<&str> = HEAD.iter().copied().chain(kinds.iter().copied()).collect();
    for entry in map.entries.iter().filter(|entry| !words.contains(&entry.key.as_str())) {
        let message =
            format!("{} is neither a kind nor `version`, `include` or `mode`", show::quoted(&entry.key));
        let near =
            show::near(&entry.key, &words).map(|near| format!("did you mean {}? ", show::quoted(near)));
        let help = format!("{}The kinds here are {}", near.unwrap_or_default(), show::list(&kinds, "and"));
        ledger.error("unknown-section", &entry.at, message, help);
    }
}

fn empty_audit(document: &Document, ledger: &mut Ledger) {
    let says_nothing = document.sections.values().all(BTreeMap::is_empty);
    if let (Some((Mode::Audit, at)), true) = (&document.mode, says_nothing) {
        let message =
            "this `mode: audit` covers what this document says itself, and it says of no item anything";
        let help = "say `mode: audit` in the document that has the items, or in fleet.yaml for all of them";
        ledger.warning("empty-audit", at, message, help);
    }
}

fn includes(node: &Node, ledger: &mut Ledger) -> Vec<(String, Place)> {
    let items = match &node.data {
        Data::List(items) => items,
        Data::Bad => return vec![],
        _ => {
            let help = "write `include: [profiles/base]`";
            shape::wrong(node, "`include`", "a list of profiles", help, ledger);
            return vec![];
        }
    };
    let mut paths: Vec<(String, Place)> = vec![];
    for item in items {
        let Some(path) = include(item, ledger) else {
            continue;
        };
        if paths.iter().any(|(known, _)| *known == path) {
            let message = format!("{} is included twice", show::quoted(&path));
            ledger.warning("included-twice", &item.place, message, "the first place counts; remove this one");
        } else {
            paths.push((path, item.place.clone()));
        }
    }
    paths
}

fn include(node: &Node, ledger: &mut Ledger) -> Option<String> {
    let said = shape::text(node, "an include", "the path of a profile", ledger)?;
    let help = "name a profile from the repository's root: `profiles/base`";
    if outside(said) {
        let message = format!("{} is a path outside the repository", show::quoted(said));
        ledger.error("outside", &node.place, message, help);
        return None;
    }
    let path = said.strip_suffix(".yaml").unwrap_or(said);
    let parts: Vec<&str> = path.split('/').collect();
    if parts.len() < 2 || parts[0] != "profiles" || !parts.iter().all(|part| shape::is_name(part)) {
        ledger.error("include", &node.place, format!("{} is no profile", show::quoted(said)), help);
        return None;
    }
    Some(format!("{path}.yaml"))
}

/// Read one section. One that is empty, because everything in it is commented out, says nothing.
pub(crate) fn section(row: Row, entry: &Entry, ledger: &mut Ledger) -> BTreeMap<String, Said> {
    if entry.node.is_null() {
        return BTreeMap::new();
    }
    let what = format!("section `{}`", row.kind.name());
    let help = "write a map: an item's name, and what is wished for it";
    let Some(map) = shape::map(&entry.node, &what, help, ledger) else {
        return BTreeMap::new();
    };
    map.entries.iter().map(|item| (item.key.clone(), said(row, item, ledger))).collect()
}

fn said(row: Row, item: &Entry, ledger: &mut Ledger) -> Said {
    let mut said = Said { at: item.at.clone(), mode: None, absent: None, fields: Map::default() };
    let what = format!("`{}/{}`", row.kind.name(), show::cut(&item.key, 120));
    match (&item.node.data, row.kind.shorthand()) {
        (Data::Bad, _) => said.fields.poisoned = true,
        (Data::Scalar(Value::Null), _) => {
            let message = format!("{what} says nothing");
            ledger.error("empty-value", &item.at, message, "give it a value, or remove the line");
            said.fields.poisoned = true;
        }
        (Data::Map(map), _) => {
            said.fields.poisoned = map.poisoned;
            for entry in &map.entries {
                field(row, entry, &mut said, ledger);
            }
            if map.entries.is_empty() && !map.poisoned {
                let message = format!("{what} says nothing");
                ledger.error("empty-value", &item.at, message, "say something of it, or remove the line");
                said.fields.poisoned = true;
            }
        }
        (_, Some(short)) => {
            let (key, at, node) = (short.to_owned(), item.at.clone(), item.node.clone());
            said.fields.entries = vec![Entry { key, at, node }];
        }
        (_, None) => {
            let help = format!("write {} below it", show::list(&row.words(), "and"));
            shape::wrong(&item.node, &what, "a map", &help, ledger);
            said.fields.poisoned = true;
        }
    }
    if says_null(&said.fields, ledger) {
        said.fields.poisoned = true;
    }
    said
}

/// One field of an item: the two that every item has, or one of the kind's own.
fn field(row: Row, entry: &Entry, said: &mut Said, ledger: &mut Ledger) {
    let word = matches!(entry.node.text(), Some("enforce" | "audit"));
    match (entry.key.as_str(), row.bits) {
        ("mode" | "permissions", Some(field)) if entry.key != "mode" || !word => {
            add(&Entry { key: field.to_owned(), ..entry.clone() }, said, ledger);
        }
        ("mode", _) => match shape::mode(&entry.node, ledger) {
            Some(mode) => said.mode = Some((mode, entry.node.place.clone())),
            None => said.fields.poisoned = true,
        },
        ("absent", _) => match entry.node.data {
            Data::Scalar(Value::Bool(absent)) => said.absent = Some((absent, entry.node.place.clone())),
            Data::Bad => said.fields.poisoned = true,
            _ => {
                shape::wrong(&entry.node, "`absent`", "`true` or `false`", "", ledger);
                said.fields.poisoned = true;
            }
        },
        _ => add(entry, said, ledger),
    }
}

fn add(entry: &Entry, said: &mut Said, ledger: &mut Ledger) {
    if let Some(first) = said.fields.get(&entry.key) {
        let message =
            format!("`mode` and `permissions` are the same here: said in line {} and again", first.at.line);
        ledger.error("duplicate-key", &entry.at, message, "keep one of the two");
        return;
    }
    said.fields.entries.push(entry.clone());
}

/// Complain of every field that is empty.
fn says_null(map: &Map, ledger: &mut Ledger) -> bool {
    let mut found = false;
    for entry in &map.entries {
        found |= match &entry.node.data {
            Data::Scalar(Value::Null) => {
                let message = format!("{} is empty", show::quoted(&entry.key));
                ledger.error("empty-value", &entry.at, message, "give it a value, or remove the line");
                true
            }
            Data::List(items) => list_says_null(items, ledger),
            Data::Map(map) => says_null(map, ledger),
            _ => false,
        };
    }
    found
}

fn list_says_null(items: &[Node], ledger: &mut Ledger) -> bool {
    let mut found = false;
    for item in items {
        found |= match &item.data {
            Data::Scalar(Value::Null) => {
                ledger.error("empty-value", &item.place, "an entry of this list is empty", "remove it");
                true
            }
            Data::List(items) => list_says_null(items, ledger),
            Data::Map(map) => says_null(map, ledger),
            _ => false,
        };
    }
    found
}
