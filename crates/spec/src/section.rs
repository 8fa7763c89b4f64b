//! One section's text on its own: for the tests of kinds, and for the examples that they carry.

use crate::layers::{self, Layer, Rank, Voice};
use crate::ledger::Ledger;
use crate::table::Row;
use crate::tree::{Data, Entry, Map, Node, Place};
use crate::{Bundle, Problems, document, speak, yaml};
use evenkeel_core::{AnyKind, Goal, Mode};
use std::collections::BTreeMap;

/// Read the text of one section, without the section's own key, as `Kind::EXAMPLE` is written. The file is called by the
/// kind's name in what is told of it.
///
/// # Errors
/// Every problem, where there is at least one error.
pub fn read_section(kind: &'static dyn AnyKind, text: &str, mode: Mode) -> Result<Box<dyn Goal>, Problems> {
    let mut bundle = Bundle::default();
    bundle.insert_file(kind.name(), text);
    let mut ledger = Ledger::new(&bundle);
    let goal = goal(Row::new(kind), text.as_bytes(), mode, &mut ledger);
    match goal {
        Some(goal) if ledger.errors() == 0 => Ok(goal),
        _ => Err(ledger.close()),
    }
}

fn goal(row: Row, text: &[u8], mode: Mode, ledger: &mut Ledger) -> Option<Box<dyn Goal>> {
    let name = row.kind.name();
    let at = Place::file(name);
    // A text of comments only is an empty section.
    let bare =
        text.split(|byte| *byte == b'\n').all(|line| matches!(line.trim_ascii().first(), None | Some(b'#')));
    let empty = || Node { place: at.clone(), data: Data::Map(Map::default()) };
    let node = if bare { empty() } else { yaml::parse(name, text, ledger)? };
    let said = document::section(row, &Entry { key: name.to_owned(), at: at.clone(), node }, ledger);
    let mut document =
        document::Document { path: name.to_owned(), mode: None, include: vec![], sections: BTreeMap::new() };
    document.sections.insert(name, said);
    let layer = Layer { rank: Rank::Node, document: &document };
    let mut raw = BTreeMap::new();
    for (item, said) in document.sections.values().flatten() {
        let merged = layers::merge(row, mode, &[Voice { layer, said }])?;
        raw.insert(item.clone(), merged.raw());
        if !merged.fields.is_poisoned() {
            speak::check(row, item, merged, ledger);
        }
    }
    if ledger.errors() > 0 {
        return None;
    }
    row.kind.goal(mode, raw).ok()
}
