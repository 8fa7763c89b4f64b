//! Invariants of one's own, as `hub.yaml` writes them.

use super::rule::{Among, Bound, Fold, Pick, Rule, Source};
use super::{Check, Invariant};
use glob::Pattern;
use serde::Deserialize;

/// What is read, as it is written: a fact of items or a label, of all nodes or of some tiers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PickWritten {
    items: Option<String>,
    fact: Option<String>,
    label: Option<String>,
    tier: Option<String>,
}

/// A number, or what nodes tell.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum BoundWritten {
    Number(f64),
    Told(Box<FoldWritten>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct FoldWritten {
    sum: Option<PickWritten>,
    min: Option<PickWritten>,
    max: Option<PickWritten>,
}

/// One invariant, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    name: String,
    means: Option<String>,
    #[serde(rename = "do")]
    remedy: Option<String>,
    // same:
    same: Option<String>,
    items: Option<String>,
    fact: Option<String>,
    label: Option<String>,
    tier: Option<String>,
    // or a number within a bound:
    sum: Option<PickWritten>,
    min: Option<PickWritten>,
    max: Option<PickWritten>,
    each: Option<PickWritten>,
    at_most: Option<BoundWritten>,
    at_least: Option<BoundWritten>,
}

/// The most bytes of a name.
const NAME: usize = 100;

impl TryFrom<Written> for Invariant {
    type Error = String;

    fn try_from(it: Written) -> Result<Self, String> {
        let name = it.name.clone();
        let bad = |why: String| format!("the invariant {name:?}: {why}");
        if name.trim().is_empty() || name.len() > NAME || name.chars().any(char::is_control) {
            return Err(bad(format!("a name has 1 to {NAME} bytes and no control characters")));
        }
        let (means, remedy) = (it.means.clone().unwrap_or_default(), it.remedy.clone());
        let rule = it.rule().map_err(bad)?;
        let usual = "look at the nodes that say it, and change the spec or the node until it holds again";
        let remedy = remedy.unwrap_or_else(|| usual.to_owned());
        Ok(Self { name, means, remedy, own: true, check: Check::Rule(Box::new(rule)) })
    }
}

impl Written {
    fn rule(self) -> Result<Rule, String> {
        const ONE: &str = "write one of `same`, `sum`, `min`, `max`, `each`";
        let top = PickWritten { items: self.items, fact: self.fact, label: self.label, tier: self.tier };
        let folds = [(Some(Fold::Sum), self.sum), (Some(Fold::Min), self.min), (Some(Fold::Max), self.max)];
        let mut folds =
            folds.into_iter().chain([(None, self.each)]).filter_map(|(fold, pick)| Some((fold, pick?)));
        let bounds = [(true, self.at_most), (false, self.at_least)];
        let mut bounds = bounds.into_iter().filter_map(|(most, bound)| Some((most, bound?)));
        match (self.same, folds.next(), folds.next()) {
            (Some(among), None, None) => {
                if bounds.next().is_some() {
                    return Err(
                        "`at_most` and `at_least` belong to numbers: `sum`, `min`, `max`, `each`".to_owned()
                    );
                }
                Ok(Rule::Same(top.pick()?, among_of(&among)?))
            }
            (None, Some((fold, pick)), None) => {
                if !top.is_empty() {
                    let word = fold.map_or("each", Fold::word);
                    return Err(format!("`items`, `fact`, `label` and `tier` belong below `{word}`"));
                }
                let (Some((at_most, bound)), None) = (bounds.next(), bounds.next()) else {
                    return Err("write one of `at_most` and `at_least`".to_owned());
                };
                Ok(Rule::Within { fold, pick: pick.pick()?, at_most, bound: bound.bound()? })
            }
            _ => Err(ONE.to_owned()),
        }
    }
}

fn among_of(text: &str) -> Result<Among, String> {
    match text {
        "tier" => Ok(Among::Tier),
        "fleet" => Ok(Among::Fleet),
        _ => match text.strip_prefix("label:").map(str::trim).filter(|name| !name.is_empty()) {
            Some(name) => Ok(Among::Label(name.to_owned())),
            None => Err(format!("same: {text:?} is none of tier, fleet, label:NAME")),
        },
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|why| format!("{text:?} is no pattern: {why}"))
}

impl PickWritten {
    fn is_empty(&self) -> bool {
        self.items.is_none() && self.fact.is_none() && self.label.is_none() && self.tier.is_none()
    }

    fn pick(self) -> Result<Pick, String> {
        let source = match (self.items, self.fact, self.label) {
            (items, Some(fact), None) => {
                Source::Fact { items: pattern(items.as_deref().unwrap_or("*"))?, fact }
            }
            (None, None, Some(label)) => Source::Label(label),
            _ => return Err("write a `fact`, of which `items`, or a `label`".to_owned()),
        };
        Ok(Pick { source, tier: self.tier.as_deref().map(pattern).transpose()? })
    }
}

impl BoundWritten {
    fn bound(self) -> Result<Bound, String> {
        let it = match self {
            Self::Number(number) if number.is_finite() => return Ok(Bound::Number(number)),
            Self::Number(number) => return Err(format!("{number} is no bound")),
            Self::Told(it) => it,
        };
        let folds = [(Fold::Sum, it.sum), (Fold::Min, it.min), (Fold::Max, it.max)];
        let mut folds = folds.into_iter().filter_map(|(fold, pick)| Some((fold, pick?)));
        let (Some((fold, pick)), None) = (folds.next(), folds.next()) else {
            return Err("a bound is a number, or one of `sum`, `min`, `max`".to_owned());
        };
        Ok(Bound::Told(fold, pick.pick()?))
    }
}
