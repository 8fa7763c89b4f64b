//! Documents laid over one another: which ones speak of an item, and what they come to together.

use crate::document::{Document, Said};
use crate::table::Row;
use crate::tree::{Data, Map, Node, Place};
use evenkeel_core::{Mode, RawItem};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a document is to a node, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Nobody wrote it: it follows from a path.
    Path,
    Profile,
    Tier,
    Node,
}

/// One document in a node's stack.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'r> {
    pub(crate) rank: Rank,
    pub(crate) document: &'r Document,
}

/// What one layer says of one item.
#[derive(Clone, Copy)]
pub(crate) struct Voice<'r> {
    pub(crate) layer: Layer<'r>,
    pub(crate) said: &'r Said,
}

/// What all layers say of one item, merged.
#[derive(Debug, Clone)]
pub(crate) struct Merged {
    pub(crate) fields: Map,
    pub(crate) absent: bool,
    pub(crate) mode: Mode,
    pub(crate) at: Place,
    /// Fields whose text came from a file, or was changed on the way.
    pub(crate) texts: BTreeMap<String, Text>,
}

/// A text as somebody wrote it.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// The file of the repository; `None` where it stands in the document itself.
    pub(crate) file: Option<Arc<str>>,
    pub(crate) said: String,
}

/// Every document that somebody wrote and that speaks to a node, weakest first: the profiles that its tier includes (depth first, each once), the
/// tier, the profiles that its own file includes, its own file. The includes hold no cycle: that was checked.
pub(crate) fn stack<'r>(
    documents: &'r BTreeMap<String, Document>,
    tier: &str,
    own: Option<&str>,
) -> Vec<Layer<'r>> {
    let (mut layers, mut seen) = (vec![], BTreeSet::new());
    for (rank, path) in [(Rank::Tier, Some(tier)), (Rank::Node, own)] {
        if let Some(document) = path.and_then(|path| documents.get(path)) {
            push(documents, rank, document, &mut layers, &mut seen);
        }
    }
    layers
}

fn push<'r>(
    documents: &'r BTreeMap<String, Document>,
    rank: Rank,
    document: &'r Document,
    layers: &mut Vec<Layer<'r>>,
    seen: &mut BTreeSet<&'r str>,
) {
    if !seen.insert(&document.path) {
        return;
    }
    for (path, _) in &document.include {
        if let Some(profile) = documents.get(path) {
            push(documents, Rank::Profile, profile, layers, seen);
        }
    }
    layers.push(Layer { rank, document });
}

/// Who speaks of which item of one kind.
pub(crate) fn voices<'r>(layers: &[Layer<'r>], kind: &str) -> BTreeMap<&'r str, Vec<Voice<'r>>> {
    let mut voices: BTreeMap<&str, Vec<Voice>> = BTreeMap::new();
    for layer in layers {
        for (name, said) in layer.document.sections.get(kind).into_iter().flatten() {
            voices.entry(name).or_default().push(Voice { layer: *layer, said });
        }
    }
    voices
}

/// The mode of what nobody names any more: audit where the fleet or any document of the stack says so.
pub(crate) fn unnamed_mode(fleet: Mode, layers: &[Layer]) -> Mode {
    let modes = layers.iter().filter_map(|layer| layer.document.mode.as_ref());
    modes.map(|(mode, _)| *mode).fold(fleet, Mode::max)
}

/// Lay what the voices say over one another, the last one on top.
pub(crate) fn merge(row: Row, fleet: Mode, voices: &[Voice]) -> Option<Merged> {
    let at = voices.last()?.said.at.clone();
    let mut merged =
        Merged { fields: Map::default(), absent: false, mode: fleet, at, texts: BTreeMap::new() };
    for voice in voices {
        lay(row, voice.said, &mut merged);
        let own = voice.said.mode.as_ref();
        let modes = own.into_iter().chain(voice.layer.document.mode.as_ref());
        merged.mode = modes.map(|(mode, _)| *mode).fold(merged.mode, Mode::max);
    }
    Some(merged)
}

fn lay(row: Row, said: &Said, merged: &mut Merged) {
    let absent = said.absent.as_ref().map(|(absent, _)| *absent);
    let speaks = !said.fields.entries.is_empty();
    if merged.absent && absent != Some(true) && (speaks || absent == Some(false)) {
        merged.absent = false;
        merged.fields = said.fields.clone();
        return;
    }
    merged.absent |= absent == Some(true);
    for (word, displaced) in row.kind.displaces() {
        if said.fields.get(word).is_some() {
            for other in *displaced {
                merged.fields.remove(other);
            }
        }
    }
    merged.fields.lay(&said.fields);
}

impl Merged {
    pub(crate) fn raw(&self) -> RawItem {
        RawItem {
            fields: self.fields.value(),
            absent: self.absent,
            mode: self.mode,
            origin: self.at.origin(),
        }
    }

    /// Where the thing at a path is said; as near as it comes.
    pub(crate) fn locate(&self, path: &[String]) -> Place {
        let Some((first, rest)) = path.split_first() else {
            return self.at.clone();
        };
        match self.fields.get(first) {
            Some(entry) => within(&entry.node, &entry.at, rest),
            None => self.at.clone(),
        }
    }

    /// Take out what stands at a path, or the list that holds it, and tell the key that is gone.
    pub(crate) fn take(&mut self, path: &[String]) -> Option<String> {
        let mut map = &mut self.fields;
        for (index, key) in path.iter().enumerate() {
            let entry = map.entries.iter().position(|entry| entry.key == *key)?;
            let deeper = index + 1 < path.len() && matches!(map.entries[entry].node.data, Data::Map(_));
            if !deeper {
                return Some(map.entries.remove(entry).key);
            }
            match &mut map.entries[entry].node.data {
                Data::Map(inner) => map = inner,
                _ => return None,
            }
        }
        None
    }

    /// Where a key of the map at a path is written.
    pub(crate) fn locate_key(&self, path: &[String], key: &str) -> Option<Place> {
        let mut map = &self.fields;
        for part in path {
            match map.get(part).map(|entry| &entry.node.data) {
                Some(Data::Map(inner)) => map = inner,
                _ => break,
            }
        }
        map.get(key).map(|entry| entry.at.clone())
    }
}

fn within(node: &Node, at: &Place, path: &[String]) -> Place {
    let next = path.split_first();
    match (&node.data, next) {
        (Data::Map(map), Some((key, rest))) => {
            map.get(key).map_or_else(|| at.clone(), |entry| within(&entry.node, &entry.at, rest))
        }
        (Data::List(items), Some((index, rest))) => {
            let index = index.trim_matches(['[', ']']).parse::<usize>().ok();
            let item = index.and_then(|index| items.get(index));
            item.map_or_else(|| node.place.clone(), |item| within(item, &item.place, rest))
        }
        (Data::Map(_), None) => at.clone(),
        _ => node.place.clone(),
    }
}

/// Every path of a map that ends in something else than a map.
pub(crate) fn leaves(map: &Map) -> Vec<(Vec<String>, &Node, &Place)> {
    let mut found = vec![];
    for entry in &map.entries {
        match &entry.node.data {
            Data::Map(inner) if !inner.entries.is_empty() => {
                found.extend(leaves(inner).into_iter().map(|(mut path, node, at)| {
                    path.insert(0, entry.key.clone());
                    (path, node, at)
                }));
            }
            _ => found.push((vec![entry.key.clone()], &entry.node, &entry.at)),
        }
    }
    found
}
