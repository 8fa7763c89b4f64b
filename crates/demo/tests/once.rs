//! The demo as a stranger runs it: everything drifts and comes back, and nothing is left of it, not even after SIGKILL.
//!
//! On the real thing: namespaces, git, PostgreSQL where it is installed. Needs root or user namespaces.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.env("TMPDIR", temporary).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// What of this machine the demo is most likely to touch by mistake.
fn machine() -> Vec<String> {
    let sysctls = ["net/ipv4/tcp_keepalive_time", "net/ipv4/tcp_keepalive_intvl", "vm/swappiness"];
    let read = |path: String| fs::read_to_string(path).unwrap();
    let mut seen: Vec<String> = sysctls.iter().map(|key| read(format!("/proc/sys/{key}"))).collect();
    let mine =
        |line: &&str| ["/home/prod", "/var/www", "evenkeel-demo"].iter().any(|word| line.contains(word));
    seen.extend(read("/proc/self/mountinfo".into()).lines().filter(mine).map(str::to_owned));
    seen.push(Path::new("/etc/sysctl.d/99-evenkeel.conf").exists().to_string());
    seen
}

fn names_in(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn everything_drifts_once_and_comes_back_and_nothing_is_left() {
    let temporary = tempfile::tempdir().unwrap();
    let before = machine();
    let output = demo(temporary.path()).arg("--once").output().unwrap();
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    for name in [
        "sysctl-live",
        "sysctl-file",
        "connection-open",
        "file-edited",
        "share-unmounted",
        "commit",
        "bad-commit",
    ] {
        assert!(told.lines().any(|line| line.starts_with(name)), "{name} was not played\n{told}");
    }
    assert_eq!(machine(), before, "{told}");
    assert_eq!(names_in(temporary.path()), [""; 0], "{told}");
}

/// A process and whatever it started, and so on.
fn family(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.flat_map(|task| {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
    });
    children.flat_map(family).chain([pid]).collect()
}

/// Whether a process has ended; a zombie has.
fn gone(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("State:"))
        .is_none_or(|state| state.trim().starts_with('Z'))
}

#[test]
fn nothing_is_left_when_the_demo_is_killed() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = demo(temporary.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("an agent runs on every node")), "the demo came to nothing");
    let all = family(child.id());
    assert!(all.len() > 8, "three keepers, three agents, a hub, a sweeper: {all:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(15);
    let left = || all.iter().filter(|&&pid| !gone(pid)).collect::<Vec<_>>();
    while !(left().is_empty() && names_in(temporary.path()).is_empty()) {
        let files = names_in(temporary.path());
        assert!(Instant::now() < deadline, "left: processes {:?}, files {files:?}", left());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            fs::copy(source, target).unwrap();
        }
    }
}

#[test]
fn a_fleet_that_is_only_looked_at_does_not_pass_for_repaired() {
    let temporary = tempfile::tempdir().unwrap();
    let spec = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/eden"), spec.path());
    let fleet = spec.path().join("fleet.yaml");
    let text = fs::read_to_string(&fleet).unwrap();
    assert!(text.contains("\nmode: enforce\n"), "{text}");
    fs::write(&fleet, text.replace("\nmode: enforce\n", "\nmode: audit\n")).unwrap();
    let mut command = demo(temporary.path());
    let output =
        command.args(["--once", "--only", "sysctl-live", "--spec"]).arg(spec.path()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("FAILED") && told.contains("29 expected, 7200 seen"), "{told}");
    assert_eq!(names_in(temporary.path()), [""; 0], "{told}");
}
