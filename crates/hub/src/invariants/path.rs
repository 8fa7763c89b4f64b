//! What both ends of a path have to keep: keepalives within what the router remembers, and room on the server for every
//! connection that the clients may open. From the facts that docs/report.md lists; the arithmetic is docs/path.md's.

use super::{Broken, Says};
use crate::roll::{Group, Named, Sheet};
use std::collections::BTreeMap;

/// Facts of `socket/PATH/SIDE`: the path as its end knows it.
const IDLE_TIMEOUT: &str = "idle_timeout_ms";
const BLACKOUT: &str = "blackout_ms";
const PORT: &str = "port";
const SERVICE: &str = "service";
/// Of a path's client end: how many connections the node may open. Of `postgresql/*`: how many are left for others than
/// superusers.
pub(super) const CONNECTIONS: &str = "connections";
/// Facts of the kernel's own keepalives, by item.
const KERNEL: &str = "kernel";
const KERNEL_ITEMS: [&str; 3] = [
    "sysctl/net.ipv4.tcp_keepalive_time",
    "sysctl/net.ipv4.tcp_keepalive_intvl",
    "sysctl/net.ipv4.tcp_keepalive_probes",
];
/// Facts of `postgresql/*` and of `pg_service/*`.
const DAEMON: [&str; 3] = ["tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"];
const LIBPQ: [&str; 3] = ["keepalives_idle", "keepalives_interval", "keepalives_count"];

/// Every fact that is read here.
pub(super) fn facts() -> impl Iterator<Item = &'static str> {
    [IDLE_TIMEOUT, BLACKOUT, PORT, SERVICE, CONNECTIONS, KERNEL].into_iter().chain(DAEMON).chain(LIBPQ)
}

/// One end of a path, on the nodes of a group.
struct End<'a> {
    path: &'a str,
    side: &'a str,
    facts: &'a Named,
}

fn ends(sheet: &Sheet) -> impl Iterator<Item = End<'_>> {
    sheet.items.iter().filter_map(|(item, facts)| {
        let (path, side) = item.strip_prefix("socket/")?.rsplit_once('/')?;
        ["client", "server"].contains(&side).then_some(End { path, side, facts })
    })
}

fn number(facts: &Named, name: &str) -> Option<u64> {
    facts.get(name)?.parse().ok()
}

/// Keepalives of one layer: seconds of silence until the first probe, between two, and how many.
struct Keepalive {
    layer: String,
    idle: u64,
    interval: u64,
    count: u64,
}

/// The kernel's, where the node keeps all three.
fn kernel(sheet: &Sheet) -> Option<Keepalive> {
    let of = |item: &str| number(sheet.items.get(item)?, KERNEL);
    let [idle, interval, count] = KERNEL_ITEMS.map(of);
    Some(Keepalive { layer: "the kernel".to_owned(), idle: idle?, interval: interval?, count: count? })
}

/// What connections of this end are opened with: a program's own settings over the kernel's.
fn layers(sheet: &Sheet, end: &End<'_>) -> Vec<Keepalive> {
    let below = kernel(sheet);
    let (kind, names) = if end.side == "server" { ("postgresql/", DAEMON) } else { ("pg_service/", LIBPQ) };
    let its = |item: &str, facts: &Named| match end.side {
        "server" => facts.get(PORT).is_none_or(|port| end.facts.get(PORT) == Some(port)),
        _ => end.facts.get(SERVICE).is_some_and(|service| item.strip_prefix(kind) == Some(service)),
    };
    let over = sheet.items.iter().filter(|(item, facts)| item.starts_with(kind) && its(item, facts));
    let layer = |(item, facts): (&String, &Named)| {
        let kernel = |of: fn(&Keepalive) -> u64| below.as_ref().map(of);
        // 0 leaves it to the kernel.
        let own = |at: usize| number(facts, names[at]).filter(|n| *n > 0);
        Some(Keepalive {
            layer: item.clone(),
            idle: own(0).or_else(|| kernel(|it| it.idle))?,
            interval: own(1).or_else(|| kernel(|it| it.interval))?,
            count: own(2).or_else(|| kernel(|it| it.count))?,
        })
    };
    let over: Vec<_> = over.filter_map(layer).collect();
    if over.is_empty() { below.into_iter().collect() } else { over }
}

/// A timer may come an eighth late.
fn late(seconds: u64) -> u64 {
    seconds.saturating_mul(1000).saturating_mul(9) / 8
}

fn seconds(ms: u64) -> String {
    if ms.is_multiple_of(1000) {
        format!("{} s", ms / 1000)
    } else {
        format!("{}.{} s", ms / 1000, ms % 1000 / 100)
    }
}

impl Keepalive {
    /// What of the path it breaks, in the words of `evenkeel explain`.
    fn breaks(&self, end: &End<'_>) -> Option<String> {
        let silence = late(self.idle.max(self.interval));
        let found = late(self.idle.saturating_add(self.interval.saturating_mul(self.count)));
        let told = format!(
            "{}: a probe after {} s of silence, {} of them {} s apart",
            self.layer, self.idle, self.count, self.interval
        );
        let forgets = number(end.facts, IDLE_TIMEOUT)?;
        if silence > forgets {
            return Some(format!(
                "{told}: silent for up to {}, and the path forgets after {}",
                seconds(silence),
                seconds(forgets)
            ));
        }
        let blackout = number(end.facts, BLACKOUT).filter(|blackout| found > *blackout)?;
        Some(format!(
            "{told}: a dead peer is given up after up to {}, and a request may hang for {}",
            seconds(found),
            seconds(blackout)
        ))
    }
}

/// Ends of paths whose keepalives come too late.
pub(super) fn keepalive(groups: &[Group]) -> Vec<Broken> {
    let mut broken: BTreeMap<(String, String), BTreeMap<String, Says>> = BTreeMap::new();
    for group in groups {
        for end in ends(&group.sheet) {
            for why in layers(&group.sheet, &end).iter().filter_map(|layer| layer.breaks(&end)) {
                let place = (group.tier.to_string(), format!("path {}, {} end", end.path, end.side));
                let says = broken.entry(place).or_default();
                says.entry(why.clone()).or_insert_with(|| Says::new(why)).add(group);
            }
        }
    }
    let put = |((tier, item), says): ((String, String), BTreeMap<String, Says>)| Broken {
        says: says.into_values().collect(),
        ..Broken::at(&tier, &item)
    };
    broken.into_iter().map(put).collect()
}

/// What the clients of a path may open together, and what its servers have room for.
#[derive(Default)]
struct Room {
    wanted: u64,
    clients: BTreeMap<u64, Says>,
    servers: BTreeMap<u64, Says>,
}

/// How many connections a server end takes on this path.
fn room(sheet: &Sheet, end: &End<'_>) -> Option<u64> {
    let servers = sheet.items.iter().filter(|(item, _)| item.starts_with("postgresql/"));
    let its =
        servers.filter(|(_, facts)| facts.get(PORT).is_none_or(|port| end.facts.get(PORT) == Some(port)));
    its.filter_map(|(_, facts)| number(facts, CONNECTIONS)).max()
}

/// Paths whose clients may open more connections together than a server of theirs has.
pub(super) fn connections(groups: &[Group]) -> Vec<Broken> {
    let mut paths: BTreeMap<&str, Room> = BTreeMap::new();
    for group in groups {
        for end in ends(&group.sheet) {
            let path = paths.entry(end.path).or_default();
            if end.side == "server" {
                let Some(room) = room(&group.sheet, &end) else { continue };
                let says = || Says::new(format!("room for {room} connections"));
                path.servers.entry(room).or_insert_with(says).add(group);
            } else if let Some(each) = number(end.facts, CONNECTIONS) {
                let nodes = u64::try_from(group.nodes).unwrap_or(u64::MAX);
                path.wanted = path.wanted.saturating_add(each.saturating_mul(nodes));
                path.clients.entry(each).or_insert_with(|| Says::new(String::new())).add(group);
            }
        }
    }
    paths.into_iter().filter_map(|(name, path)| path.broken(name)).collect()
}

impl Room {
    fn broken(self, name: &str) -> Option<Broken> {
        let wanted = self.wanted;
        let too_small: Vec<_> = self.servers.into_iter().filter(|(room, _)| *room < wanted).collect();
        too_small.first()?;
        let client = |(each, says): (u64, Says)| {
            let value = format!("up to {each} connections on each node, {wanted} on all together");
            Says { value, ..says }
        };
        let says = self.clients.into_iter().map(client).chain(too_small.into_iter().map(|(_, says)| says));
        Some(Broken { says: says.collect(), ..Broken::at("", &format!("path {name}")) })
    }
}
