//! Kernel parameters: as they are now, and as they will be after the next boot.
//!
//! Two layers, observed and repaired apart: the running kernel, and a drop-in in sysctl.d that evenkeel owns. What other
//! files say is read and never edited; where one of them would win at the next boot, it is named.

mod desk;
mod paths;
mod rules;
mod want;

use crate::owned::is_owned;
use crate::sysctl_d::{About, Boot, DROP_IN, FOLDER, SYSCTL_CONF, parse};
use evenkeel_core::{
    Class, Complaint, Derived, Fault, Interest, Kind, PathEnd, Plan, Section, Sensor, SysctlKey, SysctlSeen,
    chain,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub use want::{Scalar, Want};

/// Kernel parameters.
pub struct Sysctl;

/// What was seen of the kernel and of sysctl.d.
pub struct Have {
    live: BTreeMap<SysctlKey, Live>,
    drop_in: DropIn,
    boot: Boot,
    systemd: bool,
}

/// What was seen of one parameter; trouble with one is no trouble with another.
enum Live {
    Seen(SysctlSeen),
    /// It is off and lies on a tree that is mounted read-only.
    Frozen(String),
    Trouble(Class, String),
}

/// What was seen of the drop-in.
enum DropIn {
    /// It is not there.
    None,
    /// Ours: its lines by key, and its text.
    Ours(BTreeMap<SysctlKey, String>, String),
    /// Somebody else's file bears its name, or it cannot be read: why it is left alone.
    Barred(String),
}

impl Kind for Sysctl {
    const NAME: &'static str = "sysctl";
    const SUMMARY: &'static str = "kernel parameters, now and after the next boot";
    const EXAMPLE: &'static str = "\
net.ipv4.tcp_keepalive_time: 60
net.ipv4.tcp_retries2: {value: 8}
net.ipv4.tcp_rmem: \"4096 131072 6291456\"
net.core.somaxconn: {at_least: 1024}
vm.swappiness: {at_least: 1, at_most: 10}
net.ipv4.tcp_rto_max_ms: {value: 12800, optional: true}
";
    const SHORTHAND: Option<&'static str> = Some("value");
    const DISPLACES: &'static [(&'static str, &'static [&'static str])] =
        &[("value", &["at_least", "at_most"]), ("at_least", &["value"]), ("at_most", &["value"])];
    type Want = Want;
    type Have = Have;

    fn check(name: &str, want: &Want) -> Vec<Complaint> {
        rules::check(name, want)
    }

    fn derive(paths: &[PathEnd], _said: &BTreeMap<String, Value>) -> Vec<Derived> {
        paths::derive(paths)
    }

    fn check_paths(name: &str, want: &Want, paths: &[PathEnd]) -> Vec<Complaint> {
        paths::check(name, want, paths)
    }

    fn interests(section: &Section<Want>) -> Vec<Interest> {
        let keys = section.kept().filter_map(|(name, ..)| name.parse().ok()).map(Interest::Sysctl);
        let mut interests: Vec<Interest> = keys.collect();
        if !interests.is_empty() {
            interests.extend([DROP_IN, FOLDER, SYSCTL_CONF].map(|path| Interest::File(path.into())));
        }
        interests
    }

    fn observe(section: &Section<Want>, node: &dyn Sensor) -> Result<Have, Fault> {
        let drop_in = match node.read(Path::new(DROP_IN)) {
            Ok(None) => DropIn::None,
            Ok(Some(text)) if is_owned(&text) => DropIn::Ours(entries(&text), text),
            Ok(Some(_)) => DropIn::Barred(format!(
                "{DROP_IN} was not written by evenkeel and is left alone: move it away, so that evenkeel can have the \
                 file it owns"
            )),
            Err(fault) => DropIn::Barred(chain(&fault)),
        };
        let named = section.kept().filter_map(|(name, ..)| name.parse().ok());
        let left = drop_in.entries().into_iter().flat_map(|entries| entries.keys().cloned());
        let keys: BTreeSet<SysctlKey> = named.chain(left).collect();
        let live = keys.into_iter().map(|key| {
            let seen = match node.sysctl(&key) {
                Ok(SysctlSeen::Value(value)) if off(section, &key, &value) && node.sysctl_frozen(&key) => {
                    Live::Frozen(value)
                }
                Ok(seen) => Live::Seen(seen),
                Err(fault) => Live::Trouble(fault.class, chain(&fault)),
            };
            (key, seen)
        });
        Ok(Have { live: live.collect(), drop_in, boot: Boot::read(node), systemd: node.systemd() })
    }

    fn plan(section: &Section<Want>, have: &Have) -> Plan {
        let mut desk = desk::Desk::new(have);
        for (name, want, item) in section.kept() {
            desk.keep(name, want, item.enforced());
        }
        for (key, line) in have.drop_in.entries().into_iter().flatten() {
            let name = key.to_string();
            let item = section.items.get(&name);
            if item.is_none_or(|item| item.kept().is_none()) {
                let mode = item.map_or(section.mode, |item| item.mode);
                desk.leave(&name, key, line, mode == evenkeel_core::Mode::Enforce);
            }
        }
        desk.finish()
    }
}

/// Whether an enforced item would have a parameter set to something else.
fn off(section: &Section<Want>, key: &SysctlKey, value: &str) -> bool {
    let item = section.items.get(&key.to_string()).filter(|item| item.enforced());
    let goal = item.and_then(|item| item.kept()).and_then(Want::goal);
    goal.is_some_and(|goal| !goal.met_by(value))
}

impl Live {
    fn value(&self) -> Option<&str> {
        match self {
            Self::Seen(SysctlSeen::Value(value)) | Self::Frozen(value) => Some(value),
            Self::Seen(_) | Self::Trouble(..) => None,
        }
    }
}

impl DropIn {
    fn entries(&self) -> Option<&BTreeMap<SysctlKey, String>> {
        match self {
            Self::Ours(entries, _) => Some(entries),
            Self::None | Self::Barred(_) => None,
        }
    }
}

/// Our own drop-in's lines. It has no patterns.
fn entries(text: &str) -> BTreeMap<SysctlKey, String> {
    let lines = parse(text).into_iter().filter_map(|line| match line.about {
        About::Key(key) => Some((key, line.value?)),
        About::Pattern(_) => None,
    });
    lines.collect()
}
