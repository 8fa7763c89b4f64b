//! Slots and invariants on a real hub with a real store: who may be disturbed, and what differs between nodes of a tier.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::stores::{Kind, Where};
use common::{Hub, client, item, now_ms, report, seq, source};
use evenkeel_report::{Event, Item, Report, Scope, Status, Timestamp};
use serde_json::{Value, json};

on_every_store! {
    one_node_of_a_group_has_the_slot_and_the_next_has_it_when_it_is_given_back
    what_is_no_question_is_refused_in_the_protocols_words
    of_twenty_that_ask_at_once_one_has_it
    a_fact_that_differs_within_a_tier_is_told_with_who_says_what
}

async fn ask(hub: &Hub, what: &str, group: &str, id: &str) -> (u16, Value) {
    let body = json!({"client_params": {"id": id, "group": group}});
    let request = client().post(format!("{}/v1/{what}", hub.url)).header("fleet-lock-protocol", "true");
    let answer = request.json(&body).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

async fn get(hub: &Hub, path: &str) -> String {
    client().get(format!("{}{path}", hub.url)).send().await.unwrap().text().await.unwrap()
}

async fn json_at(hub: &Hub, path: &str) -> Value {
    serde_json::from_str(&get(hub, path).await).unwrap()
}

async fn one_node_of_a_group_has_the_slot_and_the_next_has_it_when_it_is_given_back(kind: Kind) {
    let at = Where::new(kind);
    let hub = Hub::start(&at.url());
    assert_eq!(ask(&hub, "pre-reboot", "middleware", "mw1/service").await.0, 200);
    assert_eq!(ask(&hub, "pre-reboot", "middleware", "mw1/service").await.0, 200, "it has it already");
    let (status, why) = ask(&hub, "pre-reboot", "middleware", "mw2/service").await;
    assert_eq!((status, why), (409, json!({"kind": "failed_lock", "value": "mw1/service"})));
    assert_eq!(ask(&hub, "pre-reboot", "web", "web1/service").await.0, 200, "another group");
    assert_eq!(ask(&hub, "steady-state", "middleware", "mw2/service").await.0, 200, "it had none");
    assert_eq!(ask(&hub, "pre-reboot", "middleware", "mw2/service").await.0, 409);
    // Killed and started again, it still knows.
    drop(hub);
    let hub = Hub::start(&at.url());
    assert_eq!(ask(&hub, "pre-reboot", "middleware", "mw2/service").await.0, 409);
    let told = json_at(&hub, "/api/v1/slots").await;
    let held = &told["groups"][0]["held"][0];
    assert_eq!(
        (&held["id"], &held["node"], &told["groups"][0]["slots"]),
        (&json!("mw1/service"), &json!("mw1"), &json!(1))
    );
    assert!(held["since"].is_string());
    assert!(get(&hub, "/").await.contains("mw1/service</a> has the slot of middleware"));
    assert_eq!(ask(&hub, "steady-state", "middleware", "mw1/service").await.0, 200);
    assert_eq!(ask(&hub, "pre-reboot", "middleware", "mw2/service").await.0, 200);
}

async fn what_is_no_question_is_refused_in_the_protocols_words(kind: Kind) {
    let at = Where::new(kind);
    let hub = Hub::start(&at.url());
    let url = format!("{}/v1/pre-reboot", hub.url);
    let body = json!({"client_params": {"id": "a/b", "group": "g"}});
    let without = client().post(&url).json(&body).send().await.unwrap();
    assert_eq!(without.status().as_u16(), 400);
    assert!(without.text().await.unwrap().contains("fleet-lock-protocol"));
    for (group, id) in [("a b", "x"), ("g", "a b"), ("", "x"), ("g", "")] {
        let (status, why) = ask(&hub, "pre-reboot", group, id).await;
        assert_eq!((status, &why["kind"]), (400, &json!("bad_request")), "{group:?} {id:?}");
    }
}

async fn of_twenty_that_ask_at_once_one_has_it(kind: Kind) {
    let at = Where::new(kind);
    let hub = Hub::start(&at.url());
    let asked = (0..20).map(|n| {
        let request = client()
            .post(format!("{}/v1/pre-reboot", hub.url))
            .header("fleet-lock-protocol", "true")
            .json(&json!({"client_params": {"id": format!("mw{n}/service"), "group": "g"}}));
        tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
    });
    let asked: Vec<_> = asked.collect();
    let mut granted = 0;
    for one in asked {
        granted += usize::from(one.await.unwrap() == 200);
    }
    assert_eq!(granted, 1);
}

/// The items of a node that mounts uploads, with what number its owner's name stands for.
fn told(name: &str, n: u64, uid: &str, status: Status) -> Event<Report> {
    let mut one = item("mount//srv/uploads", status);
    one.facts = [("owner.uid".to_owned(), uid.to_owned())].into();
    let all: Vec<Item> = vec![one];
    let event = report(name, seq(7, n), Scope::Full, all.clone(), &all);
    Event { time: Timestamp::from_unix_ms(now_ms()).unwrap(), ..event }
}

async fn tell(hub: &Hub, event: &Event<Report>) {
    let answer = client().post(format!("{}/v1/events", hub.url)).json(&[event]).send().await.unwrap();
    let receipt: Value = answer.json().await.unwrap();
    assert_eq!((&receipt["accepted"], &receipt["want_full"]), (&json!(1), &json!([])), "{receipt}");
}

async fn a_fact_that_differs_within_a_tier_is_told_with_who_says_what(kind: Kind) {
    let at = Where::new(kind);
    let hub = Hub::start(&at.url());
    tell(&hub, &told("mw1", 1, "1001", Status::Compliant)).await;
    tell(&hub, &told("db1", 1, "7", Status::Compliant)).await;
    let broken = |told: Value| told["invariants"][0]["broken"].clone();
    assert_eq!(broken(json_at(&hub, "/api/v1/invariants").await), json!([]), "another tier may differ");
    tell(&hub, &told("mw2", 1, "1005", Status::Pending)).await;
    tell(&hub, &told("mw3", 1, "1001", Status::Repaired)).await;
    let differs = json!([{"tier": "middleware", "item": "mount//srv/uploads",
                          "says": {"1001": ["mw1", "mw3"], "1005": ["mw2"]}}]);
    assert_eq!(broken(json_at(&hub, "/api/v1/invariants").await), differs);
    assert!(get(&hub, "/").await.contains("1 invariant does not hold"));
    let page = get(&hub, "/invariants").await;
    assert!(
        page.contains("<code>1001</code> on mw1, mw3") && page.contains("<code>1005</code> on mw2"),
        "{page}"
    );
    let node = json_at(&hub, &format!("/api/v1/nodes/{}", source("mw1"))).await;
    assert_eq!(node["items"][0]["facts"], json!({"owner.uid": "1001"}));
    assert_eq!(node["digest_ok"], json!(true), "a fact of a compliant item is part of what both sides hash");
    assert!(get(&hub, "/nodes/mw1").await.contains("owner.uid <code>1001</code>"));
    tell(&hub, &told("mw2", 2, "1001", Status::Compliant)).await;
    assert_eq!(broken(json_at(&hub, "/api/v1/invariants").await), json!([]));
}
