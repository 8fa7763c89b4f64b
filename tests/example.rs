//! The example repository: it is good without a warning, and its nodes come to what its files say.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::process::Command;
use support::text;

const EDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/eden");

fn evenkeel(args: &[&str]) -> String {
    let out = Command::new(support::EVENKEEL).args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", text(&out));
    text(&out)
}

fn render(node: &str) -> String {
    evenkeel(&["render", node, "--spec", EDEN])
}

#[test]
fn it_is_good_without_a_warning() {
    let told = evenkeel(&["validate", EDEN]);
    assert!(told.contains("are good") && !told.contains("warning"), "{told}");
}

#[test]
fn the_standby_differs_from_its_tier_where_its_file_says_so() {
    let (primary, standby) = (render("db1"), render("db2"));
    assert!(primary.contains("listen_addresses: \"localhost,10.20.0.10\""), "{primary}");
    assert!(standby.contains("listen_addresses: \"localhost,10.20.0.11\""), "{standby}");
    assert!(primary.contains("max_connections: 40") && standby.contains("max_connections: 40"), "{standby}");
    assert!(standby.contains("nodes/db2.yaml"), "who says so is told: {standby}");
    let told = evenkeel(&["explain", "sysctl/vm.swappiness", "--node", "db2", "--spec", EDEN]);
    assert!(told.contains("nodes/db2.yaml") && told.contains("tiers/db.yaml"), "{told}");
}

#[test]
fn every_middleware_node_has_the_six_shares_and_web_servers_only_read() {
    for node in ["mw1", "mw2"] {
        let middleware = render(node);
        assert_eq!(middleware.matches("type: nfs4").count(), 6, "{middleware}");
        assert!(middleware.contains("from: files/uwsgi.ini"), "{middleware}");
    }
    let web = render("web7");
    assert_eq!(web.matches("type: nfs4").count(), 2, "{web}");
    assert_eq!(web.matches("options: [ro, ").count(), 2, "{web}");
    assert!(web.contains("net.ipv4.tcp_keepalive_time: 60"), "{web}");
}

#[test]
fn the_first_middleware_node_takes_its_fonts_from_nobody() {
    assert!(render("mw2").contains("from: fonts@10.20.1.11:/fonts"));
    let own = render("mw1");
    let at = own.find("static/fonts:").unwrap();
    assert!(own[at..].lines().nth(1).unwrap().trim().starts_with("absent: true"), "{own}");
}
