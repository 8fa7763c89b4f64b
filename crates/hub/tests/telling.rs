//! What people are told: by the real binary, to a real HTTP server, on both stores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::cluster::Cluster;
use common::receiver::{Answer, Came, Papers, Receiver, free};
use common::stores::{Kind, Where};
use common::{Hub, beat, item, now_ms, report, seq};
use evenkeel_hub::store::telling::{Message, State};
use evenkeel_report::{Event, Report, Scope, Status, Sync, Timestamp};
use ring::hmac;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

fn full(name: &str, n: u64, statuses: &[(&str, Status)]) -> Event<Report> {
    let items: Vec<_> = statuses.iter().map(|(id, status)| item(id, *status)).collect();
    let mut event = report(name, seq(7, n), Scope::Full, items.clone(), &items);
    event.time = Timestamp::from_unix_ms(now_ms()).unwrap();
    event
}

fn refusing(name: &str, n: u64, target: &str, sync: Sync) -> Event<Report> {
    let mut event = full(name, n, &[]);
    event.data.spec.target_commit = Some(target.to_owned());
    event.data.spec.sync = sync;
    if sync == Sync::Failed {
        event.data.spec.errors = vec!["tiers/db.yaml:3: <!channel> & such".to_owned()];
    }
    event
}

/// A webhook that gathers for a second, at `url`, with `more` lines.
fn webhook(url: &str, more: &str) -> Papers {
    let yaml = format!("sinks:\n- name: hook\n  group_seconds: 1\n  webhook: {{url: '{url}/in'}}\n{more}");
    Papers::new(&yaml)
}

fn events(came: &[Came]) -> Vec<Value> {
    came.iter().map(Came::json).collect()
}

/// Long enough for whatever else would have been told.
async fn quiet() {
    tokio::time::sleep(Duration::from_secs(4)).await;
}

on_every_store! {
    what_goes_off_is_told_once_signed_and_so_is_its_end
    a_hundred_nodes_with_the_same_drift_are_one_message
    what_nobody_took_is_told_after_the_outage_and_after_a_kill
    a_hub_that_is_killed_while_it_tells_tells_again_under_the_same_id
    retry_after_is_obeyed
    a_receiver_that_hangs_is_in_no_others_way
    what_nobody_takes_for_hours_is_given_up_counted_and_shown
    a_sink_hears_only_of_what_it_asked_for
    a_silence_stops_telling_and_hides_nothing_and_its_end_tells_what_is_still_off
    what_is_over_before_its_silence_ends_is_told_to_nobody
    a_node_that_is_silent_is_told_and_so_is_that_it_is_back
    a_refused_commit_is_told_in_slack_and_calls_nobody
    an_invariant_that_breaks_is_told_and_so_is_that_it_is_whole
}

async fn what_goes_off_is_told_once_signed_and_so_is_its_end(kind: Kind) {
    let (at, there) = (Where::new(kind), Receiver::start().await);
    let papers = Papers::new(&format!(
        "public_url: https://hub.example.org\nsinks:\n- name: hook\n  group_seconds: 1\n  \
         webhook: {{url: '{}/in', secret_file: DIR/key}}\n",
        there.url()
    ));
    let secret = [7_u8; 32];
    papers.secret("key", &format!("whsec_{}\n", STANDARD.encode(secret)));
    let hub = papers.hub(&at.url());
    hub.send(&[full("mw1", 1, &[("sysctl/a", Status::Error), ("sysctl/b", Status::Compliant)])]).await;
    let told = there.wait(1).await.remove(0);
    let event = told.json();
    assert_eq!((told.path.as_str(), told.header("content-type")), ("/in", "application/cloudevents+json"));
    assert_eq!((&event["type"], &event["specversion"]), (&json!("dev.evenkeel.told.v1"), &json!("1.0")));
    assert_eq!(event["id"], told.header("webhook-id"));
    let data = &event["data"];
    assert_eq!(
        (&data["topic"], &data["open"], &data["item"]),
        (&json!("item"), &json!(true), &json!("sysctl/a"))
    );
    assert_eq!((&data["severity"], &data["count"]), (&json!("critical"), &json!(1)));
    assert_eq!(data["summary"], "sysctl/a is error on mw1");
    assert_eq!(data["nodes"][0]["drift"][0]["observed"], "7200");
    assert_eq!(data["nodes"][0]["url"], "https://hub.example.org/nodes/urn%3Auuid%3Amw1");

    let stamp = told.header("webhook-timestamp");
    assert!((stamp.parse::<i64>().unwrap() - now_ms() / 1000).abs() < 30, "{stamp}");
    let signed = format!("{}.{stamp}.{}", told.header("webhook-id"), told.body);
    let tag = STANDARD.decode(told.header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    hmac::verify(&key, signed.as_bytes(), &tag).expect("the signature is right");
    hmac::verify(&key, format!("{signed} ").as_bytes(), &tag).expect_err("and of nothing else");

    hub.send(&[full("mw1", 2, &[("sysctl/a", Status::Error)])]).await;
    quiet().await;
    assert_eq!(there.came().len(), 1, "what stands is no news");
    hub.send(&[full("mw1", 3, &[("sysctl/a", Status::Repaired)])]).await;
    let over = there.wait(2).await[1].json();
    assert_eq!((&over["data"]["open"], &over["data"]["item"]), (&json!(false), &json!("sysctl/a")));
    assert_ne!(over["id"], event["id"]);
    quiet().await;
    assert_eq!(there.came().len(), 2);
    let outbox = hub.json("/api/v1/outbox").await;
    assert_eq!((&outbox["done"], &outbox["waiting"], &outbox["failed"]), (&json!(2), &json!(0), &json!(0)));
}

async fn a_hundred_nodes_with_the_same_drift_are_one_message(kind: Kind) {
    let (at, there) = (Where::new(kind), Receiver::start().await);
    let yaml = format!("sinks:\n- name: hook\n  group_seconds: 3\n  webhook: {{url: '{}'}}\n", there.url());
    let hub = Papers::new(&yaml).hub(&at.url());
    for half in [0..60, 60..120] {
        let all: Vec<_> =
            half.map(|n| full(&format!("mw{n}"), 1, &[("sysctl/a", Status::NonCompliant)])).collect();
        hub.send(&all).await;
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    there.wait(1).await;
    quiet().await;
    let told = events(&there.came());
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0]["data"]["count"], 120);
    assert_eq!(told[0]["data"]["nodes"].as_array().unwrap().len(), 100, "the first hundred are named");
    let summary = told[0]["data"]["summary"].as_str().unwrap();
    assert!(summary.starts_with("sysctl/a is non-compliant on 120 nodes (mw"), "{summary}");
}

async fn waiting(hub: &Hub, what: impl Fn(&Value) -> bool) -> Value {
    let patience = Instant::now() + Duration::from_secs(40);
    loop {
        let outbox = hub.json("/api/v1/outbox").await;
        if what(&outbox) {
            return outbox;
        }
        assert!(Instant::now() < patience, "{outbox:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn what_nobody_took_is_told_after_the_outage_and_after_a_kill(kind: Kind) {
    let (at, address) = (Where::new(kind), free());
    let papers = webhook(&format!("http://{address}"), "");
    let mut hub = papers.hub(&at.url());
    hub.send(&[full("mw1", 1, &[("sysctl/a", Status::Error)])]).await;
    let outbox = waiting(&hub, |outbox| !outbox["messages"][0]["error"].is_null()).await;
    let id = outbox["messages"][0]["id"].clone();
    assert!(outbox["messages"][0]["error"].as_str().unwrap().contains("refused"), "{outbox:#}");
    hub.child.kill().unwrap();
    hub.child.wait().unwrap();
    let there = Receiver::at(address, &[]).await;
    let hub = papers.hub(&at.url());
    assert_eq!(there.wait(1).await[0].json()["id"], id);
    quiet().await;
    assert_eq!(there.came().len(), 1);
    assert_eq!(hub.json("/api/v1/outbox").await["done"], 1);
}

async fn a_hub_that_is_killed_while_it_tells_tells_again_under_the_same_id(kind: Kind) {
    let (at, there) = (Where::new(kind), Receiver::at(free(), &[Answer::Never]).await);
    let papers = webhook(&there.url(), "");
    let mut hub = papers.hub(&at.url());
    hub.send(&[full("mw1", 1, &[("sysctl/a", Status::Error)])]).await;
    let first = there.wait(1).await.remove(0);
    hub.child.kill().unwrap();
    hub.child.wait().unwrap();
    let _hub = papers.hub(&at.url());
    let again = there.wait(2).await.remove(1);
    assert_eq!(again.json()["id"], first.json()["id"]);
    assert!(again.at - first.at >= Duration::from_secs(15), "it was lent until then");
}

async fn retry_after_is_obeyed(kind: Kind) {
    let (at, there) = (Where::new(kind), Receiver::at(free(), &[Answer::Later(6), Answer::Code(500)]).await);
    let hub = webhook(&there.url(), "").hub(&at.url());
    hub.send(&[full("mw1", 1, &[("sysctl/a", Status::Error)])]).await;
    let came = there.wait(3).await;
    assert!(came[1].at - came[0].at >= Duration::from_secs(6), "{:?}", came[1].at - came[0].at);
    let ids: BTreeSet<_> = came.iter().map(|one| one.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 1);
    waiting(&hub, |outbox| outbox["done"] == 1).await;
    let (_, metrics) = hub.text("/metrics").await;
    assert!(metrics.contains("evenkeel_hub_told_total{sink=\"hook\",result=\"not_taken\"} 2"), "{metrics}");
}

async fn a_receiver_that_hangs_is_in_no_others_way(kind: Kind) {
    let (at, there) = (Where::new(kind), Receiver::start().await);
    let hangs = Receiver::at(free(), &[Answer::Never; 50]).await;
    let sink = |name: &str, url: String| {
        format!("- name: {name}\n  group_seconds: 0\n  webhook: {{url: '{url}'}}\n")
    };
    let yaml = format!("sinks:\n{}{}", sink("a", hangs.url()), sink("b", there.url()));
    let hub = Papers::new(&yaml).hub(&at.url());
    for n in 1..=12 {
        let id = format!("sysctl/{n}");
        hub.send(&[full(&format!("mw{n}"), 1, &[(id.as_str(), Status::Error)])]).await;
    }
    hangs.wait(4).await;
    let began = Instant::now();
    there.wait(12).await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}: a try may take 8 s", began.elapsed());
    assert!(hangs.came().len() <= 4, "no more than four at once");
}

async fn what_nobody_takes_for_hours_is_given_up_counted_and_shown(kind: Kind) {
    let (at, there) = (Where::new(kind), Receiver::at(free(), &[Answer::Code(500)]).await);
    let location = at.location();
    let old = Message {
        id: "old".to_owned(),
        sink: "hook".to_owned(),
        grp: "g".to_owned(),
        state: State::Waiting,
        first: now_ms() - 3_601_000,
        next: 0,
        tries: 7,
        body: json!({"topic": "item", "open": true, "severity": "critical", "item": "sysctl/a", "status": "error",
                     "count": 0, "nodes": []})
        .to_string(),
        error: "answered 500".to_owned(),
    };
    let kept = tokio::task::spawn_blocking(move || evenkeel_hub::telling(&location).unwrap().ensure(&old));
    kept.await.unwrap().unwrap();
    let yaml = format!("sinks:\n- name: hook\n  give_up_hours: 1\n  webhook: {{url: '{}'}}\n", there.url());
    let hub = Papers::new(&yaml).hub(&at.url());
    let outbox = waiting(&hub, |outbox| outbox["failed"] == 1).await;
    assert_eq!(
        (&outbox["messages"][0]["state"], &outbox["messages"][0]["tries"]),
        (&json!("failed"), &json!(8))
    );
    quiet().await;
    assert_eq!(there.came().len(), 1);
    let (_, metrics) = hub.text("/metrics").await;
    assert!(metrics.contains("evenkeel_hub_told_total{sink=\"hook\",result=\"given_up\"} 1"), "{metrics}");
    assert!(metrics.contains("evenkeel_hub_outbox_messages{sink=\"hook\",state=\"failed\"} 1"), "{metrics}");
}

async fn a_sink_hears_only_of_what_it_asked_for(kind: Kind) {
    let (at, there) = (Where::new(kind), Receiver::start().await);
    let sink = |name: &str, more: &str| {
        format!("- name: {name}\n  group_seconds: 0\n  webhook: {{url: '{}/{name}'}}\n{more}", there.url())
    };
    let yaml = format!(
        "sinks:\n{}{}{}",
        sink("db", "  tiers: [database]\n"),
        sink("bad", "  severity: critical\n"),
        sink("repairs", "  tell: [repair]\n  severity: info\n")
    );
    let hub = Papers::new(&yaml).hub(&at.url());
    hub.send(&[
        full("db1", 1, &[("sysctl/a", Status::NonCompliant)]),
        full(
            "mw1",
            1,
            &[("sysctl/b", Status::Error), ("sysctl/c", Status::Repaired), ("sysctl/d", Status::Pending)],
        ),
    ])
    .await;
    there.wait(3).await;
    quiet().await;
    let told: BTreeSet<_> = there
        .came()
        .iter()
        .map(|one| format!("{} {}", one.path, one.json()["data"]["summary"].as_str().unwrap()))
        .collect();
    let wanted = [
        "/bad sysctl/b is error on mw1",
        "/db sysctl/a is non-compliant on db1",
        "/repairs sysctl/c was put right on mw1",
    ];
    assert_eq!(told, wanted.map(str::to_owned).into());
}

fn silence(store: &str, args: &[&str]) -> (bool, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_evenkeel-hub"))
        .args(["silence", "--store", store])
        .args(args)
        .output()
        .unwrap();
    let text = if done.status.success() { done.stdout } else { done.stderr };
    (done.status.success(), String::from_utf8(text).unwrap().trim().to_owned())
}

const WHY: [&str; 4] = ["--reason", "the new kernel comes on Monday", "--owner", "anna"];

async fn a_silence_stops_telling_and_hides_nothing_and_its_end_tells_what_is_still_off(kind: Kind) {
    let (at, there) = (Where::new(kind), Receiver::start().await);
    let hub = webhook(&there.url(), "").hub(&at.url());
    let store = at.url();
    let add = |more: &[&str]| silence(&store, &[&["add"], &WHY[..], more].concat());
    assert!(add(&["--for", "1h"]).1.contains("over everything"));
    assert!(add(&["--item", "sysctl/a", "--for", "91d"]).1.contains("at most 90 days"));
    assert!(add(&["--item", "[", "--for", "1h"]).1.contains("is no glob"));
    let (made, id) = add(&["--item", "sysctl/a*", "--node", "mw?", "--for", "1h"]);
    assert!(made, "{id}");
    let listed = hub.json("/api/v1/silences").await;
    assert_eq!((&listed["silences"][0]["id"], &listed["silences"][0]["owner"]), (&json!(id), &json!("anna")));
    assert!(silence(&store, &["list"]).1.contains("anna: the new kernel comes on Monday"));
    let off = |n| full("mw1", n, &[("sysctl/a", Status::Error), ("sysctl/b", Status::NonCompliant)]);
    hub.send(&[off(1)]).await;
    there.wait(1).await;
    quiet().await;
    let told = events(&there.came());
    assert_eq!((told.len(), &told[0]["data"]["item"]), (1, &json!("sysctl/b")));
    let node = hub.json("/api/v1/nodes/mw1").await;
    assert_eq!(
        (&node["counts"]["error"], &node["status"]),
        (&json!(1), &json!("error")),
        "nothing is hidden"
    );
    let (_, page) = hub.text("/").await;
    assert!(page.contains("sysctl/a") && page.contains("the new kernel comes on Monday"), "{page}");
    assert!(silence(&store, &["end", "nobody"]).1.contains("there is no silence"));
    assert!(silence(&store, &["end", &id]).0);
    assert_eq!(there.wait(2).await[1].json()["data"]["item"], "sysctl/a", "it is still off");
}

async fn what_is_over_before_its_silence_ends_is_told_to_nobody(kind: Kind) {
    let (at, there) = (Where::new(kind), Receiver::start().await);
    let hub = webhook(&there.url(), "").hub(&at.url());
    let (_, id) =
        silence(&at.url(), &[&["add"], &WHY[..], &["--tier", "middleware", "--for", "5m"]].concat());
    hub.send(&[full("mw1", 1, &[("sysctl/a", Status::Error)])]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    hub.send(&[full("mw1", 2, &[("sysctl/a", Status::Compliant)])]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(silence(&at.url(), &["end", &id]).0);
    quiet().await;
    assert_eq!(events(&there.came()), Vec::<Value>::new());
    hub.send(&[full("mw1", 3, &[("sysctl/a", Status::Error)])]).await;
    there.wait(1).await;
}

async fn a_node_that_is_silent_is_told_and_so_is_that_it_is_back(kind: Kind) {
    let (at, there) = (Where::new(kind), Receiver::start().await);
    let papers = webhook(&there.url(), "");
    let hub = papers.hub(&at.url());
    let alive = || {
        let mut alive = beat("mw1", seq(7, 1), now_ms(), &[]);
        alive.data.interval_s = 1;
        alive
    };
    hub.send(&[alive()]).await;
    let told = there.wait(1).await[0].json();
    assert_eq!(told["data"]["summary"], "mw1 is silent");
    drop(hub);
    // A hub that has just started gives every node some time; that is no sign of life.
    let hub = papers.hub(&at.url());
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(there.came().len(), 1);
    hub.send(&[alive()]).await;
    let back = there.wait(2).await[1].json();
    assert_eq!((&back["data"]["summary"], &back["data"]["open"]), (&json!("mw1 is back"), &json!(false)));
    assert_eq!(there.wait(3).await[2].json()["data"]["summary"], "mw1 is silent");
    let removing = Command::new(env!("CARGO_BIN_EXE_evenkeel-hub"))
        .args(["node", "--store", &at.url(), "remove", "mw1"])
        .status();
    assert!(removing.unwrap().success());
    let over = there.wait(4).await[3].json();
    assert_eq!(
        (&over["data"]["summary"], &over["data"]["nodes"][0]["node"], &over["data"]["open"]),
        (&json!("mw1 was taken out"), &json!("mw1"), &json!(false))
    );
}

async fn a_refused_commit_is_told_in_slack_and_calls_nobody(kind: Kind) {
    let (at, there) = (Where::new(kind), Receiver::start().await);
    let papers = Papers::new("sinks:\n- {name: slack, group_seconds: 0, slack: {url_file: DIR/url}}\n");
    papers.secret("url", &format!("{}/services/T0/B0/xyz\n", there.url()));
    let hub = papers.hub(&at.url());
    let commit = "abcdef0123456789abcdef0123456789abcdef01";
    hub.send(&[refusing("db1", 1, commit, Sync::Failed)]).await;
    hub.send(&[refusing("db1", 2, commit, Sync::Failed)]).await;
    let told = there.wait(1).await.remove(0);
    let text = told.json()["text"].as_str().unwrap().to_owned();
    assert_eq!(told.path, "/services/T0/B0/xyz");
    assert!(text.contains("*commit abcdef012345 was refused by db1*"), "{text}");
    assert!(text.contains("tiers/db.yaml:3: &lt;!channel&gt; &amp; such") && !text.contains("<!"), "{text}");
    hub.send(&[refusing("db1", 3, "1111111111111111", Sync::Synced)]).await;
    let over = there.wait(2).await[1].json();
    assert!(over["text"].as_str().unwrap().contains("is refused no more by db1"), "{over}");
    quiet().await;
    assert_eq!(there.came().len(), 2);
    let (_, shown) = hub.text("/api/v1/outbox").await;
    assert!(!shown.contains("xyz"), "the address is a secret: {shown}");
}

async fn an_invariant_that_breaks_is_told_and_so_is_that_it_is_whole(kind: Kind) {
    let (at, there) = (Where::new(kind), Receiver::start().await);
    let hub = webhook(&there.url(), "").hub(&at.url());
    let owned = |name: &str, n: u64, uid: &str| {
        let mut one = item("mount//srv/uploads", Status::Compliant);
        one.facts = [("owner.uid".to_owned(), uid.to_owned())].into();
        let all = vec![one];
        report(name, seq(7, n), Scope::Full, all.clone(), &all)
    };
    hub.send(&[owned("mw1", 1, "1001"), owned("mw2", 1, "1005")]).await;
    let told = there.wait(1).await[0].json();
    assert_eq!(
        told["data"]["summary"],
        "owner.uid of mount//srv/uploads differs between the nodes of middleware"
    );
    hub.send(&[owned("mw2", 2, "1001")]).await;
    assert_eq!(there.wait(2).await[1].json()["data"]["open"], false);
}

#[tokio::test]
async fn two_hubs_on_one_database_tell_once() {
    let (at, there) = (Where::new(Kind::Postgres), Receiver::start().await);
    let yaml = format!("sinks:\n- name: hook\n  group_seconds: 1\n  webhook: {{url: '{}'}}\n", there.url());
    let papers = Papers::new(&yaml);
    let hubs = [papers.hub(&at.url()), papers.hub(&at.url()), papers.hub(&at.url())];
    for n in 0..60 {
        let id = format!("sysctl/{n}");
        hubs[n % 3].send(&[full(&format!("mw{n}"), 1, &[(id.as_str(), Status::Error)])]).await;
    }
    there.wait(60).await;
    quiet().await;
    let told = events(&there.came());
    let items: BTreeSet<_> = told.iter().map(|one| one["data"]["item"].to_string()).collect();
    let ids: BTreeSet<_> = told.iter().map(|one| one["id"].to_string()).collect();
    assert_eq!((told.len(), items.len(), ids.len()), (60, 60, 60));
}

/// The store's writer reads before it writes; whoever else writes into the same file meanwhile must not fail it.
#[tokio::test]
async fn what_the_outbox_writes_is_in_nobodys_way() {
    let at = Where::new(Kind::Sqlite);
    let sinks: Vec<String> = (0..20)
        .map(|n| format!("- name: s{n}\n  group_seconds: 0\n  webhook: {{url: 'http://{}'}}\n", free()))
        .collect();
    let hub = Papers::new(&format!("requests_per_second: 1000\nsinks:\n{}", sinks.concat())).hub(&at.url());
    for n in 1..=150 {
        let status = if n % 2 == 1 { Status::Error } else { Status::Compliant };
        hub.send(&[full("mw1", n, &[("sysctl/a", status)])]).await;
    }
    waiting(&hub, |outbox| outbox["waiting"].as_i64().unwrap() > 20).await;
}

#[tokio::test]
async fn what_was_to_be_told_before_the_database_was_killed_is_told_once_it_is_back() {
    let mut cluster = Cluster::new("");
    let (url, there) = (cluster.database(), Receiver::start().await);
    let yaml = format!("sinks:\n- name: hook\n  group_seconds: 5\n  webhook: {{url: '{}'}}\n", there.url());
    let hub = Papers::new(&yaml).hub(&url);
    hub.send(&[full("mw1", 1, &[("sysctl/a", Status::Error)])]).await;
    waiting(&hub, |outbox| outbox["waiting"] == 1).await;
    cluster.kill();
    let (code, metrics) = hub.text("/metrics").await;
    assert!(code == 200 && metrics.contains("evenkeel_hub_store_up 0"), "{code}: {metrics}");
    assert!(!metrics.contains("evenkeel_hub_tier_nodes{"), "what is not known is not told: {metrics}");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(there.came().len(), 0);
    cluster.start();
    there.wait(1).await;
    quiet().await;
    assert_eq!(there.came().len(), 1);
    let (_, metrics) = hub.text("/metrics").await;
    assert!(metrics.contains("evenkeel_hub_store_up 1"), "{metrics}");
}
