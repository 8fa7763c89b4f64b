//! A node to try the real binary on: namespaces of its own, a filesystem that forgets, real git, real PostgreSQL.
//!
//! Nothing of the machine is changed: `/etc`, `/var/lib`, `/srv`, `/home` and `/mnt` are overlays whose upper halves
//! lie in a tmpfs, `/run` is empty (no systemd to talk to), `/proc/sys` is read-only but for `net`, which belongs to
//! the node's own network namespace. Everything goes when the test's end of a pipe closes, even after SIGKILL.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test support"
)]

pub mod booted;
pub mod guest;
pub mod lab;
pub mod pool;
mod postgres;

pub use lab::lab_file;
pub use postgres::{Postgres, postgres_version};

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The agent's binary, as built for this test run.
pub const EVENKEEL: &str = env!("CARGO_BIN_EXE_evenkeel");

/// The hub's binary, built beside the agent's.
pub fn hub_binary() -> PathBuf {
    let beside = Path::new(EVENKEEL).with_file_name("evenkeel-hub");
    if !beside.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "-q", "-p", "evenkeel-hub"]);
        if beside.parent().is_some_and(|profile| profile.ends_with("release")) {
            cargo.arg("--release");
        }
        let built = cargo.status().unwrap();
        assert!(built.success() && beside.exists(), "cargo build -p evenkeel-hub makes {}", beside.display());
    }
    beside
}

/// One node.
pub struct Node {
    holder: Child,
    /// How its namespaces are entered.
    way_in: Vec<String>,
    _pipe: ChildStdin,
    /// A folder that the node and the test both see.
    pub dir: tempfile::TempDir,
}

const SETUP: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$DIR/upper"
for d in etc var/lib srv home mnt; do
  mkdir -p "$DIR/upper/$d/up" "$DIR/upper/$d/work"
  mount -t overlay overlay -o "lowerdir=/$d,upperdir=$DIR/upper/$d/up,workdir=$DIR/upper/$d/work" "/$d"
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/evenkeel /run/lock /etc/evenkeel /var/lib/evenkeel
rm -f /etc/sysctl.d/99-evenkeel.conf
mount -o bind /proc/sys /proc/sys
mount -o bind /proc/sys/net /proc/sys/net
mount -o remount,bind,ro /proc/sys
ip link set lo up
echo ready
exec cat
"#;

impl Node {
    /// A fresh node, without a network.
    pub fn new() -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--net"]);
        Self::made(unshare, |holder| {
            ["-t", &holder.to_string(), "-m", "-n", "--"].map(str::to_owned).to_vec()
        })
    }

    /// A node in a network namespace that is there, which sees no process but its own.
    pub fn in_network(namespace: &Path) -> Self {
        let mut unshare = Command::new("nsenter");
        unshare.arg(format!("--net={}", namespace.display()));
        unshare.args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        Self::made(unshare, |holder| {
            let first = only_child(holder).expect("the first process of the node");
            // What is entered so is a child of nsenter, and goes with it.
            ["-t", &first.to_string(), "-m", "-n", "-p", "--", "setpriv", "--pdeathsig=KILL", "--"]
                .map(str::to_owned)
                .to_vec()
        })
    }

    fn made(mut unshare: Command, way_in: impl Fn(u32) -> Vec<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("upper")).unwrap();
        let mut holder = unshare
            .args(["--", "sh", "-c", SETUP])
            .env("DIR", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs: these tests need root");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the node's namespaces could not be set up: these tests need root");
        let pipe = holder.stdin.take().unwrap();
        let way_in = way_in(holder.id());
        Self { holder, way_in, _pipe: pipe, dir }
    }

    /// A program, to be run on the node.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(&self.way_in).arg(program);
        command
    }

    /// What the agent on the node says of one item.
    pub fn item(&self, id: &str) -> Option<serde_json::Value> {
        let out = self.run(&["status", "--format", "json"]);
        let status: serde_json::Value = serde_json::from_slice(&out.stdout).ok()?;
        status["items"].as_array()?.iter().find(|item| item["id"] == id).cloned()
    }

    /// Run a shell script on the node; it must succeed. What it printed.
    pub fn sh(&self, script: &str) -> String {
        let out = self.command("sh").args(["-ec", script]).output().unwrap();
        assert!(out.status.success(), "{script}\n{}", text(&out));
        String::from_utf8(out.stdout).unwrap()
    }

    /// Whether a shell script succeeds on the node.
    pub fn holds(&self, script: &str) -> bool {
        self.command("sh").args(["-c", script]).output().unwrap().status.success()
    }

    /// The agent's binary with arguments, on the node.
    pub fn evenkeel(&self, args: &[&str]) -> Command {
        let mut command = self.command(EVENKEEL);
        command.args(args).env("NO_COLOR", "1");
        command
    }

    /// Run the agent's binary to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.evenkeel(args).output().unwrap()
    }

    /// The live value of a kernel parameter.
    pub fn sysctl(&self, key: &str) -> String {
        self.sh(&format!("cat /proc/sys/{}", key.replace('.', "/"))).trim().to_owned()
    }

    /// Write a file on the node.
    pub fn write(&self, path: &str, content: &str) {
        let shared = self.dir.path().join("handed-over");
        std::fs::write(&shared, content).unwrap();
        self.sh(&format!("mkdir -p \"$(dirname {path})\" && cp {} {path}", shared.display()));
    }

    /// Start the daemon with this configuration; killed when dropped.
    pub fn agent(&self, config: &str) -> Daemon {
        self.write("/etc/evenkeel/agent.yaml", config);
        let log = self.dir.path().join("agent.log");
        let to = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = self.evenkeel(&["run", "--config", "/etc/evenkeel/agent.yaml"]);
        command.env_remove("NOTIFY_SOCKET").stdin(Stdio::null()).stdout(to.try_clone().unwrap()).stderr(to);
        Daemon { child: command.spawn().unwrap(), log }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A daemon that was started, and its log.
pub struct Daemon {
    /// The process.
    pub child: Child,
    /// Where it logs.
    pub log: PathBuf,
}

impl Daemon {
    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Send it a signal by name.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// The one child of a process.
fn only_child(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Send a signal to what was started on a node: nsenter becomes the program, or where it entered a process namespace,
/// its parent, which passes nothing on.
pub fn signal(child: &Child, name: &str) {
    let pid = child.id();
    let entering = std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "nsenter\n");
    let to = only_child(pid).filter(|_| entering).unwrap_or(pid);
    let sent = Command::new("kill").args([&format!("-{name}"), &to.to_string()]).status();
    assert!(sent.unwrap().success());
}

/// What a program printed, both streams.
pub fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Wait until something holds; panics with `what` after `within`. How long it took.
pub fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    start.elapsed()
}

/// A git repository to commit specs to.
pub struct Repository {
    /// Its work tree.
    pub path: PathBuf,
}

impl Repository {
    /// A new one at `path`, with these files as its first commit.
    pub fn new(path: &Path, files: &[(&str, &str)]) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let repository = Self { path: path.to_owned() };
        repository.git(&["init", "-q", "-b", "main"]);
        repository.commit(files);
        repository
    }

    /// Run git in it; it must succeed.
    pub fn git(&self, args: &[&str]) -> String {
        let out = Command::new("git")
            .current_dir(&self.path)
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"])
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "git {args:?}\n{}", text(&out));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// Commit these files; the commit's id.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        for (name, content) in files {
            let path = self.path.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "change"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Its address, as an agent's source.
    pub fn source(&self) -> String {
        format!("git+file://{}#main", self.path.display())
    }
}

/// A fleet of one node, `n1`, in one tier, `t`.
pub const FLEET: &str = "version: 1\nfleet: test\nnodes:\n  n1: {tier: t}\n";

/// A configuration for node `n1`.
pub fn config(source: &str, more: &str) -> String {
    format!("node: n1\nsource: {source}\npoll_interval: 1s\n{more}")
}
