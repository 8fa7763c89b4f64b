//! A node and a hub that know each other: enrolled, renewed, banned, taken back; and through a router that forgets.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use serde_json::Value;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use support::lab::{Lab, be_silent};
use support::{FLEET, Node, Repository, config, hub_binary, until};

const KEY: &str = "net.ipv4.tcp_keepalive_time";
const TIER: &str = "version: 1\nsysctl:\n  net.ipv4.tcp_keepalive_time: 61\n";
const SOON: Duration = Duration::from_secs(20);

/// A hub on a node, with an authority of its own; killed when dropped.
struct Hub<'a> {
    node: &'a Node,
    child: Child,
}

impl<'a> Hub<'a> {
    fn start(node: &'a Node, address: &str, args: &[&str]) -> Self {
        let hub = hub_binary();
        let made = node.command(&hub).args(["ca", "init", "--name", address]).output().unwrap();
        assert!(made.status.success(), "{}", support::text(&made));
        let log = std::fs::File::create(node.dir.path().join("hub.log")).unwrap();
        let mut command = node.command(&hub);
        command.args(["serve", "--tls", "/etc/evenkeel/hub", "--listen", &format!("{address}:8443")]);
        command.args(["--listen-pages", "127.0.0.1:8484", "--store", "sqlite:/var/lib/evenkeel-hub/hub.db"]);
        let child =
            command.args(args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        let hub = Self { node, child: child.unwrap() };
        until("the hub listens", SOON, || hub.page("/healthz").is_some());
        hub
    }

    /// A command beside it; what it printed.
    fn told(&self, args: &[&str]) -> String {
        let mut command = self.node.command(hub_binary());
        let out =
            command.args(args).args(["--store", "sqlite:/var/lib/evenkeel-hub/hub.db"]).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", support::text(&out));
        String::from_utf8(out.stdout).unwrap()
    }

    fn page(&self, path: &str) -> Option<String> {
        let script = "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], timeout=2).read())";
        let url = format!("http://127.0.0.1:8484{path}");
        let out = self.node.command("python3").args(["-c", script, &url]).output().unwrap();
        out.status.success().then(|| String::from_utf8(out.stdout).unwrap())
    }

    /// Whether its timeline of a node tells of this value.
    fn knows(&self, name: &str, value: u32) -> bool {
        let page = self.page(&format!("/api/v1/nodes/{name}/timeline?limit=500"));
        page.is_some_and(|page| page.contains(&format!("\"{value}\"")))
    }

    fn certificates(&self) -> usize {
        let list: Value = serde_json::from_str(&self.told(&["node", "list", "--json"])).unwrap();
        list.as_array().unwrap().len()
    }

    /// Hand what it vouches with, and a token, to a node.
    fn invite(&self, node: &Node, token: &[&str]) {
        node.write("/etc/evenkeel/hub-ca.pem", &self.node.sh("cat /etc/evenkeel/hub/ca.pem"));
        node.write("/etc/evenkeel/enroll.token", &self.told(&[&["token", "create"], token].concat()));
        node.sh("chmod 600 /etc/evenkeel/enroll.token");
    }
}

impl Drop for Hub<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.node.dir.path().join("hub.log"));
            eprintln!("--- hub.log\n{}", log.unwrap_or_default());
        }
    }
}

fn settings(address: &str, interval: &str) -> String {
    format!(
        "hub: https://{address}:8443\nhub_ca: /etc/evenkeel/hub-ca.pem\nreport_interval: {interval}\n\
         enroll: {{token_file: /etc/evenkeel/enroll.token}}\n"
    )
}

fn drift(node: &Node, value: u32) {
    node.sh(&format!("echo {value} > /proc/sys/net/ipv4/tcp_keepalive_time"));
    until("repaired", Duration::from_secs(5), || node.sysctl(KEY) == "61");
}

fn link(node: &Node) -> Value {
    let out = node.run(&["status", "--format", "json"]);
    serde_json::from_slice::<Value>(&out.stdout).map(|status| status["hub"].clone()).unwrap_or_default()
}

fn spec(node: &Node) -> Repository {
    Repository::new(&node.dir.path().join("spec"), &[("fleet.yaml", FLEET), ("tiers/t.yaml", TIER)])
}

#[test]
fn a_node_is_let_in_renews_by_itself_and_goes_on_enforcing_when_it_is_banned() {
    let node = Node::new();
    let repository = spec(&node);
    let hub = Hub::start(&node, "127.0.0.1", &["--certificate-life", "15s"]);
    hub.invite(&node, &[]);
    let settings = config(&repository.source(), &settings("127.0.0.1", "1s"));
    let agent = node.agent(&settings);
    until("the hub knows the node", SOON, || hub.page("/api/v1/nodes/n1").is_some());
    drift(&node, 7001);
    until("it is told", SOON, || hub.knows("n1", 7001));
    let modes = node.sh("stat -c '%n %a' /var/lib/evenkeel/hub-*");
    assert_eq!(modes, "/var/lib/evenkeel/hub-identity.pem 600\n");
    assert!(link(&node)["certified_until"].is_string(), "{}", link(&node));

    // The token is spent and is not needed: certificates follow one another, and reports go on.
    node.sh("rm /etc/evenkeel/enroll.token");
    until("it was renewed twice", Duration::from_mins(1), || hub.certificates() >= 3);
    drift(&node, 7002);
    until("it is told under the new one", SOON, || hub.knows("n1", 7002));

    hub.told(&["node", "ban", "n1"]);
    drift(&node, 7003);
    until("it is told so", SOON, || link(&node)["shut"] == "banned");
    let said = support::text(&node.run(&["status"]));
    assert!(said.contains("listens not (banned") && said.contains("node unban"), "{said}");
    drift(&node, 7004);
    std::thread::sleep(Duration::from_secs(3));
    let metrics = hub.page("/metrics").unwrap();
    let refused = metrics
        .lines()
        .find_map(|line| line.strip_prefix("evenkeel_hub_shut_out_requests_total{why=\"banned\"} "));
    assert!(refused.unwrap().parse::<u32>().unwrap() <= 4, "it does not knock all the time: {metrics}");
    hub.told(&["node", "unban", "n1"]);
    drop(agent);
    let agent = node.agent(&settings);
    until("nothing was lost", SOON, || hub.knows("n1", 7003) && hub.knows("n1", 7004));
    drop(agent);
}

#[test]
fn a_token_that_does_not_fit_is_said_and_another_is_taken_without_a_restart() {
    let node = Node::new();
    let repository = spec(&node);
    let hub = Hub::start(&node, "127.0.0.1", &[]);
    hub.invite(&node, &["--nodes", "db*"]);
    let agent = node.agent(&config(&repository.source(), &settings("127.0.0.1", "1s")));
    until("converged", SOON, || node.sysctl(KEY) == "61");
    until("it says why", SOON, || {
        let link = link(&node);
        link["shut"] == "not_enrolled"
            && link["trouble"].as_str().is_some_and(|why| why.contains("other names"))
    });
    drift(&node, 7001);
    hub.invite(&node, &[]);
    agent.signal("HUP");
    until("it is let in", SOON, || hub.page("/api/v1/nodes/n1").is_some());
    until("and tells what was before", SOON, || hub.knows("n1", 7001));
}

#[test]
fn through_a_router_that_forgets_a_report_arrives_within_15_seconds() {
    let lab = Lab::new();
    lab.spec.commit(&[("tiers/mw.yaml", TIER)]);
    let hub = Hub::start(&lab.db, "10.77.2.2", &[]);
    hub.invite(&lab.mw, &[]);
    let source = format!("node: mw\nsource: {}\npoll_interval: 1s\n", lab.spec.source());
    let agent = lab.mw.agent(&format!("{source}{}", settings("10.77.2.2", "1h")));
    until("the hub knows the node", SOON, || hub.page("/api/v1/nodes/mw").is_some());
    // Keepalives keep the connection in the router's memory; then they stop meeting it, and it is forgotten.
    be_silent();
    for (value, blocked) in [(7001, false), (7002, true)] {
        if blocked {
            lab.router.block();
            drift(&lab.mw, value);
            be_silent();
            lab.router.unblock();
        } else {
            drift(&lab.mw, value);
        }
        let began = Instant::now();
        until("it has arrived", Duration::from_secs(15 + if blocked { 20 } else { 0 }), || {
            hub.knows("mw", value)
        });
        support::lab::figure(
            "a report over mTLS",
            if blocked { "after a blackout" } else { "after silence" },
            format!("{:.1} s", began.elapsed().as_secs_f64()),
        );
    }
    drop(agent);
}
