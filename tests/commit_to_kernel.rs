//! A commit becomes a change in the kernel; what another process breaks comes back, and its writer is named.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::time::Duration;
use support::{FLEET, Node, Repository, config, until};

const KEY: &str = "net.ipv4.tcp_keepalive_time";

fn tier(value: u32) -> String {
    format!("version: 1\nsysctl:\n  {KEY}: {value}\n")
}

#[test]
fn a_commit_is_in_the_kernel_within_one_poll_and_a_second() {
    let node = Node::new();
    let repository =
        Repository::new(&node.dir.path().join("spec"), &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier(61))]);
    let agent = node.agent(&config(&repository.source(), ""));
    until("the first commit is in force", Duration::from_secs(10), || node.sysctl(KEY) == "61");
    repository.commit(&[("tiers/t.yaml", &tier(62))]);
    // One poll of 1 s with its jitter of a tenth, and a second.
    let took =
        until("the second commit is in force", Duration::from_millis(2_100), || node.sysctl(KEY) == "62");
    println!("commit to kernel: {took:?}");
    assert!(node.sh("cat /etc/sysctl.d/99-evenkeel.conf").contains(&format!("{KEY} = 62")));
    drop(agent);
}

#[test]
fn what_another_process_writes_comes_back_and_the_writer_is_named() {
    let node = Node::new();
    let repository =
        Repository::new(&node.dir.path().join("spec"), &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier(61))]);
    let agent = node.agent(&config(&repository.source(), "hub: http://127.0.0.1:9\n"));
    until("converged", Duration::from_secs(10), || {
        node.sysctl(KEY) == "61" && status(&node, "counts").is_some()
    });
    let pid: u32 =
        node.sh(&format!("echo $$; echo 7200 > /proc/sys/{}", KEY.replace('.', "/"))).trim().parse().unwrap();
    until("repaired", Duration::from_secs(2), || node.sysctl(KEY) == "61");
    let told = || {
        let spooled = node.sh("cat /var/lib/evenkeel/spool/* 2>/dev/null || true");
        spooled.lines().rfind(|line| line.contains("corrective")).map(str::to_owned)
    };
    until("the repair is told", Duration::from_secs(2), || told().is_some());
    let event = told().unwrap();
    assert!(event.contains(&format!("\"pid\":{pid}")), "pid {pid} in {event}");
    assert!(event.contains("\"observed\":\"7200\"") && event.contains("\"layer\":\"kernel\""), "{event}");
    drop(agent);
}

#[test]
fn each_layer_comes_back_on_its_own() {
    let node = Node::new();
    let repository =
        Repository::new(&node.dir.path().join("spec"), &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier(61))]);
    let agent = node.agent(&config(&repository.source(), ""));
    let drop_in = || node.sh("cat /etc/sysctl.d/99-evenkeel.conf 2>/dev/null || true");
    until("converged", Duration::from_secs(10), || node.sysctl(KEY) == "61" && drop_in().contains("= 61"));
    node.sh("sed -i 's/= 61/= 7200/' /etc/sysctl.d/99-evenkeel.conf");
    until("an edited drop-in comes back", Duration::from_secs(2), || {
        drop_in().contains(&format!("{KEY} = 61"))
    });
    node.sh("rm /etc/sysctl.d/99-evenkeel.conf");
    until("a removed drop-in comes back", Duration::from_secs(2), || {
        drop_in().contains(&format!("{KEY} = 61"))
    });
    drop(agent);
}

#[test]
fn a_file_that_would_win_at_the_next_boot_is_told_when_it_comes_and_when_it_goes() {
    let node = Node::new();
    let repository =
        Repository::new(&node.dir.path().join("spec"), &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier(61))]);
    // No slow pass helps here.
    let agent = node.agent(&config(&repository.source(), "pass_interval: 1h\n"));
    let even = || node.run(&["status"]).status.success();
    until("converged", Duration::from_secs(10), even);
    node.sh(&format!("echo '{KEY} = 7200' > /etc/sysctl.d/zz-tuning.conf"));
    let told = || support::text(&node.run(&["status"]));
    until("it is named", Duration::from_secs(2), || {
        told().contains("/etc/sysctl.d/zz-tuning.conf:1 says 7200 and is read after")
    });
    assert_eq!(node.sysctl(KEY), "61");
    assert!(node.holds("test -e /etc/sysctl.d/zz-tuning.conf"), "what a person wrote stays");
    node.sh("rm /etc/sysctl.d/zz-tuning.conf");
    until("even again", Duration::from_secs(2), even);
    drop(agent);
}

#[test]
fn sigterm_ends_the_agent_within_a_second_and_what_left_the_spec_is_let_go() {
    let node = Node::new();
    node.sh(
        "mkdir -p /etc/sysctl.d && echo 'net.ipv4.tcp_keepalive_intvl = 33' > /etc/sysctl.d/50-other.conf",
    );
    let two = format!("{}  net.ipv4.tcp_keepalive_intvl: 11\n", tier(61));
    let repository =
        Repository::new(&node.dir.path().join("spec"), &[("fleet.yaml", FLEET), ("tiers/t.yaml", &two)]);
    let mut agent = node.agent(&config(&repository.source(), ""));
    until("converged", Duration::from_secs(10), || node.sysctl("net.ipv4.tcp_keepalive_intvl") == "11");
    repository.commit(&[("tiers/t.yaml", &tier(61))]);
    until("back to what the other file says", Duration::from_secs(4), || {
        node.sysctl("net.ipv4.tcp_keepalive_intvl") == "33"
    });
    assert!(!node.sh("cat /etc/sysctl.d/99-evenkeel.conf").contains("intvl"));
    agent.signal("TERM");
    until("ended", Duration::from_secs(1), || agent.child.try_wait().unwrap().is_some());
    assert!(agent.child.try_wait().unwrap().unwrap().success());
}

fn status(node: &Node, field: &str) -> Option<serde_json::Value> {
    let out = node.run(&["status", "--format", "json"]);
    serde_json::from_slice::<serde_json::Value>(&out.stdout).ok()?.get(field).cloned()
}
