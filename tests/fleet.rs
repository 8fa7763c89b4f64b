//! `evenkeel fleet` against a real hub: what it lists and in which order, its exit codes, tokens and TLS.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use evenkeel_report::{
    Agent, Drift, Event, Item, Layer, Mode, Node, Pass, REPORT_V1, Report, Scope, Seq, SpecState, Status,
    Sync, Timestamp, Trigger, event_id, state_digest,
};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use support::{EVENKEEL, hub_binary, text};

const KEEPALIVE: &str = "sysctl/net.ipv4.tcp_keepalive_time";

/// A hub; killed when dropped.
struct Hub {
    child: Child,
    url: String,
    store: String,
}

impl Hub {
    fn start(dir: &Path, more: &[&str]) -> Self {
        let store = format!("sqlite:{}", dir.join("hub.db").display());
        let mut child = Command::new(hub_binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--store", &store])
            .args(more)
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = loop {
            let line = lines.next().unwrap().unwrap();
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split_whitespace().next().unwrap().trim_end_matches(',').to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url, store }
    }

    /// Tells it how a node stands.
    fn hears(&self, name: &str, tier: &str, items: &[Item]) {
        self.takes(&report(name, tier, items));
    }

    fn takes(&self, event: &Event<Report>) {
        let body = serde_json::to_string(&[event]).unwrap();
        let at = self.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(at).unwrap();
        write!(
            stream,
            "POST /v1/events HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\
             content-type: application/cloudevents-batch+json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"accepted\":1"), "{answer}");
    }

    /// A command beside it; what it printed.
    fn told(&self, args: &[&str]) -> String {
        let mut command = Command::new(hub_binary());
        let mut child = command
            .args(args)
            .args(["--store", &self.store])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Most commands read nothing, and may have ended before.
        let _ = child.stdin.take().unwrap().write_all(b"correct horse battery\n");
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", text(&out));
        String::from_utf8(out.stdout).unwrap()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn item(id: &str, status: Status) -> Item {
    let drift = Drift {
        attr: "value".into(),
        layer: Layer::Kernel,
        observed: Some("7200".into()),
        desired: "60".into(),
    };
    Item {
        id: id.into(),
        status,
        change: None,
        phase: None,
        reason: None,
        declared_at: Some("fleet.yaml:17".into()),
        drift: if status > Status::Compliant { vec![drift] } else { vec![] },
        repaired: vec![],
        writer: None,
        since: None,
        attempts: 0,
        facts: std::collections::BTreeMap::new(),
        progress: None,
    }
}

fn report(name: &str, tier: &str, items: &[Item]) -> Event<Report> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let at = Timestamp::from_unix_ms(i64::try_from(since.as_millis()).unwrap()).unwrap();
    let seq = Seq { epoch: 1, n: 1 };
    let data = Report {
        node: Node {
            name: name.into(),
            tier: tier.into(),
            boot_id: format!("boot-{name}"),
            ..Node::default()
        },
        agent: Agent { version: "0.1.0".into() },
        seq,
        pass: Pass {
            id: "01939c5e-0000-7000-8000-000000000000".into(),
            trigger: Trigger::Drift,
            mode: Mode::Enforce,
            duration_ms: 3,
        },
        spec: SpecState {
            repo: "ssh://git.example/eden.git".into(),
            branch: "main".into(),
            target_commit: Some("1111111111111111".into()),
            observed_commit: Some("1111111111111111".into()),
            sync: Sync::Synced,
            ..SpecState::default()
        },
        scope: Scope::Full,
        counts: items.iter().map(|item| item.status).collect(),
        state_digest: state_digest(items),
        items: items.to_vec(),
        gone: vec![],
        truncated: false,
    };
    Event::new(REPORT_V1, &format!("urn:uuid:{name}"), event_id(seq), name, at, data)
}

/// `evenkeel fleet …`, which must end with `code`.
fn fleet(code: i32, args: &[&str]) -> Output {
    let mut command = Command::new(EVENKEEL);
    command.arg("fleet").args(args).env_remove("EVENKEEL_CONFIG").env_remove("EVENKEEL_HUB");
    let out = command.output().unwrap();
    assert_eq!(out.status.code(), Some(code), "{args:?}\n{}", text(&out));
    out
}

fn printed(out: &Output) -> String {
    String::from_utf8(out.stdout.clone()).unwrap()
}

fn json(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(out)))
}

fn secret(path: &Path, content: &str) -> String {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_fleet_is_listed_worst_first_and_the_exit_code_says_whether_it_is_even() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path(), &[]);
    let at = ["--hub", &hub.url];
    let ask = |code, args: &[&str]| fleet(code, &[args, &at].concat());
    assert!(printed(&ask(0, &["nodes"])).contains("no node"));
    hub.hears("db1", "database", &[item(KEEPALIVE, Status::Compliant)]);
    hub.hears("mw1", "middleware", &[item(KEEPALIVE, Status::Pending)]);
    hub.hears("mw2", "middleware", &[item(KEEPALIVE, Status::Error), item("mount/a", Status::Compliant)]);

    let list = printed(&ask(2, &["nodes"]));
    let names: Vec<&str> = list.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["mw2", "mw1", "db1"], "{list}");
    assert!(list.starts_with("2 of 3 nodes not even\n"), "{list}");
    assert!(!list.contains('\u{1b}'), "colour is for terminals");
    let answer = json(&ask(2, &["nodes", "--format", "json"]));
    let told: Vec<_> = answer["nodes"].as_array().unwrap().iter().map(|one| one["even"].clone()).collect();
    assert_eq!((answer["even"].clone(), told), (false.into(), vec![false.into(), false.into(), true.into()]));

    // A filter narrows what is listed and what the exit code is about.
    let even = printed(&ask(0, &["nodes", "--tier", "database"]));
    assert!(even.starts_with("1 node, all even\n") && even.contains("db1") && !even.contains("mw"), "{even}");
    let errors = json(&ask(2, &["nodes", "--status", "error", "--liveness", "online", "--format", "json"]));
    assert_eq!(errors["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(errors["nodes"][0]["name"], "mw2");
    let known = ask(64, &["nodes", "--status", "bogus"]);
    assert!(text(&known).contains("non_compliant"), "what is known is told: {}", text(&known));

    let one = printed(&ask(2, &["node", "mw2"]));
    assert!(one.contains(KEEPALIVE) && one.contains("kernel value: 7200, wanted 60"), "{one}");
    assert!(one.contains("fleet.yaml:17") && !one.contains("mount/a"), "{one}");
    assert_eq!(json(&ask(0, &["node", "db1", "--format", "json"]))["even"], true);
    ask(1, &["node", "nobody"]);
    ask(1, &["node", "../nodes"]);

    let drift = printed(&ask(2, &["drift"]));
    assert!(drift.starts_with("2 items adrift on 2 nodes\n"), "{drift}");
    let (error, pending) = (drift.find("error").unwrap(), drift.find("pending").unwrap());
    assert!(error < pending && drift.contains("on 1 node (mw2)"), "{drift}");
    assert!(printed(&ask(0, &["drift", "--tier", "database"])).contains("nothing is adrift"));
    assert_eq!(json(&ask(2, &["drift", "--format", "json"]))["open"]["items"], 2);
}

#[test]
fn the_status_of_the_fleet_is_told_tier_by_tier() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path(), &[]);
    let at = ["--hub", &hub.url];
    let ask = |code, args: &[&str]| fleet(code, &[args, &at].concat());
    assert_eq!(printed(&ask(0, &["status"])), "no node\n");
    hub.hears("db1", "database", &[item(KEEPALIVE, Status::Compliant)]);
    let even = "1 node, all even\ndatabase  1 node  all even\n\n1111111111  in force on 1 node\n";
    assert_eq!(printed(&ask(0, &["status"])), even);
    hub.hears("mw1", "middleware", &[item(KEEPALIVE, Status::Pending), item("mount/a", Status::Error)]);
    let off = printed(&ask(2, &["status"]));
    let tier = "middleware  1 node  1 not even  1 error  1 pending\n";
    assert!(off.starts_with("1 of 2 nodes not even\n") && off.contains(tier), "{off}");
    let told = json(&ask(2, &["status", "--format", "json"]));
    assert_eq!((&told["even"], &told["tiers"]["middleware"]["open"]["error"]), (&false.into(), &1.into()));
}

#[test]
fn a_rollout_is_waited_for_and_what_does_not_come_ends_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path(), &[]);
    let ask = |code, args: &[&str]| fleet(code, &[&["rollout"], args, &["--hub", &hub.url]].concat());
    let even = [item(KEEPALIVE, Status::Compliant)];
    let new = "2222222222222222";
    let hears = |name: &str, n: u64, commit: &str, sync: Sync| {
        let mut event = report(name, "database", &even);
        event.data.seq.n = n;
        event.id = event_id(event.data.seq);
        event.data.spec.target_commit = Some(new.into());
        event.data.spec.observed_commit = Some(commit.into());
        event.data.spec.sync = sync;
        hub.takes(&event);
    };
    ask(1, &[new]);
    for name in ["db1", "db2", "db3"] {
        hub.hears(name, "database", &even);
    }
    ask(1, &[new]);
    hears("db1", 2, new, Sync::Synced);
    let one = printed(&ask(2, &[new]));
    assert!(
        one.starts_with("2222222222 in force on 1/3 nodes\n"),
        "nodes that have not seen it count: {one}"
    );
    assert!(printed(&ask(0, &["2222222", "--wait", "1/3"])).starts_with("2222222222 in force on 1/3"));
    ask(2, &[new, "--wait", "2/3", "--timeout", "1s"]);
    ask(2, &[new, "--wait", "1/3", "--tier", "web", "--timeout", "1s"]);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| printed(&ask(0, &[new, "--wait", "2/3", "--timeout", "1m"])));
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert!(!waits.is_finished(), "it is not reached yet");
        hears("db2", 2, new, Sync::Synced);
        assert!(waits.join().unwrap().starts_with("2222222222 in force on 2/3 nodes"));
    });
    // Where too many refuse it there is nothing to wait for.
    hears("db3", 2, "1111111111111111", Sync::Failed);
    let start = std::time::Instant::now();
    let lost = printed(&ask(2, &[new, "--wait", "all", "--timeout", "5m"]));
    assert!(lost.contains("1 node refused it") && lost.contains("db3"), "{lost}");
    assert!(start.elapsed() < std::time::Duration::from_mins(2));
    assert_eq!(json(&ask(2, &[new, "--format", "json"]))["rollout"]["all"]["in_force"], 2);
    for bad in ["4/3", "half", "0/3"] {
        ask(64, &[new, "--wait", bad]);
    }
    ask(64, &[new, "--timeout", "1m"]);
}

#[test]
fn more_nodes_than_a_page_has_are_all_listed() {
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("hub.yaml");
    std::fs::write(&settings, "requests_per_second: 10000\n").unwrap();
    let hub = Hub::start(dir.path(), &["--config", settings.to_str().unwrap()]);
    for n in 0..1003 {
        let status = if n == 1002 { Status::Error } else { Status::Compliant };
        hub.hears(&format!("n{n:04}"), "t", &[item(KEEPALIVE, status)]);
    }
    let answer = json(&fleet(2, &["nodes", "--format", "json", "--hub", &hub.url]));
    assert_eq!(answer["nodes"].as_array().unwrap().len(), 1003);
    assert_eq!(answer["nodes"][0]["name"], "n1002");
}

#[test]
fn a_token_and_an_authority_are_asked_for_and_what_is_missing_has_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let plain = Hub::start(dir.path(), &[]);
    plain.hears("db1", "database", &[item(KEEPALIVE, Status::Compliant)]);
    let gone = plain.url.clone();
    drop(plain);
    fleet(69, &["nodes", "--hub", &gone]);

    let (ca, other) = (path("ca"), path("other"));
    for folder in [&ca, &other] {
        let mut made = Command::new(hub_binary());
        let out = made.args(["ca", "init", "--name", "127.0.0.1", "--dir", folder]).output().unwrap();
        assert!(out.status.success(), "{}", text(&out));
    }
    let hub = Hub::start(dir.path(), &["--tls", &ca]);
    assert!(hub.url.starts_with("https://"), "{}", hub.url);
    hub.told(&["user", "add", "robot", "--role", "viewer", "--password-file", "-"]);
    let token = secret(&dir.path().join("token"), &hub.told(&["user", "token", "robot"]));
    let wrong = secret(&dir.path().join("wrong"), "eku_nobody\n");
    let (own, others) = (format!("{ca}/ca.pem"), format!("{other}/ca.pem"));

    let good = fleet(0, &["nodes", "--hub", &hub.url, "--ca", &own, "--token-file", &token]);
    assert!(printed(&good).contains("db1"), "{}", text(&good));
    fleet(78, &["nodes", "--hub", &hub.url, "--ca", &own]);
    fleet(78, &["nodes", "--hub", &hub.url, "--ca", &own, "--token-file", &wrong]);
    fleet(78, &["nodes", "--hub", &hub.url, "--ca", &own, "--token-file", "/nonexistent"]);
    fleet(78, &["nodes", "--hub", &hub.url, "--ca", &token, "--token-file", &token]);
    fleet(69, &["nodes", "--hub", &hub.url, "--ca", &others, "--token-file", &token]);
    fleet(69, &["nodes", "--hub", &hub.url, "--token-file", &token]);
    // Over plain HTTP a token stays on this machine; nothing was sent to that address.
    let kept = fleet(78, &["nodes", "--hub", "http://192.0.2.7:8484", "--token-file", &token]);
    assert!(text(&kept).contains("in the clear"), "{}", text(&kept));

    // The agent's own configuration knows the hub and who vouches for it.
    let settings = path("agent.yaml");
    std::fs::write(&settings, format!("hub: {}\nhub_ca: {own}\n", hub.url)).unwrap();
    fleet(0, &["nodes", "--config", &settings, "--token-file", &token]);
    std::fs::write(&settings, "hub: none\n").unwrap();
    fleet(64, &["nodes", "--config", &settings]);
    fleet(64, &[]);
    fleet(64, &["bogus"]);
}
