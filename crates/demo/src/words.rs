//! What the demo and a node's keeper say to one another: one line of JSON each way.
//!
//! The keeper is the process that holds a node's namespaces. Whatever happens on a node, it does; the demo only asks.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a node is made from: handed to its keeper at the start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The node's name, also its host name.
    pub(crate) name: String,
    /// An empty folder to build the node in.
    pub(crate) scratch: PathBuf,
    /// Where the node's daemons log, as the machine sees it.
    pub(crate) logs: PathBuf,
    /// The repository, as the machine sees it.
    pub(crate) repository: PathBuf,
    /// A Unix socket that leads to the hub.
    pub(crate) hub_socket: PathBuf,
    /// System users that the spec names and the machine may not have.
    pub(crate) users: Vec<String>,
}

/// How a node came to be: the keeper's first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Whether it needed a user namespace, in which only one user exists.
    pub(crate) rootless: bool,
    /// What could not be made as wished.
    pub(crate) notes: Vec<String>,
}

/// Whom a program runs as on a node: user and group.
pub(crate) type User = Option<(u32, u32)>;

/// What a keeper may be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Run a program to its end.
    Run { argv: Vec<String>, user: User },
    /// Start a program that stays, logging to `/run/demo/log/NAME.log`.
    Start { name: String, argv: Vec<String>, user: User, stop: Stop },
    /// Write a file, and make the folders above it.
    Write { path: PathBuf, text: String, mode: u32, user: User },
    /// Look at something once.
    Look(Look),
    /// Look until it is as wanted.
    Await { look: Look, want: String, within_ms: u64 },
    /// Break something and look until it is as before.
    Break { argv: Vec<String>, user: User, look: Look, within_ms: u64 },
    /// Which of the started programs have ended: name and how.
    Ended,
}

/// How a program that stays is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stop {
    /// SIGTERM: the agent's way.
    Term,
    /// SIGINT: PostgreSQL's fast shutdown.
    Int,
}

/// Where to look on a node. Every look is the node's own: never what an agent says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Look {
    /// A file's text, without the newline at its end.
    File(PathBuf),
    /// What is mounted there, by the kernel's table, and whether `sentinel` can be seen in it.
    Mount { target: PathBuf, sentinel: Option<String> },
    /// What a query answers.
    Sql { psql: Vec<String>, query: String, user: User },
    /// Whether an open connection to a port has no keepalive timer, as the kernel tells.
    Unprotected { port: u16 },
}

/// What a keeper answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// A program ended.
    Ran { code: i32, out: String },
    /// It was done.
    Done,
    /// What was seen.
    Seen(String),
    /// What was seen last, and after how long it was as wanted.
    Awaited { last: String, ms: Option<f64> },
    /// How a break went.
    Broken(Timing),
    /// The programs that ended.
    Ended(Vec<(String, String)>),
    /// It could not be done.
    Failed(String),
}

/// A break and its repair, as seen on the node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Timing {
    /// What was there before.
    pub(crate) before: String,
    /// The first other thing that was seen; none when the repair was faster than the looks.
    pub(crate) broken: Option<String>,
    /// From the first look at the broken state to the first look at the repaired one. Where nothing broken was
    /// seen: from the start of the break to the first look after it, an upper bound.
    pub(crate) ms: Option<f64>,
    /// What was there at the end.
    pub(crate) after: String,
}
