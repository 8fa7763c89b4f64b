//! The test node itself: what happens on it stays on it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use support::Node;

#[test]
fn what_happens_on_a_node_stays_on_it() {
    let here = || std::fs::read_to_string("/proc/sys/net/ipv4/tcp_keepalive_time").unwrap();
    let before = here();
    let node = Node::new();
    node.sh("echo 555 > /proc/sys/net/ipv4/tcp_keepalive_time; touch /etc/evenkeel/here /srv/here; mount -t tmpfs tmpfs /mnt");
    assert_eq!(node.sysctl("net.ipv4.tcp_keepalive_time"), "555");
    assert_eq!(here(), before);
    assert!(
        !std::path::Path::new("/etc/evenkeel/here").exists() && !std::path::Path::new("/srv/here").exists()
    );
    assert!(!node.holds("echo 1 > /proc/sys/vm/swappiness"), "what has no namespace cannot be written");
    assert!(!node.holds("systemctl is-system-running"), "no systemd of the machine's is in reach");
}
