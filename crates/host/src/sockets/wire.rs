//! What is said to the kernel about sockets and what it answers, as bytes: `NETLINK_SOCK_DIAG`, `linux/inet_diag.h`.
//!
//! Pure. Reads tolerantly: an older kernel sends a shorter `tcp_info`, a newer one attributes that nobody here knows, and
//! what cannot be read is left out. Numbers are in the machine's own order, ports and addresses in the network's.

use evenkeel_core::{Net, SocketTimer};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
pub(super) const SOCK_DESTROY: u16 = 21;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_ACK`: one question, one answer.
pub(super) const ONE: u16 = 0x5;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
pub(super) const DUMP: u16 = 0x301;
/// Something changed while it was dumped.
pub(super) const NLM_F_DUMP_INTR: u16 = 0x10;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// The state in which a connection is open at both ends.
pub(super) const ESTABLISHED: u8 = 1;
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_REQ_BYTECODE: u16 = 1;
/// Stands for any cookie.
pub(super) const NO_COOKIE: u64 = u64::MAX;

const HEADER: usize = 16;
/// `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// `struct inet_diag_msg`.
const ANSWER: usize = 72;
/// More networks than this are not handed to the kernel: an attribute ends at 64 KiB.
const MOST_NETS: usize = 1000;

const JMP: u8 = 1;
const D_COND: u8 = 8;

/// A question about sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) family: u8,
    /// One bit a state.
    pub(super) states: u32,
    /// Our end; port 0 is any port in a dump, where the addresses do not count.
    pub(super) local: SocketAddr,
    /// The other end.
    pub(super) remote: SocketAddr,
    /// The number of the interface it is bound to, or 0.
    pub(super) interface: u32,
    pub(super) cookie: u64,
}

impl Request {
    /// A dump of established ones by port, 0 for any.
    pub(super) fn by_port(family: u8, local: u16, remote: u16) -> Self {
        let any = |port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        Self {
            family,
            states: 1 << ESTABLISHED,
            local: any(local),
            remote: any(remote),
            interface: 0,
            cookie: 0,
        }
    }

    /// Exactly one.
    pub(super) fn exact(local: SocketAddr, remote: SocketAddr, interface: u32, cookie: u64) -> Self {
        let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
        Self { family, states: u32::MAX, local, remote, interface, cookie }
    }

    /// The whole message. `filter` is the kernel's bytecode, or nothing.
    pub(super) fn message(&self, kind: u16, flags: u16, sequence: u32, filter: &[u8]) -> Vec<u8> {
        let attribute = if filter.is_empty() { 0 } else { 4 + filter.len() };
        let length = HEADER + REQUEST + attribute;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend(u32::try_from(length).unwrap_or(0).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend([self.family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0]);
        bytes.extend(self.states.to_ne_bytes());
        put_id(&mut bytes, self.local, self.remote, self.interface, self.cookie);
        if attribute > 0 {
            bytes.extend(u16::try_from(attribute).unwrap_or(0).to_ne_bytes());
            bytes.extend(INET_DIAG_REQ_BYTECODE.to_ne_bytes());
            bytes.extend(filter);
        }
        bytes
    }
}

/// `struct inet_diag_sockid`.
fn put_id(bytes: &mut Vec<u8>, local: SocketAddr, remote: SocketAddr, interface: u32, cookie: u64) {
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(remote.port().to_be_bytes());
    for end in [local, remote] {
        match end.ip() {
            IpAddr::V4(ip) => {
                bytes.extend(ip.octets());
                bytes.extend([0; 12]);
            }
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    bytes.extend(interface.to_ne_bytes());
    // Its lower half comes first, on every machine.
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of it")]
    let (low, high) = (cookie as u32, (cookie >> 32) as u32);
    bytes.extend(low.to_ne_bytes());
    bytes.extend(high.to_ne_bytes());
}

/// The kernel's bytecode for "the other end is in one of these": nothing where anywhere will do, or where it would be
/// too long; what comes back is to be looked at again in any case.
///
/// Of each network: a condition, which goes on to the next network where it fails, and a jump to the end where it holds.
/// Past the end by 4 is a refusal. The port is not here: the request itself has it.
pub(super) fn filter(peers: &[Net]) -> Vec<u8> {
    if peers.len() > MOST_NETS {
        return vec![];
    }
    let mut left: usize = peers.iter().map(|net| condition(net) + 4).sum::<usize>().saturating_sub(4);
    let mut bytes = Vec::with_capacity(left);
    for (at, net) in peers.iter().enumerate() {
        let length = condition(net);
        put_operation(&mut bytes, D_COND, length, length + 4);
        let family = if net.address().is_ipv4() { AF_INET } else { AF_INET6 };
        bytes.extend([family, net.prefix(), 0, 0]);
        bytes.extend((-1_i32).to_ne_bytes());
        match net.address() {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
        left -= length;
        if at + 1 < peers.len() {
            put_operation(&mut bytes, JMP, 4, left);
            left -= 4;
        }
    }
    bytes
}

/// `struct inet_diag_bc_op`: how far to go on where it holds, and where not.
fn put_operation(bytes: &mut Vec<u8>, code: u8, yes: usize, no: usize) {
    bytes.extend([code, u8::try_from(yes).unwrap_or(4)]);
    bytes.extend(u16::try_from(no).unwrap_or(4).to_ne_bytes());
}

/// How long one network's condition is: an operation, `struct inet_diag_hostcond`, and the address.
fn condition(net: &Net) -> usize {
    if net.address().is_ipv4() { 16 } else { 28 }
}

/// One message of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

/// The messages in what was received. What is cut short ends them.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let body = bytes.get(HEADER..length)?;
        let message =
            Message { kind: u16_at(bytes, 4)?, flags: u16_at(bytes, 6)?, sequence: u32_at(bytes, 8)?, body };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The error number in the body of an `NLMSG_ERROR`, or of an `NLMSG_DONE` of newer kernels; 0 is none.
pub(super) fn error(body: &[u8]) -> i32 {
    u32_at(body, 0).map_or(0, |number| number.cast_signed().saturating_neg())
}

/// A socket as the kernel tells it. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw {
    pub(super) state: u8,
    pub(super) timer: SocketTimer,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) interface: u32,
    pub(super) cookie: u64,
    pub(super) expires_ms: u32,
    pub(super) uid: u32,
    pub(super) inode: u32,
    pub(super) retransmits: u8,
    pub(super) probes: u8,
    pub(super) rto_ms: u32,
    pub(super) unacked: u32,
    pub(super) last_data_recv_ms: u32,
    pub(super) last_ack_recv_ms: u32,
}

/// The socket in the body of a `SOCK_DIAG_BY_FAMILY` answer.
pub(super) fn socket(body: &[u8]) -> Option<Raw> {
    let [family, state, timer, count] = *body.first_chunk()?;
    let interface = u32_at(body, 40)?;
    let end = |port: usize, address: usize| address_at(body, family, port, address, interface);
    let timer = match timer {
        0 => SocketTimer::Off,
        1 => SocketTimer::Retransmit,
        2 => SocketTimer::Keepalive,
        4 => SocketTimer::ZeroWindow,
        _ => SocketTimer::Other,
    };
    // What `tcp_info` says better where there is one.
    let retransmits = if timer == SocketTimer::Retransmit { count } else { 0 };
    let probes = if matches!(timer, SocketTimer::Keepalive | SocketTimer::ZeroWindow) { count } else { 0 };
    let mut raw = Raw {
        state,
        timer,
        local: end(4, 8)?,
        remote: end(6, 24)?,
        interface,
        cookie: u64::from(u32_at(body, 44)?) | u64::from(u32_at(body, 48)?) << 32,
        expires_ms: if timer == SocketTimer::Off { 0 } else { u32_at(body, 52)? },
        uid: u32_at(body, 64)?,
        inode: u32_at(body, 68)?,
        retransmits,
        probes,
        rto_ms: 0,
        unacked: 0,
        last_data_recv_ms: 0,
        last_ack_recv_ms: 0,
    };
    if let Some(info) = attribute(body.get(ANSWER..)?, INET_DIAG_INFO) {
        raw.retransmits = info.get(2).copied().unwrap_or(retransmits);
        raw.probes = info.get(3).copied().unwrap_or(probes);
        let number = |at| u32_at(info, at).unwrap_or(0);
        (raw.rto_ms, raw.unacked) = (number(8) / 1000, number(24));
        (raw.last_data_recv_ms, raw.last_ack_recv_ms) = (number(52), number(56));
    }
    Some(raw)
}

fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(bytes, 0)?);
        let value = bytes.get(4..length)?;
        if u16_at(bytes, 2)? == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

/// An end. A v4 address that is mapped into v6 is that v4 address; a link-local one has its interface with it.
fn address_at(body: &[u8], family: u8, port: usize, at: usize, interface: u32) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*body.get(port..)?.first_chunk()?);
    match family {
        AF_INET => {
            let octets: [u8; 4] = *body.get(at..)?.first_chunk()?;
            Some(SocketAddr::new(Ipv4Addr::from(octets).into(), port))
        }
        AF_INET6 => {
            let octets: [u8; 16] = *body.get(at..)?.first_chunk()?;
            let ip = Ipv6Addr::from(octets);
            Some(match IpAddr::V6(ip).to_canonical() {
                IpAddr::V4(ip) => SocketAddr::new(ip.into(), port),
                IpAddr::V6(ip) => {
                    let scope = if ip.is_unicast_link_local() { interface } else { 0 };
                    SocketAddrV6::new(ip, port, 0, scope).into()
                }
            })
        }
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
