//! What there is in a file's place, and what it waits for.

use super::want::Want;
use super::{Sight, Stop, There, credentials, differ, places, service_file, validate};
use evenkeel_core::{Fault, FileSeen, MountEntry, Secret, Section, Sensor, Wish, chain};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Every file of a section. Two names for one file are told: they would be written in turns.
pub(super) fn all(section: &Section<Want>, node: &dyn Sensor) -> BTreeMap<String, Sight> {
    let (mut sights, mut names): (BTreeMap<String, Sight>, BTreeMap<PathBuf, String>) = Default::default();
    let look = Look { node, mounts: node.mounts(), fstab: node.read(Path::new("/etc/fstab")).ok().flatten() };
    for (name, item) in &section.items {
        let mut sight = match &item.wish {
            Wish::Keep(want) => look.kept(name, want),
            Wish::Absent(_) => look.place(name),
        };
        if let Some(other) = names.insert(sight.real.clone(), name.clone()) {
            sight.stop = Some(Stop::wrong(format!("{name} and {other} are one file: keep one of the two")));
        }
        sights.insert(name.clone(), sight);
    }
    sights
}

struct Look<'a> {
    node: &'a dyn Sensor,
    mounts: Result<Vec<MountEntry>, Fault>,
    fstab: Option<String>,
}

impl Look<'_> {
    /// What is there, whatever is wanted.
    fn place(&self, name: &str) -> Sight {
        let mut sight = Sight::default();
        match self.seen(Path::new(name)) {
            Ok((real, there)) => (sight.real, sight.there) = (real, there),
            Err(stop) => (sight.real, sight.stop) = (name.into(), Some(stop)),
        }
        sight
    }

    fn seen(&self, path: &Path) -> Result<(PathBuf, There), Stop> {
        let trouble = |fault: Fault| Stop::wrong(chain(&fault));
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Stop::wrong("this is no path of a file"));
        };
        let Some(folder) = self.node.resolve(above).map_err(trouble)? else {
            return Err(Stop::waits(format!("waits: {} is not there", above.display())));
        };
        let real = folder.join(name);
        if let Some(why) = places::refused(&real) {
            let reason = format!("{} leads to {}: {why}", path.display(), real.display());
            return Err(Stop::wrong(reason));
        }
        if let Some(mount) = self.unmounted(&folder) {
            let reason = format!(
                "waits: {} is to be mounted, and is not: it would hide what is written now",
                mount.display()
            );
            return Err(Stop::waits(reason));
        }
        match self.node.resolve(&real).map_err(trouble)? {
            Some(to) if to != real => Ok((real, There::Link(to))),
            _ => {
                let file = self.node.file(&real).map_err(trouble)?;
                Ok((real, file.map_or(There::Nothing, There::File)))
            }
        }
    }

    fn kept(&self, name: &str, want: &Want) -> Sight {
        let mut sight = self.place(name);
        if let There::Link(to) = &sight.there {
            let reason =
                format!("{name} is a symlink to {}: name that place, or take the link away", to.display());
            sight.stop.get_or_insert(Stop::wrong(reason));
        }
        match self.text(name, want) {
            Ok(text) => sight.meant = Some(text),
            Err(stop) => drop(sight.stop.get_or_insert(stop)),
        }
        let there = match &sight.there {
            There::File(file) => Some(file),
            _ => None,
        };
        if let Some(meant) = &sight.meant {
            let hide = want.is_secret() || there.is_some_and(private);
            sight.prints = hide.then(|| self.prints(there, meant));
        }
        if sight.stop.is_none() {
            sight.stop = self.who(want).or_else(|| self.service(want, there, sight.meant.as_ref()));
        }
        sight
    }

    fn prints(&self, there: Option<&FileSeen>, meant: &Secret) -> (String, String) {
        let print = |text| self.node.fingerprint(text);
        (there.map_or_else(|| "nothing".to_owned(), |file| print(&file.text)), print(meant))
    }

    /// The text to be written, where all that stands in it is known and it is what it is meant to be.
    fn text(&self, name: &str, want: &Want) -> Result<Secret, Stop> {
        let Some(text) = &want.content else {
            return Err(Stop::waits(format!("waits: the text of {name} has not come with the spec")));
        };
        let mut known = BTreeMap::new();
        for name in want.credentials() {
            match self.node.credential(name) {
                Ok(Some(secret)) => drop(known.insert(name, secret)),
                Ok(None) => {
                    let how = "the agent's unit gives it with `LoadCredential=`";
                    return Err(Stop::waits(format!("waits for the credential `{name}`: {how}")));
                }
                Err(fault) => return Err(Stop::wrong(chain(&fault))),
            }
        }
        let text = if want.substituted() { credentials::put_in(text, &known) } else { Secret::new(text) };
        match validate::flaws(want.form(), name, text.reveal()).first() {
            None => Ok(text),
            Some(flaw) => {
                let mut reason = "is not written: ".to_owned();
                let _ = match flaw.line {
                    Some(line) => write!(reason, "line {line} is wrong"),
                    None => write!(reason, "its text is wrong"),
                };
                // A credential may have brought the words.
                if !want.is_secret() {
                    let _ = write!(reason, ": {}", flaw.what);
                }
                Err(Stop::wrong(reason))
            }
        }
    }

    fn who(&self, want: &Want) -> Option<Stop> {
        let owner = want.owner.as_deref().map(|name| ("user", name, self.node.user(name)));
        let group = want.group.as_deref().map(|name| ("group", name, self.node.group(name)));
        owner.into_iter().chain(group).find_map(|(what, name, known)| match known {
            Ok(Some(_)) => None,
            Ok(None) => Some(Stop::waits(format!("waits: there is no {what} `{name}` on this node"))),
            Err(fault) => Some(Stop::wrong(chain(&fault))),
        })
    }

    /// libpq fails every connect of a client that names a section which is not there: its file comes first.
    fn service(&self, want: &Want, there: Option<&FileSeen>, meant: Option<&Secret>) -> Option<Stop> {
        let (path, section) = service_file(want)?;
        if there.is_some_and(|file| Some(&file.text) == meant) {
            return None;
        }
        let why = match self.node.read(&path) {
            Ok(Some(text)) => validate::section(&text, &section)?,
            Ok(None) => "is not there".to_owned(),
            Err(fault) => chain(&fault),
        };
        Some(Stop::waits(format!("waits for section [{section}] in {}, which {why}", path.display())))
    }

    /// A folder on the way that something is to be mounted on, and is not.
    fn unmounted<'p>(&self, folder: &'p Path) -> Option<&'p Path> {
        let mounts = self.mounts.as_deref().ok()?;
        let mounted = |at: &Path| mounts.iter().any(|entry| entry.target == at);
        let ways = folder.ancestors().filter(|at| at.parent().is_some());
        ways.filter(|at| !mounted(at)).find(|at| self.is_mount_point(at))
    }

    /// Whether a unit for it lies in `/etc/systemd/system`, or a line in fstab(5).
    fn is_mount_point(&self, at: &Path) -> bool {
        let unit = format!("/etc/systemd/system/{}.mount", crate::mount::escape_path(&at.to_string_lossy()));
        let named = |line: &str| {
            let mut words = line.split_whitespace();
            let (first, second) = (words.next(), words.next());
            let options = words.nth(1).unwrap_or_default();
            first.is_some_and(|word| !word.starts_with('#'))
                && second == at.to_str()
                && !options.split(',').any(|option| option == "noauto")
        };
        self.fstab.as_deref().is_some_and(|text| text.lines().any(named))
            || self.node.read(Path::new(&unit)).ok().flatten().is_some()
    }
}

/// Whether what is in a file now may be for some eyes only.
fn private(file: &FileSeen) -> bool {
    file.mode & 0o004 == 0 || differ::may_be_secret(file.text.reveal())
}
