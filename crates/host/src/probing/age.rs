//! When a file was last written; on a share whose server may be dead it is asked in a child that can be given up.

use crate::apart::Answer;
use crate::guard::{Guard, Trouble};
use crate::mounting;
use crate::walk::Links;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::Duration;

/// In seconds since 1970.
///
/// # Errors
/// Why it cannot be told, for a person.
pub(crate) fn of(guard: &Guard, path: &Path, within: Duration) -> Result<i64, String> {
    if guard.clear(path).map_err(|error| error.to_string())? {
        return rustix::fs::stat(path).map(|stat| stat.st_mtime).map_err(told);
    }
    let reached =
        mounting::approach(guard, path, Links::Any, None, true).map_err(|error| error.to_string())?;
    let rest = mounting::joined(&reached.rest).map_err(|error| error.to_string())?;
    let base = reached.fd.as_fd();
    let answer = guard.apart(within, base, &|| ask(base, &rest));
    match answer.map(read) {
        Ok(Ok(seconds)) => Ok(seconds),
        Ok(Err(errno)) => Err(told(errno)),

        Err(Trouble::Child(error)) => Err(error.to_string()),
        Err(trouble) => Err(trouble.to_string()),
    }
}

/// Nothing but system calls: this runs in a child.
fn ask(base: BorrowedFd, rest: &CStr) -> Answer {
    let file = mounting::below(base, rest, OFlags::PATH);
    let (seconds, errno) = match file.and_then(rustix::fs::fstat) {
        Ok(stat) => (stat.st_mtime, 0),
        Err(errno) => (0, i64::from(errno.raw_os_error())),
    };
    let mut answer = Answer::default();
    answer[..8].copy_from_slice(&seconds.to_ne_bytes());
    answer[8..].copy_from_slice(&errno.to_ne_bytes());
    answer
}

fn read(answer: Answer) -> Result<i64, Errno> {
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&answer[at..at + 8]);
        i64::from_ne_bytes(bytes)
    };
    match i32::try_from(number(8)) {
        Ok(0) => Ok(number(0)),
        Ok(errno) => Err(Errno::from_raw_os_error(errno)),
        Err(_) => Err(Errno::IO),
    }
}

fn told(errno: Errno) -> String {
    if errno == Errno::NOENT {
        "there is no such file".to_owned()
    } else {
        io::Error::from(errno).to_string()
    }
}
