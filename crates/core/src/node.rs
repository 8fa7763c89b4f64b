//! What may be learnt about a node and what may be done to it: the two traits the machine is met through.

use crate::ageing::Observation;
use crate::{
    Covered, Fault, FileSeen, FolderQuestion, FolderSeen, Holder, MemoryQuestion, MirrorQuestion, MirrorSeen,
    PgFacts, PgQuestion, PgServer, Probe, Probing, Secret, SocketPowers, SocketQuestion, SocketsSeen, Step,
    UnitSeen,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Everything a kind may learn about the node. Every look has a deadline of its own; none of them changes anything.
pub trait Sensor {
    /// The text of a regular file, or `None` where there is no such file. Never blocks on a FIFO, never more than
    /// 1 MiB; what is not UTF-8 comes with replacement characters.
    ///
    /// # Errors
    /// It is there and cannot be read.
    fn read(&self, path: &Path) -> Result<Option<String>, Fault>;
    /// The names in a folder, sorted, or `None` where there is no such folder.
    ///
    /// # Errors
    /// It is there and cannot be read.
    fn list(&self, folder: &Path) -> Result<Option<Vec<String>>, Fault>;
    /// A path with every symlink in it followed, as the kernel sees it, or `None` where it leads nowhere. Does not
    /// touch the filesystem mounted there.
    ///
    /// # Errors
    /// A folder on the way cannot be searched.
    fn resolve(&self, path: &Path) -> Result<Option<PathBuf>, Fault>;
    /// A kernel parameter.
    ///
    /// # Errors
    /// It is there and reading it fails for another reason than rights.
    fn sysctl(&self, key: &SysctlKey) -> Result<SysctlSeen, Fault>;
    /// Whether a kernel parameter cannot be written because its tree is mounted read-only, as in a container.
    fn sysctl_frozen(&self, _key: &SysctlKey) -> bool {
        false
    }
    /// The mount table of this mount namespace, in the kernel's order; escapes are decoded.
    ///
    /// # Errors
    /// It cannot be read.
    fn mounts(&self) -> Result<Vec<MountEntry>, Fault>;
    /// What a block device stands for: the file behind a loop device.
    fn backing(&self, device: &str) -> Option<PathBuf>;
    /// Look into folders that may lie in mounts, all at once: one answer each, in their order. The longest deadline
    /// among them bounds the whole call.
    fn folders(&self, questions: &[FolderQuestion]) -> Vec<FolderSeen>;
    /// What lies in a folder itself, below whatever is mounted on it; `None` where there is no such folder. Does not
    /// touch the filesystem mounted there.
    ///
    /// # Errors
    /// It cannot be looked at.
    fn covered(&self, folder: &Path) -> Result<Option<Covered>, Fault>;
    /// Which processes hold what is mounted at a place: by an open file, a working folder or a mapping.
    ///
    /// # Errors
    /// The processes cannot be looked at.
    fn holders(&self, target: &Path) -> Result<Vec<Holder>, Fault>;
    /// A regular file with its owner and permission bits, or `None` where there is no such file. Reads as
    /// [`Sensor::read`] does.
    ///
    /// # Errors
    /// It is there and cannot be read.
    fn file(&self, path: &Path) -> Result<Option<FileSeen>, Fault>;
    /// The number of a user, or `None` where this node knows no such user.
    ///
    /// # Errors
    /// Nobody can say, because a directory service does not answer.
    fn user(&self, name: &str) -> Result<Option<u32>, Fault>;
    /// The number of a group, or `None` where this node knows no such group.
    ///
    /// # Errors
    /// Nobody can say, because a directory service does not answer.
    fn group(&self, name: &str) -> Result<Option<u32>, Fault>;
    /// A systemd credential of the agent's, or `None` where it was given none of this name.
    ///
    /// # Errors
    /// It is there and cannot be read, or is no text.
    fn credential(&self, name: &str) -> Result<Option<Secret>, Fault>;
    /// A short text by which two secrets can be told apart, and none be guessed: a keyed hash.
    fn fingerprint(&self, text: &Secret) -> String;
    /// Whether systemd runs here as the service manager.
    fn systemd(&self) -> bool;
    /// What systemd knows of these units, by the names that were asked for; one it has never heard of has
    /// `load` `not-found`.
    ///
    /// # Errors
    /// systemd does not answer, or does not run here.
    fn units(&self, names: &[String]) -> Result<BTreeMap<String, UnitSeen>, Fault>;
    /// Ask whatever should answer, all at once: one answer each, in their order. The longest time among them bounds the
    /// whole call.
    fn probe(&self, probes: &[Probe]) -> Vec<Probing>;
    /// How pairs of folders stand to each other, all at once: one answer each, in their order. Asking begins comparisons
    /// that are due, and waits for none but the first of a pair, and for that not long. What is not asked about any more is
    /// forgotten, and what runs for its sake is ended.
    fn mirrors(&self, questions: &[MirrorQuestion]) -> Vec<MirrorSeen>;
    /// The time, in seconds since 1970. A kind asks it only while it looks.
    fn now(&self) -> i64;
    /// Whether a debt was noted and not settled since boot. See [`Step::Owe`].
    fn owes(&self, debt: &str) -> bool;
    /// When a debt that is owed was noted last, in microseconds since boot; as late as can be where nobody knows.
    fn owed_since_us(&self, debt: &str) -> Option<u64> {
        self.owes(debt).then_some(u64::MAX)
    }
    /// The tier of this node, where a spec has said it: what shares a slot of the fleet where nothing else is named.
    fn tier(&self) -> Option<String> {
        None
    }
    /// The debts that were noted and not settled since boot, and that begin so, sorted.
    fn debts(&self, _start: &str) -> Vec<String> {
        vec![]
    }
    /// Ask a running PostgreSQL server.
    ///
    /// # Errors
    /// It is not running, does not let us in, or did not answer in time.
    fn postgres(&self, server: &PgServer, question: &PgQuestion) -> Result<PgFacts, Fault>;
    /// The established TCP connections of one port, in this network namespace and in those of the containers on this
    /// node, with who holds them.
    ///
    /// # Errors
    /// The kernel does not tell. The class is [`crate::Class::NotApplicable`] where it never will.
    fn sockets(&self, question: &SocketQuestion) -> Result<SocketsSeen, Fault>;
    /// What we may do with sockets here.
    fn socket_powers(&self) -> SocketPowers;
    /// What became of connections that were left silent, one for each age that is asked about, when that was last
    /// measured, or why that could not be. Asking begins a measurement that is due, and waits for none; `None` where nothing
    /// is known yet.
    fn measured(&self, _question: &MemoryQuestion) -> Option<Measured> {
        None
    }
}

/// What silent connections told, one for each age that was asked about, or why there were none.
pub type Measured = Result<Vec<Observation>, String>;

/// Everything evenkeel may do to the node: one step at a time.
pub trait Actuator {
    /// Carry out one step.
    ///
    /// # Errors
    /// It could not be done; nothing was done by half that a repetition would not finish.
    fn perform(&mut self, step: &Step) -> Result<(), Fault>;
}

/// A node that can be both looked at and changed.
pub trait Node: Sensor + Actuator {
    /// The same node, to look at only.
    fn sensor(&self) -> &dyn Sensor;
}

impl<N: Sensor + Actuator> Node for N {
    fn sensor(&self) -> &dyn Sensor {
        self
    }
}

/// The name of a kernel parameter, checked: segments of `[A-Za-z0-9_.:@-]`, none of them empty, `.` or `..`.
///
/// Written with dots, as in `net.ipv4.tcp_retries2`, or with slashes where a segment has a dot in it, as in
/// `net/ipv4/conf/eth0.100/rp_filter`, which systemd and procps understand too. Both are kept as the path below
/// `/proc/sys`, so the two spellings of one key are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SysctlKey(String);

/// A text that names no kernel parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a kernel parameter: write it as net.ipv4.tcp_retries2")]
pub struct BadSysctlKey(String);

impl SysctlKey {
    /// Its file below `/proc/sys`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/proc/sys").join(&self.0)
    }

    /// Its segments.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl std::str::FromStr for SysctlKey {
    type Err = BadSysctlKey;
    fn from_str(text: &str) -> Result<Self, BadSysctlKey> {
        // As in sysctl.d(5): the first separator decides. After a slash, dots are part of a name; after a dot, slashes
        // stand for dots within a name. A pass reads every key's name, so this takes one look and one allocation.
        let dotted = text.bytes().find(|c| matches!(c, b'.' | b'/')).is_none_or(|c| c == b'.');
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"_-.:@/".contains(&c);
        let bad = || BadSysctlKey(text.chars().take(64).collect());
        if text.len() > 512 || !text.bytes().all(plain) {
            return Err(bad());
        }
        let swap = |c: char| match c {
            '.' if dotted => '/',
            '/' if dotted => '.',
            other => other,
        };
        let path: String = text.chars().map(swap).collect();
        let good = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= 255;
        if path.contains('/') && path.split('/').all(good) { Ok(Self(path)) } else { Err(bad()) }
    }
}

impl std::fmt::Display for SysctlKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.contains('.') { f.write_str(&self.0) } else { f.write_str(&self.0.replace('/', ".")) }
    }
}

/// What was seen of a kernel parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SysctlSeen {
    /// Its value, without the newline at its end.
    Value(String),
    /// The kernel has no such parameter, or not yet.
    Absent,
    /// It is there, and cannot be read: write-only, or no rights. The text says which.
    Unreadable(String),
}

/// One line of the mount table, with its escapes decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// The kernel's id of this mount.
    pub id: u64,
    /// The id of the mount it sits on.
    pub parent: u64,
    /// Major and minor number of the filesystem.
    pub device: (u32, u32),
    /// Which folder of the filesystem is mounted; `/` for all of it.
    pub root: PathBuf,
    /// Where.
    pub target: PathBuf,
    /// Options of this mount: `rw`, `relatime`.
    pub options: Vec<String>,
    /// The filesystem's type.
    pub fstype: String,
    /// The source as the filesystem tells it.
    pub source: String,
    /// Options of the filesystem: `size=1024k`.
    pub super_options: Vec<String>,
}
