//! The merged spec of one node as YAML again, with the place of every value beside it.
//!
//! What is rendered is a document of the language: read as a tier's file, it comes to the same items.

use crate::layers::{self, Merged};
use crate::scalar::{self, Bare};
use crate::show;
use crate::table::Row;
use crate::tree::{Data, Entry, Map, Node, Place};
use crate::{NodeError, Repository};
use evenkeel_core::Mode;
use serde_json::Value;
use std::collections::BTreeMap;

/// Comments stand in this column, or behind longer lines.
const COMMENTS: usize = 56;

impl Repository {
    /// The merged spec of one node, as YAML with `# tiers/db.yaml:9` behind every value.
    ///
    /// # Errors
    /// A [`NodeError`] where nobody is called so, or two globs match.
    pub fn render(&self, node: &str) -> Result<String, NodeError> {
        let selector = self.selector(node)?;
        let layers = self.stack(selector, node);
        let mode = layers::unnamed_mode(self.fleet.mode, &layers);
        let sections: Vec<(Row, BTreeMap<&str, Merged>)> = self
            .rows
            .iter()
            .map(|row| {
                let voices = layers::voices(&layers, row.kind.name()).into_iter();
                let merge = |(name, voices): (_, Vec<_>)| {
                    Some((name, layers::merge(*row, self.fleet.mode, &voices)?))
                };
                (*row, voices.filter_map(merge).collect())
            })
            .collect();
        let mut page = Page::default();
        let tier = show::cut(&selector.tier, 80);
        page.plain(format!(
            "# {} of fleet {}, tier {tier} ({})",
            show::cut(node, 80),
            self.fleet(),
            selector.origin
        ));
        page.plain("version: 1".to_owned());
        let all_audit =
            sections.iter().flat_map(|(_, items)| items.values()).all(|item| item.mode == Mode::Audit);
        let default = if mode == Mode::Audit && all_audit { Mode::Audit } else { Mode::Enforce };
        if default == Mode::Audit {
            page.plain("mode: audit".to_owned());
        } else if mode == Mode::Audit {
            page.plain("# audit: what is not named any more is told, and left as it is".to_owned());
        }
        for (row, items) in sections.iter().filter(|(_, items)| !items.is_empty()) {
            page.plain(String::new());
            page.plain(format!("{}:", row.kind.name()));
            for (name, item) in items {
                page.item(*row, name, item, default);
            }
        }
        Ok(page.text)
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn plain(&mut self, line: String) {
        self.text += &(line + "\n");
    }

    fn said(&mut self, line: &str, at: &Place) {
        let width = line.chars().count();
        let blanks = " ".repeat(COMMENTS.saturating_sub(width).max(2));
        self.plain(format!("{line}{blanks}# {}", show::escaped(&at.origin().to_string())));
    }

    fn item(&mut self, row: Row, name: &str, item: &Merged, default: Mode) {
        let audit = item.mode == Mode::Audit && default != Mode::Audit;
        let key = format!("  {}:", word(name));
        if let (Some(node), false, false) = (shorthand(row, &item.fields), audit, item.absent) {
            self.said(&format!("{key} {}", flow(node)), &node.place);
            return;
        }
        self.plain(key);
        if item.absent {
            self.said("    absent: true", &item.at);
        }
        if audit || (item.fields.entries.is_empty() && !item.absent) {
            self.plain(format!("    mode: {}", if audit { "audit" } else { "enforce" }));
        }
        for entry in &item.fields.entries {
            let clash = audit && row.bits == Some("mode") && entry.key == "mode";
            let key = if clash { "permissions" } else { &entry.key };
            self.entry(key, entry, 4);
        }
    }

    fn entry(&mut self, key: &str, entry: &Entry, indent: usize) {
        let key = format!("{}{}:", " ".repeat(indent), word(key));
        match &entry.node.data {
            Data::Map(map) if !map.entries.is_empty() => {
                self.plain(key);
                for entry in &map.entries {
                    self.entry(&entry.key, entry, indent + 2);
                }
            }
            _ => self.said(&format!("{key} {}", flow(&entry.node)), &entry.at),
        }
    }
}

/// The item's fields are nothing but the one that a bare scalar stands for.
fn shorthand(row: Row, fields: &Map) -> Option<&Node> {
    let short = row.kind.shorthand()?;
    match fields.entries.as_slice() {
        [only] if only.key == short && matches!(only.node.data, Data::Scalar(_)) => Some(&only.node),
        _ => None,
    }
}

/// A value on one line.
pub(crate) fn flow(node: &Node) -> String {
    match &node.data {
        Data::Bad => "null".to_owned(),
        Data::Scalar(Value::String(text)) => word(text),
        Data::Scalar(value) => value.to_string(),
        Data::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Data::Map(map) => {
            let entry = |entry: &Entry| format!("{}: {}", word(&entry.key), flow(&entry.node));
            format!("{{{}}}", map.entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A text, quoted where a bare one would not be read as the same text.
fn word(text: &str) -> String {
    let start = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_');
    let inner = |c: char| start(c) || matches!(c, ':' | '@' | '%' | '+' | '=' | '-');
    let plain = text.starts_with(start)
        && text.chars().all(inner)
        && !text.ends_with(':')
        && !text.starts_with("...");
    let same = scalar::read(text) == Bare::Value(Value::String(text.to_owned()));
    if plain && same { text.to_owned() } else { Value::from(text).to_string() }
}
