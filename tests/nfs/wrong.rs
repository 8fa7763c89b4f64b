//! Stories of a mount that is there and is not what it should be, and of what lies where one should be.

use crate::scene::{ERRORS, SOON, UPLOADS, has, mount, mounted, stopped_and_unmounted};
use crate::support::guest::Guest;

pub(crate) fn an_option_that_needs_an_unmount_is_pending_with_its_reason(guest: &Guest) {
    stopped_and_unmounted(guest, UPLOADS);
    guest.sh(&format!("mount -t nfs4 -o vers=4.2,hard,timeo=70 10.9.0.2:/exports/uploads '{UPLOADS}'"));
    guest.sh("systemctl start evenkeel");
    let wanted = "timeo=50 is wanted and timeo=70 is in force";
    guest.until_item(&mount(UPLOADS), SOON, "pending", &[wanted, "unmount"]);
    assert!(has(&mounted(guest, UPLOADS), "timeo=70"), "nobody has touched it");
    guest.sh(&format!("umount '{UPLOADS}'"));
    guest.until_item(&mount(UPLOADS), SOON, "compliant", &[]);
    assert!(has(&mounted(guest, UPLOADS), "timeo=50"));
}

pub(crate) fn another_export_at_the_right_path_is_told_and_not_touched(guest: &Guest) {
    stopped_and_unmounted(guest, UPLOADS);
    guest.sh("server swap uploads; systemctl start evenkeel");
    guest.until_item(&mount(UPLOADS), SOON, "error", &["wrong export", ".export-id"]);
    assert!(
        has(&mounted(guest, UPLOADS), "timeo=50"),
        "it is mounted as it should be: {}",
        mounted(guest, UPLOADS)
    );
    assert_eq!(
        guest.line("server in ls -A /exports/uploads"),
        "",
        "nothing is written to what is somebody else's"
    );
    guest.sh(&format!("umount '{UPLOADS}'; server unswap uploads"));
    guest.until_item(&mount(UPLOADS), SOON, "compliant", &[]);
    assert_eq!(guest.line(&format!("cat '{UPLOADS}/.export-id'")), "uploads");
}

pub(crate) fn a_stale_handle_is_told_although_the_kernels_table_looks_perfect(guest: &Guest) {
    let before = mounted(guest, UPLOADS);
    guest.sh("server unexport uploads");
    let told = guest.until_item(&mount(UPLOADS), SOON, "error", &[UPLOADS]);
    assert!(told.reason.to_lowercase().contains("stale"), "{told:?}");
    assert_eq!(mounted(guest, UPLOADS), before, "the table has nothing to say of it");
    assert_eq!(guest.item(&mount(ERRORS)).status, "compliant", "the other export is served");
    guest.sh("server export uploads");
    guest.until_item(&mount(UPLOADS), SOON, "compliant", &[]);
}

pub(crate) fn a_line_in_fstab_that_says_otherwise_is_named(guest: &Guest) {
    let line = r"10.9.0.2:/exports/uploads /srv/up\040loads nfs4 vers=4.2,soft,timeo=70,nofail 0 0";
    guest.write("/etc/fstab", &format!("# by hand\n{line}\n"));
    guest.until_item(&mount(UPLOADS), SOON, "non_compliant", &["/etc/fstab:2", "soft"]);
    // Systemd may have read it meanwhile: what it made of the line is not taken for the line.
    guest.sh("systemctl daemon-reload; : >/etc/fstab");
    guest.until_item(&mount(UPLOADS), SOON, "compliant", &[]);
}

pub(crate) fn files_below_a_missing_mount_are_told(guest: &Guest) {
    stopped_and_unmounted(guest, UPLOADS);
    guest.sh(&format!("touch '{UPLOADS}'/{{one,two,three}}; systemctl start evenkeel"));
    let told = format!("3 files and folders in {UPLOADS} itself (one, three, two)");
    guest.until("they are told", SOON, || guest.item(&mount(UPLOADS)).reason.contains(&told));
    // Wherever they are now, nobody has lost them.
    guest.sh(&format!(
        "systemctl stop evenkeel; umount '{UPLOADS}' 2>/dev/null || true; ls '{UPLOADS}'/{{one,two,three}}"
    ));
}
