//! Who says what of a parameter: every layer in its order, and which one a new session gets.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::goal;
use evenkeel_core::fake::FakeNode;
use evenkeel_core::{Mode, PgBackend, SocketId, SocketSeen, SocketTimer};
use evenkeel_kinds::KINDS;
use std::path::PathBuf;

fn told(node: &FakeNode, section: &str, path: &str) -> Vec<String> {
    let kind = KINDS.iter().find(|kind| kind.name() == "postgresql").unwrap();
    let goal = goal(*kind, section, Mode::Enforce);
    let name = goal.items().keys().next().unwrap().clone();
    let rows = goal.witness(&name, path, node).unwrap();
    assert!(rows.iter().filter(|row| row.won).count() <= rows.len().min(5));
    let row = |row: &evenkeel_core::Witness| {
        let mark = if row.won { "*" } else { " " };
        format!(
            "{mark} {} | {} | {} | {}",
            row.layer,
            row.place,
            row.value,
            row.note.as_deref().unwrap_or("")
        )
    };
    rows.iter().map(row).collect()
}

const NODE: &str = "
files:
  /etc/postgresql/13/main/postgresql.conf: |
    tcp_keepalives_idle = 100
    include_dir = 'conf.d'
  /etc/postgresql/13/main/conf.d/50-x.conf: |
    tcp_keepalives_idle = 200
  /etc/postgresql/13/main/conf.d/99-evenkeel.conf: |
    # evenkeel owns this file and replaces it whole. Change the fleet's spec, not this.
    tcp_keepalives_idle = '29s'
  /var/lib/postgresql/13/main/postmaster.pid: |
    812
    /var/lib/postgresql/13/main
    1700000000
    5432
    /var/run/postgresql

      5432001  0
    ready
servers:
  13/main:
    settings:
      tcp_keepalives_idle: {vartype: integer, unit: s, value: \"29\", source: configuration file}
      tcp_user_timeout: {vartype: integer, unit: ms, value: \"0\"}
      max_connections: {vartype: integer, context: postmaster, value: \"100\", pending_restart: true}
";

const WANT: &str = "13/main: {settings: {tcp_keepalives_idle: 29s}, promised: {tcp_user_timeout: reset}}";

fn node(more: &str) -> FakeNode {
    common::node::read(&format!("{NODE}{more}"))
}

#[test]
fn files_are_told_in_the_servers_order_and_the_last_wins() {
    assert_eq!(
        told(&node(""), WANT, "settings/tcp_keepalives_idle"),
        [
            "  postgresql.conf | /etc/postgresql/13/main/postgresql.conf:1 | 100 | loses to /etc/postgresql/13/main/conf.d/99-evenkeel.conf:2",
            "  50-x.conf | /etc/postgresql/13/main/conf.d/50-x.conf:1 | 200 | loses to /etc/postgresql/13/main/conf.d/99-evenkeel.conf:2",
            "* 99-evenkeel.conf | /etc/postgresql/13/main/conf.d/99-evenkeel.conf:2 | 29s | wins",
        ]
    );
    let all = told(&node(""), WANT, "");
    assert_eq!(all.last().unwrap(), "* default | PostgreSQL 13/main | tcp_user_timeout = 0ms | wins");
    assert!(all[2].contains("| tcp_keepalives_idle = 29s |"), "{all:?}");
    assert_eq!(told(&node(""), WANT, "settings/no_such_thing"), [""; 0]);
}

#[test]
fn alter_system_the_command_line_and_what_is_unread_are_told_as_such() {
    let auto = PathBuf::from("/var/lib/postgresql/13/main/postgresql.auto.conf");
    let mut unread = node("");
    unread.files.insert(auto.clone(), "tcp_keepalives_idle = '7200'\n".into());
    let all = told(&unread, WANT, "settings/tcp_keepalives_idle");
    assert_eq!(
        all[3..],
        [
            "  postgresql.auto.conf | /var/lib/postgresql/13/main/postgresql.auto.conf:1 | 7200 | not read yet",
            "* server | PostgreSQL 13/main | 29s | wins"
        ]
    );
    let setting = |node: &mut FakeNode, value: &str, source: &str| {
        let held = node.servers.get_mut("13/main").unwrap().settings.get_mut("tcp_keepalives_idle").unwrap();
        (held.reset_val, held.source) = (value.into(), source.into());
    };
    let mut read = unread.clone();
    setting(&mut read, "7200", "configuration file");
    let all = told(&read, WANT, "settings/tcp_keepalives_idle");
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(
        all[3].starts_with("* postgresql.auto.conf |")
            && all[2].ends_with("loses to /var/lib/postgresql/13/main/postgresql.auto.conf:1"),
        "{all:?}"
    );
    setting(&mut read, "400", "command line");
    let all = told(&read, WANT, "settings/tcp_keepalives_idle");
    assert!(all[4].starts_with("* command line | PostgreSQL 13/main | 400s | wins"), "{all:?}");
    assert_eq!(all.iter().filter(|row| row.starts_with('*')).count(), 1);
    let mut restart = node("");
    restart.files.insert(auto, "max_connections = 300\n".into());
    let all = told(&restart, WANT, "settings/max_connections");
    assert!(all[0].ends_with("| 300 | needs a restart") && all[1].starts_with("* server"), "{all:?}");
}

#[test]
fn overrides_come_after_the_server_in_the_order_they_are_applied() {
    let node = node(
        "    overrides:
      - {role: sahana, database: eden, setting: tcp_keepalives_idle, value: \"4\"}
      - {role: sahana, setting: tcp_keepalives_idle, value: \"3\"}
      - {database: eden, setting: tcp_keepalives_idle, value: \"2\"}
",
    );
    let all = told(&node, WANT, "settings/tcp_keepalives_idle");
    assert_eq!(
        all[2..],
        [
            "* 99-evenkeel.conf | /etc/postgresql/13/main/conf.d/99-evenkeel.conf:2 | 29s | wins",
            "  database eden | ALTER DATABASE eden SET tcp_keepalives_idle | 2 | wins in new sessions of database eden",
            "  role sahana | ALTER ROLE sahana SET tcp_keepalives_idle | 3 | wins in new sessions of role sahana",
            "  role sahana in database eden | ALTER ROLE sahana IN DATABASE eden SET tcp_keepalives_idle | 4 | wins in new sessions of role sahana in database eden",
        ]
    );
}

#[test]
fn every_role_is_everybody() {
    let all = told(
        &node("    overrides: [{setting: tcp_keepalives_idle, value: \"0\"}]\n"),
        WANT,
        "settings/tcp_keepalives_idle",
    );
    assert_eq!(
        all[3],
        "* every role | ALTER ROLE ALL SET tcp_keepalives_idle | 0 | wins in every new session"
    );
    assert!(all[2].ends_with("loses to ALTER ROLE ALL SET tcp_keepalives_idle"), "{all:?}");
}

fn backend(pid: i32, port: u16, state: &str) -> PgBackend {
    PgBackend {
        pid,
        user: "sahana".into(),
        database: "eden".into(),
        application: "web2py".into(),
        address: "10.20.0.5".into(),
        port,
        state: state.into(),
    }
}

fn socket(peer: &str, timer: SocketTimer, expires_ms: u32) -> SocketSeen {
    let id = SocketId {
        netns: 0,
        local: "[::ffff:10.20.0.10]:5432".parse().unwrap(),
        remote: peer.parse().unwrap(),
        cookie: 1,
    };
    SocketSeen {
        id,
        timer,
        expires_ms,
        retransmits: 0,
        probes: 0,
        rto_ms: 200,
        unacked: 0,
        last_data_recv_ms: 0,
        last_ack_recv_ms: 0,
        uid: 101,
        owner: None,
    }
}

#[test]
fn sessions_that_are_open_are_told_worst_first_with_the_timer_that_the_kernel_has() {
    let mut node = node("");
    let facts = node.servers.get_mut("13/main").unwrap();
    facts.backends = vec![
        backend(7, 4001, "active"),
        backend(8, 4002, "idle"),
        backend(9, 4003, "idle"),
        backend(10, 4004, "idle"),
    ];
    node.sockets = vec![
        socket("10.20.0.5:4001", SocketTimer::Keepalive, 28_900),
        socket("[::ffff:10.20.0.5]:4002", SocketTimer::Keepalive, 7_100_000),
        socket("10.20.0.5:4003", SocketTimer::Off, 0),
    ];
    let all = told(&node, WANT, "settings/tcp_keepalives_idle");
    assert_eq!(
        all[3..],
        [
            "  connection | pid 9, sahana@eden from 10.20.0.5:4003 (web2py), idle | no timer | silent for as long as nobody speaks: nobody would notice that it is dead",
            "  connection | pid 8, sahana@eden from 10.20.0.5:4002 (web2py), idle | next keepalive in 7100.0 s | armed for longer than the 29 s of a new session: it was idle at the last reload and ignores it until its next command, or has said so by SET",
            "  connection | pid 7, sahana@eden from 10.20.0.5:4001 (web2py), active | next keepalive in 28.9 s | ",
            "  connection | pid 10, sahana@eden from 10.20.0.5:4004 (web2py), idle | unknown | its socket was not found",
        ]
    );
    node.powers.see = Err("no netlink here".into());
    let all = told(&node, WANT, "settings/tcp_keepalives_idle");
    assert!(all[3..].iter().all(|row| row.contains("| unknown | no netlink here")), "{all:?}");
    assert!(told(&node, WANT, "settings/max_connections").iter().all(|row| !row.contains("connection |")));
    let facts = node.servers.get_mut("13/main").unwrap();
    facts.backends = (0..60).map(|n| backend(n, 5000 + u16::try_from(n).unwrap(), "idle")).collect();
    let all = told(&node, WANT, "settings/tcp_keepalives_idle");
    assert!(all.len() == 3 + 50 + 1 && all[53].contains("10 more"), "{all:?}");
}

#[test]
fn of_a_server_elsewhere_what_sql_shows_is_told() {
    let read = |source: &str| {
        let text = format!(
            "servers:
  rds:
    refused: [pg_file_settings]
    settings:
      tcp_keepalives_idle: {{vartype: integer, unit: s, value: \"300\", source: {source}}}
    overrides:
      - {{database: eden, setting: tcp_keepalives_idle, value: 29s}}
"
        );
        common::node::read(&text)
    };
    let want = "rds: {server: {host: a, user: b, tls: \"off\"}, settings: {tcp_keepalives_idle: 29s}}";
    let over = "  database eden | ALTER DATABASE eden SET tcp_keepalives_idle | 29s | wins in new sessions of database eden";
    assert_eq!(
        told(&read("configuration file"), want, "settings/tcp_keepalives_idle"),
        ["* configuration file | PostgreSQL rds | 300s | wins", over]
    );
    assert_eq!(
        told(&read("database"), want, "settings/tcp_keepalives_idle"),
        ["* server | PostgreSQL rds | unknown | unknown: our own session has it from its database", over]
    );
    assert_eq!(
        told(&FakeNode::default(), want, "settings/tcp_keepalives_idle"),
        ["* server | PostgreSQL rds | unknown | connect to rds"]
    );
}
