//! One netlink socket to the kernel's `sock_diag`: dump by port and peer, look at one again, end one.
//!
//! It asks about the network namespace in which it was opened. A dump is filtered by the kernel, never held as a whole
//! in memory, and given up after two seconds.

use super::wire::{self, AF_INET, AF_INET6, Raw, Request};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use evenkeel_core::{Side, SocketId, SocketQuestion};

/// How long the kernel may take to answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// The kernel puts at most 32 KiB into one piece of an answer.
const PIECE: usize = 64 << 10;
/// How often a dump is made again that was disturbed.
const TRIES: usize = 3;

/// A way to ask.
pub(super) struct Diag {
    fd: OwnedFd,
    sequence: u32,
    piece: Vec<u8>,
}

/// What becomes of a dump.
enum Dumped {
    Whole,
    Disturbed,
    /// Whoever listens has had enough.
    Enough,
}

impl Diag {
    /// To the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let protocol = Some(netlink::SOCK_DIAG);
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        set_socket_timeout(&fd, Timeout::Recv, Some(DEADLINE))?;
        Ok(Self { fd, sequence: 0, piece: Vec::new() })
    }

    /// Every established connection that a question is about, by way of `each`, until that says `false`.
    pub(super) fn ask(
        &mut self,
        question: &SocketQuestion,
        each: &mut dyn FnMut(Raw) -> bool,
    ) -> io::Result<()> {
        let (local, remote) = match question.side {
            Side::Server => (question.port, 0),
            Side::Client => (0, question.port),
        };
        let filter = wire::filter(&question.peers);
        let peers = &question.peers;
        let mut each = |raw: Raw| {
            let asked_for = peers.is_empty() || peers.iter().any(|net| net.contains(raw.remote.ip()));
            !asked_for || each(raw)
        };
        // A v4 address can be met in either family, a v6 address in one.
        let v4 = peers.is_empty() || peers.iter().any(|net| net.address().is_ipv4());
        if v4 {
            self.dump(&Request::by_port(AF_INET, local, remote), &filter, &mut each)?;
        }
        match self.dump(&Request::by_port(AF_INET6, local, remote), &filter, &mut each) {
            // A kernel without IPv6.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) && v4 => Ok(()),
            done => done,
        }
    }

    /// Whether the kernel tells of sockets at all: a dump of none.
    pub(super) fn answers(&mut self) -> io::Result<()> {
        let none = Request { states: 0, ..Request::by_port(AF_INET, 1, 1) };
        self.dump(&none, &[], &mut |_| true)
    }

    fn dump(
        &mut self,
        request: &Request,
        filter: &[u8],
        each: &mut dyn FnMut(Raw) -> bool,
    ) -> io::Result<()> {
        for _ in 0..TRIES {
            match self.dump_once(request, filter, each)? {
                Dumped::Whole | Dumped::Enough => break,
                // Each socket comes with its own number: what comes twice is known by it.
                Dumped::Disturbed => {}
            }
        }
        Ok(())
    }

    fn dump_once(
        &mut self,
        request: &Request,
        filter: &[u8],
        each: &mut dyn FnMut(Raw) -> bool,
    ) -> io::Result<Dumped> {
        let sequence = self.send(request, wire::SOCK_DIAG_BY_FAMILY, wire::DUMP, filter)?;
        let (end, mut disturbed, mut enough) = (Instant::now() + DEADLINE, false, false);
        loop {
            self.receive(end)?;
            for message in wire::messages(&self.piece).filter(|message| message.sequence == sequence) {
                disturbed |= message.flags & wire::NLM_F_DUMP_INTR != 0;
                match message.kind {
                    wire::NLMSG_DONE | wire::NLMSG_ERROR => {
                        return match wire::error(message.body) {
                            0 if enough => Ok(Dumped::Enough),
                            0 if disturbed => Ok(Dumped::Disturbed),
                            0 => Ok(Dumped::Whole),
                            number => Err(io::Error::from_raw_os_error(number)),
                        };
                    }
                    _ if enough => {}
                    _ => enough = wire::socket(message.body).is_some_and(|raw| !each(raw)),
                }
            }
        }
    }

    /// This very connection as it is now; `None` where it is closed, or about to be.
    pub(super) fn look(&mut self, id: &SocketId) -> io::Result<Option<Raw>> {
        let request = Request::exact(id.local, id.remote, scope(id.local), id.cookie);
        if let Some(raw) = self.one(&request)? {
            return Ok((raw.state == wire::ESTABLISHED).then_some(raw));
        }
        // One that is bound to an interface is found by the interface only, which a dump tells.
        let mut found = None;
        for family in families(id.local) {
            let request = Request::by_port(*family, id.local.port(), id.remote.port());
            let each = &mut |raw: Raw| {
                let same = raw.cookie == id.cookie && same_ends(id, raw.local, raw.remote);
                found = found.take().or(same.then_some(raw));
                found.is_none()
            };
            self.dump(&request, &[], each)?;
        }
        Ok(found)
    }

    fn one(&mut self, request: &Request) -> io::Result<Option<Raw>> {
        let sequence = self.send(request, wire::SOCK_DIAG_BY_FAMILY, wire::ONE, &[])?;
        let end = Instant::now() + DEADLINE;
        let mut found = None;
        loop {
            self.receive(end)?;
            for message in wire::messages(&self.piece).filter(|message| message.sequence == sequence) {
                match message.kind {
                    wire::NLMSG_ERROR => {
                        return match wire::error(message.body) {
                            0 => Ok(found),
                            number if number == Errno::NOENT.raw_os_error() => Ok(None),
                            number => Err(io::Error::from_raw_os_error(number)),
                        };
                    }
                    _ => found = wire::socket(message.body).or(found),
                }
            }
        }
    }

    /// End this very connection. One that is not there is an error: `ENOENT`.
    pub(super) fn destroy(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        interface: u32,
        cookie: u64,
    ) -> io::Result<()> {
        let request = Request::exact(local, remote, interface, cookie);
        let sequence = self.send(&request, wire::SOCK_DESTROY, wire::ONE, &[])?;
        let end = Instant::now() + DEADLINE;
        loop {
            self.receive(end)?;
            let answer = wire::messages(&self.piece)
                .find(|message| message.sequence == sequence && message.kind == wire::NLMSG_ERROR);
            match answer.map(|message| wire::error(message.body)) {
                None => {}
                Some(0) => return Ok(()),
                Some(number) => return Err(io::Error::from_raw_os_error(number)),
            }
        }
    }

    fn send(&mut self, request: &Request, kind: u16, flags: u16, filter: &[u8]) -> io::Result<u32> {
        self.sequence += 1;
        let message = request.message(kind, flags, self.sequence, filter);
        rustix::net::send(&self.fd, &message, SendFlags::empty())?;
        Ok(self.sequence)
    }

    /// The next piece of an answer.
    fn receive(&mut self, end: Instant) -> io::Result<()> {
        loop {
            if Instant::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.piece.clear();
            self.piece.reserve(PIECE);
            match rustix::net::recv(
                &self.fd,
                rustix::buffer::spare_capacity(&mut self.piece),
                RecvFlags::empty(),
            ) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The interface of a link-local address.
fn scope(end: SocketAddr) -> u32 {
    if let SocketAddr::V6(end) = end { end.scope_id() } else { 0 }
}

/// A socket of either family may have v4 addresses.
fn families(end: SocketAddr) -> &'static [u8] {
    match end.ip() {
        IpAddr::V4(_) => &[AF_INET, AF_INET6],
        IpAddr::V6(_) => &[AF_INET6],
    }
}

/// Whether these are the two ends of that connection.
pub(super) fn same_ends(id: &SocketId, local: SocketAddr, remote: SocketAddr) -> bool {
    let same = |one: SocketAddr, other: SocketAddr| {
        one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
    };
    same(id.local, local) && same(id.remote, remote)
}
