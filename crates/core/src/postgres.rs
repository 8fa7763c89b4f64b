//! PostgreSQL servers: how one is reached, what may be asked of it, and what it answers.
//!
//! A password is never here: only where it is kept, which the host reads at the moment it connects.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A PostgreSQL server and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PgServer {
    /// What people call it: `13/main`.
    pub name: String,
    /// How it is reached.
    pub reach: PgReach,
}

/// How a PostgreSQL server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PgReach {
    /// On this node, through its Unix socket.
    Local {
        /// Its data directory. Its owner is whom we connect as, by peer authentication.
        data_directory: PathBuf,
        /// The folder of its Unix socket.
        socket_dir: PathBuf,
        /// Its port, which is part of the socket's name.
        port: u16,
    },
    /// Somewhere else, through SQL alone.
    Remote(PgRemote),
}

/// A server that is reached through SQL alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PgRemote {
    /// Its host's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whom we connect as.
    pub user: String,
    /// Which database we connect to.
    pub database: String,
    /// Where the password is kept.
    pub password: PgSecret,
    /// How its identity is checked.
    pub tls: PgTls,
    /// A PEM file with the only authorities that may vouch for it.
    pub ca: Option<PathBuf>,
}

/// Where a password is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PgSecret {
    /// There is none.
    None,
    /// In a file.
    File(PathBuf),
    /// In a credential of the agent's unit: a file of this name below `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// How a connection is encrypted, and how the other end is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PgTls {
    /// Encrypted; its certificate is vouched for, and is for this host.
    #[default]
    VerifyFull,
    /// Encrypted; its certificate is vouched for.
    VerifyCa,
    /// Encrypted; anybody may be at the other end.
    Require,
    /// In the clear.
    Off,
}

impl PgServer {
    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        match &self.reach {
            PgReach::Local { port, .. } => *port,
            PgReach::Remote(remote) => remote.port,
        }
    }
}

impl std::fmt::Display for PgServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// What to ask a PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PgQuestion {
    /// Parameters to tell of.
    pub settings: Vec<String>,
    /// Roles of which to tell whether we may change them.
    pub roles: Vec<String>,
    /// Whether to tell what we may do.
    pub rights: bool,
    /// Whether to tell of sessions over TCP.
    pub backends: bool,
    /// Whether to tell of replication.
    pub replication: bool,
}

/// What a PostgreSQL server answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PgFacts {
    /// `server_version_num`: 150018.
    pub version: u32,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// `pg_settings`, by name, of what was asked for. A parameter that the server does not know is not in it.
    pub settings: BTreeMap<String, PgSetting>,
    /// `pg_file_settings` of what was asked for, and every line with an error, in the server's order.
    pub file_settings: Vec<PgFileSetting>,
    /// `pg_db_role_setting` of what was asked for.
    pub overrides: Vec<PgOverride>,
    /// What we may do, where it was asked.
    pub rights: Option<PgRights>,
    /// Sessions over TCP, where they were asked for.
    pub backends: Vec<PgBackend>,
    /// Replication, where it was asked for.
    pub replication: Option<PgReplication>,
    /// Views that the server does not let us read.
    pub refused: BTreeSet<String>,
}

/// A row of `pg_settings`. There is no `setting`: it reads the asking session's own socket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PgSetting {
    /// What a new session gets, in the parameter's own unit.
    pub reset_val: String,
    /// `bool`, `integer`, `real`, `string`, `enum`.
    pub vartype: String,
    /// The unit: `s`, `ms`, `kB`, `8kB`.
    pub unit: Option<String>,
    /// When it can be changed: `user`, `sighup`, `postmaster`, …
    pub context: String,
    /// `configuration file`, `command line`, `default`, …
    pub source: String,
    /// The file that it comes from.
    pub sourcefile: Option<PathBuf>,
    /// The line in it.
    pub sourceline: Option<u32>,
    /// Changed in a file, and waiting for a restart.
    pub pending_restart: bool,
    /// The least it may be.
    pub min_val: Option<String>,
    /// The most it may be.
    pub max_val: Option<String>,
    /// What an enum may be.
    pub enumvals: Vec<String>,
}

/// A row of `pg_file_settings`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PgFileSetting {
    /// The file.
    pub file: PathBuf,
    /// The line.
    pub line: u32,
    /// The parameter, where the line names one.
    pub name: Option<String>,
    /// Its value there.
    pub setting: Option<String>,
    /// Whether it is the one that counts among the files.
    pub applied: bool,
    /// What the server has against it.
    pub error: Option<String>,
}

/// A setting of a role, a database, or a role in a database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PgOverride {
    /// The role; `None` for every role.
    pub role: Option<String>,
    /// The database; `None` for every database.
    pub database: Option<String>,
    /// The parameter.
    pub setting: String,
    /// Its value there, as it was said.
    pub value: String,
    /// We may not change it.
    pub barred: bool,
}

/// What the role that we connected as may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PgRights {
    /// Who we are.
    pub role: String,
    /// Everything.
    pub superuser: bool,
    /// The parameters that we may `ALTER SYSTEM`.
    pub alter_system: BTreeSet<String>,
    /// Have it read its files again.
    pub reload: bool,
    /// The databases that are ours, templates apart.
    pub databases: BTreeSet<String>,
    /// The roles that were asked for and that we may alter.
    pub roles: BTreeSet<String>,
    /// Other roles that may log in, superusers apart; a hundred of them.
    pub others: BTreeSet<String>,
}

/// A session over TCP: a row of `pg_stat_activity`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PgBackend {
    /// Its process.
    pub pid: i32,
    /// Whose it is.
    pub user: String,
    /// Its database.
    pub database: String,
    /// What its program calls itself.
    pub application: String,
    /// The other end's address.
    pub address: String,
    /// The other end's port.
    pub port: u16,
    /// `idle`, `active`, …
    pub state: String,
}

/// How a server replicates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PgReplication {
    /// Who streams from it.
    pub senders: Vec<PgSender>,
    /// Replication slots that nobody uses.
    pub idle_slots: BTreeSet<String>,
    /// How it receives, if it does.
    pub receiver: Option<PgReceiver>,
    /// How `primary_conninfo` leads to its primary, where there is one.
    pub link: Option<PgLink>,
    /// Replay was told to pause.
    pub paused: bool,
    /// What was received and is not replayed, in bytes.
    pub unreplayed: u64,
}

/// A row of `pg_stat_replication`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PgSender {
    /// What the standby calls itself.
    pub application: String,
    /// `streaming`, `catchup`, `backup`, …
    pub state: String,
}

/// `pg_stat_wal_receiver`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PgReceiver {
    /// `streaming`, `waiting`, …
    pub status: String,
    /// Its slot on the primary.
    pub slot: Option<String>,
}

/// What of `primary_conninfo` says how its connection is kept: never its password, nor anything else of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PgLink {
    /// The primary's host.
    pub host: Option<String>,
    /// `keepalives`, `keepalives_idle`, `keepalives_interval`, `keepalives_count` and `tcp_user_timeout`, as they are said.
    pub timers: BTreeMap<String, String>,
}
