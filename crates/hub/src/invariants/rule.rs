//! A rule over what nodes tell: that values are the same, or that a number keeps within another. It says what to read,
//! how to put it together and what to hold it against, and nothing else: there are no expressions.

use super::{Broken, Says};
use crate::roll::Group;
use glob::Pattern;
use std::collections::{BTreeMap, BTreeSet};

/// What is read of each node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A fact of the items whose ids fit.
    Fact {
        /// Which items.
        items: Pattern,
        /// The fact's name.
        fact: String,
    },
    /// A label of the node.
    Label(String),
}

/// What is read, and of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// What.
    pub source: Source,
    /// Of the nodes of which tiers; of all where nothing is said.
    pub tier: Option<Pattern>,
}

/// Among whom a value must be the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Among {
    /// The nodes of a tier.
    Tier,
    /// All nodes.
    Fleet,
    /// The nodes that have the same value of this label.
    Label(String),
}

/// What is made of many numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// All of them together.
    Sum,
    /// The least.
    Min,
    /// The greatest.
    Max,
}

/// What a number is held against.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// A number.
    Number(f64),
    /// What nodes tell.
    Told(Fold, Pick),
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// One item's value must not differ.
    Same(Pick, Among),
    /// A number must keep within a bound.
    Within {
        /// What is made of what is read; `None` holds each value by itself.
        fold: Option<Fold>,
        /// What is read.
        pick: Pick,
        /// Whether the bound is the most, and not the least.
        at_most: bool,
        /// The bound.
        bound: Bound,
    },
}

/// One value that nodes of a group tell.
struct Reading<'a> {
    group: &'a Group,
    item: &'a str,
    value: &'a str,
}

impl Reading<'_> {
    fn number(&self) -> Option<f64> {
        self.value.trim().parse().ok().filter(|number: &f64| number.is_finite())
    }
}

impl Source {
    /// As people read it.
    fn words(&self) -> String {
        match self {
            Self::Fact { items, fact } => format!("{fact} of {items}"),
            Self::Label(name) => format!("label {name}"),
        }
    }
}

impl Fold {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
        }
    }
}

impl Pick {
    fn read<'a>(&'a self, groups: &'a [Group]) -> impl Iterator<Item = Reading<'a>> {
        let fits = |group: &&Group| self.tier.as_ref().is_none_or(|tier| tier.matches(&group.tier));
        groups.iter().filter(fits).flat_map(|group| self.read_of(group))
    }

    fn read_of<'a>(&'a self, group: &'a Group) -> Vec<Reading<'a>> {
        let reading = |item, value: &'a String| Reading { group, item, value };
        match &self.source {
            Source::Label(name) => {
                group.sheet.labels.get(name).map(|value| reading("", value)).into_iter().collect()
            }
            Source::Fact { items, fact } => {
                let of = |(item, facts): (&'a String, &'a crate::roll::Named)| {
                    items
                        .matches(item)
                        .then(|| facts.get(fact))
                        .flatten()
                        .map(|value| reading(item.as_str(), value))
                };
                group.sheet.items.iter().filter_map(of).collect()
            }
        }
    }

    /// The names of the facts and labels that it reads.
    pub(super) fn reads(&self, facts: &mut BTreeSet<String>, labels: &mut BTreeSet<String>) {
        match &self.source {
            Source::Fact { fact, .. } => facts.insert(fact.clone()),
            Source::Label(name) => labels.insert(name.clone()),
        };
    }

    /// What is made of all of it, and the nodes that decide it: for a sum all that tell something. Nothing where nobody
    /// tells a number.
    fn fold(&self, fold: Fold, groups: &[Group]) -> Option<(f64, Says)> {
        let told: Vec<_> =
            self.read(groups).filter_map(|one| one.number().map(|number| (number, one.group))).collect();
        #[expect(clippy::cast_precision_loss, reason = "far fewer nodes than that")]
        let number = match fold {
            Fold::Sum => {
                (!told.is_empty()).then(|| told.iter().map(|(n, group)| n * group.nodes as f64).sum())
            }
            Fold::Min => told.iter().map(|(n, _)| *n).min_by(f64::total_cmp),
            Fold::Max => told.iter().map(|(n, _)| *n).max_by(f64::total_cmp),
        }?;
        let mut says = Says::new(format!("{} of {} is {number}", fold.word(), self.source.words()));
        let decides = |one: &&(f64, &Group)| fold == Fold::Sum || one.0.total_cmp(&number).is_eq();
        told.iter().filter(decides).for_each(|(_, group)| says.add(group));
        Some((number, says))
    }
}

impl Rule {
    /// Where it does not hold, by tier (or whatever nodes are held together by) and item.
    pub(super) fn judge(&self, groups: &[Group]) -> Vec<Broken> {
        match self {
            Self::Same(pick, among) => same(pick, among, groups),
            Self::Within { fold, pick, at_most, bound } => {
                let Some((limit, by)) = bound.settle(groups) else { return vec![] };
                let beyond = |number: f64| if *at_most { number > limit } else { number < limit };
                let mut broken = match fold {
                    None => each(pick, beyond, &by, groups),
                    Some(fold) => {
                        let told = pick.fold(*fold, groups).filter(|(number, _)| beyond(*number));
                        let put = |(_, says)| Broken {
                            says: std::iter::once(says).chain(by.iter().cloned()).collect(),
                            ..Broken::at("", "")
                        };
                        told.map(put).into_iter().collect()
                    }
                };
                broken.extend(no_numbers(pick, groups));
                broken
            }
        }
    }

    /// The names of the facts and labels that it reads.
    pub(super) fn reads(&self, facts: &mut BTreeSet<String>, labels: &mut BTreeSet<String>) {
        match self {
            Self::Same(pick, among) => {
                pick.reads(facts, labels);
                if let Among::Label(name) = among {
                    labels.insert(name.clone());
                }
            }
            Self::Within { pick, bound, .. } => {
                pick.reads(facts, labels);
                if let Bound::Told(_, pick) = bound {
                    pick.reads(facts, labels);
                }
            }
        }
    }
}

impl Bound {
    /// The bound, and who sets it: nobody where it is a plain number. Nothing where it is for nodes to tell and none does.
    fn settle(&self, groups: &[Group]) -> Option<(f64, Vec<Says>)> {
        match self {
            Self::Number(limit) => Some((*limit, vec![])),
            Self::Told(fold, pick) => pick.fold(*fold, groups).map(|(limit, says)| (limit, vec![says])),
        }
    }
}

fn same(pick: &Pick, among: &Among, groups: &[Group]) -> Vec<Broken> {
    let mut told: BTreeMap<(String, &str), BTreeMap<&str, Says>> = BTreeMap::new();
    for one in pick.read(groups) {
        let scope = match among {
            Among::Tier => one.group.tier.to_string(),
            Among::Fleet => String::new(),
            Among::Label(name) => match one.group.sheet.labels.get(name) {
                Some(value) => format!("{name}={value}"),
                None => continue,
            },
        };
        let says = told.entry((scope, one.item)).or_default();
        says.entry(one.value).or_insert_with(|| Says::new(one.value.to_owned())).add(one.group);
    }
    let differ = told.into_iter().filter(|(_, says)| says.len() > 1);
    differ
        .map(|((tier, item), says)| Broken { says: says.into_values().collect(), ..Broken::at(&tier, item) })
        .collect()
}

/// Each value by itself that is beyond a bound, which is set by `by`, put together by tier and item.
fn each(pick: &Pick, beyond: impl Fn(f64) -> bool, by: &[Says], groups: &[Group]) -> Vec<Broken> {
    let mut all: BTreeMap<(&str, &str), BTreeMap<&str, Says>> = BTreeMap::new();
    for one in pick.read(groups).filter(|one| one.number().is_some_and(&beyond)) {
        let says = all.entry((&one.group.tier, one.item)).or_default();
        says.entry(one.value).or_insert_with(|| Says::new(one.value.to_owned())).add(one.group);
    }
    let put = |((tier, item), says): ((&str, &str), BTreeMap<&str, Says>)| Broken {
        says: says.into_values().chain(by.iter().cloned()).collect(),
        ..Broken::at(tier, item)
    };
    all.into_iter().map(put).collect()
}

/// What should be a number and is none: nothing can be said of it, and that is told.
fn no_numbers(pick: &Pick, groups: &[Group]) -> Vec<Broken> {
    let mut says: BTreeMap<&str, Says> = BTreeMap::new();
    for one in pick.read(groups).filter(|one| one.number().is_none()) {
        says.entry(one.value)
            .or_insert_with(|| Says::new(format!("{}, which is no number", one.value)))
            .add(one.group);
    }
    let put = |says: BTreeMap<&str, Says>| Broken {
        says: says.into_values().collect(),
        ..Broken::at("", &pick.source.words())
    };
    (!says.is_empty()).then(|| put(says)).into_iter().collect()
}
