//! A YAML document as a tree in which every node and every key knows its place.

use crate::show;
use evenkeel_core::Origin;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Where something is said: file, line and column (both from 1; line 0 is the file as a whole), and how wide it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: Arc<str>,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) width: u32,
    /// The path that it was derived from, where nobody has written it.
    pub(crate) path: Option<Arc<str>>,
}

impl Place {
    /// The file as a whole.
    pub(crate) fn file(file: &str) -> Self {
        Self { file: file.into(), line: 0, column: 0, width: 0, path: None }
    }

    pub(crate) fn origin(&self) -> Origin {
        let path = self.path.as_deref().map(str::to_owned);
        Origin { file: self.file.to_string(), line: self.line, path }
    }
}

/// One node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) data: Data,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    /// Something that was refused already; nobody complains of it twice.
    Bad,
    /// Null, a boolean, a number or a string.
    Scalar(Value),
    List(Vec<Node>),
    Map(Map),
}

/// The entries of a map, in the order they are written; no key twice.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map {
    pub(crate) entries: Vec<Entry>,
    /// A key was refused, so it is not known what is missing.
    pub(crate) poisoned: bool,
}

/// One key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Place,
    pub(crate) node: Node,
}

impl Map {
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Entry> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(index))
    }

    /// Lay another map over this one: key by key where both have a map, the other's value where they differ.
    pub(crate) fn lay(&mut self, over: &Map) {
        self.poisoned |= over.poisoned;
        let keys = self.entries.iter().enumerate().map(|(index, entry)| (entry.key.clone(), index));
        let known: HashMap<String, usize> = keys.collect();
        for entry in &over.entries {
            let Some(below) = known.get(&entry.key).and_then(|index| self.entries.get_mut(*index)) else {
                self.entries.push(entry.clone());
                continue;
            };
            below.at = entry.at.clone();
            match (&mut below.node.data, &entry.node.data) {
                (Data::Map(map), Data::Map(above)) => map.lay(above),
                _ => below.node = entry.node.clone(),
            }
        }
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned || self.entries.iter().any(|entry| entry.node.is_poisoned())
    }

    /// Without places.
    pub(crate) fn value(&self) -> Value {
        self.entries.iter().map(|entry| (entry.key.clone(), entry.node.value())).collect()
    }
}

impl Node {
    pub(crate) fn is_poisoned(&self) -> bool {
        match &self.data {
            Data::Bad => true,
            Data::Scalar(_) => false,
            Data::List(items) => items.iter().any(Self::is_poisoned),
            Data::Map(map) => map.is_poisoned(),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.data, Data::Scalar(Value::Null))
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Without places.
    pub(crate) fn value(&self) -> Value {
        match &self.data {
            Data::Bad => Value::Null,
            Data::Scalar(value) => value.clone(),
            Data::List(items) => items.iter().map(Self::value).collect(),
            Data::Map(map) => map.value(),
        }
    }

    /// What it is, for "must be …, not …".
    pub(crate) fn what(&self) -> String {
        match &self.data {
            Data::Bad => "something that cannot be read".to_owned(),
            Data::Scalar(Value::Null) => "empty".to_owned(),
            Data::Scalar(Value::Bool(truth)) => format!("`{truth}`"),
            Data::Scalar(Value::Number(number)) => format!("the number `{number}`"),
            Data::Scalar(value) => format!("the text {}", show::quoted(value.as_str().unwrap_or_default())),
            Data::List(_) => "a list".to_owned(),
            Data::Map(_) => "a map".to_owned(),
        }
    }
}
