//! TCP connections as the kernel shows them: what may be asked, what is seen, and how one is named.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Which end of a connection is on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(schemars::JsonSchema)]
pub enum Side {
    /// It asked for the connection: the port is the other end's.
    Client,
    /// It listens: the port is its own.
    Server,
}

impl Side {
    /// `client` or `server`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// A set of addresses: one, or all that begin alike, as in `10.20.0.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no such set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address and no network such as \"10.20.0.0/24\"")]
pub struct BadNet(String);

impl Net {
    /// Its address, without the bits that do not count.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits count, from the left.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether an address is in it. A v4 address that is mapped into v6 is that v4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                let bits = 32 - u32::from(self.prefix);
                net.to_bits().checked_shr(bits).unwrap_or(0)
                    == address.to_bits().checked_shr(bits).unwrap_or(0)
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                let bits = 128 - u32::from(self.prefix);
                net.to_bits().checked_shr(bits).unwrap_or(0)
                    == address.to_bits().checked_shr(bits).unwrap_or(0)
            }
            _ => false,
        }
    }
}

impl std::str::FromStr for Net {
    type Err = BadNet;
    fn from_str(text: &str) -> Result<Self, BadNet> {
        let bad = || BadNet(text.chars().take(60).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) if prefix.bytes().all(|b| b.is_ascii_digit()) => {
                prefix.parse::<u8>().ok().filter(|n| *n <= most).ok_or_else(bad)?
            }
            Some(_) => return Err(bad()),
            None => most,
        };
        let address = match address {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4((a.to_bits() & mask).into())
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6((a.to_bits() & mask).into())
            }
        };
        Ok(Self { address, prefix })
    }
}

impl std::fmt::Display for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix == whole {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

impl Serialize for Net {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Net {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Net {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Net".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "description": "An address or a network: \"10.20.0.10\", \"10.20.0.0/24\", \"fd00::/8\"."})
    }
}

/// Which connections to tell of: established ones of one port at one end, v4 and v6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketQuestion {
    /// Which end is here.
    pub side: Side,
    /// The port: the other end's for a client, our own for a server.
    pub port: u16,
    /// Where the other end may be; empty for anywhere.
    pub peers: Vec<Net>,
    /// Of which of them to tell who holds them.
    pub holders: Holders,
}

/// Unanswered retransmissions in a row from which a connection makes no progress: one lost packet is none, nor are two. At
/// 200 ms and doubling that is 1.4 s and more.
pub const STUCK_RETRANSMITS: u8 = 3;

/// Of which connections to tell who holds them: going through everybody's descriptors costs more than all the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holders {
    /// Of every one.
    All,
    /// Of those that may want something done: with no timer, with a keepalive timer that runs for longer than this, or
    /// retransmitting
    /// [`STUCK_RETRANSMITS`] times or more.
    OfTheUnprotected {
        /// In milliseconds.
        armed_at_most_ms: u64,
    },
}

impl Holders {
    /// Whether it is to be told who holds this one.
    #[must_use]
    pub fn wants(&self, timer: SocketTimer, expires_ms: u32, retransmits: u8) -> bool {
        match self {
            Self::All => true,
            Self::OfTheUnprotected { armed_at_most_ms } => match timer {
                SocketTimer::Off => true,
                SocketTimer::Keepalive => u64::from(expires_ms) > *armed_at_most_ms,
                SocketTimer::Retransmit => retransmits >= STUCK_RETRANSMITS,
                SocketTimer::ZeroWindow | SocketTimer::Other => false,
            },
        }
    }
}

/// What was seen of the connections that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketsSeen {
    /// Every one, in the order of their addresses.
    pub sockets: Vec<SocketSeen>,
    /// What could not be looked at, and why: a container's network namespace that we may not enter.
    pub blind: Vec<String>,
}

/// How one connection is found again: its namespace, its addresses, and the kernel's own number for it, which no later
/// connection of the same addresses has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    /// The inode of its network namespace; 0 for our own.
    pub netns: u64,
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The kernel's number for this socket.
    pub cookie: u64,
}

/// The timer that runs on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocketTimer {
    /// None: it is silent for as long as nobody speaks.
    Off,
    /// Something unacknowledged is to be sent again.
    Retransmit,
    /// The next keepalive probe.
    Keepalive,
    /// The other end's window is shut, and is asked about.
    ZeroWindow,
    /// Anything else.
    Other,
}

/// One established connection. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketSeen {
    /// Which.
    pub id: SocketId,
    /// Its timer.
    pub timer: SocketTimer,
    /// Until that timer expires; 0 without one.
    pub expires_ms: u32,
    /// Retransmissions of the same data in a row, unanswered: `tcpi_retransmits`.
    pub retransmits: u8,
    /// Keepalive or window probes in a row, unanswered: `tcpi_probes`.
    pub probes: u8,
    /// The current retransmission timeout: `tcpi_rto`.
    pub rto_ms: u32,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Since data last came from the other end.
    pub last_data_recv_ms: u32,
    /// Since anything last came from the other end.
    pub last_ack_recv_ms: u32,
    /// Whose it is.
    pub uid: u32,
    /// Who holds it, where that could be seen.
    pub owner: Option<SocketOwner>,
}

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketOwner {
    /// Its number, in our own pid namespace.
    pub pid: u32,
    /// The number of its descriptor.
    pub fd: u32,
    /// Its name.
    pub comm: String,
    /// The systemd unit or container it runs in, from its cgroup.
    pub unit: Option<String>,
}

/// The timers that a live socket is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketTimers {
    /// `TCP_KEEPIDLE`, in seconds.
    pub keepalive_time: u32,
    /// `TCP_KEEPINTVL`, in seconds.
    pub keepalive_intvl: u32,
    /// `TCP_KEEPCNT`.
    pub keepalive_probes: u32,
    /// `TCP_USER_TIMEOUT`, in milliseconds.
    pub user_timeout_ms: u32,
}

/// What this agent may do with sockets, each with the reason where it may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPowers {
    /// See them at all.
    pub see: Result<(), String>,
    /// See who holds them, and give them other timers (`pidfd_getfd`).
    pub retune: Result<(), String>,
    /// End one (`SOCK_DESTROY`).
    pub free: Result<(), String>,
    /// Look into the network namespaces of containers.
    pub enter: Result<(), String>,
}

impl Default for SocketPowers {
    fn default() -> Self {
        Self { see: Ok(()), retune: Ok(()), free: Ok(()), enter: Ok(()) }
    }
}
