//! What mounts at the next boot: the units that evenkeel owns, and what others say of the same place.
//!
//! A line in /etc/fstab, a unit of somebody else and a drop-in are read and named with their line, and never edited.

use super::options;
use super::unit;
use super::want::Want;
use evenkeel_core::{Fault, Sensor, UnitSeen};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const FSTAB: &str = "/etc/fstab";
/// Where units and drop-ins of others are, strongest first, `systemd.unit(5)`.
const FOLDERS: [&str; 5] = [
    unit::FOLDER,
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
];

/// What somebody else says of a mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) file: PathBuf,
    pub(super) line: usize,
    by: By,
    what: Option<String>,
    fstype: Option<String>,
    options: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Fstab,
    Unit,
    DropIn,
}

/// What a whole node says of its mounts, read once a pass.
pub(super) struct Others {
    fstab: Vec<(PathBuf, Said)>,
    names: Vec<(&'static str, BTreeSet<String>)>,
}

impl Others {
    pub(super) fn see(node: &dyn Sensor) -> Result<Self, Fault> {
        let fstab = fstab(&node.read(Path::new(FSTAB))?.unwrap_or_default());
        let mut names = vec![];
        for folder in FOLDERS {
            let all = node.list(Path::new(folder))?.unwrap_or_default();
            let mounts = |name: &String| name.as_bytes().ends_with(b".mount") || name.ends_with(".mount.d");
            names.push((folder, all.into_iter().filter(mounts).collect()));
        }
        Ok(Self { fstab, names })
    }

    /// What they say of one place, whose item may name it through a symlink.
    pub(super) fn of(&self, name: &str, target: &Path, node: &dyn Sensor) -> Result<Vec<Said>, Fault> {
        let here = |at: &Path| at == target || at == Path::new(name);
        let mut said: Vec<Said> =
            self.fstab.iter().filter(|(at, _)| here(at)).map(|(_, said)| said.clone()).collect();
        let (unit, drop_ins) = (unit::name(target), format!("{}.d", unit::name(target)));
        for (folder, names) in &self.names {
            let folder = Path::new(folder);
            if names.contains(&unit) && folder != Path::new(unit::FOLDER) {
                said.extend(whole(&folder.join(&unit), node)?);
            }
            if names.contains(&drop_ins) {
                said.extend(parts(&folder.join(&drop_ins), node)?);
            }
        }
        Ok(said)
    }
}

/// What systemd knows of these units; nothing where it does not say.
pub(super) fn seen(names: &[String], node: &dyn Sensor) -> BTreeMap<String, UnitSeen> {
    if names.is_empty() || !node.systemd() { BTreeMap::new() } else { node.units(names).unwrap_or_default() }
}

/// fstab(5): source, place, type, options; blanks come as octal escapes.
fn fstab(text: &str) -> Vec<(PathBuf, Said)> {
    let line = |(number, line): (usize, &str)| {
        let mut words = line.split_ascii_whitespace().map(unescape);
        let (what, at) = (words.next()?, words.next()?);
        let (fstype, all) = (words.next()?, words.next().unwrap_or_default());
        let options: Vec<String> = all.split(',').map(str::to_owned).collect();
        let fstype = if options.iter().any(|one| one == "bind") { "bind".to_owned() } else { fstype };
        let said = Said {
            file: FSTAB.into(),
            line: number + 1,
            by: By::Fstab,
            what: Some(what),
            fstype: Some(fstype),
            options,
        };
        Some((Path::new("/").join(at.trim_end_matches('/')), said))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#'));
    lines.filter_map(line).collect()
}

fn unescape(word: &str) -> String {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    pairs.iter().fold(word.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

/// A unit of somebody else. One that systemd made of a line in fstab says nothing: the line is asked itself, and where it
/// is gone the unit is only what systemd has not read anew.
fn whole(file: &Path, node: &dyn Sensor) -> Result<Option<Said>, Fault> {
    let Some(text) = node.read(file)? else { return Ok(None) };
    let made = text.lines().any(|line| line.trim() == "SourcePath=/etc/fstab");
    Ok(if made { None } else { section(file, &text, By::Unit) })
}

fn parts(folder: &Path, node: &dyn Sensor) -> Result<Vec<Said>, Fault> {
    let mut said = vec![];
    for name in
        node.list(folder)?.unwrap_or_default().iter().filter(|name| name.as_bytes().ends_with(b".conf"))
    {
        let file = folder.join(name);
        said.extend(node.read(&file)?.and_then(|text| section(&file, &text, By::DropIn)));
    }
    Ok(said)
}

/// What a `[Mount]` section says of source, type and options.
fn section(file: &Path, text: &str, by: By) -> Option<Said> {
    let (mut what, mut fstype, mut options, mut first) = (None, None, None, None);
    for (number, line) in text.lines().enumerate() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim().replace("%%", "%");
        match key.trim() {
            "What" => what = Some(value),
            "Type" => fstype = Some(value),
            "Options" => options = Some(value),
            _ => continue,
        }
        first.get_or_insert(number + 1);
    }
    let options: Vec<String> = options.iter().flat_map(|all| all.split(',')).map(str::to_owned).collect();
    if options.iter().any(|one| one == "bind") {
        fstype = Some("bind".into());
    }
    Some(Said { file: file.to_owned(), line: first?, by, what, fstype, options })
}

impl Said {
    /// In what it differs from what is wanted.
    pub(super) fn against(&self, want: &Want) -> Option<String> {
        let bare = |source: &str| source.trim_end_matches('/').to_owned();
        // One device has many names; only what is compared as text can be told to differ.
        let named = |source: &str| source.contains('=') || source.starts_with("/dev/");
        if let Some(what) = &self.what
            && bare(what) != bare(&want.source)
            && !(named(what) && named(&want.source))
        {
            return Some(what.clone());
        }
        let same = |fstype: &str| {
            fstype == want.fstype || (fstype.starts_with("nfs") && want.fstype.starts_with("nfs"))
        };
        if let Some(fstype) = self.fstype.as_deref().filter(|one| !same(one) && *one != "auto") {
            return Some(format!("type {fstype}"));
        }
        self.options.iter().find(|one| options::contradicts(&want.options, one)).cloned()
    }

    /// As a person reads it.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }

    /// In one line.
    pub(super) fn summary(&self) -> String {
        let options = self.options.join(",");
        let words = [self.fstype.as_deref(), self.what.as_deref(), Some(options.as_str())];
        words.into_iter().flatten().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// Why it matters that it differs, and what to do.
    pub(super) fn advice(&self) -> &'static str {
        match self.by {
            By::Fstab => {
                "evenkeel's unit comes before it at boot, but mount(8) goes by it: take the line out, or change the spec"
            }
            By::Unit => "evenkeel's unit comes before it: take it out, or change the spec",
            By::DropIn => "it comes over the unit that evenkeel owns: take it out, or change the spec",
        }
    }

    /// What it means that it says the same.
    pub(super) fn agrees(&self) -> &'static str {
        match self.by {
            By::Fstab | By::Unit => {
                "mounts the same here; evenkeel's unit comes before it, and it is not needed"
            }
            By::DropIn => "adds to the unit that evenkeel owns",
        }
    }

    /// Its layer, for people who ask.
    pub(super) fn layer(&self) -> &'static str {
        match self.by {
            By::Fstab => "fstab",
            By::Unit => "another unit",
            By::DropIn => "drop-in",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn want(fields: &str) -> Want {
        serde_json::from_str(fields).unwrap()
    }

    #[test]
    fn lines_of_fstab_are_read_as_mount_reads_them() {
        let text =
            "# h:/x /srv/x nfs\n\nh:/x\t/srv/up\\040loads/ nfs4 rw,soft 0 0\n/a /b none bind\nbroken\n";
        let all = fstab(text);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].0.as_path(), all[0].1.line), (Path::new("/srv/up loads"), 3));
        assert_eq!(all[0].1.summary(), "nfs4 h:/x rw,soft");
        assert_eq!(all[1].1.fstype.as_deref(), Some("bind"));
    }

    #[test]
    fn what_differs_is_told_and_what_only_reads_differently_is_not() {
        let nfs = want(r#"{"source": "h:/x", "type": "nfs4", "options": ["rw", "hard", "vers=4.2"]}"#);
        let against = |line: &str| fstab(line)[0].1.against(&nfs);
        assert_eq!(against("h:/x/ /srv nfs rw,_netdev,noauto"), None);
        assert_eq!(against("h:/y /srv nfs rw"), Some("h:/y".into()));
        assert_eq!(against("h:/x /srv cifs rw"), Some("type cifs".into()));
        assert_eq!(against("h:/x /srv nfs4 rw,soft"), Some("soft".into()));
        assert_eq!(against("h:/x /srv nfs4 ro"), Some("ro".into()));
        assert_eq!(against("h:/x /srv nfs4 nfsvers=3"), Some("nfsvers=3".into()));
        assert_eq!(against("h:/x /srv nfs4 vers=4.2,timeo=50"), None, "nobody named timeo");
        let disk = want(r#"{"source": "UUID=1", "type": "ext4"}"#);
        assert_eq!(fstab("/dev/sda1 /srv ext4")[0].1.against(&disk), None);
    }
}
