//! Stories of a server that does not answer any more, and says nothing.

use crate::scene::{
    ERRORS, PROMPT, SOON, UPLOADS, UPLOADS_UNIT, agent, mount, mounted, stopped_and_unmounted,
    sysctl_comes_back,
};
use crate::support::guest::{Guest, WATCHDOG};
use std::time::Instant;

/// The mount that each process waits for which the agent has started and which waits for a filesystem.
const ABANDONED: &str = "for one in $(ps -o pid=,stat= --ppid $(systemctl show --value -p MainPID evenkeel) \
      | awk '$2 ~ /^D/ {print $1}'); do
    at=$(readlink /proc/$one/fd/* | grep -m 1 ^/srv/) && echo \"$at\" || echo \"unknown $(tr '\\0' ' ' </proc/$one/cmdline)\"
  done | sort";

fn abandoned(guest: &Guest) -> Vec<String> {
    guest.sh(ABANDONED).lines().map(str::to_owned).collect()
}

/// Both mounts come from one server, and each has one process that waits at the most.
fn at_most_one_for_each(waiting: &[String]) {
    let mut mounts = waiting.to_vec();
    mounts.dedup();
    assert!(mounts == waiting && waiting.iter().all(|at| at == UPLOADS || at == ERRORS), "{waiting:?}");
}

pub(crate) fn a_server_that_is_silent_holds_nothing_else_up_and_heals_by_itself(guest: &Guest) {
    let (before, invocation) = (agent(guest), guest.show(UPLOADS_UNIT, "InvocationID"));
    guest.sh("server cut");
    guest.until_item(&mount(UPLOADS), SOON, "error", &[UPLOADS, "does not answer"]);
    let (silent, mut seen) = (Instant::now(), false);
    while silent.elapsed() < WATCHDOG * 5 / 2 {
        let took = sysctl_comes_back(guest);
        assert!(took < PROMPT, "the parameter was back after {took:?}");
        let waiting = abandoned(guest);
        at_most_one_for_each(&waiting);
        seen |= !waiting.is_empty();
    }
    assert!(seen, "somebody waits, as there is nothing else to see that the server is back");
    assert_eq!(agent(guest), before, "the watchdog was fed");
    let told = guest.item(&mount(UPLOADS));
    assert!(told.status == "error" && told.reason.contains("does not answer"), "{told:?}");
    guest.sh("server mend");
    guest.until_item(&mount(UPLOADS), SOON, "compliant", &[]);
    guest.until("nobody waits", SOON, || abandoned(guest).is_empty());
    assert_eq!(agent(guest), before, "and nothing was started again");
    assert_eq!(guest.show(UPLOADS_UNIT, "InvocationID"), invocation, "nor was it mounted anew");
}

pub(crate) fn a_mount_that_nobody_asked_to_look_into_is_found_silent_too(guest: &Guest) {
    guest.sh("server cut");
    guest.until_item(&mount(ERRORS), SOON, "error", &[ERRORS, "does not answer"]);
    at_most_one_for_each(&abandoned(guest));
    guest.sh("server mend");
    guest.until_item(&mount(ERRORS), SOON, "compliant", &[]);
}

pub(crate) fn a_first_mount_from_a_silent_server_ends_and_holds_nothing_else_up(guest: &Guest) {
    stopped_and_unmounted(guest, UPLOADS);
    guest.sh("server cut; systemctl start evenkeel");
    let (before, begun) = (agent(guest), Instant::now());
    guest.until("systemd is at it", SOON, || guest.show(UPLOADS_UNIT, "ActiveState") == "activating");
    let ended = format!("journalctl -b -o cat -u '{UPLOADS_UNIT}' | grep -q 'Mounting timed out'");
    while !guest.holds(&ended) {
        assert!(begun.elapsed() < SOON, "the attempt has no end");
        let took = sysctl_comes_back(guest);
        assert!(took < PROMPT, "the parameter was back after {took:?}");
    }
    // The server may be back at any time, and there is a next attempt.
    guest.until_item(&mount(UPLOADS), SOON, "pending", &["10.9.0.2:/exports/uploads takes its time"]);
    assert!(mounted(guest, UPLOADS).is_empty());
    assert_eq!(agent(guest), before, "the watchdog was fed");
    guest.sh("server mend");
    guest.until_item(&mount(UPLOADS), SOON * 2, "compliant", &[]);
    assert_eq!(agent(guest), before);
}
