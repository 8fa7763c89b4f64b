//! JSON Schema 2020-12 of `fleet.yaml` and of the documents, so that editors complete and underline.
//!
//! A schema sees one file. What one layer leaves out another may say, so nothing of an item is required here; the whole
//! is for `validate` to judge.

use crate::table::{self, Kinds, Row};
use evenkeel_core::{DurationWord, Net};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// What names are made of.
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]*$";

/// The schemas by what they are for: `fleet` for `fleet.yaml`, `document` for profiles, tiers and nodes' files.
#[must_use]
pub fn schemas(kinds: Kinds) -> BTreeMap<&'static str, Value> {
    BTreeMap::from([("fleet", fleet()), ("document", document(kinds))])
}

fn mode() -> Value {
    json!({
        "description": "enforce: put drift right; audit: look and report, touch nothing. Audit wins over enforce.",
        "enum": ["enforce", "audit"],
    })
}

fn version() -> Value {
    json!({"description": "The version of the language.", "const": 1})
}

fn object(description: &str, required: &[&str], properties: &Value) -> Value {
    let mut object = json!({
        "type": "object", "description": description, "additionalProperties": false, "properties": properties,
    });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn fleet() -> Value {
    let duration = DurationWord::json_schema(&mut generator()).to_value();
    let tier =
        json!({"type": "string", "pattern": NAME, "description": "The tier: it has a file tiers/NAME.yaml."});
    let port = json!({"type": "integer", "minimum": 1, "maximum": 65535});
    let nets = json!({
        "type": "array", "maxItems": 64, "items": generator().subschema_for::<Net>(),
        "description": "Where that end may be: addresses and networks.",
    });
    let end = json!({"tier": tier, "port": port, "addresses": nets});
    let node = object(
        "Who this is.",
        &["tier"],
        &json!({
            "tier": tier,
            "labels": {"type": "object", "additionalProperties": {"type": "string", "minLength": 1}},
            "machine_id": {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "The only machine that may be this node."},
        }),
    );
    let text = json!({"type": "string", "minLength": 1});
    let every = json!({"anyOf": [{"enum": ["daily", "hourly"]}, duration]});
    let login = object(
        "How often, and whom to log in as.",
        &["every"],
        &json!({"every": every, "user": text, "database": text, "password_file": {"type": "string", "pattern": "^/"}}),
    );
    let path = object(
        "A network path between two tiers.",
        &["from", "to", "idle_timeout", "blackout_at_most"],
        &json!({
            "from": object("Where connections come from: a tier, or addresses.", &[], &end),
            "to": object("Where connections go to: a tier, or addresses, and a port.", &["port"], &end),
            "idle_timeout": described(&duration, "What is in between forgets a silent connection after this."),
            "blackout_at_most": described(&duration, "How long a request may hang on a connection that is already dead."),
            "live": {
                "enum": ["report", "retune", "free", "off"],
                "description": "Connections that are open already: report them, give them the right timers, also end those that retransmit into nothing, or look at none.",
            },
            "protocol": {"enum": ["postgresql", "tcp"], "description": "What is spoken; postgresql where the port is 5432."},
            "service": {
                "anyOf": [{"type": "string", "pattern": NAME}, {"const": false}],
                "description": "The section of pg_service.conf that clients have; the path's name where nothing is said, false for none.",
            },
            "connections": {
                "type": "integer", "minimum": 1, "maximum": 262_143,
                "description": "How many connections each node of `from` may open together; the hub compares it with what the servers have room for.",
            },
            "probe": {
                "anyOf": [{"enum": ["daily", "hourly"]}, duration, login],
                "description": "How often the path's memory is measured, and whom to log in as at PostgreSQL for it.",
            },
            "request_timeouts": {
                "type": "object", "additionalProperties": duration,
                "description": "Who else ends a request, and after how long: none may come before the blackout is over.",
            },
        }),
    );
    let signers = json!({
        "type": "string", "pattern": "^trust/.+$", "description": "A file of allowed signers, in the format of OpenSSH.",
    });
    let mut fleet = object(
        "Who is in the fleet.",
        &["version", "fleet", "nodes"],
        &json!({
            "version": version(),
            "fleet": {"type": "string", "pattern": NAME},
            "mode": mode(),
            "trust": object("Whose commits count.", &["signers"], &json!({"signers": signers})),
            "nodes": {
                "type": "object", "minProperties": 1, "additionalProperties": node,
                "propertyNames": {"pattern": "^[A-Za-z0-9*?\\[][A-Za-z0-9._*?\\[\\]!-]*$"},
                "description": "A node's name or a glob, and what it is. Exact names come before globs.",
            },
            "paths": {"type": "object", "additionalProperties": path, "propertyNames": {"pattern": NAME}},
        }),
    );
    head(&mut fleet, "evenkeel: fleet.yaml");
    fleet
}

fn described(schema: &Value, description: &str) -> Value {
    let mut schema = schema.clone();
    schema["description"] = json!(description);
    schema
}

fn head(schema: &mut Value, title: &str) {
    if let Some(object) = schema.as_object_mut() {
        object.shift_insert(0, "$schema".to_owned(), json!(DIALECT));
        object.shift_insert(1, "title".to_owned(), json!(title));
    }
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

fn document(kinds: Kinds) -> Value {
    let mut generator = generator();
    let include = json!({
        "type": "array",
        "items": {"type": "string", "pattern": "^profiles/[A-Za-z0-9][A-Za-z0-9._/-]*$"},
        "description": "Profiles, from the repository's root; later ones win, and this document over all of them.",
    });
    let mut properties = Map::new();
    properties.insert("version".to_owned(), version());
    properties.insert("include".to_owned(), include);
    properties.insert("mode".to_owned(), mode());
    for row in table::rows(kinds) {
        properties.insert(row.kind.name().to_owned(), section(row, &mut generator));
    }
    let about = "A profile, a tier or a node's own file.";
    let mut document = object(about, &["version"], &Value::Object(properties));
    let mut definitions: Map<String, Value> = generator.take_definitions(true).into_iter().collect();
    definitions.values_mut().for_each(loosen);
    // Items stand in their sections already, with what every item has.
    let used = document.to_string() + &Value::Object(definitions.clone()).to_string();
    definitions.retain(|name, _| used.contains(&format!("#/$defs/{name}\"")));
    if !definitions.is_empty() {
        document["$defs"] = Value::Object(definitions);
    }
    head(&mut document, "evenkeel: a document");
    document
}

/// One section: an item's name, and its fields or what a bare scalar stands for. An empty section says nothing.
fn section(row: Row, generator: &mut SchemaGenerator) -> Value {
    let mut item = table::item_schema(row.kind, generator);
    let short = row.kind.shorthand().and_then(|field| item.pointer(&format!("/properties/{field}"))).cloned();
    loosen(&mut item);
    extend(row, &mut item);
    let item = match short {
        Some(mut short) => {
            loosen(&mut short);
            json!({"anyOf": [no_null(short), item]})
        }
        None => item,
    };
    json!({"type": ["object", "null"], "description": row.kind.summary(), "additionalProperties": item})
}

/// An optional field's schema allows null, which the language does not.
fn no_null(mut schema: Value) -> Value {
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|one| one != "null");
    }
    if let Some(choices) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        choices.retain(|one| one.get("type").is_none_or(|one| one != "null"));
    }
    schema
}

/// Nothing is required where another layer may say it; and where nothing is required, one of several forms may become
/// any of them. An optional field is left out, never null.
fn loosen(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.remove("required");
            object.remove("default");
            if let Some(forms) = object.remove("oneOf") {
                object.insert("anyOf".to_owned(), forms);
            }
            for (keyword, value) in object.iter_mut() {
                match (keyword.as_str(), value) {
                    ("properties", Value::Object(fields)) => fields.values_mut().for_each(loosen_field),
                    ("enum" | "const" | "examples", _) => {}
                    (_, value) => loosen(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(loosen),
        _ => {}
    }
}

fn loosen_field(field: &mut Value) {
    loosen(field);
    *field = no_null(field.take());
}

/// Every item has `mode` and `absent` besides its kind's own fields.
fn extend(row: Row, item: &mut Value) {
    let Some(object) = item.as_object_mut() else {
        return;
    };
    for forms in ["anyOf", "allOf"] {
        if let Some(Value::Array(forms)) = object.get_mut(forms) {
            for form in forms {
                extend(row, form);
            }
        }
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        let own = properties.get("mode").filter(|_| row.bits.is_some()).cloned();
        let both = own.as_ref().map_or_else(mode, |own| json!({"anyOf": [mode(), own]}));
        if let Some(own) = own {
            properties.entry("permissions").or_insert(own);
        }
        properties.insert("mode".to_owned(), both);
        let about = "Wish it away: nothing that the layers below say of it is kept.";
        properties.insert("absent".to_owned(), json!({"type": "boolean", "description": about}));
        object.insert("minProperties".to_owned(), json!(1));
    }
}
