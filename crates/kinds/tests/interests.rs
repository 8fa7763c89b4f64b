//! What wakes a pass: the keys and files of what is kept, and nothing of what is not.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::goal;
use evenkeel_core::{Interest, Mode};
use evenkeel_kinds::KINDS;

fn interests(kind: &str, text: &str) -> Vec<String> {
    let kind = KINDS.iter().find(|one| one.name() == kind).unwrap();
    let told = goal(*kind, text, Mode::Enforce).interests().into_iter().map(|one| match one {
        Interest::Sysctl(key) => key.to_string(),
        Interest::File(path) => path.display().to_string(),
        Interest::Mounts => "the mount table".to_owned(),
    });
    told.collect()
}

#[test]
fn an_empty_section_wakes_for_nothing() {
    for kind in KINDS {
        assert_eq!(interests(kind.name(), "{}"), [""; 0], "{}", kind.name());
    }
}

#[test]
fn a_sysctl_wakes_for_its_key_and_for_the_files_that_speak_of_the_boot() {
    let told = interests("sysctl", "vm.swappiness: 1\nvm.laptop_mode: {absent: true}\n");
    assert_eq!(
        told,
        ["vm.swappiness", "/etc/sysctl.d/99-evenkeel.conf", "/etc/sysctl.d", "/etc/sysctl.conf"]
    );
}

#[test]
fn a_mount_wakes_for_the_mount_table_and_its_unit() {
    let told = interests("mount", "/srv/a-b: {source: tmpfs, type: tmpfs}\n");
    assert_eq!(told, [r"/etc/systemd/system/srv-a\x2db.mount", "the mount table", "/etc/fstab"]);
}

#[test]
fn a_file_wakes_for_itself_for_mounts_and_for_the_service_file_that_it_waits_for() {
    let uwsgi = r#"{content: "[uwsgi]\nenv = PGSERVICE=eden\n", validate: uwsgi}"#;
    let told =
        interests("file", &format!("/srv/a: {{content: x}}\n/srv/b: {uwsgi}\n/srv/c: {{absent: true}}\n"));
    let files = ["/etc/postgresql-common/pg_service.conf", "/srv/a", "/srv/b", "/srv/c", "the mount table"];
    assert_eq!(told, files);
}

#[test]
fn a_server_elsewhere_has_no_files_to_wake_for() {
    let told = interests(
        "postgresql",
        "rds: {server: {host: a, user: b, tls: \"off\"}, settings: {work_mem: 8MB}}\n",
    );
    assert_eq!(told, [""; 0]);
}

#[test]
fn a_cluster_wakes_for_its_files() {
    let told = interests("postgresql", "13/main: {settings: {work_mem: 8MB}}\nx: {data_directory: /srv/x}\n");
    assert_eq!(
        told,
        [
            "/etc/postgresql/13/main/conf.d/99-evenkeel.conf",
            "/etc/postgresql/13/main/conf.d",
            "/etc/postgresql/13/main/postgresql.conf",
            "/var/lib/postgresql/13/main/postgresql.auto.conf",
            "/srv/x/conf.d/99-evenkeel.conf",
            "/srv/x/conf.d",
            "/srv/x/postgresql.conf",
            "/srv/x/postgresql.auto.conf",
        ]
    );
}
