//! One look at the fleet: what a page or an answer is made from, all of it as of one moment.

use crate::drifts::Open;
use crate::invariants::{Broken, Watch};
use crate::liveness::HubTimes;
use crate::roll::{Facets, Filter, LARGE, Line, Roll, Tally};
use crate::slots::Slots;
use crate::spans::{self, Adrift, Window};
use crate::store::registry::Registry;
use crate::store::telling::Telling;
use crate::store::{NodeRow, Result, View};
use crate::writer::chain;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is looked at.
pub(crate) struct Look<'a> {
    /// Every document.
    pub(crate) view: &'a dyn View,
    /// The same, for whoever looks on beside.
    pub(crate) shared: &'a Arc<dyn View>,
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
    pub(crate) members: &'a Arc<dyn Registry>,
    /// How long history is kept (ms).
    pub(crate) keep: i64,
    /// When it is.
    pub(crate) times: HubTimes,
}

impl Look<'_> {
    /// Every node counted, with the [`WORST`] of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn tally(&self) -> Result<Arc<Tally>> {
        let (roll, times) = (Arc::clone(self.roll), self.times);
        self.keep(&self.kept.tally, &(), move || Ok(Arc::new(roll.tally(WORST, times))))
    }

    /// The same for a program, which would rather wait than be told what was.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn tally_now(&self) -> Result<Arc<Tally>> {
        self.keep_now(&self.kept.tally, || Ok(Arc::new(self.roll.tally(WORST, self.times))))
    }

    /// An answer that is kept for a while on a large fleet, and waited for where its time is over.
    ///
    /// # Errors
    /// When it cannot be found.
    pub(crate) fn keep_now<T: Clone + Send + 'static>(
        &self,
        memos: &Memos<(), T>,
        find: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if self.roll.len() < LARGE { find() } else { memos.now(&(), find) }
    }

    /// How many nodes each choice beside a filter would leave.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn facets(&self, filter: &Filter) -> Result<Facets> {
        let (roll, times, of) = (Arc::clone(self.roll), self.times, filter.clone());
        self.keep(&self.kept.facets, filter, move || Ok(roll.facets(&of, times)))
    }

    /// An answer that is kept for a while on a large fleet, and found anew on a small one.
    fn keep<K: Question, T: Clone + Send + 'static>(
        &self,
        memos: &Memos<K, T>,
        question: &K,
        find: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.roll.len() < LARGE { find() } else { memos.get(question, find) }
    }

    /// How many nodes had something off in the last day.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn adrift(&self) -> Result<Arc<Adrift>> {
        let (view, roll) = (Arc::clone(self.shared), Arc::clone(self.roll));
        let window = Window { from: self.times.now.saturating_sub(DAY_MS), to: self.times.now };
        let find = move || spans::adrift(view.as_ref(), &|node| roll.keeps(node), window).map(Arc::new);
        self.keep(&self.kept.adrift, &(), find)
    }

    /// Every invariant that does not hold.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn broken(&self) -> Result<Arc<Vec<Broken>>> {
        self.watch.broken(self.shared, self.roll, self.members, self.times)
    }

    /// The same for a program.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn broken_now(&self) -> Result<Arc<Vec<Broken>>> {
        self.watch.broken_now(self.view, self.roll, self.members.as_ref(), self.times)
    }

    /// Whether a node is known and was not taken out.
    pub(crate) fn keeps(&self, node: i64) -> bool {
        self.roll.keeps(node)
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

/// How far back the picture of the fleet goes (ms).
const DAY_MS: i64 = 86_400_000;
/// How many of the worst nodes are counted out.
pub(crate) const WORST: usize = 12;

/// Answers that are dear on a large fleet, kept for a while.
#[derive(Debug)]
pub struct Kept {
    /// Every node counted.
    tally: Memos<(), Arc<Tally>>,
    /// The facets of the filters that were asked for last.
    facets: Memos<Filter, Facets>,
    /// Every open drift.
    pub(crate) drift: Memos<(), Arc<Open>>,
    /// How many nodes had something off in the last day.
    adrift: Memos<(), Arc<Adrift>>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            tally: Memos::default(),
            facets: Memos::default(),
            drift: Memos::default(),
            // A piece of the day is a quarter of an hour.
            adrift: Memos::new(Duration::from_secs(30), Duration::from_mins(15)),
        }
    }
}

/// What took less than this to find is found anew each time.
const CHEAP: Duration = Duration::from_millis(2);
/// An answer is kept for so many times as long as it took to find, and no longer than a minute.
const SHARE: u32 = 20;
const MOST: Duration = Duration::from_mins(1);

/// How many questions of one sort have their answers kept.
const QUESTIONS: usize = 64;
/// For so long after its time an answer is still given, while a new one is found: who looks again and again waits once.
const GRACE: Duration = Duration::from_secs(20);

/// What an answer is kept by.
pub(crate) trait Question: Clone + Eq + Hash + Send + 'static {}

impl<K: Clone + Eq + Hash + Send + 'static> Question for K {}

/// An answer that is kept.
#[derive(Debug)]
struct Answer<T> {
    found: T,
    until: Instant,
    /// Whether a new one is being found.
    renewing: bool,
}

/// Answers to questions of one sort, each kept for as long as it was dear, and renewed beside whoever asks.
#[derive(Debug)]
pub(crate) struct Memos<K, T> {
    kept: Arc<Mutex<HashMap<K, Answer<T>>>>,
    /// Locked while somebody waits for an answer: all who come meanwhile with the same question need only one.
    finding: Arc<Mutex<()>>,
    /// How long an answer that was dear is kept at least.
    least: Duration,
    /// For how long after its time it is still given.
    grace: Duration,
}

impl<K, T> Default for Memos<K, T> {
    fn default() -> Self {
        Self::new(Duration::ZERO, GRACE)
    }
}

impl<K, T> Clone for Memos<K, T> {
    fn clone(&self) -> Self {
        let (kept, finding) = (Arc::clone(&self.kept), Arc::clone(&self.finding));
        Self { kept, finding, least: self.least, grace: self.grace }
    }
}

impl<K, T> Memos<K, T> {
    fn new(least: Duration, grace: Duration) -> Self {
        Self { kept: Arc::default(), finding: Arc::default(), least, grace }
    }
}

impl<K: Question, T: Clone + Send + 'static> Memos<K, T> {
    /// The answer that is kept, or a new one. Nobody waits for an answer to be renewed.
    ///
    /// # Errors
    /// When there is none, and it cannot be found.
    pub(crate) fn get(&self, question: &K, find: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let now = Instant::now();
        let mut kept = self.kept();
        let Some(old) = kept.get_mut(question).filter(|old| now < old.until + self.grace) else {
            drop(kept);
            return self.now(question, find);
        };
        let answer = old.found.clone();
        let renew = now >= old.until && !std::mem::replace(&mut old.renewing, true);
        drop(kept);
        if renew {
            let (all, question) = (self.clone(), question.clone());
            std::thread::spawn(move || {
                if let Err(why) = all.find(&question, find) {
                    tracing::warn!(error = chain(&why), "what is shown could not be looked up anew");
                    // The next who asks tries again.
                    if let Some(old) = all.kept().get_mut(&question) {
                        old.renewing = false;
                    }
                }
            });
        }
        Ok(answer)
    }

    /// The answer whose time is not over, or a new one.
    ///
    /// # Errors
    /// When it cannot be found.
    pub(crate) fn now(&self, question: &K, find: impl FnOnce() -> Result<T>) -> Result<T> {
        let fresh = || {
            let kept = self.kept();
            kept.get(question).filter(|old| Instant::now() < old.until).map(|old| old.found.clone())
        };
        if let Some(answer) = fresh() {
            return Ok(answer);
        }
        let _finding = self.finding.lock().unwrap_or_else(PoisonError::into_inner);
        fresh().map_or_else(|| self.find(question, find), Ok)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<K, Answer<T>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, question: &K, find: impl FnOnce() -> Result<T>) -> Result<T> {
        let began = Instant::now();
        let answer = find()?;
        let took = began.elapsed();
        let mut kept = self.kept();
        kept.retain(|_, old| began < old.until + self.grace);
        kept.remove(question);
        if took >= CHEAP && kept.len() < QUESTIONS {
            let until = began + took.saturating_mul(SHARE).min(MOST).max(self.least);
            kept.insert(question.clone(), Answer { found: answer.clone(), until, renewing: false });
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{CHEAP, Memos, Question};
    use crate::store::{Result, StoreError};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::{Duration, Instant};

    fn dear(answer: i32) -> impl FnOnce() -> Result<i32> + Send + 'static {
        move || {
            std::thread::sleep(CHEAP * 10);
            Ok(answer)
        }
    }

    fn away() -> StoreError {
        StoreError::Away { doing: "looking", place: "here".to_owned(), source: "it is away".into() }
    }

    /// Asks until the answer is this one; every other has to be `old`.
    fn until<K: Question>(memos: &Memos<K, i32>, question: &K, old: i32, new: i32) {
        let patience = Instant::now() + Duration::from_secs(30);
        loop {
            match memos.get(question, dear(new)).unwrap() {
                answer if answer == new => return,
                answer => assert_eq!(answer, old),
            }
            assert!(Instant::now() < patience);
            std::thread::sleep(CHEAP);
        }
    }

    #[test]
    fn each_question_has_its_own_answer_and_what_was_cheap_is_found_anew() {
        let memos = Memos::default();
        let get = |question, find: fn() -> Result<i32>| memos.get(&question, find).unwrap();
        assert_eq!((memos.get(&"a", dear(1)).unwrap(), memos.get(&"b", dear(2)).unwrap()), (1, 2));
        // Kept for 400 ms; a slow machine may be past that, and then it finds the next in its own time.
        assert!([1, 3].contains(&get("a", || Ok(3))));
        assert_eq!((get("c", || Ok(4)), get("c", || Ok(5))), (4, 5));
    }

    #[test]
    fn who_comes_after_an_answers_time_is_given_it_and_one_of_them_has_it_renewed() {
        let memos = Memos::default();
        assert_eq!(memos.get(&(), dear(1)).unwrap(), 1);
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
            assert_eq!(memos.get(&(), renew()).unwrap(), 1, "it is not waited for");
            std::thread::sleep(CHEAP);
        }
        assert_eq!(memos.get(&(), || unreachable!("it is renewed already")).unwrap(), 1);
        go.store(true, Relaxed);
        until(&memos, &(), 1, 2);
    }

    #[test]
    fn an_answer_that_could_not_be_renewed_stays_and_the_next_who_asks_has_it_tried_again() {
        let memos = Memos::default();
        assert_eq!(memos.get(&(), dear(1)).unwrap(), 1);
        let tried = Arc::new(AtomicBool::new(false));
        while !tried.load(Relaxed) {
            let tried = Arc::clone(&tried);
            let fail = move || {
                tried.store(true, Relaxed);
                Err(away())
            };
            assert_eq!(memos.get(&(), fail).unwrap(), 1);
            std::thread::sleep(CHEAP);
        }
        until(&memos, &(), 1, 2);
        assert!(Memos::<(), i32>::default().get(&(), || Err(away())).is_err());
    }
}
