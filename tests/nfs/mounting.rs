//! Stories of mounts that come to be, and come back.

use crate::scene::{ERRORS, SOON, UPLOADS, UPLOADS_UNIT, agent, has, mount, mounted, repairs, spec};
use crate::support::guest::Guest;
use std::time::Duration;

pub(crate) fn both_versions_are_mounted_as_named_and_the_second_pass_does_nothing(guest: &Guest) {
    let (uploads, errors) = (mounted(guest, UPLOADS), mounted(guest, ERRORS));
    assert!(uploads.starts_with("nfs4 10.9.0.2:/exports/uploads "), "{uploads}");
    for option in ["rw", "hard", "vers=4.2", "timeo=50", "retrans=2"] {
        assert!(has(&uploads, option), "{option}: {uploads}");
    }
    assert!(errors.starts_with("nfs 10.9.0.2:/exports/errors "), "{errors}");
    for option in ["rw", "hard", "vers=3", "proto=tcp", "nosuid"] {
        assert!(has(&errors, option), "{option}: {errors}");
    }
    for unit in [UPLOADS_UNIT, "srv-errors.mount"] {
        let properties = "ActiveState,FragmentPath,UnitFileState,NeedDaemonReload";
        let known = guest.line(&format!("systemctl show -p {properties} '{unit}' | sort | tr '\\n' ' '"));
        let ours =
            format!("FragmentPath=/etc/systemd/system/{unit} NeedDaemonReload=no UnitFileState=enabled");
        assert_eq!(known.trim(), format!("ActiveState=active {ours}"));
    }
    // What systemd and the kernel are asked to do over three passes and more: nothing.
    let before = (repairs(guest), agent(guest));
    let trace = "timeout 8 strace -qq -f -e trace=mount,umount2,move_mount,execve -s 200 \
                 -p $(systemctl show --value -p MainPID evenkeel) 2>/run/trace || true; cat /run/trace";
    let seen = guest.sh(trace);
    let acts = |line: &&str| {
        ["mount(", "umount2(", "\"start\"", "\"stop\"", "\"enable\"", "\"daemon-reload\"", "/mount\""]
            .iter()
            .any(|act| line.contains(act))
    };
    let acted: Vec<&str> = seen.lines().filter(acts).collect();
    assert!(acted.is_empty(), "{acted:#?}");
    assert_eq!((repairs(guest), agent(guest)), before);
    assert!(guest.is_even());
}

pub(crate) fn what_a_person_unmounts_comes_back_and_a_line_in_fstab_does_not_win(guest: &Guest) {
    let line = r"10.9.0.2:/exports/uploads /srv/up\040loads nfs4 vers=4.2,soft,timeo=70,nofail 0 0";
    guest.write("/etc/fstab", &format!("{line}\n"));
    let first = guest.show(UPLOADS_UNIT, "InvocationID");
    guest.sh(&format!("umount '{UPLOADS}'"));
    guest.until("mounted again", SOON, || has(&mounted(guest, UPLOADS), "timeo=50"));
    let again = mounted(guest, UPLOADS);
    assert!(has(&again, "hard") && has(&again, "vers=4.2"), "{again}");
    assert_ne!(guest.show(UPLOADS_UNIT, "InvocationID"), first, "systemd has mounted it");
    // The same once systemd has read the line.
    guest.sh(&format!("systemctl daemon-reload; umount '{UPLOADS}'"));
    guest.until("mounted again", SOON, || has(&mounted(guest, UPLOADS), "timeo=50"));
    assert_eq!(guest.show(UPLOADS_UNIT, "FragmentPath"), format!("/etc/systemd/system/{UPLOADS_UNIT}"));
}

pub(crate) fn two_mounts_of_one_export_share_the_options_of_the_first(guest: &Guest) {
    guest.spec(&spec(
        "  /srv/second:
    source: 10.9.0.2:/exports/uploads
    type: nfs4
    options: [vers=4.2, timeo=100]
",
    ));
    let wanted = "timeo=100 is wanted and timeo=50 is in force";
    guest.until_item(&mount("/srv/second"), SOON, "pending", &[wanted]);
    assert!(has(&mounted(guest, "/srv/second"), "timeo=50"));
    assert_eq!(guest.item(&mount(UPLOADS)).status, "compliant", "the first has what it asked for");
    // It stays so: there is nothing that a pass could do.
    let before = repairs(guest);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(repairs(guest), before);
    guest.spec(&spec("  /srv/second: {absent: true}\n"));
    guest.until("unmounted", SOON, || mounted(guest, "/srv/second").is_empty());
}

pub(crate) fn an_automount_falls_asleep_while_passes_look_at_it(guest: &Guest) {
    const AT: &str = "/srv/second";
    guest.spec(&spec(
        "  /srv/second:
    source: 10.9.0.2:/exports/uploads
    type: nfs4
    options: [hard, vers=4.2]
    sentinel: .export-id
    owner: root
    automount: {idle: 10s}
",
    ));
    guest.until_item(&mount(AT), SOON, "compliant", &[]);
    // By the table: findmnt(8) would be a touch.
    let stack = || guest.line(&format!("awk '$2 == \"{AT}\" {{print $3}}' /proc/mounts | tr '\\n' ' '"));
    assert_eq!(stack().trim(), "autofs", "it waits for the first touch");
    let before = repairs(guest);
    assert_eq!(guest.line(&format!("cat {AT}/.export-id")), "uploads", "a touch mounts it");
    guest.until("mounted", SOON, || stack().contains("nfs4"));
    guest.until_item(&mount(AT), SOON, "compliant", &[]);
    guest.until("asleep again", SOON, || stack().trim() == "autofs");
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(stack().trim(), "autofs", "several passes have not woken it");
    assert_eq!(guest.item(&mount(AT)).status, "compliant", "to sleep is no drift");
    assert_eq!(repairs(guest), before);
    guest.spec(&spec("  /srv/second: {absent: true}\n"));
    guest.until("nothing is there any more", SOON, || stack().is_empty());
}
