//! Silences and waivers: what is under one is not told. It stays as visible as before, and counts as before.

use crate::ca::{self, hex};
use crate::store::StoreError;
use crate::store::telling::{News, Silence, Telling};
use evenkeel_report::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// The longest that one may last.
pub const LONGEST: Duration = Duration::from_hours(90 * 24);

/// Why there is no such silence.
#[derive(Debug, thiserror::Error)]
pub enum SilenceError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] ca::CaError),
    /// A glob is none.
    #[error("--{key}: {glob:?} is no glob: {why}")]
    Glob {
        /// Which.
        key: &'static str,
        /// What was written.
        glob: String,
        /// What is wrong with it.
        why: String,
    },
    /// It would last too long.
    #[error("--for: a silence lasts at most 90 days; what may stay so for longer belongs into the spec")]
    Long,
    /// Nothing is matched.
    #[error("name at least one of --tier, --node, --item: a silence over everything is none")]
    Everything,
    /// Nobody says why, or who.
    #[error("--{0}: say it, in up to 500 characters")]
    Empty(&'static str),
    /// There is none of that id.
    #[error("there is no silence {0}: `evenkeel-hub silence list` has them")]
    Nobody(String),
}

/// A silence that is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Whether it is a waiver.
    pub waiver: bool,
    /// A glob over tiers.
    pub tier: Option<String>,
    /// A glob over names of nodes.
    pub node: Option<String>,
    /// A glob over items.
    pub item: Option<String>,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// How long.
    pub lasts: Duration,
}

/// Makes a silence; its id.
///
/// # Errors
/// When it is none, or the store cannot be written.
pub fn add(telling: &dyn Telling, asked: &Asked, now: i64) -> Result<String, SilenceError> {
    for (key, glob) in [("tier", &asked.tier), ("node", &asked.node), ("item", &asked.item)] {
        if let Some(glob) = glob
            && let Err(why) = glob::Pattern::new(glob)
        {
            return Err(SilenceError::Glob { key, glob: glob.clone(), why: why.msg.to_owned() });
        }
    }
    if [&asked.tier, &asked.node, &asked.item].iter().all(|glob| glob.is_none()) {
        return Err(SilenceError::Everything);
    }
    for (key, text) in [("reason", &asked.reason), ("owner", &asked.owner)] {
        if text.trim().is_empty() || text.chars().count() > 500 {
            return Err(SilenceError::Empty(key));
        }
    }
    if asked.lasts > LONGEST {
        return Err(SilenceError::Long);
    }
    let id = hex(&ca::random::<4>()?);
    let all = |glob: &Option<String>| glob.clone().unwrap_or_else(|| "*".to_owned());
    telling.silence(&Silence {
        id: id.clone(),
        waiver: asked.waiver,
        tier: all(&asked.tier),
        node: all(&asked.node),
        item: all(&asked.item),
        reason: asked.reason.trim().to_owned(),
        owner: asked.owner.trim().to_owned(),
        made: now,
        until: now.saturating_add(i64::try_from(asked.lasts.as_millis()).unwrap_or(0)),
    })?;
    Ok(id)
}

/// Ends one before its time.
///
/// # Errors
/// When there is none of that id, or the store cannot be written.
pub fn end(telling: &dyn Telling, id: &str, now: i64) -> Result<(), SilenceError> {
    if telling.unsilence(id, now)? { Ok(()) } else { Err(SilenceError::Nobody(id.to_owned())) }
}

/// Every one that has not ended, for a person or a program.
///
/// # Errors
/// When the store cannot be read.
pub fn list(telling: &dyn Telling, as_json: bool, now: i64) -> Result<String, SilenceError> {
    let all = telling.silences(now)?;
    if as_json {
        let all: Vec<_> = all.iter().map(json).collect();
        return Ok(format!("{}\n", serde_json::to_string(&all).unwrap_or_default()));
    }
    let mut text = String::new();
    for one in &all {
        let Silence { id, tier, node, item, owner, reason, .. } = one;
        let kind = word(one);
        let until = when(one.until);
        let _ = writeln!(
            text,
            "{id}  {kind:7} until {until}  tier {tier} node {node} item {item}  {owner}: {reason}"
        );
    }
    Ok(text)
}

/// A silence or a waiver, as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Silence")]
pub struct SilenceJson {
    /// What it is called.
    id: String,
    /// The same to the hub, and another word to people.
    #[schemars(extend("enum" = ["silence", "waiver"]))]
    kind: &'static str,
    /// A glob over tiers.
    tier: String,
    /// A glob over names of nodes.
    node: String,
    /// A glob over items.
    item: String,
    /// Why.
    reason: String,
    /// Who answers for it.
    owner: String,
    /// When it was made.
    made: Option<Timestamp>,
    /// When it ends.
    until: Option<Timestamp>,
}

/// One, as the API shows it.
#[must_use]
pub fn json(one: &Silence) -> SilenceJson {
    SilenceJson {
        id: one.id.clone(),
        kind: word(one),
        tier: one.tier.clone(),
        node: one.node.clone(),
        item: one.item.clone(),
        reason: one.reason.clone(),
        owner: one.owner.clone(),
        made: Timestamp::from_unix_ms(one.made),
        until: Timestamp::from_unix_ms(one.until),
    }
}

fn word(one: &Silence) -> &'static str {
    if one.waiver { "waiver" } else { "silence" }
}

fn when(ms: i64) -> String {
    Timestamp::from_unix_ms(ms).map_or_else(|| ms.to_string(), |at| at.to_string())
}

/// Whether `news` is under it. What is about no node or no item is under a silence that names none.
#[must_use]
pub fn covers(one: &Silence, news: &News) -> bool {
    matches(one, &news.tier, &news.node, &news.item)
}

/// The same, of an item as it stands.
#[must_use]
pub fn matches(one: &Silence, tier: &str, node: &str, item: &str) -> bool {
    let fits = |glob: &str, text: &str| glob::Pattern::new(glob).is_ok_and(|glob| glob.matches(text));
    fits(&one.tier, tier) && fits(&one.node, node) && fits(&one.item, item)
}
