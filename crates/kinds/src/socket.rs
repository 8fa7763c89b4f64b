//! Connections that are open: whether the path can forget them, and those that hang on it already.
//!
//! A kernel parameter reaches the connections of tomorrow. One that is open keeps the timer it was armed with, and an
//! idle PostgreSQL session does not heed a reload before its next command. So the truth is asked of the kernel, socket by
//! socket, and a socket that is off is given its timers while it is open, through a duplicate of its holder's descriptor.
//! One that retransmits into nothing can be ended, where the path says `live: free`, so that its program has its error now.

mod desk;
mod judge;
mod memory;
mod want;
mod witness;

use evenkeel_core::{
    Class, Complaint, Derived, Fault, Holders, Kind, Live, Measured, PathEnd, Plan, Protocol, Section,
    Sensor, Side, SocketPowers, SocketQuestion, SocketsSeen, Witness, chain,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

pub use want::Want;

/// Open TCP connections of a path.
pub struct Socket;

/// What was seen of every item's connections, and what may be done with them.
pub struct Have {
    seen: BTreeMap<String, Look>,
    powers: SocketPowers,
}

/// What was seen of one item's connections, or why nothing was.
type Look = Result<Seen, (Class, String)>;

struct Seen {
    sockets: SocketsSeen,
    /// What became of connections that were left silent for each of [`memory::ages`], where that is known.
    memory: Option<Measured>,
}

impl Kind for Socket {
    const NAME: &'static str = "socket";
    const SUMMARY: &'static str = "open TCP connections of a path: their timers, and those that hang";
    const EXAMPLE: &'static str = "\
database/client: {side: client, port: 5432, idle_timeout: 350s, blackout_at_most: 60s, live: free}
database/server: {side: server, port: 5432, idle_timeout: 350s, blackout_at_most: 60s, live: retune}
cache:
  side: client
  port: 11211
  peers: [10.20.0.0/24, fd00::/8]
  idle_timeout: 10m
  blackout_at_most: 30s
";
    type Want = Want;
    type Have = Have;

    fn check(_name: &str, want: &Want) -> Vec<Complaint> {
        want::check(want)
    }

    fn derive(paths: &[PathEnd], _said: &BTreeMap<String, Value>) -> Vec<Derived> {
        let looked_at = paths.iter().enumerate().filter(|(_, end)| end.live != Live::Off);
        let derived = looked_at.map(|(path, end)| {
            let mut fields = BTreeMap::from([
                ("side".to_owned(), json!(end.side)),
                ("port".to_owned(), json!(end.port)),
                ("idle_timeout".to_owned(), json!(end.idle_timeout)),
                ("blackout_at_most".to_owned(), json!(end.blackout_at_most)),
                ("live".to_owned(), json!(end.live)),
            ]);
            if !end.peers.is_empty() {
                fields.insert("peers".to_owned(), json!(end.peers));
            }
            if end.side == Side::Client {
                let told = [("service", json!(end.service)), ("connections", json!(end.connections))];
                let told = told.into_iter().filter(|(_, value)| !value.is_null());
                fields.extend(told.map(|(name, value)| (name.to_owned(), value)));
            }
            // What a server sends by itself keeps the path awake; only in a session of our own is it silent.
            let silent =
                end.protocol == Protocol::Tcp || end.probe.as_ref().is_some_and(|wish| wish.user.is_some());
            if let Some(probe) = end.probe.as_ref().filter(|_| silent && end.side == Side::Client) {
                fields.insert("probe".to_owned(), json!(probe));
            }
            Derived { item: format!("{}/{}", end.name, end.side.word()), fields, path }
        });
        derived.collect()
    }

    fn pace(section: &Section<Want>) -> Option<Duration> {
        section.kept().filter_map(|(_, want, _)| want.pace()).min()
    }

    fn observe(section: &Section<Want>, node: &dyn Sensor) -> Result<Have, Fault> {
        let seen = |want: &Want| {
            let armed_at_most_ms = want.promise().map_or(0, |promise| judge::armed_at_most_ms(&promise));
            let holders = Holders::OfTheUnprotected { armed_at_most_ms };
            let sockets = look(want, node, holders).map_err(|fault| (fault.class, chain(&fault)))?;
            let memory =
                memory::question(want, &sockets.sockets).and_then(|question| node.measured(&question));
            Ok(Seen { sockets, memory })
        };
        let looked_at = section.kept().filter(|(_, want, _)| want.live != Live::Off);
        let seen: BTreeMap<_, _> = looked_at.map(|(name, want, _)| (name.to_owned(), seen(want))).collect();
        let powers = if seen.is_empty() { SocketPowers::default() } else { node.socket_powers() };
        Ok(Have { seen, powers })
    }

    fn plan(section: &Section<Want>, have: &Have) -> Plan {
        let mut plan = Plan::default();
        for (name, want, item) in section.kept() {
            let (told, tasks) = desk::item(name, want, item.enforced(), have.seen.get(name), &have.powers);
            plan.items.insert(name.to_owned(), told);
            plan.tasks.extend(tasks);
        }
        plan
    }

    fn witness(
        section: &Section<Want>,
        item: &str,
        _: &str,
        node: &dyn Sensor,
    ) -> Result<Vec<Witness>, Fault> {
        let Some((_, want, _)) = section.kept().find(|(name, ..)| *name == item) else { return Ok(vec![]) };
        Ok(witness::rows(want, look(want, node, Holders::All)?))
    }
}

/// What evenkeel's own programs are called.
const OURS: &str = "evenkeel";

/// The connections of an item, but for our own: those that measure how long the path remembers have to stay silent.
fn look(want: &Want, node: &dyn Sensor, holders: Holders) -> Result<SocketsSeen, Fault> {
    let mut seen = node.sockets(&want.question(holders))?;
    seen.sockets.retain(|socket| socket.owner.as_ref().is_none_or(|owner| owner.comm != OURS));
    Ok(seen)
}

impl Want {
    fn question(&self, holders: Holders) -> SocketQuestion {
        SocketQuestion { side: self.side, port: self.port, peers: self.peers.clone(), holders }
    }
}
