//! What must hold between nodes, on every store: who says what where it does not, since when, and that it is kept up to
//! date by reports, over a restart, and by another hub's writes.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::lab::Lab;
use common::stores::{Kind, Where};
use common::{T0, item, report, seq, source};
use evenkeel_hub::config::Overrides;
use evenkeel_hub::store::acts::Act;
use evenkeel_hub::store::registry::{Enrol, NewCertificate, Token};
use evenkeel_report::{Event, Item, Report, Scope, Status, Timestamp};
use serde_json::{Value, json};

on_every_store! {
    a_fact_that_differs_within_a_tier_is_told_with_who_says_what
    what_was_told_is_known_after_a_restart_and_to_another_hub
    a_share_from_another_server_is_told
    keepalives_that_come_too_late_are_told_at_the_end_that_has_them
    a_database_needs_room_for_what_its_clients_may_open_together
    a_node_that_stays_behind_the_newest_commit_is_told_after_an_hour
    a_certificate_that_is_not_renewed_in_time_is_told
    rules_of_ones_own_hold_and_break
}

type Facts<'a> = &'a [(&'a str, &'a str)];

fn with(id: &str, facts: Facts<'_>) -> Item {
    let mut one = item(id, Status::Compliant);
    one.facts = facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    one
}

fn told(name: &str, n: u64, items: &[(&str, Facts<'_>)]) -> Event<Report> {
    let items: Vec<Item> = items.iter().map(|(id, facts)| with(id, facts)).collect();
    report(name, seq(7, n), Scope::Full, items.clone(), &items)
}

/// Where the invariant `name` does not hold.
async fn broken(lab: &Lab, name: &str) -> Value {
    let all = lab.json("/api/v1/invariants").await;
    let one = all["invariants"].as_array().unwrap().iter().find(|one| one["name"] == name);
    one.unwrap_or_else(|| panic!("{name}: {all}"))["broken"].clone()
}

/// In short: tier, item, and each value with how many nodes say it and the first of them.
async fn in_short(lab: &Lab, name: &str) -> Vec<String> {
    let say = |says: &Value| {
        let nodes: Vec<&str> =
            says["nodes"].as_array().unwrap().iter().map(|node| node.as_str().unwrap()).collect();
        format!("{} on {} ({})", says["value"].as_str().unwrap(), nodes.join(" "), says["count"])
    };
    let one = |one: &Value| {
        let says: Vec<String> = one["says"].as_array().unwrap().iter().map(say).collect();
        format!("{}: {}: {}", one["tier"].as_str().unwrap(), one["item"].as_str().unwrap(), says.join("; "))
    };
    broken(lab, name).await.as_array().unwrap().iter().map(one).collect()
}

async fn a_fact_that_differs_within_a_tier_is_told_with_who_says_what(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let uid = |name: &str, n, uid| told(name, n, &[("mount//srv/uploads", &[("owner.uid", uid)])]);
    lab.tell([uid("mw1", 1, "1001"), uid("db1", 1, "7")]).await;
    assert_eq!(broken(&lab, "owner.uid").await, json!([]), "another tier may differ");
    lab.later(5_000);
    lab.tell([uid("mw2", 1, "1005"), uid("mw3", 1, "1001")]).await;
    let since = Timestamp::from_unix_ms(T0 + 5_000).unwrap().to_string();
    let mut found = broken(&lab, "owner.uid").await;
    assert!(found[0]["do"].take().as_str().unwrap().contains("usermod"));
    let differs = json!([{"tier": "middleware", "item": "mount//srv/uploads", "since": since, "do": null, "says": [
        {"value": "1001", "count": 2, "nodes": ["mw1", "mw3"]}, {"value": "1005", "count": 1, "nodes": ["mw2"]}]}]);
    assert_eq!(found, differs);
    assert!(lab.page("/").await.contains("1 invariant does not hold"));
    let page = lab.page("/invariants").await;
    assert!(
        page.contains("<code>1001</code> on mw1, mw3") && page.contains("<code>1005</code> on mw2"),
        "{page}"
    );
    let node = lab.json(&format!("/api/v1/nodes/{}", source("mw1"))).await;
    assert_eq!(node["items"][0]["facts"], json!({"owner.uid": "1001"}));
    assert_eq!(node["digest_ok"], json!(true), "a fact of a compliant item is part of what both sides hash");
    assert!(lab.page("/nodes/mw1").await.contains("owner.uid <code>1001</code>"));
    lab.later(5_000);
    assert_eq!(broken(&lab, "owner.uid").await[0]["since"], json!(since), "since it was first seen");
    lab.tell([uid("mw2", 2, "1001")]).await;
    assert_eq!(broken(&lab, "owner.uid").await, json!([]));
    // An item that is gone says nothing more, and so does a node that has been missing for a day.
    lab.tell([uid("mw2", 3, "1005")]).await;
    assert_eq!(in_short(&lab, "owner.uid").await.len(), 1);
    lab.tell([told("mw2", 4, &[])]).await;
    assert_eq!(broken(&lab, "owner.uid").await, json!([]));
    lab.tell([uid("mw2", 5, "1005")]).await;
    lab.later(25 * 3_600_000);
    lab.tell([uid("mw1", 2, "1001"), uid("mw3", 2, "1001")]).await;
    assert_eq!(broken(&lab, "owner.uid").await, json!([]));
}

async fn what_was_told_is_known_after_a_restart_and_to_another_hub(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let uid =
        |name: &str, n, uid| told(name, n, &[("mount//srv/uploads", &[("owner.uid", uid)]), ("other", &[])]);
    lab.tell([uid("mw1", 1, "1001"), uid("mw2", 1, "1005"), told("mw3", 1, &[])]).await;
    let differs = ["middleware: mount//srv/uploads: 1001 on mw1 (1); 1005 on mw2 (1)"];
    assert_eq!(in_short(&lab, "owner.uid").await, differs);
    let other = Lab::new(&at);
    assert_eq!(in_short(&other, "owner.uid").await, differs);
    assert_eq!(broken(&other, "owner.uid").await[0]["since"], Value::Null, "it was so when this hub came");
    if kind == Kind::Postgres {
        lab.later(5_000);
        lab.tell([uid("mw3", 2, "1007"), told("mw2", 2, &[])]).await;
        let both = "middleware: mount//srv/uploads: 1001 on mw1 (1); 1007 on mw3 (1)";
        other.later(5_000);
        common::lab::until("the other hub has seen it", async || {
            in_short(&other, "owner.uid").await == [both]
        })
        .await;
    }
}

async fn a_share_from_another_server_is_told(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let share = |name: &str, from| told(name, 1, &[("mount//srv/uploads", &[("share.source", from)])]);
    lab.tell([share("mw1", "10.0.0.5:/up"), share("mw2", "10.0.0.6:/up"), share("db1", "10.0.0.7:/up")])
        .await;
    let told = ["middleware: mount//srv/uploads: 10.0.0.5:/up on mw1 (1); 10.0.0.6:/up on mw2 (1)"];
    assert_eq!(in_short(&lab, "share.source").await, told);
}

/// A node at one end of the path `database`, whose kernel has these three numbers.
fn end(name: &str, n: u64, kernel: [&str; 3], more: &[(&str, Facts<'_>)]) -> Event<Report> {
    let side = if name.starts_with("db") { "socket/database/server" } else { "socket/database/client" };
    let path: Facts<'_> =
        &[("idle_timeout_ms", "350000"), ("blackout_ms", "60000"), ("port", "5432"), ("service", "eden")];
    let kernel = kernel.map(|value| [("kernel", value)]);
    let mut items: Vec<(&str, Facts<'_>)> = vec![
        (side, path),
        ("sysctl/net.ipv4.tcp_keepalive_time", &kernel[0]),
        ("sysctl/net.ipv4.tcp_keepalive_intvl", &kernel[1]),
        ("sysctl/net.ipv4.tcp_keepalive_probes", &kernel[2]),
    ];
    items.extend_from_slice(more);
    told(name, n, &items)
}

const GOOD: [&str; 3] = ["29", "8", "3"];
const KERNELS_OWN: [&str; 3] = ["7200", "75", "9"];

async fn keepalives_that_come_too_late_are_told_at_the_end_that_has_them(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let daemon = |idle| {
        [("tcp_keepalives_idle", idle), ("tcp_keepalives_interval", "8"), ("tcp_keepalives_count", "3")]
    };
    let server = |n, idle| end("db1", n, KERNELS_OWN, &[("postgresql/13/main", &daemon(idle))]);
    let service: Facts<'_> =
        &[("keepalives_idle", "29"), ("keepalives_interval", "8"), ("keepalives_count", "3")];
    let client = |n, of: &str| end("mw2", n, KERNELS_OWN, &[(of, service)]);
    lab.tell([end("mw1", 1, GOOD, &[]), server(1, "29"), client(1, "pg_service/eden")]).await;
    assert_eq!(
        in_short(&lab, "path.keepalive").await,
        Vec::<String>::new(),
        "a program's own are over the kernel's"
    );
    // 0 leaves it to the kernel; and the service of another path says nothing of this one.
    lab.tell([server(2, "0"), client(2, "pg_service/other")]).await;
    let late = "silent for up to 8100 s, and the path forgets after 350 s";
    let told = [
        format!(
            "database: path database, server end: postgresql/13/main: a probe after 7200 s of silence, 3 of them 8 s apart: {late} on db1 (1)"
        ),
        format!(
            "middleware: path database, client end: the kernel: a probe after 7200 s of silence, 9 of them 75 s apart: {late} on mw2 (1)"
        ),
    ];
    assert_eq!(in_short(&lab, "path.keepalive").await, told);
    // In time for the router, and too late for whoever waits.
    lab.tell([server(3, "29"), client(3, "pg_service/eden"), end("mw1", 2, ["29", "30", "3"], &[])]).await;
    let told = [
        "middleware: path database, client end: the kernel: a probe after 29 s of silence, 3 of them 30 s apart: a dead peer \
         is given up after up to 133.8 s, and a request may hang for 60 s on mw1 (1)",
    ];
    assert_eq!(in_short(&lab, "path.keepalive").await, told);
    // At the very edge: 311 s and an eighth of it is 349.9 s.
    let edge = |n, time| {
        let mut event = end("mw1", n, [time, "1", "1"], &[]);
        event.data.items[0].facts.remove("blackout_ms");
        event
    };
    lab.tell([edge(3, "311")]).await;
    assert_eq!(in_short(&lab, "path.keepalive").await, Vec::<String>::new());
    lab.tell([edge(4, "312")]).await;
    assert_eq!(in_short(&lab, "path.keepalive").await.len(), 1);
}

async fn a_database_needs_room_for_what_its_clients_may_open_together(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let path = |more: (&'static str, &'static str)| [("idle_timeout_ms", "350000"), ("port", "5432"), more];
    let client =
        |name: &str, each| told(name, 1, &[("socket/database/client", &path(("connections", each)))]);
    let server = |n, room| {
        let cluster = [("connections", room), ("port", "5432")];
        let other = [("connections", "5"), ("port", "5433")];
        let items: [(&str, Facts<'_>); 3] = [
            ("socket/database/server", &path(("x", "y"))),
            ("postgresql/13/main", &cluster),
            ("postgresql/13/b", &other),
        ];
        told("db1", n, &items)
    };
    lab.tell([client("mw1", "40"), client("mw2", "40"), client("mw3", "17"), server(1, "97")]).await;
    assert_eq!(in_short(&lab, "path.connections").await, Vec::<String>::new(), "97 fit into 97");
    lab.tell([server(2, "96")]).await;
    let told = [
        ": path database: up to 17 connections on each node, 97 on all together on mw3 (1); up to 40 connections on each \
         node, 97 on all together on mw1 mw2 (2); room for 96 connections on db1 (1)",
    ];
    assert_eq!(in_short(&lab, "path.connections").await, told);
}

async fn a_node_that_stays_behind_the_newest_commit_is_told_after_an_hour(kind: Kind) {
    const OLD: &str = "1111111111111111";
    const NEW: &str = "2222222222222222";
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let at = |name: &str, n: u64, commit: &str, branch: &str| {
        let mut event = told(name, n, &[]);
        event.data.spec.observed_commit = Some(commit.to_owned());
        event.data.spec.target_commit = Some(commit.to_owned());
        branch.clone_into(&mut event.data.spec.branch);
        event
    };
    let all = |n: u64, mw3: &'static str| {
        [
            at("mw1", n, NEW, "main"),
            at("mw2", n, NEW, "main"),
            at("mw3", n, mw3, "main"),
            at("web1", n, OLD, "canary"),
        ]
    };
    lab.tell([at("mw1", 1, OLD, "main"), at("mw2", 1, OLD, "main"), at("mw3", 1, OLD, "main")]).await;
    assert_eq!(broken(&lab, "spec.age").await, json!([]));
    lab.later(60_000);
    lab.tell(all(2, OLD)).await;
    lab.later(3_600_000);
    lab.tell(all(3, OLD)).await;
    assert_eq!(broken(&lab, "spec.age").await, json!([]), "an hour is not over");
    lab.later(1);
    assert_eq!(in_short(&lab, "spec.age").await, ["middleware: commit 2222222222: 1111111111 on mw3 (1)"]);
    let since = Timestamp::from_unix_ms(T0 + 60_000).unwrap().to_string();
    assert_eq!(broken(&lab, "spec.age").await[0]["since"], json!(since));
    lab.tell(all(4, NEW)).await;
    assert_eq!(broken(&lab, "spec.age").await, json!([]));
    // The branch is set back: what most ask for is the newest, from now on.
    lab.tell([at("mw1", 5, OLD, "main"), at("mw2", 5, OLD, "main")]).await;
    assert_eq!(broken(&lab, "spec.age").await, json!([]));
}

async fn a_certificate_that_is_not_renewed_in_time_is_told(kind: Kind) {
    const DAY: i64 = 86_400_000;
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let registry = std::sync::Arc::clone(&lab.hub.registry);
    let let_in = || {
        let token = Token {
            id: "t".into(),
            hash: "h".into(),
            nodes: "*".into(),
            labels: std::collections::BTreeMap::new(),
            made: T0,
            until: T0 + DAY,
            uses: 9,
            used: 0,
            revoked: false,
        };
        assert!(at.act(Act::AddToken(token)));
        for (node, days) in [("mw1", 30), ("mw2", 40), ("mw3", 30)] {
            let certificate =
                NewCertificate { serial: node.into(), key: node.into(), from: T0, until: T0 + days * DAY };
            let ask = Enrol { token: "h".into(), node: node.into(), now: T0, certificate };
            registry.enrol(&ask).unwrap().unwrap();
        }
    };
    // It blocks, which is forbidden where a runtime runs.
    std::thread::scope(|scope| scope.spawn(let_in).join().unwrap());
    let heard = |n| ["mw1", "mw2"].map(|name| told(name, n, &[]));
    lab.tell(heard(1)).await;
    assert_eq!(broken(&lab, "certificate.age").await, json!([]));
    lab.later(21 * DAY - 1000);
    lab.tell(heard(2)).await;
    assert_eq!(broken(&lab, "certificate.age").await, json!([]), "a day of grace after the 20th");
    lab.later(400_000);
    // Nobody has heard of mw3: that it is silent is told elsewhere.
    assert_eq!(in_short(&lab, "certificate.age").await, Vec::<String>::new(), "mw1 is silent");
    lab.tell(heard(3)).await;
    assert_eq!(
        in_short(&lab, "certificate.age").await,
        ["middleware: certificate: ends on 2026-12-23 on mw1 (1)"]
    );
}

async fn rules_of_ones_own_hold_and_break(kind: Kind) {
    const YAML: &str = "\
invariants:
- name: one time zone
  means: cron jobs run at the same time everywhere
  do: say it for the whole fleet
  items: file//etc/timezone
  fact: sha256
  same: fleet
- name: one switch
  label: switch
  same: label:rack
- name: pools
  sum: {items: 'service/uwsgi*', fact: workers, tier: middleware}
  at_most: {min: {items: 'postgresql/*', fact: slots, tier: data*}}
- name: memory
  each: {label: memory_gb, tier: database}
  at_least: 64
";
    let at = Where::new(kind);
    let lab = Lab::configured(&at, YAML);
    let node = |name: &str, n: u64, labels: Facts<'_>, items: &[(&str, Facts<'_>)]| {
        let mut event = told(name, n, items);
        event.data.node.labels =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        event
    };
    let workers = |count| [("workers", count)];
    let rack = |rack, switch| [("rack", rack), ("switch", switch)];
    lab.tell([
        node(
            "mw1",
            1,
            &rack("a", "s1"),
            &[("service/uwsgi-a", &workers("8")), ("service/uwsgi-b", &workers("4"))],
        ),
        node(
            "mw2",
            1,
            &rack("b", "s2"),
            &[("service/uwsgi-a", &workers("8")), ("service/cron", &workers("99"))],
        ),
        node("db1", 1, &[("memory_gb", "64")], &[("postgresql/13/main", &[("slots", "20")])]),
        node("db2", 1, &[("memory_gb", "128")], &[("postgresql/13/main", &[("slots", "200")])]),
    ])
    .await;
    for name in ["one time zone", "one switch", "pools", "memory"] {
        assert_eq!(broken(&lab, name).await, json!([]), "{name}");
    }
    let zone = |sum| [("sha256", sum)];
    lab.tell([
        node(
            "mw1",
            2,
            &rack("b", "s1"),
            &[("service/uwsgi-a", &workers("13")), ("file//etc/timezone", &zone("aa"))],
        ),
        node(
            "db1",
            2,
            &[("memory_gb", "63.5")],
            &[("postgresql/13/main", &[("slots", "20")]), ("file//etc/timezone", &zone("bb"))],
        ),
        node("db2", 2, &[("memory_gb", "much")], &[("postgresql/13/main", &[("slots", "200")])]),
    ])
    .await;
    assert_eq!(in_short(&lab, "one time zone").await, [": file//etc/timezone: aa on mw1 (1); bb on db1 (1)"]);
    assert_eq!(broken(&lab, "one time zone").await[0]["do"], json!("say it for the whole fleet"));
    assert_eq!(in_short(&lab, "one switch").await, ["rack=b: : s1 on mw1 (1); s2 on mw2 (1)"]);
    let pools = [
        ": : sum of workers of service/uwsgi* is 21 on mw1 mw2 (2); min of slots of postgresql/* is 20 on db1 (1)",
    ];
    assert_eq!(in_short(&lab, "pools").await, pools);
    let memory = ["database: : 63.5 on db1 (1)", ": label memory_gb: much, which is no number on db2 (1)"];
    assert_eq!(in_short(&lab, "memory").await, memory);
    assert!(lab.page("/invariants").await.contains("cron jobs run at the same time everywhere"));
}

#[test]
fn a_rule_that_cannot_be_is_refused_with_its_line_and_what_to_write() {
    let why = |rule: &str| {
        let papers = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(papers.path(), format!("keep_days: 7\ninvariants:\n{rule}\n")).unwrap();
        let read = evenkeel_hub::config::read(papers.path(), true);
        let settled = read.and_then(|file| evenkeel_hub::config::settle(file, Overrides::default()));
        let why = settled.unwrap_err().to_string();
        why.replace(&papers.path().display().to_string(), "hub.yaml")
    };
    for (rule, parts) in [
        ("- {name: a, fact: x}", vec!["hub.yaml:3: ", "\"a\"", "write one of `same`, `sum`"]),
        (
            "- {name: a, same: tear, fact: x}",
            vec!["hub.yaml:3: ", "\"tear\" is none of tier, fleet, label:NAME"],
        ),
        ("- {name: a, same: tier, items: 'a['}", vec!["write a `fact`"]),
        ("- {name: a, same: tier, items: '[', fact: x}", vec!["\"[\" is no pattern"]),
        ("- {name: a, same: tier, fact: x, at_most: 3}", vec!["belong to numbers"]),
        ("- {name: a, sum: {fact: x}}", vec!["`at_most` and `at_least`"]),
        ("- {name: a, sum: {fact: x}, at_most: 1, at_least: 1}", vec!["one of `at_most` and `at_least`"]),
        ("- {name: a, sum: {fact: x}, max: {fact: x}, at_most: 1}", vec!["write one of `same`, `sum`"]),
        ("- {name: a, sum: {fact: x}, at_most: 1, tier: db}", vec!["belong below `sum`"]),
        ("- {name: a, each: {label: x}, at_most: {each: {label: x}}}", vec!["hub.yaml:3: "]),
        (
            "- {name: a, same: tier, fact: x}\n- {name: a, sum: {fact: y}, at_most: 1}",
            vec!["\"a\"", "there twice"],
        ),
        ("- {name: owner.uid, same: tier, fact: x}", vec!["built-in"]),
        ("- {name: a, same: tier, fakt: x}", vec!["hub.yaml:3: ", "fakt"]),
        ("- {name: '', same: tier, fact: x}", vec!["1 to 100 bytes"]),
    ] {
        let why = why(rule);
        for part in parts {
            assert!(why.contains(part), "{rule}: {why}");
        }
    }
}
