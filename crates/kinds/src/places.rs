//! Where a spec puts nothing: places without which the system would not come up again, or from which it runs things as root.
//!
//! Names and nothing else: nothing is looked at.

use std::path::Path;

/// Places that belong to the system, with everything below them.
const SYSTEM: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/evenkeel",
    "/var/lib/systemd",
    "/var/run",
    "/var/spool/cron",
];

/// The place of the system's that a path lies in.
pub(crate) fn system(path: &Path) -> Option<&'static str> {
    SYSTEM.iter().find(|one| path.starts_with(one)).copied()
}

/// The first place of the system's that lies below a path.
pub(crate) fn holds(path: &Path) -> Option<&'static str> {
    SYSTEM.iter().find(|one| Path::new(one).starts_with(path)).copied()
}

/// Whether a text is an absolute path without `.`, `..`, `//` or a slash at its end.
pub(crate) fn tidy(path: &str) -> bool {
    path.starts_with('/') && !path.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_systems_by_what_it_lies_in_or_holds() {
        let [fonts, cron, var, root] = ["/srv/fonts", "/etc/cron.d", "/var", "/"].map(Path::new);
        assert_eq!((system(fonts), holds(fonts)), (None, None));
        assert_eq!((system(cron), holds(cron)), (Some("/etc"), None));
        assert_eq!((system(var), holds(var)), (None, Some("/var/lib/evenkeel")));
        assert_eq!((system(root), holds(root)), (None, Some("/bin")));
        assert!(tidy("/srv/a") && !tidy("/") && !tidy("/srv/") && !tidy("/srv/../etc") && !tidy("srv"));
    }
}
