//! The kinds that a repository may speak of, as the language needs to know them.

use evenkeel_core::AnyKind;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The table of kinds, in the order they are applied.
pub type Kinds = &'static [&'static dyn AnyKind];

/// The words that every document has besides its sections.
pub(crate) const HEAD: [&str; 3] = ["version", "include", "mode"];

/// A kind, and whether it has a field of its own that is called `mode`, as the bits of a folder.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) kind: &'static dyn AnyKind,
    pub(crate) own_mode: bool,
}

impl Row {
    pub(crate) fn new(kind: &'static dyn AnyKind) -> Self {
        let has = |fields: &[String], name: &str| fields.iter().any(|field| field == name);
        let fields = fields(kind);
        Self { kind, own_mode: has(&fields, "mode") && !has(&fields, "permissions") }
    }

    /// What may be said of an item.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = fields(self.kind);
        words.extend(self.own_mode.then(|| "permissions".to_owned()));
        words.extend((!self.own_mode).then(|| "mode".to_owned()));
        words.push("absent".to_owned());
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
