//! What people are told of a path: every layer down to the live connection, what this agent may not do, what the router
//! really remembers, and what becomes of a database that is reached through SQL alone.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use serde_json::Value;
use std::time::Duration;
use support::lab::{Lab, PROMPT, eventually};
use support::{Node, postgres_version, text};

/// A spec with one path, and with more lines below it and in the middleware's tier.
fn path(lab: &Lab, to: &str, idle: &str, more: &str, mw: &str) {
    let fleet = format!(
        "version: 1\nfleet: lab\nnodes:\n  mw: {{tier: mw}}\n  db: {{tier: db}}\npaths:\n  database:\n    from: {{tier: mw}}\n    \
         to: {{{to}, port: 5432}}\n    idle_timeout: {idle}\n    blackout_at_most: 3s\n{more}"
    );
    let mw = format!("version: 1\n{mw}");
    lab.spec.commit(&[("fleet.yaml", &fleet), ("tiers/mw.yaml", &mw)]);
}

/// What a command says of an item, in JSON.
fn item(node: &Node, args: &[&str], id: &str) -> Option<Value> {
    let out = node.run(args);
    let told: Value = serde_json::from_slice(&out.stdout).ok()?;
    told["items"].as_array()?.iter().find(|item| item["id"] == id).cloned()
}

#[test]
fn both_ends_tell_what_a_hub_compares() {
    let lab = Lab::new();
    path(&lab, "tier: db", "10s", "    connections: 12\n", "");
    let (mw, db) = (lab.agent_on_mw(), lab.agent_on_db());
    let fact = |name: &str, value: &str| format!("\"{name}\":\"{value}\"");
    let server = lab.sql("select reset_val from pg_settings where name = 'tcp_keepalives_idle'");
    let most: u32 = lab.sql("show max_connections").parse().unwrap();
    let reserved: u32 = lab.sql("show superuser_reserved_connections").parse().unwrap();
    let room = fact("connections", &(most - reserved).to_string());
    eventually("the server's room is told", PROMPT, || {
        lab.db.told(&["\"id\":\"postgresql/", &room, &fact("port", "5432")]).is_some()
    });
    eventually("the server's keepalive in force is told", PROMPT, || {
        let now = lab.sql("select reset_val from pg_settings where name = 'tcp_keepalives_idle'");
        now != server && lab.db.told(&[&fact("tcp_keepalives_idle", &now)]).is_some()
    });
    let client =
        ["\"id\":\"socket/database/client\"", &fact("connections", "12"), &fact("idle_timeout_ms", "10000")];
    eventually("the client's end is told", PROMPT, || lab.mw.told(&client).is_some());
    eventually("the client's kernel is told", PROMPT, || {
        let now = lab.mw.sysctl("net.ipv4.tcp_keepalive_time");
        now != "7200" && lab.mw.told(&["sysctl/net.ipv4.tcp_keepalive_time", &fact("kernel", &now)]).is_some()
    });
    drop((mw, db));
}

#[test]
fn explain_goes_from_the_arithmetic_down_to_the_live_connection() {
    let lab = Lab::new();
    lab.promise("report");
    let pool = lab.pool();
    let (bare, _late) = (pool.open_one("keepalives=0"), pool.open_one(""));
    let spec = lab.spec.path.to_str().unwrap().to_owned();
    let explain = |node: &Node, name: &str, item: &str| {
        let mut command = node.evenkeel(&["explain", item, "--spec", &spec]);
        let out = command.env("EVENKEEL_NODE", name).output().unwrap();
        assert!(out.status.success(), "{}", text(&out));
        String::from_utf8(out.stdout).unwrap()
    };
    let path = explain(&lab.mw, "mw", "path/database");
    assert!(path.contains("longest silence") && path.contains("= max(1 s, 1 s) × 9/8"), "{path}");
    let client = explain(&lab.mw, "mw", "socket/database/client");
    assert!(client.contains("2 open") && client.contains("2 unprotected, 0 stuck"), "{client}");
    let line = client.lines().find(|line| line.contains(&format!(":{} - ", bare.port))).unwrap();
    assert!(
        line.contains("python3[") && line.contains("no timer") && line.contains("no keepalive timer"),
        "{line}"
    );
    assert!(client.contains("a keepalive timer that comes too late"), "{client}");

    let setting = format!("postgresql/{}/test/settings/tcp_keepalives_idle", postgres_version());
    lab.sql("alter system set tcp_keepalives_idle = 7000");
    lab.sql("alter role postgres set tcp_keepalives_idle = 6000");
    let server = explain(&lab.db, "db", &setting);
    for part in ["postgresql.auto.conf", "7000", "role postgres", "6000", &format!("10.77.1.2:{}", bare.port)]
    {
        assert!(server.contains(part), "{part}\n{server}");
    }
    // Armed before all of that, and not looked at again since.
    let line = server.lines().find(|line| line.contains(&format!(":{}", bare.port))).unwrap();
    assert!(line.contains("keepalive"), "{line}");
}

#[test]
fn an_agent_without_the_rights_says_so_and_does_what_it_may() {
    let lab = Lab::new();
    lab.promise("free");
    let pool = lab.pool();
    let bare = pool.open_one("keepalives=0");
    let spec = lab.spec.path.to_str().unwrap().to_owned();
    let apply = |without: &str| {
        let caps = if without.is_empty() { "-sys_module" } else { without };
        let mut command = lab.mw.command("setpriv");
        command.args([
            &format!("--bounding-set={caps}"),
            &format!("--inh-caps={caps}"),
            "--",
            support::EVENKEEL,
        ]);
        let out = command
            .args(["apply", "--spec", &spec, "--format", "json"])
            .env("EVENKEEL_NODE", "mw")
            .output()
            .unwrap();
        let told: Value =
            serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}\n{}", text(&out)));
        told["items"].as_array().unwrap().clone()
    };
    let of = |items: &[Value], id: &str| items.iter().find(|item| item["id"] == id).unwrap().clone();
    let items = apply("-sys_ptrace,-net_admin,-sys_admin");
    let socket = of(&items, "socket/database/client");
    assert_eq!(socket["status"], "not_applicable", "{socket}");
    assert!(socket["reason"].as_str().unwrap().contains("CAP_SYS_PTRACE"), "{socket}");
    assert_eq!(lab.mw.socket(bare.port).timer, "none");
    // Root may set the kernel's parameters without any capability.
    assert_eq!(of(&items, "sysctl/net.ipv4.tcp_keepalive_time")["status"], "repaired");
    let socket = of(&apply(""), "socket/database/client");
    assert_eq!(socket["status"], "repaired", "{socket}");
    assert!(lab.mw.at_rest(bare.port).is_kept_alive());
}

#[test]
fn a_router_that_forgets_sooner_than_the_spec_says_is_found_out() {
    let lab = Lab::new();
    let probe = "    live: retune\n    probe: {every: daily, user: postgres}\n";
    path(&lab, "tier: db", "8s", probe, "");
    let pool = lab.pool();
    let _one = pool.open_one("");
    let agent = lab.agent_on_mw();
    // Silent for 8 s, asked for 7 s, and all of it again, because a packet may get lost.
    eventually("it is measured and told", Duration::from_secs(100), || {
        let found = item(&lab.mw, &["status", "--format", "json"], "socket/database/client");
        found.is_some_and(|item| {
            let reason = item["reason"].as_str().unwrap_or_default();
            item["status"] == "non_compliant" && reason.contains("sooner than the 8s that the spec says")
        })
    });
    drop(agent);
}

#[test]
fn a_database_that_is_no_node_has_its_promise_through_sql() {
    let lab = Lab::new();
    lab.sql("create role eden login");
    lab.sql("create database eden owner eden");
    lab.sql("alter role eden set tcp_keepalives_idle = 0");
    let managed =
        "postgresql:\n  managed:\n    server: {host: 10.77.2.2, user: eden, database: eden, tls: \"off\"}\n";
    path(&lab, "addresses: [10.77.2.2]", "5s", "    live: free\n", managed);
    let agent = lab.agent_on_mw();
    let own = || {
        lab.sql(
            "select coalesce(string_agg(array_to_string(setconfig, ' '), ' '), '') from pg_db_role_setting",
        )
    };
    eventually("what the role may set is set, and what shadowed it is gone", Duration::from_secs(20), || {
        own().contains("tcp_keepalives_idle=1") && !own().contains("tcp_keepalives_idle=0")
    });
    let pool = lab.pool();
    let one = pool.open_one("user=eden dbname=eden");
    eventually("a new session has it", PROMPT, || lab.db.socket(one.port).is_kept_alive());
    drop(agent);
}
