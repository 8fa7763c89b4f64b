//! The one thread that writes: it takes what has gathered in the queue, commits it in one transaction, and only
//! then lets every request be answered. One sync of the disk serves many nodes.
//!
//! It also forgets old history, a little at a time and only while nobody waits.

use crate::merge;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError, Touch};
use crate::wire::Incoming;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How many requests may wait; each holds at most one body.
pub const QUEUE: usize = 256;
/// How many events one transaction takes, beyond the first request.
const BATCH: usize = 2_000;
/// How often old history is looked for.
const PRUNE_EVERY: Duration = Duration::from_hours(1);
/// How many entries are forgotten at once.
const PRUNE_BATCH: usize = 500;
/// How often the hub notes that it is up.
const NOTE_EVERY: Duration = Duration::from_mins(1);

/// The hub's clock (unix ms); tests bring their own.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What became of one request's events, after the commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// Per event: whether it was a duplicate.
    pub duplicate: Vec<bool>,
    /// The nodes that should send a full report.
    pub want_full: Vec<String>,
}

/// Why a request's events were not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Too many requests wait already.
    #[error("too many requests wait to be written; try again in a second")]
    Full,
    /// The writer has ended.
    #[error("the hub is ending")]
    Ended,
    /// The store failed.
    #[error("the store failed; see the hub's log")]
    Store,
    /// The database does not answer.
    #[error("the database is away; try again")]
    Away,
}

struct Job {
    events: Vec<Incoming>,
    reply: oneshot::Sender<Result<Written, WriteError>>,
}

/// What handlers hand their events to.
#[derive(Clone)]
pub struct Writer {
    queue: SyncSender<Job>,
    depth: Arc<AtomicI64>,
    outage: Arc<Mutex<Outage>>,
}

/// When the database was away: for as long, nobody was heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outage {
    /// When it last answered (unix ms); nothing while it was never away.
    pub since: Option<i64>,
    /// When it was back (unix ms); nothing while it is away.
    pub until: Option<i64>,
}

impl Writer {
    /// Starts the thread; `tells` says whether news is kept for somebody to tell it. It ends, having written what waits, when every `Writer` is gone.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        store: Box<dyn Store>,
        keep: Duration,
        clock: Clock,
        metrics: Arc<Metrics>,
        tells: bool,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, jobs) = sync_channel(QUEUE);
        let depth = Arc::new(AtomicI64::new(0));
        let outage = Arc::default();
        let writer = Self { queue, depth: Arc::clone(&depth), outage: Arc::clone(&outage) };
        let (due, answered) = (Instant::now(), clock());
        let desk = Desk {
            store,
            jobs,
            keep,
            clock,
            metrics,
            depth,
            tells,
            prune_at: due,
            note_at: due,
            outage,
            answered,
        };
        let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(move || desk.run())?;
        Ok((writer, thread))
    }

    /// Hands in one request's events, and waits until they are committed.
    ///
    /// # Errors
    /// When the queue is full, the store failed, or the hub is ending; then nothing was stored.
    pub async fn write(&self, events: Vec<Incoming>) -> Result<Written, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.depth.fetch_add(1, Ordering::Relaxed);
        let sent = self.queue.try_send(Job { events, reply });
        if let Err(why) = sent {
            self.depth.fetch_sub(1, Ordering::Relaxed);
            return Err(match why {
                TrySendError::Full(_) => WriteError::Full,
                TrySendError::Disconnected(_) => WriteError::Ended,
            });
        }
        answer.await.unwrap_or(Err(WriteError::Ended))
    }

    /// When the database was last away.
    #[must_use]
    pub fn outage(&self) -> Outage {
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests wait.
    #[must_use]
    pub fn depth(&self) -> i64 {
        self.depth.load(Ordering::Relaxed)
    }
}

struct Desk {
    store: Box<dyn Store>,
    jobs: Receiver<Job>,
    keep: Duration,
    clock: Clock,
    metrics: Arc<Metrics>,
    depth: Arc<AtomicI64>,
    tells: bool,
    prune_at: Instant,
    note_at: Instant,
    outage: Arc<Mutex<Outage>>,
    /// When the store last answered (unix ms).
    answered: i64,
}

impl Desk {
    fn run(mut self) {
        loop {
            let wake = self.prune_at.min(self.note_at).saturating_duration_since(Instant::now());
            match self.jobs.recv_timeout(wake) {
                Ok(first) => {
                    let batch = self.gather(first);
                    self.write(batch);
                    self.note_if_due();
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.note_if_due();
                    self.tidy();
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.note_up();
    }

    /// What has gathered behind the first request.
    fn gather(&self, first: Job) -> Vec<Job> {
        let mut events = first.events.len();
        let mut batch = vec![first];
        while events < BATCH
            && let Ok(job) = self.jobs.try_recv()
        {
            events += job.events.len();
            batch.push(job);
        }
        self.depth.fetch_sub(i64::try_from(batch.len()).unwrap_or(0), Ordering::Relaxed);
        batch
    }

    fn write(&mut self, batch: Vec<Job>) {
        let began = Instant::now();
        let requests: Vec<&[Incoming]> = batch.iter().map(|job| job.events.as_slice()).collect();
        let now = (self.clock)();
        let written = commit_and_tell(self.store.as_mut(), &requests, now, self.tells);
        self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        self.watch(written.as_ref().err());
        match written {
            Ok(answers) => batch.into_iter().zip(answers).for_each(|(job, answer)| reply(job, Ok(answer))),
            // Nothing of this is any request's fault, and asking for each would only take long.
            Err(why @ StoreError::Away { .. }) => {
                tracing::warn!(error = chain(&why), requests = batch.len(), "events were turned away");
                for job in batch {
                    reply(job, Err(WriteError::Away));
                }
            }
            // One request must not fail another: each gets a transaction of its own.
            Err(_) if batch.len() > 1 => batch.into_iter().for_each(|job| self.write(vec![job])),
            Err(why) => {
                tracing::error!(error = chain(&why), "events were not stored");
                for job in batch {
                    reply(job, Err(WriteError::Store));
                }
            }
        }
    }

    /// Old history goes in small pieces; between two of them every waiting request is served.
    fn tidy(&mut self) {
        let now = Instant::now();
        if now < self.prune_at {
            return;
        }
        let keep = i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX);
        let before = (self.clock)().saturating_sub(keep);
        match self.store.prune(before, PRUNE_BATCH) {
            Ok(gone) if gone >= PRUNE_BATCH => {}
            Ok(_) => self.prune_at = now + PRUNE_EVERY,
            Err(why) => {
                tracing::warn!(error = chain(&why), "old history was not pruned");
                self.prune_at = now + PRUNE_EVERY;
            }
        }
    }

    /// Also while requests never stop coming.
    fn note_if_due(&mut self) {
        let now = Instant::now();
        if now >= self.note_at {
            self.note_up();
            self.note_at = now + NOTE_EVERY;
        }
    }

    fn note_up(&mut self) {
        let noted = self.store.note_up((self.clock)());
        self.watch(noted.as_ref().err());
        if let Err(why) = noted {
            tracing::warn!(error = chain(&why), "the store cannot be written");
        }
    }

    /// Notes since when the database is away, and that it is back.
    fn watch(&mut self, failed: Option<&StoreError>) {
        let now = (self.clock)();
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let away = outage.since.is_some() && outage.until.is_none();
        match failed {
            Some(StoreError::Away { .. }) if !away => {
                *outage = Outage { since: Some(self.answered), until: None };
            }
            // Another error is an answer too, though not the one that was hoped for.
            Some(_) => {}
            None => {
                self.answered = now;
                if away {
                    outage.until = Some(now);
                }
            }
        }
    }
}

/// Somebody who hung up does not need the answer; what he sent is stored all the same.
fn reply(job: Job, answer: Result<Written, WriteError>) {
    let _ = job.reply.send(answer);
}

/// Several requests in one transaction; the answers in their order.
///
/// # Errors
/// When the store fails; then nothing is stored.
pub fn commit(store: &mut dyn Store, requests: &[&[Incoming]], now: i64) -> Result<Vec<Written>, StoreError> {
    commit_and_tell(store, requests, now, false)
}

/// The same; where it `tells`, what changed is noted as news in the same transaction.
///
/// # Errors
/// When the store fails; then nothing is stored.
pub fn commit_and_tell(
    store: &mut dyn Store,
    requests: &[&[Incoming]],
    now: i64,
    tells: bool,
) -> Result<Vec<Written>, StoreError> {
    let mut answers = vec![];
    let touches = touches(requests);
    store.transaction(&mut |tx| {
        // A store may try a second time, from the start.
        answers.clear();
        tx.expect(&touches)?;
        for events in requests {
            let mut answer = Written::default();
            for event in *events {
                let outcome = match event {
                    Incoming::Report(event) => merge::report(tx, event, now)?,
                    Incoming::Beat(event) => merge::beat(tx, event, now)?,
                };
                for news in outcome.news.iter().filter(|_| tells) {
                    tx.tell(outcome.node, news)?;
                }
                answer.duplicate.push(outcome.duplicate);
                // The last word counts: a later event of the same request may have settled it.
                answer.want_full.retain(|name| name != event.node_name());
                if outcome.want_full {
                    answer.want_full.push(event.node_name().to_owned());
                }
            }
            answers.push(answer);
        }
        Ok(())
    })?;
    Ok(answers)
}

/// Each node of a batch once, and whether its items are needed.
fn touches<'a>(requests: &[&'a [Incoming]]) -> Vec<Touch<'a>> {
    let mut all: BTreeMap<&str, bool> = BTreeMap::new();
    for event in requests.iter().flat_map(|events| *events) {
        let (source, items) = match event {
            Incoming::Report(event) => (event.source.as_str(), true),
            Incoming::Beat(event) => (event.source.as_str(), false),
        };
        *all.entry(source).or_default() |= items;
    }
    all.into_iter().map(|(source, items)| Touch { source, items }).collect()
}

/// An error with its causes, for the log.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
