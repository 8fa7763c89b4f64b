//! Silences and waivers: what is under one is not told. It stays as visible as before, and counts as before.

use crate::accounts::{Actor, Who};
use crate::ca::{self, hex};
use crate::store::StoreError;
use crate::store::accounts::{Accounts, Change, Entry, Role};
use crate::store::acts::Act;
use crate::store::telling::{News, Silence, Telling};
use evenkeel_report::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// The longest that one may last.
pub const LONGEST: Duration = Duration::from_hours(90 * 24);

/// The most that may be in force at once: each is looked at for every piece of news.
pub const MOST: i64 = 1_000;
/// For how long one that has ended is kept, to be looked at (ms): 7 days.
pub const KEEP_MS: i64 = 7 * 86_400_000;
/// How long a pattern may be, and what is said of it (characters).
const LONG: usize = 500;

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
    #[error("{key}: {glob:?} is no glob: {why}")]
    Glob {
        /// Which.
        key: &'static str,
        /// What was written.
        glob: String,
        /// What is wrong with it.
        why: String,
    },
    /// It would last too long.
    #[error("a silence lasts at most 90 days; what may stay so for longer belongs into the spec")]
    Long,
    /// Nothing is matched.
    #[error("name at least one of tier, node and item: a silence over everything is none")]
    Everything,
    /// Nobody says why, or who.
    #[error("say the {0}, in one line of 1 to 500 characters")]
    Empty(&'static str),
    /// There are too many.
    #[error("1000 silences are in force already: end some, or make one that covers more")]
    Full,
    /// There is none of that id.
    #[error("there is no silence {0} that has not ended")]
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
pub fn add(book: &dyn Accounts, asked: &Asked, by: &Actor) -> Result<String, SilenceError> {
    for (key, glob) in [("tier", &asked.tier), ("node", &asked.node), ("item", &asked.item)] {
        if let Some(glob) = glob
            && let Err(why) = pattern(glob)
        {
            return Err(SilenceError::Glob { key, glob: glob.clone(), why: why.to_owned() });
        }
    }
    if [&asked.tier, &asked.node, &asked.item].iter().all(|glob| glob.is_none()) {
        return Err(SilenceError::Everything);
    }
    for (key, text) in [("reason", &asked.reason), ("owner", &asked.owner)] {
        if text.trim().is_empty() || text.chars().count() > LONG || text.chars().any(char::is_control) {
            return Err(SilenceError::Empty(key));
        }
    }
    if asked.lasts > LONGEST {
        return Err(SilenceError::Long);
    }
    let id = hex(&ca::random::<4>()?);
    let all = |glob: &Option<String>| glob.clone().unwrap_or_else(|| "*".to_owned());
    let until = by.at.saturating_add(i64::try_from(asked.lasts.as_millis()).unwrap_or(0));
    // To the second, as people read it.
    let until = until - until.rem_euclid(1000);
    let silence = Silence {
        id: id.clone(),
        waiver: asked.waiver,
        tier: all(&asked.tier),
        node: all(&asked.node),
        item: all(&asked.item),
        reason: asked.reason.trim().to_owned(),
        owner: asked.owner.trim().to_owned(),
        made: by.at,
        until,
        ended_by: None,
    };
    let line = Entry { new: Some(told(&silence)), ..by.entry("silence_add", &id) };
    if book.change(&Change::Act(Act::Silence(silence)), &line)? { Ok(id) } else { Err(SilenceError::Full) }
}

/// Whether a text will do as a pattern.
fn pattern(glob: &str) -> Result<(), &'static str> {
    if glob.chars().count() > LONG || glob.chars().any(char::is_control) {
        return Err("it has more than 500 characters, or control characters");
    }
    glob::Pattern::new(glob).map(drop).map_err(|why| why.msg)
}

/// Whether somebody may make or end a silence over `tier`, his role aside. Who is bound to tiers names one of them,
/// letter by letter: a pattern could be read as more than it is.
#[must_use]
pub fn is_within(who: &Who, tier: &str) -> bool {
    let bound = who.role != Role::Admin && !who.tiers.is_empty();
    !bound || (glob::Pattern::escape(tier) == tier && who.has_tier(tier))
}

/// Ends one before its time.
///
/// # Errors
/// When there is none of that id that has not ended, or the store cannot be written.
pub fn end(book: &dyn Accounts, id: &str, by: &Actor) -> Result<(), SilenceError> {
    let act = Act::EndSilence { id: id.to_owned(), at: by.at, by: by.who.clone() };
    // An id is letters and digits; what is none is not looked for.
    let is_id = id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_id && book.change(&Change::Act(act), &by.entry("silence_end", id))? {
        Ok(())
    } else {
        Err(SilenceError::Nobody(id.to_owned()))
    }
}

/// What it is about, until when, by whom and why, in one line.
fn told(one: &Silence) -> String {
    let Silence { tier, node, item, owner, reason, .. } = one;
    let (word, until) = (word(one), when(one.until));
    format!("{word} of tier {tier}, node {node}, item {item} until {until} by {owner}: {reason}")
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
    /// Who ended it before its time.
    ended_by: Option<String>,
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
        ended_by: one.ended_by.clone(),
    }
}

/// `silence` or `waiver`.
#[must_use]
pub fn word(one: &Silence) -> &'static str {
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
