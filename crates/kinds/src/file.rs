//! Whole files: text, owner, group and permission bits, from the repository to the node.
//!
//! A file is written as one or not at all: what it waits for (a folder, a user, a credential, the service file that its
//! program would need) keeps all of it back. A secret is put in on the node and told by a fingerprint only. A service that
//! reads the file is reloaded once, never restarted, and that it must be is noted before the file is touched.

mod credentials;
mod desk;
mod differ;
mod look;
mod places;
mod validate;
mod want;

use crate::pg_service;
use evenkeel_core::{
    Complaint, Fault, Interest, Kind, PathEnd, Plan, Secret, Section, Sensor, UnitSeen, Wish, chain,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use want::{Form, Want};

/// Whole files.
pub struct File;

/// What was seen of the files of a section, and of the services that read them.
pub struct Have {
    sights: BTreeMap<String, Sight>,
    units: Units,
    /// Services whose reload is owed.
    owed: BTreeSet<String>,
}

/// What systemd says of the services that files name.
enum Units {
    /// It does not run here: whatever reads a file reads it when it starts.
    NoSystemd,
    Seen(BTreeMap<String, UnitSeen>),
    Unseen(String),
}

/// One file.
#[derive(Default)]
struct Sight {
    /// Where it really is, or would be.
    real: PathBuf,
    there: There,
    /// The text to be written, with all in it; `None` where it cannot be had.
    meant: Option<Secret>,
    /// Fingerprints of what is there and what is meant, where the texts themselves are told to nobody.
    prints: Option<(String, String)>,
    /// Why nothing is done to it.
    stop: Option<Stop>,
}

/// What is in a file's place.
#[derive(Default)]
enum There {
    #[default]
    Nothing,
    File(evenkeel_core::FileSeen),
    /// A symlink, and where it leads.
    Link(PathBuf),
}

/// Why nothing is done to a file.
struct Stop {
    /// It may come without anyone's help.
    waits: bool,
    reason: String,
}

impl Stop {
    fn waits(reason: impl Into<String>) -> Self {
        Self { waits: true, reason: reason.into() }
    }

    fn wrong(reason: impl Into<String>) -> Self {
        Self { waits: false, reason: reason.into() }
    }
}

/// How every debt of this kind begins; the service's name follows.
const DEBT: &str = "reload ";

/// The debt of a service that must still read its files.
fn debt(unit: &str) -> String {
    format!("{DEBT}{unit}")
}

/// The service that an item names; one that is wished away names it too.
fn reload(wish: &Wish<Want>) -> Option<&str> {
    match wish {
        Wish::Keep(want) | Wish::Absent(Some(want)) => {
            want.reload.as_deref().filter(|unit| want::is_service(unit))
        }
        Wish::Absent(None) => None,
    }
}

impl Kind for File {
    const NAME: &'static str = "file";
    const SUMMARY: &'static str = "whole files: text, owner, group, mode; and a reload of what reads them";
    const EXAMPLE: &'static str = "\
/home/eden/uwsgi.ini:            # `from: files/uwsgi.ini` takes the text from a file of the repository
  content: |
    [uwsgi]
    harakiri = 90
    env = PGSERVICE=eden
    env = PGSERVICEFILE=/home/eden/pg_service.conf
  validate: uwsgi
  owner: root
  mode: \"0644\"
  reload: uwsgi-prod.service
/home/eden/pg_service.conf: {content: \"[eden]\\nhost=10.20.0.10\\n\", validate: pg_service}
/home/eden/key.ini: {content: \"hmac_key = ${credential.hmac-key}\\n\", owner: web2py, reload: uwsgi-prod.service}
/etc/memcached.conf: {content: \"-m 64\\n\", reload: memcached.service}
/srv/eden/cache/motd: {content: \"even\", group: web2py, mode: \"0640\"}
";
    const DISPLACES: &'static [(&'static str, &'static [&'static str])] =
        &[("from", &["content"]), ("content", &["from"])];
    const PAYLOADS: &'static [(&'static str, &'static str)] = &[("from", "content")];
    const SUBSTITUTED: &'static [&'static str] = &["content"];
    type Want = Want;
    type Have = Have;

    fn check(name: &str, want: &Want) -> Vec<Complaint> {
        want::check(name, want)
    }

    fn check_paths(name: &str, want: &Want, paths: &[PathEnd]) -> Vec<Complaint> {
        want::check_paths(name, want, paths)
    }

    fn interests(section: &Section<Want>) -> Vec<Interest> {
        let mut interests: BTreeSet<Interest> =
            section.items.keys().map(|name| Interest::File(name.into())).collect();
        let services = section.kept().filter_map(|(_, want, _)| service_file(want));
        interests.extend(services.map(|(path, _)| Interest::File(path)));
        if !section.items.is_empty() {
            interests.insert(Interest::Mounts);
        }
        interests.into_iter().collect()
    }

    fn observe(section: &Section<Want>, node: &dyn Sensor) -> Result<Have, Fault> {
        let units: BTreeSet<&str> = section.items.values().filter_map(|item| reload(&item.wish)).collect();
        let debts = node.debts(DEBT);
        let unit = |debt: &String| debt.strip_prefix(DEBT).map(str::to_owned);
        let owed: BTreeSet<String> = debts.iter().filter_map(unit).collect();
        let names: BTreeSet<String> =
            units.into_iter().map(str::to_owned).chain(owed.iter().cloned()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let units = if !node.systemd() {
            Units::NoSystemd
        } else if names.is_empty() {
            Units::Seen(BTreeMap::new())
        } else {
            node.units(&names).map_or_else(|fault| Units::Unseen(chain(&fault)), Units::Seen)
        };
        Ok(Have { sights: look::all(section, node), units, owed })
    }

    fn plan(section: &Section<Want>, have: &Have) -> Plan {
        desk::plan(section, have)
    }
}

/// The service file and the section that a uWSGI file leads its workers to.
fn service_file(want: &Want) -> Option<(PathBuf, String)> {
    let text = want.content.as_deref().filter(|_| want.form() == Form::Uwsgi)?;
    let (path, section) = validate::named_service(text)?;
    Some((PathBuf::from(path.unwrap_or_else(|| pg_service::FILE.to_owned())), section))
}
