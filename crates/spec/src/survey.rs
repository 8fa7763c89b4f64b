//! What can be wrong between the files of a repository: what is no file, what is missing, what leads in a circle, what
//! nobody uses.

use crate::bundle::{FOLDERS, has_suffix};
use crate::document::{self, Document};
use crate::ledger::Ledger;
use crate::repository::{Repository, node_of, tier_file, whole};
use crate::select::{self, Miss, Selector};
use crate::table::Row;
use crate::tree::Place;
use crate::{Bundle, Entry, payload, show, wants_path, yaml};
use std::collections::{BTreeMap, BTreeSet};

/// How deep profiles may include one another.
const INCLUDES: usize = 16;

/// What is no plain file, or too big, or misses.
pub(crate) fn entries(bundle: &Bundle, ledger: &mut Ledger) {
    for (path, entry) in bundle.files.iter().filter(|(path, _)| wants_path(path)) {
        let at = whole(path);
        match entry {
            Entry::File(bytes) if bytes.len() > Bundle::FILE_CAP => {
                yaml::too_big(path, bytes.len() as u64, ledger);
            }
            Entry::File(_) => not_read(path, ledger),
            Entry::TooBig(bytes) => yaml::too_big(path, *bytes, ledger),
            Entry::Link(target) => {
                let message = format!("this is a symlink to {}", show::quoted(target));
                ledger.error("symlink", &at, message, "put the file itself here, or include a profile");
            }
            Entry::Other(what) => {
                let message = format!("this is no file: {}", show::cut(what, 80));
                ledger.error("no-file", &at, message, "put a plain file here");
            }
        }
    }
    if !bundle.files.contains_key("fleet.yaml") {
        let help = "add it at the repository's root: `version: 1`, `fleet: NAME`, `nodes: {…}`";
        ledger.error("missing-file", &whole("fleet.yaml"), "there is no fleet.yaml", help);
    }
}

fn not_read(path: &str, ledger: &mut Ledger) {
    let folder = path.split('/').next().unwrap_or_default();
    if has_suffix(path, &[".yml"]) && (FOLDERS.contains(&folder) || path == "fleet.yml") {
        ledger.warning("not-read", &whole(path), "this file is not read", "name it `.yaml`");
    }
}

/// Read every document.
pub(crate) fn documents(bundle: &Bundle, rows: &[Row], ledger: &mut Ledger) -> BTreeMap<String, Document> {
    let mut documents = BTreeMap::new();
    for path in bundle.files.keys().filter(|path| is_document(path)) {
        let node = bundle.file(path).and_then(|bytes| yaml::parse(path, bytes, ledger));
        if let Some(node) = node {
            documents.insert(path.clone(), document::read(path, &node, rows, ledger));
        }
    }
    documents
}

fn is_document(path: &str) -> bool {
    wants_path(path) && has_suffix(path, &[".yaml"]) && FOLDERS.iter().any(|folder| path.starts_with(folder))
}

/// Includes that lead nowhere, in a circle, or too deep.
pub(crate) fn includes(documents: &BTreeMap<String, Document>, bundle: &Bundle, ledger: &mut Ledger) {
    let mut done = BTreeSet::new();
    for document in documents.values() {
        for (path, at) in &document.include {
            if !bundle.files.contains_key(path) {
                missing(path, at, documents, ledger);
            }
        }
        follow(documents, document, &mut vec![], &mut done, ledger);
    }
}

fn missing(path: &str, at: &Place, documents: &BTreeMap<String, Document>, ledger: &mut Ledger) {
    let profiles: Vec<&str> =
        documents.keys().map(String::as_str).filter(|path| path.starts_with("profiles/")).collect();
    let help = match show::near(path, &profiles) {
        Some(near) => format!("did you mean {}?", show::quoted(near)),
        None => "add the file, or remove the include".to_owned(),
    };
    ledger.error(
        "missing-include",
        at,
        format!("there is no {} in the repository", show::quoted(path)),
        help,
    );
}

/// Walk includes depth first; `above` is the way here.
fn follow<'d>(
    documents: &'d BTreeMap<String, Document>,
    document: &'d Document,
    above: &mut Vec<&'d str>,
    done: &mut BTreeSet<&'d str>,
    ledger: &mut Ledger,
) {
    if done.contains(document.path.as_str()) {
        return;
    }
    above.push(&document.path);
    for (path, at) in &document.include {
        if let Some(start) = above.iter().position(|known| known == path) {
            let mut circle: Vec<&str> = above[start..].to_vec();
            circle.push(path);
            let circle: Vec<String> = circle.iter().map(|path| show::escaped(path)).collect();
            let message = format!("includes lead in a circle: {}", circle.join(" → "));
            ledger.error("include-cycle", at, message, "take one of these includes out");
        } else if above.len() >= INCLUDES {
            let message = format!("includes lead deeper than {INCLUDES} profiles");
            ledger.error("include-depth", at, message, "include them side by side");
        } else if let Some(next) = documents.get(path) {
            follow(documents, next, above, done, ledger);
        }
    }
    above.pop();
    done.insert(&document.path);
}

/// Tiers that are not there, and names that two globs match.
pub(crate) fn selectors(repository: &Repository, bundle: &Bundle, ledger: &mut Ledger) {
    let selectors = &repository.fleet.selectors;
    for selector in selectors {
        let file = tier_file(&selector.tier);
        if !bundle.files.contains_key(&file) {
            let message =
                format!("tier {} has no file {}", show::quoted(&selector.tier), show::quoted(&file));
            ledger.error("missing-tier", &selector.tier_at, message, near_tier(bundle, &selector.tier));
        }
    }
    for (index, first) in selectors.iter().enumerate().filter(|(_, one)| one.is_glob()) {
        let overlap = selectors[..index].iter().filter(|one| one.is_glob()).find_map(|second| {
            let names = select::samples(&first.pattern).into_iter().chain(select::samples(&second.pattern));
            let mut both = names.filter(|name| first.matches(name) && second.matches(name));
            Some((second, both.find(|name| named_by_glob(selectors, name))?))
        });
        if let Some((second, name)) = overlap {
            two_globs(second, first, &name, ledger);
        }
    }
}

fn near_tier(bundle: &Bundle, tier: &str) -> String {
    let files = bundle.files.keys().filter_map(|path| path.strip_prefix("tiers/")?.strip_suffix(".yaml"));
    let tiers: Vec<&str> = files.collect();
    match show::near(tier, &tiers) {
        Some(near) => format!("did you mean {}?", show::quoted(near)),
        None if tiers.is_empty() => "add it: `version: 1` is enough to begin with".to_owned(),
        None => format!("add it; there are {}", show::list(&tiers, "and")),
    }
}

/// No exact name comes before the globs.
fn named_by_glob(selectors: &[Selector], name: &str) -> bool {
    matches!(select::find(selectors, name), Err(Miss::Two(..)))
}

fn two_globs(first: &Selector, second: &Selector, name: &str, ledger: &mut Ledger) {
    let (a, b) = (show::quoted(&first.pattern), show::quoted(&second.pattern));
    let message = format!(
        "{a} (line {}) and {b} both match {}: such a node takes no new spec",
        first.at.line,
        show::quoted(name)
    );
    ledger.warning("two-globs", &second.at, message, "narrow one of the two, or name the node exactly");
}

/// Files that nothing leads to.
pub(crate) fn unused(repository: &Repository, bundle: &Bundle, ledger: &mut Ledger) {
    let selectors = &repository.fleet.selectors;
    if selectors.is_empty() {
        return;
    }
    unused_payloads(repository, bundle, ledger);
    let includes = repository.documents.values().flat_map(|document| &document.include);
    let wanted: BTreeSet<&str> = includes.map(|(path, _)| path.as_str()).collect();
    let tiers: BTreeSet<String> = selectors.iter().map(|selector| tier_file(&selector.tier)).collect();
    for path in bundle.files.keys().filter(|path| is_document(path)) {
        let at = whole(path);
        if let Some(node) = node_of(path) {
            unused_node(selectors, node, &at, ledger);
        } else if path.starts_with("tiers/") && !tiers.contains(path) {
            let help = "put a node on it in fleet.yaml, or remove the file";
            ledger.warning("unused", &at, "no node in fleet.yaml is on this tier", help);
        } else if path.starts_with("profiles/") && !wanted.contains(path.as_str()) {
            ledger.warning("unused", &at, "no file includes this profile", "include it, or remove the file");
        }
    }
}

fn unused_payloads(repository: &Repository, bundle: &Bundle, ledger: &mut Ledger) {
    let mut named = BTreeSet::new();
    for row in &repository.rows {
        let sections = repository.documents.values().filter_map(|one| one.sections.get(row.kind.name()));
        for said in sections.flat_map(BTreeMap::values) {
            let fields = row.kind.payloads().iter().filter_map(|(from, _)| said.fields.get(from));
            named.extend(fields.filter_map(|field| field.node.text()));
        }
    }
    let below = bundle.files.keys().filter(|path| path.starts_with(payload::FOLDER));
    for path in below.filter(|path| !named.contains(path.as_str())) {
        let help = "name it in an item, or remove the file";
        ledger.warning("unused", &whole(path), "no item names this file", help);
    }
}

fn unused_node(selectors: &[Selector], node: &str, at: &Place, ledger: &mut Ledger) {
    match select::find(selectors, node) {
        Ok(_) => {}
        Err(Miss::Nobody) => {
            let help = "name the node in fleet.yaml, or remove the file";
            ledger.warning("unused", at, format!("no node {} is in fleet.yaml", show::quoted(node)), help);
        }
        Err(Miss::Two(first, second)) => two_globs(first, second, node, ledger),
    }
}
