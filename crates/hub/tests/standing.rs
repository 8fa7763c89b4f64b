//! Whoever is told what stands: a real Alertmanager, and the three APIs that take a commit's status.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::receiver::{Answer, Came, Papers, Receiver, free};
use common::stores::{Kind, Where};
use common::{T0, client, item, now_ms, report, seq};
use evenkeel_report::{Event, Report, Scope, Status, Sync, Timestamp};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const OLD: &str = "1111111111111111111111111111111111111111";
const NEW: &str = "2222222222222222222222222222222222222222";

fn full(name: &str, n: u64, commit: &str, statuses: &[(&str, Status)]) -> Event<Report> {
    let items: Vec<_> = statuses.iter().map(|(id, status)| item(id, *status)).collect();
    let mut event = report(name, seq(7, n), Scope::Full, items.clone(), &items);
    event.time = Timestamp::from_unix_ms(now_ms()).unwrap();
    event.data.spec.target_commit = Some(commit.to_owned());
    event.data.spec.observed_commit = Some(commit.to_owned());
    event
}

fn ms(text: &Value) -> i64 {
    serde_json::from_value::<Timestamp>(text.clone()).unwrap_or_else(|_| panic!("{text}")).unix_ms()
}

on_every_store! {
    an_alert_has_its_real_beginning_an_end_ahead_and_an_end_of_now_once_it_is_over
    a_real_alertmanager_shows_what_is_off_and_forgets_what_is_over
    a_commits_status_follows_it_through_the_fleet_at_each_forge
}

fn alertmanager(url: &str) -> Papers {
    Papers::new(&format!(
        "public_url: https://hub.example.org\nsinks:\n- name: am\n  alertmanager: {{url: '{url}/'}}\n"
    ))
}

async fn an_alert_has_its_real_beginning_an_end_ahead_and_an_end_of_now_once_it_is_over(kind: Kind) {
    // The first request is taken and not answered: whether the hub dies before or after the answer must not matter.
    let (at, there) = (Where::new(kind), Receiver::at(free(), &[Answer::Never]).await);
    let papers = alertmanager(&there.url());
    let hub = papers.hub(&at.url());
    let off = [("sysctl/a", Status::Error), ("sysctl/b", Status::Pending)];
    hub.send(&[full("db1", 1, OLD, &off)]).await;
    let first = there.wait(1).await.remove(0);
    let alerts = first.json();
    assert_eq!(
        (first.path.as_str(), alerts.as_array().unwrap().len()),
        ("/api/v2/alerts", 1),
        "pending is no warning"
    );
    let labels = json!({"alertname": "EvenkeelItemOff", "severity": "critical", "node": "db1", "source": "urn:uuid:db1",
                        "tier": "database", "item": "sysctl/a", "status": "error"});
    assert_eq!(alerts[0]["labels"], labels);
    assert_eq!(ms(&alerts[0]["startsAt"]), T0 - 60_000, "since when the node says");
    assert!((240_000..=305_000).contains(&(ms(&alerts[0]["endsAt"]) - now_ms())), "{alerts}");
    assert_eq!(alerts[0]["annotations"]["summary"], "sysctl/a is error on db1");
    assert_eq!(alerts[0]["generatorURL"], "https://hub.example.org/nodes/urn%3Auuid%3Adb1");
    // A hub that was killed remembers what it may have told.
    drop(hub);
    let hub = papers.hub(&at.url());
    hub.send(&[full("db1", 2, OLD, &[("sysctl/a", Status::Compliant)])]).await;
    let over =
        there.until("an end", |came| came.iter().any(|one| ms(&one.json()[0]["endsAt"]) <= now_ms())).await;
    let over = over.last().unwrap().json();
    assert_eq!((&over[0]["labels"], ms(&over[0]["startsAt"])), (&labels, T0 - 60_000));
    let told = there.came().len();
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(there.came().len(), told, "where nothing is off, nothing is sent");
}

/// The real program, on a port of its own; it ends with this.
struct Real {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Real {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("am.yml");
        std::fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n").unwrap();
        let at = free();
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.path().display()))
            .arg(format!("--web.listen-address={at}"))
            .arg("--cluster.listen-address=")
            .stderr(Stdio::null())
            .spawn()
            .expect("the package prometheus-alertmanager is installed");
        let it = Self { child, url: format!("http://{at}"), _dir: dir };
        let patience = Instant::now() + Duration::from_secs(30);
        while client().get(format!("{}/-/ready", it.url)).send().await.is_err() {
            assert!(Instant::now() < patience, "Alertmanager does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        it
    }

    async fn alerts(&self) -> Vec<Value> {
        client().get(format!("{}/api/v2/alerts", self.url)).send().await.unwrap().json().await.unwrap()
    }

    async fn until(&self, count: usize) -> Vec<Value> {
        let patience = Instant::now() + Duration::from_secs(40);
        loop {
            let alerts = self.alerts().await;
            if alerts.len() == count {
                return alerts;
            }
            assert!(Instant::now() < patience, "{alerts:#?}");
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

async fn a_real_alertmanager_shows_what_is_off_and_forgets_what_is_over(kind: Kind) {
    let (at, real) = (Where::new(kind), Real::start().await);
    let hub = alertmanager(&real.url).hub(&at.url());
    let mut refused = full("mw1", 1, OLD, &[("sysctl/a", Status::NonCompliant)]);
    refused.data.spec.sync = Sync::Failed;
    hub.send(&[refused]).await;
    let alerts = real.until(2).await;
    let mut names: Vec<_> = alerts.iter().map(|one| one["labels"]["alertname"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["EvenkeelCommitRefused", "EvenkeelItemOff"]);
    let item = alerts.iter().find(|one| one["labels"]["item"] == "sysctl/a").unwrap();
    assert_eq!((ms(&item["startsAt"]), &item["status"]["state"]), (T0 - 60_000, &json!("active")));
    hub.send(&[full("mw1", 2, OLD, &[("sysctl/a", Status::Compliant)])]).await;
    real.until(0).await;
}

fn said(came: &[Came], path: &str) -> Vec<String> {
    let of = came.iter().filter(|one| one.path == path);
    of.map(|one| {
        let body = one.json();
        format!("{}: {}", body["state"].as_str().unwrap(), body["description"].as_str().unwrap())
    })
    .collect()
}

async fn a_commits_status_follows_it_through_the_fleet_at_each_forge(kind: Kind) {
    let (at, there) = (Where::new(kind), Receiver::start().await);
    let sink = |forge: &str, project: &str| {
        format!(
            "- name: {forge}\n  tiers: [middleware]\n  commit_status: {{forge: {forge}, url: '{}/{forge}', project: {project}, \
             token_file: DIR/token, environment: production}}\n",
            there.url()
        )
    };
    let yaml =
        ["github", "gitea"].map(|forge| sink(forge, "team/eden")).concat() + &sink("gitlab", "team/sub/eden");
    let papers = Papers::new(&format!("public_url: https://hub.example.org\nsinks:\n{yaml}"));
    papers.secret("token", "t0ken\n");
    let hub = papers.hub(&at.url());
    let mut strange = full("mw3", 1, "../../../../evil/repos/x/y/statuses/1", &[]);
    strange.data.spec.sync = Sync::Failed;
    hub.send(&[
        full("mw1", 1, OLD, &[]),
        full("mw2", 1, OLD, &[]),
        full("db1", 1, OLD, &[("s/a", Status::Error)]),
        strange,
    ])
    .await;
    let paths = |commit: &str| {
        [
            format!("/github/repos/team/eden/statuses/{commit}"),
            format!("/gitea/api/v1/repos/team/eden/statuses/{commit}"),
            format!("/gitlab/api/v4/projects/team%2Fsub%2Feden/statuses/{commit}"),
        ]
    };
    let [github, gitea, gitlab] = paths(OLD);
    let came = there.wait(3).await;
    let by =
        |path: &str| came.iter().find(|one| one.path == path).unwrap_or_else(|| panic!("{path}: {came:#?}"));
    assert_eq!(by(&github).header("authorization"), "Bearer t0ken");
    assert_eq!(by(&gitea).header("authorization"), "token t0ken");
    assert_eq!(by(&gitlab).header("private-token"), "t0ken");
    assert_eq!(by(&github).json()["context"], "evenkeel/production");
    assert_eq!(by(&gitlab).json()["name"], "evenkeel/production");
    assert_eq!(by(&github).json()["target_url"], "https://hub.example.org");
    assert!(by(&github).header("user-agent").starts_with("evenkeel-hub/"), "GitHub asks for one");
    assert_eq!(said(&came, &gitlab), ["running: 2/3 even"]);
    assert!(came.iter().all(|one| !one.path.contains("evil")), "{came:#?}");

    hub.send(&[full("mw3", 2, OLD, &[])]).await;
    let came =
        there.until("even", |came| said(came, &gitlab).len() == 2 && said(came, &gitea).len() == 2).await;
    assert_eq!(said(&came, &gitea), ["pending: 2/3 even", "success: 3/3 even"]);
    let mut refuses = full("mw1", 2, OLD, &[]);
    refuses.data.spec.target_commit = Some(NEW.to_owned());
    refuses.data.spec.sync = Sync::Failed;
    refuses.data.spec.errors = vec!["fleet.yaml:3: no such kind".to_owned()];
    hub.send(&[refuses]).await;
    let new = paths(NEW);
    let came = there.until("a refusal", |came| new.iter().all(|path| !said(came, path).is_empty())).await;
    assert_eq!(said(&came, &new[0]), ["failure: 1 of 3 refused it (mw1): fleet.yaml:3: no such kind"]);
    assert_eq!(said(&came, &new[2]), ["failed: 1 of 3 refused it (mw1): fleet.yaml:3: no such kind"]);
    hub.send(&[full("mw1", 3, NEW, &[]), full("mw2", 2, NEW, &[]), full("mw3", 3, NEW, &[])]).await;
    let came = there.until("even", |came| said(came, &new[0]).iter().any(|one| one.contains("3/3"))).await;
    assert_eq!(said(&came, &new[0]).last().unwrap(), "success: 3/3 even");
    let told = there.came().iter().filter(|one| one.path.starts_with("/github")).count();
    tokio::time::sleep(Duration::from_secs(16)).await;
    let again = there.came().iter().filter(|one| one.path.starts_with("/github")).count();
    assert_eq!(again, told, "what was told is not told again");
    assert_eq!(
        said(&there.came(), &github).last().unwrap(),
        "success: 3/3 even",
        "a commit that was followed stays even"
    );
}
