//! What `/metrics` tells of the fleet and of telling: what alert rules are made of. Looked up at each scrape, so that a
//! hub that looks well and knows nothing is told from one whose fleet is even.
//!
//! A tier is what nodes say: only plain names become labels, and only so many.

use crate::liveness::{self, HubTimes};
use crate::look::Look;
use crate::roll::{self, Tally as Roster};
use crate::slots::is_group;
use crate::store::Result;
use crate::store::registry::Registry as Members;
use crate::store::telling::{State, Tally};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::{family::Family, gauge::Gauge};
use prometheus_client::registry::{Registry, Unit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// The most tiers that are labels; the rest is `other`.
const TIERS: usize = 50;
/// The most open items whose age is looked at.
const OPEN: usize = 10_000;
/// How long it is believed which node's certificate ends first (ms).
const CERTIFICATES_MS: i64 = 300_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TierLabel {
    tier: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TierLiveness {
    tier: String,
    liveness: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TierStatus {
    tier: String,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkState {
    sink: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabel {
    sink: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLabel {
    of: &'static str,
}

/// The gauges.
#[derive(Debug, Default)]
pub struct Gauges {
    nodes: Family<TierLiveness, Gauge>,
    open: Family<TierStatus, Gauge>,
    refusing: Family<TierLabel, Gauge>,
    oldest: Family<TierLabel, Gauge>,
    store_up: Gauge,
    outbox: Family<SinkState, Gauge>,
    stuck: Family<SinkLabel, Gauge>,
    silences: Gauge,
    ends: Family<OfLabel, Gauge>,
    first_end: Mutex<Option<(i64, Option<i64>)>>,
}

/// What one scrape has looked up.
#[derive(Debug)]
pub struct Looked {
    /// How the fleet stands.
    pub fleet: Arc<Roster>,
    /// By tier, when what is open for longest began (unix ms).
    oldest: BTreeMap<Arc<str>, i64>,
    tallies: Vec<Tally>,
    silences: usize,
}

impl Looked {
    /// Looks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn look(look: &Look<'_>) -> Result<Self> {
        let mut oldest: BTreeMap<Arc<str>, i64> = BTreeMap::new();
        for (node, _, item) in look.view.open_items(OPEN)? {
            let line = look.roll.line(node).filter(|line| !line.retired);
            if let (Some(line), Some(since)) = (line, item.detail.since) {
                let first = oldest.entry(line.tier).or_insert(i64::MAX);
                *first = since.unix_ms().min(*first);
            }
        }
        Ok(Self {
            fleet: look.tally_now()?,
            oldest,
            tallies: look.telling.tallies()?,
            silences: look.telling.silences(look.times.now)?.len(),
        })
    }
}

impl Gauges {
    /// Makes them known.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("tier_nodes", "Nodes by tier and liveness", self.nodes.clone());
        let help = "Items that want somebody's eye, by tier and status";
        registry.register("tier_open_items", help, self.open.clone());
        let help = "Nodes that refuse the newest commit, by tier";
        registry.register("tier_refusing_nodes", help, self.refusing.clone());
        let help = "Age of the drift that is open for longest, by tier";
        registry.register_with_unit("tier_oldest_drift", help, Unit::Seconds, self.oldest.clone());
        let help = "Whether the store could be read for this scrape; where not, nothing is told of nodes";
        registry.register("store_up", help, self.store_up.clone());
        registry.register("outbox_messages", "Messages by sink and state", self.outbox.clone());
        let help = "Age of the oldest message that was tried and is not taken yet, by sink";
        registry.register_with_unit("outbox_stuck", help, Unit::Seconds, self.stuck.clone());
        registry.register("silences", "Silences and waivers that have not ended", self.silences.clone());
        let help = "When a certificate ends (unix time): the authority's, the hub's, the first of any node";
        registry.register_with_unit("certificate_end_timestamp", help, Unit::Seconds, self.ends.clone());
    }

    /// Sets them to what was looked up; nothing where the store could not be read.
    pub fn set(&self, looked: Option<&Looked>, hub: HubTimes) {
        self.nodes.clear();
        self.open.clear();
        self.refusing.clear();
        self.oldest.clear();
        self.outbox.clear();
        self.stuck.clear();
        self.store_up.set(i64::from(looked.is_some()));
        let Some(looked) = looked else { return };
        self.silences.set(i64::try_from(looked.silences).unwrap_or(i64::MAX));
        self.set_fleet(looked, hub);
        for tally in &looked.tallies {
            let sink = tally.sink.clone();
            let label = SinkState { sink: sink.clone(), state: tally.state.word() };
            self.outbox.get_or_create(&label).set(tally.count);
            if tally.state == State::Waiting {
                let stuck = if tally.tried > 0 { (hub.now - tally.oldest).max(0) / 1000 } else { 0 };
                self.stuck.get_or_create(&SinkLabel { sink }).set(stuck);
            }
        }
    }

    fn set_fleet(&self, looked: &Looked, hub: HubTimes) {
        let known: BTreeSet<&str> =
            looked.fleet.tiers.keys().map(|tier| &**tier).filter(|tier| is_group(tier)).take(TIERS).collect();
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        for (name, tally) in &looked.fleet.tiers {
            let tier = if known.contains(&**name) { (**name).to_owned() } else { "other".to_owned() };
            for (kind, nodes) in liveness::ALL.into_iter().zip(tally.liveness).filter(|(_, nodes)| *nodes > 0)
            {
                let label = TierLiveness { tier: tier.clone(), liveness: liveness::word(kind) };
                self.nodes.get_or_create(&label).inc_by(count(nodes));
            }
            for (status, items) in roll::OPEN.into_iter().zip(tally.open) {
                let label = TierStatus { tier: tier.clone(), status: status.word() };
                self.open.get_or_create(&label).inc_by(i64::try_from(items).unwrap_or(i64::MAX));
            }
            self.refusing.get_or_create(&TierLabel { tier: tier.clone() }).inc_by(count(tally.refusing));
            let age = looked.oldest.get(name).map_or(0, |since| (hub.now - since).max(0) / 1000);
            let oldest = self.oldest.get_or_create(&TierLabel { tier });
            oldest.set(age.max(oldest.get()));
        }
    }

    /// When the hub's own certificates end (unix ms).
    pub fn set_ends(&self, authority: i64, hub: i64) {
        self.ends.get_or_create(&OfLabel { of: "authority" }).set(authority.div_euclid(1000));
        self.ends.get_or_create(&OfLabel { of: "hub" }).set(hub.div_euclid(1000));
    }

    /// When the first certificate of a node ends that has no newer one and is not shut out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn look_at_members(&self, members: &dyn Members, now: i64) -> Result<()> {
        let mut cached = self.first_end.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if cached.is_none_or(|(at, _)| now.saturating_sub(at) >= CERTIFICATES_MS) {
            let mut last: BTreeMap<String, i64> = BTreeMap::new();
            for one in members.certificates()? {
                if one.newest && !one.banned && one.mark.is_none() {
                    let end = last.entry(one.name).or_default();
                    *end = one.until.max(*end);
                }
            }
            *cached = Some((now, last.into_values().min()));
        }
        if let Some((_, Some(end))) = *cached {
            self.ends.get_or_create(&OfLabel { of: "first_node" }).set(end.div_euclid(1000));
        }
        Ok(())
    }
}
