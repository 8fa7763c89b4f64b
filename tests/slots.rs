//! Two whole nodes and a real hub: both owe a restart, and never are both down at once, whatever is killed in the middle.
//!
//! Needs root, `mmdebstrap` and `systemd-nspawn`. The nodes share one network namespace, and the hub listens in it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::booted::{Booted, lab_name};
use support::{hub_binary, until};

const FLEET: &str = "version: 1\nfleet: test\nnodes:\n  mw1: {tier: t}\n  mw2: {tier: t}\n";
const TIER: &str = "version: 1\nservice:\n  worker.service: {active: true, restart: {slot: true}}\n";
/// It takes a while to end and to begin, and writes down when it was gone.
const WORKER: &str = "[Service]\nExecStart=/bin/sleep infinity\n\
    ExecStop=/bin/sh -c 'echo down $$(date +%%s%%N) >>/root/log'\n\
    ExecStopPost=/bin/sleep 1\nExecStartPre=/bin/sleep 1\n\
    ExecStartPost=/bin/sh -c 'echo up $$(date +%%s%%N) >>/root/log'\n";
/// For two restarts of two seconds, one after the other, with everything that waits between them.
const LONG: Duration = Duration::from_secs(90);

/// A network namespace under the name of a lab's node.
struct Network(String);

impl Network {
    fn new() -> Self {
        let name = format!("ek-{}-slots", lab_name());
        let ip =
            |args: &[&str]| assert!(Command::new("ip").args(args).status().unwrap().success(), "ip {args:?}");
        ip(&["netns", "add", &name]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        Self(name)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }

    fn hub(&self, store: &Path) -> Hub {
        let store = format!("sqlite:{}", store.display());
        let mut command = self.command(hub_binary());
        command.args(["serve", "--listen", "127.0.0.1:8484", "--store", &store]).stdin(Stdio::null());
        Hub(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Who holds the slot, as the hub tells.
    fn holders(&self) -> Option<Vec<String>> {
        let script = "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], timeout=2).read())";
        let out = self
            .command("python3")
            .args(["-c", script, "http://127.0.0.1:8484/api/v1/slots"])
            .output()
            .unwrap();
        let told: Value = serde_json::from_slice(&out.stdout).ok()?;
        let groups = told["groups"].as_array()?.iter();
        let held = groups.flat_map(|group| group["held"].as_array().cloned().unwrap_or_default());
        Some(held.filter_map(|one| one["id"].as_str().map(str::to_owned)).collect())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

struct Hub(Child);

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// When the worker was gone: from when its end began to when it was there again.
fn gone(node: &Booted) -> Vec<(u64, u64)> {
    let log = node.sh("cat /root/log");
    let mut spans = vec![];
    let mut since = None;
    for line in log.lines() {
        let (word, at) = line.split_once(' ').unwrap();
        let at: u64 = at.parse().unwrap();
        match (word, since) {
            ("down", _) => since = Some(at),
            (_, Some(from)) => spans.push((from, at)),
            _ => {}
        }
        if word == "up" {
            since = None;
        }
    }
    spans
}

fn owe_a_restart(nodes: &[Booted; 2], n: u32) {
    for node in nodes {
        node.write("/etc/systemd/system/worker.service.d/x.conf", &format!("[Service]\nEnvironment=N={n}\n"));
    }
}

fn both_restarted(nodes: &[Booted; 2], network: &Network, times: usize) {
    until("both were restarted", LONG, || nodes.iter().all(|node| gone(node).len() >= times));
    until("the slot is free again", LONG, || network.holders().is_some_and(|holders| holders.is_empty()));
}

#[test]
fn two_nodes_are_never_restarted_at_once_whatever_is_killed() {
    let network = Network::new();
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("hub.db");
    let hub = network.hub(&store);
    let config = "hub: http://127.0.0.1:8484\npoll_interval: 1s\npass_interval: 2s\n";
    let nodes = [("slots1", "mw1"), ("slots2", "mw2")].map(|(name, node)| {
        let booted = Booted::in_network(name, Some("slots"), node, FLEET, config);
        booted.write("/etc/systemd/system/worker.service", WORKER);
        booted.sh("systemctl daemon-reload");
        booted.commit(TIER);
        booted.sh("systemctl start evenkeel");
        booted
    });
    for node in &nodes {
        until("the worker runs", LONG, || node.show("worker", "ActiveState") == "active");
    }
    owe_a_restart(&nodes, 1);
    both_restarted(&nodes, &network, 1);

    // The agent that restarts is killed while its worker is down, and so is the hub.
    owe_a_restart(&nodes, 2);
    let down = |node: &Booted| node.sh("tail -n 1 /root/log").starts_with("down");
    let mut first = None;
    until("one of them goes down", LONG, || {
        first = nodes.iter().position(down);
        first.is_some()
    });
    let first = &nodes[first.unwrap()];
    first.sh("systemctl kill -s KILL evenkeel");
    drop(hub);
    std::thread::sleep(Duration::from_secs(3));
    let hub = network.hub(&store);
    both_restarted(&nodes, &network, 2);

    let (one, two) = (gone(&nodes[0]), gone(&nodes[1]));
    for a in &one {
        for b in &two {
            assert!(a.1 < b.0 || b.1 < a.0, "both were down at once: {one:?} {two:?}");
        }
    }
    eprintln!("gone for: {one:?} {two:?}");
    drop((nodes, hub));
}
