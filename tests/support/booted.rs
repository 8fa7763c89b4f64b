//! A whole Debian with evenkeel installed as `docs/operating.md` says, for stories about services.
//!
//! `tests/lab/node` does the booting, and leaves nothing behind even when a test is killed.

use super::{EVENKEEL, FLEET, text};
use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Where reports go that nobody is to take: they wait in the spool.
pub const HUB: &str = "hub: http://127.0.0.1:9\n";

/// One node; powered off when dropped.
pub struct Booted {
    name: &'static str,
}

fn lab(args: &[&str]) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/node"));
    command.args(args).env("EVENKEEL_LAB_NAME", lab_name()).stdin(Stdio::null());
    command
}

/// What the labs of this process are called.
pub fn lab_name() -> String {
    format!("booted-{}", std::process::id())
}

fn done(what: &str, out: Output) -> String {
    assert!(out.status.success(), "{what}: {}", text(&out));
    String::from_utf8(out.stdout).unwrap()
}

/// The Debian root that every node is laid over, made once.
fn debian() {
    static MADE: OnceLock<bool> = OnceLock::new();
    let made = MADE.get_or_init(|| lab(&["root"]).status().unwrap().success());
    assert!(*made, "no Debian to boot; these tests need root, mmdebstrap and systemd-nspawn");
}

impl Booted {
    /// Boot it and lay everything out, with node `n1` on tier `t`; the agent is not started yet.
    pub fn new(name: &'static str, config: &str) -> Self {
        Self::in_network(name, None, "n1", FLEET, &format!("{HUB}{config}"))
    }

    /// The same, in a network namespace of the lab.
    pub fn in_network(
        name: &'static str,
        network: Option<&str>,
        node: &str,
        fleet: &str,
        config: &str,
    ) -> Self {
        debian();
        let owner = std::process::id().to_string();
        let mut args = vec!["up", name, "--owner", &owner];
        args.extend(network.iter().flat_map(|network| ["--network", network]));
        let up = lab(&args).output().unwrap();
        assert!(up.status.success(), "a Debian could not be booted in systemd-nspawn: {}", text(&up));
        let booted = Self { name };
        done("copy", lab(&["copy", name, EVENKEEL, "/usr/bin/evenkeel"]).output().unwrap());
        booted.write("/etc/systemd/system/evenkeel.service", include_str!("../../agent.service"));
        booted.configure(node, config);
        booted.write("/root/spec/fleet.yaml", fleet);
        booted.sh("git init -q -b main /root/spec; systemctl daemon-reload");
        booted
    }

    /// Write the agent's configuration.
    pub fn configure(&self, node: &str, more: &str) {
        let config = format!("node: {node}\nsource: git+file:///root/spec#main\n{more}");
        self.write("/etc/evenkeel/agent.yaml", &config);
    }

    /// Commit this as the file of tier `t`; the commit's id.
    pub fn commit(&self, tier: &str) -> String {
        self.write("/root/spec/tiers/t.yaml", tier);
        let git = "git -C /root/spec -c user.name=t -c user.email=t@example.org";
        self.sh(&format!("{git} add -A; {git} commit -q -m change; {git} rev-parse HEAD")).trim().to_owned()
    }

    /// The same, once the agent has it in force.
    pub fn spec_in_force(&self, tier: &str) {
        let commit = self.commit(tier);
        super::until("the spec is in force", std::time::Duration::from_secs(30), || {
            self.status().is_some_and(|status| status["spec"]["observed_commit"] == commit.as_str())
        });
    }

    /// Write a file on it.
    pub fn write(&self, path: &str, content: &str) {
        let mut child = lab(&["run", self.name, "install", "-D", "-m", "0644", "/dev/stdin", path])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
        done(path, child.wait_with_output().unwrap());
    }

    /// Run a shell script on it; it must succeed.
    pub fn sh(&self, script: &str) -> String {
        done(script, lab(&["run", self.name, "sh", "-ec", script]).output().unwrap())
    }

    /// Run a shell script on it, and what it says whether it succeeds or not.
    pub fn said(&self, script: &str) -> String {
        text(&lab(&["run", self.name, "sh", "-ec", script]).output().unwrap())
    }

    /// Whether a shell script succeeds.
    pub fn holds(&self, script: &str) -> bool {
        lab(&["run", self.name, "sh", "-ec", script]).output().unwrap().status.success()
    }

    /// Reboot it, and wait until it is up again.
    pub fn reboot(&self) {
        done("reboot", lab(&["reboot", self.name]).output().unwrap());
    }

    /// One property of a unit, as systemd knows it.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.sh(&format!("systemctl show --value -p {property} '{unit}'")).trim().to_owned()
    }

    /// What the agent says of one item.
    pub fn item(&self, id: &str) -> Option<Value> {
        self.status()?["items"].as_array()?.iter().find(|item| item["id"] == id).cloned()
    }

    fn status(&self) -> Option<Value> {
        let out = lab(&["run", self.name, "evenkeel", "status", "--format", "json"]).output().unwrap();
        serde_json::from_slice(&out.stdout).ok()
    }

    /// What is reported and waits for a hub: the events, in order.
    pub fn reports(&self) -> Vec<Value> {
        let spooled = self.sh("cat /var/lib/evenkeel/spool/* 2>/dev/null || true");
        let events = spooled.lines().filter_map(|line| line.find('{').map(|at| &line[at..]));
        events.filter_map(|line| serde_json::Deserializer::from_str(line).into_iter().next()?.ok()).collect()
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = lab(&["run", self.name, "journalctl", "-b", "-n", "60", "--no-pager"]).output();
            eprintln!(
                "--- {}: the end of its journal\n{}",
                self.name,
                log.map(|out| text(&out)).unwrap_or_default()
            );
        }
        let down = lab(&["down", self.name]).output();
        if !std::thread::panicking() {
            done("down", down.unwrap());
        }
    }
}
