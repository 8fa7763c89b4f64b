//! The only part of evenkeel that touches the machine.
//!
//! It implements the two traits of `evenkeel-core` for the real node and decides nothing: what is wanted and what would
//! put it right is decided elsewhere. Every call blocks, and every call has a deadline.
#![expect(clippy::disallowed_methods, reason = "this is the room where the machine is touched")]

pub mod abilities;
pub mod ageing;
mod apart;
mod below;
mod credentials;
mod debts;
pub mod files;
mod guard;
mod holders;
pub mod identity;
mod looking;
pub mod membership;
mod mirror;
pub mod mountinfo;
mod mounting;
mod own_writes;
mod owned;
mod postgres;
mod probing;
pub mod program;
mod seeding;
mod slots;
mod sockets;
mod sysctl;
mod systemd;
mod tree;
mod units;
mod users;
mod walk;
pub mod watch;

pub use own_writes::OwnWrites;
pub use slots::FleetLock;

use evenkeel_core::{
    Actuator, Covered, Fault, FileSeen, FolderQuestion, FolderSeen, Holder, Measured, MemoryQuestion,
    MirrorQuestion, MirrorSeen, MountEntry, PgFacts, PgQuestion, PgServer, Probe, Probing, Secret, Sensor,
    SocketPowers, SocketQuestion, SocketsSeen, Step, SysctlKey, SysctlSeen, UnitSeen,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest file that is read for a kind, in bytes.
const LONGEST: usize = 1 << 20;

/// The real node. Clones are the same node: each lane has one.
#[derive(Debug, Clone)]
pub struct Host {
    run_dir: PathBuf,
    /// Where copies of files are kept as they were.
    state_dir: Option<PathBuf>,
    own: OwnWrites,
    guard: Arc<guard::Guard>,
    /// Only a daemon measures: a command is over before a path can forget anything.
    measuring: Option<ageing::background::Background>,
    sockets: Arc<sockets::Sockets>,
    mirrors: mirror::Mirrors,
    slots: Arc<slots::Slots>,
}

impl Host {
    /// The node we run on; what is owed is noted below `run_dir`.
    #[must_use]
    pub fn new(run_dir: PathBuf) -> Self {
        Self {
            mirrors: mirror::Mirrors::new(mirror::Settings::new(run_dir.clone(), false)),
            run_dir,
            state_dir: None,
            own: OwnWrites::default(),
            guard: Arc::default(),
            measuring: None,
            sockets: Arc::default(),
            slots: Arc::default(),
        }
    }

    /// The same node, which keeps in `state_dir` when folders were last in step, and believes the host keys in
    /// `known_hosts` where folders come from other nodes; ssh's own where that is nothing. Comes after
    /// [`Host::measuring`].
    #[must_use]
    pub fn mirroring(self, state_dir: PathBuf, known_hosts: Option<PathBuf>) -> Self {
        let settings = mirror::Settings::new(self.run_dir.clone(), self.measuring.is_some());
        let settings = mirror::Settings { state_dir: Some(state_dir), known_hosts, ..settings };
        Self { mirrors: mirror::Mirrors::new(settings), ..self }
    }

    /// The same node, which measures in the background how long paths remember where a spec asks for that.
    #[must_use]
    pub fn measuring(self) -> Self {
        Self { measuring: Some(ageing::background::Background::default()), ..self }
    }

    /// Where slots of the fleet are asked for from now on, by every clone.
    pub fn ask_for_slots_at(&self, at: Option<FleetLock>) {
        self.slots.ask_at(at);
    }

    /// The tier that a spec has this node in, for every clone.
    pub fn set_tier(&self, tier: &str) {
        self.slots.set_tier(tier);
    }

    /// The same node, which keeps copies of files as they were below `state_dir`.
    #[must_use]
    pub fn keeping(self, state_dir: PathBuf) -> Self {
        Self { state_dir: Some(state_dir), ..self }
    }

    /// What this host writes, for a [`watch::Watcher`] to tell it from what others write.
    #[must_use]
    pub fn own_writes(&self) -> OwnWrites {
        self.own.clone()
    }

    fn write(&self, path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
        files::replace_noted(path, text.as_bytes(), mode, &|state| self.own.wrote_file(path, Some(state)))
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.own.wrote_file(path, None);
        files::remove(path)
    }
}

impl Sensor for Host {
    fn read(&self, path: &Path) -> Result<Option<String>, Fault> {
        let bytes = files::read(path, LONGEST);
        let bytes = bytes.map_err(|error| Fault::from(format!("read {}", path.display()), error))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
    fn list(&self, folder: &Path) -> Result<Option<Vec<String>>, Fault> {
        files::names(folder).map_err(|error| Fault::from(format!("list {}", folder.display()), error))
    }
    fn resolve(&self, path: &Path) -> Result<Option<PathBuf>, Fault> {
        mounting::resolve(&self.guard, path)
    }
    fn sysctl(&self, key: &SysctlKey) -> Result<SysctlSeen, Fault> {
        sysctl::see(&self.own, key)
    }
    fn sysctl_frozen(&self, key: &SysctlKey) -> bool {
        sysctl::frozen(key)
    }
    fn mounts(&self) -> Result<Vec<MountEntry>, Fault> {
        mounting::mounts()
    }
    fn backing(&self, device: &str) -> Option<PathBuf> {
        mounting::backing(device)
    }
    fn folders(&self, questions: &[FolderQuestion]) -> Vec<FolderSeen> {
        looking::folders(&self.guard, questions)
    }
    fn covered(&self, folder: &Path) -> Result<Option<Covered>, Fault> {
        below::covered(&self.guard, folder)
    }
    fn holders(&self, target: &Path) -> Result<Vec<Holder>, Fault> {
        holders::of(target)
    }
    fn file(&self, path: &Path) -> Result<Option<FileSeen>, Fault> {
        owned::see(&self.guard, path)
    }
    fn user(&self, name: &str) -> Result<Option<u32>, Fault> {
        Ok(users::number(name))
    }
    fn group(&self, name: &str) -> Result<Option<u32>, Fault> {
        Ok(users::group_number(name))
    }
    fn credential(&self, name: &str) -> Result<Option<Secret>, Fault> {
        credentials::read(name)
    }
    fn fingerprint(&self, text: &Secret) -> String {
        credentials::fingerprint(text)
    }
    fn units(&self, names: &[String]) -> Result<BTreeMap<String, UnitSeen>, Fault> {
        units::see(names)
    }
    fn probe(&self, probes: &[Probe]) -> Vec<Probing> {
        probing::ask(probes, &self.guard)
    }
    fn mirrors(&self, questions: &[MirrorQuestion]) -> Vec<MirrorSeen> {
        self.mirrors.see(questions, &self.guard)
    }
    fn now(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }
    fn systemd(&self) -> bool {
        systemd::runs()
    }
    fn owes(&self, debt: &str) -> bool {
        debts::owes(&self.run_dir, debt)
    }
    fn owed_since_us(&self, debt: &str) -> Option<u64> {
        debts::owed_since_us(&self.run_dir, debt)
    }
    fn tier(&self) -> Option<String> {
        self.slots.tier()
    }
    fn debts(&self, start: &str) -> Vec<String> {
        debts::all(&self.run_dir, start)
    }
    fn postgres(&self, server: &PgServer, question: &PgQuestion) -> Result<PgFacts, Fault> {
        postgres::ask(server, question)
    }
    fn sockets(&self, question: &SocketQuestion) -> Result<SocketsSeen, Fault> {
        self.sockets.see(question)
    }
    fn socket_powers(&self) -> SocketPowers {
        self.sockets.powers()
    }
    fn measured(&self, question: &MemoryQuestion) -> Option<Measured> {
        self.measuring.as_ref()?.ask(question)
    }
}

impl Actuator for Host {
    fn perform(&mut self, step: &Step) -> Result<(), Fault> {
        let failed = |error: std::io::Error| Fault::from(step.to_string(), error);
        match step {
            Step::SetSysctl { key, value } => sysctl::set(&self.own, key, value),
            Step::WriteFile { path, text, mode } => self.write(path, text, *mode).map_err(failed),
            Step::RemoveFile { path } => self.remove(path).map_err(failed),
            Step::MakeFolder { path } => mounting::make_folder(&self.guard, path),
            Step::Own { path, owner, group, mode } => {
                mounting::own(&self.guard, path, (owner.as_deref(), group.as_deref()), *mode)
            }
            Step::KeepBefore { path } => owned::keep_before(self.state_dir.as_deref(), &self.guard, path),
            Step::PutFile { path, text, owner, group, mode } => {
                let put =
                    owned::Put { path, text, owner: owner.as_deref(), group: group.as_deref(), mode: *mode };
                owned::put(&self.guard, &self.own, &put)
            }
            Step::SetImmutable { path, on } => below::set_immutable(&self.guard, path, *on),
            Step::Seed { path, sentinel, owner, group } => {
                seeding::seed(&self.guard, path, sentinel.as_deref(), (owner.as_deref(), group.as_deref()))
            }
            Step::Mirror { job } => self.mirrors.carry_over(job, &self.guard),
            Step::TakeSlot { group, holder } => self.slots.take(group, holder),
            Step::LeaveSlot { group, holder } => self.slots.leave(group, holder),
            Step::Owe { debt } => debts::owe(&self.run_dir, debt).map_err(failed),
            Step::Settle { debt } => debts::settle(&self.run_dir, debt).map_err(failed),
            Step::Systemd { verb, unit } => {
                let _own = self.own.mounting();
                self.guard.let_go_of_unit(unit);
                systemd::ask(*verb, unit)
            }
            Step::Mount { source, target, fstype, options } => {
                let _own = self.own.mounting();
                mounting::mount(&self.guard, (source, target), fstype, options)
            }
            Step::Remount { target, options } => {
                let _own = self.own.mounting();
                mounting::remount(&self.guard, target, options)
            }
            Step::Unmount { target } => {
                let _own = self.own.mounting();
                mounting::unmount(&self.guard, target)
            }
            Step::TuneSocket { socket, holder, timers } => self.sockets.tune(socket, *holder, timers, step),
            Step::FreeSocket { socket } => self.sockets.free(socket, step),
            Step::ReloadPostgres { server } => postgres::reload(server),
            Step::AlterSystem { server, setting, value } => postgres::alter_system(server, setting, value),
            Step::AlterPostgres { server, role, database, setting, value } => {
                postgres::alter(server, (role.as_deref(), database.as_deref()), setting, value.as_deref())
            }
        }
    }
}
