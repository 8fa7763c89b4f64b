//! The command line: exit codes, messages, and what systemd is told.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::stores::{Kind, Where};
use evenkeel_hub::store::Taken;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};

fn hub(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evenkeel-hub")).args(args).output().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn usage_errors_exit_64_and_help_exits_0() {
    for args in [&[][..], &["sreve"], &["serve", "--no-such"]] {
        assert_eq!(hub(args).status.code(), Some(64), "{args:?}");
    }
    let help = hub(&["serve", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8(help.stdout).unwrap();
    for word in ["--config", "--listen", "EVENKEEL_HUB_LISTEN", "EVENKEEL_HUB_STORE", "127.0.0.1:8484", "64"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_bad_configuration_exits_78_with_the_file_and_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.yaml");
    std::fs::write(&path, "listen: 127.0.0.1:0\nkeep_dyas: 3\n").unwrap();
    let path = path.to_str().unwrap();
    let bad = hub(&["serve", "--config", path]);
    assert_eq!(bad.status.code(), Some(78));
    assert!(error(&bad).contains(&format!("{path}:2: ")), "{}", error(&bad));
    let missing = hub(&["serve", "--config", "/nonexistent/hub.yaml"]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(error(&missing).contains("reading /nonexistent/hub.yaml: No such file"), "{}", error(&missing));
}

#[test]
fn plain_http_for_other_machines_exits_78_and_says_what_to_do() {
    let open = hub(&["serve", "--listen", "0.0.0.0:0", "--store", "sqlite:/nonexistent/x/hub.db"]);
    assert_eq!(open.status.code(), Some(78));
    assert!(error(&open).contains("--insecure-listen"), "{}", error(&open));
}

#[test]
fn the_environment_is_over_the_file_and_the_command_line_over_both() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.yaml");
    std::fs::write(&path, "listen: file-says\n").unwrap();
    let with = |env: &str, args: &[&str]| {
        let mut hub = Command::new(env!("CARGO_BIN_EXE_evenkeel-hub"));
        hub.args(["serve", "--config", path.to_str().unwrap()]).args(args);
        if !env.is_empty() {
            hub.env("EVENKEEL_HUB_LISTEN", env);
        }
        error(&hub.output().unwrap())
    };
    assert!(with("", &[]).contains("\"file-says\""));
    assert!(with("env-says", &[]).contains("\"env-says\""));
    assert!(with("env-says", &["--listen", "args-say"]).contains("\"args-say\""));
}

#[test]
fn a_store_that_is_no_database_exits_1_and_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.db");
    std::fs::write(&path, "this is a letter, and long enough to be read as a header of something else")
        .unwrap();
    let store = format!("sqlite:{}", path.display());
    let broken = hub(&["serve", "--listen", "127.0.0.1:0", "--store", &store]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(error(&broken).contains(path.to_str().unwrap()), "{}", error(&broken));
    assert!(error(&broken).contains("not a database"), "{}", error(&broken));
}

#[test]
fn systemd_is_told_when_it_listens() {
    let dir = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_evenkeel-hub"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(["--store", &format!("sqlite:{}", dir.path().join("hub.db").display())])
        .env("NOTIFY_SOCKET", dir.path().join("notify"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut told = [0; 512];
    let len = socket.recv(&mut told);
    child.kill().unwrap();
    child.wait().unwrap();
    let told = String::from_utf8_lossy(&told[..len.unwrap()]).into_owned();
    assert!(told.contains("READY=1") && told.contains("STATUS=Listening on http://127.0.0.1:"), "{told}");
}

on_every_store! { a_slot_that_nobody_gives_back_is_freed_by_hand }

async fn a_slot_that_nobody_gives_back_is_freed_by_hand(kind: Kind) {
    let at = Where::new(kind);
    let store = at.url();
    let hub_running = common::Hub::start(&store);
    let none = hub(&["slots", "list", "--store", "sqlite:/nonexistent/hub.db"]);
    assert!(error(&none).contains("there is no store"), "{}", error(&none));
    let location = at.location();
    let granted = tokio::task::spawn_blocking(move || {
        let book = evenkeel_hub::slots_of(&location, std::collections::BTreeMap::new()).unwrap();
        book.take("middleware", "mw1/service", 1_795_395_723_000).unwrap()
    });
    assert_eq!(granted.await.unwrap(), Taken::Granted);
    let list = || String::from_utf8(hub(&["slots", "list", "--store", &store]).stdout).unwrap();
    assert!(list().starts_with("middleware mw1/service since 2026-11-23T01:02:03"), "{}", list());
    let freed = hub(&["slots", "free", "middleware", "mw1/service", "--store", &store]);
    assert_eq!(freed.status.code(), Some(0), "{}", error(&freed));
    assert_eq!(list(), "");
    let again = hub(&["slots", "free", "middleware", "mw1/service", "--store", &store]);
    assert!(again.status.code() == Some(1) && error(&again).contains("has no slot"), "{}", error(&again));
    drop(hub_running);
}
