//! The examples for Prometheus and Grafana, tried with the real programs: the rules do what they say, and every metric
//! that rules and dashboard name is one that a real hub tells and a real Prometheus takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::receiver::{Papers, free};
use common::stores::Kind;
use common::tls::TlsHub;
use common::{client, item, report, seq};
use evenkeel_report::{Scope, Status, Sync};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn promtool(args: &[&str]) {
    let done = Command::new("promtool")
        .args(args)
        .current_dir(examples().join("prometheus"))
        .output()
        .expect("the package prometheus is installed");
    let said = [done.stdout, done.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(done.status.success(), "{args:?}: {said}");
}

#[test]
fn promtool_takes_the_rules_and_their_tests_hold() {
    promtool(&["check", "rules", "evenkeel.rules.yaml"]);
    promtool(&["test", "rules", "evenkeel.rules_test.yaml"]);
}

#[test]
fn every_rule_has_a_test_in_which_it_fires() {
    let read = |name: &str| std::fs::read_to_string(examples().join("prometheus").join(name)).unwrap();
    let (rules, tests) = (read("evenkeel.rules.yaml"), read("evenkeel.rules_test.yaml"));
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(names.len(), 11);
    for name in names {
        let fires = format!("alertname: {name}\n        exp_alerts:\n          - exp_labels");
        let quiet = format!("{{eval_time: 100m, alertname: {name}, exp_alerts: []}}");
        assert!(tests.contains(&fires) && tests.contains(&quiet), "{name}");
    }
}

/// Every name of the hub's in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("evenkeel_hub_")).map(str::to_owned).collect()
}

fn expressions(dashboard: &Value) -> Vec<String> {
    let targets =
        dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// A real Prometheus that scrapes every second and has the rules.
struct Real {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Real {
    fn start(target: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = free();
        let rules = examples().join("prometheus/evenkeel.rules.yaml").canonicalize().unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n\
             - job_name: evenkeel-hub\n  static_configs: [{{targets: ['{target}']}}]\n",
            rules.display()
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={at}"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, url: format!("http://{at}"), _dir: dir }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.url)).unwrap();
        url.query_pairs_mut().extend_pairs(query);
        let answer = client().get(url).send().await.ok()?;
        answer.json().await.ok()
    }

    /// How many series a question has, once it is answered with some.
    async fn some(&self, query: &str) {
        let patience = Instant::now() + Duration::from_mins(1);
        loop {
            let answer = self.get("/api/v1/query", &[("query", query)]).await.unwrap_or_default();
            if answer["data"]["result"].as_array().is_some_and(|result| !result.is_empty()) {
                return;
            }
            assert!(Instant::now() < patience, "{query}: {answer}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn every_metric_that_rules_and_dashboard_name_is_one_that_the_hub_tells() {
    let papers = Papers::new(&format!(
        "sinks:\n- name: oncall\n  group_seconds: 0\n  webhook: {{url: 'http://{}'}}\n",
        free()
    ));
    let hub = TlsHub::start_with(Kind::Sqlite, &["--config", &papers.config()]);
    let db1 = hub.member(&hub.token(&[]), "db1").await;
    let all = vec![item("sysctl/a", Status::Error)];
    let mut event = report("db1", seq(7, 1), Scope::Full, all.clone(), &all);
    event.data.spec.sync = Sync::Failed;
    assert_eq!(hub.send(&db1.client, &[event.clone()]).await.0, 200);
    let forged = report("mw1", seq(7, 1), Scope::Full, all.clone(), &all);
    assert_eq!(hub.send(&db1.client, &[forged]).await.0, 403);

    let real = Real::start(hub.pages.trim_start_matches("http://"));
    let rules = std::fs::read_to_string(examples().join("prometheus/evenkeel.rules.yaml")).unwrap();
    let dashboard = std::fs::read_to_string(examples().join("grafana/evenkeel.json")).unwrap();
    let all = &names(&rules) | &names(&dashboard);
    assert!(all.len() > 12, "{all:?}");
    for name in &all {
        real.some(name).await;
    }
    for expression in expressions(&serde_json::from_str(&dashboard).unwrap()) {
        let query = expression.replace("$hub", ".*").replace("$__rate_interval", "10s");
        real.some(&query).await;
    }
    let rules = real.get("/api/v1/rules", &[]).await.unwrap();
    let rules: Vec<&Value> = rules["data"]["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|one| one["rules"].as_array().unwrap())
        .collect();
    let state = |name: &str| rules.iter().find(|rule| rule["name"] == name).unwrap()["state"].clone();
    assert!(rules.len() == 11 && rules.iter().all(|rule| rule["health"] == "ok"), "{rules:#?}");
    for (name, wanted) in [
        ("EvenkeelCommitRefused", "pending"),
        ("EvenkeelItemsInError", "pending"),
        ("EvenkeelNodesSilent", "inactive"),
        ("EvenkeelHubStoreAway", "inactive"),
        ("EvenkeelHubCertificateEnds", "inactive"),
        ("EvenkeelNodeCertificateEnds", "inactive"),
    ] {
        assert_eq!(state(name), wanted, "{name}");
    }
}
