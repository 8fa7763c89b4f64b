//! `evenkeel probe` through routers that drop, that reset and that forget nothing, at peers that stay and that close.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use support::{EVENKEEL, text, until};

const LISTENER: &str = "
import socket, sys, time
s = socket.create_server(('0.0.0.0', int(sys.argv[1])), backlog=64)
kept = []
while True:
    kept.append((time.monotonic(), s.accept()[0]))
";
/// Closes each connection, in order, once it is four seconds old.
const CLOSER: &str = "
import socket, sys, threading, time
s = socket.create_server(('0.0.0.0', int(sys.argv[1])), backlog=64)
def close(c):
    time.sleep(4)
    c.close()
while True:
    threading.Thread(target=close, args=[s.accept()[0]], daemon=True).start()
";

/// Three nodes and a router of their own, and what listens there.
struct Lab {
    name: String,
    children: Vec<Child>,
}

impl Lab {
    fn new(name: &str, options: &[&str]) -> Self {
        let lab = Self { name: format!("p{}{name}", std::process::id()), children: vec![] };
        let owner = std::process::id().to_string();
        let out = lab.script("up").args(options).args(["--owner", &owner]).output().unwrap();
        assert!(out.status.success(), "{}", text(&out));
        lab
    }

    fn script(&self, name: &str) -> Command {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab").join(name);
        let mut command = Command::new(path);
        command.env("EVENKEEL_LAB_NAME", &self.name).env("NO_COLOR", "1");
        command
    }

    fn on(&self, node: &str, line: &str) -> Output {
        let out = self.script("shell").args([node, "sh", "-ec", line]).output().unwrap();
        assert!(out.status.success(), "{line}\n{}", text(&out));
        out
    }

    /// A peer on the db node.
    fn listen(&mut self, program: &str, port: u16) {
        let port = port.to_string();
        let mut command = self.script("shell");
        command.args(["db", "python3", "-c", program, &port]).stdin(Stdio::null());
        self.children.push(command.spawn().unwrap());
        until("it listens", Duration::from_secs(10), || {
            let out = self.on("db", &format!("ss -Htln 'sport = :{port}'"));
            !out.stdout.is_empty()
        });
    }

    /// Run a probe from the middleware node.
    fn probe(&self, args: &[&str]) -> Output {
        self.script("shell").args(["mw", EVENKEEL, "probe"]).args(args).output().unwrap()
    }

    /// The same, for a program that reads it.
    fn measure(&self, args: &[&str]) -> Value {
        let out = self.probe(&[args, &["--format", "json"]].concat());
        assert_eq!(out.status.code(), Some(0), "{}", text(&out));
        serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&out)))
    }

    fn sql(&self, query: &str) {
        self.on("db", &format!("psql -XAtq -h 10.77.2.2 -U postgres postgres -c \"{query}\""));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = self.script("down").status();
    }
}

/// Whether what was survived and what was not have this many seconds between them, closely.
fn holds(found: &Value, bound: f64) -> bool {
    let (survived, died) = (found["survived_s"].as_f64().unwrap(), found["died_s"].as_f64().unwrap());
    // The router's clock begins with the last packet, and both clocks are rounded.
    survived < bound + 0.1 && died > bound - 0.1 && died - survived <= 1.0
}

/// Side by side, each in a lab of its own, because all of them wait.
#[test]
fn whatever_becomes_of_silent_connections_is_told() {
    std::thread::scope(|scope| {
        for story in [
            a_router_that_drops_without_a_word_is_measured,
            a_router_that_answers_with_a_reset_is_told_from_one_that_drops,
            a_peer_that_closes_by_itself_and_a_path_that_forgets_nothing_are_no_routers,
            a_path_that_breaks_while_it_is_measured_is_not_taken_for_one_that_forgets,
            postgresql_is_measured_once_it_has_let_us_in,
        ] {
            scope.spawn(story);
        }
    });
}

fn a_router_that_drops_without_a_word_is_measured() {
    let mut lab = Lab::new("d", &["--forget", "4"]);
    lab.listen(LISTENER, 7000);
    let out = lab.probe(&["10.77.2.2:7000", "--up-to", "16s"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    let (said, went) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("forgets a silent connection") && said.contains("without a word"), "{said}");
    let suggested = ["idle_timeout: 3s\n", "idle_timeout: 4s\n"];
    assert!(suggested.iter().any(|line| said.contains(line)), "{said}");
    assert!(went.contains("51 s at most") && went.contains("\nsurvived "), "{went}");
    assert!(!text(&out).contains('\u{1b}') && !text(&out).contains('\r'), "{}", text(&out));
}

fn a_router_that_answers_with_a_reset_is_told_from_one_that_drops() {
    let mut lab = Lab::new("r", &["--forget", "3"]);
    lab.on(
        "router",
        "nft insert rule inet lab forward ct state invalid meta l4proto tcp reject with tcp reset",
    );
    lab.listen(LISTENER, 7000);
    let found = lab.measure(&["10.77.2.2:7000", "--up-to", "12s"]);
    assert_eq!((&found["verdict"], &found["died_how"]), (&"forgets".into(), &"reset".into()), "{found}");
    assert!(holds(&found, 3.0), "{found}");
}

fn a_peer_that_closes_by_itself_and_a_path_that_forgets_nothing_are_no_routers() {
    let mut lab = Lab::new("c", &["--forget", "60"]);
    lab.listen(CLOSER, 7000);
    lab.listen(LISTENER, 7001);
    let (closes, remembers, gone) = std::thread::scope(|scope| {
        let closes = scope.spawn(|| lab.measure(&["10.77.2.2:7000", "--up-to", "9s"]));
        let remembers =
            scope.spawn(|| lab.measure(&["10.77.2.2:7001", "--up-to", "5s", "--connections", "3"]));
        let gone = scope.spawn(|| lab.probe(&["10.77.3.2:7002", "--up-to", "5s"]));
        (closes.join().unwrap(), remembers.join().unwrap(), gone.join().unwrap())
    });
    assert_eq!((&closes["verdict"], &closes["died_s"]), (&"peer_closes".into(), &Value::Null), "{closes}");
    assert!((3.9..4.9).contains(&closes["peer_closed_s"].as_f64().unwrap()), "{closes}");
    assert!(closes["took_s"].as_f64().unwrap() < 16.0, "nobody waits for what is closed: {closes}");
    assert_eq!(remembers["verdict"], "remembers", "{remembers}");
    assert_eq!(remembers["idle_timeout"], "5s", "{remembers}");
    assert_eq!(gone.status.code(), Some(1), "{}", text(&gone));
    assert!(text(&gone).contains("connect to 10.77.3.2:7002"), "{}", text(&gone));
}

fn a_path_that_breaks_while_it_is_measured_is_not_taken_for_one_that_forgets() {
    let mut lab = Lab::new("b", &["--forget", "60"]);
    lab.listen(LISTENER, 7000);
    let out = std::thread::scope(|scope| {
        let out = scope.spawn(|| lab.probe(&["10.77.2.2:7000", "--up-to", "5s"]));
        std::thread::sleep(Duration::from_millis(2500));
        lab.on("router", "nft insert rule inet lab forward ip daddr 10.77.2.2 drop");
        out.join().unwrap()
    });
    assert_eq!((out.status.code(), out.stdout.is_empty()), (Some(1), true), "{}", text(&out));
    assert!(text(&out).contains("dropped after") && text(&out).contains("out of reach"), "{}", text(&out));
}

fn postgresql_is_measured_once_it_has_let_us_in() {
    let lab = Lab::new("g", &["--forget", "3", "--postgres"]);
    // Who has not logged in after a second is shown the door; who has is probed by the server every second, unless it is
    // asked not to.
    lab.sql("alter system set authentication_timeout = '1s'");
    lab.sql("alter system set tcp_keepalives_idle = 1");
    lab.sql("create role probed login password 'a b''c'");
    let hba = format!("/run/evenkeel-lab/{}/postgres/data/pg_hba.conf", lab.name);
    lab.on("db", &format!("sed -i '1i host all probed 10.77.0.0/16 scram-sha-256' {hba}"));
    lab.sql("select pg_reload_conf()");

    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "a b'c\n").unwrap();
    let file = secret.path().to_str().unwrap();
    let mode = |mode| std::fs::set_permissions(secret.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    let login = ["10.77.2.2:5432", "--up-to", "8s", "--postgres", "user=probed dbname=postgres"];
    let with_file = [&login[..], &["--password-file", file]].concat();

    mode(0o644);
    let open = lab.probe(&with_file);
    assert_eq!((open.status.code(), text(&open).contains("chmod 0600")), (Some(1), true), "{}", text(&open));
    let none = lab.probe(&login);
    assert_eq!((none.status.code(), text(&none).contains("password")), (Some(1), true), "{}", text(&none));
    mode(0o600);
    let (outside, inside) = std::thread::scope(|scope| {
        let outside = scope.spawn(|| lab.measure(&["10.77.2.2:5432", "--up-to", "8s"]));
        let inside = scope.spawn(|| lab.measure(&with_file));
        (outside.join().unwrap(), inside.join().unwrap())
    });
    assert_eq!(outside["verdict"], "peer_closes", "{outside}");
    assert_eq!((&inside["verdict"], &inside["logged_in"]), (&"forgets".into(), &true.into()), "{inside}");
    assert!(holds(&inside, 3.0), "{inside}");
}

#[test]
fn what_is_typed_wrongly_is_refused_before_anything_is_opened() {
    for args in [
        &["127.0.0.1"][..],
        &["127.0.0.1:0"],
        &["::1:80"],
        &["127.0.0.1:1", "--up-to", "20"],
        &["127.0.0.1:1", "--up-to", "900ms"],
        &["127.0.0.1:1", "--connections", "0"],
        &["127.0.0.1:1", "--password-file", "/dev/null"],
        &["127.0.0.1:1", "--postgres", "user=a password=b"],
        &["127.0.0.1:1", "--postgres", "user=a host=b"],
    ] {
        let out = Command::new(EVENKEEL).arg("probe").args(args).output().unwrap();
        assert_eq!((out.status.code(), out.stdout.is_empty()), (Some(64), true), "{args:?}\n{}", text(&out));
    }
    let nobody = Command::new(EVENKEEL).args(["probe", "127.0.0.1:1"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1), "{}", text(&nobody));
}
