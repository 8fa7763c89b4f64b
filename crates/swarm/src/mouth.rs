//! One agent's voice: requests to the hub, and what its answers mean. It counts, and knows no clock but its own requests'.

use crate::agent::Agent;
use crate::drive::Swarm;
use crate::identity::Identity;
use crate::link::{Ask, Link, Reply};
use crate::tally::Tally;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most bytes of an answer that are read.
const ANSWER_CAP: usize = 64 * 1024;
/// The type of a batch.
const BATCH: &str = "application/cloudevents-batch+json";
/// How many reports are made before they are sent: what is shuffled.
const WINDOW: usize = 32;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Committed; whether a full report is wanted.
    Taken {
        /// Whether the hub asks for a full report.
        want_full: bool,
    },
    /// Not now; perhaps not before so long.
    Later(Option<Duration>),
    /// Never.
    Refused {
        /// The status.
        code: u16,
        /// The hub's word for it.
        word: String,
    },
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Receipt {
    duplicate: u64,
    refused: Vec<serde_json::Value>,
    want_full: Vec<String>,
    #[serde(rename = "type")]
    problem: String,
}

/// A connection and whom it speaks for.
pub struct Mouth {
    /// What all have in common.
    pub swarm: Arc<Swarm>,
    link: Link,
    identity: Option<Identity>,
    counted: u64,
}

impl Mouth {
    /// One that has said nothing.
    #[must_use]
    pub fn new(swarm: Arc<Swarm>) -> Self {
        let link = Link::new(swarm.target.clone());
        Self { swarm, link, identity: None, counted: 0 }
    }

    /// Sends events in an agent's name.
    pub async fn say<T: Serialize>(&mut self, index: u32, events: &[T]) -> Answer {
        self.introduce(index);
        let body = serde_json::to_vec(events).unwrap_or_default();
        let tally = Arc::clone(&self.swarm);
        let tally = &tally.tally;
        tally.bytes.fetch_add(body.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let began = Instant::now();
        let ask = Ask { path: "/v1/events", kind: Some(BATCH), body, cap: ANSWER_CAP };
        let answered = self.link.ask(self.identity.as_ref(), ask).await;
        let new = self.link.opened - std::mem::replace(&mut self.counted, self.link.opened);
        tally.connections.fetch_add(new, std::sync::atomic::Ordering::Relaxed);
        let Ok(reply) = answered else {
            Tally::one(&tally.unanswered);
            return Answer::Later(None);
        };
        let answer = self.understand(&reply, index);
        match &answer {
            Answer::Taken { .. } => {
                Tally::one(&tally.taken);
                tally.latency.add(began.elapsed());
            }
            Answer::Later(_) => Tally::one(&tally.later),
            // Who asked for it counts it.
            Answer::Refused { .. } => {}
        }
        answer
    }

    /// Over TLS the connection has to be this agent's.
    fn introduce(&mut self, index: u32) {
        let known = self.identity.as_ref().is_some_and(|identity| identity.index == index);
        if let Some(folder) = self.swarm.identities.as_ref().filter(|_| !known && self.swarm.target.secure())
        {
            self.identity = folder.load(index, &self.swarm.fleet.name(index));
        }
    }

    fn understand(&self, reply: &Reply, index: u32) -> Answer {
        let receipt: Receipt = serde_json::from_slice(&reply.body).unwrap_or_default();
        match reply.code {
            200 => {
                let tally = &self.swarm.tally;
                let add = |of: &std::sync::atomic::AtomicU64, count| {
                    of.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
                };
                add(&tally.duplicates, receipt.duplicate);
                add(&tally.refused, receipt.refused.len() as u64);
                let name = self.swarm.fleet.name(index);
                Answer::Taken { want_full: receipt.want_full.contains(&name) }
            }
            429 | 502 | 503 | 504 => Answer::Later(reply.after),
            code => {
                let word = receipt.problem.trim_start_matches("urn:evenkeel:problem:").to_owned();
                Answer::Refused { code, word }
            }
        }
    }

    /// Sends what waits, each batch as often and in what order the faults say. A batch counts when every copy of it was
    /// taken; until then all of them are sent again.
    ///
    /// # Errors
    /// When the hub does not take it now: when to come again, where it said so.
    pub async fn unload(&mut self, agent: &mut Agent) -> Result<(), Option<Duration>> {
        let mut wanted = false;
        while agent.made() > agent.acked {
            let (mut open, mut batches) = (agent.open.clone(), vec![vec![]]);
            let swarm = Arc::clone(&self.swarm);
            for (n, waiting) in agent.waiting().take(WINDOW) {
                if batches.last().is_some_and(|batch| batch.len() >= swarm.batch) {
                    batches.push(vec![]);
                }
                let event = swarm.fleet.report(agent.index, n, waiting, &mut open);
                if let Some(batch) = batches.last_mut() {
                    batch.push(event);
                }
            }
            let count = batches.iter().map(Vec::len).sum();
            let faults = swarm.fleet.faults;
            let mut order: Vec<_> = (0..faults.times.max(1)).flat_map(|_| &batches).collect();
            if faults.shuffle {
                fastrand::shuffle(&mut order);
            }
            for batch in order {
                wanted = self.take(agent.index, batch).await?;
            }
            agent.acknowledge(count, open);
            swarm.tally.reports.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
        }
        self.owe(agent, wanted);
        Ok(())
    }

    /// Sends one heartbeat; of a cloned agent a second one, as the other machine would.
    ///
    /// # Errors
    /// As [`Self::unload`].
    pub async fn beat(&mut self, agent: &mut Agent, now: i64) -> Result<(), Option<Duration>> {
        let swarm = Arc::clone(&self.swarm);
        let skew = swarm.fleet.skew_ms(agent.index);
        for twin in [false, true] {
            if twin && !swarm.fleet.cloned(agent.index) {
                continue;
            }
            let at = agent.next_beat(now.saturating_add(skew));
            let event = swarm.fleet.beat(agent, at, twin);
            let wanted = self.take(agent.index, &[event]).await?;
            Tally::one(&swarm.tally.beats);
            self.owe(agent, wanted);
        }
        Ok(())
    }

    /// Tells a lie in somebody else's name. The hub has to refuse it.
    pub async fn lie(&mut self, agent: &mut Agent, now: i64) {
        let swarm = Arc::clone(&self.swarm);
        let victim = (agent.index + 1) % swarm.agents.max(1);
        let at = agent.next_beat(now.saturating_add(swarm.fleet.skew_ms(agent.index)));
        match self.say(agent.index, &[swarm.fleet.lie(agent, victim, at)]).await {
            Answer::Refused { code: 403, word } if word == "forged_identity" => {
                Tally::one(&swarm.tally.lies_refused);
            }
            Answer::Later(_) => {}
            _ => Tally::one(&swarm.tally.lies_taken),
        }
    }

    /// A full report is made where one is wanted and none waits.
    fn owe(&self, agent: &mut Agent, wanted: bool) {
        if wanted && !agent.waiting().any(|(_, waiting)| waiting.full) {
            Tally::one(&self.swarm.tally.want_full);
            agent.spool(crate::agent::Waiting { at: crate::drive::now_ms(), full: true });
        }
    }

    /// Sends events that have to be taken; whether a full report is wanted.
    async fn take<T: Serialize>(&mut self, index: u32, events: &[T]) -> Result<bool, Option<Duration>> {
        match self.say(index, events).await {
            Answer::Taken { want_full } => Ok(want_full),
            Answer::Later(after) => Err(after),
            Answer::Refused { .. } => {
                Tally::one(&self.swarm.tally.refused);
                Err(None)
            }
        }
    }
}
