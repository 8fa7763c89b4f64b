//! `fleet.yaml`: who is in the fleet, on which tier each node is, and the paths between tiers.
//!
//! Paths are read, checked and kept; nothing is derived from them yet.

use crate::bundle::wants_path;
use crate::ledger::Ledger;
use crate::select::{self, Selector};
use crate::shape;
use crate::show;
use crate::tree::{Map, Node, Place};
use crate::{Bundle, Entry};
use evenkeel_core::{DurationWord, Mode};
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

/// A network path between two tiers, and what may be expected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Where connections come from.
    pub from: End,
    /// Where they go to; its port is always there.
    pub to: End,
    /// What is in between forgets a silent connection after this.
    pub idle_timeout: DurationWord,
    /// How long a request may hang on a connection that is already dead.
    pub blackout_at_most: DurationWord,
    /// What is to become of connections that are open already.
    pub live: Live,
}

/// One end of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The tier.
    pub tier: String,
    /// The TCP port.
    pub port: Option<u16>,
}

/// What is to become of connections that are open already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// Told, and left as they are.
    Report,
    /// Given the right timers while they are open.
    Retune,
    /// Not looked at.
    Off,
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
        fleet.paths = paths(&entry.node, &fleet.selectors, ledger);
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

fn paths(node: &Node, selectors: &[Selector], ledger: &mut Ledger) -> BTreeMap<String, Path> {
    let help =
        "write a map: the path's name, and below it `from`, `to`, `idle_timeout` and `blackout_at_most`";
    let Some(map) = shape::map(node, "`paths`", help, ledger) else {
        return BTreeMap::new();
    };
    let mut paths = BTreeMap::new();
    for entry in &map.entries {
        let what = format!("path {}", show::quoted(&entry.key));
        shape::check_name(&entry.key, "a path", &entry.at, ledger);
        let help = "it says `from`, `to`, `idle_timeout` and `blackout_at_most`";
        let Some(map) = shape::map(&entry.node, &what, help, ledger) else {
            continue;
        };
        if let Some(path) = path(map, &entry.at, &what, selectors, ledger) {
            let message =
                format!("{what}: derived settings come with a later version; it is checked and kept");
            ledger.warning(
                "path-kept",
                &entry.at,
                message,
                "say the keepalive settings in a profile until then",
            );
            paths.insert(entry.key.clone(), path);
        }
    }
    paths
}

fn path(map: &Map, at: &Place, what: &str, selectors: &[Selector], ledger: &mut Ledger) -> Option<Path> {
    shape::only(map, &["from", "to", "idle_timeout", "blackout_at_most", "live"], "in a path", ledger);
    let side = |key: &str, ledger: &mut Ledger| {
        let help = format!("write `{key}: {{tier: db, port: 5432}}`");
        let node = shape::needed(map, key, at, what, &help, ledger)?;
        end(node, key, selectors, ledger)
    };
    let (from, to) = (side("from", ledger), side("to", ledger));
    let time = |key: &str, example: &str, ledger: &mut Ledger| {
        let help = format!("write `{key}: {example}`");
        let node = shape::needed(map, key, at, what, &help, ledger)?;
        let wanted = format!("a duration such as `{example}`");
        let word: DurationWord = shape::word(node, &format!("`{key}`"), &wanted, ledger)?;
        if word.duration().is_zero() {
            let message = format!("`{key}` must be longer than nothing");
            ledger.error("range", &node.place, message, "leave the path out where there is no limit");
            return None;
        }
        Some(word)
    };
    let idle_timeout = time("idle_timeout", "350s", ledger);
    let blackout_at_most = time("blackout_at_most", "60s", ledger);
    let words = [("report", Live::Report), ("retune", Live::Retune), ("off", Live::Off)];
    let live = match map.get("live") {
        Some(entry) => shape::choice(&entry.node, "`live`", &words, ledger),
        None => Some(Live::Report),
    };
    let (idle_timeout, blackout_at_most) = (idle_timeout?, blackout_at_most?);
    Some(Path { from: from?, to: to?, idle_timeout, blackout_at_most, live: live? })
}

fn end(node: &Node, key: &str, selectors: &[Selector], ledger: &mut Ledger) -> Option<End> {
    let what = format!("`{key}`");
    let map = shape::map(node, &what, "write `{tier: db, port: 5432}`", ledger)?;
    shape::only(map, &["tier", "port"], &format!("in {what}"), ledger);
    let help = "name the tier";
    let tier_node = shape::needed(map, "tier", &node.place, &what, help, ledger);
    let port_node = match map.get("port") {
        None if key == "to" => {
            let help = "a path leads to a port: `port: 5432`";
            shape::needed(map, "port", &node.place, &what, help, ledger)?;
            None
        }
        other => other.map(|entry| &entry.node),
    };
    let port = match port_node {
        Some(node) => Some(port(node, ledger)?),
        None => None,
    };
    let tier_node = tier_node?;
    let tier = shape::name(tier_node, "a tier", ledger)?;
    let tiers: Vec<&str> = selectors.iter().map(|selector| selector.tier.as_str()).collect();
    if !tiers.contains(&tier) && !tiers.is_empty() {
        let message = format!("no node is on tier {}", show::quoted(tier));
        let mut known = tiers;
        known.sort_unstable();
        known.dedup();
        ledger.error("unknown-tier", &tier_node.place, message, show::allowed(tier, &known));
        return None;
    }
    Some(End { tier: tier.to_owned(), port })
}

fn port(node: &Node, ledger: &mut Ledger) -> Option<u16> {
    let number = node.value().as_u64().and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
    if number.is_none() && !node.is_poisoned() {
        shape::wrong(node, "`port`", "a number from 1 to 65535", "", ledger);
    }
    number
}
