//! Kernel parameters: read through descriptors that stay open, written directly, and read back.
//!
//! Reading an open parameter again costs a microsecond, opening it five. A parameter is never opened with `O_TRUNC` or
//! `O_CREAT`, and success of the write alone is not believed.

use crate::own_writes::OwnWrites;
use evenkeel_core::{Class, Fault, SysctlKey, SysctlSeen};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use sysctl::{Ctl, Sysctl as _, SysctlError};

/// The most parameters that are held open.
const MOST_HELD: usize = 256;
/// The longest value that is read, in bytes; the kernel's longest lists are far below it.
const LONGEST: usize = 256 << 10;

/// Parameters held open.
#[derive(Debug, Default)]
pub(crate) struct Params(Mutex<HashMap<SysctlKey, Arc<File>>>);

impl Params {
    fn held(&self) -> MutexGuard<'_, HashMap<SysctlKey, Arc<File>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A parameter's file, open for reading; held from now on where there is room.
    pub(crate) fn open(&self, key: &SysctlKey) -> io::Result<Arc<File>> {
        if let Some(file) = self.held().get(key) {
            return Ok(file.clone());
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = Arc::new(File::from(rustix::fs::open(key.path(), flags, Mode::empty())?));
        let mut held = self.held();
        if held.len() < MOST_HELD {
            held.insert(key.clone(), file.clone());
        }
        Ok(file)
    }

    /// Let go of those that `keep` does not want.
    pub(crate) fn retain(&self, keep: &dyn Fn(&SysctlKey) -> bool) {
        self.held().retain(|key, _| keep(key));
    }

    /// A parameter's value as it stands.
    pub(crate) fn value(&self, key: &SysctlKey) -> io::Result<String> {
        match self.open(key).and_then(|file| read(&file)) {
            // An interface that went and came again has a new file under the old name.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.held().remove(key);
                self.open(key).and_then(|file| read(&file))
            }
            seen => seen,
        }
    }
}

fn read(file: &File) -> io::Result<String> {
    let mut bytes = vec![0; 1024];
    loop {
        let length = file.read_at(&mut bytes, 0)?;
        if length < bytes.len() || bytes.len() >= LONGEST {
            bytes.truncate(length);
            let text = String::from_utf8_lossy(&bytes);
            return Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned());
        }
        let longer = bytes.len() * 8;
        bytes.resize(longer, 0);
    }
}

/// Look at one parameter.
pub(crate) fn see(own: &OwnWrites, key: &SysctlKey) -> Result<SysctlSeen, Fault> {
    let error = match own.params().value(key) {
        Ok(value) => return Ok(SysctlSeen::Value(value)),
        Err(error) => error,
    };
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NOTDIR) => Ok(SysctlSeen::Absent),
        Some(Errno::ACCESS | Errno::PERM) => Ok(SysctlSeen::Unreadable(unreadable(key).to_owned())),
        // `net.ipv6.conf.*.stable_secret` before it was first set.
        Some(Errno::IO) => Ok(SysctlSeen::Unreadable("the kernel has no value for it yet (EIO)".to_owned())),
        Some(Errno::ISDIR) => Err(Fault::new(format!("`{key}` is a group of parameters: name one of them"))),
        _ => Err(Fault::from(format!("read the sysctl `{key}`"), error)),
    }
}

/// Whether the parameter's tree is mounted read-only. Rights are another matter: those are told by trying.
pub(crate) fn frozen(key: &SysctlKey) -> bool {
    rustix::fs::access(key.path(), rustix::fs::Access::WRITE_OK) == Err(Errno::ROFS)
}

fn unreadable(key: &SysctlKey) -> &'static str {
    let write_only = rustix::fs::stat(key.path()).is_ok_and(|stat| stat.st_mode & 0o444 == 0);
    if write_only { "it can be written only" } else { "no rights to read it" }
}

/// Write one parameter, and read it back.
pub(crate) fn set(own: &OwnWrites, key: &SysctlKey, value: &str) -> Result<(), Fault> {
    let doing = || format!("write the sysctl `{key}` = `{value}`");
    let before = own.params().value(key).ok();
    write(key, value).map_err(|error| refused(key, value, error))?;
    let after = match own.params().value(key) {
        Ok(after) => after,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(Fault::from(format!("{}, and read it back", doing()), error)),
    };
    own.wrote_sysctl(key, &after);
    if kept(before.as_deref(), &after, value) {
        return Err(Fault::new(format!("{}: the kernel kept `{after}`", doing())));
    }
    Ok(())
}

/// Whether what was written is not what stands there now. Lists may come back in another form (`1,2` as `1-2`), so they
/// only count where nothing changed at all.
fn kept(before: Option<&str>, after: &str, wanted: &str) -> bool {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (now, asked) = (words(after), words(wanted));
    let numbers =
        |words: &[String]| words.iter().map(|word| word.parse().ok()).collect::<Option<Vec<i128>>>();
    if now == asked {
        return false;
    }
    match (numbers(&now), numbers(&asked)) {
        (Some(now), Some(asked)) => now != asked,
        _ => before.is_some_and(|before| words(before) == now),
    }
}

/// The `sysctl` crate writes what it can name; names with a dot in them it cannot.
fn write(key: &SysctlKey, value: &str) -> io::Result<()> {
    if key.segments().any(|part| part.contains('.')) {
        return write_directly(key, value);
    }
    let set = Ctl::new(&key.to_string()).and_then(|ctl| ctl.set_value_string(value));
    match set {
        Ok(_) => Ok(()),
        Err(SysctlError::IoError(error)) if error.raw_os_error().is_some() => Err(error),
        // It tells a parameter without read rights as missing: ask the kernel itself.
        Err(_) => write_directly(key, value),
    }
}

fn write_directly(key: &SysctlKey, value: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(key.path(), flags, Mode::empty())?);
    // One write: the kernel takes a value that comes in pieces for several values.
    let written = file.write_at(value.as_bytes(), 0)?;
    if written == value.len() {
        Ok(())
    } else {
        Err(io::Error::other(format!("it took only {written} bytes")))
    }
}

fn refused(key: &SysctlKey, value: &str, error: io::Error) -> Fault {
    match Errno::from_io_error(&error) {
        Some(Errno::ROFS) => {
            let why = format!("the sysctl `{key}` is read-only here, as in a container");
            Fault::from(why, error).class(Class::NotApplicable)
        }
        Some(Errno::NOENT | Errno::NOTDIR) => {
            let why = format!("the kernel has no sysctl `{key}` yet: its module or interface may come later");
            Fault::from(why, error).class(Class::Waiting)
        }
        Some(Errno::INVAL) => {
            Fault::from(format!("the kernel refuses `{value}` for the sysctl `{key}`"), error)
        }
        _ => Fault::from(format!("write the sysctl `{key}` = `{value}`"), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_clamped_or_ignored_is_told_and_another_spelling_is_not() {
        assert!(kept(Some("5"), "255", "300"), "clamped");
        assert!(kept(Some("5"), "70", "70 71"), "cut short");
        assert!(kept(Some("cubic"), "cubic", "bbr"), "ignored");
        assert!(!kept(Some("4 5 6"), "4\t16\t64", "4 16 64"), "tabs for blanks");
        assert!(!kept(Some(""), "8080-8081", "8080,8081"), "a list in the kernel's own form");
        assert!(kept(Some("1 2 3"), "1 2 3", "4 5 6"), "a list that did not change");
        assert!(!kept(None, "60", "60"), "never read before");
        assert!(!kept(Some("5"), "7", "007"), "the same number");
    }
}
