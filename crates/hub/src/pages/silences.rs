//! What is told to nobody: silences and waivers that are in force, those that ended lately, and the form that makes one.

use super::view::When;
use super::{Page, Top, words};
use crate::accounts::Who;
use crate::http::address;
use crate::store::Result;
use crate::store::telling::{Silence, Telling};
use crate::tell::silence::{KEEP_MS, is_within, word};
use askama::Template;

/// How many of those that have ended are shown.
const LATELY: usize = 50;

/// How long a silence may be made to last: as the form sends it, and in words.
const LENGTHS: [(&str, &str); 8] = [
    ("1h", "1 hour"),
    ("4h", "4 hours"),
    ("12h", "12 hours"),
    ("1d", "1 day"),
    ("3d", "3 days"),
    ("7d", "7 days"),
    ("30d", "30 days"),
    ("90d", "90 days"),
];

/// What a form was or is to be filled with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filled {
    /// A glob over tiers.
    pub(crate) tier: String,
    /// A glob over names of nodes.
    pub(crate) node: String,
    /// A glob over items.
    pub(crate) item: String,
    /// Why.
    pub(crate) reason: String,
    /// How long, as [`LENGTHS`] has it.
    pub(crate) lasts: String,
    /// Whether it is a waiver.
    pub(crate) waiver: bool,
}

#[derive(Template)]
#[template(path = "silences.html")]
struct Silences {
    title: String,
    top: Top,
    wrong: Option<String>,
    filled: Filled,
    /// The tiers of somebody who is bound to some.
    tiers: Vec<(String, bool)>,
    lengths: Vec<(&'static str, &'static str, bool)>,
    now: Vec<Line>,
    lately: Vec<Line>,
}

struct Line {
    id: String,
    word: &'static str,
    /// What it covers, as far as it says.
    over: Vec<(&'static str, String)>,
    reason: String,
    owner: String,
    made: When,
    /// Until when, or when it ended.
    until: String,
    left: String,
    ended: String,
    ended_by: Option<String>,
    /// Whether who looks may end it.
    may_end: bool,
}

impl Line {
    fn new(one: &Silence, top: &Top, who: &Who, now: i64) -> Self {
        let over = [("tier", &one.tier), ("node", &one.node), ("item", &one.item)];
        let over = over.into_iter().filter(|(_, glob)| *glob != "*");
        let until = When::new(one.until, now);
        Self {
            id: one.id.clone(),
            word: word(one),
            over: over.map(|(word, glob)| (word, words::shown(glob))).collect(),
            reason: words::shown(&one.reason),
            owner: words::shown(&one.owner),
            made: When::new(one.made, now),
            left: words::lasting(one.until - now),
            ended: until.ago,
            until: until.exact,
            ended_by: one.ended_by.as_deref().map(words::shown),
            may_end: top.acts && is_within(who, &one.tier),
        }
    }
}

/// The page; `wrong` is what was wrong with a form that was sent.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn silences(
    who: &Who,
    telling: &dyn Telling,
    filled: Filled,
    wrong: Option<String>,
    now: i64,
) -> Result<Page> {
    let top = Top::of(who);
    let all = telling.silences(now.saturating_sub(KEEP_MS))?;
    let (on, over): (Vec<_>, Vec<_>) = all.iter().partition(|one| one.until > now);
    let line = |one: &&Silence| Line::new(one, &top, who, now);
    let title = match on.len() {
        0 => "Nothing is silenced".to_owned(),
        some => format!("{} in force", words::count(some, "silence is", "silences are")),
    };
    let chosen = if filled.lasts.is_empty() { "4h" } else { &filled.lasts };
    let page = Silences {
        title,
        wrong,
        tiers: tiers(who, &filled.tier),
        lengths: LENGTHS.map(|(value, word)| (value, word, value == chosen)).into(),
        now: on.iter().map(line).collect(),
        lately: over.iter().rev().take(LATELY).map(line).collect(),
        filled,
        top,
    };
    Ok(page.render())
}

/// The tiers that somebody has to choose from; none where he is bound to none.
fn tiers(who: &Who, chosen: &str) -> Vec<(String, bool)> {
    if is_within(who, "*") {
        return vec![];
    }
    who.tiers.iter().map(|tier| (tier.clone(), tier == chosen)).collect()
}

/// The address of a form that is filled for these, each as it is and not as a glob; nothing stands for any.
pub(super) fn make(tier: Option<&str>, node: Option<&str>, item: Option<&str>) -> String {
    let given = [("tier", tier), ("node", node), ("item", item)];
    let given = given.into_iter().filter_map(|(name, text)| Some((name, text?)));
    let params: Vec<_> = given.map(|(name, text)| (name, glob::Pattern::escape(text))).collect();
    format!("{}#make", address("/silences", &params))
}
