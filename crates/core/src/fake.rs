//! A node made of maps, for tests: every step is carried out on the maps.
//!
//! It models just as much of a kernel, a systemd and a PostgreSQL as the laws need, and never touches the machine.

use crate::{Actuator, Fault, Sensor, Step, SystemdVerb};
use crate::{Inside, MountEntry, PgFacts, PgQuestion, PgServer, SysctlKey, SysctlSeen};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A node in memory.
#[derive(Debug, Clone, Default)]
pub struct FakeNode {
    /// Its files.
    pub files: BTreeMap<PathBuf, String>,
    /// Its kernel parameters.
    pub sysctls: BTreeMap<SysctlKey, String>,
    /// Its mount table.
    pub mounts: Vec<MountEntry>,
    /// Symlinks: a path and where it leads.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// What a look into a folder tells.
    pub insides: BTreeMap<PathBuf, Inside>,
    /// Whether systemd runs.
    pub systemd: bool,
    /// Debts noted and not settled.
    pub owed: BTreeSet<String>,
    /// Running PostgreSQL servers, by name.
    pub servers: BTreeMap<String, PgFacts>,
    /// Steps that fail, by a part of their text, and why.
    pub faults: BTreeMap<String, String>,
    /// Every step it was asked to perform.
    pub done: Vec<Step>,
}

impl Sensor for FakeNode {
    fn read(&self, path: &Path) -> Result<Option<String>, Fault> {
        Ok(self.files.get(path).cloned())
    }
    fn list(&self, folder: &Path) -> Result<Option<Vec<String>>, Fault> {
        let below = self.files.keys().filter_map(|path| path.strip_prefix(folder).ok());
        let names: BTreeSet<String> = below
            .filter_map(|rest| Some(rest.components().next()?.as_os_str().to_string_lossy().into_owned()))
            .collect();
        Ok((!names.is_empty()).then(|| names.into_iter().collect()))
    }
    fn resolve(&self, path: &Path) -> Result<Option<PathBuf>, Fault> {
        let link = self.links.iter().find_map(|(from, to)| Some(to.join(path.strip_prefix(from).ok()?)));
        Ok(Some(link.unwrap_or_else(|| path.to_owned())))
    }
    fn sysctl(&self, key: &SysctlKey) -> Result<SysctlSeen, Fault> {
        Ok(self.sysctls.get(key).cloned().map_or(SysctlSeen::Absent, SysctlSeen::Value))
    }
    fn mounts(&self) -> Result<Vec<MountEntry>, Fault> {
        Ok(self.mounts.clone())
    }
    fn backing(&self, _device: &str) -> Option<PathBuf> {
        None
    }
    fn inside(&self, folder: &Path, sentinel: Option<&str>) -> Result<Inside, Fault> {
        let blank = Inside { uid: 0, owner: Some("root".into()), mode: 0o755, sentinel: None };
        let seen = self.insides.get(folder).cloned().unwrap_or(blank);
        Ok(Inside { sentinel: sentinel.map(|_| seen.sentinel.unwrap_or(true)), ..seen })
    }
    fn systemd(&self) -> bool {
        self.systemd
    }
    fn owes(&self, debt: &str) -> bool {
        self.owed.contains(debt)
    }
    fn postgres(&self, server: &PgServer, _question: &PgQuestion) -> Result<PgFacts, Fault> {
        self.servers.get(&server.name).cloned().ok_or_else(|| Fault::new(format!("connect to {server}")))
    }
}

impl Actuator for FakeNode {
    fn perform(&mut self, step: &Step) -> Result<(), Fault> {
        let text = step.to_string();
        if let Some((_, why)) = self.faults.iter().find(|(part, _)| text.contains(part.as_str())) {
            return Err(Fault::from(text, why.clone()));
        }
        self.done.push(step.clone());
        match step {
            Step::SetSysctl { key, value } => {
                self.sysctls.insert(key.clone(), value.clone());
            }
            Step::WriteFile { path, text, .. } => {
                self.files.insert(path.clone(), text.clone());
            }
            Step::RemoveFile { path } => {
                self.files.remove(path);
            }
            Step::Owe { debt } => {
                self.owed.insert(debt.clone());
            }
            Step::Settle { debt } => {
                self.owed.remove(debt);
            }
            Step::Own { path, owner, mode } => self.own(path, owner.as_deref(), *mode),
            Step::Mount { source, target, fstype, options } => self.mount(source, target, fstype, options),
            Step::Unmount { target } => self.mounts.retain(|entry| entry.target != *target),
            Step::Remount { target, options } => self.remount(target, options),
            Step::Systemd { verb, unit } => self.systemctl(*verb, unit),
            Step::MakeFolder { .. } | Step::ReloadPostgres { .. } | Step::AlterPostgres { .. } => {}
        }
        Ok(())
    }
}

impl FakeNode {
    fn own(&mut self, path: &Path, owner: Option<&str>, mode: Option<u32>) {
        let blank = Inside { uid: 0, owner: Some("root".into()), mode: 0o755, sentinel: None };
        let inside = self.insides.entry(path.to_owned()).or_insert(blank);
        inside.owner = owner.map(str::to_owned).or(inside.owner.take());
        inside.mode = mode.unwrap_or(inside.mode);
    }

    fn mount(&mut self, source: &str, target: &Path, fstype: &str, options: &[String]) {
        self.mounts.push(MountEntry {
            id: self.mounts.len() as u64 + 1,
            parent: 0,
            device: (0, 1),
            root: PathBuf::from("/"),
            target: target.to_owned(),
            options: options.to_vec(),
            fstype: fstype.to_owned(),
            source: source.to_owned(),
            super_options: vec![],
        });
    }

    fn remount(&mut self, target: &Path, options: &[String]) {
        if let Some(entry) = self.mounts.iter_mut().rev().find(|entry| entry.target == target) {
            entry.options = options.to_vec();
        }
    }

    fn systemctl(&mut self, verb: SystemdVerb, unit: &str) {
        let Some(text) = self.files.get(&Path::new("/etc/systemd/system").join(unit)).cloned() else {
            return;
        };
        let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let target = PathBuf::from(line("Where="));
        match verb {
            SystemdVerb::Start => {
                let options: Vec<String> = line("Options=").split(',').map(str::to_owned).collect();
                self.mount(line("What="), &target, line("Type="), &options);
            }
            SystemdVerb::Stop => self.mounts.retain(|entry| entry.target != target),
            _ => {}
        }
    }
}
