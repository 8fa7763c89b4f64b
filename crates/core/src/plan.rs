//! A plan: what is off, and the steps that would put it right.

use crate::{Drift, MirrorJob, PgServer, Secret, SocketId, SocketTimers, SysctlKey};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is off in a section, and what would put it right.
///
/// An item in enforce mode has drift exactly where some task serves it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// How each item stands, by name: every item of the section, and what the section no longer names but the node
    /// still keeps.
    pub items: BTreeMap<String, ItemPlan>,
    /// What to do about it, in order.
    pub tasks: Vec<Task>,
}

/// How one item stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemPlan {
    /// What is off and can be put right.
    pub drift: Vec<Drift>,
    /// What else there is to say: what is off and not ours to change, what waits, what could not be seen.
    pub findings: Vec<Finding>,
    /// What is worth knowing of it beside its status, by name: the number that an owner's name stands for, the last
    /// success of a transfer. Told with a report whenever one changes, and never part of its status.
    pub facts: BTreeMap<String, String>,
    /// How far something has come that takes its time, for `status`. Never a reason to tell anybody anything.
    pub progress: Option<String>,
}

/// Something about an item that no step of ours would put right, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it makes of the item.
    pub verdict: Verdict,
    /// Why, for a person; it names the thing and what to do. No timings.
    pub reason: String,
    /// What differs, where something does.
    pub drift: Option<Drift>,
}

/// What a finding makes of its item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// This node cannot have it.
    NotApplicable,
    /// Worth saying; the item is what it is without it.
    Note,
    /// Written, and not in effect yet.
    Pending,
    /// Off, and not ours to change.
    NonCompliant,
    /// Could not be observed, or must not be touched.
    Error,
}

/// A step, and the items it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The names of the items that need it. It is left out once every one of them has failed,
    /// unless the step stands alone.
    pub serves: Vec<String>,
    /// What to do.
    pub step: Step,
}

impl Task {
    /// A step for one item.
    pub fn new(item: impl Into<String>, step: Step) -> Self {
        Self { serves: vec![item.into()], step }
    }
}

/// Everything evenkeel can do to a node. A new verb here is a decision; a new kind is not.
///
/// Every verb may be repeated: doing it twice leaves what doing it once leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write one kernel parameter, and read it back.
    SetSysctl {
        /// Which.
        key: SysctlKey,
        /// Its value, as the spec says it.
        value: String,
    },
    /// Replace an owned file, whole and atomically. Missing folders above it are made.
    WriteFile {
        /// Where.
        path: PathBuf,
        /// Its new text.
        text: String,
        /// Its permission bits where it is new; an old file keeps its own.
        mode: u32,
    },
    /// Remove an owned file; it need not be there.
    RemoveFile {
        /// Where.
        path: PathBuf,
    },
    /// Make a folder to mount on, and those above it; it may be there.
    MakeFolder {
        /// Where.
        path: PathBuf,
    },
    /// Set owner, group and permission bits of one folder or file that may lie in a mount. Guarded by a deadline.
    Own {
        /// Where.
        path: PathBuf,
        /// A user's name.
        owner: Option<String>,
        /// A group's name.
        group: Option<String>,
        /// Permission bits.
        mode: Option<u32>,
    },
    /// Keep a copy of a file as it is now, for good, unless one is kept already or there is no such file.
    KeepBefore {
        /// Where.
        path: PathBuf,
    },
    /// Replace a file, whole and atomically, with owner, group and permission bits. Unlike [`Step::WriteFile`] it sets
    /// those on a file that is there too, and never lets the new text be seen with other ones.
    PutFile {
        /// Where.
        path: PathBuf,
        /// Its new text.
        text: Secret,
        /// A user's name; the old file's owner, or root, where nobody is named.
        owner: Option<String>,
        /// A group's name; the old file's group, or root, where none is named.
        group: Option<String>,
        /// Permission bits; the old file's, or 0644, where none are said.
        mode: Option<u32>,
    },
    /// Set or clear the flag that keeps a folder from being written to, below whatever is mounted on it.
    SetImmutable {
        /// Where.
        path: PathBuf,
        /// Whether nothing can be written there.
        on: bool,
    },
    /// Copy what lies below a mount into what is mounted there, where that has nothing in it yet but its sentinel.
    Seed {
        /// Where.
        path: PathBuf,
        /// The mark of the right export, which is no content.
        sentinel: Option<String>,
        /// A user's name, for what is copied; as it is below the mount where nobody is named.
        owner: Option<String>,
        /// A group's name.
        group: Option<String>,
    },
    /// Carry over what differs between two folders. Goes on in the background where it takes long; asked for again, it
    /// is the same transfer.
    Mirror {
        /// Which.
        job: MirrorJob,
    },
    /// Take a slot of the fleet, so that no two nodes are disturbed at once. It is ours again where we have it already.
    TakeSlot {
        /// The group that shares slots, such as a tier.
        group: String,
        /// Who takes it, on this node: a kind's name. A node has one for each.
        holder: String,
    },
    /// Give the slot back; it need not be ours.
    LeaveSlot {
        /// As it was taken.
        group: String,
        /// As it was taken.
        holder: String,
    },
    /// Note, durably until the next boot, that something must still be done. Comes before what makes it necessary.
    Owe {
        /// What: `postgresql/13/main reload`. Letters, digits and `/-_. `.
        debt: String,
    },
    /// It was done: forget the note.
    Settle {
        /// As it was noted.
        debt: String,
    },
    /// Have a PostgreSQL server read its configuration again. Never a restart.
    ReloadPostgres {
        /// Which.
        server: PgServer,
    },
    /// `ALTER ROLE … [IN DATABASE …] SET/RESET`, or `ALTER DATABASE … SET/RESET` where there is no role.
    AlterPostgres {
        /// Which server.
        server: PgServer,
        /// The role.
        role: Option<String>,
        /// The database.
        database: Option<String>,
        /// The parameter.
        setting: String,
        /// Its value; `None` resets it.
        value: Option<String>,
    },
    /// `ALTER SYSTEM SET`, for a server whose files are out of reach. A reload comes after it.
    AlterSystem {
        /// Which server.
        server: PgServer,
        /// The parameter.
        setting: String,
        /// Its value.
        value: String,
    },
    /// Ask systemd something.
    Systemd {
        /// What to ask.
        verb: SystemdVerb,
        /// Of which unit; empty for a daemon-reload.
        unit: String,
    },
    /// Mount, where no systemd runs.
    Mount {
        /// What: a device, a folder, `host:/export`.
        source: String,
        /// Where.
        target: PathBuf,
        /// The filesystem's type; `bind` for a bind mount.
        fstype: String,
        /// Options, as mount(8) takes them.
        options: Vec<String>,
    },
    /// Change the options of what is mounted, in place.
    Remount {
        /// Where.
        target: PathBuf,
        /// Options to change.
        options: Vec<String>,
    },
    /// Unmount, plainly: never lazily, never by force. Only for an item that says `absent: true`, or that may be
    /// disturbed.
    Unmount {
        /// Where.
        target: PathBuf,
    },
    /// Give an open connection other timers, through a duplicate of its holder's descriptor. One that is gone is well.
    TuneSocket {
        /// Which.
        socket: SocketId,
        /// Which process holds it, and by which descriptor.
        holder: (u32, u32),
        /// Its new timers.
        timers: SocketTimers,
    },
    /// End an open connection that retransmits into nothing, so that its program has its error now. One that is gone,
    /// or that has made progress since, is left alone.
    FreeSocket {
        /// Which.
        socket: SocketId,
    },
}

impl Step {
    /// Whether it is worth doing though every step before it has failed. A kernel parameter is a layer of its own:
    /// it is set even where the file that would set it at the next boot could not be written. So is what a role has of
    /// its own: that one role is missing is no trouble of the next. So is every connection.
    #[must_use]
    pub fn stands_alone(&self) -> bool {
        matches!(
            self,
            Self::SetSysctl { .. }
                | Self::AlterPostgres { .. }
                | Self::AlterSystem { .. }
                | Self::TuneSocket { .. }
                | Self::FreeSocket { .. }
        )
    }
}

/// What systemd may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SystemdVerb {
    /// Read the unit files again.
    DaemonReload,
    /// Start a unit.
    Start,
    /// Stop a unit.
    Stop,
    /// Start it at boot.
    Enable,
    /// Do not start it at boot.
    Disable,
    /// Have it read its configuration again. Never a restart.
    Reload,
    /// Stop it and start it again: only where a spec allows that, and when.
    Restart,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SetSysctl { key, value } => write!(f, "set {key} = {value}"),
            Self::WriteFile { path, .. } => write!(f, "write {}", path.display()),
            Self::RemoveFile { path } => write!(f, "remove {}", path.display()),
            Self::MakeFolder { path } => write!(f, "make folder {}", path.display()),
            Self::Own { path, owner, group, mode } => {
                write!(f, "set on {}", path.display())?;
                owned(f, owner.as_deref(), group.as_deref(), *mode)
            }
            Self::KeepBefore { path } => write!(f, "keep a copy of {} as it is now", path.display()),
            Self::PutFile { path, owner, group, mode, .. } => {
                write!(f, "put {}", path.display())?;
                owned(f, owner.as_deref(), group.as_deref(), *mode)
            }
            Self::SetImmutable { path, on: true } => {
                write!(f, "let nothing be written to {} while nothing is mounted there", path.display())
            }
            Self::SetImmutable { path, on: false } => write!(f, "let {} be written to again", path.display()),
            Self::Seed { path, .. } => {
                write!(f, "copy what lies below {} into what is mounted there", path.display())
            }
            Self::Mirror { job } => write!(f, "carry over to {} what differs in {}", job.to, job.from),
            Self::TakeSlot { group, .. } => write!(f, "take a slot of {group}"),
            Self::LeaveSlot { group, .. } => write!(f, "give back the slot of {group}"),
            Self::Owe { debt } => write!(f, "note as owed: {debt}"),
            Self::Settle { debt } => write!(f, "note as done: {debt}"),
            Self::ReloadPostgres { server } => write!(f, "reload PostgreSQL {server}"),
            Self::AlterPostgres { role, database, setting, value, .. } => {
                f.write_str(if role.is_none() && database.is_none() { "alter every role" } else { "alter" })?;
                role.iter().try_for_each(|role| write!(f, " role {role}"))?;
                database.iter().try_for_each(|database| write!(f, " database {database}"))?;
                match value {
                    Some(value) => write!(f, " set {setting} = {value}"),
                    None => write!(f, " reset {setting}"),
                }
            }
            Self::AlterSystem { setting, value, .. } => write!(f, "alter system set {setting} = {value}"),
            Self::Systemd { verb: SystemdVerb::DaemonReload, .. } => f.write_str("systemctl daemon-reload"),
            Self::Systemd { verb, unit } => write!(f, "systemctl {} {unit}", verb.word()),
            Self::Mount { source, target, fstype, options } => {
                write!(f, "mount -t {fstype}")?;
                if !options.is_empty() {
                    write!(f, " -o {}", options.join(","))?;
                }
                write!(f, " {source} {}", target.display())
            }
            Self::Remount { target, options } => {
                write!(f, "mount -o remount,{} {}", options.join(","), target.display())
            }
            Self::Unmount { target } => write!(f, "umount {}", target.display()),
            Self::TuneSocket { socket, holder: (pid, fd), timers } => write!(
                f,
                "set on connection {} of process {pid} (descriptor {fd}): keepalive after {} s, then every {} s, {} times; \
                 user timeout {} ms",
                Ends(socket),
                timers.keepalive_time,
                timers.keepalive_intvl,
                timers.keepalive_probes,
                timers.user_timeout_ms
            ),
            Self::FreeSocket { socket } => {
                write!(f, "end connection {}, which retransmits into nothing", Ends(socket))
            }
        }
    }
}

fn owned(
    f: &mut std::fmt::Formatter<'_>,
    owner: Option<&str>,
    group: Option<&str>,
    mode: Option<u32>,
) -> std::fmt::Result {
    owner.iter().try_for_each(|owner| write!(f, " owner {owner}"))?;
    group.iter().try_for_each(|group| write!(f, " group {group}"))?;
    mode.iter().try_for_each(|mode| write!(f, " mode {mode:04o}"))
}

/// The two ends of a connection.
struct Ends<'a>(&'a SocketId);

impl std::fmt::Display for Ends<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} - {}", self.0.local, self.0.remote)
    }
}

impl SystemdVerb {
    /// The word that `systemctl` knows it by.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::DaemonReload => "daemon-reload",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Reload => "reload",
            Self::Restart => "restart",
        }
    }
}
