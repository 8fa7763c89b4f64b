//! The configuration of who is told: what is wrong with one is said before anything starts, and what it says of
//! authorities and proxies is heeded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::receiver::{Papers, Receiver};
use common::stores::{Kind, Where};
use common::tls::TlsHub;
use common::{Hub, item, report, seq};
use evenkeel_report::{Scope, Status};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

/// What a hub says that does not come to serve.
fn refused(papers: &Papers) -> std::process::Output {
    let config = papers.config();
    let args = ["serve", "--listen", "127.0.0.1:0", "--store", "sqlite:/proc/no/hub.db", "--config", &config];
    Command::new(env!("CARGO_BIN_EXE_evenkeel-hub")).args(args).output().unwrap()
}

#[test]
fn a_sink_that_cannot_be_told_is_an_error_at_its_line_before_anything_starts() {
    let bad = |yaml: &str| {
        let papers = Papers::new(yaml);
        let done = refused(&papers);
        assert_eq!(done.status.code(), Some(78), "{yaml}");
        String::from_utf8(done.stderr).unwrap()
    };
    let cases = [
        ("keep_days: 3\nsinks:\n- name: a\n", "hub.yaml:3: ", "exactly one of webhook"),
        ("sinks:\n- name: a\n  webhoook: {url: 'http://x'}\n", "hub.yaml:3: ", "webhoook"),
        ("sinks:\n- name: a\n  webhook: {url: 'ftp://x'}\n", "hub.yaml:2: ", "write https://HOST"),
        ("sinks:\n- name: a\n  webhook: {url: 'https://u:p@x'}\n", "hub.yaml:2: ", "has a password in it"),
        ("sinks:\n- {name: a, severity: bad, webhook: {url: 'http://x'}}\n", "hub.yaml:2: ", "critical"),
        (
            "sinks:\n- {name: a, webhook: {url: 'http://x', secret_file: /nonexistent/k}}\n",
            "\"a\"",
            "/nonexistent/k: No such",
        ),
        (
            "sinks:\n- {name: a, webhook: {url: 'http://x'}}\n- {name: a, webhook: {url: 'http://x'}}\n",
            "\"a\"",
            "twice",
        ),
        ("public_url: hub.example.org\n", "public_url", "https://hub.example.org"),
    ];
    for (yaml, place, what) in cases {
        let why = bad(yaml);
        assert!(why.contains(place) && why.contains(what), "{yaml}: {why}");
    }
}

#[test]
fn a_secret_that_everybody_may_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let papers = Papers::new("sinks:\n- {name: slack, slack: {url_file: DIR/url}}\n");
    let path = papers.secret("url", "https://hooks.slack.com/services/canary");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let done = refused(&papers);
    let why = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(78));
    assert!(why.contains("everybody may use it") && !why.contains("canary"), "{why}");
}

#[tokio::test]
async fn an_authority_of_ones_own_is_believed_where_it_is_named_and_a_proxy_is_heeded() {
    let (at, there, proxy) = (Where::new(Kind::Sqlite), TlsHub::start(), Receiver::start().await);
    let url = there.url.replace("127.0.0.1", "localhost");
    let sink = |name: &str, more: &str| {
        format!("- name: {name}\n  group_seconds: 0\n  webhook: {{url: '{url}/healthz'}}\n{more}")
    };
    let named = format!("  ca_file: '{}'\n", there.ca().display());
    let far = "- {name: far, group_seconds: 0, webhook: {url: 'http://hooks.example.org/in'}}\n";
    let papers = Papers::new(&format!("sinks:\n{}{}{far}", sink("named", &named), sink("system", "")));
    let environment = [
        ("EVENKEEL_HUB_CONFIG", papers.config()),
        ("HTTP_PROXY", proxy.url()),
        ("NO_PROXY", "localhost".to_owned()),
    ];
    let hub = Hub::start_with(&at.url(), &environment.each_ref().map(|(key, value)| (*key, value.as_str())));
    let all = vec![item("sysctl/a", Status::Error)];
    hub.send(&[report("mw1", seq(7, 1), Scope::Full, all.clone(), &all)]).await;
    assert_eq!(proxy.wait(1).await[0].path, "http://hooks.example.org/in");
    let errors = |outbox: &Value| {
        let of = |sink: &str| {
            let all = outbox["messages"].as_array().unwrap();
            all.iter()
                .find(|one| one["sink"] == sink)
                .and_then(|one| one["error"].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        [of("named"), of("system")]
    };
    let patience = Instant::now() + Duration::from_secs(40);
    let [named, system] = loop {
        let told = errors(&hub.json("/api/v1/outbox").await);
        if told.iter().all(|why| !why.is_empty()) {
            break told;
        }
        assert!(Instant::now() < patience, "{told:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(named.starts_with("answered 405"), "the hub is no receiver, but it was spoken to: {named}");
    assert!(system.contains("certificate"), "{system}");
}
