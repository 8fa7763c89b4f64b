//! The lab itself: nodes that see nothing of each other, labs that do not meet, and nothing left when a test is killed.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::lab::{Lab, PROMPT, eventually};

#[test]
fn a_node_sees_no_process_of_the_other_and_two_labs_do_not_meet() {
    let [one, other] = [Lab::new(), Lab::new()];
    assert!(one.db.holds("grep -qx postgres /proc/[0-9]*/comm"), "its own processes are there");
    assert!(!one.mw.holds("grep -qx postgres /proc/[0-9]*/comm"), "the other node's are not");
    assert_eq!(one.mw.sh("cat /proc/1/comm").trim(), "cat", "nor the machine's");
    let pools = [one.pool(), other.pool()];
    let [ours, theirs] = [pools[0].open_one(""), pools[1].open_one("")];
    one.router.block();
    one.sql("create table here (n int)");
    let lost = pools[0].ask(ours, "select 1");
    let answer = pools[1].ask(theirs, "select count(*) from pg_class where relname = 'here'").answer(PROMPT);
    assert_eq!(answer.line["rows"][0][0], "0", "{answer:?}");
    assert!(!lost.is_answered());
    one.router.unblock();
    let answer = lost.answer(Duration::from_secs(10));
    assert_eq!(
        answer.error, None,
        "a path that was dead for less than the router's memory goes on: {answer:?}"
    );
}

const CHILD: &str = "EVENKEEL_TEST_LAB_OF_THE_KILLED";

/// Not a test of its own: what the next one kills.
#[test]
fn lab_of_the_killed() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let lab = Lab::new();
    let pool = lab.pool();
    pool.open(2, "");
    let agent = lab.agent_on_mw();
    let at = format!("lab {} {}\n", lab.router.namespace("mw").display(), lab.db.dir.path().display());
    std::io::stderr().write_all(at.as_bytes()).unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    drop(agent);
}

#[test]
fn a_lab_goes_when_its_test_is_killed_and_takes_its_processes_with_it() {
    let folders = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lab_of_the_killed", "--nocapture"])
        .env(CHILD, "1")
        .env("TMPDIR", folders.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let at = lines.map(Result::unwrap).find(|line| line.starts_with("lab ")).unwrap();
    let [_, namespace, dir] = at.split(' ').collect::<Vec<_>>()[..] else { panic!("{at}") };
    let namespaces = namespace.trim_end_matches("mw");
    let left = || {
        let script = format!(
            "ls -d {namespaces}* 2>/dev/null
             grep -l {dir} /proc/[0-9]*/mountinfo 2>/dev/null
             grep -lz EVENKEEL_LAB_NAME={} /proc/[0-9]*/environ 2>/dev/null",
            namespaces.trim_start_matches("/run/netns/ek-").trim_end_matches('-')
        );
        let out = Command::new("sh").args(["-c", &script]).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    assert!(left().contains("netns") && left().contains("mountinfo"), "{}", left());
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("nothing is left of it", Duration::from_secs(15), || left().is_empty());
}
