//! A folder that is kept in step with another: what is compared and carried over, and how far that has come.

use std::time::Duration;

/// A folder and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MirrorJob {
    /// Where from: an absolute path, or `[user@]host:/path`.
    pub from: String,
    /// The folder to keep in step, an absolute path.
    pub to: String,
    /// Patterns that rsync leaves out, on both sides.
    pub exclude: Vec<String>,
    /// Whether what is not in the source is removed.
    pub delete: bool,
    /// The most that one run may remove: in per cent of the files that are here, or a number.
    pub delete_at_most: DeletionLimit,
    /// The owner that files are given; that of the source where nobody is named.
    pub owner: Option<String>,
    /// The name of the systemd credential with the private key for ssh.
    pub key: Option<String>,
    /// The most that is sent in a second, in KiB; no limit where none is said.
    pub kib_per_second: Option<u32>,
}

/// The most that one run may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeletionLimit {
    /// Per cent of the files that are here.
    PerCent(u8),
    /// So many files.
    Files(u32),
}

/// What to compare, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorQuestion {
    /// The two folders.
    pub job: MirrorJob,
    /// How often they are compared.
    pub every: Duration,
}

/// How two folders stand to each other, as of the last comparison that came to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorSeen {
    /// What the last comparison found; nothing where none has come to its end since the agent began.
    pub compared: Option<Compared>,
    /// Why the last comparison or transfer failed, where it did.
    pub trouble: Option<String>,
    /// A transfer is on its way: how far it has come, for a person.
    pub under_way: Option<String>,
    /// When the two were last seen in step, in seconds since 1970; it outlives the agent.
    pub in_step_at: Option<i64>,
    /// Whether that is longer ago than two periods and the time that a comparison takes.
    pub late: bool,
}

/// What a comparison found, by a dry run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// How many files and folders would be made or changed.
    pub change: usize,
    /// How many would be removed.
    pub remove: usize,
    /// The first of the names that would change or go, for a person; at most three.
    pub names: Vec<String>,
    /// How many files the source has.
    pub source: usize,
    /// How many files are here.
    pub here: usize,
}
