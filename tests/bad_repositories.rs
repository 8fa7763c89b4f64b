//! Bad repositories: a clear error, bounded memory, an untouched node, and the last good spec still in force.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{FLEET, Node, Repository, config, text, until};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    cases
}

/// Whether the repository as a whole is good, and only a node that it names nowhere, or twice, must refuse it.
fn taken(case: &Path) -> bool {
    std::fs::read_to_string(case.join("expect.txt")).unwrap().contains("the repository is taken")
}

/// The peak memory of a command, in KiB, with its output.
fn peak(node: &Node, args: &[&str]) -> (std::process::Output, u64) {
    let before = node.dir.path().join("peak");
    let script = r#"import resource,subprocess,sys
p=subprocess.run(sys.argv[2:]); open(sys.argv[1],"w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)); sys.exit(p.returncode)"#;
    let mut command = node.command("python3");
    command.args(["-c", script]).arg(&before).arg(support::EVENKEEL).args(args);
    let out = command.output().unwrap();
    (out, std::fs::read_to_string(before).unwrap().parse().unwrap())
}

#[test]
fn every_bad_repository_is_refused_with_a_place_and_bounded_memory() {
    let node = Node::new();
    let good = node.dir.path().join("good");
    Repository::new(&good, &[("fleet.yaml", FLEET), ("tiers/t.yaml", "version: 1\n")]);
    let (out, floor) = peak(&node, &["validate", good.to_str().unwrap()]);
    assert!(out.status.success(), "{}", text(&out));
    let cases = cases();
    assert!(cases.len() >= 20, "{} cases", cases.len());
    for case in cases.into_iter().filter(|case| !taken(case)) {
        let (out, kib) = peak(&node, &["validate", case.to_str().unwrap()]);
        assert_eq!(out.status.code(), Some(1), "{}: {}", case.display(), text(&out));
        let said = text(&out);
        assert!(said.contains("error"), "{}: {said}", case.display());
        assert!(kib < floor + 20 * 1024, "{}: {kib} KiB against {floor} KiB for a good one", case.display());
    }
}

#[test]
fn a_bad_commit_changes_nothing_and_the_last_good_spec_stays_in_force() {
    const KEY: &str = "net.ipv4.tcp_keepalive_time";
    let good = "version: 1\nsysctl:\n  net.ipv4.tcp_keepalive_time: 61\n";
    let node = Node::new();
    let repository =
        Repository::new(&node.dir.path().join("spec"), &[("fleet.yaml", FLEET), ("tiers/t.yaml", good)]);
    let agent = node.agent(&config(&repository.source(), ""));
    until("converged", Duration::from_secs(10), || node.sysctl(KEY) == "61");
    for case in cases() {
        repository.git(&["rm", "-rq", "."]);
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(format!("{}/.", case.display()))
            .arg(&repository.path)
            .status();
        assert!(copied.unwrap().success());
        let bad = repository.commit(&[]);
        until(&format!("{} is reported", case.display()), Duration::from_secs(8), || refused(&node, &bad));
        node.sh("echo 7200 > /proc/sys/net/ipv4/tcp_keepalive_time");
        until("the last good spec is enforced", Duration::from_secs(2), || node.sysctl(KEY) == "61");
    }
    repository.git(&["rm", "-rq", "."]);
    repository.commit(&[("fleet.yaml", FLEET), ("tiers/t.yaml", &good.replace("61", "62"))]);
    until("a newer good spec pre-empts", Duration::from_secs(4), || node.sysctl(KEY) == "62");
    drop(agent);
}

/// What cannot lie beside the other cases for its size: one value of 64 MiB, and 16 MiB and more that do not shrink.
#[test]
fn what_is_huge_is_refused_by_the_running_agent_in_bounded_memory() {
    const KEY: &str = "net.ipv4.tcp_keepalive_time";
    let good = format!("version: 1\nsysctl:\n  {KEY}: 61\n");
    let node = Node::new();
    let repository =
        Repository::new(&node.dir.path().join("spec"), &[("fleet.yaml", FLEET), ("tiers/t.yaml", &good)]);
    let agent = node.agent(&config(&repository.source(), ""));
    until("converged", Duration::from_secs(10), || node.sysctl(KEY) == "61");
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", agent.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().to_owned();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let (before, said) = (peak(), || text(&node.run(&["status"])));
    let scalar = format!("version: 1\nsysctl:\n  {KEY}: \"{}\"\n", "9".repeat(64 << 20));
    repository.commit(&[("tiers/t.yaml", &scalar)]);
    until("the scalar is refused", Duration::from_secs(30), || said().contains("tiers/t.yaml: "));
    assert!(said().contains("256 KiB"), "{}", said());
    let offline = node.run(&["validate", repository.path.to_str().unwrap()]);
    assert_eq!(offline.status.code(), Some(1), "{}", text(&offline));
    let random = "for n in $(seq 20); do head -c 1048576 /dev/urandom > files-$n; done";
    node.sh(&format!("mkdir -p {0}/files && cd {0}/files && {random}", repository.path.display()));
    repository.commit(&[("tiers/t.yaml", &good)]);
    until("the pack is refused", Duration::from_mins(1), || said().contains("16 MiB"));
    node.sh("echo 7200 > /proc/sys/net/ipv4/tcp_keepalive_time");
    until("the last good spec is enforced", Duration::from_secs(2), || node.sysctl(KEY) == "61");
    assert!(peak() < before + 8 * 1024, "{before} KiB before, {} KiB at most", peak());
    repository.git(&["rm", "-q", "-r", "files"]);
    repository.commit(&[("tiers/t.yaml", &good.replace("61", "62"))]);
    until("a small one comes through", Duration::from_secs(30), || node.sysctl(KEY) == "62");
}

/// Whether the agent says that it saw this commit and refused it, with an error.
fn refused(node: &Node, commit: &str) -> bool {
    let out = node.run(&["status", "--format", "json"]);
    let Ok(status) = serde_json::from_slice::<serde_json::Value>(&out.stdout) else { return false };
    let spec = &status["spec"];
    spec["target_commit"].as_str() == Some(commit)
        && spec["observed_commit"].as_str() != Some(commit)
        && spec["errors"].as_array().is_some_and(|errors| !errors.is_empty())
}
