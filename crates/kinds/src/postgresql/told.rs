//! What of a server is told to the hub as facts, which compares it with other nodes: its keepalives, and how many
//! connections it has room for.

use evenkeel_core::{PgFacts, PgServer};
use std::collections::BTreeMap;

const KEEPALIVE: [&str; 3] = ["tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"];
const MOST: &str = "max_connections";
/// Connections that others than superusers and reserved roles do not get; the second is PostgreSQL 16's.
const RESERVED: [&str; 2] = ["superuser_reserved_connections", "reserved_connections"];

/// What is asked for it.
pub(super) const SETTINGS: [&str; 6] =
    [KEEPALIVE[0], KEEPALIVE[1], KEEPALIVE[2], MOST, RESERVED[0], RESERVED[1]];

/// The facts of a server that answered.
pub(super) fn facts(server: &PgServer, seen: &PgFacts) -> BTreeMap<String, String> {
    let value = |name: &str| seen.settings.get(name).map(|setting| setting.reset_val.clone());
    let number = |name: &str| value(name).and_then(|value| value.parse::<u64>().ok());
    let reserved = RESERVED.iter().filter_map(|name| number(name)).sum();
    let room = number(MOST).map(|most| most.saturating_sub(reserved).to_string());
    let told = KEEPALIVE.map(|name| (name, value(name)));
    let told = told.into_iter().chain([("connections", room), ("port", Some(server.port().to_string()))]);
    told.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
