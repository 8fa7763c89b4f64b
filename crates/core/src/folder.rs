//! Folders that may lie in a mount: what a look into one asks, and what it tells.
//!
//! A share whose server is dead holds whoever touches it. So looks are asked for together, each with a deadline, and each
//! has an answer of its own.

use std::path::PathBuf;
use std::time::Duration;

/// One folder to look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderQuestion {
    /// Which; a symlink on the way is followed.
    pub folder: PathBuf,
    /// A file that should be at its top.
    pub sentinel: Option<String>,
    /// Whether to try a write too, by making and removing one empty file.
    pub write: bool,
    /// How long an answer may take.
    pub within: Duration,
    /// For how long what was seen of an automount that is awake may be told again: a look keeps it awake.
    pub lasts: Option<Duration>,
}

/// What a look into a folder told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderSeen {
    /// It answers.
    Answers(Inside),
    /// No answer in time, or a look before it still has none.
    Hung,
    /// The server does not know the folder any more, `ESTALE`: it was removed or exported anew while it was mounted.
    Stale,
    /// Anything else, in words.
    Trouble(String),
}

/// What is seen in a folder that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// Its owner's number.
    pub uid: u32,
    /// Its owner's name, where the number has one.
    pub owner: Option<String>,
    /// Its group's number.
    pub gid: u32,
    /// Its group's name, where the number has one.
    pub group: Option<String>,
    /// Its permission bits.
    pub mode: u32,
    /// Whether the sentinel is there; `None` where none was asked for.
    pub sentinel: Option<bool>,
    /// Whether there is anything in it but the sentinel and `lost+found`.
    pub empty: bool,
    /// How long the look took.
    pub took: Duration,
    /// What became of the write that was asked for: nothing where it went well, or why not.
    pub write: Option<Result<(), WriteTrouble>>,
}

/// Why a write to a folder did not go well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteTrouble {
    /// The server, or the filesystem, takes no writes: `EROFS`.
    ReadOnly,
    /// Anything else, in words.
    Other(String),
}

/// What lies in the folder that a mount covers, or will cover.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Covered {
    /// How many files and folders lie at its top; [`COVERED_AT_MOST`] stands for that many and more.
    pub entries: usize,
    /// The first names of them, sorted, for a person; at most three.
    pub names: Vec<String>,
    /// Whether nothing can be written there, `chattr +i`; `None` where the filesystem has no such flag.
    pub immutable: Option<bool>,
}

/// How far files below a mount are counted.
pub const COVERED_AT_MOST: usize = 10_000;

/// A process that holds a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// The unit that it runs in.
    pub unit: Option<String>,
}
