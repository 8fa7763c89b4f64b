//! A node made of maps, for tests: every step is carried out on the maps.
//!
//! It models just as much of a kernel, a systemd and a PostgreSQL as the laws need, strictly where the real ones are
//! lenient: a unit starts as it was when systemd last read it, a server holds what it last reloaded, a kernel knows
//! no parameter that is not in its map. It never touches the machine.

mod files;
mod folders;
mod path;
mod postgres;
mod rest;
mod sockets;
mod units;

use crate::{Actuator, Fault, Measured, Sensor, Step};
use crate::{Covered, FileSeen, FolderQuestion, FolderSeen, Holder, Inside, MirrorQuestion, MirrorSeen};
use crate::{MemoryQuestion, SocketPowers, SocketQuestion, SocketSeen, SocketsSeen};
use crate::{MountEntry, PgFacts, PgQuestion, PgServer, SysctlKey, SysctlSeen};
use crate::{Probe, Probed, Probing, Secret, UnitSeen};
pub use folders::root_folder;
pub use path::path_end;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A node in memory.
#[derive(Debug, Clone, Default)]
pub struct FakeNode {
    /// Its files. A symlink that enables a unit is an empty file here.
    pub files: BTreeMap<PathBuf, String>,
    /// Its kernel parameters.
    pub sysctls: BTreeMap<SysctlKey, String>,
    /// Kernel parameters that cannot be read.
    pub unreadable: BTreeSet<SysctlKey>,
    /// Its mount table.
    pub mounts: Vec<MountEntry>,
    /// Symlinks: a path and where it leads. Files are read through them.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// Paths that lead nowhere; every other path does.
    pub missing: BTreeSet<PathBuf>,
    /// What a block device stands for.
    pub backings: BTreeMap<String, PathBuf>,
    /// What a look into a folder tells.
    pub insides: BTreeMap<PathBuf, Inside>,
    /// Folders that do not answer, or answer something else.
    pub silent: BTreeMap<PathBuf, FolderSeen>,
    /// What lies in folders themselves, below what is mounted on them; nothing in others.
    pub covered: BTreeMap<PathBuf, Covered>,
    /// Who holds what is mounted at a place.
    pub holders: BTreeMap<PathBuf, Vec<Holder>>,
    /// Owner, group and permission bits of files; `root`, `root`, 0644 for others.
    pub owned: BTreeMap<PathBuf, (String, String, u32)>,
    /// Its users beside root, and their numbers.
    pub users: BTreeMap<String, u32>,
    /// Its groups beside root, and their numbers.
    pub groups: BTreeMap<String, u32>,
    /// Copies of files as they were before the first change.
    pub before: BTreeMap<PathBuf, String>,
    /// The agent's credentials.
    pub credentials: BTreeMap<String, String>,
    /// What systemd knows of units that are no mounts.
    pub units: BTreeMap<String, UnitSeen>,
    /// What probes are told; others fail.
    pub probings: Vec<(Probed, Probing)>,
    /// How folders stand to where they come from, by the folder.
    pub mirrors: BTreeMap<String, MirrorSeen>,
    /// Groups whose slots other nodes have.
    pub slots_gone: BTreeSet<String>,
    /// Slots that are ours: group and holder.
    pub slots: BTreeSet<(String, String)>,
    /// Its tier.
    pub tier: Option<String>,
    /// When debts were noted, in microseconds since boot; others after everything that runs was started.
    pub owed_since: BTreeMap<String, u64>,
    /// The time, in seconds since 1970.
    pub time: i64,
    /// Whether systemd runs.
    pub systemd: bool,
    /// Unit files as systemd last read them.
    pub loaded: BTreeMap<String, String>,
    /// Debts noted and not settled.
    pub owed: BTreeSet<String>,
    /// Running PostgreSQL servers, by name: what they know and hold. `file_settings` is computed when asked for.
    pub servers: BTreeMap<String, PgFacts>,
    /// What a PostgreSQL parameter is where no file says anything.
    pub pg_boot: BTreeMap<String, String>,
    /// What `ALTER SYSTEM` said, by server and parameter, and no reload has taken up yet.
    pub pg_system: BTreeMap<(String, String), String>,
    /// Its established connections.
    pub sockets: Vec<SocketSeen>,
    /// What may be done with them.
    pub powers: SocketPowers,
    /// What was measured of every path's memory.
    pub measured: Option<Measured>,
    /// Steps that fail, by a part of their text, and why.
    pub faults: BTreeMap<String, String>,
    /// Every step it was asked to perform.
    pub done: Vec<Step>,
}

impl Sensor for FakeNode {
    fn read(&self, path: &Path) -> Result<Option<String>, Fault> {
        Ok(self.files.get(&self.follow(path)).cloned())
    }
    fn list(&self, folder: &Path) -> Result<Option<Vec<String>>, Fault> {
        let folder = self.follow(folder);
        let below =
            self.files.keys().chain(self.links.keys()).filter_map(|path| path.strip_prefix(&folder).ok());
        let names: BTreeSet<String> = below
            .filter_map(|rest| Some(rest.components().next()?.as_os_str().to_string_lossy().into_owned()))
            .collect();
        Ok((!names.is_empty()).then(|| names.into_iter().collect()))
    }
    fn resolve(&self, path: &Path) -> Result<Option<PathBuf>, Fault> {
        let real = self.follow(path);
        Ok((!real.ancestors().any(|above| self.missing.contains(above))).then_some(real))
    }
    fn sysctl(&self, key: &SysctlKey) -> Result<SysctlSeen, Fault> {
        if self.unreadable.contains(key) {
            return Ok(SysctlSeen::Unreadable("write-only".into()));
        }
        Ok(self.sysctls.get(key).cloned().map_or(SysctlSeen::Absent, SysctlSeen::Value))
    }
    fn mounts(&self) -> Result<Vec<MountEntry>, Fault> {
        Ok(self.mounts.clone())
    }
    fn backing(&self, device: &str) -> Option<PathBuf> {
        self.backings.get(device).cloned()
    }
    fn folders(&self, questions: &[FolderQuestion]) -> Vec<FolderSeen> {
        questions.iter().map(|question| self.look_into(question)).collect()
    }
    fn covered(&self, folder: &Path) -> Result<Option<Covered>, Fault> {
        Ok(self.resolve(folder)?.map(|real| self.covered.get(&real).cloned().unwrap_or_default()))
    }
    fn holders(&self, target: &Path) -> Result<Vec<Holder>, Fault> {
        Ok(self.holders.get(target).cloned().unwrap_or_default())
    }
    fn file(&self, path: &Path) -> Result<Option<FileSeen>, Fault> {
        Ok(self.see_file(path))
    }
    fn user(&self, name: &str) -> Result<Option<u32>, Fault> {
        Ok(if name == "root" { Some(0) } else { self.users.get(name).copied() })
    }
    fn group(&self, name: &str) -> Result<Option<u32>, Fault> {
        Ok(if name == "root" { Some(0) } else { self.groups.get(name).copied() })
    }
    fn credential(&self, name: &str) -> Result<Option<Secret>, Fault> {
        Ok(self.credentials.get(name).map(Secret::new))
    }
    fn fingerprint(&self, text: &Secret) -> String {
        format!("fingerprint of {} bytes", text.reveal().len())
    }
    fn systemd(&self) -> bool {
        self.systemd
    }
    fn units(&self, names: &[String]) -> Result<BTreeMap<String, UnitSeen>, Fault> {
        self.see_units(names)
    }
    fn probe(&self, probes: &[Probe]) -> Vec<Probing> {
        probes.iter().map(|probe| self.ask(&probe.what)).collect()
    }
    fn mirrors(&self, questions: &[MirrorQuestion]) -> Vec<MirrorSeen> {
        let seen =
            |question: &MirrorQuestion| self.mirrors.get(&question.job.to).cloned().unwrap_or_default();
        questions.iter().map(seen).collect()
    }
    fn now(&self) -> i64 {
        self.time
    }
    fn owes(&self, debt: &str) -> bool {
        self.owed.contains(debt)
    }
    fn owed_since_us(&self, debt: &str) -> Option<u64> {
        self.owes(debt).then(|| self.owed_since.get(debt).copied().unwrap_or(BEGAN_US))
    }
    fn tier(&self) -> Option<String> {
        self.tier.clone()
    }
    fn debts(&self, start: &str) -> Vec<String> {
        self.owed.iter().filter(|debt| debt.starts_with(start)).cloned().collect()
    }
    fn postgres(&self, server: &PgServer, question: &PgQuestion) -> Result<PgFacts, Fault> {
        self.ask_postgres(server, question)
    }
    fn sockets(&self, question: &SocketQuestion) -> Result<SocketsSeen, Fault> {
        self.see_sockets(question)
    }
    fn socket_powers(&self) -> SocketPowers {
        self.powers.clone()
    }
    fn measured(&self, _question: &MemoryQuestion) -> Option<Measured> {
        self.measured.clone()
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
            Step::SetSysctl { key, value } => return self.set_sysctl(key, value),
            Step::WriteFile { path, text, .. } => {
                self.files.insert(path.clone(), text.clone());
            }
            Step::RemoveFile { path } => self.remove_file(path),
            Step::Owe { debt } => {
                self.owed.insert(debt.clone());
                self.owed_since.insert(debt.clone(), self.clock_us());
            }
            Step::Settle { debt } => {
                self.owed.remove(debt);
                self.owed_since.remove(debt);
            }
            Step::MakeFolder { path } => {
                let real = self.follow(path);
                self.missing.retain(|gone| !path.starts_with(gone) && !real.starts_with(gone));
            }
            Step::Own { path, owner, group, mode } => {
                self.own(path, owner.as_deref(), group.as_deref(), *mode);
            }
            Step::KeepBefore { path } => self.keep_before(path),
            Step::PutFile { path, text, owner, group, mode } => {
                return self.put_file(path, text, (owner.as_deref(), group.as_deref()), *mode);
            }
            Step::SetImmutable { path, on } => self.set_immutable(path, *on),
            Step::Seed { path, .. } => self.seed(path),
            Step::Mirror { job } => self.carry_over(job),
            Step::TakeSlot { group, holder } => return self.take_slot(group, holder),
            Step::LeaveSlot { group, holder } => {
                self.slots.remove(&(group.clone(), holder.clone()));
            }
            Step::Mount { source, target, fstype, options } => {
                return self.mount(source, target, fstype, options);
            }
            Step::Unmount { target } => self.unmount(target),
            Step::Remount { target, options } => self.remount(target, options),
            Step::Systemd { verb, unit } => return self.systemctl(*verb, unit),
            Step::TuneSocket { socket, timers, .. } => self.tune_socket(socket, timers),
            Step::FreeSocket { socket } => self.free_socket(socket),
            Step::ReloadPostgres { server } => return self.reload_postgres(server),
            Step::AlterPostgres { server, role, database, setting, value } => {
                return self.alter_postgres(server, (role, database, setting), value.as_deref());
            }
            Step::AlterSystem { server, setting, value } => {
                return self.alter_postgres_system(server, setting, value);
            }
        }
        Ok(())
    }
}

/// When the first step is taken, in microseconds since boot.
const BEGAN_US: u64 = 10_000_000;

impl FakeNode {
    /// A clock that goes on with every step, in microseconds since boot.
    fn clock_us(&self) -> u64 {
        BEGAN_US + self.done.len() as u64
    }

    /// A path with the first symlink above or at it followed, again and again.
    fn follow(&self, path: &Path) -> PathBuf {
        let mut path = path.to_owned();
        for _ in 0..8 {
            let next = self.links.iter().find_map(|(from, to)| {
                let rest = path.strip_prefix(from).ok()?;
                Some(if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) })
            });
            match next {
                Some(next) => path = next,
                None => break,
            }
        }
        path
    }

    fn set_sysctl(&mut self, key: &SysctlKey, value: &str) -> Result<(), Fault> {
        let held = self.sysctls.get_mut(key).ok_or_else(|| Fault::new(format!("no parameter {key}")))?;
        value.clone_into(held);
        Ok(())
    }

    /// The folder of a filesystem that a path lies in, as the topmost mount above it tells.
    fn place(&self, path: &Path) -> ((u32, u32), PathBuf) {
        let above = self.mounts.iter().filter(|entry| path.starts_with(&entry.target));
        // The last of the longest: what is mounted later hides what was there.
        match above.max_by_key(|entry| (entry.target.as_os_str().len(), entry.id)) {
            Some(entry) => {
                let rest = path.strip_prefix(&entry.target).unwrap_or(path);
                let root =
                    if rest.as_os_str().is_empty() { entry.root.clone() } else { entry.root.join(rest) };
                (entry.device, root)
            }
            None => ((8, 1), path.to_owned()),
        }
    }

    fn mount(&mut self, source: &str, target: &Path, fstype: &str, options: &[String]) -> Result<(), Fault> {
        if self.resolve(target)?.is_none() {
            return Err(Fault::new(format!("mount {}: there is no such folder", target.display())));
        }
        // What the server has forgotten is asked for anew by the next mount.
        let real = self.follow(target);
        self.silent.retain(|folder, seen| *folder != real || *seen != FolderSeen::Stale);
        let bind = fstype == "bind" || options.iter().any(|option| option == "bind");
        let (device, root) =
            if bind { self.place(&self.follow(Path::new(source))) } else { ((0, 40), PathBuf::from("/")) };
        let id = self.mounts.iter().map(|entry| entry.id).max().unwrap_or(0) + 1;
        let image = self.files.contains_key(Path::new(source)) && fstype != "bind";
        let source = if image { self.loop_device(source) } else { source.to_owned() };
        self.mounts.push(MountEntry {
            id,
            parent: 1,
            device,
            root,
            target: self.follow(target),
            options: vec!["rw".into(), "relatime".into()],
            fstype: if bind { "ext4".into() } else { fstype.to_owned() },
            source,
            super_options: vec!["rw".into()],
        });
        self.remount(&self.follow(target), options);
        Ok(())
    }

    fn loop_device(&mut self, file: &str) -> String {
        let device = format!("/dev/loop{}", self.backings.len());
        self.backings.insert(device.clone(), PathBuf::from(file));
        device
    }

    fn unmount(&mut self, target: &Path) {
        if let Some(top) = self.mounts.iter().rposition(|entry| entry.target == target) {
            self.mounts.remove(top);
        }
    }

    fn remount(&mut self, target: &Path, options: &[String]) {
        let Some(entry) = self.mounts.iter_mut().rev().find(|entry| entry.target == target) else { return };
        let bind = options.iter().any(|option| option == "bind");
        for option in options.iter().flat_map(|option| option.split(',')) {
            match option {
                "ro" | "rw" => {
                    entry.options.retain(|held| held != "ro" && held != "rw");
                    // A bind mount has flags of its own; any other remount reaches the filesystem.
                    if !bind {
                        entry.super_options.retain(|held| held != "ro" && held != "rw");
                        entry.super_options.push(option.to_owned());
                    }
                }
                "relatime" | "noatime" | "strictatime" => {
                    entry.options.retain(|held| !held.ends_with("atime"));
                }
                _ => {}
            }
            let userspace = ["nofail", "_netdev", "bind", "loop", "defaults", "noauto"].contains(&option);
            let hidden = ["suid", "dev", "exec", "atime", "strictatime"].contains(&option);
            if userspace || hidden || option.starts_with("x-") {
                entry.options.retain(|held| *held != format!("no{option}"));
            } else if let Some((key, _)) = option.split_once('=') {
                entry.super_options.retain(|held| held.split('=').next() != Some(key));
                entry.super_options.push(option.to_owned());
            } else if !entry.options.iter().any(|held| held == option) {
                entry.options.push(option.to_owned());
            }
        }
    }
}
