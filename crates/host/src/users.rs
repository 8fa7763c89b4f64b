//! Names and numbers of users.
//!
//! `/etc/passwd` first, which never hangs, and is read again only when it has changed; a directory service is asked
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
const PASSWD: &str = "/etc/passwd";

/// A user's number.
pub(crate) fn number(name: &str) -> Option<u32> {
    find(name, &|user| user.name == name).map(|user| user.uid)
}

/// A user's name.
pub(crate) fn name(uid: u32) -> Option<String> {
    find(&uid.to_string(), &|user| user.uid == uid).map(|user| user.name)
}

#[derive(Debug, Clone)]
struct User {
    name: String,
    uid: u32,
}

#[derive(Default)]
struct Known {
    state: Option<FileState>,
    local: Vec<User>,
    asked: HashMap<String, (Instant, Option<User>)>,
}

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

fn find(key: &str, fits: &dyn Fn(&User) -> bool) -> Option<User> {
    if let Some(user) = with_known(|known| known.answer(key, fits)) {
        return user;
    }
    // Without the lock: a directory service that hangs must not hold up whoever asks for a local user.
    let said = Program::new("getent").args(["passwd", "--", key]).run(DEADLINE, 64 << 10).ok();
    let user = said.and_then(|said| users(&said.stdout).find(|user| fits(user)));
    with_known(|known| known.asked.insert(key.to_owned(), (Instant::now(), user.clone())));
    user
}

fn with_known<T>(work: impl FnOnce(&mut Known) -> T) -> T {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    work(known.get_or_insert_default())
}

impl Known {
    /// What is known without asking anybody; `None` where somebody must be asked.
    #[expect(clippy::option_option, reason = "known to be nobody is not the same as not known")]
    fn answer(&mut self, key: &str, fits: &dyn Fn(&User) -> bool) -> Option<Option<User>> {
        let state = FileState::at(Path::new(PASSWD));
        if state != self.state || state.is_none() {
            let text = files::read(Path::new(PASSWD), 8 << 20).ok().flatten().unwrap_or_default();
            *self = Self { state, local: users(&text).collect(), asked: HashMap::new() };
        }
        if let Some(user) = self.local.iter().find(|user| fits(user)) {
            return Some(Some(user.clone()));
        }
        let asked = self.asked.get(key).filter(|(when, _)| when.elapsed() < BELIEVED);
        asked.map(|(_, user)| user.clone())
    }
}

/// passwd(5): `name:password:uid:…`
fn users(text: &[u8]) -> impl Iterator<Item = User> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = std::str::from_utf8(line).ok()?.split(':');
        let (name, _, uid) = (fields.next()?, fields.next()?, fields.next()?);
        Some(User { name: name.to_owned(), uid: uid.parse().ok()? })
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
    }
}
