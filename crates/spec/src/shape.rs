//! Reading a tree by its shape: the questions that `fleet.yaml` and the documents have in common.

use crate::ledger::Ledger;
use crate::show;
use crate::tree::{Data, Entry, Map, Node, Place};
use evenkeel_core::Mode;
use serde_json::Value;
use std::str::FromStr;

/// A map, or a problem that says what should stand there. Null is no map.
pub(crate) fn map<'n>(node: &'n Node, what: &str, help: &str, ledger: &mut Ledger) -> Option<&'n Map> {
    match &node.data {
        Data::Map(map) => Some(map),
        Data::Bad => None,
        _ => {
            wrong(node, what, "a map", help, ledger);
            None
        }
    }
}

/// Complain that something is of the wrong type.
pub(crate) fn wrong(node: &Node, what: &str, wanted: &str, help: &str, ledger: &mut Ledger) {
    let message = if node.is_null() {
        format!("{what} is empty")
    } else {
        format!("{what} must be {wanted}, not {}", node.what())
    };
    ledger.error("wrong-type", &node.place, message, help);
}

/// A text that is not empty.
pub(crate) fn text<'n>(node: &'n Node, what: &str, wanted: &str, ledger: &mut Ledger) -> Option<&'n str> {
    match &node.data {
        Data::Bad => None,
        Data::Scalar(Value::String(text)) if !text.is_empty() => Some(text),
        Data::Scalar(Value::String(_)) => {
            ledger.error("wrong-type", &node.place, format!("{what} is empty"), format!("write {wanted}"));
            None
        }
        Data::Scalar(Value::Number(number)) => {
            wrong(node, what, wanted, &format!("quote it: \"{number}\""), ledger);
            None
        }
        _ => {
            wrong(node, what, wanted, "", ledger);
            None
        }
    }
}

/// A name: letters, digits, `.`, `_`, `-`, and a letter or digit first, so that it can name a file and be shown anywhere.
pub(crate) fn name<'n>(node: &'n Node, what: &str, ledger: &mut Ledger) -> Option<&'n str> {
    let text = text(node, what, "a name", ledger)?;
    check_name(text, what, &node.place, ledger).then_some(text)
}

/// The most characters of a name, as of a host name.
const NAME: usize = 253;

pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= NAME
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

pub(crate) fn check_name(text: &str, what: &str, at: &Place, ledger: &mut Ledger) -> bool {
    let good = is_name(text);
    if !good {
        let message = format!("{what} cannot be called {}", show::quoted(text));
        let help = "a name is made of letters, digits, `.`, `_` and `-`, and starts with a letter or a digit";
        ledger.error("bad-name", at, message, help);
    }
    good
}

/// A typed word, such as a duration.
pub(crate) fn word<W: FromStr<Err: std::fmt::Display>>(
    node: &Node,
    what: &str,
    wanted: &str,
    ledger: &mut Ledger,
) -> Option<W> {
    let help = match &node.data {
        Data::Bad => return None,
        Data::Scalar(Value::String(text)) => match text.parse() {
            Ok(word) => return Some(word),
            Err(_) => String::new(),
        },
        Data::Scalar(Value::Number(_)) => "a number needs its unit".to_owned(),
        _ => String::new(),
    };
    wrong(node, what, wanted, &help, ledger);
    None
}

/// One of a few words.
pub(crate) fn choice<T: Copy>(node: &Node, what: &str, of: &[(&str, T)], ledger: &mut Ledger) -> Option<T> {
    let words: Vec<&str> = of.iter().map(|(word, _)| *word).collect();
    let said = match &node.data {
        Data::Bad => return None,
        Data::Scalar(Value::String(text)) => text.as_str(),
        _ => "",
    };
    let found = of.iter().find(|(word, _)| *word == said).map(|(_, value)| *value);
    if found.is_none() {
        let near = show::near(said, &words).map(|near| format!("did you mean {}?", show::quoted(near)));
        wrong(node, what, &show::list(&words, "or"), &near.unwrap_or_default(), ledger);
    }
    found
}

/// `enforce` or `audit`.
pub(crate) fn mode(node: &Node, ledger: &mut Ledger) -> Option<Mode> {
    choice(node, "`mode`", &[("enforce", Mode::Enforce), ("audit", Mode::Audit)], ledger)
}

/// Complain of keys that are not among those allowed.
pub(crate) fn only<S: AsRef<str>>(map: &Map, allowed: &[S], place: &str, ledger: &mut Ledger) {
    let unknown = |entry: &&Entry| !allowed.iter().any(|known| known.as_ref() == entry.key);
    for entry in map.entries.iter().filter(unknown) {
        let message = format!("{} is not known {place}", show::quoted(&entry.key));
        ledger.error("unknown-key", &entry.at, message, show::allowed(&entry.key, allowed));
    }
}

/// The value of a key that must be there.
pub(crate) fn needed<'m>(
    map: &'m Map,
    key: &str,
    at: &Place,
    what: &str,
    help: &str,
    ledger: &mut Ledger,
) -> Option<&'m Node> {
    let entry = map.get(key);
    if entry.is_none() && !map.poisoned {
        ledger.error("missing-key", at, format!("{what} does not say `{key}`"), help);
    }
    entry.map(|entry| &entry.node)
}

/// `version: 1`, first thing in every file.
pub(crate) fn version(map: &Map, file: &Place, ledger: &mut Ledger) {
    let help = "write `version: 1` at its top";
    let Some(node) = needed(map, "version", file, "this file", help, ledger) else {
        return;
    };
    match &node.data {
        Data::Scalar(Value::Number(number)) if number.as_u64() == Some(1) => {}
        Data::Bad => {}
        _ => {
            let message = format!("this evenkeel reads `version: 1` of the language, not {}", node.what());
            ledger.error("version", &node.place, message, "write `version: 1`, or use a newer evenkeel");
        }
    }
}
