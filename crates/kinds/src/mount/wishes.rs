//! The fields of a mount that have a shape of their own: how it must answer, when it may be disturbed, what lies below.

use evenkeel_core::{DurationWord, Window};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::time::Duration;

/// How a mounted folder must answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// How long an answer may take before the mount counts as hung; 2 s where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<DurationWord>,
    /// How long an answer may take before the mount counts as slow; half of `within` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<DurationWord>,
    /// How often to look; 10 s where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<DurationWord>,
    /// Whether a write is tried too: one file is made and removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub write: bool,
}

impl Health {
    pub(super) fn within(&self) -> Duration {
        self.within.as_ref().map_or(Duration::from_secs(2), DurationWord::duration)
    }
    pub(super) fn slow(&self) -> Duration {
        self.slow.as_ref().map_or_else(|| self.within() / 2, DurationWord::duration)
    }
    pub(super) fn every(&self) -> Duration {
        self.every.as_ref().map_or(Duration::from_secs(10), DurationWord::duration)
    }
}

/// What becomes of a mount over files that lie in its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Below {
    /// It is mounted, and they are told of.
    Report,
    /// It is not mounted as long as they are there.
    Wait,
    /// Nothing.
    Ignore,
}

/// What keeps a folder from being written to while nothing is mounted on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Guarded {
    /// The flag that chattr(1) calls `+i`.
    Immutable,
}

/// Whether it is mounted at the first touch only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Automount {
    /// It is mounted at boot.
    Off,
    /// At the first touch, and unmounted after a time without one, where a time is said.
    On {
        /// That time.
        idle: Option<DurationWord>,
    },
}

/// When it may be unmounted and mounted anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disruptive {
    /// Never by us.
    Never,
    /// When no process holds it.
    WhenIdle,
    /// In a time of the week, when no process holds it.
    In {
        /// That time.
        window: Window,
        /// Whether a slot of the fleet is taken for it, and of which group.
        slot: Slot,
    },
}

/// Whether a slot of the fleet is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Slot {
    /// No.
    #[default]
    None,
    /// One that the node's tier shares.
    Tier,
    /// One that a group shares.
    Group(String),
}

impl Slot {
    /// The group's name. A node that is in no tier shares with the whole fleet.
    pub(super) fn group(&self, tier: Option<&str>) -> Option<String> {
        match self {
            Self::None => None,
            Self::Tier => Some(tier.unwrap_or("fleet").to_owned()),
            Self::Group(group) => Some(group.clone()),
        }
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Idle {
    idle: DurationWord,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct In {
    window: Window,
    #[serde(default, skip_serializing_if = "none")]
    slot: Slot,
}

fn none(slot: &Slot) -> bool {
    *slot == Slot::None
}

impl<'de> Deserialize<'de> for Automount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Automount;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false, or {idle: 10m}")
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<Automount, E> {
                Ok(if on { Automount::On { idle: None } } else { Automount::Off })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Automount, A::Error> {
                let Idle { idle } = Idle::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Automount::On { idle: Some(idle) })
            }
        }
        from.deserialize_any(Reader)
    }
}

impl Serialize for Automount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => to.serialize_bool(false),
            Self::On { idle: None } => to.serialize_bool(true),
            Self::On { idle: Some(idle) } => Idle { idle: idle.clone() }.serialize(to),
        }
    }
}

impl JsonSchema for Automount {
    fn schema_name() -> Cow<'static, str> {
        "Automount".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let idle = generator.subschema_for::<DurationWord>();
        json_schema!({
            "description": "Whether it is mounted at the first touch only, and unmounted after a time without one.",
            "oneOf": [
                {"type": "boolean"},
                {"type": "object", "properties": {"idle": idle}, "required": ["idle"], "additionalProperties": false},
            ]
        })
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Slot;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false, or the name of a group of letters, digits and `-_.`")
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<Slot, E> {
                Ok(if on { Slot::Tier } else { Slot::None })
            }
            fn visit_str<E: Error>(self, group: &str) -> Result<Slot, E> {
                let letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                let good = (1..=64).contains(&group.len()) && group.chars().all(letter);
                let bad = || E::invalid_value(serde::de::Unexpected::Str(group), &self);
                if good { Ok(Slot::Group(group.to_owned())) } else { Err(bad()) }
            }
        }
        from.deserialize_any(Reader)
    }
}

impl Serialize for Slot {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => to.serialize_bool(false),
            Self::Tier => to.serialize_bool(true),
            Self::Group(group) => to.serialize_str(group),
        }
    }
}

impl<'de> Deserialize<'de> for Disruptive {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Disruptive;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("never, when_idle, or {window: \"Sun 02:00-04:00\"}")
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<Disruptive, E> {
                match word {
                    "never" => Ok(Disruptive::Never),
                    "when_idle" => Ok(Disruptive::WhenIdle),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Disruptive, A::Error> {
                let In { window, slot } = In::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Disruptive::In { window, slot })
            }
        }
        from.deserialize_any(Reader)
    }
}

impl Serialize for Disruptive {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Never => to.serialize_str("never"),
            Self::WhenIdle => to.serialize_str("when_idle"),
            Self::In { window, slot } => In { window: window.clone(), slot: slot.clone() }.serialize(to),
        }
    }
}

impl JsonSchema for Disruptive {
    fn schema_name() -> Cow<'static, str> {
        "MountDisruptive".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let window = generator.subschema_for::<Window>();
        json_schema!({
            "description": "When it may be unmounted and mounted anew, where nothing less helps.",
            "oneOf": [
                {"enum": ["never", "when_idle"]},
                {
                    "type": "object",
                    "properties": {
                        "window": window,
                        "slot": {"oneOf": [{"type": "boolean"}, {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}]},
                    },
                    "required": ["window"],
                    "additionalProperties": false,
                },
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in ["true", "false", r#"{"idle":"10m"}"#] {
            assert_eq!(
                serde_json::to_string(&serde_json::from_str::<Automount>(text).unwrap()).unwrap(),
                text
            );
        }
        for text in [
            r#""never""#,
            r#""when_idle""#,
            r#"{"window":"Sun 02:00-04:00"}"#,
            r#"{"window":"02:00-04:00","slot":true}"#,
            r#"{"window":"02:00-04:00","slot":"middleware"}"#,
        ] {
            assert_eq!(
                serde_json::to_string(&serde_json::from_str::<Disruptive>(text).unwrap()).unwrap(),
                text
            );
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_is_meant_to_stand_there() {
        for text in [r#""soon""#, "{}", r#"{"window":"x"}"#, r#"{"window":"02:00-04:00","slot":"a b"}"#, "1"]
        {
            assert!(serde_json::from_str::<Disruptive>(text).is_err(), "{text}");
        }
        let error = serde_json::from_str::<Automount>("\"yes\"").unwrap_err().to_string();
        assert!(error.contains("{idle: 10m}"), "{error}");
        assert!(serde_json::from_str::<Automount>(r#"{"idle":10}"#).is_err());
    }
}
