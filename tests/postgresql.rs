//! A real PostgreSQL kept even: the file, the reload, and what the server says; shadows named, nothing restarted.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use serde_json::Value;
use std::time::Duration;
use support::{FLEET, Node, Repository, config, text, until};

fn tier(cluster: &str, more: &str) -> String {
    format!(
        "version: 1
postgresql:
  {cluster}:
    settings:
      tcp_keepalives_idle: 60s
      work_mem: 8MB
{more}"
    )
}

fn reset_val(node: &Node, name: &str) -> String {
    node.sql(&format!("select reset_val from pg_settings where name = '{name}'"))
}

fn item(node: &Node, id: &str) -> Option<Value> {
    let out = node.run(&["status", "--format", "json"]);
    let status: Value = serde_json::from_slice(&out.stdout).ok()?;
    status["items"].as_array()?.iter().find(|item| item["id"] == id).cloned()
}

fn stands(node: &Node, id: &str, status: &str, reason: &str) -> bool {
    item(node, id).is_some_and(|item| {
        item["status"] == status && item["reason"].as_str().unwrap_or("").contains(reason)
    })
}

#[test]
fn settings_come_back_are_shown_pending_and_shadows_are_named() {
    let node = Node::new();
    let postgres = node.postgres();
    let cluster = postgres.cluster.clone();
    let id = format!("postgresql/{cluster}");
    let drop_in = format!("/etc/postgresql/{cluster}/conf.d/99-evenkeel.conf");
    let repository = Repository::new(
        &node.dir.path().join("spec"),
        &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier(&cluster, ""))],
    );
    let started = node.sql("select pg_postmaster_start_time()");
    let agent = node.agent(&config(&repository.source(), "pass_interval: 2s\n"));
    let even = || reset_val(&node, "tcp_keepalives_idle") == "60" && reset_val(&node, "work_mem") == "8192";
    until("in force", Duration::from_secs(15), even);

    node.sh(&format!("rm {drop_in}"));
    node.sql("select pg_reload_conf()");
    until("a removed drop-in comes back, in effect", Duration::from_secs(10), || {
        node.holds(&format!("test -e {drop_in}")) && even()
    });

    node.sql("alter system set tcp_keepalives_idle = 7200");
    until("postgresql.auto.conf is named", Duration::from_secs(10), || {
        stands(&node, &id, "non_compliant", "postgresql.auto.conf")
    });
    node.sql("alter system reset all");
    node.sql("select pg_reload_conf()");
    until("even again", Duration::from_secs(10), || {
        stands(&node, &id, "compliant", "") || stands(&node, &id, "repaired", "")
    });

    node.sql("create role sahana");
    node.sql("alter role sahana set tcp_keepalives_idle = 0");
    until("a role's override is named", Duration::from_secs(10), || {
        stands(&node, &id, "non_compliant", "sahana")
    });
    repository.commit(&[(
        "tiers/t.yaml",
        &tier(
            &cluster,
            "      max_connections: 40\n    roles:\n      sahana: {tcp_keepalives_idle: inherit}\n",
        ),
    )]);
    until("the override is gone", Duration::from_secs(10), || {
        node.sql("select count(*) from pg_db_role_setting") == "0"
    });
    until("what needs a restart is pending", Duration::from_secs(10), || {
        stands(&node, &id, "pending", "restart")
    });
    assert_ne!(reset_val(&node, "max_connections"), "40");
    assert_eq!(node.sql("select pg_postmaster_start_time()"), started, "never restarted");
    drop((agent, postgres));
}

#[test]
fn with_the_server_down_the_file_is_right_and_the_daemon_layer_unknown() {
    let node = Node::new();
    let mut postgres = node.postgres();
    let cluster = postgres.cluster.clone();
    postgres.stop();
    let spec = node.dir.path().join("spec");
    Repository::new(&spec, &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier(&cluster, ""))]);
    let out = node.run(&["apply", "--spec", spec.to_str().unwrap(), "--node", "n1", "--format", "json"]);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out));
    assert!(text(&out).contains("daemon"), "{}", text(&out));
    let written = node.sh(&format!("cat /etc/postgresql/{cluster}/conf.d/99-evenkeel.conf"));
    assert!(written.contains("tcp_keepalives_idle"), "{written}");
    let again = node.start_postgres();
    assert_eq!(reset_val(&node, "tcp_keepalives_idle"), "60", "a start finds the file");
    let out = node.run(&["apply", "--spec", spec.to_str().unwrap(), "--node", "n1"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    let _ = std::process::Command::new("kill").args(["-INT", &again.id().to_string()]).status();
    let mut again = again;
    again.wait().unwrap();
}

#[test]
fn a_value_that_the_server_would_refuse_is_refused_before_a_byte_is_written() {
    let node = Node::new();
    let spec = node.dir.path().join("spec");
    for (setting, word) in [
        ("tcp_keepalives_idle: 40000s", "32767"),
        ("work_mem: 8 parsecs", "work_mem"),
        ("archive_command: rm -rf /", "archive_command"),
        ("shared_preload_libraries: evil", "shared_preload_libraries"),
        ("tcp_keepalives_idel: 60s", "tcp_keepalives_idle"),
        ("autovacuum: maybe", "autovacuum"),
    ] {
        let _ = std::fs::remove_dir_all(&spec);
        let tier = format!("version: 1\npostgresql:\n  15/test:\n    settings:\n      {setting}\n");
        Repository::new(&spec, &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier)]);
        let out = node.run(&["apply", "--spec", spec.to_str().unwrap(), "--node", "n1"]);
        assert_eq!(out.status.code(), Some(1), "{setting}: {}", text(&out));
        let said = text(&out);
        assert!(said.contains("tiers/t.yaml:5") && said.contains(word), "{setting}: {said}");
        assert!(!node.holds("test -e /etc/postgresql/15/test/conf.d/99-evenkeel.conf"));
    }
}

#[test]
fn what_a_path_has_promised_is_taken_back_from_whoever_says_otherwise() {
    let node = Node::new();
    let postgres = node.postgres();
    for statement in [
        "create role sahana",
        "create role reports",
        "create database eden",
        "alter role sahana set tcp_keepalives_idle = 0",
        "alter role sahana in database eden set tcp_keepalives_idle = 7200",
        "alter database eden set tcp_keepalives_idle = 0",
        "alter role all set tcp_keepalives_idle = 3600",
        "alter role reports set tcp_keepalives_idle = 20",
        "alter role reports set work_mem = '16MB'",
    ] {
        node.sql(statement);
    }
    let spec = node.dir.path().join("spec");
    let more =
        "    promised: {tcp_keepalives_idle: reset}\n    roles: {reports: {tcp_keepalives_idle: 20s}}\n";
    let tier = tier(&postgres.cluster, more).replace("      work_mem: 8MB\n", "");
    Repository::new(&spec, &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier)]);
    let out = node.run(&["apply", "--spec", spec.to_str().unwrap(), "--node", "n1", "--format", "json"]);
    let said = text(&out);
    assert_eq!(out.status.code(), Some(0), "{said}");
    for whose in ["roles/sahana/", "roles/sahana@eden/", "databases/eden/", "roles/*/"] {
        assert!(said.contains(&format!("{whose}tcp_keepalives_idle")), "{whose}: {said}");
    }
    let left = "select setrole::regrole || ' ' || array_to_string(setconfig, ' ') from pg_db_role_setting";
    assert_eq!(node.sql(left), "reports tcp_keepalives_idle=20 work_mem=16MB");
    assert_eq!(reset_val(&node, "tcp_keepalives_idle"), "60");
    drop(postgres);
}
