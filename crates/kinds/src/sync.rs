//! Folders in step with others: what differs from the source is carried over, within a limit for what is removed.
//!
//! A comparison is a dry run that the host makes in the background, on the item's period; what it found is drift, and is
//! carried over and compared again. A source that is empty, or has lost too much, is refused: nothing is touched then.

mod desk;
mod want;

use evenkeel_core::{Complaint, Fault, Kind, MirrorQuestion, MirrorSeen, MountEntry, Plan, Section, Sensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use want::{Limit, Want};

/// How often it is asked what the host has found. A pass over answers that are there costs nothing.
const PACE: Duration = Duration::from_secs(3);
/// Where systemd's unit files for mounts are.
const UNITS: &str = "/etc/systemd/system";

/// Folders in step with others.
pub struct Sync;

/// What the host knows of each, and which folders are not mounted that should be.
pub struct Have {
    seen: BTreeMap<String, MirrorSeen>,
    unmounted: BTreeMap<String, PathBuf>,
}

impl Kind for Sync {
    const NAME: &'static str = "sync";
    const SUMMARY: &'static str =
        "folders kept in step with others by rsync, within a limit for what is removed";
    const SUBSTITUTED: &'static [&'static str] = &["from"];
    const EXAMPLE: &'static str = "\
/home/prod/applications/eden/static/fonts:
  from: mw1:/home/prod/applications/eden/static/fonts
  every: 10m
  delete: true
  delete_at_most: 10%
  exclude: [\"*.tmp\", .cache/]
  owner: web2py
  key: sync-key
  at_most: 10MB
/srv/eden/markers: {from: /srv/master/markers, delete_at_most: 20}
";
    type Want = Want;
    type Have = Have;

    fn check(name: &str, want: &Want) -> Vec<Complaint> {
        want::check(name, want)
    }

    fn pace(section: &Section<Want>) -> Option<Duration> {
        section.kept().next().map(|_| PACE)
    }

    fn observe(section: &Section<Want>, node: &dyn Sensor) -> Result<Have, Fault> {
        let mut have = Have { seen: BTreeMap::new(), unmounted: unmounted(section, node)? };
        let kept = || section.kept().filter(|(name, _, _)| !have.unmounted.contains_key(*name));
        let questions: Vec<MirrorQuestion> = kept()
            .map(|(name, want, _)| MirrorQuestion { job: want.job(name), every: want.every() })
            .collect();
        let names: Vec<String> = kept().map(|(name, _, _)| name.to_owned()).collect();
        // Asked with nothing too: what left the spec is ended.
        have.seen.extend(names.into_iter().zip(node.mirrors(&questions)));
        Ok(have)
    }

    fn plan(section: &Section<Want>, have: &Have) -> Plan {
        desk::plan(section, have)
    }
}

/// Folders that lie at or below a place where something is to be mounted and nothing is: the folder below would be filled.
fn unmounted(section: &Section<Want>, node: &dyn Sensor) -> Result<BTreeMap<String, PathBuf>, Fault> {
    let mut missing = BTreeMap::new();
    if section.kept().next().is_none() {
        return Ok(missing);
    }
    let (meant, mounts) = (meant(node)?, node.mounts()?);
    for (name, want, _) in section.kept() {
        let at = |place: &PathBuf| !mounts.iter().any(|entry: &MountEntry| entry.target == *place);
        let places = [Some(name), want.local()].into_iter().flatten().map(Path::new);
        let mut of = places.flat_map(|path| meant.iter().filter(move |place| path.starts_with(place)));
        if let Some(place) = of.find(|place| at(place)) {
            let real = node.resolve(place)?.unwrap_or_else(|| place.clone());
            if at(&real) {
                missing.insert(name.to_owned(), place.clone());
            }
        }
    }
    Ok(missing)
}

/// Where something is to be mounted at boot: /etc/fstab and systemd's units, but for what waits for a person.
fn meant(node: &dyn Sensor) -> Result<Vec<PathBuf>, Fault> {
    let mut meant = vec![];
    let fstab = node.read(Path::new("/etc/fstab"))?.unwrap_or_default();
    for line in fstab.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let mut words = line.split_whitespace().skip(1);
        let (target, options) = (words.next(), words.nth(1).unwrap_or_default());
        if !options.split(',').any(|option| option == "noauto") {
            meant.extend(
                target.filter(|target| target.len() > 1 && target.starts_with('/')).map(PathBuf::from),
            );
        }
    }
    for name in node.list(Path::new(UNITS))?.unwrap_or_default() {
        if name.as_bytes().ends_with(b".mount") {
            let text = node.read(&Path::new(UNITS).join(&name)).ok().flatten().unwrap_or_default();
            meant.extend(text.lines().find_map(|line| line.strip_prefix("Where=")).map(PathBuf::from));
        }
    }
    Ok(meant)
}
