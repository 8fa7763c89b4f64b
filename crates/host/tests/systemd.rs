//! What systemctl(1) is asked for, with a stand-in for it: a real systemd is met in the tests of whole nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{alone, sh};
use evenkeel_core::{Actuator, Sensor, Step, SystemdVerb, chain};
use evenkeel_host::Host;

/// Put a script in the place of systemctl, in this mount namespace only.
fn stand_in(folder: &std::path::Path, script: &str) {
    let program = folder.join("systemctl");
    std::fs::write(&program, format!("#!/bin/sh\necho \"$@\" >> {}/asked\n{script}\n", folder.display()))
        .unwrap();
    let program = program.display();
    // The first folder that programs are looked for in, whatever else is installed.
    sh(&format!("chmod 755 {program}; mount --bind {} /usr/local/sbin", folder.display()));
}

#[test]
fn systemd_is_asked_and_its_refusal_is_told_with_the_units_last_word() {
    if !alone("systemd_is_asked_and_its_refusal_is_told_with_the_units_last_word") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = r#"case "$*" in
        *status*) echo "x.mount - X"; echo "mount: wrong fs type"; exit 3;;
        *start*) echo "Job failed." >&2; exit 1;;
        esac"#;
    stand_in(folder.path(), script);
    let mut host = Host::new("/run/none".into());
    let mut ask = |verb, unit: &str| host.perform(&Step::Systemd { verb, unit: unit.to_owned() });
    ask(SystemdVerb::DaemonReload, "").unwrap();
    ask(SystemdVerb::Enable, "-.mount").unwrap();
    let fault = ask(SystemdVerb::Start, r"srv-a\x2db.mount").unwrap_err();
    assert_eq!(chain(&fault), r"systemctl start srv-a\x2db.mount: Job failed.; mount: wrong fs type");
    let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap();
    let asked: Vec<&str> = asked.lines().take(3).collect();
    let always = "--no-ask-password --quiet";
    let expected = ["daemon-reload", "enable -- -.mount", r"start -- srv-a\x2db.mount"];
    assert_eq!(asked, expected.map(|rest| format!("{always} {rest}")));
    sh("mount -t tmpfs x /run; mkdir /run/systemd");
    assert!(!host.systemd());
    sh("mkdir /run/systemd/system");
    assert!(host.systemd());
}

#[test]
fn ten_units_are_one_question_and_only_those_in_trouble_have_their_journal_read() {
    if !alone("ten_units_are_one_question_and_only_those_in_trouble_have_their_journal_read") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    stand_in(
        folder.path(),
        r"for unit in fine sick; do printf 'Id=%s.service\nNames=%s.service\nLoadState=loaded\nInvocationID=r1\n' $unit $unit
        [ $unit = sick ] && echo ActiveState=failed || echo ActiveState=active
        echo; done",
    );
    let journal = folder.path().join("journalctl");
    let line = r#"{"MESSAGE":"no port","_SYSTEMD_INVOCATION_ID":"r1"}"#;
    std::fs::write(
        &journal,
        format!("#!/bin/sh\necho \"$@\" >> {}/read\necho '{line}'\n", folder.path().display()),
    )
    .unwrap();
    sh(&format!("chmod 755 {}; mount -t tmpfs x /run; mkdir -p /run/systemd/system", journal.display()));
    let names = ["fine.service", "sick.service", "--help", "a*.service"].map(str::to_owned);
    let units = Host::new("/run/none".into()).units(&names).unwrap();
    assert_eq!(units["sick.service"].last_lines, ["no port"]);
    assert_eq!(
        (units["fine.service"].active.as_str(), units["fine.service"].last_lines.len()),
        ("active", 0)
    );
    assert_eq!(
        (units["--help"].load.as_str(), units["a*.service"].load.as_str()),
        ("not-found", "not-found")
    );
    let told = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap();
    assert_eq!(told("asked").lines().count(), 1, "{}", told("asked"));
    assert!(
        told("asked").trim_end().ends_with(" -- evenkeel-looks-again.service fine.service sick.service"),
        "{}",
        told("asked")
    );
    assert!(told("read").contains("_SYSTEMD_UNIT=sick.service") && told("read").lines().count() == 1);
}
