//! A real PostgreSQL that is reached through SQL alone, by a role that is no superuser: what can be repaired is, what
//! cannot is told, and the password is nowhere.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use serde_json::Value;
use std::time::Duration;
use support::{FLEET, Node, Postgres, Repository, config, text, until};

const ID: &str = "postgresql/managed";
/// The password; it must be in its file and in the server, and nowhere else.
const CANARY: &str = "canary-71c4e";

/// An authority, a certificate for `localhost`, and a role that owns one database.
const SETUP: &str = "
    cd /etc/evenkeel
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=db -keyout server.key -out server.csr
    printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' > server.ext
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.pem
    chmod 0755 /etc/evenkeel
    chown postgres server.key
    chmod 0600 server.key
";

fn managed(node: &Node) -> Postgres {
    node.sh(&format!("{{ {SETUP} }} 2>/dev/null"));
    let postgres = node.postgres();
    for statement in [
        "alter system set ssl_cert_file = '/etc/evenkeel/server.pem'",
        "alter system set ssl_key_file = '/etc/evenkeel/server.key'",
        "alter system set ssl = on",
        "set password_encryption = 'scram-sha-256'",
        &format!("create role eden login password '{CANARY}'"),
        "create database eden owner eden",
        "select pg_reload_conf()",
    ] {
        node.sql(statement);
    }
    node.write("/etc/evenkeel/pg.password", &format!("{CANARY}\n"));
    node.sh("chmod 0400 /etc/evenkeel/pg.password");
    postgres
}

fn tier(settings: &str, more: &str) -> String {
    format!(
        "version: 1
postgresql:
  managed:
    server:
      host: localhost
      port: 5499
      user: eden
      database: eden
      password: {{file: /etc/evenkeel/pg.password}}
      ca: /etc/evenkeel/ca.pem
    settings: {settings}
    promised: {{tcp_keepalives_idle: reset}}
{more}"
    )
}

fn item(node: &Node) -> Option<Value> {
    let out = node.run(&["status", "--format", "json"]);
    let status: Value = serde_json::from_slice(&out.stdout).ok()?;
    status["items"].as_array()?.iter().find(|item| item["id"] == ID).cloned()
}

fn stands(node: &Node, status: &str, reason: &str) -> bool {
    item(node).is_some_and(|item| {
        item["status"] == status && item["reason"].as_str().unwrap_or("").contains(reason)
    })
}

/// What a new session over TCP gets, as the application would have it.
fn new_session(node: &Node) -> String {
    let ask = format!(
        "PGPASSWORD={CANARY} psql -XAtq 'host=localhost port=5499 user=eden dbname=eden' -c \
         \"select reset_val from pg_settings where name = 'tcp_keepalives_idle'\""
    );
    node.sh(&ask).trim().to_owned()
}

#[test]
fn what_sql_can_repair_comes_back_and_the_rest_is_the_providers() {
    let node = Node::new();
    let postgres = managed(&node);
    let started = node.sql("select pg_postmaster_start_time()");
    let spec = node.dir.path().join("spec");
    let repository = Repository::new(
        &spec,
        &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier("{tcp_keepalives_idle: 29s, work_mem: 8MB}", ""))],
    );
    // A hub that is away, so that reports stay on the disk.
    let more = "hub: http://127.0.0.1:9\npass_interval: 1s\n";
    let agent = node.agent(&config(&repository.source(), more));
    until("a new session of the application has it", Duration::from_secs(20), || new_session(&node) == "29");
    until("and it is told where the whole server's is to be set", Duration::from_secs(10), || {
        stands(&node, "compliant", "provider's parameter group")
    });
    // Not for every role: nothing but our own database was touched.
    assert_eq!(node.sql("select count(*) from pg_db_role_setting"), "1");

    node.sql("alter database eden set tcp_keepalives_idle = 0");
    until("what somebody says of the database is put right", Duration::from_secs(10), || {
        new_session(&node) == "29"
    });
    node.sql("alter role eden set tcp_keepalives_idle = 0");
    until("a role's own value is taken out", Duration::from_secs(10), || {
        node.sql("select count(*) from pg_db_role_setting where setrole <> 0") == "0"
    });
    assert_eq!(new_session(&node), "29");
    node.sql("create role stranger login");
    node.sql("alter role stranger set tcp_keepalives_idle = 0");
    until("what is not ours to take out is named", Duration::from_secs(10), || {
        stands(
            &node,
            "non_compliant",
            "role stranger has tcp_keepalives_idle = 0 of its own, which is not ours to take out",
        )
    });
    node.sql("drop role stranger");

    repository.commit(&[("tiers/t.yaml", &tier("{tcp_keepalives_idle: 29s, max_connections: 40}", ""))]);
    until("what needs the provider is told with what is there", Duration::from_secs(10), || {
        stands(
            &node,
            "non_compliant",
            "max_connections is 100 and not 40, and is not ours to change: set it in the provider's",
        )
    });

    repository.commit(&[("tiers/t.yaml", &tier("{tcp_keepalives_idle: 31s}", ""))]);
    until("a new value is said", Duration::from_secs(10), || new_session(&node) == "31");
    nowhere(&node, &agent.log());
    assert_eq!(node.sql("select pg_postmaster_start_time()"), started, "never restarted");

    // Its files are out of reach: nothing of ours is beside them.
    let cluster = &postgres.cluster;
    assert!(!node.holds(&format!("test -e /etc/postgresql/{cluster}/conf.d/99-evenkeel.conf")));
    drop((agent, postgres));
}

/// The password is in no file of the agent's, in no log, on no command line, in nothing that it prints.
fn nowhere(node: &Node, log: &str) {
    assert!(!log.contains(CANARY) && log.contains("managed"), "{log}");
    for folder in ["/var/lib/evenkeel", "/run/evenkeel", "/etc/evenkeel/agent.yaml"] {
        assert!(node.holds(&format!("test -n \"$(ls {folder})\"")));
        let found = node.sh(&format!("grep -rl {CANARY} {folder} || true"));
        assert_eq!(found, "", "in {folder}");
    }
    assert!(node.holds("ls /var/lib/evenkeel/spool/* | grep -q ."), "reports wait in the spool");
    for args in [
        &["status", "--all", "--format", "json"][..],
        &["status", "--all"],
        &["plan"],
        &["plan", "--format", "json"],
        &["apply"],
        &["explain", ID],
        &["render", "n1"],
    ] {
        let out = node.run(args);
        assert!(!text(&out).contains(CANARY), "{args:?}: {}", text(&out));
    }
    let lines = node.sh("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' || true");
    let told = lines.lines().filter(|line| line.contains(CANARY)).count();
    assert_eq!(told, 0, "in an argument or an environment");
}

#[test]
fn with_the_right_to_alter_system_the_whole_server_is_kept() {
    let node = Node::new();
    let postgres = managed(&node);
    if support::postgres_version() < 15 {
        return;
    }
    node.sql("grant alter system on parameter tcp_keepalives_idle to eden");
    node.sql_in("eden", 5499, "grant execute on function pg_reload_conf() to eden");
    let spec = node.dir.path().join("spec");
    Repository::new(
        &spec,
        &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier("{tcp_keepalives_idle: 29s}", ""))],
    );
    let apply = || node.run(&["apply", "--spec", spec.to_str().unwrap(), "--node", "n1", "--format", "json"]);
    let out = apply();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    assert!(text(&out).contains("\"status\": \"repaired\""), "{}", text(&out));
    assert_eq!(node.sql("select reset_val from pg_settings where name = 'tcp_keepalives_idle'"), "29");
    assert_eq!(node.sql("select count(*) from pg_db_role_setting"), "0");
    let out = apply();
    assert!(text(&out).contains("\"status\": \"compliant\""), "{}", text(&out));

    // The same with a credential of the unit, as systemd hands it over.
    let credential = tier("{tcp_keepalives_idle: 29s}", "")
        .replace("{file: /etc/evenkeel/pg.password}", "{credential: pg}");
    Repository::new(&node.dir.path().join("other"), &[("fleet.yaml", FLEET), ("tiers/t.yaml", &credential)]);
    let other = node.dir.path().join("other");
    let run = |credentials: bool| {
        let mut command = node.evenkeel(&["apply", "--spec", other.to_str().unwrap(), "--node", "n1"]);
        if credentials {
            command.env("CREDENTIALS_DIRECTORY", "/etc/evenkeel/credentials");
        }
        command.output().unwrap()
    };
    node.sh("install -d -m 0500 /etc/evenkeel/credentials; cp -p /etc/evenkeel/pg.password /etc/evenkeel/credentials/pg");
    let out = run(false);
    assert!(out.status.code() == Some(1) && text(&out).contains("LoadCredential=pg:"), "{}", text(&out));
    let out = run(true);
    assert!(out.status.code() == Some(0) && !text(&out).contains(CANARY), "{}", text(&out));
    drop(postgres);
}

#[test]
fn a_server_that_cannot_be_reached_waits_and_one_that_refuses_us_is_an_error() {
    let node = Node::new();
    let mut postgres = managed(&node);
    let spec = node.dir.path().join("spec");
    Repository::new(
        &spec,
        &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier("{tcp_keepalives_idle: 29s}", ""))],
    );
    let apply = || node.run(&["apply", "--spec", spec.to_str().unwrap(), "--node", "n1"]);
    node.sh("chmod 0644 /etc/evenkeel/pg.password");
    let out = apply();
    assert!(out.status.code() == Some(1) && text(&out).contains("chmod 0600"), "{}", text(&out));
    node.sh("chmod 0400 /etc/evenkeel/pg.password; cp /etc/evenkeel/server.pem /etc/evenkeel/ca.pem");
    let out = apply();
    assert!(out.status.code() == Some(1) && !text(&out).contains(CANARY), "{}", text(&out));
    postgres.stop();
    let out = apply();
    assert!(out.status.code() == Some(2) && text(&out).contains("Connection refused"), "{}", text(&out));
    let mut again = node.start_postgres();
    let _ = std::process::Command::new("kill").args(["-INT", &again.id().to_string()]).status();
    again.wait().unwrap();
}
