//! Names and numbers of groups: `/etc/group` first, which never hangs; a directory service through getent(1), with a
//! deadline.

use crate::files;
use crate::program::Program;
use std::path::Path;
use std::time::Duration;

/// How long a directory service may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// A group's number.
pub(crate) fn number(name: &str) -> Option<u32> {
    find(name, &|group, _| group == name).map(|(_, gid)| gid)
}

/// A group's name.
pub(crate) fn name(gid: u32) -> Option<String> {
    find(&gid.to_string(), &|_, number| number == gid).map(|(name, _)| name)
}

fn find(key: &str, fits: &dyn Fn(&str, u32) -> bool) -> Option<(String, u32)> {
    let local = files::read(Path::new("/etc/group"), 8 << 20).ok().flatten().unwrap_or_default();
    first(&local, fits).or_else(|| {
        let said = Program::new("getent").args(["group", "--", key]).run(DEADLINE, 1 << 20).ok()?;
        first(&said.stdout, fits)
    })
}

/// group(5): `name:password:gid:…`
fn first(text: &[u8], fits: &dyn Fn(&str, u32) -> bool) -> Option<(String, u32)> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = std::str::from_utf8(line).ok()?.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?.parse().ok()?);
        fits(name, gid).then(|| (name.to_owned(), gid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_zero_and_zero_is_root() {
        assert_eq!((number("root"), name(0).as_deref()), (Some(0), Some("root")));
        assert_eq!(number("nobody-of-that-name"), None);
        assert_eq!(number("0"), None, "a number is no name");
    }
}
