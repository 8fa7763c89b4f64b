//! Random starting nodes: some of what the kinds look at is there, some is off, some was left by a pass before.

use evenkeel_core::fake::FakeNode;
use proptest::prelude::*;
use std::path::PathBuf;

/// A part of a node: each is added or not.
type Part = fn(&mut FakeNode);

fn file(node: &mut FakeNode, path: &str, text: &str) {
    node.files.insert(PathBuf::from(path), text.to_owned());
}

fn sysctl(node: &mut FakeNode, key: &str, value: &str) {
    if let Ok(key) = key.parse() {
        node.sysctls.insert(key, value.to_owned());
    }
}

/// A node as a distribution installs it, with nothing of ours.
pub fn bare() -> FakeNode {
    let mut node = FakeNode::default();
    for (key, value) in [
        ("net.ipv4.tcp_keepalive_time", "7200"),
        ("net.ipv4.tcp_retries2", "15"),
        ("net.ipv4.tcp_rmem", "4096\t131072\t4194304"),
        ("net.core.somaxconn", "128"),
        ("vm.swappiness", "60"),
        ("vm.laptop_mode", "0"),
    ] {
        sysctl(&mut node, key, value);
    }
    node
}

const PARTS: &[Part] = &[
    |node| node.systemd = true,
    // The kernel's parameters.
    |node| sysctl(node, "net.ipv4.tcp_keepalive_time", "60"),
    |node| sysctl(node, "net.ipv4.tcp_rmem", "4096 131072\t6291456"),
    |node| sysctl(node, "net.core.somaxconn", "4096"),
    |node| sysctl(node, "vm.swappiness", "0"),
    |node| {
        node.sysctls.remove(&"net.ipv4.tcp_retries2".parse().unwrap());
    },
    |node| {
        node.unreadable.insert("net.ipv4.tcp_retries2".parse().unwrap());
    },
    |node| file(node, "/etc/sysctl.conf", "vm.swappiness = 3\nvm.laptop_mode = 5\n"),
    |node| {
        node.links.insert("/etc/sysctl.d/99-sysctl.conf".into(), "/etc/sysctl.conf".into());
    },
    |node| file(node, "/usr/lib/sysctl.d/50-default.conf", "net.core.somaxconn = 8192\nvm.laptop_mode = 2\n"),
    |node| file(node, "/etc/sysctl.d/99-zz.conf", "-net.ipv4.tcp_retries2\nnet.core.* = 1\n"),
    |node| file(node, "/etc/sysctl.d/99-evenkeel.conf", "somebody's own\n"),
    |node| {
        let text =
            format!("{}\nnet.ipv4.tcp_keepalive_time = 55\nvm.laptop_mode = 1\n", evenkeel_kinds::MARKER);
        file(node, "/etc/sysctl.d/99-evenkeel.conf", &text);
    },
    |node| {
        let text =
            format!("{}\n# mine\nnet.core.somaxconn = 2048\nvm.swappiness=4\n", evenkeel_kinds::MARKER);
        file(node, "/etc/sysctl.d/99-evenkeel.conf", &text);
    },
];

/// Any node.
pub fn any_node() -> impl Strategy<Value = FakeNode> {
    proptest::collection::vec(any::<bool>(), PARTS.len()).prop_map(|there| {
        let mut node = bare();
        PARTS.iter().zip(there).filter(|(_, there)| *there).for_each(|(part, _)| part(&mut node));
        node.loaded = loaded(&node);
        node
    })
}

fn loaded(node: &FakeNode) -> std::collections::BTreeMap<String, String> {
    let units = node.files.iter().filter_map(|(path, text)| {
        let name = path.strip_prefix("/etc/systemd/system").ok()?.to_str()?;
        (!name.contains('/')).then(|| (name.to_owned(), text.clone()))
    });
    units.collect()
}
