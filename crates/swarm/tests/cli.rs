//! The real binary's command line: what it says, and what it ends with. What it does to a hub is tried beside the hub.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::process::{Command, Output};

fn swarm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evenkeel-swarm")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_shows_examples_exit_codes_and_every_fault() {
    let top = swarm(&["--help"]);
    assert!(top.status.success());
    let told = text(&top.stdout);
    for word in ["EXAMPLES", "EXIT CODES", "enroll", "flood", "requests_per_second"] {
        assert!(told.contains(word), "{word} in {told}");
    }
    let run = text(&swarm(&["run", "--help"]).stdout);
    for word in ["--outages", "--clones", "--liars", "--skewed", "--times", "--shuffle", "--check", "--seed"]
    {
        assert!(run.contains(word), "{word} in {run}");
    }
}

#[test]
fn what_cannot_be_said_is_a_usage_error() {
    for args in [
        &["run"][..],
        &["run", "--hub", "http://127.0.0.1:1", "--clones", "2"],
        &["run", "--hub", "http://127.0.0.1:1", "--interval", "soon"],
        &["flood", "--hub", "http://127.0.0.1:1", "--reports", "1", "--heartbeats", "1"],
        &["fly"],
    ] {
        assert_eq!(swarm(args).status.code(), Some(64), "{args:?}");
    }
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let cases = [
        (&["enroll", "--hub", "ftp://127.0.0.1"][..], "no address of a hub"),
        (&["enroll", "--hub", "https://127.0.0.1:1"], "no address of a hub"),
        (&["run", "--hub", "http://127.0.0.1:1", "--liars", "0.5", "--for", "1s"], "believes everybody"),
        (&["enroll", "--hub", "https://127.0.0.1:1", "--ca", "/nowhere.pem"], "authority"),
    ];
    for (args, why) in cases {
        let out = swarm(args);
        let told = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{told}");
        assert!(told.contains(why) && told.trim_end().lines().count() == 1, "{args:?}: {told}");
    }
}

#[test]
fn a_hub_that_is_not_there_is_no_success() {
    let args = ["--agents", "3", "--interval", "100ms", "--for", "1s", "--drain", "1s"];
    let out = swarm(&[&["run", "--hub", "http://127.0.0.1:1"][..], &args].concat());
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("something left: 3"), "{}", text(&out.stderr));
}
