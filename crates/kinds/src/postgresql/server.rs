//! A server that is reached through SQL alone: how a spec says it. A password is never said, only where it is kept.

use super::want::sound;
use evenkeel_core::{Complaint, PgReach, PgRemote, PgSecret, PgServer, PgTls};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::path::PathBuf;

/// A server that is reached through SQL alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its host's name or address.
    pub host: String,
    /// Its port.
    #[serde(default = "port")]
    pub port: u16,
    /// Whom to connect as.
    pub user: String,
    /// Which database to connect to.
    #[serde(default = "database")]
    pub database: String,
    /// Where the password is kept, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// How its identity is checked: verify-full, verify-ca, require or off.
    #[serde(default)]
    pub tls: PgTls,
    /// A PEM file with the only authorities that may vouch for it; the system's are never asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

fn port() -> u16 {
    5432
}

fn database() -> String {
    "postgres".to_owned()
}

/// Where a password is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Password {
    /// In a file that only its owner may read.
    File(PathBuf),
    /// In a credential of the agent's unit, by its name in `LoadCredential=`.
    Credential(String),
}

const PLACE: &str = "{file: /etc/evenkeel/…} or {credential: NAME}";

impl JsonSchema for Password {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PostgresqlPassword".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Where the password is kept; never the password.",
            "properties": {"file": {"type": "string"}, "credential": {"type": "string"}},
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1
        })
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Place)
    }
}

/// Reads a place, and never repeats what stands there instead of one.
struct Place;

impl<'de> Visitor<'de> for Place {
    type Value = Password;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(PLACE)
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<Password, E> {
        Err(never())
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<Password, E> {
        Err(never())
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<Password, E> {
        Err(never())
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<Password, E> {
        Err(never())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Password, A::Error> {
        let place = || A::Error::custom(format!("a password's place is one of {PLACE}"));
        let one = match map.next_key::<String>()?.as_deref() {
            Some("file") => Password::File(map.next_value()?),
            Some("credential") => Password::Credential(map.next_value()?),
            _ => return Err(place()),
        };
        if map.next_key::<String>()?.is_some() { Err(place()) } else { Ok(one) }
    }
}

fn never<E: Error>() -> E {
    E::custom(format!("a password is never in a spec, which many people read: say where it is kept, {PLACE}"))
}

impl Server {
    /// How it is reached, under the item's name.
    pub(super) fn reach(&self, name: &str) -> PgServer {
        let password = match &self.password {
            None => PgSecret::None,
            Some(Password::File(path)) => PgSecret::File(path.clone()),
            Some(Password::Credential(name)) => PgSecret::Credential(name.clone()),
        };
        let reach = PgReach::Remote(PgRemote {
            host: self.host.clone(),
            port: self.port,
            user: self.user.clone(),
            database: self.database.clone(),
            password,
            tls: self.tls,
            ca: self.ca.clone(),
        });
        PgServer { name: name.to_owned(), reach }
    }
}

/// What is wrong with it.
pub(super) fn check(server: &Server) -> Vec<Complaint> {
    let mut complaints = vec![];
    let mut wrong = |field: &str, what: &str, help: &str| {
        complaints.push(Complaint::error(["server", field], what, help));
    };
    let host = |c: char| c.is_ascii_alphanumeric() || "_.-:".contains(c);
    if server.host.is_empty() || server.host.len() > 253 || !server.host.chars().all(host) {
        wrong("host", "this is no host's name and no address", "as in db.example.org or 10.20.0.10");
    }
    if server.port == 0 {
        wrong("port", "there is no port 0", "leave it out for 5432");
    }
    for (field, name) in [("user", &server.user), ("database", &server.database)] {
        if name.is_empty() || name.len() > 63 || name.chars().any(char::is_control) {
            wrong(field, "this is no name", "1 to 63 bytes of text");
        }
    }
    match &server.password {
        Some(Password::File(path)) if !sound(path) => {
            wrong("password", "this is no file's path", "an absolute path without `..`");
        }
        Some(Password::Credential(name)) if !plain(name) => {
            wrong(
                "password",
                "this is no credential's name",
                "letters, digits and _.- as in LoadCredential=",
            );
        }
        _ => {}
    }
    if server.ca.as_ref().is_some_and(|path| !sound(path)) {
        wrong("ca", "this is no file's path", "an absolute path without `..`");
    }
    if server.ca.is_none() && matches!(server.tls, PgTls::VerifyFull | PgTls::VerifyCa) {
        let what = "nothing says who may vouch for this server, and the system's authorities are not asked";
        wrong("tls", what, "ca: /path/of/the/authority.pem; for RDS the bundle of its region");
    }
    if server.ca.is_some() && server.tls == PgTls::Off {
        wrong("ca", "with tls: off nobody is asked to vouch for it", "leave `ca` or `tls: off` out");
    }
    complaints
}

fn plain(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.chars().all(letter)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_stands_in_the_place_of_a_passwords_place_is_never_repeated() {
        for text in
            [r#""canary-7""#, r#"{"canary-7": "x"}"#, r#"{"file": "/x", "canary-7": 1}"#, "7007", "7.5"]
        {
            let why = serde_json::from_str::<Password>(text).unwrap_err().to_string();
            assert!(!why.contains("canary-7") && !why.contains("7007") && why.contains("{file:"), "{why}");
        }
    }

    #[test]
    fn a_server_is_checked_field_by_field() {
        let told = |fields: &str| {
            let server: Server = serde_json::from_str(fields).unwrap();
            check(&server).into_iter().map(|one| one.path[1].clone()).collect::<Vec<_>>()
        };
        let good =
            r#"{"host": "db.x.org", "user": "eden", "password": {"credential": "pg"}, "ca": "/etc/ca.pem"}"#;
        assert_eq!(told(good), [""; 0]);
        assert_eq!(told(r#"{"host": "::1", "user": "eden", "tls": "off"}"#), [""; 0]);
        assert_eq!(
            told(r#"{"host": "a b", "user": "", "ca": "x", "port": 0}"#),
            ["host", "port", "user", "ca"]
        );
        assert_eq!(told(r#"{"host": "a", "user": "b"}"#), ["tls"]);
        assert_eq!(told(r#"{"host": "a", "user": "b", "tls": "off", "ca": "/x"}"#), ["ca"]);
        let bad = r#"{"host": "a", "user": "b", "tls": "off", "password": {"credential": "../x"}}"#;
        assert_eq!(told(bad), ["password"]);
    }
}
