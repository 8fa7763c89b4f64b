//! libpq's service file: keepalives and timeouts for every client that names a service, without a change to the client.
//!
//! A client with `PGSERVICE=eden` in its environment reads the section `[eden]`; what it says itself in its connection
//! string counts more. libpq is strict: a service that is named and not there, or a keyword that it does not know, makes
//! *every* connect fail. So the file is written whole before anything names it, a section that left the spec stays, empty,
//! and a keyword that the libpq of this node is too old for is left out.

mod desk;
mod want;

use crate::owned::is_owned;
use evenkeel_core::{
    Complaint, Derived, Fault, Interest, Kind, PathEnd, Plan, Protocol, Section, Sensor, Side, chain,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

pub use want::{Setting, Want};

/// Where libpq looks on Debian, after `PGSERVICEFILE` and `~/.pg_service.conf`.
pub(crate) const FILE: &str = "/etc/postgresql-common/pg_service.conf";
/// Folders that libraries lie in, and those with such folders in them.
const LIBRARIES: [&str; 2] = ["/usr/lib64", "/usr/lib"];

/// Sections of libpq's service file.
pub struct PgService;

/// What was seen of the file, and of the library that reads it.
pub struct Have {
    file: File,
    /// The oldest libpq here, as PostgreSQL's major version; `None` where none is installed.
    libpq: Option<u32>,
}

enum File {
    None,
    /// Ours: its sections, and its text.
    Ours(BTreeMap<String, BTreeMap<String, String>>, String),
    /// Somebody else's, or unreadable.
    Barred(String),
}

impl Kind for PgService {
    const NAME: &'static str = "pg_service";
    const SUMMARY: &'static str = "sections of libpq's service file: what clients of PostgreSQL carry";
    const EXAMPLE: &'static str = "\
eden:
  settings: {host: 10.20.0.10, dbname: sahana, keepalives_idle: 29, keepalives_interval: 8, tcp_user_timeout: 49000}
reports:
  settings: {keepalives: 1, connect_timeout: 10}
";
    type Want = Want;
    type Have = Have;

    fn check(name: &str, want: &Want) -> Vec<Complaint> {
        want::check(name, want)
    }

    fn derive(paths: &[PathEnd], _said: &BTreeMap<String, Value>) -> Vec<Derived> {
        let client = |end: &PathEnd| end.side == Side::Client && end.protocol == Protocol::Postgresql;
        let mut derived: Vec<Derived> = vec![];
        for (path, end) in paths.iter().enumerate().filter(|(_, end)| client(end)) {
            let Some(service) = &end.service else { continue };
            let same = |other: &&PathEnd| client(other) && other.service.as_ref() == Some(service);
            let promise = paths.iter().filter(same).fold(end.promise, |all, other| all.and(&other.promise));
            let hang = end.intent().blackout_at_most.as_secs();
            let settings: Map<String, Value> = [
                ("keepalives", 1),
                ("keepalives_idle", promise.keepalive_time.into()),
                ("keepalives_interval", promise.keepalive_intvl.into()),
                ("keepalives_count", promise.keepalive_probes.into()),
                ("tcp_user_timeout", promise.user_timeout_ms.into()),
                ("connect_timeout", hang),
            ]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect();
            let fields = BTreeMap::from([("settings".to_owned(), settings.into())]);
            derived.push(Derived { item: service.clone(), fields, path });
        }
        derived
    }

    fn check_paths(name: &str, want: &Want, paths: &[PathEnd]) -> Vec<Complaint> {
        want::check_paths(name, want, paths)
    }

    fn interests(section: &Section<Want>) -> Vec<Interest> {
        if section.items.is_empty() { vec![] } else { vec![Interest::File(FILE.into())] }
    }

    fn observe(section: &Section<Want>, node: &dyn Sensor) -> Result<Have, Fault> {
        let file = match node.read(Path::new(FILE)) {
            Ok(None) => File::None,
            Ok(Some(text)) if is_owned(&text) => File::Ours(desk::parse(&text), text),
            Ok(Some(_)) => File::Barred(format!(
                "{FILE} was not written by evenkeel and is left alone: put these settings into it, or move it away"
            )),
            Err(fault) => File::Barred(chain(&fault)),
        };
        let kept = section.kept().next().is_some();
        Ok(Have { file, libpq: if kept { libpq(node)? } else { None } })
    }

    fn plan(section: &Section<Want>, have: &Have) -> Plan {
        desk::plan(section, have)
    }
}

/// Whether libpq knows a keyword that this kind writes.
pub(crate) fn knows(keyword: &str) -> bool {
    want::find(keyword).is_some()
}

/// The oldest libpq that is installed: `libpq.so.5.15` is PostgreSQL 15's.
fn libpq(node: &dyn Sensor) -> Result<Option<u32>, Fault> {
    let mut oldest: Option<u32> = None;
    for root in LIBRARIES.map(Path::new) {
        let names = node.list(root)?.unwrap_or_default();
        let deeper = names.iter().filter(|name| name.ends_with("-linux-gnu")).map(|name| root.join(name));
        for folder in std::iter::once(root.to_owned()).chain(deeper) {
            let names = node.list(&folder)?.unwrap_or_default();
            let minor = |name: &String| name.strip_prefix("libpq.so.5.")?.split('.').next()?.parse().ok();
            oldest = names.iter().filter_map(minor).chain(oldest).min();
        }
    }
    Ok(oldest)
}
