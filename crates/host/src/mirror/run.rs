//! One run of rsync: a comparison, which is a dry run, or a transfer.
//!
//! It runs at the lowest priority and dies with the thread that waits for it, and so with the agent. Files come to their
//! place whole and all at its end; nothing is removed before that, and never more than the comparison has counted.

use super::Settings;
use super::said::{self, Said};
use super::way;
use crate::guard::Guard;
use crate::program::{Program, ProgramError};
use crate::{mounting, probing, walk};
use evenkeel_core::{Class, MirrorJob, chain};
use std::ffi::OsString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a comparison may take.
const COMPARE: Duration = Duration::from_mins(30);
/// How long a transfer may take. One that does not go on is given up long before, see [`STALLED`].
const TRANSFER: Duration = Duration::from_hours(24);
/// For how long rsync may hear nothing from its other end, in seconds.
const STALLED: &str = "--timeout=60";
/// How long a folder on a share may take to answer before rsync is let loose on it.
const ANSWER: Duration = Duration::from_secs(5);
/// What runs it: it dies with us, and is behind everything else for the processor and the disk.
const BEHIND: [&str; 8] = ["--pdeathsig", "KILL", "nice", "-n", "19", "ionice", "-t", "-c3"];
/// What both runs say. Devices are not carried over, and nothing becomes setuid; a folder's time is no difference,
/// because whoever makes and removes a file in it changes it.
const ALWAYS: [&str; 9] = [
    "--recursive",
    "--links",
    "--perms",
    "--times",
    "--owner",
    "--group",
    "--omit-dir-times",
    "--chmod=u-s,Fg-s",
    "--delay-updates",
];

/// Why a run came to nothing.
pub(super) type Trouble = (Class, String);

/// What both runs need.
pub(super) struct Run<'a> {
    pub(super) job: &'a MirrorJob,
    pub(super) settings: &'a Settings,
    pub(super) guard: &'a Guard,
    /// Told how far it has come; says whether it is still wanted.
    pub(super) tell: &'a dyn Fn(Option<&str>) -> bool,
}

/// Where a run begins, and what it calls the folder that it writes to.
struct Place {
    begin: PathBuf,
    to: OsString,
    /// Held open, so that the folder stays this one whatever becomes of its path.
    _folder: Option<OwnedFd>,
}

impl Run<'_> {
    /// Compare, and change nothing.
    pub(super) fn compare(&self) -> Result<Said, Trouble> {
        let place = self.place(false)?;
        let said = self.rsync(&place, &["--dry-run".into()], COMPARE)?;
        if said.compared().is_none() {
            return Err((Class::Trouble, "rsync told no statistics".to_owned()));
        }
        Ok(said)
    }

    /// Carry over what a comparison found, removing no more than it counted.
    pub(super) fn transfer(&self, found: &Said) -> Result<Said, Trouble> {
        let place = self.place(true)?;
        let mut more: Vec<OsString> = vec!["--info=progress2".into(), "--outbuf=L".into()];
        if self.job.delete {
            more.push("--delete-delay".into());
            more.push(format!("--max-delete={}", found.deletions()).into());
        }
        if let Some(limit) = self.job.kib_per_second {
            more.push(format!("--bwlimit={limit}").into());
        }
        self.rsync(&place, &more, TRANSFER)
    }

    fn rsync(&self, place: &Place, more: &[OsString], deadline: Duration) -> Result<Said, Trouble> {
        let mut said = Said::default();
        let mut heard = |bytes: &[u8]| {
            said.hear(bytes);
            (self.tell)(said.progress.as_deref())
        };
        let output =
            self.program(place, more)?.follow(deadline, &mut heard).map_err(|error| broke_off(&error))?;
        match output.code {
            // 24: files of the source went while it was read, as in a folder that is in use. 25: more was to be removed than the
            // comparison had counted, and was not; the next one counts again.
            Some(0 | 24 | 25) => Ok(said),
            code => Err(said::failure(code, &output.stderr)),
        }
    }

    fn program(&self, place: &Place, more: &[OsString]) -> Result<Program, Trouble> {
        let job = self.job;
        let mut program = Program::new("setpriv").args(BEHIND).arg("rsync").args(ALWAYS);
        program = program.args([STALLED, "--stats", "--no-human-readable", "--out-format=%i %n%L"]);
        if job.delete {
            program = program.arg("--delete");
        }
        program = program.args(job.exclude.iter().map(|one| format!("--exclude={one}")));
        program = program.args(job.owner.iter().map(|owner| format!("--chown={owner}")));
        let (hosts, credentials) = (&self.settings.known_hosts, std::env::var_os("CREDENTIALS_DIRECTORY"));
        let shell = way::shell(job, hosts.as_deref(), credentials.as_deref().map(Path::new))?;
        program = program.args(shell.map(|shell| format!("--rsh={shell}")));
        program = program.args(more.iter().cloned()).arg("--");
        // With a slash at its end it means what is in the folder.
        let from = format!("{}/", job.from.trim_end_matches('/'));
        Ok(program.arg(from).arg(&place.to).folder(&place.begin))
    }

    /// The folder to write to. Its path is walked here, so that nobody who owns a part of it can lead a root process
    /// astray while rsync opens it again; one on a share is left to rsync, once the share is seen to answer.
    fn place(&self, make: bool) -> Result<Place, Trouble> {
        self.answers(Path::new(&self.job.from))?;
        let to = Path::new(&self.job.to);
        let by_path = || Place { begin: "/".into(), to: format!("{}/", self.job.to).into(), _folder: None };
        if !self.answers(to)? {
            return Ok(by_path());
        }
        match walk::folder(to, make.then_some(0o755)) {
            Ok(folder) => {
                let begin = format!("/proc/self/fd/{}", folder.as_raw_fd()).into();
                Ok(Place { begin, to: "./".into(), _folder: Some(folder) })
            }
            // A dry run compares with nothing.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !make => Ok(by_path()),
            Err(error) => Err((Class::Trouble, format!("{}: {error}", self.job.to))),
        }
    }

    /// Whether a path of this node lies on filesystems of this machine; one on a share has to answer.
    fn answers(&self, path: &Path) -> Result<bool, Trouble> {
        if !path.is_absolute() {
            return Ok(true);
        }
        let trouble = |why: String| (Class::Waiting, format!("{}: {why}", path.display()));
        let real = mounting::resolve(self.guard, path).map_err(|fault| trouble(chain(&fault)))?;
        let Some(real) = real else { return Ok(true) };
        if self.guard.clear(&real).map_err(|error| trouble(error.to_string()))? {
            return Ok(true);
        }
        probing::age::of(self.guard, &real, ANSWER).map_err(trouble)?;
        Ok(false)
    }
}

fn broke_off(error: &ProgramError) -> Trouble {
    let why = match error {
        ProgramError::Deadline { .. } => "it was not done in time and was ended".to_owned(),
        ProgramError::Start { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound => {
            return (
                Class::Trouble,
                "setpriv, a part of util-linux, is not installed here: install it".to_owned(),
            );
        }
        other => chain(other),
    };
    (Class::Waiting, why)
}
