//! The story of many rounds: what drifts is put right again and again, and nothing is left over from it.

use crate::scene::{ERRORS, SOON, UPLOADS, agent, has, mounted};
use crate::support::guest::Guest;

/// What is counted: the agent's descriptors and threads, its children, the processes of the guest, systemd's units, mounts.
const COUNT: &str = "pid=$(systemctl show --value -p MainPID evenkeel)
    echo descriptors=$(ls /proc/$pid/fd | wc -l) children=$(ps -o pid= --ppid $pid | wc -l) \
    processes=$(ps -eo ppid=,comm= | grep -vc '^ *2 ') units=$(systemctl list-units --all --no-legend | wc -l) \
    mounts=$(grep -c ' nfs' /proc/mounts)";

pub(crate) fn many_rounds_leave_nothing_behind(guest: &Guest) {
    let rounds = if std::env::var_os("EVENKEEL_LONG").is_some() { 200 } else { 20 };
    let who = agent(guest);
    // The first round of each sort brings what is made once and kept: a pool's thread, a cache.
    (0..4).for_each(|n| round(guest, n));
    let before = counted(guest);
    (0..rounds).for_each(|n| round(guest, n));
    // Something may be under way while it is counted; what has leaked stays.
    let mut after = String::new();
    let mut same = || {
        after = counted(guest);
        after == before
    };
    let begun = std::time::Instant::now();
    while !same() && begun.elapsed() < SOON {}
    assert_eq!(after, before, "after {rounds} rounds");
    assert_eq!(agent(guest), who);
    println!("       after {rounds} rounds: {after}");
}

fn counted(guest: &Guest) -> String {
    guest.line(COUNT)
}

/// One thing that somebody does to a mount, and the agent puts right.
fn round(guest: &Guest, n: usize) {
    let (drift, at, option) = match n % 4 {
        0 => (format!("umount '{UPLOADS}'"), UPLOADS, "rw"),
        1 => (format!("mount -o remount,ro '{UPLOADS}'"), UPLOADS, "rw"),
        2 => (format!("mount -o remount,suid,rw {ERRORS}"), ERRORS, "nosuid"),
        _ => (format!("umount {ERRORS}"), ERRORS, "nosuid"),
    };
    guest.sh(&drift);
    guest.until(&format!("healed: {drift}"), SOON, || has(&mounted(guest, at), option));
}
