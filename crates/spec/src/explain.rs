//! Where a value comes from: every layer that spoke, file and line, and who won.

use crate::layers::{self, Layer, Merged, Rank, Voice};
use crate::paths::Path;
use crate::render::flow;
use crate::show;
use crate::table::Row;
use crate::tree::Place;
use crate::{NodeError, Repository};
use evenkeel_core::{Intent, Mode, Sum};
use serde::Serialize;
use std::collections::BTreeMap;

/// Where one item of a node, or one value in it, comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The node.
    pub node: String,
    /// The item: `sysctl/vm.swappiness`.
    pub item: String,
    /// Whether it is wished away.
    pub absent: bool,
    /// Its mode.
    pub mode: Mode,
    /// Who spoke of the mode, weakest first. Nobody: it is `enforce`.
    pub mode_said: Vec<Voiced>,
    /// Its values, each with who spoke of it.
    pub values: Vec<Explained>,
    /// The arithmetic of every path that speaks of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<Worked>,
}

/// How a path comes to its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Worked {
    /// The path.
    pub path: String,
    /// Its numbers, each with its formula.
    pub sums: Vec<Sum>,
}

/// One value of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Where in the item: `settings/work_mem`; `absent` for being wished away.
    pub path: String,
    /// What it comes to; `None` where a later layer took it away.
    pub value: Option<String>,
    /// Who spoke of it, weakest first.
    pub said: Vec<Voiced>,
}

/// What one layer says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Voiced {
    /// `path`, `fleet`, `profile`, `tier` or `node`.
    pub layer: &'static str,
    /// The file.
    pub file: String,
    /// The line.
    pub line: u32,
    /// What it says.
    pub value: String,
    /// Whether this is what counts.
    pub won: bool,
}

impl Repository {
    /// Where an item, or one value in it, comes from: `sysctl/vm.swappiness`, `postgresql/13/main`,
    /// `postgresql/13/main/settings/work_mem`, `mount//srv` or `mount/srv`; or how a path comes to its numbers:
    /// `path/database`.
    ///
    /// # Errors
    /// A [`NodeError`] where there is no such node, or nothing in its layers speaks of such an item.
    pub fn explain(&self, node: &str, item: &str) -> Result<Explanation, NodeError> {
        let selector = self.selector(node)?;
        let layers = self.stack(selector, node);
        if let Some(explained) = item.strip_prefix("path/").and_then(|name| self.explain_path(node, name)) {
            return Ok(explained);
        }
        let found = self.find(&layers, item);
        let Some((row, name, voices, path)) = found else {
            return Err(self.no_item(&layers, node, item));
        };
        let Some(merged) = layers::merge(row, self.fleet.mode, &voices) else {
            return Err(self.no_item(&layers, node, item));
        };
        let values: Vec<Explained> =
            values(&voices, &merged).into_iter().filter(|value| below(&path, &value.path)).collect();
        if values.is_empty() && !path.is_empty() {
            return Err(self.no_item(&layers, node, item));
        }
        Ok(Explanation {
            node: node.to_owned(),
            item: format!("{}/{name}", row.kind.name()),
            absent: merged.absent,
            mode: merged.mode,
            mode_said: self.modes(&voices, merged.mode),
            paths: self.worked(&values, &voices),
            values,
        })
    }

    /// A path itself, whichever node asks.
    fn explain_path(&self, node: &str, name: &str) -> Option<Explanation> {
        let path = self.fleet.paths.get(name)?;
        let said = |key: &str, value: String, line: u32| Explained {
            path: key.to_owned(),
            value: Some(value.clone()),
            said: vec![Voiced {
                layer: "fleet",
                file: crate::fleet::FILE.to_owned(),
                line,
                value,
                won: true,
            }],
        };
        Some(Explanation {
            node: node.to_owned(),
            item: format!("path/{name}"),
            absent: false,
            mode: self.fleet.mode,
            mode_said: vec![],
            values: vec![
                said("idle_timeout", path.idle_timeout.to_string(), path.idle_timeout_at.line),
                said("blackout_at_most", path.blackout_at_most.to_string(), path.blackout_at.line),
                said("live", path.live.word().to_owned(), path.at.line),
            ],
            paths: vec![worked(name, path)],
        })
    }

    /// The arithmetic of the paths that speak of values.
    fn worked(&self, values: &[Explained], voices: &[Voice]) -> Vec<Worked> {
        if !values.iter().flat_map(|value| &value.said).any(|said| said.layer == Rank::Path.word()) {
            return vec![];
        }
        let derived = voices.iter().filter(|voice| voice.layer.rank == Rank::Path);
        let leaves = derived.flat_map(|voice| layers::leaves(&voice.said.fields));
        let mut names: Vec<&str> = leaves.filter_map(|(.., at)| at.path.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        names.iter().filter_map(|name| Some(worked(name, self.fleet.paths.get(*name)?))).collect()
    }

    /// The kind, the item's name, who speaks of it, and what is left of the way into it.
    fn find<'r>(
        &'r self,
        layers: &[Layer<'r>],
        item: &str,
    ) -> Option<(Row, &'r str, Vec<Voice<'r>>, String)> {
        let (kind, rest) = item.split_once('/')?;
        let row = *self.rows.iter().find(|row| row.kind.name() == kind)?;
        let rooted = format!("/{rest}");
        let voices = layers::voices(layers, kind);
        let into = |whole: &str, name: &str| {
            let rest = whole.strip_prefix(name)?;
            if rest.is_empty() { Some(String::new()) } else { rest.strip_prefix('/').map(str::to_owned) }
        };
        let found = voices.into_iter().filter_map(|(name, voices)| {
            let path = into(rest, name).or_else(|| into(&rooted, name))?;
            Some((row, name, voices, path))
        });
        found.max_by_key(|(_, name, ..)| name.len())
    }

    fn no_item(&self, layers: &[Layer], node: &str, item: &str) -> NodeError {
        let all = self.rows.iter().flat_map(|row| {
            let kind = row.kind.name();
            layers::voices(layers, kind).into_keys().map(move |name| format!("{kind}/{name}"))
        });
        let all: Vec<String> = all.collect();
        let near = show::near(item, &all).map(str::to_owned);
        NodeError::NoItem { node: node.to_owned(), item: item.to_owned(), near }
    }

    fn modes(&self, voices: &[Voice], mode: Mode) -> Vec<Voiced> {
        let mut said = vec![];
        if self.fleet.mode == Mode::Audit {
            let (file, value) = (crate::fleet::FILE.to_owned(), "audit".to_owned());
            let line = self.fleet.mode_line;
            said.push(Voiced { layer: "fleet", file, line, value, won: true });
        }
        for voice in voices {
            let default = voice.layer.document.mode.iter();
            for (word, at) in default.chain(voice.said.mode.iter()) {
                let text = if *word == Mode::Audit { "audit" } else { "enforce" };
                said.push(voiced(voice, at, text.to_owned(), *word == mode));
            }
        }
        said
    }
}

fn worked(name: &str, path: &Path) -> Worked {
    let (idle_timeout, blackout_at_most) = (path.idle_timeout.duration(), path.blackout_at_most.duration());
    let sums = path.promise.arithmetic(&Intent { idle_timeout, blackout_at_most });
    Worked { path: name.to_owned(), sums }
}

fn below(path: &str, value: &str) -> bool {
    path.is_empty() || value == path || value.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}

fn voiced(voice: &Voice, at: &Place, value: String, won: bool) -> Voiced {
    Voiced { layer: voice.layer.rank.word(), file: at.file.to_string(), line: at.line, value, won }
}

/// Every value that any layer speaks of, in the order of its path.
fn values(voices: &[Voice], merged: &Merged) -> Vec<Explained> {
    let kept = layers::leaves(&merged.fields);
    let mut values: BTreeMap<Vec<String>, Explained> = BTreeMap::new();
    for voice in voices {
        if let Some((absent, at)) = &voice.said.absent {
            let path = vec!["absent".to_owned()];
            let blank =
                || Explained { path: "absent".into(), value: Some(merged.absent.to_string()), said: vec![] };
            let said = &mut values.entry(path).or_insert_with(blank).said;
            for before in said.iter_mut() {
                before.won = false;
            }
            said.push(voiced(voice, at, absent.to_string(), *absent == merged.absent));
        }
        for (path, node, at) in layers::leaves(&voice.said.fields) {
            let winner = kept.iter().find(|(kept, ..)| *kept == path).filter(|_| !merged.absent);
            let value = winner.map(|(_, node, _)| flow(node));
            let won = winner.is_some_and(|(.., kept)| *kept == at);
            let blank = || Explained { path: path.join("/"), value, said: vec![] };
            let said = voiced(voice, at, flow(node), won);
            values.entry(path.clone()).or_insert_with(blank).said.push(said);
        }
    }
    let mut values: Vec<Explained> = values.into_values().collect();
    for value in &mut values {
        // A later layer that says fields brings an item back without saying `absent: false`.
        value.value = value.value.take().filter(|_| value.said.iter().any(|said| said.won));
    }
    values
}

impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", show::escaped(&self.item), show::escaped(&self.node))?;
        f.write_str(if self.absent { ": wished away\n" } else { "\n" })?;
        for value in &self.values {
            let now = value.value.as_deref().map_or("taken away".to_owned(), |now| show::cut(now, 120));
            writeln!(f, "\n  {} = {now}", show::escaped(&value.path))?;
            said(&value.said, f)?;
        }
        let mode = if self.mode == Mode::Audit { "audit" } else { "enforce" };
        writeln!(
            f,
            "\n  mode = {mode}{}",
            if self.mode_said.is_empty() { ", as nobody says otherwise" } else { "" }
        )?;
        said(&self.mode_said, f)?;
        self.paths.iter().try_for_each(|worked| worked.fmt(f))
    }
}

impl std::fmt::Display for Worked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "\n  how path {} comes to its numbers", show::escaped(&self.path))?;
        let width =
            |of: fn(&Sum) -> &str| self.sums.iter().map(|sum| of(sum).chars().count()).max().unwrap_or(0);
        let (names, values) = (width(|sum| sum.name), width(|sum| &sum.value));
        for sum in &self.sums {
            writeln!(f, "    {:names$}  {:>values$}  = {}", sum.name, sum.value, sum.formula)?;
            if !sum.note.is_empty() {
                writeln!(f, "    {:names$}  {:values$}    {}", "", "", sum.note)?;
            }
        }
        Ok(())
    }
}

/// The strongest layer first, the winner marked.
fn said(said: &[Voiced], f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    let places: Vec<String> =
        said.iter().map(|one| format!("{}:{}", show::escaped(&one.file), one.line)).collect();
    let width = places.iter().map(|place| place.chars().count()).max().unwrap_or(0);
    for (one, place) in said.iter().zip(&places).rev() {
        let mark = if one.won { '*' } else { ' ' };
        writeln!(f, "    {mark} {place:width$}  {:7}  {}", one.layer, show::cut(&one.value, 120))?;
    }
    Ok(())
}
