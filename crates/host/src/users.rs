//! Names and numbers of users.
//!
//! `/etc/passwd` first, which never hangs; a directory service is asked through getent(1), with a deadline.

use crate::files;
use crate::program::Program;
use std::path::Path;
use std::time::Duration;

/// How long a directory service may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// A user's number.
pub(crate) fn number(name: &str) -> Option<u32> {
    find(name, &|line| line.name == name).map(|line| line.uid)
}

/// A user's name.
pub(crate) fn name(uid: u32) -> Option<String> {
    find(&uid.to_string(), &|line| line.uid == uid).map(|line| line.name)
}

struct Line {
    name: String,
    uid: u32,
}

fn find(key: &str, fits: &dyn Fn(&Line) -> bool) -> Option<Line> {
    let local = files::read(Path::new("/etc/passwd"), 8 << 20).ok().flatten().unwrap_or_default();
    let found = lines(&local).find(|line| fits(line));
    found.or_else(|| {
        let asked = Program::new("getent").args(["passwd", "--", key]).run(DEADLINE, 64 << 10).ok()?;
        lines(&asked.stdout).find(|line| fits(line))
    })
}

/// passwd(5): `name:password:uid:…`
fn lines(text: &[u8]) -> impl Iterator<Item = Line> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = std::str::from_utf8(line).ok()?.split(':');
        let (name, _, uid) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Line { name: name.to_owned(), uid: uid.parse().ok()? })
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
