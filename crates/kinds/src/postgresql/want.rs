//! What a spec can say of a PostgreSQL cluster, and what it may not.

use super::parameters::{self, Context, Parameter};
use super::server::{self, Server};
use super::value;
use evenkeel_core::{Complaint, DurationWord};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// What is wanted of one cluster; its name is Debian's, as in 13/main, or any with a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// Where its postgresql.conf is, for a cluster that is not Debian's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_directory: Option<PathBuf>,
    /// How it is reached, where it is not on this node or its files are out of reach: through SQL alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// Parameters of the whole server.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, Value>,
    /// Parameters of roles: a value, or `inherit` where no setting of the role may shadow the server's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, BTreeMap<String, Value>>,
    /// Parameters that a path has promised, and what becomes of a role's or a database's own value: reset or report.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub promised: BTreeMap<String, Promised>,
    /// The strictest of the paths that lead here, for the links between a primary and its standbys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Bounds>,
    /// Whether the links between a primary and its standbys are looked at: report or off.
    #[serde(default, skip_serializing_if = "Replication::is_default")]
    pub replication: Replication,
}

/// What becomes of a role's or a database's own value of a parameter that a path has promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Promised {
    /// It is taken out.
    Reset,
    /// It is told, and left as it is.
    Report,
}

/// What a path asks of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// How long a silent connection lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<DurationWord>,
    /// How long a request may hang.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blackout_at_most: Option<DurationWord>,
}

/// Whether the links between a primary and its standbys are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Replication {
    /// Told of; never changed.
    #[default]
    Report,
    /// Not looked at.
    Off,
}

impl Replication {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Want {
    /// Whether other values of this parameter, of roles and databases, are to be taken out.
    pub(super) fn resets(&self, name: &str) -> bool {
        self.promised.get(name) == Some(&Promised::Reset)
    }
}

/// A parameter's value: a number, a switch or a text without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Value(String);

/// What a role says where it says nothing of its own.
pub(super) const INHERIT: &str = "inherit";

impl Value {
    /// As it was said.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    pub(super) fn inherits(&self) -> bool {
        self.0 == INHERIT
    }
}

impl JsonSchema for Value {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PostgresqlValue".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["number", "boolean", "string"], "description": "A value such as 60s, 256MB, 40 or true."})
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Visitor)
    }
}

struct Visitor;

impl serde::de::Visitor<'_> for Visitor {
    type Value = Value;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number, a switch, or a text without control characters")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value(if value { "on" } else { "off" }.to_owned()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value(value.to_string()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value(value.to_string()))
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        if value.chars().any(char::is_control) {
            return Err(E::invalid_value(serde::de::Unexpected::Str(value), &self));
        }
        Ok(Value(value.to_owned()))
    }
}

/// The version and the cluster's name, where `name` is one of Debian's.
pub(super) fn debian(name: &str) -> Option<(&str, &str)> {
    let (version, cluster) = name.split_once('/')?;
    let major = version.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let named = cluster.starts_with(|c: char| c.is_ascii_alphanumeric()) && cluster.chars().all(plain);
    (major && named).then_some((version, cluster))
}

/// Every parameter that may be set, with the value to be written.
pub(super) fn settings(want: &Want) -> impl Iterator<Item = (Parameter, String)> {
    want.settings.iter().filter_map(|(name, said)| settable(name, said))
}

/// A parameter and its value, where both are what `check` lets through.
pub(super) fn settable(name: &str, said: &Value) -> Option<(Parameter, String)> {
    let parameter = parameters::find(name)?;
    let sound = value::fault(&parameter, said.text()).is_none();
    sound.then(|| (parameter, value::spelled(&parameter, said.text())))
}

pub(super) fn check(name: &str, want: &Want) -> Vec<Complaint> {
    let mut complaints: Vec<Complaint> = identity(name, want).into_iter().collect();
    for (parameter, said) in &want.settings {
        let path = || vec!["settings".to_owned(), parameter.clone()];
        complaints.extend(one(path(), parameter, said));
    }
    for (role, said) in &want.roles {
        if role.is_empty() || role.len() > 63 || role.chars().any(char::is_control) {
            let what = format!("`{}` is no role's name", role.escape_default());
            complaints.push(Complaint::error(
                ["roles".to_owned(), role.clone()],
                what,
                "at most 63 bytes of text",
            ));
        }
        for (parameter, said) in said {
            let path = || vec!["roles".to_owned(), role.clone(), parameter.clone()];
            if let Some(known) = parameters::find(parameter)
                && known.context != Context::User
            {
                let what = format!("{parameter} is the whole server's; a role cannot have its own");
                complaints.push(Complaint::error(path(), what, "say it under settings"));
            } else if !said.inherits() || parameters::find(parameter).is_none() {
                complaints.extend(one(path(), parameter, said));
            }
        }
    }
    for parameter in want.promised.keys() {
        if parameters::find(parameter).is_none_or(|known| known.context != Context::User) {
            let what = format!(
                "`{}` is nothing that a role or a database could have of its own",
                parameter.escape_default()
            );
            complaints.push(Complaint::error(
                ["promised", parameter],
                what,
                "a parameter such as tcp_keepalives_idle",
            ));
        }
    }
    complaints.extend(want.server.iter().flat_map(server::check));
    complaints
}

fn identity(name: &str, want: &Want) -> Option<Complaint> {
    const ITEM: [&str; 0] = [];
    let letter = |c: char| c.is_ascii_alphanumeric() || "/_.-".contains(c);
    if name.is_empty() || name.len() > 80 || !name.chars().all(letter) {
        let what = format!("`{}` is no name of a cluster", name.escape_default());
        return Some(Complaint::error(ITEM, what, "letters, digits and /_.- as in 13/main"));
    }
    match &want.data_directory {
        None if want.server.is_some() => None,
        Some(_) if want.server.is_some() => {
            let what = "a server that is reached through SQL alone has no data directory here";
            Some(Complaint::error(["server"], what, "leave one of `server` and `data_directory` out"))
        }
        None if debian(name).is_none() => {
            let what = format!("{name} is no Debian cluster, and nothing says where it is");
            Some(Complaint::error(
                ITEM,
                what,
                "a name such as 13/main, data_directory: /…, or server: {host: …}",
            ))
        }
        Some(path) if !sound(path) => {
            let help = "an absolute path without `..`";
            Some(Complaint::error(["data_directory"], "this is no data directory", help))
        }
        _ => None,
    }
}

pub(super) fn sound(path: &Path) -> bool {
    let plain = path.to_str().is_some_and(|text| !text.chars().any(char::is_control));
    plain && path.is_absolute() && path.components().all(|part| part != Component::ParentDir)
}

fn one(path: Vec<String>, name: &str, said: &Value) -> Option<Complaint> {
    let Some(parameter) = parameters::find(name) else {
        let (what, help) = parameters::refusal(name);
        return Some(Complaint::error(path, what, help));
    };
    let why = value::fault(&parameter, said.text())?;
    let help = format!("{name} as in the server's documentation, such as 60s, 256MB, 40 or on");
    Some(Complaint::error(path, format!("{name}: {why}"), help))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn complaints(name: &str, fields: &str) -> Vec<String> {
        match serde_json::from_str::<Want>(fields) {
            Ok(want) => check(name, &want).into_iter().map(|one| one.message).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn ordinary_clusters_pass() {
        for (name, fields) in [
            (
                "13/main",
                r#"{"settings": {"tcp_keepalives_idle": "60s", "autovacuum": true, "random_page_cost": 1.1}}"#,
            ),
            ("9.6/main", r#"{"roles": {"sahana": {"tcp_keepalives_idle": "inherit", "work_mem": "8MB"}}}"#),
            (
                "reporting",
                r#"{"data_directory": "/srv/pg", "settings": {"listen_addresses": "localhost,10.20.0.10"}}"#,
            ),
        ] {
            assert_eq!(complaints(name, fields), [""; 0], "{name} {fields}");
        }
    }

    #[test]
    fn what_runs_code_or_makes_no_sense_is_refused() {
        for (name, fields) in [
            ("13/main", r#"{"settings": {"archive_command": "rm -rf /"}}"#),
            ("13/main", r#"{"settings": {"shared_preload_libraries": "evil"}}"#),
            ("13/main", r#"{"settings": {"tcp_keepalives_idle": 40000}}"#),
            ("13/main", r#"{"settings": {"cluster_name": "a\narchive_command = 'x'"}}"#),
            ("13/main", r#"{"settings": {"Work_Mem": "8MB"}}"#),
            ("13/main", r#"{"roles": {"sahana": {"max_connections": 3}}}"#),
            ("13/main", r#"{"roles": {"sahana": {"archive_command": "inherit"}}}"#),
            ("13/main", r#"{"roles": {"": {"work_mem": "inherit"}}}"#),
            ("main", r#"{"settings": {}}"#),
            ("13/../../etc", r#"{"settings": {}}"#),
            ("x", r#"{"data_directory": "srv/pg"}"#),
            ("x", r#"{"data_directory": "/srv/../etc"}"#),
            ("x y", r#"{"data_directory": "/srv/pg"}"#),
            ("x", r#"{"data_directory": "/srv/pg", "server": {"host": "a", "user": "b", "tls": "off"}}"#),
            ("13/main", r#"{"promised": {"max_connections": "reset"}}"#),
            ("13/main", r#"{"promised": {"tcp_keepalives_idle": "undo"}}"#),
            ("13/main", r#"{"path": {"idle_timeout": 350}}"#),
        ] {
            assert_eq!(complaints(name, fields).len(), 1, "{name} {fields}: {:?}", complaints(name, fields));
        }
    }
}
