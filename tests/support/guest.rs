//! A guest: a Debian with a kernel of its own, and the real binary in it as a service of its systemd.
//!
//! `tests/nfs/guest` switches it on and off and nothing of it outlives the test. One command at a time, each with an end:
//! what hangs inside is ended inside, and says so here.

use super::{EVENKEEL, FLEET, text};
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a command in it may take: everything is slow there, and the more so while the machine is busy.
const COMMAND: Duration = Duration::from_mins(3);
/// Names another build of the agent, such as the optimised one, which an emulated processor has far less work with.
const OTHER_BINARY: &str = "EVENKEEL_NFS_BINARY";
/// So that a few seconds tell whether the agent feeds it.
pub const WATCHDOG: Duration = Duration::from_secs(10);
/// How often everything is looked at although nothing woke the agent.
pub const PASS: Duration = Duration::from_secs(2);

/// Between two looks, each of which takes the guest some work.
const BETWEEN: Duration = Duration::from_millis(300);

/// One guest that is on.
pub struct Guest {
    lab: String,
}

/// How an item stands.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The word for it, as the report has it; empty where there is no such item.
    pub status: String,
    /// Why, in words.
    pub reason: String,
}

impl Guest {
    /// Switch one on with evenkeel installed as `docs/operating.md` says, and not started.
    pub fn up() -> Self {
        let files = tempfile::tempdir().unwrap();
        installation(files.path());
        Self::with_files(files.path())
    }

    /// Switch one on with these files laid over its root, and nothing else.
    pub fn with_files(files: &Path) -> Self {
        let made = control("image", "image").status().unwrap();
        assert!(
            made.success(),
            "no guest to switch on, for the reason above: needs root, mmdebstrap and qemu"
        );
        let guest = Self { lab: format!("nfs-{}", std::process::id()) };
        let (owner, folder) = (std::process::id().to_string(), files.to_str().unwrap());
        let up = guest.control(&["up", "n1", "--owner", &owner, "--files", folder]).output().unwrap();
        assert!(up.status.success(), "the guest does not come up: {}", text(&up));
        guest
    }

    fn control(&self, args: &[&str]) -> Command {
        let mut command = control(&self.lab, args[0]);
        command.args(&args[1..]);
        command
    }

    /// Have a shell script run in it, and ended after so long.
    pub fn run(&self, within: Duration, script: &str) -> Output {
        let seconds = within.as_secs().max(1).to_string();
        self.control(&["run", "n1", "--within", &seconds, "bash", "-ec", script]).output().unwrap()
    }

    /// Run a shell script; it must succeed. What it printed.
    pub fn sh(&self, script: &str) -> String {
        let out = self.run(COMMAND, script);
        assert!(out.status.success(), "{script}\n{}", text(&out));
        String::from_utf8(out.stdout).unwrap()
    }

    /// The same of one line of output, without its end.
    pub fn line(&self, script: &str) -> String {
        self.sh(script).trim().to_owned()
    }

    /// Whether a shell script succeeds.
    pub fn holds(&self, script: &str) -> bool {
        self.run(COMMAND, script).status.success()
    }

    /// Write a file.
    pub fn write(&self, path: &str, content: &str) {
        let mut install = self.control(&["run", "n1", "install", "-D", "-m", "0644", "/dev/stdin", path]);
        let mut child = install.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{path} is not written");
    }

    /// What this node is to be like, from the next look at the folder on.
    pub fn spec(&self, tier: &str) {
        self.write("/root/spec/tiers/t.yaml", tier);
    }

    /// One property of a unit, as systemd knows it.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.line(&format!("systemctl show --value -p {property} '{unit}'"))
    }

    /// How an item stands, as the running agent tells.
    pub fn item(&self, id: &str) -> Standing {
        let out = self.run(COMMAND, "evenkeel status --format json --all || true");
        let Ok(status) = serde_json::from_slice::<Value>(&out.stdout) else {
            return Standing::default();
        };
        let item =
            status["items"].as_array().and_then(|all| all.iter().find(|item| item["id"] == id).cloned());
        let word =
            |key: &str| item.as_ref().and_then(|item| item[key].as_str()).unwrap_or_default().to_owned();
        Standing { status: word("status"), reason: word("reason") }
    }

    /// Whether the agent says that the node is even, with every item of the spec that lies there.
    pub fn is_even(&self) -> bool {
        self.holds("evenkeel status >/dev/null")
    }

    /// Wait until the item stands so and its reason says all of this; what it said last.
    pub fn until_item(&self, id: &str, within: Duration, status: &str, words: &[&str]) -> Standing {
        let mut last = Standing::default();
        let start = Instant::now();
        loop {
            last = Some(self.item(id)).filter(|seen| !seen.status.is_empty()).unwrap_or(last);
            if last.status == status && words.iter().all(|word| last.reason.contains(word)) {
                return last;
            }
            assert!(start.elapsed() < within, "not within {within:?}: {id} {status} {words:?}, but {last:?}");
            std::thread::sleep(BETWEEN);
        }
    }

    /// Wait until something holds, which takes a command each time to find out. How long it took.
    pub fn until(&self, what: &str, within: Duration, mut holds: impl FnMut() -> bool) -> Duration {
        let start = Instant::now();
        while !holds() {
            if start.elapsed() >= within {
                let status = self.run(COMMAND, "evenkeel status");
                panic!("not within {within:?}: {what}\n{}", text(&status));
            }
            std::thread::sleep(BETWEEN);
        }
        start.elapsed()
    }

    /// Everything about it that helps to see what went wrong.
    pub fn tell(&self) -> String {
        let script =
            "evenkeel status; grep nfs /proc/mounts; ps -eo pid,ppid,stat,wchan:24,args | grep -v '\\[.*\\]$'
                      journalctl -b -n 120 --no-pager";
        let inside = self.run(Duration::from_secs(30), &script.replace('\n', ";"));
        let console = self.control(&["console", "n1"]).output().unwrap();
        format!("{}\n--- its console\n{}", text(&inside), text(&console))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.control(&["down", "n1"]).status();
    }
}

fn control(lab: &str, command: &str) -> Command {
    let mut guest = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nfs/guest"));
    guest.arg(command).env("EVENKEEL_LAB_NAME", lab).stdin(Stdio::null());
    guest
}

/// What is laid over the guest's root: the agent, its unit, its configuration and the folder it has its spec from.
fn installation(root: &Path) {
    let write = |path: &str, content: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    write("etc/systemd/system/evenkeel.service", include_str!("../../agent.service"));
    let watchdog = format!("[Service]\nWatchdogSec={}\n", WATCHDOG.as_secs());
    write("etc/systemd/system/evenkeel.service.d/watchdog.conf", &watchdog);
    let config = format!("node: n1\nsource: /root/spec\npass_interval: {}s\n", PASS.as_secs());
    write("etc/evenkeel/agent.yaml", &config);
    write("root/spec/fleet.yaml", FLEET);
    std::fs::create_dir_all(root.join("usr/bin")).unwrap();
    // Half of the binary is for debuggers, and all of it is read through an emulated drive.
    let binary = std::env::var_os(OTHER_BINARY).unwrap_or_else(|| EVENKEEL.into());
    let strip = Command::new("strip").arg("-o").arg(root.join("usr/bin/evenkeel")).arg(binary).status();
    assert!(strip.unwrap().success(), "strip, of the package binutils");
}
