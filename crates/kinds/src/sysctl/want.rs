//! What a spec can say of a kernel parameter: a value, or a range it may be in.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What is wanted of one kernel parameter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// Its value, as an integer or a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Scalar>,
    /// The least it may be; a bigger value is left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<i64>,
    /// The most it may be; a smaller value is left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<i64>,
    /// Whether a kernel that has no such parameter is well without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A value: an integer, or a text without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Scalar(String);

impl Scalar {
    /// As it is written to the kernel.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl JsonSchema for Scalar {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SysctlValue".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["integer", "string"], "description": "An integer, or a text such as \"4096 131072 6291456\"."})
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Visitor)
    }
}

struct Visitor;

impl serde::de::Visitor<'_> for Visitor {
    type Value = Scalar;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an integer, or a text without control characters")
    }
    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Scalar, E> {
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(E::invalid_value(serde::de::Unexpected::Str(value), &self));
        }
        Ok(Scalar(value.trim().to_owned()))
    }
}

/// What is wanted, once it is known to be one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal<'a> {
    Exactly(&'a str),
    Within(Range),
}

/// A range with at least one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) least: Option<i64>,
    pub(super) most: Option<i64>,
}

impl Want {
    /// What is wanted; `None` where the fields make no sense together, which `check` has refused.
    pub(super) fn goal(&self) -> Option<Goal<'_>> {
        match (&self.value, self.at_least, self.at_most) {
            (Some(value), None, None) => Some(Goal::Exactly(value.text())),
            (None, None, None) | (Some(_), ..) => None,
            (None, Some(least), Some(most)) if least > most => None,
            (None, least, most) => Some(Goal::Within(Range { least, most })),
        }
    }
}

impl Goal<'_> {
    /// Whether a value will do.
    pub(super) fn met_by(&self, value: &str) -> bool {
        match self {
            Self::Exactly(want) => same(want, value),
            Self::Within(range) => number(value).is_some_and(|n| n == range.clamp(n)),
        }
    }
}

impl std::fmt::Display for Goal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(value) => f.write_str(value),
            Self::Within(Range { least: Some(least), most: Some(most) }) => write!(f, "{least} to {most}"),
            Self::Within(Range { least: Some(least), .. }) => write!(f, "at least {least}"),
            Self::Within(Range { most, .. }) => write!(f, "at most {}", most.unwrap_or_default()),
        }
    }
}

impl Range {
    /// The value in the range that is nearest.
    pub(super) fn clamp(&self, n: i64) -> i64 {
        n.max(self.least.unwrap_or(n)).min(self.most.unwrap_or(i64::MAX))
    }

    /// A value in the range, where nothing else is known.
    pub(super) fn bound(&self) -> i64 {
        self.least.or(self.most).unwrap_or_default()
    }
}

/// Whether two values mean the same: parts between blanks are compared one by one, plain integers by value.
pub(super) fn same(a: &str, b: &str) -> bool {
    let part = |(a, b): (&str, &str)| a == b || (number(a).is_some() && number(a) == number(b));
    let (a, b): (Vec<_>, Vec<_>) = (a.split_whitespace().collect(), b.split_whitespace().collect());
    a.len() == b.len() && a.into_iter().zip(b).all(part)
}

/// A plain decimal integer. Leading zeros and a plus make it something else: the kernel reads `010` as eight.
pub(super) fn number(text: &str) -> Option<i64> {
    let digits = text.trim().strip_prefix('-').unwrap_or(text.trim());
    let plain =
        digits == "0" || (!digits.starts_with(['0', '+']) && digits.bytes().all(|b| b.is_ascii_digit()));
    if plain { text.trim().parse().ok() } else { None }
}
