//! The only place that runs programs: each with a deadline, a clean environment, and a bound on what it may say.
//!
//! No shell, ever. A program that does not end in time is killed with everything it started; one that cannot be killed
//! (a dead share holds it) is left behind and reaped when it dies at last.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where programs are looked for, whatever our own environment says.
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of stderr is kept: its end.
const STDERR_KEPT: usize = 16 << 10;
/// How long a killed program may take to be gone before it is left behind.
const GRACE: Duration = Duration::from_millis(500);

/// How often somebody who follows a program is asked whether it shall go on.
const TICK: Duration = Duration::from_millis(100);

/// Programs that could not be killed. Reaped whenever the next one runs.
static LEFT_BEHIND: Mutex<Vec<Child>> = Mutex::new(vec![]);

/// A program to run, and how.
#[derive(Debug, Clone)]
pub struct Program {
    name: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: PathBuf,
    input: Vec<u8>,
}

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// The end of what it wrote to stderr; what is not UTF-8 comes with replacement characters.
    pub stderr: String,
}

/// Why a program did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started.
    #[error("start the program `{program}`")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It was not done in time, and was killed.
    #[error("`{program}` was not done in time and was killed")]
    Deadline {
        /// Its name.
        program: String,
        /// Its process id, where it could not even be killed yet.
        stuck: Option<u32>,
    },
    /// It said more than it may, and was killed.
    #[error("`{program}` wrote more than {cap} bytes and was killed")]
    TooMuch {
        /// Its name.
        program: String,
        /// What it may say, in bytes.
        cap: usize,
    },
    /// Whoever listened wanted no more of it, and it was killed.
    #[error("`{program}` was stopped")]
    Stopped {
        /// Its name.
        program: String,
    },
    /// Its output could not be read.
    #[error("talk to the program `{program}`")]
    Talk {
        /// Its name.
        program: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl Program {
    /// A program by its name, looked for in the usual folders, or by its absolute path.
    pub fn new(name: impl Into<OsString>) -> Self {
        let (args, env, input) = (vec![], vec![], vec![]);
        Self { name: name.into(), args, env, folder: "/".into(), input }
    }

    /// One argument more.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// A variable of its environment, which has nothing else in it but `PATH` and `LC_ALL=C.UTF-8`.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The folder it runs in; `/` where none is said.
    #[must_use]
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        folder.as_ref().clone_into(&mut self.folder);
        self
    }

    /// What it gets to read on stdin; nothing where none is said.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Run it to its end, and no longer than `deadline`; it may write `cap` bytes to stdout. Blocks.
    ///
    /// What it leaves running in its process group is killed when it ends.
    ///
    /// # Errors
    /// It could not be started, took too long or said too much. An exit code other than 0 is no error here.
    pub fn run(self, deadline: Duration, cap: usize) -> Result<Output, ProgramError> {
        reap();
        let end = Instant::now() + deadline;
        let program = self.name.to_string_lossy().into_owned();
        let child = self.start().map_err(|cause| ProgramError::Start { program: program.clone(), cause })?;
        Running::new(program, child, self.input, cap).finish(end)
    }

    /// Run it as [`Program::run`] does, and hand over what it says as it says it; the output at its end has none of that.
    /// `heard` is called at least ten times a second, also with nothing. Where it says `false`, the program is killed.
    ///
    /// # Errors
    /// It could not be started, took too long, or was stopped.
    pub(crate) fn follow(
        self,
        deadline: Duration,
        heard: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<Output, ProgramError> {
        reap();
        let end = Instant::now() + deadline;
        let program = self.name.to_string_lossy().into_owned();
        let child = self.start().map_err(|cause| ProgramError::Start { program: program.clone(), cause })?;
        // No cap: what it says is handed over and gone with every tick.
        Running::new(program, child, self.input, usize::MAX).follow(end, heard)
    }

    fn start(&self) -> io::Result<Child> {
        let stdin = if self.input.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut command = Command::new(&self.name);
        command.args(&self.args).env_clear().env("PATH", SEARCH).env("LC_ALL", "C.UTF-8");
        command.envs(self.env.iter().map(|(name, value)| (name, value))).current_dir(&self.folder);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).spawn()
    }
}

impl Output {
    /// The last line of stderr that says something, or else how it ended: for a message to a person.
    #[must_use]
    pub fn complaint(&self) -> String {
        let last = self.stderr.lines().rev().map(str::trim).find(|line| !line.is_empty());
        match (last, self.code) {
            (Some(line), _) => line.chars().take(500).collect(),
            (None, Some(code)) => format!("it ended with code {code} and no word"),
            (None, None) => "a signal ended it".to_owned(),
        }
    }
}

/// Reap what was left behind and is dead by now.
fn reap() {
    let mut left = LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner);
    left.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}

/// A program that runs.
struct Running {
    program: String,
    child: Option<Child>,
    pidfd: io::Result<OwnedFd>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    input: Vec<u8>,
    sent: usize,
    said: Vec<u8>,
    complained: Vec<u8>,
    cap: usize,
}

impl Running {
    fn new(program: String, mut child: Child, input: Vec<u8>, cap: usize) -> Self {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let pidfd = pidfd(child.id());
        let (said, complained) = (vec![], vec![]);
        Self {
            program,
            child: Some(child),
            pidfd,
            stdin,
            stdout,
            stderr,
            input,
            sent: 0,
            said,
            complained,
            cap,
        }
    }

    fn finish(mut self, end: Instant) -> Result<Output, ProgramError> {
        let program = self.program.clone();
        let talked = self.talk(end);
        match talked {
            Ok(true) => {}
            Ok(false) => return Err(ProgramError::Deadline { program, stuck: self.kill() }),
            Err(cause) => {
                self.kill();
                return Err(ProgramError::Talk { program, cause });
            }
        }
        if self.said.len() > self.cap {
            self.kill();
            return Err(ProgramError::TooMuch { program, cap: self.cap });
        }
        let status = self.collect().map_err(|cause| ProgramError::Talk { program, cause })?;
        let stderr = String::from_utf8_lossy(&self.complained).into_owned();
        Ok(Output { code: status.code(), stdout: std::mem::take(&mut self.said), stderr })
    }

    fn follow(mut self, end: Instant, heard: &mut dyn FnMut(&[u8]) -> bool) -> Result<Output, ProgramError> {
        let program = self.program.clone();
        loop {
            let ended = match self.talk(end.min(Instant::now() + TICK)) {
                Ok(ended) => ended,
                Err(cause) => {
                    self.kill();
                    return Err(ProgramError::Talk { program, cause });
                }
            };
            if !heard(&std::mem::take(&mut self.said)) {
                self.kill();
                return Err(ProgramError::Stopped { program });
            }
            if ended {
                break;
            }
            if Instant::now() >= end {
                return Err(ProgramError::Deadline { program, stuck: self.kill() });
            }
        }
        let status = self.collect().map_err(|cause| ProgramError::Talk { program, cause })?;
        let stderr = String::from_utf8_lossy(&self.complained).into_owned();
        Ok(Output { code: status.code(), stdout: vec![], stderr })
    }

    /// Feed and listen until it has ended, the deadline has come (`false`), or it has said too much.
    fn talk(&mut self, end: Instant) -> io::Result<bool> {
        let pidfd = self.pidfd.as_ref().map_err(|error| io::Error::from(error.kind()))?.try_clone()?;
        for fd in [self.stdin.as_ref().map(AsFd::as_fd), self.stdout.as_ref().map(AsFd::as_fd)] {
            fd.map_or(Ok(()), no_waiting)?;
        }
        self.stderr.as_ref().map_or(Ok(()), no_waiting)?;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let ended = self.wait(&pidfd, left)?;
            self.feed();
            self.listen()?;
            // What others keep the pipes open for is not waited for.
            if ended || self.said.len() > self.cap {
                return Ok(true);
            }
        }
    }

    /// Wait until something can be said or heard; whether it has ended.
    fn wait(&self, pidfd: &OwnedFd, left: Duration) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.stdin.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLOUT)));
        fds.extend(self.stdout.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.stderr.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout(left)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(fds[0].any() == Some(true)),
            Err(error) => Err(error.into()),
        }
    }

    fn feed(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        match stdin.write(&self.input[self.sent..]) {
            Ok(length) => self.sent += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // It does not listen any more, which is its own affair.
            Err(_) => self.sent = self.input.len(),
        }
        if self.sent == self.input.len() {
            self.stdin = None;
        }
    }

    fn listen(&mut self) -> io::Result<()> {
        if hear(self.stdout.as_mut(), &mut self.said, self.cap)? {
            self.stdout = None;
        }
        if hear(self.stderr.as_mut(), &mut self.complained, usize::MAX)? {
            self.stderr = None;
        }
        let over = self.complained.len().saturating_sub(STDERR_KEPT);
        self.complained.drain(..over);
        Ok(())
    }

    /// It has ended: kill what it left running in its group, and only then let its number go.
    fn collect(&mut self) -> io::Result<ExitStatus> {
        let mut child = self.child.take().ok_or(io::ErrorKind::NotFound)?;
        kill_group(&child);
        child.wait()
    }

    /// Kill it and its group. Its number, where it does not die.
    fn kill(&mut self) -> Option<u32> {
        let mut child = self.child.take()?;
        kill_group(&child);
        let end = Instant::now() + GRACE;
        if let Ok(pidfd) = &self.pidfd {
            let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, timeout(end.saturating_duration_since(Instant::now())));
        }
        if matches!(child.try_wait(), Ok(None)) {
            let pid = child.id();
            LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner).push(child);
            return Some(pid);
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn kill_group(child: &Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// A descriptor that becomes readable when the process ends.
pub(crate) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Rounded up, so that a poll never ends just before its time and is repeated in a hurry.
pub(crate) fn timeout(left: Duration) -> PollTimeout {
    let millis = left.as_micros().div_ceil(1000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}

fn no_waiting(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}

/// Take what there is, up to a little over `cap`; whether that was the end.
fn hear(from: Option<&mut impl Read>, into: &mut Vec<u8>, cap: usize) -> io::Result<bool> {
    let Some(from) = from else { return Ok(true) };
    let mut piece = [0; 16 << 10];
    // Bounded, so that one that never stops talking still meets its deadline.
    for _ in 0..64 {
        match from.read(&mut piece) {
            Ok(0) => return Ok(true),
            Ok(length) => into.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if into.len() > cap {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn sh(script: &str) -> Program {
        Program::new("sh").args(["-c", script])
    }

    #[test]
    fn a_program_says_what_it_has_to_say_and_how_it_ended() {
        let output = sh("cat; echo bad >&2; exit 3").input("in").run(SOON, 100).unwrap();
        assert_eq!(output, Output { code: Some(3), stdout: b"in".to_vec(), stderr: "bad\n".into() });
        assert_eq!(output.complaint(), "bad");
    }

    #[test]
    fn much_goes_in_and_out_at_once() {
        let much = vec![b'x'; 1 << 20];
        let output = Program::new("cat").input(much.clone()).run(SOON, 2 << 20).unwrap();
        assert_eq!(output.stdout, much);
    }

    #[test]
    fn its_environment_is_clean() {
        let output = Program::new("env").env("GIT_X", "1").run(SOON, 1000).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        names.sort_unstable();
        assert_eq!(names, ["GIT_X", "LC_ALL", "PATH"]);
    }

    #[test]
    fn it_inherits_no_descriptor_of_ours() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let output = sh("ls -l /proc/self/fd").run(SOON, 10_000).unwrap();
        let name = file.path().file_name().unwrap().to_str().unwrap();
        assert!(!String::from_utf8(output.stdout).unwrap().contains(name));
    }

    #[test]
    fn the_deadline_kills_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!("sleep 60 & echo $! > {}/pid; wait", folder.path().display());
        let started = Instant::now();
        let error = sh(&script).run(Duration::from_millis(400), 100).unwrap_err();
        assert!(matches!(error, ProgramError::Deadline { stuck: None, .. }), "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(5));
        let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
        await_death(pid.trim());
    }

    #[test]
    fn what_it_leaves_behind_in_its_group_dies_with_it() {
        let output = sh("sleep 60 >/dev/null 2>&1 & echo $!").run(SOON, 100).unwrap();
        await_death(String::from_utf8(output.stdout).unwrap().trim());
    }

    fn await_death(pid: &str) {
        let end = Instant::now() + SOON;
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        while lives() {
            assert!(Instant::now() < end, "process {pid} lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn one_that_never_stops_talking_is_stopped() {
        let error = Program::new("yes").run(SOON, 10_000).unwrap_err();
        assert!(matches!(error, ProgramError::TooMuch { cap: 10_000, .. }), "{error:?}");
        let error = sh("yes >&2").run(Duration::from_millis(300), 10).unwrap_err();
        assert!(matches!(error, ProgramError::Deadline { .. }), "{error:?}");
    }

    #[test]
    fn one_that_is_followed_is_heard_while_it_speaks_and_stopped_when_nobody_wants_more() {
        let mut said = vec![];
        let mut keep = |part: &[u8]| {
            said.extend_from_slice(part);
            true
        };
        let output = sh("seq 200000; echo bad >&2; exit 3").follow(SOON, &mut keep).unwrap();
        assert_eq!((output.code, output.stderr.as_str()), (Some(3), "bad\n"));
        assert_eq!(String::from_utf8(said).unwrap().lines().count(), 200_000);
        let (began, mut heard) = (Instant::now(), String::new());
        let mut once = |part: &[u8]| {
            heard.push_str(std::str::from_utf8(part).unwrap());
            heard.is_empty()
        };
        let error = sh("sleep 0.2; echo first; sleep 60").follow(SOON, &mut once).unwrap_err();
        assert!(matches!(error, ProgramError::Stopped { .. }), "{error:?}");
        assert!(heard == "first\n" && began.elapsed() < Duration::from_secs(5), "{heard}");
        let error = sh("sleep 60").follow(Duration::from_millis(300), &mut |_| true).unwrap_err();
        assert!(matches!(error, ProgramError::Deadline { .. }), "{error:?}");
    }

    #[test]
    fn one_that_is_not_there_is_told() {
        let error = Program::new("no-such-program").run(SOON, 10).unwrap_err();
        assert_eq!(error.to_string(), "start the program `no-such-program`");
    }
}
