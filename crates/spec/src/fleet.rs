//! `fleet.yaml`: who is in the fleet, on which tier each node is, and the paths between tiers.

use crate::bundle::wants_path;
use crate::ledger::Ledger;
use crate::paths::{self, Path};
use crate::select::{self, Selector};
use crate::shape;
use crate::show;
use crate::tree::{Node, Place};
use crate::{Bundle, Entry};
use evenkeel_core::Mode;
use std::collections::BTreeMap;

/// The file's name.
pub(crate) const FILE: &str = "fleet.yaml";
/// Its keys.
const KEYS: [&str; 6] = ["version", "fleet", "mode", "trust", "nodes", "paths"];

/// What `fleet.yaml` says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fleet {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    /// Where the mode is said.
    pub(crate) mode_line: u32,
    pub(crate) signers: Option<String>,
    pub(crate) selectors: Vec<Selector>,
    pub(crate) paths: BTreeMap<String, Path>,
}

/// Read `fleet.yaml`. What could be understood comes back even where something else is wrong.
pub(crate) fn read(node: &Node, bundle: &Bundle, ledger: &mut Ledger) -> Fleet {
    let mut fleet = Fleet::default();
    let whole = Place::file(FILE);
    let help = "it says `version`, `fleet` and `nodes`";
    let Some(map) = shape::map(node, "fleet.yaml", help, ledger) else {
        return fleet;
    };
    shape::version(map, &whole, ledger);
    shape::only(map, &KEYS, "in fleet.yaml", ledger);
    let help = "give the fleet a name: `fleet: eden`";
    if let Some(node) = shape::needed(map, "fleet", &whole, "fleet.yaml", help, ledger) {
        fleet.name = shape::name(node, "the fleet", ledger).unwrap_or_default().into();
    }
    if let Some(entry) = map.get("mode") {
        fleet.mode = shape::mode(&entry.node, ledger).unwrap_or_default();
        fleet.mode_line = entry.at.line;
    }
    if let Some(entry) = map.get("trust") {
        fleet.signers = trust(&entry.node, bundle, ledger);
    }
    let help = "name at least one: `db1: {tier: db}`";
    if let Some(node) = shape::needed(map, "nodes", &whole, "fleet.yaml", help, ledger) {
        fleet.selectors = nodes(node, ledger);
    }
    if let Some(entry) = map.get("paths") {
        fleet.paths = paths::read(&entry.node, &fleet.selectors, ledger);
    }
    fleet
}

fn trust(node: &Node, bundle: &Bundle, ledger: &mut Ledger) -> Option<String> {
    let map = shape::map(node, "`trust`", "write `signers: trust/allowed_signers` below it", ledger)?;
    shape::only(map, &["signers"], "below `trust`", ledger);
    let help = "name a file in the repository, in the format of OpenSSH's allowed signers";
    let node = shape::needed(map, "signers", &node.place, "`trust`", help, ledger)?;
    let path = shape::text(node, "`signers`", "the path of a file in the repository", ledger)?;
    let shown = show::quoted(path);
    if outside(path) {
        let message = format!("{shown} is a path outside the repository");
        ledger.error(
            "outside",
            &node.place,
            message,
            "name a file below `trust/`, from the repository's root",
        );
        return None;
    }
    if !wants_path(path) || !path.starts_with("trust/") {
        let message = format!("{shown} is not below `trust/`");
        ledger.error("trust", &node.place, message, "keep it there: nothing else is fetched for it");
        return None;
    }
    match bundle.files.get(path) {
        Some(Entry::File(bytes)) if bytes.iter().all(u8::is_ascii_whitespace) => {
            let help = "name at least one signer in it, or leave `trust` out";
            ledger.error("trust", &node.place, format!("{shown} is empty: nobody could sign"), help);
            None
        }
        Some(_) => Some(path.to_owned()),
        None => {
            let help = "add the file, or leave `trust` out";
            ledger.error("trust", &node.place, format!("there is no file {shown} in the repository"), help);
            None
        }
    }
}

/// A path that does not stay in the repository.
pub(crate) fn outside(path: &str) -> bool {
    path.starts_with(['/', '~']) || path.contains('\\') || path.split('/').any(|part| part == "..")
}

fn nodes(node: &Node, ledger: &mut Ledger) -> Vec<Selector> {
    let help = "write a map: `db1: {tier: db}`; a name or a glob, and what it is";
    let Some(map) = shape::map(node, "`nodes`", help, ledger) else {
        return vec![];
    };
    if map.entries.is_empty() && !map.poisoned {
        ledger.error(
            "missing-key",
            &node.place,
            "`nodes` names nobody",
            "name at least one: `db1: {tier: db}`",
        );
    }
    map.entries.iter().filter_map(|entry| select::read(entry, ledger)).collect()
}
