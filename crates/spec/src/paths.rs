//! The paths of `fleet.yaml`: what lies between two tiers, what may be expected of it, and whether that can be kept.

use crate::ledger::Ledger;
use crate::select::Selector;
use crate::shape;
use crate::show;
use crate::tree::{Data, Map, Node, Place};
use evenkeel_core::{
    DurationWord, Intent, Live, Net, Origin, PathEnd, ProbeWish, Promise, Protocol, Side, Unkeepable,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// PostgreSQL's own port: a path that leads to it speaks its protocol, unless it says otherwise.
const POSTGRESQL: u16 = 5432;
/// What a path may say.
const KEYS: [&str; 10] = [
    "from",
    "to",
    "idle_timeout",
    "blackout_at_most",
    "live",
    "protocol",
    "service",
    "connections",
    "probe",
    "request_timeouts",
];
/// The most probes of a path in a day: each holds connections open for as long as the path may be silent.
const PROBE_AT_LEAST: Duration = Duration::from_mins(10);

/// The most connections of one node: what `max_connections` of PostgreSQL ends at.
const MOST_CONNECTIONS: u64 = 262_143;

/// A network path between two tiers, and what may be expected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Where connections come from.
    pub from: End,
    /// Where they go to; its port is always there.
    pub to: End,
    /// What is in between forgets a silent connection after this.
    pub idle_timeout: DurationWord,
    /// How long a request may hang on a connection that is already dead.
    pub blackout_at_most: DurationWord,
    /// The timers that keep both.
    pub promise: Promise,
    /// What is to become of connections that are open already.
    pub live: Live,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The section of `pg_service.conf` that its clients have.
    pub service: Option<String>,
    /// How many connections each node of `from` may open together.
    pub connections: Option<u32>,
    /// How often its memory is measured.
    pub probe: Option<ProbeWish>,
    /// Where it is said, and where its two times are.
    pub(crate) at: Origin,
    pub(crate) idle_timeout_at: Origin,
    pub(crate) blackout_at: Origin,
}

/// One end of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The tier; `None` for what no node of the fleet is, as a managed database.
    pub tier: Option<String>,
    /// The TCP port.
    pub port: Option<u16>,
    /// Where that end may be; empty for anywhere.
    pub addresses: Vec<Net>,
}

impl Path {
    /// The ends of this path that a node of a tier has: none, one, or both.
    pub(crate) fn ends(&self, name: &str, tier: &str) -> Vec<PathEnd> {
        let on = |end: &End| end.tier.as_deref() == Some(tier);
        let sides = [(Side::Client, &self.from, &self.to), (Side::Server, &self.to, &self.from)];
        let mine = sides.into_iter().filter(|(_, own, _)| on(own));
        mine.map(|(side, _, other)| PathEnd {
            name: name.to_owned(),
            side,
            port: self.to.port.unwrap_or_default(),
            protocol: self.protocol,
            peers: other.addresses.clone(),
            idle_timeout: self.idle_timeout.clone(),
            blackout_at_most: self.blackout_at_most.clone(),
            promise: self.promise,
            live: self.live,
            service: self.service.clone(),
            connections: self.connections,
            probe: self.probe.clone(),
            at: self.at.clone(),
            idle_timeout_at: self.idle_timeout_at.clone(),
            blackout_at: self.blackout_at.clone(),
        })
        .collect()
    }
}

/// Read the section. What could be understood comes back even where something else is wrong.
pub(crate) fn read(node: &Node, selectors: &[Selector], ledger: &mut Ledger) -> BTreeMap<String, Path> {
    let help =
        "write a map: the path's name, and below it `from`, `to`, `idle_timeout` and `blackout_at_most`";
    let Some(map) = shape::map(node, "`paths`", help, ledger) else {
        return BTreeMap::new();
    };
    let mut paths = BTreeMap::new();
    for entry in &map.entries {
        let what = format!("path {}", show::quoted(&entry.key));
        shape::check_name(&entry.key, "a path", &entry.at, ledger);
        let help = "it says `from`, `to`, `idle_timeout` and `blackout_at_most`";
        let Some(map) = shape::map(&entry.node, &what, help, ledger) else {
            continue;
        };
        let reader = Reader { name: &entry.key, what: &what, at: &entry.at, map, selectors };
        paths.extend(reader.path(ledger).map(|path| (entry.key.clone(), path)));
    }
    paths
}

struct Reader<'a> {
    name: &'a str,
    what: &'a str,
    at: &'a Place,
    map: &'a Map,
    selectors: &'a [Selector],
}

impl Reader<'_> {
    fn path(&self, ledger: &mut Ledger) -> Option<Path> {
        shape::only(self.map, &KEYS, "in a path", ledger);
        let (from, to) = (self.end("from", ledger), self.end("to", ledger));
        let idle = self.time("idle_timeout", "350s", ledger);
        let blackout = self.time("blackout_at_most", "60s", ledger);
        let lives = [Live::Report, Live::Retune, Live::Free, Live::Off].map(|live| (live.word(), live));
        let live = self.choice("live", &lives, Live::Report, ledger);
        let probe = self.probe(ledger);
        let (from, to, (idle_timeout, idle_at), (blackout_at_most, blackout_at)) =
            (from?, to?, idle?, blackout?);
        if from.tier.is_none() && to.tier.is_none() {
            let message = format!("{} has no end in this fleet", self.what);
            ledger.error("unknown-tier", self.at, message, "name the tier of at least one end");
            return None;
        }
        let usual = if to.port == Some(POSTGRESQL) { Protocol::Postgresql } else { Protocol::Tcp };
        let words = [("postgresql", Protocol::Postgresql), ("tcp", Protocol::Tcp)];
        let protocol = self.choice("protocol", &words, usual, ledger)?;
        if probe.as_ref().is_some_and(|wish| wish.user.is_none()) && protocol == Protocol::Postgresql {
            let message = format!(
                "{}: PostgreSQL sends keepalives of its own, so without a login nothing is measured here; the open \
                 connections alone tell whether the path forgets them",
                self.what
            );
            ledger.warning(
                "path",
                self.at,
                message,
                "say whom to log in as: `probe: {every: daily, user: monitor}`",
            );
        }
        let service = self.service(protocol, ledger);
        let connections = self.connections(ledger);
        let intent =
            Intent { idle_timeout: idle_timeout.duration(), blackout_at_most: blackout_at_most.duration() };
        let promise = self.promise(&intent, &idle_at, &blackout_at, ledger)?;
        self.request_timeouts(&blackout_at_most, &blackout_at, ledger);
        let (at, idle_timeout_at, blackout_at) = (self.at.origin(), idle_at.origin(), blackout_at.origin());
        Some(Path {
            from,
            to,
            idle_timeout,
            blackout_at_most,
            promise,
            live: live?,
            protocol,
            service,
            connections,
            probe,
            at,
            idle_timeout_at,
            blackout_at,
        })
    }

    /// One of a few words, or what is usual where nothing is said.
    fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)], usual: T, ledger: &mut Ledger) -> Option<T> {
        match self.map.get(key) {
            Some(entry) => shape::choice(&entry.node, &format!("`{key}`"), words, ledger),
            None => Some(usual),
        }
    }

    fn time(&self, key: &str, example: &str, ledger: &mut Ledger) -> Option<(DurationWord, Place)> {
        let help = format!("write `{key}: {example}`");
        let node = shape::needed(self.map, key, self.at, self.what, &help, ledger)?;
        let word = duration(node, key, example, ledger)?;
        Some((word, node.place.clone()))
    }

    fn promise(
        &self,
        intent: &Intent,
        idle: &Place,
        blackout: &Place,
        ledger: &mut Ledger,
    ) -> Option<Promise> {
        let (key, at, why) = match intent.promise() {
            Ok(promise) => {
                if promise.keepalive_probes < 3 {
                    let message = format!(
                        "{}: in so short a time only {} keepalive {} can go unanswered before a connection is given up, so \
                         {} lost packets end it",
                        self.what,
                        promise.keepalive_probes,
                        if promise.keepalive_probes == 1 { "probe" } else { "probes" },
                        promise.keepalive_probes
                    );
                    let help = "from 5s on it is three";
                    ledger.warning("range", blackout, message, help);
                }
                return Some(promise);
            }
            Err(why @ Unkeepable::IdleTimeout) => ("idle_timeout", idle, why),
            Err(why @ Unkeepable::Blackout) => ("blackout_at_most", blackout, why),
        };
        let help = "keepalives are set in whole seconds, and timers fire up to an eighth late";
        ledger.error("range", at, format!("{}: `{key}`: {why}", self.what), help);
        None
    }

    /// The section that clients name: `service: eden`; the path's own name where nothing is said.
    fn service(&self, protocol: Protocol, ledger: &mut Ledger) -> Option<String> {
        let Some(entry) = self.map.get("service") else {
            return (protocol == Protocol::Postgresql).then(|| self.name.to_owned());
        };
        if protocol != Protocol::Postgresql {
            let help = "say `protocol: postgresql`, or leave it out";
            let message = format!("{}: a `service` is for clients of PostgreSQL", self.what);
            ledger.error("range", &entry.at, message, help);
            return None;
        }
        if matches!(entry.node.data, Data::Scalar(serde_json::Value::Bool(false))) {
            return None;
        }
        shape::name(&entry.node, "a service", ledger).map(str::to_owned)
    }

    /// How large the pools of one node are, all together.
    fn connections(&self, ledger: &mut Ledger) -> Option<u32> {
        let node = &self.map.get("connections")?.node;
        let number = node.value().as_u64().filter(|n| (1..=MOST_CONNECTIONS).contains(n));
        if number.is_none() {
            let help = "as many as its pools and workers may open together: `connections: 40`";
            shape::wrong(
                node,
                "`connections`",
                &format!("a whole number from 1 to {MOST_CONNECTIONS}"),
                help,
                ledger,
            );
        }
        u32::try_from(number?).ok()
    }

    /// `daily`, a duration, or a map with `every` and whom to log in as.
    fn probe(&self, ledger: &mut Ledger) -> Option<ProbeWish> {
        let entry = self.map.get("probe")?;
        let Data::Map(map) = &entry.node.data else {
            let every = self.every(&entry.node, ledger)?;
            return Some(ProbeWish { every, user: None, database: None, password_file: None });
        };
        shape::only(map, &["every", "user", "database", "password_file"], "in `probe`", ledger);
        let help = "say how often: `every: daily`";
        let every = shape::needed(map, "every", &entry.at, "`probe`", help, ledger)?;
        let every = self.every(every, ledger)?;
        let text = |key: &str, ledger: &mut Ledger| {
            let entry = map.get(key)?;
            shape::text(&entry.node, &format!("`{key}`"), "a text", ledger).map(str::to_owned)
        };
        let (user, database) = (text("user", ledger), text("database", ledger));
        let password_file = text("password_file", ledger).map(PathBuf::from);
        if let Some(path) = password_file.as_ref().filter(|path| !path.is_absolute()) {
            let message = format!("{} is no absolute path", show::quoted(&path.to_string_lossy()));
            ledger.error("range", &entry.at, message, "the file is on the node, not in this repository");
        }
        Some(ProbeWish { every, user, database, password_file })
    }

    fn every(&self, node: &Node, ledger: &mut Ledger) -> Option<DurationWord> {
        let word = match node.text() {
            Some("daily") => "1d".parse().ok(),
            Some("hourly") => "1h".parse().ok(),
            _ => duration(node, "probe", "daily", ledger),
        };
        if word.as_ref().is_some_and(|word: &DurationWord| word.duration() < PROBE_AT_LEAST) {
            let message = format!("{}: a probe every {}", self.what, node.text().unwrap_or_default());
            ledger.error(
                "range",
                &node.place,
                message,
                "10m is the most often that makes sense; try `daily`",
            );
            return None;
        }
        word
    }

    /// What else ends a request, as uWSGI's harakiri: it must not come before the database's own error does.
    fn request_timeouts(&self, blackout: &DurationWord, at: &Place, ledger: &mut Ledger) {
        let Some(entry) = self.map.get("request_timeouts") else { return };
        let help = "write a map: who ends a request, and after how long: `{uwsgi harakiri: 1000s}`";
        let Some(map) = shape::map(&entry.node, "`request_timeouts`", help, ledger) else { return };
        for entry in &map.entries {
            let Some(word) = duration(&entry.node, "a request timeout", "1000s", ledger) else { continue };
            if word.duration() < blackout.duration() {
                let message = format!(
                    "{}: {} ends a request after {word}, and it may hang for {blackout} ({}): it would be killed before \
                     it has its error",
                    self.what,
                    show::quoted(&entry.key),
                    at.origin()
                );
                let help = "shorten `blackout_at_most`, or give the request more time";
                ledger.error("range", &entry.node.place, message, help);
            }
        }
    }

    fn end(&self, key: &str, ledger: &mut Ledger) -> Option<End> {
        let help = format!("write `{key}: {{tier: db, port: 5432}}`");
        let node = shape::needed(self.map, key, self.at, self.what, &help, ledger)?;
        let what = format!("`{key}`");
        let map = shape::map(node, &what, "write `{tier: db, port: 5432}`", ledger)?;
        shape::only(map, &["tier", "port", "addresses"], &format!("in {what}"), ledger);
        let addresses = match map.get("addresses") {
            Some(entry) => nets(&entry.node, ledger)?,
            None => vec![],
        };
        let tier_node = match map.get("tier") {
            None if !addresses.is_empty() => None,
            _ => {
                let help = "name the tier, or the addresses of what is no node of this fleet";
                shape::needed(map, "tier", &node.place, &what, help, ledger).map(Some)?
            }
        };
        let port_node = match map.get("port") {
            None if key == "to" => {
                let help = "a path leads to a port: `port: 5432`";
                shape::needed(map, "port", &node.place, &what, help, ledger)?;
                None
            }
            other => other.map(|entry| &entry.node),
        };
        let port = match port_node {
            Some(node) => Some(port(node, ledger)?),
            None => None,
        };
        let tier = match tier_node {
            Some(node) => Some(self.tier(node, ledger)?),
            None => None,
        };
        Some(End { tier, port, addresses })
    }

    fn tier(&self, node: &Node, ledger: &mut Ledger) -> Option<String> {
        let tier = shape::name(node, "a tier", ledger)?;
        let tiers: Vec<&str> = self.selectors.iter().map(|selector| selector.tier.as_str()).collect();
        if !tiers.contains(&tier) && !tiers.is_empty() {
            let message = format!("no node is on tier {}", show::quoted(tier));
            let mut known = tiers;
            known.sort_unstable();
            known.dedup();
            ledger.error("unknown-tier", &node.place, message, show::allowed(tier, &known));
            return None;
        }
        Some(tier.to_owned())
    }
}

/// A duration that is longer than nothing.
fn duration(node: &Node, key: &str, example: &str, ledger: &mut Ledger) -> Option<DurationWord> {
    let what = if key.contains(' ') { key.to_owned() } else { format!("`{key}`") };
    let word: DurationWord = shape::word(node, &what, &format!("a duration such as `{example}`"), ledger)?;
    if word.duration().is_zero() {
        let message = format!("{what} must be longer than nothing");
        ledger.error("range", &node.place, message, "leave the path out where there is no limit");
        return None;
    }
    Some(word)
}

fn nets(node: &Node, ledger: &mut Ledger) -> Option<Vec<Net>> {
    let Data::List(items) = &node.data else {
        if !node.is_poisoned() {
            let help = "write `[10.20.0.10]`, or a network such as `10.20.0.0/24`";
            shape::wrong(node, "`addresses`", "a list", help, ledger);
        }
        return None;
    };
    if items.len() > 64 {
        ledger.error("range", &node.place, "more than 64 addresses", "name their networks");
        return None;
    }
    let wanted = "an address, or a network such as `10.20.0.0/24`";
    let nets = items.iter().map(|item| shape::word(item, "an address", wanted, ledger));
    nets.collect()
}

fn port(node: &Node, ledger: &mut Ledger) -> Option<u16> {
    let number = node.value().as_u64().and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
    if number.is_none() && !node.is_poisoned() {
        shape::wrong(node, "`port`", "a number from 1 to 65535", "", ledger);
    }
    number
}
