//! What must hold between nodes, and does not: judged from the facts that nodes tell of their items, from their labels,
//! certificates and commits.
//!
//! A name may stand for one number here and another there; each node is even by itself then, and files on a share have
//! the wrong owner all the same. Nothing is stored: it is worked out when somebody asks, from what the roll holds in
//! memory, and kept for as long as it was dear.

mod age;
mod path;
mod rule;
mod written;

pub use rule::{Among, Bound, Fold, Pick, Rule, Source};

use crate::liveness::HubTimes;
use crate::look::Memos;
use crate::roll::{Group, LARGE, Roll, Wanted};
use crate::store::registry::Registry;
use crate::store::{Result, View};
use age::Ages;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many nodes that say the same are named.
const NAMED: usize = 20;

/// Something that must hold.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "written::Written")]
pub struct Invariant {
    /// What it is called.
    pub name: String,
    /// What it is, and why it matters; may be empty where it is somebody's own.
    pub means: String,
    /// What to do where it does not hold.
    pub remedy: String,
    /// Whether `hub.yaml` says it.
    pub own: bool,
    check: Check,
}

#[derive(Debug, Clone, PartialEq)]
enum Check {
    Rule(Box<Rule>),
    Keepalive,
    Connections,
    Certificate,
    Spec,
}

/// What nodes say where an invariant does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Says {
    /// What they say.
    pub value: String,
    /// How many say it.
    pub count: usize,
    /// The first twenty of them, by name.
    pub nodes: Vec<String>,
}

impl Says {
    fn new(value: String) -> Self {
        Self { value, count: 0, nodes: vec![] }
    }

    fn add(&mut self, group: &Group) {
        self.count += group.nodes;
        let room = NAMED.saturating_sub(self.nodes.len());
        self.nodes.extend(group.names.iter().take(room).map(ToString::to_string));
    }

    fn name(&mut self, node: &str) {
        self.count += 1;
        if self.nodes.len() < NAMED {
            self.nodes.push(node.to_owned());
        }
    }
}

/// One place where an invariant does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The invariant's name.
    pub name: String,
    /// The tier, or what else nodes are held together by; empty for the whole fleet.
    pub tier: String,
    /// The item, or what else is meant.
    pub item: String,
    /// Who says what.
    pub says: Vec<Says>,
    /// Since when (unix ms); nothing where it was so already when this hub began to look.
    pub since: Option<i64>,
    /// What to do.
    pub remedy: String,
}

impl Broken {
    fn at(tier: &str, item: &str) -> Self {
        let (tier, item) = (tier.to_owned(), item.to_owned());
        Self { name: String::new(), tier, item, says: vec![], since: None, remedy: String::new() }
    }
}

fn same(name: &str, items: &str, fact: &str, means: &str, remedy: &str) -> Invariant {
    let items = glob::Pattern::new(items).unwrap_or_default();
    let pick = Pick { source: Source::Fact { items, fact: fact.to_owned() }, tier: None };
    built_in(name, means, remedy, Check::Rule(Box::new(Rule::Same(pick, Among::Tier))))
}

fn built_in(name: &str, means: &str, remedy: &str, check: Check) -> Invariant {
    let (name, means, remedy) = (name.to_owned(), means.to_owned(), remedy.to_owned());
    Invariant { name, means, remedy, own: false, check }
}

/// What every hub watches over.
#[must_use]
pub fn built_ins() -> Vec<Invariant> {
    vec![
        same(
            "owner.uid",
            "*",
            "owner.uid",
            "an owner's name stands for the same number on every node of a tier, or files on a share belong to somebody else",
            "give the user the same number everywhere (usermod -u), and the files below to it (chown)",
        ),
        same(
            "group.gid",
            "*",
            "group.gid",
            "a group's name stands for the same number on every node of a tier, or files on a share belong to somebody else",
            "give the group the same number everywhere (groupmod -g), and the files below to it (chgrp)",
        ),
        same(
            "share.source",
            "mount/*",
            "share.source",
            "every node of a tier has the same share at the same folder, or each writes where the others do not look",
            "say the source once, for the tier, and not for single nodes",
        ),
        built_in(
            "path.keepalive",
            "both ends of a path send keepalives before it forgets a silent connection, and give up a dead peer in time, with \
             timers an eighth late",
            "let the path derive them: leave out what is set by hand, and see evenkeel explain path/NAME on a node that is \
             named",
            Check::Keepalive,
        ),
        built_in(
            "path.connections",
            "a database has room for all the connections that the clients of its path may open together, beside those that \
             are reserved",
            "lower the pools (connections of the path says what one node may open), or raise max_connections, which takes a \
             restart",
            Check::Connections,
        ),
        built_in(
            "certificate.age",
            "a node renews its certificate at two thirds of its life; one that has not is shut out when it ends",
            "look for renewals in the log of evenkeel on the node; a token lets it in anew",
            Check::Certificate,
        ),
        built_in(
            "spec.age",
            "every node takes a new commit soon: one that stays behind keeps what others have left",
            "see evenkeel status on the node: whether it reaches the repository, and what it refuses",
            Check::Spec,
        ),
    ]
}

/// The facts and labels that these invariants read.
#[must_use]
pub fn wanted(all: &[Invariant]) -> Wanted {
    let mut wanted = Wanted::default();
    for one in all {
        match &one.check {
            Check::Rule(rule) => rule.reads(&mut wanted.facts, &mut wanted.labels),
            Check::Keepalive | Check::Connections => wanted.facts.extend(path::facts().map(str::to_owned)),
            Check::Certificate | Check::Spec => {}
        }
    }
    wanted
}

/// Where one place is: the invariant's name, the tier, the item.
type Place = (String, String, String);

/// Who watches.
#[derive(Debug)]
pub struct Watch {
    judge: Arc<Judge>,
    kept: Memos<(), Arc<Vec<Broken>>>,
}

/// Who judges.
#[derive(Debug)]
struct Judge {
    all: Vec<Invariant>,
    /// How long a node's certificate holds (ms).
    certificate_life: i64,
    /// How long a node may be behind the newest commit (ms).
    behind: i64,
    ages: Mutex<Ages>,
    /// Since when what does not hold now was seen not to; nothing before the first look.
    seen: Mutex<Option<HashMap<Place, Option<i64>>>>,
}

impl Watch {
    /// Somebody who watches over the built-in ones and over `own`.
    #[must_use]
    pub fn new(own: &[Invariant], certificate_life: i64, behind: i64) -> Self {
        let all = built_ins().into_iter().chain(own.iter().cloned()).collect();
        let (ages, seen) = (Mutex::default(), Mutex::default());
        let judge = Judge { all, certificate_life, behind, ages, seen };
        Self { judge: Arc::new(judge), kept: Memos::default() }
    }

    /// Every invariant.
    #[must_use]
    pub fn all(&self) -> &[Invariant] {
        &self.judge.all
    }

    /// Every invariant that does not hold, in the order of the list. Nobody waits where many nodes are judged anew.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn broken(
        &self,
        view: &Arc<dyn View>,
        roll: &Arc<Roll>,
        members: &Arc<dyn Registry>,
        times: HubTimes,
    ) -> Result<Arc<Vec<Broken>>> {
        let (view, members, judge) = (Arc::clone(view), Arc::clone(members), Arc::clone(&self.judge));
        let of = Arc::clone(roll);
        let find = move || judge.broken(view.as_ref(), &of, members.as_ref(), times).map(Arc::new);
        if roll.len() < LARGE { find() } else { self.kept.get(&(), find) }
    }

    /// The same for a program, which would rather wait than be told what was.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn broken_now(
        &self,
        view: &dyn View,
        roll: &Roll,
        members: &dyn Registry,
        times: HubTimes,
    ) -> Result<Arc<Vec<Broken>>> {
        let find = || self.judge.broken(view, roll, members, times).map(Arc::new);
        if roll.len() < LARGE { find() } else { self.kept.now(&(), find) }
    }
}

impl Judge {
    fn broken(
        &self,
        view: &dyn View,
        roll: &Roll,
        members: &dyn Registry,
        times: HubTimes,
    ) -> Result<Vec<Broken>> {
        let groups = roll.groups(times);
        let mut ages = self.ages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut broken = vec![];
        for one in &self.all {
            let found = match &one.check {
                Check::Rule(rule) => rule.judge(&groups),
                Check::Keepalive => path::keepalive(&groups),
                Check::Connections => path::connections(&groups),
                Check::Certificate => ages.certificates(members, roll, self.certificate_life, times)?,
                Check::Spec => ages.specs(view, roll, self.behind, times)?,
            };
            let name = |found: Broken| Broken { name: one.name.clone(), remedy: one.remedy.clone(), ..found };
            broken.extend(found.into_iter().map(name));
        }
        drop(ages);
        self.date(&mut broken, times.now);
        Ok(broken)
    }

    /// Since when each does not hold: since it was first seen, unless it was so at the first look.
    fn date(&self, broken: &mut [Broken], now: i64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = seen.as_ref().map(|_| now);
        let before = seen.take().unwrap_or_default();
        let mut after = HashMap::with_capacity(broken.len());
        for one in broken {
            let place = (one.name.clone(), one.tier.clone(), one.item.clone());
            let since = before.get(&place).copied().unwrap_or(fresh);
            one.since = one.since.or(since);
            after.insert(place, since);
        }
        *seen = Some(after);
    }
}
