//! A hub that is away for a whole run, and comes back: no report lost, none twice, in order.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use serde_json::Value;
use std::process::{Child, Stdio};
use std::time::Duration;
use support::{FLEET, Node, Repository, config, hub_binary, until};

const KEY: &str = "net.ipv4.tcp_keepalive_time";
const TIER: &str = "version: 1\nsysctl:\n  net.ipv4.tcp_keepalive_time: 61\n";

struct Hub(Child);

impl Hub {
    fn start(node: &Node) -> Self {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(node.dir.path().join("hub.log"))
            .unwrap();
        let store = format!("sqlite:{}", node.dir.path().join("hub.db").display());
        let mut command = node.command(hub_binary());
        command.args(["serve", "--listen", "127.0.0.1:8484", "--store", &store]).stdin(Stdio::null());
        Self(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A page of the hub, asked for on the node itself, where the hub listens.
fn get(node: &Node, path: &str) -> Option<Value> {
    let script = "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], timeout=2).read())";
    let url = format!("http://127.0.0.1:8484{path}");
    let out = node.command("python3").args(["-c", script, &url]).output().unwrap();
    out.status.success().then(|| serde_json::from_slice(&out.stdout).unwrap())
}

fn drift(node: &Node, value: u32) {
    node.sh(&format!("echo {value} > /proc/sys/net/ipv4/tcp_keepalive_time"));
    until("repaired", Duration::from_secs(2), || node.sysctl(KEY) == "61");
}

/// The observed values of the corrective repairs that the hub has, oldest first.
fn told(node: &Node) -> Vec<String> {
    let Some(page) = get(node, "/api/v1/nodes/n1/timeline?limit=500") else { return vec![] };
    let entries = page["changes"]
        .as_array()
        .or(page["items"].as_array())
        .or(page.as_array())
        .cloned()
        .unwrap_or_default();
    let repaired =
        entries.iter().filter(|entry| entry["status"] == "repaired" && entry["change"] == "corrective");
    let mut values: Vec<String> =
        repaired.map(|entry| entry["drift"][0]["observed"].as_str().unwrap().to_owned()).collect();
    values.reverse();
    values
}

#[test]
fn nothing_is_lost_and_nothing_told_twice_while_the_hub_is_away() {
    let node = Node::new();
    let repository =
        Repository::new(&node.dir.path().join("spec"), &[("fleet.yaml", FLEET), ("tiers/t.yaml", TIER)]);
    let settings = "hub: http://127.0.0.1:8484\nreport_interval: 1s\n";
    let agent = node.agent(&config(&repository.source(), settings));
    until("converged", Duration::from_secs(10), || node.sysctl(KEY) == "61");
    let spooled = |n: usize| {
        node.sh("ls /var/lib/evenkeel/spool | grep -c json || true").trim().parse::<usize>().unwrap() >= n
    };
    until("the first report is spooled", Duration::from_secs(5), || spooled(1));
    let values: Vec<u32> = (0..20).map(|n| 7000 + n).collect();
    for value in &values {
        drift(&node, *value);
        until("its report is spooled", Duration::from_secs(5), || spooled(*value as usize - 7000 + 2));
    }
    // The agent dies and comes back in the middle; what it has to tell stays on disk.
    drop(agent);
    let agent = node.agent(&config(&repository.source(), settings));
    let hub = Hub::start(&node);
    let expected: Vec<String> = values.iter().map(ToString::to_string).collect();
    until("every repair is told", Duration::from_mins(1), || told(&node).len() >= values.len());
    assert_eq!(told(&node), expected, "each once, in order");
    drop(hub);
    // Away again, killed, and back: the database has it all, and what came in between follows.
    drift(&node, 8000);
    let hub = Hub::start(&node);
    let all: Vec<String> = expected.into_iter().chain(["8000".to_owned()]).collect();
    until("the late one is told too", Duration::from_mins(1), || told(&node).len() >= all.len());
    assert_eq!(told(&node), all);
    until("the spool is empty", Duration::from_secs(10), || {
        node.sh("ls /var/lib/evenkeel/spool | grep -c json || true").trim() == "0"
    });
    let detail = get(&node, "/api/v1/nodes/n1").unwrap().to_string();
    assert!(!detail.contains("\"gap\":true"), "no gap: {detail}");
    drop((agent, hub));
}
