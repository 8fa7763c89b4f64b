//! Mounts on a real kernel with the real binary: bind, tmpfs and an image, mounted, broken by somebody, and back.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::time::Duration;
use support::{FLEET, Node, Repository, config, text, until};

const SOON: Duration = Duration::from_secs(10);

/// One mount of every sort that needs no network.
const ALL: &str = "version: 1
mount:
  /srv/kept/bind: {source: /srv/from, type: bind, options: [nosuid]}
  /srv/kept/tmp: {source: tmpfs, type: tmpfs, options: [size=1m, nodev]}
  /srv/kept/image: {source: /srv/image.ext4, type: ext4, options: [loop, noatime]}
";

/// A node with something to mount.
fn node() -> Node {
    let node = Node::new();
    node.sh("mkdir -p /srv/from /srv/other && touch /srv/from/seen
             truncate -s 4M /srv/image.ext4 && mkfs.ext4 -q /srv/image.ext4");
    node
}

/// A repository with this tier, and what an agent's configuration says of it.
fn repository(node: &Node, tier: &str) -> (Repository, String) {
    let files = [("fleet.yaml", FLEET), ("tiers/t.yaml", tier)];
    let repository = Repository::new(&node.dir.path().join("spec"), &files);
    let config = config(&repository.source(), "");
    (repository, config)
}

/// One field of the topmost mount at a place; empty where nothing is mounted.
fn mounted(node: &Node, at: &str, field: &str) -> String {
    node.sh(&format!("findmnt -no {field} --mountpoint {at} | tail -n 1 || true")).trim().to_owned()
}

/// How an item stands, as the running agent tells: its status and its reason.
fn item(node: &Node, id: &str) -> (String, String) {
    let out = node.run(&["status", "--format", "json"]);
    let Ok(status) = serde_json::from_slice::<serde_json::Value>(&out.stdout) else {
        return Default::default();
    };
    let item = status["items"].as_array().unwrap().iter().find(|item| item["id"] == id).cloned();
    let word = |key: &str| item.as_ref().and_then(|item| item[key].as_str()).unwrap_or_default().to_owned();
    (word("status"), word("reason"))
}

#[test]
fn every_sort_of_mount_is_made_and_comes_back_when_somebody_unmounts_it() {
    let node = node();
    let (_repository, config) = repository(&node, ALL);
    let _agent = node.agent(&config);
    for (at, fstype) in [("/srv/kept/tmp", "tmpfs"), ("/srv/kept/image", "ext4")] {
        until("mounted", SOON, || mounted(&node, at, "FSTYPE") == fstype);
        node.sh(&format!("umount {at}"));
        until("mounted again", SOON, || mounted(&node, at, "FSTYPE") == fstype);
    }
    until("bound", SOON, || node.holds("test -e /srv/kept/bind/seen"));
    node.sh("umount /srv/kept/bind");
    until("bound again", SOON, || node.holds("test -e /srv/kept/bind/seen"));
    until("even", SOON, || node.run(&["status"]).status.success());
    assert!(mounted(&node, "/srv/kept/tmp", "OPTIONS").contains("size=1024k"));
    let unit = node.sh(r"cat '/etc/systemd/system/srv-kept-tmp.mount'");
    assert!(unit.contains("Where=/srv/kept/tmp\n") && unit.contains("size=1m"), "{unit}");
}

#[test]
fn named_options_are_put_back_by_a_remount_and_others_are_left_alone() {
    let node = node();
    let (_repository, config) = repository(&node, ALL);
    let _agent = node.agent(&config);
    until("even", SOON, || node.run(&["status"]).status.success());
    let has = |at, option: &str| mounted(&node, at, "OPTIONS").split(',').any(|one| one == option);
    node.sh("mount -o remount,bind,suid /srv/kept/bind
             mount -o remount,noexec,dev,size=2m /srv/kept/tmp
             mount -o remount,relatime /srv/kept/image");
    until("nosuid is back", SOON, || has("/srv/kept/bind", "nosuid"));
    until("noatime is back", SOON, || has("/srv/kept/image", "noatime"));
    until("the tmpfs is back", SOON, || has("/srv/kept/tmp", "nodev") && has("/srv/kept/tmp", "size=1024k"));
    assert!(
        has("/srv/kept/tmp", "noexec"),
        "nobody named noexec: {}",
        mounted(&node, "/srv/kept/tmp", "OPTIONS")
    );
    assert!(!node.sh("cat /proc/self/mountinfo").contains("/srv/from nosuid"));
}

#[test]
fn the_wrong_source_is_an_error_that_names_it_and_is_not_touched() {
    let node = node();
    let (_repository, config) = repository(&node, ALL);
    node.sh("mkdir -p /srv/kept/bind /srv/kept/tmp
             mount --bind /srv/other /srv/kept/bind && touch /srv/kept/bind/theirs");
    let _agent = node.agent(&config);
    let id = "mount//srv/kept/bind";
    until("it is told", SOON, || item(&node, id).0 == "error");
    let reason = item(&node, id).1;
    assert!(reason.contains("folder /other") && reason.contains("/srv/from"), "{reason}");
    until("the others are not held up", SOON, || mounted(&node, "/srv/kept/image", "FSTYPE") == "ext4");
    assert!(node.holds("test -e /srv/kept/bind/theirs"));
    assert_eq!(node.run(&["status"]).status.code(), Some(2));
    // Whoever owns it takes it away; what the spec says takes its place.
    node.sh("umount /srv/kept/bind");
    until("the right one is bound", SOON, || node.holds("test -e /srv/kept/bind/seen"));
    until("even", SOON, || node.run(&["status"]).status.success());
}

#[test]
fn a_wrong_type_at_a_place_is_wrong_too() {
    let node = node();
    let (repository, _) = repository(&node, ALL);
    node.sh("mkdir -p /srv/kept/image && mount -t tmpfs theirs /srv/kept/image");
    let out = node.run(&["apply", "--spec", repository.path.to_str().unwrap(), "--node", "n1"]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(text(&out).contains("tmpfs theirs instead of ext4 /srv/image.ext4"), "{}", text(&out));
    assert_eq!(mounted(&node, "/srv/kept/image", "SOURCE"), "theirs");
    // A plan tells of it with the same code.
    let plan = node.run(&["plan", "--spec", repository.path.to_str().unwrap(), "--node", "n1"]);
    assert_eq!(plan.status.code(), Some(1), "{}", text(&plan));
    assert!(text(&plan).contains("1 in error, 2 even"), "{}", text(&plan));
}

#[test]
fn what_left_the_spec_stays_mounted_and_absent_unmounts() {
    let node = node();
    let (repository, config) = repository(&node, ALL);
    let _agent = node.agent(&config);
    until("even", SOON, || node.run(&["status"]).status.success());
    let unit = "test -e /etc/systemd/system/srv-kept-tmp.mount";
    assert!(node.holds(unit));
    // The tmpfs leaves the spec.
    let left: Vec<&str> = ALL.lines().filter(|line| !line.contains("/tmp:")).collect();
    let without = left.join("\n") + "\n";
    repository.commit(&[("tiers/t.yaml", &without)]);
    until("its unit is gone", SOON, || !node.holds(unit));
    assert_eq!(mounted(&node, "/srv/kept/tmp", "FSTYPE"), "tmpfs", "what left the spec stays mounted");
    // The others are to be absent.
    let absent: String = ALL.replace('}', ", absent: true}");
    repository.commit(&[("tiers/t.yaml", &absent)]);
    for at in ["/srv/kept/bind", "/srv/kept/tmp", "/srv/kept/image"] {
        until("unmounted", SOON, || mounted(&node, at, "FSTYPE").is_empty());
    }
    until("no unit is left", SOON, || !node.holds("ls /etc/systemd/system/srv-kept-*.mount"));
    assert!(node.holds("test -e /srv/from/seen"));
}

#[test]
fn a_busy_mount_is_not_torn_from_under_its_user() {
    let node = node();
    let absent: String = ALL.replace('}', ", absent: true}");
    let (repository, config) = repository(&node, ALL);
    let _agent = node.agent(&config);
    until("even", SOON, || node.run(&["status"]).status.success());
    let mut user = node
        .command("sh")
        .args(["-c", "cd /srv/kept/tmp && touch in-use && exec sleep 600"])
        .spawn()
        .unwrap();
    until("it is in use", SOON, || node.holds("test -e /srv/kept/tmp/in-use"));
    repository.commit(&[("tiers/t.yaml", &absent)]);
    until("it is told", SOON, || item(&node, "mount//srv/kept/tmp").0 == "error");
    assert!(
        item(&node, "mount//srv/kept/tmp").1.contains("busy"),
        "{:?}",
        item(&node, "mount//srv/kept/tmp")
    );
    assert!(node.holds("test -e /srv/kept/tmp/in-use"));
    user.kill().unwrap();
    user.wait().unwrap();
}

#[test]
fn a_source_that_is_not_there_yet_is_waited_for() {
    let node = node();
    node.sh("mv /srv/from /srv/later");
    let (repository, _) = repository(&node, ALL);
    let apply = ["apply", "--spec", repository.path.to_str().unwrap(), "--node", "n1"];
    let out = node.run(&apply);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out));
    assert!(
        text(&out).contains("pending mount//srv/kept/bind") && text(&out).contains("/srv/from is not there"),
        "{}",
        text(&out)
    );
    node.sh("mv /srv/later /srv/from");
    let out = node.run(&apply);
    assert!(out.status.success(), "{}", text(&out));
    assert!(node.holds("test -e /srv/kept/bind/seen"));
}

#[test]
fn a_mount_point_behind_a_symlink_is_the_place_it_leads_to() {
    let node = node();
    node.sh("mkdir -p '/srv/real place' && ln -s '/srv/real place' /srv/link");
    let tier = "version: 1\nmount:\n  /srv/link/in: {source: tmpfs, type: tmpfs, options: [size=1m]}\n";
    let (repository, _) = repository(&node, tier);
    let apply = ["apply", "--spec", repository.path.to_str().unwrap(), "--node", "n1"];
    let out = node.run(&apply);
    assert!(out.status.success(), "{}", text(&out));
    assert!(node.sh("cat /proc/self/mountinfo").contains(r" /srv/real\040place/in "));
    assert!(node.holds(r"test -e '/etc/systemd/system/srv-real\x20place-in.mount'"));
    let again = node.run(&apply);
    assert!(again.status.success() && text(&again).starts_with("1 compliant"), "{}", text(&again));
    assert_eq!(node.sh("grep -c real.040place /proc/self/mountinfo").trim(), "1");
}

#[test]
fn files_that_a_mount_hides_are_named_until_somebody_moves_them() {
    let node = node();
    node.sh("mkdir -p /srv/kept/tmp && cd /srv/kept/tmp && touch applications.db photo-1.jpg photo-2.jpg");
    let tier = "version: 1
mount:
  /srv/kept/tmp: {source: tmpfs, type: tmpfs, below: report, health: {write: true, every: 1s}}
";
    let (_repository, config) = repository(&node, tier);
    let _agent = node.agent(&config);
    let id = "mount//srv/kept/tmp";
    until("it is told", SOON, || item(&node, id).0 == "non_compliant");
    assert_eq!(mounted(&node, "/srv/kept/tmp", "FSTYPE"), "tmpfs", "it is mounted all the same");
    let reason = item(&node, id).1;
    let named = "3 files and folders in /srv/kept/tmp itself (applications.db, photo-1.jpg, photo-2.jpg)";
    assert!(reason.contains(named), "{reason}");
    node.sh("mkdir /srv/door && mount --bind /srv /srv/door && mv /srv/door/kept/tmp/* /srv/from && umount /srv/door");
    until("even", SOON, || node.run(&["status"]).status.success());
}

#[test]
fn the_layers_of_a_mount_are_told_in_order() {
    let node = node();
    let tier = "version: 1
mount:
  /srv/kept/bind: {source: /srv/from, type: bind, health: {within: 1s}, below: report}
";
    let (_repository, config) = repository(&node, tier);
    node.sh("echo '/srv/other /srv/kept/bind none bind 0 0' >> /etc/fstab");
    let _agent = node.agent(&config);
    until("it is told", SOON, || item(&node, "mount//srv/kept/bind").1.contains("/etc/fstab:"));
    let out = node.run(&["explain", "mount//srv/kept/bind"]);
    let told = text(&out);
    let at: Vec<Option<usize>> =
        ["/etc/fstab:", "srv-kept-bind.mount", "mount table", "answers in", "0 files"]
            .map(|word| told.find(word))
            .to_vec();
    assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{at:?}\n{told}");
}
