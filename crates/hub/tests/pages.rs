//! The pages on the real router over both stores: what they say, what they group and time, and that whatever nodes write
//! stays text.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use axum::body::Body;
use axum::http::Request;
use common::lab::{Lab, crowd, names_of, off, sentence, told};
use common::stores::{Kind, Where};
use common::{T0, beat, item, seq};
use evenkeel_hub::http::router;
use evenkeel_hub::wire::Incoming;
use evenkeel_report::{Drift, Event, Layer, Report, Status, Sync, Timestamp};
use futures_util::StreamExt as _;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tower_service::Service as _;

on_every_store! {
    every_page_has_something_to_say_before_any_node_has_spoken
    one_drift_is_told_once_for_every_node_that_has_it
    a_closed_drift_tells_how_long_it_stood_and_one_that_comes_back_is_flapping
    a_rollout_tells_how_far_a_commit_has_come_and_who_is_behind
    an_incident_tells_who_drifted_in_a_span_and_nobody_else
    an_items_layers_stand_side_by_side
    whatever_nodes_write_stays_text_on_every_page
    what_the_hub_knew_before_it_was_restarted_is_on_its_pages
    a_page_that_waits_is_told_of_a_change_and_not_of_a_heartbeat
}

const PAGES: [&str; 7] = ["/", "/nodes", "/drift", "/rollout", "/invariants", "/incident", "/wall"];

async fn every_page_has_something_to_say_before_any_node_has_spoken(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let told = [
        "No node has reported yet",
        "No node has reported yet",
        "Nothing is adrift",
        "No commit is in force yet",
        "Every invariant holds",
        "Nothing changed from",
        "No node has reported yet",
    ];
    for (path, told) in PAGES.into_iter().zip(told) {
        let page = lab.page(path).await;
        assert!(sentence(&page).starts_with(told), "{path}: {}", sentence(&page));
    }
    assert_eq!(lab.json("/api/v1/drift").await["open"]["groups"], json!([]));
    assert_eq!(lab.ask("/api/v1/rollout/abc", "*/*").await.0, 404);
    assert_eq!(lab.ask("/rollout/abc", "text/html").await.0, 404);
}

async fn one_drift_is_told_once_for_every_node_that_has_it(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let same = |name: &str| {
        told(name, 1, &[off("sysctl/k", Status::NonCompliant, "7200"), item("b", Status::Compliant)])
    };
    let mut later = same("mw12");
    later.data.items[0].since = Timestamp::from_unix_ms(T0 - 7_200_000);
    lab.tell((0..12).map(|n| same(&format!("mw{n:02}"))).chain([later])).await;
    lab.tell([told("db1", 1, &[off("sysctl/k", Status::NonCompliant, "600")])]).await;
    lab.tell([told("db2", 1, &[off("sysctl/k", Status::Error, "7200")])]).await;

    let open = lab.json("/api/v1/drift").await["open"].clone();
    assert_eq!((&open["items"], &open["nodes"], &open["cut"]), (&json!(15), &json!(15), &json!(false)));
    let groups: Vec<_> = open["groups"].as_array().unwrap().iter().collect();
    assert_eq!(groups.iter().map(|one| one["nodes"].as_u64().unwrap()).collect::<Vec<_>>(), [13, 1, 1]);
    assert_eq!(groups[0]["drift"][0]["observed"], "7200");
    assert_eq!(groups[0]["since"], json!(Timestamp::from_unix_ms(T0 - 7_200_000)), "the oldest of them");
    let first: Vec<_> =
        groups[0]["first"].as_array().unwrap().iter().map(|node| node["name"].clone()).collect();
    assert_eq!(first.len(), 10);
    assert_eq!(first[0], "mw00");

    let page = lab.page("/drift").await;
    assert_eq!(sentence(&page), "15 items are adrift on 15 nodes");
    assert_eq!(page.matches("<li class=\"group\">").count(), 3);
    assert!(page.contains("and 3 more") && page.contains("href=\"/nodes/urn%3Auuid%3Amw00\""), "{page}");
    assert_eq!(sentence(&lab.page("/drift?tier=database").await), "2 items are adrift on 2 nodes");
    assert_eq!(sentence(&lab.page("/drift?item=nothing").await), "Nothing is adrift");
}

async fn a_closed_drift_tells_how_long_it_stood_and_one_that_comes_back_is_flapping(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let timed = |mut event: Event<Report>, ms: i64| {
        event.time = Timestamp::from_unix_ms(T0 + ms).unwrap();
        event
    };
    // One that came right by itself after 3 h 12 min.
    lab.tell([timed(told("db1", 1, &[item("sysctl/k", Status::NonCompliant)]), 60_000)]).await;
    lab.tell([timed(told("db1", 2, &[item("sysctl/k", Status::Compliant)]), 11_460_000)]).await;
    // One that another program writes again and again.
    for n in 1..=3 {
        let mut repaired = item("sysctl/w", Status::Repaired);
        repaired.since = Timestamp::from_unix_ms(T0 + 1000 * i64::try_from(n).unwrap() - 5_000);
        lab.tell([timed(told("mw1", n, &[repaired]), 1000 * i64::try_from(n).unwrap())]).await;
        lab.later(1000);
    }
    let closed = lab.json("/api/v1/drift").await["closed"].as_array().unwrap().clone();
    assert_eq!(closed.len(), 4);
    let of = |node: &str| closed.iter().find(|one| one["node"]["name"] == node).unwrap();
    let db = of("db1");
    assert_eq!(
        (&db["repaired"], &db["lasted_ms"], &db["flapping"]),
        (&json!(false), &json!(11_520_000), &json!(false))
    );
    assert_eq!(db["drift"][0]["observed"], "7200", "what had been off");
    let mw = of("mw1");
    assert_eq!((&mw["repaired"], &mw["lasted_ms"]), (&json!(true), &json!(5_000)));
    assert_eq!((&mw["flapping"], &mw["contested"]), (&json!(true), &json!(true)));
    let page = lab.page("/drift").await;
    assert!(page.contains("unprotected for 3 h 12 min"), "{page}");
    assert!(page.contains("contested") && page.contains("written by `sysctl`"), "{page}");
    lab.later(3_700_000);
    assert_eq!(lab.json("/api/v1/drift").await["closed"], json!([]), "only the last hour");
}

async fn a_rollout_tells_how_far_a_commit_has_come_and_who_is_behind(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let fine = [item("a", Status::Compliant)];
    let with = |mut event: Event<Report>, commit: &str, target: &str| {
        event.data.spec.observed_commit = Some(commit.repeat(10));
        event.data.spec.target_commit = Some(target.repeat(10));
        event.data.spec.sync = if commit == target { Sync::Synced } else { Sync::OutOfSync };
        event
    };
    let names = ["mw1", "mw2", "mw3", "db1"];
    lab.tell(names.map(|name| with(told(name, 1, &fine), "aaaa", "aaaa"))).await;
    lab.tell([with(told("mw1", 2, &fine), "bbbb", "bbbb"), with(told("db1", 2, &fine), "aaaa", "bbbb")])
        .await;
    lab.later(38_000);
    lab.tell([with(told("mw2", 2, &fine), "bbbb", "bbbb"), with(told("mw3", 2, &fine), "bbbb", "bbbb")])
        .await;
    lab.later(100_000);
    lab.tell(["mw1", "mw2", "mw3"].map(|name| with(told(name, 3, &fine), "bbbb", "bbbb"))).await;

    let page = lab.page("/rollout/bbbbbbbb").await;
    assert_eq!(sentence(&page), "main@bbbbbbbbbb in force on 3/4, p99 38 s, 1 silent");
    assert!(page.contains("href=\"/nodes/urn%3Auuid%3Adb1\""), "who is behind: {page}");
    let told = lab.json(&format!("/api/v1/rollout/{}", "bbbb".repeat(10))).await;
    assert_eq!(told["all"], json!({"nodes": 4, "in_force": 3, "of": 4, "silent": 1, "refused": 0}));
    let fleet = lab.json("/api/v1/fleet").await;
    assert_eq!(
        (&fleet["even"], &fleet["all"]["nodes"], &fleet["all"]["synced"]),
        (&json!(false), &json!(4), &json!(3))
    );
    assert_eq!(fleet["commits"][0], json!({"commit": "bbbb".repeat(10), "nodes": 3}));
    assert_eq!(fleet["tiers"]["database"]["liveness"]["silent"], 1);
    assert_eq!(told["tiers"]["database"]["in_force"], 0);
    assert_eq!((&told["p50_ms"], &told["p99_ms"]), (&json!(38_000), &json!(38_000)));
    assert_eq!(told["behind"][0]["name"], "db1");
    assert_eq!(told["behind"].as_array().unwrap().len(), 1);
    assert_eq!(names_of(&lab.json(&format!("/api/v1/nodes?behind={}", "bbbb".repeat(10))).await), ["db1"]);
    assert_eq!(sentence(&lab.page("/rollout").await), "2 commits are in force");
    // One that is nobody's any more is still known by when it was taken.
    let all = lab.page(&format!("/rollout/{}", "aaaa".repeat(10))).await;
    assert_eq!(sentence(&all), "main@aaaaaaaaaa in force on 1/1, 3 elsewhere");
}

async fn an_incident_tells_who_drifted_in_a_span_and_nobody_else(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    lab.tell([told("db1", 1, &[item("sysctl/before", Status::Error)])]).await;
    lab.later(600_000);
    lab.tell([told("mw1", 1, &[item("sysctl/within", Status::Repaired)]), told("mw2", 1, &[])]).await;
    lab.later(600_000);
    lab.tell([told("mw3", 1, &[item("sysctl/after", Status::Pending)])]).await;
    // T0 is 01:02:03; ten minutes later is 01:12:03.
    let page = lab.page("/incident?from=2026-11-23T01%3A10&minutes=5").await;
    assert_eq!(sentence(&page), "1 node drifted from 2026-11-23 01:10 to 01:15 UTC");
    assert!(page.contains("sysctl/within") && page.contains("1111111111"), "{page}");
    assert!(!page.contains("sysctl/before") && !page.contains("sysctl/after"), "{page}");
    assert!(page.contains("href=\"/incident?from=2026-11-23T01%3A05&#38;minutes=5\""), "{page}");
    assert_eq!(sentence(&lab.page("/incident").await), "2 nodes drifted from 2026-11-23 01:08 to 01:23 UTC");
    assert_eq!(lab.ask("/incident?from=yesterday", "text/html").await.0, 400);
}

async fn an_items_layers_stand_side_by_side(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let mut one = off("sysctl/k", Status::Error, "kernel-value");
    one.drift.push(Drift {
        attr: "value".into(),
        layer: Layer::File("/etc/sysctl.d/99-evenkeel.conf".into()),
        observed: None,
        desired: "60".into(),
    });
    lab.tell([told("mw1", 1, &[one])]).await;
    let page = lab.page("/nodes/mw1").await;
    let table = page.split_once("<table class=\"layers\">").unwrap().1.split_once("</table>").unwrap().0;
    let git = table.find("fleet.yaml:17").unwrap();
    let disk = table.find("/etc/sysctl.d/99-evenkeel.conf").unwrap();
    let effect = table.find("<code>kernel-value</code>").unwrap();
    assert!(git < disk && disk < effect, "{table}");
    assert!(!table.contains("href"), "nobody knows where this repository can be looked at");
    let mut public = told("mw2", 1, &[off("sysctl/k", Status::Error, "7200")]);
    public.data.spec.repo = "git@github.com:eden/spec.git".into();
    lab.tell([public]).await;
    let href = "href=\"https://github.com/eden/spec/blob/1111111111111111/fleet.yaml#L17\"";
    assert!(lab.page("/nodes/mw2").await.contains(href));
    assert!(table.contains("<em>nothing</em>") && table.matches("<code>60</code>").count() == 1, "{table}");
}

async fn whatever_nodes_write_stays_text_on_every_page(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u{202e}";
    let mut one = item(&format!("sysctl/{evil}"), Status::Error);
    one.reason = Some(evil.into());
    one.declared_at = Some(evil.into());
    one.drift[0].observed = Some(evil.into());
    one.drift[0].layer = Layer::File(evil.into());
    evil.clone_into(&mut one.drift[0].desired);
    let mut repaired = item(&format!("b{evil}"), Status::Repaired);
    repaired.writer.as_mut().unwrap().comm = Some(evil.into());
    let mut event = told(evil, 1, &[one, repaired]);
    event.data.node.tier = evil.into();
    event.data.spec.branch = evil.into();
    event.data.spec.observed_commit = Some(evil.into());
    event.data.spec.target_commit = Some(format!("{evil}2"));
    event.data.spec.errors = vec![evil.into()];
    event.data.spec.sync = Sync::Failed;
    lab.tell([event]).await;
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
    let (node, commit) = (format!("/nodes/{}", encoded(evil)), format!("/rollout/{}", encoded(evil)));
    let search = format!("/nodes?q={}", encoded(evil));
    let drift = format!("/drift?item={0}&tier={0}", encoded(evil));
    for path in PAGES.into_iter().chain([node.as_str(), &commit, &search, &drift]) {
        let page = lab.page(path).await;
        assert_eq!(page.matches("<script").count(), 1, "only the hub's own on {path}");
        // A field for a search holds what was typed, as it was typed.
        let typed = path.contains('?') && page.contains("type=\"search\"");
        assert!(!page.contains("<img") && (typed || !page.contains('\u{202e}')), "{path}: {page}");
        let quoted = page.split('"').skip(1).step_by(2);
        assert!(
            quoted.clone().count() > 10 && quoted.into_iter().all(|value| !value.contains('<')),
            "{path}"
        );
    }
}

async fn what_the_hub_knew_before_it_was_restarted_is_on_its_pages(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    crowd(&lab).await;
    let pages = async |lab: &Lab| {
        let mut all = vec![];
        for path in ["/", "/nodes?even=no", "/rollout", "/drift"] {
            all.push(lab.page(path).await);
        }
        all
    };
    let before = pages(&lab).await;
    let again = Lab::new(&at);
    again.now.store(lab.now.load(Ordering::SeqCst), Ordering::SeqCst);
    // A hub that was away calls nobody silent before it has listened.
    let silent = sentence(&before[0]).to_owned();
    again.later(0);
    let after = pages(&again).await;
    assert_eq!(sentence(&after[3]), sentence(&before[3]));
    assert_eq!(after[2], before[2]);
    assert!(silent.contains("of 120 nodes"), "{silent}");
    if kind == Kind::Postgres {
        // And what the one is told, the other shows.
        lab.tell([told("zz-new", 1, &[item("a", Status::Error)])]).await;
        let began = Instant::now();
        while names_of(&again.json("/api/v1/nodes?q=zz-new").await).is_empty() {
            assert!(began.elapsed() < Duration::from_secs(10), "the other hub never heard of it");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn a_page_that_waits_is_told_of_a_change_and_not_of_a_heartbeat(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let items = [item("a", Status::Compliant)];
    lab.tell([told("mw1", 1, &items)]).await;
    let request = Request::get("/live").body(Body::empty()).unwrap();
    let answer = router(Arc::clone(&lab.hub)).call(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut stream = answer.into_body().into_data_stream();
    let mut next = async |within: u64| {
        let piece = tokio::time::timeout(Duration::from_millis(within), stream.next()).await;
        piece.ok().map(|piece| String::from_utf8(piece.unwrap().unwrap().to_vec()).unwrap())
    };
    assert!(next(2000).await.unwrap().contains("event: hello"));
    lab.later(30_000);
    let alive = beat("mw1", seq(7, 1), T0 + 30_000, &items);
    lab.hub.writer.write(vec![Incoming::Beat(Box::new(alive))]).await.unwrap();
    assert_eq!(next(1500).await, None, "a heartbeat changes nothing that a page shows");
    lab.tell([told("mw1", 2, &[item("a", Status::Error)])]).await;
    assert!(next(3000).await.unwrap().contains("event: change"));
    // It ends by itself, so that nobody listens for long whose session has ended.
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let minutes = || began.elapsed().as_secs() / 60;
    while stream.next().await.is_some() {
        assert!(minutes() < 11, "it does not end");
    }
    assert!((9..=10).contains(&minutes()), "after {} min", minutes());
}
