//! Kind `sync`: folders brought in step by real rsync, on one node and over a real sshd.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::process::{Child, Stdio};
use std::time::Duration;
use support::{Daemon, FLEET, Node, until};

/// Long: rsync is behind everything else that this machine does.
const SOON: Duration = Duration::from_secs(90);
const TO: &str = "/srv/eden/fonts";
const ID: &str = "sync//srv/eden/fonts";

/// A node whose agent reads its spec from a folder.
fn node(item: &str) -> (Node, String) {
    let node = Node::new();
    node.write("/srv/spec/fleet.yaml", FLEET);
    spec(&node, item);
    let source = "node: n1\nsource: /srv/spec\npoll_interval: 1s\npass_interval: 5s\n".to_owned();
    (node, source)
}

fn spec(node: &Node, item: &str) {
    let section = if item.is_empty() { String::new() } else { format!("sync:\n  {TO}: {item}\n") };
    node.write("/srv/spec/tiers/t.yaml", &format!("version: 1\n{section}"));
}

fn status(node: &Node) -> String {
    node.item(ID).map(|item| item["status"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

fn reason(node: &Node) -> String {
    node.item(ID).map(|item| item["reason"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

fn files(node: &Node, folder: &str) -> usize {
    node.sh(&format!("find {folder} -type f | wc -l")).trim().parse().unwrap()
}

/// Make so many small files.
fn fill(node: &Node, folder: &str, count: usize) {
    node.sh(&format!("mkdir -p {folder}/sub && cd {folder} && seq {count} | split -l 1 -a 5 -d - sub/f"));
}

fn in_step(node: &Node) {
    until("in step", SOON, || matches!(status(node).as_str(), "compliant" | "repaired"));
}

/// Whether no rsync carries over from this folder. Nodes see one another's processes, so the name is a test's own.
fn no_rsync(node: &Node, from: &str) -> bool {
    !node.holds(&format!("pgrep -f '[r]sync .*{from}/' >/dev/null"))
}

#[test]
fn ten_thousand_files_come_over_and_the_next_run_transfers_nothing() {
    let (node, config) = node("{from: /srv/master, every: 5s}");
    fill(&node, "/srv/master", 10_000);
    let agent = node.agent(&config);
    let took = until("all came over", SOON, || node.holds(&format!("test -e {TO}/sub/f09999")));
    in_step(&node);
    println!("10,000 files: {took:?}");
    assert_eq!(files(&node, TO), 10_000);
    assert!(node.holds(&format!("diff -r /srv/master {TO}")));
    let stats = node.sh(&format!("rsync -a --dry-run --stats --no-h /srv/master/ {TO}/"));
    assert!(stats.contains("Number of regular files transferred: 0"), "{stats}");
    assert!(node.item(ID).unwrap()["facts"]["in_step_at"].as_str().unwrap().ends_with('Z'));
    drop(agent);
}

#[test]
fn what_is_changed_here_comes_back_and_audit_mode_only_tells() {
    let (node, config) = node("{from: /srv/master, every: 5s}");
    fill(&node, "/srv/master", 20);
    let _agent = node.agent(&config);
    in_step(&node);
    node.sh(&format!(
        "echo other > {TO}/sub/f00003; touch {TO}/extra; rm {TO}/sub/f00004; chmod 600 {TO}/sub/f00005"
    ));
    until("it is even again", SOON, || node.holds(&format!("diff -r /srv/master {TO}")));
    assert_eq!(node.sh(&format!("stat -c %a {TO}/sub/f00005")).trim(), "644");
    in_step(&node);
    spec(&node, "{from: /srv/master, every: 5s, mode: audit}");
    std::thread::sleep(Duration::from_secs(2));
    node.sh(&format!("echo other > {TO}/sub/f00003"));
    until("it is told", SOON, || status(&node) == "non_compliant");
    let item = node.item(ID).unwrap();
    assert!(item["drift"][0]["observed"].as_str().unwrap().contains("sub/f00003"), "{item}");
    assert_eq!(node.sh(&format!("cat {TO}/sub/f00003")), "other\n");
}

#[test]
fn an_emptied_source_and_one_that_lost_too_much_are_refused() {
    let (node, config) = node("{from: /srv/master, every: 5s}");
    fill(&node, "/srv/master", 1_000);
    let _agent = node.agent(&config);
    in_step(&node);
    node.sh(
        "mkdir /srv/aside && mv /srv/master/sub /srv/aside/ && mkdir /srv/master/sub && cd /srv/aside/sub && \
             cp -a $(ls | head -n 100) /srv/master/sub/ && echo new > /srv/master/sub/f00000",
    );
    until("it is refused", SOON, || status(&node) == "non_compliant");
    let why = "the source has lost 900 of 1,000 files: nothing is removed, and nothing is carried over; raise delete_at_most (10%)";
    assert!(reason(&node).starts_with(why), "{}", reason(&node));
    node.sh("rm -r /srv/master/sub");
    until("the empty source is refused", SOON, || reason(&node).contains("is empty"));
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(files(&node, TO), 1_000);
    assert_ne!(node.sh(&format!("cat {TO}/sub/f00000")), "new\n", "nothing else was carried over");
    node.sh("cp -a /srv/aside/sub /srv/master/ && cd /srv/master/sub && rm f00001 f00002 && echo 1 > f00000");
    until("what is meant is done", SOON, || node.holds(&format!("test ! -e {TO}/sub/f00001")));
}

/// A program on the node that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An sshd on the node's own loopback that lets one key in, for one forced command; a configuration that knows it, and
/// an agent that has the key as a credential.
fn sshd(node: &Node) -> (Server, String) {
    node.sh("mkdir -p /run/sshd /etc/keys /run/credentials && cd /etc/keys
         ssh-keygen -q -t ed25519 -N '' -f host && ssh-keygen -q -t ed25519 -N '' -f agent
         printf 'restrict,command=\"rrsync -ro /srv/master\" %s\\n' \"$(cat agent.pub)\" > authorized
         printf '127.0.0.1 %s\\n' \"$(cut -d' ' -f1,2 host.pub)\" > known
         install -m 0400 agent /run/credentials/sync-key
         printf '%s\\n' 'Port 22' 'ListenAddress 127.0.0.1' 'HostKey /etc/keys/host' 'PidFile none' \
           'AuthorizedKeysFile /etc/keys/authorized' 'StrictModes no' 'PasswordAuthentication no' \
           'KbdInteractiveAuthentication no' 'PermitRootLogin prohibit-password' > sshd_config");
    let mut command = node.command("/usr/sbin/sshd");
    let child =
        command.args(["-D", "-e", "-f", "/etc/keys/sshd_config"]).stderr(Stdio::null()).spawn().unwrap();
    until("sshd listens", SOON, || node.holds("ss -Hltn sport = :22 | grep -q ."));
    (Server(child), "ssh_known_hosts: /etc/keys/known\n".to_owned())
}

fn agent(node: &Node, config: &str) -> Daemon {
    node.write("/etc/evenkeel/agent.yaml", config);
    let log = node.dir.path().join("agent.log");
    let to = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
    let mut command = node.evenkeel(&["run", "--config", "/etc/evenkeel/agent.yaml"]);
    command.env("CREDENTIALS_DIRECTORY", "/run/credentials").env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null()).stdout(to.try_clone().unwrap()).stderr(to);
    Daemon { child: command.spawn().unwrap(), log }
}

#[test]
fn a_folder_comes_over_ssh_through_a_forced_command() {
    // rrsync names paths below the one folder that it lets out.
    let (node, config) = node("{from: 'root@127.0.0.1:/fonts', every: 5s, key: sync-key, owner: nobody}");
    fill(&node, "/srv/master/fonts", 50);
    let (sshd, keys) = sshd(&node);
    let _agent = agent(&node, &format!("{config}{keys}"));
    in_step(&node);
    assert!(node.holds(&format!("diff -r /srv/master/fonts {TO}")));
    assert_eq!(node.sh(&format!("stat -c %U {TO}/sub/f00001")).trim(), "nobody");
    node.sh(&format!("echo other > {TO}/sub/f00003"));
    until("it is even again", SOON, || node.holds(&format!("diff -r /srv/master/fonts {TO}")));
    drop(sshd);
    until("that the source is away is told", SOON, || reason(&node).contains("Connection refused"));
    assert!(node.item(ID).unwrap()["facts"]["in_step_at"].is_string(), "the last success is kept");
    until("that it is late is told", SOON, || status(&node) == "non_compliant");
}

#[test]
fn a_host_that_nobody_knows_and_a_key_that_is_open_are_refused() {
    let (node, config) = node("{from: 'root@127.0.0.1:/fonts', every: 5s, key: sync-key}");
    fill(&node, "/srv/master/fonts", 5);
    let (_sshd, keys) = sshd(&node);
    node.sh("ssh-keygen -q -t ed25519 -N '' -f /etc/keys/other
             printf '127.0.0.1 %s\n' \"$(cut -d' ' -f1,2 /etc/keys/other.pub)\" > /etc/keys/known");
    let agent = agent(&node, &format!("{config}{keys}"));
    until("it is told", SOON, || status(&node) == "error");
    assert!(reason(&node).contains("Host key verification failed"), "{}", reason(&node));
    drop(agent);
    node.sh("chmod 0440 /run/credentials/sync-key");
    let _agent = self::agent(&node, &format!("{config}{keys}"));
    until("it is told", SOON, || reason(&node).contains("others can read the key `sync-key`"));
    assert!(!node.holds(&format!("test -e {TO}")));
}

#[test]
fn one_that_is_cut_short_leaves_no_half_file_and_is_finished_by_the_next() {
    let (node, config) = node("{from: /srv/cut, every: 5s, at_most: 4MB}");
    node.sh("mkdir -p /srv/cut && cd /srv/cut && for i in 1 2 3 4 5; do head -c 8000000 /dev/urandom > big$i; done");
    let agent = node.agent(&config);
    until("it is under way", SOON, || {
        node.item(ID).is_some_and(|item| item["progress"].as_str().is_some_and(|text| text.contains('%')))
    });
    assert_eq!(status(&node), "pending");
    until("a part is there", SOON, || node.holds(&format!("find {TO} -type f | grep -q .")));
    agent.signal("KILL");
    drop(agent);
    until("no rsync is left", Duration::from_secs(5), || no_rsync(&node, "/srv/cut"));
    for file in 1..=5 {
        let whole = format!("test ! -e {TO}/big{file} || cmp -s /srv/cut/big{file} {TO}/big{file}");
        assert!(node.holds(&whole), "big{file} is a half file");
    }
    spec(&node, "{from: /srv/cut, every: 5s}");
    let _agent = node.agent(&config);
    until("the next one completes it", SOON, || node.holds(&format!("diff -r /srv/cut {TO}")));
}

#[test]
fn what_left_the_spec_is_ended() {
    let (node, config) = node("{from: /srv/left, every: 5s, at_most: 1MB}");
    node.sh("mkdir -p /srv/left && head -c 100000000 /dev/urandom > /srv/left/big");
    let _agent = node.agent(&config);
    until("it is under way", SOON, || !no_rsync(&node, "/srv/left") && status(&node) == "pending");
    spec(&node, "");
    until("no rsync is left", Duration::from_secs(10), || no_rsync(&node, "/srv/left"));
}

#[test]
fn a_folder_that_somebody_bends_elsewhere_is_not_written_to_and_a_missing_mount_is_waited_for() {
    let (node, config) = node("{from: /srv/master, every: 5s}");
    fill(&node, "/srv/master", 5);
    node.sh(
        "mkdir -p /srv/elsewhere /srv/eden && chown nobody /srv/eden && ln -s /srv/elsewhere /srv/eden/fonts",
    );
    let _agent = node.agent(&config);
    until("it is told", SOON, || status(&node) == "error");
    assert!(reason(&node).contains("somebody else may move"), "{}", reason(&node));
    assert_eq!(files(&node, "/srv/elsewhere"), 0);
    node.sh("rm /srv/eden/fonts; echo 'tmpfs /srv/eden tmpfs defaults 0 0' >> /etc/fstab");
    until("the mount is waited for", SOON, || reason(&node).contains("nothing is mounted at /srv/eden"));
    node.sh("mount -t tmpfs tmpfs /srv/eden");
    in_step(&node);
    assert_eq!(files(&node, TO), 5);
}

#[test]
fn a_command_waits_for_what_it_begins() {
    let (node, config) = node("{from: /srv/master}");
    fill(&node, "/srv/master", 100);
    node.write("/etc/evenkeel/agent.yaml", &config);
    let plan = support::text(&node.run(&["plan"]));
    assert!(plan.contains("carry over to /srv/eden/fonts") || plan.contains("sub/f00000"), "{plan}");
    assert!(!node.holds(&format!("test -e {TO}")), "a plan changes nothing");
    let out = node.run(&["apply"]);
    assert_eq!(out.status.code(), Some(0), "{}", support::text(&out));
    assert_eq!(files(&node, TO), 100);
}
