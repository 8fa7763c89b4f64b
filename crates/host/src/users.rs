//! Names and numbers of users and groups.
//!
//! `/etc/passwd` and `/etc/group` first, which never hang, and are read again only when they have changed; a directory service is asked
//! through getent(1), with a deadline, and its answer is believed for a while.

use crate::files::{self, FileState};
use crate::program::Program;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a directory service may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long its answer is believed.
const BELIEVED: Duration = Duration::from_mins(5);

/// One of the two tables.
struct Table {
    file: &'static str,
    /// As getent(1) calls it.
    database: &'static str,
    known: Mutex<Option<Known>>,
}

static USERS: Table = Table { file: "/etc/passwd", database: "passwd", known: Mutex::new(None) };
static GROUPS: Table = Table { file: "/etc/group", database: "group", known: Mutex::new(None) };

/// A user's number.
pub(crate) fn number(name: &str) -> Option<u32> {
    USERS.find(name, &|user| user.name == name).map(|user| user.id)
}

/// A user's name.
pub(crate) fn name(uid: u32) -> Option<String> {
    USERS.find(&uid.to_string(), &|user| user.id == uid).map(|user| user.name)
}

/// A group's number.
pub(crate) fn group_number(name: &str) -> Option<u32> {
    GROUPS.find(name, &|group| group.name == name).map(|group| group.id)
}

/// A group's name.
pub(crate) fn group_name(gid: u32) -> Option<String> {
    GROUPS.find(&gid.to_string(), &|group| group.id == gid).map(|group| group.name)
}

#[derive(Debug, Clone)]
struct Named {
    name: String,
    id: u32,
}

#[derive(Default)]
struct Known {
    state: Option<FileState>,
    local: Vec<Named>,
    asked: HashMap<String, (Instant, Option<Named>)>,
}

impl Table {
    fn find(&self, key: &str, fits: &dyn Fn(&Named) -> bool) -> Option<Named> {
        if let Some(named) = self.with_known(|known| known.answer(self.file, key, fits)) {
            return named;
        }
        // Without the lock: a directory service that hangs must not hold up whoever asks for a local name.
        let said = Program::new("getent").args([self.database, "--", key]).run(DEADLINE, 1 << 20).ok();
        let named = said.and_then(|said| lines(&said.stdout).find(|named| fits(named)));
        self.with_known(|known| known.asked.insert(key.to_owned(), (Instant::now(), named.clone())));
        named
    }

    fn with_known<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        work(known.get_or_insert_default())
    }
}

impl Known {
    /// What is known without asking anybody; `None` where somebody must be asked.
    #[expect(clippy::option_option, reason = "known to be nobody is not the same as not known")]
    fn answer(&mut self, file: &str, key: &str, fits: &dyn Fn(&Named) -> bool) -> Option<Option<Named>> {
        let state = FileState::at(Path::new(file));
        if state != self.state || state.is_none() {
            let text = files::read(Path::new(file), 8 << 20).ok().flatten().unwrap_or_default();
            *self = Self { state, local: lines(&text).collect(), asked: HashMap::new() };
        }
        if let Some(named) = self.local.iter().find(|named| fits(named)) {
            return Some(Some(named.clone()));
        }
        let asked = self.asked.get(key).filter(|(when, _)| when.elapsed() < BELIEVED);
        asked.map(|(_, named)| named.clone())
    }
}

/// passwd(5) and group(5): `name:password:number:…`
fn lines(text: &[u8]) -> impl Iterator<Item = Named> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = std::str::from_utf8(line).ok()?.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Named { name: name.to_owned(), id: id.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_zero_and_zero_is_root() {
        assert_eq!(number("root"), Some(0));
        assert_eq!(name(0).as_deref(), Some("root"));
        assert_eq!(number("nobody-of-that-name"), None);
        assert_eq!(number("0"), None, "a number is no name");
        assert_eq!((group_number("root"), group_name(0).as_deref()), (Some(0), Some("root")));
        assert_eq!(group_number("nobody-of-that-name"), None);
    }
}
