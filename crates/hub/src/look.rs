//! One look at the fleet: what a page or an answer is made from, all of it as of one moment.

use crate::drifts::Open;
use crate::invariants::{Broken, Watch};
use crate::liveness::HubTimes;
use crate::roll::{Facets, Filter, Line, Roll, Tally};
use crate::slots::Slots;
use crate::spans::Adrift;
use crate::store::registry::Registry;
use crate::store::telling::Telling;
use crate::store::{NodeRow, Result, View};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is looked at.
pub(crate) struct Look<'a> {
    /// Every document.
    pub(crate) view: &'a dyn View,
    /// Every node in short.
    pub(crate) roll: &'a Arc<Roll>,
    /// Who holds what.
    pub(crate) slots: &'a Slots,
    /// What is told, and what is not.
    pub(crate) telling: &'a dyn Telling,
    /// What is dear and kept for a while.
    pub(crate) kept: &'a Kept,
    /// Who watches over what must hold between nodes.
    pub(crate) watch: &'a Watch,
    /// Who may speak.
    pub(crate) members: &'a dyn Registry,
    /// How long history is kept (ms).
    pub(crate) keep: i64,
    /// When it is.
    pub(crate) times: HubTimes,
}

impl Look<'_> {
    /// Every node counted, with the [`WORST`] of them.
    pub(crate) fn tally(&self) -> Arc<Tally> {
        let (roll, times) = (Arc::clone(self.roll), self.times);
        let count = move || Arc::new(roll.tally(WORST, times));
        if self.roll.len() < LARGE { count() } else { self.kept.tally.get(&(), count) }
    }

    /// The same for a program, which would rather wait than be told what was.
    pub(crate) fn tally_now(&self) -> Arc<Tally> {
        let count = || Arc::new(self.roll.tally(WORST, self.times));
        if self.roll.len() < LARGE { count() } else { self.kept.tally.now(&(), count) }
    }

    /// How many nodes each choice beside a filter would leave.
    pub(crate) fn facets(&self, filter: &Filter) -> Facets {
        let (roll, times, of) = (Arc::clone(self.roll), self.times, filter.clone());
        let count = move || roll.facets(&of, times);
        if self.roll.len() < LARGE { count() } else { self.kept.facets.get(filter, count) }
    }

    /// An answer that is kept for a while on a large fleet, and found anew on a small one.
    pub(crate) fn keep<T: Clone>(&self, memo: &Memo<T>, find: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.roll.len() < LARGE { find() } else { memo.get(find) }
    }

    /// Every invariant that does not hold.
    pub(crate) fn broken(&self) -> Result<Arc<Vec<Broken>>> {
        self.watch.broken(self.view, self.roll, self.members, self.times)
    }

    /// Whether a node is known and was not taken out.
    pub(crate) fn keeps(&self, node: i64) -> bool {
        self.roll.line(node).is_some_and(|line| !line.retired)
    }

    /// From when on nothing of the history has been forgotten (unix ms).
    pub(crate) fn kept_since(&self) -> i64 {
        self.times.now.saturating_sub(self.keep)
    }

    /// The documents of these nodes, in their order.
    pub(crate) fn rows(&self, lines: &[Line]) -> Result<Vec<NodeRow>> {
        let keys: Vec<i64> = lines.iter().map(|line| line.key).collect();
        let mut rows: HashMap<i64, NodeRow> =
            self.view.these(&keys)?.into_iter().map(|row| (row.key, row)).collect();
        Ok(keys.iter().filter_map(|key| rows.remove(key)).collect())
    }
}

/// From how many nodes on answers are kept, and shared by all who ask.
pub(crate) const LARGE: usize = 5_000;
/// How many of the worst nodes are counted out.
pub(crate) const WORST: usize = 12;

/// Answers that are dear on a large fleet, kept for a while.
#[derive(Debug, Default)]
pub struct Kept {
    /// Every node counted.
    tally: Memos<(), Arc<Tally>>,
    /// The facets of the filters that were asked for last.
    facets: Memos<Filter, Facets>,
    /// Every open drift.
    pub(crate) drift: Memo<Arc<Open>>,
    /// How many nodes had something off in the last day.
    pub(crate) adrift: Memo<Arc<Adrift>>,
}

/// What took less than this to find is found anew each time.
const CHEAP: Duration = Duration::from_millis(2);
/// An answer is kept for so many times as long as it took to find, and no longer than a minute.
const SHARE: u32 = 20;
const MOST: Duration = Duration::from_mins(1);

/// One answer that is kept for as long as it was dear.
#[derive(Debug)]
pub(crate) struct Memo<T>(Mutex<Option<(T, Instant)>>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Memo<T> {
    /// The answer that is kept, or a new one. Whoever comes while it is found waits for it.
    ///
    /// # Errors
    /// When it cannot be found.
    pub(crate) fn get(&self, find: impl FnOnce() -> Result<T>) -> Result<T> {
        self.get_for(Duration::ZERO, find)
    }

    /// The same, kept for `least` at least where it was dear.
    ///
    /// # Errors
    /// When it cannot be found.
    pub(crate) fn get_for(&self, least: Duration, find: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        if let Some((answer, until)) = kept.as_ref()
            && began < *until
        {
            return Ok(answer.clone());
        }
        let answer = find()?;
        let took = began.elapsed();
        let until = began + took.saturating_mul(SHARE).min(MOST).max(least);
        *kept = (took >= CHEAP).then(|| (answer.clone(), until));
        Ok(answer)
    }
}

/// How many questions of one sort have their answers kept.
const QUESTIONS: usize = 64;
/// For so long after its time an answer is still given, while a new one is found: who looks again and again waits once.
const GRACE: Duration = Duration::from_secs(20);

/// An answer that is kept.
#[derive(Debug)]
struct Answer<T> {
    found: T,
    until: Instant,
    /// Whether a new one is being found.
    renewing: bool,
}

/// Answers to questions of one sort, each kept as [`Memo`] keeps one, and renewed beside whoever asks.
#[derive(Debug)]
pub(crate) struct Memos<K, T> {
    kept: Arc<Mutex<HashMap<K, Answer<T>>>>,
    /// Locked while somebody waits for an answer: all who come meanwhile with the same question need only one.
    finding: Arc<Mutex<()>>,
}

impl<K, T> Default for Memos<K, T> {
    fn default() -> Self {
        Self { kept: Arc::default(), finding: Arc::default() }
    }
}

impl<K, T> Clone for Memos<K, T> {
    fn clone(&self) -> Self {
        Self { kept: Arc::clone(&self.kept), finding: Arc::clone(&self.finding) }
    }
}

impl<K, T> Memos<K, T>
where
    K: Clone + Eq + std::hash::Hash + Send + 'static,
    T: Clone + Send + 'static,
{
    /// The answer that is kept, or a new one. Nobody waits for an answer to be renewed.
    pub(crate) fn get(&self, question: &K, find: impl FnOnce() -> T + Send + 'static) -> T {
        let now = Instant::now();
        let mut kept = self.kept();
        let Some(old) = kept.get_mut(question).filter(|old| now < old.until + GRACE) else {
            drop(kept);
            return self.now(question, find);
        };
        let answer = old.found.clone();
        let renew = now >= old.until && !std::mem::replace(&mut old.renewing, true);
        drop(kept);
        if renew {
            let (all, question) = (self.clone(), question.clone());
            std::thread::spawn(move || all.find(&question, find));
        }
        answer
    }

    /// The answer whose time is not over, or a new one.
    pub(crate) fn now(&self, question: &K, find: impl FnOnce() -> T) -> T {
        let fresh = || {
            let kept = self.kept();
            kept.get(question).filter(|old| Instant::now() < old.until).map(|old| old.found.clone())
        };
        fresh().unwrap_or_else(|| {
            let _finding = self.finding.lock().unwrap_or_else(PoisonError::into_inner);
            fresh().unwrap_or_else(|| self.find(question, find))
        })
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<K, Answer<T>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, question: &K, find: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let answer = find();
        let took = began.elapsed();
        let mut kept = self.kept();
        kept.retain(|_, old| began < old.until + GRACE);
        kept.remove(question);
        if took >= CHEAP && kept.len() < QUESTIONS {
            let until = began + took.saturating_mul(SHARE).min(MOST);
            kept.insert(question.clone(), Answer { found: answer.clone(), until, renewing: false });
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{CHEAP, Memo, Memos};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn what_was_dear_is_kept_and_what_was_cheap_is_found_anew() {
        let memo = Memo::default();
        assert_eq!(memo.get(|| Ok(1)).unwrap(), 1);
        let dear = || {
            std::thread::sleep(CHEAP * 10);
            Ok(2)
        };
        assert_eq!(memo.get(dear).unwrap(), 2);
        assert_eq!(memo.get(|| Ok(3)).unwrap(), 2);
    }

    fn dear(answer: i32) -> impl FnOnce() -> i32 + Send + 'static {
        move || {
            std::thread::sleep(CHEAP * 10);
            answer
        }
    }

    #[test]
    fn each_question_has_its_own_answer() {
        let memos = Memos::default();
        assert_eq!((memos.get(&"a", dear(1)), memos.get(&"b", dear(2))), (1, 2));
        // Kept for 400 ms; a slow machine may be past that, and then it finds the next in its own time.
        assert!([1, 3].contains(&memos.get(&"a", || 3)));
        assert_eq!((memos.get(&"c", || 4), memos.get(&"c", || 5)), (4, 5));
    }

    #[test]
    fn who_comes_after_an_answers_time_is_given_it_and_one_of_them_has_it_renewed() {
        let memos = Memos::default();
        assert_eq!(memos.get(&(), dear(1)), 1);
        let (begun, go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let renew = || {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            move || {
                assert!(!begun.swap(true, Relaxed), "two renew it");
                while !go.load(Relaxed) {
                    std::thread::sleep(CHEAP);
                }
                dear(2)()
            }
        };
        // On a slow machine it was dearer, and is kept longer.
        while !begun.load(Relaxed) {
            assert_eq!(memos.get(&(), renew()), 1, "it is not waited for");
            std::thread::sleep(CHEAP);
        }
        assert_eq!(memos.get(&(), || unreachable!("it is renewed already")), 1);
        go.store(true, Relaxed);
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while memos.get(&(), dear(2)) != 2 {
            assert!(std::time::Instant::now() < patience);
            std::thread::sleep(CHEAP);
        }
    }
}
