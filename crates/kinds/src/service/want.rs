//! What a spec can say of a unit.

use evenkeel_core::Window;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is wanted of one unit; its name is the unit's. What is not said is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// Whether it starts at boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether it runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// When it may be restarted where it owes that: `never`, `allowed`, or a window, a slot of the fleet, or both.
    #[serde(default, skip_serializing_if = "Restart::is_never")]
    pub restart: Restart,
}

/// When a unit may be restarted that owes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Restart {
    /// A person does it.
    #[default]
    Never,
    /// Whenever it is owed.
    Allowed,
    /// Only then.
    When(When),
}

/// What a restart waits for: all of what is said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// A time of the week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// A slot of the fleet: `true` for the tier's, or a group's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
}

/// Whose slot it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// The tier's, or none.
    Tier(bool),
    /// A group's that a spec names.
    Group(String),
}

impl Want {
    /// The group whose slot a restart takes; `None` where it takes none, or nobody knows the tier.
    pub(super) fn group<'a>(&'a self, tier: Option<&'a str>) -> Option<&'a str> {
        match &self.restart {
            Restart::When(When { slot: Some(Slot::Group(group)), .. }) => Some(group),
            Restart::When(When { slot: Some(Slot::Tier(true)), .. }) => tier,
            _ => None,
        }
    }
}

impl Restart {
    fn is_never(&self) -> bool {
        *self == Self::Never
    }
}

impl Serialize for Restart {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Never => to.serialize_str("never"),
            Self::Allowed => to.serialize_str("allowed"),
            Self::When(when) => when.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Restart {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = Restart;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("never, allowed, or {window: \"Sun 02:00-04:00\", slot: true}")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Restart, E> {
                match word {
                    "never" => Ok(Restart::Never),
                    "allowed" => Ok(Restart::Allowed),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                }
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Restart, A::Error> {
                When::deserialize(MapAccessDeserializer::new(map)).map(Restart::When)
            }
        }
        from.deserialize_any(Either)
    }
}

impl JsonSchema for Restart {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServiceRestart".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let when = generator.subschema_for::<When>();
        json_schema!({
            "anyOf": [{"type": "string", "enum": ["never", "allowed"]}, when],
            "description": "When it may be restarted where it owes that: never, allowed, or what it waits for."
        })
    }
}

impl Serialize for Slot {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Tier(whether) => to.serialize_bool(*whether),
            Self::Group(group) => to.serialize_str(group),
        }
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl serde::de::Visitor<'_> for Either {
            type Value = Slot;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true for the tier's slot, or the name of a group")
            }
            fn visit_bool<E>(self, whether: bool) -> Result<Slot, E> {
                Ok(Slot::Tier(whether))
            }
            fn visit_str<E>(self, group: &str) -> Result<Slot, E> {
                Ok(Slot::Group(group.to_owned()))
            }
        }
        from.deserialize_any(Either)
    }
}

impl JsonSchema for Slot {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FleetSlot".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"type": "boolean"}, {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}],
            "description": "A slot of the fleet: true for the tier's, or a group's name."
        })
    }
}
