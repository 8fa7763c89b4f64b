//! Mounts: what is mounted now, and the unit that mounts it at the next boot.
//!
//! What is mounted is what the kernel says of source, type and place. The unit is a file that evenkeel owns. Nothing is
//! ever unmounted but for `absent: true` or where `disruptive` says when, and never lazily or by force; what is mounted
//! and should be something else is told and left alone. Whether a share answers is asked by children that may hang; what
//! lies below it is asked of the folder, not of the share.

mod below;
mod boot;
mod desk;
mod health;
mod lints;
mod live;
mod options;
mod table;
mod unit;

pub(crate) use unit::escape_path;
mod want;
mod wishes;
mod witness;

use crate::owned::is_owned;
use boot::{Others, Said};
use evenkeel_core::{
    Complaint, Covered, Fault, FolderQuestion, FolderSeen, Holder, Interest, Item, Kind, MountEntry, Plan,
    Section, Sensor, UnitSeen, Wish, Witness, chain,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use table::Identity;

pub use want::{Bits, Want};
pub use wishes::{Automount, Below, Disruptive, Guarded, Health, Slot};

/// What is owed to systemd once a unit's file has changed.
pub(crate) const DEBT: &str = "systemd daemon-reload";

/// Mounts.
pub struct Mount;

/// What was seen of the mounts that the section names, and of the units that evenkeel owns.
pub struct Have {
    places: BTreeMap<String, Result<Place, String>>,
    /// Units of ours that no item needs.
    left: Vec<Left>,
    systemd: bool,
    owed: bool,
    /// In seconds since 1970.
    now: i64,
}

/// A unit of ours that no item needs.
struct Left {
    file: String,
    text: String,
    enabled: bool,
    /// What it stands for is in the mount table.
    mounted: bool,
    /// The folder was made immutable by us.
    immutable: bool,
}

/// What was seen of one item.
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that was seen")]
struct Place {
    /// The mount point as the kernel sees it.
    target: PathBuf,
    /// Whether the folder to mount on is there.
    exists: bool,
    identity: Identity,
    /// How many mounts `absent: true` means, one upon the other.
    meant: usize,
    /// What is mounted there.
    top: Option<MountEntry>,
    /// Whether something waits there for the first touch, below what is mounted or alone.
    autofs: bool,
    /// Whether several things are mounted there, one upon the other.
    stacked: bool,
    unit: UnitFile,
    automount: UnitFile,
    /// The targets that want the unit, and those that want the automount.
    enabled: BTreeSet<String>,
    waits: BTreeSet<String>,
    /// What systemd knows of the unit.
    seen: Option<UnitSeen>,
    /// What others say of the place.
    others: Vec<Said>,
    /// What a look into the mounted folder told, where one was needed.
    inside: Option<FolderSeen>,
    /// What lies in the folder itself, where that was asked.
    covered: Option<Result<Option<Covered>, String>>,
    /// Where else the same share is mounted, and where something of the same server.
    same_share: Vec<PathBuf>,
    same_server: Vec<PathBuf>,
    /// Who holds it, where it is to be unmounted.
    holders: Option<Result<Vec<Holder>, String>>,
    /// Whether it was mounted anew for what is wanted now.
    tried: bool,
    /// The group of which a slot is taken for it.
    group: Option<String>,
    /// Whether one is held.
    held: bool,
    facts: BTreeMap<String, String>,
}

enum UnitFile {
    None,
    Ours(String),
    Barred(String),
}

impl Kind for Mount {
    const NAME: &'static str = "mount";
    const SUMMARY: &'static str = "mounts, now and after the next boot";
    const EXAMPLE: &'static str = "\
/srv/eden/uploads:
  source: 10.20.3.5:/eden/uploads
  type: nfs4
  options: [rw, hard, vers=4.2]
  sentinel: .export-id
  owner: web2py
  mode: \"0750\"
  health: {within: 2s}
  guard: immutable
  disruptive: {window: \"Sun 02:00-04:00\", slot: true}
/srv/eden/fonts:
  source: 10.20.3.5:/eden/fonts
  type: nfs4
  options: [hard]
  automount: true
  seed: true
  disruptive: when_idle
/srv/eden/cache: {source: tmpfs, type: tmpfs, options: [size=64m, nosuid]}
/srv/eden/static: {source: /srv/data/static, type: bind, options: [ro]}
/srv/eden/images: {source: /srv/images.ext4, type: ext4, options: [loop, noatime], permissions: \"0755\"}
";
    type Want = Want;
    type Have = Have;

    fn check(name: &str, want: &Want) -> Vec<Complaint> {
        want::check(name, want)
    }

    fn across(name: &str, of: &[(&str, &Want)]) -> Vec<Complaint> {
        lints::across(name, of)
    }

    fn pace(section: &Section<Want>) -> Option<Duration> {
        // No event tells that a server has died, or has come back.
        section.kept().filter(|(_, want, _)| want.watched()).map(|(_, want, _)| want.health().every()).min()
    }

    fn interests(section: &Section<Want>) -> Vec<Interest> {
        let files = section.items.keys().map(|name| Interest::File(unit::file(&unit::name(Path::new(name)))));
        let mut interests: Vec<Interest> = files.collect();
        if !interests.is_empty() {
            interests.push(Interest::Mounts);
            interests.push(Interest::File("/etc/fstab".into()));
        }
        interests
    }

    fn observe(section: &Section<Want>, node: &dyn Sensor) -> Result<Have, Fault> {
        let look = Look { mounts: node.mounts()?, wants: wants(node)?, others: Others::see(node)?, node };
        let mut places: BTreeMap<String, Result<Place, String>> = section
            .items
            .iter()
            .map(|(name, item)| (name.clone(), look.place(name, item).map_err(|fault| chain(&fault))))
            .collect();
        look.units(&mut places);
        look.insides(section, &mut places);
        let now = node.now();
        look.held(section, &mut places, now);
        let named = named(section, &places);
        let (systemd, owed) = (node.systemd(), node.owes(DEBT));
        Ok(Have { left: look.left(&named)?, places, systemd, owed, now })
    }

    fn witness(
        section: &Section<Want>,
        item: &str,
        _path: &str,
        node: &dyn Sensor,
    ) -> Result<Vec<Witness>, Fault> {
        Ok(witness::rows(section, item, &Self::observe(section, node)?))
    }

    fn plan(section: &Section<Want>, have: &Have) -> Plan {
        desk::plan(section, have)
    }
}

/// Which units each target wants: the links in its folder.
fn wants(node: &dyn Sensor) -> Result<BTreeMap<String, BTreeSet<String>>, Fault> {
    let mut wants: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for target in ["local-fs.target", "remote-fs.target"] {
        let folder = Path::new(unit::FOLDER).join(format!("{target}.wants"));
        for unit in node.list(&folder)?.unwrap_or_default() {
            wants.entry(unit).or_default().insert(target.to_owned());
        }
    }
    Ok(wants)
}

/// The names of all units that some item needs, or looks after.
fn named(section: &Section<Want>, places: &BTreeMap<String, Result<Place, String>>) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (name, place) in places {
        let Ok(place) = place else { continue };
        named.insert(unit::name(&place.target));
        let kept = section.items[name].kept();
        if kept.is_none_or(Want::automounts) {
            named.insert(unit::automount_name(&place.target));
        }
    }
    named
}

struct Look<'a> {
    mounts: Vec<MountEntry>,
    wants: BTreeMap<String, BTreeSet<String>>,
    others: Others,
    node: &'a dyn Sensor,
}

impl Look<'_> {
    fn place(&self, name: &str, item: &Item<Want>) -> Result<Place, Fault> {
        let (target, exists) = table::canonical(Path::new(name), self.node)?;
        let want = match &item.wish {
            Wish::Keep(want) | Wish::Absent(Some(want)) => Some(want),
            Wish::Absent(None) => None,
        };
        let top = table::topmost(&self.mounts, &target).cloned();
        let identity = match want {
            Some(want) => table::identity(want, &target, &self.mounts, self.node)?,
            None if top.is_some() => Identity::Right,
            None => Identity::Nothing,
        };
        let (unit, waiting) = (unit::name(&target), unit::automount_name(&target));
        let wanted = |unit: &str| self.wants.get(unit).cloned().unwrap_or_default();
        let meant = match &item.wish {
            Wish::Absent(want) => table::depth(want.as_ref(), &target, &self.mounts, self.node)?,
            Wish::Keep(_) => 0,
        };
        let at = |entry: &MountEntry| entry.target == target && entry.fstype == table::AUTOFS;
        let autofs = self.mounts.iter().any(at);
        let here = |entry: &&MountEntry| entry.target == target && entry.fstype != table::AUTOFS;
        let stacked = self.mounts.iter().filter(here).count() > 1;
        let (same_share, same_server) =
            top.as_ref().map(|top| live::companions(top, &self.mounts)).unwrap_or_default();
        let others = match item.kept() {
            Some(_) => self.others.of(name, &target, self.node)?,
            None => vec![],
        };
        let group = want.and_then(|want| match &want.disruptive {
            Some(Disruptive::In { slot, .. }) => slot.group(self.node.tier().as_deref()),
            _ => None,
        });
        let mut place = Place {
            exists,
            identity,
            meant,
            top,
            autofs,
            stacked,
            unit: self.unit(&unit),
            automount: self.unit(&waiting),
            enabled: wanted(&unit),
            waits: wanted(&waiting),
            seen: None,
            others,
            inside: None,
            covered: None,
            same_share,
            same_server,
            holders: None,
            tried: item
                .kept()
                .is_some_and(|want| want.disruptive.is_some() && self.node.owes(&live::tried(want, &target))),
            held: group.as_ref().is_some_and(|group| self.node.owes(&live::slot_debt(group))),
            group,
            facts: item.kept().map(|want| self.facts(want)).unwrap_or_default(),
            target,
        };
        if place.asks_below(item.kept()) {
            place.covered = Some(self.node.covered(&place.target).map_err(|fault| chain(&fault)));
        }
        Ok(place)
    }

    /// What the names of owner and group stand for here, and where a share comes from: on two nodes with one share they must
    /// be the same.
    fn facts(&self, want: &Want) -> BTreeMap<String, String> {
        let user = want.owner.as_ref().and_then(|name| self.node.user(name).ok().flatten());
        let group = want.group.as_ref().and_then(|name| self.node.group(name).ok().flatten());
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        let share = want.network().then(|| want.source.clone());
        let facts = [("owner.uid", number(user)), ("group.gid", number(group)), ("share.source", share)];
        facts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    /// What systemd knows of the units, all asked at once.
    fn units(&self, places: &mut BTreeMap<String, Result<Place, String>>) {
        let ours = |place: &&Place| matches!(place.unit, UnitFile::Ours(_));
        let names: Vec<String> =
            places.values().flatten().filter(ours).map(|place| unit::name(&place.target)).collect();
        let mut seen = boot::seen(&names, self.node);
        for place in places.values_mut().flatten() {
            place.seen = seen.remove(&unit::name(&place.target));
        }
    }

    /// Look into all folders that need it, at once.
    fn insides(&self, section: &Section<Want>, places: &mut BTreeMap<String, Result<Place, String>>) {
        let (mut names, mut questions) = (vec![], vec![]);
        for (name, want, _) in section.kept() {
            let asked = want.watched()
                || want.sentinel.is_some()
                || want.owner.is_some()
                || want.group.is_some()
                || want.bits().is_some()
                || want.seed;
            match places.get(name) {
                Some(Ok(place)) if asked && place.identity == Identity::Right => {
                    names.push(name);
                    questions.push(question(want, &place.target));
                }
                _ => {}
            }
        }
        // Asked though there is no question: what hangs at a place that nobody names any more is given up then.
        for (name, seen) in names.into_iter().zip(self.node.folders(&questions)) {
            if let Some(Ok(place)) = places.get_mut(name) {
                place.inside = Some(seen);
            }
        }
    }

    /// Who holds what is to be unmounted.
    fn held(&self, section: &Section<Want>, places: &mut BTreeMap<String, Result<Place, String>>, now: i64) {
        for (name, want, _) in section.kept() {
            if let Some(Ok(place)) = places.get_mut(name)
                && live::asks_holders(want, place, now)
            {
                place.holders = Some(self.node.holders(&place.target).map_err(|fault| chain(&fault)));
            }
        }
    }

    fn unit(&self, name: &str) -> UnitFile {
        let path = unit::file(name);
        match self.node.read(&path) {
            Ok(None) => UnitFile::None,
            Ok(Some(text)) if is_owned(&text) => UnitFile::Ours(text),
            Ok(Some(_)) => UnitFile::Barred(format!(
                "{} was not written by evenkeel and is left alone: move it away, so that evenkeel can have the unit it owns",
                path.display()
            )),
            Err(fault) => UnitFile::Barred(chain(&fault)),
        }
    }

    /// Units of ours that nobody names any more.
    fn left(&self, named: &BTreeSet<String>) -> Result<Vec<Left>, Fault> {
        let all = self.node.list(Path::new(unit::FOLDER))?.unwrap_or_default();
        let unit =
            |name: &String| name.as_bytes().ends_with(b".mount") || name.as_bytes().ends_with(b".automount");
        let other = all.into_iter().filter(|name| unit(name) && !named.contains(name));
        let ours = other.filter_map(|file| match self.unit(&file) {
            UnitFile::Ours(text) if !text.trim().is_empty() => Some(self.one_left(file, text)),
            _ => None,
        });
        Ok(ours.collect())
    }

    fn one_left(&self, file: String, text: String) -> Left {
        let at = PathBuf::from(unit::value(&text, "Where"));
        let waits = file.ends_with(".automount");
        let there = |entry: &&MountEntry| entry.target == at && (entry.fstype == table::AUTOFS) == waits;
        let flag = |covered: Covered| covered.immutable == Some(true);
        let immutable = unit::guards(&text) && self.node.covered(&at).ok().flatten().is_some_and(flag);
        Left {
            enabled: self.wants.contains_key(&file),
            mounted: self.mounts.iter().find(there).is_some(),
            immutable,
            file,
            text,
        }
    }
}

fn question(want: &Want, target: &Path) -> FolderQuestion {
    let health = want.health();
    let (folder, sentinel) = (target.to_owned(), want.sentinel.clone());
    // One that is looked at more seldom than it falls asleep can fall asleep.
    let lasts = if want.watched() { None } else { want.idle().map(|idle| idle * 3) };
    FolderQuestion { folder, sentinel, write: health.write, within: health.within(), lasts }
}
