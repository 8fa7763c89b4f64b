//! The silent connections themselves: waiting, asking each at its time, and telling what became of it.
//!
//! While one is silent it has no keepalive, and nothing is ever written to it. Asking is done by the kernel: with a
//! keepalive time that is already over it sends a probe at once, which carries no data and which every TCP answers.

use super::VERDICT;
use evenkeel_core::ageing::{Fate, Observation};
use nix::poll::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::sockopt;
use std::io::{self, Read as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// Between probes, and after this much silence; the least that the kernel takes.
const SECOND: Duration = Duration::from_secs(1);
/// So many probes without an answer end a connection.
const PROBES: u32 = 3;
/// By when a connection has ended whose probes are not answered: measured 4.0 s, and less than [`VERDICT`].
const OVER: Duration = Duration::from_millis(5500);
/// A peer may greet us, or say that something changed. One that speaks more often is never silent.
const GREETINGS: u32 = 7;
/// What a peer said right before it closed belongs to its closing.
const FAREWELL: Duration = Duration::from_secs(1);

/// One silent connection.
#[derive(Debug)]
pub(super) struct Quiet {
    stream: TcpStream,
    /// When it was last heard of.
    born: Instant,
    /// How long it is to be silent.
    wanted: Duration,
    /// When it was asked, and how long it had been silent by then.
    asked: Option<(Instant, Duration)>,
    /// How often its peer spoke, and how long it had been silent before it did.
    spoke: (u32, Duration),
    /// Which one it is of its flock.
    which: usize,
}

impl Quiet {
    /// A non-blocking connection that has been silent since `born`.
    pub(super) fn new(stream: TcpStream, born: Instant, wanted: Duration) -> Self {
        Self { stream, born, wanted, asked: None, spoke: (0, Duration::ZERO), which: 0 }
    }

    /// When there is something to do even if nothing is heard.
    fn due(&self) -> Instant {
        self.asked.map_or(self.born + self.wanted, |(when, _)| when + VERDICT)
    }

    /// Have the kernel probe it now. The order matters: a keepalive time that is set last, and is over, is acted on at once.
    fn ask(&mut self) -> io::Result<()> {
        sockopt::set_tcp_keepintvl(&self.stream, SECOND)?;
        sockopt::set_tcp_keepcnt(&self.stream, PROBES)?;
        sockopt::set_socket_keepalive(&self.stream, true)?;
        self.asked = Some((Instant::now(), self.born.elapsed()));
        Ok(sockopt::set_tcp_keepidle(&self.stream, SECOND)?)
    }

    /// What has come of it, if anything has.
    fn look(&mut self) -> Option<Observation> {
        let (mut said, mut spoke, silent) = ([0; 4096], false, self.born.elapsed());
        // Bounded, so that one that never stops talking holds nobody up.
        for _ in 0..16 {
            let fate = match self.stream.read(&mut said) {
                // A farewell came through: the path still knew it when it was asked.
                Ok(0) if self.asked.is_some() => Fate::Survived,
                Ok(0) => Fate::Closed,
                Ok(_) => {
                    spoke = true;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => self.ended(&error),
            };
            return Some(Observation { age: self.age_of(fate, silent), fate });
        }
        (spoke && self.asked.is_none()).then(|| self.heard(silent)).flatten()
    }

    /// Its peer spoke: its silence begins anew.
    fn heard(&mut self, silent: Duration) -> Option<Observation> {
        let longest = if silent > FAREWELL { silent } else { self.spoke.1 };
        self.spoke = (self.spoke.0 + 1, longest);
        settle(&self.stream);
        self.born = Instant::now();
        (self.spoke.0 > GREETINGS).then_some(Observation { age: silent, fate: Fate::Talked })
    }

    fn ended(&self, error: &io::Error) -> Fate {
        match Errno::from_io_error(error) {
            Some(Errno::TIMEDOUT) => Fate::Dropped,
            // By now unanswered probes would have ended it, so they were answered, and it is the peer that resets.
            Some(Errno::CONNRESET | Errno::PIPE)
                if self.asked.is_some_and(|(when, _)| when.elapsed() > OVER) =>
            {
                Fate::Survived
            }
            Some(Errno::CONNRESET | Errno::PIPE) => Fate::Reset,
            // A router says that there is no way: what an unanswered probe ends with where somebody said so.
            Some(Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::NOPROTOOPT | Errno::CONNREFUSED)
                if self.asked.is_some() =>
            {
                Fate::Dropped
            }
            _ => Fate::Untried,
        }
    }

    fn age_of(&self, fate: Fate, silent: Duration) -> Duration {
        match self.asked {
            Some((_, age)) => age,
            None if fate == Fate::Closed && silent <= FAREWELL && self.spoke.0 > 0 => self.spoke.1,
            None => silent,
        }
    }

    /// What is to be done by the clock.
    fn turn(&mut self) -> Option<Observation> {
        if Instant::now() < self.due() {
            return None;
        }
        match self.asked {
            None => match self.ask() {
                Ok(()) => None,
                Err(_) => Some(Observation { age: self.born.elapsed(), fate: Fate::Untried }),
            },
            Some((_, age)) => Some(Observation { age, fate: Fate::Survived }),
        }
    }
}

/// Have the kernel acknowledge at once what was received: it would do so up to 0.2 s later, and end the silence then.
pub(super) fn settle(stream: &TcpStream) {
    let _ = sockopt::set_tcp_quickack(stream, true);
}

/// Connections that are silent side by side.
#[derive(Debug, Default)]
pub(super) struct Flock {
    quiet: Vec<Quiet>,
    named: usize,
}

impl FromIterator<Quiet> for Flock {
    fn from_iter<I: IntoIterator<Item = Quiet>>(all: I) -> Self {
        let mut flock = Self::default();
        all.into_iter().for_each(|quiet| flock.add(quiet));
        flock
    }
}

impl Flock {
    /// One more; it is called by how many there were before it.
    pub(super) fn add(&mut self, quiet: Quiet) {
        self.quiet.push(Quiet { which: self.named, ..quiet });
        self.named += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.quiet.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.quiet.is_empty()
    }

    /// Close those of which nothing new is to be learned.
    pub(super) fn keep(&mut self, wants: &dyn Fn(Duration) -> bool) {
        self.quiet.retain(|quiet| wants(quiet.asked.map_or(quiet.wanted, |(_, age)| age)));
    }

    /// Wait until something happens, or until `until`; what happened. Whoever it happened to is closed.
    pub(super) fn step(&mut self, until: Instant) -> Vec<Observation> {
        self.step_named(until).into_iter().map(|(_, seen)| seen).collect()
    }

    /// The same, with which one it was.
    pub(super) fn step_named(&mut self, until: Instant) -> Vec<(usize, Observation)> {
        let next = self.quiet.iter().map(Quiet::due).min().map_or(until, |due| due.min(until));
        let left = crate::program::timeout(next.saturating_duration_since(Instant::now()));
        let quiet = self.quiet.iter();
        let mut polled: Vec<PollFd<'_>> =
            quiet.map(|quiet| PollFd::new(quiet.stream.as_fd(), PollFlags::POLLIN)).collect();
        // Whatever it says, everybody is looked at; there are few.
        let _ = nix::poll::poll(&mut polled, left);
        let mut seen = vec![];
        self.quiet.retain_mut(|quiet| {
            let what = quiet.look().or_else(|| quiet.turn());
            seen.extend(what.map(|what| (quiet.which, what)));
            what.is_none()
        });
        seen
    }
}
