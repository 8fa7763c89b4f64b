//! As fast as the hub acknowledges: every connection sends the next event when the last one is answered.

use crate::agent::{Agent, Waiting};
use crate::drive::{Group, Swarm, now_ms};
use crate::mouth::Mouth;
use crate::tally::Tally;
use crate::usage;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How long to wait where the hub says "later" and no more.
const PAUSE: Duration = Duration::from_millis(20);

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Reports of one item with four drifts.
    Reports(u64),
    /// Heartbeats.
    Beats(u64),
}

impl What {
    fn count(self) -> u64 {
        match self {
            Self::Reports(count) | Self::Beats(count) => count,
        }
    }
}

/// Whose CPU time is told.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// The hub.
    pub hub: Option<u32>,
    /// PostgreSQL's first process; its children are counted with it.
    pub postgres: Vec<u32>,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// `reports` or `heartbeats`.
    pub what: &'static str,
    /// How many were acknowledged.
    pub count: u64,
    /// In how long (s).
    pub seconds: f64,
    /// How many a second.
    pub per_second: f64,
    /// Half of the answers came within this (ms).
    pub p50_ms: f64,
    /// 99 of a hundred did (ms).
    pub p99_ms: f64,
    /// All of them did (ms).
    pub worst_ms: f64,
    /// Bytes of each, before compression.
    pub bytes_each: u64,
    /// CPU time of this program for each (µs).
    pub cpu_swarm_us: f64,
    /// Of the hub.
    pub cpu_hub_us: Option<f64>,
    /// Of PostgreSQL.
    pub cpu_postgres_us: Option<f64>,
    /// Resident memory of the hub afterwards (bytes).
    pub hub_resident: Option<u64>,
    /// Requests that were to come again, or had no answer.
    pub again: u64,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} {} in {:.1} s: {:.0}/s, p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms, {} bytes each, {} again",
            self.count,
            self.what,
            self.seconds,
            self.per_second,
            self.p50_ms,
            self.p99_ms,
            self.worst_ms,
            self.bytes_each,
            self.again
        )?;
        write!(f, "CPU for each: swarm {:.0} µs", self.cpu_swarm_us)?;
        if let Some(us) = self.cpu_hub_us {
            write!(f, ", hub {us:.0} µs")?;
        }
        if let Some(us) = self.cpu_postgres_us {
            write!(f, ", PostgreSQL {us:.0} µs")?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        if let Some(bytes) = self.hub_resident {
            write!(f, "; hub resident {:.1} MB", bytes as f64 / 1e6)?;
        }
        Ok(())
    }
}

/// CPU time so far (ms): here, of the hub, of PostgreSQL.
fn used(watched: &Watched) -> [u64; 3] {
    let hub: Vec<u32> = watched.hub.into_iter().collect();
    [usage::own_cpu_ms(), usage::cpu_ms(&hub), usage::cpu_ms(&watched.postgres)]
}

impl Swarm {
    /// Has every agent known to the hub by a first full report, as fast as it goes.
    pub async fn introduce(self: &Arc<Self>, groups: Vec<Group>) -> Vec<Group> {
        self.each(groups, |swarm, mut group| async move {
            let mut mouth = Mouth::new(swarm);
            for agent in group.iter_mut().filter(|agent| agent.made() == 0) {
                agent.spool(Waiting { at: now_ms(), full: true });
                unload(&mut mouth, agent).await;
            }
            group
        })
        .await
    }

    /// Sends `what`, `stay` events over a connection before the next agent has its turn.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub async fn flood(
        self: &Arc<Self>,
        groups: Vec<Group>,
        what: What,
        stay: u32,
        watched: &Watched,
    ) -> (Vec<Group>, Figures) {
        let left = Arc::new(AtomicI64::new(i64::try_from(what.count()).unwrap_or(i64::MAX)));
        let (before, bytes) = (used(watched), Tally::get(&self.tally.bytes));
        let began = Instant::now();
        let groups = self
            .each(groups, |swarm, group| {
                let left = Arc::clone(&left);
                async move { send(swarm, group, what, stay.max(1), &left).await }
            })
            .await;
        let seconds = began.elapsed().as_secs_f64();
        let after = used(watched);
        let count = what.count();
        let each = |at: usize| {
            let [was, is] = [before, after].map(|used| used.get(at).copied().unwrap_or_default());
            is.saturating_sub(was) as f64 * 1000.0 / count.max(1) as f64
        };
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let tally = &self.tally;
        let figures = Figures {
            what: if matches!(what, What::Reports(_)) { "reports" } else { "heartbeats" },
            count,
            seconds,
            per_second: count as f64 / seconds,
            p50_ms: ms(tally.latency.within(0.5)),
            p99_ms: ms(tally.latency.within(0.99)),
            worst_ms: ms(tally.latency.worst()),
            bytes_each: (Tally::get(&tally.bytes) - bytes) / count.max(1),
            cpu_swarm_us: each(0),
            cpu_hub_us: watched.hub.map(|_| each(1)),
            cpu_postgres_us: (!watched.postgres.is_empty()).then(|| each(2)),
            hub_resident: watched.hub.and_then(usage::resident),
            again: Tally::get(&tally.later) + Tally::get(&tally.unanswered),
        };
        (groups, figures)
    }
}

async fn send(swarm: Arc<Swarm>, mut group: Group, what: What, stay: u32, left: &AtomicI64) -> Group {
    let mut mouth = Mouth::new(swarm);
    let mut at = 0;
    'all: while !group.is_empty() {
        let turn = at % group.len();
        let Some(agent) = group.get_mut(turn) else { break };
        for _ in 0..stay {
            if left.fetch_sub(1, Ordering::Relaxed) <= 0 {
                break 'all;
            }
            match what {
                What::Reports(_) => {
                    agent.spool(Waiting { at: now_ms(), full: false });
                    unload(&mut mouth, agent).await;
                }
                What::Beats(_) => beat(&mut mouth, agent).await,
            }
        }
        at += 1;
    }
    group
}

/// Until it is taken.
async fn unload(mouth: &mut Mouth, agent: &mut Agent) {
    while let Err(after) = mouth.unload(agent).await {
        tokio::time::sleep(after.unwrap_or(PAUSE)).await;
    }
}

async fn beat(mouth: &mut Mouth, agent: &mut Agent) {
    while let Err(after) = mouth.beat(agent, now_ms()).await {
        tokio::time::sleep(after.unwrap_or(PAUSE)).await;
    }
}
