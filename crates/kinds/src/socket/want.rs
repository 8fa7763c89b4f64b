//! What a spec can say of the connections of a path; mostly nobody says it, and it follows from the path.

use evenkeel_core::{Complaint, DurationWord, Intent, Live, Net, ProbeWish, Promise, Side, Unkeepable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Which connections are meant, and what is promised for them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// Which end of them is on this node.
    pub side: Side,
    /// The port: the other end's for a client, this node's for a server.
    pub port: u16,
    /// Where the other end may be; anywhere where nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Net>,
    /// What is in between forgets a silent connection after this.
    pub idle_timeout: DurationWord,
    /// How long a request may hang on a connection that is dead.
    pub blackout_at_most: DurationWord,
    /// The section of `pg_service.conf` that clients name; told to the hub, which compares both ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// How many connections this node may open together; told to the hub, and not enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// What becomes of connections that break this.
    #[serde(default)]
    pub live: Live,
    /// How the path's memory is measured in the background, from the client's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeWish>,
}

/// The longest between two looks: what a slow timer does anyway.
const SLOWEST: Duration = Duration::from_mins(1);
/// The shortest: a look costs some milliseconds where there are thousands.
const FASTEST: Duration = Duration::from_secs(1);

impl Want {
    pub(super) fn intent(&self) -> Intent {
        let (idle_timeout, blackout_at_most) =
            (self.idle_timeout.duration(), self.blackout_at_most.duration());
        Intent { idle_timeout, blackout_at_most }
    }

    /// The path as this end knows it: what the hub holds both ends against.
    pub(super) fn facts(&self) -> BTreeMap<String, String> {
        let ms = |word: &DurationWord| word.duration().as_millis().to_string();
        let told = [
            ("idle_timeout_ms", Some(ms(&self.idle_timeout))),
            ("blackout_ms", Some(ms(&self.blackout_at_most))),
            ("port", Some(self.port.to_string())),
            ("service", self.service.clone()),
            ("connections", self.connections.map(|n| n.to_string())),
        ];
        told.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// The timers; `None` where none can keep it, which `check` has refused.
    pub(super) fn promise(&self) -> Option<Promise> {
        self.intent().promise().ok()
    }

    /// How often to look: five times before the path forgets, and thrice before a request has hung for too long.
    pub(super) fn pace(&self) -> Option<Duration> {
        let soon = (self.intent().idle_timeout / 5).min(self.intent().blackout_at_most / 3);
        (self.live != Live::Off).then(|| soon.clamp(FASTEST, SLOWEST))
    }
}

pub(super) fn check(want: &Want) -> Vec<Complaint> {
    let mut complaints = vec![];
    if want.port == 0 {
        complaints.push(Complaint::error(["port"], "0 is no port", "a number from 1 to 65535"));
    }
    if let Err(why) = want.intent().promise() {
        let field = match why {
            Unkeepable::IdleTimeout => "idle_timeout",
            Unkeepable::Blackout => "blackout_at_most",
        };
        let help = "keepalives are set in whole seconds, and timers fire up to an eighth late";
        complaints.push(Complaint::error([field], format!("{field}: {why}"), help));
    }
    complaints
}
