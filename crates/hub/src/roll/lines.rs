//! Where lines are kept: each at a place of its own, found by name and by key, its marks beside those of all others.

use super::cell::{Cell, Marks, TextId};
use super::line::Line;
use super::sheet::Sheets;
use crate::liveness::HubTimes;
use evenkeel_report::Liveness;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// What a node is found by, and in the order of: its name, then its source.
type Name = (Arc<str>, Arc<str>);

/// Every line, and what its node tells beside.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    by_name: BTreeMap<Name, u32>,
    by_key: HashMap<i64, u32>,
    cells: Vec<Option<Cell>>,
    whole: Vec<Option<Line>>,
    free: Vec<u32>,
    texts: Texts,
    pub(super) sheets: Sheets,
}

/// One line among all: what is short is at hand, the rest is looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Short<'a> {
    pub(crate) cell: &'a Cell,
    at: u32,
    all: &'a Lines,
}

impl<'a> Short<'a> {
    /// Whether it is heard of.
    pub(crate) fn liveness(&self, times: HubTimes) -> Liveness {
        self.cell.marks.liveness(times)
    }

    /// How bad it is, as [`Line::severity`] tells.
    pub(crate) fn severity(&self, alive: Liveness, now: i64) -> u8 {
        let cloned = || self.line().is_some_and(|line| line.cloned(now));
        self.cell.marks.severity(alive, self.cell.marks.alternated() && cloned())
    }

    /// How many items are pending, non-compliant, in error.
    pub(crate) fn open(&self) -> [u32; 3] {
        let line = self.cell.marks.open().then(|| self.line()).flatten();
        line.map_or([0; 3], |line| line.open)
    }

    /// All that is known of it.
    pub(crate) fn line(&self) -> Option<&'a Line> {
        self.all.whole.get(self.at as usize)?.as_ref()
    }

    pub(super) fn sheet(&self) -> Option<&'a Arc<super::Sheet>> {
        self.all.sheets.of(self.at)
    }
}

impl Lines {
    /// How many there are, those that were taken out included.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Every line, in an order that stays.
    pub(crate) fn all(&self) -> impl Iterator<Item = Short<'_>> {
        (0..).zip(&self.cells).filter_map(|(at, cell)| Some(Short { cell: cell.as_ref()?, at, all: self }))
    }

    /// Every line by name and source.
    pub(crate) fn by_name(&self) -> impl Iterator<Item = Short<'_>> {
        self.by_name.values().filter_map(|at| self.short(*at))
    }

    /// Every line behind a name and a source; without a source the name is passed whole.
    pub(crate) fn after(&self, after: Option<(&str, Option<&str>)>) -> impl Iterator<Item = Short<'_>> {
        let from: Bound<Name> = match after {
            None => Bound::Unbounded,
            Some((name, Some(source))) => Bound::Excluded((name.into(), source.into())),
            // No source sorts after the largest character.
            Some((name, None)) => Bound::Excluded((name.into(), char::MAX.to_string().into())),
        };
        self.by_name.range((from, Bound::Unbounded)).filter_map(|(_, at)| self.short(*at))
    }

    /// Every line of a name.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = &Line> {
        let from: (Bound<Name>, Bound<Name>) = (Bound::Included((name.into(), "".into())), Bound::Unbounded);
        let name = name.to_owned();
        let its = self.by_name.range(from).take_while(move |((one, _), _)| **one == *name);
        its.filter_map(|(_, at)| self.whole.get(*at as usize)?.as_ref())
    }

    /// The line of a key.
    pub(crate) fn line(&self, key: i64) -> Option<&Line> {
        self.whole.get(*self.by_key.get(&key)? as usize)?.as_ref()
    }

    fn short(&self, at: u32) -> Option<Short<'_>> {
        Some(Short { cell: self.cells.get(at as usize)?.as_ref()?, at, all: self })
    }

    /// The id of a text, where a line has it.
    pub(crate) fn id(&self, text: &str) -> Option<TextId> {
        self.texts.ids.get(text).copied()
    }

    /// The text of an id.
    pub(crate) fn text(&self, id: TextId) -> Option<&Arc<str>> {
        self.texts.all.get(id.at())?.as_ref()
    }

    /// Enters a line over the older one of its node; whether anything changed that a page would show.
    pub(super) fn enter(&mut self, line: Line) -> bool {
        let known = self.by_key.get(&line.key).copied();
        let old = known.and_then(|at| self.whole.get(at as usize)?.as_ref());
        if old.is_some_and(|old| line.is_older_than(old)) {
            return false;
        }
        let changed = old.is_none_or(|old| !old.shows_as(&line));
        let before = old.map(|old| (Arc::clone(&old.name), Arc::clone(&old.source)));
        let Some((line, cell)) = self.texts.share(line) else { return false };
        let Some(at) = known.or_else(|| self.place()) else { return false };
        let name = (Arc::clone(&line.name), Arc::clone(&line.source));
        let line = match before {
            // Its old texts, so that there are not two of each.
            Some(before) if before == name => Line { name: before.0, source: before.1, ..line },
            before => {
                if let Some(before) = before {
                    self.by_name.remove(&before);
                }
                self.by_name.insert(name, at);
                line
            }
        };
        self.by_key.insert(line.key, at);
        (self.cells[at as usize], self.whole[at as usize]) = (Some(cell), Some(line));
        changed
    }

    /// A free place.
    fn place(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let at = u32::try_from(self.whole.len()).ok()?;
            self.cells.push(None);
            self.whole.push(None);
            Some(at)
        })
    }

    /// Drops a line; whether there was one.
    pub(super) fn drop_line(&mut self, key: i64) -> bool {
        let Some(at) = self.by_key.remove(&key) else { return false };
        self.sheets.forget(at);
        self.cells[at as usize] = None;
        self.free.push(at);
        let line = self.whole[at as usize].take();
        line.is_some_and(|line| self.by_name.remove(&(line.name, line.source)).is_some())
    }

    /// Takes over what is new of a node; whether anything that is kept has changed.
    pub(super) fn note(&mut self, key: i64, news: super::News) -> bool {
        self.by_key.get(&key).is_some_and(|at| self.sheets.note(*at, news))
    }
}

/// Texts that many lines have in common, each kept once.
#[derive(Debug, Default)]
struct Texts {
    ids: HashMap<Arc<str>, TextId>,
    all: Vec<Option<Arc<str>>>,
    free: Vec<usize>,
    sweep_at: usize,
}

impl Texts {
    /// The same line with its common texts shared, and its cell; nothing where there are four thousand million texts.
    fn share(&mut self, line: Line) -> Option<(Line, Cell)> {
        if self.ids.len() >= self.sweep_at {
            self.sweep();
            let spare = if cfg!(test) { 1 } else { self.ids.len() + 1024 };
            self.sweep_at = self.ids.len() + spare;
        }
        let marks = Marks::from(&line);
        let (tier, tier_id) = self.one(line.tier)?;
        let (follows, follows_id) = self.one(line.follows)?;
        let (commit, commit_id) = self.maybe(line.commit)?;
        let (target, target_id) = self.maybe(line.target)?;
        let cell = Cell { marks, tier: tier_id, commit: commit_id, target: target_id, follows: follows_id };
        Some((Line { tier, commit, target, follows, ..line }, cell))
    }

    #[allow(clippy::type_complexity, reason = "a pair of what may be missing together")]
    fn maybe(&mut self, text: Option<Arc<str>>) -> Option<(Option<Arc<str>>, Option<TextId>)> {
        Some(match text {
            Some(text) => self.one(text).map(|(text, id)| (Some(text), Some(id)))?,
            None => (None, None),
        })
    }

    fn one(&mut self, text: Arc<str>) -> Option<(Arc<str>, TextId)> {
        if let Some((known, id)) = self.ids.get_key_value(&text) {
            return Some((Arc::clone(known), *id));
        }
        let at = self.free.pop().unwrap_or(self.all.len());
        let id = TextId::new(at)?;
        if at == self.all.len() {
            self.all.push(None);
        }
        self.all[at] = Some(Arc::clone(&text));
        self.ids.insert(Arc::clone(&text), id);
        Some((text, id))
    }

    /// Lets go of what no line has any more.
    fn sweep(&mut self) {
        let (all, free) = (&mut self.all, &mut self.free);
        self.ids.retain(|text, id| {
            // This one and the one in `all`.
            let kept = Arc::strong_count(text) > 2;
            if !kept {
                all[id.at()] = None;
                free.push(id.at());
            }
            kept
        });
    }
}
