//! What the tests of this room share: namespaces of their own, and waiting for something to come true.
#![allow(dead_code, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::process::Command;
use std::time::{Duration, Instant};

/// Longer than anything here should take, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Run one test in mount and network namespaces of its own, in a process of its own. True inside of it.
pub(crate) fn alone(test: &str) -> bool {
    apart(test, &["-mn", "--propagation", "private"])
}

/// The same, with a process namespace of its own too: no container of this machine is seen from it.
pub(crate) fn alone_with_its_processes(test: &str) -> bool {
    apart(test, &["-mnp", "--propagation", "private", "--fork", "--kill-child", "--mount-proc"])
}

fn apart(test: &str, namespaces: &[&str]) -> bool {
    if std::env::var_os("EVENKEEL_TEST_ALONE").is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    command.args(namespaces).arg("--").arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env("EVENKEEL_TEST_ALONE", "1");
    let output = command.output().expect("this test needs unshare(1) and root");
    let (said, cried) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{cried}");
    false
}

/// Wait until something is so.
pub(crate) fn until(what: &str, so: impl FnMut() -> bool) {
    assert!(comes_true(SOON, so), "it never came true that {what}");
}

/// Whether something comes true within a time.
pub(crate) fn comes_true(within: Duration, mut so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    while !so() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Run a shell script to its end, and its success.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
