//! Folders in step with others, by rsync in the background: what is known of each, and who works for it.
//!
//! Whoever asks gets what is known, and waits for nothing but the first comparison, and for that not long. Each pair of
//! folders has one worker at a time, a thread that compares or carries over and ends. What nobody asks about any more is
//! forgotten, and what runs for its sake is ended. What differs, and whether it is carried over, is decided elsewhere.

mod kept;
mod run;
mod said;
mod way;

use crate::guard::Guard;
use evenkeel_core::{Class, Compared, Fault, MirrorJob, MirrorQuestion, MirrorSeen};
use run::{Run, Trouble};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most transfers at a time, and the most runs of any sort.
const TRANSFERS: usize = 2;
const RUNS: usize = 4;
/// How soon a comparison that failed is tried again, at most.
const AGAIN: Duration = Duration::from_mins(1);
/// How soon one is tried again that somebody else's work was in the way of.
const BUSY: Duration = Duration::from_secs(5);
/// How long somebody else's work on the same folder is waited for.
const LOCK: Duration = Duration::from_secs(2);

/// What does not change while the agent runs.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where locks are.
    pub(crate) run_dir: PathBuf,
    /// Where it is kept when two folders were last in step; nowhere where there is none.
    pub(crate) state_dir: Option<PathBuf>,
    /// Whose host keys are believed; ssh's own where none is said.
    pub(crate) known_hosts: Option<PathBuf>,
    /// How long a first comparison is waited for.
    pub(crate) first: Duration,
    /// How long one transfer is waited for, and how long all those of one pass.
    pub(crate) transfer: (Duration, Duration),
}

impl Settings {
    /// For a daemon, whose lane must not wait; a command has nothing better to do.
    pub(crate) fn new(run_dir: PathBuf, daemon: bool) -> Self {
        let long = Duration::from_mins(10);
        let (first, transfer) = if daemon {
            (Duration::from_secs(3), (Duration::from_secs(4), Duration::from_secs(12)))
        } else {
            (long, (long, long))
        };
        Self { run_dir, state_dir: None, known_hosts: None, first, transfer }
    }
}

/// The pairs of folders that are kept in step. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Mirrors(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    table: Mutex<Table>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    folders: BTreeMap<String, Folder>,
    /// When a step was last waited for, and how long in all since there was a pause.
    waited: Option<(Instant, Duration)>,
}

#[derive(Debug)]
struct Folder {
    question: MirrorQuestion,
    seen: MirrorSeen,
    /// Since when it is asked about, in seconds since 1970.
    since: i64,
    due: Instant,
    /// Somebody wants it carried over.
    wanted: bool,
    worker: Option<Worker>,
    /// Its first comparison was waited for, and is not again.
    awaited: bool,
}

/// A thread at work. Its flag says that nobody wants it any more.
#[derive(Debug, Clone)]
struct Worker {
    stop: Arc<AtomicBool>,
    carries: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(worker) = &self.worker {
            worker.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Mirrors {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner { settings, table: Mutex::default(), news: Condvar::new() }))
    }

    /// What is known of each; begins what is due, and ends what is not asked about.
    pub(crate) fn see(&self, questions: &[MirrorQuestion], guard: &Arc<Guard>) -> Vec<MirrorSeen> {
        let mut table = self.table();
        self.forget_others(&mut table, questions);
        for question in questions {
            self.ask(&mut table, question);
        }
        self.tend(&mut table, guard);
        let end = Instant::now() + self.0.settings.first;
        let fresh = |one: &Folder| !one.awaited && one.seen.compared.is_none() && one.seen.trouble.is_none();
        while table.folders.values().any(fresh) && Instant::now() < end {
            table = self.wait(table, end);
        }
        table.folders.values_mut().for_each(|folder| folder.awaited = true);
        let now = now();
        questions
            .iter()
            .map(|one| table.folders.get(&one.job.to).map(|one| one.tell(now)).unwrap_or_default())
            .collect()
    }

    /// Carry over what differs; comes back when that is done, or before where it takes long.
    pub(crate) fn carry_over(&self, job: &MirrorJob, guard: &Arc<Guard>) -> Result<(), Fault> {
        let mut table = self.table();
        let folder = table.folders.get_mut(&job.to).filter(|folder| folder.question.job == *job);
        let Some(folder) = folder else {
            return Err(Fault::new(format!("{} is not compared with {}", job.to, job.from)));
        };
        folder.wanted = true;
        folder.seen.under_way.get_or_insert_with(|| "about to begin".to_owned());
        self.tend(&mut table, guard);
        let began = Instant::now();
        let end = began + table.patience(self.0.settings.transfer);
        let left = |table: &Table| {
            let folder = table.folders.get(&job.to).filter(|folder| folder.question.job == *job);
            folder.map(|folder| folder.wanted)
        };
        while left(&table) == Some(true) && Instant::now() < end {
            table = self.wait(table, end);
        }
        table.note_wait(began.elapsed());
        let folder = table.folders.get(&job.to).filter(|folder| folder.question.job == *job);
        match folder.map(|folder| (&folder.seen, folder.wanted)) {
            Some((seen, false)) => done(job, seen),
            Some((_, true)) => Err(Fault::new(job.under_way()).class(Class::Waiting)),
            None => Err(Fault::new("it left the spec meanwhile")),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, table: MutexGuard<'a, Table>, end: Instant) -> MutexGuard<'a, Table> {
        let left = end.saturating_duration_since(Instant::now());
        self.0
            .news
            .wait_timeout(table, left)
            .map_or_else(|poisoned| poisoned.into_inner().0, |(table, _)| table)
    }

    fn forget_others(&self, table: &mut Table, questions: &[MirrorQuestion]) {
        let asked = |folder: &Folder| questions.iter().any(|one| one.job.to == folder.question.job.to);
        let gone: Vec<String> =
            table.folders.iter().filter(|(_, one)| !asked(one)).map(|(to, _)| to.clone()).collect();
        for folder in gone.iter().filter_map(|to| table.folders.remove(to)) {
            if let Some(state_dir) = &self.0.settings.state_dir {
                let _ = kept::forget(state_dir, &folder.question.job);
            }
        }
    }

    fn ask(&self, table: &mut Table, question: &MirrorQuestion) {
        match table.folders.get_mut(&question.job.to) {
            Some(known) if known.question.job == question.job => {
                known.due = known.due.min(Instant::now() + question.every);
                known.question.every = question.every;
            }
            // Another job for the same folder: what runs for the old one is ended.
            _ => drop(table.folders.insert(question.job.to.clone(), self.fresh(question))),
        }
    }

    fn fresh(&self, question: &MirrorQuestion) -> Folder {
        let state_dir = self.0.settings.state_dir.as_ref();
        let in_step_at = state_dir.and_then(|folder| kept::in_step_at(folder, &question.job));
        Folder {
            question: question.clone(),
            seen: MirrorSeen { in_step_at, ..MirrorSeen::default() },
            since: now(),
            due: Instant::now(),
            wanted: false,
            worker: None,
            awaited: false,
        }
    }

    /// Begin what is due, as long as there is room.
    fn tend(&self, table: &mut Table, guard: &Arc<Guard>) {
        let workers: Vec<bool> =
            table.folders.values().filter_map(|one| Some(one.worker.as_ref()?.carries)).collect();
        let (mut runs, mut transfers) = (workers.len(), workers.iter().filter(|carries| **carries).count());
        let now = Instant::now();
        for folder in table.folders.values_mut().filter(|folder| folder.worker.is_none()) {
            let carries = folder.wanted && transfers < TRANSFERS;
            if runs >= RUNS || !(carries || (folder.due <= now && !folder.wanted)) {
                continue;
            }
            let worker = Worker { stop: Arc::default(), carries };
            let (this, question, guard) = (self.clone(), folder.question.clone(), guard.clone());
            let (mine, stop) = (worker.clone(), worker.stop.clone());
            let thread = std::thread::Builder::new().name("sync".into()).spawn(move || {
                let found = this.work(&question.job, &mine, &guard);
                this.learn(&question, &stop, found, &guard);
            });
            if thread.is_ok() {
                folder.worker = Some(worker);
                (runs, transfers) = (runs + 1, transfers + usize::from(carries));
            }
        }
    }

    /// One worker's work.
    fn work(&self, job: &MirrorJob, worker: &Worker, guard: &Guard) -> Result<Found, Trouble> {
        let wanted = || !worker.stop.load(Ordering::Relaxed);
        let lock = kept::lock(&self.0.settings.run_dir, job, LOCK, &wanted);
        let lock = lock.map_err(|error| (Class::Trouble, format!("the lock for {}: {error}", job.to)))?;
        let Some(_lock) = lock else { return Ok(Found::Busy) };
        let tell = |progress: Option<&str>| {
            if let Some(progress) = progress.filter(|_| worker.carries) {
                self.progress(job, progress);
            }
            wanted()
        };
        let run = Run { job, settings: &self.0.settings, guard, tell: &tell };
        let found = run.compare()?;
        let compared = found.compared().unwrap_or_default();
        if !worker.carries || compared.in_step() || job.refusal(&compared).is_some() {
            return Ok(Found::Compared(compared));
        }
        run.transfer(&found)?;
        let after = run.compare()?;
        // What has changed meanwhile is the next comparison's; what was carried over and differs still is trouble.
        let mut still = after.names.intersection(&found.names);
        if let Some(name) = still.next() {
            return Err((
                Class::Waiting,
                format!(
                    "{name} was carried over and differs again: it changes here or at the source; leave it out if it may"
                ),
            ));
        }
        let seen = after.compared().unwrap_or_default();
        Ok(Found::Compared(Compared { source: seen.source, here: seen.here, ..Compared::default() }))
    }

    fn progress(&self, job: &MirrorJob, progress: &str) {
        if let Some(folder) =
            self.table().folders.get_mut(&job.to).filter(|folder| folder.question.job == *job)
        {
            folder.seen.under_way = Some(progress.to_owned());
        }
    }

    fn learn(
        &self,
        question: &MirrorQuestion,
        stop: &Arc<AtomicBool>,
        found: Result<Found, Trouble>,
        guard: &Arc<Guard>,
    ) {
        let mut table = self.table();
        let mine =
            |folder: &&mut Folder| folder.worker.as_ref().is_some_and(|one| Arc::ptr_eq(&one.stop, stop));
        if let Some(folder) = table.folders.get_mut(&question.job.to).filter(mine) {
            let carried = folder.worker.take().is_some_and(|worker| worker.carries);
            let in_step = folder.learn(found, carried);
            if let (true, Some(state_dir)) = (in_step, &self.0.settings.state_dir) {
                // Without the note it is told a little too early that it is late.
                let _ = kept::note(state_dir, &question.job, now());
            }
        }
        self.tend(&mut table, guard);
        self.0.news.notify_all();
    }
}

/// What a worker has found.
enum Found {
    Compared(Compared),
    /// Somebody else works on the same folder.
    Busy,
}

impl Folder {
    /// Take in what a worker has found; whether the two are in step.
    fn learn(&mut self, found: Result<Found, Trouble>, carried: bool) -> bool {
        if carried {
            (self.wanted, self.seen.under_way) = (false, None);
        }
        let (at, every) = (Instant::now(), self.question.every);
        match found {
            Ok(Found::Busy) => {
                let why = "another evenkeel works on this folder just now".to_owned();
                (self.seen.trouble, self.due) = (Some((Class::Waiting, why)), at + BUSY.min(every));
                false
            }
            Ok(Found::Compared(compared)) => {
                let in_step = compared.in_step();
                if in_step {
                    self.seen.in_step_at = Some(self::now());
                }
                (self.seen.trouble, self.seen.compared, self.due) = (None, Some(compared), at + every);
                in_step
            }
            Err(trouble) => {
                (self.seen.trouble, self.due) = (Some(trouble), at + every.min(AGAIN));
                false
            }
        }
    }

    fn tell(&self, now: i64) -> MirrorSeen {
        let every = i64::try_from(self.question.every.as_secs()).unwrap_or(i64::MAX / 4);
        // What a comparison itself takes is not counted.
        let patience = every.saturating_mul(2).saturating_add(30);
        let since = self.seen.in_step_at.unwrap_or(self.since);
        MirrorSeen { late: now.saturating_sub(since) > patience, ..self.seen.clone() }
    }
}

impl Table {
    /// How long a transfer may be waited for: each for a while, and all of one pass not much longer.
    fn patience(&self, (one, all): (Duration, Duration)) -> Duration {
        let spent = self.waited.filter(|(last, _)| last.elapsed() < Duration::from_secs(1));
        one.min(all.saturating_sub(spent.map_or(Duration::ZERO, |(_, spent)| spent)))
    }

    fn note_wait(&mut self, took: Duration) {
        let spent = self.waited.filter(|(last, _)| last.elapsed() < took + Duration::from_secs(1));
        self.waited = Some((Instant::now(), took + spent.map_or(Duration::ZERO, |(_, spent)| spent)));
    }
}

/// What became of a transfer.
fn done(job: &MirrorJob, seen: &MirrorSeen) -> Result<(), Fault> {
    if let Some((class, why)) = &seen.trouble {
        return Err(Fault::new(job.trouble(*class, why)).class(*class));
    }
    match seen.compared.as_ref().and_then(|compared| job.refusal(compared)) {
        Some(why) => Err(Fault::new(why)),
        None => Ok(()),
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
