//! What a path makes of PostgreSQL, and what of a spec breaks it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::items;
use evenkeel_core::{Complaint, Live, Mode, Origin, PathEnd, Protocol, Severity, Side};
use evenkeel_kinds::KINDS;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn at(line: u32) -> Origin {
    Origin { file: "fleet.yaml".into(), line, path: None }
}

fn end(name: &str, side: Side, idle: &str, blackout: &str) -> PathEnd {
    let mut end = PathEnd {
        name: name.into(),
        side,
        port: 5432,
        protocol: Protocol::Postgresql,
        peers: vec![],
        idle_timeout: idle.parse().unwrap(),
        blackout_at_most: blackout.parse().unwrap(),
        promise: evenkeel_core::Intent {
            idle_timeout: std::time::Duration::from_secs(9),
            blackout_at_most: std::time::Duration::from_secs(9),
        }
        .promise()
        .unwrap(),
        live: Live::Report,
        service: None,
        connections: None,
        probe: None,
        at: at(15),
        idle_timeout_at: at(17),
        blackout_at: at(18),
    };
    end.promise = end.intent().promise().unwrap();
    end
}

fn derive(paths: &[PathEnd], section: &str) -> Vec<(String, usize, Value)> {
    let said: BTreeMap<String, Value> = serde_yaml::from_str(section).unwrap();
    let kind = KINDS.iter().find(|kind| kind.name() == "postgresql").unwrap();
    let all = kind.derive(paths, &said).into_iter();
    all.map(|one| (one.item, one.path, json!(one.fields))).collect()
}

fn complaints(paths: &[PathEnd], item: &str) -> Vec<Complaint> {
    let kind = KINDS.iter().find(|kind| kind.name() == "postgresql").unwrap();
    let items = items(*kind, item, Mode::Enforce);
    items.iter().flat_map(|(name, raw)| kind.check_paths(name, raw, paths)).collect()
}

#[test]
fn a_server_here_and_a_server_that_is_reached_from_here_get_what_the_path_needs() {
    let paths = [end("database", Side::Server, "350s", "60s"), end("cloud", Side::Client, "240s", "30s")];
    let section = "13/main: {}\nrds: {server: {host: x, user: y}}\n";
    let settings = |idle: &str, interval: &str, user: &str, check: &str| {
        json!({
            "tcp_keepalives_idle": idle, "tcp_keepalives_interval": interval, "tcp_keepalives_count": 3,
            "tcp_user_timeout": user, "client_connection_check_interval": check
        })
    };
    let promised = json!({
        "tcp_keepalives_idle": "reset", "tcp_keepalives_interval": "reset", "tcp_keepalives_count": "reset",
        "tcp_user_timeout": "reset", "client_connection_check_interval": "reset"
    });
    let told = derive(&paths, section);
    let of = |path: &PathEnd| {
        let one = path.promise;
        let (idle, interval) = (format!("{}s", one.keepalive_time), format!("{}s", one.keepalive_intvl));
        settings(
            &idle,
            &interval,
            &format!("{}ms", one.user_timeout_ms),
            &format!("{}ms", one.check_interval_ms),
        )
    };
    assert_eq!(of(&paths[0]), settings("29s", "8s", "49000ms", "29000ms"), "the path of the incident");
    let fields = |path: usize, idle: &str, blackout: &str| {
        json!({
            "settings": of(&paths[path]), "promised": promised,
            "path": {"idle_timeout": idle, "blackout_at_most": blackout}
        })
    };
    let want = [
        ("13/main".to_owned(), 0, fields(0, "350s", "60s")),
        ("rds".to_owned(), 1, fields(1, "240s", "30s")),
    ];
    assert_eq!(told, want);
}

#[test]
fn each_parameter_is_from_the_path_that_is_strictest_about_it() {
    let paths = [
        end("a", Side::Server, "10s", "600s"),
        end("b", Side::Server, "4000s", "20s"),
        PathEnd { protocol: Protocol::Tcp, ..end("other", Side::Server, "3s", "3s") },
    ];
    let told = derive(&paths, "13/main: {settings: {work_mem: 8MB}}\n");
    let by = |path: usize| told.iter().find(|one| one.1 == path).map(|one| &one.2).unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(by(0)["settings"]["tcp_keepalives_idle"], "4s");
    let (a, b) = (paths[0].promise, paths[1].promise);
    assert!(a.keepalive_intvl > b.keepalive_intvl && a.user_timeout_ms < b.user_timeout_ms, "{a:?} {b:?}");
    assert_eq!(by(1)["settings"]["tcp_keepalives_interval"], format!("{}s", b.keepalive_intvl));
    assert_eq!(by(0)["settings"]["tcp_user_timeout"], format!("{}ms", a.user_timeout_ms));
    assert_eq!(
        (&by(0)["path"], &by(1)["path"]),
        (&json!({"idle_timeout": "10s"}), &json!({"blackout_at_most": "20s"}))
    );
    assert_eq!(derive(&[], "13/main: {}\n"), []);
    assert_eq!(derive(&paths, "rds: {server: {host: x}}\n"), []);
}

#[test]
fn what_is_derived_is_read_and_breaks_no_path() {
    let paths = [
        end("a", Side::Server, "350s", "60s"),
        end("b", Side::Server, "3s", "3s"),
        end("c", Side::Server, "1d", "10s"),
    ];
    let kind = KINDS.iter().find(|kind| kind.name() == "postgresql").unwrap();
    let mut fields = serde_json::Map::new();
    for (_, _, more) in derive(&paths, "13/main: {}\n") {
        for (field, map) in more.as_object().unwrap() {
            let held = fields.entry(field).or_insert_with(|| json!({}));
            held.as_object_mut().unwrap().extend(map.as_object().unwrap().clone());
        }
    }
    let text = serde_json::to_string(&json!({"13/main": fields})).unwrap();
    let all = items(*kind, &text, Mode::Enforce);
    assert_eq!(kind.check("13/main", &all["13/main"]), []);
    assert_eq!(complaints(&paths, &text), []);
}

#[test]
fn what_is_said_by_hand_and_breaks_a_path_is_an_error_that_names_both_places() {
    let path = [end("database", Side::Server, "350s", "60s")];
    let one = |item: &str| {
        let all = complaints(&path, item);
        // That a dead peer is found late is a warning; that the path forgets, or that a request hangs, is an error.
        let late = |one: &Complaint| one.message.contains("until a dead connection is given up");
        assert!(all.iter().all(|one| (one.severity == Severity::Warning) == late(one)), "{all:?}");
        all.into_iter().map(|one| (one.path.join("/"), one.message)).collect::<Vec<_>>()
    };
    let told = one("13/main: {settings: {tcp_keepalives_idle: 7200, tcp_keepalives_interval: 8s}}");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, "settings/tcp_keepalives_idle");
    assert_eq!(
        told[0].1,
        "tcp_keepalives_idle 7200 is longer than path `database` stays open when idle, 350s (fleet.yaml:17), as a timer \
         may come an eighth late: idle connections will be dropped before their first probe"
    );
    for (item, place, words) in [
        // 320 s come as late as 360 s.
        (
            "{settings: {tcp_keepalives_idle: 320s, tcp_user_timeout: 49s}}",
            "settings/tcp_keepalives_idle",
            "350s (fleet.yaml:17)",
        ),
        (
            "{settings: {tcp_keepalives_interval: 400s}}",
            "settings/tcp_keepalives_interval",
            "between two probes",
        ),
        (
            "{settings: {tcp_keepalives_idle: 0}}",
            "settings/tcp_keepalives_idle",
            "shadows the 29s that path `database` needs",
        ),
        ("{settings: {tcp_keepalives_idle: 50s}}", "settings/tcp_keepalives_idle", "60s (fleet.yaml:18)"),
        ("{settings: {tcp_keepalives_count: 9}}", "settings/tcp_keepalives_count", "9 times 8 s"),
        ("{settings: {tcp_user_timeout: 61s}}", "settings/tcp_user_timeout", "60s (fleet.yaml:18)"),
        ("{settings: {tcp_user_timeout: 0}}", "settings/tcp_user_timeout", "49000ms"),
        (
            "{roles: {sahana: {tcp_keepalives_idle: 10m}}}",
            "roles/sahana/tcp_keepalives_idle",
            "350s (fleet.yaml:17)",
        ),
        (
            "{settings: {tcp_keepalives_interval: 2s}, roles: {a: {tcp_keepalives_idle: 48s}}}",
            "roles/a/tcp_keepalives_idle",
            "60s",
        ),
    ] {
        let told = one(&format!("13/main: {item}"));
        assert!(told.iter().any(|one| one.0 == place && one.1.contains(words)), "{item}: {told:?}");
    }
    for item in [
        "{}",
        "{settings: {tcp_keepalives_idle: 20s, work_mem: 8MB}, promised: {tcp_keepalives_idle: report}}",
        "{settings: {tcp_keepalives_idle: 47s, tcp_keepalives_interval: 1s}}",
        "{roles: {sahana: {tcp_keepalives_idle: inherit, tcp_user_timeout: 10s}}}",
        "{settings: {tcp_keepalives_idle: a lot}}",
    ] {
        assert_eq!(one(&format!("13/main: {item}")), [], "{item}");
    }
    // It is no path of a server elsewhere.
    let rds = "rds: {server: {host: x, user: y, tls: \"off\"}, settings: {tcp_keepalives_idle: 0}}";
    assert_eq!(one(rds), []);
}
