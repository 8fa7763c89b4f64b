//! Telling people: news becomes messages, messages are sent until they are taken, or given up after some hours.
//!
//! ```text
//! merge ─► news (in the transaction of the change) ─► route (filter, silence, group) ─► outbox ─► send ─► a sink
//! liveness, invariants ─► fleet (looked at every few seconds) ─┘                          └─ alertmanager, commit_status:
//!                                                                                            what stands, again and again
//! ```
//!
//! A message is told at least once, with the same id at every try. Several hubs on one database share the outbox.

mod alertmanager;
mod backoff;
mod commit_status;
pub mod fleet;
pub mod route;
mod send;
pub mod silence;
pub mod sinks;
mod slack;
mod webhook;
mod words;

use crate::ca::{self, hex};
use crate::http::Hub;
use crate::metrics::Metrics;
use crate::store::telling::{Message, News, Silence, State, Telling};
use crate::store::{Result, StoreError, View};
use crate::writer::{Clock, chain};
use fleet::Fleet;
pub(crate) use send::client;
use send::{Stands, Tried};
use sinks::{Sink, To};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the outbox is looked at.
const EVERY: Duration = Duration::from_millis(500);
/// How often the fleet is looked at (ms).
const LOOK_MS: i64 = 5_000;
/// For how long a message is lent (ms): longer than a try may take.
const LEASE_MS: i64 = 20_000;
/// How long a try may take, all requests together.
const TRY: Duration = Duration::from_secs(15);
/// How many messages are sent to one sink at once. One that hangs is in no other's way.
const AT_ONCE: usize = 4;
/// The fleet is looked at for at most this part of the time: a large one less often.
const SPARE: u32 = 20;
/// How much news is sorted at once.
const NEWS: usize = 2_000;
/// How long messages are kept after they were made (ms): 7 days.
const KEEP_MS: i64 = 7 * 86_400_000;
/// How often old messages are forgotten (ms).
const FORGET_MS: i64 = 3_600_000;
/// Between two tries of a standing message that is not taken, at most (ms).
const STANDING_MOST_MS: i64 = 60_000;

/// Who tells.
pub struct Teller {
    hub: Arc<Hub>,
    sinks: BTreeMap<String, (Sink, reqwest::Client)>,
    public_url: Option<String>,
    looked: i64,
    forgot: i64,
    fleet: Arc<Fleet>,
    silences: Vec<Silence>,
    troubled: bool,
    /// How long the last look took.
    cost: Duration,
    running: tokio::task::JoinSet<(String, Result<()>)>,
    /// How many messages are being sent, by sink.
    busy: BTreeMap<String, usize>,
}

impl Teller {
    /// Somebody who tells these sinks.
    ///
    /// # Errors
    /// When a client cannot be made: with which sink, and why.
    pub fn new(
        hub: Arc<Hub>,
        sinks: &[Sink],
        public_url: Option<String>,
    ) -> std::result::Result<Self, String> {
        let made = sinks.iter().map(|sink| {
            hub.metrics.tells(&sink.name);
            let client =
                client(sink.ca_file.as_deref()).map_err(|why| format!("the sink {:?}: {why}", sink.name))?;
            Ok((sink.name.clone(), (sink.clone(), client)))
        });
        Ok(Self {
            sinks: made.collect::<std::result::Result<_, String>>()?,
            hub,
            public_url,
            looked: i64::MIN,
            forgot: i64::MIN,
            fleet: Arc::default(),
            silences: vec![],
            troubled: false,
            cost: Duration::ZERO,
            running: tokio::task::JoinSet::new(),
            busy: BTreeMap::new(),
        })
    }

    /// Tells, until it is dropped.
    pub async fn run(mut self) {
        let mut timer = tokio::time::interval(EVERY);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ready = false;
        loop {
            timer.tick().await;
            let done = async {
                if !ready {
                    self.prepare().await?;
                    ready = true;
                }
                self.round().await
            };
            match done.await {
                Ok(()) => self.troubled = false,
                // Said once, not twice a second.
                Err(why) if !self.troubled => {
                    tracing::warn!(error = chain(&why), "nobody can be told at the moment");
                    self.troubled = true;
                }
                Err(_) => {}
            }
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Telling) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let telling = Arc::clone(&self.hub.telling);
        apart(move || work(telling.as_ref())).await
    }

    /// Each sink that is told what stands has one message for ever.
    async fn prepare(&self) -> Result<()> {
        for (sink, _) in self.sinks.values().filter(|(sink, _)| !sink.by_message()) {
            let now = (self.hub.clock)();
            let message = Message {
                id: format!("standing:{}", sink.name),
                sink: sink.name.clone(),
                grp: "standing".to_owned(),
                state: State::Standing,
                first: now,
                next: now,
                tries: 0,
                body: "{}".to_owned(),
                error: String::new(),
            };
            self.ask(move |telling| telling.ensure(&message)).await?;
        }
        Ok(())
    }

    async fn round(&mut self) -> Result<()> {
        let now = (self.hub.clock)();
        let spare = i64::try_from((self.cost * SPARE).as_millis()).unwrap_or(i64::MAX);
        let look = now.saturating_sub(self.looked) >= LOOK_MS.max(spare);
        if look {
            let began = Instant::now();
            let (view, times): (Arc<dyn View>, _) = (Arc::clone(&self.hub.view), self.hub.times());
            let hub = Arc::clone(&self.hub);
            let look = move || {
                hub.roll.refresh(&view, times.now)?;
                let broken = hub.watch.broken_now(view.as_ref(), &hub.roll, hub.registry.as_ref(), times)?;
                Fleet::look(view.as_ref(), &broken, times)
            };
            self.fleet = Arc::new(apart(look).await?);
            self.silences = self.ask(move |telling| telling.silences(now)).await?;
            (self.looked, self.cost) = (now, began.elapsed());
        }
        let sinks: Vec<Sink> = self.sinks.values().map(|(sink, _)| sink.clone()).collect();
        let fleet = Arc::clone(&self.fleet);
        self.ask(move |telling| sort(telling, &sinks, look.then_some(&fleet), now)).await?;
        self.send(now).await?;
        if now.saturating_sub(self.forgot) >= FORGET_MS {
            self.ask(move |telling| telling.forget(now - KEEP_MS)).await?;
            self.forgot = now;
        }
        Ok(())
    }

    async fn send(&mut self, now: i64) -> Result<()> {
        self.gather();
        let sinks: Vec<_> = self.sinks.values().cloned().collect();
        for (sink, client) in sinks {
            let free = AT_ONCE.saturating_sub(self.busy.get(&sink.name).copied().unwrap_or(0));
            if free == 0 {
                continue;
            }
            let name = vec![sink.name.clone()];
            for message in self.ask(move |telling| telling.claim(&name, now, now + LEASE_MS, free)).await? {
                *self.busy.entry(sink.name.clone()).or_default() += 1;
                let tried = self.try_once(sink.clone(), client.clone(), message);
                self.running.spawn(tried);
            }
        }
        Ok(())
    }

    /// Takes note of what was sent meanwhile.
    fn gather(&mut self) {
        while let Some(done) = self.running.try_join_next() {
            let Ok((sink, kept)) = done else { continue };
            if let Some(busy) = self.busy.get_mut(&sink) {
                *busy = busy.saturating_sub(1);
            }
            if let Err(why) = kept {
                // Its lease ends, and it is tried again.
                tracing::warn!(error = chain(&why), "how a message stands was not kept");
            }
        }
    }

    fn try_once(
        &self,
        sink: Sink,
        client: reqwest::Client,
        message: Message,
    ) -> impl Future<Output = (String, Result<()>)> + Send + 'static {
        let (fleet, silences) = (Arc::clone(&self.fleet), self.silences.clone());
        let (public_url, clock) = (self.public_url.clone(), Arc::clone(&self.hub.clock));
        let (telling, metrics) = (Arc::clone(&self.hub.telling), Arc::clone(&self.hub.metrics));
        async move {
            let stands = Stands { fleet: &fleet, silences: &silences, telling: &telling };
            let told = send::tell(&client, &sink, &message, &stands, public_url.as_deref(), clock());
            let tried = tokio::time::timeout(TRY, told).await.unwrap_or_else(|_| Tried::Again {
                after: None,
                why: "it took too long".to_owned(),
                memo: None,
            });
            let kept = keep(Arc::clone(&telling), &metrics, &sink, message, tried, &clock).await;
            (sink.name, kept)
        }
    }
}

/// Runs what blocks, away from the thread that serves everybody.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|why| {
        Err(StoreError::Sql { doing: "asking from a thread of its own", source: Box::new(why) })
    })
}

fn sort(telling: &dyn Telling, sinks: &[Sink], fleet: Option<&Arc<Fleet>>, now: i64) -> Result<()> {
    let found = fleet.map(|fleet| fleet.found());
    let over = |news: &News| fleet.and_then(|fleet| fleet.over(news));
    let mut id = || ca::random::<16>().map_or_else(|_| format!("at-{now}"), |bytes| hex(&bytes));
    telling.sort(now, NEWS, &mut |desk| route::sort(desk, sinks, now, (&found, &over), &mut id)).map(drop)
}

/// Keeps what a lent message has to remember before it is sent.
async fn note(telling: &Arc<dyn Telling>, message: &Message, body: &str, now: i64) -> Result<()> {
    let ahead = Message { body: body.to_owned(), next: now + LEASE_MS, ..message.clone() };
    let telling = Arc::clone(telling);
    apart(move || telling.settle(&ahead, ahead.tries)).await.map(drop)
}

/// Keeps what became of a try.
async fn keep(
    telling: Arc<dyn Telling>,
    metrics: &Metrics,
    sink: &Sink,
    message: Message,
    tried: Tried,
    clock: &Clock,
) -> Result<()> {
    let (now, count) = (clock(), message.tries);
    let result = match &tried {
        Tried::Taken(_) => "taken",
        Tried::Again { .. } => "not_taken",
    };
    let (settled, result) = settle(sink, message, tried, now, result);
    metrics.told(&sink.name, result);
    apart(move || telling.settle(&settled, count)).await.map(drop)
}

fn settle(
    sink: &Sink,
    mut message: Message,
    tried: Tried,
    now: i64,
    result: &'static str,
) -> (Message, &'static str) {
    let standing = message.state == State::Standing;
    match tried {
        Tried::Taken(memo) if standing => {
            let look = if matches!(sink.to, To::CommitStatus(_)) {
                commit_status::LOOK_MS
            } else {
                alertmanager::LOOK_MS
            };
            message.body = memo.unwrap_or(message.body);
            (message.next, message.tries) = (now + look, 0);
            message.error.clear();
        }
        Tried::Taken(_) => {
            message.state = State::Done;
            message.error.clear();
        }
        Tried::Again { after, why, memo } => {
            let random = ca::random::<8>().map_or(0, u64::from_le_bytes);
            let pause = backoff::pause(message.tries, after, random);
            let pause = if standing && after.is_none() { pause.min(STANDING_MOST_MS) } else { pause };
            tracing::warn!(sink = sink.name, id = message.id, tries = message.tries, error = why, "not told");
            message.body = memo.unwrap_or(message.body);
            message.next = now.saturating_add(pause);
            message.error = why;
            let give_up = i64::try_from(sink.give_up.as_millis()).unwrap_or(i64::MAX);
            if !standing && now.saturating_sub(message.first) >= give_up {
                message.state = State::Failed;
                return (message, "given_up");
            }
        }
    }
    (message, result)
}
