//! Paths: what they make of the nodes at their ends, where they cannot be kept, and what breaks them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;
use common::{lines, read};
use evenkeel_core::Mode;
use evenkeel_spec::Repository;
use serde_json::json;

const NODES: &str =
    "version: 1\nfleet: f\nnodes:\n  db1: {tier: db}\n  mw1: {tier: mw}\n  web1: {tier: web}\npaths:\n";
const PATH: &str = "  database:
    from: {tier: mw}
    to: {tier: db, port: 5432}
    idle_timeout: 350s
    blackout_at_most: 60s
";

fn files<'a>(fleet: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut files = vec![("fleet.yaml", fleet)];
    for tier in ["tiers/db.yaml", "tiers/mw.yaml", "tiers/web.yaml"] {
        if !more.iter().any(|(path, _)| *path == tier) {
            files.push((tier, "version: 1\n"));
        }
    }
    files.extend(more);
    files
}

fn good(paths: &str, more: &[(&str, &str)]) -> Repository {
    let fleet = format!("{NODES}{paths}");
    read(&files(&fleet, more)).unwrap_or_else(|problems| panic!("{problems}")).0
}

fn bad(paths: &str, more: &[(&str, &str)]) -> Vec<String> {
    let fleet = format!("{NODES}{paths}");
    match read(&files(&fleet, more)) {
        Ok(_) => panic!("nothing is wrong with {paths}"),
        Err(problems) => lines(&problems),
    }
}

#[test]
fn a_path_speaks_to_the_nodes_at_its_ends_and_to_no_other() {
    let repository = good(PATH, &[]);
    let items = |node: &str| {
        let spec = repository.node(node, None).unwrap();
        spec.goals[0]
            .items()
            .iter()
            .map(|(name, item)| format!("{name} {} {}", item.fields, item.origin))
            .collect::<Vec<_>>()
    };
    assert_eq!(items("mw1"), [r#"path.client {"value":29} fleet.yaml:8 (path database)"#]);
    assert_eq!(items("db1"), [r#"path.server {"value":29} fleet.yaml:8 (path database)"#]);
    assert_eq!(items("web1"), [""; 0]);
}

#[test]
fn what_somebody_says_wins_over_the_path_and_is_held_against_it() {
    let says = |n: u32| format!("version: 1\nsysctl:\n  path.client: {n}\n");
    let (short, long) = (says(5), says(7200));
    let repository = good(PATH, &[("tiers/mw.yaml", &short)]);
    let spec = repository.node("mw1", None).unwrap();
    assert_eq!(spec.goals[0].items()["path.client"].fields, json!({"value": 5}));
    assert_eq!(spec.goals[0].items()["path.client"].origin.to_string(), "tiers/mw.yaml:3");
    let told = bad(PATH, &[("tiers/mw.yaml", &long)]);
    assert_eq!(told, ["tiers/mw.yaml:3: path.client breaks path `database` (fleet.yaml:11) (leave it out)"]);
    // A node of another tier may say what it likes.
    good(PATH, &[("tiers/web.yaml", &long)]);
}

#[test]
fn a_profile_that_two_tiers_share_is_held_against_the_paths_of_each() {
    let profile = ("profiles/slow.yaml", "version: 1\nsysctl: {path.client: 7200}\n");
    let include = "version: 1\ninclude: [profiles/slow]\n";
    let told = bad(PATH, &[profile, ("tiers/web.yaml", include), ("tiers/mw.yaml", include)]);
    assert_eq!(told.len(), 1, "{told:?}");
    good(PATH, &[profile, ("tiers/web.yaml", include)]);
}

#[test]
fn what_is_only_looked_at_breaks_no_path() {
    let audit = "version: 1\nsysctl: {path.client: {value: 7200, mode: audit}}\n";
    let fleet = format!("{NODES}{PATH}");
    let (_, warnings) = read(&files(&fleet, &[("tiers/mw.yaml", audit)])).unwrap();
    assert!(lines(&warnings)[0].starts_with("tiers/mw.yaml:2: path.client breaks"), "{:?}", lines(&warnings));
}

#[test]
fn an_audited_document_audits_what_follows_from_a_path_too() {
    let audit = "version: 1\nmode: audit\nsysctl: {vm.swappiness: 1}\n";
    let repository = good(PATH, &[("tiers/mw.yaml", audit)]);
    assert_eq!(repository.node("mw1", None).unwrap().goals[0].items()["path.client"].mode, Mode::Audit);
    assert_eq!(repository.node("db1", None).unwrap().goals[0].items()["path.server"].mode, Mode::Enforce);
}

#[test]
fn absent_takes_away_what_a_path_says() {
    let absent = "version: 1\nsysctl: {path.client: {absent: true}}\n";
    let repository = good(PATH, &[("tiers/mw.yaml", absent)]);
    assert!(repository.node("mw1", None).unwrap().goals[0].items()["path.client"].fields.is_null());
}

#[test]
fn an_end_may_lie_outside_the_fleet_and_then_has_addresses() {
    let path = "  rds:
    from: {tier: mw}
    to: {addresses: [10.9.0.10, 'fd00::/8'], port: 5432}
    idle_timeout: 350s
    blackout_at_most: 60s
    live: free
";
    let repository = good(path, &[]);
    let to = &repository.paths()["rds"].to;
    assert_eq!((to.tier.as_deref(), to.addresses.len()), (None, 2));
    assert_eq!(repository.node("db1", None).unwrap().goals[0].items().len(), 0);
}

#[test]
fn what_cannot_be_kept_is_refused_at_its_line() {
    let path = |from: &str, to: &str, idle: &str, blackout: &str, more: &str| {
        format!(
            "  p:\n    from: {from}\n    to: {to}\n    idle_timeout: {idle}\n    blackout_at_most: {blackout}\n{more}"
        )
    };
    let plain = |idle: &str, blackout: &str, more: &str| {
        path("{tier: mw}", "{tier: db, port: 5432}", idle, blackout, more)
    };
    for (text, place, message) in [
        (plain("2s", "60s", ""), "fleet.yaml:11", "forgotten before the first keepalive"),
        (plain("350s", "2s", ""), "fleet.yaml:12", "cannot be told from a slow one"),
        (
            plain("350s", "60s", "    request_timeouts: {uwsgi harakiri: 30s}\n"),
            "fleet.yaml:13",
            "would be killed before it has its error",
        ),
        (plain("350s", "60s", "    probe: 5s\n"), "fleet.yaml:13", "a probe every 5s"),
        (plain("350s", "60s", "    live: often\n"), "fleet.yaml:13", "`report`, `retune`, `free` or `off`"),
        (
            plain("350s", "60s", "    protocol: tcp\n    service: eden\n"),
            "fleet.yaml:14",
            "for clients of PostgreSQL",
        ),
        (path("{tier: mw}", "{port: 5432}", "350s", "60s", ""), "fleet.yaml:10", "does not say `tier`"),
        (
            path("{addresses: [10.0.0.1]}", "{addresses: [10.0.0.2], port: 1}", "350s", "60s", ""),
            "fleet.yaml:8",
            "no end in this fleet",
        ),
        (
            path("{tier: mw, addresses: [10.0.0.0/33]}", "{tier: db, port: 1}", "350s", "60s", ""),
            "fleet.yaml:9",
            "an address",
        ),
    ] {
        let told = bad(&text, &[]);
        assert!(told.iter().any(|line| line.contains(place) && line.contains(message)), "{text}\n{told:?}");
    }
}

#[test]
fn a_probe_of_postgresql_without_a_login_is_warned_of() {
    let warnings = |probe: &str| {
        let fleet = format!("{NODES}{PATH}    probe: {probe}\n");
        lines(&read(&files(&fleet, &[])).unwrap_or_else(|problems| panic!("{problems}")).1)
    };
    assert!(warnings("daily")[0].contains("without a login nothing is measured"));
    assert_eq!(warnings("{every: daily, user: monitor}"), [""; 0]);
}

#[test]
fn explain_shows_the_path_and_its_arithmetic() {
    let repository = good(PATH, &[("tiers/mw.yaml", "version: 1\nsysctl: {path.client: 20}\n")]);
    insta::assert_snapshot!("explain_derived", repository.explain("db1", "sysctl/path.server").unwrap());
    insta::assert_snapshot!("explain_path", repository.explain("mw1", "path/database").unwrap());
    let over = repository.explain("mw1", "sysctl/path.client").unwrap().to_string();
    assert!(
        over.contains("* tiers/mw.yaml:2  tier     20") && over.contains("fleet.yaml:8     path     29"),
        "{over}"
    );
}
