//! A second apply of a converged node performs no write, no reload and no mount call, as strace sees it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use support::{FLEET, Node, Repository, text};

/// A spec over all kinds; the cluster's name comes after it.
const TIER: &str = "version: 1
sysctl:
  net.ipv4.tcp_keepalive_time: 61
  net.ipv4.tcp_retries2: 8
mount:
  /srv/even/tmp: {source: tmpfs, type: tmpfs, options: [nosuid, nodev, size=1m]}
  /srv/even/bind: {source: /srv/even-source, type: bind}
";

#[test]
fn a_second_apply_writes_nothing_reloads_nothing_mounts_nothing() {
    let node = Node::new();
    node.sh("mkdir -p /srv/even-source");
    let postgres = node.postgres();
    let tier =
        format!("{TIER}postgresql:\n  {}:\n    settings: {{tcp_keepalives_idle: 60s}}\n", postgres.cluster);
    let spec = node.dir.path().join("spec");
    Repository::new(&spec, &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier)]);
    let apply = ["apply", "--spec", spec.to_str().unwrap(), "--node", "n1"];
    let first = node.run(&apply);
    assert!(first.status.success(), "{}", text(&first));
    assert_eq!(node.sysctl("net.ipv4.tcp_keepalive_time"), "61");
    assert!(node.holds("findmnt -n /srv/even/tmp && findmnt -n /srv/even/bind"));

    let loaded = node.sql("select pg_conf_load_time()");

    let trace = node.dir.path().join("trace");
    let mut strace = node.command("strace");
    strace.args(["-f", "-y", "-e", "trace=%file,write,pwrite64,writev,mount,umount2,fsmount,move_mount,execve,kill,fsync,rename,renameat2"]);
    let out = strace
        .arg("-o")
        .arg(&trace)
        .arg(support::EVENKEEL)
        .args(apply)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", text(&out));
    let calls = std::fs::read_to_string(&trace).unwrap();
    assert!(calls.contains("/proc/sys/net/ipv4/tcp_keepalive_time"), "the trace saw the pass");
    let changes: Vec<&str> = calls.lines().filter(|call| changes(call)).collect();
    assert_eq!(node.sql("select pg_conf_load_time()"), loaded, "no reload");
    assert!(changes.is_empty(), "a converged node was changed:\n{}", changes.join("\n"));
}

/// Whether a traced call changes something outside of the process, its own output and the agent's own lock.
fn changes(call: &str) -> bool {
    let did = !call.contains(" = -1 ");
    let verb = |names: &[&str]| names.iter().any(|name| call.contains(&format!(" {name}(")));
    let own = call.contains("/run/evenkeel/")
        || call.contains("<pipe:")
        || call.contains("<anon_inode:")
        || call.contains("/dev/null");
    let standard = ["1<", "2<"].iter().any(|fd| call.contains(&format!("write({fd}")));
    let opens = (call.contains(" openat(") || call.contains(" open("))
        && ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].iter().any(|flag| call.contains(flag));
    let acts = verb(&[
        "mount",
        "umount2",
        "fsmount",
        "move_mount",
        "rename",
        "renameat",
        "renameat2",
        "unlink",
        "unlinkat",
        "mkdir",
        "mkdirat",
        "symlink",
        "symlinkat",
        "link",
        "linkat",
        "chmod",
        "fchmodat",
        "chown",
        "fchownat",
        "fsync",
        "kill",
    ]);
    let runs = verb(&["execve"])
        && ["mount", "systemctl", "chown", "chmod"].iter().any(|name| call.contains(&format!("/{name}\"")));
    let writes = verb(&["write", "pwrite64", "writev"]) && !standard;
    did && !own && (opens || acts || runs || writes)
}
