//! The pages and the user API on the real router over both stores: what is picked, counted, grouped and exported, and
//! that whatever nodes write stays text.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use common::stores::{Kind, Where};
use common::{T0, beat, item, report, seq, source};
use evenkeel_hub::config::{File, Overrides, settle};
use evenkeel_hub::http::{Hub, router};
use evenkeel_hub::wire::Incoming;
use evenkeel_hub::writer::Clock;
use evenkeel_report::{Drift, Event, Item, Layer, Report, Scope, Status, Sync, Timestamp};
use futures_util::StreamExt as _;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tower_service::Service as _;

on_every_store! {
    every_page_has_something_to_say_before_any_node_has_spoken
    the_filter_narrows_and_a_facet_counts_what_each_choice_would_leave
    pages_of_any_filter_are_complete_in_order_and_without_duplicates
    a_node_is_even_in_the_list_exactly_when_its_own_page_says_so
    exports_have_every_node_and_no_cell_is_a_formula
    one_drift_is_told_once_for_every_node_that_has_it
    a_closed_drift_tells_how_long_it_stood_and_one_that_comes_back_is_flapping
    a_rollout_tells_how_far_a_commit_has_come_and_who_is_behind
    an_incident_tells_who_drifted_in_a_span_and_nobody_else
    an_items_layers_stand_side_by_side
    whatever_nodes_write_stays_text_on_every_page
    what_the_hub_knew_before_it_was_restarted_is_on_its_pages
    a_page_that_waits_is_told_of_a_change_and_not_of_a_heartbeat
    what_is_misspelt_is_refused_with_what_is_known
}

/// A hub without a socket, with a clock that is set by hand.
struct Lab {
    hub: Arc<Hub>,
    now: Arc<AtomicI64>,
}

impl Lab {
    fn new(at: &Where) -> Self {
        let file = File { store: at.url(), ..File::default() };
        let config = settle(file, Overrides::default()).unwrap();
        let now = Arc::new(AtomicI64::new(T0));
        let clock: Clock = {
            let now = Arc::clone(&now);
            Arc::new(move || now.load(Ordering::SeqCst))
        };
        // Opening blocks, which is forbidden where a runtime runs.
        let hub = std::thread::spawn(move || evenkeel_hub::open(&config, clock).unwrap().hub).join().unwrap();
        Self { hub, now }
    }

    fn later(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::SeqCst);
    }

    async fn tell(&self, events: impl IntoIterator<Item = Event<Report>>) {
        let events = events.into_iter().map(|event| Incoming::Report(Box::new(event))).collect();
        self.hub.writer.write(events).await.unwrap();
    }

    /// The code, the type and the text of an answer.
    async fn ask(&self, path: &str, accept: &str) -> (u16, String, String) {
        let request = Request::get(path).header("accept", accept).body(Body::empty()).unwrap();
        let answer = router(Arc::clone(&self.hub)).call(request).await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let code = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (code, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn page(&self, path: &str) -> String {
        let (code, kind, text) = self.ask(path, "text/html").await;
        assert_eq!((code, kind.as_str()), (200, "text/html; charset=utf-8"), "{path}: {text}");
        text
    }

    async fn json(&self, path: &str) -> Value {
        let (code, _, text) = self.ask(path, "*/*").await;
        assert_eq!(code, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The nodes on every page of a list, as the addresses lead from one to the next.
    async fn walk(&self, start: &str) -> Vec<Value> {
        let (mut url, mut found) = (start.to_owned(), vec![]);
        loop {
            let page = self.json(&url).await;
            found.extend(page["nodes"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut url),
                None => return found,
            }
        }
    }
}

fn names_of(page: &Value) -> Vec<String> {
    page["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

/// The sentence at the top of a page.
fn sentence(page: &str) -> &str {
    page.split_once("<h1").unwrap().1.split_once('>').unwrap().1.split_once("</h1>").unwrap().0
}

fn told(name: &str, n: u64, items: &[Item]) -> Event<Report> {
    report(name, seq(7, n), Scope::Full, items.to_vec(), items)
}

fn off(id: &str, status: Status, observed: &str) -> Item {
    let mut one = item(id, status);
    one.drift[0].observed = Some(observed.to_owned());
    one
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

async fn the_filter_narrows_and_a_facet_counts_what_each_choice_would_leave(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let fine = [item("a", Status::Compliant)];
    let (pending, error) = ([item("a", Status::Pending)], [item("a", Status::Error)]);
    lab.tell([told("db1", 1, &fine), told("db2", 1, &error), told("mw1", 1, &pending)]).await;
    lab.later(200_000);
    let mut nowhere = told("mw2", 1, &fine);
    nowhere.data.node.tier = String::new();
    nowhere.data.spec.sync = Sync::OutOfSync;
    lab.tell([told("mw3", 1, &pending), nowhere]).await;

    let of = async |query: &str| names_of(&lab.json(&format!("/api/v1/nodes?{query}")).await);
    assert_eq!(of("").await, ["db1", "db2", "mw1", "mw2", "mw3"]);
    assert_eq!(of("tier=database").await, ["db1", "db2"]);
    assert_eq!(of("tier=-").await, ["mw2"]);
    assert_eq!(of("tier=").await.len(), 5, "what is empty narrows nothing");
    assert_eq!(of("liveness=silent").await, ["db1", "db2", "mw1"]);
    assert_eq!(of("liveness=quiet&status=open").await, ["db2", "mw1"]);
    assert_eq!(of("status=pending&liveness=online").await, ["mw3"]);
    assert_eq!(of("sync=out_of_sync").await, ["mw2"]);
    assert_eq!(of("q=MW&even=no").await, ["mw1", "mw2", "mw3"]);
    assert_eq!(of("commit=1111111111111111&q=db").await, ["db1", "db2"]);
    assert_eq!(of("commit=2222").await, Vec::<String>::new());

    let page = lab.page("/nodes?liveness=silent&status=open").await;
    assert_eq!(sentence(&page), "2 of 5 nodes");
    let chip = |label: &str, count: usize| format!("{label} <span class=\"dim\">{count}</span>");
    // With the rest of the filter as it is: 2 silent and 1 online are open; of the silent, 1 is compliant.
    for (label, count) in
        [("silent", 2), ("online", 1), ("open", 2), ("compliant", 1), ("database", 1), ("middleware", 1)]
    {
        assert!(page.contains(&chip(label, count)), "{label} {count}: {page}");
    }
    // And what a choice says is what its address leads to.
    for choice in page.split("<a class=\"chip\" href=\"").skip(1) {
        let (href, rest) = choice.split_once("\">").unwrap();
        let count = rest.split_once("<span class=\"dim\">").unwrap().1.split_once('<').unwrap().0;
        let there = lab.page(&href.replace("&#38;", "&")).await;
        assert_eq!(sentence(&there).split(' ').next().unwrap(), count, "{href}");
    }
    let page = lab.page("/nodes?q=nobody").await;
    assert!(page.contains("No node fits"), "{page}");
    assert_eq!(sentence(&page), "None of 5 nodes fits");
}

/// Nodes of every sort, some of the same name.
async fn crowd(lab: &Lab) {
    let statuses = [Status::Compliant, Status::Pending, Status::NonCompliant, Status::Error];
    let syncs = [Sync::Synced, Sync::OutOfSync, Sync::Failed, Sync::Unknown];
    let tiers = ["edge", "core", "", "ärger & co"];
    for (at, wait) in [(0..40, 70_000), (40..80, 20_000), (80..120, 0)] {
        let events = at.map(|n: usize| {
            let name = format!("n{}", n % 90);
            let mut event = told(&name, 1, &[item("a", statuses[n * 7 % 4])]);
            event.source = source(&format!("{n:03}"));
            tiers[n * 5 % 4].clone_into(&mut event.data.node.tier);
            event.data.spec.sync = syncs[n * 3 % 11 % 4];
            event
        });
        lab.tell(events).await;
        lab.later(wait);
    }
}

async fn pages_of_any_filter_are_complete_in_order_and_without_duplicates(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    crowd(&lab).await;
    let all = lab.json("/api/v1/nodes?limit=1000").await["nodes"].as_array().unwrap().clone();
    assert_eq!(all.len(), 120);
    let one_of = |words: &'static [&'static str]| prop::sample::select(words);
    let asked = (
        one_of(&["", "edge", "core", "-", "ärger & co"]),
        one_of(&["", "online", "late", "silent"]),
        one_of(&["", "open", "compliant", "error"]),
        one_of(&["", "synced", "failed"]),
        one_of(&["", "n1", "N8"]),
        1_usize..50,
    );
    let fits = |node: &Value, asked: &(&str, &str, &str, &str, &str, usize)| {
        let open = ["pending", "non_compliant", "error"].contains(&node["status"].as_str().unwrap());
        let tier = node["tier"].as_str().unwrap();
        (asked.0.is_empty() || tier == asked.0 || (asked.0 == "-" && tier.is_empty()))
            && (asked.1.is_empty() || node["liveness"] == asked.1)
            && (asked.2.is_empty() || node["status"] == asked.2 || (asked.2 == "open" && open))
            && (asked.3.is_empty() || node["spec"]["sync"] == asked.3)
            && node["name"].as_str().unwrap().contains(&asked.4.to_lowercase())
    };
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    for _ in 0..60 {
        let asked = asked.new_tree(&mut runner).unwrap().current();
        let expected: Vec<_> = all.iter().filter(|node| fits(node, &asked)).collect();
        let (tier, liveness, status, sync, q, limit) = asked;
        let tier = tier.replace('ä', "%C3%A4").replace(' ', "%20").replace('&', "%26");
        let query =
            format!("tier={tier}&liveness={liveness}&status={status}&sync={sync}&q={q}&limit={limit}");
        let found = lab.walk(&format!("/api/v1/nodes?{query}")).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{asked:?}");
    }
    let keys: Vec<_> =
        all.iter().map(|one| (one["name"].as_str().unwrap(), one["source"].as_str().unwrap())).collect();
    assert!(keys.is_sorted(), "in the order of names and sources");

    // The pages for people lead to the end as well.
    let (mut url, mut seen) = ("/nodes?limit=50".to_owned(), 0);
    while !url.is_empty() {
        let page = lab.page(&url).await;
        seen += page.matches("<th scope=\"row\">").count();
        let next =
            page.split("href=\"").find(|rest| rest.contains("rel=\"next\"") && rest.starts_with("/nodes?"));
        url = next.map(|rest| rest.split('"').next().unwrap().replace("&#38;", "&")).unwrap_or_default();
    }
    assert_eq!(seen, 120);
}

async fn a_node_is_even_in_the_list_exactly_when_its_own_page_says_so(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    crowd(&lab).await;
    let uneven: BTreeSet<_> = lab
        .walk("/api/v1/nodes?even=no&limit=40")
        .await
        .iter()
        .map(|node| node["name"].as_str().unwrap().to_owned())
        .collect();
    let all = lab.json("/api/v1/nodes?limit=1000").await;
    let mut by_page = BTreeSet::new();
    for node in all["nodes"].as_array().unwrap() {
        let source = node["source"].as_str().unwrap().replace(':', "%3A");
        let page = lab.page(&format!("/nodes/{source}")).await;
        if sentence(&page).contains("is not even") {
            by_page.insert(node["name"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(uneven, by_page);
    assert!(!uneven.is_empty() && uneven.len() < 90);
    let count = lab.walk("/api/v1/nodes?even=no").await.len();
    assert!(sentence(&lab.page("/").await).starts_with(&format!("{count} of 120 nodes are not even: ")));
    let (_, _, metrics) = lab.ask("/metrics", "*/*").await;
    let online = lab.walk("/api/v1/nodes?liveness=online").await.len();
    assert!(metrics.contains(&format!("evenkeel_hub_nodes{{liveness=\"online\"}} {online}\n")), "{metrics}");
    let errors = lab.walk("/api/v1/nodes?status=error").await.len();
    assert!(
        metrics.contains(&format!("evenkeel_hub_open_items{{status=\"error\"}} {errors}\n")),
        "{metrics}"
    );
}

async fn exports_have_every_node_and_no_cell_is_a_formula(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let fine = [item("a", Status::Compliant)];
    lab.tell((0..1203).map(|n| told(&format!("mw{n:04}"), 1, &fine))).await;
    let mut hostile = told("=cmd|' /C calc'!A0", 1, &fine);
    hostile.data.node.tier = "a,\"b\"\nc".into();
    lab.tell([hostile]).await;

    let (code, kind, text) = lab.ask("/api/v1/nodes", "text/csv, */*;q=0.1").await;
    assert_eq!((code, kind.as_str()), (200, "text/csv; charset=utf-8"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().unwrap().iter().take(3).collect::<Vec<_>>(), ["name", "source", "tier"]);
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1204);
    assert_eq!((&rows[0][0], &rows[0][2]), ("'=cmd|' /C calc'!A0", "a,\"b\"\nc"));
    assert_eq!((&rows[7][0], &rows[7][3], &rows[7][4]), ("mw0006", "online", "compliant"));

    let (_, kind, text) = lab.ask("/api/v1/nodes?format=ndjson&q=mw1", "*/*").await;
    assert_eq!(kind, "application/x-ndjson");
    let names: Vec<_> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone()).collect();
    assert_eq!(names.len(), 203);
    assert_eq!(names[0], "mw1000");
    assert_eq!(
        lab.ask("/api/v1/nodes?format=csv&limit=5", "*/*").await.2.lines().count(),
        7,
        "one name has a line's end"
    );
    assert_eq!(lab.ask("/api/v1/nodes?format=xml", "*/*").await.0, 400);
    assert_eq!(lab.ask("/api/v1/nodes", "application/json").await.1, "application/json");
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
    assert_eq!(told["all"], json!({"in_force": 3, "of": 4, "silent": 1, "refused": 0}));
    assert_eq!(told["tiers"]["database"]["in_force"], 0);
    assert_eq!((&told["p50_ms"], &told["p99_ms"]), (&json!(38_000), &json!(38_000)));
    assert_eq!(told["behind"][0]["name"], "db1");
    assert_eq!(told["behind"].as_array().unwrap().len(), 1);
    assert_eq!(names_of(&lab.json(&format!("/api/v1/nodes?behind={}", "bbbb".repeat(10))).await), ["db1"]);
    assert_eq!(sentence(&lab.page("/rollout").await), "2 commits are in force");
    // One that is nobody's any more is still known by when it was taken.
    let all = lab.page(&format!("/rollout/{}", "aaaa".repeat(10))).await;
    assert!(sentence(&all).starts_with("main@aaaaaaaaaa in force on 1/1"), "{}", sentence(&all));
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
}

async fn what_is_misspelt_is_refused_with_what_is_known(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    for path in ["/nodes?teir=x", "/api/v1/nodes?teir=x", "/drift?teir=x"] {
        let (code, _, text) = lab.ask(path, "*/*").await;
        assert!(code == 400 && text.contains("teir") && text.contains("tier"), "{path}: {text}");
    }
    for (path, known) in [
        ("/nodes?sync=fine", "out_of_sync"),
        ("/nodes?even=maybe", "yes, no"),
        ("/nodes?liveness=x", "missing"),
    ] {
        let (code, _, text) = lab.ask(path, "*/*").await;
        assert!(code == 400 && text.contains(known), "{path}: {text}");
    }
    assert_eq!(lab.ask("/nodes?limit=many", "*/*").await.0, 400);
    assert_eq!(lab.ask("/incident?minutes=0", "*/*").await.0, 400);
}
