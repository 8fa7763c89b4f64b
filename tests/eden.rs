//! The whole of `examples/eden` on a cluster of three tiers: whole nodes with a systemd of their own, a real PostgreSQL, a real
//! NFS server, uWSGI and nginx, and a router that forgets. It converges, stays still, serves, and survives its file server.
//!
//! All of it runs in one guest (`tests/nfs/guest`), whose kernel has NFS; `tests/eden/cluster` builds the nodes in there. The
//! example is taken as it is, but for the PostgreSQL's version and the nodes that are not there.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use support::guest::Guest;

/// For what four nodes on two emulated processors need while the machine is busy: two minutes where it is not.
const CONVERGED: Duration = Duration::from_mins(10);
const SOON: Duration = Duration::from_mins(2);
const NODES: [&str; 3] = ["db1", "mw2", "web1"];

/// A command on one of the nodes: what it printed.
fn on(guest: &Guest, node: &str, script: &str) -> String {
    guest.sh(&format!("/cluster/cluster run {node} bash -ec {}", quoted(script)))
}

fn holds_on(guest: &Guest, node: &str, script: &str) -> bool {
    guest.holds(&format!("/cluster/cluster run {node} bash -ec {}", quoted(script)))
}

fn quoted(script: &str) -> String {
    format!("'{}'", script.replace('\'', r"'\''"))
}

/// What is not even on a node: the items, worst first, each with its reason.
fn uneven(guest: &Guest, node: &str) -> Vec<(String, String, String)> {
    let text = on(guest, node, "evenkeel status --format json --all || true");
    let Ok(status) = serde_json::from_str::<serde_json::Value>(&text) else {
        return vec![("agent".into(), "silent".into(), text)];
    };
    let items = status["items"].as_array().cloned().unwrap_or_default();
    let word = |item: &serde_json::Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
    let off = |item: &&serde_json::Value| {
        !matches!(item["status"].as_str(), Some("compliant" | "repaired" | "not_applicable"))
    };
    let told =
        items.iter().filter(off).map(|item| (word(item, "id"), word(item, "status"), word(item, "reason")));
    let mut told: Vec<_> = told.collect();
    if items.is_empty() {
        told.push(("agent".into(), "no items yet".into(), text));
    }
    told
}

fn until_even(guest: &Guest, within: Duration) {
    let start = Instant::now();
    loop {
        let off: Vec<_> = NODES
            .iter()
            .map(|node| (*node, uneven(guest, node)))
            .filter(|(_, off)| !off.is_empty())
            .collect();
        if off.is_empty() {
            return;
        }
        assert!(start.elapsed() < within, "not even within {within:?}: {off:#?}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// How many repairs an agent has told its journal of.
fn repairs(guest: &Guest, node: &str) -> usize {
    let journal = on(guest, node, "journalctl --sync; journalctl -b -u evenkeel -o cat --no-pager");
    journal.lines().filter(|line| line.starts_with("repaired")).count()
}

/// The folder that is laid over the guest: the cluster's script, keys for ssh, and the example as a git repository.
fn furnish(root: &Path) {
    let cluster = root.join("cluster");
    let sh = |script: &str| {
        let status = Command::new("bash").args(["-ec", script]).current_dir(root).status().unwrap();
        assert!(status.success(), "{script}");
    };
    let sources = env!("CARGO_MANIFEST_DIR");
    std::fs::create_dir_all(&cluster).unwrap();
    sh(&format!("cp -r {sources}/tests/eden/. cluster/; cp {sources}/agent.service cluster/"));
    let binary = std::env::var("EVENKEEL_NFS_BINARY").unwrap_or_else(|_| support::EVENKEEL.to_owned());
    sh(&format!("strip -o cluster/evenkeel $(realpath {sources}/{binary} 2>/dev/null || echo {binary})"));
    sh("for key in fonts host; do ssh-keygen -q -t ed25519 -N '' -C $key -f cluster/$key; done");
    sh(&format!("cp -r {sources}/examples/eden cluster/spec"));
    // The Debian of the guest has another PostgreSQL than the example's.
    sh(
        "sed -i 's|13/main|15/main|; s|@13-main|@15-main|' cluster/spec/tiers/db.yaml cluster/spec/nodes/*.yaml",
    );
    sh("git -C cluster/spec init -q -b main; git -C cluster/spec add -A
        git -C cluster/spec -c user.name=t -c user.email=t@example.org commit -q -m 'the example'");
}

#[test]
fn the_example_converges_a_cluster_of_three_tiers_and_stays_still() {
    // Whole nodes on emulated processors take many minutes.
    if std::env::var_os("EVENKEEL_LONG").is_none() {
        println!("left to `tests/run --long`");
        return;
    }
    let start = Instant::now();
    let told = |what: &str| println!("{:6.1} s  {what}", start.elapsed().as_secs_f64());
    let files = tempfile::tempdir().unwrap();
    furnish(files.path());
    let guest = Guest::with_files(files.path());
    told("the guest is up");
    let up = guest.run(Duration::from_secs(400), "/cluster/cluster up /cluster");
    assert!(up.status.success(), "{}", support::text(&up));
    told("its nodes are up");
    until_even(&guest, CONVERGED);
    told("every node is even");

    // Still: more passes, and nothing more is done.
    let before = NODES.map(|node| repairs(&guest, node));
    std::thread::sleep(Duration::from_secs(40));
    until_even(&guest, SOON);
    assert_eq!(NODES.map(|node| repairs(&guest, node)), before, "a second pass repairs nothing");
    told("and stays so");

    // In effect: a request goes through all three tiers, and its connection carries what the path promises.
    let page = on(
        &guest,
        "web1",
        "curl -sf http://127.0.0.1/eden/default/about || python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1/eden/default/about\").read().decode())'",
    );
    assert_eq!(page.trim(), "Eden on sahana");
    let sockets = on(&guest, "mw2", "ss -tno state established dport = :5432; true");
    assert!(sockets.contains("timer:(keepalive,"), "{sockets}");

    // What Eden ships below a share was put into the empty export, and the web tier sees what people upload.
    assert_eq!(
        on(&guest, "mw2", "ls /home/prod/applications/eden/static/img/markers | grep -c marker_").trim(),
        "1069"
    );
    on(
        &guest,
        "web1",
        "python3 -c 'import urllib.request as u; u.urlopen(u.Request(\"http://127.0.0.1/eden/upload/new.png\", data=b\"png\")).read()'",
    );
    assert_eq!(on(&guest, "web1", "cat /var/www/static/img/markers/new.png"), "png");
    assert!(!holds_on(&guest, "web1", "touch /var/www/static/img/markers/x"), "read-only there");
    assert_eq!(
        on(&guest, "mw2", "ls /home/prod/applications/eden/static/fonts").trim(),
        "a.ttf\nb.ttf\nc.ttf"
    );
    told("it serves");

    // The file server is gone: whatever is no share is kept as ever, and nothing is restarted.
    let pids = || on(&guest, "mw2", "systemctl show --value -p MainPID evenkeel uwsgi-prod | tr '\\n' ' '");
    let before = pids();
    guest.sh("/cluster/cluster nfs off");
    on(&guest, "mw2", "sysctl -qw net.ipv4.tcp_keepalive_time=7200");
    guest.until("the kernel's value is back", Duration::from_secs(15), || {
        holds_on(&guest, "mw2", "[ $(cat /proc/sys/net/ipv4/tcp_keepalive_time) != 7200 ]")
    });
    guest.until("the shares are told to hang", SOON, || {
        let off = uneven(&guest, "mw2");
        off.iter().filter(|(id, _, why)| id.starts_with("mount/") && why.contains("does not answer")).count()
            == 6
    });
    guest.sh("/cluster/cluster nfs on");
    until_even(&guest, CONVERGED);
    assert_eq!(pids(), before, "nothing was restarted");
    told("the file server was away, and everything healed");
}
