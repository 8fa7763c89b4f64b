//! SIGKILL at every system call of an apply: the next apply finishes the work, and no file is ever torn.
//!
//! strace sends the signal before the Nth call that matters; N walks over every one of them. The node then has to be
//! either as before or as desired in each file, and one further apply has to leave it as desired with no debt.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use support::{FLEET, Node, Repository, text};

const OLD: &str = "version: 1
sysctl:
  net.ipv4.tcp_keepalive_time: 600
  net.ipv4.tcp_keepalive_intvl: 60
";
const NEW: &str = "version: 1
sysctl:
  net.ipv4.tcp_keepalive_time: 61
  net.ipv4.tcp_keepalive_probes: 5
  net.ipv4.tcp_retries2: 8
mount:
  /srv/even/tmp: {source: tmpfs, type: tmpfs, options: [nosuid, nodev, size=1m]}
";
const DROP_IN: &str = "/etc/sysctl.d/99-evenkeel.conf";
const UNIT: &str = "/etc/systemd/system/srv-even-tmp.mount";

struct Rig {
    node: Node,
    old: String,
    new: String,
}

impl Rig {
    fn new() -> Self {
        let node = Node::new();
        let (old, new) = (node.dir.path().join("old"), node.dir.path().join("new"));
        Repository::new(&old, &[("fleet.yaml", FLEET), ("tiers/t.yaml", OLD)]);
        Repository::new(&new, &[("fleet.yaml", FLEET), ("tiers/t.yaml", NEW)]);
        Self { node, old: old.display().to_string(), new: new.display().to_string() }
    }

    /// Back to the old spec: what a crash left is cleared by hand, so that every run starts alike.
    fn reset(&self) {
        self.node.sh(&format!("umount /srv/even/tmp 2>/dev/null || true; rm -rf {UNIT} {DROP_IN} /etc/systemd/system/*.wants/srv-even* /run/evenkeel/* /srv/even"));
        self.apply(&self.old);
    }

    fn apply(&self, spec: &str) {
        let out = self.node.run(&["apply", "--spec", spec, "--node", "n1"]);
        assert!(out.status.success(), "{}", text(&out));
    }

    fn files(&self) -> BTreeMap<&'static str, String> {
        [DROP_IN, UNIT].map(|path| (path, self.node.sh(&format!("cat {path} 2>/dev/null || true")))).into()
    }

    /// Apply the new spec under strace with this injection, and tell how it ended.
    fn killed(&self, call: &str, n: usize) -> End {
        let mut strace = self.node.command("strace");
        strace.args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={call}:signal=KILL:when={n}"),
        ]);
        let out = strace
            .arg(support::EVENKEEL)
            .args(["apply", "--spec", &self.new, "--node", "n1"])
            .output()
            .unwrap();
        match out.status.signal() {
            Some(9) => End::Killed,
            Some(other) => panic!("{call} #{n}: ended by signal {other}"),
            None if out.status.success() => End::Whole,
            None => End::ChildKilled,
        }
    }
}

/// How an apply under injection ended; strace ends as the program it runs has.
#[derive(PartialEq)]
enum End {
    /// The agent itself was killed: a point that counts.
    Killed,
    /// A program that it ran was killed instead, and it went on: tried, and not counted.
    ChildKilled,
    /// There was no such call any more.
    Whole,
}

/// Old, new, or new with the lines still in it that the spec has let go: they stay until the kernel is set back.
fn whole(content: &str, old: &str, new: &str) -> bool {
    let has = |text: &str, line: &str| text.lines().any(|one| one == line);
    let grown = content.ends_with('\n')
        && new.lines().all(|line| has(content, line))
        && content.lines().all(|line| has(old, line) || has(new, line));
    content == old || content == new || (!new.is_empty() && grown)
}

/// A reload is owed from before the drop-in is written until the server has read it, wherever the agent dies.
#[test]
fn a_reload_is_never_forgotten_wherever_the_apply_was_killed() {
    const CALLS: &[&str] = &[
        "openat",
        "write",
        "fsync",
        "renameat2",
        "renameat",
        "unlinkat",
        "mkdirat",
        "connect",
        "sendto",
        "recvfrom",
        "close",
        "poll",
    ];
    let rig = Rig { node: Node::new(), old: String::new(), new: String::new() };
    let postgres = rig.node.postgres();
    let tier = |idle| {
        format!(
            "version: 1\npostgresql:\n  {}:\n    settings: {{tcp_keepalives_idle: {idle}s}}\n",
            postgres.cluster
        )
    };
    let (old, new) = (rig.node.dir.path().join("old"), rig.node.dir.path().join("new"));
    Repository::new(&old, &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier(600))]);
    Repository::new(&new, &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier(60))]);
    let rig = Rig { old: old.display().to_string(), new: new.display().to_string(), ..rig };
    let idle = || rig.node.sql("select reset_val from pg_settings where name = 'tcp_keepalives_idle'");
    let most =
        if std::env::var("EVENKEEL_LONG").is_ok_and(|long| !long.is_empty()) { usize::MAX } else { 12 };
    let mut points = 0;
    for call in CALLS {
        for n in 1..=most {
            rig.apply(&rig.old);
            assert_eq!(idle(), "600");
            match rig.killed(call, n) {
                End::Whole => break,
                End::Killed => points += 1,
                End::ChildKilled => {}
            }
            rig.apply(&rig.new);
            assert_eq!(idle(), "60", "{call} #{n}: the next apply has the server read it");
            let left = rig.node.sh("ls /run/evenkeel/owed 2>/dev/null | wc -l");
            assert_eq!(left.trim(), "0", "{call} #{n}: nothing is owed any more");
        }
    }
    println!("killed at {points} points");
    assert!(points >= 50, "only {points} points");
}

/// The calls an apply is made of that can leave something half done, and those around them; and how many times
/// the agent has to have died before each. The apply of this test writes two files, makes and removes one each,
/// and so on, on every machine; how much it reads for that depends on the machine's processes, mounts and units.
const CALLS: &[(&str, usize)] = &[
    ("openat", 60),
    ("openat2", 4),
    ("write", 6),
    ("pwrite64", 0),
    ("fsync", 5),
    ("fdatasync", 0),
    ("renameat", 2),
    ("renameat2", 0),
    ("rename", 0),
    ("unlink", 0),
    ("unlinkat", 2),
    ("mkdir", 0),
    ("mkdirat", 2),
    ("symlinkat", 0),
    ("fchmod", 3),
    ("fchown", 0),
    ("execve", 0),
    ("clone", 0),
    ("clone3", 0),
    ("vfork", 0),
    ("wait4", 0),
    ("waitid", 0),
    ("close", 60),
    ("read", 40),
    ("pread64", 0),
    ("newfstatat", 20),
    ("statx", 20),
    ("fstat", 10),
    ("getdents64", 10),
    ("mmap", 8),
    ("mount", 0),
    ("move_mount", 0),
    ("umount2", 0),
    ("readlinkat", 1),
    ("lseek", 4),
    ("fcntl", 40),
    ("flock", 1),
    ("poll", 8),
    ("pipe2", 1),
    ("munmap", 1),
    ("mprotect", 2),
    ("brk", 2),
    ("kill", 0),
    ("exit_group", 1),
];

#[test]
fn an_apply_killed_before_any_system_call_is_finished_by_the_next() {
    let rig = Rig::new();
    rig.reset();
    let before = rig.files();
    rig.apply(&rig.new);
    let after = rig.files();
    assert_ne!(before, after);
    let most =
        if std::env::var("EVENKEEL_LONG").is_ok_and(|long| !long.is_empty()) { usize::MAX } else { 140 };
    let (mut points, mut torn, mut few) = (0, vec![], vec![]);
    for (call, least) in CALLS {
        let before_it = points;
        for n in 1..=most {
            rig.reset();
            match rig.killed(call, n) {
                End::Whole => break,
                End::Killed => points += 1,
                End::ChildKilled => {}
            }
            for (path, content) in rig.files() {
                if !whole(&content, &before[path], &after[path]) {
                    torn.push(format!("{call} #{n}: {path} is neither old nor new:\n{content}"));
                }
            }
            rig.apply(&rig.new);
            assert_eq!(rig.files(), after, "{call} #{n}: the next apply finishes");
            assert_eq!(rig.node.sysctl("net.ipv4.tcp_keepalive_time"), "61", "{call} #{n}");
            assert_eq!(rig.node.sysctl("net.ipv4.tcp_retries2"), "8", "{call} #{n}");
            assert!(rig.node.holds("findmnt -n -t tmpfs /srv/even/tmp >/dev/null"), "{call} #{n}");
            let left = rig.node.sh("ls /run/evenkeel/owed 2>/dev/null | wc -l; ls -A /etc/sysctl.d /etc/systemd/system | grep -c evenkeel-new || true");
            assert_eq!(
                left.trim().replace('\n', " "),
                "0 0",
                "{call} #{n}: no debt and no temporary file is left"
            );
        }
        let died = points - before_it;
        println!("{call}: {died}");
        if died < *least {
            few.push(format!("{call}: {died} of {least}"));
        }
    }
    assert!(torn.is_empty(), "{}", torn.join("\n"));
    println!("killed at {points} points");
    assert!(few.is_empty(), "too few points: {}", few.join(", "));
    assert!(points >= 500, "only {points} points");
}
