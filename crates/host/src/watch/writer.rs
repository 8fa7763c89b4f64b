//! Who wrote: from the process id that the kernel tells, at once, for the writer may be gone a moment later.

use crate::files;
use evenkeel_report::Writer;
use std::path::Path;

/// What can still be learnt about a process.
pub(super) fn of(pid: i32) -> Option<Writer> {
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    let read = |name: &str| {
        let bytes = files::read(Path::new(&format!("/proc/{pid}/{name}")), 64 << 10).ok()??;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let comm = read("comm").map(|comm| comm.trim_end().to_owned());
    let unit = read("cgroup").and_then(|cgroup| unit(&cgroup));
    Some(Writer { pid, comm, unit })
}

/// The innermost unit in `/proc/PID/cgroup`: of `0::/system.slice/x.service/sub`, `x.service`.
///
/// Where there are two trees with units in them, a process that has just ended is at the root of the old one, and
/// still in its place in the unified one; there its group may be ` (deleted)` already.
pub(crate) fn unit(cgroup: &str) -> Option<String> {
    let named = |line: &&str| line.starts_with("0::") || line.contains(":name=systemd:");
    let is_unit =
        |part: &&str| [".service", ".scope", ".socket", ".mount"].iter().any(|kind| part.ends_with(kind));
    cgroup.lines().filter(named).find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        path.rsplit('/').find(is_unit).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_unit_is_the_innermost_one() {
        assert_eq!(unit("0::/system.slice/cron.service\n").as_deref(), Some("cron.service"));
        assert_eq!(
            unit("0::/user.slice/user-0.slice/session-3.scope/a\n").as_deref(),
            Some("session-3.scope")
        );
        assert_eq!(unit("4:cpu:/x.service\n1:name=systemd:/y.service\n").as_deref(), Some("y.service"));
        assert_eq!(unit("0::/\n"), None);
    }

    #[test]
    fn the_unit_of_a_process_that_has_just_ended_is_still_known() {
        let both = "9:name=systemd:/\n8:pids:/\n0::/system.slice/rival.service\n";
        assert_eq!(unit(both).as_deref(), Some("rival.service"));
        assert_eq!(unit("0::/system.slice/rival.service (deleted)\n").as_deref(), Some("rival.service"));
    }

    #[test]
    fn we_ourselves_have_a_name() {
        let writer = of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert_eq!(writer.pid, std::process::id());
        assert!(writer.comm.is_some_and(|comm| !comm.is_empty()));
        assert_eq!(of(0), None, "a process of another pid namespace");
    }
}
