//! A share whose server dies and comes back, under a running agent: everything else of the node is looked at on time, the
//! share is told as hung, one child waits for it however many passes go by, and all is well again without a restart.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use support::{Daemon, EVENKEEL, FLEET, Node, Repository, config, until};

const SOON: Duration = Duration::from_secs(15);

const TIER: &str = "version: 1
sysctl:
  net.ipv4.tcp_keepalive_time: 77
mount:
  /srv/up: {source: /srv/share, type: bind, sentinel: .export-id, health: {within: 1s, every: 1s}}
  /srv/tmp: {source: tmpfs, type: tmpfs, options: [size=1m]}
";

/// A share on the node, until it is dropped.
struct Share(Child);

impl Share {
    fn mount(node: &Node, at: &str, how: &[&str]) -> Self {
        let program = program(node);
        node.sh(&format!("mkdir -p {at}"));
        let server = node.command(&program).arg(at).args(how).spawn().unwrap();
        until("the share is mounted", SOON, || node.holds(&format!("grep -q ' {at} ' /proc/self/mountinfo")));
        Self(server)
    }

    fn turn(&self, to: &str) {
        support::signal(&self.0, to);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(node: &Node) -> PathBuf {
    let program = node.dir.path().join("deadfuse");
    if !program.exists() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/host/tests/deadfuse.c");
        assert!(Command::new("cc").arg("-o").arg(&program).arg(source).status().unwrap().success());
    }
    program
}

/// The agent's own children: not the programs that it runs.
fn looks(agent: &Daemon) -> BTreeSet<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.child.id())).unwrap().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let all: Vec<String> =
        children.flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
    let ours = |pid: &String| {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(EVENKEEL));
        // A program that is about to begin still has all that the agent has open.
        let few = std::fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|open| open.count() <= 4);
        exe && few
    };
    all.into_iter().filter(|pid| !pid.is_empty()).filter(ours).collect()
}

fn stands(node: &Node, id: &str) -> (String, String) {
    let item = node.item(id).unwrap_or_default();
    let word = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
    (word("status"), word("reason"))
}

/// Everything of the node but the share, as long as the share is dead.
fn the_rest_is_kept(node: &Node) {
    node.sh("echo 99 > /proc/sys/net/ipv4/tcp_keepalive_time; umount /srv/tmp");
    until("the kernel is put right", SOON, || node.sysctl("net.ipv4.tcp_keepalive_time") == "77");
    until("what shares a section with it is put right", SOON, || {
        node.holds("grep -q ' /srv/tmp ' /proc/self/mountinfo")
    });
}

fn comes_and_goes(how: &str) {
    let node = Node::new();
    let share = Share::mount(&node, "/srv/share", &[how, "alive", ".export-id"]);
    let files = [("fleet.yaml", FLEET), ("tiers/t.yaml", TIER)];
    let repository = Repository::new(&node.dir.path().join("spec"), &files);
    let agent = node.agent(&config(&repository.source(), ""));
    until("even", SOON, || node.run(&["status"]).status.success());
    for time in 1..=2 {
        share.turn("USR2");
        until("it is told as hung", SOON, || {
            let (status, reason) = stands(&node, "mount//srv/up");
            status == "error" && reason.starts_with("hung: /srv/share")
        });
        let first = looks(&agent);
        assert_eq!(first.len(), 1, "one look waits");
        the_rest_is_kept(&node);
        let end = Instant::now() + Duration::from_secs(6);
        while Instant::now() < end {
            assert_eq!(looks(&agent), first, "and no other, from pass to pass");
            std::thread::sleep(Duration::from_millis(50));
        }
        share.turn("USR1");
        until("the server that is back is noticed", SOON, || {
            stands(&node, "mount//srv/up").0 == "compliant" && node.run(&["status"]).status.success()
        });
        until("no look is left", SOON, || looks(&agent).is_empty());
        // However many passes have seen it so.
        let log = agent.log();
        let lines = |what: &str| log.matches(what).count();
        assert_eq!(lines("WARN mount//srv/up is in error"), time, "{log}");
        assert_eq!(lines("INFO mount//srv/up is even again"), time, "{log}");
    }
    share.turn("HUP");
    until("it is told as stale", SOON, || stands(&node, "mount//srv/up").1.starts_with("stale:"));
}

#[test]
fn a_dead_share_whose_waiters_can_be_killed_holds_nobody_up_and_heals() {
    comes_and_goes("ignore");
}

#[test]
fn a_dead_share_whose_waiters_cannot_be_killed_holds_nobody_up_and_heals() {
    comes_and_goes("swallow");
}

#[test]
fn a_hundred_dead_shares_have_a_hundred_looks_and_one_is_looked_at_anew() {
    let node = Node::new();
    let mut tier = TIER.to_owned();
    let mut shares = vec![Share::mount(&node, "/srv/share", &["ignore", "alive", ".export-id"])];
    for n in 0..100 {
        shares.push(Share::mount(&node, &format!("/srv/dead/{n}"), &["ignore", "alive"]));
        node.sh(&format!("mkdir -p /srv/seen/{n} && mount --bind /srv/dead/{n} /srv/seen/{n}"));
        let _ = writeln!(
            tier,
            "  /srv/seen/{n}: {{source: /srv/dead/{n}, type: bind, health: {{within: 1s, every: 1s}}}}"
        );
    }
    let repository =
        Repository::new(&node.dir.path().join("spec"), &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier)]);
    for share in &shares[1..] {
        share.turn("USR2");
    }
    let agent = node.agent(&config(&repository.source(), ""));
    until("all are told as hung", Duration::from_mins(1), || {
        (0..100).all(|n| stands(&node, &format!("mount//srv/seen/{n}")).1.starts_with("hung:"))
    });
    let first = looks(&agent);
    assert_eq!(first.len(), 100);
    the_rest_is_kept(&node);
    until("what answers is even", SOON, || stands(&node, "mount//srv/up").0 == "compliant");
    let waiting = || looks(&agent).intersection(&first).count();
    assert_eq!(waiting(), 100, "nobody was killed and begun anew");
    shares[1].turn("USR1");
    until("the one that is back is noticed", SOON, || stands(&node, "mount//srv/seen/0").0 == "compliant");
    assert_eq!(waiting(), 99);
}
