//! A real primary and its real standby: how they replicate is told, `primary_conninfo` is read and never edited, nobody
//! is promoted, nothing is restarted.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use serde_json::Value;
use std::process::{Child, Command};
use std::time::Duration;
use support::{FLEET, Node, Repository, postgres_version, text, until};

const PRIMARY: u16 = 5499;
const STANDBY: u16 = 5498;
const CANARY: &str = "canary-b2d0";

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// A standby of the cluster `test`, made by `pg_basebackup` with a slot of its own.
fn standby(node: &Node) -> Running {
    let version = postgres_version();
    let data = format!("/var/lib/postgresql/{version}/standby");
    node.sh(&format!(
        "pg_createcluster --port {STANDBY} {version} standby -- --auth-local=peer -N >/dev/null
         rm -rf {data}
         setpriv --reuid=postgres --regid=postgres --init-groups -- \\
           pg_basebackup -h /run/postgresql -p {PRIMARY} -D {data} -R -C -S standby -c fast"
    ));
    Running(node.start_named("standby", STANDBY))
}

fn tier(cluster: &str) -> String {
    format!(
        "version: 1
postgresql:
  {cluster}:
    settings: {{tcp_keepalives_idle: 29s, tcp_keepalives_interval: 8s}}
    promised: {{tcp_keepalives_idle: reset}}
    path: {{idle_timeout: 350s, blackout_at_most: 60s}}
"
    )
}

struct Spec<'a> {
    node: &'a Node,
    folder: String,
}

impl Spec<'_> {
    fn apply(&self) -> (i32, Value, String) {
        let out = self.node.run(&["apply", "--spec", &self.folder, "--node", "n1", "--format", "json"]);
        let said = text(&out);
        assert!(!said.contains(CANARY), "{said}");
        let report = serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        (out.status.code().unwrap(), report, said)
    }
}

fn spec<'a>(node: &'a Node, name: &str, cluster: &str) -> Spec<'a> {
    let folder = node.dir.path().join(name);
    Repository::new(&folder, &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier(cluster))]);
    Spec { node, folder: folder.to_str().unwrap().to_owned() }
}

#[test]
fn a_standby_keeps_its_files_and_tells_how_it_replicates() {
    let node = Node::new();
    let primary = node.postgres();
    node.sql("create role sahana");
    let running = standby(&node);
    let version = postgres_version();
    let started = node.sql_in("postgres", STANDBY, "select pg_postmaster_start_time()");
    until("it streams", Duration::from_secs(20), || {
        node.sql("select state from pg_stat_replication") == "streaming"
    });

    // The same file on both; an override comes from the primary.
    node.sql("alter role sahana set tcp_keepalives_idle = 0");
    until("the override is replayed", Duration::from_secs(10), || {
        node.sql_in("postgres", STANDBY, "select count(*) from pg_db_role_setting") == "1"
    });
    let on_standby = spec(&node, "on-standby", &format!("{version}/standby"));
    let (code, _, said) = on_standby.apply();
    assert!(code == 2 && said.contains("roles/sahana/tcp_keepalives_idle: this is a standby"), "{said}");
    let idle = node.sql_in(
        "postgres",
        STANDBY,
        "select reset_val from pg_settings where name = 'tcp_keepalives_idle'",
    );
    assert_eq!(idle, "29", "{said}");
    let on_primary = spec(&node, "on-primary", &primary.cluster);
    let (code, _, said) = on_primary.apply();
    assert!(code == 0 && said.contains("roles/sahana/tcp_keepalives_idle"), "{said}");
    assert_eq!(node.sql("select count(*) from pg_db_role_setting"), "0");
    until("the standby is even too", Duration::from_secs(10), || on_standby.apply().0 == 0);

    // A link that is kept badly: named, with what to write; the file stays as it was.
    let conninfo =
        format!("user=postgres password={CANARY} host=/run/postgresql port={PRIMARY} keepalives_idle=7200");
    node.sql_in("postgres", STANDBY, &format!("alter system set primary_conninfo = '{conninfo}'"));
    node.sql_in("postgres", STANDBY, "select pg_reload_conf()");
    let auto = format!("/var/lib/postgresql/{version}/standby/postgresql.auto.conf");
    let before = node.sh(&format!("cat {auto}"));
    until("the link is told", Duration::from_secs(10), || {
        let (code, _, said) = on_standby.apply();
        code == 2 && said.contains("primary_conninfo says keepalives_idle=7200")
    });
    let (_, _, said) = on_standby.apply();
    assert!(said.contains("write keepalives=1 keepalives_idle=29 keepalives_interval=8 into it"), "{said}");
    assert_eq!(node.sh(&format!("cat {auto}")), before);

    // The bound of the path holds for the link too.
    node.sql_in("postgres", STANDBY, "alter system set wal_receiver_timeout = 0");
    node.sql_in("postgres", STANDBY, "select pg_reload_conf()");
    until("a link that hangs for ever is told", Duration::from_secs(10), || {
        on_standby.apply().2.contains("wal_receiver_timeout is 0ms")
    });
    node.sql("alter system set wal_sender_timeout = '5min'");
    node.sql("select pg_reload_conf()");
    until("on the primary too", Duration::from_secs(10), || {
        on_primary.apply().2.contains("wal_sender_timeout is 300000ms")
    });
    node.sql_in("postgres", STANDBY, "alter system reset wal_receiver_timeout");
    let still = format!("user=postgres host=/run/postgresql port={PRIMARY}");
    node.sql_in("postgres", STANDBY, &format!("alter system set primary_conninfo = '{still}'"));
    node.sql_in("postgres", STANDBY, "select pg_reload_conf()");
    until("it streams again", Duration::from_secs(20), || on_standby.apply().0 == 0);

    drop(primary);
    until("that it does not stream is told", Duration::from_secs(20), || {
        on_standby.apply().2.contains("not streaming from /run/postgresql")
    });
    let state = node.sql_in("postgres", STANDBY, "select pg_is_in_recovery(), pg_postmaster_start_time()");
    assert_eq!(state, format!("t|{started}"), "neither promoted nor restarted");
    drop(running);
}

#[test]
fn a_standby_that_is_away_is_told_by_its_primary() {
    let node = Node::new();
    let primary = node.postgres();
    let running = standby(&node);
    until("it streams", Duration::from_secs(20), || {
        node.sql("select state from pg_stat_replication") == "streaming"
    });
    let on_primary = spec(&node, "on-primary", &primary.cluster);
    assert_eq!(on_primary.apply().0, 0);
    drop(running);
    until("its slot is idle", Duration::from_secs(10), || {
        let (code, _, said) = on_primary.apply();
        code == 0 && said.contains("replication slot standby is used by nobody")
    });
    drop(primary);
}
