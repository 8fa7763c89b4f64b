//! Open TCP connections: which there are, who holds them, and what may be done to one.
//!
//! The kernel is asked by `sock_diag`, which filters before it answers; programs are never asked, nor is text parsed.
//! A look opens a connection to nobody and sends nothing over the network.

mod act;
mod diag;
mod namespaces;
mod owner;
pub(crate) mod powers;
mod proc;
mod wire;

use diag::Diag;
use evenkeel_core::{
    Class, Fault, SocketId, SocketPowers, SocketQuestion, SocketSeen, SocketTimers, SocketsSeen,
};
use namespaces::{Barred, Namespaces};
use owner::{Owners, Wanted};
use rustix::io::Errno;
use std::fmt::Display;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use wire::Raw;

/// The most connections that one look tells of.
const MOST: usize = 65_536;
/// For how long what we may do is believed to stay as it is.
const GOOD: Duration = Duration::from_mins(1);

/// What is remembered from one look to the next, for the sake of the next one's price.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    owners: Mutex<Owners>,
    namespaces: Mutex<Namespaces>,
    powers: Mutex<Option<(Instant, SocketPowers)>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sockets {
    fn namespaces(&self) -> MutexGuard<'_, Namespaces> {
        locked(&self.namespaces)
    }

    /// Every established connection that a question is about.
    pub(crate) fn see(&self, question: &SocketQuestion) -> Result<SocketsSeen, Fault> {
        let doing = || format!("look at the {} connections of port {}", question.side.word(), question.port);
        let mut seen = Seen::default();
        Diag::open().and_then(|mut diag| seen.dump(&mut diag, question, 0)).map_err(|error| {
            match Errno::from_io_error(&error).and_then(powers::unseeing) {
                Some(why) => Fault::from(doing(), why).class(Class::NotApplicable),
                None => Fault::from(doing(), error),
            }
        })?;
        self.containers(question, &mut seen);
        seen.sockets.sort_unstable_by_key(|(netns, raw)| id(*netns, raw));
        // A dump may tell of one twice when others come and go in between.
        seen.sockets.dedup_by_key(|(netns, raw)| (*netns, raw.cookie));
        let wants = |raw: &Raw| question.holders.wants(raw.timer, raw.expires_ms, raw.retransmits);
        let wanting = seen.sockets.iter().filter(|(_, raw)| wants(raw));
        let wanted: Vec<Wanted> = wanting.map(|(netns, raw)| wanted(*netns, raw)).collect();
        let owners = locked(&self.owners).of(question, &wanted);
        let mut owners = owners
            .map_err(|error| Fault::from(format!("{}: find who holds them", doing()), error))?
            .into_iter();
        let sockets = seen.sockets.iter().map(|(netns, raw)| {
            let owner = if wants(raw) { owners.next().flatten() } else { None };
            SocketSeen { owner, ..told(*netns, raw) }
        });
        let sockets = sockets.collect();
        Ok(SocketsSeen { sockets, blind: seen.blind })
    }

    fn containers(&self, question: &SocketQuestion, seen: &mut Seen) {
        let found = match self.namespaces().now() {
            Ok(found) => found,
            Err(error) => return seen.blind.push(format!("containers cannot be looked for: {error}")),
        };
        seen.blind.extend(found.blind);
        let done = namespaces::within(&found.spaces, |space, diag| {
            diag.and_then(|mut diag| seen.dump(&mut diag, question, space.inode))
        });
        for (_, done) in done {
            match done {
                Ok(Ok(())) | Err(Barred::Gone) => {}
                Ok(Err(error)) => seen.blind.push(format!("a container's connections: {error}")),
                Err(Barred::Why(why)) => seen.blind.push(why),
            }
        }
    }

    /// What we may do.
    pub(crate) fn powers(&self) -> SocketPowers {
        let mut known = locked(&self.powers);
        if let Some((at, powers)) = &*known
            && at.elapsed() < GOOD
        {
            return powers.clone();
        }
        let powers = powers::look();
        *known = Some((Instant::now(), powers.clone()));
        powers
    }

    /// Give a connection other timers. One that is gone is well.
    pub(crate) fn tune(
        &self,
        socket: &SocketId,
        holder: (u32, u32),
        timers: &SocketTimers,
        doing: &dyn Display,
    ) -> Result<(), Fault> {
        act::tune(self, socket, holder, timers, doing)
    }

    /// End a connection that retransmits into nothing; leave every other.
    pub(crate) fn free(&self, socket: &SocketId, doing: &dyn Display) -> Result<(), Fault> {
        act::free(self, socket, doing)
    }
}

/// What a look has found so far.
#[derive(Default)]
struct Seen {
    sockets: Vec<(u64, Raw)>,
    blind: Vec<String>,
}

impl Seen {
    fn dump(&mut self, diag: &mut Diag, question: &SocketQuestion, netns: u64) -> io::Result<()> {
        let mut over = false;
        diag.ask(question, &mut |raw| {
            over |= self.sockets.len() >= MOST;
            if !over {
                self.sockets.push((netns, raw));
            }
            !over
        })?;
        let more =
            format!("more than {MOST} connections of port {}: the others are not looked at", question.port);
        if over && !self.blind.contains(&more) {
            self.blind.push(more);
        }
        Ok(())
    }
}

fn id(netns: u64, raw: &Raw) -> SocketId {
    SocketId { netns, local: raw.local, remote: raw.remote, cookie: raw.cookie }
}

fn wanted(netns: u64, raw: &Raw) -> Wanted {
    Wanted { netns, cookie: raw.cookie, inode: raw.inode }
}

fn told(netns: u64, raw: &Raw) -> SocketSeen {
    SocketSeen {
        id: id(netns, raw),
        timer: raw.timer,
        expires_ms: raw.expires_ms,
        retransmits: raw.retransmits,
        probes: raw.probes,
        rto_ms: raw.rto_ms,
        unacked: raw.unacked,
        last_data_recv_ms: raw.last_data_recv_ms,
        last_ack_recv_ms: raw.last_ack_recv_ms,
        uid: raw.uid,
        owner: None,
    }
}
