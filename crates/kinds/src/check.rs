//! What must answer, and within which time. It reports, and changes nothing.
//!
//! All checks are asked at once. One that is not well is asked once more a moment later, because a restart that is just under
//! way is no drift; what it says then is told.

mod judge;
mod want;

use crate::postgresql;
use evenkeel_core::{Complaint, Fault, Kind, Plan, Probe, Probing, Section, Sensor};
use std::collections::BTreeMap;
use std::time::Duration;

pub use want::{Expect, Want};

/// How long until what is not well is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// What must answer.
pub struct Check;

/// What each was told, and when that was.
pub struct Have {
    told: BTreeMap<String, Probing>,
    now: i64,
}

impl Kind for Check {
    const NAME: &'static str = "check";
    const SUMMARY: &'static str = "what must answer, and within which time; reported, never changed";
    const SUBSTITUTED: &'static [&'static str] = &["tcp", "memcached", "http"];
    const EXAMPLE: &'static str = "\
memcached: {tcp: \"127.0.0.1:11211\"}
sessions: {memcached: \"127.0.0.1:11211\"}
eden: {http: \"http://127.0.0.1:8000/eden/default/about\", expect: 200, contains: Eden, within: 5s}
database: {postgresql: 13/main, query: select count(*) from pg_stat_replication, expect: \"1\", every: 30s}
backup: {file: /var/backups/eden/latest.dump, younger_than: 26h}
site: {certificate: /etc/letsencrypt/live/site/fullchain.pem, left: 14d}
";
    type Want = Want;
    type Have = Have;

    fn check(name: &str, want: &Want) -> Vec<Complaint> {
        want::check(name, want)
    }

    fn pace(section: &Section<Want>) -> Option<Duration> {
        section.kept().filter_map(|(_, want, _)| want.every()).min()
    }

    fn observe(section: &Section<Want>, node: &dyn Sensor) -> Result<Have, Fault> {
        let mut have = Have { told: BTreeMap::new(), now: node.now() };
        let mut probes = vec![];
        for (name, want, _) in section.kept() {
            match probe(want, node) {
                Ok(probe) => probes.push((name, want, probe)),
                Err(why) => drop(have.told.insert(name.to_owned(), Probing::Failed(why))),
            }
        }
        have.ask(&probes, node);
        let now = have.now;
        probes.retain(|(name, want, _)| {
            have.told.get(*name).is_some_and(|told| judge::off(want, told, now).is_some())
        });
        for (_, _, probe) in &mut probes {
            probe.after = AGAIN;
        }
        have.ask(&probes, node);
        Ok(have)
    }

    fn plan(section: &Section<Want>, have: &Have) -> Plan {
        judge::plan(section, have)
    }
}

impl Have {
    fn ask(&mut self, probes: &[(&str, &Want, Probe)], node: &dyn Sensor) {
        if probes.is_empty() {
            return;
        }
        let questions: Vec<Probe> = probes.iter().map(|(_, _, probe)| probe.clone()).collect();
        let names = probes.iter().map(|(name, _, _)| (*name).to_owned());
        self.told.extend(names.zip(node.probe(&questions)));
    }
}

/// What to ask; why that cannot be said, where a database is not found.
fn probe(want: &Want, node: &dyn Sensor) -> Result<Probe, String> {
    let what = match &want.postgresql {
        Some(name) => {
            let server = postgresql::reach(name, want.data_directory.as_deref(), want.server.as_ref(), node)?;
            want.query(server)
        }
        None => want.what().ok_or("nothing says what is to answer")?,
    };
    Ok(Probe { what, within: want.within(), after: Duration::ZERO })
}
