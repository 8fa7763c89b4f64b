//! Mounts: what is mounted now, and the unit that mounts it at the next boot.
//!
//! What is mounted is what the kernel says of source, type and place. The unit is a file that evenkeel owns. Nothing is
//! ever unmounted but for `absent: true`, and never lazily or by force; what is mounted and should be something else
//! is told and left alone.

mod desk;
mod options;
mod table;
mod unit;

pub(crate) use unit::escape_path;
mod want;

use crate::owned::is_owned;
use evenkeel_core::{
    Complaint, Fault, FolderQuestion, FolderSeen, Inside, Interest, Item, Kind, MountEntry, Plan, Section,
    Sensor, Wish, chain,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use table::Identity;

pub use want::{Bits, Want};

/// What is owed to systemd once a unit's file has changed.
pub(crate) const DEBT: &str = "systemd daemon-reload";

/// Mounts.
pub struct Mount;

/// What was seen of the mounts that the section names, and of the units that evenkeel owns.
pub struct Have {
    places: BTreeMap<String, Result<Place, String>>,
    /// Units of ours that no item needs: by name, their text, and whether they are enabled and mounted.
    left: Vec<(String, String, bool, bool)>,
    systemd: bool,
    owed: bool,
}

/// What was seen of one item.
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
    unit: UnitFile,
    /// The targets that want the unit.
    enabled: BTreeSet<String>,
    /// What a look into the mounted folder told, where one was needed.
    inside: Option<Result<Inside, String>>,
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
/srv/eden/cache: {source: tmpfs, type: tmpfs, options: [size=64m, nosuid]}
/srv/eden/static: {source: /srv/data/static, type: bind, options: [ro]}
/srv/eden/images: {source: /srv/images.ext4, type: ext4, options: [loop, noatime], permissions: \"0755\"}
";
    type Want = Want;
    type Have = Have;

    fn check(name: &str, want: &Want) -> Vec<Complaint> {
        want::check(name, want)
    }

    fn interests(section: &Section<Want>) -> Vec<Interest> {
        let files = section.items.keys().map(|name| Interest::File(unit::file(&unit::name(Path::new(name)))));
        let mut interests: Vec<Interest> = files.collect();
        if !interests.is_empty() {
            interests.push(Interest::Mounts);
        }
        interests
    }

    fn observe(section: &Section<Want>, node: &dyn Sensor) -> Result<Have, Fault> {
        let look = Look { mounts: node.mounts()?, wants: wants(node)?, node };
        let places: BTreeMap<String, Result<Place, String>> = section
            .items
            .iter()
            .map(|(name, item)| (name.clone(), look.place(name, item).map_err(|fault| chain(&fault))))
            .collect();
        let named = places.values().flatten().map(|place| unit::name(&place.target)).collect();
        Ok(Have { left: look.left(&named)?, places, systemd: node.systemd(), owed: node.owes(DEBT) })
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

struct Look<'a> {
    mounts: Vec<MountEntry>,
    wants: BTreeMap<String, BTreeSet<String>>,
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
        let inside =
            item.kept().filter(|_| identity == Identity::Right).and_then(|want| self.inside(want, &target));
        let unit = unit::name(&target);
        let enabled = self.wants.get(&unit).cloned().unwrap_or_default();
        let meant = match &item.wish {
            Wish::Absent(want) => table::depth(want.as_ref(), &target, &self.mounts, self.node)?,
            Wish::Keep(_) => 0,
        };
        Ok(Place { target, exists, identity, meant, top, unit: self.unit(&unit), enabled, inside })
    }

    fn inside(&self, want: &Want, target: &Path) -> Option<Result<Inside, String>> {
        let asked = want.sentinel.is_some() || want.owner.is_some() || want.bits().is_some();
        let (folder, sentinel) = (target.to_owned(), want.sentinel.clone());
        let question = FolderQuestion { folder, sentinel, write: false, within: Duration::from_secs(2) };
        asked.then(|| match self.node.folders(&[question]).pop() {
            Some(FolderSeen::Answers(inside)) => Ok(inside),
            Some(FolderSeen::Trouble(why)) => Err(why),
            other => Err(format!("{other:?}")),
        })
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
    fn left(&self, named: &BTreeSet<String>) -> Result<Vec<(String, String, bool, bool)>, Fault> {
        let all = self.node.list(Path::new(unit::FOLDER))?.unwrap_or_default();
        let other =
            all.into_iter().filter(|name| name.as_bytes().ends_with(b".mount") && !named.contains(name));
        let ours = other.filter_map(|name| match self.unit(&name) {
            UnitFile::Ours(text) if !text.trim().is_empty() => {
                let mounted = table::topmost(&self.mounts, Path::new(&unit::value(&text, "Where"))).is_some();
                let enabled = self.wants.contains_key(&name);
                Some((name, text, enabled, mounted))
            }
            _ => None,
        });
        Ok(ours.collect())
    }
}
