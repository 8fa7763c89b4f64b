//! What a spec can say of a section of libpq's service file.

use evenkeel_core::{Complaint, PathEnd, Protocol, Side, detection_ms, longest_silence_ms};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is wanted of one section; its name is the service's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// libpq's connection parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, Setting>,
}

/// A parameter's value: a whole number, or a text without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Setting(String);

impl Setting {
    /// As it is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    fn number(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

impl JsonSchema for Setting {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PgServiceValue".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["integer", "string"], "description": "A whole number or a text, as libpq takes it."})
    }
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Visitor)
    }
}

struct Visitor;

impl serde::de::Visitor<'_> for Visitor {
    type Value = Setting;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a whole number, or a text without control characters")
    }
    fn visit_i64<E>(self, value: i64) -> Result<Setting, E> {
        Ok(Setting(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Setting, E> {
        Ok(Setting(value.to_string()))
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Setting, E> {
        if value.chars().any(char::is_control) {
            return Err(E::invalid_value(serde::de::Unexpected::Str(value), &self));
        }
        Ok(Setting(value.to_owned()))
    }
}

/// A parameter: its name, the numbers it may be (`None` for a text), and the libpq that first knew it.
pub(super) type Parameter = (&'static str, Option<(u64, u64)>, u32);

/// What may be said. Nothing here is a secret, and nothing leads libpq to another file with secrets in it.
const PARAMETERS: &[Parameter] = &[
    ("application_name", None, 9),
    ("client_encoding", None, 9),
    ("connect_timeout", Some((2, 86_400)), 7),
    ("dbname", None, 7),
    ("gssencmode", None, 12),
    ("host", None, 7),
    ("hostaddr", None, 7),
    ("keepalives", Some((0, 1)), 9),
    ("keepalives_count", Some((1, 127)), 9),
    ("keepalives_idle", Some((1, 32_767)), 9),
    ("keepalives_interval", Some((1, 32_767)), 9),
    ("port", None, 7),
    ("sslmode", None, 7),
    ("sslrootcert", None, 8),
    ("target_session_attrs", None, 10),
    ("tcp_user_timeout", Some((0, 2_147_483_647)), 12),
    ("user", None, 7),
];

pub(super) fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|(known, ..)| *known == name)
}

pub(super) fn check(name: &str, want: &Want) -> Vec<Complaint> {
    const ITEM: [&str; 0] = [];
    let mut complaints = vec![];
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
        let what = format!("`{}` is no name of a service", name.escape_default());
        complaints.push(Complaint::error(ITEM, what, "letters, digits and _.- as in PGSERVICE=eden"));
    }
    for (name, value) in &want.settings {
        complaints.extend(setting(name, value));
    }
    complaints
}

fn setting(name: &str, value: &Setting) -> Option<Complaint> {
    let path = || ["settings".to_owned(), name.to_owned()];
    let Some((_, range, _)) = find(name) else {
        let (what, help) = match name {
            "password" | "passfile" | "sslpassword" | "sslkey" => (
                format!("{name} is a secret, or leads to one, and everybody may read this file"),
                "leave it where the client has it",
            ),
            _ => (
                format!("libpq knows no {name}, or evenkeel does not let it be set"),
                "a wrong one would fail every connect",
            ),
        };
        return Some(Complaint::error(path(), what, help));
    };
    if value.text().is_empty() || value.text().trim() != value.text() {
        return Some(Complaint::error(
            path(),
            format!("{name} is empty, or has blanks around it"),
            "libpq takes it as it stands",
        ));
    }
    let (least, most) = (*range)?;
    let within = value.number().is_some_and(|n| (least..=most).contains(&n));
    let what = || format!("`{}` is no {name}", value.text());
    (!within).then(|| Complaint::error(path(), what(), format!("a whole number from {least} to {most}")))
}

/// What of a section breaks the paths whose clients name it.
pub(super) fn check_paths(name: &str, want: &Want, paths: &[PathEnd]) -> Vec<Complaint> {
    let named = |end: &&PathEnd| {
        end.side == Side::Client
            && end.protocol == Protocol::Postgresql
            && end.service.as_deref() == Some(name)
    };
    paths.iter().filter(named).flat_map(|end| against(want, end)).collect()
}

fn against(want: &Want, end: &PathEnd) -> Vec<Complaint> {
    let said = |name: &str| want.settings.get(name).and_then(Setting::number);
    let path = |name: &str| ["settings".to_owned(), name.to_owned()];
    let (idle, blackout) = (end.intent().idle_timeout.as_millis(), end.intent().blackout_at_most.as_millis());
    let remembers = format!(
        "path `{}` stays open when idle for {} ({})",
        end.name, end.idle_timeout, end.idle_timeout_at
    );
    let hangs = format!(
        "path `{}` lets a request hang for {} at most ({})",
        end.name, end.blackout_at_most, end.blackout_at
    );
    let help = "leave it out: the path says it";
    let mut told = vec![];
    if said("keepalives") == Some(0) {
        let what = format!("keepalives 0: idle connections send no probe at all, and {remembers}");
        told.push(Complaint::error(path("keepalives"), what, help));
    }
    for name in ["keepalives_idle", "keepalives_interval"] {
        if let Some(n) = said(name).filter(|n| u128::from(longest_silence_ms(*n, 0)) > idle) {
            let what = format!("{name} {n} is too long: {remembers}, and timers fire up to an eighth late");
            told.push(Complaint::error(path(name), what, help));
        }
    }
    let promise = &end.promise;
    let time = said("keepalives_idle").unwrap_or(promise.keepalive_time.into());
    let intvl = said("keepalives_interval").unwrap_or(promise.keepalive_intvl.into());
    let count = said("keepalives_count").unwrap_or(promise.keepalive_probes.into());
    if u128::from(detection_ms(time, intvl, count)) > blackout {
        let what = format!("a dead server is found after {time} + {count} × {intvl} s, and {hangs}");
        told.push(Complaint::warning(path("keepalives_idle"), what, help));
    }
    match said("tcp_user_timeout") {
        Some(0) => {
            let what = format!("tcp_user_timeout 0 leaves it to the kernel's retransmissions, and {hangs}");
            told.push(Complaint::warning(path("tcp_user_timeout"), what, help));
        }
        Some(n) if u128::from(n) > blackout => {
            let what = format!("tcp_user_timeout {n} ms is too long: {hangs}");
            told.push(Complaint::error(path("tcp_user_timeout"), what, help));
        }
        _ => {}
    }
    told
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn complaints(name: &str, settings: &str) -> Vec<String> {
        match serde_json::from_str::<Want>(&format!("{{\"settings\": {settings}}}")) {
            Ok(want) => check(name, &want).into_iter().map(|one| one.message).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn what_would_fail_every_connect_or_gives_a_secret_away_is_refused() {
        assert_eq!(complaints("eden", r#"{"host": "10.20.0.10", "keepalives_idle": 29}"#), [""; 0]);
        for (name, settings) in [
            ("eden", r#"{"keepalive_idle": 29}"#),
            ("eden", r#"{"password": "secret"}"#),
            ("eden", r#"{"passfile": "/root/x"}"#),
            ("eden", r#"{"keepalives_idle": 0}"#),
            ("eden", r#"{"keepalives_idle": "29s"}"#),
            ("eden", r#"{"host": "a\n[other]\nhost=b"}"#),
            ("eden", r#"{"host": " a"}"#),
            ("eden", r#"{"dbname": ""}"#),
            ("a]b", "{}"),
            ("", "{}"),
        ] {
            assert_eq!(
                complaints(name, settings).len(),
                1,
                "{name} {settings}: {:?}",
                complaints(name, settings)
            );
        }
    }
}
