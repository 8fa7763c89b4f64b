//! When a file was last written; on a share whose server may be dead it is asked in a child that can be given up.

use crate::apart::Answer;
use crate::guard::{Guard, Trouble};
use rustix::io::Errno;
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

/// In seconds since 1970. The path has no symlinks in it.
///
/// # Errors
/// Why it cannot be told, for a person.
pub(crate) fn of(guard: &Guard, path: &Path, within: Duration) -> Result<i64, String> {
    if guard.clear(path).map_err(|error| error.to_string())? {
        return rustix::fs::stat(path).map(|stat| stat.st_mtime).map_err(told);
    }
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // Only a descriptor that the child may keep.
    let keep = std::fs::File::open("/dev/null").map_err(|error| error.to_string())?;
    let answer = guard.apart(path, within, keep.as_fd(), &|| ask(&name));
    match answer.map(read) {
        Ok(Ok(seconds)) => Ok(seconds),
        Ok(Err(errno)) => Err(told(errno)),
        Err(Trouble::Hung) => Err(Trouble::Hung.to_string()),
        Err(Trouble::Child(error)) => Err(error.to_string()),
    }
}

/// Runs in the child: nothing but a system call.
fn ask(name: &CString) -> Answer {
    let (seconds, errno) = match rustix::fs::stat(name.as_c_str()) {
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
