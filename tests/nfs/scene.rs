//! What every story begins with: the server serves, both mounts of the spec are there, and the agent says that all is even.

use crate::support::guest::Guest;
use std::time::Duration;

/// The kernel parameter that has nothing to do with any mount.
pub(crate) const KEY: &str = "net.ipv4.tcp_keepalive_time";
/// The mount that the spec asks to look into.
pub(crate) const UPLOADS: &str = "/srv/up loads";
/// Its unit.
pub(crate) const UPLOADS_UNIT: &str = r"srv-up\x20loads.mount";
/// The mount by the older version that nobody looks into.
pub(crate) const ERRORS: &str = "/srv/errors";
/// For what takes the agent a moment and systemd another: generous, as each reload takes the guest some seconds.
pub(crate) const SOON: Duration = Duration::from_secs(150);
/// How soon a parameter is back, whatever the mounts do: a pass, and something for a busy machine.
pub(crate) const PROMPT: Duration = Duration::from_secs(3);

/// The spec, with more mounts where there are any.
pub(crate) fn spec(more: &str) -> String {
    format!(
        "version: 1
sysctl:
  {KEY}: 61
mount:
  {UPLOADS}:
    source: 10.9.0.2:/exports/uploads
    type: nfs4
    options: [rw, hard, vers=4.2, timeo=50, retrans=2]
    sentinel: .export-id
  {ERRORS}:
    source: 10.9.0.2:/exports/errors
    type: nfs
    options: [rw, hard, vers=3, proto=tcp, nosuid]
{more}"
    )
}

/// An item of the kind.
pub(crate) fn mount(at: &str) -> String {
    format!("mount/{at}")
}

/// Put everything as it was, whatever the last story left, and wait until all is even.
pub(crate) fn set(guest: &Guest) {
    guest.spec(&spec(""));
    let there = format!(
        "evenkeel status >/dev/null && cat '{UPLOADS}/.export-id' {ERRORS}/.export-id && [ ! -s /etc/fstab ]"
    );
    if guest.run(Duration::from_secs(30), &there).status.success() {
        return;
    }
    // Each of these may have nothing to do.
    let clear = "server mend; for one in uploads errors; do server export $one; done
        : >/etc/fstab; chattr -i '/srv/up loads' /srv/errors /srv/second
        for at in '/srv/up loads' /srv/errors /srv/second; do
          ls \"$at\" >/dev/null || timeout 20 umount -f \"$at\"
          findmnt -n --mountpoint \"$at\" >/dev/null || rm -rf \"$at\"/*
        done";
    guest.run(Duration::from_mins(3), &format!("set +e; exec 2>/dev/null\n{clear}"));
    guest.sh("systemctl is-active -q evenkeel || systemctl start evenkeel");
    guest.until("all is even", SOON * 2, || guest.is_even() && !mounted(guest, UPLOADS).is_empty());
}

/// The line of the kernel's table for what is mounted there; empty where nothing is.
pub(crate) fn mounted(guest: &Guest, at: &str) -> String {
    guest.line(&format!("findmnt -rno FSTYPE,SOURCE,OPTIONS --mountpoint '{at}' | tail -n 1 || true"))
}

/// Whether that line has an option.
pub(crate) fn has(line: &str, option: &str) -> bool {
    line.split([',', ' ']).any(|one| one == option)
}

/// Take a mount away by hand while the agent does not run, so that something else can be put there.
pub(crate) fn stopped_and_unmounted(guest: &Guest, at: &str) {
    guest.sh(&format!("systemctl stop evenkeel; umount '{at}'"));
}

/// How often the agent said that it had repaired something.
pub(crate) fn repairs(guest: &Guest) -> usize {
    guest.line("journalctl -b -u evenkeel -o cat | grep -c '^repaired' || true").parse().unwrap()
}

/// Another value for the parameter by hand; how long it takes the agent to put it right, as the guest's clock has it.
pub(crate) fn sysctl_comes_back(guest: &Guest) -> Duration {
    let file = format!("/proc/sys/{}", KEY.replace('.', "/"));
    let script = format!(
        "echo 99 >{file}; start=$(date +%s%3N)
         for _ in {{1..300}}; do [ $(<{file}) = 61 ] && break; sleep 0.02; done
         [ $(<{file}) = 61 ]; echo $(($(date +%s%3N) - start))"
    );
    Duration::from_millis(guest.line(&script).parse().unwrap())
}

/// What identifies the running agent: another number after a restart of any sort, and whether there was one.
pub(crate) fn agent(guest: &Guest) -> String {
    guest.line("systemctl show -p MainPID,NRestarts,ActiveState evenkeel | tr '\\n' ' '")
}
