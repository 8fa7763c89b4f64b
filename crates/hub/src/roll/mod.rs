//! The roll: one short line for each node, in memory beside the writer, in the order of their names. It is what counts,
//! filters and pages are made from, so that none of them reads every node's document.
//!
//! It holds nothing that the store does not hold: it is read from there when the hub starts, the writer's commits are
//! entered as they happen ([`Rolled`]), and what other hubs of the same database wrote is fetched by [`Roll::refresh`].
//! Liveness is not kept; it is judged when somebody asks.

mod cell;
mod filter;
mod line;
mod lines;
mod rolled;
mod sheet;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use cell::TextId;
pub use filter::{BadFilter, Facets, Filter, NO_TIER, Picked};
pub(crate) use filter::{SYNCS, sync_word};
pub use line::Line;
pub(crate) use line::OPEN;
pub(crate) use lines::{Lines, Short};
pub use rolled::Rolled;
pub use sheet::{Group, Named, News, Sheet, Wanted};
pub(crate) use tally::Each;
pub use tally::{Refused, Tally, TierTally};

use crate::store::{NodeRow, Result, Told, View};
use crate::writer::chain;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How many nodes are read at once when the hub starts.
const CHUNK: usize = 1000;
/// What other hubs wrote is asked for at most this often, and never for more than a twentieth of the time.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
const REFRESH_SHARE: u32 = 20;
/// What takes longer than this to fetch is fetched beside whoever asks, and so it is in a large fleet.
const DEAR: Duration = Duration::from_millis(200);
/// From how many nodes on a fleet is large: what is dear to find is shared by all who ask, and renewed beside them.
pub(crate) const LARGE: usize = 5_000;
/// How long that waits at first, so that whoever asked is answered before the database is busy with it.
const COURTESY: Duration = Duration::from_millis(50);
/// How far the clocks of two hubs may be apart (ms): what was heard of that much earlier is looked at again.
const APART_MS: i64 = 60_000;

/// Every node, a line each.
#[derive(Debug)]
pub struct Roll {
    lines: RwLock<Lines>,
    /// Counts changes that a page would show; not that a node was merely heard of again.
    changed: watch::Sender<u64>,
    refreshed: Mutex<Refreshed>,
    /// Locked while what other hubs wrote is fetched beside whoever asked.
    hearing: Mutex<()>,
}

/// When another hub's writes were last asked for.
#[derive(Debug)]
struct Refreshed {
    due: Instant,
    /// From when on to look (unix ms).
    since: i64,
    /// How long it took.
    took: Duration,
    /// Names that were taken out, and when, as lines have it.
    retired: HashMap<String, i64>,
}

impl Default for Roll {
    fn default() -> Self {
        let (took, retired) = (Duration::ZERO, HashMap::new());
        let refreshed = Mutex::new(Refreshed { due: Instant::now(), since: 0, took, retired });
        let changed = watch::channel(0).0;
        Self { lines: RwLock::default(), changed, refreshed, hearing: Mutex::default() }
    }
}

impl Refreshed {
    /// Everything from before `now` (unix ms) was heard, and that took so long.
    fn heard(&mut self, took: Duration, now: i64) {
        (self.took, self.since, self.due) = (took, now.saturating_sub(APART_MS), due(took));
    }
}

/// When to look again after a look that took so long.
fn due(took: Duration) -> Instant {
    Instant::now() + took.saturating_mul(REFRESH_SHARE).max(REFRESH_EVERY)
}

impl Roll {
    /// Reads every node once, and of its facts and labels what is wanted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn load(view: &dyn View, wanted: Wanted) -> Result<Self> {
        let roll = Self::default();
        let (began, mut newest) = (Instant::now(), 0);
        roll.write().sheets.wanted = wanted;
        let mut after: Option<(String, String)> = None;
        loop {
            let chunk =
                view.nodes(after.as_ref().map(|(name, source)| (name.as_str(), source.as_str())), CHUNK)?;
            after = chunk.last().map(|row| (row.doc.node.name.clone(), row.source.clone()));
            roll.take_over(&chunk);
            newest = chunk.iter().map(|row| row.doc.last_seen).fold(newest, i64::max);
            if chunk.len() < CHUNK {
                break;
            }
        }
        roll.read_facts(|with| view.facts(with))?;
        let took = if roll.len() > CHUNK { began.elapsed() } else { Duration::ZERO };
        let mut refreshed = roll.refreshed();
        // What other hubs wrote meanwhile takes no longer to fetch than everything did.
        refreshed.heard(took, newest);
        refreshed.due = Instant::now();
        drop(refreshed);
        Ok(roll)
    }

    /// Takes over nodes as the store has them.
    fn take_over(&self, rows: &[NodeRow]) {
        self.enter(rows.iter().map(|row| Line::new(row.key, &row.source, &row.doc)));
        let labels = |row: &NodeRow| News { labels: Some(row.doc.node.labels.clone()), ..News::default() };
        self.note(rows.iter().map(|row| (row.key, labels(row))));
    }

    /// Takes over the facts that `read` tells, which are all that these nodes have, one node's after another's.
    fn read_facts(&self, read: impl FnOnce(&mut dyn FnMut(Told)) -> Result<()>) -> Result<()> {
        let mut last: Option<(i64, News)> = None;
        read(&mut |(node, item, facts)| {
            if last.as_ref().is_none_or(|(last, _)| *last != node) {
                self.note(last.take());
                last = Some((node, News { whole: true, ..News::default() }));
            }
            if let Some((_, news)) = &mut last {
                news.items.push((item, facts));
            }
        })?;
        self.note(last);
        Ok(())
    }

    /// Enters lines, each over the older one of its node.
    pub fn enter(&self, new: impl IntoIterator<Item = Line>) {
        let mut changed = false;
        let mut lines = self.write();
        for line in new {
            changed |= lines.enter(line);
        }
        drop(lines);
        if changed {
            self.change();
        }
    }

    /// Tells when something changed that a page would show.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Somebody acted: pages are shown anew, and the next look at the store is not put off.
    pub fn look_again(&self) {
        self.refreshed().due = Instant::now();
        self.change();
    }

    fn refreshed(&self) -> MutexGuard<'_, Refreshed> {
        self.refreshed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches who was taken out, which a command may write beside the hub, and what other hubs on the same database wrote.
    /// In a fleet so large that the latter takes its time, nobody waits for it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn refresh(self: &Arc<Self>, view: &Arc<dyn View>, now: i64) -> Result<()> {
        // Whoever comes meanwhile waits, and then finds it done.
        let mut refreshed = self.refreshed();
        let began = Instant::now();
        if began < refreshed.due {
            return Ok(());
        }
        self.retire(view.as_ref(), &mut refreshed.retired)?;
        refreshed.due = due(began.elapsed());
        if !view.shared() {
            return Ok(());
        }
        if refreshed.took >= DEAR || self.len() >= LARGE {
            self.hear_beside(view, refreshed.since, now);
        } else {
            self.hear(view.as_ref(), refreshed.since)?;
            refreshed.heard(began.elapsed(), now);
        }
        Ok(())
    }

    /// Hears on a thread beside, unless that is being done.
    fn hear_beside(self: &Arc<Self>, view: &Arc<dyn View>, since: i64, now: i64) {
        let (roll, view) = (Arc::clone(self), Arc::clone(view));
        std::thread::spawn(move || {
            let hearing = roll.hearing.try_lock();
            if matches!(hearing, Err(TryLockError::WouldBlock)) {
                return;
            }
            std::thread::sleep(COURTESY);
            let began = Instant::now();
            match roll.hear(view.as_ref(), since) {
                Ok(()) => roll.refreshed().heard(began.elapsed(), now),
                Err(why) => {
                    tracing::warn!(error = chain(&why), "what other hubs wrote could not be fetched");
                }
            }
        });
    }

    /// Reads the nodes again whose names were taken out or in; those that were forgotten meanwhile go.
    fn retire(&self, view: &dyn View, known: &mut HashMap<String, i64>) -> Result<()> {
        let told: HashMap<String, i64> = view.retired()?.into_iter().collect();
        let differs = |name: &&String| told.get(*name) != known.get(*name);
        let names: HashSet<&String> = told.keys().chain(known.keys()).filter(differs).collect();
        let keys: Vec<i64> = {
            let lines = self.read();
            names.iter().flat_map(|name| lines.named(name).map(|line| line.key)).collect()
        };
        for keys in keys.chunks(CHUNK) {
            let rows = view.these(keys)?;
            let there: HashSet<i64> = rows.iter().map(|row| row.key).collect();
            self.drop_lines(keys.iter().filter(|key| !there.contains(key)));
            self.take_over(&rows);
        }
        *known = told;
        Ok(())
    }

    fn drop_lines<'a>(&self, keys: impl Iterator<Item = &'a i64>) {
        let mut lines = self.write();
        let mut changed = false;
        for key in keys {
            changed |= lines.drop_line(*key);
        }
        drop(lines);
        if changed {
            self.change();
        }
    }

    /// Fetches what other hubs on the same database heard since `since` (unix ms).
    fn hear(&self, view: &dyn View, since: i64) -> Result<()> {
        let heard = view.heard(since)?;
        let news: Vec<i64> = {
            let lines = self.read();
            let known = |key: &i64| lines.line(*key).map(|line| line.last_seen);
            heard.into_iter().filter(|(key, at)| known(key) != Some(*at)).map(|(key, _)| key).collect()
        };
        for keys in news.chunks(CHUNK) {
            let rows = view.these(keys)?;
            let mut told: BTreeMap<i64, News> =
                keys.iter().map(|key| (*key, News { whole: true, ..News::default() })).collect();
            view.facts_of(keys, &mut |(node, item, facts)| {
                told.entry(node).or_default().items.push((item, facts));
            })?;
            self.take_over(&rows);
            // What this hub has written meanwhile is newer.
            let newer =
                |row: &&NodeRow| self.line(row.key).is_some_and(|line| line.last_seen > row.doc.last_seen);
            for row in rows.iter().filter(newer) {
                told.remove(&row.key);
            }
            self.note(told);
        }
        Ok(())
    }

    /// The node of a key.
    #[must_use]
    pub fn line(&self, key: i64) -> Option<Line> {
        self.read().line(key).cloned()
    }

    /// Whether a node is known and was not taken out.
    #[must_use]
    pub fn keeps(&self, key: i64) -> bool {
        self.read().line(key).is_some_and(|line| !line.retired)
    }

    /// How many nodes there are, those that were taken out included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `with` for every node that was not taken out, in the order of names.
    pub fn each(&self, with: impl FnMut(&Line)) {
        let lines = self.read();
        lines.by_name().filter_map(|one| one.line()).filter(|line| !line.retired).for_each(with);
    }

    fn change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn write(&self) -> RwLockWriteGuard<'_, Lines> {
        self.lines.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every line, held still for as long as this is held.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Lines> {
        self.lines.read().unwrap_or_else(PoisonError::into_inner)
    }
}
