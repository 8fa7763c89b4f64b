//! A repository, read and checked whole: for every node that the fleet names, before any node takes it.

use crate::derive;
use crate::document::Document;
use crate::fleet::{self, Fleet};
use crate::layers::{self, Layer, Merged, Rank, Voice};
use crate::ledger::Ledger;
use crate::paths::Path;
use crate::payload::{self, Payloads};
use crate::select::{self, Miss, Selector};
use crate::substitute::Who;
use crate::table::{self, Kinds, Row};
use crate::tree::Place;
use crate::{Bundle, Problems, across, show, speak, survey, yaml};
use evenkeel_core::{Goal, Identity, Mode, Origin, PathEnd, Spec};
use std::collections::BTreeMap;
use std::collections::HashSet;

/// A spec repository, parsed and checked whole.
pub struct Repository {
    pub(crate) rows: Vec<Row>,
    pub(crate) fleet: Fleet,
    pub(crate) documents: BTreeMap<String, Document>,
    /// What follows from the paths, by tier and by the node's own file where it has one.
    derived: BTreeMap<Stack, Document>,
    payloads: Payloads,
}

/// A tier, and the node's own file where it has one: what decides which documents speak to a node.
type Stack = (String, Option<String>);

/// Why there is no spec for a node. It is that node's trouble alone, and it keeps its last good spec.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Nobody in `fleet.yaml` is called so.
    #[error("no name and no glob in fleet.yaml matches node {}{}", show::quoted(node), meant(near.as_deref()))]
    Nobody {
        /// The node.
        node: String,
        /// A name there that is nearly the same.
        near: Option<String>,
    },
    /// Two globs match it.
    #[error(
        "two globs match node {}: {} ({}) and {} ({}); name it exactly, or narrow one of the two",
        show::quoted(node), show::quoted(&globs[0].0), globs[0].1, show::quoted(&globs[1].0), globs[1].1
    )]
    TwoGlobs {
        /// The node.
        node: String,
        /// The globs, and where they are said.
        globs: Box<[(String, Origin); 2]>,
    },
    /// Another machine is meant.
    #[error(
        "node {} is pinned to machine-id {wanted} ({at}), and this machine has {}",
        show::quoted(node), found.as_deref().unwrap_or("none")
    )]
    OtherMachine {
        /// The node.
        node: String,
        /// The machine that may be this node.
        wanted: String,
        /// The machine that asks.
        found: Option<String>,
        /// Where the pin is said.
        at: Box<Origin>,
    },
    /// The spec says nothing of such an item.
    #[error("the spec of node {} says nothing of {}{}", show::quoted(node), show::quoted(item), meant(near.as_deref()))]
    NoItem {
        /// The node.
        node: String,
        /// What was asked for.
        item: String,
        /// An item that is nearly called so.
        near: Option<String>,
    },
    /// The kinds refuse what the layers come to.
    #[error("{0}")]
    Refused(Problems),
}

fn meant(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean {}?", show::quoted(near))).unwrap_or_default()
}

impl Repository {
    /// Read a repository and check all of it, for every node that the fleet names. Warnings come along.
    ///
    /// # Errors
    /// Every problem of every file, errors and warnings, where there is at least one error.
    pub fn read(bundle: &Bundle, kinds: Kinds) -> Result<(Self, Problems), Problems> {
        let mut ledger = Ledger::new(bundle);
        let rows = table::rows(kinds);
        survey::entries(bundle, &mut ledger);
        let fleet = match bundle.file(fleet::FILE) {
            Some(bytes) => yaml::parse(fleet::FILE, bytes, &mut ledger)
                .map(|node| fleet::read(&node, bundle, &mut ledger))
                .unwrap_or_default(),
            None => Fleet::default(),
        };
        let documents = survey::documents(bundle, &rows, &mut ledger);
        let payloads = Payloads::of(bundle);
        let mut repository = Self { rows, fleet, documents, derived: BTreeMap::new(), payloads };
        survey::includes(&repository.documents, bundle, &mut ledger);
        survey::selectors(&repository, bundle, &mut ledger);
        if ledger.errors() == 0 {
            survey::unused(&repository, bundle, &mut ledger);
        }
        repository.derive();
        repository.check(&mut ledger);
        across::check(&repository, &mut ledger);
        let refused = ledger.errors() > 0;
        let problems = ledger.close();
        if refused { Err(problems) } else { Ok((repository, problems)) }
    }

    /// The fleet's name.
    #[must_use]
    pub fn fleet(&self) -> &str {
        &self.fleet.name
    }

    /// The fleet's mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.fleet.mode
    }

    /// The path of the file of those whose signatures count, where the fleet says so.
    #[must_use]
    pub fn signers(&self) -> Option<&str> {
        self.fleet.signers.as_deref()
    }

    /// Who is in the fleet, in the order of `fleet.yaml`.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        self.fleet.selectors.iter()
    }

    /// The paths between tiers, by name.
    #[must_use]
    pub fn paths(&self) -> &BTreeMap<String, Path> {
        &self.fleet.paths
    }

    /// The spec of one node. `machine_id` is that of the machine that asks.
    ///
    /// # Errors
    /// A [`NodeError`]: nobody is called so, two globs match, another machine is meant, or the kinds refuse it.
    pub fn node(&self, name: &str, machine_id: Option<&str>) -> Result<Spec, NodeError> {
        let selector = self.selector(name)?;
        if let Some(wanted) =
            selector.machine_id.as_ref().filter(|wanted| Some(wanted.as_str()) != machine_id)
        {
            return Err(NodeError::OtherMachine {
                node: name.to_owned(),
                wanted: wanted.clone(),
                found: machine_id.map(str::to_owned),
                at: Box::new(selector.origin.clone()),
            });
        }
        let layers = self.stack(selector, name);
        let mode = layers::unnamed_mode(self.fleet.mode, &layers);
        let goals: Result<_, _> = {
            let who = self.who(selector, name.to_owned());
            self.rows.iter().map(|row| self.goal(*row, mode, &layers, &who)).collect()
        };
        let identity = Identity {
            fleet: self.fleet.name.clone(),
            name: name.to_owned(),
            tier: selector.tier.clone(),
            labels: selector.labels.clone(),
        };
        Ok(Spec { identity, mode, goals: goals? })
    }

    pub(crate) fn selector(&self, name: &str) -> Result<&Selector, NodeError> {
        let node = || name.to_owned();
        select::find(&self.fleet.selectors, name).map_err(|miss| match miss {
            Miss::Nobody => {
                let known: Vec<&str> = self.fleet.selectors.iter().map(|one| one.pattern.as_str()).collect();
                NodeError::Nobody { node: node(), near: show::near(name, &known).map(str::to_owned) }
            }
            Miss::Two(first, second) => {
                let told = |one: &Selector| (one.pattern.clone(), one.origin.clone());
                NodeError::TwoGlobs { node: node(), globs: Box::new([told(first), told(second)]) }
            }
        })
    }

    pub(crate) fn stack(&self, selector: &Selector, node: &str) -> Vec<Layer<'_>> {
        let own = Some(node_file(node)).filter(|own| self.documents.contains_key(own));
        self.layers(&(selector.tier.clone(), own))
    }

    /// Whether a node has a file of its own.
    pub(crate) fn has_own_file(&self, node: &str) -> bool {
        self.documents.contains_key(&node_file(node))
    }

    /// Every layer that speaks to a node, weakest first: what follows from paths, then what somebody wrote.
    fn layers(&self, stack: &Stack) -> Vec<Layer<'_>> {
        let derived = self.derived.get(stack).map(|document| Layer { rank: Rank::Path, document });
        derived.into_iter().chain(self.written(stack)).collect()
    }

    fn written(&self, (tier, own): &Stack) -> Vec<Layer<'_>> {
        layers::stack(&self.documents, &tier_file(tier), own.as_deref())
    }

    fn derive(&mut self) {
        let derived = self.stacks().into_iter().filter_map(|stack| {
            let ends = derive::ends(&self.fleet, &stack.0);
            let document = derive::document(&self.rows, self.fleet.mode, &ends, &self.written(&stack))?;
            Some((stack, document))
        });
        self.derived = derived.collect();
    }

    /// What may be said of a node in a text.
    fn who<'r>(&'r self, selector: &'r Selector, node: String) -> Who<'r> {
        Who {
            node,
            pattern: &selector.pattern,
            tier: &selector.tier,
            fleet: &self.fleet.name,
            labels: &selector.labels,
            paths: &self.fleet.paths,
        }
    }

    /// Whoever a stack speaks to: one for each line of `fleet.yaml`, as labels differ by line.
    fn whoever(&self, (tier, own): &Stack) -> Vec<Who<'_>> {
        if let Some(node) = own.as_deref().and_then(node_of) {
            let selector = select::find(&self.fleet.selectors, node).ok();
            return selector.map(|one| self.who(one, node.to_owned())).into_iter().collect();
        }
        let alone = |one: &&Selector| {
            one.tier == *tier && (one.is_glob() || !self.documents.contains_key(&node_file(&one.pattern)))
        };
        let name = |one: &Selector| {
            if one.is_glob() { select::samples(&one.pattern).swap_remove(1) } else { one.pattern.clone() }
        };
        self.fleet.selectors.iter().filter(alone).map(|one| self.who(one, name(one))).collect()
    }

    fn goal(&self, row: Row, mode: Mode, layers: &[Layer], who: &Who) -> Result<Box<dyn Goal>, NodeError> {
        let nothing = Bundle::default();
        let mut ledger = Ledger::new(&nothing);
        let mut merged = BTreeMap::new();
        for (name, voices) in layers::voices(layers, row.kind.name()) {
            let Some(mut one) = layers::merge(row, self.fleet.mode, &voices) else { continue };
            if !one.absent {
                payload::fill(row, &mut one, &self.payloads, who, &mut ledger);
            }
            merged.insert(name.to_owned(), one);
        }
        if ledger.errors() > 0 {
            return Err(NodeError::Refused(ledger.close()));
        }
        let raw =
            merged.iter().map(|(name, merged): (&String, &Merged)| (name.clone(), merged.raw())).collect();
        row.kind.goal(mode, raw).map_err(move |errors| {
            for error in &errors {
                if let Some(merged) = merged.get(&error.item) {
                    speak::complain(row, &error.item, merged, &error.complaint, &mut ledger);
                }
            }
            NodeError::Refused(ledger.close())
        })
    }

    /// Check what the layers come to, for every node that is named. What the same documents say of an item is looked
    /// at once, however many nodes share it.
    fn check(&self, ledger: &mut Ledger) {
        let mut done = HashSet::new();
        for stack in self.stacks() {
            let (layers, ends) = (self.layers(&stack), derive::ends(&self.fleet, &stack.0));
            let whoever = self.whoever(&stack);
            for row in &self.rows {
                let whoever = if payload::concerns(*row) { &whoever[..] } else { &[] };
                for (name, voices) in layers::voices(&layers, row.kind.name()) {
                    let who: Vec<&str> =
                        voices.iter().map(|voice| voice.layer.document.path.as_str()).collect();
                    // The same documents on another tier may have other paths.
                    let tier = if ends.is_empty() { "" } else { &stack.0 }.to_owned();
                    // The same text may hold other values on another node.
                    if done.insert((row.kind.name(), name.to_owned(), who, tier)) || !whoever.is_empty() {
                        self.check_item(*row, name, &voices, (&ends, whoever), ledger);
                    }
                }
            }
        }
    }

    fn check_item(
        &self,
        row: Row,
        name: &str,
        voices: &[Voice],
        (ends, whoever): (&[PathEnd], &[Who]),
        ledger: &mut Ledger,
    ) {
        let Some(merged) = layers::merge(row, self.fleet.mode, voices) else {
            return;
        };
        if merged.fields.is_poisoned() {
            return;
        }
        if whoever.is_empty() || merged.absent {
            return Self::speak(row, name, merged, ends, ledger);
        }
        let mut done = HashSet::new();
        for who in whoever {
            let mut merged = merged.clone();
            let good = payload::fill(row, &mut merged, &self.payloads, who, ledger);
            let named = row.kind.payloads().iter().any(|(from, _)| merged.fields.get(from).is_some());
            // A text that is not whole would be complained of for what it lacks.
            if good && done.insert(merged.fields.value().to_string()) {
                Self::speak(row, name, merged, ends, ledger);
            } else if !good && named {
                row.kind.payloads().iter().for_each(|(_, into)| drop(merged.fields.remove(into)));
                Self::speak(row, name, merged, ends, ledger);
            }
        }
    }

    fn speak(row: Row, name: &str, merged: Merged, ends: &[PathEnd], ledger: &mut Ledger) {
        if !merged.absent && !ends.is_empty() {
            speak::check_paths(row, name, &merged, ends, ledger);
        }
        speak::check(row, name, merged, ledger);
    }

    /// Every pair of a tier's file and a node's own file that can come together.
    fn stacks(&self) -> HashSet<Stack> {
        let mut stacks = HashSet::new();
        for selector in &self.fleet.selectors {
            let own = node_file(&selector.pattern);
            let own = (!selector.is_glob() && self.documents.contains_key(&own)).then_some(own);
            stacks.insert((selector.tier.clone(), own));
        }
        for path in self.documents.keys() {
            if let Some(selector) =
                node_of(path).and_then(|node| select::find(&self.fleet.selectors, node).ok())
            {
                stacks.insert((selector.tier.clone(), Some(path.clone())));
            }
        }
        stacks
    }
}

impl Rank {
    /// What the layer is called.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Profile => "profile",
            Self::Tier => "tier",
            Self::Node => "node",
        }
    }
}

pub(crate) fn tier_file(tier: &str) -> String {
    format!("tiers/{tier}.yaml")
}

pub(crate) fn node_file(node: &str) -> String {
    format!("nodes/{node}.yaml")
}

/// The node whose own file this is.
pub(crate) fn node_of(path: &str) -> Option<&str> {
    path.strip_prefix("nodes/")?.strip_suffix(".yaml")
}

/// The file as a whole.
pub(crate) fn whole(path: &str) -> Place {
    Place::file(path)
}
