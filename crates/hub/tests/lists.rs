//! Lists of nodes on the real router over both stores: filters, facets, pages that follow one another, exports.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::cluster::sql;
use common::item;
use common::lab::{Lab, crowd, names_of, sentence, told};
use common::stores::{Kind, Where};
use evenkeel_report::{Status, Sync};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

on_every_store! {
    the_filter_narrows_and_a_facet_counts_what_each_choice_would_leave
    pages_of_any_filter_are_complete_in_order_and_without_duplicates
    a_node_is_even_in_the_list_exactly_when_its_own_page_says_so
    exports_have_every_node_and_no_cell_is_a_formula
    what_is_misspelt_is_refused_with_what_is_known
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

/// Holds the table of pulses for so many seconds; whoever reads it meanwhile waits. It is held when this returns.
fn hold(url: &str, seconds: u32) {
    let text =
        format!("BEGIN; LOCK TABLE pulses IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({seconds}); COMMIT");
    let there = url.to_owned();
    std::thread::spawn(move || sql(&there, &text));
    let held = "SELECT count(*) FROM pg_locks WHERE relation = 'pulses'::regclass AND granted \
                AND mode = 'AccessExclusiveLock'";
    while sql(url, held)[0][0].as_deref() != Some("1") {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn what_other_hubs_wrote_is_waited_for_by_nobody_once_that_takes_its_time() {
    let at = Where::new(Kind::Postgres);
    let (lab, other) = (Lab::new(&at), Lab::new(&at));
    let ask = async || {
        let began = Instant::now();
        let nodes = lab.json("/api/v1/fleet").await["all"]["nodes"].clone();
        (nodes, began.elapsed())
    };
    hold(&at.url(), 1);
    lab.hub.roll.look_again();
    assert!(ask().await.1 > Duration::from_millis(300), "nobody could know that it takes its time");
    other.tell([told("mw1", 1, &[item("a", Status::Compliant)])]).await;
    hold(&at.url(), 5);
    lab.hub.roll.look_again();
    let (nodes, took) = ask().await;
    assert_eq!(nodes, 0);
    assert!(took < Duration::from_secs(3), "{took:?}");
    let patience = Instant::now() + Duration::from_mins(1);
    while ask().await.0 != 1 {
        assert!(Instant::now() < patience, "what the other hub wrote is not heard of");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
