//! What simulated agents are and what they say: names, roles, reports, heartbeats. No I/O and no clock.
//!
//! Everything that an agent ever tells follows from (seed, agent, number of the report), so that nothing has to be kept to
//! send it again or to prove later that the hub has it. An agent in memory is its last number and the few items that are off.

use crate::agent::{Agent, Open, Waiting};
use crate::parts::{even, pass_id, program, spec, tell, time};
use evenkeel_report::{
    Counts, Drift, Event, HEARTBEAT_V1, Heartbeat, Item, Layer, Mode, Node, Pass, REPORT_V1, Report, Scope,
    Seq, Spool, Status, Trigger, event_id, state_digest,
};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// The most items of one node that are off at once.
const OPEN_MOST: usize = 4;
/// How far a skewed clock is off (ms).
const SKEW_MS: i64 = 600_000;

/// Which part of the fleet misbehaves, from 0 to 1, and how.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// Of visits: the agent goes silent, and comes back with its spool.
    pub outages: f64,
    /// For how many intervals.
    pub outage_intervals: u32,
    /// Of agents: a second machine speaks with the same identity.
    pub clones: f64,
    /// Of agents: tells, now and then, something in another's name.
    pub liars: f64,
    /// Of agents: the clock is ten minutes off.
    pub skewed: f64,
    /// How often each batch is sent.
    pub times: u32,
    /// Whether batches are sent in random order.
    pub shuffle: bool,
}

/// What all simulated agents have in common.
#[derive(Debug)]
pub struct Fleet {
    /// What everything is derived from.
    pub seed: u64,
    /// How names begin.
    pub prefix: String,
    /// The tiers; agents take turns.
    pub tiers: Vec<String>,
    /// Seconds between two heartbeats, as they are told.
    pub interval_s: u64,
    /// The epoch of every agent: greater than that of any run before.
    pub epoch: u64,
    /// Who misbehaves.
    pub faults: Faults,
    even: Vec<Item>,
    even_digest: String,
}

/// What one report tells of the one item that moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Which item.
    pub item: u16,
    /// How it stands after the pass.
    pub status: Status,
    /// What was, or is, off.
    pub drift: Vec<Drift>,
}

impl Fleet {
    /// A fleet whose nodes have `items` items each.
    #[must_use]
    pub fn new(seed: u64, prefix: &str, tiers: Vec<String>, items: u16, interval_s: u64, epoch: u64) -> Self {
        let even: Vec<Item> = (0..items.max(1)).map(even).collect();
        let even_digest = state_digest(&even);
        let faults = Faults { times: 1, outage_intervals: 2, ..Faults::default() };
        let tiers = if tiers.is_empty() { vec!["middleware".to_owned()] } else { tiers };
        Self { seed, prefix: prefix.to_owned(), tiers, interval_s, epoch, faults, even, even_digest }
    }

    /// The name of an agent.
    #[must_use]
    pub fn name(&self, index: u32) -> String {
        format!("{}{index:06}", self.prefix)
    }

    /// The agent of a name, where it is one of ours.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<u32> {
        name.strip_prefix(&self.prefix).filter(|digits| digits.len() >= 6)?.parse().ok()
    }

    /// The source that an agent speaks as: of one name always the same.
    #[must_use]
    pub fn source(&self, index: u32) -> String {
        let hash = Sha256::digest(self.name(index));
        let mut text = "urn:uuid:".to_owned();
        for (at, byte) in hash.iter().take(16).enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Whether a second machine speaks with this agent's identity.
    #[must_use]
    pub fn cloned(&self, index: u32) -> bool {
        self.draw(index, 0, 1).f64() < self.faults.clones
    }

    /// Whether this agent tells things in others' names.
    #[must_use]
    pub fn lies(&self, index: u32) -> bool {
        self.draw(index, 0, 2).f64() < self.faults.liars
    }

    /// How far this agent's clock is ahead (ms).
    #[must_use]
    pub fn skew_ms(&self, index: u32) -> i64 {
        let mut draw = self.draw(index, 0, 3);
        if draw.f64() >= self.faults.skewed {
            0
        } else if draw.bool() {
            SKEW_MS
        } else {
            -SKEW_MS
        }
    }

    /// Numbers that look random, and are the same whenever they are asked for.
    fn draw(&self, index: u32, n: u64, of: u64) -> fastrand::Rng {
        let mut seed = self.seed ^ 0x9e37_79b9_7f4a_7c15;
        for word in [u64::from(index), n, of] {
            seed = (seed ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            seed ^= seed >> 29;
        }
        fastrand::Rng::with_seed(seed)
    }

    /// What report `n` tells, and how that leaves the items that are off.
    #[must_use]
    pub fn step(&self, index: u32, n: u64, open: &mut Vec<Open>) -> Moved {
        let mut draw = self.draw(index, n, 4);
        if !open.is_empty() && draw.bool() {
            let healed = open.swap_remove(draw.usize(..open.len()));
            let drift = self.drift(index, healed.n);
            return Moved { item: healed.item, status: Status::Repaired, drift };
        }
        let count = u16::try_from(self.even.len()).unwrap_or(u16::MAX);
        let mut item = draw.u16(..count);
        while open.iter().any(|one| one.item == item) && open.len() < usize::from(count) {
            item = (item + 1) % count;
        }
        let stays = draw.u8(..8) == 0 && open.len() < OPEN_MOST.min(usize::from(count));
        if stays {
            open.push(Open { item, n });
        }
        let status = if stays { Status::NonCompliant } else { Status::Repaired };
        Moved { item, status, drift: self.drift(index, n) }
    }

    /// What was off in report `n`: one item, in four layers.
    fn drift(&self, index: u32, n: u64) -> Vec<Drift> {
        let observed = self.draw(index, n, 5).u32(61..4_000_000).to_string();
        let file = Layer::File("/etc/sysctl.d/99-evenkeel.conf".into());
        let one = |layer| Drift {
            attr: "value".to_owned(),
            layer,
            observed: Some(observed.clone()),
            desired: "60".to_owned(),
        };
        [Layer::Kernel, file, Layer::Daemon, Layer::Socket].map(one).into()
    }

    /// The items as they stand where `open` are off.
    #[must_use]
    pub fn items(&self, index: u32, open: &[Open]) -> Vec<Item> {
        let mut items = self.even.clone();
        for one in open {
            if let Some(item) = items.get_mut(usize::from(one.item)) {
                item.status = Status::NonCompliant;
                item.drift = self.drift(index, one.n);
            }
        }
        items
    }

    /// The digest over them.
    #[must_use]
    pub fn digest(&self, index: u32, open: &[Open]) -> String {
        if open.is_empty() { self.even_digest.clone() } else { state_digest(&self.items(index, open)) }
    }

    /// The id of an item.
    #[must_use]
    pub fn item_id(&self, item: u16) -> &str {
        self.even.get(usize::from(item)).map_or("", |item| &item.id)
    }

    fn counts(&self, open: &[Open], repaired: u32) -> Counts {
        let all = u32::try_from(self.even.len()).unwrap_or(u32::MAX);
        let off = u32::try_from(open.len()).unwrap_or(u32::MAX);
        Counts { compliant: all - off - repaired, repaired, non_compliant: off, ..Counts::default() }
    }

    fn node(&self, index: u32) -> Node {
        let tier = self.tiers.get(index as usize % self.tiers.len()).cloned().unwrap_or_default();
        let boot_id = format!("5f3c1b9a-0000-4000-8000-{index:012x}");
        Node { name: self.name(index), tier, boot_id, ..Node::default() }
    }

    /// Report `n` of an agent, made at `waiting.at`; `open` becomes what is off after it.
    #[must_use]
    pub fn report(&self, index: u32, n: u64, waiting: Waiting, open: &mut Vec<Open>) -> Event<Report> {
        let at = time(waiting.at.saturating_add(self.skew_ms(index)));
        let (scope, items, repaired, trigger) = if waiting.full {
            (Scope::Full, self.items(index, open), 0, Trigger::Interval)
        } else {
            let moved = self.step(index, n, open);
            let repaired = u32::from(moved.status == Status::Repaired);
            (Scope::Changes, vec![tell(moved, at)], repaired, Trigger::Drift)
        };
        let seq = Seq { epoch: self.epoch, n };
        let data = Report {
            node: self.node(index),
            agent: program(),
            seq,
            pass: Pass { id: pass_id(index, n), trigger, mode: Mode::Enforce, duration_ms: 3 },
            spec: spec(),
            scope,
            counts: self.counts(open, repaired),
            state_digest: self.digest(index, open),
            items,
            gone: vec![],
            truncated: false,
        };
        Event::new(REPORT_V1, &self.source(index), event_id(seq), &self.name(index), at, data)
    }

    /// A heartbeat of an agent at `at` (unix ms, its own clock). A `twin` is another machine with the same identity.
    #[must_use]
    pub fn beat(&self, agent: &Agent, at: i64, twin: bool) -> Event<Heartbeat> {
        let mut open = agent.open.clone();
        for (n, waiting) in agent.waiting() {
            if !waiting.full {
                let _ = self.step(agent.index, n, &mut open);
            }
        }
        let mut node = self.node(agent.index);
        if twin {
            node.boot_id.push_str("-twin");
        }
        let data = Heartbeat {
            node,
            agent: program(),
            seq: Seq { epoch: self.epoch, n: agent.made() },
            interval_s: self.interval_s,
            spec: spec(),
            counts: self.counts(&open, 0),
            state_digest: self.digest(agent.index, &open),
            spool: Spool { waiting: agent.made() - agent.acked, dropped: 0 },
            last_pass_age_s: Some(0),
        };
        let name = self.name(agent.index);
        Event::new(HEARTBEAT_V1, &self.source(agent.index), format!("hb:{at}"), &name, time(at), data)
    }

    /// A heartbeat that `agent` sends in the name of `victim`.
    #[must_use]
    pub fn lie(&self, agent: &Agent, victim: u32, at: i64) -> Event<Heartbeat> {
        let mut event = self.beat(agent, at, false);
        event.subject = self.name(victim);
        event.data.node.name.clone_from(&event.subject);
        "sha256:0".clone_into(&mut event.data.state_digest);
        event
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::Fleet;
    use crate::agent::{Agent, Waiting};
    use evenkeel_report::{Status, state_digest};
    use std::collections::BTreeMap;

    fn fleet() -> Fleet {
        Fleet::new(7, "sw", vec![], 40, 60, 1)
    }

    #[test]
    fn a_report_with_four_drifts_has_about_fourteen_hundred_bytes() {
        let mut open = vec![];
        for n in 1..50 {
            let event = fleet().report(3, n, Waiting { at: 1_795_395_723_000, full: false }, &mut open);
            let bytes = serde_json::to_vec(&[&event]).unwrap().len();
            assert_eq!(event.data.items[0].drift.len(), 4);
            assert!((1_200..1_500).contains(&bytes), "{bytes}");
        }
    }

    #[test]
    fn what_is_told_follows_from_seed_agent_and_number_alone() {
        let tell = |seed, index| {
            let fleet = Fleet::new(seed, "sw", vec![], 40, 60, 1);
            let mut open = vec![];
            let tell = |n| fleet.report(index, n, Waiting { at: 0, full: false }, &mut open);
            (1..20).map(tell).collect::<Vec<_>>()
        };
        assert_eq!(tell(7, 3), tell(7, 3));
        assert_ne!(tell(7, 3)[0].data.items, tell(8, 3)[0].data.items);
        assert_ne!(tell(7, 3)[0].data.items, tell(7, 4)[0].data.items);
    }

    #[test]
    fn the_digest_is_that_of_the_items_as_the_reports_left_them() {
        let (fleet, mut open) = (fleet(), vec![]);
        let mut kept: BTreeMap<String, _> = BTreeMap::new();
        let mut off = 0;
        for n in 1..400 {
            let full = n == 1 || n == 200;
            let event = fleet.report(3, n, Waiting { at: 0, full }, &mut open);
            for item in event.data.items {
                let _ = kept.insert(item.id.clone(), item);
            }
            assert_eq!(event.data.state_digest, state_digest(kept.values()), "report {n}");
            let items = kept.values().filter(|item| item.status == Status::NonCompliant).count();
            assert_eq!(usize::try_from(event.data.counts.non_compliant).unwrap(), items);
            assert_eq!(event.data.counts.total(), 40);
            off = off.max(open.len());
        }
        assert!(off >= 2, "items do go off and stay so");
    }

    #[test]
    fn a_heartbeat_tells_what_waits_and_how_the_node_stands_after_it() {
        let (fleet, mut agent) = (fleet(), Agent::new(3));
        for n in 0..30 {
            agent.spool(Waiting { at: 0, full: n == 0 });
        }
        let beat = fleet.beat(&agent, 5, false);
        assert_eq!((beat.data.seq.n, beat.data.spool.waiting), (30, 30));
        let mut open = vec![];
        let last = (1..=30).map(|n| fleet.report(3, n, Waiting { at: 0, full: n == 1 }, &mut open)).last();
        assert_eq!(beat.data.state_digest, last.unwrap().data.state_digest);
    }

    #[test]
    fn names_are_read_back_and_others_are_nobodys() {
        let fleet = fleet();
        assert_eq!(fleet.index(&fleet.name(1_234_567)), Some(1_234_567));
        assert_eq!(fleet.index(&fleet.name(3)), Some(3));
        assert_eq!((fleet.index("mw1"), fleet.index("sw3"), fleet.index("swx00003")), (None, None, None));
        assert_eq!(fleet.source(3).len(), "urn:uuid:".len() + 36);
        assert_ne!(fleet.source(3), fleet.source(4));
    }
}
