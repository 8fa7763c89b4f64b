//! What an operator tells a hub about who may speak: tokens, certificates, bans. It writes into the store beside a running
//! hub, which asks the store at every request: there is nothing to reload.

use crate::accounts::Actor;
use crate::ca::{self, CaError, fingerprint, hex};
use crate::store::StoreError;
use crate::store::accounts::{Accounts, Change, Entry};
use crate::store::acts::Act;
use crate::store::registry::{Issued, Mark, Registry, Token};
use evenkeel_report::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] CaError),
    /// The glob is none.
    #[error("nodes: {glob:?} is no glob: {why}")]
    Glob {
        /// What was written.
        glob: String,
        /// What is wrong with it.
        why: String,
    },
    /// Labels are none.
    #[error("labels {0:?}: up to 32 of KEY=VALUE, each a line of up to 500 characters")]
    Labels(String),
    /// There is no such token.
    #[error("there is no token {0}: `evenkeel-hub token list` has them")]
    NoToken(String),
    /// There is no such node.
    #[error("no node {0} was ever let in or heard of")]
    NoNode(String),
    /// It is no name.
    #[error("a name has 1 to 253 characters, none of them blank or a control character")]
    NoName,
}

/// What a new token is for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// A glob over names.
    pub nodes: String,
    /// What such a node must say of itself.
    pub labels: BTreeMap<String, String>,
    /// How long it holds.
    pub expires: Duration,
    /// How many enrolments it is good for.
    pub uses: u32,
}

/// How many labels a token binds at most.
const LABELS: usize = 32;

/// How a token begins, so that it is known for what it is where it should not be.
const PREFIX: &str = "ekt_";

/// Makes a token: its id, and itself, which is said this once.
///
/// # Errors
/// When the glob is none or the store cannot be written.
pub fn create(book: &dyn Accounts, wanted: &Wanted, by: &Actor) -> Result<(String, String), AdminError> {
    let bad = |why: &str| AdminError::Glob { glob: wanted.nodes.clone(), why: why.to_owned() };
    if !is_line(&wanted.nodes) {
        return Err(bad("it has no or more than 500 characters, or control characters"));
    }
    glob::Pattern::new(&wanted.nodes).map_err(|why| bad(why.msg))?;
    let sound = |(key, value): (&String, &String)| is_line(key) && (value.is_empty() || is_line(value));
    if wanted.labels.len() > LABELS || !wanted.labels.iter().all(sound) {
        return Err(AdminError::Labels(label_text(&wanted.labels)));
    }
    let secret = format!("{PREFIX}{}", hex(&ca::random::<32>()?));
    let id = hex(&ca::random::<4>()?);
    let life = i64::try_from(wanted.expires.as_millis()).unwrap_or(i64::MAX);
    let token = Token {
        id: id.clone(),
        hash: fingerprint(secret.as_bytes()),
        nodes: wanted.nodes.clone(),
        labels: wanted.labels.clone(),
        made: by.at,
        until: by.at.saturating_add(life),
        uses: wanted.uses,
        used: 0,
        revoked: false,
    };
    let new = format!(
        "uses {}, nodes {}, labels {}, until {}",
        token.uses,
        token.nodes,
        label_text(&token.labels),
        when(token.until)
    );
    let entry = Entry { new: Some(new), ..by.entry("token_create", &id) };
    book.change(&Change::Act(Act::AddToken(token)), &entry)?;
    Ok((id, secret))
}

/// A token that lets nodes in, as a program sees it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Token")]
pub struct TokenJson {
    /// What it is called; no secret.
    id: String,
    /// A glob over the names that it lets in.
    nodes: String,
    /// What such a node must say of itself.
    labels: BTreeMap<String, String>,
    /// When it was made.
    made: String,
    /// When it ends.
    until: String,
    /// How many it lets in.
    uses: u32,
    /// How many it has let in.
    used: u32,
    /// Whether it still lets anybody in.
    #[schemars(extend("enum" = ["good", "revoked", "expired", "used_up"]))]
    state: &'static str,
}

/// Every token, for a program.
///
/// # Errors
/// When the store cannot be read.
pub fn token_rows(registry: &dyn Registry, now: i64) -> Result<Vec<TokenJson>, StoreError> {
    let row = |token: Token| TokenJson {
        state: state(&token, now),
        id: token.id,
        nodes: token.nodes,
        labels: token.labels,
        made: when(token.made),
        until: when(token.until),
        uses: token.uses,
        used: token.used,
    };
    Ok(registry.tokens()?.into_iter().map(row).collect())
}

/// A certificate of a node, as a program sees it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Member")]
pub struct MemberJson {
    /// The node's name.
    node: String,
    /// The certificate's serial number, in hex.
    serial: String,
    /// Until when it holds.
    until: String,
    /// The token that let it in.
    token: String,
    /// The source that it speaks as.
    source: Option<String>,
    /// Whether it is listened to.
    #[schemars(extend("enum" = ["good", "banned", "removed", "expired", "replaced"]))]
    state: &'static str,
}

/// Every certificate, for a program.
///
/// # Errors
/// When the store cannot be read.
pub fn node_rows(registry: &dyn Registry, now: i64) -> Result<Vec<MemberJson>, StoreError> {
    let row = |one: Issued| MemberJson {
        state: standing(&one, now),
        node: one.name,
        serial: one.serial,
        until: when(one.until),
        token: one.token,
        source: one.source,
    };
    Ok(registry.certificates()?.into_iter().map(row).collect())
}

fn json_line(rows: &impl Serialize) -> String {
    serde_json::to_string(rows).unwrap_or_default() + "\n"
}

/// Every token, for a person or a program.
///
/// # Errors
/// When the store cannot be read.
pub fn tokens(registry: &dyn Registry, as_json: bool, now: i64) -> Result<String, StoreError> {
    if as_json {
        return Ok(json_line(&token_rows(registry, now)?));
    }
    let tokens = registry.tokens()?;
    let mut text = String::new();
    for token in &tokens {
        let labels = label_text(&token.labels);
        let Token { id, nodes, used, uses, .. } = token;
        let _ = writeln!(
            text,
            "{id}  {:8} {used}/{uses} used  until {}  nodes {nodes}  labels {labels}",
            state(token, now),
            when(token.until)
        );
    }
    Ok(text)
}

/// `tier=db,rack=7`, or `-`.
pub(crate) fn label_text(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { "-".to_owned() } else { pairs.join(",") }
}

/// Takes a token back.
///
/// # Errors
/// When there is none of that id, or the store cannot be written.
pub fn revoke(book: &dyn Accounts, id: &str, by: &Actor) -> Result<(), AdminError> {
    let act = Change::Act(Act::RevokeToken(id.to_owned()));
    if is_word(id) && book.change(&act, &by.entry("token_revoke", id))? {
        Ok(())
    } else {
        Err(AdminError::NoToken(id.to_owned()))
    }
}

/// Every certificate, for a person or a program.
///
/// # Errors
/// When the store cannot be read.
pub fn nodes(registry: &dyn Registry, as_json: bool, now: i64) -> Result<String, StoreError> {
    if as_json {
        return Ok(json_line(&node_rows(registry, now)?));
    }
    let all = registry.certificates()?;
    let mut text = String::new();
    for one in &all {
        let Issued { name, serial, token, .. } = one;
        let _ = writeln!(
            text,
            "{name}  {:8} {serial}  until {}  token {token}",
            standing(one, now),
            when(one.until)
        );
    }
    Ok(text)
}

/// What is done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It is not listened to until that is lifted.
    Ban,
    /// That is lifted.
    Unban,
    /// It is taken out.
    Remove,
}

impl Deed {
    /// Its word in the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ban => "node_ban",
            Self::Unban => "node_unban",
            Self::Remove => "node_remove",
        }
    }
}

/// Shuts a node out by its name or one certificate by its serial number, or lets it speak again.
///
/// # Errors
/// When nobody is called so, or the store cannot be read or written.
pub fn treat(
    book: &dyn Accounts,
    registry: &dyn Registry,
    deed: Deed,
    name_or_serial: &str,
    by: &Actor,
) -> Result<(), AdminError> {
    if !is_word(name_or_serial) {
        return Err(AdminError::NoName);
    }
    let act = act(registry, deed, name_or_serial, by.at)?;
    let lifts = matches!(act, Act::Unmark(_));
    if book.change(&Change::Act(act), &by.entry(deed.word(), name_or_serial))? || lifts {
        Ok(())
    } else {
        Err(AdminError::NoNode(name_or_serial.to_owned()))
    }
}

/// What is to be done: to one certificate, where a serial number is meant and no name.
fn act(registry: &dyn Registry, deed: Deed, name_or_serial: &str, at: i64) -> Result<Act, StoreError> {
    let known = registry.certificates()?;
    let named = known.iter().any(|one| one.name == name_or_serial);
    let numbered = !named && known.iter().any(|one| one.serial == name_or_serial);
    let name = name_or_serial.to_owned();
    Ok(match deed {
        Deed::Ban | Deed::Unban if numbered => Act::BanSerial { serial: name, banned: deed == Deed::Ban },
        // A name may be banned before anybody has it.
        Deed::Ban => Act::Mark { name, mark: Mark::Banned, at },
        Deed::Unban => Act::Unmark(name),
        Deed::Remove => Act::Mark { name, mark: Mark::Removed, at },
    })
}

/// Whether a text is one line that somebody may write.
fn is_line(text: &str) -> bool {
    (1..=500).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// Whether a text may be a name or a serial number: one line without blanks.
fn is_word(text: &str) -> bool {
    (1..=253).contains(&text.len()) && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

pub(crate) fn state(token: &Token, now: i64) -> &'static str {
    match token {
        _ if token.revoked => "revoked",
        _ if token.until <= now => "expired",
        _ if token.used_up() => "used_up",
        _ => "good",
    }
}

pub(crate) fn standing(one: &Issued, now: i64) -> &'static str {
    match one.mark {
        Some(mark) => mark.word(),
        None if one.banned => "banned",
        None if one.until <= now => "expired",
        None if !one.newest => "replaced",
        None => "good",
    }
}

pub(crate) fn when(ms: i64) -> String {
    Timestamp::from_unix_ms(ms).map_or_else(|| ms.to_string(), |at| at.to_string())
}

/// `tier=db,rack=7`.
///
/// # Errors
/// What is wrong with it.
pub fn labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is no KEY=VALUE"))?;
        if key.is_empty() {
            Err(format!("{part:?} has no key"))
        } else {
            Ok((key.to_owned(), value.to_owned()))
        }
    };
    text.split(',').map(pair).collect()
}

/// `90s`, `30m`, `24h`, `7d`.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration: write 30m, 24h or 7d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let seconds = number.checked_mul(unit).filter(|seconds| (1..=3_650 * 86_400).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{duration, labels};
    use std::time::Duration;

    #[test]
    fn labels_and_durations_are_read_or_told_what_to_write() {
        assert_eq!(labels("tier=db,rack=7").unwrap().len(), 2);
        assert!(labels("tier").unwrap_err().contains("KEY=VALUE"));
        assert_eq!(duration("24h"), Ok(Duration::from_hours(24)));
        for bad in ["", "0s", "24", "h", "1y", "99999999999999999999d", "20000d"] {
            assert!(duration(bad).unwrap_err().contains("24h"), "{bad}");
        }
    }
}
