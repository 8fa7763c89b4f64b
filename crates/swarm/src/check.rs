//! The proof at the end: what every agent sent last is what the hub shows, every report is there, and none of them twice.
//!
//! Of every node the hub's row is compared with the agent: number, digest, gaps, flags. Of a sample the whole timeline is
//! read: every change that was told has exactly one entry, with the value that was told.

use crate::agent::Agent;
use crate::drive::{Group, Swarm};
use crate::link::{Ask, Link, LinkError};
use evenkeel_report::{Drift, Seq};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The most bytes of a page of the API.
const PAGE_CAP: usize = 64 << 20;
/// How many findings are told in words.
const TOLD: usize = 20;

/// Why the hub could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The network.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// An answer that is none.
    #[error("the hub answered {code} to {path}")]
    Answer {
        /// What was asked.
        path: String,
        /// The status.
        code: u16,
    },
    /// An answer that does not read.
    #[error("the hub's answer to {path} does not read")]
    Read {
        /// What was asked.
        path: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Nodes that were compared.
    pub nodes: u64,
    /// Reports that they have sent.
    pub reports: u64,
    /// Nodes whose whole timeline was read.
    pub timelines: u64,
    /// Changes in them that are as they were told.
    pub changes: u64,
    /// Reports or changes that the hub does not have.
    pub lost: u64,
    /// Changes that it has twice, or that nobody told.
    pub twice: u64,
    /// Nodes that it shows otherwise than they are.
    pub wrong: u64,
    /// The first of all these, in words.
    pub told: Vec<String>,
}

impl Verdict {
    /// Whether all is as it should be.
    #[must_use]
    pub fn good(&self) -> bool {
        self.lost == 0 && self.twice == 0 && self.wrong == 0
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.told.len() < TOLD {
            self.told.push(what());
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} nodes with {} reports, {} timelines with {} changes: {} lost, {} twice, {} wrong",
            self.nodes, self.reports, self.timelines, self.changes, self.lost, self.twice, self.wrong
        )?;
        self.told.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

#[derive(Deserialize)]
struct NodesPage {
    nodes: Vec<NodeRow>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct NodeRow {
    name: String,
    source: String,
    seq: Seq,
    state_digest: String,
    digest_ok: Option<bool>,
    missing_reports: u64,
    flags: Vec<String>,
}

#[derive(Deserialize)]
struct Timeline {
    changes: Vec<Entry>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    seq: Seq,
    item: Option<String>,
    status: String,
    #[serde(default)]
    drift: Vec<Drift>,
}

/// Asks the hub about every agent, and reads the timelines of `sample` of them.
///
/// # Errors
/// When it cannot be asked.
pub async fn check(swarm: &Swarm, groups: &[Group], sample: usize) -> Result<Verdict, CheckError> {
    let mut link = Link::new(swarm.target.clone());
    let mut left: BTreeMap<u32, &Agent> =
        groups.iter().flatten().filter(|agent| agent.made() > 0).map(|agent| (agent.index, agent)).collect();
    let step = (left.len() / sample.max(1)).max(1);
    let sampled: Vec<&Agent> = left.values().step_by(step).take(sample).copied().collect();
    let mut verdict = Verdict::default();
    let mut next = Some("/api/v1/nodes?limit=1000".to_owned());
    while let Some(path) = next {
        let page: NodesPage = ask(&mut link, &path).await?;
        for row in page.nodes {
            let Some(agent) = swarm.fleet.index(&row.name).and_then(|index| left.remove(&index)) else {
                continue;
            };
            compare(swarm, agent, &row, &mut verdict);
        }
        next = page.next;
    }
    for (index, agent) in left {
        verdict.lost += agent.acked;
        verdict.tell(|| format!("{}: the hub does not know it", swarm.fleet.name(index)));
    }
    for agent in sampled {
        timeline(swarm, agent, &mut link, &mut verdict).await?;
    }
    Ok(verdict)
}

async fn ask<T: serde::de::DeserializeOwned>(link: &mut Link, path: &str) -> Result<T, CheckError> {
    let reply = link.ask(None, Ask { path, kind: None, body: vec![], cap: PAGE_CAP }).await?;
    if reply.code != 200 {
        return Err(CheckError::Answer { path: path.to_owned(), code: reply.code });
    }
    serde_json::from_slice(&reply.body).map_err(|source| CheckError::Read { path: path.to_owned(), source })
}

fn compare(swarm: &Swarm, agent: &Agent, row: &NodeRow, verdict: &mut Verdict) {
    let fleet = &swarm.fleet;
    verdict.nodes += 1;
    verdict.reports += agent.acked;
    let unsent = agent.made() - agent.acked;
    let last = Seq { epoch: fleet.epoch, n: agent.made() };
    let digest = fleet.beat(agent, 0, false).data.state_digest;
    verdict.lost += row.missing_reports.max(unsent).max(last.n.saturating_sub(row.seq.n));
    let flag = |name: &str| row.flags.iter().any(|flag| flag == name);
    let as_it_is = [
        ("source", row.source == fleet.source(agent.index)),
        ("number", row.seq == last),
        ("digest", row.state_digest == digest && row.digest_ok == Some(true)),
        ("gap", !flag("gap") && row.missing_reports == 0),
        ("clone", flag("cloned_identity") == fleet.cloned(agent.index) || agent.last_beat == 0),
        ("clock", flag("clock_skew") == (fleet.skew_ms(agent.index) != 0) || agent.last_beat == 0),
        ("rewound", !flag("rewound")),
    ];
    let off: Vec<&str> = as_it_is.iter().filter(|(_, good)| !good).map(|(name, _)| *name).collect();
    if !off.is_empty() {
        verdict.wrong += 1;
        verdict.tell(|| {
            let is = format!("{}:{} {} {:?}", row.seq.epoch, row.seq.n, row.state_digest, row.flags);
            let name = &row.name;
            format!(
                "{name}: {} is another; the hub has {is}, the agent {}:{} {digest}",
                off.join(", "),
                last.epoch,
                last.n
            )
        });
    }
}

/// Every entry of this epoch against what the agent told.
async fn timeline(
    swarm: &Swarm,
    agent: &Agent,
    link: &mut Link,
    verdict: &mut Verdict,
) -> Result<(), CheckError> {
    let fleet = &swarm.fleet;
    let mut expected = expected(swarm, agent);
    let mut next = Some(format!("/api/v1/nodes/{}/timeline?limit=1000", fleet.name(agent.index)));
    verdict.timelines += 1;
    while let Some(path) = next {
        let page: Timeline = ask(link, &path).await?;
        for entry in page.changes {
            // The first report of a run puts right what the run before had left.
            let (Some(item), true) = (&entry.item, entry.seq.epoch == fleet.epoch && entry.seq.n > 1) else {
                continue;
            };
            let told = (item.clone(), entry.status.clone(), entry.drift.clone());
            if expected.remove(&entry.seq.n).is_some_and(|one| one == told) {
                verdict.changes += 1;
            } else {
                verdict.twice += 1;
                let name = fleet.name(agent.index);
                verdict.tell(|| {
                    format!("{name}: report {} has {item} {} once too often", entry.seq.n, entry.status)
                });
            }
        }
        next = page.next;
    }
    verdict.lost += expected.len() as u64;
    if let Some((n, (item, status, _))) = expected.first_key_value() {
        let name = fleet.name(agent.index);
        verdict.tell(|| {
            format!(
                "{name}: {} changes are not there, the first is report {n}, {item} {status}",
                expected.len()
            )
        });
    }
    Ok(())
}

/// What each report told: the item, its status, what was off.
fn expected(swarm: &Swarm, agent: &Agent) -> BTreeMap<u64, (String, String, Vec<Drift>)> {
    let (mut open, mut told) = (vec![], BTreeMap::new());
    for n in 1..=agent.acked {
        if agent.fulls.binary_search(&n).is_err() {
            let moved = swarm.fleet.step(agent.index, n, &mut open);
            let item = swarm.fleet.item_id(moved.item).to_owned();
            told.insert(n, (item, moved.status.word().to_owned(), moved.drift));
        }
    }
    told
}
