//! PostgreSQL: what its files say, what the running server holds, and what roles put over it.
//!
//! evenkeel owns one drop-in in the cluster's conf.d and edits no other file. Between a right file and a right server lies
//! a reload; it is noted as owed before the file is touched. Whether it took effect is asked of the server itself, with
//! `pg_settings.reset_val` and never with `setting`. Nothing is ever restarted.

mod cluster;
mod conf;
mod desk;
mod judge;
mod live;
mod parameters;
mod paths;
mod remote;
mod roles;
mod server;
mod standby;
mod told;
mod value;
mod want;
mod witness;

use crate::owned::is_owned;
use cluster::Cluster;
use evenkeel_core::{
    Complaint, Derived, Fault, Interest, Item, Kind, PathEnd, PgFacts, PgQuestion, PgServer, Plan, Section,
    Sensor, Wish, Witness, chain,
};
use remote::Remote;
use std::collections::BTreeMap;
use std::path::Path;

pub use server::{Password, Server};
pub use want::{Bounds, Promised, Replication, Value, Want};

/// PostgreSQL clusters.
pub struct Postgresql;

/// What was seen of every cluster that the section names, and of those that still have our drop-in.
pub struct Have {
    seen: BTreeMap<String, Seen>,
}

/// What was seen of one cluster.
enum Seen {
    /// There is none of this name.
    None,
    /// It could not be looked at.
    Trouble(String),
    /// It is reached through SQL alone.
    Remote(Box<Remote>),
    /// It is there.
    There(Box<There>),
}

struct There {
    cluster: Cluster,
    drop_in: DropIn,
    /// What the server answered, or why it did not.
    facts: Result<PgFacts, String>,
    /// A reload is owed from a pass before.
    owed: bool,
}

enum DropIn {
    None,
    Ours(String),
    Barred(String),
}

impl Kind for Postgresql {
    const NAME: &'static str = "postgresql";
    const SUMMARY: &'static str =
        "PostgreSQL parameters: files, the running server, and what roles put over them";
    const EXAMPLE: &'static str = "\
13/main:
  settings:
    tcp_keepalives_idle: 60s
    tcp_user_timeout: 60s
    work_mem: 8MB
    autovacuum: true
    shared_buffers: 256MB
  roles:
    sahana: {tcp_keepalives_idle: inherit, work_mem: 16MB}
  promised: {tcp_keepalives_idle: reset, tcp_user_timeout: report}
reporting:
  data_directory: /srv/pg/reporting
  settings: {checkpoint_timeout: 10m, log_line_prefix: '%m [%p] '}
managed:
  server:
    host: eden.abc123.eu-central-1.rds.amazonaws.com
    user: eden
    password: {credential: managed}
    ca: /etc/evenkeel/eu-central-1-bundle.pem
  settings: {tcp_keepalives_idle: 60s, max_connections: 200}
  promised: {tcp_keepalives_idle: reset}
";
    const DISPLACES: &'static [(&'static str, &'static [&'static str])] =
        &[("server", &["data_directory"]), ("data_directory", &["server"])];
    type Want = Want;
    type Have = Have;

    fn check(name: &str, want: &Want) -> Vec<Complaint> {
        want::check(name, want)
    }

    fn derive(paths: &[PathEnd], said: &BTreeMap<String, serde_json::Value>) -> Vec<Derived> {
        paths::derive(paths, said)
    }

    fn check_paths(_name: &str, want: &Want, paths: &[PathEnd]) -> Vec<Complaint> {
        paths::check(want, paths)
    }

    fn witness(
        section: &Section<Want>,
        item: &str,
        path: &str,
        node: &dyn Sensor,
    ) -> Result<Vec<Witness>, Fault> {
        witness::tell(section, item, path, node)
    }

    fn interests(section: &Section<Want>) -> Vec<Interest> {
        let files =
            section.kept().filter(|(_, want, _)| want.server.is_none()).filter_map(|(name, want, _)| {
                let folder = cluster::folder(name, want.data_directory.as_deref())?;
                let data = want
                    .data_directory
                    .clone()
                    .unwrap_or_else(|| Path::new("/var/lib/postgresql").join(name));
                Some([
                    folder.join("conf.d").join(cluster::NAME),
                    // Whoever is read after ours may be anything there.
                    folder.join("conf.d"),
                    folder.join("postgresql.conf"),
                    data.join("postgresql.auto.conf"),
                ])
            });
        files.flatten().map(Interest::File).collect()
    }

    fn observe(section: &Section<Want>, node: &dyn Sensor) -> Result<Have, Fault> {
        let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
        for (name, item) in &section.items {
            seen.insert(name.clone(), look(name, Some(item), node));
        }
        for name in cluster::all(node)? {
            if !section.items.contains_key(&name) {
                let there = look(&name, None, node);
                seen.extend(left(&there).then_some((name, there)));
            }
        }
        Ok(Have { seen })
    }

    fn plan(section: &Section<Want>, have: &Have) -> Plan {
        desk::plan(section, have)
    }
}

/// How a server is reached that a spec names as this kind does, or why it is not.
pub(crate) fn reach(
    name: &str,
    data_directory: Option<&Path>,
    server: Option<&Server>,
    node: &dyn Sensor,
) -> Reached {
    if let Some(server) = server {
        return Ok(server.reach(name));
    }
    let want = Want { data_directory: data_directory.map(Path::to_owned), ..Want::default() };
    match cluster::find(name, Some(&want), node) {
        Ok(Some(found)) => found.server,
        Ok(None) => Err("there is no such cluster on this node".to_owned()),
        Err(fault) => Err(chain(&fault)),
    }
}

/// What is wrong with how a server is named.
pub(crate) fn check_reach(
    name: &str,
    data_directory: Option<&Path>,
    server: Option<&Server>,
) -> Vec<Complaint> {
    let want = Want {
        data_directory: data_directory.map(Path::to_owned),
        server: server.cloned(),
        ..Want::default()
    };
    want::check(name, &want)
}

/// How a cluster's running server is reached, or why there is none.
pub type Reached = Result<PgServer, String>;

/// Debian's clusters on this node, by name, and how the server of each is reached, or why it is not.
///
/// # Errors
/// `/etc/postgresql` is there and cannot be read.
pub fn clusters(node: &dyn Sensor) -> Result<Vec<(String, Reached)>, Fault> {
    let server = |name: &String| match cluster::find(name, None, node) {
        Ok(found) => found.map_or_else(|| Err("it has no postgresql.conf".to_owned()), |found| found.server),
        Err(fault) => Err(chain(&fault)),
    };
    Ok(cluster::all(node)?.into_iter().map(|name| (name.clone(), server(&name))).collect())
}

/// Whether a cluster that nobody names still has something of ours.
fn left(seen: &Seen) -> bool {
    match seen {
        Seen::There(there) => there.owed || matches!(there.drop_in, DropIn::Ours(_)),
        Seen::None | Seen::Remote(_) | Seen::Trouble(_) => false,
    }
}

fn debt(name: &str) -> String {
    format!("postgresql/{name} reload")
}

/// What to ask the server.
fn question(want: &Want) -> PgQuestion {
    let mut settings: Vec<String> = want.settings.keys().chain(want.promised.keys()).cloned().collect();
    settings.extend(want.roles.values().flat_map(|said| said.keys().cloned()));
    settings.extend(told::SETTINGS.map(str::to_owned));
    let replication = want.replication == Replication::Report && want.server.is_none();
    if replication && want.path.is_some() {
        settings.extend(standby::TIMEOUTS.map(str::to_owned));
    }
    settings.sort();
    settings.dedup();
    let remote = want.server.is_some();
    let roles = if remote { want.roles.keys().cloned().collect() } else { vec![] };
    PgQuestion { settings, roles, rights: remote, backends: false, replication }
}

/// What the spec says of an item, kept or wished away.
fn said(item: &Item<Want>) -> Option<&Want> {
    match &item.wish {
        Wish::Keep(want) | Wish::Absent(Some(want)) => Some(want),
        Wish::Absent(None) => None,
    }
}

fn look(name: &str, item: Option<&Item<Want>>, node: &dyn Sensor) -> Seen {
    let want = item.and_then(said);
    let kept = item.and_then(Item::kept);
    if let Some(server) = want.and_then(|want| want.server.as_ref()) {
        // Nothing of ours is there that could be taken away.
        let Some(want) = kept else { return Seen::None };
        let server = server.reach(name);
        let facts = node.postgres(&server, &question(want)).map_err(|fault| (fault.class, chain(&fault)));
        return Seen::Remote(Box::new(Remote { server, facts }));
    }
    let question = kept.map(question).unwrap_or_default();
    let cluster = match cluster::find(name, want, node) {
        Ok(Some(cluster)) => cluster,
        Ok(None) => return Seen::None,
        Err(fault) => return Seen::Trouble(chain(&fault)),
    };
    let drop_in = match node.read(&cluster.drop_in) {
        Ok(None) => DropIn::None,
        Ok(Some(text)) if is_owned(&text) => DropIn::Ours(text),
        Ok(Some(_)) => DropIn::Barred(format!(
            "{} was not written by evenkeel and is left alone: move it away, so that evenkeel can have the file it owns",
            cluster.drop_in.display()
        )),
        Err(fault) => DropIn::Barred(chain(&fault)),
    };
    let owed = node.owes(&debt(name));
    let ask = |server: PgServer| node.postgres(&server, &question).map_err(|fault| chain(&fault));
    let facts = if kept.is_some() || owed || matches!(drop_in, DropIn::Ours(_)) {
        cluster.server.clone().and_then(ask)
    } else {
        // A server that has nothing of ours, and that nobody names, is none of our business.
        Err("not asked".to_owned())
    };
    Seen::There(Box::new(There { cluster, drop_in, facts, owed }))
}
