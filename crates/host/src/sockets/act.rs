//! What is done to a connection: it is given other timers, or it is ended. Never any other connection than the one that
//! was named, and never for longer than the act takes: a duplicate that is held keeps a connection from closing.

use super::diag::{Diag, same_ends};
use super::namespaces::{self, Barred};
use super::proc::Proc;
use super::wire::Raw;
use super::{Sockets, owner, powers};
use evenkeel_core::{Class, Fault, STUCK_RETRANSMITS, SocketId, SocketTimer, SocketTimers};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// What a descriptor of another process turned out to be.
enum Duplicate {
    /// That connection.
    It(OwnedFd),
    /// Something else, or nothing.
    Another,
    /// Its process is gone.
    Gone,
}

/// Give a connection other timers.
pub(super) fn tune(
    sockets: &Sockets,
    socket: &SocketId,
    (pid, fd): (u32, u32),
    timers: &SocketTimers,
    doing: &dyn Display,
) -> Result<(), Fault> {
    let refused = |error: Errno| no_right(error, pid, doing);
    match duplicate(socket, pid, fd).map_err(refused)? {
        Duplicate::It(it) => return set(&it, timers, doing),
        Duplicate::Gone => return Ok(()),
        Duplicate::Another => {}
    }
    // It may have another number by now.
    let Some(now) = within(sockets, socket, doing, |diag| diag.look(socket))? else { return Ok(()) };
    let mut proc = Proc::open().map_err(|error| Fault::from(doing.to_string(), error))?;
    if let Some(fd) = owner::descriptor(&mut proc, pid, now.inode) {
        match duplicate(socket, pid, fd).map_err(refused)? {
            Duplicate::It(it) => return set(&it, timers, doing),
            Duplicate::Gone => return Ok(()),
            Duplicate::Another => {}
        }
    }
    let holder = owner::holder(&mut proc, now.inode);
    let holder = holder.map_or_else(
        || "nor does any process that we may look into".to_owned(),
        |(pid, comm)| format!("`{comm}` (pid {pid}) does"),
    );
    Err(Fault::new(format!("{doing}: process {pid} does not hold that connection, {holder}")))
}

fn duplicate(socket: &SocketId, pid: u32, fd: u32) -> Result<Duplicate, Errno> {
    let (Some(pid), Ok(fd)) = (Pid::from_raw(pid.cast_signed()), fd.try_into()) else {
        return Ok(Duplicate::Another);
    };
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(Duplicate::Gone),
        pidfd => pidfd?,
    };
    match rustix::process::pidfd_getfd(&pidfd, fd, PidfdGetfdFlags::empty()) {
        Ok(it) if is(&it, socket) => Ok(Duplicate::It(it)),
        Ok(_) | Err(Errno::BADF) => Ok(Duplicate::Another),
        Err(Errno::SRCH) => Ok(Duplicate::Gone),
        Err(error) => Err(error),
    }
}

/// Whether this descriptor is that connection: by its addresses and the kernel's own number for it.
fn is(it: &OwnedFd, socket: &SocketId) -> bool {
    let end = |address| SocketAddr::try_from(address).ok();
    let local = rustix::net::getsockname(it).ok().and_then(end);
    let remote = rustix::net::getpeername(it).ok().flatten().and_then(end);
    let same = local.zip(remote).is_some_and(|(local, remote)| same_ends(socket, local, remote));
    same && match sockopt::socket_cookie(it) {
        Ok(cookie) => cookie == socket.cookie,
        // A kernel older than 4.12, which has no pidfd_getfd either.
        Err(error) => error == Errno::NOPROTOOPT,
    }
}

/// The time of the first probe comes last: it alone starts the timer anew, at once.
fn set(it: &OwnedFd, timers: &SocketTimers, doing: &dyn Display) -> Result<(), Fault> {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let done = sockopt::set_socket_keepalive(it, true)
        .and_then(|()| sockopt::set_tcp_keepintvl(it, seconds(timers.keepalive_intvl)))
        .and_then(|()| sockopt::set_tcp_keepcnt(it, timers.keepalive_probes))
        .and_then(|()| sockopt::set_tcp_user_timeout(it, timers.user_timeout_ms))
        .and_then(|()| sockopt::set_tcp_keepidle(it, seconds(timers.keepalive_time)));
    done.map_err(|error| Fault::from(doing.to_string(), io::Error::from(error)))
}

fn no_right(error: Errno, pid: u32, doing: &dyn Display) -> Fault {
    let why = match error {
        Errno::PERM | Errno::ACCESS => match powers::retune() {
            Err(why) => why,
            Ok(()) => format!("the kernel does not let us reach into process {pid}"),
        },
        Errno::NOSYS => powers::NO_PIDFD_GETFD.to_owned(),
        error => return Fault::from(doing.to_string(), io::Error::from(error)),
    };
    Fault::from(doing.to_string(), why).class(Class::NotApplicable)
}

/// End a connection that retransmits into nothing.
pub(super) fn free(sockets: &Sockets, socket: &SocketId, doing: &dyn Display) -> Result<(), Fault> {
    let ended = within(sockets, socket, doing, |diag| {
        let stuck = diag.look(socket)?.filter(is_stuck);
        Ok(stuck.map(|now| diag.destroy(socket.local, socket.remote, now.interface, socket.cookie)))
    })?;
    let Some(Err(error)) = ended else { return Ok(()) };
    let why = match Errno::from_io_error(&error) {
        // It went by itself in the meantime.
        Some(Errno::NOENT) => return Ok(()),
        Some(Errno::PERM | Errno::ACCESS) => powers::NO_NET_ADMIN,
        Some(Errno::OPNOTSUPP) => powers::NO_DESTROY,
        _ => return Err(Fault::from(doing.to_string(), error)),
    };
    Err(Fault::from(doing.to_string(), why).class(Class::NotApplicable))
}

fn is_stuck(now: &Raw) -> bool {
    now.timer == SocketTimer::Retransmit && now.retransmits >= STUCK_RETRANSMITS && now.unacked > 0
}

/// Ask in the connection's network namespace. One that is gone, or whose namespace is, comes to `None`.
fn within<T: Send>(
    sockets: &Sockets,
    socket: &SocketId,
    doing: &dyn Display,
    work: impl Fn(&mut Diag) -> io::Result<Option<T>> + Send + Sync,
) -> Result<Option<T>, Fault> {
    let refused = |error: io::Error| refused(error, doing);
    if socket.netns == 0 {
        return Diag::open().and_then(|mut diag| work(&mut diag)).map_err(refused);
    }
    let space = sockets.namespaces().get(socket.netns).map_err(refused)?;
    let Some(space) = space else { return Ok(None) };
    let done = namespaces::within(&[space], |_, diag| diag.and_then(|mut diag| work(&mut diag)));
    match done.into_iter().next() {
        Some((_, Ok(done))) => done.map_err(refused),
        Some((_, Err(Barred::Why(why)))) => {
            Err(Fault::from(doing.to_string(), why).class(Class::NotApplicable))
        }
        Some((_, Err(Barred::Gone))) | None => Ok(None),
    }
}

fn refused(error: io::Error, doing: &dyn Display) -> Fault {
    match Errno::from_io_error(&error).and_then(powers::unseeing) {
        Some(why) => Fault::from(doing.to_string(), why).class(Class::NotApplicable),
        None => Fault::from(doing.to_string(), error),
    }
}
