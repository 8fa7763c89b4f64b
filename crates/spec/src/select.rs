//! Who is meant: exact names before globs, and never two globs at once.

use crate::ledger::Ledger;
use crate::shape;
use crate::show;
use crate::tree::{Data, Entry, Map, Place};
use evenkeel_core::Origin;
use glob::{MatchOptions, Pattern};
use std::collections::BTreeMap;

/// One entry of `nodes` in `fleet.yaml`.
#[derive(Debug, Clone)]
pub struct Selector {
    /// A node's name, or a glob.
    pub pattern: String,
    /// The tier of whom it selects.
    pub tier: String,
    /// Their labels.
    pub labels: BTreeMap<String, String>,
    /// The only machine that may be this node.
    pub machine_id: Option<String>,
    /// Where it is said.
    pub origin: Origin,
    pub(crate) at: Place,
    pub(crate) tier_at: Place,
    pub(crate) glob: Option<Pattern>,
}

/// Why nobody, or more than one, was found.
pub(crate) enum Miss<'s> {
    Nobody,
    Two(&'s Selector, &'s Selector),
}

const CASE: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

impl Selector {
    /// Whether it is a glob, and not one node's name.
    #[must_use]
    pub fn is_glob(&self) -> bool {
        self.glob.is_some()
    }

    pub(crate) fn matches(&self, node: &str) -> bool {
        match &self.glob {
            Some(glob) => glob.matches_with(node, CASE),
            None => self.pattern == node,
        }
    }
}

/// Find the selector of a node.
pub(crate) fn find<'s>(selectors: &'s [Selector], node: &str) -> Result<&'s Selector, Miss<'s>> {
    if let Some(exact) = selectors.iter().find(|selector| !selector.is_glob() && selector.pattern == node) {
        return Ok(exact);
    }
    let mut globs = selectors.iter().filter(|selector| selector.is_glob() && selector.matches(node));
    match (globs.next(), globs.next()) {
        (Some(first), None) => Ok(first),
        (Some(first), Some(second)) => Err(Miss::Two(first, second)),
        _ => Err(Miss::Nobody),
    }
}

/// Names that a glob may match, to see whether globs overlap. Not all of them: the last word is [`find`]'s.
pub(crate) fn samples(pattern: &str) -> Vec<String> {
    ["", "0", "1", "a", "x1"].iter().map(|star| sample(pattern, star)).collect()
}

fn sample(pattern: &str, star: &str) -> String {
    let mut name = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => name.push_str(star),
            '?' => name.push(star.chars().next().unwrap_or('0')),
            '[' => {
                let set: Vec<char> = chars.by_ref().take_while(|c| *c != ']').collect();
                let wanted = star.chars().next().filter(|c| set.contains(c));
                name.push(wanted.or_else(|| set.iter().copied().find(|c| *c != '!')).unwrap_or('0'));
            }
            c => name.push(c),
        }
    }
    name
}

/// Read one entry of `nodes`.
pub(crate) fn read(entry: &Entry, ledger: &mut Ledger) -> Option<Selector> {
    let glob = pattern(entry, ledger)?;
    let what = format!("node {}", show::quoted(&entry.key));
    let map = shape::map(&entry.node, &what, "write `{tier: db}`", ledger)?;
    shape::only(map, &["tier", "labels", "machine_id"], "of a node", ledger);
    let help = "name its tier: `{tier: db}`";
    let labels = map.get("labels").map(|labels| read_labels(labels, ledger)).unwrap_or_default();
    let machine_id = match map.get("machine_id") {
        Some(id) => Some(read_machine_id(id, glob.is_some(), ledger)?),
        None => None,
    };
    let node = shape::needed(map, "tier", &entry.at, &what, help, ledger)?;
    let tier = shape::name(node, "a tier", ledger)?.to_owned();
    let (pattern, at) = (entry.key.clone(), entry.at.clone());
    let (origin, tier_at) = (at.origin(), node.place.clone());
    Some(Selector { pattern, tier, labels, machine_id, origin, at, tier_at, glob })
}

/// A glob, or `None` for a plain name; nothing at all where it is neither.
#[expect(clippy::option_option, reason = "no selector, a name, a glob")]
fn pattern(entry: &Entry, ledger: &mut Ledger) -> Option<Option<Pattern>> {
    if !entry.key.contains(['*', '?', '[', ']']) {
        return shape::check_name(&entry.key, "a node", &entry.at, ledger).then_some(None);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_*?[]!".contains(c);
    let problem = match Pattern::new(&entry.key) {
        _ if !entry.key.chars().all(allowed) => {
            "it may hold letters, digits, `.`, `_`, `-` and `*`, `?`, `[…]`".into()
        }
        _ if entry.key.contains("**") => "`**` means nothing in a name; write `*`".to_owned(),
        Ok(glob) => return Some(Some(glob)),
        Err(error) => format!("{}: does every `[` have its `]`?", error.msg),
    };
    let message = format!("{} is no glob for names of nodes", show::quoted(&entry.key));
    ledger.error("bad-glob", &entry.at, message, problem);
    None
}

fn read_labels(entry: &Entry, ledger: &mut Ledger) -> BTreeMap<String, String> {
    let empty = Map::default();
    let map = shape::map(&entry.node, "`labels`", "write `{role: primary}`", ledger).unwrap_or(&empty);
    let mut labels = BTreeMap::new();
    for label in &map.entries {
        let what = format!("label {}", show::quoted(&label.key));
        if let Some(text) = shape::text(&label.node, &what, "a text", ledger) {
            labels.insert(label.key.clone(), text.to_owned());
        }
    }
    labels
}

/// As systemd writes it in `/etc/machine-id`: 32 hexadecimal digits in lower case.
fn read_machine_id(entry: &Entry, glob: bool, ledger: &mut Ledger) -> Option<String> {
    if glob {
        let help = "name the one node in a line of its own, and pin that";
        ledger.error("machine-id", &entry.at, "a glob stands for many nodes and cannot be one machine", help);
        return None;
    }
    let help = "copy it from that machine's /etc/machine-id";
    let good =
        |id: &&str| id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match (&entry.node.data, entry.node.text().filter(good)) {
        (Data::Bad, _) => None,
        (_, Some(id)) => Some(id.to_owned()),
        (Data::Scalar(serde_json::Value::Number(_)), None) => {
            let help = "a machine-id of digits only must be quoted";
            shape::wrong(&entry.node, "`machine_id`", "32 hexadecimal digits in lower case", help, ledger);
            None
        }
        _ => {
            shape::wrong(&entry.node, "`machine_id`", "32 hexadecimal digits in lower case", help, ledger);
            None
        }
    }
}
