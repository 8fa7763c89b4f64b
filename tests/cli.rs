//! What people and scripts lean on: words, colours, JSON and exit codes of the real binary.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use serde_json::Value;
use std::process::{Command, Output};
use std::time::Duration;
use support::{EVENKEEL, FLEET, Node, Repository, config, text, until};

const SOON: Duration = Duration::from_secs(10);
const TIER: &str = "version: 1\nsysctl:\n  net.ipv4.tcp_keepalive_time: 61\n";

/// A folder with a spec in it.
fn spec(tier: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    Repository::new(folder.path(), &[("fleet.yaml", FLEET), ("tiers/t.yaml", tier)]);
    folder
}

fn evenkeel(args: &[&str]) -> Output {
    Command::new(EVENKEEL).args(args).env_remove("EVENKEEL_CONFIG").output().unwrap()
}

fn json(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(out)))
}

#[test]
fn every_ending_has_its_exit_code() {
    let (good, bad) = (spec(TIER), spec("version: 1\nbogus: {}\n"));
    let (good, bad) = (good.path().to_str().unwrap(), bad.path().to_str().unwrap());
    for (args, code) in [
        (&["validate", good][..], 0),
        (&["validate", bad], 1),
        (&["validate", "/nonexistent"], 1),
        (&["validate"], 64),
        (&["bogus"], 64),
        (&[], 64),
        (&["--help"], 0),
        (&["render", "n1", "--spec", good], 0),
        (&["render", "n9", "--spec", good], 1),
        (&["explain", "sysctl/net.ipv4.tcp_keepalive_time", "--spec", good, "--node", "n1"], 0),
        (&["explain", "sysctl/no.such", "--spec", good, "--node", "n1"], 1),
        (&["plan", "--spec", "ftp://x"], 64),
        (&["run", "--config", "/nonexistent"], 78),
        (&["completions", "zsh"], 0),
        (&["completions", "none"], 64),
        (&["schema"], 0),
        (&["kinds"], 0),
    ] {
        let out = evenkeel(args);
        assert_eq!(out.status.code(), Some(code), "{args:?}\n{}", text(&out));
        let quiet = if code == 0 { &out.stderr } else { &out.stdout };
        assert!(quiet.is_empty() || args[0] == "validate", "{args:?}\n{}", text(&out));
    }
}

#[test]
fn what_is_printed_for_programs_is_json() {
    let folder = spec(TIER);
    let at = folder.path().to_str().unwrap();
    let item = "sysctl/net.ipv4.tcp_keepalive_time";
    let rendered = json(&evenkeel(&["render", "n1", "--spec", at, "--format", "json"]));
    let wished = &rendered["sections"]["sysctl"]["net.ipv4.tcp_keepalive_time"];
    assert_eq!((&wished["wish"]["value"], &wished["declared_at"]), (&61.into(), &"tiers/t.yaml:3".into()));
    let explained = json(&evenkeel(&["explain", item, "--spec", at, "--node", "n1", "--format", "json"]));
    assert_eq!(explained["values"][0]["said"][0]["file"], "tiers/t.yaml");
    assert_eq!(json(&evenkeel(&["kinds", "--format", "json"]))[0]["name"], "sysctl");
    assert_eq!(json(&evenkeel(&["validate", at, "--format", "json"]))["errors"], 0);
    assert_eq!(json(&evenkeel(&["validate", at, "--format", "sarif"]))["version"], "2.1.0");
}

#[test]
fn the_manual_page_has_every_command_and_nothing_that_troff_complains_of() {
    let out = evenkeel(&["man"]);
    let page = String::from_utf8(out.stdout).unwrap();
    for part in ["plan", "apply", "status", "validate", "probe", "\"EXIT STATUS\"", "FILES"] {
        assert!(page.contains(&format!(".SS {part}\n")) || page.contains(&format!(".SH {part}\n")), "{part}");
    }
    assert!(page.is_ascii());
    assert!(!page.contains("evenkeel\\-plan(1)"), "a page that there is not");
}

#[test]
fn a_terminal_gets_colours_and_a_pipe_and_no_color_get_none() {
    let folder = spec("version: 1\nbogus: {}\n");
    let at = folder.path().to_str().unwrap();
    let piped = Command::new(EVENKEEL).args(["validate", at]).env_remove("NO_COLOR").output().unwrap();
    assert!(!text(&piped).contains('\u{1b}'));
    let on_a_terminal = |more: &str| {
        let line = format!("{more} TERM=xterm {EVENKEEL} validate {at}");
        text(
            &Command::new("script")
                .args(["-qec", &line, "/dev/null"])
                .env_remove("NO_COLOR")
                .output()
                .unwrap(),
        )
    };
    assert!(on_a_terminal("").contains('\u{1b}'));
    assert!(!on_a_terminal("NO_COLOR=1").contains('\u{1b}'));
}

#[test]
fn plan_and_apply_tell_the_same_story_and_end_with_its_code() {
    let node = Node::new();
    let folder = spec(
        "version: 1\nsysctl:\n  net.ipv4.tcp_keepalive_time: 61\n  net.ipv4.tcp_rmem: 4096 131072 6291456\n",
    );
    let at = folder.path().to_str().unwrap();
    let args = |verb| [verb, "--spec", at, "--node", "n1"];
    let plan = node.run(&args("plan"));
    assert_eq!(plan.status.code(), Some(2), "{}", text(&plan));
    assert!(text(&plan).contains("- 7200\n    + 61"), "{}", text(&plan));
    assert!(!text(&plan).contains("\\t"), "{}", text(&plan));
    assert_eq!(node.sysctl("net.ipv4.tcp_keepalive_time"), "7200", "a plan changes nothing");
    assert_eq!(node.run(&args("apply")).status.code(), Some(0));
    let plan = node.run(&args("plan"));
    assert_eq!(
        (plan.status.code(), text(&plan).starts_with("n1 is even: 2 items")),
        (Some(0), true),
        "{}",
        text(&plan)
    );
}

#[test]
fn a_read_only_tree_is_told_and_nothing_would_change_there() {
    let node = Node::new();
    let folder = spec("version: 1\nsysctl:\n  vm.swappiness: 1\n");
    let at = folder.path().to_str().unwrap();
    let apply = node.run(&["apply", "--spec", at, "--node", "n1", "--format", "json"]);
    assert_eq!(apply.status.code(), Some(0), "{}", text(&apply));
    let plan = node.run(&["plan", "--spec", at, "--node", "n1", "--format", "json"]);
    assert_eq!(plan.status.code(), Some(0), "{}", text(&plan));
    let (plan, apply) = (json(&plan), json(&apply));
    assert_eq!(plan["sections"][0]["steps"], Value::Array(vec![]));
    assert_eq!(plan["sections"][0]["items"][0]["findings"][0]["verdict"], "not_applicable");
    // The file was put right, the kernel could not be: the item is neither repaired nor compliant.
    assert_eq!(apply["items"][0]["status"], "not_applicable");
    assert_eq!(apply["items"][0]["repaired"].as_array().map(Vec::len), Some(1));
    assert!(apply["items"][0]["reason"].as_str().unwrap().contains("read-only"), "{apply}");
    assert!(node.holds("grep -q 'vm.swappiness = 1' /etc/sysctl.d/99-evenkeel.conf"));
}

#[test]
fn two_agents_do_not_share_a_socket_or_a_memory() {
    let node = Node::new();
    let folder = spec(TIER);
    let config = config(folder.path().to_str().unwrap(), "");
    let _agent = node.agent(&config);
    until("it answers", SOON, || node.run(&["status"]).status.success());
    let second = node.run(&["run"]);
    assert_eq!(second.status.code(), Some(1), "{}", text(&second));
    let mut apart = node.evenkeel(&["run"]);
    let apart = apart.env("EVENKEEL_RUN_DIR", "/run/apart").output().unwrap();
    assert_eq!(apart.status.code(), Some(1), "{}", text(&apart));
    assert!(text(&apart).contains("/var/lib/evenkeel"), "{}", text(&apart));
    assert!(node.run(&["status"]).status.success(), "the first goes on");
}

#[test]
fn what_left_the_spec_is_not_counted_among_what_is_kept() {
    let node = Node::new();
    let folder = spec(TIER);
    let repository = Repository { path: folder.path().to_owned() };
    let _agent = node.agent(&config(&repository.source(), ""));
    let sentence = || text(&node.run(&["status"]));
    until("one item", SOON, || sentence().starts_with("even: 1 item"));
    repository.commit(&[("tiers/t.yaml", "version: 1\n")]);
    until("none", SOON, || sentence().starts_with("even: 0 items"));
    assert!(!node.holds("test -e /etc/sysctl.d/99-evenkeel.conf"));
}

#[test]
fn the_doctor_tells_each_ability_with_its_reason_and_what_to_do() {
    let out = evenkeel(&["doctor", "--format", "json"]);
    assert!(matches!(out.status.code(), Some(0 | 2)), "{}", text(&out));
    let told = json(&out);
    let all = told["abilities"].as_array().unwrap();
    let good = all.iter().all(|one| one["state"] == "ok");
    assert_eq!((told["good"].as_bool().unwrap(), out.status.code() == Some(0)), (good, good));
    assert!(all.len() >= 12, "{told}");

    // The same as nobody, in namespaces of their own, where much is limited and nothing falls over.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("evenkeel");
    std::fs::copy(EVENKEEL, &copy).unwrap();
    let made = Command::new("chmod").arg("-R").arg("a+rx").arg(folder.path()).status().unwrap();
    assert!(made.success());
    for apart in [&[][..], &["unshare", "-Urnm"][..]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(apart).arg(&copy);
        let out = command.args(["doctor", "--format", "json"]).current_dir("/").output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{}", text(&out));
        let told = json(&out);
        for one in told["abilities"].as_array().unwrap() {
            let reason = one["reason"].as_str().unwrap_or_default();
            assert!(one["state"] == "ok" || reason.contains(": "), "why, and what to do: {one}");
        }
    }
}
