//! The story of many rounds: what drifts is put right again and again, and nothing is left over from it.

use crate::scene::{ERRORS, SOON, UPLOADS, agent, has, mounted};
use crate::support::guest::Guest;
use std::time::Instant;

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
    // Something may be under way while it is counted, the first time too; what has leaked stays.
    let mut after = counted(guest);
    let begun = Instant::now();
    while leaked(&before, &after) && begun.elapsed() < SOON {
        after = counted(guest);
    }
    assert!(!leaked(&before, &after), "after {rounds} rounds\n{after}\nand before\n{before}");
    assert_eq!(agent(guest), who);
    println!("       after {rounds} rounds: {after}");
}

/// Whether there is more of anything than there was.
fn leaked(before: &str, after: &str) -> bool {
    let numbers = |counted: &str| -> Vec<u32> {
        counted.split_whitespace().map(|one| one.split_once('=').unwrap().1.parse().unwrap()).collect()
    };
    numbers(before).into_iter().zip(numbers(after)).any(|(before, after)| after > before)
}

fn counted(guest: &Guest) -> String {
    guest.line(COUNT)
}

/// One thing that somebody does to a mount, and the agent puts right.
fn round(guest: &Guest, n: usize) {
    // While the agent looks into it, it is busy for a moment.
    let umount = |at: &str| format!("for _ in {{1..20}}; do ! umount '{at}' || break; sleep 0.2; done");
    let (drift, at, option) = match n % 4 {
        0 => (umount(UPLOADS), UPLOADS, "rw"),
        1 => (format!("mount -o remount,ro '{UPLOADS}'"), UPLOADS, "rw"),
        2 => (format!("mount -o remount,suid,rw {ERRORS}"), ERRORS, "nosuid"),
        _ => (umount(ERRORS), ERRORS, "nosuid"),
    };
    guest.sh(&drift);
    guest.until(&format!("healed: {drift}"), SOON, || has(&mounted(guest, at), option));
}
