//! The real binary over real TCP with a real file: what a node sends, what survives, what people get to see.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::stores::{Kind, Where};
use common::{Hub, beat, client, item, now_ms, report, seq, source};
use evenkeel_report::{Event, Report, Scope, Status, Sync, Timestamp};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const BATCH: &str = "application/cloudevents-batch+json";
const ONE: &str = "application/cloudevents+json";

fn full(name: &str, n: u64, statuses: &[(&str, Status)]) -> Event<Report> {
    let items: Vec<_> = statuses.iter().map(|(id, status)| item(id, *status)).collect();
    let mut event = report(name, seq(7, n), Scope::Full, items.clone(), &items);
    event.time = Timestamp::from_unix_ms(now_ms()).unwrap();
    event
}

on_every_store! {
    a_batch_an_event_and_a_heartbeat_are_taken_each_in_its_own_clothes
    an_acknowledged_report_survives_a_kill
    a_duplicate_stores_nothing_at_all
    what_does_not_read_is_answered_with_which_event_and_why
    what_reads_and_cannot_be_is_refused_alone
    an_unknown_type_is_ignored_and_counted
    a_body_above_a_mebibyte_is_too_large
    a_hub_that_lost_its_memory_asks_for_a_full_report
    nodes_are_paged_and_filtered
    a_timeline_is_newest_first_and_goes_on_where_the_page_ended
    what_a_node_writes_stays_text_on_the_pages
    the_front_page_says_in_one_sentence_what_is_the_matter_and_tells_the_repair
    sigterm_ends_it_within_a_second_even_while_connections_are_open
    many_nodes_at_once_are_all_stored
}

struct Place {
    at: Where,
}

impl Place {
    fn new(kind: Kind) -> Self {
        Self { at: Where::new(kind) }
    }

    fn hub(&self) -> Hub {
        Hub::start(&self.at.url())
    }
}

async fn a_batch_an_event_and_a_heartbeat_are_taken_each_in_its_own_clothes(kind: Kind) {
    let place = Place::new(kind);
    let hub = place.hub();
    let answer = hub.send(&[full("mw1", 1, &[("sysctl/a", Status::Compliant)])]).await;
    let expected = json!({"accepted": 1, "duplicate": 0, "ignored": 0, "refused": [], "want_full": []});
    assert_eq!(answer, expected);
    let one = serde_json::to_vec(&full("mw1", 2, &[("sysctl/a", Status::Pending)])).unwrap();
    assert_eq!(hub.post("/v1/events", ONE, one.clone()).await.1["accepted"], 1);
    assert_eq!(hub.post("/v1/events", "application/json; charset=utf-8", one).await.1["duplicate"], 1);
    let alive = beat("mw1", seq(7, 2), now_ms(), &[item("sysctl/a", Status::Pending)]);
    let alive = serde_json::to_vec(&alive).unwrap();
    assert_eq!(hub.post("/v1/heartbeat", ONE, alive).await.1["accepted"], 1);

    let node = hub.json("/api/v1/nodes/mw1").await;
    assert_eq!(node["liveness"], "online");
    assert_eq!(node["digest_ok"], true);
    assert_eq!(node["items"][0]["status"], "pending");
    assert_eq!(node["items"][0]["drift"][0]["layer"], "kernel");
    assert_eq!(hub.json(&format!("/api/v1/nodes/{}", source("mw1"))).await["name"], "mw1");
}

async fn an_acknowledged_report_survives_a_kill(kind: Kind) {
    let place = Place::new(kind);
    for n in 1..=5 {
        let mut hub = place.hub();
        let answer = hub.send(&[full("mw1", n, &[("sysctl/a", Status::Error)])]).await;
        assert_eq!(answer["accepted"], 1);
        hub.child.kill().unwrap();
        hub.child.wait().unwrap();
    }
    let hub = place.hub();
    let again: Vec<_> = (1..=5).map(|n| full("mw1", n, &[("sysctl/a", Status::Error)])).collect();
    assert_eq!(hub.send(&again).await["duplicate"], 5);
    assert_eq!(hub.json("/api/v1/nodes/mw1").await["missing_reports"], 0);
}

async fn a_duplicate_stores_nothing_at_all(kind: Kind) {
    let place = Place::new(kind);
    let hub = place.hub();
    let events = [full("mw1", 1, &[("sysctl/a", Status::Repaired), ("sysctl/b", Status::Error)])];
    hub.send(&events).await;
    let before = place.at.dump();
    assert_eq!(hub.send(&events).await["duplicate"], 1);
    assert_eq!(place.at.dump(), before);
}

async fn what_does_not_read_is_answered_with_which_event_and_why(kind: Kind) {
    let place = Place::new(kind);
    let hub = place.hub();
    let good = serde_json::to_value(full("mw1", 1, &[])).unwrap();
    let mut no_seq = serde_json::to_value(full("mw1", 2, &[])).unwrap();
    no_seq["data"].as_object_mut().unwrap().remove("seq");
    let (code, problem) = hub.post("/v1/events", BATCH, json!([good, no_seq]).to_string()).await;
    assert_eq!((code, &problem["index"], &problem["id"]), (400, &json!(1), &json!("7:2")));
    assert!(problem["detail"].as_str().unwrap().contains("missing field `seq`"), "{problem}");
    assert_eq!(hub.json("/api/v1/nodes").await["nodes"], json!([]), "nothing of a bad batch is stored");

    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let hostile = ["", "null", "42", "{", "[{}]", "[null]", "\u{0}", "{\"type\":1}", &deep];
    for body in hostile {
        let (code, problem) = hub.post("/v1/events", BATCH, body.to_owned()).await;
        assert_eq!((code, &problem["status"]), (400, &json!(400)), "{body:.20}");
    }
    let (code, _) = hub.post("/v1/events", BATCH, vec![0xff; 100]).await;
    assert_eq!(code, 400);
    let (code, _) = hub.post("/v1/events", "text/plain", "[]").await;
    assert_eq!(code, 415);
    let (code, _) = hub.post("/v1/heartbeat", ONE, good.to_string()).await;
    assert_eq!(code, 400, "a report is no heartbeat");
}

async fn what_reads_and_cannot_be_is_refused_alone(kind: Kind) {
    let place = Place::new(kind);
    let hub = place.hub();
    let mut not_its_number = full("mw1", 2, &[]);
    not_its_number.id = "7:3".into();
    let mut not_its_name = full("mw1", 4, &[]);
    not_its_name.subject = "db1".into();
    let twice = full("mw1", 5, &[("sysctl/a", Status::Error), ("sysctl/a", Status::Error)]);
    let mut huge_number = full("mw1", 6, &[]);
    huge_number.data.seq.epoch = u64::MAX;
    let mut long = full("mw1", 7, &[("sysctl/a", Status::Error)]);
    long.data.items[0].drift[0].desired = "x".repeat(4097);
    let good = full("mw1", 1, &[]);
    let answer = hub.send(&[not_its_number, not_its_name, twice, huge_number, long, good]).await;
    assert_eq!(answer["accepted"], 1);
    let refused: Vec<_> = answer["refused"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(refused, ["7:3", "7:4", "7:5", "7:6", "7:7"]);
    assert!(answer["refused"][2]["why"].as_str().unwrap().contains("listed twice"));
    assert_eq!(hub.json("/api/v1/nodes/mw1").await["seq"]["n"], 1);
}

async fn an_unknown_type_is_ignored_and_counted(kind: Kind) {
    let place = Place::new(kind);
    let hub = place.hub();
    let mut event = serde_json::to_value(full("mw1", 1, &[])).unwrap();
    event["type"] = json!("dev.evenkeel.something.v9");
    assert_eq!(hub.send(&[event]).await["ignored"], 1);
    let (_, metrics) = hub.text("/metrics").await;
    let line = "evenkeel_hub_events_total{type=\"other\",result=\"ignored\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

async fn a_body_above_a_mebibyte_is_too_large(kind: Kind) {
    let place = Place::new(kind);
    let hub = place.hub();
    let (code, problem) = hub.post("/v1/events", BATCH, vec![b' '; 1024 * 1024 + 1]).await;
    assert_eq!((code, &problem["status"]), (413, &json!(413)));
    let mut fits = b"[]".to_vec();
    fits.resize(1024 * 1024, b' ');
    assert_eq!(hub.post("/v1/events", BATCH, fits).await.0, 200);
}

async fn a_hub_that_lost_its_memory_asks_for_a_full_report(kind: Kind) {
    let place = Place::new(kind);
    let hub = place.hub();
    let a = item("sysctl/a", Status::Pending);
    let b = item("sysctl/b", Status::Compliant);
    let change = report("mw1", seq(7, 40), Scope::Changes, vec![a.clone()], &[a.clone(), b.clone()]);
    assert_eq!(hub.send(&[change]).await["want_full"], json!(["mw1"]));
    let whole = report("mw1", seq(7, 41), Scope::Full, vec![a.clone(), b.clone()], &[a, b]);
    assert_eq!(hub.send(&[whole]).await["want_full"], json!([]));
}

async fn nodes_are_paged_and_filtered(kind: Kind) {
    let place = Place::new(kind);
    let hub = place.hub();
    let names: Vec<_> = (0..7).map(|n| format!("mw{n}")).collect();
    let mut events: Vec<_> = names.iter().map(|name| full(name, 1, &[("a", Status::Compliant)])).collect();
    events.push(full("db0", 1, &[("a", Status::NonCompliant)]));
    hub.send(&events).await;
    let mut url = "/api/v1/nodes?limit=3&tier=middleware".to_owned();
    let mut seen: Vec<String> = vec![];
    loop {
        let page = hub.json(&url).await;
        seen.extend(
            page["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap().into()),
        );
        match &page["next"] {
            Value::String(next) => url.clone_from(next),
            _ => break,
        }
    }
    assert_eq!(seen, names);
    let names_of = |page: Value| -> Vec<String> {
        page["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap().into()).collect()
    };
    assert_eq!(names_of(hub.json("/api/v1/nodes?status=open").await), ["db0"]);
    assert_eq!(names_of(hub.json("/api/v1/nodes?status=non_compliant").await), ["db0"]);
    assert_eq!(names_of(hub.json("/api/v1/nodes?after=mw5").await), ["mw6"]);
    assert_eq!(names_of(hub.json("/api/v1/nodes?liveness=silent").await), Vec::<String>::new());
    let (code, text) = hub.text("/api/v1/nodes?status=fine").await;
    assert!(code == 400 && text.contains("non_compliant"), "{text}");
    assert_eq!(hub.text("/api/v1/nodes/nobody").await.0, 404);
}

async fn a_timeline_is_newest_first_and_goes_on_where_the_page_ended(kind: Kind) {
    let place = Place::new(kind);
    let hub = place.hub();
    let words = [Status::Pending, Status::Repaired, Status::Error, Status::Compliant, Status::Repaired];
    for (n, status) in (1..).zip(words) {
        hub.send(&[full("mw1", n, &[("sysctl/a", status)])]).await;
    }
    let mut url = "/api/v1/nodes/mw1/timeline?limit=2".to_owned();
    let mut told = vec![];
    loop {
        let page = hub.json(&url).await;
        told.extend(page["changes"].as_array().unwrap().clone());
        match &page["next"] {
            Value::String(next) => url.clone_from(next),
            _ => break,
        }
    }
    let story: Vec<_> = told.iter().map(|one| one["status"].as_str().unwrap()).collect();
    assert_eq!(story, ["repaired", "compliant", "error", "repaired", "pending", "in_force"]);
    assert_eq!(told[0]["writer"]["comm"], "sysctl");
    assert_eq!(told[0]["change"], "corrective");
    assert_eq!(
        told[0]["drift"][0],
        json!({"attr": "value", "layer": "kernel", "observed": "7200", "desired": "60"})
    );
    assert_eq!(told[5]["kind"], "spec");
    assert_eq!(hub.text("/api/v1/nodes/mw1/timeline?before=yesterday").await.0, 400);
}

async fn what_a_node_writes_stays_text_on_the_pages(kind: Kind) {
    let place = Place::new(kind);
    let hub = place.hub();
    let hostile = "<script>alert(1)</script>\" onload=\"x\u{202e}";
    let mut event = full(hostile, 1, &[("sysctl/<img src=x>", Status::Repaired), ("b'\">", Status::Error)]);
    for one in &mut event.data.items {
        one.drift[0].observed = Some("</code><script>alert(2)</script>".into());
        one.reason = Some("<b>bold</b>".into());
    }
    event.data.items[0].writer.as_mut().unwrap().comm = Some("<i>\n</i>".into());
    event.data.node.tier = "<h1>tier".into();
    event.data.spec.sync = Sync::Failed;
    event.data.spec.errors = vec!["<svg onload=alert(3)>".into()];
    event.data.spec.target_commit = Some("javascript:alert(4)//".into());
    hub.send(&[event]).await;
    let encoded: Vec<_> = source(hostile).bytes().map(|byte| format!("%{byte:02x}")).collect();
    let encoded = encoded.concat();
    for path in ["/", &format!("/nodes/{encoded}")] {
        let (code, page) = hub.text(path).await;
        assert_eq!(code, 200);
        assert_eq!(page.matches("<script").count(), 1, "only the hub's own");
        for tag in ["<img", "<svg onload", "<b>", "<i>", "<h1>tier", "onload=\"x"] {
            assert!(!page.contains(tag), "{tag} on {path}");
        }
        assert!(page.contains("&#60;script&#62;alert(1)"), "the name is shown, as text");
        assert!(!page.contains('\u{202e}') && page.contains("\\u{202e}"));
    }
}

async fn the_front_page_says_in_one_sentence_what_is_the_matter_and_tells_the_repair(kind: Kind) {
    let place = Place::new(kind);
    let hub = place.hub();
    let (_, page) = hub.text("/").await;
    assert!(page.contains("No node has reported yet"));
    hub.send(&[full("db1", 1, &[("sysctl/a", Status::Compliant)])]).await;
    hub.send(&[full("mw1", 1, &[("sysctl/net.ipv4.tcp_keepalive_time", Status::Repaired)])]).await;
    let (_, page) = hub.text("/").await;
    assert!(page.contains(">2 nodes, all even</h1>"), "{page}");
    assert!(page.contains("written by `sysctl` (pid 4242) in session.scope"), "{page}");
    hub.send(&[full("mw1", 2, &[("sysctl/a", Status::Pending)])]).await;
    let (_, page) = hub.text("/").await;
    assert!(page.contains(">mw1 is not even: 1 item pending</h1>"), "{page}");
    assert!(page.contains("<code>7200</code>") && page.contains("<code>60</code>"));
    assert!(page.contains("waits for a reconnect"));
    let mut refused = full("mw1", 3, &[]);
    refused.data.spec.sync = Sync::Failed;
    refused.data.spec.errors = vec!["tiers/mw.yaml:14: unknown key".into()];
    hub.send(&[refused]).await;
    let (_, page) = hub.text("/").await;
    assert!(page.contains("tiers/mw.yaml:14: unknown key") && page.contains("class=\"alert\""), "{page}");
    assert_eq!(hub.text("/nodes/nobody").await.0, 404);
}

async fn sigterm_ends_it_within_a_second_even_while_connections_are_open(kind: Kind) {
    let place = Place::new(kind);
    let mut hub = place.hub();
    hub.send(&[full("mw1", 1, &[])]).await;
    // One connection that never finishes its request, and the client's idle one.
    let address = hub.url.strip_prefix("http://").unwrap().to_owned();
    let mut slow = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(
        &mut slow,
        b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n[",
    )
    .unwrap();
    let began = Instant::now();
    let pid = hub.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = loop {
        if let Some(status) = hub.child.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "it did not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(ended.success());
    assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
}

#[tokio::test]
async fn the_store_is_not_for_every_user_of_the_machine() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new(Kind::Sqlite);
    let hub = place.hub();
    hub.send(&[full("mw1", 1, &[])]).await;
    for file in std::fs::read_dir(
        place.at.url().strip_prefix("sqlite:").map(|at| std::path::Path::new(at).parent().unwrap()).unwrap(),
    )
    .unwrap()
    {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o137, 0, "{:?} has mode {mode:o}", file.file_name());
    }
}

async fn many_nodes_at_once_are_all_stored(kind: Kind) {
    let place = Place::new(kind);
    let hub = place.hub();
    let client = client();
    let sends = (0..100).map(|n| {
        let event = full(&format!("mw{n:03}"), 1, &[("a", Status::Compliant)]);
        let send = client.post(format!("{}/v1/events", hub.url)).json(&[event]).send();
        async move { send.await.unwrap().json::<Value>().await.unwrap()["accepted"] == 1 }
    });
    let sends: Vec<_> = sends.map(tokio::spawn).collect();
    for send in sends {
        assert!(send.await.unwrap());
    }
    assert_eq!(hub.json("/api/v1/nodes?limit=1000").await["nodes"].as_array().unwrap().len(), 100);
    let (_, metrics) = hub.text("/metrics").await;
    assert!(metrics.contains("evenkeel_hub_nodes{liveness=\"online\"} 100"), "{metrics}");
    assert!(metrics.contains("evenkeel_hub_resident_memory_bytes"));
}
