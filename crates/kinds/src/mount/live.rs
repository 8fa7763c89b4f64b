//! What is mounted now, and what becomes of it where only an unmount and a mount would help.

use super::desk::drift;
use super::options::{self, Stand};
use super::table::{Identity, tell};
use super::want::Want;
use super::wishes::Disruptive;
use super::{Place, unit};
use evenkeel_core::{Drift, FolderSeen, Holder, Layer, MountEntry};
use std::fmt::Write as _;
use std::path::Path;

/// Something that is off.
pub(super) struct Off {
    /// Why, for a person.
    pub(super) why: String,
    pub(super) drift: Drift,
}

/// How the options stand.
#[derive(Default)]
pub(super) struct Options {
    /// What a remount in place puts right.
    pub(super) in_place: Vec<Drift>,
    /// What takes an unmount and a mount.
    pub(super) anew: Vec<Off>,
    /// What not even that would change, because another mount holds the same share.
    pub(super) shared: Vec<Off>,
    /// Options that nobody can see.
    pub(super) unknown: Vec<String>,
}

pub(super) fn options(want: &Want, place: &Place) -> Options {
    let mut told = Options::default();
    let Some(top) = &place.top else { return told };
    for option in &want.options {
        match options::stand(option, top) {
            Stand::Met => {}
            Stand::Unknown => told.unknown.push(option.clone()),
            Stand::Off { observed, in_place: true } => {
                told.in_place.push(drift("options", Layer::Mount, Some(observed), option));
            }
            Stand::Off { observed, in_place: false } => {
                let mut why = format!("{option} is wanted and {observed} is in force");
                let drift = drift("options", Layer::Mount, Some(observed), option);
                match place.sharing(option) {
                    None => told.anew.push(Off { why, drift }),
                    Some(other) => {
                        let _ = write!(
                            why,
                            ": {} shows the same share, and the options of whoever was mounted first count for both; \
                             mount with nosharecache, or say the same on both",
                            other.display()
                        );
                        told.shared.push(Off { why, drift });
                    }
                }
            }
        }
    }
    told
}

impl Place {
    /// Who else holds what decides this option: the kernel keeps one set of options for a share, and one set of
    /// connections for a server.
    fn sharing(&self, option: &str) -> Option<&Path> {
        let connections = option.starts_with("nconnect");
        let all = if connections { &self.same_server } else { &self.same_share };
        all.first().map(std::path::PathBuf::as_path)
    }

    /// Whether what is mounted was mounted by a unit of ours, which says so itself.
    pub(super) fn mounted_by_us(&self) -> bool {
        let (Some(top), super::UnitFile::Ours(text)) = (&self.top, &self.unit) else { return false };
        let seen = identity_of(top);
        unit::stands_for(text).any(|one| one == seen)
    }

    /// What has to be unmounted and mounted anew, and why.
    pub(super) fn anew(&self, want: &Want) -> Vec<Off> {
        match &self.identity {
            Identity::Wrong(seen) if self.mounted_by_us() => {
                let desired = format!("{} {}", want.fstype, want.source);
                let why = format!("{seen} is mounted, by an older unit of ours, instead of {desired}");
                vec![Off { why, drift: drift("source", Layer::Mount, Some(seen.clone()), desired) }]
            }
            Identity::Right if matches!(self.inside, Some(FolderSeen::Stale)) => vec![stale(want, self)],
            // Unmounting asks a server that does not answer.
            Identity::Right if !matches!(self.inside, Some(FolderSeen::Hung)) => options(want, self).anew,
            _ => vec![],
        }
    }
}

fn stale(want: &Want, place: &Place) -> Off {
    let why = format!(
        "stale: the server of {} does not know what is mounted at {} any more; it was removed or exported anew",
        want.source,
        place.target.display()
    );
    Off { why, drift: drift("health", Layer::Mount, Some("stale".into()), "answers") }
}

/// As a unit of ours would tell it.
pub(super) fn identity_of(top: &MountEntry) -> String {
    format!("{} {}", top.fstype, top.source)
}

/// Who else shows the same share, and who has the same server, among the mounts of NFS.
pub(super) fn companions(
    top: &MountEntry,
    mounts: &[MountEntry],
) -> (Vec<std::path::PathBuf>, Vec<std::path::PathBuf>) {
    if !top.fstype.starts_with("nfs") {
        return (vec![], vec![]);
    }
    let address =
        |entry: &MountEntry| entry.super_options.iter().find(|one| one.starts_with("addr=")).cloned();
    let others = || mounts.iter().filter(|entry| entry.id != top.id && entry.target != top.target);
    let target = |entry: &MountEntry| entry.target.clone();
    let share = others().filter(|entry| entry.device == top.device).map(target).collect();
    let here = address(top);
    let server = others().filter(|entry| here.is_some() && address(entry) == here).map(target).collect();
    (share, server)
}

/// Whether it may be disturbed now, or what it waits for.
pub(super) fn may(want: &Want, place: &Place, now: i64) -> Result<(), String> {
    match &want.disruptive {
        None | Some(Disruptive::Never) => {
            Err("it takes an unmount and a mount, which evenkeel leaves to you, or to `disruptive:`".into())
        }
        Some(Disruptive::In { window, .. }) if !window.contains(now) => {
            Err(format!("it takes an unmount and a mount, and waits for its window, {window} UTC"))
        }
        Some(_) if place.stacked => {
            Err("several mounts lie one upon the other there, and which of them is meant is for you to say"
                .into())
        }
        Some(_) if place.tried => Err(
            "it was unmounted and mounted anew, and is still so: the server or the kernel grants no other"
                .into(),
        ),
        Some(_) => match &place.holders {
            Some(Ok(holders)) if holders.is_empty() => Ok(()),
            Some(Ok(holders)) => Err(format!(
                "it takes an unmount and a mount, and waits until nobody holds it: {}",
                names(holders)
            )),
            Some(Err(why)) => {
                Err(format!("it takes an unmount and a mount, and nobody can say who holds it: {why}"))
            }
            None => Err("it takes an unmount and a mount".into()),
        },
    }
}

/// By name and unit: which process of a pool it is changes by itself.
fn names(holders: &[Holder]) -> String {
    let mut names: Vec<String> = vec![];
    for holder in holders {
        let name = match &holder.unit {
            Some(unit) => format!("{} of {unit}", holder.comm),
            None => format!("{} (process {})", holder.comm, holder.pid),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = names.len().saturating_sub(3);
    names.truncate(3);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// Whether anybody need be asked who holds it.
pub(super) fn asks_holders(want: &Want, place: &Place, now: i64) -> bool {
    let open = match &want.disruptive {
        None | Some(Disruptive::Never) => false,
        Some(Disruptive::WhenIdle) => true,
        Some(Disruptive::In { window, .. }) => window.contains(now),
    };
    open && !place.tried && !place.stacked && !place.anew(want).is_empty()
}

/// Notes that it was mounted anew for these options, so that what does not help is not done again and again. Forgotten
/// once they are in force, and at a reboot.
pub(super) fn tried(want: &Want, target: &Path) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "/-_.".contains(c) { c } else { '_' };
    let place: String = target.to_string_lossy().chars().map(plain).collect();
    let wanted = format!("{} {} {}", want.fstype, want.source, want.options.join(","));
    // FNV-1a: the same on every node and in every version.
    let hash = wanted.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("mounted anew {place} {hash:016x}")
}

/// Notes that a slot of this group was taken.
pub(super) fn slot_debt(group: &str) -> String {
    format!("mount slot {group}")
}

/// What is wrongly mounted, for a person.
pub(super) fn wrong(want: &Want, place: &Place, seen: &str) -> Off {
    let desired = format!("{} {}", want.fstype, want.source);
    let why = format!(
        "something else is mounted at {}: {seen} instead of {desired}; evenkeel does not touch it: unmount it when nobody \
         needs it, or change the spec",
        place.target.display()
    );
    Off { why, drift: drift("source", Layer::Mount, Some(seen.to_owned()), desired) }
}

/// What is there, for a person.
pub(super) fn there(place: &Place) -> Option<String> {
    place.top.as_ref().map(tell)
}
