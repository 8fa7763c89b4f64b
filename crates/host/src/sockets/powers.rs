//! What we may do with sockets here, each tried on something that it does no harm to: our own descriptors, a listening
//! socket of our own, our own namespace, a descriptor that no process has.

use super::diag::Diag;
use super::wire::NO_COOKIE;
use evenkeel_core::SocketPowers;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};
use rustix::thread::{CapabilitySet, LinkNameSpaceType};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::Path;

pub(super) const NO_PIDFD_GETFD: &str =
    "this kernel has no pidfd_getfd, which came with Linux 5.6: a newer kernel is needed";
pub(super) const NO_NET_ADMIN: &str =
    "no right to end connections: it takes CAP_NET_ADMIN in the network namespace they are in";
pub(super) const NO_DESTROY: &str =
    "this kernel cannot end connections: it was built without CONFIG_INET_DIAG_DESTROY";
pub(super) const NO_DIAG: &str = "the kernel does not tell of connections: it takes sock_diag (CONFIG_INET_DIAG, the modules \
                                  tcp_diag and inet_diag), and AF_NETLINK in RestrictAddressFamilies= where the unit has that option";
const SECCOMP_GETFD: &str = "a seccomp filter forbids pidfd_getfd, the unit's or a container's: name it in SystemCallFilter= of the unit, \
                             and allow it to the container";
const SECCOMP_SETNS: &str =
    "a filter forbids setns, though CAP_SYS_ADMIN is there: say RestrictNamespaces=net in the unit";
const USER_NAMESPACE: &str =
    "only processes and namespaces of our own user namespace can be reached: run the agent outside of it";
/// A descriptor that no process can have: `fs.nr_open` is at most below it.
const NO_DESCRIPTOR: i32 = i32::MAX;

/// All of them.
pub(super) fn look() -> SocketPowers {
    SocketPowers { see: see(), retune: retune(), free: free(), enter: enter() }
}

fn see() -> Result<(), String> {
    Diag::open().and_then(|mut diag| diag.answers()).map_err(|error| {
        let known = Errno::from_io_error(&error).and_then(unseeing);
        known.map_or_else(|| format!("the kernel does not tell of connections: {error}"), str::to_owned)
    })
}

/// What an error means that ends a dump or the making of its socket, where it means that there will never be one.
pub(super) fn unseeing(error: Errno) -> Option<&'static str> {
    let never = [
        Errno::NOENT,
        Errno::PERM,
        Errno::ACCESS,
        Errno::AFNOSUPPORT,
        Errno::PROTONOSUPPORT,
        Errno::OPNOTSUPP,
        Errno::NOSYS,
    ];
    never.contains(&error).then_some(NO_DIAG)
}

/// Whether descriptors of others may be duplicated. That the call is there is tried on ourselves; whether it reaches others
/// is a matter of rights, and in a user namespace of whose the first process is: tried with a descriptor that it cannot
/// have, `EBADF` is a yes.
pub(super) fn retune() -> Result<(), String> {
    match try_getfd(rustix::process::getpid()) {
        Err(Errno::NOSYS) => return Err(NO_PIDFD_GETFD.to_owned()),
        Err(Errno::PERM | Errno::ACCESS) => return Err(SECCOMP_GETFD.to_owned()),
        Err(error) => return Err(format!("processes cannot be reached into: {}", io::Error::from(error))),
        Ok(()) => {}
    }
    let yama = number("/proc/sys/kernel/yama/ptrace_scope").unwrap_or(0);
    match (has(CapabilitySet::SYS_PTRACE), yama) {
        (_, 3..) => Err(format!(
            "kernel.yama.ptrace_scope is {yama}, which forbids it to everybody: set it to 2 or less and reboot"
        )),
        (true, _) if in_user_namespace() && try_getfd(Pid::INIT).is_err() => Err(USER_NAMESPACE.to_owned()),
        (true, _) => Ok(()),
        (false, 0) => Err(
            "without CAP_SYS_PTRACE only processes of our own user can be reached into: run as root, or add it to the unit"
                .to_owned(),
        ),
        (false, _) => Err(format!(
            "without CAP_SYS_PTRACE, and with kernel.yama.ptrace_scope at {yama}, no process can be reached into: run as \
             root, or add it to the unit"
        )),
    }
}

fn try_getfd(pid: Pid) -> Result<(), Errno> {
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    match rustix::process::pidfd_getfd(&pidfd, NO_DESCRIPTOR, PidfdGetfdFlags::empty()) {
        Ok(_) | Err(Errno::BADF) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a connection may be ended: tried on a listening socket of our own, on loopback, that nobody knows of.
fn free() -> Result<(), String> {
    let answer = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) {
        Ok(listener) => destroy_own(&listener),
        // No loopback here: whether the kernel can is told by a connection that does not exist.
        Err(_) if !has(CapabilitySet::NET_ADMIN) => Err(Errno::PERM),
        Err(_) => destroy_none(),
    };
    match answer {
        Ok(()) => Ok(()),
        Err(Errno::PERM | Errno::ACCESS) => Err(NO_NET_ADMIN.to_owned()),
        Err(Errno::OPNOTSUPP) => Err(NO_DESTROY.to_owned()),
        Err(error) if unseeing(error).is_some() => Err(NO_DIAG.to_owned()),
        Err(error) => Err(format!("connections cannot be ended: {}", io::Error::from(error))),
    }
}

fn destroy_own(listener: &TcpListener) -> Result<(), Errno> {
    let local = listener.local_addr().map_err(|error| errno(&error))?;
    let cookie = rustix::net::sockopt::socket_cookie(listener).unwrap_or(NO_COOKIE);
    destroy(local, cookie)
}

fn destroy_none() -> Result<(), Errno> {
    match destroy((Ipv4Addr::LOCALHOST, 0).into(), NO_COOKIE) {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

fn destroy(local: SocketAddr, cookie: u64) -> Result<(), Errno> {
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let done = Diag::open().and_then(|mut diag| diag.destroy(local, nobody, 0, cookie));
    done.map_err(|error| errno(&error))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Whether other network namespaces may be entered: tried on our own, and in a user namespace on the first process's too.
fn enter() -> Result<(), String> {
    let apart = in_user_namespace();
    let entering = || {
        try_enter("self")?;
        if apart { try_enter("1") } else { Ok(()) }
    };
    let Ok(tried) = std::thread::scope(|scope| scope.spawn(entering).join()) else {
        return Err("the look broke off; this is a bug".to_owned());
    };
    match tried {
        Ok(()) if has(CapabilitySet::SYS_PTRACE) => Ok(()),
        Ok(()) => Err(
            "without CAP_SYS_PTRACE the namespaces of others cannot be seen: run as root, or add it to the unit".to_owned(),
        ),
        Err(Errno::PERM | Errno::ACCESS) if !has(CapabilitySet::SYS_ADMIN) => Err(
            "without CAP_SYS_ADMIN no other network namespace can be entered: run as root, or add it to the unit".to_owned(),
        ),
        Err(Errno::PERM | Errno::ACCESS) if apart => Err(USER_NAMESPACE.to_owned()),
        Err(Errno::PERM | Errno::ACCESS) => Err(SECCOMP_SETNS.to_owned()),
        Err(error) => Err(format!("other network namespaces cannot be entered: {}", io::Error::from(error))),
    }
}

/// For a thread that does nothing else.
fn try_enter(whose: &str) -> Result<(), Errno> {
    let path = format!("/proc/{whose}/ns/net");
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
}

/// Whether it can be seen which process holds a connection.
pub(crate) fn owners() -> Result<(), String> {
    if reaches_others()
        || (in_user_namespace() && rustix::fs::open("/proc/1/fd", OFlags::RDONLY, Mode::empty()).is_ok())
    {
        return Ok(());
    }
    let why = if has(CapabilitySet::SYS_PTRACE) {
        USER_NAMESPACE
    } else {
        "without CAP_SYS_PTRACE only those of our own user: run as root, or add it to the unit"
    };
    Err(why.to_owned())
}

/// Whether we have the right to look into the processes of others.
pub(super) fn reaches_others() -> bool {
    has(CapabilitySet::SYS_PTRACE) && !in_user_namespace()
}

/// Whether the calling thread has a capability in effect.
pub(crate) fn has(capability: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// Whether we are in a user namespace that is not the machine's own.
pub(crate) fn in_user_namespace() -> bool {
    let map = text("/proc/self/uid_map").unwrap_or_default();
    let map: Vec<&str> = map.split_whitespace().collect();
    !map.is_empty() && map != ["0", "0", "4294967295"]
}

fn number(path: &str) -> Option<u32> {
    text(path)?.trim().parse().ok()
}

fn text(path: &str) -> Option<String> {
    String::from_utf8(crate::files::read(Path::new(path), 4096).ok()??).ok()
}
