//! Texts that items have from files of the repository, and the values that stand in them.
//!
//! A kind names the fields: one that names a file, one that takes its text. Everything is told at the place where somebody
//! can mend it: the line that names a file, or the line of the file itself. Where a text is refused, no item has it.

use crate::bundle::Entry as Found;
use crate::fleet::outside;
use crate::layers::{Merged, Text};
use crate::ledger::Ledger;
use crate::substitute::{self, Miss, Who};
use crate::table::Row;
use crate::tree::{Data, Entry, Node, Place};
use crate::{Bundle, show};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where they lie.
pub(crate) const FOLDER: &str = "files/";
/// The field by which an item says that its text is to be taken as it is.
const SUBSTITUTE: &str = "substitute";

/// Every text of a repository that an item may name.
#[derive(Debug, Default)]
pub(crate) struct Payloads(BTreeMap<String, Payload>);

#[derive(Debug)]
enum Payload {
    Text(Arc<str>),
    /// Why it cannot be had, as the end of a sentence.
    Refused(String),
}

impl Payloads {
    pub(crate) fn of(bundle: &Bundle) -> Self {
        let below = bundle.files.iter().filter(|(path, _)| path.starts_with(FOLDER));
        Self(below.map(|(path, found)| (path.clone(), payload(found))).collect())
    }
}

fn payload(found: &Found) -> Payload {
    let most = Bundle::FILE_CAP;
    let refused = match found {
        Found::File(bytes) if bytes.len() > most => {
            format!("is too big: it has {} bytes, and {most} are the most", bytes.len())
        }
        Found::File(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => return Payload::Text(text.into()),
            Err(_) => "is no UTF-8 text".to_owned(),
        },
        Found::TooBig(bytes) => format!("is too big: it has {bytes} bytes, and {most} are the most"),
        Found::Link(target) => {
            format!("is a symlink to {}: what is reviewed must be what is read", show::quoted(target))
        }
        Found::Other(what) => format!("is no file: {}", show::cut(what, 80)),
    };
    Payload::Refused(refused)
}

/// Whether a kind has fields that this is about.
pub(crate) fn concerns(row: Row) -> bool {
    !row.kind.payloads().is_empty() || !row.kind.substituted().is_empty()
}

/// Put texts of files into an item, and values into its texts. False where something is wrong, which is told; the text is
/// then left out where it came from a file.
pub(crate) fn fill(
    row: Row,
    merged: &mut Merged,
    payloads: &Payloads,
    who: &Who,
    ledger: &mut Ledger,
) -> bool {
    let mut good = true;
    for (from, into) in row.kind.payloads() {
        if let Some(named) = merged.fields.get(from).cloned() {
            good &= take(&named, into, merged, payloads, ledger);
        }
    }
    let as_it_is = |field: &Entry| matches!(field.node.data, Data::Scalar(Value::Bool(false)));
    if merged.fields.get(SUBSTITUTE).is_some_and(as_it_is) {
        return good;
    }
    for field in row.kind.substituted() {
        good &= substituted(field, merged, who, ledger);
    }
    good
}

/// The text of the file that `named` names, into the field `into`.
fn take(named: &Entry, into: &str, merged: &mut Merged, payloads: &Payloads, ledger: &mut Ledger) -> bool {
    if let Some(both) = merged.fields.get(into) {
        let message = format!("{} and {} are both said", show::quoted(&named.key), show::quoted(into));
        ledger.error("payload", &both.at, message, "keep one of the two");
        return false;
    }
    // What is no text at all is for the kind to refuse.
    let Some(path) = named.node.text() else { return true };
    let Some(text) = found(path, &named.node.place, payloads, ledger) else { return false };
    if let Some(index) = text.find(|c: char| !matches!(c, '\n' | '\t' | '\r') && show::is_hidden(c)) {
        let c = text[index..].chars().next().unwrap_or_default();
        let message = format!("the control character U+{:04X} cannot stand in a spec", u32::from(c));
        ledger.error("control-character", &within(path, &text, index, 1), message, "remove it");
        return false;
    }
    let (said, node) = (text.to_string(), Data::Scalar(Value::String(text.to_string())));
    let node = Node { place: named.node.place.clone(), data: node };
    merged.fields.entries.push(Entry { key: into.to_owned(), at: named.at.clone(), node });
    merged.texts.insert(into.to_owned(), Text { file: Some(path.into()), said });
    true
}

fn found(path: &str, at: &Place, payloads: &Payloads, ledger: &mut Ledger) -> Option<Arc<str>> {
    let shown = show::quoted(path);
    let plain = |part: &str| !part.is_empty() && part != ".";
    if outside(path) {
        let message = format!("{shown} is a path outside the repository");
        ledger.error("outside", at, message, "name a file from the repository's root: `files/NAME`");
        return None;
    }
    if !path.starts_with(FOLDER) || !path.split('/').all(plain) {
        let message = format!("{shown} does not lie below `files`");
        ledger.error("payload", at, message, "put the file there, and name it `files/NAME`");
        return None;
    }
    match payloads.0.get(path) {
        Some(Payload::Text(text)) => Some(text.clone()),
        Some(Payload::Refused(why)) => {
            ledger.error("payload", at, format!("{shown} {why}"), "put a plain text file there");
            None
        }
        None => {
            let names: Vec<&str> = payloads.0.keys().map(String::as_str).collect();
            let help = show::near(path, &names).map(|near| format!("did you mean {}?", show::quoted(near)));
            let help = help.unwrap_or_else(|| "add the file; its name is exactly so".to_owned());
            ledger.error("payload", at, format!("there is no {shown} in the repository"), help);
            None
        }
    }
}

/// A place in a file of texts, by a byte of it.
fn within(path: &str, text: &str, index: usize, width: usize) -> Place {
    let before = &text[..index];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: small(line), column: small(column), width: small(width), ..Place::file(path) }
}

fn substituted(field: &str, merged: &mut Merged, who: &Who, ledger: &mut Ledger) -> bool {
    let Some(entry) = merged.fields.entries.iter_mut().find(|entry| entry.key == field) else { return true };
    let Some(said) = entry.node.text().filter(|said| said.contains("${")).map(str::to_owned) else {
        return true;
    };
    let place = entry.node.place.clone();
    match substitute::put_in(&said, who) {
        Ok(text) => {
            entry.node.data = Data::Scalar(Value::String(text));
            merged.texts.entry(field.to_owned()).or_insert(Text { file: None, said });
            true
        }
        Err(misses) => {
            let file = merged.texts.get(field).and_then(|text| text.file.clone());
            for miss in misses {
                tell(&miss, file.as_deref(), &said, &place, ledger);
            }
            false
        }
    }
}

fn tell(miss: &Miss, file: Option<&str>, said: &str, place: &Place, ledger: &mut Ledger) {
    let width = miss.word.chars().count();
    let at = match file {
        Some(file) => within(file, said, miss.index, width),
        None => ledger.find(place, &miss.word).unwrap_or_else(|| place.clone()),
    };
    ledger.error("substitution", &at, miss.message.clone(), miss.help.clone());
}
