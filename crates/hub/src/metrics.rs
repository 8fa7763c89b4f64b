//! What the hub tells of itself, for Prometheus. Labels come from closed lists, never from what a node sent.

use crate::gauges::{Gauges, Looked};
use crate::liveness::{self, HubTimes};
use crate::roll::OPEN;
use crate::who::Shut;
use crate::wire::Kind;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};
use prometheus_client::registry::{Registry, Unit};
use std::io::Read as _;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Stored.
    Accepted,
    /// Stored before.
    Duplicate,
    /// Of a type the hub does not know.
    Ignored,
    /// Not taken.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    r#type: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShutLabel {
    why: &'static str,
}

/// The sink's name is the configuration's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToldLabels {
    sink: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LivenessLabel {
    liveness: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

/// The counters and gauges.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: Family<EventLabels, Counter>,
    malformed: Counter,
    turned_away: Counter,
    shut: Family<ShutLabel, Counter>,
    not_let_in: Counter,
    too_many: Counter,
    queue: Gauge,
    /// How long a transaction took, from the first event to the disk (s).
    pub commit_seconds: Histogram,
    nodes: Family<LivenessLabel, Gauge>,
    open: Family<StatusLabel, Gauge>,
    rss: Gauge,
    told: Family<ToldLabels, Counter>,
    /// The fleet, and telling.
    pub gauges: Gauges,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("evenkeel_hub");
        let buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
        let it = Self {
            events: Family::default(),
            malformed: Counter::default(),
            turned_away: Counter::default(),
            shut: Family::default(),
            not_let_in: Counter::default(),
            too_many: Counter::default(),
            queue: Gauge::default(),
            commit_seconds: Histogram::new(buckets),
            nodes: Family::default(),
            open: Family::default(),
            rss: Gauge::default(),
            told: Family::default(),
            gauges: Gauges::default(),
            registry: Registry::default(),
        };
        registry.register("events", "Events by type and by what became of them", it.events.clone());
        registry.register("malformed_requests", "Requests that did not read", it.malformed.clone());
        registry.register("turned_away_requests", "Requests answered 503", it.turned_away.clone());
        let help = "Requests of nodes that were not listened to, by why";
        registry.register("shut_out_requests", help, it.shut.clone());
        registry.register("refused_enrolments", "Nodes that were not let in", it.not_let_in.clone());
        registry.register("rate_limited_requests", "Requests answered 429", it.too_many.clone());
        registry.register("queue_depth", "Requests that wait to be written", it.queue.clone());
        let help = "From the first event of a transaction to its commit";
        registry.register_with_unit("commit", help, Unit::Seconds, it.commit_seconds.clone());
        registry.register("nodes", "Nodes by liveness", it.nodes.clone());
        registry.register("open_items", "Items that want somebody's eye, by status", it.open.clone());
        registry.register(
            "told",
            "Tries to tell somebody, by sink and by what became of them",
            it.told.clone(),
        );
        registry.register_with_unit(
            "resident_memory",
            "Resident set of the hub",
            Unit::Bytes,
            it.rss.clone(),
        );
        it.gauges.register(&mut registry);
        Self { registry, ..it }
    }
}

impl Metrics {
    /// Counts one event.
    pub fn event(&self, kind: Kind, fate: Fate) {
        let r#type = match kind {
            Kind::Report => "report",
            Kind::Heartbeat => "heartbeat",
            Kind::Other => "other",
        };
        let result = match fate {
            Fate::Accepted => "accepted",
            Fate::Duplicate => "duplicate",
            Fate::Ignored => "ignored",
            Fate::Refused => "refused",
        };
        self.events.get_or_create(&EventLabels { r#type, result }).inc();
    }

    /// Counts a request that did not read.
    pub fn malformed(&self) {
        self.malformed.inc();
    }

    /// Counts a request that was asked to come again.
    pub fn turned_away(&self) {
        self.turned_away.inc();
    }

    /// Counts a request of a node that was not listened to.
    pub fn shut(&self, why: Shut) {
        self.shut.get_or_create(&ShutLabel { why: why.word() }).inc();
    }

    /// Counts a node that was not let in.
    pub fn not_let_in(&self) {
        self.not_let_in.inc();
    }

    /// Makes a sink known: a counter that begins with its first one is none that a rate sees.
    pub fn tells(&self, sink: &str) {
        for result in ["taken", "not_taken", "given_up"] {
            drop(self.told.get_or_create(&ToldLabels { sink: sink.to_owned(), result }));
        }
    }

    /// Counts a try to tell a sink.
    pub fn told(&self, sink: &str, result: &'static str) {
        self.told.get_or_create(&ToldLabels { sink: sink.to_owned(), result }).inc();
    }

    /// Counts a request that was one too many.
    pub fn too_many(&self) {
        self.too_many.inc();
    }

    /// Everything as text, with what was looked up as it stands now; nothing of nodes where the store could not be read.
    ///
    /// # Errors
    /// When the text cannot be written.
    pub fn render(
        &self,
        looked: Option<&Looked>,
        hub: HubTimes,
        depth: i64,
    ) -> Result<String, std::fmt::Error> {
        self.gauges.set(looked, hub);
        self.queue.set(depth);
        if let Some(bytes) = resident_bytes() {
            self.rss.set(bytes);
        }
        let all = looked.map(|looked| looked.fleet.all.clone()).unwrap_or_default();
        for (kind, count) in liveness::ALL.into_iter().zip(all.liveness) {
            let label = LivenessLabel { liveness: liveness::word(kind) };
            self.nodes.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (status, count) in OPEN.into_iter().zip(all.open) {
            let label = StatusLabel { status: status.word() };
            self.open.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// `VmRSS` of this process, which the kernel tells in KiB.
fn resident_bytes() -> Option<i64> {
    let mut text = String::new();
    std::fs::File::open("/proc/self/status").ok()?.take(16_384).read_to_string(&mut text).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok()?.checked_mul(1024)
}
