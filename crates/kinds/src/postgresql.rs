//! PostgreSQL: what its files say, what the running server holds, and what roles put over it.
//!
//! evenkeel owns one drop-in in the cluster's conf.d and edits no other file. Between a right file and a right server lies
//! a reload; it is noted as owed before the file is touched. Whether it took effect is asked of the server itself, with
//! `pg_settings.reset_val` and never with `setting`. Nothing is ever restarted.

mod cluster;
mod conf;
mod desk;
mod judge;
mod parameters;
mod value;
mod want;

use crate::owned::is_owned;
use cluster::Cluster;
use evenkeel_core::{
    Complaint, Fault, Interest, Item, Kind, PgFacts, PgQuestion, PgServer, Plan, Section, Sensor, Wish, chain,
};
use std::collections::BTreeMap;
use std::path::Path;

pub use want::{Value, Want};

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
reporting:
  data_directory: /srv/pg/reporting
  settings: {checkpoint_timeout: 10m, log_line_prefix: '%m [%p] '}
";
    type Want = Want;
    type Have = Have;

    fn check(name: &str, want: &Want) -> Vec<Complaint> {
        want::check(name, want)
    }

    fn interests(section: &Section<Want>) -> Vec<Interest> {
        let files = section.kept().filter_map(|(name, want, _)| {
            let folder = cluster::folder(name, want.data_directory.as_deref())?;
            let data =
                want.data_directory.clone().unwrap_or_else(|| Path::new("/var/lib/postgresql").join(name));
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

/// Debian's clusters on this node, by name, and how the server of each is reached, or why it is not.
///
/// # Errors
/// `/etc/postgresql` is there and cannot be read.
pub fn clusters(node: &dyn Sensor) -> Result<Vec<(String, Result<PgServer, String>)>, Fault> {
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
        Seen::None | Seen::Trouble(_) => false,
    }
}

fn debt(name: &str) -> String {
    format!("postgresql/{name} reload")
}

/// The parameters to ask the server for.
fn asked(item: &Item<Want>) -> Vec<String> {
    let Some(want) = item.kept() else { return vec![] };
    let mut names: Vec<String> = want.settings.keys().cloned().collect();
    names.extend(want.roles.values().flat_map(|said| said.keys().cloned()));
    names.sort();
    names.dedup();
    names
}

fn look(name: &str, item: Option<&Item<Want>>, node: &dyn Sensor) -> Seen {
    let want = item.and_then(|item| match &item.wish {
        Wish::Keep(want) | Wish::Absent(Some(want)) => Some(want),
        Wish::Absent(None) => None,
    });
    let kept = item.is_some_and(|item| item.kept().is_some());
    let settings = item.map(asked).unwrap_or_default();
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
    let ask =
        |server: PgServer| node.postgres(&server, &PgQuestion { settings }).map_err(|fault| chain(&fault));
    let facts = if kept || owed || matches!(drop_in, DropIn::Ours(_)) {
        cluster.server.clone().and_then(ask)
    } else {
        // A server that has nothing of ours, and that nobody names, is none of our business.
        Err("not asked".to_owned())
    };
    Seen::There(Box::new(There { cluster, drop_in, facts, owed }))
}
