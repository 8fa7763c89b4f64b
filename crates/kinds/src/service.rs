//! Units of systemd: whether they run, whether they start at boot, and when they may be restarted.
//!
//! A unit that should run and does not is started. One that ends again and again is told with its last words and is
//! neither called repaired nor started in a storm. Nothing is restarted but what owes a restart, and only when its item
//! allows that: in a window of the week, and with a slot of the fleet. No unit's file is written here.

mod desk;
mod rules;
mod want;

use evenkeel_core::{Complaint, Fault, Interest, Kind, Plan, Section, Sensor, UnitSeen, Witness};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

pub use want::{Restart, Slot, Want, When};

/// Who takes slots of the fleet on this node.
const HOLDER: &str = "service";
/// How often a section is looked at whose restarts wait for something that no event tells of.
const WAITING: Duration = Duration::from_secs(20);
/// Where the control groups of units are: the one tree, and the one beside the older ones.
const GROUPS: [&str; 2] = ["/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/unified/system.slice"];
/// Where units of the administrator are, and the links of those that start at boot.
const UNITS: &str = "/etc/systemd/system";
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";

/// Units of systemd.
pub struct Service;

/// What was seen of the units that the section names.
pub struct Have {
    /// `None` where systemd is not the service manager.
    units: Option<BTreeMap<String, UnitSeen>>,
    restarts: BTreeMap<String, Owed>,
    /// Units that somebody owes a reload.
    reloads: BTreeSet<String>,
    /// Groups whose slot this node was about to take, and whether it was granted.
    slots: BTreeMap<String, bool>,
    tier: Option<String>,
    now: i64,
}

/// A restart that is owed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owed {
    /// It is still to be done.
    Due,
    /// The unit was started anew since.
    Done,
}

/// What is noted as owed until a unit is restarted.
fn restart_debt(unit: &str) -> String {
    format!("restart {unit}")
}

/// What is noted as owed until a slot is given back.
fn slot_debt(group: &str) -> String {
    format!("slot {group}")
}

/// What is noted as owed once that slot was granted.
fn granted_debt(group: &str) -> String {
    format!("slot {group} granted")
}

impl Kind for Service {
    const NAME: &'static str = "service";
    const SUMMARY: &'static str =
        "units of systemd: running, starting at boot, restarted only when that is allowed";
    const EXAMPLE: &'static str = "\
uwsgi-prod.service: {enabled: true, active: true}
nginx.service: {enabled: true, active: true, restart: {window: \"Sun 02:00-04:00\"}}
worker.service: {active: true, restart: {slot: true}}
cherokee.service: {enabled: false, active: false}
pgbouncer.service: {active: true, restart: {window: \"02:00-04:00\", slot: middleware}}
backup.timer: {enabled: true, active: true, restart: allowed}
";
    type Want = Want;
    type Have = Have;

    fn check(name: &str, want: &Want) -> Vec<Complaint> {
        rules::check(name, want)
    }

    fn pace(section: &Section<Want>) -> Option<Duration> {
        let waits = |want: &Want| matches!(&want.restart, Restart::When(_));
        section.kept().any(|(_, want, item)| waits(want) && item.enforced()).then_some(WAITING)
    }

    fn interests(section: &Section<Want>) -> Vec<Interest> {
        section.kept().flat_map(|(name, ..)| files(name)).map(Interest::File).collect()
    }

    fn witness(
        _section: &Section<Want>,
        item: &str,
        _path: &str,
        node: &dyn Sensor,
    ) -> Result<Vec<Witness>, Fault> {
        let seen = node.units(&[item.to_owned()])?.remove(item).unwrap_or_default();
        let told = |layer: &str, place: &str, value: String, won: bool| Witness {
            layer: layer.into(),
            place: place.into(),
            value,
            note: None,
            won,
        };
        let newer = seen.need_daemon_reload.then(|| "newer than what systemd has read".to_owned());
        Ok(vec![
            Witness { note: newer, ..told("unit file", &seen.fragment, seen.load.clone(), false) },
            told("at boot", UNITS, seen.file_state.clone(), false),
            told("systemd", item, format!("{} ({}), {}", seen.active, seen.sub, seen.result), true),
        ])
    }

    fn observe(section: &Section<Want>, node: &dyn Sensor) -> Result<Have, Fault> {
        let names: Vec<String> = section.kept().map(|(name, ..)| name.to_owned()).collect();
        let units = if !names.is_empty() && node.systemd() { Some(node.units(&names)?) } else { None };
        let tier = node.tier();
        let owed = |name: &String| {
            let since = node.owed_since_us(&restart_debt(name))?;
            let started = units.as_ref()?.get(name)?.since_us;
            Some((name.clone(), if started > since { Owed::Done } else { Owed::Due }))
        };
        let restarts = names.iter().filter_map(owed).collect();
        let reloads = names.iter().filter(|name| node.owes(&format!("reload {name}"))).cloned().collect();
        let groups = section.kept().filter_map(|(_, want, _)| want.group(tier.as_deref()));
        let noted = groups.filter(|group| node.owes(&slot_debt(group)));
        let slots = noted.map(|group| (group.to_owned(), node.owes(&granted_debt(group)))).collect();
        Ok(Have { units, restarts, reloads, slots, now: node.now(), tier: tier.clone() })
    }

    fn plan(section: &Section<Want>, have: &Have) -> Plan {
        desk::plan(section, have)
    }
}

/// What tells that a unit began or ended, or is started at boot: its control group, its file and its link.
fn files(unit: &str) -> Vec<PathBuf> {
    let mut files = vec![
        PathBuf::from(UNITS).join(unit),
        PathBuf::from(UNITS).join(format!("{unit}.d")),
        PathBuf::from(WANTS).join(unit),
    ];
    if unit.as_bytes().ends_with(b".service") {
        for root in GROUPS.map(PathBuf::from) {
            let folder = template(unit).map_or_else(|| root.clone(), |slice| root.join(slice));
            files.push(folder.join(unit).join("cgroup.events"));
        }
    }
    files
}

/// The slice that instances of a template are in: `system-getty.slice` for `getty@tty1.service`.
fn template(unit: &str) -> Option<String> {
    let (stem, _) = unit.split_once('@')?;
    Some(format!("system-{}.slice", stem.replace('-', "\\x2d")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_wakes_for_its_control_group_in_either_tree() {
        let told: Vec<String> =
            files("my-app@a.service").iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            told[3..],
            [
                r"/sys/fs/cgroup/system.slice/system-my\x2dapp.slice/my-app@a.service/cgroup.events",
                r"/sys/fs/cgroup/unified/system.slice/system-my\x2dapp.slice/my-app@a.service/cgroup.events",
            ]
        );
        assert_eq!(files("backup.timer").len(), 3);
    }
}
