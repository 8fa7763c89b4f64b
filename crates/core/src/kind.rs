//! What a kind of thing is, and how the engine holds one without knowing which.

use crate::{Derived, Fault, Item, Mode, Origin, PathEnd, Plan, Sensor, SysctlKey};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A kind of thing on the node that evenkeel can keep even.
///
/// An implementation reads (`observe`) and decides (`plan`); it never writes.
pub trait Kind: Sync + 'static {
    /// Its key in a spec and in every report.
    const NAME: &'static str;
    /// What it is, in one line, for `evenkeel kinds`.
    const SUMMARY: &'static str;
    /// A section that uses it, without the section's own key; parsed by the laws, printed by `evenkeel kinds`.
    const EXAMPLE: &'static str;
    /// The field that a bare scalar stands for: `vm.swappiness: 1` is `vm.swappiness: {value: 1}`.
    const SHORTHAND: Option<&'static str> = None;
    /// Fields that cannot stand together: where a later layer says the first, the others from below are dropped.
    const DISPLACES: &'static [(&'static str, &'static [&'static str])] = &[];
    /// Fields that name a file of the repository, each with the field that the file's text is put into.
    const PAYLOADS: &'static [(&'static str, &'static str)] = &[];
    /// Fields in whose text `${node}` and the like stand for what is known of the node.
    const SUBSTITUTED: &'static [&'static str] = &[];
    /// One item of its section, without `mode` and `absent`, which every item has.
    type Want: DeserializeOwned + Serialize + JsonSchema + Send + Sync;
    /// What the node was seen to have, for the whole section.
    type Have;

    /// What is wrong with an item beyond its shape: names, units, ranges, what must not stand together. Pure.
    #[must_use]
    fn check(_name: &str, _want: &Self::Want) -> Vec<Complaint> {
        vec![]
    }
    /// What the paths that end on a node make of this section. `said` is what the layers say of its items by hand: their
    /// fields, by name. Pure.
    #[must_use]
    fn derive(_paths: &[PathEnd], _said: &BTreeMap<String, Value>) -> Vec<Derived> {
        vec![]
    }
    /// What of an item breaks a path that ends on its node. Pure.
    #[must_use]
    fn check_paths(_name: &str, _want: &Self::Want, _paths: &[PathEnd]) -> Vec<Complaint> {
        vec![]
    }
    /// How often a section must be looked at where no event tells of a change; `None`: as often as any other.
    #[must_use]
    fn pace(_section: &Section<Self::Want>) -> Option<Duration> {
        None
    }
    /// What every layer of the node says of an item, or of one value in it, as it is now: for people who ask why.
    ///
    /// # Errors
    /// The node could not be looked at.
    fn witness(
        _section: &Section<Self::Want>,
        _item: &str,
        _path: &str,
        _node: &dyn Sensor,
    ) -> Result<Vec<Witness>, Fault> {
        Ok(vec![])
    }
    /// What of an item must not differ between nodes of one tier; `of` is each node, or glob, with what it wants. Pure.
    #[must_use]
    fn across(_name: &str, _of: &[(&str, &Self::Want)]) -> Vec<Complaint> {
        vec![]
    }
    /// What on the node should wake a pass over this section.
    #[must_use]
    fn interests(_section: &Section<Self::Want>) -> Vec<Interest> {
        vec![]
    }
    /// Look at the node, including at what evenkeel still keeps there and the section does not name any more.
    ///
    /// # Errors
    /// A [`Fault`] where nothing of the section could be observed. Trouble with one item belongs into `Have`.
    fn observe(section: &Section<Self::Want>, node: &dyn Sensor) -> Result<Self::Have, Fault>;
    /// Compare, and decide what would put it right. Pure: same section and have, same plan. Items in audit mode have
    /// their drift told and no step.
    fn plan(section: &Section<Self::Want>, have: &Self::Have) -> Plan;
}

/// One section of a spec: the items of one kind.
#[derive(Debug, Clone)]
pub struct Section<W> {
    /// The mode for what the section does not name any more.
    pub mode: Mode,
    /// The items by name.
    pub items: BTreeMap<String, Item<W>>,
}

impl<W> Section<W> {
    /// The items that are to be kept, with their names.
    pub fn kept(&self) -> impl Iterator<Item = (&str, &W, &Item<W>)> {
        self.items.iter().filter_map(|(name, item)| Some((name.as_str(), item.kept()?, item)))
    }
}

/// What a spec wishes for an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish<W> {
    /// Keep it so.
    Keep(W),
    /// `absent: true`. What the layers below say of it comes along where it is whole.
    Absent(Option<W>),
}

/// What one layer of a node says of a value, as it was seen just now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Witness {
    /// The layer: `kernel`, `postgresql.auto.conf`, `role sahana`, `connection`.
    pub layer: String,
    /// Where: a file and its line, a process, two addresses.
    pub place: String,
    /// What it says.
    pub value: String,
    /// What that means: wins, loses to what comes later, is not read yet.
    pub note: Option<String>,
    /// Whether this is what counts.
    pub won: bool,
}

/// Something that is wrong with an item, or looks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Whether the spec is refused for it.
    pub severity: Severity,
    /// Where in the item: `["settings", "tcp_keepalives_idle"]`; empty for the item itself.
    pub path: Vec<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// How bad a complaint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth saying.
    Warning,
    /// The spec is refused.
    Error,
}

impl Complaint {
    /// An error at `path`.
    pub fn error<P: Into<String>>(
        path: impl IntoIterator<Item = P>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let path = path.into_iter().map(Into::into).collect();
        Self { severity: Severity::Error, path, message: message.into(), help: Some(help.into()) }
    }

    /// A warning at `path`.
    pub fn warning<P: Into<String>>(
        path: impl IntoIterator<Item = P>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, message, help) }
    }
}

/// What should wake a pass. An event only means "go and look".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interest {
    /// This sysctl was written.
    Sysctl(SysctlKey),
    /// This file appeared, changed or vanished.
    File(PathBuf),
    /// The mount table changed.
    Mounts,
}

/// One item as the spec's layers have merged it, not yet read by its kind.
#[derive(Debug, Clone)]
pub struct RawItem {
    /// Its fields, without `mode` and `absent`; always an object.
    pub fields: Value,
    /// `absent: true`.
    pub absent: bool,
    /// Its mode.
    pub mode: Mode,
    /// Where the winning layer says it.
    pub origin: Origin,
}

/// Why a kind could not read an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    /// The item's name.
    pub item: String,
    /// What is wrong, and where in the item.
    pub complaint: Complaint,
}

/// A [`Kind`] with its types hidden, so that kinds can sit in one table.
pub trait AnyKind: Sync {
    /// [`Kind::NAME`].
    fn name(&self) -> &'static str;
    /// [`Kind::SUMMARY`].
    fn summary(&self) -> &'static str;
    /// [`Kind::EXAMPLE`].
    fn example(&self) -> &'static str;
    /// [`Kind::SHORTHAND`].
    fn shorthand(&self) -> Option<&'static str>;
    /// [`Kind::DISPLACES`].
    fn displaces(&self) -> &'static [(&'static str, &'static [&'static str])];
    /// [`Kind::PAYLOADS`].
    fn payloads(&self) -> &'static [(&'static str, &'static str)];
    /// [`Kind::SUBSTITUTED`].
    fn substituted(&self) -> &'static [&'static str];
    /// The JSON Schema of one item's fields, without `mode` and `absent`.
    fn schema(&self, generator: &mut SchemaGenerator) -> Schema;
    /// Read one item only to find what is wrong with it: errors of shape, then [`Kind::check`].
    fn check(&self, name: &str, raw: &RawItem) -> Vec<Complaint>;
    /// [`Kind::derive`].
    fn derive(&self, paths: &[PathEnd], said: &BTreeMap<String, Value>) -> Vec<Derived>;
    /// [`Kind::check_paths`]; an item that cannot be read has nothing to say here.
    fn check_paths(&self, name: &str, raw: &RawItem, paths: &[PathEnd]) -> Vec<Complaint>;
    /// [`Kind::across`]; what cannot be read, or is to be absent, has nothing to say here.
    fn across(&self, name: &str, of: &[(&str, &RawItem)]) -> Vec<Complaint>;
    /// Read a whole section.
    ///
    /// # Errors
    /// Every item that could not be read.
    fn goal(&self, mode: Mode, items: BTreeMap<String, RawItem>) -> Result<Box<dyn Goal>, Vec<ReadError>>;
}

/// What one section of a spec wants, ready to be planned against a node.
pub trait Goal: Send + Sync {
    /// The kind it belongs to.
    fn kind(&self) -> &'static str;
    /// The mode for what the section does not name any more.
    fn mode(&self) -> Mode;
    /// Its items, by name.
    fn items(&self) -> &BTreeMap<String, GoalItem>;
    /// [`Kind::interests`].
    fn interests(&self) -> Vec<Interest>;
    /// [`Kind::pace`].
    fn pace(&self) -> Option<Duration> {
        None
    }
    /// [`Kind::witness`].
    ///
    /// # Errors
    /// As there.
    fn witness(&self, _item: &str, _path: &str, _node: &dyn Sensor) -> Result<Vec<Witness>, Fault> {
        Ok(vec![])
    }
    /// Observe, then plan.
    ///
    /// # Errors
    /// As [`Kind::observe`].
    fn plan(&self, node: &dyn Sensor) -> Result<Plan, Fault>;
}

/// What the engine knows of an item.
#[derive(Debug, Clone, PartialEq)]
pub struct GoalItem {
    /// Its mode.
    pub mode: Mode,
    /// Where it is said.
    pub origin: Origin,
    /// What is wished, in a form that can be compared between two specs; `Null` for absent.
    pub fields: Value,
}

struct Wanted<K: Kind> {
    section: Section<K::Want>,
    items: BTreeMap<String, GoalItem>,
}

impl<K: Kind> Goal for Wanted<K> {
    fn kind(&self) -> &'static str {
        K::NAME
    }
    fn mode(&self) -> Mode {
        self.section.mode
    }
    fn items(&self) -> &BTreeMap<String, GoalItem> {
        &self.items
    }
    fn interests(&self) -> Vec<Interest> {
        K::interests(&self.section)
    }
    fn pace(&self) -> Option<Duration> {
        K::pace(&self.section)
    }
    fn witness(&self, item: &str, path: &str, node: &dyn Sensor) -> Result<Vec<Witness>, Fault> {
        K::witness(&self.section, item, path, node)
    }
    fn plan(&self, node: &dyn Sensor) -> Result<Plan, Fault> {
        K::observe(&self.section, node).map(|have| K::plan(&self.section, &have))
    }
}

fn read<K: Kind>(fields: &Value) -> Result<K::Want, Complaint> {
    serde_path_to_error::deserialize(fields).map_err(|error| {
        let path = error.path().iter().map(ToString::to_string).filter(|part| part != "?");
        let (path, message) = (path.collect::<Vec<_>>(), error.inner().to_string());
        Complaint { severity: Severity::Error, path, message, help: None }
    })
}

fn wish<K: Kind>(raw: &RawItem) -> Result<Wish<K::Want>, Complaint> {
    match read::<K>(&raw.fields) {
        Ok(want) if raw.absent => Ok(Wish::Absent(Some(want))),
        Err(_) if raw.absent => Ok(Wish::Absent(None)),
        Ok(want) => Ok(Wish::Keep(want)),
        Err(complaint) => Err(complaint),
    }
}

impl<K: Kind> AnyKind for K {
    fn name(&self) -> &'static str {
        K::NAME
    }
    fn summary(&self) -> &'static str {
        K::SUMMARY
    }
    fn example(&self) -> &'static str {
        K::EXAMPLE
    }
    fn shorthand(&self) -> Option<&'static str> {
        K::SHORTHAND
    }
    fn displaces(&self) -> &'static [(&'static str, &'static [&'static str])] {
        K::DISPLACES
    }
    fn payloads(&self) -> &'static [(&'static str, &'static str)] {
        K::PAYLOADS
    }
    fn substituted(&self) -> &'static [&'static str] {
        K::SUBSTITUTED
    }
    fn across(&self, name: &str, of: &[(&str, &RawItem)]) -> Vec<Complaint> {
        let kept = |(node, raw): &(&'_ str, &RawItem)| match wish::<K>(raw) {
            Ok(Wish::Keep(want)) => Some(((*node).to_owned(), want)),
            _ => None,
        };
        let kept: Vec<(String, K::Want)> = of.iter().filter_map(kept).collect();
        let of: Vec<(&str, &K::Want)> = kept.iter().map(|(node, want)| (node.as_str(), want)).collect();
        K::across(name, &of)
    }
    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<K::Want>()
    }
    fn check(&self, name: &str, raw: &RawItem) -> Vec<Complaint> {
        match wish::<K>(raw) {
            Ok(Wish::Keep(want)) => K::check(name, &want),
            Ok(Wish::Absent(_)) => vec![],
            Err(complaint) => vec![complaint],
        }
    }
    fn derive(&self, paths: &[PathEnd], said: &BTreeMap<String, Value>) -> Vec<Derived> {
        K::derive(paths, said)
    }
    fn check_paths(&self, name: &str, raw: &RawItem, paths: &[PathEnd]) -> Vec<Complaint> {
        match wish::<K>(raw) {
            Ok(Wish::Keep(want)) => K::check_paths(name, &want, paths),
            _ => vec![],
        }
    }
    fn goal(&self, mode: Mode, raw: BTreeMap<String, RawItem>) -> Result<Box<dyn Goal>, Vec<ReadError>> {
        let (mut items, mut known, mut errors) = (BTreeMap::new(), BTreeMap::new(), vec![]);
        for (name, raw) in raw {
            match wish::<K>(&raw) {
                Ok(wish) => {
                    let fields = if raw.absent { Value::Null } else { raw.fields };
                    let item = GoalItem { mode: raw.mode, origin: raw.origin.clone(), fields };
                    known.insert(name.clone(), item);
                    items.insert(name, Item { wish, mode: raw.mode, origin: raw.origin });
                }
                Err(complaint) => errors.push(ReadError { item: name, complaint }),
            }
        }
        if errors.is_empty() {
            Ok(Box::new(Wanted::<K> { section: Section { mode, items }, items: known }))
        } else {
            Err(errors)
        }
    }
}
