//! Silent connections, to learn how long a network path remembers them.
//!
//! A connection is opened, sends nothing, and after a while its kernel is told to probe it at once: where the path has
//! forgotten it, the probe dies or is answered with a reset. Not a byte is sent to the peer, but for a login where one
//! is wanted. Which silences are worth trying is decided by [`evenkeel_core::ageing`]; here they are carried out.

mod flock;
mod login;

use evenkeel_core::Fault;
use evenkeel_core::ageing::{Ageing, Fate, MOST, Observation, VERDICT};
use flock::{Flock, Quiet};
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub use login::Login;

/// How long it may take until the other end takes a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the names' service may take.
const RESOLVE: Duration = Duration::from_secs(15);
/// How often somebody who looks on is told how far it is.
const TICK: Duration = Duration::from_millis(500);

/// Who is at the other end, and how to be let in.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    /// How to log in at a PostgreSQL server, which closes what has not logged in. `None`: the bare connection.
    pub login: Option<Login>,
}

/// A connection, and since when it is silent.
type Fresh = (TcpStream, Instant);

/// What is told while a measurement goes on.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A round begins with these silences.
    Round(&'a [Duration]),
    /// Only so many connections could be opened, and why no more.
    Fewer(usize, &'a Fault),
    /// Something became of one of them.
    Seen(Observation),
    /// So much time is spent, and so many connections are still silent or being asked.
    Waiting(Duration, usize),
}

impl Peer {
    /// The first of a name's addresses that takes a connection. A port of `0` is nobody's.
    ///
    /// # Errors
    /// The name is unknown or takes longer than 15 s to be looked up, or none of its addresses lets us in within 5 s.
    pub fn find(host: &str, port: u16, login: Option<&Login>) -> Result<Self, Fault> {
        let mut refused = None;
        for address in resolve(host, port)? {
            let peer = Self { address, login: login.cloned() };
            match peer.open(CONNECT) {
                Ok(_) => return Ok(peer),
                Err(fault) => refused = Some(fault),
            }
        }
        Err(refused.unwrap_or_else(|| Fault::new(format!("{host} has no address"))))
    }

    /// Open a connection that is silent from now on.
    fn open(&self, within: Duration) -> Result<TcpStream, Fault> {
        let doing = || format!("connect to {}", self.address);
        let left = within.min(CONNECT);
        if left.is_zero() {
            return Err(Fault::from(doing(), io::Error::from(io::ErrorKind::TimedOut)));
        }
        let end = Instant::now() + left;
        let stream = TcpStream::connect_timeout(&self.address, left);
        let stream = stream.map_err(|error| Fault::from(doing(), error))?;
        let ready = stream.set_nonblocking(true);
        ready.map_err(|error| Fault::from(doing(), error))?;
        if let Some(login) = &self.login {
            let left = end.saturating_duration_since(Instant::now());
            login.enter(&stream, left).map_err(|fault| Fault::from(self.log_in(), fault))?;
            flock::settle(&stream);
        }
        Ok(stream)
    }

    fn log_in(&self) -> String {
        format!("log in at PostgreSQL {}", self.address)
    }

    /// Open so many, the one that is to be silent longest first.
    fn open_all(&self, count: usize) -> Result<(Vec<Fresh>, Option<Fault>), Fault> {
        let mut open = vec![];
        while open.len() < count {
            match self.open(CONNECT) {
                Ok(stream) => open.push((stream, Instant::now())),
                Err(fault) if open.is_empty() => return Err(fault),
                Err(fault) => return Ok((open, Some(fault))),
            }
        }
        Ok((open, None))
    }
}

/// A name's addresses. The names' service has no deadline of its own, so it is asked on a thread that may be left behind.
fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
    let doing = format!("look {host} up");
    let (answer, asked) = mpsc::channel();
    let name = host.to_owned();
    std::thread::spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Vec::from_iter);
        let _ = answer.send(found);
    });
    let found = asked.recv_timeout(RESOLVE);
    let found =
        found.map_err(|_| Fault::new(format!("{doing}: no answer within {} s", RESOLVE.as_secs())))?;
    found.map_err(|error| Fault::from(doing, error))
}

/// Carry a measurement out, with so many connections at once ([`MOST`] at most), and tell how it goes. Blocks for up to
/// [`Ageing::at_most`]; how long it took.
///
/// # Errors
/// The peer cannot be reached, or could be and cannot be any more: what died then did not die of being silent.
pub fn measure(
    peer: &Peer,
    connections: usize,
    plan: &mut Ageing,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Duration, Fault> {
    let start = Instant::now();
    let end = start + plan.at_most();
    while !plan.is_done(start.elapsed()) && Instant::now() < end {
        let (open, why) = peer.open_all(connections.clamp(1, MOST)).map_err(|fault| gone(plan, fault))?;
        if let Some(why) = &why {
            tell(Progress::Fewer(open.len(), why));
        }
        let ages = plan.round(open.len());
        tell(Progress::Round(&ages));
        // The longest silence began first.
        let quiet = open.into_iter().zip(ages.into_iter().rev());
        let mut flock: Flock = quiet.map(|((stream, born), age)| Quiet::new(stream, born, age)).collect();
        while !flock.is_empty() && Instant::now() < end {
            for seen in flock.step(end.min(Instant::now() + TICK)) {
                plan.observe(seen);
                tell(Progress::Seen(seen));
            }
            flock.keep(&|age| plan.wants(age));
            tell(Progress::Waiting(start.elapsed(), flock.len()));
        }
    }
    if plan.found().died.is_some() {
        peer.open(CONNECT).map_err(|fault| gone(plan, fault))?;
    }
    Ok(start.elapsed())
}

/// A peer that cannot be reached any more explains every death, and none of them is the path's memory.
fn gone(plan: &Ageing, fault: Fault) -> Fault {
    if plan.seen().is_empty() {
        return fault;
    }
    Fault::from("the peer is out of reach by now, so nothing can be told of the path's memory", fault)
}

/// What becomes of connections of these ages, each opened, left silent, and asked once: for a check in the background.
///
/// Blocks until the oldest was asked, which takes its age and up to 7 s, and never longer than `within`; call it on a
/// thread of its own. The answers are in the order of `ages`, each with the age as it was measured, or as it was asked
/// for where there was none to measure. At most [`MOST`] connections are opened; ages beyond these, and those that
/// `within` leaves no time for, are [`Fate::Untried`]. When one connection cannot be opened, no other is tried.
///
/// A server that closes what has not logged in answers [`Fate::Closed`] for every age beyond that; a peer whose own
/// keepalives are shorter than an age keeps that connection awake, and it survives.
#[must_use]
pub fn check(peer: &Peer, ages: &[Duration], within: Duration) -> Vec<Observation> {
    let end = Instant::now() + within;
    let mut answers: Vec<Observation> =
        ages.iter().map(|age| Observation { age: *age, fate: Fate::Untried }).collect();
    let mut order: Vec<usize> =
        (0..ages.len().min(MOST)).filter(|at| ages[*at] + VERDICT <= within).collect();
    order.sort_by_key(|at| std::cmp::Reverse(ages[*at]));
    let (mut flock, mut whose) = (Flock::default(), vec![]);
    for (nth, at) in order.iter().enumerate() {
        if let Ok(stream) = peer.open(end.saturating_duration_since(Instant::now())) {
            flock.add(Quiet::new(stream, Instant::now(), ages[*at]));
            whose.push(*at);
        } else {
            order[nth..].iter().for_each(|at| answers[*at].fate = Fate::Unreachable);
            break;
        }
    }
    while !flock.is_empty() && Instant::now() < end {
        for (which, seen) in flock.step_named(end) {
            answers[whose[which]] = seen;
        }
    }
    answers
}

#[cfg(test)]
mod tests;
