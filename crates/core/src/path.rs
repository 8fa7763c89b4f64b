//! One end of a network path, as the kinds of a node are told of it.
//!
//! A path is an intent between two tiers. Each node sees the ends that are its own, with the timers that were derived
//! for them; what becomes of a sysctl, a PostgreSQL parameter or an open socket is each kind's own knowledge.

use crate::{DurationWord, Intent, Net, Origin, Promise, Side};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One end of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathEnd {
    /// The path's name.
    pub name: String,
    /// Which end this node is.
    pub side: Side,
    /// The TCP port that the path leads to.
    pub port: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Where the other end may be; empty for anywhere.
    pub peers: Vec<Net>,
    /// How long it lets a silent connection live, as it was said.
    pub idle_timeout: DurationWord,
    /// How long a request may hang, as it was said.
    pub blackout_at_most: DurationWord,
    /// The timers that keep both.
    pub promise: Promise,
    /// What becomes of connections that are open.
    pub live: Live,
    /// The section of `pg_service.conf` that clients of this path name, where they are to have one.
    pub service: Option<String>,
    /// How many connections each node of its client end may open together; `None` where nobody says.
    pub connections: Option<u32>,
    /// How its memory is measured anew; `None` for never.
    pub probe: Option<ProbeWish>,
    /// Where the path is said.
    pub at: Origin,
    /// Where its idle timeout is said.
    pub idle_timeout_at: Origin,
    /// Where its blackout is said.
    pub blackout_at: Origin,
}

impl PathEnd {
    /// What was said of it.
    #[must_use]
    pub fn intent(&self) -> Intent {
        Intent {
            idle_timeout: self.idle_timeout.duration(),
            blackout_at_most: self.blackout_at_most.duration(),
        }
    }
}

/// How a path's memory is measured in the background.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeWish {
    /// How often.
    pub every: DurationWord,
    /// Whom to log in as at a PostgreSQL server: only in a session of our own can its keepalives be put off, which would
    /// keep the path awake. `None` for whatever does not send any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The database to log in to; the user's where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Where the password is: its first line, in a file that nobody else can read. `None` where none is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

/// Which silences to measure, and between whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryQuestion {
    /// The other end.
    pub peer: SocketAddr,
    /// The silences, each of which one connection is left in.
    pub ages: Vec<Duration>,
    /// How, and how often.
    pub wish: ProbeWish,
}

/// What is spoken on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// PostgreSQL, on both ends.
    Postgresql,
    /// Something else: only the kernel and the sockets can be seen to.
    Tcp,
}

/// What becomes of connections that are open, in order of disruption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Live {
    /// They are not looked at.
    Off,
    /// Told, and left as they are.
    #[default]
    Report,
    /// Given the right timers while they are open.
    Retune,
    /// That, and those that retransmit into nothing are ended, so that their program has its error at once.
    Free,
}

impl Live {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Report => "report",
            Self::Retune => "retune",
            Self::Free => "free",
        }
    }
}

/// What a path makes of an item: the weakest layer of all, below every profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// The item's name.
    pub item: String,
    /// Its fields, or some of them.
    pub fields: BTreeMap<String, Value>,
    /// Which of the paths it was told of says so.
    pub path: usize,
}
