//! What the paths of a fleet make of a node: a document that nobody wrote, below every other layer.
//!
//! Each kind says for itself what a path means for it; here it is only given a place, so that whoever asks where a value
//! comes from is led to the path, and so that everything that somebody wrote wins over it.

use crate::document::{Document, Said};
use crate::fleet::{FILE, Fleet};
use crate::layers::{self, Layer};
use crate::table::Row;
use crate::tree::{Data, Entry, Map, Node, Place};
use evenkeel_core::{Derived, Mode, Origin, PathEnd};
use serde_json::Value;
use std::collections::BTreeMap;

/// The ends of paths that a node of a tier has.
pub(crate) fn ends(fleet: &Fleet, tier: &str) -> Vec<PathEnd> {
    fleet.paths.iter().flat_map(|(name, path)| path.ends(name, tier)).collect()
}

/// What the kinds make of these ends, where `layers` are what the node's documents say.
pub(crate) fn document(rows: &[Row], fleet: Mode, ends: &[PathEnd], layers: &[Layer]) -> Option<Document> {
    if ends.is_empty() {
        return None;
    }
    let mut sections = BTreeMap::new();
    for row in rows {
        let said = layers::voices(layers, row.kind.name()).into_iter().filter_map(|(name, voices)| {
            let merged = layers::merge(*row, fleet, &voices).filter(|merged| !merged.absent)?;
            Some((name.to_owned(), merged.fields.value()))
        });
        let said: BTreeMap<String, Value> = said.collect();
        let derived = row.kind.derive(ends, &said);
        if !derived.is_empty() {
            sections.insert(row.kind.name(), section(derived, ends));
        }
    }
    let mode = (layers::unnamed_mode(fleet, layers) == Mode::Audit).then(|| (Mode::Audit, Place::file(FILE)));
    // Nobody can name a file so: it is told from every other when layers are compared.
    Some(Document { path: format!("{FILE} paths"), mode, include: vec![], sections })
}

fn section(derived: Vec<Derived>, ends: &[PathEnd]) -> BTreeMap<String, Said> {
    let mut items: BTreeMap<String, Said> = BTreeMap::new();
    for one in derived {
        let Some(end) = ends.get(one.path) else { continue };
        let at = place(&end.at, &end.name);
        let fields = map(one.fields, &at);
        let blank = || Said { at: at.clone(), mode: None, absent: None, fields: Map::default() };
        items.entry(one.item).or_insert_with(blank).fields.lay(&fields);
    }
    items
}

fn place(at: &Origin, path: &str) -> Place {
    Place { line: at.line, path: Some(path.into()), ..Place::file(&at.file) }
}

fn map(fields: impl IntoIterator<Item = (String, Value)>, at: &Place) -> Map {
    let entry = |(key, value)| Entry { key, at: at.clone(), node: node(value, at) };
    Map { entries: fields.into_iter().map(entry).collect(), poisoned: false }
}

fn node(value: Value, at: &Place) -> Node {
    let data = match value {
        Value::Object(fields) => Data::Map(map(fields, at)),
        Value::Array(items) => Data::List(items.into_iter().map(|item| node(item, at)).collect()),
        scalar => Data::Scalar(scalar),
    };
    Node { place: at.clone(), data }
}
