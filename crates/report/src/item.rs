//! One item of a report: what was off, in which layer, since when, and who did it.

use crate::{Change, Phase, Status, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a value was looked at. One item can be right in one layer and wrong in the next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// A file, which decides about the next boot or reload: `file:/etc/sysctl.d/…` on the wire.
    File(PathBuf),
    /// The running kernel.
    Kernel,
    /// A running daemon.
    Daemon,
    /// An open connection.
    Socket,
    /// The mount table.
    Mount,
    /// A systemd unit.
    Unit,
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Kernel => f.write_str("kernel"),
            Self::Daemon => f.write_str("daemon"),
            Self::Socket => f.write_str("socket"),
            Self::Mount => f.write_str("mount"),
            Self::Unit => f.write_str("unit"),
        }
    }
}

/// A layer's name that no layer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownLayer(String);

impl std::fmt::Display for UnknownLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is no layer: file:PATH, kernel, daemon, socket, mount, unit", self.0)
    }
}

impl std::error::Error for UnknownLayer {}

impl std::str::FromStr for Layer {
    type Err = UnknownLayer;
    fn from_str(text: &str) -> Result<Self, UnknownLayer> {
        Ok(match text {
            "kernel" => Self::Kernel,
            "daemon" => Self::Daemon,
            "socket" => Self::Socket,
            "mount" => Self::Mount,
            "unit" => Self::Unit,
            _ => match text.strip_prefix("file:") {
                Some(path) => Self::File(Path::new(path).to_owned()),
                None => return Err(UnknownLayer(text.to_owned())),
            },
        })
    }
}

impl Serialize for Layer {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Layer {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Layer {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Layer".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(file:.*|kernel|daemon|socket|mount|unit)$",
            "description": "Where a value was looked at: a file with its path, the running kernel, a running daemon, an open \
                            connection, the mount table, a systemd unit."
        })
    }
}

/// One thing that differs from what is desired.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Drift {
    /// Which attribute of the item: `value`, `options`, a PostgreSQL parameter.
    pub attr: String,
    /// Where it was seen.
    pub layer: Layer,
    /// What was seen; nothing where there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
    /// What the spec asks for.
    pub desired: String,
}

/// Who changed something, as the kernel told when it happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Writer {
    /// Process id.
    pub pid: u32,
    /// The process's name, where it was still there to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// The systemd unit or session it ran in, from its cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// How one item stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Item {
    /// `kind/name`, as in `sysctl/net.ipv4.tcp_keepalive_time`.
    pub id: String,
    /// How it stands.
    pub status: Status,
    /// Why a repair was needed; only with [`Status::Repaired`] or where `repaired` has something in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// Where it failed; only with [`Status::Error`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Why it stands so, for a person. Never with a timing in it: equal causes give equal texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where the spec says it: `tiers/db.yaml:9`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_at: Option<String>,
    /// What is off; with [`Status::Repaired`], what was off before the repair.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Drift>,
    /// What was put right in this pass, where the status has to tell of something worse that is left: a drop-in that
    /// came back while another setting still waits for a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repaired: Vec<Drift>,
    /// Who did it, where the kernel could tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<Writer>,
    /// When it was first seen off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// How many passes have tried to put it right.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// What is worth knowing of it beside its status, by name: the number that an owner's name stands for on this node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// How far something has come that takes its time. Only where somebody asks the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}
