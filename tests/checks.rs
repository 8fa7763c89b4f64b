//! Kind `check`: real things that answer, and some that do not.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::process::{Child, Stdio};
use std::time::Duration;
use support::{FLEET, Node, postgres_version, until};

const SOON: Duration = Duration::from_mins(1);

/// A program on the node that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(node: &Node, program: &str, args: &[&str], port: u16) -> Server {
    let mut command = node.command("setpriv");
    command.args(["--pdeathsig=KILL", "--", program]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server(command.spawn().unwrap());
    until("it listens", SOON, || node.holds(&format!("ss -Hltn sport = :{port} | grep -q .")));
    server
}

fn node(checks: &str) -> (Node, String) {
    let node = Node::new();
    node.write("/srv/spec/fleet.yaml", FLEET);
    node.write("/srv/spec/tiers/t.yaml", &format!("version: 1\ncheck:\n{checks}"));
    (node, "node: n1\nsource: /srv/spec\npoll_interval: 1s\npass_interval: 5s\n".to_owned())
}

fn status(node: &Node, check: &str) -> String {
    let item = node.item(&format!("check/{check}"));
    item.map(|item| item["status"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

fn reason(node: &Node, check: &str) -> String {
    let item = node.item(&format!("check/{check}"));
    item.map(|item| item["reason"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

fn becomes(node: &Node, check: &str, wanted: &str) {
    until(&format!("{check} is {wanted}: {}", reason(node, check)), SOON, || status(node, check) == wanted);
}

#[test]
fn a_memcached_a_page_a_file_and_certificates_are_told_well_and_told_when_they_are_not() {
    let (node, config) = node(
        "  memcached: {tcp: '127.0.0.1:11211', every: 5s}
  sessions: {memcached: '127.0.0.1:11211'}
  eden: {http: 'http://127.0.0.1:8000/page', contains: Eden}
  backup: {file: /srv/backup/latest.dump, younger_than: 26h}
  site: {certificate: /srv/keys/site.pem, left: 14d}
  shown: {certificate: '127.0.0.1:8443', left: 14d}
",
    );
    node.sh("mkdir -p /srv/www /srv/backup /srv/keys && echo 'this is Eden' > /srv/www/page && touch /srv/backup/latest.dump
             cd /srv/keys && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=site -days 30 -keyout key -out site.pem 2>/dev/null");
    let memcached =
        start(&node, "memcached", &["-u", "nobody", "-l", "127.0.0.1", "-p", "11211", "-m", "8"], 11211);
    let web = ["-m", "http.server", "8000", "--bind", "127.0.0.1", "--directory", "/srv/www"];
    let _web = start(&node, "/usr/bin/python3", &web, 8000);
    let tls =
        ["s_server", "-quiet", "-accept", "8443", "-key", "/srv/keys/key", "-cert", "/srv/keys/site.pem"];
    let _tls = start(&node, "openssl", &tls, 8443);
    let _agent = node.agent(&config);
    for check in ["memcached", "sessions", "eden", "backup", "site", "shown"] {
        becomes(&node, check, "compliant");
    }
    drop(memcached);
    becomes(&node, "sessions", "non_compliant");
    assert_eq!(reason(&node, "sessions"), "memcached 127.0.0.1:11211: connection refused");
    node.sh("rm /srv/www/page");
    becomes(&node, "eden", "non_compliant");
    assert_eq!(reason(&node, "eden"), "http://127.0.0.1:8000/page: 404 instead of 200");
    node.sh("echo other > /srv/www/page");
    until("the text is missed", SOON, || reason(&node, "eden").ends_with("it does not contain `Eden`"));
    node.sh("touch -d '2 days ago' /srv/backup/latest.dump");
    becomes(&node, "backup", "non_compliant");
    node.sh("cd /srv/keys && openssl req -x509 -key key -subj /CN=site -days 3 -out site.pem 2>/dev/null");
    becomes(&node, "site", "non_compliant");
    assert!(reason(&node, "site").contains("it expires in less than 14d (20"), "{}", reason(&node, "site"));
    assert_eq!(status(&node, "shown"), "compliant", "the server shows the old one still");
}

#[test]
fn a_port_that_swallows_everything_is_told_in_its_time_and_delays_nobody() {
    let (node, config) = node(
        "  dead: {tcp: '127.0.0.1:9999', within: 2s}
  slow: {http: 'http://127.0.0.1:9999/', within: 2s}
  file: {file: /srv/spec/fleet.yaml, younger_than: 1h}
",
    );
    node.sh("nft add table inet t && nft add chain inet t in '{ type filter hook input priority 0; }' && \
             nft add rule inet t in tcp dport 9999 drop");
    node.write("/etc/evenkeel/agent.yaml", &config);
    let began = std::time::Instant::now();
    let out = support::text(&node.run(&["plan"]));
    // Twice two seconds and the pause between, for both together.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    for line in ["127.0.0.1:9999: no answer within 2 s", "http://127.0.0.1:9999/: no answer within 2 s"] {
        assert!(out.contains(line), "{out}");
    }
    assert!(!out.contains("fleet.yaml"), "{out}");
}

#[test]
fn a_database_is_asked_and_cannot_be_written_to() {
    let version = postgres_version();
    let (node, config) = node(&format!(
        "  one: {{postgresql: {version}/test, query: 'select count(*) from pg_stat_replication', expect: 0}}
  other: {{postgresql: {version}/test, query: select 2, expect: 1}}
  writes: {{postgresql: {version}/test, role: postgres, query: select nextval('counter')}}
  several: {{postgresql: {version}/test, query: 'select 1; create table t ()'}}
  table: {{postgresql: {version}/test, query: select count(*) from kept, expect: 1}}
  owner: {{postgresql: {version}/test, role: postgres, query: select count(*) from kept, expect: 1}}
  away: {{postgresql: {version}/test, database: nowhere}}
  slow: {{postgresql: {version}/test, query: select pg_sleep(60), within: 1s}}
"
    ));
    let _postgres = node.postgres();
    node.sql("create table kept as select 1 as a");
    node.sql("create sequence counter");
    let _agent = node.agent(&config);
    becomes(&node, "one", "compliant");
    becomes(&node, "owner", "compliant");
    becomes(&node, "other", "non_compliant");
    assert!(reason(&node, "other").ends_with("2 instead of 1"), "{}", reason(&node, "other"));
    let told =
        |check: &str, words: &str| assert!(reason(&node, check).contains(words), "{}", reason(&node, check));
    told("writes", "read-only transaction");
    told("several", "multiple commands");
    told("table", "permission denied");
    told("away", "does not exist");
    told("slow", "statement timeout");
    assert_eq!(node.sql("select is_called from counter"), "f");
    assert_eq!(node.sql("select count(*) from pg_class where relname = 't'"), "0");
}
