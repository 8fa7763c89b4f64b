//! What wakes a pass: somebody wrote a parameter, replaced a file, mounted something.
//!
//! An event only means "go and look". Missing one costs time until the slow pass, never correctness; so whatever cannot
//! be watched is said in [`Watcher::degraded`] and polled, and nothing here ever fails. What we write ourselves wakes
//! nobody, and an idle node is not looked at.

mod folders;
mod kernel;
mod mounts;
mod pace;
mod writer;

use crate::own_writes::OwnWrites;
use crate::program::timeout;
use evenkeel_core::Interest;
use evenkeel_report::Writer;
use folders::Folders;
use kernel::{Kernel, Written};
pub(crate) use kernel::{Writers, writers};
use mounts::Mounts;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pace::Pace;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
pub(crate) use writer::unit;

/// How often to look whether a parameter that was not there has come.
const REFRESH: Duration = Duration::from_secs(30);
/// How long [`Watcher::set`] waits for the watches to stand.
const ARMING: Duration = Duration::from_secs(2);

/// Something was seen to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub interest: Interest,
    /// Who did it, where the kernel could tell.
    pub writer: Option<Writer>,
}

/// Watches what it is asked to, in a thread of its own that ends when this is dropped.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    armed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    interests: Vec<Interest>,
    /// Counts the sets of interests asked for, and those that are watched.
    asked: u64,
    armed: u64,
    degraded: Vec<String>,
    stop: bool,
}

/// Wakes the watcher's thread.
#[derive(Debug, Clone)]
struct Waker(Option<Arc<OwnedFd>>);

impl Waker {
    fn wake(&self) {
        if let Some(pipe) = &self.0 {
            // Full means that it is awake.
            let _ = rustix::io::write(&**pipe, &[1]);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Start a watcher that watches nothing yet. `deliver` is called from its thread, and should be quick.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a handle, made to be given away")]
    pub fn start(own: OwnWrites, deliver: impl Fn(Event) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let started = pipe().and_then(|(woken, waker)| {
            let waker = Waker(Some(Arc::new(waker)));
            let watch = Watch::new(shared.clone(), &own, waker.clone(), woken);
            let thread = std::thread::Builder::new().name("watch".to_owned());
            Ok((waker, thread.spawn(move || watch.run(&deliver))?))
        });
        match started {
            Ok((waker, thread)) => Self { shared, waker, thread: Some(thread) },
            Err(error) => {
                shared.state().degraded = vec![format!("nothing is watched, the slow pass looks ({error})")];
                Self { shared, waker: Waker(None), thread: None }
            }
        }
    }

    /// Watch these, and nothing else. When it returns, what happens from now on is seen. Cheap when nothing changes.
    pub fn set(&self, interests: Vec<Interest>) {
        let mut state = self.shared.state();
        if state.interests == interests {
            return;
        }
        state.interests = interests;
        state.asked += 1;
        let asked = state.asked;
        self.waker.wake();
        if self.thread.as_ref().is_none_or(|thread| thread.thread().id() == std::thread::current().id()) {
            return;
        }
        let waiting = |state: &mut State| state.armed < asked;
        let waited = self.shared.armed.wait_timeout_while(state, ARMING, waiting);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Why something is looked at by the slow pass only, one reason a line; nothing where all is well.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        self.shared.state().degraded.clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's own state.
struct Watch {
    shared: Arc<Shared>,
    woken: OwnedFd,
    kernel: Kernel,
    folders: Folders,
    mounts: Mounts,
    interests: Vec<Interest>,
    armed: u64,
    pace: Pace,
    refresh: Instant,
}

/// What the poll told.
struct Told {
    kernel: bool,
    mounts: bool,
}

impl Watch {
    fn new(shared: Arc<Shared>, own: &OwnWrites, waker: Waker, woken: OwnedFd) -> Self {
        Self {
            shared,
            woken,
            kernel: Kernel::new(own.clone()),
            folders: Folders::new(own.clone(), waker),
            mounts: Mounts::new(own.clone()),
            interests: vec![],
            armed: 0,
            pace: Pace::default(),
            refresh: Instant::now() + REFRESH,
        }
    }

    fn run(mut self, deliver: &dyn Fn(Event)) {
        while let Some(told) = self.wait() {
            // The kernel first: its writers may be gone in a moment.
            if told.kernel {
                for written in self.kernel.read() {
                    self.wrote(written, deliver);
                }
            }
            if self.mounts.read(told.mounts, Instant::now()) {
                self.offer(Interest::Mounts, None, deliver);
            }
            if !self.follow() {
                return;
            }
            for path in self.folders.read() {
                self.offer(Interest::File(path), None, deliver);
            }
            if Instant::now() >= self.refresh {
                self.refresh = Instant::now() + REFRESH;
                for key in self.kernel.refresh() {
                    self.offer(Interest::Sysctl(key), None, deliver);
                }
                self.tell_degraded();
            }
            self.pace.due(Instant::now()).into_iter().for_each(deliver);
        }
    }

    /// Sleep until there is something to do. `None` where the kernel gives us no rest to sleep in.
    fn wait(&self) -> Option<Told> {
        let now = Instant::now();
        let refresh = self.kernel.watches().then_some(self.refresh);
        let next = [self.pace.next(), self.mounts.next(now), refresh].into_iter().flatten().min();
        let timeout = next.map_or(PollTimeout::NONE, |next| timeout(next.saturating_duration_since(now)));
        let mut fds = vec![PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        let kernel = self.kernel.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let mounts = self.mounts.fd().map(|fd| PollFd::new(fd, PollFlags::POLLPRI));
        let (has_kernel, has_mounts) = (kernel.is_some(), mounts.is_some());
        fds.extend(kernel.into_iter().chain(mounts));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
        let told = |at: usize| fds.get(at).and_then(PollFd::any) == Some(true);
        Some(Told { kernel: has_kernel && told(1), mounts: has_mounts && told(1 + usize::from(has_kernel)) })
    }

    /// Take a new set of interests, if there is one; `false` where we are to end.
    fn follow(&mut self) -> bool {
        let _ = rustix::io::read(&self.woken, &mut [0; 256]);
        let shared = self.shared.clone();
        let state = shared.state();
        if state.stop {
            return false;
        }
        if state.asked == self.armed {
            return true;
        }
        (self.armed, self.interests) = (state.asked, state.interests.clone());
        drop(state);
        self.arm();
        self.tell_degraded();
        shared.state().armed = self.armed;
        shared.armed.notify_all();
        true
    }

    fn tell_degraded(&self) {
        let degraded = [self.kernel.degraded(), self.folders.degraded(), self.mounts.degraded()];
        self.shared.state().degraded = degraded.into_iter().flatten().collect();
    }

    fn arm(&mut self) {
        let (mut keys, mut files, mut mounts) = (BTreeSet::new(), BTreeSet::new(), false);
        for interest in &self.interests {
            match interest {
                Interest::Sysctl(key) => drop(keys.insert(key.clone())),
                Interest::File(path) => drop(files.insert(path.clone())),
                Interest::Mounts => mounts = true,
            }
        }
        self.kernel.set(keys);
        self.folders.set(&files);
        self.mounts.set(mounts);
    }

    fn wrote(&mut self, written: Written, deliver: &dyn Fn(Event)) {
        match written {
            Written::One(key, writer) => self.offer(Interest::Sysctl(key), writer, deliver),
            Written::Any => {
                let all = self.interests.clone();
                for interest in all.into_iter().filter(|interest| matches!(interest, Interest::Sysctl(_))) {
                    self.offer(interest, None, deliver);
                }
            }
        }
    }

    fn offer(&mut self, interest: Interest, writer: Option<Writer>, deliver: &dyn Fn(Event)) {
        if let Some(event) = self.pace.offer(Event { interest, writer }, Instant::now()) {
            deliver(event);
        }
    }
}

/// Neither end of it ever waits.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = io::pipe()?;
    for fd in [read.as_fd(), write.as_fd()] {
        rustix::fs::fcntl_setfl(fd, rustix::fs::fcntl_getfl(fd)? | rustix::fs::OFlags::NONBLOCK)?;
    }
    Ok((read.into(), write.into()))
}
