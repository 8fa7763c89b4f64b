//! The kinds that a repository may speak of, as the language needs to know them.

use evenkeel_core::AnyKind;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The table of kinds, in the order they are applied.
pub type Kinds = &'static [&'static dyn AnyKind];

/// The words that every document has besides its sections.
pub(crate) const HEAD: [&str; 3] = ["version", "include", "mode"];

/// A kind, and what the language needs to know of its fields.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) kind: &'static dyn AnyKind,
    /// Where the kind has a `mode` of its own, as the bits of a folder: the field that `mode` and `permissions` both
    /// stand for, so that they are one field when layers are merged.
    pub(crate) bits: Option<&'static str>,
}

impl Row {
    pub(crate) fn new(kind: &'static dyn AnyKind) -> Self {
        let fields = fields(kind);
        let has = |name: &str| fields.iter().any(|field| field == name);
        let field = if has("permissions") { "permissions" } else { "mode" };
        Self { kind, bits: has("mode").then_some(field) }
    }

    /// What may be said of an item.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = fields(self.kind);
        let more = [self.bits.map(|_| "permissions"), Some("mode"), Some("absent")];
        for word in more.into_iter().flatten() {
            if !words.iter().any(|known| known == word) {
                words.push(word.to_owned());
            }
        }
        words
    }
}

pub(crate) fn rows(kinds: Kinds) -> Vec<Row> {
    kinds.iter().map(|kind| Row::new(*kind)).collect()
}

/// The kind's own fields, from its schema.
fn fields(kind: &dyn AnyKind) -> Vec<String> {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let schema = item_schema(kind, &mut generator);
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

/// The schema of an item's own fields, not behind a reference.
pub(crate) fn item_schema(kind: &dyn AnyKind, generator: &mut SchemaGenerator) -> Value {
    let schema = kind.schema(generator).to_value();
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.rsplit('/').next());
    name.and_then(|name| generator.definitions().get(name)).cloned().unwrap_or(schema)
}
